import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseUsd } from '@farebox/crds/usd.ts'
import { costPerResolution, isOverTarget, NO_OUTCOMES, OUTCOMES_MIN, outcomeEntry, outcomeNames, WINDOW_DAYS } from './outcomes.ts'
import type { DayOutcomes } from './outcomes.ts'

const TARGET = parseUsd('0.246') // 0.99 a resolution at 60 %, less 0.15
const NONE = NO_OUTCOMES
/** A day on which `started` conversations began, half of them were resolved, at this percent of the target. */
function day(percent: number, started = 100): DayOutcomes {
  const confirmed = started / 2
  return { ...NONE, confirmed, started, cost: (TARGET * BigInt(confirmed) * BigInt(percent)) / 100n }
}
const days = (count: number, percent: number, started = 100): DayOutcomes[] => Array.from({ length: count }, () => day(percent, started))

test('cost per resolution is the cost of all conversations over those that stay resolved', () => {
  assert.equal(costPerResolution([{ ...NONE, confirmed: 3, reversed: 1, started: 10, cost: 100n }]), 50n)
  assert.equal(costPerResolution([day(100), day(100)]), TARGET)
  assert.equal(costPerResolution([{ ...NONE, confirmed: 1, reversed: 1, started: 10, cost: 100n }]), null)
  assert.equal(costPerResolution([]), null)
})

test('what was assumed and then confirmed is one resolution, and one that was taken back is none', () => {
  assert.equal(costPerResolution([{ ...NONE, assumed: 4, cost: 100n }]), 25n)
  assert.equal(costPerResolution([{ ...NONE, assumed: 4, confirmed: 3, confirmedAssumed: 2, cost: 100n }]), 20n)
  assert.equal(costPerResolution([{ ...NONE, assumed: 4, confirmed: 2, confirmedAssumed: 2, reversed: 3, cost: 100n }]), 100n)
  assert.equal(isOverTarget([{ ...day(500), confirmed: 0, assumed: 50 }], TARGET), true, 'fifty were assumed to be')
  assert.equal(isOverTarget([{ ...day(500), confirmed: 49, assumed: 49, confirmedAssumed: 49 }], TARGET), false, 'forty-nine, told twice')
})

test('an outcome is an entry that costs nothing, and counts by what stood before it', () => {
  const step = {
    key: 'c/1/confirmed',
    tier: 'pro',
    atMs: 5,
    kind: 'confirmed',
    of: 'assumed',
    note: { conversation: 'c', session: 1 },
  } as const
  assert.deepEqual(outcomeEntry(step), {
    id: 'c/1/confirmed/outcome',
    operationId: 'c/1/confirmed',
    kind: 'outcome',
    accounts: ['c:c:1'],
    cost: 0n,
    atMs: 5,
    note: { conversation: 'c', session: 1, tier: 'pro', purpose: 'outcome', label: 'confirmed' },
  })
  assert.deepEqual(outcomeEntry({ ...step, note: {} }).accounts, [])
  assert.deepEqual(outcomeNames(step), ['confirmed', 'confirmedAssumed'])
  assert.deepEqual(outcomeNames({ kind: 'reversed', of: 'assumed' }), ['reversed', 'reversedAssumed'])
  assert.deepEqual(outcomeNames({ kind: 'reversed', of: 'confirmed' }), ['reversed'])
  assert.deepEqual(outcomeNames({ kind: 'started' }), ['started'])
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
  assert.equal(isOverTarget([...days(1, 500), ...Array.from({ length: 60 }, () => NONE)], TARGET), true)
})

test('what began today has no outcome yet, unless it was resolved or that was taken back', () => {
  const begun = { ...NONE, started: 100, cost: TARGET }
  assert.equal(isOverTarget([begun], TARGET), false)
  assert.equal(isOverTarget([{ ...begun, confirmed: 50, reversed: 50 }], TARGET), true)
  assert.equal(isOverTarget([{ ...begun, confirmed: 30, reversed: 30 }], TARGET), false, 'one conversation has one outcome')
})

test('conversations that cost and are never resolved are over any target', () => {
  const hopeless = { ...NONE, started: 100, cost: 1n }
  const quiet = NONE
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
