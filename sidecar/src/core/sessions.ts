/** When a session of a conversation is over, and whether the next one may open. What the next one begins with is in `reset.ts`. */
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { Conversation, Question } from './conversation.ts'
import { replay } from './edit-log.ts'
import { isBoundary } from './ladder.ts'
import { askedIn, begunAnswer } from './message.ts'
import { wholeDigest } from './message-digests.ts'
import { UNTALKED_WIRES } from './request.ts'
import type { ModelRequest } from './request.ts'
import type { Shaped } from './shape.ts'

/** Why a session ends: its budget is used up and the ladder resets, it had all its user turns, or nobody spoke for long. */
export const SESSION_ENDS = ['budget', 'maxTurns', 'idle'] as const
export type SessionEnd = (typeof SESSION_ENDS)[number]

type Sessions = Pick<Contract, 'sessions'>

export interface SessionInput {
  readonly conversation: Pick<Conversation, 'userTurns' | 'lastTurnAtMs' | 'atTaskBoundary'>
  readonly contract: Sessions
  readonly nowMs: number
  /** A user turn begins with this request, as `isUserTurn` gives it. */
  readonly atBoundary: boolean
  /** The request says that a new task begins with it. */
  readonly taskBoundary: boolean
  /** Calls of the session are under way: somebody waits for an answer, so this is no pause. */
  readonly isBusy?: boolean
  /** As `isBesideChat` gives it. */
  readonly isBeside?: boolean
  /** As `isAskedAgain` gives it; asked for where it decides alone, since it reads all of the history. */
  readonly isAgain?: () => boolean
}

/**
 * Why the session is over before the user turn that begins now; null when it goes on. A pause is a boundary by itself; a session
 * that had all its turns waits for one where the tier resets at task boundaries only, and answers its last question again. One in which
 * nobody has asked anything yet is never over: what opened it needs no repeat.
 */
export function sessionEnds(input: SessionInput): Exclude<SessionEnd, 'budget'> | null {
  const { conversation, contract, nowMs, atBoundary, taskBoundary, isBusy = false, isBeside = false, isAgain } = input
  const { maxTurns, idleAfterMs } = contract.sessions
  if (!atBoundary || conversation.userTurns === 0) return null
  if (idleAfterMs !== undefined && !isBusy && nowMs - conversation.lastTurnAtMs >= idleAfterMs) return 'idle'
  if (maxTurns === undefined || conversation.userTurns < maxTurns || isBeside) return null
  return mayEndHere({ conversation, contract, taskBoundary }) && isAgain?.() !== true ? 'maxTurns' : null
}

/** Whether a session that is over may give way here, or waits for a new task. */
export function mayEndHere({
  conversation,
  contract,
  taskBoundary,
}: Pick<SessionInput, 'conversation' | 'contract' | 'taskBoundary'>): boolean {
  return contract.sessions.resetAt === 'Immediately' || taskBoundary || conversation.atTaskBoundary
}

/** Whether, by what is known after an answer, the next user turn opens a session: the time to prepare its recap. */
export function endsWithNextTurn(conversation: SessionInput['conversation'], contract: Sessions): boolean {
  const { maxTurns } = contract.sessions
  return maxTurns !== undefined && conversation.userTurns >= maxTurns && mayEndHere({ conversation, contract, taskBoundary: false })
}

/** Why no session may follow this one. */
export const RESET_REFUSALS = [
  /** No user is known, or the tier has no budget per user: a fresh session would mint money. */
  'noUserBudget',
  'noResetsLeft',
  /** The provider keeps the history, or will not have it edited: the next session would begin with all of it. */
  'historyKept',
] as const
export type ResetRefusal = (typeof RESET_REFUSALS)[number]

/** Null when the next session may open. */
export function resetRefusal(turn: {
  readonly conversation: Pick<Conversation, 'session'>
  readonly contract: Sessions
  readonly hasUserBudget: boolean
  /** The history that the model reads can be rewritten. */
  readonly canCut: boolean
}): ResetRefusal | null {
  if (!turn.hasUserBudget) return 'noUserBudget'
  if (turn.conversation.session - 1 >= turn.contract.sessions.maxResets) return 'noResetsLeft'
  return turn.canCut ? null : 'historyKept'
}

