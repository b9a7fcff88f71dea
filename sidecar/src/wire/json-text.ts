/** JSON text as bytes: its characters, and where strings, values and white space end. */

/** Where the string that begins before `from` ends: after its closing quote; -1 when it does not. */
export function stringEnd(bytes: Uint8Array, from: number): number {
  let at = from
  for (;;) {
    // Most strings are short, and a native search costs as much as some fifty steps of this loop.
    const near = Math.min(at + NEAR_BYTES, bytes.length)
    while (at < near) {
      const byte = bytes[at]
      if (byte === quote) return at + 1
      at += byte === backslash ? 2 : 1
    }
    if (at >= bytes.length) return -1
    const quoteAt = bytes.indexOf(quote, at)
    if (quoteAt < 0) return -1
    let backslashes = 0
    while (quoteAt - 1 - backslashes >= at && bytes[quoteAt - 1 - backslashes] === backslash) backslashes += 1
    if (backslashes % 2 === 0) return quoteAt + 1
    at = quoteAt + 1
  }
}

export const QUOTE = 0x22
export const BACKSLASH = 0x5c
export const COMMA = 0x2c
export const COLON = 0x3a
export const OPEN_BRACE = 0x7b
export const CLOSE_BRACE = 0x7d
export const OPEN_BRACKET = 0x5b
export const CLOSE_BRACKET = 0x5d
export const SPACE = 0x20

// V8 folds a constant into what reads it, but none that is exported, and the loops here run for each byte.
const quote = QUOTE
const backslash = BACKSLASH
const comma = COMMA
const openBrace = OPEN_BRACE
const closeBrace = CLOSE_BRACE
const openBracket = OPEN_BRACKET
const closeBracket = CLOSE_BRACKET
const space = SPACE

const NEAR_BYTES = 48
export const CLASS_OTHER = 0
export const CLASS_QUOTE = 1
export const CLASS_OPEN = 2
export const CLASS_CLOSE = 3
export const CLASS_COMMA = 4
export const CLASS_COLON = 5
export const CLASSES = new Uint8Array(256)
CLASSES[QUOTE] = CLASS_QUOTE
CLASSES[OPEN_BRACE] = CLASSES[OPEN_BRACKET] = CLASS_OPEN
CLASSES[CLOSE_BRACE] = CLASSES[CLOSE_BRACKET] = CLASS_CLOSE
CLASSES[COMMA] = CLASS_COMMA
CLASSES[COLON] = CLASS_COLON

/** A string with its quotes; null when it is not valid JSON. */
export function parseString(bytes: Buffer, start: number, end: number): string | null {
  for (let at = start + 1; at < end - 1; at += 1) {
    const byte = bytes[at] ?? 0
    if (byte >= SPACE && byte < 0x80 && byte !== BACKSLASH) continue
    try {
      const value: unknown = JSON.parse(bytes.toString('utf8', start, end))
      return typeof value === 'string' ? value : null
    } catch {
      return null // not JSON: the caller says where
    }
  }
  return bytes.toString('latin1', start + 1, end - 1)
}

/**
 * Where the value of any kind that begins at `start` ends; -1 when it does not by `end`. Only its strings and the depth of its brackets are
 * looked at: whether it is JSON, whoever parses it says.
 */
export function valueEnd(bytes: Uint8Array, start: number, end: number): number {
  let at = start
  let depth = 0
  do {
    const byte = bytes[at]
    if (byte === quote) {
      at = stringEnd(bytes, at + 1)
      if (at < 0) return -1
    } else if (byte === openBrace || byte === openBracket) {
      depth += 1
      at += 1
    } else if (byte === closeBrace || byte === closeBracket) {
      depth -= 1
      at += 1
    } else if (depth === 0) {
      while (at < end && !isDelimiter(bytes[at] ?? 0)) at += 1
    } else at += 1
  } while (depth > 0 && at < end)
  return depth === 0 && at > start && at <= end ? at : -1
}

/** Where what is no white space begins, from `from` on; `end` when nothing does. */
export function afterSpace(bytes: Uint8Array, from: number, end: number = bytes.length): number {
  let at = from
  while (at < end && isSpace(bytes[at] ?? 0)) at += 1
  return at
}

/** What a number or a word ends before. */
function isDelimiter(byte: number): boolean {
  return byte === comma || byte === closeBrace || byte === closeBracket || isSpace(byte)
}

/** RFC 8259, section 2. */
function isSpace(byte: number): boolean {
  return byte <= space && (byte === space || byte === 0x0a || byte === 0x0d || byte === 0x09)
}
