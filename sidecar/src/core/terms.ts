/** A contract with its amounts parsed, and the accounts that a turn under it draws on. */
import type { Contract, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { Period } from '@farebox/crds/period.ts'
import { nameOfPeriod, periodSpan } from '@farebox/crds/period.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { EMPTY_ACCOUNT } from './budget.ts'
import type { Account, AccountId, Draw } from './budget.ts'
import type { ConversationId, UserId } from './conversation.ts'
import { SESSION_PREFIX, SUMMARIES_SUFFIX } from './totals.ts'

export interface Terms {
  readonly contract: Contract
  readonly perConversation: NanoUsd
  readonly perUser: { readonly cap: NanoUsd; readonly period: Period } | null
}

export function termsOf(contract: Contract): Terms {
  const perUser = contract.caps.perUser
  return {
    contract,
    perConversation: parseUsd(contract.caps.perConversation),
    perUser: perUser === undefined ? null : { cap: parseUsd(perUser.amount), period: perUser.period },
  }
}

export type CapKind = 'conversation' | 'user' | 'workload'

/** One cap of a turn, before its balance is known. */
export interface CapDraw extends Draw {
  readonly kind: CapKind
  readonly cap: NanoUsd
  /** The period of a user's or workload's cap; a user's may be compared with that of other terms. */
  readonly periodKey: string | null
}

/** A cap with the balance of its account. */
export interface Balance extends CapDraw {
  readonly state: Account
}

/** The workload's limits, with amounts parsed. */
export interface WorkloadLimit {
  readonly cap: NanoUsd
  readonly period: Period
}
export function limitsOf(config: SidecarConfig): readonly WorkloadLimit[] {
  return config.limits.map((limit) => ({ cap: parseUsd(limit.amount), period: limit.period }))
}

/** The first cap into which `cost` does not fit, output held by other calls left aside: that may come back. */
export function firstShort(balances: readonly Balance[], cost: NanoUsd): Balance | null {
  return balances.find((balance) => freeOf(balance) < cost) ?? null
}

/** Throws `RangeError` where there is none. */
export function tightestOf(balances: readonly Balance[]): Balance {
  const [first] = balances
  if (first === undefined) throw new RangeError('a turn draws on at least one account')
  return balances.reduce((tightest, balance) => (freeOf(balance) < freeOf(tightest) ? balance : tightest), first)
}

/** What is left of a cap but for output that other calls hold. */
export function freeOf(balance: Balance): NanoUsd {
  return balance.cap - balance.state.spent - balance.state.heldInput
}

/** What the user has left of the tighter of their budgets, `held` by this call; never below zero. The owner's limits are not theirs. */
export function remainingOf(balances: readonly Balance[], held: NanoUsd = 0n): NanoUsd {
  const left = balances.filter(({ kind }) => kind !== 'workload').map(({ cap, state }) => cap - state.spent - held)
  const least = left.reduce((one, other) => (other < one ? other : one), left[0] ?? 0n)
  return least > 0n ? least : 0n
}

/** Every account that a turn draws on: the session of the conversation, the user's period, the workload's limits. */
export function drawsOf(input: {
  readonly terms: Terms
  readonly conversation: ConversationId
  readonly session: number
  readonly user: UserId | null
  readonly budgetKey: string
  readonly limits: readonly WorkloadLimit[]
  readonly nowMs: number
}): readonly CapDraw[] {
  const { terms } = input
  const draws: CapDraw[] = [
    { kind: 'conversation', account: sessionAccount(input.conversation, input.session), cap: terms.perConversation, periodKey: null },
  ]
  const ofUser = input.user === null ? null : userDraw(terms, input.user, input.nowMs)
  if (ofUser !== null) draws.push(ofUser)
  draws.push(...limitDraws(input).values())
  return draws
}

/** Those of the workload's limits, by what their periods are called, whatever their order. Limits of one period share an account: the tightest holds. */
export function limitDraws(input: {
  readonly budgetKey: string
  readonly limits: readonly WorkloadLimit[]
  readonly nowMs: number
}): ReadonlyMap<string, CapDraw & { readonly periodKey: string }> {
  const draws = new Map<string, CapDraw & { readonly periodKey: string }>()
  for (const { cap, period } of input.limits) {
    const name = nameOfPeriod(period)
    const known = draws.get(name)
    if (known !== undefined && known.cap <= cap) continue
    const { key } = periodSpan(period, input.nowMs)
    const account = `w:${input.budgetKey}:${period.unit}:${period.timeZone}:${period.anchorDay}:${key}`
    draws.set(name, { kind: 'workload', account, cap, periodKey: key })
  }
  return draws
}

/** The budget of a user in the current period; null where the tier has none. */
export function userDraw({ contract, perUser }: Terms, user: UserId, nowMs: number): CapDraw | null {
  if (perUser === null) return null
  const { cap, period } = perUser
  const { key } = periodSpan(period, nowMs)
  return { kind: 'user', account: `u:${user}:${contract.tier}:${period.unit}:${key}`, cap, periodKey: periodName(period, key) }
}

/** The period of a user's budget at this time, as `userPeriodOf` names it; null where the tier has none. */
export function userPeriodAt({ perUser }: Pick<Terms, 'perUser'>, nowMs: number): string | null {
  return perUser === null ? null : periodName(perUser.period, periodSpan(perUser.period, nowMs).key)
}

/** The current period of the user's budget, beside which rungs and notices are kept; null where none caps this turn. */
export function userPeriodOf(draws: readonly CapDraw[]): string | null {
  return draws.find(({ kind }) => kind === 'user')?.periodKey ?? null
}

/**
 * A period beside others that may be of another kind: `Month1:2026-11-01`, `Month1/Europe/Berlin:2026-11-01`. Those that are called the same up
 * to the colon follow each other.
 */
function periodName({ unit, anchorDay, timeZone }: Period, key: string): string {
  return `${unit}${anchorDay}${timeZone === 'UTC' ? '' : `/${timeZone}`}:${key}`
}

export function sessionAccount(conversation: ConversationId, session: number): AccountId {
  return `${SESSION_PREFIX}${conversation}:${session}`
}

/** Has no cap of its own: see `summaryDraw`. */
export function summariesAccount(conversation: ConversationId): AccountId {
  return `${SESSION_PREFIX}${conversation}${SUMMARIES_SUFFIX}`
}

export function balancesOf(draws: readonly CapDraw[], accounts: ReadonlyMap<AccountId, Account>): readonly Balance[] {
  return draws.map((draw) => ({ ...draw, state: accounts.get(draw.account) ?? EMPTY_ACCOUNT }))
}
