/**
 * Replays the edit log of a conversation on what the app sends: the app resends its own unedited history, and the
 * provider must see the same bytes as before, turn after turn. An edit whose originals are not there (the app
 * regenerated, edited or shortened its history) is left out; it is applied again when they are back.
 */
import type { Conversation, Digest, Edit } from './conversation.ts'
import { chainedDigest, originalDigest } from './digest.ts'
import { bytesOf, isInstruction, isList, isObject, leadingCount, readOwn, turnStarts } from './message.ts'
import { noticeFinder, withoutNotices } from './notice-frame.ts'
import type { Json, ModelRequest, Message } from './request.ts'
import type { Shaped } from './shape.ts'

export type Cut = Extract<Edit, { kind: 'cut' }>
export type Replacement = Extract<Edit, { kind: 'replace' }>

/** The request as the log has it. Nothing new is decided; the same request and log give the same bytes. */
export function replay(request: ModelRequest, edits: readonly Edit[]): Shaped {
  return shapedOf(request, replayEntries(request, edits).entries, { newEdits: [], skipped: [] })
}

/** A message that is sent, and where it comes from. */
export interface Entry {
  readonly message: Message
  /** Index of the client's message that it is, or stands for; null for one that a cut put in. */
  readonly index: number | null
  /** The edit that made it; null for the client's own (which may have lost a notice). */
  readonly edit: Cut | Replacement | null
}

export interface Replayed {
  readonly entries: readonly Entry[]
  readonly cut: Cut | null
  /** Digests of the client's messages, computed when asked for. */
  readonly digestAt: (index: number) => Digest
}

/** The same with the origin of each message, for what decides on further edits. */
export function replayEntries(request: Pick<ModelRequest, 'messages' | 'own'>, edits: readonly Edit[]): Replayed {
  const { messages } = request
  const notices = noticeFinder(edits.flatMap((edit) => (edit.kind === 'notice' ? [edit.text] : [])))
  const digestAt = memoized((index) => originalDigest(at(messages, index), notices))
  const cut = widestCut(messages, edits, digestAt)
  const replacements = new Map<Digest, Replacement>()
  for (const edit of edits) if (edit.kind === 'replace' && !replacements.has(edit.original)) replacements.set(edit.original, edit)

  const leading = leadingCount(messages)
  const cutEnd = cut === null ? leading : leading + cut.count
  // Looked for where something is cut alone: it reads all of the history.
  const standing = cut === null ? { start: leading, end: leading } : compacted(messages)
  const place = cutEnd > standing.end ? standing.end : leading
  const entries: Entry[] = []
  messages.forEach((original, index) => {
    if (index === place && cut !== null) {
      const own = readOwn(cut.text)
      if (own !== null) entries.push({ message: request.own(own.role, own.text), index: null, edit: cut })
    }
    if (index >= leading && index < cutEnd && !stays(original, index, standing)) return
    const bare = withoutNotices(original, notices)
    if (bare === null) return
    const edit = replacements.size === 0 ? undefined : replacements.get(digestAt(index))
    const replaced = edit === undefined ? null : original.reread(edit.text)
    entries.push({ message: replaced ?? bare, index, edit: replaced === null ? null : (edit ?? null) })
  })
  // A request that was nothing but our own words: better sent as it is than empty.
  if (entries.length === 0) return { entries: messages.map((message, index) => ({ message, index, edit: null })), cut: null, digestAt }
  return { entries, cut, digestAt }
}

/** Whether one of the edits that were made between turns comes into force at the next user turn of this history. */
export function isAnyReady(
  request: Pick<ModelRequest, 'messages' | 'own'>,
  { edits, readyEdits }: Pick<Conversation, 'edits' | 'readyEdits'>,
): boolean {
  if (readyEdits.length === 0) return false
  const { cut } = replayEntries(request, [...edits, ...readyEdits])
  return cut !== null && readyEdits.includes(cut)
}

