/** What in a conversation is the user's own: their questions, and not what an app has written beside the chat (a title, tags). */
import { BOUNDARY_RUNGS } from '@farebox/crds/ladder.ts'
import type { Rung } from '@farebox/crds/ladder.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { Conversation } from './conversation.ts'
import { needsBoundary } from './ladder.ts'
import { askedIn } from './message.ts'
import type { Plan } from './plan.ts'
import type { ModelRequest } from './request.ts'
import { isBesideChat, isUserTurn, mayEndHere, questionOf } from './sessions.ts'

/** A question of the user's own begins here. */
export function isOwnTurn(request: ModelRequest, conversation: Pick<Conversation, 'userTurns'>): boolean {
  return isUserTurn(request) && !isBesideChat(request, conversation)
}

/**
 * Whether no user said this. A first question that is asked again looks just like it: what tells them apart is the question as it went
 * out the first time. `sent`: the messages as they go out.
 */
export function isUnsaid(
  request: ModelRequest,
  conversation: Pick<Conversation, 'userTurns' | 'question'>,
  sent: Parameters<typeof questionOf>[0],
): boolean {
  const { question } = conversation
  const asked = questionOf(sent)
  const isRepeat = question?.messages === asked.messages && question.digest === asked.digest
  return isBesideChat(request, conversation) && !isRepeat
}

/**
 * Whether no user reads the answer, as far as that can be known: questions of this conversation come with more than this request. Where they
 * do not, the app may be one that never sends what was said before, and nothing tells its questions from calls beside the chat.
 */
export function isUnread(
  request: Pick<ModelRequest, 'messages' | 'earlier'>,
  conversation: Pick<Conversation, 'userTurns' | 'question' | 'edits'>,
): boolean {
  const { question, edits } = conversation
  const bringsLess = question !== null && askedIn(request.messages).length < question.messages
  return isBesideChat(request, conversation) && (bringsLess || edits.some(({ kind }) => kind === 'cut'))
}

/**
 * The plan of a call that is made beside the chat while that waits for its tools. What rises at user turns alone is this call's, and its
 * loop's: the chat ends its loop as it began it, and with its next question the rung rises, and is told, in the chat.
 */
export function planBesideLoop(plan: Plan, { rungs, userRungs, turnRungs }: Pick<Conversation, 'rungs' | 'userRungs' | 'turnRungs'>): Plan {
  const known = [...rungs, ...(userRungs?.rungs ?? []), ...turnRungs]
  const later: readonly string[] = BOUNDARY_RUNGS.filter((rung) => !known.includes(rung))
  const risingNow = (risen: readonly Rung[]): readonly Rung[] => risen.filter((rung) => !needsBoundary(rung))
  return {
    ...plan,
    risen: risingNow(plan.risen),
    risenForUser: risingNow(plan.risenForUser),
    turnRungs,
    occasions: plan.occasions.filter((occasion) => !later.includes(occasion)),
  }
}

/**
 * Whether a session that has used up its budget may give way to the next one here. That needs a place where history may be cut, and waits
 * for a new task where the tier says so.
 */
export function mayResetHere(turn: {
  readonly request: ModelRequest
  readonly conversation: Pick<Conversation, 'userTurns' | 'question' | 'edits' | 'lastTurnAtMs' | 'atTaskBoundary'>
  readonly contract: Pick<Contract, 'sessions'>
  /** The request says that a new task begins with it. */
  readonly taskBoundary: boolean
}): boolean {
  const { request, conversation, taskBoundary } = turn
  if (!isUserTurn(request)) return false
  // It would open the session that the next question is to begin without its history.
  if (!taskBoundary && isUnread(request, conversation)) return false
  return mayEndHere(turn)
}
