/** Media in a message: embedded as base64, whose bytes are no text, or only named. */
import type { ImagePart, Json } from '../core/request.ts'
import { imageSize } from './image-size.ts'

export interface Media {
  readonly parts: readonly ImagePart[]
  /** Characters of base64, which stand in the message one byte each, or more. */
  readonly bytes: number
}

export interface MediaPart {
  readonly part: ImagePart
  readonly bytes: number
}

/** `base64`: null for what is only named, by a link or an id. */
export function mediaPart(kind: ImagePart['kind'], base64: string | null, detail: ImagePart['detail'] = 'auto'): MediaPart {
  if (base64 === null) return { part: { kind, size: null, detail }, bytes: 0 }
  const size = kind === 'image' ? imageSize(base64) : null
  return { part: { kind, size, detail, embeddedBytes: Math.floor((base64.length * 3) / 4) }, bytes: base64.length }
}

export function mediaWith(parts: readonly MediaPart[]): Media {
  if (parts.length === 0) return NO_MEDIA
  return { parts: parts.map(({ part }) => part), bytes: parts.reduce((sum, { bytes }) => sum + bytes, 0) }
}

const NO_MEDIA: Media = { parts: [], bytes: 0 }

/** The base64 of a data URL; null for any other URL. */
export function base64Of(url: string): string | null {
  if (!url.startsWith('data:')) return null
  const comma = url.indexOf(',')
  return comma < 0 || !url.slice(0, comma).endsWith(';base64') ? null : url.slice(comma + 1)
}

/** The base64 that a text is, with a header or without; null for a link, and for what is no text. */
export function embeddedIn(value: Json | undefined): string | null {
  return typeof value !== 'string' || LINK.test(value) ? null : (base64Of(value) ?? value)
}

/** A file as a field has it: a link, a data URL, or base64 alone. */
export function fileIn(value: Json | undefined): MediaPart {
  return ofType(mediaPart('file', embeddedIn(value)), typeof value === 'string' ? typeOf(value) : null)
}

/** The part, as one that holds no sound where its type says so. */
export function ofType({ part, bytes }: MediaPart, mimeType: string | null): MediaPart {
  const isFile = part.kind === 'file' || part.embeddedBytes === undefined
  return { part: isFile && mimeType !== null && SILENT_TYPE.test(mimeType) ? { ...part, isSilent: true } : part, bytes }
}
const SILENT_TYPE = /^(?:application\/pdf|image\/|text\/)/i

/** The type that a data URL gives, or that a link's path ends as; null where neither tells it. */
function typeOf(url: string): string | null {
  return /^data:([^;,]+)/i.exec(url)?.[1] ?? TYPES.get(endingOf(url)) ?? null
}
const TYPES: ReadonlyMap<string, string> = new Map([
  ['pdf', 'application/pdf'],
  ['txt', 'text/plain'],
])

/**
 * An `image_url`. LiteLLM hands on more than pictures by it: what is embedded is what its header says, and a link what its path ends with, unless
 * `format` names another type; what a path does not tell is what the link leads to. Elsewhere it is a picture whatever its path ends with, so
 * that is left to who knows the model. https://docs.litellm.ai/docs/completion/vision
 */
export function imageUrl(url: Json | undefined, format: Json | undefined, detail: ImagePart['detail']): MediaPart {
  const link = typeof url === 'string' ? url : ''
  const named = typeof format === 'string' ? format : null
  const isNamedOther = named !== null && !named.startsWith('image/')
  const base64 = base64Of(link)
  if (base64 !== null) {
    const media = mediaPart('image', base64, detail)
    return (isNamedOther || OTHER_DATA.test(link)) && media.part.size === null
      ? ofType(mediaPart('file', base64), named ?? typeOf(link))
      : media
  }
  if (isNamedOther) return ofType(mediaPart('file', null), named)
  const ending = endingOf(link)
  const { part, bytes } = mediaPart('image', null, detail)
  if (OTHER_ENDINGS.has(ending)) return ofType({ part: { ...part, linkedAs: 'other' }, bytes }, typeOf(link))
  return HANDED_ON.test(link) && PICTURE_ENDINGS.has(ending) ? { part: { ...part, linkedAs: 'picture' }, bytes } : { part, bytes }
}

const OTHER_DATA = /^data:(?:application\/(?!octet-stream)|audio\/|text\/|video\/)/i
/** Other links are followed by the router, which goes by what it finds. */
const HANDED_ON = /^(?:https|gs):/i
const PICTURE_ENDINGS: ReadonlySet<string> = new Set(['png', 'jpg', 'jpeg', 'webp'])
/** Of documents, films and sound. */
const OTHER_ENDINGS: ReadonlySet<string> = new Set('pdf txt mp4 mov mpeg mpg mpegps avi wmv flv webm mp3 wav ogg'.split(' '))

/** What the path of a link ends with, in small letters; empty where that is nothing that is known. */
function endingOf(link: string): string {
  const end = link.search(/[?#]/)
  const path = end < 0 ? link : link.slice(0, end)
  return /\.([a-z\d]+)$/i.exec(path.slice(-ENDING_UNITS_MAX))?.[1]?.toLowerCase() ?? ''
}
const ENDING_UNITS_MAX = 10

/** Sound as a field has it. What a link leads to may be as long as any file. */
export function soundIn(value: Json | undefined): MediaPart {
  return typeof value === 'string' && LINK.test(value) ? mediaPart('file', null) : mediaPart('audio', embeddedIn(value))
}

/** Whichever scheme it has (`https:`, `gs:`): no base64 has a colon. */
const LINK = /^(?!data:)[a-z][a-z\d+.-]{0,15}:/i

/** As OpenAI's formats name it, and LiteLLM, which hands `ultra_high` to Gemini. */
export function detailOf(detail: Json | undefined): ImagePart['detail'] {
  if (detail === 'ultra_high') return 'ultraHigh'
  return detail === 'low' || detail === 'high' ? detail : 'auto'
}
