/**
 * How long a sound file lasts, from above, before anybody listens to it: for holds. Formats that say it are read, and what a header says
 * is not believed below what its frames come to, nor below what so many bytes can hold at least; any other file is taken for speech of
 * the thinnest codec.
 */

/** The least that Opus goes down to is 6 kbit/s; AMR and Speex for telephones are no thicker, but no provider takes them. */
const THINNEST_BYTES_PER_SECOND = 750
/** Uncompressed sound of 192 kHz, 32 bit, two channels; and 640 kbit/s, above all lossy formats. */
const UNCOMPRESSED_BYTES_PER_SECOND = 1_536_000
const LOSSY_BYTES_PER_SECOND = 80_000
/** Chunks and boxes looked at before the one that is sought: no file has as many. */
const BOXES_MAX = 1_000
/** Frames, packets and runs of them that are counted: a day of sound has no more of those that are usual. */
const FRAMES_MAX = 4_000_000
const RUNS_MAX = 100_000

/** Seconds, rounded up; at least 1. `isRead`: the file itself says so. */
export function audioSeconds(bytes: Buffer): { readonly seconds: number; readonly isRead: boolean } {
  const read = wavSeconds(bytes) ?? flacSeconds(bytes) ?? oggSeconds(bytes) ?? mp4Seconds(bytes) ?? mp3Seconds(bytes)
  const isRead = read !== null && Number.isFinite(read) && read > 0
  return { seconds: Math.max(1, Math.ceil(isRead ? read : bytes.length / THINNEST_BYTES_PER_SECOND)), isRead }
}

/** http://soundfile.sapp.org/doc/WaveFormat/ */
function wavSeconds(bytes: Buffer): number | null {
  if (tagAt(bytes, 0) !== 'RIFF' || tagAt(bytes, 8) !== 'WAVE') return null
  let bytesPerSecond = 0
  for (let at = 12, count = 0; at + 8 <= bytes.length && count < BOXES_MAX; count += 1) {
    const size = bytes.readUInt32LE(at + 4)
    if (tagAt(bytes, at) === 'fmt ' && at + 24 <= bytes.length) {
      // Readers differ in which of two they take.
      if (bytesPerSecond !== 0) return null
      bytesPerSecond = plainBytesPerSecond(bytes, at + 8)
    } else if (tagAt(bytes, at) === 'data') {
      // A stream that was written as it came says 0, or the most there is; and behind what a chunk says there may be another one.
      const length = bytes.length - at - 8
      return bytesPerSecond === 0 ? null : Math.max(length / bytesPerSecond, length / UNCOMPRESSED_BYTES_PER_SECOND)
    }
    at += 8 + size + (size % 2)
  }
  return null
}

const PLAIN = 1
const PLAIN_FLOAT = 3
const EXTENSIBLE = 0xfffe

/** Of sound that is not packed, where all that the format says of it agrees; 0 for any other: what is packed is as long as it likes. */
function plainBytesPerSecond(bytes: Buffer, format: number): number {
  const tag = bytes.readUInt16LE(format)
  const plain = tag === EXTENSIBLE && format + 26 <= bytes.length ? bytes.readUInt16LE(format + 24) : tag
  const channels = bytes.readUInt16LE(format + 2)
  const perSecond = bytes.readUInt32LE(format + 8)
  const block = bytes.readUInt16LE(format + 12)
  const bits = bytes.readUInt16LE(format + 14)
  const isTrue = (plain === PLAIN || plain === PLAIN_FLOAT) && block * 8 === channels * bits
  return isTrue && perSecond === bytes.readUInt32LE(format + 4) * block ? perSecond : 0
}

/** https://www.rfc-editor.org/rfc/rfc9639#section-8.2: STREAMINFO is the first block, and may say nothing of the length. */
function flacSeconds(bytes: Buffer): number | null {
  if (tagAt(bytes, 0) !== 'fLaC' || bytes.length < 26) return null
  const packed = bytes.readBigUInt64BE(18)
  const rate = Number(packed >> 44n)
  const samples = Number(packed & 0xfffffffffn)
  const framed = rate === 0 ? null : flacFramesSeconds(bytes, rate)
  return framed === null ? null : Math.max(samples / rate, framed, bytes.length / UNCOMPRESSED_BYTES_PER_SECOND)
}

const FLAC_FRAMES_FROM = 42
const FLAC_FRAMES_MAX = 1_000_000

