/** Digests that name messages as the client sent them, so that an edit finds its message again however it is serialised. */
import { createHash, hash } from 'node:crypto'
import type { Digest } from './conversation.ts'
import { isList, isObject } from './message.ts'
import { withoutNotices } from './notice-frame.ts'
import type { NoticeFinder } from './notice-frame.ts'
import type { Json, JsonObject, Message } from './request.ts'
import { withoutSignature } from './signed-links.ts'
import { atOnce, Slice } from './slices.ts'

/** Values nested deeper than this count as one and the same: no real message has them, and recursion must end. */
const DEPTH_MAX = 32
const DIGEST_HEX = 32
/** A longer string (an embedded file, a book) counts by its ends and its length, in UTF-16 units: names are made in bounded time. */
const STRING_UNITS_MAX = 1 << 20

/**
 * Names a message. Whitespace and key order of its JSON do not matter, nor fields that are null or empty, nor texts that
 * we put into it (`notices`), nor whether a content of one text stands in a list, nor what signs a link.
 */
export function originalDigest(message: Message, notices: NoticeFinder = []): Digest {
  const bare = withoutNotices(message, notices)
  return digestOf(canonicalJson(bare === null ? { role: message.role } : bare.json))
}

/** `originalDigest` of a message without notices, in slices. */
export function* readDigest({ json }: Message, slice: Slice): Generator<void, Digest> {
  return digestOf(yield* write(json, 0, slice))
}

/** Names a sequence of messages by the digests of each. */
export function chainedDigest(digests: readonly Digest[]): Digest {
  return digestOf(digests.join(','))
}

/** The same of the first `count` of them, for each of `counts`, which must rise: in one pass over all. */
export function chainedDigests(digestAt: (index: number) => Digest, counts: readonly number[]): readonly Digest[] {
  const running = createHash('sha256')
  let done = 0
  return counts.map((count) => {
    const more = Array.from({ length: count - done }, (_, offset) => digestAt(done + offset)).join(',')
    running.update(done > 0 && more !== '' ? `,${more}` : more)
    done = count
    return running.copy().digest('hex').slice(0, DIGEST_HEX)
  })
}

/** First 128 bits of SHA-256, hex. */
export function digestOf(text: string | Uint8Array): Digest {
  return hash('sha256', text, 'hex').slice(0, DIGEST_HEX)
}

/** Marks for the provider's cache, which apps move from message to message as a conversation grows. */
const CACHE_MARKS: ReadonlySet<string> = new Set(['cache_control', 'prompt_cache_breakpoint'])

/** JSON with sorted keys, without fields that are null or empty, without cache marks and what signs a link. Linear in the size of `value`. */
export function canonicalJson(value: JsonObject): string {
  return atOnce(write(value, 0, new Slice()))
}

function* write(value: Json, depth: number, slice: Slice): Generator<void, string> {
  if (isList(value)) {
    if (depth >= DEPTH_MAX) return '[]'
    const items: string[] = []
    for (const item of value) {
      items.push(isPlain(item) ? plain(item) : yield* write(item, depth + 1, slice))
      if (slice.isFull(isPlain(item) ? FIELD_UNITS + (items.at(-1)?.length ?? 0) : 0)) yield
    }
    return `[${items.join(',')}]`
  }
  if (!isObject(value)) return plain(value)
  if (depth >= DEPTH_MAX) return '{}'
  const fields: string[] = []
  for (const key of Object.keys(value).sort()) {
    const field = key === 'content' ? bareText(value[key]) : value[key]
    if (field === undefined || CACHE_MARKS.has(key) || isEmpty(field)) continue
    const text = isPlain(field) ? plain(field) : yield* write(field, depth + 1, slice)
    fields.push(`${JSON.stringify(key)}:${text}`)
    if (slice.isFull(FIELD_UNITS + (isPlain(field) ? text.length : 0))) yield
  }
  return `{${fields.join(',')}}`
}

/** What a field costs beside its text, in units of that. */
const FIELD_UNITS = 64

function isPlain(value: Json): boolean {
  return typeof value !== 'object' || value === null
}

function plain(value: Json): string {
  if (typeof value !== 'string') return JSON.stringify(value)
  return JSON.stringify(value.length > STRING_UNITS_MAX ? brief(value) : withoutSignature(value))
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
