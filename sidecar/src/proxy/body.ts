/** Reads a request body whole: bounded, decoded, never more than the limit in memory. */
import type { IncomingMessage } from 'node:http'
import { promisify } from 'node:util'
import { brotliDecompress, gunzip, zstdDecompress } from 'node:zlib'
import type { Refusal } from '../errors.ts'
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

/** Reads and decodes (gzip, br, zstd). Refuses other encodings before reading a byte, and too large bodies as soon as that is known. */
export async function readBody(incoming: IncomingMessage, bytesMax = BODY_BYTES_MAX): Promise<BodyResult> {
  const encoding = (incoming.headers['content-encoding'] ?? 'identity').trim().toLowerCase()
  if (encoding !== 'identity' && !isDecodable(encoding))
    return { status: 'refused', refusal: { code: 'unsupported_encoding', param: 'content-encoding' } }
  const declared = incoming.headers['content-length']
  if (declared !== undefined && Number(declared) > bytesMax) return tooLarge(bytesMax)
  const raw = await collect(incoming, bytesMax)
  if (raw === null) return { status: 'aborted' }
  if (raw.length > bytesMax) return tooLarge(bytesMax)
  return isDecodable(encoding) ? await decode(raw, encoding, bytesMax) : { status: 'ok', body: raw }
}

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

/** Resolves with the bytes (one more chunk than the limit at most), or null when the client went away. */
function collect(incoming: IncomingMessage, bytesMax: number): Promise<Buffer | null> {
  return new Promise((resolve) => {
    let chunks: Buffer[] = []
    let bytes = 0
    const done = (whole: boolean): void => {
      incoming.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone)
      // A kept-alive connection remembers its last request until the next one comes: it must not remember the body.
      const [first = null] = chunks
      const body = !whole ? null : chunks.length === 1 ? first : Buffer.concat(chunks, bytes)
      for (const chunk of chunks) if (chunk !== body) release(chunk)
      chunks = []
      resolve(body)
    }
    const onData = (chunk: Buffer): void => {
      bytes += chunk.length
      chunks.push(chunk)
      if (bytes <= bytesMax) return
      done(true)
      incoming.on('error', () => undefined)
      incoming.resume() // the rest is read and dropped, so that the client can hear the refusal
    }
    const onEnd = (): void => done(true)
    const onGone = (): void => done(false)
    incoming.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone)
  })
}
