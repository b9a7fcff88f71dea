/**
 * What a call can cost, before it is made. Two measures of its input: a hard bound, from the provider's last exact count
 * and the bytes of what is new (no byte-level tokenizer makes more tokens than bytes), and a linear heuristic for where
 * that bound leaves no room for a useful answer. Neither runs a tokenizer: those take seconds on hostile text.
 */
import type { Digest, ExactCount } from './conversation.ts'
import { partlyCounted, partsOf } from './counted-parts.ts'
import { isUnbounded, mediaTokensBound, mediaTokensUsual, soundTokensBound } from './media-tokens.ts'
import { digestsOf, wholeDigest } from './message-digests.ts'
import { messageTokensBound, messageTokensHeuristic, REQUEST_FRAMING_TOKENS, textTokensBound } from './message-tokens.ts'
import type { Message } from './request.ts'
import { heuristicTokens } from './text-tokens.ts'
import { haveSameTokens } from './token-factor.ts'

/** Tokens per byte of tool schemas and frame, of which only the length is known: JSON is at most this dense in o200k. */
export const FIXED_TOKENS_PER_BYTE = 0.45
/** What a provider may add, or count otherwise, where messages come to stand side by side that did not before. */
const SEAM_TOKENS = 8
/** Providers call their counts estimates: so much more, in percent, is held for. */
const COUNT_MARGIN_PERCENT = 5
/** Text is seldom fewer tokens than this makes of it. */
export const LIKELY_BYTES_PER_TOKEN = 2

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
  /** The messages as the log had them when they were counted, for where edits have changed them since. Asked for there alone. */
  readonly unedited?: () => readonly Message[]
  /** The provider reads all that it is sent: what it counted of a message it counts in another call, too. */
  readonly readsAll?: boolean
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
  /** Of the input, by whichever measure: what is priced otherwise than text. */
  readonly media: MediaTokens
  /** `heuristic` starts from an exact count. */
  readonly isCounted: boolean
  /** Tokens that are not estimated here: an exact count, or what the provider keeps. 0 when no exact count fits. */
  readonly known: number
  /**
   * What the call that was counted last may have read as well, and so have in the provider's cache, at the most: all that it counted where that is
   * of this history. Of another one by calls that were made at once, two bytes a token of what both begin with: no question of theirs.
   */
  readonly shared: number
  /** The heuristic for what is not known, without `factor`: compare with the exact count less `known` to learn the factor. */
  readonly freshHeuristic: number
  /** What to keep with the exact count of this call, so that the next call can start from it. */
  readonly sent: Pick<ExactCount, 'fixedDigest' | 'messages' | 'messagesDigest' | 'parts'>
}

/** Of an input, the most tokens of each kind that has a price of its own; `Infinity` where nothing but the input bounds them. */
export interface MediaTokens {
  readonly audio: number
  readonly image: number
}

/**
 * The input of a call, from above. An exact count serves where model, fixed part and all messages it counted are the same; where edits or the
 * app have changed some of that since, it serves for the rest, beside the bound of the whole, and the lesser of the two counts.
 */
export function inputBound(query: InputQuery): InputBound {
  const { messages, exact } = query
  const all = { counted: null, fresh: messages, pieces: [], isFixedFresh: true }
  if (exact === null) return boundFrom(query, all)
  if (isOfThis(exact, query))
    return boundFrom(query, { counted: countOf(exact), fresh: messages.slice(exact.messages), pieces: [], isFixedFresh: false })
  const whole = boundFrom(query, all)
  const rest = editedSince(exact, query) ?? changedSince(exact, query)
  return rest === null ? whole : new LesserBound(whole, boundFrom(query, rest))
}

/** An input by what is known of it. */
interface Parted {
  /** Of all the rest; null: there is no count. */
  readonly counted: Counted | null
  readonly fresh: readonly Message[]
  /** Bytes of messages of which other parts were counted. */
  readonly pieces: readonly Uint8Array[]
  /** What is beside the messages was not counted either. */
  readonly isFixedFresh: boolean
}

/** What the provider counted of a part of the input. */
interface Counted {
  readonly tokens: number
  /** Of those, the most that may be sound; absent: it does not say. */
  readonly audioTokens?: number | undefined
}

function countOf({ inputTokens, audioTokens }: ExactCount): Counted {
  return { tokens: inputTokens, audioTokens }
}

