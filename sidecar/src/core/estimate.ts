/**
 * What a call can cost, before it is made. Two measures of its input: a hard bound, from the provider's last exact count
 * and the bytes of what is new (no byte-level tokenizer makes more tokens than bytes), and a linear heuristic for where
 * that bound leaves no room for a useful answer. Neither runs a tokenizer: those take seconds on hostile text.
 */
import { createHash, hash } from 'node:crypto'
import type { PricedModel } from '@farebox/crds/prices.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { INPUT_KINDS, inputTokens, OUTPUT_KINDS } from '@farebox/crds/usage.ts'
import type { MeteredKind, Usage } from '@farebox/crds/usage.ts'
import type { Digest, Driver, ExactCount } from './conversation.ts'
import { isUnbounded, mediaTokensBound, mediaTokensUsual } from './media-tokens.ts'
import { isList, isObject } from './message.ts'
import type { ModelRequest, Json, JsonObject, Message } from './request.ts'
import { retrievalBytes } from './retrieval.ts'
import type { ShapeRules } from './shape.ts'

/** Tokens around each message (role, separators), which its JSON keys outweigh in bytes; counted all the same. */
const MESSAGE_FRAMING_TOKENS = 4
/** Tokens around the whole prompt: the opening of the answer and the preamble of tools. */
const REQUEST_FRAMING_TOKENS = 32
/** Tokens per byte of tool schemas and frame, of which only the length is known: JSON is at most this dense in o200k. */
const FIXED_TOKENS_PER_BYTE = 0.45
const DIGEST_HEX_LENGTH = 32
/** Providers call their counts estimates: so much more, in percent, is held for. */
const COUNT_MARGIN_PERCENT = 5

/** What the provider says that the input of a request comes to. */
export interface CountedInput {
  readonly model: string
  /** The messages that it counted. */
  readonly messages: readonly Message[]
  /** All of the input; null where it gave no count. */
  readonly tokens: number | null
}

export interface InputQuery {
  /** The messages as they will be sent. */
  readonly messages: readonly Message[]
  readonly fixedBytes: number
  /** Digest of the rest as it will be sent: a change that alters what the provider counts must alter this too. */
  readonly fixedDigest: Digest
  /** The model as it will be asked for. */
  readonly model: string
  readonly exact: ExactCount | null
  /** The most tokens of history that the provider keeps and reads too; 0 where all of it is in the request. */
  readonly earlierTokens?: number
  /** From `FactorTable`; below 1 counts as 1. */
  readonly factor: number
  /** The most tokens that the model reads: together, files come to no more. */
  readonly contextTokens: number
  /** The provider's own counts of this request, with other messages or for other models too. */
  readonly counted?: readonly CountedInput[]
  /** Measured as if files cost nothing. */
  readonly withoutFiles?: boolean
}

export interface InputBound {
  /** Hard upper bound of the input, in tokens. */
  readonly bytes: number
  /** The heuristic of it, times `factor`, with files at a usual size; at most `bytes`. A getter: copy the object by hand, not by spreading it. */
  readonly heuristic: number
  /** To hold money by: the heuristic at another factor, with files at the most that they can cost; at most `bytes`. */
  at(factor: number): number
  /** Tokens of `bytes` that stand for files which nothing bounds but the model's context. */
  readonly unbounded: number
  /** Files are among what is not known, whether the provider counted them or not. */
  readonly hasFiles: boolean
  /** Tokens that are not estimated here: an exact count, or what the provider keeps. 0 when no exact count fits. */
  readonly known: number
  /** The heuristic for what is not known, without `factor`: compare with the exact count less `known` to learn the factor. */
  readonly freshHeuristic: number
  /** What to keep with the exact count of this call, so that the next call can start from it. */
  readonly sent: { readonly fixedDigest: Digest; readonly messages: number; readonly messagesDigest: Digest }
}

