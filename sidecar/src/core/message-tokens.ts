/** How many tokens a message is: at the most, by its bytes, and by the heuristic for all that a model reads of it. */
import { isUnbounded, mediaTokensBound, mediaTokensUsual } from './media-tokens.ts'
import { isList, isObject } from './message.ts'
import type { Json, JsonObject, Message } from './request.ts'
import { heuristicTokens } from './text-tokens.ts'

/** Tokens around each message (role, separators), which its JSON keys outweigh in bytes; counted all the same. */
const MESSAGE_FRAMING_TOKENS = 4
/** Tokens around the whole prompt: the opening of the answer and the preamble of tools. */
export const REQUEST_FRAMING_TOKENS = 32

/** The most tokens that a message can be, but for files: the bytes of its JSON, which hold its text and more, with media by their own rule. */
export function messageTokensBound(message: Message, model: string): number {
  let tokens = textTokensBound(message)
  for (const part of message.images) if (!isUnbounded(part, model)) tokens += mediaTokensBound(part, model)
  return tokens
}

export function textTokensBound(message: Message): number {
  return message.bytes.length - message.mediaBytes + MESSAGE_FRAMING_TOKENS
}

/** The heuristic for a whole message: all text that the model reads of it, and its framing. */
export function messageTokensHeuristic(message: Message, model: string): number {
  let tokens = TEXT_TOKENS.get(message)
  if (tokens === undefined) {
    tokens = MESSAGE_FRAMING_TOKENS + textTokens(message.json, message.images.length > 0)
    TEXT_TOKENS.set(message, tokens)
  }
  for (const part of message.images) tokens += mediaTokensUsual(part, model)
  return tokens
}

/** A turn asks for the same messages under several rungs and models: each is read once. */
const TEXT_TOKENS = new WeakMap<Message, number>()

/** The heuristic for a prompt of our own making, times `factor`. */
export function promptTokens({ system, user }: { readonly system: string; readonly user: string }, factor: number): number {
  const tokens = REQUEST_FRAMING_TOKENS + 2 * MESSAGE_FRAMING_TOKENS + heuristicTokens(system) + heuristicTokens(user)
  return Math.ceil(tokens * Math.max(1, factor))
}

/** A longer text fits into no model's context: what is beyond counts by the most bytes that it can have, since reading it would hold up other turns. */
const TEXT_UNITS_MAX = 4 << 20
/** UTF-8 bytes of a UTF-16 unit, at most. */
const BYTES_PER_UNIT_MAX = 3

function longTextTokens(text: string): number {
  return heuristicTokens(text.slice(0, TEXT_UNITS_MAX)) + (text.length - TEXT_UNITS_MAX) * BYTES_PER_UNIT_MAX
}

/** Keys whose values the model never reads as text. */
const UNREAD_KEYS: ReadonlySet<string> = new Set([
  'role',
  'type',
  'id',
  'tool_call_id',
  'tool_use_id',
  'call_id',
  'detail',
  'cache_control',
  'thoughtSignature',
])
/** Keys that hold embedded media, or where it is. */
const MEDIA_KEYS: ReadonlySet<string> = new Set([
  'image_url',
  'input_audio',
  'file',
  'file_data',
  'file_url',
  'inlineData',
  'inline_data',
  'fileData',
])

function textTokens(value: Json | undefined, hasMedia: boolean): number {
  if (typeof value === 'string') return value.length <= TEXT_UNITS_MAX ? heuristicTokens(value) : longTextTokens(value)
  if (typeof value === 'number') return heuristicTokens(String(value))
  if (value === null || typeof value !== 'object') return 1
  let tokens = 0
  if (isList(value)) {
    for (const element of value) tokens += 1 + textTokens(element, hasMedia)
    return tokens
  }
  if (value['type'] === 'thinking' || value['type'] === 'redacted_thinking') return thoughtTokens(value)
  for (const key of Object.keys(value)) {
    if (UNREAD_KEYS.has(key) || (hasMedia && (MEDIA_KEYS.has(key) || isMediaSource(key, value[key])))) continue
    tokens += 1 + textTokens(value[key], hasMedia)
  }
  return tokens
}

/** Characters of encrypted thinking (base64) that hold a token of it at least. */
const ENCRYPTED_CHARS_PER_TOKEN = 4

/** Thinking that is sent back is read whole, however little of it is shown: its signature, or its data, hold the rest. */
function thoughtTokens({ thinking, signature, data }: JsonObject): number {
  const encrypted = typeof signature === 'string' ? signature : typeof data === 'string' ? data : ''
  const shown = typeof thinking === 'string' ? textTokens(thinking, false) : 0
  return 1 + Math.max(shown, Math.ceil(encrypted.length / ENCRYPTED_CHARS_PER_TOKEN))
}

/** Anthropic's `source` of an image or a document; one of text is read as text. */
function isMediaSource(key: string, value: Json | undefined): boolean {
  return key === 'source' && isObject(value) && value['type'] !== 'text' && value['type'] !== 'content'
}
