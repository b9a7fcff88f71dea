/** OpenAI-shaped `usage` -> `Usage`: disjoint kinds, whole numbers, nothing counted twice. */
import { usageOf } from '@farebox/crds/usage.ts'
import { isObject } from '../core/message.ts'
import type { Json, JsonObject, ModelRequest } from '../core/request.ts'
import { ABSENT, audioTold, details, INVALID, Numbers, readCache, Share, toldCost } from './usage-reading.ts'
import type { UsageReading } from './usage-reading.ts'

/** What only the request tells of the usage of its answer. */
export interface UsageTold {
  /** Web searches of the answer, where the provider bills them and counts none (OpenAI's Chat Completions). */
  readonly searches?: number
  /** How long what was written to the cache is kept, where the provider does not say. */
  readonly cacheWrites?: ModelRequest['cacheWrites']
}

/**
 * `prompt_tokens` includes what was cached, written, audio and image; `completion_tokens` includes audio and, with most
 * providers, reasoning: where `total_tokens` is more than the two, the rest is reasoning that was left out, or audio heard where a
 * provider counts that in seconds (Mistral). An explicit zero is zero; an absent total is no usage at all. Of chat, completions and
 * embeddings.
 */
export function readUsage(raw: Json | undefined, { searches = 0, cacheWrites: asked }: UsageTold = {}): UsageReading {
  if (raw === undefined || raw === null) return ABSENT
  if (!isObject(raw)) return INVALID
  const inputDetails = details(raw, 'prompt_tokens_details')
  const outputDetails = details(raw, 'completion_tokens_details')
  const numbers = new Numbers()
  const total = numbers.read(raw['total_tokens'])
  const completion = numbers.read(raw['completion_tokens'])
  const counts = { input: numbers.read(raw['prompt_tokens']), output: completion, total }
  const cache = readCache(raw, { inDetails: inputDetails, ...counts, asked }, numbers)
  const { input } = cache
  const audio = numbers.read(inputDetails['audio_tokens'])
  const image = numbers.read(inputDetails['image_tokens']) ?? 0
  const outputAudio = numbers.read(outputDetails['audio_tokens']) ?? 0
  const webSearchCalls = numbers.read(searchCount(raw)) ?? searches
  const seconds = isObject(raw['prompt_audio_seconds']) ? null : numbers.readBegun(raw['prompt_audio_seconds'])
  if (numbers.broken) return INVALID
  if (input === null || (completion === null && total === null)) return ABSENT

  const uncounted = Math.max(0, (total ?? 0) - input - (completion ?? 0))
  const heard = seconds === null ? 0 : uncounted
  const split = new Share(input)
  const cacheReadInput = split.take(cache.cached)
  const cacheWrites = split.take(cache.written)
  const cacheWriteLongInput = Math.min(cache.writtenLong, cacheWrites)
  const audioInput = split.take(audio ?? 0)
  const imageInput = split.take(image)
  const outputSplit = new Share((completion ?? 0) + uncounted - heard)
  const audioOutput = outputSplit.take(outputAudio)
  const usage = usageOf({
    uncachedInput: split.left,
    cacheReadInput,
    cacheWriteInput: cacheWrites - cacheWriteLongInput,
    cacheWriteLongInput,
    audioInput: audioInput + heard,
    imageInput,
    output: outputSplit.left,
    audioOutput,
    webSearchCalls,
    seconds: seconds ?? 0,
  })
  const sound = audioTold(seconds === null ? audio : (audio ?? 0) + heard, { ...cache, input: input + heard })
  return { usage, ...sound, ...toldCost(raw), clamped: split.short || outputSplit.short || cache.clamped, invalid: false }
}

/** Web searches, where a provider counts them in `usage`. */
function searchCount(raw: JsonObject): Json | undefined {
  return details(raw, 'server_tool_use')['web_search_requests'] ?? raw['web_search_requests'] ?? raw['num_search_queries']
}
