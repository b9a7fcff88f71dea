/** Users of a tier, by what they cost: for the app, which knows whose ids these are, and for `farebox top users`. */
import { sharePercent } from '@farebox/crds/sidecar-status.ts'
import { USERS_PAGE_MAX } from '@farebox/crds/users-page.ts'
import type { UserLine, UsersPage } from '@farebox/crds/users-page.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { EMPTY_ACCOUNT } from '../core/budget.ts'
import type { Account } from '../core/budget.ts'
import type { UserId } from '../core/conversation.ts'
import { columnInCurrency, inCurrency } from '../core/currency.ts'
import { termsOf, userDraw } from '../core/terms.ts'
import type { Terms } from '../core/terms.ts'
import { useOf, usersQuery, usersSpan, userUse } from '../core/user-use.ts'
import type { Gateway, Policy } from './gateway.ts'

interface Reply {
  readonly status: number
  readonly body: unknown
}

type Reading = Pick<Gateway, 'store' | 'nowMs' | 'users'>

/** The users of the tier asked for (the default one) in its current period, the heaviest first. */
export async function usersPage(gateway: Reading, policy: Pick<Policy, 'config'>, query: URLSearchParams, limit: number): Promise<Reply> {
  const terms = termsAsked(policy, query)
  return terms === null ? NO_SUCH_TIER : { status: 200, body: await pageOf(gateway, terms, Math.min(limit, USERS_PAGE_MAX)) }
}

/** Where a user stands in the tier asked for. One who was never heard of has spent nothing. */
export async function userStanding(gateway: Reading, policy: Pick<Policy, 'config'>, user: UserId, query: URLSearchParams): Promise<Reply> {
  const terms = termsAsked(policy, query)
  if (terms === null) return NO_SUCH_TIER
  const nowMs = gateway.nowMs()
  const { contract, perUser } = terms
  const { periodKey } = usersSpan(terms, nowMs)
  const account = (await balancesOf(gateway, terms, [user])).get(user) ?? null
  const { median } = await gateway.users.use(contract, nowMs)
  return {
    status: 200,
    body: {
      user,
      tier: contract.tier,
      currency: contract.currency,
      period: periodKey,
      // A tier without a user budget keeps no balance of a user.
      ...(perUser === null || account === null ? NO_BALANCE : balanceOf(account, perUser.cap, contract.usdRate)),
      ...(account === null ? { percent: null, timesMedian: null, heavy: false, upgradeCandidate: false } : useLine(terms, account, median)),
      upgradeTo: contract.upgrade?.tier ?? null,
    },
  }
}

interface Balance {
  readonly budget: string | null
  readonly spent: string | null
  readonly held: string | null
  readonly remaining: string | null
}

const NO_BALANCE: Balance = { budget: null, spent: null, held: null, remaining: null }

/** What is spent, held and remaining adds up to the budget, unless more is spent. */
function balanceOf({ spent, held }: Account, cap: NanoUsd, usdRate: string): Balance {
  const shown = columnInCurrency(usdRate)
  const left = cap - spent - held
  return { budget: inCurrency(cap, usdRate), spent: shown(spent), held: shown(held), remaining: shown(left > 0n ? left : 0n) }
}

async function pageOf(gateway: Reading, terms: Terms, limit: number): Promise<UsersPage> {
  const nowMs = gateway.nowMs()
  const { contract, perUser } = terms
  const { fromDay, toDay, periodKey } = usersSpan(terms, nowMs)
  const totals = await gateway.store.readUsers({ tier: contract.tier, fromDay, toDay, ...usersQuery(terms, limit) })
  const { active, spent, median, heavy, upgradeCandidates, byUse } = useOf(totals)
  const balances = await balancesOf(
    gateway,
    terms,
    totals.top.map(({ user }) => user),
  )
  // The balance is of the period to the millisecond; days are what there is without one.
  const top = totals.top.map((one) => ({ user: one.user, account: balances.get(one.user) ?? { ...EMPTY_ACCOUNT, spent: one.spent } }))
  const money = (amount: NanoUsd): string => inCurrency(amount, contract.usdRate)
  return {
    tier: contract.tier,
    currency: contract.currency,
    period: periodKey,
    from: fromDay,
    to: toDay,
    budget: perUser === null ? null : money(perUser.cap),
    active,
    spent: money(spent),
    median: money(median),
    heavy: heavy.users,
    heavySharePercent: sharePercent(heavy.spent, spent),
    upgradeCandidates,
    upgradeTo: contract.upgrade?.tier ?? null,
    byUse: { ...byUse },
    oneIn: totals.oneIn,
    users: top
      .toSorted((a, b) => (a.account.spent > b.account.spent ? -1 : a.account.spent < b.account.spent ? 1 : a.user < b.user ? -1 : 1))
      .map(({ user, account }) => ({ user, spent: money(account.spent), ...useLine(terms, account, median) })),
  }
}

function useLine(terms: Terms, account: Account, median: NanoUsd): Omit<UserLine, 'user' | 'spent'> {
  const { percent, timesMedian, isHeavy, isUpgradeCandidate } = userUse(terms, account, median)
  return { percent, timesMedian, heavy: isHeavy, upgradeCandidate: isUpgradeCandidate }
}

/** Of the current period; none without a user budget. */
async function balancesOf(gateway: Reading, terms: Terms, users: readonly UserId[]): Promise<ReadonlyMap<UserId, Account>> {
  const nowMs = gateway.nowMs()
  const draws = users.flatMap((user) => {
    const draw = userDraw(terms, user, nowMs)
    return draw === null ? [] : [{ user, account: draw.account }]
  })
  if (draws.length === 0) return new Map()
  const { accounts } = await gateway.store.read({ conversation: '', accounts: draws.map(({ account }) => account), nowMs })
  return new Map(draws.map(({ user, account }) => [user, accounts.get(account) ?? EMPTY_ACCOUNT]))
}

/** Null for a tier that this workload may not use. */
function termsAsked({ config }: Pick<Policy, 'config'>, query: URLSearchParams): Terms | null {
  const tier = askedFor(query, 'tier') ?? config.tiers.default
  const contract = Object.hasOwn(config.contracts, tier) ? config.contracts[tier] : undefined
  return contract === undefined ? null : termsOf(contract)
}

/** An empty value names nothing: apps fill in the fields of a query that they do not use. */
export function askedFor(query: URLSearchParams, name: string): string | null {
  return query.get(name) || null
}

const NO_SUCH_TIER: Reply = { status: 404, body: { error: { message: 'tier: this workload has no such tier' } } }
