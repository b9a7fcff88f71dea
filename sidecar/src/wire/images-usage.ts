/** What OpenAI's image endpoints used -> `Usage`. https://developers.openai.com/api/docs/api-reference/images */
import { usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import type { OtherUsage } from '../core/cost.ts'
import { isList, isObject } from '../core/message.ts'
import type { JsonObject } from '../core/request.ts'
import { details, INVALID, Numbers, servedModel, Share } from './usage-reading.ts'
import type { UsageReading } from './usage-reading.ts'

/**
 * Of the whole answer, or of the event that ends a stream: the images, for models that are priced by them, and tokens, where they are said.
 * A model that writes SVG comes along with tokens of its own.
 */
export function readImagesUsage(answer: JsonObject): UsageReading {
  const raw = answer['usage']
  const numbers = new Numbers()
  const images = imagesIn(answer)
  if (raw === undefined || raw === null) return { usage: usageOf({ images }), clamped: false, invalid: false }
  if (!isObject(raw)) return INVALID
  const made = readImageTokens(raw, numbers)
  const drawn = readSvg(answer, numbers)
  if (numbers.broken) return INVALID
  return {
    usage: made === null ? null : { ...made.usage, images },
    ...(drawn === null ? {} : { others: [drawn] }),
    clamped: made?.clamped ?? false,
    invalid: false,
  }
}

/** Whether an answer says its tokens: servers that count none leave them out, or say that an image took none at all. */
export function saysTokens(answer: JsonObject): boolean {
  const { usage } = answer
  if (usage === undefined || usage === null) return false
  return !isObject(usage) || usage['input_tokens'] !== 0 || usage['output_tokens'] !== 0 || imagesIn(answer) === 0
}

function imagesIn(answer: JsonObject): number {
  const { data } = answer
  // The event of a stream is an image itself.
  return isList(data) ? data.length : Number('b64_json' in answer)
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
  const input = numbers.read(raw['input_tokens'])
  const output = numbers.read(raw['output_tokens'])
  if (input === null || output === null) return null
  return { model: servedModel(raw['model']), usage: usageOf({ uncachedInput: input, output }) }
}
