/**
 * The clock that holds and lives are measured by. It never runs backwards: where the wall clock is set back, it goes on
 * from where it was, at the same pace, and is ahead of the wall from then on.
 *
 * What tells how fast time goes may be another clock than the wall, one that does not jump. Then a jump of the wall up to where
 * this clock is already, by what others showed, adds nothing.
 */
export class StoreClock {
  readonly #wallMs: () => number
  readonly #paceMs: (() => number) | null
  #lastWallMs: number
  #lastPaceMs: number
  #nowMs: number

  /** `notBeforeMs`: what this clock showed in an earlier run. `paceMs`: what it goes on by; null: the wall clock. */
  constructor(wallMs: () => number, notBeforeMs = 0, paceMs: (() => number) | null = null) {
    this.#wallMs = wallMs
    this.#paceMs = paceMs
    this.#lastWallMs = wallMs()
    this.#lastPaceMs = paceMs?.() ?? this.#lastWallMs
    this.#nowMs = Math.max(notBeforeMs, this.#lastWallMs)
  }

  now(): number {
    const wallMs = this.#wallMs()
    const paceMs = this.#paceMs?.() ?? wallMs
    this.#nowMs = Math.max(this.#nowMs + Math.max(0, paceMs - this.#lastPaceMs), wallMs)
    this.#lastWallMs = wallMs
    this.#lastPaceMs = paceMs
    return Math.floor(this.#nowMs)
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

/** The clock of a store that others work on too. */
export type SharedClock = Pick<StoreClock, 'now' | 'at' | 'raise'>
