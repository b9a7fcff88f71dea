/** What a report to the operator says of the books and the turns; totals, which cost the store most, no more often than need be. */
import type { DeliveryOptions } from '../delivery/delivery.ts'
import { StoreError } from '../store/store.ts'
import type { Gateway, Policy } from './gateway.ts'
import type { ShownTotals } from './shown-totals.ts'
import { limitUse, NOT_TOLD, statusWith } from './status.ts'
import type { BookTotals } from './status.ts'

/** Totals are worked out anew for a report when they are older than this, or turns have ended since. */
const TOTALS_MS = 14_000
const TOTALS_AFTER_TURNS_MS = 2_000

/** `books`: names the books. */
export function reportFacts(gateway: Gateway, shownTotals: ShownTotals, books: () => string): DeliveryOptions['facts'] {
  let totals: { readonly told: BookTotals; readonly atMs: number; readonly turns: number } | null = null
  return async (withTotals) => {
    const policy = gateway.policy()
    const { count: turns } = gateway.tally
    const ageMs = performance.now() - (totals?.atMs ?? Number.NEGATIVE_INFINITY)
    if (withTotals && policy !== null && (ageMs > TOTALS_MS || (ageMs > TOTALS_AFTER_TURNS_MS && turns !== totals?.turns))) {
      const told = await shownTotals.now().catch((error: unknown) => {
        if (error instanceof StoreError && error.code === 'away') return null
        throw error
      })
      // Null: the store is there, and took too long for them. What it told before is told again.
      // Without any, the store is away: they are asked for as soon as it is back.
      if (told !== null) totals = Object.keys(told.tiers).length === 0 ? null : { told, atMs: performance.now(), turns }
    }
    const { count, lastMs, withoutUser } = gateway.tally
    const told = withTotals ? (totals?.told ?? NOT_TOLD) : policy === null ? NOT_TOLD : await limitsAlone(gateway, policy)
    return {
      books: books(),
      status: policy === null ? null : statusWith(gateway, policy, told),
      turns: { count, lastMs, withoutUser },
      heldKeys: policy === null ? [] : [...gateway.credentials.heldFor(policy.config.upstreams)],
    }
  }
}

/** What limits come to is one read of a few accounts, and only sidecars of the budget know its limits: each tells it. */
async function limitsAlone(gateway: Gateway, policy: Policy): Promise<BookTotals> {
  if (policy.limits.length === 0) return NOT_TOLD
  return await limitUse(gateway, policy).then(
    (limits) => ({ ...NOT_TOLD, limits }),
    (error: unknown) => {
      if (error instanceof StoreError) return NOT_TOLD
      throw error
    },
  )
}
