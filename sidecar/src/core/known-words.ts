/**
 * Words of ours in a history of which no log tells: a chat that goes on under another id or in another tier, or "brings along" what was said.
 * Only what a config can have said is found, and only where it would stand: notices behind the frame at the end of an answer, closing words
 * as the whole of one. Whatever could be anybody's own words stays.
 */
import { NOTICE_PLACEHOLDER_PATTERN } from '@farebox/crds/notice-text.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { memo } from './memo.ts'
import { framesIn, TELLING_LENGTH_MIN, withoutFramed, withTextsOf } from './notice-frame.ts'
import { BUILT_IN_TEXTS, END_TEXTS } from './notice-texts.ts'
import type { Message } from './request.ts'
import { Slice } from './slices.ts'
import { WordEndings } from './word-endings.ts'

/** The literal parts of a text, around its placeholders; whitespace as single spaces. */
type Pattern = readonly string[]

export interface KnownWords {
  readonly notices: readonly Pattern[]
  readonly closings: readonly Pattern[]
  /** What is longer, in UTF-16 units, is no closing words, with whatever whitespace and values. */
  readonly closingUnitsMax: number
  /** How many frames may stand at the end of an answer before it is no notice that they are part of: its own, and those in its words. */
  readonly framesMax: number
  readonly endings: WordEndings
}

/** The longest that stands in for a placeholder, in UTF-16 units: an amount, a count, the name of a tier. */
const VALUE_UNITS_MAX = 128
/** None of those goes over the end of a sentence. */
const SENTENCE_END = /[.!?…](?:\s|$)|[。！？]/u
/** What is longer is no notice, nor several. */
const WORDS_UNITS_MAX = 16 * 1024
/** Frames that are looked at in one answer, where a notice has some of its own. */
const FRAMES_MAX = 8

/** The built-in texts, and those of the tiers, in all languages. Once per config. */
export const knownWordsOf = memo((contracts: SidecarConfig['contracts']): KnownWords => {
  const all = [BUILT_IN_TEXTS, ...Object.values(contracts).map(({ notices }) => notices.texts)]
  const told = all.flatMap((texts) => Object.entries(texts).flatMap(([occasion, ofIt]) => (occasion === 'End' ? [] : Object.values(ofIt))))
  const closing = [...all.map(({ End }) => End ?? {}), ...Object.values(END_TEXTS)].flatMap((ofIt) => Object.values(ofIt))
  const notices = patternsOf(told)
  // Between two values any answer could stand.
  const closings = patternsOf(closing).filter((pattern) => pattern[0] !== '' || pattern.at(-1) !== '')
  return {
    notices,
    closings,
    closingUnitsMax: 2 * Math.max(...closing.map(unitsMaxOf)),
    framesMax: told.some((text) => framesIn(text) > 0) ? FRAMES_MAX : 1,
    endings: new WordEndings([...notices, ...closings].map((pattern) => pattern.at(-1) ?? '')),
  }
})

function unitsMaxOf(text: string): number {
  return text.length + VALUE_UNITS_MAX * [...text.matchAll(NOTICE_PLACEHOLDER_PATTERN)].length
}

/** Of texts that are telling without what stands in for their placeholders. */
function patternsOf(texts: readonly string[]): readonly Pattern[] {
  return [...new Set(texts)].flatMap((text) => {
    const [first = '', ...rest] = saidIn(text.replaceAll(NOTICE_PLACEHOLDER_PATTERN, '\0')).words.split('\0')
    const last = rest.pop()
    // Values side by side are one.
    const pattern = last === undefined ? [first] : [first, ...rest.filter((literal) => literal !== ''), last]
    return pattern.join('').length >= TELLING_LENGTH_MIN ? [pattern] : []
  })
}

/** The messages that hold such words, each with what is left of it: null for nothing. In slices: a history may be all of a large body. */
export function* messagesWithWords(messages: readonly Message[], words: KnownWords): Generator<void, ReadonlyMap<Message, Message | null>> {
  const found = new Map<Message, Message | null>()
  const slice = new Slice()
  for (const message of messages) {
    if (!mayHold(message, words)) {
      if (slice.isFull(SKIPPED_UNITS)) yield
      continue
    }
    const rest = withoutWords(message, words)
    if (rest !== message) found.set(message, rest)
    if (slice.isFull(message.bytes.length)) yield
  }
  return found
}

/** By its bytes alone: to read each answer of a long history would take longer than all else that is done with it. */
function mayHold({ role, bytes }: Message, { endings, closingUnitsMax }: KnownWords): boolean {
  if (role !== 'assistant') return false
  const json = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return endings.areIn(json) ?? (json.length <= FIELDS_BYTES_MAX + UNIT_BYTES_MAX * closingUnitsMax || json.includes(FRAME_BYTES))
}
/** What else stands in a message, at most, and what a unit of its text takes as JSON. */
const FIELDS_BYTES_MAX = 1024
const UNIT_BYTES_MAX = 6
/** What a look at the end of a message takes, as text that is read. */
const SKIPPED_UNITS = 128
const FRAME_BYTES = Buffer.from('---')

function withoutWords(message: Message, { notices, closings, closingUnitsMax, framesMax }: KnownWords): Message | null {
  const isAlone = message.texts.length === 1 && message.toolCalls.length === 0
  const isOurs = (behind: string): boolean => areNotices(saidIn(behind), notices)
  return withTextsOf(message, (text) => {
    if (isAlone && text.length <= closingUnitsMax && isClosing(text, closings)) return ''
    return withoutFramed(text, { unitsMax: WORDS_UNITS_MAX, framesMax }, isOurs)
  })
}

function isClosing(text: string, closings: readonly Pattern[]): boolean {
  const said = saidIn(text)
  return said.words !== '' && closings.some((pattern) => matchedLength(said, 0, pattern) === said.words.length)
}

/** One after the other, as one answer tells them. */
function areNotices(said: Said, notices: readonly Pattern[]): boolean {
  const { length } = said.words
  let at = 0
  while (at < length) {
    let longest = 0
    for (const pattern of notices) longest = Math.max(longest, matchedLength(said, at, pattern))
    const end = at + longest
    if (longest === 0 || (end < length && said.words[end] !== ' ')) return false
    at = end + 1
  }
  return length > 0
}

/** How long these words are where they stand in a text; 0 where they do not. */
function matchedLength({ words, lines }: Said, start: number, [first = '', ...rest]: Pattern): number {
  if (!words.startsWith(first, start)) return 0
  let at = start + first.length
  for (const [index, literal] of rest.entries()) {
    const isOpen = index === rest.length - 1 && literal === ''
    const lineEnd = lines.indexOf('\n', at)
    const openEnd = lineEnd < 0 ? words.length : lineEnd
    const next = isOpen ? openEnd : words.indexOf(literal, at + 1)
    if (next <= at || next - at > VALUE_UNITS_MAX) return 0
    const value = lines.slice(at, next)
    if (value.includes('\n') || SENTENCE_END.test(value)) return 0
    at = next + literal.length
  }
  return at - start
}

/** A text with its whitespace as single spaces, and the same with the line breaks that are left of it, each in the place of such a space. */
interface Said {
  readonly words: string
  readonly lines: string
}

function saidIn(text: string): Said {
  const lines = text.trim().replaceAll(/\s+/g, (run) => (/[\n\r]/.test(run) ? '\n' : ' '))
  return { words: lines.replaceAll('\n', ' '), lines }
}
