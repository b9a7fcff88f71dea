/** Reads a request body whole: bounded, decoded, never more than the limit in memory. */
import type { IncomingMessage } from 'node:http'
import { promisify } from 'node:util'
import { brotliDecompress, gunzip, zstdDecompress } from 'node:zlib'
import type { Refusal } from '../errors.ts'
import { release } from './release.ts'

export const BODY_BYTES_MAX = 32 * 1024 * 1024
/** A body may not unpack to more than this many times its size, above a floor that every honest body stays under. */
const INFLATE_RATIO_MAX = 100
const INFLATE_FLOOR_BYTES = 1024 * 1024

const DECODERS = { gzip: promisify(gunzip), br: promisify(brotliDecompress), zstd: promisify(zstdDecompress) } as const

export type BodyResult =
  | { readonly status: 'ok'; readonly body: Buffer }
  | { readonly status: 'refused'; readonly refusal: Refusal }
  /** The client went away before the body was whole. */
  | { readonly status: 'aborted' }

/** Reads and decodes (gzip, br, zstd). Refuses other encodings before reading a byte, and too large bodies as soon as that is known. */
export async function readBody(incoming: IncomingMessage): Promise<BodyResult> {
  const encoding = (incoming.headers['content-encoding'] ?? 'identity').trim().toLowerCase()
  if (encoding !== 'identity' && !isDecodable(encoding))
    return { status: 'refused', refusal: { code: 'unsupported_encoding', param: 'content-encoding' } }
  const declared = incoming.headers['content-length']
  if (declared !== undefined && Number(declared) > BODY_BYTES_MAX) return TOO_LARGE
  const raw = await collect(incoming)
  if (raw === null) return { status: 'aborted' }
  if (raw.length > BODY_BYTES_MAX) return TOO_LARGE
  return isDecodable(encoding) ? await decode(raw, encoding) : { status: 'ok', body: raw }
}

const TOO_LARGE: BodyResult = { status: 'refused', refusal: { code: 'request_too_large' } }

function isDecodable(encoding: string): encoding is keyof typeof DECODERS {
  return Object.hasOwn(DECODERS, encoding)
}

async function decode(raw: Buffer, encoding: keyof typeof DECODERS): Promise<BodyResult> {
  const maxOutputLength = Math.min(BODY_BYTES_MAX, Math.max(INFLATE_FLOOR_BYTES, raw.length * INFLATE_RATIO_MAX))
  try {
    return { status: 'ok', body: await DECODERS[encoding](raw, { maxOutputLength }) }
  } catch (error) {
    if (error instanceof RangeError) return TOO_LARGE
    return {
      status: 'refused',
      refusal: { code: 'invalid_request', message: `The body is not valid ${encoding}.`, param: 'content-encoding' },
    }
  }
}

/** Resolves with the bytes (one more chunk than the limit at most), or null when the client went away. */
function collect(incoming: IncomingMessage): Promise<Buffer | null> {
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
      if (bytes <= BODY_BYTES_MAX) return
      done(true)
      incoming.on('error', () => undefined)
      incoming.resume() // the rest is read and dropped, so that the client can hear the refusal
    }
    const onEnd = (): void => done(true)
    const onGone = (): void => done(false)
    incoming.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone)
  })
}
