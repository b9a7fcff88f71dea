/** Work that must end before the store closes: requests with all that follows their answers, and summaries. */
import { setTimeout as sleep } from 'node:timers/promises'

export class UnderWay {
  readonly #work = new Set<Promise<void>>()

  /** `work` must not reject. */
  add(work: Promise<void>): void {
    this.#work.add(work)
    void work.finally(() => this.#work.delete(work))
  }
  get count(): number {
    return this.#work.size
  }

  /** Waits until nothing is under way, what begins meanwhile included; false when the time is over before. */
  async ended(withinMs: number): Promise<boolean> {
    const end = performance.now() + withinMs
    while (this.#work.size > 0) {
      const leftMs = end - performance.now()
      if (leftMs <= 0) return false
      const timer = new AbortController()
      const timeout = sleep(leftMs, undefined, { signal: timer.signal }).catch(() => undefined) // aborted: not needed any more
      await Promise.race([Promise.all(this.#work), timeout])
      timer.abort()
    }
    return true
  }
}
