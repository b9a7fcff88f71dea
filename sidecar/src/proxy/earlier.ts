/**
 * How long the part of a request is that only the provider can read: files, history that it keeps, items and prompts that are only named.
 * Where the last exact count ends with the very response that is gone on from, that is the history; else the provider is asked, which costs
 * nothing; and where it does not say, a whole context is held for.
 */
import type { ToCount } from '../core/plan.ts'
import type { ExactCount } from '../core/conversation.ts'
import type { CountedInput } from '../core/estimate.ts'
import { keptTokens, tellApart } from '../core/kept-count.ts'
import { downgradeFor } from '../core/swap.ts'
import { haveSameTokens } from '../core/token-factor.ts'
import { sentHeaders } from './exchange.ts'
import type { Turn } from './exchange.ts'
import { callWhole } from './whole-call.ts'
import { digestOfResponse, lastCount } from './last-count.ts'

/** A count that takes longer is not waited for. */
const COUNT_WITHIN_MS = 5_000
/** The provider reads files before it counts them. */
const FILE_COUNT_WITHIN_MS = 15_000
const ATTEMPTS_MAX = 2
const ANSWER_BYTES_MAX = 64 * 1024

/**
 * The most tokens that the provider adds to what the request itself holds, for the model that is asked for; 0 where all of it is in the request.
 * Where the history has moved to another model, which is likely to go on with it, they are not asked for before they are needed: with each turn
 * that would be a round trip for nothing.
 */
export async function earlierLength(turn: Turn): Promise<Required<Pick<Turn, 'earlierTokens' | 'earlierIsOpen' | 'earlierIsAlike'>>> {
  const known = knownTokens(turn)
  const earlierIsOpen = known === null && hasMoved(turn)
  if (known !== null || earlierIsOpen) return { earlierTokens: known ?? contextTokens(turn), earlierIsOpen, earlierIsAlike: undefined }
  const other = toCompare(turn)
  const [tokens, compared] = await Promise.all([
    countOf(turn, {}, COUNT_WITHIN_MS),
    other === null ? null : countOf(turn, { model: other }, COUNT_WITHIN_MS),
  ])
  const earlierIsAlike = tokens === null || compared === null ? undefined : tokens === compared
  return { earlierTokens: tokens ?? contextTokens(turn), earlierIsOpen, earlierIsAlike }
}

/** The model whose count, beside that of the one that is asked for, tells once and for all whether the two differ; null: that is known, or none does. */
function toCompare(turn: Turn): string | null {
  const exact = keptCount(turn)
  const isKnown = exact === null || exact.isText === true || exact.isAlike !== undefined
  return !isKnown && tellApart(exact.model, turn.request.model) ? exact.model : null
}

/** Without asking; null where the provider must say. */
function knownTokens(turn: Turn): number | null {
  const { request } = turn
  if (request.earlier === null && request.onlyNamed !== true) return 0
  const exact = keptCount(turn)
  // What another model may make of it is twice as much: that is asked for.
  return exact !== null && haveSameTokens(exact.model, request.model) ? keptTokens(exact, request.model) : null
}

/** Whether the model that the tier downgrades to, at the same upstream, was the last to answer. */
function hasMoved(turn: Turn): boolean {
  const { request, terms, upstream, policy, wire } = turn
  if (request.earlier === null || request.onlyNamed === true || !request.generates) return false
  if (wire.counts === undefined || policy.config.mode !== 'Enforce') return false
  const downgrade = downgradeFor(terms.contract.models.downgrades, request.model)
  return downgrade !== null && (downgrade.upstream ?? upstream.name) === upstream.name && lastCount(turn)?.model === downgrade.to
}

/** The same for another model, as far as the last count tells; null where the provider must. */
export function earlierTokensOf(turn: Turn, model: string): number | null {
  const exact = keptCount(turn)
  return exact === null ? null : keptTokens(exact, model)
}

/** Whether the provider counts nothing but text of what it has of the history with this call, none of it hidden. */
export function isTextAlone(turn: Turn): boolean {
  const { request } = turn
  if (request.onlyNamed === true || request.messages.some(({ images }) => images.length > 0)) return false
  return request.earlier === null || keptCount(turn)?.isText === true
}

/** Whether models of one tokenizer count the same of all that it has; undefined where that is not known. */
export function isAlike(turn: Turn): boolean | undefined {
  const { request, earlierIsAlike } = turn
  if (request.messages.some(({ images }) => images.length > 0)) return false
  if (request.earlier === null || request.onlyNamed === true) return undefined
  const exact = keptCount(turn)
  return exact?.isText === true ? true : (exact?.isAlike ?? earlierIsAlike)
}

/** The last count, where that is of the very history that the provider keeps, and that is read as it was then; else null. */
function keptCount(turn: Turn): ExactCount | null {
  const { request } = turn
  // What is only named was in no count before.
  if (request.earlier?.kind !== 'response' || request.onlyNamed === true) return null
  const exact = lastCount(turn)
  const isOfIt =
    exact !== null &&
    exact.response === digestOfResponse(turn, request.earlier.id) &&
    // Absent: of an earlier version, which did not ask.
    (exact.keptReading ?? '') === (request.keptReading ?? '')
  return isOfIt ? exact : null
}

/** The provider's own count of the turn's input, as `toCount` has it. */
export async function countedInput(turn: Turn, toCount: ToCount): Promise<CountedInput> {
  return { ...toCount, tokens: await countOf(turn, toCount, FILE_COUNT_WITHIN_MS) }
}

/** Null where the provider does not say. */
async function countOf(turn: Turn, change: Partial<ToCount>, withinMs: number): Promise<number | null> {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    const count = await askProvider(turn, change, withinMs)
    if (count.status === 'counted') return count.tokens
    if (count.status === 'refused') break
  }
  return null
}

function contextTokens({ gateway, policy, request, upstream }: Turn): number {
  const { prices } = policy
  const nowMs = gateway.nowMs()
  const known = prices.find(upstream.provider, request.model, nowMs) ?? prices.ceiling(upstream.provider, request.model, nowMs)
  return (known ?? prices.free(upstream.provider, request.model)).capabilities.contextTokens
}

type Count =
  | { readonly status: 'counted'; readonly tokens: number }
  /** It has no count to give, now or ever. */
  | { readonly status: 'refused' }
  /** Asked again, it may have one. */
  | { readonly status: 'failed' }

async function askProvider(turn: Turn, change: Partial<ToCount>, withinMs: number): Promise<Count> {
  const { gateway, upstream, request, call, wire } = turn
  const { counts } = wire
  if (counts === undefined) return { status: 'refused' }
  const answer = await callWhole(
    gateway.upstreams,
    { baseUrl: upstream.baseUrl, method: 'POST', headers: sentHeaders(turn), ...counts.ask(request, call, change) },
    { bytesMax: ANSWER_BYTES_MAX, withinMs },
  )
  if (answer.status === 'failed') return { status: 'failed' }
  const { statusCode, body } = answer
  const tokens = body !== null && statusCode >= 200 && statusCode < 300 ? counts.read(body) : null
  if (tokens !== null) return { status: 'counted', tokens }
  // The provider will refuse the call itself in the same words, and bill nothing.
  if (body !== null && counts.isUnknown(statusCode, body.toString('latin1'))) return { status: 'counted', tokens: 0 }
  return { status: statusCode === 429 || statusCode >= 500 ? 'failed' : 'refused' }
}
