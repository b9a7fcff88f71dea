/**
 * Messages of Gemini's format: a content of the user, a run of contents of the model, the system instruction. SDKs keep a
 * streamed answer as one content per chunk, and the provider reads contents of one role that follow each other as one: so does this.
 */
import { canonicalJson } from '../core/digest.ts'
import { isList, isObject } from '../core/message.ts'
import type { ImagePart, Json, JsonObject, Message, Role, TextPart, ToolCall } from '../core/request.ts'
import { memberOf, objectOf, objectsIn, objectsOf, textOf } from './gemini-json.ts'
import { imageSize } from './image-size.ts'
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
  /** Calls without a result so far. */
  let open: readonly ToolCall[] = []
  const endRun = (): void => {
    const [first] = run
    const last = run.at(-1)
    if (first === undefined || last === undefined) return
    const message = new GeminiMessage(
      'contents',
      run.map(({ json }) => json),
      body.subarray(first.start, last.end),
      NONE,
    )
    messages.push(message)
    open = message.toolCalls
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
    const message = new GeminiMessage('contents', [content.json], body.subarray(content.start, content.end), open)
    messages.push(message)
    open = open.filter(({ id }) => !message.answers.includes(id))
  }
  endRun()
  return messages
}

/** The system instruction as a message: it stands in a field of its own. */
export function systemMessage(json: JsonObject, bytes: Uint8Array): Message {
  return new GeminiMessage('system', [json], bytes, NONE)
}

export function isSystemInstruction(message: Message): boolean {
  return message instanceof GeminiMessage && message.place === 'system'
}

/** What a candidate said, as an app sends it back; null when it said nothing. */
export function messageFromContent(content: JsonObject): Message | null {
  if (objectsOf(content, 'parts').length === 0) return null
  const json = { role: 'model', ...content }
  return new GeminiMessage('contents', [json], Buffer.from(JSON.stringify(json)), NONE)
}

/** A message of ours. An instruction in the midst of a conversation has no role of its own here: it is the user's. */
export function ownGeminiMessage(role: 'system' | 'user' | 'assistant', text: string): Message {
  const json = { role: role === 'assistant' ? 'model' : 'user', parts: [{ text }] }
  return new GeminiMessage('contents', [json], Buffer.from(JSON.stringify(json)), NONE)
}

/** Names of the functions that a content calls. */
export function calledNames(content: JsonObject): readonly string[] {
  return callsIn([content]).flatMap(({ name }) => (name === '' ? [] : [name]))
}

type Place = 'contents' | 'system'

class GeminiMessage implements Message {
  readonly place: Place
  readonly role: Role
  readonly bytes: Uint8Array
  readonly toolCalls: readonly ToolCall[]
  readonly answers: readonly string[]
  readonly images: readonly ImagePart[]
  readonly mediaBytes: number
  /** The calls that were to be answered when it came: results may leave out the ids of theirs. */
  readonly #open: readonly ToolCall[]
  #contents: readonly JsonObject[] | null

  /** `contents`: one, or a run of the model's; `bytes` then has them with a comma between. */
  constructor(place: Place, contents: readonly JsonObject[], bytes: Uint8Array, open: readonly ToolCall[]) {
    const media = mediaOf(contents)
    this.place = place
    this.bytes = bytes
    this.#open = open
    this.#contents = contents
    this.answers = answersIn(contents, open)
    this.role = roleOf(place, contents, this.answers)
    this.toolCalls = this.role === 'assistant' ? callsIn(contents) : NONE
    this.images = media.parts
    this.mediaBytes = media.bytes
  }

