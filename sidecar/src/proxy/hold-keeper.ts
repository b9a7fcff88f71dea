/** Keeps the holds of calls under way from expiring, and charges those that expired with their owner. */
import type { OperationId } from '../core/budget.ts'
import type { BudgetStore } from '../store/store.ts'
import type { Log } from '../telemetry/log.ts'

/** How long a hold outlives the last sign of life of its sidecar. */
export const HOLD_LIFE_MS = 90_000
const SWEEP_EVERY_MS = 10_000
const SWEEP_LIMIT = 1_000

export class HoldKeeper {
  readonly #store: BudgetStore
  readonly #log: Log
  readonly #nowMs: () => number
  readonly #live = new Set<OperationId>()
  #timer: NodeJS.Timeout | null = null

  constructor(store: BudgetStore, log: Log, nowMs: () => number) {
    this.#store = store
    this.#log = log
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
      this.#log.error({ err: String(error) }, 'holds could not be renewed; they expire unless the store comes back')
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
    try {
      const { expired, uncharged = [] } = await this.#store.sweep({ nowMs, limit: SWEEP_LIMIT })
      for (const operation of expired)
        this.#log.warn({ operation: operation.id, hold: operation.hold.toString() }, 'a hold expired and was charged')
      for (const id of uncharged)
        this.#log.error({ operation: id }, 'a hold expired and cannot be charged, for what the store has of it is damaged')
    } catch (error) {
      this.#log.error({ err: String(error) }, 'expired holds could not be charged')
    }
  }
}
