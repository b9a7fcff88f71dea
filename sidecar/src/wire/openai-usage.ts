/** OpenAI-shaped `usage` -> `Usage`: disjoint kinds, whole numbers, nothing counted twice. */
import type { Usage } from '@farebox/crds/usage.ts'
import { usageOf } from '@farebox/crds/usage.ts'
import { isObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'

/** No call has more tokens of a kind; a larger number is a mistake, and is not billed. */
export const TOKENS_MAX = 1_000_000_000

export interface UsageReading {
  /** Null when there is none, or when it makes no sense. */
  readonly usage: Usage | null
  /** Parts added up to more than the total, and were cut to it. */
  readonly clamped: boolean
  /** There was a usage, with a number that is negative, broken or absurd. */
  readonly invalid: boolean
}

const ABSENT: UsageReading = { usage: null, clamped: false, invalid: false }
const INVALID: UsageReading = { usage: null, clamped: false, invalid: true }

/**
 * `prompt_tokens` includes what was cached, written, audio and image; `completion_tokens` includes audio and, with most
 * providers, reasoning: where `total_tokens` is more than the two, the rest is reasoning that was left out. An explicit
 * zero is zero; an absent total is no usage at all.
 */
export function readUsage(raw: Json | undefined): UsageReading {
  if (raw === undefined || raw === null) return ABSENT
  if (!isObject(raw)) return INVALID
  const inputDetails = details(raw, 'prompt_tokens_details')
  const outputDetails = details(raw, 'completion_tokens_details')
  const writes = details(inputDetails, 'cache_write_tokens_details')
  const numbers = new Numbers()
  const total = numbers.read(raw['total_tokens'])
  const input = numbers.read(raw['prompt_tokens'])
  const completion = numbers.read(raw['completion_tokens'])
  // Two providers put the cached tokens beside the details.
  const cached =
    numbers.read(inputDetails['cached_tokens']) ?? numbers.read(raw['prompt_cache_hit_tokens']) ?? numbers.read(raw['cached_tokens']) ?? 0
  const written = numbers.read(inputDetails['cache_write_tokens']) ?? 0
  const writtenLong = numbers.read(writes['ttl_12h_tokens']) ?? 0
  const audio = numbers.read(inputDetails['audio_tokens']) ?? 0
  const image = numbers.read(inputDetails['image_tokens']) ?? 0
  const outputAudio = numbers.read(outputDetails['audio_tokens']) ?? 0
  const searches = numbers.read(searchCount(raw)) ?? 0
  if (numbers.broken) return INVALID
  if (input === null || (completion === null && total === null)) return ABSENT

  // Each part takes what the parts before it left, so that the sum is the total whatever overlaps.
  const split = new Share(input)
  const cacheReadInput = split.take(cached)
  const cacheWrites = split.take(written)
  const cacheWriteLongInput = Math.min(writtenLong, cacheWrites)
  const audioInput = split.take(audio)
  const imageInput = split.take(image)
  const output = Math.max(completion ?? 0, (total ?? 0) - input)
  const outputSplit = new Share(output)
  const audioOutput = outputSplit.take(outputAudio)
  const usage = usageOf({
    uncachedInput: split.left,
    cacheReadInput,
    cacheWriteInput: cacheWrites - cacheWriteLongInput,
    cacheWriteLongInput,
    audioInput,
    imageInput,
    output: outputSplit.left,
    audioOutput,
    webSearchCalls: searches,
  })
  return { usage, clamped: split.short || outputSplit.short || writtenLong > cacheWrites, invalid: false }
}

/** Web searches, where a provider counts them in `usage`. */
function searchCount(raw: JsonObject): Json | undefined {
  return details(raw, 'server_tool_use')['web_search_requests'] ?? raw['web_search_requests'] ?? raw['num_search_queries']
}

const EMPTY: JsonObject = {}
function details(raw: JsonObject, name: string): JsonObject {
  const value = raw[name]
  return isObject(value) ? value : EMPTY
}

class Numbers {
  broken = false
  /** Null when absent. */
  read(value: Json | undefined): number | null {
    if (value === undefined || value === null) return null
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= TOKENS_MAX) return value
    this.broken = true
    return null
  }
}

class Share {
  left: number
  short = false
  constructor(total: number) {
    this.left = total
  }
  take(wanted: number): number {
    const taken = Math.min(wanted, this.left)
    if (taken < wanted) this.short = true
    this.left -= taken
    return taken
  }
}
