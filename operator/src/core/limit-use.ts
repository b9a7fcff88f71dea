/** How much of its limits the pods of a budget have used, as its status shows it. Pure. */
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import { nameOfPeriod, periodSpan } from '@farebox/crds/period.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { usedPercent } from '@farebox/crds/sidecar-status.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { LIMITS_SHOWN_MAX } from '@farebox/crds/traffic-status.ts'
import type { ShownLimit } from '@farebox/crds/traffic-status.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { booksKey, isNewer } from './merge-reports.ts'

/** What one set of books says of the limits. */
export type LimitUses = NonNullable<SidecarStatus['limits']>

/**
 * Of the limits in force, the one that is used most first. What nobody tells of the current period stays as it is `known`, where that is of
 * the same period, and else is left out: it is not made up.
 */
export function shownLimits(
  inForce: SidecarConfig['limits'],
  told: readonly LimitUses[],
  known: readonly ShownLimit[],
  nowMs: number,
): readonly ShownLimit[] {
  const shown = [...tightest(inForce)].flatMap(([name, { amount, period }]): readonly ShownLimit[] => {
    const since = periodSpan(period, nowMs).key
    const uses = told.flatMap((uses) => {
      const use = uses[name]
      return use?.since === since ? [use] : []
    })
    const before = known.find((limit) => limit.period === name && limit.since === since)
    const [first, ...others] = uses
    if (first === undefined) return before === undefined ? [] : [limitOf({ ...before, amount })]
    // Each set of books has all of a limit to itself: the fullest is the first that refuses.
    const { spent, held } = others.reduce((most, use) => (parseUsd(use.spent) > parseUsd(most.spent) ? use : most), first)
    return [limitOf({ period: name, amount, since, spent, held })]
  })
  return shown.toSorted((a, b) => b.usedPercent - a.usedPercent).slice(0, LIMITS_SHOWN_MAX)
}

/** What the books that these reports are of say of the limits of the budget, the newest of each. Sidecars of other budgets have other limits. */
export function limitsTold(reports: Iterable<ReceivedReport>, budget: string, nowMs: number): readonly LimitUses[] {
  const newest = new Map<string, { readonly received: ReceivedReport; readonly limits: LimitUses }>()
  for (const received of reports) {
    const { status } = received.report
    if (status?.limits === undefined || status.config.budget !== budget) continue
    const key = booksKey(received)
    const last = newest.get(key)
    if (last === undefined || isNewer(received, last.received, nowMs)) newest.set(key, { received, limits: status.limits })
  }
  return [...newest.values()].map(({ limits }) => limits)
}

/** By what their periods are called: of several limits of one period the least amount holds. */
function tightest(limits: SidecarConfig['limits']): ReadonlyMap<string, SidecarConfig['limits'][number]> {
  const byName = new Map<string, SidecarConfig['limits'][number]>()
  for (const limit of limits) {
    const name = nameOfPeriod(limit.period)
    const known = byName.get(name)
    if (known === undefined || parseUsd(limit.amount) < parseUsd(known.amount)) byName.set(name, limit)
  }
  return byName
}

function limitOf(limit: Omit<ShownLimit, 'usedPercent'>): ShownLimit {
  const { period, amount, since, spent, held } = limit
  return { period, amount, since, spent, held, usedPercent: usedPercent(limit) }
}
