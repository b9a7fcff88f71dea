/**
 * Many reports into what status shows. A report is a level: of each tier in a set of books one says all, so sidecars that share books
 * count once, however many they are; different books add up. Pure.
 */
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import { soldSessions, standingResolutions } from '@farebox/crds/sidecar-status.ts'
import type { ResolutionTotals, TierTotals, TierUserTotals } from '@farebox/crds/sidecar-status.ts'
import { formatUsd, parseSignedUsd, parseUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'

const DAY_MS = 86_400_000
/** Between the clocks of replicas. */
const SKEW_MS_MAX = 60_000
/** Longer than it takes until another sidecar of the same tiers tells their totals. */
const INFORMED_MS = 60_000
/** What a status can hold. A sidecar that tells of more is not to be believed, and must not keep others from being told of. */
const USD_MAX: NanoUsd = 999_999_999_999_999_999n

/** Totals by tier. */
export type Totals = Readonly<Record<string, TierTotals>>

/**
 * The newest totals of each set of books, tier by tier: what one sidecar says of a tier is all that counts of it. A sidecar whose store is
 * away has no totals: what was known before stays. What was told yesterday says nothing of today.
 */
export function newestTotals(reports: Iterable<ReceivedReport>, nowMs: number): ReadonlyMap<string, Totals> {
  const books = new Map<string, Map<string, Told[]>>()
  for (const received of newestOfBudgets(reports, nowMs)) {
    const key = booksKey(received)
    const tiers = books.get(key) ?? new Map<string, Told[]>()
    books.set(key, tiers)
    for (const [tier, totals] of Object.entries(received.report.status?.tiers ?? {})) {
      const told = tiers.get(tier)
      if (told === undefined) tiers.set(tier, [{ received, totals }])
      else told.push({ received, totals })
    }
  }
  return new Map(
    [...books].map(([key, tiers]) => [key, Object.fromEntries([...tiers].map(([tier, told]) => [tier, chosenOf(told, nowMs)]))]),
  )
}

/** Books are told apart by the namespace of who reports them as well, so that no pod can speak for the books of another namespace. */
export function booksKey({ pod, report }: Pick<ReceivedReport, 'pod' | 'report'>): string {
  return `${pod.namespace}/${report.books}`
}

/**
 * Of each set of books, and of each budget whose sidecars keep them, the newest report that has totals: those of one budget tell of tiers
 * that those of another do not know.
 */
export function newestOfBudgets(reports: Iterable<ReceivedReport>, nowMs: number): readonly ReceivedReport[] {
  const newest = new Map<string, ReceivedReport>()
  for (const received of reports) {
    const { status } = received.report
    if (status === null || Object.keys(status.tiers).length === 0) continue
    const key = `${booksKey(received)} ${status.config.budget}`
    const known = newest.get(key)
    if (known === undefined || isNewer(received, known, nowMs)) newest.set(key, received)
  }
  return [...newest.values()]
}

/** What one report says of a tier. */
interface Told {
  readonly received: ReceivedReport
  readonly totals: TierTotals
}

/**
 * A sidecar that has the tier's contract says more of it, its users above all: its word counts unless others' is much newer, as where the
 * pods of the budgets that may use the tier are gone. What it said of users stays even then.
 */
function chosenOf(told: readonly Told[], nowMs: number): TierTotals {
  const newestOf = (some: readonly Told[]): Told => some.reduce((last, one) => (isNewer(one.received, last.received, nowMs) ? one : last))
  const last = newestOf(told)
  const informing = told.filter(({ totals }) => totals.users !== undefined)
  if (informing.length === 0) return asOfDay(last, nowMs)
  const informed = newestOf(informing)
  if (heardAtMs(last.received, nowMs) - heardAtMs(informed.received, nowMs) < INFORMED_MS) return asOfDay(informed, nowMs)
  const { users } = informed.totals
  return { ...asOfDay(last, nowMs), ...(users === undefined ? {} : { users }) }
}

function asOfDay({ received, totals }: Told, nowMs: number): TierTotals {
  const { today } = totals
  if (today === undefined || dayOf(received.receivedAtMs) >= dayOf(nowMs)) return totals
  return { ...totals, today: { turns: 0, spent: formatUsd(0n), users: 0 } }
}

/** Since 1970, in UTC. */
function dayOf(ms: number): number {
  return Math.floor(ms / DAY_MS)
}

/** Within what a status can hold, either way. */
export function bounded(sum: NanoUsd): NanoUsd {
  return sum > USD_MAX ? USD_MAX : sum < -USD_MAX ? -USD_MAX : sum
}

/** Whether `a` came after `b`. Of two that came in one millisecond, the pod decides: whichever way they are read, it is the same one. */
export function isNewer(a: ReceivedReport, b: ReceivedReport, nowMs: number): boolean {
  const [ofA, ofB] = [heardAtMs(a, nowMs), heardAtMs(b, nowMs)]
  return ofA === ofB ? a.pod.uid > b.pod.uid : ofA > ofB
}

/** One of the future is of before our clock was set back. */
function heardAtMs({ receivedAtMs }: ReceivedReport, nowMs: number): number {
  return receivedAtMs > nowMs + SKEW_MS_MAX ? 0 : receivedAtMs
}

/** The totals of different books as one, tier by tier. */
export function mergeTotals(books: Iterable<Totals>): Totals {
  const parts = new Map<string, TierTotals[]>()
  for (const totals of books) {
    for (const [tier, part] of Object.entries(totals)) {
      const list = parts.get(tier)
      if (list === undefined) parts.set(tier, [part])
      else list.push(part)
    }
  }
  return Object.fromEntries([...parts].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([tier, list]) => [tier, mergeTier(list)]))
}

