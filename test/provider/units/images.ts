/** Images made from words and from other images. https://developers.openai.com/api/docs/guides/image-generation#calculating-costs */
import { badRequest } from '../api-error.ts'
import type { JsonObject } from '../fields.ts'
import { integerAt, oneOf, onlyKeys, stringAt } from '../fields.ts'
import { imageSize, imageTokens, LINKED_SIZE } from '../images.ts'
import { countTokens } from '../tokens.ts'
import type { UnitModel } from './models.ts'
import { billed, unitModel } from './models.ts'
import type { UnitCall } from './call.ts'
import { typedEvent } from './call.ts'

// oxfmt-ignore
const PARAMETERS = new Set([
  'model', 'prompt', 'n', 'size', 'quality', 'response_format', 'style', 'user', 'background', 'moderation', 'output_compression', 'output_format',
  'stream', 'partial_images', 'input_fidelity', 'image', 'image[]', 'mask',
])
/** Output tokens by quality and size. */
const TOKENS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  low: { '1024x1024': 272, '1024x1536': 408, '1536x1024': 400 },
  medium: { '1024x1024': 1_056, '1024x1536': 1_584, '1536x1024': 1_568 },
  high: { '1024x1024': 4_160, '1024x1536': 6_240, '1536x1024': 6_208 },
}
const PARTIAL_TOKENS = 100
/** USD for one, by quality and size. */
const DALL_E: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'dall-e-3 standard': { '1024x1024': '0.04', '1024x1792': '0.08', '1792x1024': '0.08' },
  'dall-e-3 hd': { '1024x1024': '0.08', '1024x1792': '0.12', '1792x1024': '0.12' },
  'dall-e-2 standard': { '256x256': '0.016', '512x512': '0.018', '1024x1024': '0.02' },
}
/** High fidelity reads an image of the input once more, closely. */
const FIDELITY_TOKENS = 6_144
const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='

export function generateImages(call: UnitCall): void {
  const { fields } = call
  onlyKeys(fields, PARAMETERS, '')
  const model = unitModel(fields['model'] ?? 'dall-e-2', 'images')
  make(call, model, { text: countTokens(stringAt(fields['prompt'], 'prompt')), image: 0 })
}

export async function editImages(call: UnitCall): Promise<void> {
  const { fields, files } = call
  onlyKeys(fields, PARAMETERS, '')
  const model = unitModel(fields['model'] ?? 'dall-e-2', 'images')
  if (files.length === 0) throw badRequest('image', 'missing_required_parameter', "Missing required parameter: 'image'.")
  let image = 0
  for (const file of files) {
    const size = imageSize(Buffer.from(await file.arrayBuffer())) ?? LINKED_SIZE
    image += imageTokens(billed(model).images, size, 'high') + (fields['input_fidelity'] === 'high' ? FIDELITY_TOKENS : 0)
  }
  make(call, model, { text: countTokens(stringAt(fields['prompt'], 'prompt')), image })
}

export function varyImage(call: UnitCall): void {
  if (call.files.length !== 1) throw badRequest('image', 'missing_required_parameter', "Missing required parameter: 'image'.")
  make(call, unitModel(call.fields['model'] ?? 'dall-e-2', 'images'), { text: 0, image: 0 })
}

function make(call: UnitCall, model: UnitModel, input: { readonly text: number; readonly image: number }): void {
  const { fields, controls, response } = call
  const count = numberIn(fields, 'n', 1, model.id === 'dall-e-3' ? 1 : 10) ?? 1
  if (model.id.startsWith('dall-e')) {
    const quality = oneOf(fields['quality'] ?? 'standard', 'quality', model.id === 'dall-e-3' ? ['standard', 'hd'] : ['standard'])
    const prices = DALL_E[`${model.id} ${quality}`] ?? {}
    const each = prices[oneOf(fields['size'] ?? '1024x1024', 'size', Object.keys(prices))] ?? '0'
    const line = call.open(model, {})
    line.use({ images: { count, each } })
    call.sendJson({ created: 1_760_000_000, data: Array.from({ length: count }, () => ({ url: 'https://images.example.com/1.png' })) })
    return line.close('complete')
  }
  const quality = oneOf(fields['quality'] ?? 'auto', 'quality', ['low', 'medium', 'high', 'auto'])
  const size = oneOf(fields['size'] ?? 'auto', 'size', ['1024x1024', '1024x1536', '1536x1024', 'auto'])
  const served = { quality: quality === 'auto' ? 'high' : quality, size: size === 'auto' ? '1024x1536' : size }
  const partials = numberIn(fields, 'partial_images', 0, 3) ?? 0
  const isStream = fields['stream'] === true || fields['stream'] === 'true'
  const output = count * ((TOKENS[served.quality]?.[served.size] ?? 0) + (isStream ? partials * PARTIAL_TOKENS : 0))
  const line = call.open(model, { stream: isStream, promptTokens: input.text + input.image })
  line.use({ input: input.text, imageInput: input.image, output })
  const usage = {
    input_tokens: input.text + input.image,
    output_tokens: output,
    total_tokens: input.text + input.image + output,
    input_tokens_details: { text_tokens: input.text, image_tokens: input.image },
  }
  const counted = controls.usage === 'omit' ? {} : { usage }
  if (!isStream) {
    call.sendJson({
      created: 1_760_000_000,
      background: 'opaque',
      output_format: 'png',
      ...served,
      data: Array.from({ length: count }, () => ({ b64_json: PIXEL })),
      ...counted,
    })
    return line.close('complete')
  }
  call.startEvents()
  for (let index = 0; index < partials; index += 1)
    response.write(typedEvent({ type: 'image_generation.partial_image', b64_json: PIXEL, partial_image_index: index, ...served }))
  response.end(typedEvent({ type: 'image_generation.completed', b64_json: PIXEL, created_at: 1_760_000_000, ...served, ...counted }))
  line.close('complete')
}

/** A number, which a form has as text. */
function numberIn(fields: JsonObject, name: string, min: number, max: number): number | null {
  const value = fields[name]
  if (value === undefined) return null
  return integerAt(typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value, name, min, max)
}
