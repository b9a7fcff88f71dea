import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadAll } from 'js-yaml'
import { loadManifests } from '../laptop/loaded-manifests.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { objectLines, statusYaml, trafficLines } from './status-report.ts'
import { widthOf } from './table.ts'

const MANIFESTS = `apiVersion: farebox.dev/v1alpha1
kind: PricingTier
metadata: { name: pro }
spec:
  displayName: Pro
  pricing: { model: FlatPerUser, price: "19.00", period: { unit: Month } }
  unitEconomics: { targetGrossMarginPercent: 70, otherCost: "2.70", expectedConversationsPerUser: 6 }
---
apiVersion: farebox.dev/v1alpha1
kind: ConversationBudget
metadata: { name: desk, namespace: support }
spec:
  selector: { matchLabels: { app: desk } }
  tier: { default: gone }
`

function statuses() {
  const result = loadManifests([{ path: 'all.yaml', text: MANIFESTS }], { nowMs: 0 })
  assert.equal(result.status, 'loaded')
  return result.loaded.compiled.statuses
}

test('status is the YAML that kubectl would show, an object a document, with the derived numbers', () => {
  const documents = loadAll(statusYaml(statuses())) as {
    kind: string
    metadata: object
    status: { observedGeneration: number; derived?: object }
  }[]
  assert.deepEqual(
    documents.map(({ kind, metadata }) => [kind, metadata]),
    [
      ['PricingTier', { name: 'pro' }],
      ['ConversationBudget', { name: 'desk', namespace: 'support' }],
    ],
  )
  assert.partialDeepStrictEqual(documents[0]?.status, { observedGeneration: 1, derived: { perConversation: '0.50', perUser: '3.00' } })
})

test('a line for each object says whether it is in force, and why not', () => {
  const [, tier, budget] = objectLines(statuses(), new Map([['PricingTier/pro', 'EUR']]))
  assert.match(tier ?? '', /^PricingTier\/pro +True +Ready +0\.50 EUR +3\.00 EUR$/)
  assert.match(budget ?? '', /^ConversationBudget\/support\/desk +False +TierNotFound$/)
})

const TRAFFIC: SidecarStatus = {
  config: { budget: 'desk', mode: 'Enforce', version: 1, hash: '0123456789abcdef' },
  rejected: null,
  callsInFlight: 0,
  store: { kind: 'Embedded', state: 'Ready', reason: null, since: '2026-11-24T12:00:00.000Z', unsent: 0 },
  tiers: {
    pro: {
      conversations: 12,
      turns: 80,
      byRung: { EndConversation: 1, None: 9, Summarize: 2 },
      spent: '1.2345678',
      held: '0.01',
      cost: { p50: '0.05', p95: '0.4', p99: '0.5', max: '0.5' },
      alerts: { '100': 1, '70': 3, '90': 0 },
      resolutions: { started: 12, confirmed: 5, reversed: 1, costPer: '0.2469' },
    },
    idle: {
      conversations: 0,
      turns: 0,
      byRung: {},
      spent: '0.00',
      held: '0.00',
      cost: { p50: '0.00', p95: '0.00', p99: '0.00', max: '0.00' },
      alerts: {},
      resolutions: { started: 0, confirmed: 0, reversed: 0, costPer: null },
    },
  },
}

test('traffic counts the resolutions that stand, and says how many were taken back', () => {
  const { pro } = TRAFFIC.tiers
  assert.ok(pro !== undefined)
  const again = { started: 1, confirmed: 2, reversed: 1, costPer: '0.501' }
  const lines = trafficLines({ ...TRAFFIC, tiers: { pro: { ...pro, resolutions: again } } }).join('\n')
  assert.match(lines, /resolutions 1 of 1, 1 taken back; 0\.5010 USD for each resolution/)
})

test('traffic tells money, rungs in their order, alerts and resolutions of each tier that had any, and how much of the limits is used', () => {
  const lines = trafficLines(TRAFFIC)
  assert.match(lines[0] ?? '', /^TIER +CONVERSATIONS +TURNS +SPENT USD +HELD USD +P50 USD +P95 USD +P99 USD +MAX USD$/)
  assert.match(lines[1] ?? '', /^pro +12 +80 +1\.2346 +0\.0100 +0\.0500 +0\.4000 +0\.5000 +0\.5000$/)
  assert.deepEqual(lines.slice(3), [
    '',
    'pro: by rung None 9, Summarize 2, EndConversation 1; alerts 70 % 3, 100 % 1; resolutions 4 of 12, 1 taken back; 0.2469 USD for each resolution',
  ])
  const limits = { 'Month UTC from 15': { amount: '50.00', since: '2026-11-15', spent: '12.40', held: '0.10' } }
  assert.deepEqual(trafficLines({ ...TRAFFIC, limits }).slice(5), [
    'limit of 50.0000 USD each Month UTC from 15: 12.4000 spent since 2026-11-15, 0.1000 held, 24 %',
  ])
  for (const line of trafficLines({ ...TRAFFIC, limits }, 80)) assert.ok(widthOf(line) <= 80, line)
})
