/** The totals of a sidecar in the statuses that compile gave: each object's status as it would be in the cluster. Pure. */
import type { ConversationBudgetStatus } from '@farebox/crds/conversation-budget.ts'
import { ObjectName } from '@farebox/crds/fields.ts'
import { RUNGS } from '@farebox/crds/ladder.ts'
import type { PricingTier } from '@farebox/crds/pricing-tier.ts'
import { sharePercent, soldSessions, standingResolutions } from '@farebox/crds/sidecar-status.ts'
import type { ResolutionTotals, TierTotals, TierUserTotals } from '@farebox/crds/sidecar-status.ts'
import { ALERTS_SHOWN_MAX, MARGIN_PERCENT_MIN, TIERS_SHOWN_MAX, USE_BANDS } from '@farebox/crds/traffic-status.ts'
import type { TierTraffic } from '@farebox/crds/traffic-status.ts'
import { formatUsd, parseSignedUsd, parseUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { Compiled, ObjectStatus } from './compile.ts'
import { shownLimits } from './limit-use.ts'
import type { LimitUses } from './limit-use.ts'
import { earnedBy, marginPercent } from './margin.ts'
import type { TierPrice } from './margin.ts'
import { bounded } from './merge-reports.ts'

export interface TrafficReport {
  /** `budget`: `namespace/name`. */
  readonly config: { readonly budget: string }
  readonly tiers: Readonly<Record<string, TierTotals>>
  readonly limits?: LimitUses | undefined
}

/** `tiers`: the objects that were compiled. A tier that is refused shows no realised margin, for it has no price that counts. */
export function withTraffic(
  compiled: Pick<Compiled, 'statuses' | 'tiers' | 'configs'>,
  tiers: readonly PricingTier[],
  report: TrafficReport,
  nowMs: number,
): ReadonlyMap<string, ObjectStatus> {
  const statuses = new Map(compiled.statuses)
  const margins = marginsOf(compiled, tiers, report.tiers)
  for (const [name, margin] of margins) {
    const status = statuses.get(`PricingTier/${name}`)
    if (status !== undefined) statuses.set(`PricingTier/${name}`, { ...status, margin })
  }
  const budget = `ConversationBudget/${report.config.budget}`
  const status = statuses.get(budget)
  const limits = shownLimits(
    compiled.configs.get(report.config.budget)?.limits ?? [],
    report.limits === undefined ? [] : [report.limits],
    [],
    nowMs,
  )
  if (status !== undefined)
    statuses.set(budget, {
      ...status,
      ...trafficOf(report.tiers, margins, goalsOf(compiled)),
      ...(limits.length === 0 ? {} : { limits: [...limits] }),
    })
  return statuses
}

/** Of each tier: the margin that it wants, and the one that these totals leave. */
export function marginsOf(
  compiled: Pick<Compiled, 'tiers'>,
  tiers: readonly PricingTier[],
  totalsByTier: TrafficReport['tiers'],
): ReadonlyMap<string, TierTraffic['margin']> {
  return new Map(
    tiers.map((tier) => {
      const { name } = tier.metadata
      const totals = Object.hasOwn(totalsByTier, name) ? totalsByTier[name] : undefined // a plan may be called constructor
      const price = priceOf(tier, compiled)
      const realised = totals === undefined || price === null ? null : realisedPercent(totals, price)
      const margin = {
        targetPercent: tier.spec.unitEconomics.targetGrossMarginPercent,
        ...(realised === null ? {} : { realisedPercent: Math.max(realised, MARGIN_PERCENT_MIN) }),
      }
      return [name, margin]
    }),
  )
}

/** Of each tier that is priced per resolution: what one may cost, and what it is sold for, in US dollars. */
export type ResolutionGoals = ReadonlyMap<string, Pick<TierTraffic['resolutions'], 'targetCostPer' | 'pricePer'>>

export function goalsOf({ tiers }: Pick<Compiled, 'tiers'>): ResolutionGoals {
  return new Map(
    [...tiers].flatMap(([name, compiled]) => {
      if (compiled.status !== 'accepted' || compiled.contract.pricing.model !== 'PerResolution') return []
      const { price, targetCostPerResolution: target } = compiled.contract.pricing
      return [[name, { pricePer: price, ...(target === undefined ? {} : { targetCostPer: target }) }] as const]
    }),
  )
}

/** In US dollars, by the contract that is compiled of it. */
function priceOf({ metadata, spec }: PricingTier, { tiers }: Pick<Compiled, 'tiers'>): TierPrice | null {
  const compiled = tiers.get(metadata.name)
  if (compiled?.status !== 'accepted') return null
  const { pricing } = compiled.contract
  return {
    tier: metadata.name,
    pricing: pricing.model,
    price: parseUsd(pricing.price),
    otherCost: parseUsd(pricing.otherCost),
    expectedConversationsPerUser: spec.unitEconomics.expectedConversationsPerUser ?? null,
  }
}

/** Null while nothing was sold. A price per resolution is set against what all conversations of the same days cost, resolved or not. */
function realisedPercent(totals: TierTotals, price: TierPrice): number | null {
  const { spent, resolutions } = totals
  const resolved = standingResolutions(resolutions)
  const { cost, costPer } = resolutions
  const ofDays = cost === undefined ? parseUsd(costPer ?? '0') * BigInt(resolved) : parseSignedUsd(cost)
  const earned = earnedBy({ conversations: soldSessions(totals), resolved }, price)
  return marginPercent(earned, price.pricing === 'PerResolution' ? ofDays : parseUsd(spent))
}

export type BudgetTraffic = Required<
  Pick<ConversationBudgetStatus, 'conversations' | 'spend' | 'cost' | 'alerts' | 'resolutions' | 'tiers'>
>

/** Of the keys that sidecars tell, those that a status can hold: a later version of them may know rungs that we do not. */
const RUNGS_SHOWN: ReadonlySet<string> = new Set(['None', ...RUNGS])
const isRung = (key: string): boolean => RUNGS_SHOWN.has(key)
const isBand = (key: string): boolean => USE_BANDS.some((band) => band === key)
const isPercent = (key: string): boolean => /^(100|[1-9][0-9]?)$/.test(key)

/** What these totals come to, in all and by tier. */
export function trafficOf(
  totalsByTier: TrafficReport['tiers'],
  margins: ReadonlyMap<string, TierTraffic['margin']>,
  goals: ResolutionGoals,
): BudgetTraffic {
  const used = Object.entries(totalsByTier)
    .filter(([tier, { conversations, turns }]) => conversations + turns > 0 && ObjectName.safeParse(tier).success)
    .toSorted(([a, { spent: ofA }], [b, { spent: ofB }]) => compare(parseUsd(ofB), parseUsd(ofA)) || (a < b ? -1 : 1))
  const all = used.map(([, totals]) => totals)
  const count = (of: (totals: TierTotals) => number): number => counting(all.reduce((sum, totals) => sum + of(totals), 0))
  const usd = (of: (totals: TierTotals) => string): string =>
    formatUsd(bounded(all.reduce((sum, totals) => sum + parseUsd(of(totals)), 0n)))
  const dearest = all.map(({ cost }) => parseUsd(cost.max)).reduce((most, cost) => (cost > most ? cost : most), 0n)
  return {
    conversations: {
      total: count(({ conversations }) => conversations),
      turns: count(({ turns }) => turns),
      byRung: counted(
        all.map(({ byRung }) => byRung),
        isRung,
      ),
    },
    spend: { spent: usd(({ spent }) => spent), held: usd(({ held }) => held), ...todayOf(all) },
    cost: { max: formatUsd(dearest) },
    alerts: highest(
      counted(
        all.map(({ alerts }) => alerts),
        isPercent,
      ),
    ),
    resolutions: {
      started: count(({ resolutions }) => resolutions.started),
      confirmed: count(({ resolutions }) => resolutions.confirmed),
      ...(all.some(({ resolutions }) => resolutions.assumed !== undefined)
        ? { assumed: count(({ resolutions }) => resolutions.assumed ?? 0) }
        : {}),
      reversed: count(({ resolutions }) => resolutions.reversed),
    },
    tiers: used.slice(0, TIERS_SHOWN_MAX).map(([tier, totals]) => {
      const { conversations, turns, byRung, spent, held, cost, alerts, users } = totals
      return {
        tier,
        conversations: { total: counting(conversations), turns: counting(turns), byRung: counted([byRung], isRung) },
        spend: { spent, held },
        cost,
        alerts: highest(counted([alerts], isPercent)),
        resolutions: { ...resolutionsOf(totals.resolutions), ...goals.get(tier) },
        ...(users === undefined ? {} : { users: usersOf(users) }),
        margin: margins.get(tier) ?? {},
      }
    }),
  }
}

function todayOf(all: readonly TierTotals[]): { readonly today?: string } {
  const known = all.flatMap(({ today }) => (today === undefined ? [] : [parseSignedUsd(today.spent)]))
  return known.length === 0 ? {} : { today: formatUsd(bounded(known.reduce((sum, spent) => sum + spent, 0n))) }
}

/** Sums by key; what nobody counted is left out. */
function counted(parts: readonly Readonly<Record<string, number>>[], isShown: (key: string) => boolean): Record<string, number> {
  const sums: Record<string, number> = {}
  for (const part of parts) {
    for (const [key, count] of Object.entries(part)) if (count > 0 && isShown(key)) sums[key] = counting((sums[key] ?? 0) + count)
  }
  return sums
}

function resolutionsOf(resolutions: ResolutionTotals): TierTraffic['resolutions'] {
  const { started, assumed, confirmed, reversed, costPer, unresolvedCost } = resolutions
  return {
    started: counting(started),
    ...(assumed === undefined ? {} : { assumed: counting(assumed) }),
    confirmed: counting(confirmed),
    reversed: counting(reversed),
    ...(started <= 0 ? {} : { ratePercent: sharePercent(BigInt(standingResolutions(resolutions)), BigInt(started)) }),
    ...(costPer === null ? {} : { costPer }),
    ...(unresolvedCost === undefined ? {} : { unresolvedCost }),
  }
}

function usersOf({ active, spent, heavy, heavySpent, upgradeCandidates, byUse }: TierUserTotals): NonNullable<TierTraffic['users']> {
  return {
    active: counting(active),
    heavy: counting(heavy),
    heavySharePercent: sharePercent(parseSignedUsd(heavySpent), parseSignedUsd(spent)),
    upgradeCandidates: counting(upgradeCandidates),
    byUse: counted([byUse], isBand),
  }
}

/** Within what a status can hold. */
function counting(sum: number): number {
  return Math.min(Math.max(0, sum), Number.MAX_SAFE_INTEGER)
}

/** Conversations under older contracts may have had other thresholds: the highest count most. */
function highest(alerts: Readonly<Record<string, number>>): Record<string, number> {
  const rising = Object.entries(alerts).toSorted(([a], [b]) => Number(a) - Number(b))
  return Object.fromEntries(rising.slice(-ALERTS_SHOWN_MAX))
}

function compare(a: NanoUsd, b: NanoUsd): number {
  return a < b ? -1 : a > b ? 1 : 0
}
