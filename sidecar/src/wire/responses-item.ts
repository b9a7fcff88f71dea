/**
 * Items of OpenAI's Responses API as messages. An item is a message of its own, but for reasoning: it stays with the item that was
 * made after it, as the provider demands, so that no cut and no edit can part them.
 * https://developers.openai.com/api/docs/guides/conversation-state
 */
import { canonicalJson, digestOf } from '../core/digest.ts'
import { isList, isObject, parseObject } from '../core/message.ts'
import type { Approval, ImagePart, Json, JsonObject, Message, Role, TextPart, ToolCall } from '../core/request.ts'
import { withMarksOf } from './cache-marks.ts'
import { detailOf, fileIn, imageUrl, mediaPart, mediaWith, soundIn } from './embedded-media.ts'
import type { Media, MediaPart } from './embedded-media.ts'
import { parseValid } from './json-keys.ts'
import type { Element } from './json-scan.ts'
import { objectsIn } from './json-values.ts'

/** The messages of an `input` list whose elements stand in `body`; or the index of the first element that is no item. */
export function readItems(
  elements: readonly Element[],
  body: Buffer,
): { readonly status: 'ok'; readonly messages: readonly Message[] } | { readonly status: 'invalid'; readonly index: number } {
  const messages: Message[] = []
  let thoughts: (Element & { readonly json: JsonObject })[] = []
  for (const [index, element] of elements.entries()) {
    const { json, start, end } = element
    if (!isObject(json) || roleOf(json) === null) return { status: 'invalid', index }
    if (json['type'] === REASONING) {
      thoughts.push({ json, start, end })
      continue
    }
    const [first] = thoughts
    if (first !== undefined && isMadeByModel(json)) {
      messages.push(new ItemMessage(body.subarray(first.start, end), [...thoughts.map((thought) => thought.json), json]))
    } else {
      for (const thought of thoughts) messages.push(new ItemMessage(body.subarray(thought.start, thought.end), [thought.json]))
      messages.push(new ItemMessage(body.subarray(start, end), [json]))
    }
    thoughts = []
  }
  for (const thought of thoughts) messages.push(new ItemMessage(body.subarray(thought.start, thought.end), [thought.json]))
  return { status: 'ok', messages }
}

/** The output of a response as it comes back in the input of the next request: bytes are made when asked for. */
export function outputMessages(output: Json | undefined): readonly Message[] {
  const messages: Message[] = []
  let thoughts: JsonObject[] = []
  for (const item of isList(output) ? output : []) {
    if (!isObject(item) || roleOf(item) === null) continue
    thoughts.push(item)
    if (item['type'] === REASONING) continue
    messages.push(new ItemMessage(null, thoughts))
    thoughts = []
  }
  for (const thought of thoughts) messages.push(new ItemMessage(null, [thought]))
  return messages
}

/** A message of ours as an item. */
export function ownItem(role: 'system' | 'user' | 'assistant', content: string): Message {
  const json = { role, content }
  return new ItemMessage(Buffer.from(JSON.stringify(json)), [json])
}

/** An input that is nothing but a text, as the item that it stands for; `bytes` are those of the text, with its quotes. */
export function textItem(content: string, bytes: Buffer): Message {
  return new ItemMessage(Buffer.concat([TEXT_BEFORE, bytes, TEXT_AFTER]), [{ role: 'user', content }])
}
const TEXT_BEFORE = Buffer.from('{"role":"user","content":')
const TEXT_AFTER = Buffer.from('}')

/** Whether the item is nothing but the name of another, which the provider has kept. */
export function isReference(item: Json): boolean {
  return isObject(item) && item['type'] === REFERENCE
}

/** Whether the provider knows more of the item than its bytes say: it stands for what was kept, or was found by a tool. */
export function isOnlyNamed(item: Json): boolean {
  if (!isObject(item)) return false
  if (isReference(item)) return true
  const { type } = item
  if (type === REASONING) return typeof item['encrypted_content'] !== 'string'
  return typeof type === 'string' && HOSTED_CALLS.has(type) && typeof item['id'] === 'string'
}

/**
 * What an item is named by where it stands for what the provider has: a reference by the id of the item; a compaction, under whatever
 * id it comes, by its content, which nobody can change. Null for any other.
 */
export function keptName(item: Json): string | null {
  if (!isObject(item)) return null
  if (item['type'] === REFERENCE) return idOf(item)
  if (item['type'] !== 'compaction') return null
  const content = item['encrypted_content']
  return typeof content === 'string' && content !== '' ? digestOf(content) : null
}

/** The names that an item of an answer may come back by. */
export function nameWhenKept(item: JsonObject): string | null {
  return item['type'] === 'compaction' ? keptName(item) : idOf(item)
}

