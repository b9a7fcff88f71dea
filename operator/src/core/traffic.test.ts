import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkObject } from '@farebox/crds/check.ts'
import { USE_BANDS } from '@farebox/crds/traffic-status.ts'
import type { TierTraffic } from '@farebox/crds/traffic-status.ts'
import { compile } from './compile.ts'
import type { ObjectStatus } from './compile.ts'
import { readManifests } from './manifests.ts'
import { totalsOf } from './reports.testing.ts'
import { withTraffic } from './traffic.ts'
import type { TierTotals } from '@farebox/crds/sidecar-status.ts'
import type { TrafficReport } from './traffic.ts'

const STATUS_BYTES_MAX = 16 * 1024

const tier = (name: string, pricing: string, economics: string): string => `---
apiVersion: farebox.dev/v1alpha1
kind: PricingTier
metadata: { name: ${name} }
spec:
  displayName: ${name.slice(0, 9)}
  ${pricing}
  unitEconomics: { ${economics} }
`
const budget = (...tiers: readonly string[]): string => `---
apiVersion: farebox.dev/v1alpha1
kind: ConversationBudget
metadata: { name: desk, namespace: support }
spec:
  selector: { matchLabels: { app: desk } }
  tier: { default: ${tiers[0]}, allowed: [${tiers.join(', ')}], claim: {} }
`
const SEAT = tier(
  'seat',
  'pricing: { model: FlatPerUser, price: "19.00", period: { unit: Month } }',
  'targetGrossMarginPercent: 70, otherCost: "2.70", expectedConversationsPerUser: 10',
)
const CHAT = tier('chat', 'pricing: { model: PerConversation, price: "0.40" }', 'targetGrossMarginPercent: 65, otherCost: "0.02"')
const OUTCOME = tier(
  'outcome',
  'pricing: { model: PerResolution, price: "1.00" }',
  'targetGrossMarginPercent: 60, otherCost: "0.10", expectedResolutionPercent: 50',
)
const EURO = `${tier('euro', 'pricing: { model: PerConversation, price: "1.00" }', 'targetGrossMarginPercent: 50')}  currency: EUR
---
apiVersion: farebox.dev/v1alpha1
kind: PriceBook
metadata: { name: rates }
spec: { exchangeRates: { EUR: "1.25" } }
`

const NOTHING = totalsOf({ byRung: { None: 0 } })
const report = (tiers: Record<string, Partial<TierTotals>>): TrafficReport => ({
  config: { budget: 'support/desk' },
  tiers: Object.fromEntries(Object.entries(tiers).map(([name, totals]) => [name, { ...NOTHING, ...totals }])),
})

/** Statuses with traffic, each of which fits the schema of its object. */
function statusesOf(manifests: string, traffic: TrafficReport): ReadonlyMap<string, ObjectStatus> {
  const { snapshot, problems } = readManifests([{ path: 'all.yaml', text: manifests }])
  assert.deepEqual(problems, [])
  const compiled = compile(snapshot, { nowMs: 0, previous: new Map() })
  const statuses = withTraffic(compiled, snapshot.tiers, traffic, 0)
  assert.deepEqual([...statuses.keys()], [...compiled.statuses.keys()])
  for (const object of [...snapshot.tiers, ...snapshot.budgets]) {
    const name = object.metadata.namespace === undefined ? object.metadata.name : `${object.metadata.namespace}/${object.metadata.name}`
    const checked = checkObject({ ...object, status: statuses.get(`${object.kind}/${name}`) })
    assert.deepEqual(checked.status === 'invalid' ? checked.problems : [], [])
  }
  return statuses
}

function partOf(statuses: ReadonlyMap<string, ObjectStatus>, key: string): Omit<ObjectStatus, 'conditions'> {
  const status = statuses.get(key)
  assert.ok(status !== undefined, key)
  const { conditions: _conditions, ...part } = status
  return part
}

function tiersOf(statuses: ReadonlyMap<string, ObjectStatus>): readonly TierTraffic[] {
  const status = statuses.get('ConversationBudget/support/desk')
  return status !== undefined && 'tiers' in status ? (status.tiers ?? []) : []
}

