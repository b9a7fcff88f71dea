/** Which cheaper model a call goes to, and whether that pays for the cache that it leaves behind. */
import type { PricedModel } from '@farebox/crds/prices.ts'
import type { DecideInput } from './plan.ts'
import { asWritten, isWarm } from './provider-cache.ts'
import type { ModelSwap } from './shape.ts'
import { costLike, expectedFurtherCalls } from './summary.ts'
import { downgradeFor, planSwap, swapSaves } from './swap.ts'
import { freeOf, tightestOf } from './terms.ts'

export type Downgraded =
  | { readonly status: 'stays' }
  | { readonly status: 'skipped'; readonly reason: 'noDowngrade' | 'refused' | 'incapable' }
  /** `saves` is false where going on with the other model would cost more than staying. */
  | { readonly status: 'swap'; readonly swap: ModelSwap; readonly priced: PricedModel; readonly saves: boolean }
export const STAYS: Downgraded = { status: 'stays' }

/** The swap that the tier asks for, if the other model is to be had, costs less a token, and can take the request. */
export function downgraded(input: DecideInput, original: PricedModel, tokensOf: (model: string) => number): Downgraded {
  const { request, terms, prices, nowMs } = input
  const downgrade = request.generates ? downgradeFor(terms.contract.models.downgrades, request.model) : null
  if (downgrade !== null && input.failedSwaps.has(downgrade.to)) return { status: 'skipped', reason: 'refused' }
  const server = downgrade === null ? null : input.serverOf(downgrade)
  const target = downgrade === null || server === null ? null : (server.prices ?? prices).find(server.provider, downgrade.to, nowMs)
  if (downgrade === null || server === null || target === null || !isCheaper(target, original))
    return { status: 'skipped', reason: 'noDowngrade' }
  const { to } = downgrade
  const inputTokens = tokensOf(to)
  const planned = planSwap({
    request,
    to,
    upstream: server.upstream,
    from: original.capabilities,
    target: target.capabilities,
    inputTokens,
  })
  if (planned.status === 'incapable') return { status: 'skipped', reason: 'incapable' }
  return { status: 'swap', swap: planned.swap, priced: target, saves: savesByDowngrade(input, original, target, inputTokens, to) }
}

/** Once a conversation has moved, it stays: moving back would pay for its cache again. */
function savesByDowngrade(input: DecideInput, from: PricedModel, to: PricedModel, inputTokens: number, model: string): boolean {
  const { request, conversation, balances } = input
  const { exact } = conversation
  if (exact === null || exact.model === model) return true
  const oldPrices = asWritten(request, from.pricesFor(inputTokens, null))
  const cachedTokens = isWarm(request, exact, from, input.nowMs) ? exact.cachedTokens : 0
  const lastCost = costLike({ ...exact, cachedTokens }, oldPrices)
  return swapSaves({
    inputTokens,
    cachedTokens,
    outputTokens: exact.outputTokens,
    from: oldPrices,
    to: asWritten(request, to.pricesFor(inputTokens, null)),
    furtherCalls: expectedFurtherCalls({ turns: conversation.turns, remaining: freeOf(tightestOf(balances)), lastCost }),
  })
}

/** Whether a swap is a downgrade at all: a pattern may match models that cost less than the one it leads to. */
function isCheaper(target: PricedModel, original: PricedModel): boolean {
  const [less, more] = [target.pricesFor(0, null), original.pricesFor(0, null)]
  return less.uncachedInput < more.uncachedInput || less.output < more.output
}
