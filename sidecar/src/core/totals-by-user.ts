/** What users came to: the median, those who cost many times as much, and how many reached an amount. */
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { UserId } from './conversation.ts'

export interface UserTotalsQuery {
  /** Who costs so many times the median user counts as heavy. */
  readonly timesMedian: number
  /** Amounts for which it is told how many users reached them. */
  readonly atLeast: readonly NanoUsd[]
  /** Of `top`. */
  readonly limit: number
}

/** Of users who cost something: what was free, or taken back, makes nobody one of them. */
export interface UserTotals {
  readonly users: number
  /** What all users spent. */
  readonly spent: NanoUsd
  /** Of an even number the lower of the two in the middle; zero without users. */
  readonly median: NanoUsd
  readonly heavy: { readonly users: number; readonly spent: NanoUsd }
  /** For each amount of `atLeast`. */
  readonly reached: readonly number[]
  /** Most first. */
  readonly top: readonly { readonly user: UserId; readonly spent: NanoUsd }[]
  /**
   * 1: every user was looked at. Of more than `USERS_MAX` one in so many is (a power of two): then all but `spent` is an
   * estimate, and `top` is of those that were looked at.
   */
  readonly oneIn: number
}

/** So many users are kept apart in memory. */
export const USERS_MAX = 100_000

/** Adds up what users spent, told in any order and in parts. */
export class UserSums {
  readonly #max: number
  #sums = new Map<UserId, NanoUsd>()
  #spent = 0n
  #oneIn = 1

  constructor(max = USERS_MAX) {
    this.#max = max
  }

  add(user: UserId, spent: NanoUsd): void {
    this.#spent += spent
    if (!this.#isLookedAt(user)) return
    this.#sums.set(user, (this.#sums.get(user) ?? 0n) + spent)
    while (this.#sums.size > this.#max) {
      this.#oneIn *= 2
      this.#sums = new Map([...this.#sums].filter(([known]) => this.#isLookedAt(known)))
    }
  }

  totals({ timesMedian, atLeast, limit }: UserTotalsQuery): UserTotals {
    // Integers of 64 bits are sorted by the engine itself, without a comparison of ours.
    const all = BigInt64Array.from(this.#sums.values()).sort()
    const sums = all.subarray(firstAtLeast(all, 1n))
    const median = sums[Math.floor((sums.length - 1) / 2)] ?? 0n
    const heavy = median > 0n ? sums.subarray(firstAtLeast(sums, median * BigInt(timesMedian))) : new BigInt64Array()
    return {
      users: sums.length * this.#oneIn,
      spent: this.#spent,
      median,
      heavy: { users: heavy.length * this.#oneIn, spent: heavy.reduce((sum, spent) => sum + spent, 0n) * BigInt(this.#oneIn) },
      reached: atLeast.map((amount) => (sums.length - firstAtLeast(sums, amount)) * this.#oneIn),
      top: this.#top(sums.at(-limit) ?? sums[0] ?? 1n, limit),
      oneIn: this.#oneIn,
    }
  }

  /** Of those who spent at least so much. */
  #top(atLeast: NanoUsd, limit: number): UserTotals['top'] {
    if (limit < 1) return []
    return Array.from(this.#sums, ([user, spent]) => ({ user, spent }))
      .filter(({ spent }) => spent >= atLeast)
      .toSorted((a, b) => (a.spent === b.spent ? (a.user < b.user ? -1 : 1) : a.spent > b.spent ? -1 : 1))
      .slice(0, limit)
  }

  /** The same users, whoever tells of them and in whatever order. */
  #isLookedAt(user: UserId): boolean {
    return this.#oneIn === 1 || hashOf(user) * this.#oneIn < 2 ** 32
  }
}

/** The place of the first of these that is no less; `sums` rise. */
function firstAtLeast(sums: BigInt64Array, amount: NanoUsd): number {
  let [from, to] = [0, sums.length]
  while (from < to) {
    const middle = Math.floor((from + to) / 2)
    if ((sums[middle] ?? 0n) < amount) from = middle + 1
    else to = middle
  }
  return from
}

/** FNV-1a, 32 bits (http://www.isthe.com/chongo/tech/comp/fnv/). */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193) >>> 0
  return hash
}
