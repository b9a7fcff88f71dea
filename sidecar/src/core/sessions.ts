/** When a session of a conversation is over, and whether the next one may open. What the next one begins with is in `reset.ts`. */
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { Conversation, Question } from './conversation.ts'
import { isBoundary } from './ladder.ts'
import { UNTALKED_WIRES } from './request.ts'
import type { ModelRequest } from './request.ts'

/** Why a session ends: its budget is used up and the ladder resets, it had all its user turns, or nobody spoke for long. */
export type SessionEnd = 'budget' | 'maxTurns' | 'idle'

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
}

/**
 * Why the session is over before the user turn that begins now; null when it goes on. A pause is a boundary by itself; a session
 * that had all its turns waits for one where the tier resets at task boundaries only. One in which nobody has asked anything yet
 * is never over: what opened it needs no repeat.
 */
export function sessionEnds(input: SessionInput): Exclude<SessionEnd, 'budget'> | null {
  const { conversation, contract, nowMs, atBoundary, taskBoundary, isBusy = false, isBeside = false } = input
  const { maxTurns, idleAfterMs } = contract.sessions
  if (!atBoundary || conversation.userTurns === 0) return null
  if (idleAfterMs !== undefined && !isBusy && nowMs - conversation.lastTurnAtMs >= idleAfterMs) return 'idle'
  if (maxTurns === undefined || conversation.userTurns < maxTurns || isBeside) return null
  return mayEndHere({ conversation, contract, taskBoundary }) ? 'maxTurns' : null
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
export type ResetRefusal =
  /** No user is known, or the tier has no budget per user: a fresh session would mint money. */
  | 'noUserBudget'
  | 'noResetsLeft'
  /** The provider keeps the history, or will not have it edited: the next session would begin with all of it. */
  | 'historyKept'

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
  const { question, userTurns } = conversation
  const asked = questionOf(sent)
  // Where the provider keeps the history, the same words may well be the next question.
  const isRepeat = userTurns > 0 && request.earlier === null && question?.messages === asked.messages && question.digest === asked.digest
  return isUserTurn(request) && !isRepeat && !isBesideChat(request, conversation)
}

interface Sent {
  readonly messages: number
  readonly messagesDigest: string
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
  return userTurns > 0 && request.earlier === null && !request.messages.some(({ role }) => role === 'assistant' || role === 'tool')
}
