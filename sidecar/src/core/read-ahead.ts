/** What a decision reads of a long history, read in slices before it: the decision is made in one go, and finds it here. */
import type { Conversation } from './conversation.ts'
import { readNamesAhead, readNoticesAhead, replay } from './edit-log.ts'
import { isOfThis } from './estimate.ts'
import { readTokensAhead } from './message-tokens.ts'
import type { ModelRequest } from './request.ts'

/** What is shorter takes no longer than a few slices. */
const LONG_BODY_BYTES = 256 * 1024

/**
 * Reads what no decision about such a history does without: nothing of what the provider has counted, or the log has cut. `hasWindow`: the
 * history is measured for the model that is asked for, else for the one that it goes to, which as a rule is that of the last turn.
 */
export function* readAhead(
  request: ModelRequest,
  { edits, exact }: Pick<Conversation, 'edits' | 'exact'>,
  hasWindow: boolean,
): Generator<void, void> {
  if (request.body.length < LONG_BODY_BYTES) return
  yield* readNoticesAhead(request.messages, edits)
  yield* readNamesAhead(request.messages, edits)
  const { messages } = replay(request, edits)
  yield
  const isCounted = exact !== null && isOfThis(exact, { ...request, messages, model: hasWindow ? request.model : exact.model })
  yield* readTokensAhead(isCounted ? messages.slice(exact.messages) : messages)
}
