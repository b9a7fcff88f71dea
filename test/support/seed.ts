/**
 * Where the random cases of a test run begin: at the same place each time, so that no run is red for what it did not change.
 * `FAREBOX_SEED=n` plays others, and of random schedules the one that a failure named.
 */
import assert from 'node:assert/strict'

const asked = process.env['FAREBOX_SEED']

export const SEED = Number(asked ?? 20_251)
assert.ok(Number.isSafeInteger(SEED), 'FAREBOX_SEED must be a whole number')

/** How many random schedules, from `SEED` on: where a seed is asked for, its own alone. */
export function schedulesToPlay(whenNoneIsAsked: number): number {
  return asked === undefined ? whenNoneIsAsked : 1
}
