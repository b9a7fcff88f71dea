/**
 * Calls that are no talk (embeddings, old completions, images, speech, transcriptions): what they have in common. They cost, are held
 * for, settled and capped; nothing in them is rewritten, and they end in a refusal.
 */
import type { Usage } from '@farebox/crds/usage.ts'
import { isList, isObject } from '../core/message.ts'
import { NO_HOSTED_TOOLS } from '../core/request.ts'
import type { Json, JsonObject, Message, ModelRequest, WireName } from '../core/request.ts'
import { EVENT_BYTES_MAX } from './event-stream.ts'
import { isForm, readForm } from './form.ts'
import type { FormFile } from './form.ts'
import { scanObject } from './json-scan.ts'
import type { Field } from './json-scan.ts'
import { errorCode, NO_FACTS } from './openai-answer.ts'
import { MODEL_LENGTH_MAX } from './openai-chat.ts'
import { ownChatMessage } from './openai-message.ts'
import { Pacer } from './pacer.ts'
import { dataOf, EventBoundaries } from './sse-events.ts'
import type { UsageReading } from './usage-reading.ts'
import type { AnswerStream, CallContext, ParsedRequest, ReadAnswer, Wire, WireFacts } from './wire.ts'

/** What a request says, be it JSON or a form. */
export interface UnitFields {
  readonly body: Buffer
  /** Of JSON only. */
  readonly layout: { readonly bodyStart: number; readonly fields: readonly Field[] } | null
  readonly files: readonly FormFile[]
  readonly names: ReadonlySet<string>
  /** A value as JSON; a form has only texts. Undefined: absent or null. */
  value(name: string): Json | undefined
  text(name: string): string | null
  /** A whole number from 1 to `most`, as a number or, in a form, as text; null: absent. Throws `InvalidField`. */
  count(name: string, most: number): number | null
  flag(name: string): boolean
}

export class InvalidField extends Error {
  readonly field: string
  constructor(field: string, message: string) {
    super(`"${field}" ${message}`)
    this.field = field
  }
}

/** What tells one call from another: see `ModelRequest`. */
export interface UnitParts {
  readonly wire: WireName
  readonly model: string
  readonly stream?: boolean
  readonly units?: Readonly<Partial<Usage>>
  /** Bytes of the body that are text; all of them, where it is JSON. */
  readonly textBytes?: number
  /** Where something is written that can be bounded. */
  readonly output?: Pick<ModelRequest, 'choices' | 'outputLimit' | 'outputField' | 'generates' | 'includeUsage'>
}

const SHARED_PACER = new Pacer()
/** Bodies from this size on wait for their turn before they are read at all. */
const LARGE_BODY_BYTES = 256 * 1024

/** Reads a body, and what `read` makes of it. `split`: list fields that are read by element. */
export async function parseUnitCall(
  body: Buffer,
  call: CallContext,
  split: ReadonlySet<string>,
  read: (fields: UnitFields) => UnitParts,
): Promise<ParsedRequest> {
  if (body.length >= LARGE_BODY_BYTES) await SHARED_PACER.turn()
  const found = isForm(call.contentType) ? formFields(body, call.contentType) : await jsonFields(body, split)
  if (found.status === 'invalid') return found
  try {
    return { status: 'ok', request: requestOf(found.fields, read(found.fields)) }
  } catch (error) {
    if (error instanceof InvalidField) return { status: 'invalid', field: error.field, message: error.message }
    throw error
  }
}

/** The model that is asked: the one in the body, or that of the path. */
export function modelOf(fields: UnitFields, call: CallContext, byDefault: string | null = null): string {
  const model = fields.value('model') ?? call.model ?? byDefault
  if (typeof model === 'string' && model !== '' && model.length <= MODEL_LENGTH_MAX) return model
  throw new InvalidField('model', `must be a string of 1 to ${MODEL_LENGTH_MAX} characters`)
}

