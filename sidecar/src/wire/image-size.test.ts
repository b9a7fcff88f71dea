import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { imageSize } from './image-size.ts'
import type { ImageSize } from './image-size.ts'

const sizeOf = (bytes: Buffer): ImageSize | null => imageSize(bytes.toString('base64'))
const rest = Buffer.alloc(64, 0x55)

function png(width: number, height: number): Buffer {
  const head = Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex')
  const size = Buffer.alloc(8)
  size.writeUInt32BE(width, 0)
  size.writeUInt32BE(height, 4)
  return Buffer.concat([head, size, rest])
}
function gif(width: number, height: number, version = 'GIF89a'): Buffer {
  const size = Buffer.alloc(4)
  size.writeUInt16LE(width, 0)
  size.writeUInt16LE(height, 2)
  return Buffer.concat([Buffer.from(version), size, rest])
}
function webp(format: string, chunk: Buffer): Buffer {
  return Buffer.concat([Buffer.from('RIFF\0\0\0\0WEBP'), Buffer.from(format), Buffer.alloc(4), chunk, rest])
}
function lossy(width: number, height: number): Buffer {
  const chunk = Buffer.from('0000009d012a00000000', 'hex')
  chunk.writeUInt16LE(width | 0x4000, 6) // the upper two bits are the scale
  chunk.writeUInt16LE(height | 0x8000, 8)
  return webp('VP8 ', chunk)
}
function lossless(width: number, height: number): Buffer {
  const chunk = Buffer.alloc(5)
  chunk[0] = 0x2f
  chunk.writeUInt32LE((width - 1) | ((height - 1) << 14) | 0x10000000, 1) // and the bit for alpha
  return webp('VP8L', chunk)
}
function extended(width: number, height: number): Buffer {
  const chunk = Buffer.alloc(10)
  chunk.writeUIntLE(width - 1, 4, 3)
  chunk.writeUIntLE(height - 1, 7, 3)
  return webp('VP8X', chunk)
}
function segment(marker: number, length: number): Buffer {
  const bytes = Buffer.alloc(2 + length, 0xff) // which looks like markers, and must be stepped over
  bytes[1] = marker
  bytes.writeUInt16BE(length, 2)
  return bytes
}
function jpeg(width: number, height: number, { frame = 0xc0, before = [segment(0xe0, 16)] } = {}): Buffer {
  const start = Buffer.from([0xff, frame, 0, 17, 8, 0, 0, 0, 0])
  start.writeUInt16BE(height, 5)
  start.writeUInt16BE(width, 7)
  return Buffer.concat([Buffer.from([0xff, 0xd8]), ...before, start, rest])
}

describe('the size in the header is found, whatever it is', () => {
  const formats: Record<string, [make: (width: number, height: number) => Buffer, most: number]> = {
    PNG: [png, 2 ** 32 - 1],
    GIF: [gif, 65_535],
    'GIF of 1987': [(width, height) => gif(width, height, 'GIF87a'), 65_535],
    'WebP, lossy': [lossy, 16_383],
    'WebP, lossless': [lossless, 16_384],
    'WebP, extended': [extended, 16_777_216],
    JPEG: [jpeg, 65_535],
    'JPEG, progressive': [(width, height) => jpeg(width, height, { frame: 0xc2 }), 65_535],
  }
  for (const [name, [make, most]] of Object.entries(formats)) {
    test(name, () => {
      const side = fc.integer({ min: 1, max: most })
      fc.assert(fc.property(side, side, (width, height) => assert.deepEqual(sizeOf(make(width, height)), { width, height })))
    })
  }
})

test('a JPEG with tables, padding and a large thumbnail before its size', () => {
  const before = [segment(0xe1, 60_000), segment(0xc4, 40), segment(0xdb, 67), Buffer.from([0xff, 0xff]), segment(0xcc, 4)]
  assert.deepEqual(sizeOf(jpeg(640, 480, { before })), { width: 640, height: 480 })
})

test('an image cut off before its size, broken, empty or of another format has none', () => {
  const far = jpeg(640, 480, { before: [segment(0xe1, 65_000), segment(0xe1, 65_000)] })
  const none = [
    png(640, 480).subarray(0, 23),
    png(0, 480),
    gif(640, 0),
    gif(640, 480, 'GIF99a'),
    webp('VP9 ', Buffer.alloc(10)),
    lossy(640, 480).subarray(0, 29),
    jpeg(640, 480).subarray(0, 24),
    jpeg(640, 480, { before: [Buffer.from([0x00, 0x01])] }),
    jpeg(640, 480, { before: [Buffer.from([0xff, 0xe0, 0, 1])] }),
    far,
    Buffer.from('<svg width="640" height="480"/>'),
    Buffer.alloc(0),
  ]
  for (const [index, bytes] of none.entries()) assert.equal(sizeOf(bytes), null, `case ${index}`)
  assert.equal(imageSize('not base64 at all!'), null)
})

test('any bytes give a size that can be, or none', () => {
  const starts = fc.constantFrom(
    png(1, 1).subarray(0, 16),
    Buffer.from([0xff, 0xd8, 0xff]),
    lossy(1, 1).subarray(0, 20),
    Buffer.from('GIF89a'),
  )
  fc.assert(
    fc.property(starts, fc.uint8Array({ maxLength: 80 }), (start, more) => {
      const size = sizeOf(Buffer.concat([start, more]))
      if (size !== null) assert.ok(size.width > 0 && size.height > 0 && Number.isInteger(size.width) && Number.isInteger(size.height))
    }),
  )
})
