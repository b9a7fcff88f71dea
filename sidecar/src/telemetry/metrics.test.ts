import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Counter, Histogram, Registry } from 'prom-client'
import { CounterFamily, HistogramFamily } from './metrics.ts'

const BUCKETS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84]

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
