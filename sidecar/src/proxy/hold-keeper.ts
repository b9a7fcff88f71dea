/** Keeps the holds of calls under way from expiring, and charges those that expired with their owner. */
import type { Operation, OperationId } from '../core/budget.ts'
import type { BudgetStore } from '../store/store.ts'
import type { Log } from '../telemetry/log.ts'
import { usdFloat } from '../telemetry/metrics.ts'
import type { Metrics } from '../telemetry/metrics.ts'

/** How long a hold outlives the last sign of life of its sidecar. */
export const HOLD_LIFE_MS = 90_000
const SWEEP_EVERY_MS = 10_000
const SWEEP_LIMIT = 1_000
/** How long others have to renew their holds where nobody could for a while: each does so when it sweeps, if its store is back by then. */
const GRACE_MS = 3 * SWEEP_EVERY_MS

/** Where it is told what became of holds that nobody ended. */
export interface HoldTellers {
  readonly log: Pick<Log, 'warn' | 'error'>
  readonly metrics: Pick<Metrics, 'expiredHolds' | 'expiredUsd' | 'unchargedHolds'>
}

/** These holds ran out, and were charged as they were: what their calls came to nobody may ever say. */
export function tellExpired({ log, metrics }: HoldTellers, expired: readonly Operation[]): void {
  for (const { id, hold } of expired) {
    metrics.expiredHolds.add([])
    metrics.expiredUsd.add([], usdFloat(hold))
    log.warn({ operation: id, hold: hold.toString() }, 'a hold expired and was charged')
  }
}

export class HoldKeeper {
  readonly #store: BudgetStore
  readonly #tellers: HoldTellers
  readonly #nowMs: () => number
  readonly #live = new Set<OperationId>()
  #timer: NodeJS.Timeout | null = null

  constructor(store: BudgetStore, tellers: HoldTellers, nowMs: () => number) {
    this.#store = store
    this.#tellers = tellers
    this.#nowMs = nowMs
  }

  start(): void {
    this.#timer = setInterval(() => void this.#sweep(), SWEEP_EVERY_MS).unref()
  }
  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  /** When a hold made now expires, unless it is renewed. */
  expiryMs(): number {
    return this.#nowMs() + HOLD_LIFE_MS
  }
  add(id: OperationId): void {
    this.#live.add(id)
  }
  remove(id: OperationId): void {
    this.#live.delete(id)
  }
  get count(): number {
    return this.#live.size
  }

  /** False when they could not be. */
  async #renew(): Promise<boolean> {
    if (this.#live.size === 0) return true
    try {
      await this.#store.renew([...this.#live], this.expiryMs())
      return true
    } catch (error) {
      this.#tellers.log.error({ err: String(error) }, 'holds could not be renewed; they expire unless the store comes back')
      return false
    }
  }

  /**
   * Timers stand still while the machine sleeps or the process is stopped, and the clock does not: whatever it shows by now, calls that are
   * under way here are renewed before anything is charged. Where that fails nothing is, until the next time.
   */
  async #sweep(): Promise<void> {
    const nowMs = this.#nowMs() // before they are renewed, for it may jump meanwhile
    if (!(await this.#renew())) return
    const { log, metrics } = this.#tellers
    try {
      const { expired, uncharged = [] } = await this.#store.sweep({ nowMs, limit: SWEEP_LIMIT, graceMs: GRACE_MS })
      tellExpired(this.#tellers, expired)
      metrics.unchargedHolds.add([], uncharged.length)
      for (const id of uncharged)
        log.error({ operation: id }, 'a hold expired and cannot be charged, for what the store has of it is damaged')
    } catch (error) {
      log.error({ err: String(error) }, 'expired holds could not be charged')
    }
  }
}
