/**
 * When a tier priced per resolution needs its ladder: its cost per resolution, on 28 rolling days and at least 50
 * outcomes, is more than 110 % of the target; from then on until it is at most 95 %.
 */
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { EntryNote, LedgerEntry } from './ledger.ts'
import { sessionAccount } from './terms.ts'

/**
 * A conversation that began, one that was resolved (assumed after a quiet time, or confirmed), a resolution taken back; and a user who
 * was told of the next tier (`offered`).
 */
export const OUTCOME_KINDS = ['started', 'assumed', 'confirmed', 'reversed', 'offered'] as const
export type OutcomeKind = (typeof OUTCOME_KINDS)[number]

/** Something that became of a conversation. Once per `key`, which is never that of an operation. */
export interface OutcomeStep {
  readonly key: string
  readonly tier: string
  /** The day of UTC that it counts to is that of this time. */
  readonly atMs: number
  readonly kind: OutcomeKind
  /** The resolution that stood before: `reversed` takes it back, `confirmed` takes its place. Absent: none did. */
  readonly of?: 'assumed' | 'confirmed'
  /** Whose it is: conversation, session, user. */
  readonly note: EntryNote
}

/** As an entry of the ledger: it costs nothing, and names the session. */
export function outcomeEntry({ key, tier, atMs, kind, note }: OutcomeStep): LedgerEntry {
  const { conversation, session } = note
  return {
    id: `${key}/outcome`,
    operationId: key,
    kind: 'outcome',
    accounts: conversation === undefined || session === undefined ? [] : [sessionAccount(conversation, session)],
    cost: 0n,
    atMs,
    note: { ...note, tier, purpose: 'outcome', label: kind },
  }
}

/** How the counts of outcomes are named: by kind, and those that follow an assumed resolution once more. */
export function outcomeNames({ kind, of }: Pick<OutcomeStep, 'kind' | 'of'>): readonly OutcomeName[] {
  if (of !== 'assumed') return [kind]
  return kind === 'confirmed' ? [kind, 'confirmedAssumed'] : kind === 'reversed' ? [kind, 'reversedAssumed'] : [kind]
}
export const OUTCOME_NAMES = [...OUTCOME_KINDS, 'confirmedAssumed', 'reversedAssumed'] as const
export type OutcomeName = (typeof OUTCOME_NAMES)[number]
export function isOutcomeName(name: string): name is OutcomeName {
  return OUTCOME_NAMES.some((known) => known === name)
}

export const WINDOW_DAYS = 28
export const OUTCOMES_MIN = 50
const OVER_PERCENT = 110n
const BACK_PERCENT = 95n

export type OutcomeCounts = Readonly<Record<OutcomeName, number>>
export interface DayOutcomes extends OutcomeCounts {
  readonly cost: NanoUsd
}

export const NO_OUTCOMES: DayOutcomes = {
  started: 0,
  assumed: 0,
  confirmed: 0,
  reversed: 0,
  offered: 0,
  confirmedAssumed: 0,
  reversedAssumed: 0,
  cost: 0n,
}

/** Both together. */
export function addedOutcomes(a: DayOutcomes, b: DayOutcomes): DayOutcomes {
  const counts = Object.fromEntries(OUTCOME_NAMES.map((name) => [name, a[name] + b[name]])) as OutcomeCounts
  return { ...counts, cost: a.cost + b.cost }
}

/** Conversations that were resolved, once each: what was assumed and then confirmed is one. */
export function resolvedOf({ assumed, confirmed, confirmedAssumed }: OutcomeCounts): number {
  return assumed + confirmed - confirmedAssumed
}

/** Cost per resolution over these days; null while there is none to divide by. */
export function costPerResolution(days: readonly DayOutcomes[]): NanoUsd | null {
  let cost = 0n
  let resolutions = 0
  for (const day of days) {
    cost += day.cost
    resolutions += resolvedOf(day) - day.reversed
  }
  return resolutions <= 0 ? null : cost / BigInt(resolutions)
}

/**
 * Whether the ladder applies after the last of `days` (oldest first), walking the rolling window day by day.
 *
 * An outcome is a resolution, assumed, confirmed or reversed, or a conversation that began on an earlier day than the last and was
 * not resolved: one that began today may still be. Days do not tell which conversation they count, and one has a single
 * outcome, so the outcomes of a window are the least that its numbers allow: the largest of what began before its last
 * day, what was resolved and what was reversed.
 */
export function isOverTarget(days: readonly DayOutcomes[], target: NanoUsd): boolean {
  let over = false
  for (let end = 1; end <= days.length; end++) {
    const window = days.slice(Math.max(0, end - WINDOW_DAYS), end)
    let cost = 0n
    let resolved = 0
    let reversed = 0
    for (const day of window) {
      cost += day.cost
      resolved += resolvedOf(day)
      reversed += day.reversed
    }
    const startedBefore = window.slice(0, -1).reduce((sum, day) => sum + day.started, 0)
    if (Math.max(startedBefore, resolved, reversed) < OUTCOMES_MIN) continue
    const resolutions = resolved - reversed
    const allowed = target * BigInt(Math.max(0, resolutions))
    if (cost * 100n > allowed * OVER_PERCENT) over = true
    else if (cost * 100n <= allowed * BACK_PERCENT) over = false
  }
  return over
}
