import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkChange, checkObject, isOurs } from './check.ts'
import type { FareboxObject } from './check.ts'
import { DEFAULT_LADDER } from './ladder.ts'
import { deriveBudgets } from './unit-economics.ts'
import { formatUsd } from './usd.ts'

const API_VERSION = 'farebox.dev/v1alpha1'
/** 19.00 a month at 70 %, 2.70 of other cost, 6 conversations. */
const TIER = {
  apiVersion: API_VERSION,
  kind: 'PricingTier',
  metadata: { name: 'plus' },
  spec: {
    displayName: 'Plus',
    pricing: { model: 'FlatPerUser', price: '19.00', period: { unit: 'Month' } },
    unitEconomics: { targetGrossMarginPercent: 70, otherCost: '2.70', expectedConversationsPerUser: 6 },
  },
}
const BUDGET = {
  apiVersion: API_VERSION,
  kind: 'ConversationBudget',
  metadata: { name: 'support', namespace: 'shop' },
  spec: { selector: { matchLabels: { app: 'support' } }, tier: { default: 'plus' } },
}
const BOOK = { apiVersion: API_VERSION, kind: 'PriceBook', metadata: { name: 'prices' }, spec: { exchangeRates: { EUR: '1.08' } } }

const tierWith = (spec: object): object => ({ ...TIER, spec: { ...TIER.spec, ...spec } })
const budgetWith = (spec: object): object => ({ ...BUDGET, spec: { ...BUDGET.spec, ...spec } })

function accepted(object: object): FareboxObject {
  const checked = checkObject(object)
  assert.equal(checked.status, 'ok', JSON.stringify(checked))
  if (checked.status !== 'ok') throw new TypeError()
  return checked.value
}
function problemsOf(object: unknown): string[] {
  const checked = checkObject(object)
  return checked.status === 'ok' ? [] : checked.problems.map(({ field, message }) => `${field}: ${message}`)
}

test('a tier with its numbers is accepted, gets its defaults, and comes to 0.50 a conversation', () => {
  const tier = accepted(TIER)
  assert.ok(tier.kind === 'PricingTier')
  assert.deepEqual(tier.spec.ladder, DEFAULT_LADDER)
  assert.deepEqual(tier.spec.alerts, [70, 90, 100])
  assert.deepEqual(tier.spec.pricing.period, { unit: 'Month', timeZone: 'UTC', anchorDay: 1 })
  assert.deepEqual([tier.spec.currency, tier.spec.notices.mode, tier.spec.context.overflow], ['USD', 'Inline', 'DropOldest'])
  const derivation = deriveBudgets(tier.spec)
  assert.equal(derivation.status === 'derived' ? formatUsd(derivation.derived.perConversation) : '', '0.50')
})

test('selector and default tier suffice for a budget', () => {
  const budget = accepted(BUDGET)
  assert.ok(budget.kind === 'ConversationBudget')
  const { spec } = budget
  assert.deepEqual([spec.mode, spec.onUnknownModel, spec.onDisconnect, spec.ungoverned], ['Enforce', 'Ceiling', 'Cancel', 'Refuse'])
  assert.deepEqual([spec.identity.fallback, spec.identity.scope, spec.contractMaxAge], ['PrefixChain', 'Namespace', '720h'])
  assert.deepEqual(spec.identity.carriers, ['Header', 'Baggage', 'Conversation', 'PreviousResponse', 'Metadata'])
})

test('what is not one of ours is told what it must be', () => {
  assert.deepEqual(problemsOf(null), [': must be a mapping with apiVersion, kind, metadata and spec'])
  assert.deepEqual(problemsOf({ ...TIER, apiVersion: 'farebox.dev/v1' }), ['apiVersion: must be farebox.dev/v1alpha1'])
  assert.deepEqual(problemsOf({ ...TIER, kind: 'PriceTier' }), [
    'kind: must be one of PricingTier, ConversationBudget, PriceBook (did you mean PricingTier?)',
  ])
  assert.deepEqual(problemsOf({ ...TIER, kind: 'toString' }), ['kind: must be one of PricingTier, ConversationBudget, PriceBook'])
  assert.deepEqual(problemsOf({ ...TIER, metadata: { name: 'plus', namespace: 'shop' } }), [
    'metadata.namespace: must be absent: a PricingTier belongs to no namespace',
  ])
})

