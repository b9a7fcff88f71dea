/**
 * What an exact count was of, part by part, so that it goes on for what stayed where an app changes some of it from call to call: the time or
 * memories in its instructions, passages with its last question. Only digests are kept. Instructions are known piece by piece, since little of
 * them changes; what is said, in up to three stretches: its first message, all up to the last question, and the rest.
 */
import { hash } from 'node:crypto'
import type { CountedParts, Digest, ExactCount } from './conversation.ts'
import { memo } from './memo.ts'
import { messagesDigest } from './message-digests.ts'
import { isInstruction, turnStarts } from './message.ts'
import type { Message } from './request.ts'

/** Of one digest, in base64url: 72 bits. */
const PIECE_CHARS = 12
const PIECES_MAX = 64
/** A longer text is one piece: it is looked through byte by byte. */
const CUT_BYTES_MAX = 256 * 1024
/** One word in 8 begins a piece; each level more halves the number. */
const WORDS_PER_PIECE_BITS = 3
const LEVEL_MAX = 12
/** So many bytes before a place decide whether a piece begins there. */
const LOOKED_AT_BYTES = 6
/** A longer request is not taken apart: all of it is looked through for each way in which the call is tried. */
const TAKEN_APART_BYTES_MAX = 512 * 1024
/** What is thought is counted in one call, and not in another with the same messages, as providers leave it out of earlier turns. */
const THOUGHT_MARKS = ['"thinking', '"redacted_thinking', '"reasoning', '"thought', '"encrypted_content'].map((mark) => Buffer.from(mark))

/** The parts of a request that is counted as a whole. */
export const partsOf = memo((messages: readonly Message[]): CountedParts | undefined => {
  if (isLong(messages)) return undefined
  const { instructions, talk } = separated(messages)
  let level = 0
  let pieces = instructions.flatMap((message) => piecesOf(message, level))
  for (; pieces.length > PIECES_MAX && level < LEVEL_MAX; pieces = instructions.flatMap((message) => piecesOf(message, level))) level += 1
  const stretches: CountedParts['stretches'][number][] = []
  let start = 0
  for (const end of new Set([1, turnStarts(talk).at(-1) ?? 1, talk.length])) {
    if (end <= start || end > talk.length) continue
    stretches.push({ end, digest: stretchDigest(talk, start, end) })
    start = end
  }
  return { level, instructions: pieces.slice(0, PIECES_MAX).map(pieceDigest).join(''), stretches }
})

/** What of a request was counted, and what was not. */
interface PartlyCounted {
  /** Messages that were counted just so; no instructions. */
  readonly known: ReadonlySet<Message>
  readonly fresh: readonly Message[]
  /** Bytes of instructions of which other parts were counted. */
  readonly freshPieces: readonly Uint8Array[]
  /** Places where something comes to stand beside what it did not stand beside when it was counted. */
  readonly seams: number
}

/**
 * What of `messages` an exact count has. `before`: the same history as the log had it when it was counted. Null where it says nothing of parts,
 * or knows none; and where what is thought may be counted otherwise now. `isSameCall`: of the same model, tools and schemas.
 */
export function partlyCounted(
  { parts }: Pick<ExactCount, 'parts'>,
  {
    messages,
    before,
    isSameCall,
  }: { readonly messages: readonly Message[]; readonly before: readonly Message[]; readonly isSameCall: boolean },
): PartlyCounted | null {
  if (parts === undefined || isLong(before) || isLong(messages)) return null
  const { talk } = separated(before)
  const known = new Set<Message>()
  let seams = 0
  let start = 0
  for (const { end, digest } of parts.stretches) {
    if (end <= talk.length && stretchDigest(talk, start, end) === digest) for (const message of talk.slice(start, end)) known.add(message)
    else seams += 1
    start = end
  }
  if ((seams > 0 || !isSameCall) && holdsThoughts(known)) return null
  const kept = new Set(messages)
  let isInGap = false
  for (const message of known) {
    const isGone = !kept.has(message)
    if (isGone && !isInGap) seams += 1
    isInGap = isGone
  }
  const now = separated(messages)
  const fresh = now.talk.filter((message) => !known.has(message))
  const freshPieces: Uint8Array[] = []
  const counted = new CountedPieces(parts.instructions)
  for (const message of now.instructions) {
    const pieces = piecesOf(message, parts.level)
    const others = pieces.filter((piece) => !counted.take(pieceDigest(piece)))
    if (others.length < pieces.length) freshPieces.push(...others)
    else fresh.push(message)
  }
  if (known.size === 0 && counted.isUntouched) return null
  return { known, fresh, freshPieces, seams: seams + counted.seams }
}

