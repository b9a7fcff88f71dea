/** Digests of a history, by which an exact count of it is found to fit. */
import { createHash, hash } from 'node:crypto'
import type { Digest } from './conversation.ts'
import type { Message } from './request.ts'

const DIGEST_HEX_LENGTH = 32

/** Digest over the stable bytes of the first `count` messages: 128 bits, hex. */
export function messagesDigest(messages: readonly Message[], count: number): Digest {
  return hash('sha256', bytesOf(messages, count), 'hex').slice(0, DIGEST_HEX_LENGTH)
}

interface Digests {
  readonly count: number
  /** Of the first `count` messages. */
  readonly prefix: Digest
  readonly whole: Digest
}
const DIGESTS = new WeakMap<readonly Message[], Digests>()

/** Up to here two hashes in one call each cost less than one that is made in steps. */
const ONE_SHOT_BYTES_MAX = 16 * 1024

/** Both digests in one pass, remembered for the list. `count` must not exceed it. */
export function digestsOf(messages: readonly Message[], count: number): Digests {
  const known = DIGESTS.get(messages)
  if (known?.count === count) return known
  const all = bytesOf(messages, messages.length)
  let prefixLength = Math.max(0, count - 1) // commas
  for (let index = 0; index < count; index += 1) prefixLength += messages[index]?.stableBytes.length ?? 0
  let prefix: string
  let whole: string
  if (count === messages.length || all.length <= ONE_SHOT_BYTES_MAX) {
    prefix = hash('sha256', all.subarray(0, prefixLength), 'hex').slice(0, DIGEST_HEX_LENGTH)
    whole = count === messages.length ? prefix : hash('sha256', all, 'hex').slice(0, DIGEST_HEX_LENGTH)
  } else {
    const running = createHash('sha256').update(all.subarray(0, prefixLength))
    prefix = running.copy().digest('hex').slice(0, DIGEST_HEX_LENGTH)
    whole = running.update(all.subarray(prefixLength)).digest('hex').slice(0, DIGEST_HEX_LENGTH)
  }
  const digests = { count, prefix, whole }
  DIGESTS.set(messages, digests)
  return digests
}

export function wholeDigest(messages: readonly Message[]): Digest {
  return (DIGESTS.get(messages) ?? digestsOf(messages, messages.length)).whole
}

/**
 * The bytes of the messages with a comma between them, as they stand in a list. A history that nobody rewrote stands in its
 * body in just that way, if it was written without spaces: then those bytes are taken as they are.
 */
function bytesOf(messages: readonly Message[], count: number): Buffer {
  const parts: Uint8Array[] = []
  let isWhole = true
  for (let index = 0; index < count; index += 1) {
    const message = messages[index]
    if (message === undefined) break
    const before = parts.at(-1)
    if (before !== undefined) {
      isWhole &&= follows(before, message.stableBytes)
      parts.push(COMMA)
    }
    parts.push(message.stableBytes)
  }
  const [first] = parts
  const last = parts.at(-1)
  if (first === undefined || last === undefined || !isWhole) return Buffer.concat(parts)
  return Buffer.from(first.buffer, first.byteOffset, last.byteOffset + last.byteLength - first.byteOffset)
}

const COMMA = Buffer.from(',')

/** Both stand in the same memory, the second one comma after the first. */
function follows(first: Uint8Array, second: Uint8Array): boolean {
  const end = first.byteOffset + first.byteLength
  return second.buffer === first.buffer && second.byteOffset === end + 1 && new Uint8Array(first.buffer, end, 1)[0] === 0x2c
}