test('each missing number of a pricing model is named, with what it is', () => {
  const missing = (model: string): string[] =>
    problemsOf(tierWith({ pricing: { model, price: '1.00' }, unitEconomics: { targetGrossMarginPercent: 70 } }))
  assert.deepEqual(missing('FlatPerUser'), [
    'spec.unitEconomics.expectedConversationsPerUser: is required for FlatPerUser: the number of conversations that a user is expected to have in a period',
    'spec.pricing.period: is required for FlatPerUser: the period that its price is for, such as { unit: Month }',
  ])
  assert.deepEqual(missing('PerResolution'), [
    'spec.unitEconomics.expectedResolutionPercent: is required for PerResolution: the percent of conversations that are expected to be resolved',
  ])
  assert.deepEqual(missing('PerConversation'), [])
  assert.deepEqual(problemsOf(tierWith({ unitEconomics: {} })), ['spec.unitEconomics.targetGrossMarginPercent: is required'])
})

test('a price as a number, a margin in quotes and a word misspelt are each one line', () => {
  assert.deepEqual(problemsOf(tierWith({ pricing: { ...TIER.spec.pricing, price: 19 } })), [
    'spec.pricing.price: must be a decimal in quotes, such as "0.50"; found the number 19',
  ])
  assert.deepEqual(problemsOf(tierWith({ unitEconomics: { ...TIER.spec.unitEconomics, targetGrossMarginPercent: '70' } })), [
    'spec.unitEconomics.targetGrossMarginPercent: must be a whole number, without quotes',
  ])
  assert.deepEqual(problemsOf({ ...TIER, spec: { ...TIER.spec, displayName: undefined, displayNam: 'Plus' } }), [
    'spec.displayNam: is not a field here (did you mean displayName?)',
  ])
})

test('a ladder out of order, or with a step twice, is refused', () => {
  const ladder = (...steps: readonly (readonly [number, string])[]): string[] =>
    problemsOf(tierWith({ ladder: steps.map(([atPercent, rung]) => ({ atPercent, rung })) }))
  const order =
    'spec.ladder: rungs must come in this order, each at most once: DropRetrieval, Summarize, DowngradeModel, RefuseTools, EndConversation'
  assert.deepEqual(ladder([70, 'DropRetrieval'], [70, 'RefuseTools']), [])
  assert.deepEqual(ladder([70, 'RefuseTools'], [80, 'Summarize']), [order])
  assert.deepEqual(ladder([70, 'Summarize'], [80, 'Summarize']), [order])
  assert.deepEqual(ladder([80, 'Summarize'], [70, 'RefuseTools']), ['spec.ladder: atPercent must not fall from one step to the next'])
  assert.deepEqual(problemsOf(tierWith({ ladder: [{ atPercent: 70, rung: 'Summarize', end: 'Close' }] })), [
    'spec.ladder[0].end: is for EndConversation only',
  ])
})

test('what only a price per user can have is refused elsewhere', () => {
  const perConversation = { pricing: { model: 'PerConversation', price: '1.00' }, unitEconomics: { targetGrossMarginPercent: 70 } }
  const fields = (more: object): string[] => problemsOf(tierWith({ ...perConversation, ...more })).map((line) => line.split(':')[0] ?? '')
  assert.deepEqual(fields({ budget: { perUser: '1.00' } }), ['spec.budget.perUser'])
  assert.deepEqual(fields({ ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }] }), ['spec.ladder'])
  assert.deepEqual(fields({ sessions: { maxTurns: 40 } }), ['spec.sessions.maxTurns'])
  assert.deepEqual(fields({ sessions: { idleAfter: '1h' } }), ['spec.sessions.idleAfter'])
  assert.deepEqual(fields({ upgrade: { tier: 'pro', whenUserExceedsPercent: 80 } }), ['spec.upgrade'])
  assert.deepEqual(fields({ pricing: { model: 'PerConversation', price: '1.00', period: { unit: 'Day' } } }), ['spec.pricing.period'])
})

