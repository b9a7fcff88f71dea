/** One request and its answer, from the proxy's side: what every phase of a turn passes along. */
import { isUtf8 } from 'node:buffer'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Family } from '@farebox/crds/provider-family.ts'
import type { NoticeOccasion, Upstream } from '@farebox/crds/sidecar-config.ts'
import type { HistoryChain } from '../core/chain.ts'
import type { Conversation, ConversationId, PendingNotice, UserId } from '../core/conversation.ts'
import type { HeaderReader } from '../core/identify.ts'
import type { CountedInput } from '../core/estimate.ts'
import type { EntryNote } from '../core/ledger.ts'
import { noticesFor } from '../core/notices.ts'
import type { ModelRequest } from '../core/request.ts'
import { userPeriodOf } from '../core/terms.ts'
import type { Balance, CapDraw, CapKind, Terms } from '../core/terms.ts'
import { ERRORS, errorAnswer } from '../errors.ts'
import type { Refusal } from '../errors.ts'
import type { CallContext, Wire } from '../wire/wire.ts'
import type { Place } from './body-room.ts'
import { typeRead, withBodyType } from './body-type.ts'
import type { UpstreamHeaders } from './credentials.ts'
import type { Gateway, Policy } from './gateway.ts'
import { requestHeaders, withHeaders, withKey } from './headers.ts'

/** What is known when the request has been routed. */
export interface Exchange {
  readonly gateway: Gateway
  readonly policy: Policy
  readonly upstream: Upstream
  /** The upstream's key, where this sidecar holds it; null: the client's own goes on. */
  readonly heldKey: string | null
  /** What its owner sets on each call. */
  readonly upstreamHeaders: UpstreamHeaders
  /** How the upstream is spoken to. */
  readonly family: Family
  /** Path and query at the provider, below its base URL: `/chat/completions`. */
  readonly path: string
  readonly incoming: IncomingMessage
  readonly outgoing: ServerResponse
  /** What is held of the bodies of both. */
  readonly place: Place
  readonly requestId: string
  readonly startedAtMs: number
  /** How long the process had run then: of how long things take, that alone tells. `startedAtMs` is of a clock that is put right now and then. */
  readonly startedUptimeMs: number
}

/** An exchange whose request was read. */
export interface Call extends Exchange {
  readonly wire: Wire
  readonly call: CallContext
  readonly request: ModelRequest
}

/** A call whose conversation is known. */
export interface Turn extends Call {
  readonly conversationId: ConversationId
  readonly user: UserId | null
  readonly terms: Terms
  /** The terms that its conversation is held to. `terms` are its pinned ones in a tool loop, and while these would end it where those do not. */
  readonly heldTo: Terms
  readonly taskBoundary: boolean
  /** Of the history so far, when the conversation is found by its prefix. */
  readonly chain: HistoryChain | null
  /** False: the id was made for this call, and none comes back to it that is not answered. */
  readonly isNamed: boolean
  /** The conversation as the store has it, or as it would begin. */
  readonly conversation: Conversation
  readonly exists: boolean
  readonly draws: readonly CapDraw[]
  readonly balances: readonly Balance[]
  /** The most tokens of the history that the provider keeps; 0 where there is none. */
  readonly earlierTokens: number
  /** As `DecideInput` has it. */
  readonly earlierIsOpen?: boolean
  /** As `ExactCount` has it, of what the provider keeps; absent: the last count says, or nobody. */
  readonly earlierIsAlike?: boolean | undefined
  /** What the provider was asked to count of this request so far; absent: nothing. */
  readonly counted?: readonly CountedInput[]
}

/** The state of a conversation as answer headers; a raw list. */
export interface StateHeaders {
  readonly rung: string
  readonly percent: number
  readonly reason: string | null
  readonly maxOutput: number | null
}

export function stateHeaders(turn: Pick<Turn, 'conversationId' | 'terms' | 'gateway'>, state: StateHeaders): string[] {
  const headers = ['x-farebox-conversation', turn.conversationId, 'x-farebox-contract', turn.terms.contract.hash]
  const { gateway } = turn
  if (gateway.storeIsShared && gateway.storeStanding().state !== 'Ready') headers.push('x-farebox-store', 'away')
  if (gateway.staleness.isStale) headers.push('x-farebox-policy', 'stale')
  headers.push('x-farebox-rung', state.rung, 'x-farebox-percent', String(state.percent))
  if (state.reason !== null) headers.push('x-farebox-reason', state.reason)
  if (state.maxOutput !== null) headers.push('x-farebox-max-output', String(state.maxOutput))
  return headers
}

/** What these occasions of a turn leave for an answer in prose to tell. */
export function noticesOf({ terms, conversation, draws }: Turn, occasions: readonly NoticeOccasion[]): readonly PendingNotice[] {
  const period = userPeriodOf(draws)
  return noticesFor({ contract: terms.contract, conversation, period, occasions })
}

