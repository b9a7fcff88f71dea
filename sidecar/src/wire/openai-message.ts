/** One message of the chat format: its role, tool calls and media, read from its JSON. */
import { canonicalJson } from '../core/digest.ts'
import { isList, isObject, parseObject } from '../core/message.ts'
import { ROLES } from '../core/request.ts'
import type { ImagePart, Json, JsonObject, Message, TextPart, ToolCall } from '../core/request.ts'
import { blockMedia } from './anthropic-message.ts'
import { withMarksOf } from './cache-marks.ts'
import { base64Of, detailOf, fileIn, imageUrl, mediaPart, mediaWith, soundIn } from './embedded-media.ts'
import type { Media, MediaPart } from './embedded-media.ts'
import { parseValidObject } from './json-keys.ts'
import { textOrNull } from './json-values.ts'

/** A message with the bytes it is sent as; null when it is not an object with a role that is known. */
export function readMessage(json: Json, bytes: Uint8Array): Message | null {
  return read(json, bytes)
}

function read(json: Json, bytes: Uint8Array | null): Message | null {
  if (!isObject(json)) return null
  const role = ROLES.find((known) => known === json['role'])
  if (role === undefined) return null
  return new ReadMessage(role, bytes, json)
}

/** A message of an answer as it comes back in the history of the next request; null when it is no message. Its bytes are made when asked for. */
export function messageFromJson(json: JsonObject): Message | null {
  return read(json, null)
}

/** A message of ours in the chat format. */
export function ownChatMessage(role: 'system' | 'user' | 'assistant', content: string): Message {
  const json = { role, content }
  return new ReadMessage(role, Buffer.from(JSON.stringify(json)), json)
}

class ReadMessage implements Message {
  readonly role: Message['role']
  readonly images: readonly ImagePart[]
  readonly mediaBytes: number
  readonly toolCalls: readonly ToolCall[]
  readonly answers: readonly string[]
  #bytes: Uint8Array | null
  #json: JsonObject | null

  constructor(role: Message['role'], bytes: Uint8Array | null, json: JsonObject) {
    const media = mediaOf(json, role)
    this.role = role
    this.#bytes = bytes
    this.toolCalls = role === 'assistant' ? toolCallsOf(json) : NONE
    this.answers = answeredCalls(role, json)
    this.images = media.parts
    this.mediaBytes = media.bytes
    this.#json = json
  }

