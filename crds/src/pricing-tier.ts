/** PricingTier: what a plan sells for, what it must leave, and what its conversations may do. Cluster-scoped. */
import * as z from 'zod'
import {
  Amount,
  API_VERSION,
  boundedMap,
  Count,
  Duration,
  durationRule,
  IsoDate,
  Metadata,
  ModelName,
  ModelPattern,
  ObjectName,
  patterned,
  Percent,
  StatusBase,
  text,
  Tokens,
  UpstreamName,
} from './fields.ts'
import { DEFAULT_ALERTS, DEFAULT_LADDER, ENDS, RUNGS } from './ladder.ts'
import { PeriodSchema } from './period.ts'
import { rules } from './rules.ts'
import { MEMORY_MODES, NOTICE_OCCASIONS, SESSION_TURNS_MAX } from './sidecar-config.ts'
import { Margin } from './traffic-status.ts'

export const PRICING_MODELS = ['FlatPerUser', 'PerConversation', 'PerResolution'] as const

const Pricing = z.strictObject({
  model: z
    .enum(PRICING_MODELS)
    .describe('How the plan is sold. It decides what a budget protects: the worst case, predictability, or completion.'),
  price: Amount.describe('Per user and period, per conversation, or per resolution.'),
  period: PeriodSchema.optional().describe('The period of a price per user.'),
})

const UnitEconomics = z.strictObject({
  targetGrossMarginPercent: Percent.describe('What must be left of the price, in percent of it.'),
  otherCost: Amount.default('0').describe('Other cost of revenue per priced unit: hosting, licences, support.'),
  signedOff: z
    .strictObject({ by: text(1, 128).describe('Who.'), date: IsoDate.describe('When.') })
    .optional()
    .describe('Who in finance agreed to these numbers, and when.'),
  expectedConversationsPerUser: z
    .int()
    .min(1)
    .max(1_000_000)
    .optional()
    .describe('Conversations of one user in a period; required for `FlatPerUser`.'),
  expectedResolutionPercent: z
    .int()
    .min(1)
    .max(100)
    .optional()
    .describe('Conversations that are resolved, in percent; required for `PerResolution`.'),
  heavyUserTimesMedian: z
    .int()
    .min(2)
    .max(1000)
    .default(10)
    .describe('A user who costs so many times the median user of a period counts as heavy.'),
})

const Budget = z.strictObject({
  perConversation: Amount.optional().describe('Overrides the derived cap of a conversation.'),
  perUser: Amount.optional().describe('Overrides the derived cap of a user and period.'),
  allowBelowMargin: z
    .enum(['Refused', 'Acknowledged'])
    .default('Refused')
    .describe('`Acknowledged` lets an override be looser than the margin allows, and a plan be sold whose margin leaves nothing.'),
})

const Context = z.strictObject({
  windowTokens: Tokens.optional().describe("Input tokens that a conversation of this plan may send; absent: the model's own window."),
  overflow: z
    .enum(['Summarize', 'DropOldest', 'Refuse'])
    .default('DropOldest')
    .describe('What happens to a history longer than the window. It is always said in the transcript.'),
  keepRecentTurns: z
    .int()
    .min(1)
    .max(1000)
    .default(3)
    .describe(
      'The newest user turns, which no summary touches but the recap of a session that ends. Where the window is too small for them they are left out as well, down to the last one.',
    ),
  summarizeAfterPercent: Percent.default(80).describe('Percent of the window from which a summary is prepared between turns.'),
})

const Downgrade = rules(
  z.strictObject({
    from: ModelPattern.describe('A model, or a pattern.'),
    to: ModelName.describe('The model that answers instead.'),
    upstream: UpstreamName.optional().describe('The upstream of the budget that serves it; absent: the one that was asked.'),
  }),
  {
    rule: 'self.from != self.to',
    message: 'must be another model than from',
    fieldPath: '.to',
  },
)

const Models = rules(
  z.strictObject({
    allow: z
      .array(ModelPattern)
      .max(64)
      .default([])
      .describe(
        'Models that apps on this plan may ask for; a trailing `*` matches the rest of a name. Empty: every model. Where a downgrade leads, and what writes summaries, need not be among them.',
      ),
    downgrades: z.array(Downgrade).max(64).default([]).describe('What `DowngradeModel` swaps, first match wins.'),
    summarizer: ModelName.optional().describe(
      'The cheap model that writes summaries; absent: the downgrade of the model in use, or that model.',
    ),
    maxOutputTokens: Tokens.optional().describe('Longest answer of this plan.'),
    usefulOutputTokens: Tokens.optional().describe('An answer clamped below this is not worth giving: the next rung is tried instead.'),
  }),
  {
    rule: '!has(self.maxOutputTokens) || !has(self.usefulOutputTokens) || self.usefulOutputTokens <= self.maxOutputTokens',
    message: 'must not be more than maxOutputTokens: no answer could be of use',
    fieldPath: '.usefulOutputTokens',
  },
)

