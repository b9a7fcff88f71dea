import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Counter, Histogram, Registry } from 'prom-client'
import { PRICE_ORIGINS } from '@farebox/crds/prices.ts'
import { METERED_KINDS } from '@farebox/crds/usage.ts'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { CounterFamily, HistogramFamily, Metrics, outcomeOfStatus } from './metrics.ts'

const BUCKETS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84]
/** Labels whose values are words of the config, rungs of the ladder or codes of docs/errors.md. */
const OF_OTHER_PAGES: readonly string[] = ['tier', 'model', 'upstream', 'percent', 'rung', 'code']

test('counters and histograms read as those of prom-client do, however often they are read', async () => {
  const observation = fc.tuple(fc.constantFrom('a', 'b', 'c "quoted"'), fc.double({ min: 0, max: 400, noNaN: true }))
  await fc.assert(
    fc.asyncProperty(fc.array(observation, { maxLength: 30 }), async (observations) => {
      const [ours, theirs] = [new Registry(), new Registry()]
      const spec = { name: 'x_total', help: 'Things', labels: ['tier', 'end'] as const, registry: ours }
      const counter = new CounterFamily(spec)
      const histogram = new HistogramFamily({ ...spec, name: 'x_seconds', labels: ['tier'] as const })
      const known = new Counter({ name: 'x_total', help: 'Things', labelNames: ['tier', 'end'], registers: [theirs] })
      const seconds = new Histogram({ name: 'x_seconds', help: 'Things', labelNames: ['tier'], buckets: BUCKETS, registers: [theirs] })
      for (const [tier, value] of observations) {
        if (value > 0) known.inc({ tier, end: 'done' }, value)
        counter.add([tier, 'done'], value)
        seconds.observe({ tier }, value)
        histogram.observe([tier], value)
      }
      const expected = await theirs.metrics()
      assert.equal(await ours.metrics(), expected)
      assert.equal(await ours.metrics(), expected)
    }),
    { numRuns: 50 },
  )
})

test('series are bounded: past two thousand label sets, new ones are counted as other', async () => {
  const registry = new Registry()
  const counter = new CounterFamily({ name: 'x_total', help: 'Things', labels: ['model'], registry })
  for (let index = 0; index < 2_500; index++) counter.add([`m${index}`])
  const lines = (await registry.metrics()).split('\n').filter((line) => line.startsWith('x_total{'))
  assert.ok(lines.length <= 2_001)
  assert.ok(lines.includes('x_total{model="other"} 500'))
})

test('rare things are there at 0 before they happen, what a config names from when it comes in force', async () => {
  const metrics = new Metrics()
  const config = makeConfig('http://127.0.0.1:1/v1', [makeContract({ tier: 'basic', alerts: [70, 100] })])
  const ofConfig = [
    'farebox_turns_total{tier="basic",outcome="charge"} 0',
    'farebox_alerts_total{tier="basic",percent="100"} 0',
    `farebox_provider_calls_total{upstream="${config.upstreams[0]?.name}",outcome="429"} 0`,
  ]
  const before = (await metrics.render()).split('\n')
  for (const line of [
    'farebox_refusals_total{code="internal_error"} 0',
    'farebox_config_changes_total{outcome="rejected"} 0',
    'farebox_partial_settlements_total{source="estimated"} 0',
    'farebox_doubtful_usages_total{doubt="invalid"} 0',
    'farebox_money_waits_total{outcome="timeout"} 0',
    'farebox_observed_refusals_total{code="conversation_budget_exhausted",cap="workload"} 0',
    'farebox_delivery_reports_total{outcome="failed"} 0',
    'farebox_turns_total{tier="none",outcome="ungoverned"} 0',
    'farebox_overruns_total 0',
    'farebox_expired_holds_total 0',
    'farebox_expired_holds_usd_total 0',
    'farebox_uncharged_holds_total 0',
    'farebox_store_dropped_steps_total 0',
  ])
    assert.ok(before.includes(line), line)
  for (const line of ofConfig) assert.ok(!before.includes(line), line)
  metrics.alerts.add(['basic', '100'])
  metrics.follow(config)
  metrics.follow(config)
  const after = (await metrics.render()).split('\n')
  assert.ok(after.includes('farebox_alerts_total{tier="basic",percent="100"} 1'), 'what was counted stays')
  for (const line of [
    ...ofConfig.filter((each) => !each.startsWith('farebox_alerts')),
    'farebox_alerts_total{tier="basic",percent="70"} 0',
  ])
    assert.ok(after.includes(line), line)
})

