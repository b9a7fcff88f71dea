/** What a sidecar last saw in the store, to go on from while it is away. Bounded; what was seen longest ago is forgotten. */
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { LRUCache } from 'lru-cache'
import type { AccountId } from '../../core/budget.ts'
import { applyChange } from '../../core/conversation-change.ts'
import type { Conversation, ConversationId, Digest, UserId } from '../../core/conversation.ts'
import type { Snapshot } from '../store.ts'
import { withoutTexts } from '../texts.ts'
import { alertsChange, firedOf } from './steps.ts'
import type { FiredAlerts, FiredOf } from './steps.ts'

const CONVERSATION_BYTES_MAX = 16 * 1024 * 1024
/** About what a conversation takes without its edits. */
const CONVERSATION_BYTES = 1_500
const ACCOUNTS_MAX = 20_000
const DIGESTS_MAX = 20_000

export class LastKnown {
  readonly #conversations = new LRUCache<ConversationId, Conversation>({
    maxSize: CONVERSATION_BYTES_MAX,
    sizeCalculation: (conversation) => CONVERSATION_BYTES + bytesOf(conversation.edits) + bytesOf(conversation.readyEdits),
  })
  readonly #spent = new LRUCache<AccountId, NanoUsd>({ max: ACCOUNTS_MAX })
  readonly #chain = new LRUCache<Digest, ConversationId>({ max: DIGESTS_MAX })

  see({ conversation, accounts }: Snapshot): void {
    if (conversation !== null) this.seeConversation(conversation)
    for (const [account, { spent }] of accounts) this.#spent.set(account, spent)
  }
  seeConversation(conversation: Conversation): void {
    this.#conversations.set(conversation.id, conversation)
  }
  seeChain(digests: readonly Digest[], conversation: ConversationId): void {
    for (const digest of digests) this.#chain.set(digest, conversation)
  }
  /** The store forgot what the user said, also in `conversations`. */
  forgetUser(user: UserId, conversations: readonly ConversationId[]): void {
    // All of them first: what is set moves to where the walk would meet it again.
    const named = new Set(conversations)
    const theirs = Array.from(this.#conversations.values()).filter(({ id, user: known }) => known === user || named.has(id))
    for (const conversation of theirs) this.#conversations.set(conversation.id, withoutTexts(conversation))
  }
  /** Which of the alerts that the store fired now were not known to have fired; from now on they are. */
  newAlerts(fired: FiredAlerts): FiredOf {
    const known = this.conversation(fired.conversation)
    if (known?.session !== fired.session) return fired
    const { conversation, ...news } = applyChange(known, alertsChange(fired))
    this.seeConversation(conversation)
    return firedOf(news, fired.ofUser?.period)
  }
  /** A cost that the store will learn of. */
  addSpent(account: AccountId, cost: NanoUsd): void {
    this.#spent.set(account, this.spent(account) + cost)
  }

  conversation(id: ConversationId): Conversation | null {
    return this.#conversations.get(id) ?? null
  }
  /** Zero for an account that was not seen: what is not known is not held against anybody. */
  spent(account: AccountId): NanoUsd {
    return this.#spent.get(account) ?? 0n
  }
  /** Digests come longest first. */
  findByChain(digests: readonly Digest[]): KnownChain {
    for (const [index, digest] of digests.entries()) {
      const conversation = this.#chain.get(digest)
      if (conversation !== undefined) return { conversation, longer: digests.slice(0, index) }
    }
    return { conversation: null, longer: digests }
  }
}

/** The conversation of the longest prefix that is known, and the prefixes longer than it, which are not. */
export interface KnownChain {
  readonly conversation: ConversationId | null
  readonly longer: readonly Digest[]
}

function bytesOf(edits: Conversation['edits']): number {
  return edits.reduce((sum, edit) => sum + edit.text.length, 0)
}