const LadderStep = rules(
  z.strictObject({
    atPercent: Percent.describe('Of the budget used.'),
    rung: z.enum(RUNGS).describe('What is taken away from there on.'),
    end: z
      .enum(ENDS)
      .optional()
      .describe(
        'How `EndConversation` ends: `Close` with closing words in a proper answer, `Reset` with a new session, `Refuse` with 402. Absent: `Close`.',
      ),
  }),
  { rule: "!has(self.end) || self.rung == 'EndConversation'", message: 'is for EndConversation only', fieldPath: '.end' },
)

const RUNGS_IN_ORDER = `['${RUNGS.join("','")}']`
const Ladder = rules(
  z.array(LadderStep).max(RUNGS.length),
  {
    rule: `${RUNGS_IN_ORDER}.filter(r, self.exists(s, s.rung == r)) == self.map(s, s.rung)`,
    message: `rungs must come in this order, each at most once: ${RUNGS.join(', ')}`,
  },
  {
    rule: '[0, 1, 2, 3].all(i, i + 1 >= size(self) || self[i].atPercent <= self[i + 1].atPercent)',
    message: 'atPercent must not fall from one step to the next',
  },
)

const Memory = rules(
  z.strictObject({
    mode: z.enum(MEMORY_MODES).describe('`Searchable`: a user may search what they and the assistant said. `None`: nothing of it is kept.'),
    retention: Duration.default('720h').describe('How long it is kept. At least `1m`, at most `8760h`.'),
  }),
  durationRule('retention', { min: '1m', max: '8760h' }, 'must be at least 1m and at most 8760h'),
)

const Sessions = rules(
  z.strictObject({
    resetAt: z
      .enum(['TaskBoundary', 'Immediately'])
      .default('TaskBoundary')
      .describe('Whether a reset waits until the app says that a new task begins.'),
    recap: z.enum(['Summary', 'None']).default('Summary').describe('What the next session is told of the last.'),
    maxResets: z
      .int()
      .min(0)
      .max(100)
      .default(3)
      .describe('Further sessions that one conversation may open, each with a budget of its own.'),
    maxTurns: z
      .int()
      .min(1)
      .max(SESSION_TURNS_MAX)
      .optional()
      .describe('User turns of a session: a question with the tool calls after it is one. The next one opens a new session.'),
    idleAfter: Duration.optional().describe('A user turn after so long a pause opens a new session. At least `1m`.'),
    memory: Memory.optional().describe(
      'What users may search of what was said, in this session and before. Required where sessions may follow one another; absent: `None`.',
    ),
  }),
  durationRule('idleAfter', { min: '1m' }, 'must be at least 1m'),
)

const LOCALES = { pattern: /^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$/, message: 'keys must be locales, such as en or pt-BR' }
const Locale = patterned(LOCALES.pattern, 35, 'must be a locale, such as en or pt-BR')
const Notices = z.strictObject({
  mode: z
    .enum(['Inline', 'HeadersOnly'])
    .default('Inline')
    .describe('Whether users read notices in the answer, or only the app sees headers.'),
  texts: z
    .array(
      z.strictObject({
        occasion: z.enum(NOTICE_OCCASIONS).describe('What has happened.'),
        text: boundedMap(text(0, 1000), 32, LOCALES).describe('By locale. An empty text asks for silence.'),
      }),
    )
    .max(NOTICE_OCCASIONS.length)
    .default([])
    .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['occasion'] })
    .describe(
      'Your words; `{{remaining}}`, `{{percent}}`, `{{tier}}` and `{{turns}}` are filled in. Those for `End` are said where the conversation has used up its budget and where the user has used up theirs for the period; not where a limit of the workload is reached.',
    ),
  defaultLocale: Locale.default('en').describe('For requests that ask for no language.'),
})

const Alerts = z
  .array(z.int().min(1).max(100))
  .max(16)
  .default([...DEFAULT_ALERTS])
  .meta({ 'x-kubernetes-list-type': 'set' })
  .describe('Percent thresholds that alert the team, each once per session of a conversation.')

