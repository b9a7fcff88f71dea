/**
 * Calls beside the chat, and tool loops of sub-agents: agents that the app has as tools, under the chat's own id. Such a loop begins with a call
 * beside the chat, while the chat waits for its tools; a later call of it shows whose it is only by how it begins. What these calls have of
 * their own (the provider's count, the rungs that a loop began with) is no matter of the chat's. Known to this process alone, and lost with
 * it: a loop that is not known here is taken for the chat's.
 */
import { LRUCache } from 'lru-cache'
import type { Rung } from '@farebox/crds/ladder.ts'
import type { Conversation, ConversationId, Digest, ExactCount } from '../core/conversation.ts'
import { isInstruction, turnStarts } from '../core/message.ts'
import { wholeDigest } from '../core/message-digests.ts'
import { isUnread } from '../core/own-turn.ts'
import type { Message, ModelRequest } from '../core/request.ts'
import { isAskedAgain, isBesideChat } from '../core/sessions.ts'

const CHATS_KEPT = 10_000
/** Sub-agents of one answer; of more, the first are known. */
const LOOPS_MAX = 64
/** A chat whose tools take longer may have been left: what begins beside it then may be its user, who asks anew. */
const WAIT_MS_MAX = 60 * 60_000

/** What came of a call. */
export type Outcome = 'calledTools' | 'answered' | 'failed'

/** A loop beside the chat, from its first call on. */
export interface SideLoop {
  /** No user reads its answers, as far as that can be known: they go to the chat as results of its tools. */
  readonly isUnheard: boolean
  /** Those of its first call that rise at user turns alone: it ends with what it began with. */
  readonly rungs: readonly Rung[]
  /** Of its last call; null while there is none. */
  exact: ExactCount | null
  /** Of its last call, or of the last that did not fail; null while its first is under way. */
  outcome: Outcome | null
}

/** How a call stands to the chat that it is made beside. */
export interface Beside {
  readonly isUnheard: boolean
  /** The chat waits for its tools: nothing in it changes before its next question. */
  readonly isInLoop: boolean
  /** The loop that the call is of; null for one that may begin one. */
  readonly loop: SideLoop | null
  /** The count that it may go on from. */
  readonly exact: ExactCount | null
}

/** A chat whose last answer called tools. */
interface Waiting {
  /** Of the call that was answered so. */
  readonly voice: string
  /** What began beside it meanwhile, by how it begins. */
  readonly loops: Map<Digest, SideLoop>
}

export class SideLoops {
  readonly #waiting: LRUCache<ConversationId, Waiting>
  /** Of the last call beside each chat: an app that sends no history asks all its questions so. */
  readonly #counts = new LRUCache<ConversationId, ExactCount>({ max: CHATS_KEPT })

  constructor({ waitMs = WAIT_MS_MAX }: { readonly waitMs?: number } = {}) {
    this.#waiting = new LRUCache({ max: CHATS_KEPT, ttl: waitMs })
  }

  /**
   * A call of the chat, or beside it, came to its end. Where one of the chat calls tools, what begins beside the chat until its next answer works
   * for it. That may never come: the call may have been all that was wanted, or the chat was left. So words for a user, in the chat's own voice,
   * show that nobody waits where no loop is under way.
   */
  ended(chat: ConversationId, request: VoicedRequest, beside: Omit<Beside, 'exact'> | null, outcome: Outcome): void {
    if (beside === null || (!beside.isUnheard && !beside.isInLoop)) {
      if (outcome === 'calledTools') this.#waiting.set(chat, { voice: voiceOf(request), loops: new Map() })
      else if (outcome === 'answered') this.#waiting.delete(chat)
      return
    }
    const { loop, isUnheard } = beside
    if (loop === null) return
    if (outcome !== 'failed' || loop.outcome === null) loop.outcome = outcome
    const waiting = this.#waiting.get(chat)
    if (waiting === undefined || isUnheard || outcome !== 'answered') return
    const loops = [...waiting.loops.values()]
    if (loops.includes(loop) && !loops.some(isUnderWay) && voiceOf(request) === waiting.voice) this.#waiting.delete(chat)
  }

