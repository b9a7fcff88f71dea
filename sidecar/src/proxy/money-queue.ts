/**
 * Calls that wait for money which other calls hold: first come first served per account, woken when a hold of that
 * account ends. A call waits at most as long as it says; then it is told that money is busy.
 *
 * Where replicas share a store, nobody tells of holds that end elsewhere: then the first in line tries again from time to
 * time. Each replica has one at the front of its line, so that a replica gets its turn however long the lines of others.
 */
export const MONEY_WAIT_MS = 2_000
/** How often the first in line tries where holds may end elsewhere. A try costs a read and a reservation. */
export const SHARED_TRY_EVERY_MS = 40

interface Waiter {
  readonly wake: (outcome: 'try' | 'timeout') => void
}

export class MoneyQueue {
  readonly #waiters = new Map<string, Waiter[]>()
  readonly #tryEveryMs: number | null
  readonly #timers = new Map<string, NodeJS.Timeout>()

  /** `tryEveryMs` null: holds end in this process alone. */
  constructor(tryEveryMs: number | null = null) {
    this.#tryEveryMs = tryEveryMs
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
      if (queue === undefined) this.#waiters.set(account, [waiter])
      else if (place === 'front') queue.unshift(waiter)
      else queue.push(waiter)
      this.#tryFromTimeToTime(account)
    })
  }

  /** A hold of these accounts ended: the first waiter of each tries again. When it succeeds or leaves, it calls this again. */
  wakeNext(accounts: readonly string[]): void {
    for (const account of accounts) this.#waiters.get(account)?.[0]?.wake('try')
  }

  #tryFromTimeToTime(account: string): void {
    if (this.#tryEveryMs === null || this.#timers.has(account)) return
    this.#timers.set(
      account,
      setInterval(() => this.wakeNext([account]), this.#tryEveryMs),
    )
  }

  #remove(account: string, waiter: Waiter): void {
    const queue = this.#waiters.get(account)
    if (queue === undefined) return
    const index = queue.indexOf(waiter)
    if (index >= 0) queue.splice(index, 1)
    if (queue.length > 0) return
    this.#waiters.delete(account)
    clearInterval(this.#timers.get(account))
    this.#timers.delete(account)
  }
}
