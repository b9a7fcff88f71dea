/** Moving a request to another model: which, whether that model can take it, and what must change in it. */
import { EFFORTS } from '@farebox/crds/prices.ts'
import type { Capabilities, Effort, Prices } from '@farebox/crds/prices.ts'
import { matchesPattern } from './pattern.ts'
import { UNTALKED_WIRES } from './request.ts'
import type { ModelRequest, Message } from './request.ts'
import type { ModelSwap } from './shape.ts'

/** The input may fill this much of the target's context: the estimate is a bound for another tokenizer, and the answer needs room. */
const CONTEXT_PERCENT_MAX = 90

/** Parameters whose absence the app would notice in the answer: a model that refuses one cannot take the request. */
const INDISPENSABLE: ReadonlySet<string> = new Set([
  'audio',
  'function_call',
  'functions',
  'logprobs',
  'modalities',
  'n',
  'response_format',
  'stop',
  'tool_choice',
  'tools',
  'top_logprobs',
  'web_search_options',
])
/** Understood only by models that reason. */
const REASONING_PARAMETERS = ['reasoning_effort', 'reasoning'] as const

export type SwapPlan =
  | { readonly status: 'swap'; readonly swap: ModelSwap }
  /** `needs`: what the request needs and the target lacks, in words for a log. */
  | { readonly status: 'incapable'; readonly needs: string }

export interface SwapInput {
  readonly request: ModelRequest
  /** The messages that will be sent, when they are not the request's own. */
  readonly messages?: readonly Message[]
  readonly to: string
  /** The upstream that serves `to`, where that is another one. */
  readonly upstream?: string | null
  readonly from: Capabilities
  readonly target: Capabilities
  /** Bound of the input, in the target's tokens. */
  readonly inputTokens: number
}

/**
 * Whether the target can take the request, and with which parameters left out or renamed. Only what is present is named
 * in the change. An output limit above the target's `maxOutputTokens` is for the caller to shrink.
 */
export function planSwap({ request, messages = request.messages, to, upstream = null, from, target, inputTokens }: SwapInput): SwapPlan {
  const needs = lacking(request, messages, from, target, inputTokens)
  if (needs !== null) return { status: 'incapable', needs }
  const drop = new Set(target.drop.filter((field) => request.fields.has(field)))
  if (!target.reasoning) for (const field of REASONING_PARAMETERS) if (request.fields.has(field)) drop.add(field)
  const rename: Record<string, string> = {}
  for (const [field, name] of Object.entries(target.rename)) {
    if (!request.fields.has(field) || drop.has(field)) continue
    if (request.fields.has(name)) drop.add(field) // both are there: one name, one value
    else rename[field] = name
  }
  const effort = otherEffort(request.effort, target.efforts)
  const change = { drop: [...drop].sort(), rename, ...(effort === undefined ? {} : { effort }) }
  return { status: 'swap', swap: { from: request.model, to, upstream, change } }
}

/**
 * The effort that the target is asked for in the place of one that it does not take: the nearest, and of two as near the lesser, which costs
 * less. Null where it takes none. Undefined where the app's own may stay, or is a word that nobody here knows.
 */
function otherEffort(asked: string | undefined, taken: readonly Effort[] | undefined): Effort | null | undefined {
  const place = (EFFORTS as readonly (string | undefined)[]).indexOf(asked)
  if (place < 0 || taken === undefined || taken.some((effort) => effort === asked)) return undefined
  const distance = (effort: Effort): number => Math.abs(EFFORTS.indexOf(effort) - place)
  return taken.toSorted((one, other) => distance(one) - distance(other))[0] ?? null
}

/** A model to go on with, and the upstream that serves it where that is another one. */
export interface Downgrade {
  readonly to: string
  readonly upstream?: string | undefined
}

/** What the tier downgrades `model` to: the first entry whose `from` matches. Null when none does, or to itself. */
export function downgradeFor(downgrades: readonly (Downgrade & { readonly from: string })[], model: string): Downgrade | null {
  const found = downgrades.find(({ from }) => matchesPattern(from, model))
  return found === undefined || found.to === model ? null : found
}

/** What the question whether a swap saves anything is decided on. Token counts are whole numbers >= 0. */
export interface SwapMoney {
  /** Of the input as each model counts it, and of it what the provider's cache holds for the model in use. */
  readonly inputTokens: { readonly from: number; readonly to: number }
  readonly cachedTokens: number
  /** Of the answer, as the last one was. */
  readonly outputTokens: number
  readonly from: Prices
  readonly to: Prices
  /** Calls expected after this one. */
  readonly furtherCalls: number
}

/**
 * Whether going on with the other model costs less than staying. Caches are per model: its first call pays for the whole history anew
 * (as a cache write where those have a price), and only later ones read as much from its cache as the model in use does now.
 *
 *   stay  = (k + 1) x (cached x read + fresh x input + out x output)              at the old prices
 *   swap  = input x write + out x output + k x (cached x read + fresh x input + out x output)   at the new ones
 *
 * Each counts the input in its own way, and the same part of it is cached.
 */
export function swapSaves({ inputTokens, cachedTokens, outputTokens, from, to, furtherCalls }: SwapMoney): boolean {
  const [before, after] = [BigInt(inputTokens.from), BigInt(inputTokens.to)]
  const out = BigInt(outputTokens)
  const cached = BigInt(Math.min(cachedTokens, inputTokens.from))
  const cachedAfter = before === 0n ? 0n : (after * cached) / before
  const call = (prices: Prices, tokens: bigint, read: bigint): bigint =>
    read * prices.cacheReadInput + (tokens - read) * prices.uncachedInput + out * prices.output
  const write = cached > 0n && to.cacheWriteInput > to.uncachedInput ? to.cacheWriteInput : to.uncachedInput
  const first = after * write + out * to.output
  const further = BigInt(furtherCalls)
  return first + further * call(to, after, cachedAfter) < (further + 1n) * call(from, before, cached)
}

/** Whether the tier lets a model be asked for. An empty list allows every model. */
export function modelAllowed(allow: readonly string[], model: string): boolean {
  return allow.length === 0 || allow.some((pattern) => matchesPattern(pattern, model))
}

function lacking(
  request: ModelRequest,
  messages: readonly Message[],
  from: Capabilities,
  target: Capabilities,
  inputTokens: number,
): string | null {
  if (UNTALKED_WIRES.has(request.wire)) return 'this very model'
  if (inputTokens * 100 > target.contextTokens * CONTEXT_PERCENT_MAX) return `a context of more than ${target.contextTokens} tokens`
  for (const part of messages.flatMap((message) => message.images)) {
    if (!target.modalities.includes(part.kind)) return `${part.kind} input`
  }
  const usesTools =
    request.tools !== 'none' ||
    messages.some((message) => message.role === 'tool' || message.role === 'function' || message.toolCalls.length > 0)
  if (usesTools && !target.tools) return 'tools'
  if (request.structured && !target.structuredOutput) return 'structured output'
  // Whether a model offers the provider's hosted tools is in no capability list: what works now is not put at risk.
  if (request.hosted.tools.length > 0) return `hosted tools (${request.hosted.tools.join(', ')})`
  // One answer is what a model without `n` gives anyway.
  const refused = target.drop.find(
    (field) =>
      INDISPENSABLE.has(field) && request.fields.has(field) && !from.drop.includes(field) && !(field === 'n' && request.choices === 1),
  )
  return refused === undefined ? null : `the parameter "${refused}"`
}