function idOf({ id }: JsonObject): string | null {
  return typeof id === 'string' && id !== '' ? id : null
}

/** Calls of tools that the provider runs itself: it answers them itself too. */
export const HOSTED_CALLS: ReadonlySet<string> = new Set([
  'web_search_call',
  'file_search_call',
  'code_interpreter_call',
  'image_generation_call',
  'mcp_call',
])

const REASONING = 'reasoning'
const REFERENCE = 'item_reference'
const CACHE_MARK = 'prompt_cache_breakpoint'
/** What must outlive every cut: it says how the conversation goes on, or holds a history that nobody here can read. */
const STANDING: ReadonlySet<string> = new Set(['compaction', 'additional_tools', 'configuration_update'])
const SPOKEN_ROLES = ['user', 'assistant', 'system', 'developer'] as const
const NONE: readonly never[] = []

function roleOf(item: JsonObject): Role | null {
  const { type, role } = item
  if (type === undefined || type === null || type === 'message') return SPOKEN_ROLES.find((known) => known === role) ?? null
  if (typeof type !== 'string' || type === '') return null
  if (STANDING.has(type)) return 'developer'
  return type.endsWith('_output') || type === 'mcp_approval_response' ? 'tool' : 'assistant'
}

function isMadeByModel(item: JsonObject): boolean {
  return roleOf(item) === 'assistant' && !isReference(item)
}

/** The call whose result it is: what a local shell printed names that in a field of its own. */
function answeredBy({ type, id, call_id: callId }: JsonObject): readonly string[] {
  const call = type === 'local_shell_call_output' ? (callId ?? id) : callId
  return typeof call === 'string' ? [call] : NONE
}

function approvalIn({ type, id, approval_request_id: asked }: JsonObject): Approval | null {
  if (type === 'mcp_approval_request' && typeof id === 'string') return { id, isGiven: false }
  return type === 'mcp_approval_response' && typeof asked === 'string' ? { id: asked, isGiven: true } : null
}

class ItemMessage implements Message {
  readonly role: Role
  readonly toolCalls: readonly ToolCall[]
  readonly answers: readonly string[]
  readonly approval: Approval | null
  readonly images: readonly ImagePart[]
  readonly mediaBytes: number
  readonly isOnlyNamed: boolean
  #bytes: Uint8Array | null
  /** The item, after the reasoning that belongs to it. Null while let go of. */
  #items: readonly JsonObject[] | null

  constructor(bytes: Uint8Array | null, items: readonly JsonObject[]) {
    const item = lastOf(items)
    const media = mediaOf(item)
    this.#bytes = bytes
    this.#items = items
    this.role = roleOf(item) ?? 'assistant'
    this.toolCalls = this.role === 'assistant' ? callsOf(item) : NONE
    this.answers = this.role === 'tool' ? answeredBy(item) : NONE
    this.approval = approvalIn(item)
    this.images = media.parts
    this.mediaBytes = media.bytes
    this.isOnlyNamed = isReference(item)
  }

