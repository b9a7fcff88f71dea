/** Sound files as far as money goes: made to a length, and measured. */

const WAV_BYTES_PER_SECOND = 48_000
const WAV_HEADER_BYTES = 44
/** MPEG-2 layer III, 24 kHz, 64 kbit/s, mono: 576 samples in 192 bytes. */
const MP3_HEADER = Buffer.from([0xff, 0xf3, 0x84, 0xc4])
const MP3_FRAME_BYTES = 192
const MP3_FRAME_SECONDS = 576 / 24_000
/** What cannot be read is taken for speech of a codec as thin as they come. */
const THIN_BYTES_PER_SECOND = 1_000

/** Silence at 24 kHz, 16 bit, one channel; without its header it is PCM. */
export function wavOf(seconds: number, withHeader = true): Buffer {
  const data = Buffer.alloc(Math.round(seconds * WAV_BYTES_PER_SECOND) & ~1)
  if (!withHeader) return data
  const header = Buffer.alloc(WAV_HEADER_BYTES)
  header.write('RIFF', 0, 'latin1')
  header.writeUInt32LE(data.length + 36, 4)
  header.write('WAVEfmt ', 8, 'latin1')
  header.writeUInt32LE(16, 16)
  header.writeUInt16LE(1, 20)
  header.writeUInt16LE(1, 22)
  header.writeUInt32LE(24_000, 24)
  header.writeUInt32LE(WAV_BYTES_PER_SECOND, 28)
  header.writeUInt16LE(2, 32)
  header.writeUInt16LE(16, 34)
  header.write('data', 36, 'latin1')
  header.writeUInt32LE(data.length, 40)
  return Buffer.concat([header, data])
}

export function mp3Of(seconds: number): Buffer {
  const frame = Buffer.concat([MP3_HEADER, Buffer.alloc(MP3_FRAME_BYTES - MP3_HEADER.length)])
  return Buffer.concat(Array.from({ length: Math.ceil(seconds / MP3_FRAME_SECONDS) }, () => frame))
}

export function secondsOf(bytes: Buffer): number {
  if (bytes.toString('latin1', 0, 4) === 'RIFF') return (bytes.length - WAV_HEADER_BYTES) / WAV_BYTES_PER_SECOND
  if (bytes.subarray(0, 2).equals(MP3_HEADER.subarray(0, 2))) return (bytes.length / MP3_FRAME_BYTES) * MP3_FRAME_SECONDS
  return bytes.length / THIN_BYTES_PER_SECOND
}
