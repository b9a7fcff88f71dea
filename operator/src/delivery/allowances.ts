/**
 * What each pod may ask of a replica: so many bytes at once, and so many more each second. Any pod of the cluster can get itself a token
 * for us, so that none of them may take up what the others need.
 */

interface Account {
  left: number
  atMs: number
}

/** Accounts that are looked through, at most once in this time, for those that are full again and can be forgotten. */
const SWEEP_EVERY_MS = 60_000

/** Holds an account for each owner that has taken lately; a later `take` forgets the others. Nothing of it is to be closed. */
export class Allowances {
  readonly #burst: number
  readonly #perSecond: number
  readonly #accounts = new Map<string, Account>()
  #sweptAtMs = 0

  constructor({ burst, perSecond }: { readonly burst: number; readonly perSecond: number }) {
    this.#burst = burst
    this.#perSecond = perSecond
  }

  /** False: it has to wait, and nothing is taken. More than the burst counts as the burst. `nowMs`: of a clock that is never set back. */
  take(owner: string, cost: number, nowMs: number): boolean {
    this.#sweep(nowMs)
    const before = this.#accounts.get(owner)
    const left = before === undefined ? this.#burst : this.#leftOf(before, nowMs)
    const taken = Math.min(cost, this.#burst)
    if (left < taken) return false
    this.#accounts.set(owner, { left: left - taken, atMs: nowMs })
    return true
  }

  get size(): number {
    return this.#accounts.size
  }

  #leftOf({ left, atMs }: Account, nowMs: number): number {
    return Math.min(this.#burst, left + ((nowMs - atMs) * this.#perSecond) / 1_000)
  }

  #sweep(nowMs: number): void {
    if (nowMs - this.#sweptAtMs < SWEEP_EVERY_MS) return
    this.#sweptAtMs = nowMs
    for (const [owner, account] of this.#accounts) if (this.#leftOf(account, nowMs) >= this.#burst) this.#accounts.delete(owner)
  }
}
