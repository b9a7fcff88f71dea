/** A few at a time, in the order in which they came; who waits too long is turned away. */
export class Turns {
  #free: number
  readonly #waiting = new Set<(hasTurn: boolean) => void>()

  constructor(atOnce: number) {
    this.#free = atOnce
  }

  /** Tells once, perhaps at once: false when no turn came within this time. Who has one gives it back. */
  take(waitMs: number, tell: (hasTurn: boolean) => void): void {
    if (this.#free > 0) {
      this.#free -= 1
      return tell(true)
    }
    const settle = (hasTurn: boolean): void => {
      clearTimeout(timer)
      this.#waiting.delete(settle)
      tell(hasTurn)
    }
    const timer = setTimeout(() => settle(false), waitMs)
    this.#waiting.add(settle)
  }

  give(): void {
    const [next] = this.#waiting
    if (next === undefined) this.#free += 1
    else next(true)
  }
}
