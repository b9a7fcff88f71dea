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
function words(...numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(numbers.length * 4)
  numbers.forEach((number, at) => bytes.writeUInt32BE(number, at * 4))
  return bytes
}
/** A track of `count` packets, each of which is said to last `ticks`. */
function track(kind: string, count: number, { ticks = 1_024, scale = 48_000, version = 0, sizes = count, edits = 0 } = {}): Buffer {
  const times = version === 0 ? words(0, 0, 0, scale, 1) : words(1 << 24, 0, 0, 0, 0, scale, 0, 1)
  const samples = box('stbl', box('stts', words(0, 1, count, ticks)), box('stsz', words(0, 0, sizes)))
  const media = box('mdia', box('mdhd', times), box('hdlr', words(0, 0), Buffer.from(kind)), box('minf', samples))
  return box('trak', ...(edits === 0 ? [] : [box('edts', box('elst', words(0, edits)))]), media)
}
const LIE = box('mvhd', words(0, 0, 0, 600, 1))
const mp4 = (...inMoov: readonly Buffer[]): Buffer =>
  Buffer.concat([box('ftyp', Buffer.alloc(8)), box('free'), box('moov', LIE, ...inMoov)])
const PACKETS = 469 // a little more than ten seconds

interface Page {
  readonly packets: readonly Buffer[]
  readonly samples?: bigint
  readonly goesOn?: true
}
/** The last packet of a page is unfinished when it is a multiple of 255 long. */
function ogg(...pages: readonly Page[]): Buffer {
  return Buffer.concat(
    pages.map(({ packets, samples = 0n, goesOn }) => {
      const table = packets.flatMap(({ length }) => {
        const full = Array.from({ length: Math.floor(length / 255) }, () => 255)
        return length % 255 === 0 ? full : [...full, length % 255]
      })
      const head = Buffer.alloc(27)
      head.write('OggS', 0, 'latin1')
      head[5] = goesOn === true ? 1 : 0
      head.writeBigInt64LE(samples, 6)
      head[26] = table.length
      return Buffer.concat([head, Buffer.from(table), ...packets])
    }),
  )
}
const OPUS: Page = { packets: [Buffer.from('OpusHead'), Buffer.from('OpusTags')] }
/** Of 20 ms, as most are; `kind` and `count` as in the first bytes of a packet. */
const opusPacket = (kind = 1, count = 0, bytes = 60): Buffer => Buffer.concat([Buffer.from([kind << 3, count]), Buffer.alloc(bytes - 2)])
const packetsOf = (packet: Buffer, count: number): Page => ({ packets: Array.from({ length: count }, () => packet) })
function vorbisHead(): Buffer {
  const head = Buffer.alloc(30)
  head.write('\u0001vorbis', 0, 'latin1')
  head.writeUInt32LE(16_000, 12)
  head[28] = (11 << 4) | 8 // blocks of 2048 samples, and of 256
  return head
}

function crc8(bytes: readonly number[]): number {
  return bytes.reduce((before, byte) => {
    let crc = before ^ byte
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 0x80) === 0 ? crc << 1 : ((crc << 1) ^ 7) & 0xff
    return crc
  }, 0)
}
/** `header`: from the code of the block on, without the check sum. */
function flac(samples: bigint, header: readonly number[], frames: number): Buffer {
  const head = Buffer.alloc(42)
  head.write('fLaC', 0, 'latin1')
  head.writeBigUInt64BE((48_000n << 44n) | samples, 18)
  const frame = [0xff, 0xf8, ...header]
  const one = Buffer.concat([Buffer.from([...frame, crc8(frame)]), Buffer.alloc(500)])
  return Buffer.concat([head, ...Array.from({ length: frames }, () => one)])
}
/** 4,096 samples, of the rate that STREAMINFO says. */
const USUAL_FRAME = [0xc0, 0x18, 5]

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
  assert.deepEqual(audioSeconds(flac(96_001n, USUAL_FRAME, 23)), { seconds: 3, isRead: true })
  assert.deepEqual(audioSeconds(flac(0n, USUAL_FRAME, 24)), { seconds: 3, isRead: true }, 'written as it came')
  const opus = ogg(OPUS, packetsOf(opusPacket(), 200), { ...packetsOf(opusPacket(), 149), samples: 48_000n * 7n })
  assert.deepEqual(audioSeconds(opus), { seconds: 7, isRead: true })
  const vorbis = ogg({ packets: [vorbisHead()] }, { ...packetsOf(Buffer.alloc(40), 31), samples: 32_000n })
  assert.deepEqual(audioSeconds(vorbis), { seconds: 2, isRead: true })
  for (const version of [0, 1])
    assert.deepEqual(audioSeconds(mp4(track('vide', 9_000), track('soun', PACKETS, { version, edits: 2 }))), { seconds: 11, isRead: true })
})

