import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { isTimeZone, periodSpan, PERIOD_UNITS } from './period.ts'
import type { Period } from './period.ts'

const HOUR_MS = 3_600_000
function span(
  unit: Period['unit'],
  timeZone: string,
  at: string,
  anchorDay = 1,
): { readonly key: string; readonly from: string; readonly to: string } {
  const { key, startsAtMs, endsAtMs } = periodSpan({ unit, timeZone, anchorDay }, Date.parse(at))
  return { key, from: new Date(startsAtMs).toISOString(), to: new Date(endsAtMs).toISOString() }
}

test('a day begins at midnight of its zone', () => {
  assert.deepEqual(span('Day', 'UTC', '2026-11-24T12:00:00Z'), {
    key: '2026-11-24',
    from: '2026-11-24T00:00:00.000Z',
    to: '2026-11-25T00:00:00.000Z',
  })
  assert.deepEqual(span('Day', 'Asia/Tokyo', '2026-11-24T16:00:00Z'), {
    key: '2026-11-25',
    from: '2026-11-24T15:00:00.000Z',
    to: '2026-11-25T15:00:00.000Z',
  })
  assert.deepEqual(span('Day', 'America/Los_Angeles', '2026-11-24T07:59:59.999Z').key, '2026-11-23')
})

test('the days on which clocks change have 23 and 25 hours', () => {
  const hours = (at: string): number => {
    const { startsAtMs, endsAtMs } = periodSpan({ unit: 'Day', timeZone: 'Europe/Berlin', anchorDay: 1 }, Date.parse(at))
    return (endsAtMs - startsAtMs) / HOUR_MS
  }
  assert.equal(hours('2026-03-29T10:00:00Z'), 23)
  assert.equal(hours('2026-10-25T10:00:00Z'), 25)
  assert.equal(hours('2026-10-26T10:00:00Z'), 24)
})

test('where clocks skip midnight, the day begins at its first instant', () => {
  // Beirut goes from 24:00 to 01:00 on the last Sunday of March.
  assert.equal(span('Day', 'Asia/Beirut', '2026-03-29T10:00:00Z').from, '2026-03-28T22:00:00.000Z')
})

test('a week begins on its anchor day, Monday being 1', () => {
  assert.equal(span('Week', 'UTC', '2026-11-24T12:00:00Z').key, '2026-11-23')
  assert.equal(span('Week', 'UTC', '2026-11-23T00:00:00Z').key, '2026-11-23')
  assert.equal(span('Week', 'UTC', '2026-11-22T23:59:59Z').key, '2026-11-16')
  assert.equal(span('Week', 'UTC', '2026-11-24T12:00:00Z', 7).key, '2026-11-22')
})

test('a month begins on its anchor day, or on its last day where it is shorter', () => {
  assert.deepEqual(span('Month', 'UTC', '2026-11-24T00:00:00Z'), {
    key: '2026-11-01',
    from: '2026-11-01T00:00:00.000Z',
    to: '2026-12-01T00:00:00.000Z',
  })
  assert.deepEqual(span('Month', 'UTC', '2026-02-28T00:00:00Z', 31), {
    key: '2026-02-28',
    from: '2026-02-28T00:00:00.000Z',
    to: '2026-03-31T00:00:00.000Z',
  })
  assert.equal(span('Month', 'UTC', '2026-02-27T00:00:00Z', 31).key, '2026-01-31')
  assert.equal(span('Month', 'UTC', '2026-01-14T00:00:00Z', 15).key, '2025-12-15')
  assert.equal(span('Month', 'UTC', '2028-02-29T00:00:00Z', 29).key, '2028-02-29')
})

test('periods of every kind and zone join without gap or overlap', () => {
  const zones = ['UTC', 'Europe/Berlin', 'America/Sao_Paulo', 'Asia/Kathmandu', 'Pacific/Apia', 'Australia/Lord_Howe']
  fc.assert(
    fc.property(
      fc.constantFrom(...PERIOD_UNITS),
      fc.constantFrom(...zones),
      fc.integer({ min: 1, max: 31 }),
      fc.integer({ min: Date.parse('2015-01-01'), max: Date.parse('2035-01-01') }),
      (unit, timeZone, anchorDay, atMs) => {
        const period = { unit, timeZone, anchorDay }
        const now = periodSpan(period, atMs)
        assert.ok(now.startsAtMs <= atMs && atMs < now.endsAtMs)
        const next = periodSpan(period, now.endsAtMs)
        assert.equal(next.startsAtMs, now.endsAtMs)
        assert.ok(next.key > now.key)
        assert.deepEqual(periodSpan(period, now.endsAtMs - 1), now)
      },
    ),
    { numRuns: 200 },
  )
})

test('an unknown zone is known to be one', () => {
  assert.equal(isTimeZone('Europe/Berlin'), true)
  assert.equal(isTimeZone('Europe/Atlantis'), false)
  assert.throws(() => periodSpan({ unit: 'Day', timeZone: 'Europe/Atlantis', anchorDay: 1 }, 0), RangeError)
})