function boundFrom(query: InputQuery, parted: Parted): InputBound {
  const { model } = query
  const { counted, fresh, pieces, isFixedFresh } = parted
  const known = counted?.tokens ?? query.earlierTokens ?? 0
  let bytes = known + (isFixedFresh ? query.fixedBytes + REQUEST_FRAMING_TOKENS : 0)
  for (const message of fresh) bytes += messageTokensBound(message, model)
  for (const piece of pieces) bytes += piece.length
  const hasFiles = query.withoutFiles !== true && holdsFiles(fresh, model)
  const unbounded = hasFiles ? query.contextTokens : 0
  bytes += unbounded
  const byCount = query.withoutFiles === true ? Number.POSITIVE_INFINITY : countedBound(query)
  return new LazyBound(
    byCount < bytes
      ? { ...parted, bytes: byCount, known: Math.min(known, byCount), query, hasFiles, unbounded: 0 }
      : { ...parted, bytes, known, query, hasFiles, unbounded },
  )
}

/**
 * The count of messages that were edited since, and what it has not: that is new, or written by an edit. What an edit took away only makes
 * it less. Null where it is of other messages.
 */
function editedSince(exact: ExactCount, query: InputQuery): Parted | null {
  const before = exact.fixedDigest === query.fixedDigest && exact.model === query.model ? query.unedited?.() : undefined
  if (before === undefined || before === query.messages || !isOfThis(exact, { ...query, messages: before })) return null
  const known = new Set(before.slice(0, exact.messages))
  const kept = new Set(query.messages)
  let seams = 0
  let isInGap = false
  for (const message of known) {
    const isGone = !kept.has(message)
    if (isGone && !isInGap) seams += 1
    isInGap = isGone
  }
  return {
    counted: withSeams(exact, seams),
    fresh: query.messages.filter((message) => !known.has(message)),
    pieces: [],
    isFixedFresh: false,
  }
}

/**
 * The count of what the app has changed since (instructions, tools, the model, a question that had passages), and what it has not. Of what
 * is gone nobody knows how much it was: it stays in the count, which so lies too high, never too low. Null where the count cannot be taken apart.
 */
function changedSince(exact: ExactCount, query: InputQuery): Parted | null {
  const { messages, model, fixedDigest, earlierTokens = 0, readsAll = false, unedited } = query
  if (!readsAll || earlierTokens > 0 || exact.parts === undefined) return null
  // Pictures are other numbers of tokens to models of one tokenizer.
  if (exact.model !== model && (!haveSameTokens(exact.model, model) || messages.some(({ images }) => images.length > 0))) return null
  const isFixedFresh = exact.fixedDigest !== fixedDigest
  const isSameCall = !isFixedFresh && exact.model === model
  const parts = partlyCounted(exact, { messages, before: unedited?.() ?? messages, isSameCall })
  if (parts === null) return null
  return { counted: withSeams(exact, parts.seams), fresh: parts.fresh, pieces: parts.freshPieces, isFixedFresh }
}

function withSeams(exact: ExactCount, seams: number): Counted {
  return { ...countOf(exact), tokens: exact.inputTokens + seams * SEAM_TOKENS }
}

/** Whether an exact count is of the beginning of this very input. */
export function isOfThis(exact: ExactCount, query: Pick<InputQuery, 'messages' | 'fixedDigest' | 'model' | 'earlierTokens'>): boolean {
  const { messages, fixedDigest, model, earlierTokens = 0 } = query
  return (
    earlierTokens === 0 &&
    exact.model === model &&
    exact.fixedDigest === fixedDigest &&
    exact.messages <= messages.length &&
    digestsOf(messages, exact.messages).prefix === exact.messagesDigest
  )
}

/** As `InputBound.shared`; `known`: what this bound has of an exact count, or of history that the provider keeps. */
function sharedTokens(query: InputQuery, known: number): number {
  const { exact, model, fixedDigest, fixedBytes, messages, earlierTokens = 0 } = query
  if (exact === null || exact.model !== model || exact.fixedDigest !== fixedDigest) return 0
  if (earlierTokens > 0) return known
  if (isOfThis(exact, query)) return exact.inputTokens
  // They differ in the last message that was counted, if not before, and what stands behind the last answer was not asked until now.
  const asked = messages.findLastIndex(({ role }) => role !== 'user' && role !== 'tool') + 1
  let bytes = fixedBytes + REQUEST_FRAMING_TOKENS
  for (const message of messages.slice(0, Math.min(asked, Math.max(0, exact.messages - 1)))) bytes += messageTokensBound(message, model)
  return Math.ceil(bytes / LIKELY_BYTES_PER_TOKEN)
}

