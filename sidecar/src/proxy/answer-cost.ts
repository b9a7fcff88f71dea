/** What an answer costs: by the provider's word where it says what was used, and by what was seen of it where it does not. */
import type { Usage, UsageSource } from '@farebox/crds/usage.ts'
import type { PricedModel } from '@farebox/crds/prices.ts'
import { pricesAt } from '@farebox/crds/regions.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { brokenUsage } from '../core/broken-answer.ts'
import { COST_MAX, costOfAnswer, withHeldTime } from '../core/cost.ts'
import { readAtOnce } from '../core/readings.ts'
import type { AnswerFacts } from '../core/request.ts'
import { UNDECIDED } from '../core/service-tier.ts'
import { assumedFactor } from '../core/token-factor.ts'
import { OutputGauge } from '../wire/output-gauge.ts'
import type { AnswerStream, WireFacts } from '../wire/wire.ts'
import type { Admitted } from './admit.ts'
import type { Turn } from './exchange.ts'

/** Of a plain answer without usage, this much is gauged; the rest is taken for the same. */
export const GAUGED_BYTES_MAX = 256 * 1024

/** What an answer is settled by; `cost` in nano-dollars. */
export interface AnswerWorth {
  readonly usage: Usage
  readonly source: UsageSource
  readonly cost: NanoUsd
}

/** As much of an answer as was seen when it broke off, or of a whole one that says no usage. */
export interface SeenAnswer {
  /** What a stream has said of itself; null: no stream. */
  readonly facts: WireFacts | null
  /** The last count that the provider sent along; exact for its input. */
  readonly counted: Usage | null
  /** Output tokens that came, estimated from above. */
  readonly tokens: number
  /** Of these, of text: what else came may be sound or pictures. */
  readonly textTokens: number
  /** Something came that nobody here can measure. */
  readonly isUnread: boolean
}

export const NOTHING_SEEN: SeenAnswer = { facts: null, counted: null, tokens: 0, textTokens: 0, isUnread: false }

export function seenOfStream(stream: AnswerStream): SeenAnswer {
  const tokens = stream.observedOutputTokens()
  return {
    facts: stream.facts,
    counted: stream.usageSoFar ?? null,
    tokens,
    textTokens: stream.observedTextTokens?.() ?? tokens,
    isUnread: stream.isUnread === true,
  }
}

/**
 * Of a plain answer, by its length: from above, since the frame around the words counts too. It is made whole before it is sent, so
 * that `announced`, the length by its head, counts where that is more than the `bytes` that came; `parts` may be a sample of them.
 */
export function seenOfPlain(
  parts: readonly Buffer[],
  { bytes, announced }: { readonly bytes: number; readonly announced: number },
): SeenAnswer {
  const gauge = new OutputGauge()
  let gauged = 0
  for (const part of parts) {
    if (gauged >= GAUGED_BYTES_MAX) break
    gauge.addJsonString(part, 0, part.length)
    gauged += part.length
  }
  const tokens = gauged === 0 ? 0 : Math.ceil((gauge.tokens * Math.max(bytes, announced)) / gauged)
  return { ...NOTHING_SEEN, tokens } // of text, nothing is known: the bytes may be anything
}

/** Prices the answer to one call, from the moment that it was sent. */
export class AnswerCost {
  readonly #admitted: Admitted
  readonly #upstream: Turn['upstream']
  /** How long the process had run then. */
  readonly #sentUptimeMs = performance.now()

  /** `upstream`: the one that serves. */
  constructor(admitted: Admitted, upstream: Turn['upstream']) {
    this.#admitted = admitted
    this.#upstream = upstream
  }

  /** By what the provider says was used; null where that comes to more than any call can cost. */
  ofUsage(said: Usage, facts: WireFacts): AnswerWorth | null {
    const usage = this.#withHeldTime(said, facts)
    const cost = this.#costOf(usage, facts, facts.serviceTier)
    return cost > COST_MAX ? null : { usage, source: facts.isEstimate === true ? 'estimated' : 'exact', cost }
  }

  /** What a broken answer is worth. Never above the hold. */
  ofSeen(seen: SeenAnswer): AnswerWorth {
    const { plan, granted, outputTokens, turn } = this.#admitted
    const { facts } = seen
    const said = facts === null || facts.usage === null ? null : this.#withHeldTime(facts.usage, facts)
    const broken = brokenUsage({
      plan,
      request: turn.request,
      outputTokens,
      seenTokens: seen.tokens,
      textTokens: seen.textTokens,
      isUnread: seen.isUnread,
      seconds: (performance.now() - this.#sentUptimeMs) / 1000,
      factor: Math.max(turn.gateway.factors.factorOf(plan.model), assumedFactor(plan.model)),
      counted: seen.counted,
    })
    const usage = said ?? broken.usage
    const cost = said === null && broken.isUnseen ? granted : this.#costOfSeen(usage, facts)
    return { usage, source: facts === null ? 'estimated' : 'partial', cost: cost < granted ? cost : granted }
  }

  #withHeldTime(usage: Usage, facts: AnswerFacts): Usage {
    return withHeldTime(usage, this.#admitted.turn.request.units, this.#pricedBy(facts))
  }

  /**
   * By the service tier that served; where nothing was said of that yet, by the dearest of those that it was held for.
   */
  #costOfSeen(usage: Usage, facts: AnswerFacts | null): NanoUsd {
    const served = facts?.serviceTier ?? UNDECIDED
    if (served !== UNDECIDED) return this.#costOf(usage, facts, served)
    const possible = this.#admitted.plan.serviceTiers.map((tier) => this.#costOf(usage, facts, tier))
    return possible.reduce((most, cost) => (cost > most ? cost : most), 0n)
  }

  /** By the model that served. */
  #costOf(usage: Usage, facts: AnswerFacts | null, serviceTier: string | null): NanoUsd {
    const { plan } = this.#admitted
    const spent = {
      usage,
      readAtOnce: readAtOnce(usage, facts, plan.readings),
      ...(facts?.others === undefined ? {} : { others: facts.others }),
      ...(facts?.toldCost === undefined ? {} : { toldCost: facts.toldCost }),
      serviceTier,
    }
    return costOfAnswer(spent, this.#pricedBy(facts), (model) => this.#otherModel(model) ?? plan.priced)
  }

  /** The model that served; where nobody prices that, the one that was asked. */
  #pricedBy(facts: AnswerFacts | null): PricedModel {
    const { plan, turn } = this.#admitted
    const model = facts?.model ?? plan.model
    if (model === plan.model) return plan.priced
    return pricesAt(turn.policy.prices, this.#upstream).find(this.#upstream.provider, model, turn.gateway.nowMs()) ?? plan.priced
  }

  /** A model that the provider used beside the one that answered: nobody chose it, so it has the price that is known, or the most. */
  #otherModel(model: string): PricedModel | null {
    const { policy, gateway } = this.#admitted.turn
    const { provider } = this.#upstream
    const prices = pricesAt(policy.prices, this.#upstream)
    return prices.find(provider, model, gateway.nowMs()) ?? prices.ceiling(provider, model, gateway.nowMs())
  }
}
