/** What OpenAI's image endpoints used -> `Usage`. https://developers.openai.com/api/docs/api-reference/images */
import { usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import type { OtherUsage } from '../core/cost.ts'
import { isList, isObject } from '../core/message.ts'
import type { JsonObject } from '../core/request.ts'
import { details, INVALID, Numbers, Share } from './usage-reading.ts'
import type { UsageReading } from './usage-reading.ts'

/**
 * Of the whole answer, or of the event that ends a stream. Models that are priced by tokens say them; of those that are priced by the
 * image the images count. A model that writes SVG comes along with tokens of its own.
 */
export function readImagesUsage(answer: JsonObject): UsageReading {
  const raw = answer['usage']
  const numbers = new Numbers()
  if (raw === undefined || raw === null) {
    const { data } = answer
    // The event of a stream is an image itself.
    const images = isList(data) ? data.length : Number('b64_json' in answer)
    return { usage: usageOf({ images }), clamped: false, invalid: false }
  }
  if (!isObject(raw)) return INVALID
  const made = readImageTokens(raw, numbers)
  const drawn = readSvg(answer, numbers)
  if (numbers.broken) return INVALID
  return { usage: made?.usage ?? null, ...(drawn === null ? {} : { others: [drawn] }), clamped: made?.clamped ?? false, invalid: false }
}

/** Tokens in and out; those out are of images where nothing else is said. Null when it is no usage. */
export function readImageTokens(raw: JsonObject, numbers: Numbers): { readonly usage: Usage; readonly clamped: boolean } | null {
  const inputDetails = details(raw, 'input_tokens_details')
  const outputDetails = details(raw, 'output_tokens_details')
  const input = numbers.read(raw['input_tokens'])
  const output = numbers.read(raw['output_tokens'])
  const image = numbers.read(inputDetails['image_tokens']) ?? 0
  const cached = numbers.read(details(raw, 'cached_tokens_details')['cached_text_tokens']) ?? 0
  const written = numbers.read(outputDetails['text_tokens'])
  if (input === null || output === null) return null
  const split = new Share(input)
  // Images that were cached are counted as images: their discount has no kind of its own.
  const imageInput = split.take(image)
  const cacheReadInput = split.take(cached)
  const outputSplit = new Share(output)
  const text = outputSplit.take(written ?? 0)
  return {
    usage: usageOf({ uncachedInput: split.left, cacheReadInput, imageInput, output: text, imageOutput: outputSplit.left }),
    clamped: split.short || outputSplit.short,
  }
}

function readSvg(answer: JsonObject, numbers: Numbers): OtherUsage | null {
  const raw = details(answer, 'svg_usage')
  const { model } = raw
  const input = numbers.read(raw['input_tokens'])
  const output = numbers.read(raw['output_tokens'])
  if (input === null || output === null) return null
  return { model: typeof model === 'string' && model !== '' ? model : null, usage: usageOf({ uncachedInput: input, output }) }
}
