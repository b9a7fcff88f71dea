import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseUsd } from '@farebox/crds/usd.ts'
import { costPerResolution, isOverTarget, OUTCOMES_MIN, WINDOW_DAYS } from './outcomes.ts'
import type { DayOutcomes } from './outcomes.ts'

const TARGET = parseUsd('0.246') // 0.99 a resolution at 60 %, less 0.15
/** A day on which `started` conversations began, half of them were resolved, at this percent of the target. */
function day(percent: number, started = 100): DayOutcomes {
  const confirmed = started / 2
  return { confirmed, reversed: 0, started, cost: (TARGET * BigInt(confirmed) * BigInt(percent)) / 100n }
}
const days = (count: number, percent: number, started = 100): DayOutcomes[] => Array.from({ length: count }, () => day(percent, started))

test('cost per resolution is the cost of all conversations over those that stay resolved', () => {
  assert.equal(costPerResolution([{ confirmed: 3, reversed: 1, started: 10, cost: 100n }]), 50n)
  assert.equal(costPerResolution([day(100), day(100)]), TARGET)
  assert.equal(costPerResolution([{ confirmed: 1, reversed: 1, started: 10, cost: 100n }]), null)
  assert.equal(costPerResolution([]), null)
})

test('the ladder applies above 110 % of the target, not at it', () => {
  assert.equal(isOverTarget(days(1, 110), TARGET), false)
  assert.equal(isOverTarget(days(1, 111), TARGET), true)
  assert.equal(isOverTarget([], TARGET), false)
})

test('once it applies, it does until the cost is down to 95 %', () => {
  const then = (percent: number): boolean => isOverTarget([...days(WINDOW_DAYS, 120), ...days(WINDOW_DAYS, percent)], TARGET)
  assert.equal(then(105), true)
  assert.equal(then(96), true)
  assert.equal(then(95), false)
  assert.equal(isOverTarget(days(WINDOW_DAYS, 105), TARGET), false, 'between the two, what was before goes on')
})

test('the window is the last 28 days: what is older counts no more', () => {
  assert.equal(WINDOW_DAYS, 28)
  const rising = [...days(WINDOW_DAYS, 50), ...days(WINDOW_DAYS, 111)]
  assert.equal(isOverTarget(rising, TARGET), true)
  assert.equal(isOverTarget(rising.slice(0, -1), TARGET), false, 'one day of the cheap ones still counts')
})

test('fewer than 50 outcomes say nothing: what was before goes on', () => {
  assert.equal(OUTCOMES_MIN, 50)
  assert.equal(isOverTarget(days(1, 500, 98), TARGET), false)
  assert.equal(isOverTarget(days(1, 500, 100), TARGET), true, 'fifty were resolved')
  assert.equal(isOverTarget(days(25, 500, 2), TARGET), false, 'two of the fifty began today')
  assert.equal(isOverTarget(days(26, 500, 2), TARGET), true, 'fifty over several days')
  const quiet = { confirmed: 0, reversed: 0, started: 0, cost: 0n }
  assert.equal(isOverTarget([...days(1, 500), ...Array.from({ length: 60 }, () => quiet)], TARGET), true)
})

test('what began today has no outcome yet, unless it was resolved or that was taken back', () => {
  const begun = { confirmed: 0, reversed: 0, started: 100, cost: TARGET }
  assert.equal(isOverTarget([begun], TARGET), false)
  assert.equal(isOverTarget([{ ...begun, confirmed: 50, reversed: 50 }], TARGET), true)
  assert.equal(isOverTarget([{ ...begun, confirmed: 30, reversed: 30 }], TARGET), false, 'one conversation has one outcome')
})

test('conversations that cost and are never resolved are over any target', () => {
  const hopeless = { confirmed: 0, reversed: 0, started: 100, cost: 1n }
  const quiet = { confirmed: 0, reversed: 0, started: 0, cost: 0n }
  assert.equal(isOverTarget([hopeless, quiet], TARGET), true)
  assert.equal(isOverTarget([{ ...hopeless, reversed: 5 }, quiet], TARGET), true)
  assert.equal(isOverTarget([{ ...hopeless, cost: 0n }, quiet], TARGET), false)
})

test('a dearer day never takes the ladder away', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(300), { minLength: 1, maxLength: 70 }), fc.nat(69), fc.nat(300), (percents, at, more) => {
      const history = percents.map((percent) => day(percent))
      const dearer = percents.map((percent, index) => day(index === at % percents.length ? percent + more : percent))
      assert.ok(!isOverTarget(history, TARGET) || isOverTarget(dearer, TARGET))
    }),
  )
})