/** All that looks like the header of a frame and has its check sum, which by chance one in a file may. Null when there is none. */
function flacFramesSeconds(bytes: Buffer, rate: number): number | null {
  let seconds = 0
  let tried = 0
  for (let at = FLAC_FRAMES_FROM; at + 6 <= bytes.length; at += 1) {
    if ((byteAt(bytes, at + 1) & 0xfe) !== 0xf8 || bytes[at] !== 0xff) continue
    tried += 1
    if (tried > FLAC_FRAMES_MAX) return null
    seconds += flacFrameSeconds(bytes, at, rate)
  }
  return seconds === 0 ? null : seconds
}

/** Samples of a frame by code; those of 6 and 7 stand at the end of the header, in one byte and two. */
const FLAC_BLOCKS = [0, 192, 576, 1_152, 2_304, 4_608, 0, 0, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768] as const
/** Hz by code; 0: as STREAMINFO says. What 12 to 14 mean stands at the end: one byte of kHz, two of Hz, two of tens of Hz. */
const FLAC_RATES = [0, 88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000] as const

/** https://www.rfc-editor.org/rfc/rfc9639#section-9.1; 0 for what is no frame. */
function flacFrameSeconds(bytes: Buffer, frame: number, streamRate: number): number {
  const codes = bytes[frame + 2] ?? 0
  const block = codes >> 4
  const rate = codes & 15
  const layout = bytes[frame + 3] ?? 0
  if (block === 0 || rate === 15 || layout >> 4 > 10 || (layout & 1) !== 0) return 0
  // The number of the frame, written as UTF-8 is: as many ones as it has bytes, and no one for a single byte.
  const ones = Math.clz32(~((bytes[frame + 4] ?? 0) << 24))
  if (ones === 1 || ones > 7) return 0
  let at = frame + 4 + Math.max(1, ones)
  const samples =
    block === 6 ? byteAt(bytes, at) + 1 : block === 7 ? byteAt(bytes, at) * 256 + byteAt(bytes, at + 1) + 1 : (FLAC_BLOCKS[block] ?? 0)
  at += block === 6 ? 1 : block === 7 ? 2 : 0
  const two = byteAt(bytes, at) * 256 + byteAt(bytes, at + 1)
  const ownRate = rate === 12 ? byteAt(bytes, at) * 1_000 : rate === 13 ? two : rate === 14 ? two * 10 : (FLAC_RATES[rate] ?? 0)
  at += rate === 12 ? 1 : rate > 12 ? 2 : 0
  return crc8(bytes, frame, at) === bytes[at] ? samples / (ownRate === 0 ? streamRate : ownRate) : 0
}

function crc8(bytes: Buffer, from: number, to: number): number {
  let crc = 0
  for (let at = from; at < to; at += 1) crc = CRC8[crc ^ byteAt(bytes, at)] ?? 0
  return crc
}
const CRC8 = Uint8Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit += 1) crc = ((crc << 1) ^ (crc & 0x80 ? 7 : 0)) & 0xff
  return crc
})

const OGG_PAGE_BYTES_MAX = 65_307
const OPUS_RATE = 48_000
/** Packets of its own: what it is, and what it is called. */
const OPUS_HEADERS = 2
const OPUS_HEAD = Buffer.from('OpusHead')
const VORBIS_HEAD = Buffer.from('\u0001vorbis')

/** https://www.rfc-editor.org/rfc/rfc3533: the last page says how many samples there are. */
function oggSeconds(bytes: Buffer): number | null {
  if (tagAt(bytes, 0) !== 'OggS') return null
  const first = bytes.subarray(27 + byteAt(bytes, 26))
  const isOpus = first.subarray(0, OPUS_HEAD.length).equals(OPUS_HEAD)
  const head = isOpus ? OPUS_HEAD : VORBIS_HEAD
  // One after the other they count anew, and are played one after the other.
  if (first.indexOf(head) !== 0 || first.indexOf(head, 1) >= 0) return null
  const rate = isOpus ? OPUS_RATE : first.length >= 29 ? first.readUInt32LE(12) : 0
  const tail = Math.max(0, bytes.length - OGG_PAGE_BYTES_MAX)
  const last = bytes.subarray(tail).lastIndexOf('OggS', undefined, 'latin1') + tail
  if (rate === 0 || last < tail || last + 14 > bytes.length) return null
  const longest = isOpus ? 0 : 2 ** (byteAt(first, 28) >> 4)
  const packed = oggSamples(bytes, (at, index) => {
    if (!isOpus) return vorbisSamples(bytes, at, longest)
    return index < OPUS_HEADERS ? 0 : opusSamples(bytes, at)
  })
  if (packed === null) return null
  const samples = Math.max(packed, Number(bytes.readBigUInt64LE(last + 6)))
  return Math.max(samples / rate, bytes.length / LOSSY_BYTES_PER_SECOND)
}

