/** The users of a tier as a sidecar tells them at `GET /farebox/v1/users`. Ids are hashed; amounts are in the tier's currency. */
import * as z from 'zod'
import { SIGNED_USD_PATTERN, USD_PATTERN } from './usd.ts'

const Money = z.string().regex(USD_PATTERN)
const SignedMoney = z.string().regex(SIGNED_USD_PATTERN)

/** Most users of a page. */
export const USERS_PAGE_MAX = 1_000

const UserLineSchema = z.object({
  user: z.string(),
  spent: SignedMoney,
  /** Of the user budget, 0 to 999; null without one. */
  percent: z.int().nullable(),
  /** Of the median user, rounded down; null while that one costs nothing. */
  timesMedian: z.int().nullable(),
  heavy: z.boolean(),
  upgradeCandidate: z.boolean(),
})
export type UserLine = z.infer<typeof UserLineSchema>

/** Read leniently: a sidecar may say more than this. */
export const UsersPageSchema = z.object({
  tier: z.string(),
  currency: z.string(),
  /** Of the user budget, by its first day; null without one: then it is the last 28 days. */
  period: z.string().nullable(),
  /** Days of UTC, both inclusive. */
  from: z.string(),
  to: z.string(),
  budget: Money.nullable(),
  /** Who cost something. */
  active: z.int(),
  spent: SignedMoney,
  median: SignedMoney,
  heavy: z.int(),
  heavySharePercent: z.int(),
  upgradeCandidates: z.int(),
  /** The plan that candidates belong on; null where the tier names none. */
  upgradeTo: z.string().nullable(),
  byUse: z.record(z.string(), z.int()),
  /** Above 1 of more users than a sidecar looks at: one in so many was, and all but `spent` is an estimate. */
  oneIn: z.int(),
  /** Most spent first. */
  users: z.array(UserLineSchema),
})
export type UsersPage = z.infer<typeof UsersPageSchema>