test('a budget shows what its conversations came to, in all and by tier, the most spent first', () => {
  const statuses = statusesOf(
    SEAT + CHAT + OUTCOME + budget('seat', 'chat', 'outcome'),
    report({
      seat: {
        conversations: 2,
        turns: 9,
        byRung: { None: 1, DropRetrieval: 0, Summarize: 1 },
        spent: '0.30',
        held: '0.01',
        cost: { p50: '0.10', p95: '0.20', p99: '0.20', max: '0.20' },
        alerts: { '70': 1, '90': 0 },
        resolutions: { started: 2, confirmed: 0, reversed: 0, costPer: null },
      },
      chat: {
        conversations: 4,
        turns: 11,
        byRung: { None: 4 },
        spent: '0.50',
        held: '0.002',
        cost: { p50: '0.11', p95: '0.15', p99: '0.15', max: '0.15' },
        alerts: { '70': 2, '100': 1 },
        resolutions: { started: 4, confirmed: 2, reversed: 1, costPer: '0.50' },
      },
      outcome: {},
    }),
  )
  const status = partOf(statuses, 'ConversationBudget/support/desk')
  assert.ok('config' in status)
  const { config: _config, ...traffic } = status
  assert.deepEqual(traffic, {
    conversations: { total: 6, turns: 20, byRung: { None: 5, Summarize: 1 } },
    spend: { spent: '0.80', held: '0.012' },
    cost: { max: '0.20' },
    alerts: { '70': 3, '100': 1 },
    resolutions: { started: 6, confirmed: 2, reversed: 1 },
    tiers: [
      {
        tier: 'chat',
        conversations: { total: 4, turns: 11, byRung: { None: 4 } },
        spend: { spent: '0.50', held: '0.002' },
        cost: { p50: '0.11', p95: '0.15', p99: '0.15', max: '0.15' },
        alerts: { '70': 2, '100': 1 },
        resolutions: { started: 4, confirmed: 2, reversed: 1, ratePercent: 25, costPer: '0.50' },
        margin: { targetPercent: 65, realisedPercent: 63 }, // 1.60 - 0.08 - 0.50 = 1.02
      },
      {
        tier: 'seat',
        conversations: { total: 2, turns: 9, byRung: { None: 1, Summarize: 1 } },
        spend: { spent: '0.30', held: '0.01' },
        cost: { p50: '0.10', p95: '0.20', p99: '0.20', max: '0.20' },
        alerts: { '70': 1 },
        resolutions: { started: 2, confirmed: 0, reversed: 0, ratePercent: 0 },
        margin: { targetPercent: 70, realisedPercent: 77 }, // two tenths of 19.00: 3.80 - 0.54 - 0.30 = 2.96
      },
    ],
  })
})

test('a tier shows the margin that was realised beside the one that it wants, and its derived numbers as before', () => {
  const statuses = statusesOf(
    OUTCOME + CHAT + SEAT + EURO + budget('outcome', 'chat', 'seat', 'euro'),
    report({
      outcome: { conversations: 9, spent: '7.77', resolutions: { started: 8, confirmed: 4, reversed: 1, costPer: '0.45' } },
      chat: { conversations: 1, spent: '500.00' },
      euro: { conversations: 2, spent: '0.50' },
    }),
  )
  const marginOf = (name: string): unknown => {
    const status = statuses.get(`PricingTier/${name}`)
    return status !== undefined && 'margin' in status ? status.margin : null
  }
  assert.deepEqual(marginOf('outcome'), { targetPercent: 60, realisedPercent: 45 }, 'of three resolutions: 3.00 - 0.30 - 1.35')
  assert.deepEqual(marginOf('chat'), { targetPercent: 65, realisedPercent: -124_905 }, 'rounded down')
  assert.deepEqual(marginOf('seat'), { targetPercent: 70 }, 'nothing was sold yet')
  assert.deepEqual(marginOf('euro'), { targetPercent: 50, realisedPercent: 80 }, 'two euros are 2.50 dollars')
  assert.partialDeepStrictEqual(statuses.get('PricingTier/seat'), { derived: { perConversation: '0.30', perUser: '3.00' } })
})

test('a plan with sessions earns by the session: ten of the twenty expected at 0.14 leave 71 %', () => {
  const companion = tier(
    'companion',
    'pricing: { model: FlatPerUser, price: "12.00", period: { unit: Month } }',
    'targetGrossMarginPercent: 70, otherCost: "0.60", expectedConversationsPerUser: 20',
  )
  const realised = (totals: Partial<TierTotals>): number | undefined =>
    tiersOf(statusesOf(companion + budget('companion'), report({ companion: { spent: '1.40', ...totals } })))[0]?.margin.realisedPercent
  assert.equal(realised({ conversations: 1, sessions: 10 }), 71, '6.00 - 0.30 - 1.40 = 4.30')
  assert.equal(realised({ conversations: 4, sessions: 10 }), 71, 'however many conversations they belong to')
  assert.equal(realised({ conversations: 10 }), 71, 'a sidecar that does not tell sessions')
})

test('the margin is counted at the price of today, whatever a conversation was sold at, as docs/changes.md says', () => {
  const traffic = report({ chat: { conversations: 8, spent: '0.48' } })
  const realised = (manifests: string): number | undefined =>
    tiersOf(statusesOf(manifests + budget('chat'), traffic))[0]?.margin.realisedPercent
  assert.equal(realised(CHAT), 80, '3.20 - 0.16 - 0.48 = 2.56')
  assert.equal(realised(CHAT.replace('price: "0.40"', 'price: "0.80"')), 90, '6.40 - 0.16 - 0.48 = 5.76')
})

