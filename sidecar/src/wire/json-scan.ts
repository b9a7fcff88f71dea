/**
 * Reads a JSON object from bytes in small steps, keeping where each top-level field and each element of chosen arrays
 * stands. So fields can be spliced without touching the rest, and no body, however nasty, holds up the event loop.
 *
 * The scanner only finds where values end; each value is then given to `JSON.parse`, which is the judge of its syntax. The
 * frame between them is checked here. So exactly those bodies pass that `JSON.parse` would take, but for the limits below.
 */
import { isUtf8 } from 'node:buffer'
import type { Json } from '../core/request.ts'
import { countKeys, withTrueKeys } from './json-keys.ts'
import {
  afterSpace,
  CLASS_CLOSE,
  CLASS_COLON,
  CLASS_OPEN,
  CLASS_OTHER,
  CLASS_QUOTE,
  CLASSES,
  CLOSE_BRACE,
  CLOSE_BRACKET,
  COLON,
  COMMA,
  OPEN_BRACE,
  OPEN_BRACKET,
  parseString,
  QUOTE,
  SPACE,
  stringEnd,
} from './json-text.ts'
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
            const value = yield* judge(bytes, at, skimmer)
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
        const value = yield* judge(bytes, at, skimmer)
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

const TOO_MANY_VALUES = `the body must not hold more than ${VALUES_TOTAL_MAX} values`
/** A parsed key or value costs about as much as this many bytes of text. */
const UNITS_PER_VALUE = 256
const UNITS_PER_ELEMENT = 1_024

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

/** A value from this size on is decoded and parsed in slices of their own. */
const HUGE_BYTES = 1024 * 1024

type Judged =
  | { readonly status: 'ok'; readonly json: Json }
  | { readonly status: 'invalid'; readonly at: number; readonly message: string | null }

/** Parses what the skimmer went over. A null message means: not JSON. */
function* judge(bytes: Buffer, start: number, skimmer: Skimmer): Generator<void, Judged> {
  if (skimmer.depthMost > DEPTH_MAX) return { status: 'invalid', at: start, message: `must not be nested deeper than ${DEPTH_MAX}` }
  if (skimmer.values > VALUES_MAX) return { status: 'invalid', at: start, message: `must not hold more than ${VALUES_MAX} values` }
  // What one step takes of a value of many megabytes is a slice by itself.
  const isHuge = skimmer.at - start > HUGE_BYTES
  if (isHuge) yield
  const text = bytes.toString('utf8', start, skimmer.at)
  if (isHuge) yield
  let json: Json
  try {
    json = JSON.parse(text)
  } catch {
    return { status: 'invalid', at: start, message: null } // its own message quotes the body
  }
  if (isHuge) yield
  json = withTrueKeys(json, text, bytes, start)
  // Who reads which of two equal keys differs between parsers: what we meter must be what the provider reads.
  if (skimmer.keys !== countKeys(json)) return { status: 'invalid', at: start, message: 'must not give a key twice' }
  return { status: 'ok', json }
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
