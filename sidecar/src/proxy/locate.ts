/** From a request to its conversation: id, user, terms and balances. Creates nothing: the reservation does. */
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { callDigests, chainDigests, digestsWithAnswer, responseDigest } from '../core/chain.ts'
import type { HistoryChain } from '../core/chain.ts'
import type { Conversation, ConversationId, UserId } from '../core/conversation.ts'
import { newConversation } from '../core/conversation-change.ts'
import { chainScope, claimHeaderOf, identify, scopeOf } from '../core/identify.ts'
import type { Identity } from '../core/identify.ts'
import { knownWordsOf, messagesWithWords } from '../core/known-words.ts'
import { idOfUnnamed } from '../core/lone-call.ts'
import { isAtEnd, isMidTurn, percentUsed } from '../core/ladder.ts'
import { readAhead } from '../core/read-ahead.ts'
import type { ModelRequest } from '../core/request.ts'
import { withBegunAnswer } from '../core/sessions.ts'
import { balancesOf, drawsOf } from '../core/terms.ts'
import type { Terms } from '../core/terms.ts'
import type { Refusal } from '../errors.ts'
import type { Snapshot } from '../store/store.ts'
import { PACER } from '../wire/pacer.ts'
import { earlierLength } from './earlier.ts'
import { goesOnObserved, headerReader } from './exchange.ts'
import type { Call, Turn } from './exchange.ts'

export type LocateResult = { readonly status: 'ok'; readonly turn: Turn } | { readonly status: 'refused'; readonly refusal: Refusal }

/** `known`: the conversation of an attempt before, which may have made the id itself. */
export async function locate(exchange: Call, known: NamedConversation | null = null): Promise<LocateResult> {
  const { gateway, policy, request } = exchange
  const { config } = policy
  const header = headerReader(exchange.incoming)
  const claim = header(claimHeaderOf(config))
  const signed = claim === undefined ? null : await gateway.claims.read(config, claim)
  const identified = identify(config, header, request, signed)
  if (identified.status === 'rejected') {
    const refusal: Refusal = { code: 'identity_rejected', message: identified.message, param: identified.param }
    if (!goesOnObserved(exchange, refusal)) return { status: 'refused', refusal }
  }
  const identity = identified.status === 'ok' ? identified.identity : anonymous(config)
  const user = identity.rawUser === null ? null : gateway.hasher.user(config, identity.rawUser)
  const named = known ?? (await nameConversation(exchange, identity, user))
  if (named === null) return { status: 'refused', refusal: ID_REQUIRED }
  if (await goesOnFromAnother(exchange, named.id, user)) {
    const refusal: Refusal = { code: 'identity_rejected', message: OF_ANOTHER_USER, param: request.earlier?.kind ?? 'input' }
    if (!goesOnObserved(exchange, refusal)) return { status: 'refused', refusal }
  }
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
  const placed = await placeTurn(
    {
      ...exchange,
      request: await withoutOurs(exchange),
      conversationId: named.id,
      user,
      taskBoundary: identity.taskBoundary,
      chain: named.chain,
      isNamed: named.isNamed,
      earlierTokens: 0,
    },
    newest,
    snapshot,
  )
  return placed.status === 'ok' ? { status: 'ok', turn: { ...placed.turn, ...(await earlierLength(placed.turn)) } } : placed
}

type Unplaced = Omit<Turn, 'terms' | 'heldTo' | 'conversation' | 'exists' | 'draws' | 'balances'>

/**
 * The turn on what the store says: the pinned contract, the pinned user, the session. Also used when another turn moved
 * the conversation between the decision and the reservation.
 */
export async function placeTurn(unplaced: Unplaced, newest: Terms, snapshot: Snapshot): Promise<LocateResult> {
  const { gateway } = unplaced
  const nowMs = gateway.nowMs()
  const found = snapshot.conversation
  const isOfAnother = found !== null && found.user !== null && unplaced.user !== null && found.user !== unplaced.user
  if (isOfAnother) {
    const refusal: Refusal = { code: 'identity_rejected', message: OF_ANOTHER_USER, param: 'x-farebox-user' }
    if (!goesOnObserved(unplaced, refusal)) return { status: 'refused', refusal }
  }
  // Whoever speaks in the conversation of another pays for it, and what was said is theirs.
  const user = isOfAnother ? unplaced.user : (found?.user ?? unplaced.user)
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
  const held = await balancedHeldTo(unplaced, newest, { conversation, user, snapshot, nowMs })
  await PACER.run(readAhead(unplaced.request, conversation, held.terms.contract.context.windowTokens !== undefined))
  const request = withBegunAnswer(unplaced.request, conversation)
  return { status: 'ok', turn: { ...unplaced, request, user, conversation, exists: found !== null, ...held } }
}