/** The input of a call, from above. An exact count serves only where model, fixed part and all messages it counted are the same. */
export function inputBound(query: InputQuery): InputBound {
  const { messages, exact, model } = query
  const earlier = query.earlierTokens ?? 0
  const fits =
    exact !== null &&
    earlier === 0 &&
    exact.model === model &&
    exact.fixedDigest === query.fixedDigest &&
    exact.messages <= messages.length &&
    digestsOf(messages, exact.messages).prefix === exact.messagesDigest
  const known = fits ? exact.inputTokens : earlier
  const fresh = fits ? messages.slice(exact.messages) : messages
  const fixedBytes = fits ? 0 : query.fixedBytes
  let bytes = known + (fits ? 0 : fixedBytes + REQUEST_FRAMING_TOKENS)
  for (const message of fresh) bytes += messageTokensBound(message, model)
  const hasFiles = query.withoutFiles !== true && holdsFiles(fresh, model)
  const unbounded = hasFiles ? query.contextTokens : 0
  bytes += unbounded
  const counted = query.withoutFiles === true ? Number.POSITIVE_INFINITY : countedBound(query)
  return new LazyBound(
    counted < bytes
      ? { bytes: counted, known: Math.min(known, counted), hasExact: fits, fresh, fixedBytes, query, hasFiles, unbounded: 0 }
      : { bytes, known, hasExact: fits, fresh, fixedBytes, query, hasFiles, unbounded },
  )
}

/** Whether there are parts that nothing but the context of the model bounds. */
export function holdsFiles(messages: readonly Message[], model: string): boolean {
  return messages.some((message) => message.images.some((part) => isUnbounded(part, model)))
}

/** By the provider's own count: what an edit left out of it only makes it less, and what an edit wrote is text. */
function countedBound({ counted = [], messages, model }: InputQuery): number {
  let least = Number.POSITIVE_INFINITY
  for (const count of counted) {
    if (count.model !== model || count.tokens === null) continue
    let bound = Math.ceil((count.tokens * (100 + COUNT_MARGIN_PERCENT)) / 100)
    if (count.messages !== messages) {
      const known = new Set(count.messages)
      for (const message of messages) if (!known.has(message)) bound += textTokensBound(message)
    }
    least = Math.min(least, bound)
  }
  return least
}

/** Digest over the stable bytes of the first `count` messages: 128 bits, hex. */
export function messagesDigest(messages: readonly Message[], count: number): Digest {
  return hash('sha256', bytesOf(messages, count), 'hex').slice(0, DIGEST_HEX_LENGTH)
}

/**
 * Who drove a call's cost, in proportion to bytes: `retrieval` is what the app marked, `tools` are schemas, results and fees
 * of hosted tools, `history` is all other input. Sums to `cost` exactly.
 */
export function splitByDriver(call: {
  readonly bytes: DriverBytes
  readonly usage: Usage
  readonly priced: Pick<PricedModel, 'pricesFor'>
  readonly cost: NanoUsd
}): Readonly<Record<Extract<Driver, 'history' | 'retrieval' | 'tools' | 'output'>, NanoUsd>> {
  const { bytes, usage, cost } = call
  const prices = call.priced.pricesFor(inputTokens(usage), null)
  const picoUsd = (kinds: readonly MeteredKind[]): bigint => kinds.reduce((sum, kind) => sum + BigInt(usage[kind]) * prices[kind], 0n)
  const input = picoUsd(INPUT_KINDS)
  const fees = picoUsd(FEE_KINDS)
  const all = input + fees + picoUsd(ANSWER_KINDS)
  if (all === 0n) return { history: 0n, retrieval: 0n, tools: 0n, output: cost }
  const inputCost = (cost * input) / all
  const feeCost = (cost * fees) / all
  const share = (part: number): NanoUsd => (bytes.all === 0 ? 0n : (inputCost * BigInt(part)) / BigInt(bytes.all))
  const retrieval = share(bytes.retrieval)
  const tools = share(bytes.tools)
  return { history: inputCost - retrieval - tools, retrieval, tools: tools + feeCost, output: cost - inputCost - feeCost }
}

const FEE_KINDS = ['webSearchCalls', 'fileSearchCalls', 'codeContainers'] as const satisfies readonly MeteredKind[]
/** What an answer is made of; audio heard by the second makes no history either. */
const ANSWER_KINDS = [...OUTPUT_KINDS, 'seconds', 'characters', 'images'] as const satisfies readonly MeteredKind[]
/** Bytes of text that cost about as much as one token of an image. */
const BYTES_PER_MEDIA_TOKEN = 4

