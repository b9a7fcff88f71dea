import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { formatComplaint, loadManifests, whyUngoverned } from './loaded-manifests.ts'
import type { LoadedManifests, LoadOptions } from './loaded-manifests.ts'
import { readManifestFolder } from './manifest-folder.ts'

const EXAMPLES = fileURLToPath(new URL('../../../examples/', import.meta.url))

const TIER = `apiVersion: farebox.dev/v1alpha1
kind: PricingTier
metadata: { name: pro }
spec:
  displayName: Pro
  pricing: { model: PerConversation, price: "1.00" }
  unitEconomics: { targetGrossMarginPercent: 70 }
`
const BUDGET = `---
apiVersion: farebox.dev/v1alpha1
kind: ConversationBudget
metadata: { name: desk, namespace: support }
spec:
  selector: { matchLabels: { app: desk } }
  tier: { default: pro }
`
const AT = Date.UTC(2026, 10, 24, 12)

function load(text: string, options: Partial<LoadOptions> = {}): LoadedManifests {
  const result = loadManifests([{ path: 'all.yaml', text }], { nowMs: AT, ...options })
  assert.equal(result.status, 'loaded')
  return result.loaded
}

function conditionsOf(loaded: LoadedManifests, object: string) {
  return (loaded.compiled.statuses.get(object)?.conditions ?? []).map(({ type, status, observedGeneration, lastTransitionTime }) =>
    [type, status, observedGeneration, lastTransitionTime].join(' '),
  )
}

test('a budget that is gone is told beside whatever else is wrong; one that is there is not said to be gone', () => {
  const other = BUDGET.replace('name: desk', 'name: other').replace('default: pro', 'default: none')
  const [problem, ...rest] = whyUngoverned(load(TIER + other), 'support/desk', 'folder')
  assert.match(problem ?? '', /^all\.yaml:\d+: spec\.tier\.default: /)
  assert.deepEqual(rest, ['folder: ConversationBudget "support/desk" is gone'])
  assert.deepEqual(whyUngoverned(load(TIER), 'support/desk', 'folder'), ['folder: ConversationBudget "support/desk" is gone'])
  assert.deepEqual(whyUngoverned(load(TIER + other), 'support/other', 'folder'), [problem])
})

test('the chosen budget governs whatever its pods share, with the limits of the others; they are told that', () => {
  const limits = (amount: string): string => `  limits: [{ amount: "${amount}", period: { unit: Day } }]\n`
  const first = BUDGET.replace('name: desk', 'name: a') + limits('5.00')
  const desk = BUDGET + limits('9.00')
  const amountsOf = ({ compiled }: LoadedManifests, key: string) => compiled.configs.get(key)?.limits.map(({ amount }) => amount)
  const asInCluster = load(TIER + desk + first)
  assert.deepEqual([amountsOf(asInCluster, 'support/a'), amountsOf(asInCluster, 'support/desk')], [['5.00', '9.00'], undefined])
  const chosen = load(TIER + desk + first, { chosen: 'support/desk' })
  assert.deepEqual([amountsOf(chosen, 'support/a'), amountsOf(chosen, 'support/desk')], [undefined, ['9.00', '5.00']])
  assert.deepEqual(chosen.complaints.map(formatComplaint), [
    'all.yaml:21: warning: spec.selector: ConversationBudget "desk" is chosen and selects the same pods: of this one only the limits are in force',
  ])
  const wide = first.replace('{ app: desk }', '{ team: support }')
  const narrow = desk.replace('{ app: desk }', '{ app: desk, team: support }')
  const sharing = load(TIER + narrow + wide, { chosen: 'support/desk' })
  assert.deepEqual(amountsOf(sharing, 'support/desk'), ['9.00', '5.00'])
  assert.match(
    sharing.complaints.map(formatComplaint).join(),
    /:21: warning: spec\.selector: ConversationBudget "desk" is chosen and selects some of the same pods, which it governs, with the limits of this one/,
  )
})

test('that a budget does not govern is said in a line of its own where only warnings are told', () => {
  const loaded = load(TIER + BUDGET + BUDGET.replace('name: desk', 'name: a'))
  const [warning, ...rest] = whyUngoverned(loaded, 'support/desk', 'folder')
  assert.match(warning ?? '', /^all\.yaml:\d+: warning: /)
  assert.deepEqual(rest, ['folder: ConversationBudget "support/desk" cannot be in force'])
})

