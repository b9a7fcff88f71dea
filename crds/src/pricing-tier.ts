/** PricingTier: what a plan sells for, what it must leave, and what its conversations may do. Cluster-scoped. */
import * as z from 'zod'
import { API_VERSION, Amount, Conditions, Metadata, ModelName, ModelPattern, ObjectName, Percent, Tokens } from './fields.ts'
import { DEFAULT_ALERTS, DEFAULT_LADDER, ENDS, RUNGS } from './ladder.ts'
import { PeriodSchema } from './period.ts'
import { rules } from './rules.ts'
import { NOTICE_OCCASIONS } from './sidecar-config.ts'

export const PRICING_MODELS = ['FlatPerUser', 'PerConversation', 'PerResolution'] as const

const Pricing = z.strictObject({
  model: z.enum(PRICING_MODELS).describe('How the plan is sold. It decides what a budget protects: the worst case, predictability, or completion.'),
  price: Amount.describe('Per user and period, per conversation, or per resolution.'),
  period: PeriodSchema.optional().describe('The period of a price per user.'),
})

const UnitEconomics = z.strictObject({
  targetGrossMarginPercent: Percent.describe('What must be left of the price, in percent of it.'),
  otherCost: Amount.default('0').describe('Other cost of revenue per priced unit: hosting, licences, support.'),
  signedOff: z
    .strictObject({ by: z.string().min(1).max(128), date: z.iso.date().max(10) })
    .optional()
    .describe('Who in finance agreed to these numbers, and when.'),
  expectedConversationsPerUser: z.int().min(1).max(1_000_000).optional().describe('Conversations of one user in a period; required for `FlatPerUser`.'),
  expectedResolutionPercent: z.int().min(1).max(100).optional().describe('Conversations that are resolved, in percent; required for `PerResolution`.'),
})

const Budget = z.strictObject({
  perConversation: Amount.optional().describe('Overrides the derived cap of a conversation.'),
  perUser: Amount.optional().describe('Overrides the derived cap of a user and period.'),
  allowBelowMargin: z.enum(['Refused', 'Acknowledged']).default('Refused').describe('`Acknowledged` lets an override be looser than the margin allows.'),
})

const Context = z.strictObject({
  windowTokens: Tokens.optional().describe("Input tokens that a conversation of this plan may send; absent: the model's own window."),
  overflow: z.enum(['Summarize', 'DropOldest', 'Refuse']).default('DropOldest').describe('What happens to a history longer than the window. It is always said in the transcript.'),
  keepRecentTurns: z.int().min(1).max(1000).default(3).describe('User turns that no summary and no cut touches.'),
  summarizeAfterPercent: Percent.default(80).describe('Percent of the window from which a summary is prepared between turns.'),
})

const Models = z.strictObject({
  allow: z.array(ModelPattern).max(64).default([]).describe('Models of this plan; a trailing `*` matches the rest of a name. Empty: every model.'),
  downgrades: z
    .array(z.strictObject({ from: ModelPattern, to: ModelName }))
    .max(64)
    .default([])
    .describe('What `DowngradeModel` swaps, first match wins.'),
  summarizer: ModelName.optional().describe('The cheap model that writes summaries; absent: the downgrade of the model in use, or that model.'),
  maxOutputTokens: Tokens.optional().describe('Longest answer of this plan.'),
  usefulOutputTokens: Tokens.optional().describe('An answer clamped below this is not worth giving: the next rung is tried instead.'),
})

const LadderStep = rules(
  z.strictObject({
    atPercent: Percent.describe('Of the budget used.'),
    rung: z.enum(RUNGS),
    end: z.enum(ENDS).optional().describe('How `EndConversation` ends: with a proper last answer, with a new session, or with 402.'),
  }),
  { rule: "!has(self.end) || self.rung == 'EndConversation'", message: 'end is for EndConversation only', fieldPath: '.end' },
)

const RUNGS_IN_ORDER = `['${RUNGS.join("','")}']`
const Ladder = rules(
  z.array(LadderStep).max(RUNGS.length),
  {
    rule: `${RUNGS_IN_ORDER}.filter(r, self.exists(s, s.rung == r)) == self.map(s, s.rung)`,
    message: `rungs must come in this order, each at most once: ${RUNGS.join(', ')}`,
  },
  { rule: '[0, 1, 2, 3].all(i, i + 1 >= size(self) || self[i].atPercent <= self[i + 1].atPercent)', message: 'atPercent must not fall from one step to the next' },
)

const Sessions = z.strictObject({
  resetAt: z.enum(['TaskBoundary', 'Immediately']).default('TaskBoundary').describe('Whether a reset waits until the app says that a new task begins.'),
  recap: z.enum(['Summary', 'None']).default('Summary').describe('What the next session is told of the last.'),
  maxResets: z.int().min(0).max(100).default(3).describe('Further sessions that one conversation may open, each with a budget of its own.'),
})

