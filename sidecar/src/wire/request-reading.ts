/**
 * What the readers of requests have in common: a body is read once, in slices, by its top-level fields; what is wrong in it is refused by
 * name; and the request is written again from where its fields stand.
 */
import { digestOf } from '../core/digest.ts'
import { isList, isObject, parseObject } from '../core/message.ts'
import type { Json, JsonObject, Message, ModelRequest, RequestChange } from '../core/request.ts'
import { atOnce } from '../core/slices.ts'
import { CACHE_MARKS } from './cache-marks.ts'
import { foldedName, isFolded, spelledAgain } from './field-names.ts'
import { scanObject } from './json-scan.ts'
import type { Field, Scan } from './json-scan.ts'
import { textOrNull } from './json-values.ts'
import { PACER } from './pacer.ts'
import { Splice } from './splice.ts'
import type { Layout } from './splice.ts'
import type { ParsedRequest, UngovernedCode } from './wire.ts'

export const MODEL_LENGTH_MAX = 256
export const CHOICES_MAX = 128
/** More output tokens than any model makes; a larger limit is taken for a mistake. */
export const OUTPUT_LIMIT_MAX = 100_000_000
/** Bodies from this size on wait for their turn before they are read at all. */
const LARGE_BODY_BYTES = 256 * 1024

/** A field that makes the request invalid. The message says what it must be, and never quotes the body. */
export class InvalidField extends Error {
  readonly field: string
  constructor(field: string, must: string) {
    super(`"${field}" ${must}`)
    this.field = field
  }
}

/** A use that cannot be metered as it happens. `what` is for people: `An image in SVG, which another model writes,`. */
export class UngovernedUse extends Error {
  readonly what: string
  readonly code: UngovernedCode | null
  constructor(what: string, code: UngovernedCode | null = null) {
    super(what)
    this.what = what
    this.code = code
  }
}

/** Top-level fields by name. */
export type Fields = ReadonlyMap<string, Field>

/** Waits, before a large body is read, for its turn among all others. */
export async function turnFor(body: Buffer): Promise<void> {
  if (body.length >= LARGE_BODY_BYTES) await PACER.turn()
}

/** The top-level fields of a body that is JSON. `split` names the lists that are read by element. */
export async function scanBody(body: Buffer, split: ReadonlySet<string>): Promise<Scan> {
  await turnFor(body)
  const scan = await PACER.run(scanObject(body, split))
  const again = scan.status === 'ok' ? spelledAgain(scan.fields.map(({ name }) => name)) : null
  if (again === null) return scan
  return { status: 'invalid', field: again, message: `the field "${again}" must be given once, whichever way it is spelled` }
}

/** What `read` makes of the fields of a body that is JSON: see `orRefused`. */
export async function parseBody(
  body: Buffer,
  split: ReadonlySet<string>,
  read: (fields: readonly Field[]) => ModelRequest,
): Promise<ParsedRequest> {
  const scan = await scanBody(body, split)
  return scan.status === 'invalid' ? scan : readScan(body, scan, read)
}

/** The same of a body that was scanned. */
export function readScan(
  body: Buffer,
  scan: Extract<Scan, { status: 'ok' }>,
  read: (fields: readonly Field[]) => ModelRequest,
): ParsedRequest {
  const parsed = orRefused(() => ({ request: read(scan.fields) }))
  if (parsed.status === 'ok') LAYOUTS.set(body, withoutValues(scan))
  return parsed
}

/** Invalid where `read` throws `InvalidField`, ungoverned where it throws `UngovernedUse`. */
export function orRefused<T extends object>(
  read: () => T,
): ({ readonly status: 'ok' } & T) | Exclude<ParsedRequest, { readonly status: 'ok' }> {
  try {
    return { status: 'ok', ...read() }
  } catch (error) {
    if (error instanceof InvalidField) return { status: 'invalid', field: error.field, message: error.message }
    if (error instanceof UngovernedUse)
      return { status: 'ungoverned', what: error.what, ...(error.code === null ? {} : { code: error.code }) }
    throw error
  }
}

export function byName(fields: readonly Field[]): Fields {
  return new SpelledFields(fields.map((field) => [field.name, field] as const))
}

/**
 * Whoever asks for a field that is there in another spelling alone gets an `InvalidField`: to the provider it may be the one that is asked
 * for. `form`: one for all spellings of a name, of which no two are there.
 */
export class SpelledFields extends Map<string, Field> {
  readonly #form: (name: string) => string
  /** Null: each name that is there is its own folded form, as nearly always. */
  readonly #byForm: ReadonlyMap<string, Field> | null

  constructor(fields: Iterable<readonly [name: string, field: Field]>, form = foldedName) {
    super(fields)
    this.#form = form
    const given = [...this.values()]
    const isPlain = form === foldedName && given.every((field) => isFolded(field.name))
    this.#byForm = isPlain ? null : new Map(given.map((field) => [form(field.name), field]))
  }

