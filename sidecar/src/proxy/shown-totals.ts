/** The totals that were worked out last, for those who look and must not make the store work for it each time. */
import type { TierTotals } from '@farebox/crds/sidecar-status.ts'

/** Somebody who looks at older ones has newer ones worked out, for whoever looks next. */
const KEPT_MS = 60_000
/** Where nobody may, older ones are not shown: another sidecar has newer ones by then. Several are worked out meanwhile where this one is asked. */
const SHOWN_MS = 120_000

type Tiers = Readonly<Record<string, TierTotals>>

export class ShownTotals {
  readonly #workOut: () => Promise<Tiers>
  readonly #onSight: boolean
  #last: { readonly tiers: Tiers; readonly atMs: number } | null = null
  #asked: Promise<Tiers> | null = null

  /**
   * `workOut` gives none while there are none to be had. `onSight`: who looks has them worked out. Not so where many sidecars share books, all are
   * looked at, and one of them is asked for totals: the others show none.
   */
  constructor(workOut: () => Promise<Tiers>, { onSight }: { readonly onSight: boolean }) {
    this.#workOut = workOut
    this.#onSight = onSight
  }

  /** Worked out now, or with those who asked a moment before. Rejects when that fails. */
  now(): Promise<Tiers> {
    this.#asked ??= this.#workOut()
      .then((tiers) => {
        // None: the store is away. What was known goes on to be shown.
        if (Object.keys(tiers).length > 0) this.#last = { tiers, atMs: performance.now() }
        return tiers
      })
      .finally(() => {
        this.#asked = null
      })
    return this.#asked
  }

  /** Of a minute ago, as a rule; none before the first. */
  lastKnown(): Tiers {
    const ageMs = this.#last === null ? Number.POSITIVE_INFINITY : performance.now() - this.#last.atMs
    if (this.#onSight && ageMs > KEPT_MS) this.now().catch(() => undefined)
    return this.#onSight || ageMs <= SHOWN_MS ? (this.#last?.tiers ?? {}) : {}
  }
}
