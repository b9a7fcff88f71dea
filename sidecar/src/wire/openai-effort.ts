/**
 * How little OpenAI's reasoning models can be asked to think. What they think counts against the bound of their output, before a word of the
 * answer. https://developers.openai.com/api/docs/guides/reasoning, and each model's page
 */

/** The least effort that a model takes; null where it does not reason, or it is not known what it takes. */
export function leastEffort(model: string): 'none' | 'minimal' | 'low' | null {
  return LEAST.find(([pattern]) => pattern.test(model))?.[1] ?? null
}

/** Variants of other names (`-pro`, `-codex`, `-chat`) take other efforts. */
const LEAST = [
  [/^gpt-5\.\d+(?:-(?:mini|nano))?(?:-\d{4}-\d{2}-\d{2})?$/, 'none'],
  [/^gpt-5(?:-(?:mini|nano))?(?:-\d{4}-\d{2}-\d{2})?$/, 'minimal'],
  [/^o[1-4](?:-mini)?(?:-\d{4}-\d{2}-\d{2})?$/, 'low'],
] as const