/**
 * Counts and money add up exactly. What a resolution cost is what all cost by all resolutions, rounded down; of books that tell no cost,
 * weighted by resolutions. Users of a day or period may be in several books: their sum is the most that there can be, and one who is
 * heavy in one book counts as heavy. Quantiles are exact for one set of books; of several they are the lowest cost of
 * which the books together say that so many sessions cost at most that: never too low, and at most the highest of the parts.
 */
function mergeTier(parts: readonly TierTotals[]): TierTotals {
  const [only, ...others] = parts
  if (only !== undefined && others.length === 0) return only
  const count = (of: (part: TierTotals) => number): number => parts.reduce((sum, part) => sum + of(part), 0)
  const usd = (of: (part: TierTotals) => string): string =>
    formatUsd(bounded(parts.reduce((sum, part) => sum + parseSignedUsd(of(part)), 0n)))
  const todays = parts.flatMap(({ today }) => (today === undefined ? [] : [today]))
  return {
    conversations: count(({ conversations }) => conversations),
    ...(parts.some(({ sessions }) => sessions !== undefined) ? { sessions: count(soldSessions) } : {}),
    turns: count(({ turns }) => turns),
    byRung: summed(parts.map(({ byRung }) => byRung)),
    spent: usd(({ spent }) => spent),
    held: usd(({ held }) => held),
    cost: mergeCosts(parts),
    alerts: summed(parts.map(({ alerts }) => alerts)),
    resolutions: mergeResolutions(parts.map(({ resolutions }) => resolutions)),
    ...mergeUsers(parts.flatMap(({ users }) => (users === undefined ? [] : [users]))),
    ...(todays.length === 0
      ? {}
      : {
          today: {
            turns: todays.reduce((sum, { turns }) => sum + turns, 0),
            spent: formatUsd(bounded(todays.reduce((sum, { spent }) => sum + parseSignedUsd(spent), 0n))),
            users: todays.reduce((sum, { users }) => sum + users, 0),
          },
        }),
  }
}

