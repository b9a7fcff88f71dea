/**
 * Reads a JSON object from bytes in small steps, keeping where each top-level field and each element of chosen arrays
 * stands. So fields can be spliced without touching the rest, and no body, however nasty, holds up the event loop.
 *
 * The scanner only finds where values end; each value is then given to `JSON.parse`, which is the judge of its syntax. The
 * frame between them is checked here. So exactly those bodies pass that `JSON.parse` would take, but for the limits below.
 */
import { isUtf8 } from 'node:buffer'
import type { Json, JsonObject } from '../core/request.ts'
import { SLICE_UNITS } from './pacer.ts'

/** Nesting of one top-level value, the value itself counted. */
export const DEPTH_MAX = 64
/** Keys and values inside one top-level value or one element: dense JSON is parsed at a fraction of a microsecond each. */
export const VALUES_MAX = 20_000
/** The same of the whole body, which bounds all later work on it: no conversation has as many. */
export const VALUES_TOTAL_MAX = 250_000
export const FIELDS_MAX = 256
/** Elements of `messages` or `tools`. */
export const ELEMENTS_MAX = 10_000

/** Bytes `start` to `end`, the end not included. */
export interface Range {
  readonly start: number
  readonly end: number
}
export interface Element extends Range {
  readonly json: Json
}
/** A top-level field; the range is that of its value. */
export interface Field extends Range {
  readonly name: string
  /** The opening quote of the key. */
  readonly keyStart: number
  /** Undefined when `elements` are given. */
  readonly json: Json | undefined
  readonly elements: readonly Element[] | null
}

export type Scan =
  | { readonly status: 'ok'; readonly fields: readonly Field[]; /** After the opening brace. */ readonly bodyStart: number }
  | { readonly status: 'invalid'; readonly field: string | null; readonly message: string }

/** Fields of the object that `bytes` are. Yields between slices of work. `split` names the array fields to be read by element. */
export function* scanObject(bytes: Buffer, split: ReadonlySet<string>): Generator<void, Scan> {
  if (!isUtf8(bytes)) return invalid(null, 'the body must be UTF-8')
  const names = new Set<string>()
  const fields: Field[] = []
  const skimmer = new Skimmer(bytes)
  let work = 0
  let values = 0
  let at = afterSpace(bytes, 0)
  if (bytes[at] !== OPEN_BRACE) return invalid(null, 'the body must be a JSON object')
  const bodyStart = at + 1
  at = afterSpace(bytes, bodyStart)
  if (bytes[at] === CLOSE_BRACE) at += 1
  else {
    for (;;) {
      if (bytes[at] !== QUOTE) return syntax(at)
      const keyStart = at
      const keyEnd = stringEnd(bytes, at + 1)
      if (keyEnd < 0) return syntax(bytes.length)
      const name = parseString(bytes, keyStart, keyEnd)
      if (name === null) return syntax(keyStart)
      if (names.has(name)) return invalid(shortName(name), `the field "${shortName(name)}" must be given once`)
      names.add(name)
      if (names.size > FIELDS_MAX) return invalid(null, `the body must have at most ${FIELDS_MAX} fields`)
      at = afterSpace(bytes, keyEnd)
      if (bytes[at] !== COLON) return syntax(at)
      at = afterSpace(bytes, at + 1)
      const start = at

      let json: Json | undefined
      let elements: Element[] | null = null
      if (split.has(name) && bytes[at] === OPEN_BRACKET) {
        elements = []
        at = afterSpace(bytes, at + 1)
        if (bytes[at] === CLOSE_BRACKET) at += 1
        else {
          for (;;) {
            if (elements.length === ELEMENTS_MAX) return invalid(name, `"${name}" must have at most ${ELEMENTS_MAX} elements`)
            const where = `${name}[${elements.length}]`
            skimmer.begin(at)
            while (!skimmer.skim(SLICE_UNITS)) yield
            const value = judge(bytes, at, skimmer)
            if (value.status === 'invalid') return value.message === null ? syntax(value.at) : invalid(where, `"${where}" ${value.message}`)
            values += skimmer.values + 1
            if (values > VALUES_TOTAL_MAX) return invalid(null, TOO_MANY_VALUES)
            elements.push({ start: at, end: skimmer.at, json: value.json })
            work += skimmer.at - at + skimmer.values * UNITS_PER_VALUE + UNITS_PER_ELEMENT
            if (work > SLICE_UNITS) {
              work = 0
              yield
            }
            at = afterSpace(bytes, skimmer.at)
            const separator = bytes[at]
            at += 1
            if (separator === CLOSE_BRACKET) break
            if (separator !== COMMA) return syntax(at - 1)
            at = afterSpace(bytes, at)
          }
        }
      } else {
        skimmer.begin(at)
        while (!skimmer.skim(SLICE_UNITS)) yield
        const value = judge(bytes, at, skimmer)
        if (value.status === 'invalid')
          return value.message === null ? syntax(value.at) : invalid(shortName(name), `"${shortName(name)}" ${value.message}`)
        values += skimmer.values
        if (values > VALUES_TOTAL_MAX) return invalid(null, TOO_MANY_VALUES)
        json = value.json
        work += skimmer.at - at + skimmer.values * UNITS_PER_VALUE
        at = skimmer.at
      }
      fields.push({ name, keyStart, start, end: at, json, elements })
      if (work > SLICE_UNITS) {
        work = 0
        yield
      }
      at = afterSpace(bytes, at)
      const separator = bytes[at]
      at += 1
      if (separator === CLOSE_BRACE) break
      if (separator !== COMMA) return syntax(at - 1)
      at = afterSpace(bytes, at)
    }
  }
  at = afterSpace(bytes, at)
  if (at < bytes.length) return syntax(at)
  return { status: 'ok', fields, bodyStart }
}

