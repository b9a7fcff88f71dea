/**
 * One message of Anthropic Messages: its texts, tool calls, results and media, read from its blocks. What the model thought is bound to
 * all that stood before it: it is no text of ours to change, only to leave out.
 */
import { canonicalJson } from '../core/digest.ts'
import { isList, isObject, parseObject } from '../core/message.ts'
import type { ImagePart, Json, JsonObject, Message, Role, TextPart, ToolCall } from '../core/request.ts'
import { DOCUMENT_NAME, RETRIEVAL_NAME } from '../core/retrieval.ts'
import { withMarksOf, withoutMarks } from './cache-marks.ts'
import { mediaPart, mediaWith } from './embedded-media.ts'
import type { MediaPart } from './embedded-media.ts'
import { parseValidObject } from './json-keys.ts'
import { textOrNull } from './json-values.ts'

/** For how long the app asks the provider to keep what stands up to a block, at most. */
export type CacheMark = 'none' | 'short' | 'long'

/** A message with the bytes it is sent as; null when it is not an object with a role that is known. */
export function readAnthropicMessage(json: Json, bytes: Uint8Array): AnthropicMessage | null {
  return read(json, bytes)
}

/**
 * An answer as it comes back in the history of the next request, without what was thought; null when nothing else was in it. Its bytes
 * are made when asked for.
 */
export function messageFromBlocks(blocks: readonly Json[]): AnthropicMessage | null {
  const content = blocks.filter((block) => !isThinking(block))
  return content.length === 0 ? null : read({ role: 'assistant', content }, null)
}

/** A message of ours. Instructions of ours are a user's words here: older models know no others but those before all messages. */
export function ownAnthropicMessage(role: 'system' | 'user' | 'assistant', text: string): AnthropicMessage {
  const json = { role: role === 'system' ? 'user' : role, content: text }
  return new AnthropicMessage(json.role === 'user' ? 'user' : 'assistant', Buffer.from(JSON.stringify(json)), json)
}

/** The message without what the model thought; null when nothing would be left of it. */
export function withoutThinking(message: Message): Message | null {
  return message instanceof AnthropicMessage && message.hasThinking ? message.withoutThinking() : message
}

/** The longest of the marks that `value`, an object that may carry `cache_control`, and the blocks inside it have. */
export function cacheMarkOf(value: Json | undefined): CacheMark {
  if (isList(value)) return value.reduce((most: CacheMark, item) => longer(most, cacheMarkOf(item)), 'none')
  if (!isObject(value)) return 'none'
  const control = value[CACHE_MARK]
  const own: CacheMark = isObject(control) ? (control['ttl'] === undefined || control['ttl'] === '5m' ? 'short' : 'long') : 'none'
  return longer(own, longer(cacheMarkOf(blocksOf(value['content'])), cacheMarkOf(contentOf(value))))
}

export function longer(one: CacheMark, other: CacheMark): CacheMark {
  if (one === 'long' || other === 'long') return 'long'
  return one === 'short' || other === 'short' ? 'short' : 'none'
}

export class AnthropicMessage implements Message {
  readonly role: Role
  readonly images: readonly ImagePart[]
  readonly mediaBytes: number
  readonly toolCalls: readonly ToolCall[]
  readonly answers: readonly string[]
  readonly name = null
  readonly hasThinking: boolean
  readonly beginsWithThinking: boolean
  readonly cacheMark: CacheMark
  /** `stableBytes` are not `bytes`. */
  readonly #isMarked: boolean
  #bytes: Uint8Array | null
  #json: JsonObject | null
  #stableBytes: Uint8Array | null = null

  constructor(role: 'user' | 'assistant' | 'system', bytes: Uint8Array | null, json: JsonObject) {
    const blocks = blocksOf(json['content'])
    const media = mediaWith(mediaOf(blocks))
    this.answers = blocks.flatMap((block) => (isResult(block) ? [block.tool_use_id] : []))
    this.role = this.answers.length > 0 ? 'tool' : role
    this.toolCalls = role === 'assistant' ? blocks.flatMap(callOf) : NONE
    this.images = media.parts
    this.mediaBytes = media.bytes
    this.hasThinking = blocks.some(isThinking)
    this.beginsWithThinking = blocks.slice(0, 1).some(isThinking)
    this.cacheMark = cacheMarkOf(blocks)
    const isShort = bytes === null || bytes.length <= STABLE_BYTES_MAX
    this.#isMarked = isShort && (this.cacheMark !== 'none' || isOneText(json['content']))
    this.#bytes = bytes
    this.#json = json
  }

