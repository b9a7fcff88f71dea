/** What a model of the tests can do: all that a call may ask for, in a window that no test fills by chance. */
import type { Capabilities } from '@farebox/crds/prices.ts'

export const CAPABLE: Capabilities = {
  contextTokens: 128_000,
  maxOutputTokens: 16_384,
  modalities: ['image'],
  tools: true,
  structuredOutput: true,
  reasoning: false,
  drop: [],
  rename: {},
}
