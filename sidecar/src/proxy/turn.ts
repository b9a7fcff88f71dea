/**
 * One turn from start to end:
 *
 *   read -> locate (session) -> admit (decide, reserve) -> forward (shape, send, meter) -> settle -> report
 *
 * docs/turn.md draws the same with the error code of each phase.
 */
import type { NoticeOccasion } from '@farebox/crds/sidecar-config.ts'
import { driverBytes } from '../core/drivers.ts'
import { needsBoundary } from '../core/ladder.ts'
import type { TurnSayings } from '../core/memory.ts'
import { inlineNotice } from '../core/notice-frame.ts'
import { isTalk, sentQuestion } from '../core/sessions.ts'
import { chosenByAccount } from '../core/service-tier.ts'
import { inEffect } from '../core/standing.ts'
import { userPeriodOf } from '../core/terms.ts'
import type { SettleAnswer } from '../store/store.ts'
import type { Wire } from '../wire/wire.ts'
import { otherLimitField } from '../core/output-limit.ts'
import { admit, NOTHING_UNDONE, percentOf } from './admit.ts'
import type { Admitted, AdmitResult, Undone } from './admit.ts'
import { readBody } from './body.ts'
import { endTurn } from './endings.ts'
import { refuse, stateHeaders } from './exchange.ts'
import type { Exchange, Turn } from './exchange.ts'
import { forward } from './forward.ts'
import type { CallEnd, CallOptions } from './forward.ts'
import { askedTier } from './headers.ts'
import { locate } from './locate.ts'
import { release, releaseParsed } from './release.ts'
import { remember, sayingsOf } from './memory.ts'
import { inItsSession } from './next-session.ts'
import { serveUnread } from './pass-through.ts'
import { reportResolution } from './resolutions.ts'
import { reportCost } from './report.ts'
import { settle } from './settlement.ts'
import { mayEndWithRecap } from './summariser.ts'
import { servedBy } from './sent-request.ts'
import { accountOf, ONE_ACCOUNT } from './served-tiers.ts'
import type { Beside, Outcome } from './side-loops.ts'
import { noticeOf } from './turn-notice.ts'
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
  if (parsed.status !== 'ok') return serveUnread(exchange, parsed, read.body)
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
        return refuse(turn, admission.refusal, undecidedHeaders(admission.turn, admission.percent, admission.by))
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

/** Of a turn that came to no call: where its conversation stands without it. `by`: the rung that refused it, which is written with no call. */
function undecidedHeaders(turn: Turn, percent: number, by?: Extract<AdmitResult, { status: 'refused' }>['by']): string[] {
  const standing = by ?? inEffect(turn.conversation, userPeriodOf(turn.draws))
  return stateHeaders(turn, { ...standing, percent, maxOutput: null })
}

/** A turn to try again, without what the provider would not have. */
interface Again {
  readonly turn: Turn
  readonly undone: Undone
}

/** Null when the turn is over. */
async function callAndSettle(admitted: Admitted, undone: Undone): Promise<Again | null> {
  const { turn, plan } = admitted
  reportRungs(admitted)
  const beside = besideOf(admitted)
  const notice = beside?.isUnheard === true ? null : noticeOf(admitted, untoldOf(undone))
  const driven = driverBytes(turn.request, plan.shaped.messages, turn.policy.config.retrieval)
  const sayings = sayingsOf(turn, plan)
  const asked = sentQuestion(plan)
  for (const message of turn.request.messages) message.forget?.()
  releaseParsed(turn.request.body)
  const collect = turn.chain !== null || sayings !== null || mayEndWithRecap(turn.terms.contract)
  const { end, last } = await forward(admitted, callOptions(admitted, undone, { notice, collect }))
  learn(admitted, undone, { end, beside }) // at once: the next turn may come before this one is in the books
  const untold = wasAnswered(end) ? untoldOf(undone) : []
  const settled = await settle(admitted, { end, notice, driven, untold, asked, beside }).finally(() => last.release())
  if (end.status === 'retry') return await retried(admitted, undone, end)
  await follow(admitted, { end, settled, sayings })
  return null
}

