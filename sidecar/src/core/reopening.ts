/** When a turn takes the resolution of its conversation back: the user came back with it. */
import type { Conversation } from './conversation.ts'

/** A turn that came to an answer. */
export interface TurnBack {
  readonly beganAtMs: number
  /** Now that it is looked at. */
  readonly nowMs: number
  /** A question of the user, not the next call of a tool loop. */
  readonly isOfUser: boolean
  /** The app said that it begins a new task: what was resolved is not what this is about. */
  readonly isNewTask: boolean
}

/**
 * Within the reopen window a question of the user that came after a resolution takes it back; an assumed one any turn does, for quiet is
 * all that it was assumed by. After the window it stands: what comes then is something else. One of a time that is yet to come was told while
 * the clock was ahead, and when that was nobody knows: it counts as before the question.
 */
export function isTakenBack(
  { resolution, resolvedAtMs }: Pick<Conversation, 'resolution' | 'resolvedAtMs'>,
  { beganAtMs, nowMs, isOfUser, isNewTask }: TurnBack,
  reopenWindowMs: number,
): boolean {
  if (resolvedAtMs === null || isNewTask || beganAtMs - resolvedAtMs > reopenWindowMs) return false
  const isBefore = resolvedAtMs < beganAtMs || resolvedAtMs > nowMs
  return resolution === 'assumed' || (resolution === 'confirmed' && isOfUser && isBefore)
}