  get bytes(): Uint8Array {
    this.#bytes ??= Buffer.from(this.#all.map((item) => JSON.stringify(item)).join(','))
    return this.#bytes
  }
  get stableBytes(): Uint8Array {
    const { bytes } = this
    // Marks for the cache, which apps move from turn to turn.
    if (!Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).includes(`"${CACHE_MARK}"`)) return bytes
    return Buffer.from(JSON.stringify(this.json, (key, value: unknown) => (key === CACHE_MARK ? undefined : value)))
  }
  get json(): JsonObject {
    const items = this.#all
    return items.length === 1 ? lastOf(items) : { items }
  }
  forget(): void {
    if (this.#bytes !== null) this.#items = null
  }
  get name(): string | null {
    return null // items have none
  }

  get texts(): readonly TextPart[] {
    const [answers = null] = this.answers
    const { texts } = this.#texts
    if (typeof texts === 'string') return [{ text: texts, kind: 'text', name: null, answers }]
    return texts.flatMap((part): TextPart[] => {
      if (isTextPart(part)) return [{ text: part.text, kind: 'text', name: null, answers }]
      return isRefusal(part) ? [{ text: part.refusal, kind: 'refusal', name: null, answers: null }] : []
    })
  }

  withTexts(changed: readonly (string | null)[]): Message | null {
    const { field, texts } = this.#texts
    let next = 0
    const take = (): string | null => changed[next++] ?? null
    let rest: Json
    if (typeof texts === 'string') {
      const text = take()
      if (text === null) return null
      rest = text
    } else {
      const parts = texts.flatMap((part): readonly Json[] => {
        if (!isTextPart(part) && !isRefusal(part)) return [part]
        const text = take()
        if (text === null) return []
        const key = isTextPart(part) ? 'text' : 'refusal'
        return [text === part[key] ? part : { ...part, [key]: text }]
      })
      if (parts.every((part) => isTextPart(part) && part.text === '')) return null
      rest = parts
    }
    const items = this.#all
    const item = { ...lastOf(items), [field]: rest }
    if (items.length === 1) return new ItemMessage(Buffer.from(JSON.stringify(item)), [item])
    // The reasoning before it goes out as it came.
    const all = [...items.slice(0, -1), item]
    return new ItemMessage(Buffer.from(all.map((each) => JSON.stringify(each)).join(',')), all)
  }

  reread(text: string): Message | null {
    const item = parseObject(text)
    if (item === null || roleOf(item) !== this.role) return null
    const { field, texts } = this.#texts
    const marked = withMarksOf(item[field], texts, 'input_text')
    return marked === undefined || marked === item[field]
      ? new ItemMessage(Buffer.from(text, 'utf8'), [item])
      : new ItemMessage(null, [{ ...item, [field]: marked }])
  }

  get others(): readonly string[] {
    const item = lastOf(this.#all)
    const { texts } = this.#texts
    const { type } = item
    if (type === REASONING) return NONE
    const isSaid = type === undefined || type === null || type === 'message' || this.role === 'tool' || this.toolCalls.length > 0
    if (!isSaid) return [canonicalJson({ ...item, id: type === REFERENCE ? item['id'] : null, status: null })]
    if (typeof texts === 'string') return NONE
    return texts.flatMap((part) => (isObject(part) && !isTextPart(part) && !isRefusal(part) ? [canonicalJson(part)] : []))
  }

  get #all(): readonly JsonObject[] {
    this.#items ??= readAgain(this.bytes)
    return this.#items
  }

  /** Where the item keeps what it says. */
  get #texts(): { readonly field: 'content' | 'output'; readonly texts: string | readonly Json[] } {
    const item = lastOf(this.#all)
    const field = this.role === 'tool' ? 'output' : 'content'
    const texts = this.role === 'tool' || roleIsSpoken(item) ? item[field] : undefined
    return { field, texts: typeof texts === 'string' || isList(texts) ? texts : NONE }
  }
}

function roleIsSpoken(item: JsonObject): boolean {
  const { type } = item
  return type === undefined || type === null || type === 'message'
}

function readAgain(bytes: Uint8Array): readonly JsonObject[] {
  const items = objectsIn(parseValid(Buffer.concat([OPEN, bytes, CLOSE])))
  if (items.length === 0) throw new TypeError('items that were read are objects')
  return items
}
const OPEN = Buffer.from('[')
const CLOSE = Buffer.from(']')

function lastOf(items: readonly JsonObject[]): JsonObject {
  const item = items.at(-1)
  if (item === undefined) throw new TypeError('a message has an item')
  return item
}

type ItemTextPart = JsonObject & { readonly text: string }
const TEXT_TYPES: ReadonlySet<Json | undefined> = new Set(['input_text', 'output_text', 'text'])
function isTextPart(part: Json): part is ItemTextPart {
  return isObject(part) && TEXT_TYPES.has(part['type']) && typeof part['text'] === 'string'
}
function isRefusal(part: Json): part is JsonObject & { readonly refusal: string } {
  return isObject(part) && part['type'] === 'refusal' && typeof part['refusal'] === 'string'
}

/** Of calls that the app must answer; each by an item with the same `call_id`. */
function callsOf(item: JsonObject): readonly ToolCall[] {
  const { type, call_id: id, name } = item
  if (typeof id !== 'string' || typeof type !== 'string' || !type.endsWith('_call')) return NONE
  return [{ id, name: typeof name === 'string' ? name : type, input: calledInput(item) }]
}

function calledInput({ arguments: args, input, action, operation }: JsonObject): string {
  const given = args ?? input ?? action ?? operation
  return typeof given === 'string' ? given : given === undefined || given === null ? '' : JSON.stringify(given)
}

function mediaOf(item: JsonObject): Media {
  const { content, output, result, type } = item
  if (type === 'image_generation_call' && typeof result === 'string') return mediaWith([mediaPart('image', result)])
  const found = [content, output].flatMap((list) => (isList(list) ? list : isObject(list) ? [list] : NONE))
  return mediaWith(found.flatMap((part) => (isObject(part) ? (mediaIn(part) ?? NONE) : NONE)))
}

function mediaIn(part: JsonObject): MediaPart | null {
  switch (part['type']) {
    case 'input_image':
    case 'computer_screenshot': {
      return imageUrl(part['image_url'], null, detailOf(part['detail']))
    }
    case 'input_file':
      return fileIn(part['file_data'] ?? part['file_url'])
    case 'input_audio': {
      const audio = part['input_audio']
      return soundIn(isObject(audio) ? audio['data'] : null)
    }
    default:
      return null
  }
}
