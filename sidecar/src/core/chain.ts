/**
 * Names a conversation by its own history, where no carrier does: a rolling digest over its messages, each keyed and
 * chained to the one before it. The next request repeats the history with the answer in it, and is found by the longest
 * prefix that is known. Short messages are guessable, so the digests are keyed (HMAC); nothing else is kept.
 *
 * Only what survives an app's own handling counts: who said what, which tools were called with what. Whitespace,
 * instructions (which often carry the time of day), what signs a link and the fields that clients add or lose do not. A
 * history whose beginning is gone is still found by the calls of tools in it, where their ids are the provider's own.
 */
import type { Digest } from './conversation.ts'
import type { KeyedHash } from './keyed-hash.ts'
import { isInstruction, joinedAnswer } from './message.ts'
import type { Said } from './message.ts'
import { beforeFrame } from './notice-frame.ts'
import type { Message } from './request.ts'
import { atOnce, Slice } from './slices.ts'

/** The chain covers this many messages from the start: a longer history is told apart well enough by those, in bounded time. */
const CHAINED_MESSAGES_MAX = 2_048
/** At most this many prefixes are looked up: the longest, and the few at the root, so that a far rewind finds its conversation. */
const LOOKED_UP_MAX = 128
const LOOKED_UP_AT_ROOT = 16
const DIGEST_HEX = 32

/**
 * Digests of the prefixes of a history, shortest first: one for each message that is not an instruction, at most
 * `CHAINED_MESSAGES_MAX`. `scope` keeps chains of different workloads, tiers or users apart. In slices: a history may be all of a large body.
 */
export function* chainDigests(messages: readonly Message[], key: KeyedHash, scope: string): Generator<void, Digest[]> {
  const digests: Digest[] = []
  let last = chainRoot(key, scope)
  const slice = new Slice()
  for (const message of messages) {
    if (isInstruction(message)) continue
    if (digests.length >= CHAINED_MESSAGES_MAX) break
    last = yield* extended(last, message, key)
    digests.push(last)
    if (slice.isFull(MESSAGE_UNITS + message.bytes.length)) yield
  }
  return digests
}

/** What a message, and a field of one, costs beside its text, in units of that. */
const MESSAGE_UNITS = 512
const FIELD_UNITS = 32

/** Where every chain of a scope begins: the digest of an empty history. */
export function chainRoot(key: KeyedHash, scope: string): Digest {
  return key.hex(Buffer.from(`chain:${scope}`)).slice(0, DIGEST_HEX)
}

/** Names an answer that the provider keeps: a later request that goes on from it finds its conversation by that. */
export function responseDigest(id: string, key: KeyedHash, scope: string): Digest {
  return key.hex(Buffer.from(`response:${scope.length}:${scope}:${id}`)).slice(0, DIGEST_HEX)
}

/**
 * Ids that a provider draws for each call of a tool. None that are counted up, are the tool's own name, or were made here or by a client:
 * others have those as well.
 */