const Locale = z.string().min(2).max(35)
const Notices = z.strictObject({
  mode: z.enum(['Inline', 'HeadersOnly']).default('Inline').describe('Whether users read notices in the answer, or only the app sees headers.'),
  texts: z
    .array(z.strictObject({ occasion: z.enum(NOTICE_OCCASIONS), text: z.record(Locale, z.string().max(1000)).describe('By locale. An empty text asks for silence.') }))
    .max(NOTICE_OCCASIONS.length)
    .default([])
    .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['occasion'] })
    .describe('Your words; `{{remaining}}`, `{{percent}}`, `{{tier}}` and `{{turns}}` are filled in.'),
  defaultLocale: Locale.default('en').describe('For requests that ask for no language.'),
})

const Alerts = z
  .array(z.int().min(1).max(100))
  .max(16)
  .default([...DEFAULT_ALERTS])
  .meta({ 'x-kubernetes-list-type': 'set' })
  .describe('Percent thresholds that alert the team, each once per conversation.')

const Spec = rules(
  z.strictObject({
    displayName: z.string().min(1).max(64).describe('Shown to people.'),
    currency: rules(z.string().max(3).regex(/^[A-Z]{3}$/, 'must be a currency code such as "USD"').default('USD'), { rule: 'self == oldSelf', message: 'currency cannot be changed: create another tier' }).describe(
      'Of all amounts here. Other than USD needs an exchange rate in a PriceBook.',
    ),
    pricing: Pricing,
    unitEconomics: UnitEconomics,
    budget: Budget.prefault({}),
    context: Context.prefault({}),
    models: Models.prefault({}),
    alerts: Alerts,
    ladder: Ladder.default(DEFAULT_LADDER.map((step) => ({ ...step }))).describe('What is taken away, and from how many percent of the budget on. Steps add up.'),
    sessions: Sessions.prefault({}),
    notices: Notices.prefault({}),
    upgrade: z
      .strictObject({ tier: ObjectName, whenUserExceedsPercent: z.int().min(1).max(1000).describe('Of the user budget.') })
      .optional()
      .describe('The plan that heavy users of this one belong on.'),
  }),
  {
    rule: "self.pricing.model != 'FlatPerUser' || has(self.unitEconomics.expectedConversationsPerUser)",
    message: 'a FlatPerUser tier needs the number of conversations that a user is expected to have',
    fieldPath: '.unitEconomics.expectedConversationsPerUser',
  },
  {
    rule: "self.pricing.model != 'FlatPerUser' || has(self.pricing.period)",
    message: 'a FlatPerUser tier needs the period of its price, such as { unit: Month }',
    fieldPath: '.pricing.period',
  },
  {
    rule: "self.pricing.model != 'PerResolution' || has(self.unitEconomics.expectedResolutionPercent)",
    message: 'a PerResolution tier needs the share of conversations that are expected to be resolved',
    fieldPath: '.unitEconomics.expectedResolutionPercent',
  },
  {
    rule: "self.pricing.model == 'FlatPerUser' || !has(self.pricing.period)",
    message: 'period is for FlatPerUser only: other prices have none',
    fieldPath: '.pricing.period',
  },
  {
    rule: "self.pricing.model == 'FlatPerUser' || !has(self.budget.perUser)",
    message: 'perUser is for FlatPerUser only: other tiers have no period to count a user in',
    fieldPath: '.budget.perUser',
  },
  {
    rule: "self.pricing.model == 'FlatPerUser' || !self.ladder.exists(s, has(s.end) && s.end == 'Reset')",
    message: 'end: Reset needs a budget of the user behind it, which only a FlatPerUser tier has',
    fieldPath: '.ladder',
  },
)

const Status = z.strictObject({
  observedGeneration: z.int().min(0).optional(),
  conditions: Conditions.optional(),
  derived: z
    .strictObject({
      perConversation: z.string().max(24).optional().describe('The cap of a conversation, in the currency of the tier.'),
      perUser: z.string().max(24).optional(),
      targetPerConversation: z.string().max(24).optional(),
      targetPerResolution: z.string().max(24).optional(),
      contract: z.string().max(16).optional().describe('Hash of the terms.'),
    })
    .optional(),
  boundBudgets: z.int().min(0).optional(),
  margin: z.strictObject({ targetPercent: z.int().optional(), realisedPercent: z.int().optional() }).optional(),
})

export const PricingTierSchema = z.strictObject({
  apiVersion: z.enum([API_VERSION]),
  kind: z.enum(['PricingTier']),
  metadata: Metadata,
  spec: Spec,
  status: Status.optional(),
})
export type PricingTier = z.infer<typeof PricingTierSchema>
export type PricingTierStatus = z.infer<typeof Status>
