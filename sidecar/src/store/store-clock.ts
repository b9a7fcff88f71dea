/**
 * The clock that holds and lives are measured by. It never runs backwards: where the wall clock is set back, it goes on
 * from where it was, at the same pace, and is ahead of the wall from then on.
 */
export class StoreClock {
  readonly #wallMs: () => number
  #lastWallMs: number
  #nowMs: number

  /** `notBeforeMs`: what this clock showed in an earlier run. */
  constructor(wallMs: () => number, notBeforeMs = 0) {
    this.#wallMs = wallMs
    this.#lastWallMs = wallMs()
    this.#nowMs = Math.max(notBeforeMs, this.#lastWallMs)
  }

  now(): number {
    const wallMs = this.#wallMs()
    if (wallMs > this.#lastWallMs) this.#nowMs += wallMs - this.#lastWallMs
    this.#lastWallMs = wallMs
    return this.#nowMs
  }

  /** What this clock shows when the wall clock, left alone from now on, shows `wallMs`. */
  at(wallMs: number): number {
    const nowMs = this.now()
    return wallMs + (nowMs - this.#lastWallMs)
  }

  /** Where others work on the store too: it showed this to one of them. */
  raise(storeMs: number): void {
    if (storeMs > this.now()) this.#nowMs = storeMs
  }
}
