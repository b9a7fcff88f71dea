/** What an answer cost: what it used x the prices of what served it. */
import { costOfAll } from '@farebox/crds/prices.ts'
import type { PricedModel } from '@farebox/crds/prices.ts'
import { NANO_PER_USD } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { INPUT_KINDS, inputTokens, OUTPUT_KINDS } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'

/** No call costs more, whoever bills it: a usage that comes to more is a mistake, and is not billed by. 100,000 USD. */
export const COST_MAX: NanoUsd = 100_000n * NANO_PER_USD

/** What a call used beside the pass that answered it: another pass over its context, or another model. */
export interface OtherUsage {
  /** Null: the model that answered. */
  readonly model: string | null
  readonly usage: Usage
}

export interface Spent {
  readonly usage: Usage
  /** The most of its input that may have been read at once: its long-context step goes by that (`readAtOnce`). Absent: all of it. */
  readonly readAtOnce?: number
  /** Each has its own long-context step. Absent: nothing. */
  readonly others?: readonly OtherUsage[]
  /** What the provider says that all of it cost. Absent: it does not. */
  readonly toldCost?: NanoUsd
  /** As it served; for all of them. */
  readonly serviceTier: string | null
}

/**
 * With the seconds that a call was held for, where its answer counts nothing but tokens and its model has a price of time alone: a provider
 * may answer in tokens of a model that it bills by the minute, and none is free.
 */
export function withHeldTime(usage: Usage, held: Readonly<Partial<Usage>>, priced: PricedModel): Usage {
  if (held.seconds === undefined || usage.seconds > 0 || !TOKEN_KINDS.some((kind) => usage[kind] > 0)) return usage
  const prices = priced.pricesFor(inputTokens(usage), null)
  if (prices.seconds === 0n || TOKEN_KINDS.some((kind) => prices[kind] > 0n)) return usage
  return { ...usage, seconds: held.seconds }
}

const TOKEN_KINDS = [...INPUT_KINDS, ...OUTPUT_KINDS]
/** What models are priced by. */
const PRICED_KINDS = [...TOKEN_KINDS, 'seconds', 'characters', 'images'] as const

/**
 * `priced`: the model that answered. `find`: another one, at whatever price is known for it. Rounds up once. What the provider says that it
 * cost counts where that is more: a router's hosts of one model differ in price, and not every fee is in a usage.
 */
export function costOfAnswer(spent: Spent, priced: PricedModel, find: (model: string) => PricedModel): NanoUsd {
  const { usage, readAtOnce = inputTokens(usage), others = [], serviceTier } = spent
  const cost = costOfAll([
    { usage, prices: priced.pricesFor(readAtOnce, serviceTier) },
    ...others.map((other) => ({
      usage: other.usage,
      prices: (other.model === null ? priced : find(other.model)).pricesFor(inputTokens(other.usage), serviceTier),
    })),
  ])
  const { toldCost = 0n } = spent
  return toldCost > cost && !isDeclaredFree(priced, spent) ? toldCost : cost
}

/**
 * Whether the owner prices the model at nothing, in a PriceBook or as an unknown one: then it is free, whoever bills it, for nothing was held
 * for it. Fees of tools have prices of their own. By the prices, not by what the call comes to: one that used nothing comes to nothing at any price.
 */
function isDeclaredFree(priced: PricedModel, { usage, serviceTier }: Spent): boolean {
  if (priced.origin !== 'book' && priced.origin !== 'free') return false
  const prices = priced.pricesFor(inputTokens(usage), serviceTier)
  return PRICED_KINDS.every((kind) => prices[kind] === 0n)
}
