/** From a request to its conversation: id, user, terms and balances. Creates nothing: the reservation does. */
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { chainDigests, digestsWithAnswer } from '../core/chain.ts'
import type { Conversation, ConversationId, Digest, UserId } from '../core/conversation.ts'
import { newConversation } from '../core/conversation-change.ts'
import { identify, scopeOf } from '../core/identify.ts'
import type { Identity } from '../core/identify.ts'
import type { ChatRequest } from '../core/request.ts'
import { balancesOf, drawsOf } from '../core/terms.ts'
import type { Terms } from '../core/terms.ts'
import type { Refusal } from '../errors.ts'
import type { Snapshot } from '../store/store.ts'
import { goesOnObserved, headerReader } from './exchange.ts'
import type { Exchange, Turn } from './exchange.ts'

export type LocateResult = { readonly status: 'ok'; readonly turn: Turn } | { readonly status: 'refused'; readonly refusal: Refusal }

/** `known`: the conversation of an attempt before, which may have made the id itself. */
export async function locate(exchange: Exchange, request: ChatRequest, known: NamedConversation | null = null): Promise<LocateResult> {
  const { gateway, policy } = exchange
  const { config } = policy
  const identified = identify(config, headerReader(exchange.incoming), request)
  if (identified.status === 'rejected') {
    const refusal: Refusal = { code: 'identity_rejected', message: identified.message, param: identified.param }
    if (!goesOnObserved(exchange, refusal)) return { status: 'refused', refusal }
  }
  const identity = identified.status === 'ok' ? identified.identity : anonymous(config)
  const user = identity.rawUser === null ? null : gateway.hasher.user(config, identity.rawUser)
  const named = known ?? (await nameConversation(exchange, request, identity, user))
  if (named === null) return { status: 'refused', refusal: ID_REQUIRED }
  const contract = config.contracts[identity.tier]
  if (contract === undefined) return { status: 'refused', refusal: { code: 'policy_unavailable' } }
  const newest = await gateway.contracts.newest(contract)
  const nowMs = gateway.nowMs()
  // Most turns meet the newest contract and the first session: one read then has all that the decision needs.
  const guessed = drawsOf({
    terms: newest,
    conversation: named.id,
    session: 1,
    user,
    budgetKey: policy.budgetKey,
    limits: policy.limits,
    nowMs,
  })
  const snapshot = await gateway.store.read({ conversation: named.id, accounts: guessed.map((draw) => draw.account), nowMs })
  return placeTurn(
    { ...exchange, request, conversationId: named.id, user, taskBoundary: identity.taskBoundary, chain: named.chain },
    newest,
    snapshot,
  )
}

type Unplaced = Omit<Turn, 'terms' | 'conversation' | 'exists' | 'draws' | 'balances'>

/**
 * The turn on what the store says: the pinned contract, the pinned user, the session. Also used when another turn moved
 * the conversation between the decision and the reservation.
 */
export async function placeTurn(unplaced: Unplaced, newest: Terms, snapshot: Snapshot): Promise<LocateResult> {
  const { gateway, policy } = unplaced
  const nowMs = gateway.nowMs()
  const found = snapshot.conversation
  if (found !== null && found.user !== null && unplaced.user !== null && found.user !== unplaced.user) {
    const message = 'This conversation belongs to another user.'
    const refusal: Refusal = { code: 'identity_rejected', message, param: 'x-farebox-user' }
    if (!goesOnObserved(unplaced, refusal)) return { status: 'refused', refusal }
  }
  const user = found?.user ?? unplaced.user
  const terms = found === null ? newest : await termsFor(unplaced, newest, found, nowMs)
  const conversation =
    found ??
    newConversation({
      id: unplaced.conversationId,
      tier: newest.contract.tier,
      contractHash: newest.contract.hash,
      user,
      nowMs,
      ladderApplies: await gateway.outcomes.ladderApplies(newest.contract, nowMs),
    })
  const draws = drawsOf({
    terms,
    conversation: conversation.id,
    session: conversation.session,
    user,
    budgetKey: policy.budgetKey,
    limits: policy.limits,
    nowMs,
  })
  const accounts = draws.every((draw) => snapshot.accounts.has(draw.account))
    ? snapshot.accounts
    : (await gateway.store.read({ conversation: conversation.id, accounts: draws.map((draw) => draw.account), nowMs })).accounts
  return {
    status: 'ok',
    turn: { ...unplaced, user, terms, conversation, exists: found !== null, draws, balances: balancesOf(draws, accounts) },
  }
}

/** The contract that a conversation is held to: its own while the owner keeps contracts and it is not too old. */
async function termsFor(turn: Unplaced, newest: Terms, conversation: Conversation, nowMs: number): Promise<Terms> {
  const { existingConversations, contractMaxAgeMs } = turn.policy.config
  if (conversation.contractHash === newest.contract.hash) return newest
  if (existingConversations === 'AdoptNew' || nowMs - conversation.contractPinnedAtMs > contractMaxAgeMs) return newest
  return (await turn.gateway.contracts.pinned(conversation.contractHash)) ?? newest
}

interface NamedConversation {
  readonly id: ConversationId
  /** Digests of the history, when it is found by its prefix. */
  readonly chain: readonly Digest[] | null
}

/** Null when the config requires an id and the request has none. */
async function nameConversation(
  exchange: Exchange,
  request: ChatRequest,
  identity: Identity,
  user: UserId | null,
): Promise<NamedConversation | null> {
  const { gateway, policy } = exchange
  const { config } = policy
  if (identity.conversation.status === 'named') {
    return { id: gateway.hasher.conversation(config, identity.tier, identity.conversation.rawId), chain: null }
  }
  switch (config.identity.fallback) {
    case 'Require':
      return goesOnObserved(exchange, ID_REQUIRED) ? { id: gateway.newId(), chain: null } : null
    case 'PerRequest':
      return { id: gateway.newId(), chain: null }
    case 'Workload':
      return { id: gateway.hasher.conversation(config, identity.tier, workloadId(config)), chain: null }
    case 'PrefixChain': {
      const chain = chainDigests(request.messages, gateway.chainKey, `${scopeOf(config)}/${identity.tier}/${user ?? ''}`)
      // Two users may open with the same words: only a history with an answer in it names a conversation.
      const candidates = digestsWithAnswer(request.messages, chain).toReversed()
      const found = candidates.length === 0 ? null : await gateway.store.findByChain(candidates, gateway.nowMs())
      return { id: found ?? gateway.newId(), chain }
    }
  }
}

const ID_REQUIRED: Refusal = { code: 'conversation_id_required', param: 'x-farebox-conversation' }

/** A request of which nothing is believed. */
function anonymous(config: SidecarConfig): Identity {
  return { conversation: { status: 'fallback' }, rawUser: null, tier: config.tiers.default, taskBoundary: false }
}

/** Cannot collide with a client's id: those have no control characters. */
function workloadId(config: Pick<SidecarConfig, 'namespace' | 'budget'>): string {
  return `\u0000workload/${config.namespace}/${config.budget}`
}