/** What the ledger says of a call that this turn makes, before it is known what that comes to. */
export function noteOf(
  { conversation, user, terms }: Pick<Turn, 'conversation' | 'user' | 'terms'>,
  model: string,
  purpose: 'turn' | 'summary',
): EntryNote {
  return {
    conversation: conversation.id,
    session: conversation.session,
    ...(user === null ? {} : { user }),
    tier: terms.contract.tier,
    model,
    purpose,
  }
}

/**
 * The client's headers as the provider gets them, with the key that is held for it and what its owner sets. Of a body that was read they say as what: it is in the
 * hold and the books as that.
 */
export function sentHeaders({
  incoming,
  policy,
  heldKey,
  upstreamHeaders,
  family,
  ...read
}: Pick<Exchange, 'incoming' | 'policy' | 'heldKey' | 'upstreamHeaders' | 'family'> &
  Partial<Pick<Call, 'wire' | 'call'>>): readonly string[] {
  const kept = requestHeaders(incoming.rawHeaders, incoming.headers.connection, policy.ownHeaders)
  const headers = read.wire === undefined || read.call === undefined ? kept : withBodyType(kept, typeRead(read.wire, read.call))
  return withHeaders(heldKey === null ? headers : withKey(headers, heldKey, family), upstreamHeaders.raw)
}

/** What the client is not to see of how its upstream is let in. */
export function secretsOf({ heldKey, upstreamHeaders }: Pick<Exchange, 'heldKey' | 'upstreamHeaders'>): readonly string[] {
  return heldKey === null ? upstreamHeaders.secrets : [heldKey, ...upstreamHeaders.secrets]
}

/** A header reader over Node's parsed headers; repeated headers are joined. */
export function headerReader({ headers }: Pick<IncomingMessage, 'headers'>): HeaderReader {
  return (name) => {
    const value = headers[name]
    return asSent(Array.isArray(value) ? value.join(', ') : value)
  }
}

/** Node reads each byte of a header as a character of latin1. Most clients write UTF-8, in which an id in a body is written too. */
function asSent(value: string | undefined): string | undefined {
  if (value === undefined || !BEYOND_ASCII.test(value)) return value
  const bytes = Buffer.from(value, 'latin1')
  return isUtf8(bytes) ? bytes.toString('utf8') : value
}

const BEYOND_ASCII = /[\x80-\xff]/

/** An exchange as far as it is known when it might be refused. */
type Observable = Pick<Exchange, 'gateway' | 'policy' | 'requestId' | 'incoming'> & Partial<Pick<Turn, 'conversationId'>>

/** `Observe` goes on where the request would be refused otherwise, and says so. False: refuse it. */
export function goesOnObserved(exchange: Observable, refusal: Refusal): boolean {
  if (exchange.policy.config.mode !== 'Observe') return false
  tellObserved(exchange, { is: 'refusal', refusal, cap: 'none' })
  return true
}

/** What `Enforce` would do with a request that goes on under `Observe`. */
export type Withheld =
  /** `cap`: whose money is short; `none`: it is refused for what it is. */
  | { readonly is: 'refusal'; readonly refusal: Refusal; readonly cap: CapKind | 'none' }
  /** For money that other calls hold. Whether that comes back in time only shows where the call waits. */
  | { readonly is: 'wait' }

/** In the log and as a metric: once for each request, of what `Enforce` would come to first. */
export function tellObserved({ gateway, requestId, incoming, conversationId }: Observable, withheld: Withheld): void {
  if (gateway.observed.has(incoming)) return
  gateway.observed.add(incoming)
  if (withheld.is === 'wait') {
    gateway.metrics.waits.add(['observed'])
    gateway.log.info(
      { requestId, conversation: conversationId, code: 'budget_busy' },
      'observed: would wait for money that other calls hold',
    )
    return
  }
  const { code, param, model } = withheld.refusal
  gateway.metrics.observedRefusals.add([code, withheld.cap])
  gateway.log.info({ requestId, conversation: conversationId, code, param, model }, 'observed: would be refused')
}

/** Answers with an error of the table, and counts it. The log says of which upstream, where that is known, and `reason`, which is not for clients. */
export function refuse(
  exchange: Pick<Exchange, 'gateway' | 'outgoing' | 'requestId' | 'family'> &
    Partial<Pick<Exchange, 'upstream'>> & { readonly reason?: string },
  refusal: Refusal,
  more: readonly string[] = [],
): void {
  const { gateway, outgoing, requestId, family, upstream, reason } = exchange
  gateway.metrics.refusals.add([refusal.code])
  if (outgoing.destroyed || outgoing.headersSent) return
  const answer = errorAnswer(refusal, requestId, family)
  outgoing.writeHead(answer.status, [...answer.headers, ...more])
  outgoing.end(answer.body)
  gateway.log[ERRORS[refusal.code].status >= 500 ? 'warn' : 'info'](
    { requestId, code: refusal.code, upstream: upstream?.name, param: refusal.param, model: refusal.model, reason },
    'refused',
  )
}
