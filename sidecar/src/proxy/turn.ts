/**
 * One turn from start to end:
 *
 *   read -> locate (session) -> admit (decide, reserve) -> forward (shape, send, meter) -> settle -> report
 *
 * docs/turn.md draws the same with the error code of each phase.
 */
import type { NoticeOccasion } from '@farebox/crds/sidecar-config.ts'
import { driverBytes } from '../core/drivers.ts'
import { inlineNotice } from '../core/notice-frame.ts'
import { chooseLocale, deliveredNotices, isTakenApart, noticeText } from '../core/notices.ts'
import { isUnread } from '../core/own-turn.ts'
import { isTalk, sentQuestion } from '../core/sessions.ts'
import { inEffect } from '../core/standing.ts'
import { remainingOf, userPeriodOf } from '../core/terms.ts'
import type { Wire } from '../wire/wire.ts'
import { otherLimitField } from '../core/output-limit.ts'
import { admit, NOTHING_UNDONE, percentOf } from './admit.ts'
import type { Admitted, Undone } from './admit.ts'
import { readBody } from './body.ts'
import { endTurn } from './endings.ts'
import { headerReader, noticesOf, refuse, stateHeaders } from './exchange.ts'
import type { Exchange, Turn } from './exchange.ts'
import { forward } from './forward.ts'
import type { AnswerNotice, CallEnd } from './forward.ts'
import { askedTier } from './headers.ts'
import { locate } from './locate.ts'
import { release, releaseParsed } from './release.ts'
import { remember, sayingsOf } from './memory.ts'
import { inItsSession } from './next-session.ts'
import { serveUngoverned } from './pass-through.ts'
import { reportResolution } from './resolutions.ts'
import { reportCost } from './report.ts'
import { settle } from './settlement.ts'
import { mayEndWithRecap } from './summariser.ts'
import { servedBy } from './sent-request.ts'
import { modelKey } from './usage-refusals.ts'

/** Attempts at one turn: the first, and one after each thing that we changed and the provider would not have, of two models where it was swapped. */
const ATTEMPTS_MAX = 7

/** Answers the request. What fails unexpectedly rejects; the server turns that into a 503 or a cut connection. */
export async function runTurn(exchange: Exchange, wire: Wire): Promise<void> {
  const { gateway } = exchange
  const read = await readBody(exchange)
  if (read.status === 'aborted') return
  if (read.status === 'refused') return refuse(exchange, read.refusal)
  const { upstream, path, incoming } = exchange
  const call = { upstream, path, contentType: incoming.headers['content-type'] ?? '', askedTier: askedTier(incoming.headers) }
  const parsed = await wire.parse(read.body, call)
  if (parsed.status === 'invalid') {
    return refuse(exchange, { code: 'invalid_request', message: parsed.message, ...(parsed.field === null ? {} : { param: parsed.field }) })
  }
  if (parsed.status === 'ungoverned')
    return await serveUngoverned(exchange, `${parsed.what} cannot be metered as it happens, and is refused here.`, read.body)
  const located = await locate({ ...exchange, wire, call, request: parsed.request })
  if (located.status === 'refused') return refuse(exchange, located.refusal)

  if (exchange.outgoing.destroyed) return // a long history is read for a while
  let turn = await inItsSession(located.turn)
  let undone: Undone = NOTHING_UNDONE
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const admission = await admit(turn, undone)
    switch (admission.status) {
      case 'gone':
        return
      case 'refused':
        gateway.metrics.turns.add([turn.terms.contract.tier, 'refused'])
        return refuse(turn, admission.refusal, undecidedHeaders(admission.turn, admission.percent))
      case 'ended': {
        const next = await endTurn(admission.turn, admission.decision)
        if (next === null) return
        turn = next // a new session of the conversation goes on with the same request
        continue
      }
      case 'admitted': {
        const again = await callAndSettle(admission.admitted, undone)
        if (again === null) return
        turn = again.turn
        undone = again.undone
      }
    }
  }
  refuse(turn, { code: 'budget_busy' }, undecidedHeaders(turn, percentOf(turn)))
}

/** Of a turn that came to no call: where its conversation stands without it. */
function undecidedHeaders(turn: Turn, percent: number): string[] {
  return stateHeaders(turn, { ...inEffect(turn.conversation, userPeriodOf(turn.draws)), percent, maxOutput: null })
}

/** A turn to try again, without what the provider would not have. */
interface Again {
  readonly turn: Turn
  readonly undone: Undone
}