test('a generation grows with each change of the spec and with nothing else, as in an API server', () => {
  const first = load(TIER + BUDGET)
  assert.deepEqual(conditionsOf(first, 'PricingTier/pro'), ['Accepted True 1 2026-11-24T12:00:00Z', 'Ready True 1 2026-11-24T12:00:00Z'])
  const relabelled = load(TIER.replace('{ name: pro }', '{ name: pro, labels: { team: a } }') + BUDGET, { nowMs: AT + 1000, before: first })
  assert.equal(relabelled.compiled.statuses.get('PricingTier/pro')?.observedGeneration, 1)
  const dearer = load(TIER.replace('1.00', '2.00') + BUDGET, { nowMs: AT + 2000, before: relabelled })
  assert.equal(dearer.compiled.statuses.get('PricingTier/pro')?.observedGeneration, 2)
  assert.equal(dearer.compiled.statuses.get('ConversationBudget/support/desk')?.observedGeneration, 1)
})

test('a transition time moves only when its condition does', () => {
  const first = load(TIER + BUDGET)
  const broken = load(TIER.replace('70', '100') + BUDGET, { nowMs: AT + 60_000, before: first })
  assert.deepEqual(conditionsOf(broken, 'PricingTier/pro'), [
    'Accepted False 2 2026-11-24T12:01:00Z',
    'Ready False 2 2026-11-24T12:01:00Z',
    'Stalled True 2 2026-11-24T12:01:00Z',
  ])
  const still = load(TIER.replace('70', '99').replace('1.00', '0.000000001') + BUDGET, { nowMs: AT + 120_000, before: broken })
  assert.deepEqual(conditionsOf(still, 'PricingTier/pro'), [
    'Accepted False 3 2026-11-24T12:01:00Z',
    'Ready False 3 2026-11-24T12:01:00Z',
    'Stalled True 3 2026-11-24T12:01:00Z',
  ])
})

test('a refused tier and a refused PriceBook are told once, where they are written', () => {
  const book = `---
apiVersion: farebox.dev/v1alpha1
kind: PriceBook
metadata: { name: house }
spec: { entries: [{ provider: openai, model: house-large, output: "4.00" }] }
`
  assert.deepEqual(load(TIER.replace('70', '100') + BUDGET + book).complaints.map(formatComplaint), [
    'all.yaml:7: spec.unitEconomics.targetGrossMarginPercent: a price of 1.00 at a margin of 100 % leaves 0.00, and other cost takes 0.00: nothing is left for inference',
    'all.yaml:19: spec.entries[0].input: the input of "house-large" must have a price, "0" where it is free: the catalogue of openai does not have it',
  ])
})

test('an upstream can be sent elsewhere, but only one that is there, and only to a URL', () => {
  const upstreamOf = (url: string, name = 'openai') =>
    load(TIER + BUDGET, { upstreams: new Map([[name, url]]) }).compiled.configs.get('support/desk')?.upstreams[0]
  assert.equal(upstreamOf('http://127.0.0.1:9/v1')?.baseUrl, 'http://127.0.0.1:9/v1')
  const moved = load(TIER + BUDGET, { upstreams: new Map([['gemini', 'http://127.0.0.1:9']]) }).compiled.configs.get('support/desk')
  assert.deepEqual(
    moved?.upstreams.map(({ baseUrl }) => baseUrl),
    ['https://api.openai.com/v1', 'https://api.anthropic.com/v1', 'http://127.0.0.1:9'],
  )
  assert.throws(
    () => upstreamOf('http://127.0.0.1:9/v1', 'opnai'),
    /--upstream opnai: must name one of the upstreams here: openai, anthropic, gemini$/,
  )
  assert.throws(() => upstreamOf('ftp://x'), /--upstream: spec\.upstreams\[0\]\.baseURL: must be an http or https URL/)
})

test('a folder without a budget is not blamed on the flag that sends an upstream elsewhere', () => {
  assert.deepEqual([...load(TIER, { upstreams: new Map([['openai', 'http://127.0.0.1:9/v1']]) }).compiled.configs], [])
})

test('a provider that nobody prices, or that nobody calls, is warned of where it is written, with those that are known', () => {
  const upstreams = '  upstreams: [{ name: openai, provider: opnai, baseURL: "https://api.openai.com/v1" }]\n'
  const book = `---
apiVersion: farebox.dev/v1alpha1
kind: PriceBook
metadata: { name: house }
spec: { entries: [{ provider: gogle, model: gemini-2.5-pro, input: "1.00", output: "4.00" }] }
`
  const told = (text: string) => load(text).complaints.map(formatComplaint)
  const [unpriced = '', unused = '', ...rest] = told(TIER + BUDGET + upstreams + book)
  assert.match(
    unpriced,
    /^all\.yaml:15: warning: spec\.upstreams\[0\]\.provider: .*"opnai" of upstream "openai": its calls are refused\b.* openai\b/,
  )
  assert.match(unused, /^all\.yaml:20: warning: spec\.entries\[0\]\.provider: .*"gogle"/)
  assert.deepEqual(rest, [])
  assert.ok(load(TIER + BUDGET + upstreams + book).compiled.configs.has('support/desk'), 'it is in force all the same')
  assert.deepEqual(told(TIER + BUDGET + '  onUnknownModel: Free\n' + upstreams), [])
  assert.deepEqual(told(TIER + BUDGET + upstreams + book.replace('gogle', 'opnai')), [])
  assert.deepEqual(told(TIER + book), [], 'of budgets elsewhere nothing is known')
})

