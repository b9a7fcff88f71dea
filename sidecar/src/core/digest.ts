/** Digests that name messages as the client sent them, so that an edit finds its message again however it is serialised. */
import { hash } from 'node:crypto'
import type { Digest } from './conversation.ts'
import { isList, isObject } from './message.ts'
import { withoutNotices } from './notice-frame.ts'
import type { NoticeFinder } from './notice-frame.ts'
import type { Json, JsonObject, Message } from './request.ts'

/** Values nested deeper than this count as one and the same: no real message has them, and recursion must end. */
const DEPTH_MAX = 32
const DIGEST_HEX = 32
/** A longer string (an embedded file, a book) counts by its ends and its length, in UTF-16 units: names are made in bounded time. */
const STRING_UNITS_MAX = 1 << 20

/**
 * Names a message. Whitespace and key order of its JSON do not matter, nor fields that are null or empty, nor texts that
 * we put into it (`notices`), nor whether a content of one text stands in a list.
 */
export function originalDigest(message: Message, notices: NoticeFinder = []): Digest {
  const bare = withoutNotices(message, notices)
  return digestOf(canonicalJson(bare === null ? { role: message.role } : bare.json))
}

/** Names a sequence of messages by the digests of each. */
export function chainedDigest(digests: readonly Digest[]): Digest {
  return digestOf(digests.join(','))
}

/** First 128 bits of SHA-256, hex. */
export function digestOf(text: string | Uint8Array): Digest {
  return hash('sha256', text, 'hex').slice(0, DIGEST_HEX)
}

/** Marks for the provider's cache, which apps move from message to message as a conversation grows. */
const CACHE_MARKS: ReadonlySet<string> = new Set(['cache_control', 'prompt_cache_breakpoint'])

/** JSON with sorted keys, without fields that are null or empty, and without cache marks. Linear in the size of `value`. */
export function canonicalJson(value: JsonObject): string {
  return write(value, 0)
}

function write(value: Json, depth: number): string {
  if (isList(value)) {
    if (depth >= DEPTH_MAX) return '[]'
    return `[${value.map((item) => write(item, depth + 1)).join(',')}]`
  }
  if (typeof value === 'string') return JSON.stringify(value.length <= STRING_UNITS_MAX ? value : brief(value))
  if (!isObject(value)) return JSON.stringify(value)
  if (depth >= DEPTH_MAX) return '{}'
  const fields: string[] = []
  for (const key of Object.keys(value).sort()) {
    const field = key === 'content' ? bareText(value[key]) : value[key]
    if (field === undefined || CACHE_MARKS.has(key) || isEmpty(field)) continue
    fields.push(`${JSON.stringify(key)}:${write(field, depth + 1)}`)
  }
  return `{${fields.join(',')}}`
}

function brief(text: string): string {
  return `${text.slice(0, STRING_UNITS_MAX / 2)}[${text.length}]${text.slice(-STRING_UNITS_MAX / 2)}`
}

/** The text of a list that holds one plain text and nothing else: apps wrap a text to mark it, and write it bare again. */
function bareText(content: Json | undefined): Json | undefined {
  if (!isList(content) || content.length !== 1) return content
  const [part] = content
  if (!isObject(part) || part['type'] !== 'text' || typeof part['text'] !== 'string') return content
  const isPlain = Object.entries(part).every(
    ([key, field]) => key === 'type' || key === 'text' || CACHE_MARKS.has(key) || isEmpty(field ?? null),
  )
  return isPlain ? part['text'] : content
}

function isEmpty(value: Json): boolean {
  if (value === null || value === '') return true
  if (isList(value)) return value.length === 0
  return isObject(value) && Object.keys(value).length === 0
}
