/** What the users of each tier come to, as it was a moment ago: to add it up may take a store with many users a while. */
import { termsOf } from '../core/terms.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { useOf, usersQuery, usersSpan } from '../core/user-use.ts'
import type { TierUse } from '../core/user-use.ts'
import type { BudgetStore } from '../store/store.ts'

/** It is kept for so many times as long as it took: the store spends at most so large a part of its time on it. */
const KEPT_TIMES = 50
const KEPT_MS_MIN = 1_000

interface Known {
  readonly key: string
  readonly use: Promise<TierUse>
  untilMs: number
}

export class UserBook {
  readonly #store: Pick<BudgetStore, 'readUsers'>
  /** By tier. */
  readonly #known = new Map<string, Known>()

  constructor(store: Pick<BudgetStore, 'readUsers'>) {
    this.#store = store
  }

  /** Rejects when the store does. */
  async use(contract: Contract, nowMs: number): Promise<TierUse> {
    const terms = termsOf(contract)
    const { fromDay, toDay, periodKey } = usersSpan(terms, nowMs)
    const { tier, hash } = contract
    const key = `${hash} ${periodKey} ${toDay}`
    const known = this.#known.get(tier)
    if (known?.key === key && performance.now() < known.untilMs) return await known.use
    const began = performance.now()
    const asked: Known = {
      key,
      use: this.#store.readUsers({ tier, fromDay, toDay, ...usersQuery(terms, 0) }).then(useOf),
      untilMs: Infinity,
    }
    this.#known.set(tier, asked)
    try {
      const use = await asked.use
      const tookMs = performance.now() - began
      asked.untilMs = performance.now() + Math.max(KEPT_MS_MIN, tookMs * KEPT_TIMES)
      return use
    } catch (error) {
      if (this.#known.get(tier) === asked) this.#known.delete(tier)
      throw error
    }
  }
}
