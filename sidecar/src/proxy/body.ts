/** Reads a request body whole: bounded, decoded, never more than the limit in memory. */
import type { IncomingMessage } from 'node:http'
import { promisify } from 'node:util'
import { brotliDecompress, gunzip, zstdDecompress } from 'node:zlib'
import type { Refusal } from '../errors.ts'
import type { Place } from './body-room.ts'
import { release } from './release.ts'

const MIB = 1024 * 1024
export const BODY_BYTES_MAX = 32 * MIB
/** A body may not unpack to more than this many times its size, above a floor that every honest body stays under. */
const INFLATE_RATIO_MAX = 100
const INFLATE_FLOOR_BYTES = MIB

const DECODERS = { gzip: promisify(gunzip), br: promisify(brotliDecompress), zstd: promisify(zstdDecompress) } as const

export type BodyResult =
  | { readonly status: 'ok'; readonly body: Buffer }
  | { readonly status: 'refused'; readonly refusal: Refusal }
  /** The client went away before the body was whole. */
  | { readonly status: 'aborted' }

/** What is to be held of the body of a request before it is read: what its head says; 0 where that is nothing, or more than is read at all. */
export function announcedBytes({ headers }: Pick<IncomingMessage, 'headers'>): number {
  const bytes = Number(headers['content-length'] ?? 0)
  return bytes <= BODY_BYTES_MAX ? bytes : 0
}

/**
 * Reads and decodes (gzip, br, zstd). Refuses other encodings before reading a byte, and too large bodies as soon as that is known.
 * `place` has what the head announced, and is told of what comes beyond that; null: a body so small that nobody counts it.
 */
export async function readBody(incoming: IncomingMessage, place: Place | null, bytesMax = BODY_BYTES_MAX): Promise<BodyResult> {
  const encoding = (incoming.headers['content-encoding'] ?? 'identity').trim().toLowerCase()
  if (encoding !== 'identity' && !isDecodable(encoding))
    return { status: 'refused', refusal: { code: 'unsupported_encoding', param: 'content-encoding' } }
  const declared = incoming.headers['content-length']
  if (declared !== undefined && Number(declared) > bytesMax) return tooLarge(bytesMax)
  const announced = declared === undefined ? null : Number(declared)
  const raw = await collect(incoming, bytesMax, { announced, place: announced === null ? place : null })
  if (raw === 'aborted') return { status: raw }
  if (raw === 'noRoom') return BUSY
  if (raw.length > bytesMax) return tooLarge(bytesMax)
  if (!isDecodable(encoding)) return { status: 'ok', body: raw }
  const decoded = await decode(raw, encoding, bytesMax)
  return decoded.status === 'ok' && place?.add(Math.max(0, decoded.body.length - raw.length)) === false ? BUSY : decoded
}

const BUSY: BodyResult = { status: 'refused', refusal: { code: 'sidecar_busy' } }

function tooLarge(bytesMax: number): BodyResult {
  const message = `The request body is larger than ${bytesMax < MIB ? `${bytesMax / 1024} KiB` : `${bytesMax / MIB} MiB`}.`
  return { status: 'refused', refusal: { code: 'request_too_large', message } }
}

function isDecodable(encoding: string): encoding is keyof typeof DECODERS {
  return Object.hasOwn(DECODERS, encoding)
}

async function decode(raw: Buffer, encoding: keyof typeof DECODERS, bytesMax: number): Promise<BodyResult> {
  const maxOutputLength = Math.min(bytesMax, Math.max(INFLATE_FLOOR_BYTES, raw.length * INFLATE_RATIO_MAX))
  try {
    return { status: 'ok', body: await DECODERS[encoding](raw, { maxOutputLength }) }
  } catch (error) {
    if (error instanceof RangeError) return tooLarge(bytesMax)
    return {
      status: 'refused',
      refusal: { code: 'invalid_request', message: `The body is not valid ${encoding}.`, param: 'content-encoding' },
    }
  }
}

/** The bytes (one more chunk than the limit at most); `aborted`: the client went away; `noRoom`: `place` may not hold all of it. */
function collect(
  incoming: IncomingMessage,
  bytesMax: number,
  { announced, place }: { readonly announced: number | null; readonly place: Place | null },
): Promise<Buffer | 'aborted' | 'noRoom'> {
  return new Promise((resolve) => {
    const pieces = new Pieces(announced)
    const done = (end: 'whole' | 'aborted' | 'noRoom'): void => {
      incoming.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone)
      // A kept-alive connection remembers its last request until the next one comes: it must not remember the body.
      const body = pieces.take()
      resolve(end === 'whole' ? body : end)
    }
    const onData = (chunk: Buffer): void => {
      const hasRoom = place?.add(chunk.length) !== false
      pieces.add(chunk)
      if (pieces.bytes <= bytesMax && hasRoom) return
      done(pieces.bytes > bytesMax ? 'whole' : 'noRoom')
      incoming.on('error', () => undefined)
      incoming.resume() // the rest is read and dropped, so that the client can hear the refusal
    }
    const onEnd = (): void => done('whole')
    const onGone = (): void => done('aborted')
    incoming.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone)
  })
}

/** A body as it comes: where its length is known each piece is copied to its place and let go, so that it is never there twice. */
class Pieces {
  readonly #announced: number | null
  #pieces: Buffer[] = []
  #whole: Buffer | null = null
  bytes = 0

  /** `announced`: at most that many bytes come; null: nobody knows. */
  constructor(announced: number | null) {
    this.#announced = announced
  }

  add(piece: Buffer): void {
    const at = this.bytes
    this.bytes += piece.length
    if (this.#announced === null || piece.length === this.#announced) this.#pieces.push(piece)
    else {
      this.#whole ??= Buffer.allocUnsafeSlow(this.#announced)
      piece.copy(this.#whole, at)
      release(piece)
    }
  }

  take(): Buffer {
    const [only] = this.#pieces.length === 1 ? this.#pieces : []
    const body = this.#whole?.subarray(0, this.bytes) ?? only ?? Buffer.concat(this.#pieces, this.bytes)
    for (const piece of this.#pieces) if (piece !== body) release(piece)
    this.#pieces = []
    this.#whole = null
    return body
  }
}