export interface DriverBytes {
  readonly all: number
  readonly retrieval: number
  readonly tools: number
}

/** What drives the cost of a request's input, in bytes of text or what media come to. `messages`: as they are sent. */
export function driverBytes(request: ModelRequest, messages: readonly Message[], rules: ShapeRules['retrieval']): DriverBytes {
  const marked = retrievalBytes(request, { retrieval: rules }, messages)
  let all = request.fixedBytes
  let retrieval = 0
  let tools = request.tools === 'none' ? 0 : request.fixedBytes
  messages.forEach((message, index) => {
    let size = message.bytes.length - message.mediaBytes
    const retrieved = Math.min(size, marked[index] ?? 0)
    for (const part of message.images) size += mediaTokensUsual(part, request.model) * BYTES_PER_MEDIA_TOKEN
    all += size
    retrieval += retrieved
    if (message.role === 'tool' || message.role === 'function') tools += size - retrieved
  })
  return { all, retrieval, tools }
}

/** The most tokens that a message can be, but for files: the bytes of its JSON, which hold its text and more, with media by their own rule. */
function messageTokensBound(message: Message, model: string): number {
  let tokens = textTokensBound(message)
  for (const part of message.images) if (!isUnbounded(part, model)) tokens += mediaTokensBound(part, model)
  return tokens
}

function textTokensBound(message: Message): number {
  return message.bytes.length - message.mediaBytes + MESSAGE_FRAMING_TOKENS
}

// Fortieths of a token per UTF-16 unit, by class of character and by what stands before it: a word, a number and a mark each
// begin a token. Measured against o200k over recorded conversations, code, tables and sixty languages: see the test.
const FORTIETHS = 40
const WHOLE = FORTIETHS
const SPACE = 10
const LETTER = 12
const CAPITAL = 16
/** On top of a word's first letter. */
const WORD_START = 6
/** A letter in a run that no word is as long as: base64, hashes, one key held down. */
const RUN_LETTER = 30
const WORD_LETTERS_MAX = 24
const DIGIT = 20
const MARK = 24

/** Classes of ASCII characters. */
const AS_SPACE = 0
const AS_NEWLINE = 1
const AS_LETTER = 2
const AS_CAPITAL = 3
const AS_DIGIT = 4
const AS_MARK = 5
const AS_CONTROL = 6
/** What is not ASCII. */
const AS_WIDE = 7
const CLASSES = Uint8Array.from({ length: 128 }, (_, code) => {
  const character = String.fromCharCode(code)
  if (/[\r\n]/.test(character)) return AS_NEWLINE
  if (/\s/.test(character)) return AS_SPACE
  if (/[a-z]/.test(character)) return AS_LETTER
  if (/[A-Z]/.test(character)) return AS_CAPITAL
  if (/[0-9]/.test(character)) return AS_DIGIT
  return code < 32 || code === 127 ? AS_CONTROL : AS_MARK
})

/**
 * Fortieths for each character of a script, from its first code on. What o200k has words of costs less than a token a
 * letter; of the rest it reads single bytes: two below U+0800, three from there.
 */
const SCRIPTS: readonly (readonly [from: number, weight: number])[] = [
  [0x80, 40], // Latin with accents
  [0x180, 80],
  [0x380, 26], // Greek, Cyrillic, Armenian
  [0x580, 30], // Hebrew, Arabic
  [0x700, 80],
  [0x800, 120],
  [0x900, 26], // Devanagari to Malayalam
  [0xd80, 34], // Sinhala, Thai
  [0xe80, 84], // Lao, Tibetan
  [0x1000, 30], // Burmese, Georgian
  [0x1100, 120],
  [0x1200, 88], // Ethiopic
  [0x1380, 120],
  [0x1780, 34], // Khmer
  [0x1800, 120],
  [0x1e00, 60], // Vietnamese, Yoruba
  [0x1f00, 84], // ancient Greek
  [0x2000, 44], // quotation marks, dashes
  [0x2080, 72], // arrows, mathematics, boxes, symbols
  [0x2800, 120],
  [0x3000, 40], // kana
  [0x3100, 120],
  [0x4e00, 48], // Chinese
  [0xa000, 120],
  [0xac00, 40], // Korean
  [0xd780, 120],
  [0xfe00, 60], // full-width forms, emoji variants
]
const SCRIPT_SHIFT = 7
const SCRIPT_WEIGHTS = Uint8Array.from(
  { length: 0x10000 >> SCRIPT_SHIFT },
  (_, block) => SCRIPTS.findLast(([from]) => from <= block << SCRIPT_SHIFT)?.[1] ?? 0,
)
/** A pair of surrogates: emoji, whose first half is one of three, or four single bytes. */
const EMOJI_FROM = 0xd83c
const EMOJI_TO = 0xd83e
const EMOJI = 88
const ASTRAL = 160

