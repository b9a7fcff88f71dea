import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Metrics } from './metrics.ts'

test('docs/metrics.md lists each metric of the operator, with its labels, and no other', async () => {
  const metrics = new Metrics(() => ({
    isLeader: true,
    isReady: false,
    streams: 3,
    reports: 2,
    queued: 0,
    statusesWaiting: 1,
    isStoreConnected: true,
    certificateExpiresAtMs: 1_700_000_000_000,
    watchAgesMs: new Map([['pods', 1_500]]),
    spentToday: () => new Map([['pro', 1.25]]),
    counts: () => ({
      conditions: [
        { kind: 'ConversationBudget', type: 'Ready', status: 'True', reason: 'Ready', objects: 4 },
        { kind: 'ConversationBudget', type: 'Ready', status: 'False', reason: 'Bypassed', objects: 1 },
        { kind: 'ConversationBudget', type: 'Ready', status: 'False', reason: 'Invalid', objects: 2 },
        { kind: 'PricingTier', type: 'Ready', status: 'False', reason: 'MarginLeavesNothing', objects: 8 },
      ],
      pods: new Map([['stale', 5]]),
      podsWithoutSidecar: new Map([['Missed', 6]]),
    }),
  }))
  const docs = readFileSync(new URL('../../../docs/metrics.md', import.meta.url), 'utf8')
  const rows = [...docs.matchAll(/^\| `(farebox_operator_\w+)` \| (\w+) \| .* \|([^|]*)\|$/gm)]
  const listed = rows.map(([, name, type, labels = '']) => [name, type, ...(labels.match(/\w+/g) ?? []).toSorted()].join(' '))
  const labelsOf = new Map(metrics.registry.getMetricsAsArray().map((metric) => [metric.name, labelNames(metric)]))
  const known = (await metrics.registry.getMetricsAsJSON())
    .filter(({ name }) => !/^farebox_operator_(process|nodejs)_/.test(name))
    .map(({ name, type }) => [name, String(type), ...(labelsOf.get(name) ?? []).toSorted()].join(' '))
  assert.deepEqual(listed.toSorted(), known.toSorted())
  const text = await metrics.render()
  assert.match(text, /^farebox_operator_leader 1$/m)
  assert.match(text, /^farebox_operator_watch_age_seconds\{resource="pods"\} 1\.5$/m)
  assert.match(text, /^farebox_operator_spent_today_usd\{tier="pro"\} 1\.25$/m)
  assert.match(text, /^farebox_operator_store_connected 1$/m)
  assert.match(text, /^farebox_operator_certificate_expiry_timestamp_seconds 1700000000$/m)
  assert.match(text, /^farebox_operator_budgets\{ready="True"\} 4$/m)
  assert.match(text, /^farebox_operator_budgets\{ready="False"\} 3$/m)
  assert.match(text, /^farebox_operator_conditions\{kind="PricingTier",type="Ready",status="False",reason="MarginLeavesNothing"\} 8$/m)
  assert.match(text, /^farebox_operator_pods\{state="stale"\} 5$/m)
  assert.match(text, /^farebox_operator_pods_without_sidecar\{reason="Missed"\} 6$/m)
})

test('what happens seldom is there before it happens: the first time is an increase', async () => {
  const metrics = new Metrics(() => assert.fail('nobody looks at gauges'))
  metrics.expectTroubleWith(['pods'])
  const seriesOf = async (name: string): Promise<readonly string[]> => {
    const { values } = (await metrics.registry.getSingleMetric(name)?.get()) ?? assert.fail(name)
    return values.map(({ labels, value }) => `${Object.values(labels).join()} ${value}`)
  }
  assert.deepEqual(await seriesOf('farebox_operator_configs_total'), ['written 0', 'reverted 0', 'failed 0'])
  assert.deepEqual(await seriesOf('farebox_operator_statuses_total'), ['written 0', 'failed 0'])
  assert.ok((await seriesOf('farebox_operator_delivery_total')).includes('schemaUnsupported 0'))
  assert.ok((await seriesOf('farebox_operator_skipped_pods_total')).includes('UserOwnsContainer 0'))
  assert.ok((await seriesOf('farebox_operator_watch_trouble_total')).includes('pods,Parse 0'))
})

/** The library's type does not tell them. */
function labelNames(metric: object): readonly string[] {
  assert.ok('labelNames' in metric && Array.isArray(metric.labelNames))
  return metric.labelNames.map(String)
}