/** The parts of a wire that are the same for all of these calls: they go out as they came. */
export const UNIT_WIRE = {
  asksForUsage: false,
  render: ({ body }: ModelRequest): Buffer => asBuffer(body),
  path: ({ path }: CallContext): string => path,
  addNotice: (body: Buffer) => ({ body, added: false }),
  synthetic: () => null,
  objection: () => null,
  prompt: () => null,
} satisfies Partial<Wire>

/** A whole answer that is a JSON object; null when it is none. */
export function parseAnswer(body: Buffer): JsonObject | null {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'))
    return isAnswer(value) ? value : null
  } catch {
    return null // passed on all the same, and not metered by its word
  }
}
function isAnswer(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What such an answer comes to. */
export function answerWith(answer: JsonObject | null, reading: UsageReading, more: Partial<WireFacts> = {}): ReadAnswer {
  const error = answer === null ? null : errorCode(answer['error'])
  return {
    facts: { ...NO_FACTS, ...factsOf(answer, reading), error, ...more },
    message: null,
    readable: answer !== null || reading.usage !== null,
  }
}

function factsOf(answer: JsonObject | null, { usage, clamped, invalid, others }: UsageReading): Partial<WireFacts> {
  const { model, service_tier: serviceTier } = answer ?? {}
  return {
    model: typeof model === 'string' && model !== '' ? model : null,
    serviceTier: typeof serviceTier === 'string' ? serviceTier : null,
    usage,
    usageClamped: clamped,
    usageInvalid: invalid,
    ...(others === undefined ? {} : { others }),
  }
}

const MENTIONS_USAGE = Buffer.from('"usage"')
const MENTIONS_ERROR = Buffer.from('"error"')

/** A stream of typed events that passes as it is; the ones that end it say what was used. */
export class UnitStream implements AnswerStream {
  readonly #boundaries = new EventBoundaries()
  readonly #read: (event: JsonObject) => UsageReading | null
  /** The unfinished event, in the pieces that it came in; null while one passes that is too long. */
  #pieces: Buffer[] | null = []
  #pieceBytes = 0
  #reading: UsageReading | null = null
  #error: string | null = null
  readonly noticeAdded = false

  /** `read`: what an event says of usage; null for one that says nothing. What several say adds up. */
  constructor(read: (event: JsonObject) => UsageReading | null) {
    this.#read = read
  }

  push(chunk: Buffer): readonly Buffer[] {
    let start = 0
    for (let end = this.#boundaries.next(chunk, 0); end >= 0; end = this.#boundaries.next(chunk, start)) {
      if (this.#pieces !== null) this.#event(Buffer.concat([...this.#pieces, chunk.subarray(start, end)]))
      this.#pieces = []
      this.#pieceBytes = 0
      start = end
    }
    this.#pieceBytes += chunk.length - start
    if (this.#pieceBytes > EVENT_BYTES_MAX) this.#pieces = null
    else if (start < chunk.length) this.#pieces?.push(Buffer.from(chunk.subarray(start)))
    return [chunk]
  }

  end(): readonly Buffer[] {
    if (this.#pieces !== null && this.#pieceBytes > 0) this.#event(Buffer.concat(this.#pieces))
    this.#pieces = []
    return []
  }

  get facts(): WireFacts {
    const reading = this.#reading
    return { ...NO_FACTS, ...(reading === null ? {} : factsOf(null, reading)), error: this.#error }
  }
  get usageSoFar(): Usage | null {
    return this.#reading?.usage ?? null
  }
  readonly message: Message | null = null

  /** What the hold says of the call covers it: nothing is estimated from what is seen. */
  observedOutputTokens(): number {
    return 0
  }

  #event(bytes: Buffer): void {
    if (!bytes.includes(MENTIONS_USAGE) && !bytes.includes(MENTIONS_ERROR)) return
    const data = dataOf(bytes, 0, bytes.length)
    const event = data === null ? null : parseAnswer(data.bytes.subarray(data.start, data.end))
    if (event === null) return
    this.#error ??= errorCode(event['error'])
    const reading = this.#read(event)
    if (reading !== null) this.#reading = this.#reading === null ? reading : sumOf(this.#reading, reading)
  }
}

function sumOf(one: UsageReading, other: UsageReading): UsageReading {
  if (one.usage === null || other.usage === null) return one.usage === null ? other : one
  const usage = Object.fromEntries(Object.entries(one.usage).map(([kind, count]) => [kind, count + countOf(other.usage, kind)]))
  return { usage: { ...one.usage, ...usage }, clamped: one.clamped || other.clamped, invalid: one.invalid || other.invalid }
}
function countOf(usage: Usage | null, kind: string): number {
  return Object.entries(usage ?? {}).find(([name]) => name === kind)?.[1] ?? 0
}

type Found = { readonly status: 'ok'; readonly fields: UnitFields } | Extract<ParsedRequest, { status: 'invalid' }>

async function jsonFields(body: Buffer, split: ReadonlySet<string>): Promise<Found> {
  const scan = await SHARED_PACER.run(scanObject(body, split))
  if (scan.status === 'invalid') return scan
  const byName = new Map(scan.fields.map((field) => [field.name, field]))
  const value = (name: string): Json | undefined => {
    const field = byName.get(name)
    return field?.elements?.map(({ json }) => json) ?? field?.json ?? undefined
  }
  return { status: 'ok', fields: { body, layout: scan, files: [], ...readers(value, new Set(byName.keys())) } }
}

function formFields(body: Buffer, contentType: string): Found {
  const read = readForm(body, contentType)
  if (read.status === 'invalid') return { status: 'invalid', field: null, message: read.message }
  const { fields, files } = read.form
  return { status: 'ok', fields: { body, layout: null, files, ...readers((name) => fields.get(name), new Set(fields.keys()), true) } }
}

function readers(
  value: UnitFields['value'],
  names: ReadonlySet<string>,
  isText = false,
): Pick<UnitFields, 'value' | 'text' | 'count' | 'flag' | 'names'> {
  return {
    value,
    names,
    text(name) {
      const text = value(name)
      return typeof text === 'string' ? text : null
    },
    count(name, most) {
      const given = value(name)
      if (given === undefined) return null
      const count = isText && typeof given === 'string' && /^\d{1,9}$/.test(given) ? Number(given) : given
      if (typeof count === 'number' && Number.isInteger(count) && count >= 1 && count <= most) return count
      throw new InvalidField(name, `must be an integer from 1 to ${most}`)
    },
    flag(name) {
      const given = value(name)
      return given === true || (isText && typeof given === 'string' && given.toLowerCase() === 'true')
    },
  }
}

function requestOf(fields: UnitFields, parts: UnitParts): ModelRequest {
  const { body } = fields
  const metadata = fields.value('metadata')
  return {
    wire: parts.wire,
    body,
    model: parts.model,
    stream: parts.stream ?? false,
    includeUsage: false,
    choices: 1,
    outputLimit: null,
    outputField: '',
    generates: false,
    ...parts.output,
    units: parts.units ?? {},
    earlier: null,
    messages: [],
    tools: 'none',
    toolsRefused: false,
    // No words of ours fit into such an answer, or in its place.
    structured: true,
    serviceTier: fields.text('service_tier'),
    metadata: isObject(metadata)
      ? Object.fromEntries(Object.entries(metadata).filter((entry): entry is [string, string] => typeof entry[1] === 'string'))
      : {},
    promptCacheKey: null,
    safetyIdentifier: fields.text('safety_identifier'),
    user: fields.text('user'),
    fixedBytes: parts.textBytes ?? body.length,
    fixedDigest: 'untalked',
    fields: fields.names,
    hosted: NO_HOSTED_TOOLS,
    own: ownChatMessage,
  }
}

/** How many there are in a list, or one for what is no list. */
export function lengthOf(value: Json | undefined): number {
  return isList(value) ? value.length : value === undefined ? 0 : 1
}

export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
