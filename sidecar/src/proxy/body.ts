/** Reads a request body whole: bounded, decoded, never more than the limit in memory. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createBrotliDecompress, createGunzip, createZstdDecompress } from 'node:zlib'
import { BODY_BYTES_MAX } from '../core/request.ts'
import type { Refusal } from '../errors.ts'
import { Pieces } from '../wire/pieces.ts'
import type { Place } from './body-room.ts'
import { release } from './release.ts'

const MIB = 1024 * 1024
/** A body may not unpack to more than this many times its size, above a floor that every honest body stays under. */
const INFLATE_RATIO_MAX = 100
const INFLATE_FLOOR_BYTES = MIB

const DECODERS = { gzip: createGunzip, br: createBrotliDecompress, zstd: createZstdDecompress } as const
/** A body that is not whole after this time gives its room to those who wait for it. */
const SLOW_MS = 5_000
const LOOK_EVERY_MS = 1_000

export type BodyResult =
  | { readonly status: 'ok'; readonly body: Buffer }
  | { readonly status: 'refused'; readonly refusal: Refusal }
  /** The client went away before the body was whole. */
  | { readonly status: 'aborted' }

/** The request of an exchange, and its place; null: a body so small that nobody counts it. */
export interface BodySource {
  readonly incoming: IncomingMessage
  readonly outgoing: ServerResponse
  readonly place: Place | null
}

/**
 * Reads and decodes (gzip, br, zstd). Refuses other encodings before reading a byte, and too large bodies as soon as that is known. Waits for room
 * before it reads what its head announced, and while it reads what it did not.
 */
export async function readBody(source: BodySource, bytesMax = BODY_BYTES_MAX): Promise<BodyResult> {
  const { incoming, outgoing, place } = source
  const encoding = (incoming.headers['content-encoding'] ?? 'identity').trim().toLowerCase()
  if (encoding !== 'identity' && !isDecodable(encoding))
    return { status: 'refused', refusal: { code: 'unsupported_encoding', param: 'content-encoding' } }
  const declared = incoming.headers['content-length']
  if (declared !== undefined && Number(declared) > bytesMax) return tooLarge(bytesMax)
  const announced = declared === undefined ? null : Number(declared)
  if (announced !== null && (await place?.take(announced, outgoing)) === false) return noRoom(outgoing)
  const raw = await collect(source, { bytesMax, announced })
  if (raw === 'aborted') return { status: raw }
  if (raw === 'noRoom') return noRoom(outgoing)
  if (raw.length > bytesMax) return tooLarge(bytesMax)
  return isDecodable(encoding) ? await decode(raw, encoding, source, bytesMax) : { status: 'ok', body: raw }
}

function noRoom({ destroyed }: ServerResponse): BodyResult {
  return destroyed ? { status: 'aborted' } : { status: 'refused', refusal: { code: 'sidecar_busy' } }
}

function tooLarge(bytesMax: number): BodyResult {
  const message = `The request body is larger than ${bytesMax < MIB ? `${bytesMax / 1024} KiB` : `${bytesMax / MIB} MiB`}.`
  return { status: 'refused', refusal: { code: 'request_too_large', message } }
}

function isDecodable(encoding: string): encoding is keyof typeof DECODERS {
  return Object.hasOwn(DECODERS, encoding)
}

async function decode(
  raw: Buffer,
  encoding: keyof typeof DECODERS,
  { outgoing, place }: BodySource,
  bytesMax: number,
): Promise<BodyResult> {
  const most = Math.min(bytesMax, Math.max(INFLATE_FLOOR_BYTES, raw.length * INFLATE_RATIO_MAX))
  const decoder = DECODERS[encoding]()
  decoder.end(raw)
  const pieces: Buffer[] = []
  let bytes = 0
  try {
    for await (const piece of decoder as AsyncIterable<Buffer>) {
      bytes += piece.length
      if (bytes > most) return tooLarge(bytesMax)
      if ((await place?.take(piece.length, outgoing)) === false) return noRoom(outgoing)
      pieces.push(piece)
    }
  } catch {
    return {
      status: 'refused',
      refusal: { code: 'invalid_request', message: `The body is not valid ${encoding}.`, param: 'content-encoding' },
    }
  }
  release(raw)
  return { status: 'ok', body: Buffer.concat(pieces, bytes) }
}

/** The bytes (one more chunk than the limit at most); `aborted`: the client went away; `noRoom`: there was none in time, or others need it. */
function collect(
  { incoming, outgoing, place }: BodySource,
  { bytesMax, announced }: { readonly bytesMax: number; readonly announced: number | null },
): Promise<Buffer | 'aborted' | 'noRoom'> {
  return new Promise((resolve) => {
    // Who left before somebody listened is not heard of any more.
    if (incoming.destroyed) return resolve('aborted')
    const coming = new ComingBody(announced)
    const startedMs = performance.now()
    let isDone = false
    const done = (end: 'whole' | 'aborted' | 'noRoom'): void => {
      if (isDone) return
      isDone = true
      clearInterval(look)
      incoming.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone)
      // A kept-alive connection remembers its last request until the next one comes: it must not remember the body.
      const body = end === 'whole' ? coming.whole() : end
      coming.letGo(body)
      resolve(body)
    }
    const dropRest = (): void => {
      incoming.on('error', () => undefined)
      incoming.resume() // so that the client can hear the refusal
    }
    const onData = (chunk: Buffer): void => {
      coming.add(chunk)
      if (coming.bytes > bytesMax) {
        done('whole')
        return dropRest()
      }
      const taken = announced === null ? (place?.take(chunk.length, outgoing) ?? true) : true
      if (taken !== true) void goOnWhen(taken)
    }
    const goOnWhen = async (taken: boolean | Promise<boolean>): Promise<void> => {
      incoming.pause()
      if (await taken) incoming.resume()
      else yieldRoom()
    }
    const yieldRoom = (): void => {
      done('noRoom')
      dropRest()
    }
    const onEnd = (): void => done('whole')
    const onGone = (): void => done('aborted')
    const lookAround = (): void => {
      if (performance.now() - startedMs >= SLOW_MS && place?.isWanted === true) yieldRoom()
    }
    const look = place === null ? undefined : setInterval(lookAround, LOOK_EVERY_MS)
    incoming.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone)
  })
}

/** A body as it comes: where its length is known each piece is copied to its place and let go, so that it is never there twice. */
class ComingBody {
  readonly #announced: number | null
  readonly #pieces = new Pieces()
  #whole: Buffer | null = null
  bytes = 0

  /** `announced`: at most that many bytes come; null: nobody knows. */
  constructor(announced: number | null) {
    this.#announced = announced
  }

  add(piece: Buffer): void {
    const at = this.bytes
    this.bytes += piece.length
    if (this.#announced === null || piece.length === this.#announced) {
      if (!this.#pieces.add(piece)) release(piece)
    } else {
      this.#whole ??= Buffer.allocUnsafeSlow(this.#announced)
      piece.copy(this.#whole, at)
      release(piece)
    }
  }

  whole(): Buffer {
    return this.#whole?.subarray(0, this.bytes) ?? this.#pieces.whole()
  }

  /** But for what `kept` is made of. */
  letGo(kept: Buffer | string): void {
    for (const piece of this.#pieces.parts) if (piece !== kept) release(piece)
    this.#pieces.clear()
    this.#whole = null
  }
}
