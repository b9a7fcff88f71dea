/** What every reader of a provider's usage needs: numbers that are believed or not, and parts that fit into their whole. */
import { NANO_PER_USD } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import { COST_MAX } from '../core/cost.ts'
import type { OtherUsage } from '../core/cost.ts'
import { isObject } from '../core/message.ts'
import type { Json, JsonObject, ModelRequest } from '../core/request.ts'
import { MODEL_LENGTH_MAX } from './request-reading.ts'

/** No call has more tokens of a kind; a larger number is a mistake, and is not billed. */
export const TOKENS_MAX = 1_000_000_000
/** Passes and models beside the one that answered; what is beyond them is summed into the last. */
export const OTHERS_MAX = 64

export interface UsageReading {
  /** Of the model that answered, in the pass that gave the answer. Null when there is none, or when it makes no sense. */
  readonly usage: Usage | null
  /** What the call used beside that, each with a price of its own: earlier passes, other models. Absent: nothing. */
  readonly others?: readonly OtherUsage[]
  /** Of the input of the pass that gave the answer, the most that may be sound; absent: sound is not told apart. */
  readonly audioTokens?: number
  /** What the provider says that all of it cost; absent: it does not. */
  readonly toldCost?: NanoUsd
  /** Parts added up to more than the total, and were cut to it. */
  readonly clamped: boolean
  /** There was a usage, with a number that is negative, broken or absurd. */
  readonly invalid: boolean
}

export const ABSENT: UsageReading = { usage: null, clamped: false, invalid: false }
export const INVALID: UsageReading = { usage: null, clamped: false, invalid: true }

/** The model that an answer names. Null where it names none, or what nobody could ask for: it is entered in books, and may be as long as an answer. */
export function servedModel(value: Json | undefined): string | null {
  return typeof value === 'string' && value !== '' && value.length <= MODEL_LENGTH_MAX ? value : null
}

const EMPTY: JsonObject = {}
/** The object in a field; an empty one where there is none. */
export function details(raw: JsonObject, name: string): JsonObject {
  const value = raw[name]
  return isObject(value) ? value : EMPTY
}

/** What OpenAI's formats say of the provider's cache. */
export interface CacheCounts {
  readonly cached: number
  readonly written: number
  /** Of these, what is kept for hours. */
  readonly writtenLong: number
  /** All input: what was said, with what the cache had to do with where that was left out of it. */
  readonly input: number | null
  /** The lives come to more than what was written. */
  readonly clamped: boolean
}

/**
 * In OpenAI's words, or in Anthropic's, in which servers in front of Claude say it: in the details (Perplexity), or beside them (LiteLLM,
 * whose details have words of their own, too); where both say it, the larger counts. `input` should include all of it. It excludes that, as
 * Anthropic's own does, where it has no room for what is said beside the details, or where `total` is `input` and `output` with that on top.
 * Writes without a life are short, unless the request asked for a long one (`asked`).
 * https://docs.litellm.ai/docs/completion/prompt_caching, https://github.com/BerriAI/litellm/issues/15056
 */
export function readCache(
  raw: JsonObject,
  {
    inDetails,
    input,
    output,
    total,
    asked,
  }: {
    readonly inDetails: JsonObject
    readonly input: number | null
    readonly output: number | null
    readonly total: number | null
    readonly asked: ModelRequest['cacheWrites']
  },
  numbers: Numbers,
): CacheCounts {
  const openaiLives = details(inDetails, 'cache_write_tokens_details')
  const lives = [details(inDetails, 'cache_creation_token_details'), details(raw, 'cache_creation')]
  const readBeside = numbers.read(raw['cache_read_input_tokens']) ?? 0
  const writtenBeside = numbers.read(raw['cache_creation_input_tokens']) ?? 0
  const first = (counts: readonly (Json | undefined)[]): number | null =>
    counts.reduce((found: number | null, count) => found ?? numbers.read(count), null)
  const cached = Math.max(
    // Two providers put the cached tokens beside the details.
    first([inDetails['cached_tokens'], inDetails['cache_read_input_tokens'], raw['prompt_cache_hit_tokens'], raw['cached_tokens']]) ?? 0,
    readBeside,
  )
  const written = Math.max(
    first([inDetails['cache_write_tokens'], inDetails['cache_creation_tokens'], inDetails['cache_creation_input_tokens']]) ?? 0,
    writtenBeside,
  )
  const short = first([openaiLives['ttl_30m_tokens'], ...lives.map((life) => life['ephemeral_5m_input_tokens'])]) ?? 0
  const long = first([openaiLives['ttl_12h_tokens'], ...lives.map((life) => life['ephemeral_1h_input_tokens'])]) ?? 0
  const without = Math.max(0, written - short - long)
  const ofCache = cached + written
  const isExcluded = input !== null && readBeside + writtenBeside > 0 && (ofCache > input || total === input + (output ?? 0) + ofCache)
  return {
    cached,
    written,
    writtenLong: Math.min(asked === 'long' ? long + without : long, written),
    input: isExcluded ? input + ofCache : input,
    clamped: short + long > written,
  }
}

