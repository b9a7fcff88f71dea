/** What a tier's days come to: sums that many sidecars add to, each step once. */
import { RUNGS } from '@farebox/crds/ladder.ts'
import type { Rung } from '@farebox/crds/ladder.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { AccountId, OperationState } from './budget.ts'
import type { Conversation } from './conversation.ts'
import type { CostCounts } from './cost-buckets.ts'
import { LONE_PREFIX } from './lone-call.ts'

export interface Totals {
  /** Turns that ended on these days. */
  readonly turns: number
  /** What the ledger entries of these days come to. */
  readonly spent: NanoUsd
  /** How often each rung rose, by the store's clock: once in a session, and once more after each time that it was opened again. */
  readonly risen: Readonly<Record<Rung, number>>
  /** Different users with a turn on these days; where a store cannot count them it estimates, mostly within 1 %. */
  readonly users: number
  /**
   * Sessions of conversations that were sold on these days, by the bucket of what each has spent by now. A session is sold with the
   * first call that is settled or charged, or its first cost, by the store's clock, and counts to the tier that this was of.
   */
  readonly costs: CostCounts
}

/** A part of `Totals` as stores keep it, by name: `turns`, `spent`, a rung, or the number of a bucket. Others are ignored. */
export type NamedSum = readonly [name: string, sum: bigint]

/** Sums of many days, and of many parts of a store, in any order. */
export function totalsOf(sums: Iterable<NamedSum>, users: number): Totals {
  const named = new Map<string, bigint>()
  for (const [name, sum] of sums) named.set(name, (named.get(name) ?? 0n) + sum)
  const take = (name: string): bigint => named.get(name) ?? 0n
  const costs = new Map<number, number>()
  for (const [name, count] of named) if (BUCKET.test(name) && count !== 0n) costs.set(Number(name), Number(count))
  return {
    turns: Number(take('turns')),
    spent: take('spent'),
    risen: Object.fromEntries(RUNGS.map((rung) => [rung, Number(take(rung))])) as Record<Rung, number>,
    users,
    costs: new Map([...costs].toSorted(([a], [b]) => a - b)),
  }
}

const BUCKET = /^\d+$/

/** The rungs that a change brought; a session that it opened began without any. */
export function rungsBrought(before: Conversation, after: Conversation): readonly Rung[] {
  return after.session === before.session ? after.rungs.filter((rung) => !before.rungs.includes(rung)) : after.rungs
}

/** Whether the account is a session of a conversation: `sessionAccount` of `terms.ts`. */
export function isSessionAccount(account: AccountId): boolean {
  return account.startsWith(SESSION_PREFIX) && !account.endsWith(SUMMARIES_SUFFIX)
}
/** Whether that session is sold, and so counts among the costs of sessions: not so the one of a lone call. */
export function isSoldSession(account: AccountId): boolean {
  return isSessionAccount(account) && !account.startsWith(LONE_SESSION_PREFIX)
}
/**
 * Whether such a session counts after a step of an operation that has become this. A hold sells nothing: its call may come to nothing. Nor is it
 * sold any more when what is taken back was all that it had spent: that was the charge of such a hold.
 */
export function countsAfter(status: OperationState['status'], before: Counted, spent: NanoUsd): boolean {
  switch (status) {
    case 'held':
      return before.counts
    case 'voided':
      return before.counts && !(before.spent > 0n && spent <= 0n)
    case 'settled':
    case 'expired':
      return true
  }
}
interface Counted {
  readonly counts: boolean
  readonly spent: NanoUsd
}

/** How the accounts of sessions begin. */
export const SESSION_PREFIX = 'c:'
export const LONE_SESSION_PREFIX = `${SESSION_PREFIX}${LONE_PREFIX}`
/** How that of a conversation's summaries ends, which begins like them: its costs are those of sessions already. */
export const SUMMARIES_SUFFIX = ':summaries'
