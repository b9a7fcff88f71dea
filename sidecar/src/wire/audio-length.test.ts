import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { audioSeconds } from './audio-length.ts'

const RATE = 24_000
function wav(seconds: number, change: (header: Buffer) => void = () => {}): Buffer {
  const data = Buffer.alloc(seconds * RATE * 2)
  const header = Buffer.alloc(44)
  header.write('RIFF', 0, 'latin1')
  header.write('WAVEfmt ', 8, 'latin1')
  header.writeUInt32LE(16, 16)
  header.writeUInt16LE(1, 20)
  header.writeUInt16LE(1, 22)
  header.writeUInt32LE(RATE, 24)
  header.writeUInt32LE(RATE * 2, 28)
  header.writeUInt16LE(2, 32)
  header.writeUInt16LE(16, 34)
  header.write('data', 36, 'latin1')
  header.writeUInt32LE(data.length, 40)
  change(header)
  return Buffer.concat([header, data])
}
/** A frame of MPEG 1 layer III, 44.1 kHz: 1152 samples. */
function mp3Frame(kbits: 32 | 128 | 320): Buffer {
  const index = { 32: 1, 128: 9, 320: 14 }[kbits]
  const frame = Buffer.alloc(Math.floor((144 * kbits * 1_000) / 44_100))
  frame.set([0xff, 0xfb, index << 4, 0])
  return frame
}
function box(tag: string, ...content: Buffer[]): Buffer {
  const body = Buffer.concat(content)
  const head = Buffer.alloc(8)
  head.writeUInt32BE(body.length + 8, 0)
  head.write(tag, 4, 'latin1')
  return Buffer.concat([head, body])
}
function mvhd(version: 0 | 1, scale: number, duration: number): Buffer {
  const body = Buffer.alloc(108)
  body[0] = version
  if (version === 0) {
    body.writeUInt32BE(scale, 12)
    body.writeUInt32BE(duration, 16)
  } else {
    body.writeUInt32BE(scale, 20)
    body.writeBigUInt64BE(BigInt(duration), 24)
  }
  return box('mvhd', body)
}
function oggPage(content: Buffer, samples: bigint): Buffer {
  const head = Buffer.alloc(28)
  head.write('OggS', 0, 'latin1')
  head.writeBigInt64LE(samples, 6)
  return Buffer.concat([head, content])
}

test('the length of a file that says it is read, begun seconds whole', () => {
  assert.deepEqual(audioSeconds(wav(3)), { seconds: 3, isRead: true })
  assert.deepEqual(
    audioSeconds(wav(4, (header) => header.writeUInt32LE(0xffffffff, 40))),
    { seconds: 4, isRead: true },
    'written as it came',
  )
  const mixed = Buffer.concat([
    Buffer.from('ID3\u0004\0\0\0\0\0\u0005abcde', 'latin1'),
    ...Array.from({ length: 400 }, (_, at) => mp3Frame(at % 2 === 0 ? 32 : 320)),
  ])
  assert.deepEqual(audioSeconds(mixed), { seconds: Math.ceil((400 * 1_152) / 44_100), isRead: true }, 'frames of different rates')
  const flac = Buffer.alloc(100_000)
  flac.write('fLaC', 0, 'latin1')
  flac.writeBigUInt64BE((48_000n << 44n) | 96_001n, 18)
  assert.deepEqual(audioSeconds(flac), { seconds: 3, isRead: true })
  const opus = Buffer.concat([oggPage(Buffer.from('OpusHead'), 0n), Buffer.alloc(5_000), oggPage(Buffer.alloc(10), 48_000n * 7n)])
  assert.deepEqual(audioSeconds(opus), { seconds: 7, isRead: true })
  const vorbis = Buffer.alloc(30)
  vorbis.write('\u0001vorbis', 0, 'latin1')
  vorbis.writeUInt32LE(16_000, 12)
  assert.deepEqual(audioSeconds(Buffer.concat([oggPage(vorbis, 0n), oggPage(Buffer.alloc(4), 32_000n)])), { seconds: 2, isRead: true })
  for (const version of [0, 1] as const)
    assert.deepEqual(audioSeconds(Buffer.concat([box('ftyp', Buffer.alloc(8)), box('free'), box('moov', mvhd(version, 600, 3_000))])), {
      seconds: 5,
      isRead: true,
    })
})

test('what stands behind the end that a header tells is heard, too', () => {
  const said = wav(4, (header) => header.writeUInt32LE(RATE * 2, 40))
  assert.deepEqual(audioSeconds(said), { seconds: 4, isRead: true })
})

test('what says nothing, or nonsense, lasts as long as so many bytes can', () => {
  const bySize = (bytes: Buffer): void =>
    assert.deepEqual(audioSeconds(bytes), { seconds: Math.max(1, Math.ceil(bytes.length / 750)), isRead: false })
  bySize(Buffer.alloc(0))
  bySize(Buffer.alloc(10_000, 7))
  bySize(wav(1, (header) => header.writeUInt32LE(99_999_999, 28))) // not what rate and width come to
  bySize(wav(1, (header) => header.writeUInt16LE(0x55, 20))) // packed: its rate is of no account
  bySize(
    wav(1, (header) => {
      header.writeUInt32LE(RATE * 64, 28)
      header.writeUInt16LE(64, 32) // wider than its samples
    }),
  )
  bySize(Buffer.concat([wav(1).subarray(0, 36), wav(1).subarray(12)])) // two formats
  bySize(Buffer.concat([box('ftyp', Buffer.alloc(8)), box('moov', mvhd(0, 600, 0))]))
  const opus = Buffer.concat([oggPage(Buffer.from('OpusHead'), 0n), Buffer.alloc(50_000), oggPage(Buffer.alloc(10), 48_000n)])
  bySize(Buffer.concat([opus, opus])) // one after the other, each of which counts anew
  bySize(Buffer.concat([mp3Frame(128), Buffer.alloc(20_000)]))
})

test('a header is not believed below what so many bytes can hold', () => {
  const bytes = Buffer.alloc(8_000_000)
  bytes.set(Buffer.concat([box('ftyp', Buffer.alloc(8)), box('moov', mvhd(0, 600, 600))]))
  assert.deepEqual(audioSeconds(bytes), { seconds: 100, isRead: true })
})

test('any bytes at all give a length', () =>
  fc.assert(
    fc.property(
      fc.constantFrom('', 'RIFF\0\0\0\0WAVE', 'fLaC', 'OggS', '\0\0\0\u0018ftyp', '\xff\xfb\x90', 'ID3'),
      fc.uint8Array({ maxLength: 400 }),
      (start, rest) => {
        const { seconds } = audioSeconds(Buffer.concat([Buffer.from(start, 'latin1'), rest]))
        assert.ok(Number.isSafeInteger(seconds) && seconds >= 1, String(seconds))
      },
    ),
  ))