/** What the call asks for beside its plan, and what of it may be left out in a second attempt. */
function callOptions(admitted: Admitted, undone: Undone, { notice, collect }: Pick<CallOptions, 'notice' | 'collect'>): CallOptions {
  const { turn, plan } = admitted
  const { gateway, request, wire, conversationId } = turn
  const { upstream } = servedBy(admitted)
  return {
    notice: notice === null ? null : { ...notice, text: inlineNotice(notice.text) },
    collect,
    injectUsage:
      wire.asksForUsage &&
      request.stream &&
      !request.includeUsage &&
      upstream.injectUsage === 'Auto' &&
      !undone.usage &&
      !gateway.usageRefusals.has(upstream, plan.model),
    refusedLimitField: undone.limitField,
    mayUndoEdits:
      plan.shaped.rewritten && !undone.edits && !gateway.uneditable.has(conversationId) && !gateway.faultyUnedited.has(conversationId),
  }
}

/** Keeps what the end of a call says of those that follow it. */
function learn(admitted: Admitted, undone: Undone, { end, beside }: { readonly end: CallEnd; readonly beside: Beside | null }): void {
  const { turn, plan } = admitted
  const { gateway } = turn
  if (isTalk(turn.request)) gateway.sideLoops.ended(turn.conversationId, turn.request, beside, outcomeOf(end))
  if (wasAnswered(end)) {
    rememberUndone(admitted, undone)
    gateway.faultyUnedited.delete(turn.conversationId)
  } else if (undone.edits && end.status === 'void' && end.objection === 'edits') gateway.faultyUnedited.set(turn.conversationId, true)
  if (end.status === 'settle' && end.facts !== null) {
    const tier = chosenByAccount(turn.request.serviceTier, end.facts.serviceTier)
    const { upstream } = servedBy(admitted)
    gateway.servedTiers.saw(upstream, plan.model, upstream === turn.upstream ? accountOf(turn) : ONE_ACCOUNT, tier)
  }
  if (wasAnswered(end) && plan.hostedCallsCut) gateway.boundsCut.set(turn.conversationId, true)
}

/** The turn as it stands after a call that the provider refused for what we changed; null, and refused, where it cannot go on. */
async function retried(admitted: Admitted, undone: Undone, end: Extract<CallEnd, { status: 'retry' }>): Promise<Again | null> {
  const { turn } = admitted
  const located = await locate(turn, { id: turn.conversationId, chain: turn.chain, isNamed: turn.isNamed })
  if (located.status === 'ok') return { turn: located.turn, undone: alsoUndone(undone, end, admitted) }
  refuse(turn, located.refusal, undecidedHeaders(turn, percentOf(turn)))
  return null
}

/** What follows a call that is out and booked: it is counted and told, and what it said is kept for later turns. */
async function follow(
  admitted: Admitted,
  { end, settled, sayings }: { readonly end: CallEnd; readonly settled: SettleAnswer | null; readonly sayings: TurnSayings | null },
): Promise<void> {
  const { turn } = admitted
  const { gateway } = turn
  const { tally } = gateway
  tally.count += 1
  tally.lastMs = gateway.nowMs()
  if (turn.user === null) tally.withoutUser += 1
  if (settled === null) return gateway.metrics.turns.add([turn.terms.contract.tier, end.status])
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

/** How the call stands to its chat, with the loop that it begins, if it begins one; null for one of the chat itself. */
function besideOf({ turn, plan, beside }: Admitted): Beside | null {
  const { request, conversation, gateway } = turn
  if (beside === null || beside.loop !== null || !isTalk(request)) return beside
  const begun = { isUnheard: beside.isUnheard, rungs: plan.rungs.filter(needsBoundary) }
  return { ...beside, loop: gateway.sideLoops.begin(conversation.id, request, begun) }
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

function outcomeOf(end: CallEnd): Outcome {
  if (!wasAnswered(end)) return 'failed'
  return callsTools(end) ? 'calledTools' : 'answered'
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
