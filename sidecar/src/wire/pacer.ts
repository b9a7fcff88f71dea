/**
 * Long work in short slices. However many bodies are being read at once, one of them is read for a moment per turn of the event loop, so
 * that slices of different requests never add up to a pause.
 */

/** How long slices follow each other in one turn of the event loop: short ones, by whose turns everything else would come to more than they do. */
const TURN_MS = 2

/** Work between two pauses, in units of about a nanosecond. */
export const SLICE_UNITS = 1 << 20

export class Pacer {
  readonly #waiting: (() => void)[] = []
  readonly #turnMs: number
  #scheduled = false

  constructor(turnMs = TURN_MS) {
    this.#turnMs = turnMs
  }

  /** Resolves when it is the caller's turn to go on. */
  turn(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
      this.#schedule()
    })
  }

  /** Runs a generator that yields between slices. */
  async run<T>(work: Generator<void, T>): Promise<T> {
    for (;;) {
      const untilMs = performance.now() + this.#turnMs
      do {
        const step = work.next()
        if (step.done === true) return step.value
      } while (performance.now() < untilMs)
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
