/** Width and height from the first bytes of an image: PNG, JPEG, GIF, WebP. Nothing is decoded. */

/** Base64 characters looked at: a JPEG may put a thumbnail before its size. */
const HEADER_CHARACTERS_MAX = 128 * 1024

export interface ImageSize {
  readonly width: number
  readonly height: number
}

/** The size of an image in base64; null when it is none of the formats, broken, or says zero. */
export function imageSize(base64: string): ImageSize | null {
  const head = Buffer.from(base64.slice(0, 64), 'base64')
  const size =
    pngSize(head) ??
    gifSize(head) ??
    webpSize(head) ??
    (isJpeg(head) ? jpegSize(Buffer.from(base64.slice(0, HEADER_CHARACTERS_MAX), 'base64')) : null)
  return size !== null && size.width > 0 && size.height > 0 ? size : null
}

/** https://www.w3.org/TR/png-3/#11IHDR */
function pngSize(head: Buffer): ImageSize | null {
  if (head.length < 24 || head.readUInt32BE(0) !== 0x89504e47 || head.toString('latin1', 12, 16) !== 'IHDR') return null
  return { width: head.readUInt32BE(16), height: head.readUInt32BE(20) }
}

function gifSize(head: Buffer): ImageSize | null {
  if (head.length < 10 || !/^GIF8[79]a$/.test(head.toString('latin1', 0, 6))) return null
  return { width: head.readUInt16LE(6), height: head.readUInt16LE(8) }
}

/** https://developers.google.com/speed/webp/docs/riff_container: lossy, lossless or extended. */
function webpSize(head: Buffer): ImageSize | null {
  if (head.length < 30 || head.toString('latin1', 0, 4) !== 'RIFF' || head.toString('latin1', 8, 12) !== 'WEBP') return null
  switch (head.toString('latin1', 12, 16)) {
    case 'VP8 ':
      return { width: head.readUInt16LE(26) & 0x3fff, height: head.readUInt16LE(28) & 0x3fff }
    case 'VP8L': {
      const bits = head.readUInt32LE(21)
      return { width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 }
    }
    case 'VP8X':
      return { width: head.readUIntLE(24, 3) + 1, height: head.readUIntLE(27, 3) + 1 }
    default:
      return null
  }
}

function isJpeg(head: Buffer): boolean {
  return head.length > 4 && head.readUInt16BE(0) === 0xffd8
}

/** Walks the segments to the start of frame, which holds the size. */
function jpegSize(bytes: Buffer): ImageSize | null {
  let at = 2
  while (at + 9 <= bytes.length) {
    if (bytes[at] !== 0xff) return null
    const marker = bytes[at + 1] ?? 0
    if (marker === 0xff) {
      at += 1 // padding
      continue
    }
    const isFrame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc
    if (isFrame) return { height: bytes.readUInt16BE(at + 5), width: bytes.readUInt16BE(at + 7) }
    const length = bytes.readUInt16BE(at + 2)
    if (length < 2) return null
    at += 2 + length
  }
  return null
}
