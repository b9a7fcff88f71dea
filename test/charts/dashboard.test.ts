/** The dashboard of the chart: it asks for what there is, and nothing of it covers another. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { load } from 'js-yaml'
import { CHARTS, helmOrNull, nameOf, objectsOf, render } from './helm.ts'
import { listedMetrics } from './listed-metrics.ts'
import { readQuery } from './promql.ts'

const program = await helmOrNull(4)
const options = program === null ? { skip: 'helm is missing' } : {}

interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets?: readonly { readonly refId: string; readonly expr: string; readonly legendFormat?: string }[]
}

interface Dashboard {
  readonly uid: string
  readonly templating: { readonly list: readonly { readonly name: string }[] }
  readonly panels: readonly Panel[]
}

const source = load(readFileSync(`${CHARTS}farebox/dashboard.yaml`, 'utf8')) as Dashboard
const { panels } = source
const asked = panels.flatMap(({ title, targets = [] }) => targets.map((target) => ({ title, ...target })))

/** What Prometheus prefixes of what every process tells, which the page of metrics names as a whole. */
const PROCESS_METRICS = new Set(['farebox_process_resident_memory_bytes'])
/** As Grafana fills in a query before Prometheus reads it. */
const filled = (expr: string): string => expr.replaceAll('$namespace', '.*').replaceAll('$__rate_interval', '5m')

test('each query is one, of metrics and labels that are listed, and its legend names labels that it keeps', () => {
  const listed = listedMetrics()
  for (const { title, expr, legendFormat = '' } of asked) {
    const { selectors, groupedBy, keeps } = readQuery(filled(expr))
    assert.notEqual(selectors.length, 0, title)
    for (const { metric, matchers } of selectors) {
      const labels = PROCESS_METRICS.has(metric) ? [] : listed.get(metric)
      assert.ok(labels !== undefined, `${title}: ${metric}`)
      const known = ['namespace', ...labels]
      for (const { label } of matchers) assert.ok(known.includes(label), `${title}: ${metric}{${label}}`)
      for (const label of groupedBy) assert.ok(known.includes(label), `${title}: ${metric} by ${label}`)
    }
    for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) assert.ok(keeps.includes(label), `${title}: ${label}`)
  }
})

test('what sidecars tell is of the namespaces that are chosen, and what tells the same of many is not added up', () => {
  for (const { title, expr } of asked) {
    for (const { metric, matchers } of readQuery(filled(expr)).selectors) {
      const isChosen = matchers.some(({ label }) => label === 'namespace')
      assert.equal(isChosen, !metric.startsWith('farebox_operator_'), `${title}: ${metric}`)
      if (/^farebox_(users|heavy_users|resolution)/.test(metric)) assert.match(expr, /\bmax by \(namespace, tier\b/, title)
    }
  }
})

test('panels have places of their own within the 24 columns, and ids of their own', () => {
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
  const taken = new Map<string, string>()
  for (const { title, gridPos } of panels) {
    assert.ok(gridPos.x + gridPos.w <= 24, title)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        assert.equal(taken.get(`${x} ${y}`), undefined, title)
        taken.set(`${x} ${y}`, title)
      }
    }
  }
})

test('variables of queries are variables of the dashboard, or of Grafana', () => {
  const names = new Set(source.templating.list.map(({ name }) => name))
  for (const [, name = ''] of JSON.stringify(panels).matchAll(/[$][{]?(\w+)/g)) assert.ok(name.startsWith('__') || names.has(name), name)
})

test('it comes when it is asked for, as Grafana reads it, with the labels by which it is found', options, () => {
  const dashboards = (set: readonly string[]) =>
    objectsOf(render(program ?? '', set)).filter((object) => nameOf(object) === 'ConfigMap/farebox-dashboard')
  assert.deepEqual(dashboards([]), [])
  const [found] = dashboards(['--set', 'metrics.dashboard.enabled=true', '--set', 'metrics.dashboard.annotations.grafana_folder=AI'])
  assert.equal(found?.metadata.labels?.['grafana_dashboard'], '1')
  assert.deepEqual(found?.metadata.annotations, { grafana_folder: 'AI' })
  const { data } = found as unknown as { readonly data: Readonly<Record<string, string>> }
  assert.deepEqual(JSON.parse(data['farebox.json'] ?? ''), source)
})
