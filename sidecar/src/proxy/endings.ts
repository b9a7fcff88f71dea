/** How a conversation ends: closed with words, reset into a next session, or refused. */
import { randomUUID } from 'node:crypto'
import type { End } from '@farebox/crds/ladder.ts'
import { toldAt, userAlertsIn } from '../core/conversation-change.ts'
import { isCallTooDear } from '../core/decide.ts'
import type { Decision, TooLarge } from '../core/plan.ts'
import type { Edit } from '../core/conversation.ts'
import { chooseLocale, closingEdit, endWords, isTakenApart } from '../core/notices.ts'
import { mayResetHere } from '../core/own-turn.ts'
import { answersKeptCall } from '../core/request.ts'
import { inEffect } from '../core/standing.ts'
import { remainingOf, userPeriodOf } from '../core/terms.ts'
import type { CapKind } from '../core/terms.ts'
import { headerReader, refuse, stateHeaders } from './exchange.ts'
import type { Turn, Withheld } from './exchange.ts'
import { requestIdHeader } from '../errors.ts'
import { NONE_FIRED } from '../store/store.ts'
import { openNextSession, refusalOf } from './next-session.ts'
import { reportAlerts } from './report.ts'

export type Ended = Extract<Decision, { status: 'end' }>

/** Answers a turn that ends its conversation: null. Or opens the next session: the turn to go on with. */
export async function endTurn(turn: Turn, decision: Ended): Promise<Turn | null> {
  const { gateway, terms, conversationId } = turn
  const { contract } = terms
  const cap = capOf(turn, decision)
  const end = endOf(turn, cap)
  if (end === 'Reset' && cap === 'conversation' && decision.fitsAfresh && mayReset(turn)) {
    const next = await openNextSession(turn, 'budget')
    if (next !== null) return next
  }
  if (decision.tooLarge !== undefined) return refusePart(turn, decision.percent, decision.tooLarge)
  const words = endWords(
    {
      contract,
      tiers: turn.policy.config.contracts,
      locale: chooseLocale(contract, headerReader(turn.incoming)('accept-language')),
      remaining: remainingOf(turn.balances),
      percent: decision.percent,
      turns: turn.conversation.turns,
    },
    cap,
  )
  const mustParse = isTakenApart(turn.request) || turn.request.tools === 'forced'
  const text = end === 'Refuse' || mustParse || answersKeptCall(turn.request) ? null : words.answer
  const answer =
    text === null ? null : turn.wire.synthetic(turn.request, { text, id: randomUUID(), createdS: Math.floor(gateway.nowMs() / 1000) })
  // Known before it is read: the app sends it back as something that the model said.
  const edits = text === null || answer === null ? [] : unlogged(turn, closingEdit(text))
  if (isCallTooDear(turn.request, decision))
    gateway.log.info({ conversation: conversationId, wire: turn.request.wire }, 'a call is too dear for what is left')
  else if (!turn.exists && !turn.isNamed) tellUnserved(turn, cap)
  else if (cap === 'conversation') await markEnded(turn, decision, edits)
  else if (cap === 'user') await markExhausted(turn, edits)
  gateway.metrics.turns.add([contract.tier, cap === 'workload' ? 'limited' : 'ended'])
  const headers = stateHeaders(turn, { rung: 'EndConversation', percent: decision.percent, reason: decision.reason, maxOutput: null })
  if (answer === null) {
    const message = words.refusal === null ? {} : { message: words.refusal }
    // By it an app tells that all wait, not this conversation alone.
    const param = cap === 'workload' ? { param: 'limits' } : {}
    refuse(turn, { code: 'conversation_budget_exhausted', ...message, ...param }, headers)
    return null
  }
  gateway.log.info({ conversation: conversationId, tier: contract.tier, reason: decision.reason }, 'conversation closed')
  if (turn.outgoing.destroyed) return null
  turn.outgoing.writeHead(200, [
    'content-type',
    answer.contentType,
    'cache-control',
    'no-store',
    requestIdHeader(turn.family),
    turn.requestId,
    'x-farebox-synthetic',
    'true',
    'content-length',
    String(answer.body.length),
    ...headers,
  ])
  turn.outgoing.end(answer.body)
  return null
}

/**
 * What `Observe` keeps back of this end. Null: another session would follow, or would have at the end that was reached before. That opens none,
 * so nobody knows what would be left in it.
 */
export function withheldEnd(turn: Turn, decision: Ended): Withheld | null {
  const cap = capOf(turn, decision)
  const hasEnded = turn.conversation.rungs.includes('EndConversation')
  if (opensSession(turn, decision) || (hasEnded && mayFollow(turn, cap))) return null
  const param = decision.tooLarge?.param ?? (cap === 'workload' ? 'limits' : undefined)
  return { is: 'refusal', refusal: { code: 'conversation_budget_exhausted', ...(param === undefined ? {} : { param }) }, cap }
}

/** Whether this end opens another session here, rather than end the conversation. */
export function opensSession(turn: Turn, decision: Ended): boolean {
  return mayFollow(turn, capOf(turn, decision)) && decision.fitsAfresh && mayReset(turn)
}