  get bytes(): Uint8Array {
    this.#bytes ??= Buffer.from(JSON.stringify(this.json))
    return this.#bytes
  }
  get stableBytes(): Uint8Array {
    return this.bytes
  }
  get json(): JsonObject {
    this.#json ??= parseValidObject(this.bytes)
    return this.#json
  }
  forget(): void {
    if (this.#bytes !== null) this.#json = null
  }
  get name(): string | null {
    return textOrNull(this.json['name'])
  }

  get texts(): readonly TextPart[] {
    const { content, refusal } = this.json
    const [answers = null] = this.answers
    const texts: TextPart[] = []
    if (typeof content === 'string') texts.push({ text: content, kind: 'text', name: null, answers })
    else if (isList(content)) {
      for (const part of content)
        if (isTextPart(part)) texts.push({ text: part.text, kind: 'text', name: textOrNull(part['name']), answers })
    }
    if (typeof refusal === 'string' && refusal !== '') texts.push({ text: refusal, kind: 'refusal', name: null, answers: null })
    return texts
  }

  withTexts(texts: readonly (string | null)[]): Message | null {
    const { json } = this
    const { content, refusal } = json
    let next = 0
    const take = (): string | null => texts[next++] ?? null
    let rest: Json | undefined = content
    if (typeof content === 'string') rest = take()
    else if (isList(content)) {
      const parts = content.flatMap((part) => {
        if (!isTextPart(part)) return [part]
        const text = take()
        return text === null ? [] : [text === part.text ? part : { ...part, text }]
      })
      rest = parts.every((part) => isTextPart(part) && part.text === '') ? null : parts
    }
    const left = typeof refusal === 'string' && refusal !== '' ? take() : (refusal ?? null)
    const saysMore = this.toolCalls.length > 0 || left !== null || isObject(json['audio']) || isObject(json['function_call'])
    if ((rest ?? null) === null && !saysMore) return null
    const changed = { ...json, content: rest ?? null, ...(refusal === undefined ? {} : { refusal: left }) }
    return new ReadMessage(this.role, Buffer.from(JSON.stringify(changed)), changed)
  }

  reread(text: string): Message | null {
    const json = parseObject(text)
    if (json === null || json['role'] !== this.json['role']) return null
    const content = withMarksOf(json['content'], this.json['content'], 'text')
    return content === json['content'] ? readMessage(json, Buffer.from(text, 'utf8')) : read({ ...json, content: content ?? null }, null)
  }

  get others(): readonly string[] {
    const { content } = this.json
    if (!isList(content)) return NONE
    return content.flatMap((part) => (isObject(part) && !isTextPart(part) && !isThinking(part) ? [canonicalJson(part)] : []))
  }
}

type ChatTextPart = JsonObject & { readonly text: string }
export function isTextPart(part: Json | undefined): part is ChatTextPart {
  return isObject(part) && part['type'] === 'text' && typeof part['text'] === 'string'
}

/** The texts of content that is a list of parts. */
export function textsIn(content: Json | undefined): readonly string[] {
  return isList(content) ? content.filter(isTextPart).map(({ text }) => text) : NONE
}

/** What apps may send back or leave out. */
function isThinking({ type }: JsonObject): boolean {
  return type === 'thinking'
}

/** The old `function_call` has no id: the function's name, which its result repeats, stands for it. */
function toolCallsOf(json: JsonObject): readonly ToolCall[] {
  const calls: ToolCall[] = []
  const list = json['tool_calls']
  if (isList(list)) {
    for (const call of list) {
      if (!isObject(call)) continue
      const id = call['id']
      if (typeof id === 'string') calls.push({ id, name: calledName(call), input: calledInput(call['function'] ?? call['custom']) })
    }
  }
  const old = json['function_call']
  if (isObject(old) && typeof old['name'] === 'string') calls.push({ id: old['name'], name: old['name'], input: calledInput(old) })
  return calls.length === 0 ? NONE : calls
}
const NONE: readonly never[] = []

/** The name that a tool call gives, be it of a function or of a custom tool; empty when it gives none. */
export function calledName(call: JsonObject): string {
  for (const kind of ['function', 'custom'] as const) {
    const called = call[kind]
    if (isObject(called) && typeof called['name'] === 'string') return called['name']
  }
  return ''
}

function calledInput(called: Json | undefined): string {
  if (!isObject(called)) return ''
  const { arguments: args, input } = called
  return typeof args === 'string' ? args : typeof input === 'string' ? input : ''
}

function answeredCalls(role: Message['role'], json: JsonObject): readonly string[] {
  const id = role === 'tool' ? json['tool_call_id'] : role === 'function' ? json['name'] : null
  return typeof id === 'string' ? [id] : NONE
}

function mediaOf({ content, audio }: JsonObject, role: Message['role']): Media {
  // What was spoken comes back by its id alone, and is heard again. https://developers.openai.com/api/docs/guides/audio
  const media: MediaPart[] = role === 'assistant' && isObject(audio) ? [mediaPart('audio', null)] : []
  if (!isList(content)) return mediaWith(media)
  for (const part of content) {
    const found = isObject(part) ? mediaIn(part) : null
    if (found !== null) media.push(found)
  }
  return mediaWith(media)
}

function mediaIn(part: JsonObject): MediaPart | null {
  const { type, source } = part
  switch (type) {
    case 'image_url':
    case 'input_image': {
      const image = part['image_url']
      const url = isObject(image) ? image['url'] : image
      const detail = isObject(image) ? image['detail'] : type === 'input_image' ? part['detail'] : null
      return imageUrl(url, isObject(image) ? image['format'] : null, detailOf(detail))
    }
    case 'input_audio': {
      const audio = part['input_audio']
      return soundIn(isObject(audio) ? (audio['data'] ?? audio['url']) : audio) // Mistral has no object
    }
    case 'file':
    case 'input_file': {
      const file = type === 'file' ? part['file'] : part
      return fileIn(isObject(file) ? (file['file_data'] ?? file['file_url']) : null)
    }
    default:
      if (typeof type === 'string' && LINKED.test(type)) return linked(part, type)
      return isObject(source) ? blockMedia(part) : null
  }
}

/**
 * Parts that other servers know: `document_url` (Mistral), `video_url` (OpenRouter, vLLM; once `input_video`), `audio_url` (vLLM), `video`, a list
 * of its frames (Qwen). What is to come is taken for one of them by its name. Routers take the parts of Responses and of Messages too.
 */
const LINKED = /_url$|^(?:input_)?video$/

function linked(part: JsonObject, type: string): MediaPart {
  const link = part[type] ?? part['video_url']
  const url = isObject(link) ? link['url'] : link
  const base64 = typeof url === 'string' ? base64Of(url) : null
  return type === 'audio_url' && base64 !== null ? mediaPart('audio', base64) : fileIn(url)
}