/** A linear estimate of the tokens of a text: one pass, no tables of words, rarely below what o200k counts. */
export function heuristicTokens(text: string): number {
  let sum = 0
  let before = AS_MARK
  let run = 0
  let runLetters = 0
  let runSum = 0
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index)
    if (code >= 128) {
      if (code >= 0xd800 && code < 0xdc00 && isLowSurrogate(text.charCodeAt(index + 1))) {
        sum += code >= EMOJI_FROM && code <= EMOJI_TO ? EMOJI : ASTRAL
        index += 1
      } else sum += SCRIPT_WEIGHTS[code >> SCRIPT_SHIFT] ?? 0
      before = AS_WIDE
      run = runLetters = runSum = 0
      continue
    }
    const kind = CLASSES[code] ?? AS_MARK
    const weight = weightAfter(before, kind)
    // A space goes with the word after it, not with a number.
    if (kind === AS_DIGIT && before === AS_SPACE) sum += WHOLE - SPACE
    sum += weight
    before = kind
    if (kind === AS_LETTER || kind === AS_CAPITAL) {
      run += 1
      runLetters += 1
      runSum += weight
      if (run > WORD_LETTERS_MAX) {
        sum += Math.max(0, RUN_LETTER * runLetters - runSum) // the run as a whole turns out not to be a word
        runLetters = runSum = 0
      }
    } else if (kind === AS_DIGIT || code === 0x2b || code === 0x3d) {
      run += 1 // digits, + and = go on with a run of base64
    } else {
      run = runLetters = runSum = 0
    }
  }
  return Math.ceil(sum / FORTIETHS)
}

function weightAfter(before: number, kind: number): number {
  switch (kind) {
    case AS_LETTER:
      if (before === AS_LETTER || before === AS_CAPITAL) return LETTER
      return before === AS_DIGIT ? WHOLE : LETTER + WORD_START
    case AS_CAPITAL:
      if (before === AS_LETTER || before === AS_DIGIT) return WHOLE
      return before === AS_CAPITAL ? CAPITAL : CAPITAL + WORD_START
    case AS_DIGIT:
      return before === AS_DIGIT ? DIGIT : WHOLE
    case AS_MARK:
      return before === AS_DIGIT ? WHOLE : MARK
    case AS_NEWLINE:
      return before === AS_LETTER || before === AS_DIGIT ? WHOLE : SPACE
    case AS_CONTROL:
      return WHOLE
    default:
      return SPACE
  }
}

function isLowSurrogate(code: number): boolean {
  return code >= 0xdc00 && code < 0xe000 // NaN at the end of the text
}

