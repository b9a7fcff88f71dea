/** How long the longest reading of a context is, of several whose sum is all that a provider says: long-context steps go by that. */
import type { Usage } from '@farebox/crds/usage.ts'
import { inputTokens } from '@farebox/crds/usage.ts'
import type { AnswerFacts } from './request.ts'

/** Of a call in which the provider runs tools, and reads everything again after each of their calls. */
export interface Readings {
  /** The most of them that it was held for. */
  readonly most: number
  /** The most tokens that one has beside what the model wrote: the input, and all results. */
  readonly longest: number
  /** The most that the model reads at once. */
  readonly contextTokens: number
}

/**
 * The most input tokens of `usage` that may have been read at once: all of them, unless they are a sum. Never less than an even share of the
 * readings, since the longest is no shorter than the mean: of those that were made, where that is known, else of those that were held for.
 * `readings` null: the call was held for as one.
 */
export function readAtOnce(usage: Usage, facts: Pick<AnswerFacts, 'isSum' | 'hostedCalls'> | null, readings: Readings | null): number {
  const sum = inputTokens(usage)
  if (facts?.isSum !== true || readings === null) return sum
  const { most, longest, contextTokens } = readings
  const made = Math.min(most, (facts.hostedCalls ?? Infinity) + 1)
  return Math.max(Math.ceil(sum / made), Math.min(sum, contextTokens, longest + usage.output))
}