test('where sessions follow one another it must be said whether users may search them', () => {
  const silent = [
    'spec.sessions.memory: must say whether users may search what earlier sessions said: { mode: Searchable } or { mode: None }',
  ]
  const reset = { ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }] }
  assert.deepEqual(problemsOf(tierWith(reset)), silent)
  assert.deepEqual(problemsOf(tierWith({ sessions: { maxTurns: 40 } })), silent)
  assert.deepEqual(problemsOf(tierWith({ sessions: { idleAfter: '1h' } })), silent)
  for (const mode of ['Searchable', 'None'] as const)
    assert.deepEqual(problemsOf(tierWith({ ...reset, sessions: { maxTurns: 40, idleAfter: '1m', memory: { mode } } })), [])
  assert.deepEqual(problemsOf(tierWith({ sessions: { memory: { mode: 'Searchable' } } })), [], 'a tier without resets may have a memory')
})

test('a memory keeps what was said for a minute to a year', () => {
  const problems = (retention: string): readonly string[] =>
    problemsOf(tierWith({ sessions: { memory: { mode: 'Searchable', retention } } }))
  const bounds = ['spec.sessions.memory.retention: must be at least 1m and at most 8760h']
  assert.deepEqual(['1m', '60s', '8760h'].flatMap(problems), [])
  assert.deepEqual(problems('59s'), bounds)
  assert.deepEqual(problems('8760h1s'), bounds)
})

test('pauses shorter than a minute are no pauses', () => {
  const idle = (idleAfter: string): readonly string[] => problemsOf(tierWith({ sessions: { idleAfter, memory: { mode: 'None' } } }))
  const quiet = (quietPeriod: string): readonly string[] => problemsOf(budgetWith({ resolution: { quietPeriod } }))
  assert.deepEqual([idle('1m'), quiet('1m')], [[], []])
  assert.deepEqual(idle('59s'), ['spec.sessions.idleAfter: must be at least 1m'])
  assert.deepEqual(quiet('0s'), ['spec.resolution.quietPeriod: must be at least 1m'])
})

test('deployments belong to Azure', () => {
  const upstream = (provider: string | undefined, deployments: readonly object[]) =>
    problemsOf(budgetWith({ upstreams: [{ name: 'eu', provider, baseURL: 'https://eu.example.com', deployments }] }))
  const chat = { name: 'chat.v1', model: 'gpt-4o' }
  const azureOnly = ['spec.upstreams[0].deployments: is for the provider azure only: others are asked for models by name']
  assert.deepEqual(upstream('azure', [chat, { ...chat, name: 'chat.v2' }]), [])
  assert.deepEqual(upstream('openai', []), [])
  assert.deepEqual(upstream('openai', [chat]), azureOnly)
  assert.deepEqual(upstream(undefined, [chat]), azureOnly)
  assert.deepEqual(upstream('azure', [chat, chat]), ['spec.upstreams[0].deployments[1].name: must be there only once: chat.v1'])
})

test('an upgrade is told from a percent that a user can reach', () => {
  const problems = (whenUserExceedsPercent: number): number =>
    problemsOf(tierWith({ upgrade: { tier: 'team', whenUserExceedsPercent } })).length
  assert.deepEqual([problems(1), problems(100), problems(101)], [0, 0, 1])
})

