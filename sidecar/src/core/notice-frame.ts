/**
 * How a notice stands inside an answer, and how it is taken out again when the app sends that answer back as history:
 * the model must neither read our words as its own nor learn to write them.
 */
import type { Message } from './request.ts'
import { SLICE_TEXT_UNITS } from './slices.ts'

/** Between the answer and a notice: a rule in Markdown, and readable as plain text. */
const FRAME = '---'
const LINE_BREAK = '\n'
const SEPARATOR = LINE_BREAK + LINE_BREAK
/** A notice shorter than this could be the model's own words: it is taken out only with its frame, or when it stands alone. */
export const TELLING_LENGTH_MIN = 24

/** What is appended to the text of an answer to show `notice` after it. The log keeps `notice` itself. */
export function inlineNotice(notice: string): string {
  return `${SEPARATOR}${FRAME}\n${notice}`
}

/**
 * Finds the texts of notices in answers. Made once per request: histories are long. What was told in one answer is one text: the longest
 * is looked for first, for a notice that was also told alone would take its line out of those of others, and their frame with it.
 */
export type NoticeFinder = readonly RegExp[]
export function noticeFinder(notices: readonly string[]): NoticeFinder {
  const longestFirst = [...new Set(notices)].toSorted((one, other) => other.length - one.length)
  return longestFirst.flatMap((notice) => {
    const words = notice.split(/\s+/).filter((word) => word !== '')
    if (words.length === 0) return []
    const body = words.map(escapeRegExp).join('\\s+')
    const frame = `${FRAME}\\s+`
    const isTelling = words.join(' ').length >= TELLING_LENGTH_MIN
    return [new RegExp(isTelling ? `(?:${frame})?${body}` : `${frame}${body}|^\\s*${body}\\s*$`, 'g')]
  })
}

/** An assistant message without our notices; the message itself where there are none; null when nothing else was in it. */
export function withoutNotices(message: Message, notices: NoticeFinder): Message | null {
  if (message.role !== 'assistant' || notices.length === 0) return message
  return withTextsOf(message, (text) => stripNotices(text, notices))
}

/** A message with what `left` leaves of its texts; the message itself where that is all of them; null when nothing else was in it. */
export function withTextsOf(message: Message, left: (text: string) => string): Message | null {
  let found = false
  const texts = message.texts.map(({ text, kind }) => {
    const rest = kind === 'text' ? left(text) : text
    if (rest === text) return text
    found = true
    return rest === '' ? null : rest
  })
  return found ? message.withTexts(texts) : message
}

/**
 * `text` without the notices and their frame: exactly what the model wrote, as long as the app kept its whitespace; with
 * other whitespace (trimmed, CRLF, one line) they are found all the same.
 */
export function stripNotices(text: string, notices: NoticeFinder): string {
  let rest = text
  for (const notice of notices) rest = withoutMatches(rest, notice)
  return rest
}

/**
 * `text` without a frame and all behind it, as often as that is ours: the last frame, or one of the `framesMax` last, for a notice may hold a
 * rule itself. What is behind it is at most `unitsMax` long.
 */
export function withoutFramed(
  text: string,
  { unitsMax, framesMax }: { readonly unitsMax: number; readonly framesMax: number },
  isOurs: (behind: string) => boolean,
): string {
  let rest = text
  for (;;) {
    const frame = lastFrames(rest, unitsMax, framesMax).find((at) => isOurs(rest.slice(at + FRAME.length)))
    if (frame === undefined) return rest
    const pieces = frame === 0 ? [] : [rest.slice(0, frame)]
    dropSeparator(pieces)
    rest = pieces.join('')
  }
}

/** Where the last frames of a text begin, the last one first. */
function lastFrames(text: string, unitsMax: number, framesMax: number): readonly number[] {
  const from = Math.max(0, text.length - unitsMax)
  const frames: number[] = []
  for (let to = text.length; frames.length < framesMax;) {
    to = lastFrame(text, from, to)
    if (to < 0) break
    frames.push(to)
  }
  return frames
}

/** How many frames stand in a text: a notice of its own may have some. */
export function framesIn(text: string): number {
  return lastFrames(text, text.length, text.length).length
}

/**
 * The text before the last frame: what the model wrote, whatever notice follows it. For naming a conversation by its
 * history, when its notices are not known yet; a rule of the model's own cuts its text too, which does no harm there. In slices.
 */
export function* beforeFrame(text: string): Generator<void, string> {
  for (let to = text.length; to > 0; to -= SLICE_TEXT_UNITS) {
    const from = Math.max(0, to - SLICE_TEXT_UNITS)
    const frame = lastFrame(text, from, to)
    if (frame >= 0) return text.slice(0, frame)
    if (from > 0) yield
  }
  return text
}

/** Where the last frame begins that does so in this part of a text; -1 where none does. */
function lastFrame(text: string, from: number, to: number): number {
  const part = text.slice(from, to + FRAME.length - 1)
  for (let at = part.lastIndexOf(FRAME); at >= 0; at = at === 0 ? -1 : part.lastIndexOf(FRAME, at - 1))
    if (isSpaceAt(text, from + at - 1) && isSpaceAt(text, from + at + FRAME.length)) return from + at
  return -1
}

function withoutMatches(text: string, pattern: RegExp): string {
  const pieces: string[] = []
  let from = 0
  for (const match of text.matchAll(pattern)) {
    if (match.index > from) pieces.push(text.slice(from, match.index))
    dropSeparator(pieces)
    from = match.index + match[0].length
  }
  if (from === 0) return text
  const after = text.slice(from)
  if (after.trim() === '') return pieces.join('')
  pieces.push(pieces.length === 0 ? after.trimStart() : after)
  return pieces.join('')
}

/**
 * Takes off the end of a text what stands before a notice: our separator exactly, or whatever whitespace the app made of it. The text
 * comes in pieces, none of them empty: put together anew for each notice, a long one would be copied as often as it holds one.
 */
function dropSeparator(pieces: string[]): void {
  const last = pieces.at(-1) ?? ''
  if (last.endsWith(SEPARATOR)) return replaceLast(pieces, last.slice(0, -SEPARATOR.length))
  const before = last === LINE_BREAK ? (pieces.at(-2) ?? '') : ''
  if (before.endsWith(LINE_BREAK)) {
    pieces.pop()
    return replaceLast(pieces, before.slice(0, -LINE_BREAK.length))
  }
  for (let piece = pieces.at(-1); piece !== undefined; piece = pieces.at(-1)) {
    const kept = piece.trimEnd()
    if (kept !== piece) replaceLast(pieces, kept)
    if (kept !== '') return
  }
}

function replaceLast(pieces: string[], piece: string): void {
  pieces.pop()
  if (piece !== '') pieces.push(piece)
}

/** Whether whitespace stands there; before the start and after the end count as such. */
function isSpaceAt(text: string, index: number): boolean {
  const character = text[index]
  return character === undefined || /\s/.test(character)
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')
}