const Spec = rules(
  z.strictObject({
    displayName: text(1, 64).describe('Shown to people.'),
    currency: rules(patterned(/^[A-Z]{3}$/, 3, 'must be a currency code such as "USD"').default('USD'), {
      rule: 'self == oldSelf',
      message: 'currency cannot be changed: create another tier',
    }).describe('Of all amounts here. Other than USD needs an exchange rate in a PriceBook.'),
    pricing: Pricing.describe('What the plan sells for.'),
    unitEconomics: UnitEconomics.describe('What must be left of the price, and what is expected of users. Budgets are derived from it.'),
    budget: Budget.prefault({}).describe('Overrides of the derived budgets.'),
    context: Context.prefault({}).describe('How much history a conversation of this plan may send.'),
    models: Models.prefault({}).describe('Which models serve this plan, and how long they may answer.'),
    alerts: Alerts,
    ladder: Ladder.default(DEFAULT_LADDER.map((step) => ({ ...step }))).describe(
      'What is taken away, and from how many percent of the budget on. Steps add up. A ladder without `EndConversation`, an empty one too, ends with 402 at 100 percent, but for calls to a model that costs nothing: a downgrade to one goes on.',
    ),
    sessions: Sessions.prefault({}).describe('When a conversation begins a new session, and what follows then.'),
    notices: Notices.prefault({}).describe('What users are told when something is taken away.'),
    upgrade: z
      .strictObject({
        tier: ObjectName.describe('The tier to move to.'),
        whenUserExceedsPercent: z.int().min(1).max(100).describe('Of the user budget of a period: from here on the upgrade is told.'),
      })
      .optional()
      .describe('The plan that heavy users of this one belong on.'),
  }),
  {
    rule: "self.pricing.model != 'FlatPerUser' || has(self.unitEconomics.expectedConversationsPerUser)",
    message: 'is required for FlatPerUser: the number of conversations that a user is expected to have in a period',
    fieldPath: '.unitEconomics.expectedConversationsPerUser',
  },
  {
    rule: "self.pricing.model != 'FlatPerUser' || has(self.pricing.period)",
    message: 'is required for FlatPerUser: the period that its price is for, such as { unit: Month }',
    fieldPath: '.pricing.period',
  },
  {
    rule: "self.pricing.model != 'PerResolution' || has(self.unitEconomics.expectedResolutionPercent)",
    message: 'is required for PerResolution: the percent of conversations that are expected to be resolved',
    fieldPath: '.unitEconomics.expectedResolutionPercent',
  },
  {
    rule: "self.pricing.model == 'FlatPerUser' || !has(self.pricing.period)",
    message: 'is for FlatPerUser only: other prices have none',
    fieldPath: '.pricing.period',
  },
  {
    rule: "self.pricing.model == 'FlatPerUser' || !has(self.budget.perUser)",
    message: 'is for FlatPerUser only: other tiers have no period to count a user in',
    fieldPath: '.budget.perUser',
  },
  {
    rule: "self.pricing.model == 'FlatPerUser' || !self.ladder.exists(s, has(s.end) && s.end == 'Reset')",
    message: 'end: Reset needs a budget of the user behind it, which only a FlatPerUser tier has',
    fieldPath: '.ladder',
  },
  {
    rule: "self.pricing.model == 'FlatPerUser' || !has(self.sessions.maxTurns)",
    message: 'needs a budget of the user behind it, which only a FlatPerUser tier has',
    fieldPath: '.sessions.maxTurns',
  },
  {
    rule: "self.pricing.model == 'FlatPerUser' || !has(self.sessions.idleAfter)",
    message: 'needs a budget of the user behind it, which only a FlatPerUser tier has',
    fieldPath: '.sessions.idleAfter',
  },
  {
    rule: "self.pricing.model != 'FlatPerUser' || has(self.sessions.memory) || !(has(self.sessions.maxTurns) || has(self.sessions.idleAfter) || self.ladder.exists(s, has(s.end) && s.end == 'Reset'))",
    message: 'must say whether users may search what earlier sessions said: { mode: Searchable } or { mode: None }',
    fieldPath: '.sessions.memory',
  },
  {
    rule: "self.pricing.model == 'FlatPerUser' || !has(self.upgrade)",
    message: 'is for FlatPerUser only: other tiers have no user budget to exceed',
    fieldPath: '.upgrade',
  },
)

const Derived = z.strictObject({
  perConversation: Amount.optional().describe('The cap of a conversation.'),
  perUser: Amount.optional().describe('The cap of a user and period.'),
  targetPerConversation: Amount.optional().describe('What a conversation costs when the plan goes as expected: at most its cap.'),
  targetPerResolution: Amount.optional().describe('What a resolution may cost.'),
  contract: patterned(/^[0-9a-f]{16}$/, 16, 'must be a hash')
    .optional()
    .describe('Hash of the terms that conversations are held to.'),
})
const Status = z.strictObject({
  ...StatusBase,
  derived: Derived.optional().describe('What follows from the numbers of the plan, in its currency.'),
  boundBudgets: Count.optional().describe('ConversationBudgets that may use this tier.'),
  margin: Margin.optional().describe('Gross margin, in percent of the price.'),
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
