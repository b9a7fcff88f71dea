/**
 * Long work in short slices. However many bodies are being read at once, one slice runs per turn of the event loop, so
 * that slices of different requests never add up to a pause.
 */

/** Work between two pauses, in units of about a nanosecond. */
export const SLICE_UNITS = 1 << 20

export class Pacer {
  readonly #waiting: (() => void)[] = []
  #scheduled = false

  /** Resolves when it is the caller's turn for one more slice. */
  turn(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
      this.#schedule()
    })
  }

  /** Runs a generator that yields between slices. */
  async run<T>(work: Generator<void, T>): Promise<T> {
    for (;;) {
      const step = work.next()
      if (step.done === true) return step.value
      await this.turn()
    }
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#waiting.shift()?.()
      if (this.#waiting.length > 0) this.#schedule()
    })
  }
}

/** One for all requests: slices of different ones never add up to a pause. */
export const PACER = new Pacer()