const DRAWN_ID = /^(?:call_(?:\d+_)?|toolu_(?:bdrk_|vrtx_)?)(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[0-9A-Za-z]{20,256}$/

/** Names the last `count` calls of tools in these messages, the last first. They lead to a conversation whose history was cut at its beginning. `scope` as for a chain. */
export function callDigests(messages: readonly Pick<Said, 'toolCalls'>[], count: number, key: KeyedHash, scope: string): Digest[] {
  const digests: Digest[] = []
  for (let index = messages.length - 1; index >= 0 && digests.length < count; index -= 1)
    for (const { id, name } of (messages[index]?.toolCalls ?? []).toReversed())
      if (digests.length < count && id !== name && DRAWN_ID.test(id))
        digests.push(key.hex(Buffer.from(`call:${scope.length}:${scope}:${id}`)).slice(0, DIGEST_HEX))
  return digests
}

/** The digest of a history with one message more: the answer that was just given, as the wire has it. */
export function extendChain(last: Digest, message: Said, key: KeyedHash): Digest {
  return atOnce(extended(last, message, key))
}

function* extended(last: Digest, message: Said, key: KeyedHash): Generator<void, Digest> {
  const fields = yield* essentials(message)
  // As one part: a message may call so many tools that its fields are more than a call takes arguments.
  return key.hex(Buffer.from(last), Buffer.concat(fields)).slice(0, DIGEST_HEX)
}

/** Digests of a history as `chainDigests` gave them, and the scope that they name it in. */
export interface HistoryChain {
  readonly scope: string
  readonly digests: readonly Digest[]
}

/** An answer, and what the app had begun of it. */
interface Answer {
  /** All that was said, in order. */
  readonly messages: readonly Message[]
  /** The one of them that has the words; null where nothing was said. */
  readonly message: Message | null
  /** Answers beside it, where several were asked for: the app goes on with one of them all. */
  readonly alternatives?: readonly Message[]
  readonly begun: Message | null
  /** Where it ends a tool loop, as `loopQuestion` has it. Absent or null: it ends none. */
  readonly question?: number | null
}

/**
 * Digests under which a later request finds the conversation of a history: the history itself, and with the answer. `digests` as
 * `chainDigests` gave them. A beginning of the app's own is part of the answer: alone it would name every conversation that opens alike.
 */
export function answeredDigests(
  digests: readonly Digest[],
  { messages, message, alternatives = [], begun, question = null }: Answer,
  key: KeyedHash,
): readonly Digest[] {
  const last = digests.at(-1)
  if (last === undefined) return []
  const asked = begun === null ? last : digests.at(-2)
  const found: Digest[] = asked === undefined ? [] : [asked]
  let end = last
  for (const said of messages) {
    end = extendChain(end, said, key)
    found.push(end)
  }
  // Apps that keep nothing but the words come back with those.
  if (message !== null && messages.length > 1) found.push(extendChain(last, message, key))
  for (const said of alternatives) found.push(extendChain(last, said, key))
  const atQuestion = question === null ? undefined : digests[question]
  for (const said of [...(message === null ? [] : [message]), ...alternatives]) {
    // They leave out the loop as well. What calls again does not end it.
    if (atQuestion !== undefined && said.toolCalls.length === 0) found.push(extendChain(atQuestion, said, key))
    // Most apps keep both as one message; some providers repeat what was begun.
    if (begun !== null && asked !== undefined)
      for (const kept of [joinedAnswer(begun, said), said]) found.push(extendChain(asked, kept, key))
  }
  return found
}

/** Which of the digests of a history that ends in a tool loop ends with the question that the loop works on; null where it ends in none. */
export function loopQuestion(messages: readonly Message[]): number | null {
  const said = messages.filter((message) => !isInstruction(message))
  const question = said.findLastIndex(({ role }) => role === 'user')
  const isInLoop = question < said.length - 1 && said.at(-1)?.role !== 'assistant'
  return question >= 0 && isInLoop ? question : null
}

/**
 * Of the digests that `chainDigests` gave for these messages, those whose prefix ends with an answer or goes on after one,
 * shortest first and bounded. Two users who open with the same words share no conversation by that, nor do those whom an app greets alike. None
 * ends with what is asked now: behind the same examples others ask the same. What was asked before leads to a conversation whose app changes answers.
 */
export function digestsWithAnswer(messages: readonly Message[], digests: readonly Digest[]): Digest[] {
  const said = messages.filter((message) => !isInstruction(message))
  const firstAsked = said.findIndex((message) => message.role !== 'assistant')
  const firstAnswer = firstAsked < 0 ? -1 : said.findIndex((message, index) => index > firstAsked && message.role === 'assistant')
  if (firstAnswer < 0) return []
  const asked = said.findLastIndex((message) => message.role !== 'assistant')
  const answered = digests.filter((_, index) => index >= firstAnswer && index !== asked)
  if (answered.length <= LOOKED_UP_MAX) return answered
  return [...answered.slice(0, LOOKED_UP_AT_ROOT), ...answered.slice(LOOKED_UP_AT_ROOT - LOOKED_UP_MAX)]
}

/**
 * What of a message counts: role, text, media, refusal, tool calls, the calls that it answers. Its length goes before each, so that none can
 * be read as part of its neighbour.
 */
function* essentials(message: Said): Generator<void, readonly Buffer[]> {
  const fields: Buffer[] = []
  const slice = new Slice()
  for (const { text, toBytes } of yield* said(message)) {
    const bytes = toBytes(text)
    fields.push(Buffer.from(`${bytes.length}:`), bytes)
    if (slice.isFull(FIELD_UNITS + text.length)) yield
  }
  return fields
}

/** The same as texts, each with what its bytes are. */
function* said(message: Said): Generator<void, readonly Field[]> {
  const { role, texts } = message // its texts are read from its JSON each time that they are asked for
  let text = ''
  for (const part of texts) if (part.kind === 'text') text += part.text // one after the other: apps turn one part into many
  const spoken = role === 'assistant' ? yield* beforeFrame(text) : text
  return [
    { text: role, toBytes },
    { text: ends(spoken), toBytes: collapsed },
    ...message.others.map((other) => ({ text: ends(other), toBytes })),
    ...texts.flatMap((part) => (part.kind === 'refusal' && part.text !== '' ? [{ text: ends(part.text), toBytes: collapsed }] : [])),
    ...message.toolCalls.flatMap(({ id, name, input, place = id }) => [
      { text: place, toBytes },
      { text: name, toBytes },
      { text: ends(input), toBytes: byValue },
    ]),
    ...(message.answeredPlaces ?? message.answers).map((call) => ({ text: call, toBytes })),
  ]
}

interface Field {
  readonly text: string
  readonly toBytes: (text: string) => Buffer
}

function toBytes(text: string): Buffer {
  return Buffer.from(text)
}

/** Of a text that is longer than this many UTF-16 units, both ends tell it from others well enough, in bounded time. */
const TEXT_UNITS_MAX = 1 << 20

function ends(text: string): string {
  return text.length <= TEXT_UNITS_MAX ? text : text.slice(0, TEXT_UNITS_MAX / 2) + text.slice(-TEXT_UNITS_MAX / 2)
}

const SPACE = 0x20

/** UTF-8 with each run of ASCII whitespace as one space, and none at either end. One pass: a body may be nothing but spaces. */
function collapsed(text: string): Buffer {
  const bytes = Buffer.from(text)
  let length = 0
  let isPending = false
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] ?? 0
    if (isSpace(byte)) {
      isPending = length > 0
      continue
    }
    if (isPending) bytes[length++] = SPACE
    isPending = false
    bytes[length++] = byte
  }
  return bytes.subarray(0, length)
}

function withoutSpace(text: string): Buffer {
  const bytes = Buffer.from(text)
  let length = 0
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] ?? 0
    if (!isSpace(byte)) bytes[length++] = byte
  }
  return bytes.subarray(0, length)
}

/** Arguments that are longer count as they were written: what is parsed here is parsed within a slice. */
const PARSED_UNITS_MAX = 64 * 1024

/**
 * What a tool is called with, however it is written: apps that parse arguments and write them again change whitespace, escapes and the
 * notation of numbers. Not so the order of keys. Arguments that were written in the usual way have the digest of their own text.
 */
function byValue(input: string): Buffer {
  return withoutSpace(input.length <= PARSED_UNITS_MAX ? rewritten(input) : input)
}

function rewritten(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json))
  } catch {
    return json // free text, or nested too deep to be written again
  }
}

function isSpace(byte: number): boolean {
  return byte === SPACE || (byte >= 0x09 && byte <= 0x0d)
}
