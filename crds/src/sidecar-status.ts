/** What a sidecar tells of itself at `GET /farebox/v1/status`: the config in force, and totals per tier. */
import * as z from 'zod'
import { SignedMoney } from './ledger-page.ts'
import { mapOf } from './stranger-data.ts'
import { parseUsd, USD_PATTERN } from './usd.ts'
import type { NanoUsd } from './usd.ts'

/** Far more than a budget has, and than a tier has rungs, thresholds of alerts, or bands of use. */
const TIERS_MAX = 256
const LIMITS_MAX = 256
const COUNTS_MAX = 64
/** By name. Any pod can send the operator a status. */
const Counts = mapOf(z.int(), COUNTS_MAX)

/** Decimal US dollars. */
const Money = z.string().regex(USD_PATTERN)

/**
 * Outcomes of the last 28 days. What is not there, an older sidecar does not tell, or it is of plans that are priced per resolution
 * alone.
 */
const ResolutionTotalsSchema = z.object({
  started: z.int(),
  /** Taken for resolved, and neither confirmed since nor counted there. */
  assumed: z.int().optional(),
  confirmed: z.int(),
  /** Resolutions taken back, of either kind. */
  reversed: z.int(),
  /** All that conversations of the plan cost in these days. */
  cost: SignedMoney.optional(),
  /** That, by resolution; null while there is none. */
  costPer: Money.nullable(),
  /**
   * Of `cost`, what conversations cost that have no resolution now, those that go on included. Of more conversations than a
   * sidecar looks at: the share that those have in what the newest ones cost.
   */
  unresolvedCost: Money.optional(),
  /** A resolution costs more than its target: conversations that begin now climb the ladder below their cap. */
  isOverTarget: z.boolean().optional(),
})
export type ResolutionTotals = z.infer<typeof ResolutionTotalsSchema>

/** Conversations whose resolution stands. */
export function standingResolutions({ assumed = 0, confirmed, reversed }: ResolutionTotals): number {
  return Math.max(0, assumed + confirmed - reversed)
}

/** Users of the current period of the plan's user budget; of a plan without one, of the last 28 days. In whole days of UTC. */
const UserTotalsSchema = z.object({
  /** Who cost something. */
  active: z.int(),
  spent: SignedMoney,
  /** Of them, who cost many times the median user, and what those cost. */
  heavy: z.int(),
  heavySpent: SignedMoney,
  /** Past the share of their budget at which the plan tells of the next one. */
  upgradeCandidates: z.int(),
  /** How many by the percent of the user budget that they used (`USE_BANDS`); none without such a budget. */
  byUse: Counts,
})
export type TierUserTotals = z.infer<typeof UserTotalsSchema>

/** In percent, rounded down, 0 to 100. */
export function sharePercent(part: NanoUsd, whole: NanoUsd): number {
  return whole <= 0n ? 0 : Math.min(100, Math.max(0, Number((part * 100n) / whole)))
}

/**
 * Of the conversations that called in the last 35 days, served or not. Where there are more than a sidecar looks at, `sessions` and `cost` are of the
 * sessions that were sold in those days, each cost told less than 12.5 % too high, `turns` and `spent` of all turns in them, `conversations`
 * is estimated, and the rest is of the newest.
 */
const TierTotalsSchema = z.object({
  conversations: z.int(),
  /** Theirs: those that drew money, and the one that each has open once it was served. An older sidecar does not tell. */
  sessions: z.int().optional(),
  turns: z.int(),
  /** By the highest rung in effect, their own or their user's. */
  byRung: Counts,
  spent: Money,
  held: Money,
  /** Of a session. */
  cost: z.object({ p50: Money, p95: Money, p99: Money, max: Money }),
  /** Conversations that reached each threshold: of their own budget in any session, of their user's in its period. */
  alerts: Counts,
  resolutions: ResolutionTotalsSchema,
  users: UserTotalsSchema.optional(),
  /**
   * Since midnight UTC: turns that ended, what was entered (below zero where charges of yesterday were taken back), and different
   * users, an estimate in a shared store.
   */
  today: z.object({ turns: z.int(), spent: SignedMoney, users: z.int() }).optional(),
})
export type TierTotals = z.infer<typeof TierTotalsSchema>

/** How much of a limit of the workload is used in its current period. Of several limits of one period the tightest. */
const LimitUseSchema = z.object({
  amount: Money,
  /** The first day of the period: `2026-11-01`. */
  since: z.string(),
  spent: Money,
  held: Money,
})
export type LimitUse = z.infer<typeof LimitUseSchema>

/** Of the amount of a limit, in percent, rounded down. One of nothing is used up. */
export function usedPercent({ spent, amount }: Pick<LimitUse, 'spent' | 'amount'>): number {
  const whole = parseUsd(amount)
  return whole === 0n ? 100 : sharePercent(parseUsd(spent), whole)
}

/** What prices and costs are counted by: each session is a conversation of its own to the unit economics. */
export function soldSessions({ sessions, conversations }: Pick<TierTotals, 'sessions' | 'conversations'>): number {
  return sessions ?? conversations
}

export const STORE_STATES = ['Ready', 'Away', 'Replaying'] as const

/** What a sidecar tells the process that started it, when its shared store goes away or comes back. */
export const StoreNewsSchema = z.object({ store: z.object({ state: z.enum(STORE_STATES), reason: z.string().nullable() }) })
export type StoreNews = z.infer<typeof StoreNewsSchema>

/** Read leniently: a sidecar may say more than this. */
export const SidecarStatusSchema = z.object({
  config: z.object({ budget: z.string(), mode: z.string(), version: z.int(), hash: z.string() }),
  /** The last config that was refused since the one in force; null: none. */
  rejected: z.object({ reason: z.string(), at: z.string() }).nullable(),
  tiers: mapOf(TierTotalsSchema, TIERS_MAX),
  /** Of the budget whose config is in force, by `nameOfPeriod`. An older sidecar does not tell. */
  limits: mapOf(LimitUseSchema, LIMITS_MAX).optional(),
  callsInFlight: z.int(),
  store: z.object({
    kind: z.enum(['Embedded', 'Shared']),
    /** `Away`: this sidecar goes on by itself, as far as `onStoreFailure` allows. `Replaying`: it is back, and is told what it missed. */
    state: z.enum(STORE_STATES),
    /** Why it is not `Ready`. */
    reason: z.string().nullable(),
    since: z.string(),
    /** Steps that the store has not been told yet. */
    unsent: z.int(),
  }),
})
export type SidecarStatus = z.infer<typeof SidecarStatusSchema>
