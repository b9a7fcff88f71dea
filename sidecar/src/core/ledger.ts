import { AMOUNT_MAX } from './budget.ts'
import type { Driver } from './conversation.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { Usage, UsageSource } from '@farebox/crds/usage.ts'

/**
 * Why money moved. `settlement`: the cost of a call, up to its hold; `overrun`: what it cost above its hold; `expiry`: a
 * hold charged because nobody settled it in time; `correction`: that charge taken back, whole and as it was noted, when the truth
 * comes after all; `cost`: added by the app; `outcome`: what became of a conversation, at no cost; `carried`: what entries came to that were dropped
 * for their age. Voids move nothing and leave no entry.
 */
export const ENTRY_KINDS = ['settlement', 'overrun', 'expiry', 'correction', 'cost', 'outcome', 'carried'] as const
export type EntryKind = (typeof ENTRY_KINDS)[number]

/** One immutable fact. An account's `spent` is the sum of the entries that name it, since it began. */
export interface LedgerEntry {
  /** Unique: `${operationId}/${kind}`; a step that is repeated writes the same id and so changes nothing. */
  readonly id: string
  readonly operationId: string
  readonly kind: EntryKind
  readonly accounts: readonly string[]
  readonly cost: NanoUsd
  readonly atMs: number
  readonly note: EntryNote
}

/** `sequence` counts entries in their order; there may be gaps. */
export type SequencedEntry = LedgerEntry & { readonly sequence: number }

/**
 * What stays of entries that are dropped, so that an account's `spent` is still the sum of the entries that name it: one entry
 * for all that name the same living accounts, in the place of the first of them. An account that has outlived its life needs none.
 * So there are never more of them than what was dropped; and dropped again, with others, they are carried like any entry.
 *
 * Entries are dropped page by page, in their order, and the accounts of one page may be in the next: `known` is what pages before this
 * one carried last, by `accountsName`. Of those, what is added to is among what is told, as it has become.
 *
 * An account may have outlived its life and begun again under its name. Which entries are of the life before nothing tells for sure, so
 * those that come more than `apartMs` after the ones before are carried by themselves: a reader sees where it may have begun.
 * Outcomes cost nothing and prolong no life: none is carried.
 */
export function carriedOver(
  dropped: readonly SequencedEntry[],
  isAlive: (account: string) => boolean,
  apartMs: number,
  known: ReadonlyMap<string, SequencedEntry> = new Map(),
): readonly SequencedEntry[] {
  const carried: SequencedEntry[] = []
  const places = new Map<string, number>()
  for (const entry of dropped) {
    const accounts = entry.accounts.filter(isAlive)
    if (accounts.length === 0 || entry.kind === 'outcome') continue
    const name = accountsName(accounts)
    const place = places.get(name)
    const before = place === undefined ? known.get(name) : carried[place]
    const isAdded = before !== undefined && entry.atMs - before.atMs <= apartMs && isAmount(before.cost + entry.cost)
    if (isAdded && place !== undefined) carried[place] = added(before, entry)
    else places.set(name, carried.push(isAdded ? added(before, entry) : carriedAlone(entry, accounts)) - 1)
  }
  return carried
}

/** The same for entries that are carried as one. */
export function accountsName(accounts: readonly string[]): string {
  return accounts.join('\t')
}

function added(before: SequencedEntry, { cost, atMs }: SequencedEntry): SequencedEntry {
  return { ...before, cost: before.cost + cost, atMs: Math.max(before.atMs, atMs) }
}

/** Of what no engine loses a digit. */
function isAmount(cost: NanoUsd): boolean {
  return cost <= AMOUNT_MAX && cost >= -AMOUNT_MAX
}

/** `operationId` of a carried entry names the first entry that it stands for, for each has a single successor. */
function carriedAlone(entry: SequencedEntry, accounts: readonly string[]): SequencedEntry {
  if (entry.kind === 'carried') return accounts.length === entry.accounts.length ? entry : { ...entry, accounts }
  return { ...entry, id: `${entry.id}/carried`, operationId: entry.id, kind: 'carried', accounts, note: {} }
}

/** What a reader of the ledger wants to know beside the money; never prompts, keys or raw ids. */
export interface EntryNote {
  readonly conversation?: string
  readonly session?: number
  readonly user?: string
  readonly tier?: string
  readonly model?: string
  readonly usage?: Usage
  readonly source?: UsageSource
  readonly drivers?: Readonly<Partial<Record<Driver, NanoUsd>>>
  readonly purpose?: 'turn' | 'summary' | 'cost' | 'outcome'
  /** Name that the app gave a cost of its own; of an outcome its kind. */
  readonly label?: string
}
