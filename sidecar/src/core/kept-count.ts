/** A count of a history that the provider keeps, as another call may go on from it. */
import type { ExactCount } from './conversation.ts'
import { assumedFactor, haveSameTokens } from './token-factor.ts'

/** How long what was counted, with its answer, is to a model, from above; null where only the provider can say. */
export function keptTokens(exact: Pick<ExactCount, 'model' | 'inputTokens' | 'outputTokens' | 'isText'>, model: string): number | null {
  const tokens = exact.inputTokens + exact.outputTokens
  if (exact.model === model) return tokens
  // What is no text each model counts by a rule of its own.
  if (exact.isText !== true) return null
  return haveSameTokens(exact.model, model) ? tokens : Math.ceil(tokens * Math.max(assumedFactor(exact.model), assumedFactor(model)))
}
