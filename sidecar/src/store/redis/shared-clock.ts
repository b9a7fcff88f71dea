/**
 * The store's clock as one process sees it: it never runs backwards, and is never behind what the store answered. Where
 * the wall clock is set back, or another sidecar's is ahead, it goes on from there at the same pace.
 */
export class SharedClock {
  readonly #wallMs: () => number
  #lastWallMs: number
  #nowMs: number

  constructor(wallMs: () => number) {
    this.#wallMs = wallMs
    this.#lastWallMs = wallMs()
    this.#nowMs = this.#lastWallMs
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

  /** The store showed this. */
  raise(storeMs: number): void {
    if (storeMs > this.now()) this.#nowMs = storeMs
  }
}
