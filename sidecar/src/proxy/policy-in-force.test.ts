import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import { makeConfig } from '../../../test/support/make.ts'
import { ConfigInForce } from '../config/in-force.ts'
import { readConfig } from '../config/watch.ts'
import type { Log } from '../telemetry/log.ts'
import { Metrics } from '../telemetry/metrics.ts'
import { PolicyInForce } from './policy-in-force.ts'

function offered(...texts: readonly string[]): readonly { readonly fields: readonly string[]; readonly count: number }[] {
  const warned: { readonly fields: readonly string[]; readonly count: number }[] = []
  const log = { info: () => undefined, warn: (line: (typeof warned)[number]) => warned.push(line) } as unknown as Log
  const policy = new PolicyInForce({ catalogue: loadCatalogue(), metrics: new Metrics(), log })
  const accepted = policy.accept.bind(policy)
  const config = new ConfigInForce({ accepted, rejected: ({ reason }) => assert.fail(reason) }, { hasOperator: false })
  for (const text of texts) {
    const reading = readConfig(text)
    assert.ok(reading.status === 'ok')
    config.offer(reading, 'mount')
  }
  return warned
}

test('fields of a config that are of a later version are told once for each config, by their paths', () => {
  const config = makeConfig('http://127.0.0.1:1/v1')
  const later = JSON.stringify({ ...config, version: 2, fieldOfLater: { deep: true }, ungovernedPaths: [] })
  const warned = offered(JSON.stringify({ ...config, version: 1 }), later, later)
  assert.deepEqual(
    warned.map(({ fields, count }) => ({ fields, count })),
    [{ fields: ['fieldOfLater', 'ungovernedPaths'], count: 2 }],
  )
})

test('of very many such fields some are named, and how many there are', () => {
  const more = Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`later${index}`, index]))
  const [{ fields, count } = { fields: [], count: 0 }] = offered(JSON.stringify({ ...makeConfig('http://127.0.0.1:1/v1'), ...more }))
  assert.deepEqual([fields.length, count], [16, 1_000])
})
