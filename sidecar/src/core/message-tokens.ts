/** How many tokens a message is: at the most, by its bytes, and by the heuristic for all that a model reads of it. */
import { isUnbounded, mediaTokensBound, mediaTokensUsual } from './media-tokens.ts'
import { isList, isObject } from './message.ts'
import type { Json, JsonObject, Message } from './request.ts'
import { atOnce, Slice, SLICE_TEXT_UNITS } from './slices.ts'
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
  let tokens = TEXT_TOKENS.get(message) ?? atOnce(readTextTokens(message, new Slice()))
  for (const part of message.images) tokens += mediaTokensUsual(part, model)
  return tokens
}

/** Reads messages for `messageTokensHeuristic` beforehand, in slices: it is asked in the middle of a decision, which is made in one go. */
export function* readTokensAhead(messages: readonly Message[]): Generator<void, void> {
  const slice = new Slice()
  for (const message of messages) if (!TEXT_TOKENS.has(message)) yield* readTextTokens(message, slice)
}

function* readTextTokens(message: Message, slice: Slice): Generator<void, number> {
  const tokens = MESSAGE_FRAMING_TOKENS + (yield* textTokens(message.json, message.images.length > 0, slice))
  TEXT_TOKENS.set(message, tokens)
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

/** A longer text is read in pieces of this many units: a word that ends one may count as two. */
const PIECE_UNITS = 1 << 19

/** In slices, where it is long. */
function* longTextTokens(text: string): Generator<void, number> {
  let tokens = Math.max(0, text.length - TEXT_UNITS_MAX) * BYTES_PER_UNIT_MAX
  const end = Math.min(text.length, TEXT_UNITS_MAX)
  for (let from = 0; from < end; from += PIECE_UNITS) {
    tokens += heuristicTokens(text.slice(from, Math.min(end, from + PIECE_UNITS)))
    if (end - from > PIECE_UNITS) yield
  }
  return tokens
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

function* textTokens(value: readonly Json[] | JsonObject, hasMedia: boolean, slice: Slice): Generator<void, number> {
  if (!isList(value) && (value['type'] === 'thinking' || value['type'] === 'redacted_thinking')) return yield* thoughtTokens(value, slice)
  let tokens = 0
  for (const held of isList(value) ? value : readFields(value, hasMedia)) {
    tokens += 1
    if (isList(held) || isObject(held)) tokens += yield* textTokens(held, hasMedia, slice)
    else if (typeof held === 'string') tokens += held.length < SLICE_TEXT_UNITS ? heuristicTokens(held) : yield* longTextTokens(held)
    else tokens += typeof held === 'number' ? heuristicTokens(String(held)) : 1
    if (slice.isFull(VALUE_UNITS + (typeof held === 'string' ? held.length : 0))) yield
  }
  return tokens
}

/** What a value costs beside its text, in units of that. */
const VALUE_UNITS = 16

/** The values of an object that the model reads. */
function readFields(value: JsonObject, hasMedia: boolean): readonly (Json | undefined)[] {
  const isUnread = (key: string): boolean => UNREAD_KEYS.has(key) || (hasMedia && (MEDIA_KEYS.has(key) || isMediaSource(key, value[key])))
  return Object.keys(value).flatMap((key) => (isUnread(key) ? [] : [value[key]]))
}

/** Characters of encrypted thinking (base64) that hold a token of it at least. */
const ENCRYPTED_CHARS_PER_TOKEN = 4

/** Thinking that is sent back is read whole, however little of it is shown: its signature, or its data, hold the rest. */
function* thoughtTokens({ thinking, signature, data }: JsonObject, slice: Slice): Generator<void, number> {
  const encrypted = typeof signature === 'string' ? signature : typeof data === 'string' ? data : ''
  const shown = typeof thinking === 'string' ? yield* longTextTokens(thinking) : 0
  if (typeof thinking === 'string' && slice.isFull(thinking.length)) yield
  return 1 + Math.max(shown, Math.ceil(encrypted.length / ENCRYPTED_CHARS_PER_TOKEN))
}

/** Anthropic's `source` of an image or a document; one of text is read as text. */
function isMediaSource(key: string, value: Json | undefined): boolean {
  return key === 'source' && isObject(value) && value['type'] !== 'text' && value['type'] !== 'content'
}
