/** What a response of OpenAI's Responses API used -> `Usage`. https://developers.openai.com/api/docs/api-reference/responses */
import { usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import { isObject } from '../core/message.ts'
import type { Json, JsonObject, ModelRequest } from '../core/request.ts'
import { readImageTokens } from './images-usage.ts'
import { objectsIn } from './json-values.ts'
import { ABSENT, audioTold, details, INVALID, Numbers, readCache, servedModel, Share, toldCost } from './usage-reading.ts'
import type { UsageReading } from './usage-reading.ts'

/**
 * Of the whole response. `input_tokens` includes what was cached and written, `output_tokens` reasoning. Tools that OpenAI runs are
 * apart: searches in `tool_usage`, as the billable ones only (of a response without it every `web_search_call` of the output counts);
 * searches in files and containers by their items of the output; images with the model that the tool names. xAI counts the calls that it
 * bills in the usage: https://docs.x.ai/developers/tools/tool-usage-details
 * `asked`: how long what was written to the cache is kept, where the provider does not say.
 */
export function readResponsesUsage(response: JsonObject, asked?: ModelRequest['cacheWrites']): UsageReading {
  const raw = response['usage']
  if (raw === undefined || raw === null) return ABSENT
  if (!isObject(raw)) return INVALID
  const inputDetails = details(raw, 'input_tokens_details')
  const toolUsage = details(response, 'tool_usage')
  const items = objectsIn(response['output'])
  const numbers = new Numbers()
  const output = numbers.read(raw['output_tokens'])
  const counts = { input: numbers.read(raw['input_tokens']), output, total: numbers.read(raw['total_tokens']) }
  const cache = readCache(raw, { inDetails: inputDetails, ...counts, asked }, numbers)
  const { input } = cache
  const image = numbers.read(inputDetails['image_tokens']) ?? 0
  const audio = numbers.read(inputDetails['audio_tokens'])
  const searches = numbers.read(details(toolUsage, 'web_search')['num_requests']) ?? searchItems(items)
  const counted = isObject(raw[CALL_COUNTS]) ? readCalls(raw[CALL_COUNTS], numbers) : null
  const images = isObject(toolUsage['image_gen']) ? readImageTokens(toolUsage['image_gen'], numbers) : null
  const made = images !== null && Object.values(images.usage).some((count) => count > 0) ? images : null
  if (numbers.broken) return INVALID
  if (input === null || output === null) return ABSENT

  const split = new Share(input)
  const cacheReadInput = split.take(cache.cached)
  const cacheWrites = split.take(cache.written)
  const cacheWriteLongInput = Math.min(cache.writtenLong, cacheWrites)
  const audioInput = split.take(audio ?? 0)
  const imageInput = split.take(image)
  const usage = usageOf({
    uncachedInput: split.left,
    cacheReadInput,
    cacheWriteInput: cacheWrites - cacheWriteLongInput,
    cacheWriteLongInput,
    audioInput,
    imageInput,
    output,
    webSearchCalls: searches,
    fileSearchCalls: items.filter(({ type }) => type === 'file_search_call').length,
    codeContainers: containers(items).size,
    ...counted,
  })
  return {
    usage,
    ...(made === null ? {} : { others: [{ model: imageModel(response), usage: made.usage }] }),
    ...audioTold(audio, cache),
    ...toldCost(raw),
    clamped: split.short || cache.clamped || made?.clamped === true,
    invalid: false,
  }
}

const CALL_COUNTS = 'server_side_tool_usage_details'

/** Each run of code is billed, in whatever container. */
function readCalls(counts: JsonObject, numbers: Numbers): Pick<Usage, 'webSearchCalls' | 'fileSearchCalls' | 'codeContainers'> {
  const calls = (kind: string): number => numbers.read(counts[`${kind}_calls`]) ?? 0
  return {
    webSearchCalls: calls('web_search') + calls('x_search'),
    fileSearchCalls: calls('file_search') + calls('document_search'),
    codeContainers: calls('code_interpreter'),
  }
}

/** Whether the input of a usage sums up several readings of the context, between which the provider ran tools; xAI says so. */
export function ranTools(response: JsonObject): boolean {
  const count = details(response, 'usage')['num_server_side_tools_used']
  return typeof count === 'number' && count > 0
}

/** After how many calls and compactions at most it read the context again: each item is one that is not known to be none. */
export function hostedCallsIn(response: JsonObject): number {
  const told = details(response, 'usage')['num_server_side_tools_used']
  const listed = objectsIn(response['output']).filter(({ type }) => !NO_HOSTED_CALLS.has(type)).length
  return Math.max(typeof told === 'number' ? told : 0, listed)
}

const NO_HOSTED_CALLS: ReadonlySet<Json | undefined> = new Set(['message', 'reasoning', 'function_call'])

/** Only the action `search` is billed; opening and finding in a page is not. */
function searchItems(items: readonly JsonObject[]): number {
  return items.filter((item) => {
    if (item['type'] !== 'web_search_call') return false
    const { action } = item
    return action === undefined || !isObject(action) || action['type'] === undefined || action['type'] === 'search'
  }).length
}

/** Code runs in a container, which is billed once however often it is called. */
function containers(items: readonly JsonObject[]): ReadonlySet<Json | undefined> {
  return new Set(items.filter(({ type }) => type === 'code_interpreter_call').map((item) => item['container_id']))
}

/** OpenAI's own choice where the tool names none. */
const IMAGE_MODEL = 'gpt-image-1'

/** The response repeats the tools that it was asked with. */
function imageModel(response: JsonObject): string {
  const tool = objectsIn(response['tools']).find(({ type }) => type === 'image_generation')
  return servedModel(tool?.['model']) ?? IMAGE_MODEL
}