interface Placed {
  readonly conversation: Conversation
  readonly user: UserId | null
  readonly snapshot: Snapshot
  readonly nowMs: number
}

type OnTerms = Pick<Turn, 'terms' | 'draws' | 'balances'>

/**
 * The terms that a conversation is held to: its own while the owner keeps contracts and it is not too old, and where the
 * newest are used up at once. Nobody is cut off by an edit: `admit` goes back to its own, too, before it ends one. In the middle of a tool
 * loop the turn is on its own still, so that no model changes there, and `admit` leaves them where they would end it.
 */
async function balancedHeldTo(turn: Unplaced, newest: Terms, placed: Placed): Promise<OnTerms & Pick<Turn, 'heldTo'>> {
  const { contractHash, contractPinnedAtMs } = placed.conversation
  if (contractHash === newest.contract.hash) return { heldTo: newest, ...(await balanced(turn, newest, placed)) }
  const onPinned = async (): Promise<OnTerms> => await balanced(turn, (await turn.gateway.contracts.pinned(contractHash)) ?? newest, placed)
  const { existingConversations, contractMaxAgeMs } = turn.policy.config
  if (existingConversations === 'AdoptNew' || placed.nowMs - contractPinnedAtMs > contractMaxAgeMs) {
    const adopting = await balanced(turn, newest, placed)
    const counted = adopting.balances.filter(({ kind }) => kind !== 'workload').map(({ cap, state }) => ({ cap, account: state }))
    if (!isAtEnd(newest.contract.ladder, percentUsed(counted))) {
      // A title, an embedding or a sub-agent beside the loop changes nothing in it either.
      const beside = turn.gateway.sideLoops.find(turn.request, placed.conversation)
      const goesOn =
        beside?.isUnheard === true || beside?.isInLoop === true || isMidTurn(withBegunAnswer(turn.request, placed.conversation))
      return { heldTo: newest, ...(goesOn ? await onPinned() : adopting) }
    }
  }
  const kept = await onPinned()
  return { heldTo: kept.terms, ...kept }
}

/**
 * The turn on the other terms that its conversation may go on by: from those that it is held to on those that it was pinned to, and back.
 * Null where they are the same, or gone.
 */
export async function onOtherTerms(turn: Turn): Promise<Turn | null> {
  const { conversation, user, gateway, terms, heldTo, balances } = turn
  const isPinnedToOthers = turn.exists && heldTo.contract.hash !== conversation.contractHash
  const other = terms !== heldTo ? heldTo : isPinnedToOthers ? await gateway.contracts.pinned(conversation.contractHash) : null
  if (other === null) return null
  const accounts = new Map(balances.map(({ account, state }) => [account, state]))
  const placed = { conversation, user, snapshot: { conversation, accounts }, nowMs: gateway.nowMs() }
  return { ...turn, ...(await balanced(turn, other, placed)) }
}

/** What a turn under these terms draws on, and what was drawn on it before. */
async function balanced(
  { gateway, policy }: Unplaced,
  terms: Terms,
  { conversation: { id, session }, user, snapshot, nowMs }: Placed,
): Promise<OnTerms> {
  const draws = drawsOf({ terms, conversation: id, session, user, budgetKey: policy.budgetKey, limits: policy.limits, nowMs })
  const accounts = draws.every((draw) => snapshot.accounts.has(draw.account))
    ? snapshot.accounts
    : (await gateway.store.read({ conversation: id, accounts: draws.map((draw) => draw.account), nowMs })).accounts
  return { terms, draws, balances: balancesOf(draws, accounts) }
}

/** Where the model would read words of ours as its own, whatever conversation told them, it is known which those are. */
async function withoutOurs({ request, policy: { config } }: Call): Promise<ModelRequest> {
  if (config.mode === 'Observe') return request
  const ours = await PACER.run(messagesWithWords(request.messages, knownWordsOf(config.contracts)))
  return ours.size === 0 ? request : { ...request, ours }
}

interface NamedConversation {
  readonly id: ConversationId
  /** Of the history, when it is found by its prefix. */
  readonly chain: HistoryChain | null
  /** False: the id was made for this call, and none comes back to it that is not answered. */
  readonly isNamed: boolean
}

