import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseDuration } from './duration.ts'

test('hours, minutes and seconds add up', () => {
  assert.equal(parseDuration('20m'), 1_200_000)
  assert.equal(parseDuration('24h'), 86_400_000)
  assert.equal(parseDuration('1h30m'), 5_400_000)
  assert.equal(parseDuration('1h0m1s'), 3_601_000)
  assert.equal(parseDuration('90s'), 90_000)
  assert.equal(parseDuration('0s'), 0)
})

test('what Go would read otherwise, or not at all, is refused', () => {
  for (const text of ['', '20', '1.5h', '-1h', '1d', '1h 30m', '30m1h', '500ms', '1H', 'h', '100000h', '1h\n'])
    assert.throws(() => parseDuration(text), { name: 'RangeError', message: /must be a duration such as "20m" or "24h"/ }, text)
})

test('every whole duration is read as what it says', () => {
  fc.assert(
    fc.property(fc.nat(99_999), fc.nat(99_999), fc.nat(99_999), (hours, minutes, seconds) => {
      assert.equal(parseDuration(`${hours}h${minutes}m${seconds}s`), ((hours * 60 + minutes) * 60 + seconds) * 1_000)
    }),
  )
})
