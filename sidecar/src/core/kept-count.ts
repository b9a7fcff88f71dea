/** A count of a history that the provider keeps, as another call may go on from it. */
import type { ExactCount } from './conversation.ts'
import { mediaTokensUsual } from './media-tokens.ts'
import { assumedFactor, haveSameTokens } from './token-factor.ts'

/** How long what was counted, with its answer, is to a model, from above; null where only the provider can say. */
export function keptTokens(
  exact: Pick<ExactCount, 'model' | 'inputTokens' | 'outputTokens' | 'isText' | 'isAlike'>,
  model: string,
): number | null {
  const tokens = exact.inputTokens + exact.outputTokens
  if (exact.model === model) return tokens
  if (exact.isAlike === true && haveSameTokens(exact.model, model)) return tokens
  // What is no text each model counts by a rule of its own.
  if (exact.isText !== true) return null
  return haveSameTokens(exact.model, model) ? tokens : Math.ceil(tokens * Math.max(assumedFactor(exact.model), assumedFactor(model)))
}

/**
 * Whether the counts of two models tell if there is anything but text: both count a text the same, and no picture. What is so once counted alike
 * need not be asked for again.
 */
export function tellApart(one: string, other: string): boolean {
  return haveSameTokens(one, other) && mediaTokensUsual(PICTURE, one) !== mediaTokensUsual(PICTURE, other)
}

const PICTURE = { kind: 'image', size: { width: 64, height: 64 }, detail: 'low' } as const
