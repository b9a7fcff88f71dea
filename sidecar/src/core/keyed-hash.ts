/**
 * HMAC-SHA-256 (RFC 2104) with a key that is prepared once. `createHmac` prepares its key on each call, which costs ten
 * times as much as hashing a short text; a turn hashes at least two.
 */
import { hash } from 'node:crypto'

const BLOCK_BYTES = 64
const INNER = 0x36
const OUTER = 0x5c

export class KeyedHash {
  readonly #inner: Buffer
  readonly #outer: Buffer

  constructor(key: Buffer) {
    const block = Buffer.alloc(BLOCK_BYTES)
    ;(key.length > BLOCK_BYTES ? hash('sha256', key, 'buffer') : key).copy(block)
    this.#inner = Buffer.from(block.map((byte) => byte ^ INNER))
    this.#outer = Buffer.from(block.map((byte) => byte ^ OUTER))
  }

  /** The digest of the parts, one after the other, in hex. */
  hex(...parts: readonly Uint8Array[]): string {
    const inner = hash('sha256', Buffer.concat([this.#inner, ...parts]), 'buffer')
    return hash('sha256', Buffer.concat([this.#outer, inner]), 'hex')
  }
}
