/** A clock that stands still until it is told to go on. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Clock } from '../../operator/src/kube/clock.ts'

export class FakeClock implements Clock {
  #nowMs = 1_000
  /** Of the wall clock: it may jump, the monotonic one may not. */
  wallOffsetMs = Date.UTC(2026, 0, 1)
  readonly #timers = new Map<number, { dueMs: number; run: () => void }>()
  #lastId = 0

  nowMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return this.wallOffsetMs + this.#nowMs
  }

  after(delayMs: number, run: () => void): { cancel(): void } {
    const id = (this.#lastId += 1)
    this.#timers.set(id, { dueMs: this.#nowMs + Math.max(0, delayMs), run })
    return { cancel: () => this.#timers.delete(id) }
  }

  get timers(): number {
    return this.#timers.size
  }

  /** Runs what is due, in order, and lets promises settle in between. */
  async advance(byMs: number): Promise<void> {
    const endMs = this.#nowMs + byMs
    await nextTurn()
    for (;;) {
      let next: { id: number; dueMs: number; run: () => void } | null = null
      for (const [id, timer] of this.#timers) {
        if (timer.dueMs <= endMs && (next === null || timer.dueMs < next.dueMs)) next = { id, ...timer }
      }
      if (next === null) break
      this.#timers.delete(next.id)
      this.#nowMs = Math.max(this.#nowMs, next.dueMs)
      next.run()
      await nextTurn()
    }
    this.#nowMs = endMs
  }
}
