import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { StoreClock } from './store-clock.ts'

describe("the store's clock", () => {
  test('follows the wall clock, and goes on at the same pace where that is set back', () => {
    let wallMs = 1_000
    const clock = new StoreClock(() => wallMs)
    wallMs = 5_000
    assert.equal(clock.now(), 5_000)
    wallMs = 2_000
    assert.equal(clock.now(), 5_000)
    wallMs = 2_300
    assert.deepEqual([clock.now(), clock.at(2_400)], [5_300, 5_400])
  })

  test('is not before what it showed in an earlier run', () => {
    let wallMs = 1_000
    const clock = new StoreClock(() => wallMs, 9_000)
    wallMs = 1_010
    assert.equal(clock.now(), 9_010)
  })

  test('counts a jump of the wall once, though others showed it before', () => {
    let [wallMs, paceMs] = [1_000, 0]
    const clock = new StoreClock(
      () => wallMs,
      0,
      () => paceMs,
    )
    clock.raise(121_000)
    paceMs += 10
    assert.equal(clock.now(), 121_010)
    wallMs += 120_015
    paceMs += 5
    assert.equal(clock.now(), 121_015)
    wallMs += 1_000
    assert.equal(clock.now(), 122_015, 'a jump beyond where it is')
  })

  test('goes on while the wall stands still, by what tells the pace', () => {
    let paceMs = 0
    const clock = new StoreClock(
      () => 1_000,
      0,
      () => paceMs,
    )
    clock.raise(4_000)
    paceMs += 2.5
    assert.equal(clock.now(), 4_002)
    paceMs += 2.5
    assert.equal(clock.now(), 4_005)
    assert.equal(clock.at(1_100), 4_105)
  })
})