test('a tier priced per resolution shows the rate, what a resolution costs, may cost and is sold for, and what was lost', () => {
  const resolutions = { started: 9, assumed: 2, confirmed: 4, reversed: 1, cost: '2.50', costPer: '0.50', unresolvedCost: '0.75' }
  const statuses = statusesOf(
    OUTCOME + CHAT + budget('outcome', 'chat'),
    report({ outcome: { conversations: 9, spent: '7.77', resolutions }, chat: { conversations: 1, spent: '0.10' } }),
  )
  const status = partOf(statuses, 'ConversationBudget/support/desk')
  assert.partialDeepStrictEqual(status, { resolutions: { started: 9, assumed: 2, confirmed: 4, reversed: 1 } })
  const [outcome, chat] = tiersOf(statuses)
  assert.deepEqual(outcome?.resolutions, {
    started: 9,
    assumed: 2,
    confirmed: 4,
    reversed: 1,
    ratePercent: 55,
    costPer: '0.50',
    targetCostPer: '0.30',
    pricePer: '1.00',
    unresolvedCost: '0.75',
  })
  assert.deepEqual(outcome?.margin, { targetPercent: 60, realisedPercent: 40 }, 'of five: 5.00 - 0.50 - 2.50, unresolved ones included')
  assert.deepEqual(chat?.resolutions, { started: 0, confirmed: 0, reversed: 0 })
})

test('a tier shows its users: heavy ones and their share of the cost, candidates for another plan, cohorts by use', () => {
  const users = {
    active: 40,
    spent: '20.00',
    heavy: 2,
    heavySpent: '7.99',
    upgradeCandidates: 3,
    byUse: { '0-24': 30, '25-49': 7, '50-74': 0, '75-99': 2, '100': 1, '101': 5 },
  }
  const statuses = statusesOf(SEAT + budget('seat'), report({ seat: { conversations: 50, spent: '20.00', users } }))
  assert.deepEqual(tiersOf(statuses)[0]?.users, {
    active: 40,
    heavy: 2,
    heavySharePercent: 39,
    upgradeCandidates: 3,
    byUse: { '0-24': 30, '25-49': 7, '75-99': 2, '100': 1 },
  })
})

test('a tier that is refused has no realised margin; what is not here is left out', () => {
  const refused = CHAT.replace('otherCost: "0.02"', 'otherCost: "0.20"')
  const statuses = statusesOf(refused + budget('chat'), report({ chat: { conversations: 1, spent: '0.10' }, gone: { conversations: 1 } }))
  assert.partialDeepStrictEqual(statuses.get('PricingTier/chat'), { margin: { targetPercent: 65 } })
  assert.doesNotMatch(JSON.stringify(statuses.get('PricingTier/chat')), /realised/)
  assert.partialDeepStrictEqual(partOf(statuses, 'ConversationBudget/support/desk'), {
    conversations: { total: 2 },
    tiers: [
      { tier: 'chat', margin: { targetPercent: 65 } },
      { tier: 'gone', margin: {} },
    ],
  })
  const elsewhere = statusesOf(CHAT + budget('chat'), { ...report({ chat: { conversations: 1 } }), config: { budget: 'support/other' } })
  assert.deepEqual(Object.keys(partOf(elsewhere, 'ConversationBudget/support/desk')), ['config'])
})

test('a status stays below 16 KiB with more tiers, longer names, larger amounts and more thresholds than there can be', () => {
  const names = Array.from({ length: 64 }, (_, index) => `${'t'.repeat(250)}${index + 100}`)
  const amount = '12345678.123456789'
  const many = Number.MAX_SAFE_INTEGER / 100 - 1
  const totals: TierTotals = {
    conversations: Math.floor(many),
    turns: Math.floor(many),
    byRung: Object.fromEntries(
      ['None', 'DropRetrieval', 'Summarize', 'DowngradeModel', 'RefuseTools', 'EndConversation'].map((rung) => [rung, Math.floor(many)]),
    ),
    spent: amount,
    held: amount,
    cost: { p50: amount, p95: amount, p99: amount, max: amount },
    alerts: Object.fromEntries(Array.from({ length: 100 }, (_, index) => [index + 1, Math.floor(many)])),
    resolutions: {
      started: Math.floor(many),
      assumed: Math.floor(many),
      confirmed: Math.floor(many),
      reversed: 1,
      costPer: amount,
      unresolvedCost: amount,
    },
    users: {
      active: Math.floor(many),
      spent: amount,
      heavy: Math.floor(many),
      heavySpent: amount,
      upgradeCandidates: Math.floor(many),
      byUse: Object.fromEntries(USE_BANDS.map((band) => [band, Math.floor(many)])),
    },
  }
  const statuses = statusesOf(CHAT + budget('chat'), report(Object.fromEntries(names.map((name) => [name, totals]))))
  const longest = { type: 'Programmed', status: 'False', reason: 'R'.repeat(64), message: 'm'.repeat(1024), lastTransitionTime: '' }
  const status = JSON.stringify({ ...statuses.get('ConversationBudget/support/desk'), conditions: [longest, longest, longest] })
  assert.ok(Buffer.byteLength(status) <= STATUS_BYTES_MAX, `${Buffer.byteLength(status)} bytes`)
  assert.match(status, /"100":/)
})
