/** The alerts and the monitors of the chart: they go by what there is. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ERRORS } from '@farebox/sidecar/errors.ts'
import { load } from 'js-yaml'
import { CHARTS, helmOrNull, nameOf, objectsOf, render, ROOT } from './helm.ts'
import { listedMetrics, METRICS_PAGE } from './listed-metrics.ts'
import { readQuery } from './promql.ts'

const program = await helmOrNull(4)
const options = program === null ? { skip: 'helm is missing' } : {}

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly for: string
  readonly labels: { readonly severity: string }
  readonly annotations: { readonly summary: string; readonly description: string }
}

const path = `${CHARTS}farebox/alerts.yaml`
const { groups } = load(readFileSync(path, 'utf8')) as { readonly groups: readonly { readonly rules: readonly Rule[] }[] }
const rules = groups.flatMap((group) => group.rules)

test('each metric that an alert goes by is listed, and so are the labels that it asks for', () => {
  const listed = listedMetrics()
  for (const { alert, expr } of rules) {
    const { selectors, groupedBy } = readQuery(expr)
    assert.notEqual(selectors.length, 0, alert)
    for (const { metric, matchers } of selectors) {
      const labels = listed.get(metric)
      assert.ok(labels !== undefined, `${alert}: ${metric}`)
      for (const { label } of matchers) assert.ok(labels.includes(label), `${alert}: ${metric}{${label}}`)
    }
    // What it is summed by: its own, or the target's.
    const own = new Set(selectors.flatMap(({ metric }) => listed.get(metric) ?? []))
    for (const label of groupedBy) assert.ok(label === 'namespace' || own.has(label), `${alert}: by ${label}`)
  }
})

test('each word that an alert asks for is one that there is', () => {
  const conditions = readFileSync(`${ROOT}docs/conditions.md`, 'utf8')
  for (const { alert, expr } of rules) {
    for (const { label, value } of readQuery(expr).selectors.flatMap(({ matchers }) => matchers)) {
      for (const word of value.split('|')) {
        const isThere =
          label === 'type'
            ? conditions.includes(`\n## ${word}:`)
            : label === 'code'
              ? Object.hasOwn(ERRORS, word)
              : label === 'reason'
                ? conditions.includes(`\`${word}\``)
                : ['True', 'False', 'failed'].includes(word) || METRICS_PAGE.includes(`\`${word}\``)
        assert.ok(isThere, `${alert}: ${label} ${word}`)
      }
    }
  }
})

test('each alert says how long, how bad and what it means, by labels that it has', () => {
  assert.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length)
  for (const { alert, expr, for: lasting, labels, annotations } of rules) {
    assert.match(lasting, /^\d+[mh]$/, alert)
    assert.match(labels.severity, /^(warning|critical)$/, alert)
    const by = readQuery(expr).keeps
    for (const text of [annotations.summary, annotations.description]) {
      assert.match(text, /[.]$/, alert)
      for (const [, label = ''] of text.matchAll(/\$labels[.](\w+)/g)) assert.ok(by.includes(label), `${alert}: ${label}`)
    }
  }
})

test('the page of operations lists each alert, in the order of the file', () => {
  const [, ofAlerts = ''] = readFileSync(`${ROOT}docs/operations.md`, 'utf8').split('\n## Alerts\n')
  const [section = ''] = ofAlerts.split('\n## ')
  const listed = [...section.matchAll(/^\| `(Farebox\w+)` \|/gm)].map(([, alert]) => alert)
  assert.deepEqual(
    listed,
    rules.map(({ alert }) => alert),
  )
})

test('the page of conditions lists the alerts that go by them', () => {
  const page = readFileSync(`${ROOT}docs/conditions.md`, 'utf8')
  const listed = [...page.matchAll(/^\| `(Farebox\w+)` \|/gm)].map(([, alert]) => alert)
  const going = rules.filter(({ expr }) => /farebox_operator_(conditions|pods)\b/.test(expr)).map(({ alert }) => alert)
  assert.deepEqual(listed, going)
})

test('monitors and alerts come when they are asked for, each by itself', options, () => {
  const kindsWith = (...set: readonly string[]): readonly string[] =>
    objectsOf(
      render(
        program ?? '',
        set.flatMap((one) => ['--set', `metrics.${one}.enabled=true`]),
      ),
    )
      .filter(({ apiVersion }) => apiVersion.startsWith('monitoring.'))
      .map(nameOf)
  assert.deepEqual(kindsWith(), [])
  assert.deepEqual(kindsWith('serviceMonitor'), ['ServiceMonitor/farebox-operator'])
  assert.deepEqual(kindsWith('podMonitor'), ['PodMonitor/farebox-sidecar'])
  assert.deepEqual(kindsWith('prometheusRule'), ['PrometheusRule/farebox'])
})

test('the monitor of sidecars asks for the port that they have, and the rule is the file as it is', options, () => {
  const objects = objectsOf(render(program ?? '', ['--set', 'metrics.podMonitor.enabled=true,metrics.prometheusRule.enabled=true']))
  const specOf = (name: string): unknown => objects.find((object) => nameOf(object) === name)?.['spec']
  const { podMetricsEndpoints } = specOf('PodMonitor/farebox-sidecar') as {
    readonly podMetricsEndpoints: readonly { readonly port: string }[]
  }
  const injection = readFileSync(`${ROOT}operator/src/core/injection.ts`, 'utf8')
  assert.deepEqual(
    podMetricsEndpoints.map(({ port }) => port),
    [...injection.matchAll(/ports: \[\{ name: '([^']+)'/g)].map(([, port]) => port),
  )
  assert.ok(METRICS_PAGE.includes(podMetricsEndpoints[0]?.port ?? assert.fail()))
  assert.deepEqual(specOf('PrometheusRule/farebox'), { groups })
})
