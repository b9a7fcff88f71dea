/** What a response of Gemini's `generateContent` used -> `Usage`. https://ai.google.dev/api/generate-content#UsageMetadata */
import { usageOf } from '@farebox/crds/usage.ts'
import { isList, isObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'
import { objectsIn } from './json-values.ts'
import { ABSENT, details, INVALID, Numbers, Share } from './usage-reading.ts'
import type { UsageReading } from './usage-reading.ts'

/**
 * Of the whole response, or of a chunk of a stream: each has the counts so far, the last one stands. `promptTokenCount` includes what
 * was cached; results of tools that Google ran are input on top of it; thoughts are output on top of the candidates, and where the
 * total is more than the parts, the rest is thoughts that were left out. Videos count among images.
 */
export function readGeminiUsage(response: JsonObject): UsageReading {
  const raw = response['usageMetadata']
  if (raw === undefined || raw === null) return ABSENT
  if (!isObject(raw)) return INVALID
  const numbers = new Numbers()
  const prompt = numbers.read(raw['promptTokenCount'])
  const total = numbers.read(raw['totalTokenCount']) ?? 0
  const cached = numbers.read(raw['cachedContentTokenCount']) ?? 0
  const candidates = numbers.read(raw['candidatesTokenCount']) ?? numbers.read(raw['responseTokenCount'])
  const thoughts = numbers.read(raw['thoughtsTokenCount']) ?? 0
  const toolUse = numbers.read(raw['toolUsePromptTokenCount']) ?? 0
  const asked = modalities(raw['promptTokensDetails'], numbers)
  const kept = modalities(raw['cacheTokensDetails'], numbers)
  const found = modalities(raw['toolUsePromptTokensDetails'], numbers)
  const made = modalities(raw['candidatesTokensDetails'] ?? raw['responseTokensDetails'], numbers)
  const searches = searchCount(response)
  if (numbers.broken) return INVALID
  if (prompt === null) return ABSENT

  const split = new Share(prompt)
  const read = new Share(split.take(cached))
  const cacheReadAudioInput = read.take(kept.audio)
  const audioInput = split.take(Math.max(0, asked.audio - kept.audio))
  const imageInput = split.take(Math.max(0, asked.image - kept.image))
  const results = new Share(toolUse)
  const foundAudio = results.take(found.audio)
  const foundImages = results.take(found.image)
  const known = (candidates ?? 0) + thoughts
  const output = new Share(Math.max(known, total - prompt - toolUse))
  const imageOutput = output.take(made.image)
  const audioOutput = output.take(made.audio)
  return {
    usage: usageOf({
      uncachedInput: split.left + results.left,
      cacheReadInput: read.left,
      cacheReadAudioInput,
      audioInput: audioInput + foundAudio,
      imageInput: imageInput + foundImages,
      output: output.left,
      imageOutput,
      audioOutput,
      webSearchCalls: searches,
    }),
    // What of the cache was sound may not be told, and what a list leaves out may be any.
    ...(asked.isTold ? { audioTokens: Math.max(0, prompt - asked.silent) } : {}),
    clamped: [split, read, results, output].some(({ short }) => short),
    invalid: false,
  }
}

/** Whether the input sums up several readings: what tools found that Google ran was read on top of the prompt. */
export function isSummed(response: JsonObject): boolean {
  const toolUse = details(response, 'usageMetadata')['toolUsePromptTokenCount']
  return typeof toolUse === 'number' && toolUse > 0
}

/** The tier that served: Gemini's API names it, Vertex names the traffic. Null: nothing was said. */
export function readGeminiTier(response: JsonObject): string | null {
  const raw = details(response, 'usageMetadata')
  const { serviceTier, trafficType } = raw
  if (typeof serviceTier === 'string') return geminiTier(serviceTier)
  return typeof trafficType === 'string' ? (TRAFFIC.get(trafficType) ?? null) : null
}

/**
 * A tier by the word that has a price. In JSON an enum may be written by its name in the `.proto` file, as one form of Google's page does:
 * `SERVICE_TIER_PRIORITY`. https://ai.google.dev/gemini-api/docs/priority-inference
 */
export function geminiTier(written: string): string {
  return written.toLowerCase().replace(/^service_tier_/, '')
}

const TRAFFIC: ReadonlyMap<string, string> = new Map([
  ['ON_DEMAND', 'standard'],
  ['ON_DEMAND_PRIORITY', 'priority'],
  ['ON_DEMAND_FLEX', 'flex'],
])

interface Modalities {
  /** There is a list of them. */
  readonly isTold: boolean
  readonly audio: number
  readonly image: number
  /** All that is named, and is no sound. */
  readonly silent: number
}

function modalities(value: Json | undefined, numbers: Numbers): Modalities {
  const parts = objectsIn(value)
  let [audio, image, silent] = [0, 0, 0]
  for (const { modality, tokenCount } of parts) {
    const count = numbers.read(tokenCount) ?? 0
    if (modality === 'AUDIO') audio += count
    else if (typeof modality === 'string' && SILENT.has(modality)) silent += count
    if (modality === 'IMAGE' || modality === 'VIDEO') image += count
  }
  return { isTold: parts.length > 0, audio, image, silent }
}

/** The sound of a video is counted as `AUDIO`. */
const SILENT: ReadonlySet<string> = new Set(['TEXT', 'IMAGE', 'VIDEO', 'DOCUMENT'])

/** Before Gemini 3 a grounded answer costs one fee, from there on each search does. https://ai.google.dev/gemini-api/docs/pricing */
const ONE_FEE = /^(models\/)?gemini-[12]\b/

function searchCount(response: JsonObject): number {
  const { candidates, modelVersion } = response
  let searches = 0
  for (const candidate of objectsIn(candidates)) {
    const grounding = details(candidate, 'groundingMetadata')
    let queried = 0
    for (const field of ['webSearchQueries', 'imageSearchQueries']) {
      const queries = grounding[field]
      if (isList(queries)) queried += queries.length
    }
    // An answer with places of Google Maps names no query, and is billed.
    const hasPlaces = objectsIn(grounding['groundingChunks']).some(({ maps }) => isObject(maps))
    searches += queried === 0 && hasPlaces ? 1 : queried
  }
  return typeof modelVersion === 'string' && ONE_FEE.test(modelVersion) ? Math.min(searches, 1) : searches
}
