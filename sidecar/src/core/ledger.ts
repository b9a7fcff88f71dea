import type { Driver } from './conversation.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { Usage, UsageSource } from '@farebox/crds/usage.ts'

/**
 * Why money moved. `settlement`: the cost of a call, up to its hold; `overrun`: what it cost above its hold; `expiry`: a
 * hold charged because nobody settled it in time; `correction`: truth that came after an expiry, either sign; `cost`:
 * added by the app. Voids move nothing and leave no entry.
 */
export const ENTRY_KINDS = ['settlement', 'overrun', 'expiry', 'correction', 'cost'] as const
export type EntryKind = (typeof ENTRY_KINDS)[number]

/** One immutable fact. An account's `spent` is the sum of the entries that name it. */
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
  readonly purpose?: 'turn' | 'summary' | 'cost'
  /** Name that the app gave a cost of its own. */
  readonly label?: string
}