function mayFollow(turn: Turn, cap: CapKind): boolean {
  return endOf(turn, cap) === 'Reset' && cap === 'conversation' && refusalOf(turn, turn.conversation) === null
}

/** Whose money is short. */
function capOf({ balances }: Turn, { account }: Ended): CapKind {
  return balances.find((balance) => balance.account === account)?.kind ?? 'conversation'
}

function endOf({ terms: { contract } }: Turn, cap: CapKind): End {
  return cap === 'workload' ? 'Refuse' : (contract.ladder.find((step) => step.rung === 'EndConversation')?.end ?? 'Refuse')
}

/** One part of a request that is too dear says nothing of what else the conversation can afford: it goes on. */
function refusePart(turn: Turn, percent: number, { what, param }: TooLarge): null {
  const { gateway, conversation, terms, draws } = turn
  gateway.metrics.turns.add([terms.contract.tier, 'refused'])
  gateway.log.info(
    { conversation: conversation.id, tier: terms.contract.tier, what, param },
    'a part of a call is too dear, and is refused alone',
  )
  const headers = stateHeaders(turn, { ...inEffect(conversation, userPeriodOf(draws)), percent, maxOutput: null })
  refuse(turn, { code: 'conversation_budget_exhausted', message: TOO_LARGE[what], param }, headers)
  return null
}

const TOO_LARGE: Readonly<Record<TooLarge['what'], string>> = {
  attachment: 'The attachment is too large for what is left of this budget. Without it, or with a smaller one, the conversation goes on.',
  message:
    'The message is too long: a whole budget does not pay for it. Without it in the history, and with a shorter one, the conversation goes on.',
  tools:
    'What the tools that the provider runs may read is too much: a whole budget does not pay for it. Without them, or with a smaller bound of theirs, the conversation goes on.',
}

function mayReset({ request, conversation, terms: { contract }, taskBoundary }: Turn): boolean {
  return mayResetHere({ request, conversation, contract, taskBoundary })
}

function unlogged({ conversation }: Turn, edit: Edit): readonly Edit[] {
  return conversation.edits.some(({ id }) => id === edit.id) ? [] : [edit]
}

/**
 * The conversation's own budget is used up: that ends it, and fires the alerts up to 100. `edits`: what takes the closing words out again where
 * another session or `reopen` has it go on.
 */
async function markEnded(turn: Turn, decision: Ended, edits: readonly Edit[]): Promise<void> {
  const { gateway, conversation, terms } = turn
  if (turn.exists && conversation.state === 'ended') return await logEdits(turn, edits)
  const answer = await gateway.store.update({
    conversation: conversation.id,
    initial: conversation,
    change: {
      ofSession: conversation.session,
      state: { is: 'ended', atMs: toldAt(gateway.nowMs(), conversation.stateAtMs) },
      addRungs: { rungs: ['EndConversation'], reason: decision.reason },
      addAlerts: terms.contract.alerts,
      addEdits: edits,
    },
    nowMs: gateway.nowMs(),
  })
  reportAlerts(turn, answer ?? NONE_FIRED)
  gateway.metrics.rungs.add([terms.contract.tier, 'EndConversation', decision.reason])
}

/** The user's budget is used up: its alerts fire, once in the period, and the next one finds the conversation open. */
async function markExhausted(turn: Turn, edits: readonly Edit[]): Promise<void> {
  const { gateway, conversation, terms } = turn
  const { alerts } = terms.contract
  const period = userPeriodOf(turn.draws)
  const fired = userAlertsIn(conversation, period)
  if (period === null || alerts.every((percent) => fired.includes(percent))) return await logEdits(turn, edits)
  const answer = await gateway.store.update({
    conversation: conversation.id,
    initial: conversation,
    change: { ofSession: conversation.session, addUserAlerts: { period, percents: alerts }, addEdits: edits },
    nowMs: gateway.nowMs(),
  })
  reportAlerts(turn, answer ?? NONE_FIRED)
}

/**
 * Of a call whose conversation was never served, and never will be: nothing of it is kept, or each try would be a conversation, with alerts
 * of its own. Of a user's budget they are told once a period, by each sidecar.
 */
function tellUnserved(turn: Turn, cap: CapKind): void {
  const { gateway, conversationId, user, terms, draws } = turn
  const { tier, alerts } = terms.contract
  if (cap === 'conversation') gateway.log.info({ conversation: conversationId, tier }, 'a call is too dear for a whole budget')
  const period = userPeriodOf(draws)
  if (cap !== 'user' || user === null || period === null) return
  const key = `${user} ${tier} ${period}`
  if (gateway.exhaustedUsers.has(key)) return
  gateway.exhaustedUsers.set(key, true)
  reportAlerts(turn, { firedAlerts: [], firedUserAlerts: alerts })
}

async function logEdits({ gateway, conversation }: Turn, edits: readonly Edit[]): Promise<void> {
  if (edits.length === 0) return
  const change = { ofSession: conversation.session, addEdits: edits }
  await gateway.store.update({ conversation: conversation.id, initial: conversation, change, nowMs: gateway.nowMs() })
}