test('each counter of the page whose labels are no models is there from the start', async () => {
  const page = readFileSync(new URL('../../../docs/metrics.md', import.meta.url), 'utf8').split('\n## Of the operator')[0] ?? ''
  const counters = [...page.matchAll(/^\| `(\w+)` \| counter \| .* \|([^|]*)\|$/gm)].filter(
    ([, , labels = '']) => !labels.includes('`model`'),
  )
  assert.ok(counters.length > 25, `${counters.length} counters`)
  const metrics = new Metrics()
  metrics.watchStore(() => ({ state: 'Ready', reason: null, sinceMs: 0, unsent: 0, outages: 0, replayed: 0 }))
  metrics.watchDelivery(() => ({ isConnected: true, reconnects: 0, staleMs: 0, clockSkewMs: 0, bypass: { looks: 0, found: 0 } }))
  metrics.follow(makeConfig('http://127.0.0.1:1/v1', [makeContract({ tier: 'basic' })]))
  const lines = (await metrics.render()).split('\n')
  for (const [, name = ''] of counters)
    assert.ok(
      lines.some((line) => line.startsWith(`${name}{`) || line === `${name} 0`),
      name,
    )
  for (const line of [
    'farebox_summaries_total{tier="basic",outcome="failed"} 0',
    'farebox_memory_entries_total{tier="basic",outcome="failed"} 0',
    'farebox_resets_skipped_total{tier="basic",why="budget",reason="noUserBudget"} 0',
    'farebox_rung_skipped_total{rung="DowngradeModel",reason="refused"} 0',
    'farebox_rung_transitions_total{tier="basic",rung="EndConversation",reason="fit"} 0',
  ])
    assert.ok(lines.includes(line), line)
})

test('the row of a counter on the page says each value that a label of ours may have', async () => {
  const page = readFileSync(new URL('../../../docs/metrics.md', import.meta.url), 'utf8').split('\n## Of the operator')[0] ?? ''
  const rows = new Map([...page.matchAll(/^\| `(\w+)` \| .*$/gm)].map(([row, name = '']) => [name, row]))
  const metrics = new Metrics()
  metrics.follow(makeConfig('http://127.0.0.1:1/v1', [makeContract({ tier: 'basic' })]))
  // What is told by model is there from the first call on.
  for (const kind of METERED_KINDS) metrics.tokens.begin(['m', kind])
  for (const origin of PRICE_ORIGINS) metrics.modelCost.begin(['m', origin])
  const told = [...(await metrics.render()).matchAll(/^(farebox_\w+_total)\{([^}]*)\} 0$/gm)].flatMap(([, name = '', labels = '']) =>
    [...labels.matchAll(/(\w+)="([^"]*)"/g)].flatMap(([, label = '', value = '']) =>
      OF_OTHER_PAGES.includes(label) ? [] : [{ name, label, value }],
    ),
  )
  const labels = new Set(told.map(({ name, label }) => `${name} ${label}`))
  assert.ok(labels.size > 15, `${labels.size} labels`)
  for (const { name, label, value } of told) assert.ok(rows.get(name)?.includes(`\`${value}\``), `${name}: ${label}="${value}"`)
})

test('answers of providers are told apart by whose matter they are', () => {
  const outcomes = [200, 201, 304, 400, 401, 402, 403, 404, 429, 499, 500, 529, 599].map(outcomeOfStatus)
  assert.deepEqual(outcomes, ['2xx', '2xx', '3xx', '4xx', '401', '402', '403', '404', '429', '4xx', '5xx', '5xx', '5xx'])
})

test('the limits of the workload are told by budget and period, a bounded number of them', async () => {
  const metrics = new Metrics()
  const use = { amount: '50.00', since: '2026-11-01', spent: '12.40', held: '0.10' }
  metrics.watchLimits(() => Array.from({ length: 40 }, (_, day) => ({ budget: 'shop/desk', period: `Month UTC from ${day + 1}`, use })))
  const lines = (await metrics.render()).split('\n').filter((line) => line.startsWith('farebox_limit_'))
  assert.equal(lines.length, 2 * 16)
  assert.ok(lines.includes('farebox_limit_usd{budget="shop/desk",period="Month UTC from 1"} 50'))
  assert.ok(lines.includes('farebox_limit_spent_usd{budget="shop/desk",period="Month UTC from 16"} 12.4'))
})
