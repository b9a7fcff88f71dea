/**
 * Replays the edit log of a conversation on what the app sends: the app resends its own unedited history, and the
 * provider must see the same bytes as before, turn after turn. An edit whose originals are not there (the app
 * regenerated, edited or shortened its history) is left out; it is applied again when they are back.
 */
import type { Conversation, Digest, Edit, ExactCount } from './conversation.ts'
import { chainedDigest, chainedDigests, originalDigest, readDigest } from './digest.ts'
import { bytesOf, isInstruction, isList, isObject, leadingCount, readOwn, turnStarts } from './message.ts'
import { noticeFinder, withoutNotices } from './notice-frame.ts'
import type { NoticeFinder } from './notice-frame.ts'
import { memo, memoOfTwo } from './memo.ts'
import type { Json, ModelRequest, Message } from './request.ts'
import type { Shaped } from './shape.ts'
import { signedAs } from './signed-links.ts'
import { Slice } from './slices.ts'

export type Cut = Extract<Edit, { kind: 'cut' }>
export type Replacement = Extract<Edit, { kind: 'replace' }>

/** Of a request, what a replay is made from. */
export type Replayable = Pick<ModelRequest, 'messages' | 'own' | 'ours'>

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
export function replayEntries(request: Replayable, edits: readonly Edit[]): Replayed {
  if (edits.length === 0 && request.ours === undefined) return unedited(request.messages)
  // A turn asks for the same several times: what one replay gave is kept with the two lists that it was made from.
  const byLog = replaysOf(request.messages)
  const replayed = byLog.get(edits) ?? replayedAnew(request, edits)
  byLog.set(edits, replayed)
  return replayed
}
const replaysOf = memo<readonly Message[], WeakMap<readonly Edit[], Replayed>>(() => new WeakMap())

/** The history as the log had it when the provider counted it last: `lastEdit` as its count has it. */
export function replayCounted(request: Replayable, edits: readonly Edit[], { lastEdit }: Pick<ExactCount, 'lastEdit'>): Replayed {
  return replayEntries(request, lastEdit === undefined ? edits : logUpTo(edits, lastEdit))
}

/** The log without the edits of messages that came after this one; the log itself where none did. */
function logUpTo(edits: readonly Edit[], lastEdit: string): readonly Edit[] {
  if (lastEditOf(edits) === lastEdit) return edits
  const byLast = earlierOf(edits)
  const end = edits.findIndex(({ id }) => id === lastEdit)
  const log = byLast.get(lastEdit) ?? edits.filter((edit, index) => index <= end || edit.kind === 'notice')
  byLast.set(lastEdit, log)
  return log
}
const earlierOf = memo<readonly Edit[], Map<string, readonly Edit[]>>(() => new Map())

/** Names the last edit of messages in a log; empty where there is none. */
export function lastEditOf(edits: readonly Edit[]): string {
  return edits.findLast(({ kind }) => kind !== 'notice')?.id ?? ''
}

function unedited(messages: readonly Message[]): Replayed {
  const entries = messages.map((message, index) => ({ message, index, edit: null }))
  return { entries, cut: null, digestAt: memoized((index) => nameOf(at(messages, index), NO_NOTICES)) }
}

function replayedAnew(request: Replayable, edits: readonly Edit[]): Replayed {
  const { messages, ours } = request
  const notices = finderOf(edits)
  const digestAt = memoized((index) => nameOf(at(messages, index), notices))
  const cut = widestCut(messages, edits, digestAt)
  const replacements = new Map<Digest, Replacement>()
  for (const edit of edits) if (edit.kind === 'replace' && !replacements.has(edit.original)) replacements.set(edit.original, edit)

  const reach = reachOf(messages, cut)
  const entries: Entry[] = []
  messages.forEach((original, index) => {
    if (isCutOut(original, index, reach)) return
    // Words of ours that no log tells of are in its name: the config that knows them may change.
    const said = ours?.get(original)
    const bare = said === null ? null : bareOf(said ?? original, notices)
    if (bare === null) return
    const edit = replacements.size === 0 ? undefined : replacements.get(digestAt(index))
    const replaced = edit === undefined ? null : rereadOf(original, edit)
    entries.push({ message: replaced ?? bare, index, edit: replaced === null ? null : (edit ?? null) })
  })
  // A request that was nothing but our own words: better sent as it is than empty.
  const own = cut === null ? null : ownEntry(request, cut)
  if (entries.length === 0 && own === null) return { ...unedited(messages), digestAt }
  return { entries: own === null ? entries : putIn(entries, own, reach), cut, digestAt }
}

