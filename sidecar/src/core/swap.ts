/** Moving a request to another model: which, whether that model can take it, and what must change in it. */
import type { Capabilities } from '@farebox/crds/prices.ts'
import { matchesPattern } from './pattern.ts'
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
const REASONING_PARAMETERS = ['reasoning_effort'] as const

export type SwapPlan =
  | { readonly status: 'swap'; readonly swap: ModelSwap }
  /** `needs`: what the request needs and the target lacks, in words for a log. */
  | { readonly status: 'incapable'; readonly needs: string }

export interface SwapInput {
  readonly request: ModelRequest
  /** The messages that will be sent, when they are not the request's own. */
  readonly messages?: readonly Message[]
  readonly to: string
  readonly from: Capabilities
  readonly target: Capabilities
  /** Bound of the input, in the target's tokens. */
  readonly inputTokens: number
}

/**
 * Whether the target can take the request, and with which parameters left out or renamed. Only what is present is named
 * in the change. An output limit above the target's `maxOutputTokens` is for the caller to shrink.
 */
export function planSwap({ request, messages = request.messages, to, from, target, inputTokens }: SwapInput): SwapPlan {
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
  return { status: 'swap', swap: { from: request.model, to, change: { drop: [...drop].sort(), rename } } }
}

/** The model that the tier downgrades `model` to: the first entry whose `from` matches. Null when none does, or to itself. */
export function downgradeFor(downgrades: readonly { readonly from: string; readonly to: string }[], model: string): string | null {
  const to = downgrades.find(({ from }) => matchesPattern(from, model))?.to
  return to === undefined || to === model ? null : to
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
