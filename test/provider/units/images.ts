/** Images made from words and from other images. https://developers.openai.com/api/docs/guides/image-generation#calculating-costs */
import { badRequest } from '../api-error.ts'
import type { JsonObject } from '../fields.ts'
import { integerAt, isObject, oneOf, onlyKeys, stringAt } from '../fields.ts'
import { imageSize, imageTokens, LINKED_SIZE } from '../images.ts'
import { countTokens } from '../tokens.ts'
import type { UnitModel } from './models.ts'
import { billed, unitModel } from './models.ts'
import type { UnitCall } from './call.ts'
import { typedEvent } from './call.ts'

// oxfmt-ignore
const PARAMETERS = new Set([
  'model', 'prompt', 'n', 'size', 'quality', 'response_format', 'style', 'user', 'background', 'moderation', 'output_compression', 'output_format',
  'stream', 'partial_images', 'input_fidelity', 'image', 'image[]', 'images', 'mask',
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
/** What servers say that count none. */
const NO_TOKENS = { input_tokens: 0, output_tokens: 0, total_tokens: 0 }
/** High fidelity reads an image of the input once more, closely. */
const FIDELITY_TOKENS = 6_144
const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='

export async function generateImages(call: UnitCall): Promise<void> {
  const { fields } = call
  onlyKeys(fields, PARAMETERS, '')
  const model = unitModel(fields['model'] ?? 'dall-e-2', 'images')
  await make(call, model, { text: countTokens(stringAt(fields['prompt'], 'prompt')), image: 0 })
}

export async function editImages(call: UnitCall): Promise<void> {
  const { fields } = call
  onlyKeys(fields, PARAMETERS, '')
  const model = unitModel(fields['model'] ?? 'dall-e-2', 'images')
  const pictures = [
    ...(await Promise.all(call.files.map((file) => file.arrayBuffer()))).map((bytes) => Buffer.from(bytes)),
    ...inJson(fields),
  ]
  if (pictures.length === 0) throw badRequest('image', 'missing_required_parameter', "Missing required parameter: 'image'.")
  let image = 0
  for (const bytes of pictures) {
    const size = imageSize(bytes) ?? LINKED_SIZE
    image += imageTokens(billed(model).images, size, 'high') + (fields['input_fidelity'] === 'high' ? FIDELITY_TOKENS : 0)
  }
  await make(call, model, { text: countTokens(stringAt(fields['prompt'], 'prompt')), image })
}

/** Pictures of a body that is JSON, which has each in a URL. */
function inJson({ images }: JsonObject): readonly Buffer[] {
  if (!Array.isArray(images)) return []
  return images.map((each: unknown, index) => {
    const url = isObject(each) ? stringAt(each['image_url'], `images[${index}].image_url`) : ''
    return Buffer.from(/^data:image\/\w+;base64,(.+)$/.exec(url)?.[1] ?? '', 'base64')
  })
}

export async function varyImage(call: UnitCall): Promise<void> {
  if (call.files.length !== 1) throw badRequest('image', 'missing_required_parameter', "Missing required parameter: 'image'.")
  await make(call, unitModel(call.fields['model'] ?? 'dall-e-2', 'images'), { text: 0, image: 0 })
}

async function make(call: UnitCall, model: UnitModel, input: { readonly text: number; readonly image: number }): Promise<void> {
  const { fields, controls, response } = call
  const count = numberIn(fields, 'n', 1, model.id === 'dall-e-3' ? 1 : 10) ?? 1
  if (model.id.startsWith('dall-e')) {
    const quality = oneOf(fields['quality'] ?? 'standard', 'quality', model.id === 'dall-e-3' ? ['standard', 'hd'] : ['standard'])
    const prices = DALL_E[`${model.id} ${quality}`] ?? {}
    const each = prices[oneOf(fields['size'] ?? '1024x1024', 'size', Object.keys(prices))] ?? '0'
    const line = call.open(model, {})
    line.use({ images: { count, each } })
    call.sendJson({
      created: 1_760_000_000,
      data: Array.from({ length: count }, () => ({ url: 'https://images.example.com/1.png' })),
      ...(controls.usage === 'zeros' ? { usage: NO_TOKENS } : {}),
    })
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
  const counted = (said: object): object => (controls.usage === 'omit' ? {} : { usage: controls.usage === 'zeros' ? NO_TOKENS : said })
  const picture = controls.pictureBytes === null ? PIXEL : 'A'.repeat(controls.pictureBytes)
  if (!isStream) {
    call.sendJson({
      created: 1_760_000_000,
      background: 'opaque',
      output_format: 'png',
      ...served,
      data: Array.from({ length: count }, () => ({ b64_json: picture })),
      ...counted(usage),
    })
    return line.close('complete')
  }
  call.startEvents()
  for (let index = 0; index < partials; index += 1)
    response.write(typedEvent({ type: 'image_generation.partial_image', b64_json: PIXEL, partial_image_index: index, ...served }))
  // Each says its own tokens; the first those of the words, too.
  for (let index = 0; index < count; index += 1) {
    if (index === controls.cutAfterTokens) {
      await new Promise((resolve) => setTimeout(resolve, 20))
      response.destroy()
      return line.close('cut')
    }
    const own = index === 0 ? usage : { ...NO_TOKENS, input_tokens_details: { text_tokens: 0, image_tokens: 0 } }
    const said = { ...own, output_tokens: output / count, total_tokens: own.input_tokens + output / count }
    response.write(
      typedEvent({ type: 'image_generation.completed', b64_json: picture, created_at: 1_760_000_000, ...served, ...counted(said) }),
    )
  }
  response.end()
  line.close('complete')
}

/** A number, which a form has as text. */
function numberIn(fields: JsonObject, name: string, min: number, max: number): number | null {
  const value = fields[name]
  if (value === undefined) return null
  return integerAt(typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value, name, min, max)
}
