/** Keeps the holds of calls under way from expiring, and charges those that expired with their owner. */
import type { OperationId } from '../core/budget.ts'
import type { BudgetStore } from '../store/store.ts'
import type { Log } from '../telemetry/log.ts'

/** How long a hold outlives the last sign of life of its sidecar. */
export const HOLD_LIFE_MS = 90_000
const RENEW_EVERY_MS = 30_000
const SWEEP_EVERY_MS = 10_000
const SWEEP_LIMIT = 1_000

export class HoldKeeper {
  readonly #store: BudgetStore
  readonly #log: Log
  readonly #nowMs: () => number
  readonly #live = new Set<OperationId>()
  readonly #timers: NodeJS.Timeout[] = []

  constructor(store: BudgetStore, log: Log, nowMs: () => number) {
    this.#store = store
    this.#log = log
    this.#nowMs = nowMs
  }

  start(): void {
    this.#timers.push(
      setInterval(() => void this.#renew(), RENEW_EVERY_MS).unref(),
      setInterval(() => void this.#sweep(), SWEEP_EVERY_MS).unref(),
    )
  }
  stop(): void {
    for (const timer of this.#timers) clearInterval(timer)
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

  async #renew(): Promise<void> {
    if (this.#live.size === 0) return
    try {
      await this.#store.renew([...this.#live], this.expiryMs())
    } catch (error) {
      this.#log.error({ err: String(error) }, 'holds could not be renewed; they expire unless the store comes back')
    }
  }

  async #sweep(): Promise<void> {
    try {
      const { expired } = await this.#store.sweep({ nowMs: this.#nowMs(), limit: SWEEP_LIMIT })
      for (const operation of expired)
        this.#log.warn({ operation: operation.id, hold: operation.hold.toString() }, 'a hold expired and was charged')
    } catch (error) {
      this.#log.error({ err: String(error) }, 'expired holds could not be charged')
    }
  }
}
