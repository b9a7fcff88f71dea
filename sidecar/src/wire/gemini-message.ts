/**
 * Messages of Gemini's format: a content of the user, a run of contents of the model, the system instruction. SDKs keep a
 * streamed answer as one content per chunk, and the provider reads contents of one role that follow each other as one: so does this.
 */
import { canonicalJson } from '../core/digest.ts'
import { isObject } from '../core/message.ts'
import type { ImagePart, JsonObject, Message, Role, TextPart, ToolCall } from '../core/request.ts'
import { mediaPart, mediaWith, ofType } from './embedded-media.ts'
import type { MediaPart } from './embedded-media.ts'
import { memberOf, objectOf, objectsIn, objectsOf, parseObjects, textOf } from './gemini-json.ts'
import { parseValid } from './json-keys.ts'

/** A content and the bytes that it stands in. */
export interface ReadContent {
  readonly json: JsonObject
  readonly start: number
  readonly end: number
}

/** The messages of a list of contents in `body`. Null where one has a role that nobody knows: its index. */
export function readContents(body: Buffer, contents: readonly ReadContent[]): readonly Message[] | { readonly unknownRole: number } {
  const messages: Message[] = []
  let run: ReadContent[] = []
  let open = new OpenCalls(NONE)
  const endRun = (): void => {
    const [first] = run
    const last = run.at(-1)
    if (first === undefined || last === undefined) return
    const message = new GeminiMessage(
      'contents',
      run.map(({ json }) => json),
      body.subarray(first.start, last.end),
      new OpenCalls(NONE),
    )
    messages.push(message)
    open = new OpenCalls(message.toolCalls)
    run = []
  }
  for (const [index, content] of contents.entries()) {
    const role = textOf(content.json, 'role')
    if (role === 'model') {
      run.push(content)
      continue
    }
    // `function` is what the first version called the user who brings results.
    if (role !== null && role !== '' && role !== 'user' && role !== 'function') return { unknownRole: index }
    endRun()
    messages.push(new GeminiMessage('contents', [content.json], body.subarray(content.start, content.end), open))
  }
  endRun()
  return messages
}

/** The system instruction as a message: it stands in a field of its own. */
export function systemMessage(json: JsonObject, bytes: Uint8Array): Message {
  return new GeminiMessage('system', [json], bytes, new OpenCalls(NONE))
}

export function isSystemInstruction(message: Message): boolean {
  return message instanceof GeminiMessage && message.place === 'system'
}

/** What a candidate said, as an app sends it back; null when it said nothing. */
export function messageFromContent(content: JsonObject): Message | null {
  if (objectsOf(content, 'parts').length === 0) return null
  const json = { role: 'model', ...content }
  return new GeminiMessage('contents', [json], Buffer.from(JSON.stringify(json)), new OpenCalls(NONE))
}

/** A message of ours. An instruction in the midst of a conversation has no role of its own here: it is the user's. */
export function ownGeminiMessage(role: 'system' | 'user' | 'assistant', text: string): Message {
  const json = { role: role === 'assistant' ? 'model' : 'user', parts: [{ text }] }
  return new GeminiMessage('contents', [json], Buffer.from(JSON.stringify(json)), new OpenCalls(NONE))
}

/** Names of the functions that a content calls. */
export function calledNames(content: JsonObject): readonly string[] {
  return callsIn(objectsOf(content, 'parts')).flatMap(({ name }) => (name === '' ? [] : [name]))
}

type Place = 'contents' | 'system'

class GeminiMessage implements Message {
  readonly place: Place
  readonly role: Role
  readonly bytes: Uint8Array
  readonly toolCalls: readonly ToolCall[]
  readonly answers: readonly string[]
  readonly answeredPlaces: readonly string[]
  readonly images: readonly ImagePart[]
  readonly mediaBytes: number
  /** The calls that it answers: results may leave out the ids of theirs. */
  readonly #answered: readonly ToolCall[]
  #contents: readonly JsonObject[] | null

  /** `contents`: one, or a run of the model's; `bytes` then has them with a comma between. What it answers is taken out of `open`. */
  constructor(place: Place, contents: readonly JsonObject[], bytes: Uint8Array, open: OpenCalls) {
    const parts = partsIn(contents)
    const media = mediaWith(mediaOf(parts))
    this.place = place
    this.bytes = bytes
    const found = answersIn(parts, open)
    this.#contents = contents
    this.#answered = found.calls
    this.answers = found.ids
    this.answeredPlaces = found.places
    this.role = roleOf(place, contents, this.answers)
    this.toolCalls = this.role === 'assistant' ? callsIn(parts) : NONE
    this.images = media.parts
    this.mediaBytes = media.bytes
  }

