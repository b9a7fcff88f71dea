import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Period } from '@farebox/crds/period.ts'
import { limitsTold, shownLimits } from './limit-use.ts'
import { reportOf } from './reports.testing.ts'

const NOW = Date.UTC(2026, 10, 24, 12)
const MONTH: Period = { unit: 'Month', timeZone: 'UTC', anchorDay: 1 }
const DAY: Period = { unit: 'Day', timeZone: 'Asia/Tokyo', anchorDay: 1 }
const IN_FORCE = [
  { amount: '50.00', period: MONTH },
  { amount: '40.00', period: MONTH },
  { amount: '2.00', period: DAY },
]
const month = (spent: string, held = '0.00') => ({ 'Month UTC': { amount: '1.00', since: '2026-11-01', spent, held } })
const day = (spent: string, since = '2026-11-24') => ({ 'Day Asia/Tokyo': { amount: '1.00', since, spent, held: '0.00' } })

test('each period is shown once, by the tightest amount that is in force, the one that is used most first', () => {
  assert.deepEqual(shownLimits(IN_FORCE, [{ ...month('12.40', '0.10'), ...day('1.999') }], [], NOW), [
    { period: 'Day Asia/Tokyo', amount: '2.00', since: '2026-11-24', spent: '1.999', held: '0.00', usedPercent: 99 },
    { period: 'Month UTC', amount: '40.00', since: '2026-11-01', spent: '12.40', held: '0.10', usedPercent: 31 },
  ])
  const nothing = [{ amount: '0', period: MONTH }]
  assert.equal(shownLimits(nothing, [month('0.00')], [], NOW)[0]?.usedPercent, 100, 'one of nothing is used up')
})

test('of several books, each of which has all of the limit, the fullest is shown; what is of an earlier period does not count', () => {
  const shown = shownLimits(IN_FORCE, [{ ...month('10.00'), ...day('9.00', '2026-11-23') }, month('5.00', '1.00')], [], NOW)
  assert.deepEqual(
    shown.map(({ period, spent, held }) => [period, spent, held]),
    [['Month UTC', '10.00', '0.00']],
  )
})

test('what was known of the period stays while nobody tells it, by the amount that is in force now; limits that are gone go', () => {
  const known = shownLimits(IN_FORCE, [{ ...month('20.00'), ...day('1.00') }], [], NOW)
  assert.deepEqual(shownLimits([{ amount: '25.00', period: MONTH }], [], known, NOW), [
    { period: 'Month UTC', amount: '25.00', since: '2026-11-01', spent: '20.00', held: '0.00', usedPercent: 80 },
  ])
  const next = Date.UTC(2026, 11, 2)
  assert.deepEqual(shownLimits(IN_FORCE, [], known, next), [], 'of another month nothing is known')
})

test('of each set of books the newest report counts that tells limits, of this budget alone', () => {
  const said = (pod: string, parts: { limits?: object; books?: string; budget?: string; atMs?: number } = {}) => {
    const { limits, books = 'x', budget = 'desk', atMs = NOW } = parts
    const received = reportOf({ pod, receivedAtMs: atMs, books, budget })
    const { status } = received.report
    return limits === undefined || status === null
      ? received
      : { ...received, report: { ...received.report, status: { ...status, limits: month(String(Object.values(limits)[0])) } } }
  }
  const told = limitsTold(
    [
      said('a', { limits: ['1.00'], atMs: NOW - 20 }),
      said('b', { limits: ['2.00'], atMs: NOW - 10 }),
      said('older', { atMs: NOW }),
      said('c', { limits: ['4.00'], books: 'y' }),
      said('d', { limits: ['8.00'], budget: 'bot' }),
    ],
    'support/desk',
    NOW,
  )
  assert.deepEqual(told, [month('2.00'), month('4.00')])
})
