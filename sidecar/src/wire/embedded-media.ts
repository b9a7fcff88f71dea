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

/** Sound as a field has it. What a link leads to may be as long as any file. */
export function soundIn(value: Json | undefined): MediaPart {
  return typeof value === 'string' && LINK.test(value) ? mediaPart('file', null) : mediaPart('audio', embeddedIn(value))
}

/** Whichever scheme it has (`https:`, `gs:`): no base64 has a colon. */
const LINK = /^(?!data:)[a-z][a-z\d+.-]{0,15}:/i

/** As OpenAI's formats name it. */
export function detailOf(detail: Json | undefined): ImagePart['detail'] {
  return detail === 'low' || detail === 'high' ? detail : 'auto'
}
