/** The totals that were worked out last, for those who look and must not make the store work for it each time. */
import { NOT_TOLD } from './status.ts'
import type { BookTotals } from './status.ts'

/** Somebody who looks at older ones has newer ones worked out, for whoever looks next. */
const KEPT_MS = 60_000
/** Where nobody may, older ones are not shown: another sidecar has newer ones by then. Several are worked out meanwhile where this one is asked. */
const SHOWN_MS = 120_000

export class ShownTotals {
  readonly #workOut: () => Promise<BookTotals>
  readonly #onSight: boolean
  #last: { readonly totals: BookTotals; readonly atMs: number } | null = null
  #asked: Promise<BookTotals> | null = null

  /**
   * `workOut` gives none while there are none to be had. `onSight`: who looks has them worked out. Not so where many sidecars share books, all are
   * looked at, and one of them is asked for totals: the others show none.
   */
  constructor(workOut: () => Promise<BookTotals>, { onSight }: { readonly onSight: boolean }) {
    this.#workOut = workOut
    this.#onSight = onSight
  }

  /** Worked out now, or with those who asked a moment before. Rejects when that fails. */
  now(): Promise<BookTotals> {
    this.#asked ??= this.#workOut()
      .then((totals) => {
        // None: the store is away. What was known goes on to be shown.
        if (Object.keys(totals.tiers).length > 0) this.#last = { totals, atMs: performance.now() }
        return totals
      })
      .finally(() => {
        this.#asked = null
      })
    return this.#asked
  }

  /** Of a minute ago, as a rule; none before the first. */
  lastKnown(): BookTotals {
    const ageMs = this.#last === null ? Number.POSITIVE_INFINITY : performance.now() - this.#last.atMs
    if (this.#onSight && ageMs > KEPT_MS) this.now().catch(() => undefined)
    return this.#onSight || ageMs <= SHOWN_MS ? (this.#last?.totals ?? NOT_TOLD) : NOT_TOLD
  }
}
