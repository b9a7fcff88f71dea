/**
 * What a turn used, in disjoint kinds: no token is counted in two of them. Providers disagree on whether input includes
 * cached input; `sidecar/src/wire` settles it once. Output includes reasoning.
 */
export const METERED_KINDS = [
  'uncachedInput',
  'cacheReadInput', // but for audio
  'cacheReadAudioInput',
  'cacheWriteInput', // written to the short-lived cache (5 or 30 minutes)
  'cacheWriteLongInput', // written to the long-lived cache (1 or 12 hours)
  'audioInput',
  'imageInput',
  'output',
  'audioOutput',
  'imageOutput',
  'webSearchCalls', // the tool kinds count calls, not tokens
  'fileSearchCalls',
  'codeContainers',
  'seconds', // of audio heard or made, begun ones whole: for models that are priced by time
  'characters', // spoken, for models that are priced by them
  'images', // made, for models that are priced by the image
] as const
export type MeteredKind = (typeof METERED_KINDS)[number]

/** The kinds that fill the context window and drive long-context price steps. */
export const INPUT_KINDS = [
  'uncachedInput',
  'cacheReadInput',
  'cacheReadAudioInput',
  'cacheWriteInput',
  'cacheWriteLongInput',
  'audioInput',
  'imageInput',
] as const satisfies readonly MeteredKind[]

/** Tokens that the model makes. */
export const OUTPUT_KINDS = ['output', 'audioOutput', 'imageOutput'] as const satisfies readonly MeteredKind[]

/** Units of each kind; whole numbers >= 0. */
export type Usage = Readonly<Record<MeteredKind, number>>

/** How sure we are: `exact` from the provider, `partial` from a stream that was cut, `estimated` without any word from it. */
export const USAGE_SOURCES = ['exact', 'partial', 'estimated'] as const
export type UsageSource = (typeof USAGE_SOURCES)[number]

/** A usage with zero where nothing is given. */
export function usageOf(parts: Partial<Usage>): Usage {
  const usage: Record<string, number> = {}
  for (const kind of METERED_KINDS) usage[kind] = parts[kind] ?? 0
  return usage as Usage
}

/** All input tokens, however they are priced. */
export function inputTokens(usage: Usage): number {
  let total = 0
  for (const kind of INPUT_KINDS) total += usage[kind]
  return total
}
