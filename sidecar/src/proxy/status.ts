/** Totals for whoever reports status: config in force, conversations by rung, spend and outcomes per tier. */
import { RUNGS } from '@farebox/crds/ladder.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { LimitUse, ResolutionTotals, SidecarStatus, TierTotals, TierUserTotals } from '@farebox/crds/sidecar-status.ts'
import { formatUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { EMPTY_ACCOUNT } from '../core/budget.ts'
import { userAlertsIn } from '../core/conversation-change.ts'
import { costQuantile, countOf } from '../core/cost-buckets.ts'
import { isLoneCall } from '../core/lone-call.ts'
import { costPerResolution, WINDOW_DAYS } from '../core/outcomes.ts'
import { inEffect } from '../core/standing.ts'
import { limitDraws, sessionAccount, termsOf, userPeriodAt } from '../core/terms.ts'
import type { Totals } from '../core/totals.ts'
import { DAY_MS, dayOf } from '../core/utc-day.ts'
import { CONVERSATION_LIFE_MS, NO_CONVERSATION, StoreError } from '../store/store.ts'
import type { DaysQuery, ListedConversation, OutcomeTotals } from '../store/store.ts'
import type { ShownLimit, ShownTier } from '../telemetry/metrics.ts'
import type { Gateway, Policy } from './gateway.ts'

/** Conversations looked at, newest first, and lone calls as many. What more of them come to is told by the totals of their days. */
const CONVERSATIONS_MAX = 5_000
/** Balances of sessions that are read in one step. */
const SESSIONS_READ = 200
/** A page that took too long once may come in time when it is asked for again. */
const TRIES_MAX = 3
/** As long as a conversation lives after its last turn. */
const PERIOD_DAYS = CONVERSATION_LIFE_MS / DAY_MS

/** What the books say. Without any tiers: nobody has told. */
export type BookTotals = Pick<SidecarStatus, 'tiers' | 'limits'>
export const NOT_TOLD: BookTotals = { tiers: {} }

/** Without totals while the store is away: they are there. Rejects with `StoreError` when it is there and does not tell them. */
export async function statusOf(gateway: Gateway, policy: Policy): Promise<SidecarStatus> {
  return statusWith(gateway, policy, await bookTotals(gateway, policy))
}

/** With totals that were worked out before: all else is of this moment. */
export function statusWith(gateway: Gateway, policy: Policy, totals: BookTotals): SidecarStatus {
  const { config } = policy
  return {
    config: { budget: policy.budgetKey, mode: config.mode, version: config.version, hash: config.hash },
    rejected: gateway.rejectedConfig(),
    ...totals,
    callsInFlight: gateway.holds.count,
    store: storeOf(gateway),
  }
}

function storeOf({ storeIsShared, storeStanding }: Gateway): SidecarStatus['store'] {
  const { state, reason, sinceMs, unsent } = storeStanding()
  return { kind: storeIsShared ? 'Shared' : 'Embedded', state, reason, since: new Date(sinceMs).toISOString(), unsent }
}

/**
 * None while the store is away. One that is there and does not answer in time is asked again; rejects with `StoreError` when it never
 * does: no totals at all would be another answer.
 */
export async function bookTotals(
  gateway: Counting & Pick<Gateway, 'storeStanding'>,
  policy: Pick<Policy, 'budgetKey' | 'limits'> & { readonly config: Pick<Policy['config'], 'tiers' | 'contracts'> },
): Promise<BookTotals> {
  const { tiers, contracts } = policy.config
  for (let tries = 1; ; tries++) {
    try {
      const [byTier, limits] = await Promise.all([totalsByTier(gateway, tiers.allowed, contracts), limitUse(gateway, policy)])
      return { tiers: byTier, limits }
    } catch (error) {
      if (!(error instanceof StoreError && error.code === 'away')) throw error
      if (gateway.storeStanding().state !== 'Ready') return NOT_TOLD
      if (tries === TRIES_MAX) throw error
    }
  }
}

/** What of these totals metrics show, next to what the contracts want. */
export function shownTiers(
  tiers: Readonly<Record<string, TierTotals>>,
  contracts: Readonly<Record<string, Contract>>,
): readonly ShownTier[] {
  return Object.entries(tiers).map(([tier, totals]) => {
    const pricing = Object.hasOwn(contracts, tier) ? contracts[tier]?.pricing : undefined
    if (pricing?.model !== 'PerResolution') return { tier, totals }
    const { price, targetCostPerResolution } = pricing
    return { tier, totals, pricePer: price, ...(targetCostPerResolution === undefined ? {} : { targetCostPer: targetCostPerResolution }) }
  })
}

/** What metrics show of the limits. */
export function shownLimits(budget: string, limits: SidecarStatus['limits'] = {}): readonly ShownLimit[] {
  return Object.entries(limits).map(([period, use]) => ({ budget, period, use }))
}

type Counting = Pick<Gateway, 'store' | 'nowMs' | 'outcomes' | 'users'>

/** Of the tiers that are asked for, and of those that conversations have. */
export async function totalsByTier(
  gateway: Counting,
  asked: readonly string[],
  contracts: Readonly<Record<string, Contract>>,
): Promise<Record<string, TierTotals>> {
  const nowMs = gateway.nowMs()
  const listed = await gateway.store.listConversations({ limit: CONVERSATIONS_MAX, nowMs })
  // One that an earlier version was the last to write stands among the others as well.
  const talks = listed.filter(({ id }) => !isLoneCall(id))
  const loneCalls = await gateway.store.listConversations({ limit: CONVERSATIONS_MAX, nowMs, areLone: true })
  const conversations = [...talks, ...loneCalls]
  const spends = await spendOf(gateway, conversations)
  const isAll = listed.length < CONVERSATIONS_MAX
  const tiers: Record<string, TierTotals> = {}
  for (const tier of new Set([...asked, ...conversations.map((conversation) => conversation.tier)])) {
    const own = conversations.filter((conversation) => conversation.tier === tier)
    const contract = Object.hasOwn(contracts, tier) ? contracts[tier] : undefined // a plan may be called constructor
    const [outcomes, today] = await Promise.all([
      gateway.store.readOutcomes(lastDays(tier, nowMs, WINDOW_DAYS)),
      gateway.store.readTotals(lastDays(tier, nowMs, 1)),
    ])
    const seen = {
      ...totalsOf(own, { spends, today, userPeriod: contract === undefined ? null : userPeriodAt(termsOf(contract), nowMs) }),
      resolutions: {
        ...resolutionsOf(outcomes),
        ...(contract?.pricing.model === 'PerResolution' || outcomes.started > 0
          ? { unresolvedCost: formatUsd(unresolvedCost(own, { spends, isAll, nowMs, cost: outcomes.cost })) }
          : {}),
        ...(contract?.pricing.model === 'PerResolution' ? { isOverTarget: await gateway.outcomes.ladderApplies(contract, nowMs) } : {}),
      },
      ...(contract === undefined ? {} : { users: await usersOf(gateway, contract, nowMs) }),
    }
    if (isAll && loneCalls.length < CONVERSATIONS_MAX) {
      tiers[tier] = seen
      continue
    }
    const sold = own.filter(({ id }) => (spends.get(id) ?? NO_SPEND).sessions.length > 0).length
    const told = ofDays(await gateway.store.readTotals(lastDays(tier, nowMs, PERIOD_DAYS)), { ...seen, sold })
    tiers[tier] = isAll ? { ...seen, turns: told.turns, spent: told.spent } : { ...seen, ...told }
  }
  return tiers
}

/** Of each limit of the workload: what was entered and what is held in its current period. */
export async function limitUse(
  { store, nowMs }: Pick<Gateway, 'store' | 'nowMs'>,
  { budgetKey, limits }: Pick<Policy, 'budgetKey' | 'limits'>,
): Promise<Record<string, LimitUse>> {
  if (limits.length === 0) return {}
  const atMs = nowMs()
  const draws = [...limitDraws({ budgetKey, limits, nowMs: atMs })]
  const { accounts } = await store.read({
    conversation: NO_CONVERSATION,
    accounts: draws.map(([, { account }]) => account),
    nowMs: atMs,
  })
  return Object.fromEntries(
    draws.map(([period, { account, cap, periodKey }]) => {
      const { spent, held } = accounts.get(account) ?? EMPTY_ACCOUNT
      return [period, { amount: formatUsd(cap), since: periodKey, spent: formatUsd(spent), held: formatUsd(held) }]
    }),
  )
}

async function usersOf({ users }: Counting, contract: Contract, nowMs: number): Promise<TierUserTotals> {
  const { active, spent, heavy, upgradeCandidates, byUse } = await users.use(contract, nowMs)
  return {
    active,
    spent: formatUsd(spent),
    heavy: heavy.users,
    heavySpent: formatUsd(heavy.spent),
    upgradeCandidates,
    byUse: { ...byUse },
  }
}

function resolutionsOf(outcomes: OutcomeTotals): ResolutionTotals {
  const { started, assumed, confirmed, reversed, confirmedAssumed, cost } = outcomes
  const perResolution = costPerResolution([outcomes])
  return {
    started,
    // One that was assumed before these days may have been confirmed in them.
    assumed: Math.max(0, assumed - confirmedAssumed),
    confirmed,
    reversed,
    cost: formatUsd(cost),
    costPer: perResolution === null || perResolution < 0n ? null : formatUsd(perResolution),
  }
}

/**
 * What conversations with a turn in the window have cost in all that have no resolution now. It is never more than the window cost.
 * Where only the newest conversations were looked at, their share is taken for that of all, of what the window cost but for the lone calls that
 * were seen.
 */
function unresolvedCost(
  conversations: readonly ListedConversation[],
  seen: { readonly spends: ReadonlyMap<string, Spend>; readonly isAll: boolean; readonly nowMs: number; readonly cost: NanoUsd },
): NanoUsd {
  const { spends, isAll, nowMs, cost } = seen
  const fromDay = dayOf(nowMs - (WINDOW_DAYS - 1) * DAY_MS)
  let all = 0n
  let unresolved = 0n
  let lone = 0n
  for (const { id, lastTurnAtMs, resolution } of conversations) {
    const spent = spends.get(id)?.spent ?? 0n
    if (dayOf(lastTurnAtMs) < fromDay) continue
    if (isLoneCall(id)) {
      lone += spent
      continue
    }
    all += spent
    if (resolution === 'none' || resolution === 'reversed') unresolved += spent
  }
  const ofTalks = cost > lone ? cost - lone : 0n
  const asked = isAll ? unresolved : all === 0n ? 0n : (ofTalks * unresolved) / all
  return asked < cost ? asked : cost > 0n ? cost : 0n
}

/** The last of these days is today. */
function lastDays(tier: string, nowMs: number, count: number): DaysQuery {
  return { tier, fromDay: dayOf(nowMs - (count - 1) * DAY_MS), toDay: dayOf(nowMs) }
}

interface Counted {
  readonly conversations: number
  readonly sessions: number
}
interface Seen extends Counted {
  /** Of the conversations those that were sold: each has a session at least. */
  readonly sold: number
}

/**
 * What these days come to, and the sessions that were sold on them. Stores count no conversations: there are taken to be as many for each
 * session as among those that were looked at, and those seen that nobody was served.
 */
function ofDays({ turns, spent, costs }: Totals, seen: Seen): Counted & Pick<TierTotals, 'turns' | 'spent' | 'cost'> {
  const at = (percent: number): string => formatUsd(costQuantile(costs, percent))
  const sessions = countOf(costs)
  const share = seen.sessions === 0 ? 1 : seen.sold / seen.sessions
  return {
    conversations: Math.max(seen.conversations, Math.round(sessions * share) + seen.conversations - seen.sold),
    sessions,
    turns,
    spent: formatUsd(spent),
    cost: { p50: at(50), p95: at(95), p99: at(99), max: at(100) },
  }
}

interface Spend {
  readonly spent: NanoUsd
  readonly held: NanoUsd
  /** What each session spent: those that drew money, and the one that is open. None of a conversation that was never served, or of a lone call. */
  readonly sessions: readonly NanoUsd[]
}

const NO_SPEND: Spend = { spent: 0n, held: 0n, sessions: [] }

/** What each conversation has spent over all its sessions, and holds now. A few are read at a time, so that turns go on. */
async function spendOf(gateway: Counting, conversations: readonly ListedConversation[]): Promise<ReadonlyMap<string, Spend>> {
  const sessions = conversations.flatMap((conversation) =>
    Array.from({ length: conversation.session }, (_, index) => ({
      id: conversation.id,
      account: sessionAccount(conversation.id, index + 1),
      isServed: conversation.turns > 0,
      isOpen: index + 1 === conversation.session,
    })),
  )
  const spends = new Map<string, Spend>()
  for (let from = 0; from < sessions.length; from += SESSIONS_READ) {
    const read = sessions.slice(from, from + SESSIONS_READ)
    const { accounts } = await gateway.store.read({
      conversation: NO_CONVERSATION,
      accounts: read.map(({ account }) => account),
      nowMs: gateway.nowMs(),
    })
    for (const { id, account, isServed, isOpen } of read) {
      const { spent, held } = accounts.get(account) ?? EMPTY_ACCOUNT
      const before = spends.get(id) ?? NO_SPEND
      // An account that has outlived its life is empty: its session counts no more.
      // What nobody was served earns nothing, be it that the provider is away or that the first call is still under way; nor does a lone call.
      const counts = !isLoneCall(id) && (spent !== 0n || (isServed && (isOpen || held !== 0n)))
      spends.set(id, {
        spent: before.spent + spent,
        held: before.held + held,
        sessions: counts ? [...before.sessions, spent] : before.sessions,
      })
    }
  }
  return spends
}

/** Lone calls are none of the conversations; what they cost and were alerted of is told with theirs. `userPeriod`: the one in which rungs and alerts of users count; those of another are of a budget that is open again. */
function totalsOf(
  conversations: readonly ListedConversation[],
  books: { readonly spends: ReadonlyMap<string, Spend>; readonly today: Totals; readonly userPeriod: string | null },
): Omit<TierTotals, 'resolutions' | 'users'> & Counted {
  const { spends, today, userPeriod } = books
  const byRung: Record<string, number> = Object.fromEntries(['None', ...RUNGS].map((rung) => [rung, 0]))
  const alerts: Record<string, number> = {}
  const costs: NanoUsd[] = []
  let spent = 0n
  let held = 0n
  let turns = 0
  let lone = 0
  for (const conversation of conversations) {
    const { rung } = inEffect(conversation, userPeriod)
    if (isLoneCall(conversation.id)) lone += 1
    else byRung[rung] = (byRung[rung] ?? 0) + 1
    const { alerts: ofSession, earlierAlerts } = conversation
    for (const percent of new Set([...ofSession, ...earlierAlerts, ...userAlertsIn(conversation, userPeriod)]))
      alerts[percent] = (alerts[percent] ?? 0) + 1
    const spend = spends.get(conversation.id) ?? NO_SPEND
    costs.push(...spend.sessions)
    spent += spend.spent
    held += spend.held
    turns += conversation.turns
  }
  costs.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  return {
    conversations: conversations.length - lone,
    sessions: costs.length,
    turns,
    byRung,
    spent: formatUsd(spent),
    held: formatUsd(held),
    cost: { p50: quantile(costs, 50), p95: quantile(costs, 95), p99: quantile(costs, 99), max: quantile(costs, 100) },
    alerts,
    today: { turns: today.turns, spent: formatUsd(today.spent), users: today.users },
  }
}

/** Nearest-rank quantile of sorted costs, as decimal USD; "0.00" of none. */
function quantile(sorted: readonly NanoUsd[], percent: number): string {
  const rank = Math.max(1, Math.ceil((sorted.length * percent) / 100))
  return formatUsd(sorted[rank - 1] ?? 0n)
}