test('a header that lies is not believed: all that is to be played counts', () => {
  const seconds = (bytes: Buffer): number => audioSeconds(bytes).seconds
  assert.equal(seconds(flac(1n, USUAL_FRAME, 240)), 21)
  assert.equal(seconds(flac(1n, [0x74, 0x18, 5, 0xff, 0xff], 24)), 197, 'frames of 65,536 samples and 8 kHz')
  assert.equal(seconds(flac(1n, [0x6c, 0x18, 0xc3, 0x80, 99, 8], 800)), 10, 'of 100 samples at 8 kHz, by bytes at the end')
  assert.equal(seconds(ogg(OPUS, packetsOf(opusPacket(), 250), packetsOf(opusPacket(), 250))), 10)
  assert.equal(seconds(ogg(OPUS, packetsOf(opusPacket(3), 250))), 15, 'frames of 60 ms')
  assert.equal(seconds(ogg(OPUS, packetsOf(Buffer.from([(31 << 3) | 3, 6, 0]), 250))), 30, 'six frames of 20 ms in a packet')
  assert.equal(seconds(ogg(OPUS, packetsOf(Buffer.from([(31 << 3) | 3, 63, 0]), 250))), 30, 'which is the most')
  const [begun, rest] = [opusPacket(1, 0, 255), { packets: [Buffer.alloc(9)], goesOn: true as const }]
  assert.equal(seconds(ogg(OPUS, ...Array.from({ length: 100 }, () => [{ packets: [begun] }, rest]).flat())), 2, 'a packet in two pages')
  assert.equal(seconds(ogg({ packets: [vorbisHead()] }, packetsOf(Buffer.alloc(40), 125))), 8)
  assert.equal(seconds(mp4(track('soun', PACKETS), track('soun', 2 * PACKETS))), 21, 'the longest track')
  assert.equal(seconds(mp4(track('soun', PACKETS, { ticks: 1 }))), 6, 'no packet is shorter than 10 ms')
  assert.equal(seconds(mp4(track('soun', 1, { sizes: PACKETS }))), 6)
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
  bySize(mp4(track('soun', PACKETS, { ticks: 0 })))
  bySize(mp4(track('vide', PACKETS)))
  bySize(mp4(track('soun', PACKETS), box('mvex'))) // in fragments
  bySize(Buffer.concat([mp4(track('soun', PACKETS)), box('moof')]))
  bySize(mp4(track('soun', PACKETS, { edits: 3 }))) // parts of it are played again
  bySize(Buffer.concat([mp4(track('soun', PACKETS)), mp4(track('soun', 1))]))
  bySize(flac(96_000n, [0xc0, 0x18, 5], 0))
  bySize(flac(96_000n, [0xcf, 0x18, 5], 9)) // no frames
  const opus = ogg(OPUS, { ...packetsOf(opusPacket(), 50), samples: 48_000n })
  bySize(Buffer.concat([opus, opus])) // one after the other, each of which counts anew
  const other = ogg(packetsOf(opusPacket(), 1))
  other[14] = 9
  bySize(Buffer.concat([opus, other])) // which of two streams is heard, nobody knows
  bySize(Buffer.concat([ogg({ packets: [Buffer.from('Speex   OpusHead')] }), opus]))
  bySize(Buffer.concat([opus, Buffer.alloc(9), ogg(packetsOf(opusPacket(), 1))]))
  bySize(Buffer.concat([mp3Frame(128), Buffer.alloc(20_000)]))
})

test('a header is not believed below what so many bytes can hold', () => {
  const bytes = Buffer.alloc(8_000_000)
  bytes.set(mp4(track('soun', 1)))
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
