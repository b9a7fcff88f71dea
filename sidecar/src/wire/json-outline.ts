/**
 * What a JSON text says that is too long to be kept, taken from it as it passes: all but its long strings (pictures and sound in base64),
 * each of which is empty in the outline. Of a text that is long without them, too (lists of numbers), the members at its two ends are left.
 */
import {
  afterSpace,
  BACKSLASH,
  CLASS_CLOSE,
  CLASS_OPEN,
  CLASSES,
  CLOSE_BRACE,
  COMMA,
  OPEN_BRACE,
  OPEN_BRACKET,
  QUOTE,
  SPACE,
  stringEnd,
} from './json-text.ts'

/** A longer string is left out: names, models, reasons and whatever is counted by are shorter. */
const STRING_BYTES_MAX = 256
/** An outline that would be longer is cut there. It bounds the work too: a string takes two bytes of it at least. */
const OUTLINE_BYTES_MAX = 128 * 1024
/** Of a text whose outline was cut, so much of its end is kept. */
const END_BYTES = 4 * 1024

export class JsonOutline {
  readonly #kept = Buffer.allocUnsafe(OUTLINE_BYTES_MAX)
  #keptBytes = 0
  #isCut = false
  #inString = false
  /** The string so far, with its quotes; its bytes are counted beyond what is kept of it. */
  readonly #string = Buffer.allocUnsafe(STRING_BYTES_MAX)
  #stringBytes = 0
  /** The last byte of the string so far escapes the next. */
  #isEscaped = false
  /** The last bytes of the text, from where the outline was cut; twice as many as are needed, so that they are seldom moved. */
  #end: Buffer = EMPTY
  #endBytes = 0

  push(bytes: Buffer): void {
    let at = 0
    while (at < bytes.length && !this.#isCut) at = this.#inString ? this.#passString(bytes, at) : this.#passFrame(bytes, at)
    if (at < bytes.length) this.#keepEnd(bytes, at)
  }

  /** Of an object, or a list: JSON itself, where the text was. Null for what is neither. */
  answer(): Buffer | null {
    const first = this.#kept[afterSpace(this.#kept.subarray(0, this.#keptBytes), 0)]
    if (!this.#isCut) return first === OPEN_BRACE || first === OPEN_BRACKET ? this.lines() : null
    return first === OPEN_BRACE ? this.#ends() : null
  }

  /** Of lines that hold JSON, such as those of an event. Null when it was cut, or ended inside a string. */
  lines(): Buffer | null {
    return this.#isCut || this.#inString ? null : this.#kept.subarray(0, this.#keptBytes)
  }

  /** Passes what stands between strings. */
  #passFrame(bytes: Buffer, at: number): number {
    const quote = bytes.indexOf(QUOTE, at)
    const end = quote < 0 ? bytes.length : quote
    if (!this.#keep(bytes, at, end)) return at
    if (quote < 0) return end
    this.#inString = true
    this.#string[0] = QUOTE
    this.#stringBytes = 1
    return quote + 1
  }

  #passString(bytes: Buffer, at: number): number {
    const quote = this.#closingQuote(bytes, at)
    const end = quote < 0 ? bytes.length : quote + 1
    if (this.#stringBytes + end - at <= STRING_BYTES_MAX) bytes.copy(this.#string, this.#stringBytes, at, end)
    this.#stringBytes += end - at
    if (quote < 0) return end
    this.#inString = false
    if (this.#stringBytes <= STRING_BYTES_MAX) this.#keep(this.#string, 0, this.#stringBytes)
    else this.#keep(LEFT_OUT, 0, LEFT_OUT.length)
    return end
  }

  /** Where the string ends that goes on at `from`; -1 when it does not end here. */
  #closingQuote(bytes: Buffer, from: number): number {
    let at = this.#isEscaped ? from + 1 : from
    this.#isEscaped = false
    for (;;) {
      const quote = bytes.indexOf(QUOTE, at)
      const isEscaped = isOdd(backslashesBefore(bytes, quote < 0 ? bytes.length : quote, at))
      if (quote < 0) {
        this.#isEscaped = isEscaped
        return -1
      }
      if (!isEscaped) return quote
      at = quote + 1
    }
  }

  /** False: there is no room for it. */
  #keep(bytes: Buffer, start: number, end: number): boolean {
    if (this.#keptBytes + end - start > OUTLINE_BYTES_MAX) {
      this.#isCut = true
      this.#end = Buffer.allocUnsafe(2 * END_BYTES)
      return false
    }
    bytes.copy(this.#kept, this.#keptBytes, start, end)
    this.#keptBytes += end - start
    return true
  }

  #keepEnd(bytes: Buffer, start: number): void {
    const from = Math.max(start, bytes.length - END_BYTES)
    if (from > start) this.#endBytes = 0
    if (this.#endBytes + bytes.length - from > this.#end.length) {
      this.#end.copy(this.#end, 0, this.#endBytes - END_BYTES, this.#endBytes)
      this.#endBytes = END_BYTES
    }
    this.#endBytes += bytes.copy(this.#end, this.#endBytes, from, bytes.length)
  }

  #ends(): Buffer {
    const parts = [firstMembers(this.#kept.subarray(0, this.#keptBytes)), lastMembers(this.#end.subarray(0, this.#endBytes))]
    const members = parts.filter((part) => part.length > 0)
    return Buffer.from(`{${members.map((part) => part.toString('utf8')).join(',')}}`)
  }
}

const EMPTY = Buffer.alloc(0)
const LEFT_OUT = Buffer.from('""')

/** The members of an object that end before `head` does. */
function firstMembers(head: Buffer): Buffer {
  const start = head.indexOf(OPEN_BRACE) + 1
  let end = start
  let depth = 1
  for (let at = start; at < head.length && depth > 0; at += 1) {
    const byte = head[at] ?? 0
    if (byte === COMMA && depth === 1) end = at
    else if (byte === QUOTE) {
      const after = stringEnd(head, at + 1)
      if (after < 0) break
      at = after - 1
    } else if (CLASSES[byte] === CLASS_OPEN) depth += 1
    else if (CLASSES[byte] === CLASS_CLOSE) depth -= 1
  }
  return head.subarray(start, end)
}

/** The members of an object that begin after `tail` does: read backwards from its closing brace, since a quote is one from there, too. */
function lastMembers(tail: Buffer): Buffer {
  let end = tail.length
  while (end > 0 && (tail[end - 1] ?? 0) <= SPACE) end -= 1
  if (tail[end - 1] !== CLOSE_BRACE) return EMPTY
  end -= 1
  let start = end
  let depth = 1
  for (let at = end - 1; at >= 0 && depth > 0; at -= 1) {
    const byte = tail[at] ?? 0
    if (byte === COMMA && depth === 1) start = at + 1
    else if (byte === QUOTE) at = openingQuote(tail, at)
    else if (CLASSES[byte] === CLASS_CLOSE) depth += 1
    else if (CLASSES[byte] === CLASS_OPEN) depth -= 1
  }
  return tail.subarray(start, end)
}

/** Where the string begins that ends at `closing`; -1 when it begins before. */
function openingQuote(bytes: Buffer, closing: number): number {
  let at = closing
  do at = at === 0 ? -1 : bytes.lastIndexOf(QUOTE, at - 1)
  while (at >= 0 && isOdd(backslashesBefore(bytes, at, 0)))
  return at
}

function backslashesBefore(bytes: Buffer, end: number, from: number): number {
  let count = 0
  while (end - 1 - count >= from && bytes[end - 1 - count] === BACKSLASH) count += 1
  return count
}

function isOdd(count: number): boolean {
  return count % 2 === 1
}