  /** How this call stands to its chat; null for one of the chat itself. */
  find(request: ModelRequest, conversation: Conversation): Beside | null {
    const loops = this.#waiting.get(conversation.id)?.loops
    const loop = request.earlier === null ? loopOf(loops, request) : null
    if (isBesideChat(request, conversation)) {
      const isUnheard = isUnread(request, conversation)
      if (!isUnheard && isAskedAgain(request, conversation)) return null
      // Two that begin alike cannot be told apart later: both go on as the one that is under way.
      if (loop !== null && isUnderWay(loop)) return { isUnheard: loop.isUnheard, isInLoop: true, loop, exact: loop.exact }
      return { isUnheard, isInLoop: loops !== undefined, loop: null, exact: this.countOf(conversation.id) }
    }
    return loop === null ? null : { isUnheard: loop.isUnheard, isInLoop: true, loop, exact: loop.exact }
  }

  /** A call beside the chat is made, which begins a loop where the chat waits for its tools, or is one of such a loop: else null. */
  begin(chat: ConversationId, { messages }: Pick<ModelRequest, 'messages'>, begun: Pick<SideLoop, 'isUnheard' | 'rungs'>): SideLoop | null {
    const loops = this.#waiting.get(chat)?.loops
    const digest = loops === undefined ? null : beginning(messages)
    if (loops === undefined || digest === null) return null
    const known = loops.get(digest)
    if (known !== undefined && isUnderWay(known)) return known
    if (known === undefined && loops.size >= LOOPS_MAX) return null
    const loop: SideLoop = { isUnheard: begun.isUnheard, rungs: begun.rungs, exact: null, outcome: null }
    loops.set(digest, loop)
    return loop
  }

  /** The provider counted a call beside the chat, in this loop of it or in none. */
  counted(chat: ConversationId, loop: SideLoop | null, exact: ExactCount): void {
    if (loop === null) this.#counts.set(chat, exact)
    else loop.exact = exact
  }

  /** The provider's count of the last call beside the chat that was in no loop; null where none is known. */
  countOf(chat: ConversationId): ExactCount | null {
    return this.#counts.get(chat) ?? null
  }
}

type VoicedRequest = Pick<ModelRequest, 'messages' | 'fixedDigest'>

/** Tools and instructions, by which a title or an agent that the app has as a tool differs from the chat as a rule. */
function voiceOf({ messages, fixedDigest }: VoicedRequest): string {
  const asked = messages.findIndex((message) => !isInstruction(message))
  return `${fixedDigest}/${wholeDigest(asked < 0 ? messages : messages.slice(0, asked))}`
}

/** It may call on: its first answer is still to come, or its tools are at work. */
function isUnderWay({ outcome }: SideLoop): boolean {
  return outcome === null || outcome === 'calledTools'
}

function loopOf(loops: ReadonlyMap<Digest, SideLoop> | undefined, { messages }: Pick<ModelRequest, 'messages'>): SideLoop | null {
  const digest = loops === undefined || loops.size === 0 ? null : beginning(messages)
  return digest === null ? null : (loops?.get(digest) ?? null)
}

/**
 * The one question of a history, with all before it; null where there is none, as where a history was cut down to a tool loop, and where
 * there are more: they may be a user's, who went back and asked anew.
 */
function beginning(messages: readonly Message[]): Digest | null {
  const isAsked = (message: Message): boolean => message.role === 'user' || isInstruction(message)
  const answeredAt = messages.findIndex((message) => !isAsked(message))
  const asked = answeredAt < 0 ? messages : messages.slice(0, answeredAt)
  const starts = turnStarts(messages)
  return starts.length === 1 && asked.some(({ role }) => role === 'user') ? wholeDigest(asked) : null
}
