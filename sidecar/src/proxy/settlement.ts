/**
 * The end of a hold: given back where nothing is billed; else the real cost takes its place, and the conversation is told what its turn came to.
 * What that is, `settleStep` decides, purely.
 */
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { NoticeOccasion } from '@farebox/crds/sidecar-config.ts'
import { inputTokens } from '@farebox/crds/usage.ts'
import { answeredDigests, callDigests, loopQuestion } from '../core/chain.ts'
import { toldAt } from '../core/conversation-change.ts'
import { KEPT_MESSAGES } from '../core/conversation.ts'
import type { ConversationChange, Digest, Driver, ExactCount, Question } from '../core/conversation.ts'
import { splitByDriver } from '../core/drivers.ts'
import type { DriverBytes } from '../core/drivers.ts'
import { lastEditOf } from '../core/edit-log.ts'
import { hasStayed } from '../core/ladder.ts'
import { begunAnswer } from '../core/message.ts'
import { deliveredNotices, noticeEdit } from '../core/notices.ts'
import { isOwnTurn } from '../core/own-turn.ts'
import { readAtOnce } from '../core/readings.ts'
import { matchesPattern } from '../core/pattern.ts'
import type { Plan } from '../core/plan.ts'
import { watchedAlerts } from '../core/reached-percents.ts'
import { beginsUserTurn, questionOf } from '../core/sessions.ts'
import type { sentQuestion } from '../core/sessions.ts'
import type { SettleAnswer, SettleStep } from '../store/store.ts'
import { untilBack } from '../store/until-back.ts'
import type { Admitted } from './admit.ts'
import { isAlike, isTextAlone } from './earlier.ts'
import { noteOf } from './exchange.ts'
import type { Turn } from './exchange.ts'
import type { AnswerNotice, CallEnd } from './forward.ts'
import { digestOfResponse } from './last-count.ts'
import type { Beside } from './side-loops.ts'

type Answered = Extract<CallEnd, { status: 'settle' }>
type Billed = Extract<CallEnd, { status: 'settle' | 'charge' }>

/** How a call ended, and what was known of its request before that was let go. */
export interface Ended<End extends CallEnd = CallEnd> {
  readonly end: End
  /** What the answer should tell; null: nothing. */
  readonly notice: AnswerNotice | null
  readonly driven: DriverBytes
  /** What users were to be told, and are not: it did not come to it. */
  readonly untold: readonly NoticeOccasion[]
  readonly asked: ReturnType<typeof sentQuestion>
  /** How the call stands to its chat; null: it is one of the chat itself. */
  readonly beside: Pick<Beside, 'loop'> | null
}

/** Ends the hold, once, however long the store is away. Null when nothing was settled. */
export async function settle(admitted: Admitted, ended: Ended): Promise<SettleAnswer | null> {
  const { turn, operationId } = admitted
  const { gateway } = turn
  const { end } = ended
  try {
    const nowMs = gateway.nowMs()
    if (end.status === 'void' || end.status === 'retry') {
      await untilBack(() => gateway.store.void({ operationId, atMs: nowMs }))
      return null
    }
    const step = settleStep(admitted, { ...ended, end }, nowMs)
    const exact = exactCountOf(admitted, end, nowMs)
    learnFactor(admitted, exact)
    if (ended.beside !== null && exact !== null) gateway.sideLoops.counted(turn.conversationId, ended.beside.loop, exact)
    return await untilBack(() => gateway.store.settle(step))
  } finally {
    gateway.holds.remove(operationId)
    gateway.queue.wakeNext(turn.draws.map((draw) => draw.account))
  }
}

/** What a billed call comes to. Where nobody knows what is billed that is the whole hold, as output. */
export function settleStep(admitted: Admitted, ended: Ended<Billed>, nowMs: number): SettleStep {
  const { turn, operationId, granted, plan } = admitted
  const answered = ended.end.status === 'settle' ? ended.end : null
  const cost = answered?.cost ?? granted
  const drivers =
    answered === null
      ? { output: cost }
      : splitByDriver({
          bytes: ended.driven,
          usage: answered.usage,
          readAtOnce: readAtOnce(answered.usage, answered.facts, plan.readings),
          priced: plan.priced,
          cost,
        })
  const response = responseOf(turn, ended.end)
  // An answer may tell half of a surrogate pair, which not every store can read in what it keeps.
  const model = (answered?.facts?.model ?? plan.model).toWellFormed()
  const metered = answered === null ? { source: 'estimated' as const } : { usage: answered.usage, source: answered.source }
  return {
    settlement: { operationId, cost, atMs: nowMs, note: { ...noteOf(turn, model, 'turn'), ...metered, drivers } },
    conversation: turn.conversationId,
    change: changeAfter(admitted, ended, drivers, nowMs),
    chain: answered === null ? [] : [...chainOf(turn, answered), ...(response === null ? [] : [response]), ...keptNamesOf(turn, answered)],
    alerts: watchedAlerts(turn.draws, turn.terms.contract.alerts),
  }
}

/** Names the answer, where the provider keeps it. */
function responseOf(turn: Turn, end: Billed): Digest | null {
  const id = end.status === 'settle' ? (end.facts?.responseId ?? null) : null
  return id === null ? null : digestOfResponse(turn, id)
}