/** The same for bytes that are known to be a valid JSON object (a value inside one): ranges of its members by name. */
export function memberRanges(bytes: Buffer, object: Range): ReadonlyMap<string, Range> {
  const members = new Map<string, Range>()
  const skimmer = new Skimmer(bytes)
  let at = afterSpace(bytes, object.start + 1)
  while (bytes[at] === QUOTE) {
    const keyEnd = stringEnd(bytes, at + 1)
    const name = parseString(bytes, at, keyEnd) ?? ''
    const start = afterSpace(bytes, afterSpace(bytes, keyEnd) + 1)
    skimmer.begin(start)
    skimmer.skimAll()
    members.set(name, { start, end: skimmer.at })
    at = afterSpace(bytes, skimmer.at)
    if (bytes[at] === COMMA) at = afterSpace(bytes, at + 1)
  }
  return members
}

/** Ranges of the elements of a valid JSON array. */
export function elementRanges(bytes: Buffer, array: Range): readonly Range[] {
  const elements: Range[] = []
  const skimmer = new Skimmer(bytes)
  let at = afterSpace(bytes, array.start + 1)
  while (at < array.end - 1) {
    skimmer.begin(at)
    skimmer.skimAll()
    elements.push({ start: at, end: skimmer.at })
    at = afterSpace(bytes, skimmer.at)
    if (bytes[at] === COMMA) at = afterSpace(bytes, at + 1)
  }
  return elements
}

/** The value of bytes that `scanObject` has taken for valid JSON. */
export function parseValid(bytes: Uint8Array): Json {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const text = buffer.toString('utf8')
  return withTrueKeys(JSON.parse(text), text, buffer, 0)
}

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

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const SPACE = 0x20

const TOO_MANY_VALUES = `the body must not hold more than ${VALUES_TOTAL_MAX} values`
const NEAR_BYTES = 48
/** A parsed key or value costs about as much as this many bytes of text. */
const UNITS_PER_VALUE = 256
const UNITS_PER_ELEMENT = 1_024

const CLASS_OTHER = 0
const CLASS_QUOTE = 1
const CLASS_OPEN = 2
const CLASS_CLOSE = 3
const CLASS_COMMA = 4
const CLASS_COLON = 5
const CLASSES = new Uint8Array(256)
CLASSES[QUOTE] = CLASS_QUOTE
CLASSES[OPEN_BRACE] = CLASSES[OPEN_BRACKET] = CLASS_OPEN
CLASSES[CLOSE_BRACE] = CLASSES[CLOSE_BRACKET] = CLASS_CLOSE
CLASSES[COMMA] = CLASS_COMMA
CLASSES[COLON] = CLASS_COLON

/** Moves over one value to its end, taking brackets on trust and counting what is inside. */
class Skimmer {
  readonly #bytes: Uint8Array
  at = 0
  #depth = 0
  #start = 0
  depthMost = 0
  /** Keys, of all objects inside. */
  keys = 0
  /** Keys and values inside, roughly: each comma, colon and bracket is one. */
  values = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  begin(at: number): void {
    this.at = this.#start = at
    this.#depth = this.depthMost = this.keys = this.values = 0
  }

