/** Days of UTC: as a number, counted from 1970, and as text, `2026-11-24`. */
import { TOTALS_LIFE_DAYS } from './store.ts'

export const DAY_MS = 24 * 3_600_000

export function dayOf(atMs: number): number {
  return Math.floor(atMs / DAY_MS)
}
export function dayText(day: number): string {
  return new Date(day * DAY_MS).toISOString().slice(0, 10)
}
/** Throws `RangeError` for what is no day. */
export function dayNamed(text: string): number {
  const atMs = Date.parse(`${text}T00:00:00Z`)
  if (Number.isNaN(atMs)) throw new RangeError('a day must be written as 2026-11-24')
  return dayOf(atMs)
}

/** The first day whose totals are not gone. */
export function oldestDay(nowMs: number): number {
  return dayOf(nowMs) - TOTALS_LIFE_DAYS + 1
}
