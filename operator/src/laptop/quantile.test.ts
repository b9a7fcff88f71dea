import assert from 'node:assert/strict'
import { test } from 'node:test'
import { quantile } from './quantile.ts'

test('the nearest rank is a value that was seen, in numeric order', () => {
  const values = [100n, 9n, 20n, 3n]
  assert.equal(quantile(values, 50), 9n)
  assert.equal(quantile(values, 51), 20n)
  assert.equal(quantile(values, 95), 100n)
  assert.equal(quantile(values, 0), 3n)
  assert.equal(quantile([7n], 50), 7n)
  assert.equal(quantile([], 50), null)
})

test('at least the percent lie at or below it, and fewer below', () => {
  const values = Array.from({ length: 101 }, (_, index) => BigInt((index * 37) % 101))
  for (let percent = 1; percent <= 100; percent++) {
    const found = quantile(values, percent)
    assert.ok(found !== null)
    assert.ok(values.filter((value) => value <= found).length * 100 >= percent * values.length)
    assert.ok(values.filter((value) => value < found).length * 100 < percent * values.length)
  }
})
