import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { AMOUNT_MAX } from './budget.ts'
import { bucketOf, costQuantile, costsIn, countOf } from './cost-buckets.ts'
import type { CostCounts } from './cost-buckets.ts'

const cost = fc.oneof(fc.bigInt(0n, 5_000n), fc.bigInt(0n, AMOUNT_MAX))

test('each cost is in its bucket, and buckets follow one another without a gap', () => {
  assert.deepEqual([0n, 7n, 15n, 16n, 17n, 18n, 31n, 32n].map(bucketOf), [0, 7, 15, 16, 16, 17, 23, 24])
  for (let bucket = 0; bucket < bucketOf(AMOUNT_MAX); bucket++) {
    const { least, most } = costsIn(bucket)
    assert.deepEqual([bucketOf(least), bucketOf(most), bucketOf(most + 1n)], [bucket, bucket, bucket + 1])
  }
  assert.equal(bucketOf(AMOUNT_MAX), 407)
  assert.equal(bucketOf(-5n), 0)
})

test('the most of a bucket is less than 12.5 % above any cost in it', () => {
  fc.assert(
    fc.property(cost, (exact) => {
      const { least, most } = costsIn(bucketOf(exact))
      assert.ok(least <= exact && exact <= most)
      assert.ok((most - exact) * 8n < exact || most === exact)
    }),
  )
})

test('a quantile is never below the exact one, and less than 12.5 % above it', () => {
  fc.assert(
    fc.property(fc.array(cost, { minLength: 1, maxLength: 60 }), fc.integer({ min: 1, max: 100 }), (costs, percent) => {
      const sorted = costs.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0))
      const exact = sorted[Math.max(1, Math.ceil((sorted.length * percent) / 100)) - 1] ?? 0n
      const told = costQuantile(counted(costs), percent)
      assert.ok(told >= exact && (told - exact) * 8n <= exact, `${told} of ${exact}`)
    }),
  )
  assert.equal(costQuantile(new Map(), 50), 0n)
  assert.equal(countOf(counted([1n, 1n, 900n])), 3)
})

function counted(costs: readonly bigint[]): CostCounts {
  const counts = new Map<number, number>()
  for (const one of costs) counts.set(bucketOf(one), (counts.get(bucketOf(one)) ?? 0) + 1)
  return counts
}
