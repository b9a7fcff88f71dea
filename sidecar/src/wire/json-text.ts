/** JSON text as bytes: its characters, and where strings and white space end. */

/** Where the string that begins before `from` ends: after its closing quote; -1 when it does not. */
export function stringEnd(bytes: Uint8Array, from: number): number {
  let at = from
  for (;;) {
    // Most strings are short, and a native search costs as much as some fifty steps of this loop.
    const near = Math.min(at + NEAR_BYTES, bytes.length)
    while (at < near) {
      const byte = bytes[at]
      if (byte === QUOTE) return at + 1
      at += byte === BACKSLASH ? 2 : 1
    }
    if (at >= bytes.length) return -1
    const quote = bytes.indexOf(QUOTE, at)
    if (quote < 0) return -1
    let backslashes = 0
    while (quote - 1 - backslashes >= at && bytes[quote - 1 - backslashes] === BACKSLASH) backslashes += 1
    if (backslashes % 2 === 0) return quote + 1
    at = quote + 1
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

export function afterSpace(bytes: Uint8Array, from: number): number {
  const { length } = bytes
  let at = from
  while (at < length) {
    const byte = bytes[at] ?? 0
    if (byte !== SPACE && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) break
    at += 1
  }
  return at
}