/** One message for one edit, whichever log has it: what a count knows is told by the message. */
function rereadOf(original: Message, { id, text }: Replacement): Message | null {
  const known = REREAD.get(original)
  if (known?.id === id) return known.message
  const message = original.reread(signedAs(text, original.json))
  REREAD.set(original, { id, message })
  return message
}
const REREAD = new WeakMap<Message, { readonly id: string; readonly message: Message | null }>()

/**
 * The entries of `replayed` under a cut that covers more than the one in force there: the same as with that cut at the end of the log.
 * Something the user said must stand behind it.
 */
export function entriesUnder(request: Replayable, { entries }: Pick<Replayed, 'entries'>, cut: Cut): readonly Entry[] {
  const { messages } = request
  const reach = reachOf(messages, cut)
  const kept = entries.filter(({ index }) => index !== null && !isCutOut(at(messages, index), index, reach))
  const own = ownEntry(request, cut)
  return own === null ? kept : putIn(kept, own, reach)
}

/** Which messages of the client a cut takes away, and where its own comes. */
interface Reach {
  readonly leading: number
  readonly end: number
  readonly standing: Span
  readonly place: number
}

function reachOf(messages: readonly Message[], cut: Cut | null): Reach {
  const leading = leadingCount(messages)
  const end = cut === null ? leading : leading + cut.count
  // Looked for where something is cut alone: it reads all of the history.
  const standing = cut === null ? { start: leading, end: leading } : compacted(messages)
  return { leading, end, standing, place: end > standing.end ? standing.end : leading }
}

function isCutOut(message: Message, index: number, { leading, end, standing }: Reach): boolean {
  return index >= leading && index < end && !stays(message, index, standing)
}

/** What a cut says in the place of what it takes away; null for nothing. */
function ownEntry({ own }: Pick<ModelRequest, 'own'>, cut: Cut): Entry | null {
  const said = readOwn(cut.text)
  return said === null ? null : { message: own(said.role, said.text), index: null, edit: cut }
}

function putIn(entries: readonly Entry[], own: Entry, { place }: Reach): readonly Entry[] {
  const after = entries.findIndex(({ index }) => index !== null && index >= place)
  return after < 0 ? [...entries, own] : entries.toSpliced(after, 0, own)
}

/** Whether one of the edits that were made between turns comes into force at the next user turn of this history. */
export function isAnyReady(request: Replayable, { edits, readyEdits }: Pick<Conversation, 'edits' | 'readyEdits'>): boolean {
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
  const messages = messagesOf(request, entries)
  const putIn = entries.find(({ index }) => index === null)?.edit
  const rewritten = messages !== request.messages
  const savedBytes = Math.max(0, bytesOf(request.messages) - bytesOf(messages))
  return { messages, rewritten, savedBytes, cut: putIn?.kind === 'cut' ? putIn : null, ...decided }
}

/** What is sent: the client's own list where nothing in it differs, and one list for the same entries, since digests are known by the list. */
export function messagesOf(request: Pick<ModelRequest, 'messages'>, entries: readonly Entry[]): readonly Message[] {
  const messages = listOf(entries)
  const isRewritten = messages.length !== request.messages.length || messages.some((message, index) => message !== request.messages[index])
  return isRewritten ? messages : request.messages
}
const listOf = memo((entries: readonly Entry[]): readonly Message[] => entries.map(({ message }) => message))

/**
 * Of the cuts whose originals are there, the one that covers most: a later cut covers what an earlier one did. Of equal
 * ones the later counts (a summary that came after the oldest turns had been left out).
 */
function widestCut(messages: readonly Message[], edits: readonly Edit[], digestAt: Replayed['digestAt']): Cut | null {
  const widest = widestOf(cutsOfFewer(messages, edits))
  // As a rule it is that one, and one digest tells. Only where it is not the others are looked at.
  if (widest === null || cutDigest(leadingCount(messages), widest.count, digestAt) === widest.originals) return widest
  return widestOf(coveringCuts(messages, edits, digestAt))
}