/** From `start` to before `end`. */
export interface Span {
  readonly start: number
  readonly end: number
}

/**
 * The message in which Anthropic put a block in the place of all before it, with the rest of its turn: the provider reads on from there,
 * and nothing here can say again what the block holds. Where there is none, the empty span after the leading instructions.
 * https://platform.claude.com/docs/en/build-with-claude/compaction
 */
export function compacted(messages: readonly Message[]): Span {
  const start = messages.findLastIndex(isCompacted)
  if (start >= 0) return { start, end: turnStarts(messages).find((turn) => turn > start) ?? messages.length }
  const leading = leadingCount(messages)
  return { start: leading, end: leading }
}

/** Whether a message outlives every cut around it: instructions that the app gave in the middle of its history, and what was compacted. */
export function stays(message: Message, index: number, standing: Span): boolean {
  return isInstruction(message) || (index >= standing.start && index < standing.end)
}

/** What entries come to, against what the client sent. */
export function shapedOf(request: ModelRequest, entries: readonly Entry[], decided: Pick<Shaped, 'newEdits' | 'skipped'>): Shaped {
  const messages = entries.map((entry) => entry.message)
  const putIn = entries.find(({ index }) => index === null)?.edit
  const rewritten = messages.length !== request.messages.length || messages.some((message, index) => message !== request.messages[index])
  const savedBytes = Math.max(0, bytesOf(request.messages) - bytesOf(messages))
  return { messages: rewritten ? messages : request.messages, rewritten, savedBytes, cut: putIn?.kind === 'cut' ? putIn : null, ...decided }
}

/**
 * Of the cuts whose originals are there, the one that covers most: a later cut covers what an earlier one did. Of equal
 * ones the later counts (a summary that came after the oldest turns had been left out).
 */
function widestCut(messages: readonly Message[], edits: readonly Edit[], digestAt: (index: number) => Digest): Cut | null {
  let widest: Cut | null = null
  for (const edit of edits) {
    if (edit.kind !== 'cut' || edit.count < (widest?.count ?? 0)) continue
    if (coversHere(edit, messages, digestAt)) widest = edit
  }
  return widest
}

/** Whether the originals of a cut are there, and something is left behind it: without that the request would ask nothing. */
export function coversHere({ count, originals }: Cut, messages: readonly Message[], digestAt: Replayed['digestAt']): boolean {
  const leading = leadingCount(messages)
  return count >= 1 && leading + count < messages.length && cutDigest(leading, count, digestAt) === originals
}

/** Names the `count` messages after the leading ones. */
export function cutDigest(leading: number, count: number, digestAt: (index: number) => Digest): Digest {
  return chainedDigest(Array.from({ length: count }, (_, offset) => digestAt(leading + offset)))
}

function isCompacted(message: Message): boolean {
  let known = COMPACTED.get(message)
  if (known === undefined) {
    const { bytes } = message
    // A history that was let go of is not parsed again for it.
    const isNamed = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).includes('"compaction"')
    const content = isNamed ? message.json['content'] : null
    known = isList(content) && content.some(isCompaction)
    COMPACTED.set(message, known)
  }
  return known
}

/** A turn asks for the same messages several times. */
const COMPACTED = new WeakMap<Message, boolean>()

/** One without content failed, and stands for nothing. */
function isCompaction(block: Json): boolean {
  if (!isObject(block) || block['type'] !== 'compaction') return false
  return typeof block['content'] === 'string' || typeof block['encrypted_content'] === 'string'
}

function memoized(compute: (index: number) => Digest): (index: number) => Digest {
  const known = new Map<number, Digest>()
  return (index) => {
    const seen = known.get(index)
    if (seen !== undefined) return seen
    const digest = compute(index)
    known.set(index, digest)
    return digest
  }
}

function at(messages: readonly Message[], index: number): Message {
  const message = messages[index]
  if (message === undefined) throw new RangeError(`there is no message ${index}`)
  return message
}
