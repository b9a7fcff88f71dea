/** Keys of parsed JSON as its bytes have them, where `JSON.parse` can be trusted with the values but not with the keys. */
import { isObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'
import {
  afterSpace,
  CLASS_OTHER,
  CLASSES,
  CLOSE_BRACE,
  CLOSE_BRACKET,
  COMMA,
  OPEN_BRACE,
  OPEN_BRACKET,
  parseString,
  QUOTE,
  SPACE,
  stringEnd,
} from './json-text.ts'

/** The value of bytes that `scanObject` has taken for valid JSON. */
export function parseValid(bytes: Uint8Array): Json {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const text = buffer.toString('utf8')
  return withTrueKeys(JSON.parse(text), text, buffer, 0)
}

export function parseValidObject(bytes: Uint8Array): JsonObject {
  const json = parseValid(bytes)
  if (!isObject(json)) throw new TypeError('what was read as an object is one')
  return json
}

/** See `CarefulReader`. `text` is what `json` was parsed from, which stands in `bytes` from `start` on. */
export function withTrueKeys(json: Json, text: string, bytes: Buffer, start: number): Json {
  return text.includes('\\') && hasBackslashKey(json) ? new CarefulReader(bytes, start).value() : json
}

/** Keys of all objects in a value; recursion is bounded by `DEPTH_MAX`. */
export function countKeys(value: Json): number {
  if (typeof value !== 'object' || value === null) return 0
  let count = 0
  if (isArray(value)) {
    for (const element of value) if (typeof element === 'object') count += countKeys(element)
    return count
  }
  for (const key of Object.keys(value)) {
    count += 1
    const member = value[key]
    if (typeof member === 'object') count += countKeys(member)
  }
  return count
}

function hasBackslashKey(value: Json): boolean {
  if (typeof value !== 'object' || value === null) return false
  if (isArray(value)) return value.some(hasBackslashKey)
  return Object.entries(value).some(([key, member]) => key.includes('\\') || (member !== undefined && hasBackslashKey(member)))
}

/**
 * Reads a value that `JSON.parse` took. V8 takes a key with an escape for another one that it met before, always one with
 * a backslash in it (https://github.com/nodejs/node/issues/63785): so where a key has one, all keys are read one by one.
 */
class CarefulReader {
  readonly #bytes: Buffer
  #at: number

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes
    this.#at = at
  }

  value(): Json {
    const bytes = this.#bytes
    const start = this.#at
    switch (bytes[start]) {
      case OPEN_BRACE: {
        const members: [string, Json][] = []
        for (this.#step(start + 1); bytes[this.#at] !== CLOSE_BRACE; this.#separator()) {
          const keyStart = this.#at
          const keyEnd = stringEnd(bytes, keyStart + 1)
          this.#step(afterSpace(bytes, keyEnd) + 1)
          members.push([parseString(bytes, keyStart, keyEnd) ?? '', this.value()])
        }
        this.#at += 1
        return Object.fromEntries(members)
      }
      case OPEN_BRACKET: {
        const elements: Json[] = []
        for (this.#step(start + 1); bytes[this.#at] !== CLOSE_BRACKET; this.#separator()) elements.push(this.value())
        this.#at += 1
        return elements
      }
      case QUOTE:
        this.#at = stringEnd(bytes, start + 1)
        break
      default:
        while (CLASSES[bytes[this.#at] ?? 0] === CLASS_OTHER && (bytes[this.#at] ?? 0) > SPACE) this.#at += 1
    }
    return JSON.parse(bytes.toString('utf8', start, this.#at))
  }

  #step(to: number): void {
    this.#at = afterSpace(this.#bytes, to)
  }

  #separator(): void {
    this.#step(this.#at)
    if (this.#bytes[this.#at] === COMMA) this.#step(this.#at + 1)
  }
}

function isArray(value: readonly Json[] | JsonObject): value is readonly Json[] {
  return Array.isArray(value)
}
