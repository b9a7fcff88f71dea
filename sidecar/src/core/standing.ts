/** Where a conversation stands, in the words of the app API. Money is a decimal string in the tier's currency. */
import type { Rung, RungReason } from '@farebox/crds/ladder.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { userAlertsIn } from './conversation-change.ts'
import type { Conversation } from './conversation.ts'
import { columnInCurrency, inCurrency } from './currency.ts'
import { isAtEnd, percentUsed, thresholdsApply, union } from './ladder.ts'
import { resetRefusal } from './sessions.ts'
import { userPeriodOf } from './terms.ts'
import type { Balance, CapKind, Terms } from './terms.ts'

export interface Standing {
  readonly conversation: string
  readonly user: string | null
  readonly tier: string
  readonly contract: string
  readonly currency: string
  /** What is spent, held and remaining adds up to it, unless more is spent. */
  readonly budget: string
  readonly spent: string
  readonly held: string
  readonly remaining: string
  /** Of the tighter of the conversation's and the user's budget. */
  readonly percent: number
  /** Which of the two that is: the user's only where it is used more. */
  readonly percentOf: 'conversation' | 'user'
  readonly rung: Rung | 'None'
  readonly reason: RungReason | null
  readonly turns: number
  readonly session: number
  readonly state: 'open' | 'ended'
  readonly resolution: Conversation['resolution']
  /**
   * What the app can do now: `startNew` where the conversation has ended, or its next call ends it; `wrapUp` while a rung is in effect, where
   * its budget is used up and another session follows, and, before either, where the user's budget is used up; else `continue`.
   */
  readonly advice: 'continue' | 'wrapUp' | 'startNew'
  /** Cost by what drove it, over all sessions: of one session, they add up to `spent`, but for holds that were charged when their time ran out. */
  readonly drivers: Readonly<Record<string, string>>
  /** That its own budget has reached in this session, or the user's in this period. */
  readonly alerts: readonly number[]
  readonly lastTurnAt: string
}

export function standingOf(conversation: Omit<Conversation, 'edits' | 'readyEdits'>, terms: Terms, balances: readonly Balance[]): Standing {
  const { contract } = terms
  const own = balances.find((balance) => balance.kind === 'conversation')
  const balance = columnInCurrency(contract.usdRate)
  const drivers = columnInCurrency(contract.usdRate)
  const spent = own?.state.spent ?? 0n
  const held = own?.state.held ?? 0n
  const usedOf = (kind: CapKind): number =>
    percentUsed(balances.filter((balance) => balance.kind === kind).map(({ cap, state }) => ({ cap, account: state })))
  const percentOf = usedOf('user') > usedOf('conversation') ? 'user' : 'conversation'
  const period = userPeriodOf(balances)
  const { rung, reason } = inEffect(conversation, period)
  return {
    conversation: conversation.id,
    user: conversation.user,
    tier: conversation.tier,
    contract: contract.hash,
    currency: contract.currency,
    budget: inCurrency(terms.perConversation, contract.usdRate),
    spent: balance(atLeastZero(spent)),
    held: balance(held),
    remaining: balance(atLeastZero(terms.perConversation - spent - held)),
    percent: usedOf(percentOf),
    percentOf,
    rung,
    reason,
    turns: conversation.turns,
    session: conversation.session,
    state: conversation.state,
    resolution: conversation.resolution,
    advice: adviceOf(conversation, terms, balances, period),
    drivers: Object.fromEntries(Object.entries(conversation.drivers).map(([driver, cost]) => [driver, drivers(atLeastZero(cost))])),
    alerts: [...new Set([...conversation.alerts, ...userAlertsIn(conversation, period)])].toSorted((a, b) => a - b),
    lastTurnAt: new Date(conversation.lastTurnAtMs).toISOString(),
  }
}

/**
 * The highest rung in effect and why, told as `rungTold` tells it of the last answer: its own rungs, and those of its user's budget where they
 * are of the period that is now, which its own record gives no reason for: a threshold is taken for it, though one may have been taken because
 * a call did not fit.
 */
export function inEffect(
  conversation: Pick<Conversation, 'rungs' | 'userRungs' | 'reason' | 'exact'>,
  period: string | null,
): Pick<Standing, 'rung' | 'reason'> {
  const { own, ofUser } = activeRungs(conversation, period)
  const isStill = conversation.exact?.stayed === true
  const rung = union(own, ofUser).findLast((known) => !isStill || known !== 'DowngradeModel') ?? 'None'
  return { rung, reason: rung === 'None' ? null : (conversation.reason ?? (ofUser.length > 0 ? 'threshold' : null)) }
}

function activeRungs(
  { rungs, userRungs }: Pick<Conversation, 'rungs' | 'userRungs'>,
  period: string | null,
): { readonly own: readonly Rung[]; readonly ofUser: readonly Rung[] } {
  return { own: rungs, ofUser: userRungs?.period === period ? userRungs.rungs : [] }
}

function atLeastZero(amount: NanoUsd): NanoUsd {
  return amount > 0n ? amount : 0n
}

function adviceOf(
  conversation: Omit<Conversation, 'edits' | 'readyEdits'>,
  { contract }: Terms,
  balances: readonly Balance[],
  period: string | null,
): Standing['advice'] {
  if (conversation.state === 'ended') return 'startNew'
  const steps = thresholdsApply(conversation, contract) ? contract.ladder : []
  const isUsedUp = (kind: CapKind): boolean =>
    balances.some((balance) => balance.kind === kind && isAtEnd(steps, percentUsed([{ cap: balance.cap, account: balance.state }])))
  const isReset = contract.ladder.some((step) => step.rung === 'EndConversation' && step.end === 'Reset')
  const hasUserBudget = balances.some(({ kind }) => kind === 'user')
  const goesOn = isReset && resetRefusal({ conversation, contract, hasUserBudget, canCut: true }) === null
  if (isUsedUp('user')) return 'wrapUp'
  if (isUsedUp('conversation')) return goesOn ? 'wrapUp' : 'startNew'
  const { own: ofSession, ofUser } = activeRungs(conversation, period)
  return ofSession.length + ofUser.length === 0 ? 'continue' : 'wrapUp'
}
