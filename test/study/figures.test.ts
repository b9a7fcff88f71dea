import assert from 'node:assert/strict'
import { test } from 'node:test'
import { savedPercent, sharePercent, spread } from './figures.ts'

test('what is saved is a share of the base, and below zero where it costs more', () => {
  assert.equal(savedPercent(200n, 50n), 75)
  assert.equal(savedPercent(200n, 250n), -25)
  assert.equal(savedPercent(3n, 2n), 33.334)
  assert.equal(savedPercent(0n, 5n), 0)
  assert.deepEqual([sharePercent(1, 4), sharePercent(1, 0)], [25, 0])
})

test('a spread is by nearest rank', () => {
  const hundred = Array.from({ length: 100 }, (_, index) => 100 - index)
  assert.deepEqual(spread(hundred), { p10: 10, p50: 50, p90: 90 })
  assert.deepEqual(spread([7]), { p10: 7, p50: 7, p90: 7 })
  assert.deepEqual(spread([]), { p10: 0, p50: 0, p90: 0 })
})
