/**
 * Calls that are no talk (embeddings, old completions, images, speech, transcriptions): what they have in common. They cost, are held
 * for, settled and capped; nothing in them is rewritten, and they end in a refusal.
 */
import { METERED_KINDS } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import { isList } from '../core/message.ts'
import { NO_HOSTED_TOOLS } from '../core/request.ts'
import type { Json, JsonObject, Message, ModelRequest, WireName } from '../core/request.ts'
import { errorCode, NO_FACTS, usageFacts } from './answer-reading.ts'
import { EventFrames } from './event-frames.ts'
import { isForm, readForm } from './form.ts'
import type { Form, FormFile, FormText } from './form.ts'
import { objectAt, textOrNull, textsOf } from './json-values.ts'
import { ownChatMessage } from './openai-message.ts'
import { asBuffer, byName, checkedModel, InvalidField, isWhole, orRefused, parseBody, turnFor } from './request-reading.ts'
import type { Fields } from './request-reading.ts'
import { dataOf } from './sse-events.ts'
import { ABSENT, servedModel } from './usage-reading.ts'
import type { UsageReading } from './usage-reading.ts'
import type { AnswerStream, CallContext, ParsedRequest, ReadAnswer, Wire, WireFacts } from './wire.ts'

/** What a request says, be it JSON or a form. */
export interface UnitFields {
  readonly body: Buffer
  readonly isForm: boolean
  readonly files: readonly FormFile[]
  /** Fields of a form that are texts, those that have one name included; none of JSON. */
  readonly texts: readonly FormText[]
  readonly names: ReadonlySet<string>
  /** A value as JSON; a form has only texts. Undefined: absent or null. */
  value(name: string): Json | undefined
  text(name: string): string | null
  /** A whole number from 1 to `most`, as a number or, in a form, as text; null: absent. Throws `InvalidField`. */
  count(name: string, most: number): number | null
  flag(name: string): boolean
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

/** Reads a body, and what `read` makes of it. `split`: list fields that are read by element. */
export async function parseUnitCall(
  body: Buffer,
  call: CallContext,
  split: ReadonlySet<string>,
  read: (fields: UnitFields) => UnitParts,
): Promise<ParsedRequest> {
  const requestOf = (fields: UnitFields): ModelRequest => unitRequest(fields, read(fields))
  if (!isForm(call.contentType)) return parseBody(body, split, (fields) => requestOf(jsonFields(body, byName(fields))))
  await turnFor(body)
  const found = readForm(body, call.contentType)
  if (found.status === 'invalid') return { status: 'invalid', field: null, message: found.message }
  return orRefused(() => ({ request: requestOf(formFields(body, found.form)) }))
}

/** The model that is asked: the one in the body, or that of the path. */
export function modelOf(fields: UnitFields, call: CallContext, byDefault: string | null = null): string {
  return checkedModel(fields.value('model') ?? call.model ?? byDefault)
}

/** The parts of a wire that are the same for all of these calls: they go out as they came. */
export const UNIT_WIRE = {
  readsForms: true,
  asksForUsage: false,
  render: ({ body }: ModelRequest): Buffer => asBuffer(body),
  path: ({ path }: CallContext): string => path,
  addNotice: (body: Buffer) => ({ body, added: false }),
  synthetic: () => null,
  objection: () => null,
  prompt: () => null,
} satisfies Partial<Wire>

/** What such an answer comes to. */
export function answerWith(answer: JsonObject | null, reading: UsageReading, more: Partial<WireFacts> = {}): ReadAnswer {
  const error = answer === null ? null : errorCode(answer['error'])
  return {
    facts: { ...NO_FACTS, ...factsOf(answer, reading), error, ...more },
    message: null,
    readable: answer !== null || reading.usage !== null,
  }
}

function factsOf(answer: JsonObject | null, reading: UsageReading, isFinal = true): Partial<WireFacts> {
  const { model, service_tier: serviceTier } = answer ?? {}
  return { model: servedModel(model), serviceTier: textOrNull(serviceTier), ...usageFacts(reading, isFinal) }
}

/** What an event has in it that is to be read: a usage, an error, or the end of something that should have come with a usage. */
const TELLING = ['"usage"', '"error"', '.completed"'].map((text) => Buffer.from(text))

/** A stream of typed events that passes as it is; the ones that end it say what was used. */
export class UnitStream implements AnswerStream {
  readonly #frames: EventFrames
  readonly #read: (event: JsonObject) => UsageReading | null
  /** Events that say a usage, of a whole answer. */
  readonly #expected: number
  #came = 0
  #reading: UsageReading | null = null
  #isOver = false
  #error: string | null = null
  readonly noticeAdded = false

