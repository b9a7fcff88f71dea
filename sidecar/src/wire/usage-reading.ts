/** What every reader of a provider's usage needs: numbers that are believed or not, and parts that fit into their whole. */
import { NANO_PER_USD } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import { COST_MAX } from '../core/cost.ts'
import type { OtherUsage } from '../core/cost.ts'
import { isObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'
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

/**
 * What a usage says that the call cost. xAI says it in ticks (https://docs.x.ai/developers/cost-tracking), routers in US dollars, as
 * `cost` (https://openrouter.ai/docs/use-cases/usage-accounting): with a provider's key of the owner's own that is the router's fee, and
 * what the provider bills beside it. What is no such number, or more than any call can cost, is not believed.
 */
export function toldCost(raw: JsonObject): Pick<UsageReading, 'toldCost'> {
  const ticks = raw['cost_in_usd_ticks']
  if (ticks !== undefined && ticks !== null) return inNanos(ticks, 1 / TICKS_PER_NANO)
  const { cost } = raw
  const beside = raw['is_byok'] === true ? details(raw, 'cost_details')['upstream_inference_cost'] : null
  return inNanos(typeof cost === 'number' && typeof beside === 'number' ? cost + beside : cost, NANOS_PER_USD)
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