  get stableBytes(): Uint8Array {
    return this.bytes
  }
  get json(): JsonObject {
    const contents = this.#read()
    const [first = EMPTY] = contents
    return contents.length === 1 ? first : { role: 'model', parts: contents.flatMap((content) => objectsOf(content, 'parts')) }
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
    return new GeminiMessage(this.place, contents, bytesOf(contents), this.#open)
  }

  reread(text: string): Message | null {
    const contents = parseList(`[${text}]`)
    if (contents === null || contents.length === 0) return null
    const message = new GeminiMessage(this.place, contents, Buffer.from(text, 'utf8'), this.#open)
    return message.role === this.role ? message : null
  }

  get others(): readonly string[] {
    return this.#parts().flatMap((part) => (OTHER_PARTS.some((name) => memberOf(part, name) !== undefined) ? [canonicalJson(part)] : []))
  }

  #parts(): readonly JsonObject[] {
    return this.#read().flatMap((content) => objectsOf(content, 'parts'))
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

function bytesOf(contents: readonly JsonObject[]): Buffer {
  return Buffer.from(contents.map((content) => JSON.stringify(content)).join(','))
}

function roleOf(place: Place, contents: readonly JsonObject[], answers: readonly string[]): Role {
  if (place === 'system') return 'system'
  if (contents.some((content) => textOf(content, 'role') === 'model')) return 'assistant'
  return answers.length > 0 ? 'tool' : 'user'
}

/** Ids are optional: a call without one is known by its name and its place among the calls of that name. */
function callsIn(contents: readonly JsonObject[]): readonly ToolCall[] {
  const calls: ToolCall[] = []
  const seen = new Map<string, number>()
  for (const part of contents.flatMap((content) => objectsOf(content, 'parts'))) {
    const call = memberOf(part, 'functionCall')
    if (!isObject(call)) continue
    const name = textOf(call, 'name') ?? ''
    const args = memberOf(call, 'args')
    calls.push({ id: textOf(call, 'id') ?? placeId(seen, name), name, input: args === undefined ? '{}' : JSON.stringify(args) })
  }
  return calls.length === 0 ? NONE : calls
}

/** The calls that the results of a content answer: by id, or the first of that name that is left. */
function answersIn(contents: readonly JsonObject[], open: readonly ToolCall[]): readonly string[] {
  const answers: string[] = []
  const left = [...open]
  const seen = new Map<string, number>()
  for (const part of contents.flatMap((content) => objectsOf(content, 'parts'))) {
    const result = memberOf(part, 'functionResponse')
    if (!isObject(result)) continue
    const id = textOf(result, 'id')
    const name = textOf(result, 'name') ?? ''
    const at = left.findIndex((call) => (id === null ? call.name === name : call.id === id))
    const [answered] = at < 0 ? [] : left.splice(at, 1)
    answers.push(answered?.id ?? id ?? placeId(seen, name))
  }
  return answers.length === 0 ? NONE : answers
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

function parseList(text: string): readonly JsonObject[] | null {
  let value: Json
  try {
    value = JSON.parse(text)
  } catch {
    return null // the log holds what another wire wrote
  }
  return isList(value) && value.every(isObject) ? value : null
}

interface Media {
  readonly parts: readonly ImagePart[]
  readonly bytes: number
}

function mediaOf(contents: readonly JsonObject[]): Media {
  const parts: ImagePart[] = []
  let bytes = 0
  const read = (part: JsonObject): void => {
    const blob = memberOf(part, 'inlineData')
    const file = memberOf(part, 'fileData')
    if (isObject(blob)) {
      const data = textOf(blob, 'data') ?? ''
      bytes += data.length
      const kind = kindOf(textOf(blob, 'mimeType'))
      const embeddedBytes = Math.floor((data.length * 3) / 4)
      parts.push({ kind, size: kind === 'image' ? imageSize(data) : null, detail: 'auto', embeddedBytes })
    } else if (isObject(file)) parts.push({ kind: kindOf(textOf(file, 'mimeType')), size: null, detail: 'auto' })
    for (const inner of objectsOf(objectOf(part, 'functionResponse'), 'parts')) read(inner)
  }
  for (const content of contents) for (const part of objectsOf(content, 'parts')) read(part)
  return { parts: parts.length === 0 ? NONE : parts, bytes }
}

/** Videos and documents count as files do. */
function kindOf(mimeType: string | null): ImagePart['kind'] {
  if (mimeType?.startsWith('image/') === true) return 'image'
  return mimeType?.startsWith('audio/') === true ? 'audio' : 'file'
}