/** A call in which somebody says something to somebody; not so one that writes nothing (embeddings), or only shortens a history. */
export function isTalk({ generates, wire }: Pick<ModelRequest, 'generates' | 'wire'>): boolean {
  return generates && wire !== 'compact' && !UNTALKED_WIRES.has(wire)
}

/** A question of the user begins here. */
export function isUserTurn(request: ModelRequest): boolean {
  return isTalk(request) && isBoundary(request)
}

/**
 * Whether an answer to this request counts a user turn: a question that is asked again as it was (a retry, another answer to the
 * same) counts once. `sent`: the messages as they go out.
 */
export function beginsUserTurn(request: ModelRequest, conversation: Pick<Conversation, 'userTurns' | 'question'>, sent: Sent): boolean {
  return isUserTurn(request) && !isSameQuestion(request, conversation, sent) && !isBesideChat(request, conversation)
}

/** Whether the last question of the session is asked once more, before anything of the request is changed that was not changed then. */
export function isAskedAgain(request: ModelRequest, conversation: Pick<Conversation, 'userTurns' | 'question' | 'edits'>): boolean {
  if (conversation.question === null) return false
  const messages = askedIn(replay(request, conversation.edits).messages)
  if (messages.length !== conversation.question.messages) return false
  return isSameQuestion(request, conversation, { messages: messages.length, messagesDigest: wholeDigest(messages) })
}

function isSameQuestion(
  { earlier }: ModelRequest,
  { question, userTurns }: Pick<Conversation, 'userTurns' | 'question'>,
  sent: Sent,
): boolean {
  // Where the provider keeps the history, the same words may well be the next question.
  if (userTurns === 0 || earlier !== null) return false
  const asked = questionOf(sent)
  return question?.messages === asked.messages && question.digest === asked.digest
}

interface Sent {
  readonly messages: number
  readonly messagesDigest: string
}

/** The messages of a request as they go out, by which its question is known: without an answer that the app has begun. */
export function sentQuestion({
  shaped,
  bound,
}: {
  readonly shaped: Pick<Shaped, 'messages'>
  readonly bound: { readonly sent: Sent }
}): Sent {
  const asked = askedIn(shaped.messages)
  return asked === shaped.messages ? bound.sent : { messages: asked.length, messagesDigest: wholeDigest(asked) }
}

/**
 * The request with a word on whether the app has begun the answer to a new question, or has the model go on in the one that was given to the
 * last. That is told by how many messages were asked, not by their digest: instructions often carry the time of day.
 */
export function withBegunAnswer(request: ModelRequest, conversation: Pick<Conversation, 'userTurns' | 'question' | 'edits'>): ModelRequest {
  if (!isTalk(request) || begunAnswer(request.messages) === null) return request
  const { question, userTurns, edits } = conversation
  const asked = askedIn(replay(request, edits).messages).length
  const isGoneOnWith = userTurns > 0 && request.earlier === null && question?.messages === asked
  return { ...request, beginsAnswer: !isGoneOnWith }
}

/** What a question is known by when it is asked again. */
export function questionOf({ messages, messagesDigest }: Sent): Question {
  return { messages, digest: messagesDigest.slice(0, QUESTION_DIGITS) }
}

const QUESTION_DIGITS = 16

/**
 * A call that brings nothing of a conversation under way: apps have a title or tags written under the chat's own id. It is no turn of the
 * user, and must not open the session that the next question is to begin without its history.
 */
export function isBesideChat(request: Pick<ModelRequest, 'messages' | 'earlier'>, { userTurns }: Pick<Conversation, 'userTurns'>): boolean {
  return userTurns > 0 && request.earlier === null && !askedIn(request.messages).some(({ role }) => role === 'assistant' || role === 'tool')
}