function isLong(messages: readonly Message[]): boolean {
  let bytes = 0
  for (const message of messages) bytes += message.bytes.length
  return bytes > TAKEN_APART_BYTES_MAX
}

/** Pieces that were counted, each of which stands for one that is the same. */
class CountedPieces {
  readonly #digests: readonly string[]
  readonly #free = new Map<string, Set<number>>()
  #last = -1
  #isAfterFresh = false
  seams = 0
  isUntouched = true

  constructor(digests: string) {
    this.#digests = Array.from({ length: digests.length / PIECE_CHARS }, (_, at) => digests.slice(at * PIECE_CHARS, (at + 1) * PIECE_CHARS))
    for (const [at, digest] of this.#digests.entries()) this.#free.set(digest, (this.#free.get(digest) ?? new Set()).add(at))
  }

  /** False where none is left. */
  take(digest: string): boolean {
    const free = this.#free.get(digest)
    const next = this.#last + 1
    const at = free?.has(next) === true ? next : free?.values().next().value
    if (free === undefined || at === undefined) {
      if (!this.#isAfterFresh) this.seams += 1
      this.#isAfterFresh = true
      return false
    }
    free.delete(at)
    if (at !== next) this.seams += 1
    this.#last = at
    this.#isAfterFresh = false
    this.isUntouched = false
    return true
  }
}

/** Instructions, wherever they stand, and what is said. */
const separated = memo((messages: readonly Message[]) => ({
  instructions: messages.filter(isInstruction),
  talk: messages.filter((message) => !isInstruction(message)),
}))

function stretchDigest(talk: readonly Message[], start: number, end: number): Digest {
  return messagesDigest(talk.slice(start, end), end - start)
}

function holdsThoughts(messages: Iterable<Message>): boolean {
  for (const { bytes } of messages) {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    if (THOUGHT_MARKS.some((mark) => text.includes(mark))) return true
  }
  return false
}

/** The bytes of a message, cut between words at places that what stands before them decides: a change moves none but those beside it. */
function piecesOf(message: Message, level: number): readonly Uint8Array[] {
  const { stableBytes: bytes } = message
  const pieces: Uint8Array[] = []
  let start = 0
  for (const place of placesOf(message)) {
    if (place.level < level) continue
    pieces.push(bytes.subarray(start, place.at))
    start = place.at
  }
  return [...pieces, bytes.subarray(start)]
}

/** Where pieces may begin, each with the highest level at which one does. */
const placesOf = memo(({ stableBytes: bytes, images, mediaBytes }: Message) => {
  const places: { readonly at: number; readonly level: number }[] = []
  if (images.length > 0 || mediaBytes > 0 || bytes.length > CUT_BYTES_MAX) return places
  for (let at = bytes.indexOf(SPACE, LOOKED_AT_BYTES); at >= 0; at = bytes.indexOf(SPACE, at + 1)) {
    if (bytes[at - 1] === SPACE) continue
    let mixed = FNV_BASIS
    for (let index = at - LOOKED_AT_BYTES; index < at; index += 1) mixed = Math.imul(mixed ^ (bytes[index] ?? 0), FNV_PRIME)
    mixed ^= mixed >>> 15
    const zeros = Math.clz32(mixed)
    if (zeros >= WORDS_PER_PIECE_BITS) places.push({ at, level: zeros - WORDS_PER_PIECE_BITS })
  }
  return places
})

const SPACE = 0x20
/** http://www.isthe.com/chongo/tech/comp/fnv/ */
const FNV_BASIS = 0x811c9dc5
const FNV_PRIME = 0x01000193

function pieceDigest(piece: Uint8Array): string {
  return hash('sha256', piece, 'base64url').slice(0, PIECE_CHARS)
}
