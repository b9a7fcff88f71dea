/** The next session of a conversation begins without its history, but for a recap where the tier promises one. */
import type { Conversation, Edit } from './conversation.ts'
import { cutEdit, planCut, turnsText } from './history-cut.ts'
import { ownMessage, readOwn } from './message.ts'
import type { ModelRequest } from './request.ts'

export interface ResetInput {
  readonly request: ModelRequest
  readonly conversation: Pick<Conversation, 'edits' | 'readyEdits'>
  readonly recap: 'Summary' | 'None'
  readonly newId: () => string
}

/**
 * The edits with which the session begins: everything before the last user turn becomes one labelled message, with the
 * newest summary in it. A summary is made between turns before the budget ends, so a reset never waits for one; without
 * one the label stands alone. Empty when there is nothing before the last user turn.
 */
export function resetEdits({ request, conversation, recap, newId }: ResetInput): readonly Edit[] {
  const log = [...conversation.edits, ...conversation.readyEdits]
  const plan = planCut({ request, edits: log, keepRecentTurns: 1 })
  if (plan === null) return conversation.readyEdits
  const label = `[New session: ${turnsText(plan.turns)} of the earlier conversation left out]`
  const summary = recap === 'Summary' ? newestSummary(log) : null
  const text = summary === null ? label : `${label}\n\n${summary}`
  return [...conversation.readyEdits, cutEdit(plan, 'Reset', ownMessage('user', text), newId())]
}

/** The text of the newest summary in the log, label and fence included; null when none was made. */
function newestSummary(log: readonly Edit[]): string | null {
  const cut = log.findLast((edit) => edit.kind === 'cut' && edit.cause === 'Summarize')
  if (cut?.kind !== 'cut' || cut.text === '') return null
  return readOwn(cut.text)?.text ?? null
}