  /**
   * `read`: what an event says of usage; null for one that says nothing, absent where one should. What `expected` of them say adds up to
   * that of the answer, which may end with fewer.
   */
  constructor(read: (event: JsonObject) => UsageReading | null, expected = 1) {
    this.#read = read
    this.#expected = expected
    this.#frames = new EventFrames({
      rewrites: false,
      event: (bytes, start, end) => this.#event(bytes.subarray(start, end)),
      unread: () => undefined,
      outlined: (event) => {
        if (event === null) this.#add(ABSENT)
        else this.#event(event)
      },
    })
  }

  push(chunk: Buffer): readonly Buffer[] {
    return this.#frames.push(chunk)
  }

  end(): readonly Buffer[] {
    const last = this.#frames.end()
    this.#isOver = true
    return last
  }

  get facts(): WireFacts {
    const reading = this.#reading
    const isFinal = this.#isOver || this.#came >= this.#expected
    return { ...NO_FACTS, ...(reading === null ? {} : factsOf(null, reading, isFinal)), error: this.#error }
  }
  get usageSoFar(): Usage | null {
    return this.facts.usage
  }
  readonly message: Message | null = null

  /** What the hold says of the call covers it: nothing is estimated from what is seen. */
  observedOutputTokens(): number {
    return 0
  }

  #event(bytes: Buffer): null {
    if (!TELLING.some((text) => bytes.includes(text))) return null
    const data = dataOf(bytes, 0, bytes.length)
    if (data === null) return null
    const event = objectAt(data.bytes, data.start, data.end)
    if (event !== null) this.#error ??= errorCode(event['error'])
    const reading = event === null ? ABSENT : this.#read(event)
    if (reading !== null) this.#add(reading)
    return null
  }

  #add(reading: UsageReading): void {
    this.#came += 1
    this.#reading = this.#reading === null ? reading : sumOf(this.#reading, reading)
  }
}

/** Of what one of them does not say nobody knows the sum. */
function sumOf(one: UsageReading, other: UsageReading): UsageReading {
  const doubts = { clamped: one.clamped || other.clamped, invalid: one.invalid || other.invalid }
  if (one.usage === null || other.usage === null) return { usage: null, ...doubts }
  const usage = { ...one.usage }
  for (const kind of METERED_KINDS) usage[kind] += other.usage[kind]
  return { usage, ...doubts }
}

function jsonFields(body: Buffer, byNames: Fields): UnitFields {
  const value = (name: string): Json | undefined => {
    const field = byNames.get(name)
    return field?.elements?.map(({ json }) => json) ?? field?.json ?? undefined
  }
  return { body, isForm: false, files: [], texts: [], ...readers(value, new Set(byNames.keys())) }
}

function formFields(body: Buffer, { fields, files, texts }: Form): UnitFields {
  const value = (name: string): Json | undefined => {
    if (files.some((file) => file.name === name)) throw new InvalidField(name, 'must be no file')
    return fields.get(name)
  }
  return { body, isForm: true, files, texts, ...readers(value, new Set(fields.keys()), true) }
}

function readers(
  value: UnitFields['value'],
  names: ReadonlySet<string>,
  isText = false,
): Pick<UnitFields, 'value' | 'text' | 'count' | 'flag' | 'names'> {
  return {
    value,
    names,
    text: (name) => textOrNull(value(name)),
    count(name, most) {
      const given = value(name)
      if (given === undefined) return null
      const count = isText && typeof given === 'string' && /^\d{1,9}$/.test(given) ? Number(given) : given
      if (isWhole(count, most)) return count
      throw new InvalidField(name, `must be an integer from 1 to ${most}`)
    },
    flag(name) {
      const given = value(name) ?? false
      if (isText) return typeof given === 'string' && given.toLowerCase() === 'true'
      if (typeof given === 'boolean') return given
      throw new InvalidField(name, 'must be true or false')
    },
  }
}

function unitRequest(fields: UnitFields, parts: UnitParts): ModelRequest {
  const { body } = fields
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
    metadata: textsOf(fields.value('metadata')),
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
