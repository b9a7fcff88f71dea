/** Durations as Go writes them: `20m`, `24h`, `1h30m`. Whole hours, minutes and seconds. */
export const DURATION_PATTERN = /^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?$/

/** A day of UTC, which has no longer ones and no shorter. */
export const DAY_MS = 24 * 3_600_000

const UNIT_MS = { h: 3_600_000, m: 60_000, s: 1_000 } as const

/** Milliseconds of a duration. Throws `RangeError` on anything that is not one. */
export function parseDuration(text: string): number {
  if (text === '' || !DURATION_PATTERN.test(text)) throw new RangeError(`"${text}" must be a duration such as "20m" or "24h"`)
  let ms = 0
  for (const [, amount = '0', unit = 's'] of text.matchAll(/([0-9]+)([hms])/g)) ms += Number(amount) * UNIT_MS[unit as keyof typeof UNIT_MS]
  return ms
}