/** Null when the turn is over. */
async function callAndSettle(admitted: Admitted, undone: Undone): Promise<Again | null> {
  const { turn, plan } = admitted
  const { gateway } = turn
  const { upstream } = servedBy(admitted)
  reportRungs(admitted)
  const isBeside = isUnread(turn.request, turn.conversation)
  if (isBeside) gateway.sideLoops.begin(turn.conversationId, turn.request)
  const isUnheard = isBeside || gateway.sideLoops.has(turn.conversationId, turn.request)
  const notice = isUnheard ? null : noticeOf(admitted, untoldOf(undone))
  const injectUsage =
    turn.wire.asksForUsage &&
    turn.request.stream &&
    !turn.request.includeUsage &&
    upstream.injectUsage === 'Auto' &&
    !undone.usage &&
    !gateway.usageRefusals.has(upstream, plan.model)
  const driven = driverBytes(turn.request, plan.shaped.messages, turn.policy.config.retrieval)
  const sayings = sayingsOf(turn, plan)
  const asked = sentQuestion(plan)
  for (const message of turn.request.messages) message.forget?.()
  releaseParsed(turn.request.body)
  const { end, last } = await forward(admitted, {
    notice: notice === null ? null : { ...notice, text: inlineNotice(notice.text) },
    collect: turn.chain !== null || sayings !== null || mayEndWithRecap(turn.terms.contract),
    mayRetry: {
      streamOptions: injectUsage,
      limitField: undone.limitField === null,
      swap: plan.swap !== null,
      edits:
        plan.shaped.rewritten &&
        !undone.edits &&
        !gateway.uneditable.has(turn.conversationId) &&
        !gateway.faultyUnedited.has(turn.conversationId),
    },
    injectUsage,
    refusedLimitField: undone.limitField,
    drains: gateway.drains,
  })
  // At once: the next turn may come before this one is in the books.
  if (wasAnswered(end)) {
    if (!isUnheard && isTalk(turn.request)) gateway.sideLoops.chatAnswered(turn.conversationId, callsTools(end))
    rememberUndone(admitted, undone)
    gateway.faultyUnedited.delete(turn.conversationId)
  } else if (undone.edits && end.status === 'void' && end.objection === 'edits') gateway.faultyUnedited.set(turn.conversationId, true)
  if (wasAnswered(end) && plan.hostedCallsCut) gateway.boundsCut.set(turn.conversationId, true)
  const untold = wasAnswered(end) ? untoldOf(undone) : []
  const settled = await settle(admitted, { end, notice, driven, untold, asked }).finally(() => last.release())
  if (end.status === 'retry') {
    const located = await locate(turn, { id: turn.conversationId, chain: turn.chain, isNamed: turn.isNamed })
    if (located.status === 'ok') return { turn: located.turn, undone: alsoUndone(undone, end, admitted) }
    refuse(turn, located.refusal, undecidedHeaders(turn, percentOf(turn)))
    return null
  }
  const { tally } = gateway
  tally.count += 1
  tally.lastMs = gateway.nowMs()
  if (turn.user === null) tally.withoutUser += 1
  if (settled === null) gateway.metrics.turns.add([turn.terms.contract.tier, end.status])
  else {
    reportCost(admitted, end, settled)
    const toolNames = end.status === 'settle' ? (end.facts?.toolNames ?? []) : []
    // The answer is out and booked: nothing that follows makes a fault of it.
    await reportResolution(turn, settled.snapshot.conversation ?? turn.conversation, toolNames).catch((error: unknown) =>
      gateway.log.error(
        { requestId: turn.requestId, conversation: turn.conversationId, err: String(error) },
        'what came of a call cannot be entered',
      ),
    )
    const isKept = end.status === 'settle' && gateway.summariser.consider(admitted, settled.snapshot, end.message, callsTools(end))
    if (sayings !== null) await remember(turn, sayings, end.status === 'settle' ? end.message : null)
    if (end.status === 'settle' && end.isSent && !isKept) release(turn.request.body)
  }
  return null
}

function alsoUndone(undone: Undone, end: Extract<CallEnd, { status: 'retry' }>, admitted: Admitted): Undone {
  switch (end.without) {
    case 'streamOptions':
      return { ...undone, usage: true }
    case 'limitField':
      return { ...undone, limitField: end.field }
    case 'edits':
      return { ...undone, edits: true }
    case 'swap':
      // What the other model would not have says nothing of this one.
      return {
        ...undone,
        swap: { to: admitted.plan.model, upstream: servedBy(admitted).upstream.name, why: end.why },
        usage: false,
        limitField: null,
      }
  }
}

/** Only an answer without it shows that what we changed was at fault: what fails either way is the request. */
function wasAnswered(end: CallEnd): boolean {
  return end.status === 'settle' && end.facts !== null
}