function mergeResolutions(parts: readonly ResolutionTotals[]): ResolutionTotals {
  const count = (of: (part: ResolutionTotals) => number): number => parts.reduce((sum, part) => sum + of(part), 0)
  const known = (of: (part: ResolutionTotals) => string | undefined): readonly string[] =>
    parts.flatMap((part) => {
      const amount = of(part)
      return amount === undefined ? [] : [amount]
    })
  const costs = known(({ cost }) => cost)
  const unresolved = known(({ unresolvedCost }) => unresolvedCost)
  return {
    started: count(({ started }) => started),
    ...(parts.some(({ assumed }) => assumed !== undefined) ? { assumed: count(({ assumed = 0 }) => assumed) } : {}),
    confirmed: count(({ confirmed }) => confirmed),
    reversed: count(({ reversed }) => reversed),
    ...(costs.length < parts.length ? {} : { cost: formatUsd(bounded(totalOf(costs))) }),
    costPer: costs.length < parts.length ? weightedCostPer(parts) : costPer(totalOf(costs), parts),
    ...(unresolved.length === 0 ? {} : { unresolvedCost: formatUsd(bounded(totalOf(unresolved))) }),
    // Each set of books decides by itself.
    ...(parts.some(({ isOverTarget }) => isOverTarget !== undefined)
      ? { isOverTarget: parts.some(({ isOverTarget }) => isOverTarget === true) }
      : {}),
  }
}

function totalOf(amounts: readonly string[]): NanoUsd {
  return amounts.reduce((sum, amount) => sum + parseSignedUsd(amount), 0n)
}

function costPer(cost: NanoUsd, parts: readonly ResolutionTotals[]): string | null {
  const resolved = BigInt(parts.reduce((sum, part) => sum + standingResolutions(part), 0))
  return resolved === 0n || cost < 0n ? null : formatUsd(bounded(cost / resolved))
}

function weightedCostPer(parts: readonly ResolutionTotals[]): string | null {
  let resolved = 0n
  let cost = 0n
  for (const part of parts) {
    if (part.costPer === null) continue
    const own = BigInt(standingResolutions(part))
    resolved += own
    cost += own * parseUsd(part.costPer)
  }
  return resolved === 0n ? null : formatUsd(cost / resolved)
}

function mergeUsers(parts: readonly TierUserTotals[]): { readonly users?: TierUserTotals } {
  if (parts.length === 0) return {}
  const count = (of: (part: TierUserTotals) => number): number => parts.reduce((sum, part) => sum + of(part), 0)
  return {
    users: {
      active: count(({ active }) => active),
      spent: formatUsd(bounded(totalOf(parts.map(({ spent }) => spent)))),
      heavy: count(({ heavy }) => heavy),
      heavySpent: formatUsd(bounded(totalOf(parts.map(({ heavySpent }) => heavySpent)))),
      upgradeCandidates: count(({ upgradeCandidates }) => upgradeCandidates),
      byUse: summed(parts.map(({ byUse }) => byUse)),
    },
  }
}

/** Of these sets of books together. There may be thousands of them, one for each pod. */
function mergeCosts(parts: readonly TierTotals[]): TierTotals['cost'] {
  const steps = parts.flatMap(stepsOf).toSorted((a, b) => (a.cost < b.cost ? -1 : a.cost > b.cost ? 1 : 0))
  const all = steps.reduce((sum, { shares }) => sum + shares, 0n)
  let within = 0n
  const rising = steps.map(({ cost, shares }) => ({ cost, within: (within += shares) }))
  const quantile = (percent: bigint): string => formatUsd(rising.find((step) => step.within * 100n >= all * percent)?.cost ?? 0n)
  return { p50: quantile(50n), p95: quantile(95n), p99: quantile(99n), max: quantile(100n) }
}

/**
 * What a set of books tells of its costs: so many more of its sessions, in hundredths of a session, cost at most this. A lower quantile
 * that is told as more than a higher one is no more than that.
 */
function stepsOf(part: TierTotals): readonly { readonly cost: NanoUsd; readonly shares: bigint }[] {
  const sessions = soldSessions(part)
  if (sessions <= 0) return []
  const count = BigInt(sessions)
  const max = parseUsd(part.cost.max)
  const p99 = least(parseUsd(part.cost.p99), max)
  const p95 = least(parseUsd(part.cost.p95), p99)
  const p50 = least(parseUsd(part.cost.p50), p95)
  return [
    { cost: p50, shares: 50n * count },
    { cost: p95, shares: 45n * count },
    { cost: p99, shares: 4n * count },
    { cost: max, shares: count },
  ]
}

function least(a: NanoUsd, b: NanoUsd): NanoUsd {
  return a < b ? a : b
}

function summed(parts: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sums: Record<string, number> = {}
  for (const part of parts) {
    for (const [key, count] of Object.entries(part)) sums[key] = (sums[key] ?? 0) + count
  }
  return sums
}
