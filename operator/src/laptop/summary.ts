/** The arithmetic of a replay's summary: what conversations cost, what the margin came to, and whether the provider billed more than we allowed. */
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { percentOf } from '@farebox/crds/usd.ts'
import { earnedBy, marginPercent } from '../core/margin.ts'
import type { TierPrice } from '../core/margin.ts'
import { quantile } from './quantile.ts'

/** One conversation when it is over. Amounts in nano-dollars. */
export interface PlayedConversation {
  readonly id: string
  readonly tier: string
  readonly rung: string
  /** By our ledger, over all its sessions. */
  readonly spent: NanoUsd
  /** Of `spent`: summaries, which the provider bills without the conversation's tag. */
  readonly summaries: NanoUsd
  /** What may be spent in all: the cap of its tier for each session. */
  readonly budget: NanoUsd
  /** The provider's bill for its calls; null: no bill to compare with. */
  readonly billed: NanoUsd | null
  /** Each is sold, and so priced, as a conversation is. */
  readonly sessions: number
  readonly resolved: boolean
}

/** What a tier earns and aims at. */
export interface TierTerms extends TierPrice {
  readonly targetGrossMarginPercent: number
}

export interface TierSummary {
  readonly tier: string
  readonly conversations: number
  readonly spent: NanoUsd
  readonly p50: NanoUsd
  readonly p95: NanoUsd
  readonly max: NanoUsd
  readonly resolved: number
  readonly revenue: NanoUsd
  /** (revenue - other cost - inference) / revenue, in whole percent, rounded down; null without revenue. */
  readonly marginPercent: number | null
  readonly targetPercent: number
}

export interface Overshoot {
  /** Sum over conversations of what was billed past the budget, summaries included. */
  readonly beyondBudgets: NanoUsd
  /** The conversations that it happened to. */
  readonly conversations: readonly string[]
  readonly ledger: NanoUsd
  readonly bill: NanoUsd
}

/** A tier's line. Throws `RangeError` for a FlatPerUser tier without expected conversations. */
export function summariseTier(terms: TierTerms, played: readonly PlayedConversation[]): TierSummary {
  const own = played.filter((conversation) => conversation.tier === terms.tier)
  const costs = own.map((conversation) => conversation.spent)
  const spent = sum(costs)
  const resolved = own.filter((conversation) => conversation.resolved).length
  const sessions = own.reduce((total, conversation) => total + conversation.sessions, 0)
  const earned = earnedBy({ conversations: sessions, resolved }, terms)
  return {
    tier: terms.tier,
    conversations: own.length,
    spent,
    p50: quantile(costs, 50) ?? 0n,
    p95: quantile(costs, 95) ?? 0n,
    max: quantile(costs, 100) ?? 0n,
    resolved,
    revenue: earned.revenue,
    marginPercent: marginPercent(earned, spent),
    targetPercent: terms.targetGrossMarginPercent,
  }
}

/** How many conversations ended on each of `rungs`, `None` first; those that are not listed come last. */
export function countByRung(
  played: readonly PlayedConversation[],
  rungs: readonly string[],
): readonly (readonly [rung: string, count: number])[] {
  const counts = new Map<string, number>(['None', ...rungs].map((rung) => [rung, 0]))
  for (const { rung } of played) counts.set(rung, (counts.get(rung) ?? 0) + 1)
  return [...counts]
}

/** Compares with the provider's bill; null where it keeps none. `billTotal` holds summaries too. */
export function overshootOf(played: readonly PlayedConversation[], billTotal: NanoUsd | null): Overshoot | null {
  if (billTotal === null) return null
  let beyondBudgets = 0n
  const conversations: string[] = []
  for (const { id, billed, summaries, budget } of played) {
    const beyond = (billed ?? 0n) + summaries - budget
    if (beyond <= 0n) continue
    beyondBudgets += beyond
    conversations.push(id)
  }
  return { beyondBudgets, conversations, ledger: sum(played.map((conversation) => conversation.spent)), bill: billTotal }
}

/** Whether `ledger` and `bill` differ by more than `percent` of the bill, which rounding and aborted streams do not explain. */
export function differsBy(overshoot: Pick<Overshoot, 'ledger' | 'bill'>, percent: number): boolean {
  const gap = overshoot.ledger - overshoot.bill
  return (gap < 0n ? -gap : gap) > percentOf(overshoot.bill, percent)
}

function sum(amounts: readonly NanoUsd[]): NanoUsd {
  return amounts.reduce((total, amount) => total + amount, 0n)
}