  get bytes(): Uint8Array {
    this.#bytes ??= Buffer.from(JSON.stringify(this.json))
    return this.#bytes
  }

  /** Without cache marks; and a single text as a string, which is how many apps write what carries no mark. */
  get stableBytes(): Uint8Array {
    if (!this.#isMarked) return this.bytes
    this.#stableBytes ??= Buffer.from(JSON.stringify({ ...this.json, content: unmarked(this.json['content']) }))
    return this.#stableBytes
  }

  get json(): JsonObject {
    this.#json ??= parseValidObject(this.bytes)
    return this.#json
  }

  forget(): void {
    if (this.#bytes === null) return
    this.#json = null
    this.#stableBytes = null
  }

  get texts(): readonly TextPart[] {
    const texts: TextPart[] = []
    mapTexts(this.json['content'], NOWHERE, (part) => {
      texts.push(part)
      return part.text
    })
    return texts
  }

  withTexts(texts: readonly (string | null)[]): Message | null {
    let next = 0
    const content = mapTexts(this.json['content'], NOWHERE, () => texts[next++] ?? null)
    return content === this.json['content'] ? this : this.#with(content)
  }

  withoutThinking(): Message | null {
    return this.#with(blocksOf(this.json['content']).filter((block) => !isThinking(block)))
  }

  reread(text: string): Message | null {
    const json = parseObject(text)
    const message = json === null ? null : read(json, Buffer.from(text))
    if (json === null || message?.role !== this.role) return null
    if (message.cacheMark === 'none' && this.cacheMark === 'none') return message
    return message.#with(withMarksOf(json['content'], this.json['content'], 'text'))
  }

  get others(): readonly string[] {
    return blocksOf(this.json['content']).flatMap(otherBlocks)
  }

  /** Thinking alone says nothing, and the provider takes no empty message. */
  #with(content: Json | undefined): Message | null {
    if (content === undefined || content === '' || (isList(content) && content.every(isThinking))) return null
    const json = { ...this.json, content }
    return read(json, Buffer.from(JSON.stringify(json)))
  }
}

const CACHE_MARK = 'cache_control'
/** A longer message is known by its very bytes: to write it once more takes time that other turns need. */
const STABLE_BYTES_MAX = 1024 * 1024
const NONE: readonly never[] = []

function read(json: Json, bytes: Uint8Array | null): AnthropicMessage | null {
  if (!isObject(json)) return null
  const { role } = json
  return role === 'user' || role === 'assistant' || role === 'system' ? new AnthropicMessage(role, bytes, json) : null
}

function blocksOf(content: Json | undefined): readonly JsonObject[] {
  return isList(content) ? content.filter(isObject) : NONE
}

type Visit = (part: TextPart) => string | null
/** What a text stands in: a document, the result of a call. */
type Place = Pick<TextPart, 'name' | 'answers'>
const NOWHERE: Place = { name: null, answers: null }

/**
 * `content` with each of its texts as `visit` has it: blocks of text, results of tools, text documents, and what a search found, which
 * the app marks as retrieved by giving it in blocks of that kind. The same value when nothing changes. What is left without a word goes.
 */
function mapTexts(content: Json | undefined, place: Place, visit: Visit): Json | undefined {
  if (typeof content === 'string') return visit({ text: content, kind: 'text', ...place }) ?? undefined
  if (!isList(content)) return content
  let changed = false
  const mapped = content.flatMap((block) => {
    const rest = isObject(block) ? mapBlock(block, place, visit) : block
    changed ||= rest !== block
    return rest === null ? [] : [rest]
  })
  return changed ? mapped : content
}

function mapBlock(block: JsonObject, place: Place, visit: Visit): Json {
  const said = (text: string, name = place.name): string | null => visit({ text, kind: 'text', name, answers: place.answers })
  if (isText(block)) return block.text === '' ? block : replaced(block, block.text, said(block.text))
  if (isResult(block)) {
    const content = mapTexts(block['content'], { name: null, answers: block.tool_use_id }, visit)
    if (content === block['content']) return block
    const { content: _, ...rest } = block
    return isNothing(content) ? rest : { ...rest, content }
  }
  if (block['type'] === 'search_result') {
    const found = searchText(block)
    const text = said(found, RETRIEVAL_NAME)
    return text === found ? block : text === null || text === '' ? null : { type: 'text', text }
  }
  const source = block['type'] === 'document' ? block['source'] : null
  const field = isObject(source) ? DOCUMENT_TEXTS.get(source['type']) : undefined
  const words = isObject(source) && field !== undefined ? source[field] : null
  if (!isObject(source) || field === undefined || isNothing(words)) return block
  const rest = mapTexts(words, { ...place, name: DOCUMENT_NAME }, visit)
  return rest === words ? block : isNothing(rest) ? null : { ...block, source: { ...source, [field]: rest } }
}

function isNothing(content: Json | undefined): boolean {
  return content === undefined || content === '' || (isList(content) && content.length === 0)
}

/** Where a document of text has it, by the type of its source. */
const DOCUMENT_TEXTS: ReadonlyMap<Json | undefined, string> = new Map([
  ['text', 'data'],
  ['content', 'content'],
])

/** The blocks of a document whose content is given as such. */
function contentOf({ type, source }: JsonObject): readonly JsonObject[] {
  return type === 'document' && isObject(source) && source['type'] === 'content' ? blocksOf(source['content']) : NONE
}

function replaced(block: JsonObject, before: string, text: string | null): Json {
  if (text === before) return block
  return text === null || text === '' ? null : { ...block, text }
}

function searchText(block: JsonObject): string {
  return blocksOf(block['content'])
    .flatMap((part) => (isText(part) ? [part.text] : []))
    .join('\n')
}

type TextBlock = JsonObject & { readonly text: string }
function isText(block: JsonObject): block is TextBlock {
  return block['type'] === 'text' && typeof block['text'] === 'string'
}

type ResultBlock = JsonObject & { readonly tool_use_id: string }
function isResult(block: JsonObject): block is ResultBlock {
  return block['type'] === 'tool_result' && typeof block['tool_use_id'] === 'string'
}

function isThinking(block: Json): boolean {
  return isObject(block) && (block['type'] === 'thinking' || block['type'] === 'redacted_thinking')
}

function callOf(block: JsonObject): readonly ToolCall[] {
  const { id, name, input } = block
  if (block['type'] !== 'tool_use' || typeof id !== 'string') return NONE
  return [{ id, name: typeof name === 'string' ? name : '', input: JSON.stringify(input ?? {}) }]
}

/** What is neither text nor a call of the app's tools nor thought: media, and what the provider's own tools did. */
function otherBlocks(block: JsonObject): readonly string[] {
  switch (block['type']) {
    case 'text':
    case 'tool_use':
    case 'thinking':
    case 'redacted_thinking':
    case 'search_result':
      return NONE
    case 'tool_result':
      return blocksOf(block['content']).flatMap(otherBlocks)
    case 'document':
      return isObject(block['source']) && DOCUMENT_TEXTS.has(block['source']['type'])
        ? contentOf(block).flatMap(otherBlocks)
        : [canonicalJson(block)]
    default:
      return [canonicalJson(block)]
  }
}

function isOneText(content: Json | undefined): boolean {
  if (!isList(content) || content.length !== 1) return false
  const [block] = content
  return isObject(block) && isText(block) && Object.keys(block).every((key) => key === 'type' || key === 'text' || key === CACHE_MARK)
}

function unmarked(content: Json | undefined): Json {
  if (isOneText(content) && isList(content) && isObject(content[0])) return content[0]['text'] ?? ''
  return isList(content) ? content.map(withoutMarks) : (content ?? null)
}

function mediaOf(blocks: readonly JsonObject[]): readonly MediaPart[] {
  return blocks.flatMap((block) => {
    const inside = block['type'] === 'tool_result' ? blocksOf(block['content']) : contentOf(block)
    return inside.length > 0 ? mediaOf(inside) : (blockMedia(block) ?? NONE)
  })
}

/** An image or a file that a block is; null for any other, and for a document of text. */
export function blockMedia({ type, source }: JsonObject): MediaPart | null {
  const kind = type === 'image' ? 'image' : type === 'document' || type === 'container_upload' ? 'file' : null
  if (kind === null || (isObject(source) && DOCUMENT_TEXTS.has(source['type']))) return null
  return mediaPart(kind, isObject(source) && source['type'] === 'base64' ? textOrNull(source['data']) : null)
}