test('what is hardly meant is warned of, and in force all the same', () => {
  const models = '  models: { allow: [gpt4o] }\n'
  const upstreams = (upstream: string) => `  upstreams: [{ ${upstream} }]\n`
  const ladder = '  ladder: [{ atPercent: 50, rung: DowngradeModel }]\n'
  for (const [text, warning] of [
    [TIER + ladder + BUDGET, /^all\.yaml:8: warning: spec\.ladder\[0\]\.rung: .*DowngradeModel moves calls as/],
    [TIER + models + BUDGET, /^all\.yaml:8: warning: spec\.models\.allow\[0\]: .*"gpt4o" \(did you mean gpt-4o\?\)/],
    [
      TIER + BUDGET + upstreams('name: anthropic, baseURL: "https://api.anthropic.com/v1"'),
      /^all\.yaml:15: warning: spec\.upstreams\[0\]\.provider: .*"anthropic" \(anthropic\?\)/,
    ],
    [
      TIER + BUDGET + upstreams('name: openai, baseURL: "https://api.openai.com"'),
      /^all\.yaml:15: warning: spec\.upstreams\[0\]\.baseURL: .*"openai" must end with the version/,
    ],
  ] as const) {
    const { complaints, compiled } = load(text)
    assert.equal(complaints.length, 1)
    assert.match(formatComplaint(complaints[0] ?? assert.fail()), warning)
    assert.ok(compiled.configs.has('support/desk'))
  }
})

test('what only a cluster can follow is warned of, and the rest is in force', () => {
  const held =
    '  upstreams: [{ name: openai, baseURL: "https://a.example.com/v1", credential: { secretRef: { name: openai, key: api-key } } }]\n'
  const shared = '  store: { redis: { secretRef: { name: our-valkey, key: url } } }\n'
  const signed = BUDGET.replace(
    /( +)tier: .*\n/,
    '$1tier: { default: pro, claim: { token: { format: JWT, secretRef: { name: claim-keys } } } }\n',
  )
  assert.notEqual(signed, BUDGET)
  const loaded = load(TIER + signed + held + shared)
  assert.deepEqual(loaded.complaints.map(formatComplaint), [
    "all.yaml:15: warning: spec.upstreams[0].credential.secretRef: is followed in a cluster alone: under `farebox run` the app's own key passes through",
    'all.yaml:14: warning: spec.tier.claim.token.secretRef: is followed in a cluster alone: under `farebox run` the keys are the files of --claim-keys, and without it no claim is accepted',
    'all.yaml:16: warning: spec.store.redis.secretRef: is followed in a cluster alone: under `farebox run` the store is the one of --store or FAREBOX_STORE, or else books in --data',
  ])
  assert.equal(loaded.compiled.configs.get('support/desk')?.upstreams[0]?.credential, 'Held')
})

test('a header from a Secret is warned of, and a plain one is in force', () => {
  const upstream =
    '  upstreams: [{ name: openai, baseURL: "https://a.example.com/v1", headers: [{ name: x-route, value: eu }, { name: x-key, secretRef: { name: gateway, key: k } }] }]\n'
  const loaded = load(TIER + BUDGET + upstream)
  assert.deepEqual(loaded.complaints.map(formatComplaint), [
    'all.yaml:15: warning: spec.upstreams[0].headers[1].secretRef: is followed in a cluster alone: under `farebox run` what the app sends by that name passes through',
  ])
  assert.deepEqual(loaded.compiled.configs.get('support/desk')?.upstreams[0]?.headers, [
    { name: 'x-route', value: 'eu' },
    { name: 'x-key' },
  ])
})

test('the plans of the examples that the pages begin with let in whatever model an app asks for', async () => {
  for (const folder of ['support-desk', 'kubernetes']) {
    const result = loadManifests(await readManifestFolder(`${EXAMPLES}${folder}`), { nowMs: AT })
    assert.equal(result.status, 'loaded')
    const { compiled, manifests } = result.loaded
    const usual = compiled.tiers.get(manifests.snapshot.budgets[0]?.spec.tier.default ?? '')
    assert.ok(usual !== undefined && usual.status !== 'refused', folder)
    assert.deepEqual(usual.contract.models.allow, [], folder)
  }
})
