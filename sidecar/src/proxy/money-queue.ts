/**
 * Calls that wait for money which other calls hold: first come first served per account, woken when a hold of that
 * account ends. A call waits at most as long as it says; then it is told that money is busy.
 *
 * Where replicas share a store, nobody tells of holds that end elsewhere: then the first in line tries again from time to
 * time. Each replica has one at the front of its line, so that a replica gets its turn however long the lines of others. Where
 * tries come to nothing there are fewer of them: an account may be that of a whole workload, and all its replicas ask one store.
 */
import { LRUCache } from 'lru-cache'

export const MONEY_WAIT_MS = 2_000
/**
 * How often the first in line tries where holds may end elsewhere, on average. A try costs a read and a reservation. Twice as long after each
 * that came to nothing, up to `TRY_EVERY_MS_MAX`.
 */
export const SHARED_TRY_EVERY_MS = 40
const TRY_EVERY_MS_MAX = 400
/** So that replicas that began together do not go on together. */
const TRY_SHARE_MIN = 0.75
const TRY_SHARE_MORE = 0.5
/** Of one that is forgotten the next is tried often again. */
const ACCOUNTS_KEPT = 10_000

interface Waiter {
  readonly wake: (outcome: 'try' | 'timeout') => void
}

export class MoneyQueue {
  readonly #waiters = new Map<string, Waiter[]>()
  readonly #tryEveryMs: number | null
  readonly #random: () => number
  readonly #timers = new Map<string, NodeJS.Timeout>()
  /** Tries that came to nothing since one succeeded, or a line began. */
  readonly #inVain = new LRUCache<string, number>({ max: ACCOUNTS_KEPT })

  /** `tryEveryMs` null: holds end in this process alone. */
  constructor(tryEveryMs: number | null = null, random: () => number = Math.random) {
    this.#tryEveryMs = tryEveryMs
    this.#random = random
  }

  /** The first of these accounts for which others wait already: a newcomer queues behind them instead of taking what they wait for. */
  contested(accounts: readonly string[]): string | null {
    return accounts.find((account) => this.#waiters.has(account)) ?? null
  }

  /** Waits for its turn. `try`: money of the account came back; reserve again. `front` keeps the place of one who tried in vain. */
  wait(account: string, deadlineMs: number, nowMs: number, place: 'back' | 'front'): Promise<'try' | 'timeout'> {
    const left = deadlineMs - nowMs
    if (left <= 0) return Promise.resolve('timeout')
    return new Promise((resolve) => {
      const timer = setTimeout(() => waiter.wake('timeout'), left)
      const waiter: Waiter = {
        wake: (outcome) => {
          clearTimeout(timer)
          this.#remove(account, waiter)
          resolve(outcome)
        },
      }
      const queue = this.#waiters.get(account)
      if (place === 'front') this.#inVain.set(account, (this.#inVain.get(account) ?? 0) + 1)
      else if (queue === undefined) this.#inVain.delete(account)
      if (queue === undefined) this.#waiters.set(account, [waiter])
      else if (place === 'front') queue.unshift(waiter)
      else queue.push(waiter)
      if (place === 'front') this.#stopTrying(account)
      this.#tryLater(account)
    })
  }

  /** One who waited got money of all these accounts: it comes back, and there may be more. */
  succeeded(accounts: readonly string[]): void {
    for (const account of accounts) this.#inVain.delete(account)
  }

  /** A hold of these accounts ended: the first waiter of each tries again. When it succeeds or leaves, it calls this again. */
  wakeNext(accounts: readonly string[]): void {
    for (const account of accounts) this.#waiters.get(account)?.[0]?.wake('try')
  }

  #tryLater(account: string): void {
    if (this.#tryEveryMs === null || this.#timers.has(account)) return
    const everyMs = Math.min(TRY_EVERY_MS_MAX, this.#tryEveryMs * 2 ** (this.#inVain.get(account) ?? 0))
    const timer = setTimeout(
      () => {
        this.#timers.delete(account)
        this.wakeNext([account])
        if (this.#waiters.has(account)) this.#tryLater(account)
      },
      everyMs * (TRY_SHARE_MIN + this.#random() * TRY_SHARE_MORE),
    )
    this.#timers.set(account, timer)
  }

  #stopTrying(account: string): void {
    clearTimeout(this.#timers.get(account))
    this.#timers.delete(account)
  }

  #remove(account: string, waiter: Waiter): void {
    const queue = this.#waiters.get(account)
    if (queue === undefined) return
    const index = queue.indexOf(waiter)
    if (index >= 0) queue.splice(index, 1)
    if (queue.length > 0) return
    this.#waiters.delete(account)
    this.#stopTrying(account)
  }
}