/**
 * The most of an input that may be sound, by the count that OpenAI's formats have of it. That may leave out the cache (LiteLLM's does), and
 * what of the cache was sound is not said. Null: it has none.
 */
export function audioTold(audio: number | null, { cached, written, input }: CacheCounts): Pick<UsageReading, 'audioTokens'> {
  return audio === null || input === null ? {} : { audioTokens: Math.min(input, audio + cached + written) }
}

/**
 * What a usage says that the call cost. xAI says it in ticks (https://docs.x.ai/developers/cost-tracking), routers in US dollars, as
 * `cost` (https://openrouter.ai/docs/use-cases/usage-accounting): with a provider's key of the owner's own that is the router's fee, and
 * what the provider bills beside it. Perplexity's `cost` lists what it is made of: its searches are in nothing but the total
 * (https://schemas.apis.io/schemas/perplexity/perplexity-responsescost/). What is no such number, or more than any call can cost, is not believed.
 */
export function toldCost(raw: JsonObject): Pick<UsageReading, 'toldCost'> {
  const ticks = raw['cost_in_usd_ticks']
  if (ticks !== undefined && ticks !== null) return inNanos(ticks, 1 / TICKS_PER_NANO)
  const cost = isObject(raw['cost']) ? totalIn(raw['cost']) : raw['cost']
  const beside = raw['is_byok'] === true ? details(raw, 'cost_details')['upstream_inference_cost'] : null
  return inNanos(typeof cost === 'number' && typeof beside === 'number' ? cost + beside : cost, NANOS_PER_USD)
}

/** Of a cost in parts; in another currency it says nothing here. */
function totalIn({ currency, total_cost: total }: JsonObject): Json | undefined {
  return (currency ?? 'USD') === 'USD' ? total : null
}

/** A dollar has 10^10. */
const TICKS_PER_NANO = 10
const NANOS_PER_USD = Number(NANO_PER_USD)
/** A dollar's fraction is not a binary one: digits beyond these are noise, which must not round up. */
const DIGITS = 12

function inNanos(told: Json | undefined, nanosEach: number): Pick<UsageReading, 'toldCost'> {
  if (typeof told !== 'number' || !(told >= 0)) return {}
  const nanos = Math.ceil(Number((told * nanosEach).toPrecision(DIGITS)))
  return nanos <= COST_MAX ? { toldCost: BigInt(nanos) } : {}
}

export class Numbers {
  /** One of them was no count. */
  broken = false
  /** Null when absent. */
  read(value: Json | undefined): number | null {
    if (value === undefined || value === null) return null
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= TOKENS_MAX) return value
    this.broken = true
    return null
  }
  /** As `read`, of what may be a fraction: seconds that have begun count whole. */
  readBegun(value: Json | undefined): number | null {
    return this.read(typeof value === 'number' ? Math.ceil(value) : value)
  }
}

/** A total that is shared out: each part takes what those before it left, so that the sum is the total whatever overlaps. */
export class Share {
  left: number
  /** A part was more than what was left. */
  short = false
  constructor(total: number) {
    this.left = total
  }
  take(wanted: number): number {
    const taken = Math.min(wanted, this.left)
    if (taken < wanted) this.short = true
    this.left -= taken
    return taken
  }
}
