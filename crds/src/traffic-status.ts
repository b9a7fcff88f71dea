/** What traffic came to, as status shows it: bounded, and in US dollars as the ledger is. */
import * as z from 'zod'
import { Amount, boundedMap, Count, IsoDate, ObjectName, Percent, SignedAmount, text } from './fields.ts'
import { RUNGS } from './ladder.ts'

/** Tiers that a status tells apart, and thresholds that it counts: an object's status stays below 16 KiB. */
export const TIERS_SHOWN_MAX = 8
export const ALERTS_SHOWN_MAX = 16
export const LIMITS_SHOWN_MAX = 16
/** A margin below this is shown as this. */
export const MARGIN_PERCENT_MIN = -1_000_000

const Conversations = z.strictObject({
  total: Count.describe('Conversations that called in the last 35 days, whether they were served or not.'),
  turns: Count.describe('Their turns, and lone calls, which are of no conversation: an embedding, an image, where nothing names one.'),
  byRung: boundedMap(Count, RUNGS.length + 1, {
    pattern: new RegExp(`^(None|${RUNGS.join('|')})$`),
    message: 'keys must be rungs of the ladder, or None',
  }).describe("How many stand on each rung, by their own budget or their user's; rungs without any are left out."),
})
const Spend = z.strictObject({
  spent: Amount.describe('Settled so far, in US dollars; of lone calls, too.'),
  held: Amount.describe('Kept for calls under way.'),
})
const Alerts = boundedMap(Count, ALERTS_SHOWN_MAX, { pattern: /^(100|[1-9][0-9]?)$/, message: 'keys must be percents' }).describe(
  "Conversations and lone calls that reached each threshold, by percent: of their own budget in any session, of their user's in its period.",
)
const OutcomeCounts = {
  started: Count.describe('Conversations that began.'),
  confirmed: Count.describe('Resolved.'),
  assumed: Count.optional().describe('Taken for resolved, since nobody came back.'),
  reversed: Count.describe('Resolved, and then not after all.'),
}
/** Shares of a user budget by which users are counted, in percent. */
export const USE_BANDS = ['0-24', '25-49', '50-74', '75-99', '100'] as const
export type UseBand = (typeof USE_BANDS)[number]

const Resolutions = z.strictObject({
  ...OutcomeCounts,
  ratePercent: Percent.optional().describe('Conversations that are resolved, in percent of those that began, rounded down.'),
  costPer: Amount.optional().describe('What a resolution cost.'),
  targetCostPer: Amount.optional().describe('What it may cost for the margin that the plan wants.'),
  pricePer: Amount.optional().describe('What it is sold for.'),
  unresolvedCost: Amount.optional().describe('What conversations without a resolution cost.'),
})

const Users = z.strictObject({
  active: Count.describe('Users who cost something in it.'),
  heavy: Count.describe('Of them, those who cost many times the median one: `unitEconomics.heavyUserTimesMedian`.'),
  heavySharePercent: Percent.describe('What those cost, in percent of what all did, rounded down.'),
  upgradeCandidates: Count.describe('Users past `upgrade.whenUserExceedsPercent` of their budget.'),
  byUse: boundedMap(Count, USE_BANDS.length, {
    pattern: new RegExp(`^(${USE_BANDS.join('|')})$`),
    message: `keys must be ${USE_BANDS.join(', ')}`,
  }).describe('How many by the percent of the user budget that they used; bands without any are left out.'),
})

/** Gross margin, in percent of the price. */
export const Margin = z.strictObject({
  targetPercent: Percent.optional().describe('What the plan wants.'),
  realisedPercent: z
    .int()
    .min(MARGIN_PERCENT_MIN)
    .max(100)
    .optional()
    .describe(
      'What is left of the revenue, rounded down. It is counted at the price, the other cost and the exchange rate of today, whatever a conversation was sold at; a price per user is shared by the conversations that a user is expected to have, and each session counts as one.',
    ),
})

const TierTraffic = z.strictObject({
  tier: ObjectName.describe('Its name.'),
  conversations: Conversations.describe('How many there are, and how far they climbed.'),
  spend: Spend.describe('What they cost.'),
  cost: z
    .strictObject({
      p50: Amount.describe('Half cost at most this.'),
      p95: Amount.describe('95 % cost at most this.'),
      p99: Amount.describe('99 % cost at most this.'),
      max: Amount.describe('The dearest.'),
    })
    .describe('Cost per session of a conversation, in US dollars.'),
  alerts: Alerts,
  resolutions: Resolutions.describe('Outcomes of the last 28 days, and what they cost and earn in US dollars.'),
  users: Users.optional().describe('Users of the current period of the plan; of a plan without one, of the last 28 days.'),
  margin: Margin.describe('Gross margin, in percent of the price.'),
})
export type TierTraffic = z.infer<typeof TierTraffic>

const LimitUse = z.strictObject({
  period: text(1, 96).describe('Which: its unit and time zone, and the day it begins on where that is not the first.'),
  amount: Amount.describe('What may be spent in it; of several limits of one period the tightest.'),
  since: IsoDate.describe('The first day of the current one.'),
  spent: Amount.describe('Settled in it so far.'),
  held: Amount.describe('Kept for calls under way.'),
  usedPercent: Percent.describe('What is spent, in percent of the amount, rounded down.'),
})
export type ShownLimit = z.infer<typeof LimitUse>

/** The books are kept by plan: what one of several budgets cost, nobody can tell apart. */
const OF_PLANS =
  'Of the plans that it uses, in the books of its namespace, by the pods of whichever budget: budgets that share a plan show the same money, and must not be added up.'

/** Fields of the status of a ConversationBudget; absent until a sidecar reports. */
export const TrafficStatus = {
  conversations: Conversations.optional().describe(`How many there are, and how far they climbed. ${OF_PLANS}`),
  spend: z
    .strictObject({
      ...Spend.shape,
      today: SignedAmount.optional().describe(
        'Of `spent`, what was entered since midnight UTC; below zero where charges of yesterday were taken back.',
      ),
    })
    .optional()
    .describe(`What they cost. ${OF_PLANS} What the pods of one budget spend, a limit of its own tells (\`limits\`).`),
  limits: z
    .array(LimitUse)
    .max(LIMITS_SHOWN_MAX)
    .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['period'] })
    .optional()
    .describe(
      'How much of each limit that is in force for its pods is used, in US dollars, the one that is used most first; limits that younger budgets add are among them. With the store kind `Embedded` each pod has all of a limit to itself: of the one that used most.',
    ),
  cost: z
    .strictObject({ max: Amount.describe('The dearest.') })
    .optional()
    .describe('Cost per session of a conversation, in US dollars.'),
  alerts: Alerts.optional(),
  resolutions: z.strictObject(OutcomeCounts).optional().describe(`Outcomes of the last 28 days. ${OF_PLANS}`),
  tiers: z
    .array(TierTraffic)
    .max(TIERS_SHOWN_MAX)
    .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['tier'] })
    .optional()
    .describe('The same by plan, and what each leaves: those with conversations, the most spent first.'),
}
