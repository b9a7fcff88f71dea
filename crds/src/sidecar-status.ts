/** What a sidecar tells of itself at `GET /farebox/v1/status`: the config in force, and totals per tier. */
import * as z from 'zod'
import { SignedMoney } from './ledger-page.ts'
import { USD_PATTERN } from './usd.ts'

/** Decimal US dollars. */
const Money = z.string().regex(USD_PATTERN)

/**
 * Of the conversations with a turn in the last 35 days. Where there are more than a sidecar looks at, `conversations`, `turns`,
 * `spent` and `cost` are of the sessions that began in those days, each cost told less than 12.5 % too high; the rest is of the newest.
 */
const TierTotalsSchema = z.object({
  conversations: z.int(),
  turns: z.int(),
  byRung: z.record(z.string(), z.int()),
  spent: Money,
  held: Money,
  cost: z.object({ p50: Money, p95: Money, p99: Money, max: Money }),
  /** Conversations that reached each threshold. */
  alerts: z.record(z.string(), z.int()),
  resolutions: z.object({ started: z.int(), confirmed: z.int(), reversed: z.int(), costPer: Money.nullable() }),
  /**
   * Since midnight UTC: turns that ended, what was entered (below zero where charges of yesterday were taken back), and different
   * users, an estimate in a shared store.
   */
  today: z.object({ turns: z.int(), spent: SignedMoney, users: z.int() }).optional(),
})
export type TierTotals = z.infer<typeof TierTotalsSchema>

export const STORE_STATES = ['Ready', 'Away', 'Replaying'] as const

/** What a sidecar tells the process that started it, when its shared store goes away or comes back. */
export const StoreNewsSchema = z.object({ store: z.object({ state: z.enum(STORE_STATES), reason: z.string().nullable() }) })
export type StoreNews = z.infer<typeof StoreNewsSchema>

/** Read leniently: a sidecar may say more than this. */
export const SidecarStatusSchema = z.object({
  config: z.object({ budget: z.string(), mode: z.string(), version: z.int(), hash: z.string() }),
  /** The last config that was refused since the one in force; null: none. */
  rejected: z.object({ reason: z.string(), at: z.string() }).nullable(),
  tiers: z.record(z.string(), TierTotalsSchema),
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
