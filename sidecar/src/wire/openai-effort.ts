/**
 * How little OpenAI's reasoning models can be asked to think. What they think counts against the bound of their output, before a word of the
 * answer.
 */
import { knownEfforts } from '@farebox/crds/capabilities.ts'
import type { Effort } from '@farebox/crds/prices.ts'

/** The least effort that a model takes; null where it does not reason, or it is not known what it takes. */
export function leastEffort(model: string): Effort | null {
  return knownEfforts('openai', model)?.[0] ?? null
}