  get stableBytes(): Uint8Array {
    return this.bytes
  }
  get json(): JsonObject {
    const contents = this.#read()
    const [first = EMPTY] = contents
    return contents.length === 1 ? first : { role: 'model', parts: partsIn(contents) }
  }
  forget(): void {
    this.#contents = null
  }
  /** No content has a name; a part may, in the data that an app gives it. */
  readonly name = null

  get texts(): readonly TextPart[] {
    let next = 0
    return this.#parts().flatMap((part): TextPart[] => {
      const result = memberOf(part, 'functionResponse')
      if (isObject(result)) return [{ text: resultText(result), kind: 'text', name: nameOf(part), answers: this.answers[next++] ?? null }]
      const text = spokenText(part)
      return text === null ? [] : [{ text, kind: 'text', name: nameOf(part), answers: null }]
    })
  }

  withTexts(texts: readonly (string | null)[]): Message | null {
    let next = 0
    const contents = this.#read().flatMap((content): JsonObject[] => {
      const parts = objectsOf(content, 'parts').flatMap((part) => {
        const result = memberOf(part, 'functionResponse')
        if (!isObject(result) && spokenText(part) === null) return [part]
        const text = texts[next++] ?? null
        return isObject(result) ? [withResult(part, result, text)] : withSpoken(part, text)
      })
      return parts.length === 0 ? [] : [{ ...content, parts }]
    })
    if (contents.length === 0) return null
    return new GeminiMessage(this.place, contents, bytesOf(contents), new OpenCalls(this.#answered))
  }

  reread(text: string): Message | null {
    const contents = parseObjects(`[${text}]`)
    if (contents === null) return null // the log holds what another wire wrote
    const message = new GeminiMessage(this.place, contents, Buffer.from(text, 'utf8'), new OpenCalls(this.#answered))
    return message.role === this.role ? message : null
  }

  get others(): readonly string[] {
    return this.#parts().flatMap((part) => (OTHER_PARTS.some((name) => memberOf(part, name) !== undefined) ? [canonicalJson(part)] : []))
  }

  #parts(): readonly JsonObject[] {
    return partsIn(this.#read())
  }

  #read(): readonly JsonObject[] {
    this.#contents ??= objectsIn(parseValid(Buffer.concat([OPEN, this.bytes, CLOSE])))
    return this.#contents
  }
}

const EMPTY: JsonObject = {}
const NONE: readonly never[] = []
const OPEN = Buffer.from('[')
const CLOSE = Buffer.from(']')
/** Parts that are neither said nor called. */
const OTHER_PARTS = ['inlineData', 'fileData', 'executableCode', 'codeExecutionResult', 'toolCall', 'toolResponse'] as const

/** Of all of them, most often one. */
function partsIn(contents: readonly JsonObject[]): readonly JsonObject[] {
  const [first] = contents
  return contents.length === 1 && first !== undefined
    ? objectsOf(first, 'parts')
    : contents.flatMap((content) => objectsOf(content, 'parts'))
}

function bytesOf(contents: readonly JsonObject[]): Buffer {
  return Buffer.from(contents.map((content) => JSON.stringify(content)).join(','))
}

function roleOf(place: Place, contents: readonly JsonObject[], answers: readonly string[]): Role {
  if (place === 'system') return 'system'
  if (contents.some((content) => textOf(content, 'role') === 'model')) return 'assistant'
  return answers.length > 0 ? 'tool' : 'user'
}

/**
 * Ids are optional: a call without one is known by its name and its place among the calls of that name. Some clients (Vercel's AI SDK, Pydantic
 * AI) give it one of their own in what they send back.
 */
function callsIn(parts: readonly JsonObject[]): readonly ToolCall[] {
  const calls: ToolCall[] = []
  const seen = new Map<string, number>()
  for (const part of parts) {
    const call = memberOf(part, 'functionCall')
    if (!isObject(call)) continue
    const name = textOf(call, 'name') ?? ''
    const args = memberOf(call, 'args')
    const place = placeId(seen, name)
    calls.push({ id: textOf(call, 'id') ?? place, name, input: args === undefined ? '{}' : JSON.stringify(args), place })
  }
  return calls.length === 0 ? NONE : calls
}

interface Answered {
  readonly ids: readonly string[]
  readonly places: readonly string[]
  /** Those of them that somebody made. */
  readonly calls: readonly ToolCall[]
}
const NOTHING_ANSWERED: Answered = { ids: NONE, places: NONE, calls: NONE }

/** The calls that the results of a content answer: by id, or the first of that name that is left. */
function answersIn(parts: readonly JsonObject[], open: OpenCalls): Answered {
  const ids: string[] = []
  const places: string[] = []
  const calls: ToolCall[] = []
  const seen = new Map<string, number>()
  for (const part of parts) {
    const result = memberOf(part, 'functionResponse')
    if (!isObject(result)) continue
    const id = textOf(result, 'id')
    const name = textOf(result, 'name') ?? ''
    const answered = id === null ? open.takeNamed(name) : open.take(id)
    if (answered !== null) calls.push(answered)
    const place = answered?.place ?? placeId(seen, name)
    ids.push(answered?.id ?? id ?? place)
    places.push(place)
  }
  return ids.length === 0 ? NOTHING_ANSWERED : { ids, places, calls }
}

/** Calls without a result so far: however many there are, finding one takes no longer. */
class OpenCalls {
  readonly #byId = new Map<string, ToolCall>()
  /** The last one first. */
  readonly #byName = new Map<string, ToolCall[]>()

  constructor(calls: readonly ToolCall[]) {
    for (const call of calls.toReversed()) {
      this.#byId.set(call.id, call)
      const others = this.#byName.get(call.name)
      if (others === undefined) this.#byName.set(call.name, [call])
      else others.push(call)
    }
  }

  take(id: string): ToolCall | null {
    const call = this.#byId.get(id)
    this.#byId.delete(id)
    return call ?? null
  }

  /** The first of that name that is left. */
  takeNamed(name: string): ToolCall | null {
    const calls = this.#byName.get(name) ?? []
    for (let call = calls.pop(); call !== undefined; call = calls.pop()) if (this.#byId.delete(call.id)) return call
    return null
  }
}

function placeId(seen: Map<string, number>, name: string): string {
  const place = seen.get(name) ?? 0
  seen.set(name, place + 1)
  return `${name}#${place}`
}

/** Null for thoughts, which the model does not read again, and for what is no text. */
function spokenText(part: JsonObject): string | null {
  const { text, thought } = part
  return typeof text === 'string' && thought !== true ? text : null
}

/** A part whose text is left out stays where a signature goes with it. */
function withSpoken(part: JsonObject, text: string | null): readonly JsonObject[] {
  if (text === part['text']) return [part]
  if (text === null && memberOf(part, 'thoughtSignature') === undefined) return NONE
  return [{ ...part, text: text ?? '' }]
}

/** What a function gave back: the one text in it, or all of it as JSON. */
function resultText(result: JsonObject): string {
  const response = objectOf(result, 'response')
  const key = onlyText(response)
  const text = key === null ? null : response[key]
  return typeof text === 'string' ? text : JSON.stringify(response)
}

/** The result stays, whatever becomes of its text: its call needs it. */
function withResult(part: JsonObject, result: JsonObject, text: string | null): JsonObject {
  if (text === resultText(result)) return part
  const response = objectOf(result, 'response')
  const changed = { ...result, response: { [onlyText(response) ?? 'output']: text ?? '' } }
  return part['functionResponse'] === undefined ? { ...part, function_response: changed } : { ...part, functionResponse: changed }
}

function onlyText(response: JsonObject): string | null {
  const [key, ...more] = Object.keys(response)
  return key !== undefined && more.length === 0 && typeof response[key] === 'string' ? key : null
}

/** An app's own mark of a part. https://ai.google.dev/api/caching#Part */
function nameOf(part: JsonObject): string | null {
  return textOf(objectOf(part, 'partMetadata'), 'name')
}

function mediaOf(parts: readonly JsonObject[]): readonly MediaPart[] {
  const found: MediaPart[] = []
  for (const part of parts) {
    for (const media of mediaIn(part)) found.push(media)
    for (const media of mediaOf(objectsOf(objectOf(part, 'functionResponse'), 'parts'))) found.push(media)
  }
  return found
}

function mediaIn(part: JsonObject): readonly MediaPart[] {
  const blob = memberOf(part, 'inlineData')
  const file = memberOf(part, 'fileData')
  const held = isObject(blob) ? blob : file
  if (!isObject(held)) return NONE
  const mimeType = textOf(held, 'mimeType')
  const media =
    held === blob ? mediaPart(kindOf(mimeType), textOf(blob, 'data') ?? '', resolutionOf(part)) : mediaPart(kindOf(mimeType), null)
  return [ofType(media, mimeType)]
}

/** Whatever is asked for but the levels up to the usual one may be more. https://ai.google.dev/api/caching#PartMediaResolution */
function resolutionOf(part: JsonObject): ImagePart['detail'] {
  const asked = memberOf(part, 'mediaResolution')
  if (asked === undefined) return 'auto'
  const { level, ...more } = isObject(asked) ? asked : { level: asked }
  const isUsual = typeof level === 'string' && USUAL_LEVEL.test(level) && Object.keys(more).length === 0
  return isUsual ? 'auto' : 'ultraHigh'
}
const USUAL_LEVEL = /^MEDIA_RESOLUTION_(?:UNSPECIFIED|LOW|MEDIUM|HIGH)$/i

/** Videos and documents count as files do. */
function kindOf(mimeType: string | null): ImagePart['kind'] {
  if (mimeType?.startsWith('image/') === true) return 'image'
  return mimeType?.startsWith('audio/') === true ? 'audio' : 'file'
}
