/** How the users of a tier use it: how much of their budget, who costs many times the median, who belongs on the next tier. Pure. */
import { USE_BANDS } from '@farebox/crds/traffic-status.ts'
import type { UseBand } from '@farebox/crds/traffic-status.ts'
import { periodSpan } from '@farebox/crds/period.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { Account } from './budget.ts'
import { percentUsed } from './ladder.ts'
import { WINDOW_DAYS } from './outcomes.ts'
import type { Terms } from './terms.ts'
import type { UserTotals, UserTotalsQuery } from './totals-by-user.ts'
import { DAY_MS, dayOf } from './utc-day.ts'

/** Whole days of UTC, both inclusive, and the period that they stand for. */
export interface UsersSpan {
  readonly fromDay: string
  readonly toDay: string
  /** Of the user budget; null without one. */
  readonly periodKey: string | null
}

/**
 * The current period of the user budget, up to today; without one the last 28 days. Stores add up by days of UTC: a period that begins
 * at another time is counted from the midnight nearest to it.
 */
export function usersSpan({ perUser }: Pick<Terms, 'perUser'>, nowMs: number): UsersSpan {
  const toDay = dayOf(nowMs)
  if (perUser === null) return { fromDay: dayOf(nowMs - (WINDOW_DAYS - 1) * DAY_MS), toDay, periodKey: null }
  const { key, startsAtMs } = periodSpan(perUser.period, nowMs)
  const nearest = dayOf(startsAtMs + DAY_MS / 2)
  return { fromDay: nearest < toDay ? nearest : toDay, toDay, periodKey: key }
}

/** What to ask a store, so that `useOf` can tell; and for the `limit` heaviest users. */
export function usersQuery({ contract, perUser }: Terms, limit: number): UserTotalsQuery {
  const shares = [...BAND_STARTS, ...(contract.upgrade === undefined ? [] : [contract.upgrade.whenUserExceedsPercent])]
  const atLeast = perUser === null ? [] : shares.map((percent) => shareOf(perUser.cap, percent))
  return { timesMedian: contract.heavyUserTimesMedian, atLeast, limit }
}

export interface TierUse {
  readonly active: number
  readonly spent: NanoUsd
  readonly median: NanoUsd
  readonly heavy: { readonly users: number; readonly spent: NanoUsd }
  readonly upgradeCandidates: number
  /** None without a user budget. */
  readonly byUse: Readonly<Partial<Record<UseBand, number>>>
}

/** Of what a store told for `usersQuery`. */
export function useOf({ users, spent, median, heavy, reached }: UserTotals): TierUse {
  const bands = USE_BANDS.map((band, index): readonly [UseBand, number] => {
    const from = index === 0 ? users : (reached[index - 1] ?? 0)
    return [band, Math.max(0, from - (index === BAND_STARTS.length ? 0 : (reached[index] ?? 0)))]
  })
  return {
    active: users,
    spent,
    median,
    heavy,
    upgradeCandidates: reached[BAND_STARTS.length] ?? 0,
    byUse: reached.length === 0 ? {} : Object.fromEntries(bands),
  }
}

/** What one user came to. */
export interface UserUse {
  /** Of the user budget, 0 to 999; null without one. */
  readonly percent: number | null
  /** Of the median user, rounded down; null while the median user costs nothing. */
  readonly timesMedian: number | null
  readonly isHeavy: boolean
  readonly isUpgradeCandidate: boolean
}

/** `account`: of the period of the user budget; without one, what the user spent in the days of `usersSpan`. */
export function userUse({ contract, perUser }: Terms, account: Account, median: NanoUsd): UserUse {
  const { spent } = account
  const percent = perUser === null ? null : percentUsed([{ cap: perUser.cap, account }])
  return {
    percent,
    timesMedian: median > 0n ? Number(spent / median) : null,
    isHeavy: median > 0n && spent >= median * BigInt(contract.heavyUserTimesMedian),
    isUpgradeCandidate: percent !== null && contract.upgrade !== undefined && percent >= contract.upgrade.whenUserExceedsPercent,
  }
}

/** Percent at which the bands of `USE_BANDS` begin, but for the first. */
const BAND_STARTS = [25, 50, 75, 100] as const

/** The least that is so many percent of a cap. */
function shareOf(cap: NanoUsd, percent: number): NanoUsd {
  return (cap * BigInt(percent) + 99n) / 100n
}
