/**
 * Costs in buckets, so that how they are distributed adds up, over days and over all who count, without a list of them.
 *
 * A bucket is named by the first four binary digits of a cost and how many follow: eight buckets to a doubling, and one for each
 * nano-dollar below 16. So the most that a bucket holds is less than 12.5 % above its least, whatever the size of the cost.
 * Nothing is rounded: scripts of a store come to the same bucket by their own arithmetic.
 */
import type { NanoUsd } from '@farebox/crds/usd.ts'

/** How many costs are in each bucket; one without any is absent, or zero. */
export type CostCounts = ReadonlyMap<number, number>

const LEADING_DIGITS = 4
const PER_DOUBLING = 2 ** (LEADING_DIGITS - 1)

/** Of a cost up to `AMOUNT_MAX`. Never moves back while a cost grows. Below zero is as good as nothing. */
export function bucketOf(cost: NanoUsd): number {
  const whole = Math.max(0, Number(cost))
  const following = Math.max(0, binaryDigits(whole) - LEADING_DIGITS)
  return PER_DOUBLING * following + Math.floor(whole / 2 ** following)
}

function binaryDigits(whole: number): number {
  const high = Math.floor(whole / 2 ** 32)
  return high > 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(whole)
}

/** The costs that are in a bucket: both are. */
export function costsIn(bucket: number): { readonly least: NanoUsd; readonly most: NanoUsd } {
  const following = BigInt(Math.max(0, Math.floor(bucket / PER_DOUBLING) - 1))
  const leading = BigInt(bucket) - BigInt(PER_DOUBLING) * following
  return { least: leading << following, most: ((leading + 1n) << following) - 1n }
}

export function countOf(counts: CostCounts): number {
  let sum = 0
  for (const count of counts.values()) sum += count
  return sum
}

/** That many percent of the costs are at most this, by nearest rank: never too low, and less than 12.5 % too high. Zero of none. */
export function costQuantile(counts: CostCounts, percent: number): NanoUsd {
  const rank = Math.max(1, Math.ceil((countOf(counts) * percent) / 100))
  let seen = 0
  for (const [bucket, count] of [...counts].toSorted(([a], [b]) => a - b)) {
    seen += count
    if (seen >= rank) return costsIn(bucket).most
  }
  return 0n
}
