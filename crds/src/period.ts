/** Calendar periods: a day, week or month in a time zone, from which budgets of users and workloads start anew. */
import * as z from 'zod'
import { DAY_MS } from './duration.ts'
import { text } from './fields.ts'
import { rules } from './rules.ts'

export const PERIOD_UNITS = ['Day', 'Week', 'Month'] as const

export const PeriodSchema = rules(
  z.strictObject({
    unit: z.enum(PERIOD_UNITS).describe('The calendar unit.'),
    timeZone: text(1, 64).default('UTC').describe('IANA time zone in which the period begins, such as `Europe/Berlin`.'),
    anchorDay: z
      .int()
      .min(1)
      .max(31)
      .default(1)
      .describe(
        'The day on which it begins: of the month (the last one where a month is shorter), or of the week (1 is Monday). A `Day` has none.',
      ),
  }),
  {
    rule: "self.unit != 'Week' || !has(self.anchorDay) || self.anchorDay <= 7",
    message: 'of a Week must be 1 (Monday) to 7 (Sunday)',
    fieldPath: '.anchorDay',
  },
  {
    rule: "self.unit != 'Day' || !has(self.anchorDay) || self.anchorDay == 1",
    message: 'is for Week and Month only: every day begins at midnight',
    fieldPath: '.anchorDay',
  },
)
export type Period = z.infer<typeof PeriodSchema>

/** What people call it, and what tells it apart from others: `Month UTC`, `Week Europe/Berlin from 3`. */
export function nameOfPeriod({ unit, timeZone, anchorDay }: Period): string {
  return `${unit} ${timeZone}${anchorDay === 1 ? '' : ` from ${anchorDay}`}`
}

/** One period: its name, which is its first day (`2026-11-01`), and the instants between which it lies. */
export interface PeriodSpan {
  readonly key: string
  readonly startsAtMs: number
  readonly endsAtMs: number
}

/**
 * The period in which an instant lies. It begins at the first instant of its first day in its zone, so a day of 23 or 25
 * hours is one period. Throws `RangeError` for a zone that is not in the time zone database.
 */
export function periodSpan(period: Period, atMs: number): PeriodSpan {
  const cacheKey = `${period.unit}/${period.anchorDay}/${period.timeZone}`
  const last = LAST_SPANS.get(cacheKey)
  if (last !== undefined && atMs >= last.startsAtMs && atMs < last.endsAtMs) return last
  const today = localDay(period.timeZone, atMs)
  const first = firstDayOf(period, today)
  const next = nextFirstDay(period, first)
  const span = { key: keyOf(first), startsAtMs: startOfDay(period.timeZone, first), endsAtMs: startOfDay(period.timeZone, next) }
  if (LAST_SPANS.size >= SPANS_KEPT) LAST_SPANS.clear()
  LAST_SPANS.set(cacheKey, span)
  return span
}

/** Whether the time zone database knows a zone. */
export function isTimeZone(timeZone: string): boolean {
  try {
    formatOf(timeZone)
    return true
  } catch {
    return false
  }
}

/** A calendar day without a zone. `month` is 1 to 12. */
interface Day {
  readonly year: number
  readonly month: number
  readonly day: number
}

const SPANS_KEPT = 256
/** The span last asked for of each period: the same answer serves until it ends. */
const LAST_SPANS = new Map<string, PeriodSpan>()
const FORMATS = new Map<string, Intl.DateTimeFormat>()

function firstDayOf(period: Period, today: Day): Day {
  switch (period.unit) {
    case 'Day':
      return today
    case 'Week': {
      const weekday = new Date(utcOf(today)).getUTCDay() || 7 // Sunday is 7
      return dayOfUtc(utcOf(today) - ((weekday - Math.min(period.anchorDay, 7) + 7) % 7) * DAY_MS)
    }
    case 'Month': {
      const anchor = anchorIn(period, today)
      return anchor.day <= today.day ? anchor : anchorIn(period, previousMonth(today))
    }
  }
}

function nextFirstDay(period: Period, first: Day): Day {
  switch (period.unit) {
    case 'Day':
      return dayOfUtc(utcOf(first) + DAY_MS)
    case 'Week':
      return dayOfUtc(utcOf(first) + 7 * DAY_MS)
    case 'Month':
      return anchorIn(
        period,
        first.month === 12 ? { year: first.year + 1, month: 1, day: 1 } : { ...first, month: first.month + 1, day: 1 },
      )
  }
}

/** The anchor day of a month: its last day where it is shorter. */
function anchorIn(period: Period, { year, month }: Day): Day {
  const lastDay = new Date(Date.UTC(year, month, 0)).getUTCDate()
  return { year, month, day: Math.min(period.anchorDay, lastDay) }
}

function previousMonth({ year, month }: Day): Day {
  return month === 1 ? { year: year - 1, month: 12, day: 1 } : { year, month: month - 1, day: 1 }
}

/** The first instant of a day in a zone: midnight, or the end of the gap where clocks skip midnight. */
function startOfDay(timeZone: string, day: Day): number {
  const wanted = utcOf(day)
  const isBefore = (atMs: number): boolean => utcOf(localDay(timeZone, atMs)) < wanted
  // Zones lie within a day of UTC; the local day grows with time, so the boundary can be searched.
  let low = wanted - DAY_MS
  let high = wanted + DAY_MS
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (isBefore(middle)) low = middle
    else high = middle
  }
  return high
}

function localDay(timeZone: string, atMs: number): Day {
  const parts: Record<string, number> = {}
  for (const { type, value } of formatOf(timeZone).formatToParts(atMs)) parts[type] = Number(value)
  const { year = 0, month = 0, day = 0 } = parts
  return { year, month, day }
}

function formatOf(timeZone: string): Intl.DateTimeFormat {
  const known = FORMATS.get(timeZone)
  if (known !== undefined) return known
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    calendar: 'gregory',
    numberingSystem: 'latn',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
  })
  FORMATS.set(timeZone, format)
  return format
}

function utcOf({ year, month, day }: Day): number {
  return Date.UTC(year, month - 1, day)
}
function dayOfUtc(utcMs: number): Day {
  const date = new Date(utcMs)
  return { year: date.getUTCFullYear(), month: date.getUTCMonth() + 1, day: date.getUTCDate() }
}
function keyOf({ year, month, day }: Day): string {
  return `${year}-${String(month).padStart(2, '0')}-${String(day).padStart(2, '0')}`
}
