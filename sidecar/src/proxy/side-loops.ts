/**
 * Tool loops of sub-agents: agents that the app has as tools, under the chat's own id. No user reads their answers, which go to the chat as
 * results of its tools. Such a loop begins with a call beside the chat, while the chat waits for its tools; a later call of it shows whose it
 * is only by how it begins. Known to this process alone, and lost with it: what is not known here is taken for the chat's.
 */
import { LRUCache } from 'lru-cache'
import type { ConversationId, Digest } from '../core/conversation.ts'
import { isInstruction } from '../core/message.ts'
import { wholeDigest } from '../core/message-digests.ts'
import type { Message, ModelRequest } from '../core/request.ts'

const CHATS_KEPT = 10_000
/** Sub-agents of one answer; of more, the first are known. */
const LOOPS_MAX = 64

export class SideLoops {
  /** Chats whose last answer called tools: how the calls beside them began meanwhile. */
  readonly #waiting = new LRUCache<ConversationId, Set<Digest>>({ max: CHATS_KEPT })

  /** A call of the chat itself was answered. Where that calls tools, what begins beside the chat until its next answer works for it. */
  chatAnswered(chat: ConversationId, callsTools: boolean): void {
    if (callsTools) this.#waiting.set(chat, new Set())
    else this.#waiting.delete(chat)
  }

  /** A call beside the chat is made, which no user reads. */
  begin(chat: ConversationId, { messages }: Pick<ModelRequest, 'messages'>): void {
    const begun = this.#waiting.get(chat)
    const digest = begun === undefined || begun.size >= LOOPS_MAX ? null : beginning(messages)
    if (digest !== null) begun?.add(digest)
  }

  /** Whether this call goes on in a loop that began so. */
  has(chat: ConversationId, { messages, earlier }: Pick<ModelRequest, 'messages' | 'earlier'>): boolean {
    const begun = this.#waiting.get(chat)
    if (begun === undefined || begun.size === 0 || earlier !== null) return false
    const digest = beginning(messages)
    return digest !== null && begun.has(digest)
  }
}

/** The one question of a history, with all before it; null where there are more: they may be a user's, who went back and asked anew. */
function beginning(messages: readonly Message[]): Digest | null {
  const isAsked = (message: Message): boolean => message.role === 'user' || isInstruction(message)
  const answeredAt = messages.findIndex((message) => !isAsked(message))
  if (answeredAt < 0) return wholeDigest(messages)
  if (messages.slice(answeredAt).some(({ role }) => role === 'user')) return null
  return wholeDigest(messages.slice(0, answeredAt))
}
