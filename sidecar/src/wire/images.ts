/**
 * Images: made from words, and from other images (as forms, or JSON with links). Held for by tokens and by the piece, since models are
 * priced by one or the other. https://developers.openai.com/api/docs/guides/image-generation#calculating-costs
 */
import { usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import { IMAGE_TOKENS_CEILING } from '../core/media-tokens.ts'
import { isList, isObject } from '../core/message.ts'
import type { Json, JsonObject, ModelRequest } from '../core/request.ts'
import { readImagesUsage, saysTokens } from './images-usage.ts'
import { servedModel } from './azure.ts'
import { objectAt } from './json-values.ts'
import { UngovernedUse } from './request-reading.ts'
import { answerWith, lengthOf, modelOf, parseUnitCall, UNIT_WIRE, UnitStream } from './unit-call.ts'
import type { UnitFields } from './unit-call.ts'
import { ABSENT } from './usage-reading.ts'
import type { UsageReading } from './usage-reading.ts'
import type { ReadAnswer, Wire } from './wire.ts'

export const imagesWire: Wire = {
  ...UNIT_WIRE,
  name: 'images',
  parse: (body, call) =>
    parseUnitCall(body, call, NONE_SPLIT, (fields) => {
      // Only variations are of one model. Elsewhere the provider chooses, by what else is asked for, and at another price.
      const model = modelOf(fields, call, VARIATIONS.test(call.path) ? 'dall-e-2' : null)
      if (fields.text('output_format') === 'svg' || fields.value('svg') !== undefined)
        throw new UngovernedUse('An image in SVG, which another model writes,')
      return {
        wire: 'images',
        model,
        stream: fields.flag('stream'),
        units: imageUnits(fields, servedModel(model, call)),
        textBytes: textBytesOf(fields),
      }
    }),
  readAnswer: readImages,
  openStream: ({ request }) => new UnitStream(readEvent, request.units.images),
}

/** Each image ends with an event of its own, with the tokens that it took; the views before it say none. */
function readEvent(event: JsonObject): UsageReading | null {
  if (saysTokens(event)) return readImagesUsage(event)
  const { type } = event
  return typeof type === 'string' && type.endsWith('.completed') ? ABSENT : null
}

/** Fields that name images, or hold them, in a body that is JSON. */
const LINKS = ['image', 'images', 'mask']
const DATA_URL = /^data:/i
const VARIATIONS = /\/images\/variations(\?|$)/
const NONE_SPLIT: ReadonlySet<string> = new Set()
const IMAGES_MAX = 128
const PARTIALS_MAX = 16
/** Output tokens of a square of 1024 pixels, by quality; other sizes cost by their area. What is not said may be the dearest. */
const TOKENS = { low: 272, medium: 1_056, high: 4_160, xhigh: 8_320, max: 16_640 } as const
/** Models that have no better quality than `high`, which is theirs where nothing is said. */
const UP_TO_HIGH = /^(dall-e|gpt-image-(1|2(?!\.)))/
const SQUARE_PIXELS = 1_024 * 1_024
/** Sizes that the model chooses itself: half as much again for the first models, whose sizes are known; for later ones 2048 by 2048. */
const KNOWN_SIZES = /^gpt-image-1/
const KNOWN_PIXELS_MAX = 1_536 * 1_024
const PIXELS_MAX = 2_048 * 2_048
/** Each early view of an image that is still being made. */
const PARTIAL_TOKENS = 100
/** A GIF has as many images as frames. */
const FRAMES_MAX = 16
const FRAMES_DEFAULT = 9

function imageUnits(fields: UnitFields, model: string): Partial<Usage> {
  const images = fields.count('n', IMAGES_MAX) ?? 1
  const partials = NONE.has(fields.value('partial_images')) ? 0 : (fields.count('partial_images', PARTIALS_MAX) ?? 0)
  const frames = fields.text('output_format') === 'gif' ? (fields.count('frame_count', FRAMES_MAX) ?? FRAMES_DEFAULT) : 1
  const perSquare = tokensPerSquare(fields.text('quality'), model)
  const size = /^(\d{1,5})x(\d{1,5})$/.exec(fields.text('size') ?? '')
  const pixels = size === null ? (KNOWN_SIZES.test(model) ? KNOWN_PIXELS_MAX : PIXELS_MAX) : Number(size[1]) * Number(size[2])
  const read = fields.files.length + LINKS.reduce((sum, name) => sum + linked(fields, name), 0)
  return {
    images,
    imageOutput: images * (frames * Math.ceil((perSquare * pixels) / SQUARE_PIXELS) + partials * PARTIAL_TOKENS),
    ...(read === 0 ? {} : { imageInput: read * IMAGE_TOKENS_CEILING }),
  }
}

/** Images that a body names; in a form they are files, and counted as such. */
function linked(fields: UnitFields, name: string): number {
  return fields.isForm ? 0 : lengthOf(fields.value(name))
}

/** As JSON, and as a form has it. */
const NONE: ReadonlySet<Json | undefined> = new Set([0, '0'])

function tokensPerSquare(quality: string | null, model: string): number {
  switch (quality) {
    case 'low':
    case 'medium':
    case 'high':
    case 'xhigh':
    case 'max':
      return TOKENS[quality]
    default:
      return UP_TO_HIGH.test(model) ? TOKENS.high : TOKENS.max
  }
}

/** Images fill no window with their bytes, be they files or written out in JSON. */
function textBytesOf(fields: UnitFields): number {
  const { body, files } = fields
  const written = LINKS.reduce((sum, name) => sum + dataBytes(fields, name), 0)
  return body.length - written - files.reduce((sum, { bytes }) => sum + bytes.length, 0)
}

/** Bytes of the images that stand in the body itself: one of each element at most, which is counted as an image. */
function dataBytes(fields: UnitFields, name: string): number {
  if (fields.isForm) return 0
  const value = fields.value(name)
  let bytes = 0
  for (const each of isList(value) ? value : [value]) {
    const link = isObject(each) ? each['image_url'] : each
    if (typeof link === 'string' && DATA_URL.test(link)) bytes += link.length
  }
  return bytes
}

/** An answer without a usage says how many images there are, and that is all: models by tokens are then settled as they were held for. */
function readImages(body: Buffer, request: ModelRequest): ReadAnswer {
  const answer = objectAt(body)
  if (answer === null) return answerWith(null, ABSENT)
  const { data } = answer
  if (saysTokens(answer)) return answerWith(answer, readImagesUsage(answer))
  const images = isList(data) ? data.length : (request.units.images ?? 1)
  const held = usageOf({ ...request.units, images, uncachedInput: request.fixedBytes })
  return answerWith(answer, { usage: isList(data) ? held : null, clamped: false, invalid: false }, { isEstimate: true })
}