function widestOf(cuts: readonly Cut[]): Cut | null {
  let widest: Cut | null = null
  for (const cut of cuts) if (cut.count >= (widest?.count ?? 0)) widest = cut
  return widest
}

/** The cuts of a log whose originals are there, in its order. An old log has many: all are tried in one pass over the history. */
export function coveringCuts(messages: readonly Message[], edits: readonly Edit[], digestAt: Replayed['digestAt']): readonly Cut[] {
  const leading = leadingCount(messages)
  const cuts = cutsOfFewer(messages, edits)
  const counts = [...new Set(cuts.map(({ count }) => count))].toSorted((one, other) => one - other)
  const digests = chainedDigests((index) => digestAt(leading + index), counts)
  const there = new Map(counts.map((count, index) => [count, digests[index]]))
  return cuts.filter(({ count, originals }) => there.get(count) === originals)
}

/** The cuts of a log behind which this history has something left: without that the request would ask nothing. */
function cutsOfFewer(messages: readonly Message[], edits: readonly Edit[]): readonly Cut[] {
  const most = messages.length - leadingCount(messages) - 1
  return edits.flatMap((edit) => (edit.kind === 'cut' && edit.count >= 1 && edit.count <= most ? [edit] : []))
}

/** Names the `count` messages after the leading ones. */
export function cutDigest(leading: number, count: number, digestAt: (index: number) => Digest): Digest {
  return chainedDigest(Array.from({ length: count }, (_, offset) => digestAt(leading + offset)))
}

/** A turn asks for the same messages several times. */
const isCompacted = memo((message: Message): boolean => {
  const { bytes } = message
  // A history that was let go of is not parsed again for it.
  if (!Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).includes('"compaction"')) return false
  const { content } = message.json
  return isList(content) && content.some(isCompaction)
})

/** One without content failed, and stands for nothing. */
function isCompaction(block: Json): boolean {
  if (!isObject(block) || block['type'] !== 'compaction') return false
  return typeof block['content'] === 'string' || typeof block['encrypted_content'] === 'string'
}

/** The notices of a log, found once: histories are long. */
const finderOf = memo((edits: readonly Edit[]): NoticeFinder => {
  const notices = edits.filter((edit) => edit.kind === 'notice')
  const last = notices.at(-1)
  if (last === undefined) return NO_NOTICES
  const same = BY_LAST.get(last)
  const finder = same?.count === notices.length ? same.finder : noticeFinder(notices.map(({ text }) => text))
  BY_LAST.set(last, { count: notices.length, finder })
  return finder
})
/** Logs that grew out of one another have the same notices, and take the same answers apart. */
const BY_LAST = new WeakMap<Edit, { readonly count: number; readonly finder: NoticeFinder }>()
const NO_NOTICES: NoticeFinder = []

function bareOf(message: Message, notices: NoticeFinder): Message | null {
  return message.role !== 'assistant' || notices.length === 0 ? message : readBare(notices, message)
}
const readBare = memoOfTwo((notices: NoticeFinder, message: Message) => withoutNotices(message, notices))

/** Takes out the notices that a replay leaves out beforehand, in slices. */
export function* readNoticesAhead(messages: readonly Message[], edits: readonly Edit[]): Generator<void, void> {
  const notices = finderOf(edits)
  if (notices.length === 0) return
  const slice = new Slice()
  for (const message of messages) {
    bareOf(message, notices)
    if (slice.isFull(message.bytes.length * notices.length)) yield
  }
}

/** The digest that a message has in the log. Where no notice is in it, it is the same for every log, and is made once. */
function nameOf(message: Message, notices: NoticeFinder): Digest {
  if (bareOf(message, notices) !== message) return originalDigest(message, notices)
  const digest = NAMES.get(message) ?? originalDigest(message)
  NAMES.set(message, digest)
  return digest
}
const NAMES = new WeakMap<Message, Digest>()

/** Makes the digests that a replay asks for beforehand, in slices. None where the log names no message. */
export function* readNamesAhead(messages: readonly Message[], edits: readonly Edit[]): Generator<void, void> {
  if (!edits.some(({ kind }) => kind !== 'notice')) return
  const slice = new Slice()
  for (const message of messages) if (!NAMES.has(message)) NAMES.set(message, yield* readDigest(message, slice))
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