/** The heuristic for a whole message: all text that the model reads of it, and its framing. */
function messageTokensHeuristic(message: Message, model: string): number {
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
  'file_data',
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

/** What is not always asked for is worked out when it is: text and digests of a long history take longer than the rest. */
class LazyBound implements InputBound {
  readonly bytes: number
  readonly known: number
  readonly unbounded: number
  readonly hasFiles: boolean
  readonly #basis: Basis
  #freshHeuristic: number | null = null

  constructor(basis: Basis) {
    this.bytes = basis.bytes
    this.known = basis.known
    this.unbounded = basis.unbounded
    this.hasFiles = basis.hasFiles
    this.#basis = basis
  }

  get heuristic(): number {
    return Math.min(this.bytes, this.known + Math.ceil(this.freshHeuristic * Math.max(1, this.#basis.query.factor)))
  }

  at(factor: number): number {
    const { fresh, query } = this.#basis
    let files = 0
    for (const message of fresh)
      for (const part of message.images) if (isUnbounded(part, query.model)) files += mediaTokensUsual(part, query.model)
    const most = this.hasFiles ? query.contextTokens : 0
    return Math.min(this.bytes, this.known + Math.ceil((this.freshHeuristic - files) * factor) + most)
  }

  get freshHeuristic(): number {
    if (this.#freshHeuristic !== null) return this.#freshHeuristic
    const { fresh, fixedBytes, hasExact, query } = this.#basis
    let tokens = hasExact ? 0 : REQUEST_FRAMING_TOKENS + Math.ceil(fixedBytes * FIXED_TOKENS_PER_BYTE)
    for (const message of fresh) tokens += messageTokensHeuristic(message, query.model)
    this.#freshHeuristic = tokens
    return tokens
  }

  get sent(): InputBound['sent'] {
    const { messages, fixedDigest } = this.#basis.query
    return { fixedDigest, messages: messages.length, messagesDigest: wholeDigest(messages) }
  }
}
interface Basis {
  readonly bytes: number
  readonly known: number
  readonly hasExact: boolean
  readonly fresh: readonly Message[]
  readonly fixedBytes: number
  readonly query: InputQuery
  readonly unbounded: number
  readonly hasFiles: boolean
}

interface Digests {
  readonly count: number
  /** Of the first `count` messages. */
  readonly prefix: Digest
  readonly whole: Digest
}
const DIGESTS = new WeakMap<readonly Message[], Digests>()

/** Up to here two hashes in one call each cost less than one that is made in steps. */
const ONE_SHOT_BYTES_MAX = 16 * 1024

/** Both digests in one pass, remembered for the list. `count` must not exceed it. */
function digestsOf(messages: readonly Message[], count: number): Digests {
  const known = DIGESTS.get(messages)
  if (known?.count === count) return known
  const all = bytesOf(messages, messages.length)
  let prefixLength = Math.max(0, count - 1) // commas
  for (let index = 0; index < count; index += 1) prefixLength += messages[index]?.stableBytes.length ?? 0
  let prefix: string
  let whole: string
  if (count === messages.length || all.length <= ONE_SHOT_BYTES_MAX) {
    prefix = hash('sha256', all.subarray(0, prefixLength), 'hex').slice(0, DIGEST_HEX_LENGTH)
    whole = count === messages.length ? prefix : hash('sha256', all, 'hex').slice(0, DIGEST_HEX_LENGTH)
  } else {
    const running = createHash('sha256').update(all.subarray(0, prefixLength))
    prefix = running.copy().digest('hex').slice(0, DIGEST_HEX_LENGTH)
    whole = running.update(all.subarray(prefixLength)).digest('hex').slice(0, DIGEST_HEX_LENGTH)
  }
  const digests = { count, prefix, whole }
  DIGESTS.set(messages, digests)
  return digests
}

function wholeDigest(messages: readonly Message[]): Digest {
  return (DIGESTS.get(messages) ?? digestsOf(messages, messages.length)).whole
}

/**
 * The bytes of the messages with a comma between them, as they stand in a list. A history that nobody rewrote stands in its
 * body in just that way, if it was written without spaces: then those bytes are taken as they are.
 */
function bytesOf(messages: readonly Message[], count: number): Buffer {
  const parts: Uint8Array[] = []
  let isWhole = true
  for (let index = 0; index < count; index += 1) {
    const message = messages[index]
    if (message === undefined) break
    const before = parts.at(-1)
    if (before !== undefined) {
      isWhole &&= follows(before, message.stableBytes)
      parts.push(COMMA)
    }
    parts.push(message.stableBytes)
  }
  const [first] = parts
  const last = parts.at(-1)
  if (first === undefined || last === undefined || !isWhole) return Buffer.concat(parts)
  return Buffer.from(first.buffer, first.byteOffset, last.byteOffset + last.byteLength - first.byteOffset)
}

const COMMA = Buffer.from(',')

/** Both stand in the same memory, the second one comma after the first. */
function follows(first: Uint8Array, second: Uint8Array): boolean {
  const end = first.byteOffset + first.byteLength
  return second.buffer === first.buffer && second.byteOffset === end + 1 && new Uint8Array(first.buffer, end, 1)[0] === 0x2c
}