test('lists that are sets hold nothing twice', () => {
  assert.deepEqual(problemsOf(tierWith({ alerts: [70, 90, 70] })), ['spec.alerts[2]: must be there only once: 70'])
  const upstream = { name: 'openai', baseURL: 'https://api.openai.com/v1' }
  assert.deepEqual(problemsOf(budgetWith({ upstreams: [upstream, { ...upstream, baseURL: 'https://other/v1' }] })), [
    'spec.upstreams[1].name: must be there only once: openai',
  ])
})

test('a percent of the budgets goes with an allowance alone', () => {
  assert.deepEqual(problemsOf(budgetWith({ onStoreFailure: { percent: 25 } })), [])
  assert.deepEqual(problemsOf(budgetWith({ onStoreFailure: { action: 'Deny' } })), [])
  assert.deepEqual(problemsOf(budgetWith({ onStoreFailure: { action: 'Deny', percent: 25 } })), [
    'spec.onStoreFailure.percent: goes with the action Allowance alone',
  ])
})

test('tiers may be allowed only where a claim chooses among them, and a selector names a label', () => {
  assert.match(
    problemsOf(budgetWith({ tier: { default: 'plus', allowed: ['pro'] } }))[0] ?? '',
    /^spec\.tier\.claim: is required beside allowed/,
  )
  assert.deepEqual(problemsOf(budgetWith({ tier: { default: 'plus', allowed: ['pro'], claim: {} } })), [])
  assert.deepEqual(problemsOf(budgetWith({ selector: {} })), ['spec.selector: must name at least one label'])
})

test('exchange rates are above zero, by currency code, and never of the dollar', () => {
  const rates = (exchangeRates: object): string[] => problemsOf({ ...BOOK, spec: { exchangeRates } })
  assert.deepEqual(rates({ EUR: '1.08', JPY: '0.0067' }), [])
  assert.deepEqual(rates({ EUR: '0.000' }), ['spec.exchangeRates: every rate must be above zero'])
  assert.deepEqual(rates({ USD: '1' }), ['spec.exchangeRates: must not hold USD: every rate is in US dollars'])
  assert.deepEqual(rates({ eur: '1' }), ['spec.exchangeRates: keys must be currency codes such as EUR'])
})

test('a status of another version is left out, since it is not its author who wrote it', () => {
  const tier = accepted({ ...TIER, status: { invented: true } })
  assert.equal(tier.status, undefined)
  assert.equal(accepted({ ...TIER, status: { observedGeneration: 3 } }).status?.observedGeneration, 3)
  // Only a rule of the schema knows which rungs there are.
  const status = { conversations: { total: 1, turns: 1, byRung: { Levitate: 1 } } }
  const budget = checkObject({
    apiVersion: 'farebox.dev/v1alpha1',
    kind: 'ConversationBudget',
    metadata: { name: 'desk', namespace: 'support' },
    spec: { selector: { matchLabels: { app: 'desk' } }, tier: { default: 'pro' } },
    status,
  })
  assert.equal(budget.status, 'ok')
  assert.equal(budget.value.status, undefined)
})

test('the currency of a tier cannot change, its price can', () => {
  const from = accepted(TIER)
  assert.deepEqual(checkChange(from, accepted(tierWith({ currency: 'EUR' }))), [
    { field: 'spec.currency', message: 'currency cannot be changed: create another tier' },
  ])
  assert.deepEqual(checkChange(from, accepted(tierWith({ pricing: { ...TIER.spec.pricing, price: '29.00' } }))), [])
  assert.deepEqual(checkChange(from, accepted(BUDGET)), [{ field: 'kind', message: 'must stay PricingTier' }])
})

test('what claims our group or a kind of ours is ours to judge', () => {
  assert.equal(isOurs({ apiVersion: 'farebox.dev/v9', kind: 'Other' }), true)
  assert.equal(isOurs({ apiVersion: 'v1', kind: 'PriceBook' }), true)
  assert.equal(isOurs({ apiVersion: 'v1', kind: 'ConfigMap' }), false)
  assert.equal(isOurs([TIER]), false)
})