/** What all packets come to, page by page; null where something else stands between the pages, or another stream. */
function oggSamples(bytes: Buffer, samplesAt: (packet: number, index: number) => number): number | null {
  let samples = 0
  let packets = 0
  for (let page = 0; page < bytes.length;) {
    if (tagAt(bytes, page) !== 'OggS' || page + 27 > bytes.length) return null
    if (uint32(bytes, page + 14) !== uint32(bytes, 14)) return null
    const segments = byteAt(bytes, page + 26)
    let goesOn = (byteAt(bytes, page + 5) & 1) !== 0
    let at = page + 27 + segments
    for (let segment = page + 27; segment < page + 27 + segments; segment += 1) {
      const size = byteAt(bytes, segment)
      if (!goesOn && size > 0) {
        samples += samplesAt(at, packets)
        packets += 1
      }
      goesOn = size === 255
      at += size
    }
    if (packets > FRAMES_MAX) return null
    page = at
  }
  return samples
}

/** Samples of a frame of 20 ms, and the most that a packet holds. */
const OPUS_FRAME = 960
const OPUS_PACKET_MAX = 5_760

/** https://www.rfc-editor.org/rfc/rfc6716#section-3.1: the first byte says how long its frames are, and whether the next says how many. */
function opusSamples(bytes: Buffer, packet: number): number {
  const first = byteAt(bytes, packet)
  const kind = first >> 3
  const step = kind & 3
  const frame =
    kind >= 16
      ? (OPUS_FRAME / 8) * 2 ** step
      : kind >= 12
        ? (OPUS_FRAME / 2) * 2 ** (step & 1)
        : step === 3
          ? OPUS_FRAME * 3
          : (OPUS_FRAME / 2) * 2 ** step
  const count = (first & 3) === 0 ? 1 : (first & 3) < 3 ? 2 : byteAt(bytes, packet + 1) & 63
  return Math.min(OPUS_PACKET_MAX, frame * count)
}

/** A packet adds half of a block at most, and a header, which begins with an odd byte, nothing. https://xiph.org/vorbis/doc/Vorbis_I_spec.html */
function vorbisSamples(bytes: Buffer, packet: number, longestBlock: number): number {
  return (byteAt(bytes, packet) & 1) === 1 ? 0 : longestBlock / 2
}

/**
 * ISO/IEC 14496-12: the times of the samples of its sound track, which are what a reader goes by; `moov/mvhd` only says what they should
 * come to. Null for a file in fragments, and for one that plays parts of itself again.
 */
function mp4Seconds(bytes: Buffer): number | null {
  if (tagAt(bytes, 4) !== 'ftyp') return null
  const boxes = boxesIn(bytes, { tag: '', start: 0, end: bytes.length })
  const moov = boxes === null || boxes.some(({ tag }) => tag === 'moof') ? null : only(boxes, 'moov')
  const parts = moov === null ? null : boxesIn(bytes, moov)
  if (parts === null || parts.some(({ tag }) => tag === 'mvex')) return null
  let most: number | null = null
  for (const track of parts.filter(({ tag }) => tag === 'trak')) {
    const media = boxAt(bytes, track, ['mdia'])
    const handler = media === null ? null : boxAt(bytes, media, ['hdlr'])
    if (media === null || handler === null) return null
    if (tagAt(bytes, handler.start + 8) !== 'soun') continue
    const seconds = trackSeconds(bytes, track, media)
    if (seconds === null) return null
    most = Math.max(most ?? 0, seconds)
  }
  return most === null ? null : Math.max(most, bytes.length / LOSSY_BYTES_PER_SECOND)
}

/** No packet of the codecs that are usual there holds less: 1,024 samples of 96 kHz. */
const MP4_PACKET_SECONDS_MIN = 1_024 / 96_000
/** What a file begins to play with: nothing, and then itself from somewhere on. */
const EDITS_MAX = 2

function trackSeconds(bytes: Buffer, track: Box, media: Box): number | null {
  const edits = boxAt(bytes, track, ['edts', 'elst'])
  const isPlain = edits === null ? boxesIn(bytes, track)?.every(({ tag }) => tag !== 'edts') : uint32(bytes, edits.start + 4) <= EDITS_MAX
  if (isPlain !== true) return null
  const mdhd = boxAt(bytes, media, ['mdhd'])
  const times = boxAt(bytes, media, ['minf', 'stbl', 'stts'])
  const sizes = boxAt(bytes, media, ['minf', 'stbl', 'stsz'])
  if (mdhd === null || times === null || sizes === null) return null
  const scale = uint32(bytes, mdhd.start + (bytes[mdhd.start] === 1 ? 20 : 12))
  const runs = uint32(bytes, times.start + 4)
  if (scale === 0 || runs > RUNS_MAX || times.start + 8 + runs * 8 > times.end) return null
  let ticks = 0
  let packets = 0
  for (let at = times.start + 8; at < times.start + 8 + runs * 8; at += 8) {
    packets += uint32(bytes, at)
    ticks += uint32(bytes, at) * uint32(bytes, at + 4)
  }
  packets = Math.max(packets, uint32(bytes, sizes.start + 8))
  return ticks === 0 ? null : Math.max(ticks / scale, packets * MP4_PACKET_SECONDS_MIN)
}

