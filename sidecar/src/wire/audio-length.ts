/**
 * How long a sound file lasts, from above, before anybody listens to it: for holds. Formats that say it are read; what a header says
 * is not believed below what so many bytes can hold at least; any other file is taken for speech of the thinnest codec.
 */

/** The least that Opus goes down to is 6 kbit/s; AMR and Speex for telephones are no thicker, but no provider takes them. */
const THINNEST_BYTES_PER_SECOND = 750
/** Uncompressed sound of 192 kHz, 32 bit, two channels; and 640 kbit/s, above all lossy formats. */
const UNCOMPRESSED_BYTES_PER_SECOND = 1_536_000
const LOSSY_BYTES_PER_SECOND = 80_000
/** Chunks and boxes looked at before the one that is sought: no file has as many. */
const BOXES_MAX = 1_000

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

/** https://xiph.org/flac/format.html#metadata_block_streaminfo */
function flacSeconds(bytes: Buffer): number | null {
  if (tagAt(bytes, 0) !== 'fLaC' || bytes.length < 26) return null
  const packed = bytes.readBigUInt64BE(18)
  const rate = Number(packed >> 44n)
  const samples = Number(packed & 0xfffffffffn)
  return rate === 0 || samples === 0 ? null : Math.max(samples / rate, bytes.length / UNCOMPRESSED_BYTES_PER_SECOND)
}

const OGG_PAGE_BYTES_MAX = 65_307
const OPUS_RATE = 48_000
const OPUS_HEAD = Buffer.from('OpusHead')
const VORBIS_HEAD = Buffer.from('\u0001vorbis')

/** https://www.rfc-editor.org/rfc/rfc3533: the last page says how many samples there are. */
function oggSeconds(bytes: Buffer): number | null {
  if (tagAt(bytes, 0) !== 'OggS') return null
  const first = bytes.subarray(0, 512)
  // One after the other they count anew, and are played one after the other.
  const head = first.includes(OPUS_HEAD) ? OPUS_HEAD : VORBIS_HEAD
  if (bytes.indexOf(head, bytes.indexOf(head) + 1) >= 0) return null
  const vorbis = first.indexOf(VORBIS_HEAD)
  const rate = first.includes(OPUS_HEAD) ? OPUS_RATE : vorbis >= 0 && vorbis + 16 <= first.length ? first.readUInt32LE(vorbis + 12) : 0
  const tail = Math.max(0, bytes.length - OGG_PAGE_BYTES_MAX)
  const last = bytes.subarray(tail).lastIndexOf('OggS', undefined, 'latin1') + tail
  if (rate === 0 || last < tail || last + 14 > bytes.length) return null
  const samples = Number(bytes.readBigUInt64LE(last + 6))
  return Math.max(samples / rate, bytes.length / LOSSY_BYTES_PER_SECOND)
}

/** ISO/IEC 14496-12: `moov/mvhd` has the duration. A file in fragments says 0 there. */
function mp4Seconds(bytes: Buffer): number | null {
  if (tagAt(bytes, 4) !== 'ftyp') return null
  const moov = boxIn(bytes, 0, bytes.length, 'moov')
  const mvhd = moov === null ? null : boxIn(bytes, moov.start, moov.end, 'mvhd')
  if (mvhd === null || mvhd.end - mvhd.start < 32) return null
  const isLong = bytes[mvhd.start] === 1
  const scale = bytes.readUInt32BE(mvhd.start + (isLong ? 20 : 12))
  const duration = isLong ? Number(bytes.readBigUInt64BE(mvhd.start + 24)) : bytes.readUInt32BE(mvhd.start + 16)
  return scale === 0 || duration === 0 ? null : Math.max(duration / scale, bytes.length / LOSSY_BYTES_PER_SECOND)
}

function boxIn(bytes: Buffer, from: number, to: number, tag: string): { readonly start: number; readonly end: number } | null {
  for (let at = from, count = 0; at + 8 <= to && count < BOXES_MAX; count += 1) {
    const short = bytes.readUInt32BE(at)
    const header = short === 1 ? 16 : 8
    if (at + header > to) return null
    const size = short === 1 ? Number(bytes.readBigUInt64BE(at + 8)) : short === 0 ? to - at : short
    if (size < header || at + size > to) return null
    if (tagAt(bytes, at + 4) === tag) return { start: at + header, end: at + size }
    at += size
  }
  return null
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

function tagAt(bytes: Buffer, at: number): string {
  return bytes.toString('latin1', at, at + 4)
}
