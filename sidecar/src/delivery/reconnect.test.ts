import assert from 'node:assert/strict'
import { test } from 'node:test'
import { reconnectWaitMs } from './reconnect.ts'

test('after a goodbye the wait is spread over the time that was named, after a loss over 15 seconds', () => {
  assert.deepEqual(
    [0, 0.5, 0.999].map((random) => reconnectWaitMs({ kind: 'goodbye', withinMs: 8_000 }, 0, random)),
    [0, 4_000, 7_992],
  )
  assert.deepEqual(
    [0, 0.999].map((random) => reconnectWaitMs({ kind: 'lost', reason: '' }, 0, random)),
    [0, 14_985],
  )
})

test('attempts that fail come less often, at most every 30 seconds, and no sooner than asked', () => {
  const waits = (waitMs: number | null, random: number): number[] =>
    [1, 2, 3, 6, 60].map((failures) => reconnectWaitMs({ kind: 'refused', reason: '', waitMs }, failures, random))
  assert.deepEqual(waits(null, 0), [500, 1_000, 2_000, 15_000, 15_000])
  assert.deepEqual(waits(null, 1), [1_000, 2_000, 4_000, 30_000, 30_000])
  assert.deepEqual(waits(12_000, 1), [12_000, 12_000, 12_000, 30_000, 30_000])
  assert.deepEqual(waits(1e9, 1), [30_000, 30_000, 30_000, 30_000, 30_000])
})
