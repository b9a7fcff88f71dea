/**
 * Counting: o200k by `gpt-tokenizer`, in pieces of 1,024 characters (a BPE is quadratic on long unbroken runs), each piece
 * remembered. Independent of any estimate made elsewhere.
 */
import { decode, encode } from 'gpt-tokenizer/encoding/o200k_base'

const PIECE_CHARS = 1_024
/** Tokens remembered per generation of the cache; two generations live at a time (about 4 bytes each, and the text). */
const REMEMBERED_TOKENS = 2_000_000
const REMEMBERED_TEXTS = 4_096
const NO_SPECIALS = { disallowedSpecial: new Set<string>() }

/** Calls `take` with the o200k ids of each piece of `text`, in order. */
export function eachPiece(text: string, take: (ids: Uint32Array) => void): void {
  if (text.length <= PIECE_CHARS) {
    if (text.length > 0) take(idsOf(text))
    return
  }
  for (let start = 0; start < text.length;) {
    let end = Math.min(start + PIECE_CHARS, text.length)
    // A surrogate pair stays whole, or its halves would count as two broken characters.
    if (end < text.length && isHighSurrogate(text.charCodeAt(end - 1))) end -= 1
    take(idsOf(text.slice(start, end)))
    start = end
  }
}

/** o200k tokens of `text`. */
export function countTokens(text: string): number {
  let count = 0
  eachPiece(text, (ids) => {
    count += ids.length
  })
  return count
}

/** The text as the model would stream it: one string per o200k token, which joined give `text`. Some may be empty (part of a character). */
export function tokenTexts(text: string): readonly string[] {
  const known = texts.get(text)
  if (known !== undefined) return known
  let pieces: string[] = []
  eachPiece(text, (ids) => {
    for (const id of ids) pieces.push(decode([id]))
  })
  // Lone surrogates and byte order marks do not survive decoding: cut such text by characters instead.
  if (pieces.join('') !== text) pieces = evenParts(text, pieces.length)
  if (texts.size >= REMEMBERED_TEXTS) texts.clear()
  texts.set(text, pieces)
  return pieces
}

/** Tokens that a model with `percent` tokens per 100 of o200k counts; never more than the bytes, as no byte-level tokenizer does. */
export function scaled(tokens: number, percent: number, bytes: number): number {
  return Math.min(Math.ceil((tokens * percent) / 100), bytes)
}

const texts = new Map<string, readonly string[]>()
let young = new Map<string, Uint32Array>()
let old = new Map<string, Uint32Array>()
let youngTokens = 0

function idsOf(piece: string): Uint32Array {
  const known = young.get(piece)
  if (known !== undefined) return known
  const ids = old.get(piece) ?? Uint32Array.from(encode(piece, NO_SPECIALS))
  if (youngTokens > REMEMBERED_TOKENS) {
    old = young
    young = new Map()
    youngTokens = 0
  }
  young.set(piece, ids)
  youngTokens += ids.length + 8
  return ids
}

function evenParts(text: string, count: number): string[] {
  const parts: string[] = []
  for (let index = 0; index < count; index += 1)
    parts.push(text.slice(Math.floor((index * text.length) / count), Math.floor(((index + 1) * text.length) / count)))
  return parts
}

function isHighSurrogate(code: number): boolean {
  return code >= 0xd800 && code <= 0xdbff
}
