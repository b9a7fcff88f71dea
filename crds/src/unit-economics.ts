/**
 * From the price of a plan to what one conversation may cost. Pure and exact: whole nano-units of the plan's currency,
 * rounded down, so that what is derived never exceeds what the margin leaves.
 */
import type { PricingTier } from './pricing-tier.ts'
import { formatUsd, parseUsd } from './usd.ts'

/** What follows from a tier's numbers, in its own currency, as integer nano-units. */
export interface Derived {
  /** The cap of a conversation that the numbers lead to, before any override. */
  readonly perConversation: bigint
  /** FlatPerUser only: the cap of a user and period. */
  readonly perUser: bigint | null
  /** What a conversation costs when the plan goes as expected. */
  readonly targetPerConversation: bigint
  /** PerResolution only. */
  readonly targetPerResolution: bigint | null
  /** How it came about, a line each: for people. */
  readonly lines: readonly Line[]
}

export interface Line {
  readonly text: string
  readonly amount: string
}

export type Derivation =
  | { readonly status: 'derived'; readonly derived: Derived }
  /** Nothing is left for inference. `field` is the number to look at first; `lines` go as far as there is something; `derived` goes on with zero. */
  | {
      readonly status: 'marginLeavesNothing'
      readonly field: string
      readonly message: string
      readonly lines: readonly Line[]
      readonly derived: Derived
    }

/** Of a tier's spec, what budgets follow from. */
interface PricedSpec extends Pick<PricingTier['spec'], 'pricing'> {
  readonly unitEconomics: Omit<PricingTier['spec']['unitEconomics'], 'heavyUserTimesMedian'>
}

/** `inference per unit = price x (1 - margin) - otherCost`; the rest by pricing model. The spec has passed its schema and rules. */
export function deriveBudgets(spec: PricedSpec): Derivation {
  const { pricing, unitEconomics } = spec
  const price = parseUsd(pricing.price)
  const otherCost = parseUsd(unitEconomics.otherCost)
  const margin = BigInt(unitEconomics.targetGrossMarginPercent)
  const afterMargin = (price * (100n - margin)) / 100n
  const left = afterMargin - otherCost
  const inference = atLeastZero(left)
  const unit = UNIT_NAMES[pricing.model]
  const lines: Line[] = [
    line(`price ${unit}`, price),
    line(`what a margin of ${margin} % leaves`, afterMargin),
    line('less other cost of revenue', -otherCost),
    line(`for inference ${unit}`, left),
  ]
  const derived = derivedFrom(spec, inference, lines)
  if (left <= 0n) {
    const message = `a price of ${pricing.price} at a margin of ${margin} % leaves ${formatUsd(afterMargin)}, and other cost takes ${formatUsd(otherCost)}: nothing is left for inference`
    return { status: 'marginLeavesNothing', field: 'spec.unitEconomics.targetGrossMarginPercent', message, lines, derived }
  }
  if (derived.perConversation > 0n && derived.targetPerConversation > 0n) return { status: 'derived', derived }
  const message = 'the budget of one conversation comes to less than a billionth: fewer conversations, or a higher price'
  return { status: 'marginLeavesNothing', field: 'spec.unitEconomics', message, lines: derived.lines, derived }
}

function derivedFrom({ pricing, unitEconomics }: PricedSpec, inference: bigint, unitLines: readonly Line[]): Derived {
  switch (pricing.model) {
    case 'FlatPerUser': {
      const conversations = BigInt(unitEconomics.expectedConversationsPerUser ?? 1)
      const perConversation = inference / conversations
      const lines = [...unitLines, line(`over ${conversations} expected conversations: per conversation`, perConversation)]
      return { perConversation, perUser: inference, targetPerConversation: perConversation, targetPerResolution: null, lines }
    }
    case 'PerConversation': {
      const lines = [...unitLines, line('per conversation', inference)]
      return { perConversation: inference, perUser: null, targetPerConversation: inference, targetPerResolution: null, lines }
    }
    case 'PerResolution': {
      const rate = BigInt(unitEconomics.expectedResolutionPercent ?? 100)
      const expected = (inference * rate) / 100n
      const atStake = atLeastZero(parseUsd(pricing.price) - parseUsd(unitEconomics.otherCost))
      const lines = [
        ...unitLines,
        line(`at ${rate} % resolved: expected per conversation`, expected),
        line('cap of a conversation: the revenue at stake, price less other cost', atStake),
      ]
      return { perConversation: atStake, perUser: null, targetPerConversation: expected, targetPerResolution: inference, lines }
    }
  }
}

function atLeastZero(amount: bigint): bigint {
  return amount > 0n ? amount : 0n
}

const UNIT_NAMES = { FlatPerUser: 'per user and period', PerConversation: 'per conversation', PerResolution: 'per resolution' } as const

function line(text: string, amount: bigint): Line {
  return { text, amount: formatUsd(amount) }
}