/** What stands in a box, without its header. */
interface Box {
  readonly tag: string
  readonly start: number
  readonly end: number
}

/** The box that is reached by these tags; null where one of them is not there exactly once. */
function boxAt(bytes: Buffer, from: Box, tags: readonly string[]): Box | null {
  let box: Box | null = from
  for (const tag of tags) {
    const inside: readonly Box[] | null = box === null ? null : boxesIn(bytes, box)
    box = inside === null ? null : only(inside, tag)
  }
  return box
}

function only(boxes: readonly Box[], tag: string): Box | null {
  const [one, ...more] = boxes.filter((box) => box.tag === tag)
  return one === undefined || more.length > 0 ? null : one
}

/** Null when they do not fit into what holds them. */
function boxesIn(bytes: Buffer, { start, end }: Box): readonly Box[] | null {
  const boxes: Box[] = []
  for (let at = start; at + 8 <= end;) {
    const short = bytes.readUInt32BE(at)
    const header = short === 1 ? 16 : 8
    if (boxes.length === BOXES_MAX || at + header > end) return null
    const size = short === 1 ? Number(bytes.readBigUInt64BE(at + 8)) : short === 0 ? end - at : short
    if (size < header || at + size > end) return null
    boxes.push({ tag: tagAt(bytes, at + 4), start: at + header, end: at + size })
    at += size
  }
  return boxes
}

/** kbit/s by index: MPEG 1 layer III, and MPEG 2 and 2.5 layer III. */
const RATES_1 = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320] as const
const RATES_2 = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160] as const
const SAMPLE_RATES = [44_100, 48_000, 32_000] as const
/** So much of a file may be something else than frames: tags and pictures before and after them. */
const STRAY_PERCENT_MAX = 10

/** Frame by frame, so that a changing bit rate counts as it is. http://www.mp3-tech.org/programmer/frame_header.html */
function mp3Seconds(bytes: Buffer): number | null {
  let at = tagAt(bytes, 0).startsWith('ID3') && bytes.length > 10 ? 10 + synchsafe(bytes, 6) : 0
  const begin = at
  let seconds = 0
  let framed = 0
  while (at + 4 <= bytes.length) {
    const frame = mp3Frame(bytes, at)
    if (frame === null) {
      at += 1
      if (at - begin - framed > ((bytes.length - begin) * STRAY_PERCENT_MAX) / 100) return null
      continue
    }
    seconds += frame.seconds
    framed += frame.bytes
    at += frame.bytes
  }
  return framed === 0 ? null : Math.max(seconds, framed / LOSSY_BYTES_PER_SECOND)
}

function mp3Frame(bytes: Buffer, at: number): { readonly bytes: number; readonly seconds: number } | null {
  const second = bytes[at + 1] ?? 0
  const third = bytes[at + 2] ?? 0
  // Eleven bits of sync, and layer III.
  if (bytes[at] !== 0xff || (second & 0xe0) !== 0xe0 || (second & 0x06) !== 0x02) return null
  const version = (second >> 3) & 3 // 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
  const rate = (version === 3 ? RATES_1 : RATES_2)[third >> 4] ?? 0
  const base = SAMPLE_RATES[(third >> 2) & 3]
  if (version === 1 || rate === 0 || base === undefined) return null
  const sampleRate = version === 3 ? base : version === 2 ? base / 2 : base / 4
  const samples = version === 3 ? 1_152 : 576
  return { bytes: Math.floor((samples * rate * 125) / sampleRate) + ((third >> 1) & 1), seconds: samples / sampleRate }
}

function synchsafe(bytes: Buffer, at: number): number {
  return ((bytes[at] ?? 0) << 21) | ((bytes[at + 1] ?? 0) << 14) | ((bytes[at + 2] ?? 0) << 7) | (bytes[at + 3] ?? 0)
}

/** 0 behind the end, as with `uint32`. */
function byteAt(bytes: Buffer, at: number): number {
  return bytes[at] ?? 0
}

function uint32(bytes: Buffer, at: number): number {
  return at + 4 <= bytes.length ? bytes.readUInt32BE(at) : 0
}

function tagAt(bytes: Buffer, at: number): string {
  return bytes.toString('latin1', at, at + 4)
}
