/** Days of UTC: as a number, counted from 1970, and as text, `2026-11-24`. */
import { DAY_MS } from '@farebox/crds/duration.ts'

export { DAY_MS }

/** The day of an instant, as text. */
export function dayOf(atMs: number): string {
  return dayText(dayNumber(atMs))
}

/** The day of an instant, as a number. */
export function dayNumber(atMs: number): number {
  return Math.floor(atMs / DAY_MS)
}

export function dayText(day: number): string {
  return new Date(day * DAY_MS).toISOString().slice(0, 10)
}

/** The number of a day that is given as text. Throws `RangeError` for what is no day. */
export function dayNamed(text: string): number {
  const atMs = Date.parse(`${text}T00:00:00Z`)
  if (Number.isNaN(atMs)) throw new RangeError('a day must be written as 2026-11-24')
  return dayNumber(atMs)
}