function callsTools(end: CallEnd): boolean {
  return end.status === 'settle' && end.facts !== null && end.facts.toolNames.length > 0
}

function rememberUndone(admitted: Admitted, undone: Undone): void {
  const {
    turn,
    plan: { model },
  } = admitted
  const { gateway, conversationId, requestId } = turn
  const { upstream } = servedBy(admitted)
  const { swap, usage, limitField, edits } = undone
  if (swap !== null) rememberRefusedSwap(turn, swap)
  if (edits) gateway.uneditable.set(conversationId, true)
  // Versions of one API differ in the field, and so do models: what one refuses another may demand.
  if (limitField !== null) gateway.limitFields.set(modelKey(upstream, model), otherLimitField(limitField))
  if (!usage || gateway.usageRefusals.has(upstream, model)) return
  gateway.usageRefusals.add(upstream, model)
  gateway.log.warn(
    { requestId, upstream: upstream.name, model },
    'the upstream does not take stream_options for this model: streams of clients that do not ask for their usage are metered by estimate for a while, unless it tells its usage unasked',
  )
}

/** Each call of the conversation costs more than the plan says from now on: the log says why, once. */
function rememberRefusedSwap(
  { gateway, conversationId, requestId, request }: Turn,
  { to, upstream, why }: NonNullable<Undone['swap']>,
): void {
  const known = gateway.failedSwaps.get(conversationId)
  if (known?.has(to) === true) return
  gateway.failedSwaps.set(conversationId, new Set([...(known ?? []), to]))
  gateway.log.warn(
    { requestId, conversation: conversationId, upstream, model: to, asked: request.model, ...why },
    'the provider refused the call at the cheaper model: this conversation stays with the one that it asks for',
  )
}

/** Occasions that are not announced: an earlier attempt made that change, and the provider refused it. */
function untoldOf({ swap, edits }: Undone): readonly NoticeOccasion[] {
  return [
    ...(swap === null ? [] : (['DowngradeModel'] as const)),
    ...(edits ? (['DropRetrieval', 'Summarize', 'DropOldest'] as const) : []),
  ]
}

/** Fields by which an app ends answers at words of its own. In these formats such an end looks like any other. */
const STOP_FIELDS = ['stop', 'generationConfig.stopSequences'] as const

/**
 * What this answer should tell the user who reads it: this turn's occasions and those that no prose answer has carried yet, but for `untold`.
 * Nothing where the app may cut it at words of its own: that waits for the next answer.
 */
function noticeOf(admitted: Admitted, untold: readonly NoticeOccasion[]): AnswerNotice | null {
  const { turn, plan, granted } = admitted
  const { contract } = turn.terms
  if (turn.policy.config.mode === 'Observe' || contract.notices.mode !== 'Inline' || isTakenApart(turn.request)) return null
  if (STOP_FIELDS.some((name) => turn.request.fields.has(name))) return null
  const known = [...turn.conversation.notices, ...noticesOf(turn, plan.occasions)]
  const delivered = deliveredNotices(turn.conversation)
  const pending = known.filter((notice) => !untold.includes(notice.occasion) && !delivered.includes(notice))
  if (pending.length === 0) return null
  const locale = chooseLocale(contract, headerReader(turn.incoming)('accept-language'))
  const remaining = remainingOf(turn.balances, granted)
  const texts: string[] = []
  const ids: string[] = []
  for (const { id, occasion } of pending) {
    const text = noticeText({
      contract,
      tiers: turn.policy.config.contracts,
      occasion,
      locale,
      remaining,
      percent: plan.percent,
      turns: turn.conversation.turns + 1,
    })
    if (text !== null) texts.push(text)
    ids.push(id)
  }
  return texts.length === 0 ? null : { text: [...new Set(texts)].join('\n'), ids }
}

function reportRungs(admitted: Admitted): void {
  const { turn, plan } = admitted
  const { gateway } = turn
  const tier = turn.terms.contract.tier
  for (const rung of [...plan.risen, ...plan.risenForUser]) {
    gateway.metrics.rungs.add([tier, rung, plan.reason ?? 'threshold'])
    gateway.log.info(
      { conversation: turn.conversationId, tier, rung, reason: plan.reason, percent: plan.percent },
      'a rung came into effect',
    )
  }
  for (const skip of plan.shaped.skipped) gateway.metrics.rungsSkipped.add([skip.rung, skip.reason])
  if (plan.shaped.savedBytes > 0) gateway.metrics.savedBytes.add([tier], plan.shaped.savedBytes)
}