  override get(name: string): Field | undefined {
    const field = super.get(name)
    if (field !== undefined) return field
    if (this.#byForm === null && isFolded(name)) return undefined
    const given = this.#byForm === null ? super.get(foldedName(name)) : this.#byForm.get(this.#form(name))
    if (given !== undefined) throw new InvalidField(given.name, `must be spelled "${name}"`)
    return undefined
  }
}

/** Fields that are asked for later on, by their presence alone. */
const ASKED_BY_PRESENCE = ['audio', 'context_management', 'data_sources', 'truncation']

/** The names of all fields, for whoever asks what is there. */
export function namesOf(fields: Fields): readonly string[] {
  for (const name of ASKED_BY_PRESENCE) fields.get(name) // it must be spelled so
  return [...fields.keys()]
}

/** Where the fields of a body stand; kept by the body, so that a request may be copied freely. */
const LAYOUTS = new WeakMap<Uint8Array, Layout>()

function withoutValues({ bodyStart, fields }: Layout): Layout {
  return { bodyStart, fields: fields.map(({ name, keyStart, start, end }) => ({ name, keyStart, start, end })) }
}

/** The body of a request that was read, to be changed field by field. `split` as it was read with. */
export function spliceOf({ body }: Pick<ModelRequest, 'body'>, split: ReadonlySet<string>): Splice {
  const bytes = asBuffer(body)
  return new Splice(bytes, LAYOUTS.get(body) ?? layoutOf(bytes, split))
}

/** As `spliceOf`, with the fields left out and renamed that `change` says, and the model that is asked. */
export function changedFields(request: ModelRequest, change: RequestChange, split: ReadonlySet<string>): Splice {
  const splice = spliceOf(request, split)
  for (const name of change.drop ?? []) splice.drop(name)
  for (const [from, to] of Object.entries(change.rename ?? {})) splice.rename(from, to)
  if (change.model !== undefined && change.model !== request.model) {
    splice.set('model', JSON.stringify(change.model))
    splice.drop('models') // of routers, which would fall back to it
  }
  return splice
}

/** Changes one member of a field that is an object, and leaves the rest of it as it was written; null takes the member out. */
export function spliceMember(splice: Splice, field: string, member: string, value: string | null): void {
  const written = splice.text(field)
  if (written === null) return
  const bytes = Buffer.from(written)
  const scan = atOnce(scanObject(bytes, NONE_SPLIT))
  if (scan.status === 'invalid' || scan.fields.every(({ name }) => name !== member)) return
  const within = new Splice(bytes, scan)
  if (value !== null) within.set(member, JSON.stringify(value))
  else if (scan.fields.length === 1) return splice.drop(field)
  else within.drop(member)
  splice.set(field, within.bytes())
}
const NONE_SPLIT: ReadonlySet<string> = new Set()

/** The messages to send, where they are not those of the request; else null. */
export function changedMessages(request: ModelRequest, { messages }: RequestChange): readonly Message[] | null {
  return messages === undefined || areSame(messages, request.messages) ? null : messages
}

/** Whether functions and tools that the request offers must not be called any more. */
export function refusesTools(request: ModelRequest, { toolChoice }: RequestChange): boolean {
  return toolChoice === 'none' && !request.toolsRefused && request.tools !== 'none'
}

/** The messages as a list of JSON, each with its bytes. */
export function listOf(messages: readonly Pick<Message, 'bytes'>[]): Buffer {
  const parts: Uint8Array[] = []
  for (const { bytes } of messages) parts.push(parts.length === 0 ? OPEN : COMMA, bytes)
  return Buffer.concat(parts.length === 0 ? [OPEN, CLOSE] : [...parts, CLOSE])
}
const OPEN = Buffer.from('[')
const COMMA = Buffer.from(',')
const CLOSE = Buffer.from(']')

/** `stream_options` that ask for the usage, beside what the client asked for there. */
export function askForUsage(splice: Splice): void {
  const own: Json = JSON.parse(splice.text('stream_options') ?? 'null')
  splice.set('stream_options', JSON.stringify({ ...(isObject(own) ? own : {}), include_usage: true }))
}

/** The model that a field named, or a path. Half of a surrogate pair is in no model's name, and not every store can read it in what it keeps. */
export function checkedModel(model: Json | undefined): string {
  if (typeof model === 'string' && model !== '' && model.length <= MODEL_LENGTH_MAX && model.isWellFormed()) return model
  throw new InvalidField('model', `must be a string of 1 to ${MODEL_LENGTH_MAX} characters, none of them half of a surrogate pair`)
}

/** The field `messages`, one or more; `read` gives null for what is no message. */
export function messagesIn<M extends Message>(body: Buffer, fields: Fields, read: (json: Json, bytes: Buffer) => M | null): readonly M[] {
  const elements = fields.get('messages')?.elements ?? []
  if (elements.length === 0) throw new InvalidField('messages', 'must be a list with at least one message')
  return elements.map((element, index) => {
    const message = read(element.json, body.subarray(element.start, element.end))
    if (message === null) throw new InvalidField(`messages[${index}]`, 'must be an object with a known "role"')
    return message
  })
}

/** The field `tools`, which is read by element; empty when it is absent or null. */
export function toolsIn(fields: Fields): readonly Json[] {
  const tools = fields.get('tools')
  if (tools !== undefined && tools.elements === null && tools.json !== null) throw new InvalidField('tools', 'must be a list')
  return tools?.elements?.map(({ json }) => json) ?? []
}

/** A field of the type that `is` says; null when it is absent or null. */
export function optional<T extends Json>(
  fields: Fields,
  name: string,
  must: string,
  is: (value: Json | undefined) => value is T,
): T | null {
  const field = fields.get(name)
  if (field === undefined || field.json === null) return null
  if (!is(field.json)) throw new InvalidField(name, must)
  return field.json
}

/** A carrier of identity or tier: anything but a string is left for the provider to judge. */
export function textIn(fields: Fields, name: string): string | null {
  return textOrNull(fields.get(name)?.json)
}

/** A field that is there, and not null. */
export function isGiven(fields: Fields, name: string): boolean {
  return (fields.get(name)?.json ?? null) !== null
}

/** Whether an answer may end at words of the app's own. None and an empty list are as if they were not given. */
export function stopsAtWords(value: Json | undefined): boolean {
  return (typeof value === 'string' || isList(value)) && value.length > 0
}

export function isBoolean(value: Json | undefined): value is boolean {
  return typeof value === 'boolean'
}
export function isJsonObject(value: Json | undefined): value is JsonObject {
  return isObject(value)
}
export function isJsonList(value: Json | undefined): value is readonly Json[] {
  return isList(value)
}
/** From 1 to `most`. */
export function isWhole(value: Json | undefined, most: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= most
}

/**
 * Whether the provider is asked to keep its cache for longer than it does by itself, at a price of its own: by OpenAI's option, or by a mark
 * inside the messages or tools, be it OpenAI's or Anthropic's, which routers take in OpenAI's formats too. A mark that says no life has that
 * of the option, or a short one.
 */
export function asksForLongCache(body: Buffer, fields: Fields): boolean {
  const options = fields.get('prompt_cache_options')?.json
  return (isObject(options) && !isShortLife(options['ttl'])) || CACHE_MARKS.some((mark) => hasLongMark(body, `"${mark}"`))
}
const SHORT_LIVES: ReadonlySet<Json> = new Set(['5m', '30m'])
function isShortLife(ttl: Json | undefined): boolean {
  return ttl === undefined || ttl === null || SHORT_LIVES.has(ttl)
}

/** Providers take fewer marks, and refuse what is longer. A request with more of either is taken for one that asks for the long cache. */
const MARKS_MAX = 64
const MARK_BYTES_MAX = 256

function hasLongMark(body: Buffer, key: string): boolean {
  let at = body.indexOf(key)
  for (let seen = 0; at >= 0; seen += 1) {
    const from = at + key.length
    if (seen >= MARKS_MAX || isLongMark(body.toString('latin1', from, from + MARK_BYTES_MAX))) return true
    at = body.indexOf(key, from)
  }
  return false
}

/** `after`: what stands behind the name; where that is no colon, the name is a text like any other. */
function isLongMark(after: string): boolean {
  const value = /^\s*:\s*(null\b|\{[^{}]*\}|)/.exec(after)?.[1]
  if (value === undefined || value === 'null') return false
  const mark = parseObject(value)
  return mark === null || !isShortLife(mark['ttl'])
}

/** Over the fields that fill the window beside the messages: all but those of `outside`. */
export function fixedDigest(body: Buffer, fields: Fields, outside: ReadonlySet<string>): string {
  const parts: Buffer[] = []
  for (const [name, field] of fields) if (!outside.has(name)) parts.push(body.subarray(field.keyStart, field.end))
  return digestOf(Buffer.concat(parts))
}

export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function areSame(some: readonly Message[], others: readonly Message[]): boolean {
  if (some === others) return true
  return some.length === others.length && some.every((message, index) => message.bytes === others[index]?.bytes)
}

/** Of a copy of a body that was read before, or one of our own making. */
function layoutOf(body: Buffer, split: ReadonlySet<string>): Layout {
  const scan = atOnce(scanObject(body, split))
  if (scan.status === 'invalid') throw new TypeError(`a request that was read must render: ${scan.message}`)
  return scan
}
