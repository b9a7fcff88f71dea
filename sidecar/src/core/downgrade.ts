/** Which cheaper model a call goes to, and whether that pays for the cache that it leaves behind. */
import type { PricedModel } from '@farebox/crds/prices.ts'
import type { DecideInput } from './plan.ts'
import { asWritten, isWarm } from './provider-cache.ts'
import type { ModelRequest } from './request.ts'
import type { ModelSwap } from './shape.ts'
import { costLike, expectedFurtherCalls } from './summary.ts'
import { downgradeFor, planSwap, swapSaves } from './swap.ts'
import { freeOf, tightestOf } from './terms.ts'

/** What two models are compared by beside the input, whatever the last answer was: a choice that went by that would change from turn to turn. */
const ANSWER_TOKENS = 256

export type Downgraded =
  | { readonly status: 'stays' }
  | { readonly status: 'skipped'; readonly reason: 'noDowngrade' | 'refused' | 'incapable' }
  /** How long the kept history is in the tokens of the other model (null: of the one that was asked for) the provider is to be asked first. */
  | { readonly status: 'uncounted'; readonly swap: ModelSwap | null }
  /** `saves` is false where going on with the other model would cost more than staying. */
  | { readonly status: 'swap'; readonly swap: ModelSwap; readonly priced: PricedModel; readonly saves: boolean }
export const STAYS: Downgraded = { status: 'stays' }

/** How long the call is in the tokens of a model. */
export interface CallLength {
  /** From above. */
  readonly bound: (priced: PricedModel, model: string) => number
  /** By its history alone, whoever counted it last and whatever was learned since: the same history gives the same. */
  readonly plain: (priced: PricedModel, model: string) => number
  /** Nothing of it is other than text. */
  readonly isText: () => boolean
  /** Nor is what is new of it, whatever is kept. */
  readonly isNewText: () => boolean
  /** The provider is to be asked how long it is. */
  readonly isUncounted: (model: string) => boolean
  /** Nor was it asked for the model that the request names: see `earlierIsOpen`. */
  readonly isOpen: boolean
}

/** The swap that the tier asks for, if the other model is to be had, costs less a token, and can take the request. */
export function downgraded(input: DecideInput, original: PricedModel, length: CallLength): Downgraded {
  const { request, terms, prices, nowMs } = input
  const downgrade = request.generates ? downgradeFor(terms.contract.models.downgrades, request.model) : null
  if (downgrade !== null && input.failedSwaps.has(downgrade.to)) return { status: 'skipped', reason: 'refused' }
  const server = downgrade === null ? null : input.serverOf(downgrade)
  const target = downgrade === null || server === null ? null : (server.prices ?? prices).find(server.provider, downgrade.to, nowMs)
  if (downgrade === null || server === null || target === null || !isCheaper(target, original))
    return { status: 'skipped', reason: 'noDowngrade' }
  const { to } = downgrade
  // Another upstream is not asked: what it counts costs a round trip to a server that may never see the call.
  const isUncounted = server.upstream === null && length.isUncounted(to)
  const planned = planSwap({
    request,
    to,
    upstream: server.upstream,
    from: original.capabilities,
    target: target.capabilities,
    inputTokens: isUncounted ? 0 : length.bound(target, to),
  })
  if (planned.status === 'incapable') return { status: 'skipped', reason: 'incapable' }
  if (isUncounted) return { status: 'uncounted', swap: planned.swap }
  if (!length.isOpen)
    return { status: 'swap', swap: planned.swap, priced: target, saves: savesByDowngrade(input, original, target, length, to) }
  // What is kept was weighed when it moved.
  const isWeighed = input.conversation.exact?.model === to && length.isNewText()
  return isWeighed ? { status: 'swap', swap: planned.swap, priced: target, saves: true } : { status: 'uncounted', swap: null }
}

/**
 * Once a conversation has moved, it stays: moving back would pay for its cache again. But what costs more at the other model with nothing
 * cached at either (pictures may be thirty times as many tokens to it) costs more in every call.
 */
function savesByDowngrade(input: DecideInput, from: PricedModel, to: PricedModel, length: CallLength, model: string): boolean {
  const { request, conversation, balances } = input
  const { exact } = conversation
  const isPlain = length.isText() && isNeverDearer(to, from)
  const mayStay = exact === null || exact.model === model
  if (isPlain && mayStay) return true
  const inputTokens = { from: length.plain(from, request.model), to: length.plain(to, model) }
  if (!isPlain && uncachedCost(request, from, inputTokens.from) < uncachedCost(request, to, inputTokens.to)) return false
  if (mayStay) return true
  const oldPrices = asWritten(request, from.pricesFor(inputTokens.from, null))
  const cachedTokens = isWarm(request, exact, from, input.nowMs) ? exact.cachedTokens : 0
  const lastCost = costLike({ ...exact, cachedTokens }, oldPrices)
  return swapSaves({
    inputTokens,
    cachedTokens,
    outputTokens: exact.outputTokens,
    from: oldPrices,
    to: asWritten(request, to.pricesFor(inputTokens.to, null)),
    furtherCalls: expectedFurtherCalls({ turns: conversation.turns, remaining: freeOf(tightestOf(balances)), lastCost }),
  })
}

/** In pico-dollars, with a short answer. */
function uncachedCost({ outputLimit, choices }: ModelRequest, priced: PricedModel, inputTokens: number): bigint {
  const { uncachedInput, output } = priced.pricesFor(inputTokens, null)
  const outputTokens = Math.min(outputLimit?.tokens ?? ANSWER_TOKENS, ANSWER_TOKENS) * choices
  return BigInt(inputTokens) * uncachedInput + BigInt(outputTokens) * output
}

/** Whether a swap is a downgrade at all: a pattern may match models that cost less than the one it leads to. */
function isCheaper(target: PricedModel, original: PricedModel): boolean {
  const [less, more] = [target.pricesFor(0, null), original.pricesFor(0, null)]
  return less.uncachedInput < more.uncachedInput || less.output < more.output
}

/** Whether it costs no more for what it counts as the other does. */
function isNeverDearer(target: PricedModel, original: PricedModel): boolean {
  const [less, more] = [target.pricesFor(0, null), original.pricesFor(0, null)]
  return less.uncachedInput <= more.uncachedInput && less.output <= more.output
}
