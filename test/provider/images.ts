/** What images and files count as input tokens. https://platform.openai.com/docs/guides/images-vision#calculating-costs */
import type { ImageRule } from './models.ts'

export interface ImageSize {
  readonly width: number
  readonly height: number
}

export type ImageDetail = 'low' | 'high' | 'auto'

/** What a linked image is taken to be: the fake does not fetch it. */
export const LINKED_SIZE: ImageSize = { width: 1_024, height: 1_024 }
const PATCHES_MAX = 1_536
const PATCH_PIXELS = 32
const TILE_PIXELS = 512

/** Input tokens of one image. `auto` is `high`. */
export function imageTokens(rule: ImageRule, size: ImageSize, detail: ImageDetail): number {
  if (rule.kind === 'patches') return Math.ceil((patches(size) * rule.percent) / 100)
  if (detail === 'low') return rule.base
  const fitted = scaledDown(size, 2_048 / Math.max(size.width, size.height))
  const final = scaledDown(fitted, 768 / Math.min(fitted.width, fitted.height))
  return rule.base + rule.tile * Math.ceil(final.width / TILE_PIXELS) * Math.ceil(final.height / TILE_PIXELS)
}

/** Width and height from the header of a PNG, JPEG, GIF or WebP; null when it is none of them. */
export function imageSize(bytes: Buffer): ImageSize | null {
  if (bytes.length >= 24 && bytes.readUInt32BE(0) === 0x89504e47) return { width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) }
  if (bytes.length >= 10 && bytes.toString('latin1', 0, 4) === 'GIF8')
    return { width: bytes.readUInt16LE(6), height: bytes.readUInt16LE(8) }
  if (bytes.length >= 30 && bytes.toString('latin1', 0, 4) === 'RIFF' && bytes.toString('latin1', 8, 12) === 'WEBP') return webpSize(bytes)
  if (bytes.length >= 4 && bytes.readUInt16BE(0) === 0xffd8) return jpegSize(bytes)
  return null
}

/** Pages of a PDF, by its page objects; at least 1. */
export function pdfPages(bytes: Buffer): number {
  return Math.max(1, bytes.toString('latin1').match(/\/Type\s*\/Page(?![a-zA-Z])/g)?.length ?? 0)
}

/** Pages, or minutes, of what a link names, if the name says so (`https://files.example.com/40-pages.pdf`): nothing is fetched. Else null. */
export function linkedPages(url: string): number | null {
  const pages = /\/(\d{1,5})-(?:pages|minutes)\b/.exec(url)?.[1]
  return pages === undefined ? null : Number(pages)
}

/** Shrinks by `factor`; a factor above 1 changes nothing. */
function scaledDown(size: ImageSize, factor: number): ImageSize {
  if (factor >= 1) return size
  return { width: Math.max(1, Math.floor(size.width * factor)), height: Math.max(1, Math.floor(size.height * factor)) }
}

function patches(size: ImageSize): number {
  const wide = Math.ceil(size.width / PATCH_PIXELS)
  const high = Math.ceil(size.height / PATCH_PIXELS)
  if (wide * high <= PATCHES_MAX) return wide * high
  // Shrunk until it fits, then to whole patches across.
  const shrink = Math.sqrt((PATCH_PIXELS * PATCH_PIXELS * PATCHES_MAX) / (size.width * size.height))
  const across = (size.width * shrink) / PATCH_PIXELS
  const down = (size.height * shrink) / PATCH_PIXELS
  const whole = shrink * Math.min(Math.floor(across) / across, Math.floor(down) / down)
  const fitted = Math.ceil((size.width * whole) / PATCH_PIXELS) * Math.ceil((size.height * whole) / PATCH_PIXELS)
  return Math.min(PATCHES_MAX, Math.max(1, fitted))
}

function webpSize(bytes: Buffer): ImageSize | null {
  const kind = bytes.toString('latin1', 12, 16)
  if (kind === 'VP8X') return { width: bytes.readUIntLE(24, 3) + 1, height: bytes.readUIntLE(27, 3) + 1 }
  if (kind === 'VP8 ') return { width: bytes.readUInt16LE(26) & 0x3fff, height: bytes.readUInt16LE(28) & 0x3fff }
  if (kind !== 'VP8L') return null
  const bits = bytes.readUInt32LE(21)
  return { width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 }
}

function jpegSize(bytes: Buffer): ImageSize | null {
  for (let at = 2; at + 9 <= bytes.length;) {
    if (bytes[at] !== 0xff) return null
    const marker = bytes[at + 1] ?? 0
    const isFrame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc
    if (isFrame) return { height: bytes.readUInt16BE(at + 5), width: bytes.readUInt16BE(at + 7) }
    at += 2 + bytes.readUInt16BE(at + 2)
  }
  return null
}
