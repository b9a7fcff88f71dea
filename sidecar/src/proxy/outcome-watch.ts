/** Whether a tier priced per resolution is on target, looked up at most once a minute. */
import { parseUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { isOverTarget, WINDOW_DAYS } from '../core/outcomes.ts'
import { DAY_MS, dayOf } from '../core/utc-day.ts'
import { StoreError } from '../store/store.ts'
import type { BudgetStore } from '../store/store.ts'

const KEPT_MS = 60_000
/** Days walked, so that the state of today follows from the window of four weeks ago. */
const DAYS_WALKED = 2 * WINDOW_DAYS

export class OutcomeWatch {
  readonly #store: BudgetStore
  readonly #known = new Map<string, { readonly over: boolean; readonly atMs: number }>()
  /** Look-ups under way, for all who wait for the same one. */
  readonly #asked = new Map<string, Promise<boolean | null>>()

  constructor(store: BudgetStore) {
    this.#store = store
  }

  /** Whether thresholds below the cap apply to a conversation that begins now. Always true for the other pricing models. */
  async ladderApplies(contract: Contract, nowMs: number): Promise<boolean> {
    const target = contract.pricing.targetCostPerResolution
    if (contract.pricing.model !== 'PerResolution' || target === undefined) return true
    const known = this.#known.get(contract.hash)
    if (known !== undefined && nowMs - known.atMs < KEPT_MS) return known.over
    const over = await this.#askOnce(contract.hash, () => this.#isOver(contract.tier, parseUsd(target), nowMs))
    // While the store is away it stays as it was last seen.
    if (over === null) return known?.over ?? false
    this.#known.set(contract.hash, { over, atMs: nowMs })
    return over
  }

  #askOnce(hash: string, ask: () => Promise<boolean | null>): Promise<boolean | null> {
    const asked = this.#asked.get(hash) ?? ask().finally(() => this.#asked.delete(hash))
    this.#asked.set(hash, asked)
    return asked
  }

  /** Null while the store is away. */
  async #isOver(tier: string, target: NanoUsd, nowMs: number): Promise<boolean | null> {
    // All at once: the store brings its tables up to date once for all of them, and lets turns go on between their pages.
    const asked = Promise.all(
      Array.from({ length: DAYS_WALKED }, (_, index) => {
        const day = dayOf(nowMs - (DAYS_WALKED - 1 - index) * DAY_MS)
        return this.#store.readOutcomes({ tier, fromDay: day, toDay: day })
      }),
    )
    try {
      return isOverTarget(await asked, target)
    } catch (error) {
      if (error instanceof StoreError && error.code === 'away') return null
      throw error
    }
  }
}
