/**
 * When a tier priced per resolution needs its ladder: its cost per resolution, on 28 rolling days and at least 50
 * outcomes, is more than 110 % of the target; from then on until it is at most 95 %.
 */
import type { NanoUsd } from '@farebox/crds/usd.ts'

export const WINDOW_DAYS = 28
export const OUTCOMES_MIN = 50
const OVER_PERCENT = 110n
const BACK_PERCENT = 95n

export interface DayOutcomes {
  readonly confirmed: number
  readonly reversed: number
  readonly started: number
  readonly cost: NanoUsd
}

/** Cost per resolution over these days; null while there is none to divide by. */
export function costPerResolution(days: readonly DayOutcomes[]): NanoUsd | null {
  let cost = 0n
  let resolutions = 0
  for (const day of days) {
    cost += day.cost
    resolutions += day.confirmed - day.reversed
  }
  return resolutions <= 0 ? null : cost / BigInt(resolutions)
}

/**
 * Whether the ladder applies after the last of `days` (oldest first), walking the rolling window day by day.
 *
 * An outcome is a resolution, confirmed or reversed, or a conversation that began on an earlier day than the last and was
 * not resolved: one that began today may still be. Days do not tell which conversation they count, and one has a single
 * outcome, so the outcomes of a window are the least that its numbers allow: the largest of what began before its last
 * day, what was confirmed and what was reversed.
 */
export function isOverTarget(days: readonly DayOutcomes[], target: NanoUsd): boolean {
  let over = false
  for (let end = 1; end <= days.length; end++) {
    const window = days.slice(Math.max(0, end - WINDOW_DAYS), end)
    let cost = 0n
    let confirmed = 0
    let reversed = 0
    for (const day of window) {
      cost += day.cost
      confirmed += day.confirmed
      reversed += day.reversed
    }
    const startedBefore = window.slice(0, -1).reduce((sum, day) => sum + day.started, 0)
    if (Math.max(startedBefore, confirmed, reversed) < OUTCOMES_MIN) continue
    const resolutions = confirmed - reversed
    const allowed = target * BigInt(Math.max(0, resolutions))
    if (cost * 100n > allowed * OVER_PERCENT) over = true
    else if (cost * 100n <= allowed * BACK_PERCENT) over = false
  }
  return over
}