/** What a billed call changes in its conversation. */
function changeAfter(
  admitted: Admitted,
  { end, notice, untold, asked, beside }: Ended<Billed>,
  drivers: Readonly<Partial<Record<Driver, NanoUsd>>>,
  nowMs: number,
): ConversationChange {
  const { turn } = admitted
  const { request, conversation } = turn
  // The chat goes on from its own, whatever is asked beside it meanwhile, unless that shows to have been a question of its own.
  const exact = beside === null ? exactCountOf(admitted, end, nowMs) : null
  const told = end.status === 'settle' && end.noticed ? notice : null
  const takenBack = conversation.notices.filter(({ occasion }) => untold.includes(occasion)).map(({ id }) => id)
  const delivered = deliveredNotices(conversation).map(({ id }) => id)
  const removed = [...(told?.ids ?? []), ...takenBack, ...delivered]
  return {
    ofSession: conversation.session,
    turnAtMs: nowMs,
    ...(beginsUserTurn(request, conversation, asked) ? { addUserTurn: true, question: askedQuestion(admitted, asked) } : {}),
    ...taskBoundaryAfter(turn, end, nowMs),
    addDrivers: drivers,
    ...(exact === null ? {} : { exact }),
    ...(told === null ? {} : { addEdits: [noticeEdit(told)] }),
    ...(removed.length === 0 ? {} : { removeNotices: removed }),
  }
}

/** Where the provider keeps the history the same words may well be the next question: it is known by its call, and is of more than it brings. */
function askedQuestion({ turn, operationId }: Admitted, asked: Ended['asked']): Question {
  return questionOf(turn.request.earlier === null ? asked : { messages: KEPT_MESSAGES, messagesDigest: operationId })
}

/**
 * The provider's count of this call, from which the next can be bounded: not so the sum of several readings of the context, nor what is left
 * of a call that is not billed.
 */
function exactCountOf({ turn, plan }: Admitted, end: Billed, nowMs: number): ExactCount | null {
  if (end.status !== 'settle' || end.source !== 'exact' || turn.request.messages.length === 0) return null
  if (end.facts?.isSum === true || end.facts?.isUnbilled === true) return null
  const { usage } = end
  const response = responseOf(turn, end)
  const written = usage.cacheWriteInput + usage.cacheWriteLongInput
  const audioTokens = end.facts?.audioTokens
  return {
    model: plan.model,
    ...plan.bound.sent,
    inputTokens: inputTokens(usage),
    cachedTokens: usage.cacheReadInput + usage.cacheReadAudioInput,
    ...(written === 0 ? {} : { cacheWrittenTokens: written }),
    ...(audioTokens === undefined ? {} : { audioTokens }),
    outputTokens: usage.output,
    atMs: nowMs,
    lastEdit: lastEditOf([...turn.conversation.edits, ...plan.promoted, ...plan.shaped.newEdits]),
    ...(response === null ? {} : { response, ...keptOf(turn, plan) }),
    ...(hasStayed(plan) ? { stayed: true } : {}),
  }
}

/** Of a count, what tells whether a later call may go on from it: as another model counts, or reads. Thoughts are kept, and each model reads others. */
function keptOf(turn: Turn, { priced }: Pick<Plan, 'priced'>): Pick<ExactCount, 'keptReading' | 'isText' | 'isAlike'> {
  const { keptReading } = turn.request
  const isText = !priced.capabilities.reasoning && isTextAlone(turn)
  const alike = isText ? undefined : isAlike(turn)
  return {
    ...(keptReading === undefined ? {} : { keptReading }),
    ...(isText ? { isText } : {}),
    ...(alike === undefined ? {} : { isAlike: alike }),
  }
}

/** An exact count teaches how many tokens the model makes of text, where text is all that it counted. */
function learnFactor({ turn, plan: { model, bound } }: Admitted, exact: ExactCount | null): void {
  const { factors } = turn.gateway
  if (exact === null || turn.earlierTokens !== 0 || bound.hasFiles || !factors.wants(model, bound.bytes - bound.known)) return
  factors.observe(model, { exactTokens: exact.inputTokens - bound.known, heuristicTokens: bound.freshHeuristic })
}

/** A tool that ends a task makes the next user turn begin another; a boundary that was told is past once its turn is answered. */
function taskBoundaryAfter(
  { request, conversation, policy }: Turn,
  end: Billed,
  nowMs: number,
): Pick<ConversationChange, 'atTaskBoundary'> {
  const called = end.status === 'settle' ? (end.facts?.toolNames ?? []) : []
  const { toolNames } = policy.config.taskBoundary
  const atMs = toldAt(nowMs, conversation.boundaryAtMs)
  if (called.some((name) => toolNames.some((pattern) => matchesPattern(pattern, name)))) return { atTaskBoundary: { is: true, atMs } }
  return conversation.atTaskBoundary && isOwnTurn(request, conversation) ? { atTaskBoundary: { is: false, atMs } } : {}
}

/**
 * Digests under which a later turn without an id finds this conversation: the history so far, with the answer, and the calls of tools in
 * that. Shorter ones it has from its earlier turns; what others begin with as well (an app's greeting, examples in its prompt) is never one.
 */
function chainOf(turn: Turn, { messages, message, alternatives }: Answered): readonly Digest[] {
  const { chain, request, gateway } = turn
  if (chain === null) return []
  const question = loopQuestion(request.messages)
  const answer = { messages, message, alternatives, begun: begunAnswer(request.messages), question }
  const calls = callDigests([...alternatives, ...messages], CALLS_NAMED_MAX, gateway.chainKey, chain.scope)
  return [...answeredDigests(chain.digests, answer, gateway.chainKey), ...calls]
}

/** Calls of one answer that name the conversation: the last ones, of which the history brings some in any case. */
const CALLS_NAMED_MAX = 8

/** Digests of what the provider keeps, or has sealed. What is kept under a name of its own is found again by that, too. */
function keptNamesOf(turn: Turn, { facts }: Answered): readonly Digest[] {
  const { earlier } = turn.request
  const ownName = earlier?.kind === 'conversation' ? [earlier.id] : []
  return [...ownName, ...(facts?.keptNames ?? [])].map((name) => digestOfResponse(turn, name))
}
