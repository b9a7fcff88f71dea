import { divideCeil, PICO_PER_NANO } from './usd.ts'
import type { NanoUsd, PicoUsd } from './usd.ts'
import { METERED_KINDS } from './usage.ts'
import type { MeteredKind, Usage } from './usage.ts'

/** Pico-dollars per unit of each kind: per token, call of a tool, second, character or image. */
export type Prices = Readonly<Record<MeteredKind, PicoUsd>>

/** What `usage` costs. Rounds up, once, so that a turn is never metered below its price. */
export function costOf(usage: Usage, prices: Prices): NanoUsd {
  return costOfAll([{ usage, prices }])
}

/** What a call costs of which parts have prices of their own: several passes over its context, or models. Rounds up once, too. */
export function costOfAll(parts: readonly { readonly usage: Usage; readonly prices: Prices }[]): NanoUsd {
  let picoUsd = 0n // 1 micro-dollar per million tokens is exactly 1 pico-dollar per token.
  for (const { usage, prices } of parts) {
    for (const kind of METERED_KINDS) {
      const units = usage[kind]
      if (units !== 0) picoUsd += BigInt(units) * prices[kind]
    }
  }
  return divideCeil(picoUsd, PICO_PER_NANO)
}

/** How much a model may be asked to think, the least first: OpenAI's words, of which Anthropic has the last five. */
export const EFFORTS = ['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'] as const
export type Effort = (typeof EFFORTS)[number]

/** What a model can take; a swap to it is made only when the request needs nothing else. */
export interface Capabilities {
  readonly contextTokens: number
  readonly maxOutputTokens: number
  /** Input it accepts beside text. */
  readonly modalities: readonly ('image' | 'audio' | 'file')[]
  readonly tools: boolean
  /** Strict JSON schema in `response_format`. */
  readonly structuredOutput: boolean
  /** Reasons before it answers: output bounds below a few thousand tokens may leave no text. */
  readonly reasoning: boolean
  /** How much it can be asked to think, the least first; empty: it takes no effort. Absent: not known, an effort goes as the app wrote it. */
  readonly efforts?: readonly Effort[]
  /** Request parameters that it refuses: taken out when a request is moved to it. */
  readonly drop: readonly string[]
  /** Request parameters that it calls otherwise, such as `max_tokens` -> `max_completion_tokens`. */
  readonly rename: Readonly<Record<string, string>>
}

/** How a price was found: by the owner's PriceBook, the shipped catalogue, as the dearest of the provider, or declared free. */
export const PRICE_ORIGINS = ['book', 'catalogue', 'ceiling', 'free'] as const
export type PriceOrigin = (typeof PRICE_ORIGINS)[number]

/** Between the words of a service tier that says several things; no provider's word has it. */
const SERVED_SEPARATOR = '+'

/**
 * One service tier from all that a provider says of how it served a call: `priority`, `fast` and `us` are `priority+fast+us`, and their
 * factors multiply. Null where it says nothing.
 */
export function servedAs(words: readonly string[]): string | null {
  return words.length === 0 ? null : words.join(SERVED_SEPARATOR)
}

/** The words that `servedAs` put together; none for null. */
export function servedWords(serviceTier: string | null): readonly string[] {
  return serviceTier === null ? [] : serviceTier.split(SERVED_SEPARATOR)
}

/** A model with its price at one moment. */
export interface PricedModel {
  readonly provider: string
  readonly model: string
  readonly origin: PriceOrigin
  readonly capabilities: Capabilities
  /** Rising: a call with more input than one of these has other prices, all of it. */
  readonly steps: readonly number[]
  /** The prices of a call with `inputTokens` in all, at the service tier that the provider served (`null`: standard; see `servedAs`). */
  pricesFor(inputTokens: number, serviceTier: string | null): Prices
}

/** Finds a model's price at a moment, or says that nobody prices it. */
export interface PriceList {
  find(provider: string, model: string, atMs: number): PricedModel | null
  /** The dearest known model of a provider, for a model without a price of its own. Null when the provider has none. */
  ceiling(provider: string, model: string, atMs: number): PricedModel | null
  /** The same model priced at zero, for owners who declare unknown models free. */
  free(provider: string, model: string): PricedModel
  readonly catalogue: { readonly version: string; readonly date: string }
}