/** Whether there are parts that nothing but the context of the model bounds. */
export function holdsFiles(messages: readonly Message[], model: string): boolean {
  return messages.some((message) => message.images.some((part) => isUnbounded(part, model)))
}

/**
 * By the parts, each at its most; the sound of what was counted at no more than the provider told apart. Of history that the provider keeps nobody
 * here knows the parts.
 */
function mediaTokens({ counted, fresh, query }: Pick<Basis, 'counted' | 'fresh' | 'query'>): MediaTokens {
  const { messages, model, earlierTokens = 0 } = query
  if (earlierTokens > 0) return { audio: Number.POSITIVE_INFINITY, image: Number.POSITIVE_INFINITY }
  const isFresh = new Set(fresh)
  let [audioCounted, audioFresh, image] = [0, 0, 0]
  for (const message of messages) {
    for (const part of message.images) {
      if (query.withoutFiles === true && isFresh.has(message) && isUnbounded(part, model)) continue
      const audio = soundTokensBound(part, model)
      if (isFresh.has(message)) audioFresh += audio
      else audioCounted += audio
      if (part.kind !== 'audio') image += mediaTokensBound(part, model)
    }
  }
  return { audio: Math.min(audioCounted, counted?.audioTokens ?? Number.POSITIVE_INFINITY) + audioFresh, image }
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

/** What is not always asked for is worked out when it is: text and digests of a long history take longer than the rest. */
class LazyBound implements InputBound {
  readonly bytes: number
  readonly known: number
  readonly unbounded: number
  readonly hasFiles: boolean
  readonly #basis: Basis
  #freshHeuristic: number | null = null
  #media: MediaTokens | null = null
  #shared: number | null = null

  constructor(basis: Basis) {
    this.bytes = basis.bytes
    this.known = basis.known
    this.unbounded = basis.unbounded
    this.hasFiles = basis.hasFiles
    this.#basis = basis
  }

  get media(): MediaTokens {
    this.#media ??= mediaTokens(this.#basis)
    return this.#media
  }

  get shared(): number {
    this.#shared ??= sharedTokens(this.#basis.query, this.known)
    return this.#shared
  }

  get isCounted(): boolean {
    return this.#basis.counted !== null
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
    const { fresh, pieces, isFixedFresh, query } = this.#basis
    let tokens = isFixedFresh ? REQUEST_FRAMING_TOKENS + Math.ceil(query.fixedBytes * FIXED_TOKENS_PER_BYTE) : 0
    for (const message of fresh) tokens += messageTokensHeuristic(message, query.model)
    for (const piece of pieces) tokens += heuristicTokens(Buffer.from(piece).toString())
    this.#freshHeuristic = tokens
    return tokens
  }

  get sent(): InputBound['sent'] {
    const { messages, fixedDigest, readsAll = false } = this.#basis.query
    const counted = { fixedDigest, messages: messages.length, messagesDigest: wholeDigest(messages) }
    const parts = readsAll ? partsOf(messages) : undefined
    return parts === undefined ? counted : { ...counted, parts }
  }
}

/** The lesser of two bounds of one input. What is learned from its count is learned of the whole. */
class LesserBound implements InputBound {
  readonly bytes: number
  readonly known: number
  readonly unbounded: number
  readonly hasFiles: boolean
  readonly #whole: InputBound
  readonly #other: InputBound

  constructor(whole: InputBound, other: InputBound) {
    this.bytes = Math.min(whole.bytes, other.bytes)
    this.known = Math.min(whole.known, this.bytes)
    this.unbounded = other.bytes < whole.bytes ? other.unbounded : whole.unbounded
    this.hasFiles = whole.hasFiles
    this.#whole = whole
    this.#other = other
  }

  get media(): MediaTokens {
    const [one, other] = [this.#whole.media, this.#other.media]
    return { audio: Math.min(one.audio, other.audio), image: Math.min(one.image, other.image) }
  }

  get shared(): number {
    return this.#whole.shared
  }

  get isCounted(): boolean {
    return this.#other.heuristic < this.#whole.heuristic
  }

  get heuristic(): number {
    return Math.min(this.#whole.heuristic, this.#other.heuristic)
  }

  at(factor: number): number {
    return Math.min(this.#whole.at(factor), this.#other.at(factor))
  }

  get freshHeuristic(): number {
    return this.#whole.freshHeuristic
  }

  get sent(): InputBound['sent'] {
    return this.#whole.sent
  }
}

interface Basis extends Parted {
  readonly bytes: number
  readonly known: number
  readonly query: InputQuery
  readonly unbounded: number
  readonly hasFiles: boolean
}