/** Null when the config requires an id and the request has none. */
async function nameConversation(exchange: Call, identity: Identity, user: UserId | null): Promise<NamedConversation | null> {
  const { gateway, policy, request } = exchange
  const { config } = policy
  const ownId = (): ConversationId => idOfUnnamed(request, gateway.newId())
  const unnamed = (): NamedConversation => ({ id: ownId(), chain: null, isNamed: false })
  const { previous } = identity.conversation
  if (previous !== undefined) {
    const digest = responseDigest(previous, gateway.chainKey, `${scopeOf(config)}/${identity.tier}`)
    const found = await gateway.store.findByChain([digest], gateway.nowMs())
    if (found !== null) return { id: found, chain: null, isNamed: true }
  }
  if (identity.conversation.status === 'named') {
    const { rawId, carrier } = identity.conversation
    // Who shares a prompt need not share a conversation.
    const rawUser = carrier === 'PromptCacheKey' ? identity.rawUser : null
    return { id: gateway.hasher.conversation(config, identity.tier, rawId, rawUser), chain: null, isNamed: true }
  }
  switch (config.identity.fallback) {
    case 'Require':
      return goesOnObserved(exchange, ID_REQUIRED) ? unnamed() : null
    case 'PerRequest':
      return unnamed()
    case 'Workload':
      return { id: gateway.hasher.conversation(config, identity.tier, workloadId(config), identity.rawUser), chain: null, isNamed: true }
    case 'PrefixChain': {
      // What it begins with is kept elsewhere: the words that are here would name every conversation that goes on with them.
      if (request.earlier !== null) return unnamed()
      const scope = chainScope(config, identity.tier, user)
      const chain = { scope, digests: await PACER.run(chainDigests(request.messages, gateway.chainKey, scope)) }
      // Two users may open with the same words: only a history with an answer in it names a conversation.
      const candidates = digestsWithAnswer(request.messages, chain.digests).toReversed()
      const ofKept = `${scopeOf(config)}/${identity.tier}`
      candidates.push(...(request.keptNames ?? []).slice(-KEPT_LOOKED_UP_MAX).map((name) => responseDigest(name, gateway.chainKey, ofKept)))
      candidates.push(...callDigests(request.messages, CALLS_LOOKED_UP_MAX, gateway.chainKey, scope))
      const found = candidates.length === 0 ? null : await gateway.store.findByChain(candidates, gateway.nowMs())
      if (found === null && candidates.length > 0) gateway.metrics.unfound.add([identity.tier])
      return { id: found ?? ownId(), chain, isNamed: found !== null }
    }
  }
}

/**
 * Whether the request goes on from what the provider keeps of another user, under whatever name and in whatever tier: then it would read
 * what that user said.
 */
async function goesOnFromAnother({ gateway, policy, request }: Call, own: ConversationId, user: UserId | null): Promise<boolean> {
  const names = [...(request.earlier === null ? [] : [request.earlier.id]), ...(request.keptNames ?? []).slice(-KEPT_LOOKED_UP_MAX)]
  if (user === null) return false
  const { config } = policy
  const scopes = Object.keys(config.contracts).map((tier) => `${scopeOf(config)}/${tier}`)
  const nowMs = gateway.nowMs()
  for (const name of new Set(names)) {
    const digests = scopes.map((scope) => responseDigest(name, gateway.chainKey, scope))
    const found = await gateway.store.findByChain(digests, nowMs)
    if (found === null || found === own) continue
    const { conversation } = await gateway.store.read({ conversation: found, accounts: [], nowMs })
    if (conversation !== null && conversation.user !== null && conversation.user !== user) return true
  }
  return false
}

const OF_ANOTHER_USER = 'This conversation belongs to another user.'
/** A window holds one compaction, or a few that were made one after the other. */
const KEPT_LOOKED_UP_MAX = 8
/** The last of a history that was cut at its beginning: a loop's own, of which the latest was answered just before. */
const CALLS_LOOKED_UP_MAX = 8
const ID_REQUIRED: Refusal = { code: 'conversation_id_required', param: 'x-farebox-conversation' }

/** A request of which nothing is believed. */
function anonymous(config: SidecarConfig): Identity {
  return { conversation: { status: 'fallback' }, rawUser: null, tier: config.tiers.default, taskBoundary: false }
}

/** Cannot collide with a client's id: those have no control characters. */
function workloadId(config: Pick<SidecarConfig, 'namespace' | 'budget'>): string {
  return `\u0000workload/${config.namespace}/${config.budget}`
}
