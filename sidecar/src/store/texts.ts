/** What of a conversation is text that a user or a model wrote. */
import type { Conversation, Edit } from '../core/conversation.ts'
import type { ListedConversation } from './store.ts'

/** The conversation without the edits that have such text; notices, which are ours, stay: they must be taken out of what the app resends. */
export function withoutTexts(conversation: Conversation): Conversation {
  const { edits, readyEdits } = conversation
  return { ...conversation, edits: edits.filter(isOurs), readyEdits: readyEdits.filter(isOurs) }
}

export function withoutEdits({ edits: _edits, readyEdits: _readyEdits, ...listed }: Conversation): ListedConversation {
  return listed
}

function isOurs({ kind }: Edit): boolean {
  return kind === 'notice'
}
