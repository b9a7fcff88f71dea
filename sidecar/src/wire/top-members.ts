/** The members of one JSON object, found in place: nothing inside them is looked at, and the reader is used again and again. */
import type { Range } from './json-scan.ts'
import { afterSpace, CLOSE_BRACE, COLON, COMMA, OPEN_BRACE, QUOTE, stringEnd, valueEnd } from './json-text.ts'

/** Members looked at; events of a stream have a dozen. */
const MEMBERS_MAX = 32

export class TopMembers {
  #bytes: Buffer = Buffer.alloc(0)
  #count = 0
  /** Start and end of each key, inside its quotes, and of its value. */
  readonly #ranges = new Int32Array(MEMBERS_MAX * 4)

  /** Reads the object from `start` to `end`. False when it is none; the members beyond the first 32 are not kept. */
  read(bytes: Buffer, start: number, end: number): boolean {
    this.#bytes = bytes
    this.#count = 0
    let at = afterSpace(bytes, start, end)
    if (bytes[at] !== OPEN_BRACE) return false
    at = afterSpace(bytes, at + 1, end)
    if (bytes[at] === CLOSE_BRACE) return afterSpace(bytes, at + 1, end) === end
    for (;;) {
      const keyEnd = bytes[at] === QUOTE ? stringEnd(bytes, at + 1) : -1
      if (keyEnd < 0 || keyEnd > end) return false
      const keyStart = at + 1
      at = afterSpace(bytes, keyEnd, end)
      if (bytes[at] !== COLON) return false
      const valueStart = afterSpace(bytes, at + 1, end)
      const endOfValue = valueEnd(bytes, valueStart, end)
      if (endOfValue < 0) return false
      if (this.#count < MEMBERS_MAX) {
        const at4 = this.#count * 4
        this.#ranges[at4] = keyStart
        this.#ranges[at4 + 1] = keyEnd - 1
        this.#ranges[at4 + 2] = valueStart
        this.#ranges[at4 + 3] = endOfValue
        this.#count += 1
      }
      at = afterSpace(bytes, endOfValue, end)
      const byte = bytes[at]
      at = afterSpace(bytes, at + 1, end)
      if (byte === CLOSE_BRACE) return at === end
      if (byte !== COMMA) return false
    }
  }

  /** Where the value of a member stands; null when there is none of that name. Names are plain ASCII. */
  find(name: string): Range | null {
    for (let index = 0; index < this.#count; index += 1) {
      const start = this.#ranges[index * 4] ?? 0
      const end = this.#ranges[index * 4 + 1] ?? 0
      if (end - start !== name.length || !this.#isAt(start, name)) continue
      return { start: this.#ranges[index * 4 + 2] ?? 0, end: this.#ranges[index * 4 + 3] ?? 0 }
    }
    return null
  }

  /** A member that is a string without escapes; null otherwise. */
  text(name: string): string | null {
    const range = this.find(name)
    if (range === null || this.#bytes[range.start] !== QUOTE) return null
    return this.#bytes.toString('latin1', range.start + 1, range.end - 1)
  }

  #isAt(start: number, name: string): boolean {
    for (let index = 0; index < name.length; index += 1) if (this.#bytes[start + index] !== name.charCodeAt(index)) return false
    return true
  }
}
