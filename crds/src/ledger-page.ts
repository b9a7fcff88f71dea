/** The ledger as a sidecar tells it at `GET /farebox/v1/ledger`, and the balances that it must come to. */
import * as z from 'zod'
import { DAY_MS } from './duration.ts'
import { SIGNED_USD_PATTERN } from './usd.ts'

/** Decimal US dollars; a correction may be below zero, and so may a balance that somebody has changed. */
export const SignedMoney = z.string().regex(SIGNED_USD_PATTERN)

/** Most entries of a page, and most accounts asked for at once. */
export const LEDGER_PAGE_MAX = 1_000

/** An account lives this long after its last hold or cost, by the store's clock, and while it holds; its entries stay. */
export const ACCOUNT_LIFE_MS = 35 * DAY_MS
/**
 * An account may have outlived its life between two entries that are further apart. Two days less than a life: an expiry, and what
 * takes it back a day later, prolong none, and what happened while the store was away is entered after it.
 */
export const LIVES_APART_MS = ACCOUNT_LIFE_MS - 2 * DAY_MS
/**
 * Entries are kept for good, or at least so many days: by then an account of any period has outlived its life, and only sessions that
 * were used all the time have not. Those find what their entries came to carried over.
 */
export const LEDGER_DAYS_MIN = 70

export const LedgerEntrySchema = z.object({
  /** Counts entries in their order; there may be gaps. */
  sequence: z.int(),
  id: z.string(),
  operation: z.string(),
  /** `carried` takes the place of entries that were dropped for their age: what they came to for the accounts that still live. */
  kind: z.string(),
  cost: SignedMoney,
  at: z.iso.datetime(),
  /** Whose `spent` it moves. */
  accounts: z.array(z.string()),
  conversation: z.string().optional(),
  session: z.int().optional(),
  user: z.string().optional(),
  tier: z.string().optional(),
  model: z.string().optional(),
  purpose: z.string().optional(),
  label: z.string().optional(),
  /** How the usage is known: `exact`, `partial`, `estimated`. */
  source: z.string().optional(),
  usage: z.record(z.string(), z.number()).optional(),
  drivers: z.record(z.string(), SignedMoney).optional(),
})
export type LedgerLine = z.infer<typeof LedgerEntrySchema>

export const LedgerPageSchema = z.object({
  entries: z.array(LedgerEntrySchema),
  /** To be asked for next, as `after`; null: that was all. */
  next: z.int().nullable(),
})
export type LedgerPage = z.infer<typeof LedgerPageSchema>

export const BalancesQuerySchema = z.strictObject({ accounts: z.array(z.string().min(1).max(1_024)).max(LEDGER_PAGE_MAX) })
export const BalancesSchema = z.object({ balances: z.record(z.string(), z.object({ spent: SignedMoney, held: SignedMoney })) })
export type Balances = z.infer<typeof BalancesSchema>['balances']

export const AccountsPageSchema = z.object({
  accounts: z.array(z.string()),
  /** To be asked for next, as `cursor`; null: those were all. */
  next: z.string().nullable(),
})
export type AccountsPage = z.infer<typeof AccountsPageSchema>