  /** Goes on for about `byteBudget` bytes; true at the end of the value, which is `at`, or when a limit is passed. */
  skim(byteBudget: number): boolean {
    const bytes = this.#bytes
    const { length } = bytes
    const until = Math.min(length, this.at + byteBudget)
    let { at } = this
    let depth = this.#depth
    let ended = false
    if (depth === 0 && at === this.#start) {
      const first = bytes[at] ?? 0
      if (first === QUOTE) {
        const end = stringEnd(bytes, at + 1)
        this.at = end < 0 ? length : end
        return true
      }
      if (CLASSES[first] !== CLASS_OPEN) {
        while (at < length && CLASSES[bytes[at] ?? 0] === CLASS_OTHER && (bytes[at] ?? 0) > SPACE) at += 1
        this.at = at
        return true
      }
    }
    while (at < until) {
      switch (CLASSES[bytes[at] ?? 0]) {
        case CLASS_OTHER:
          at += 1
          continue
        case CLASS_QUOTE: {
          const end = stringEnd(bytes, at + 1)
          at = end < 0 ? length : end
          continue
        }
        case CLASS_OPEN:
          depth += 1
          this.values += 1
          if (depth > this.depthMost) this.depthMost = depth
          if (depth > DEPTH_MAX) ended = true
          break
        case CLASS_CLOSE:
          depth -= 1
          if (depth === 0) ended = true
          break
        case CLASS_COLON:
          this.keys += 1
          this.values += 1
          break
        default:
          this.values += 1
      }
      at += 1
      if (ended || this.values > VALUES_MAX) {
        ended = true
        break
      }
    }
    this.at = at
    this.#depth = depth
    return ended || at >= length
  }

  /** Goes on to the end of a value that is known to be valid, beyond any limit. */
  skimAll(): void {
    const { length } = this.#bytes
    do this.skim(length)
    while (this.#depth > 0 && this.at < length)
  }
}

type Judged =
  | { readonly status: 'ok'; readonly json: Json }
  | { readonly status: 'invalid'; readonly at: number; readonly message: string | null }

/** Parses what the skimmer went over. A null message means: not JSON. */
function judge(bytes: Buffer, start: number, skimmer: Skimmer): Judged {
  if (skimmer.depthMost > DEPTH_MAX) return { status: 'invalid', at: start, message: `must not be nested deeper than ${DEPTH_MAX}` }
  if (skimmer.values > VALUES_MAX) return { status: 'invalid', at: start, message: `must not hold more than ${VALUES_MAX} values` }
  const text = bytes.toString('utf8', start, skimmer.at)
  let json: Json
  try {
    json = JSON.parse(text)
  } catch {
    return { status: 'invalid', at: start, message: null } // its own message quotes the body
  }
  json = withTrueKeys(json, text, bytes, start)
  // Who reads which of two equal keys differs between parsers: what we meter must be what the provider reads.
  if (skimmer.keys !== countKeys(json)) return { status: 'invalid', at: start, message: 'must not give a key twice' }
  return { status: 'ok', json }
}

/** See `CarefulReader`. `text` is what `json` was parsed from, which stands in `bytes` from `start` on. */
function withTrueKeys(json: Json, text: string, bytes: Buffer, start: number): Json {
  return text.includes('\\') && hasBackslashKey(json) ? new CarefulReader(bytes, start).value() : json
}

/** Keys of all objects in a value; recursion is bounded by `DEPTH_MAX`. */
function countKeys(value: Json): number {
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

/** A string with its quotes; null when it is not valid JSON. */
function parseString(bytes: Buffer, start: number, end: number): string | null {
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

function afterSpace(bytes: Uint8Array, from: number): number {
  const { length } = bytes
  let at = from
  while (at < length) {
    const byte = bytes[at] ?? 0
    if (byte !== SPACE && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) break
    at += 1
  }
  return at
}

/** Names are the client's: shown, but not at any length. */
function shortName(name: string): string {
  return name.length <= 64 ? name : `${name.slice(0, 64)}...`
}

function invalid(field: string | null, message: string): Scan {
  return { status: 'invalid', field, message }
}
function syntax(at: number): Scan {
  return invalid(null, `the body must be valid JSON; it is not at byte ${at}`)
}
