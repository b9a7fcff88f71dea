/**
 * What of a request is retrieved context, and the request without it. Only what the app marks counts: results of the
 * tools that the owner names, text between the tags that the owner names, and the app's own marks (`name: "retrieval"`,
 * metadata `farebox_retrieval`). No message is ever taken out: tool calls keep their results, turns stay turns.
 */
import type { Edit } from './conversation.ts'
import type { Entry } from './edit-log.ts'
import { isInstruction } from './message.ts'
import { matchesPattern } from './pattern.ts'
import type { Message, ModelRequest, TextPart } from './request.ts'
import type { ShapeRules } from './shape.ts'

/** Stands where retrieved context was; tells the model why it is not there. */
export const RETRIEVAL_STUB = '[retrieved context omitted: budget]'
/** `name` of a message or content part that an app marks as retrieved. */
export const RETRIEVAL_NAME = 'retrieval'
/** `name` of the text of a document that came with a message: read with it, and said by nobody. */
export const DOCUMENT_NAME = 'document'
/** Metadata key with the indexes of retrieved messages, comma-separated: `"1,4"`. */
export const RETRIEVAL_METADATA = 'farebox_retrieval'

/** Marked text shorter than this stays: the stub would save nothing worth an edit. In UTF-8 bytes. */
const MARKED_BYTES_MIN = 200
/** A message that is longer than this without its retrieved part (an embedded image) is left alone: the edit log keeps it whole. */
const REPLACEMENT_BYTES_MAX = 64 * 1024
/** Longest run of attributes in an opening tag; anything longer is not a tag. */
const TAG_ATTRIBUTES_MAX = 1_024
/** Tags looked at in one text; what comes after that many is left as it is. */
const TAGS_MAX = 10_000

type Marks = Pick<ShapeRules, 'retrieval'>

/** A message that has retrieved context to leave out. */
export interface Passage {
  /** Among the messages of the client. */
  readonly index: number
  /** Among the entries. */
  readonly position: number
  readonly savedBytes: number
}

/** From which message of the client on retrieved context is left out, of so many passages. In the order of the messages. */
export type DropsFrom = (passages: readonly Passage[]) => number
/** Wherever it stands. */
export const DROPS_ALL: DropsFrom = () => 0

/**
 * `entries` with their retrieved context replaced by the stub, and the edits that say so. `spared`: how many passages stay that might go. Call
 * it at a user-turn boundary only.
 */
export function dropRetrieval(input: {
  readonly request: ModelRequest
  readonly entries: readonly Entry[]
  readonly rules: Marks
  /** Names a message as the client sent it. */
  readonly digestAt: (index: number) => string
  readonly newId: () => string
  /** Absent: wherever it stands. */
  readonly from?: DropsFrom | undefined
}): { readonly entries: readonly Entry[]; readonly edits: readonly Edit[]; readonly spared: number } {
  const { request, rules, digestAt, newId } = input
  const marker = markerOf(request, rules)
  const found: (Passage & { readonly bare: Message })[] = []
  input.entries.forEach(({ message, index, edit }, position) => {
    if (index === null || edit !== null) return
    const bare = marker.without(message, index)
    if (bare === null) return
    const savedBytes = message.bytes.length - bare.bytes.length
    if (bare.bytes.length <= REPLACEMENT_BYTES_MAX && savedBytes > 0) found.push({ index, position, savedBytes, bare })
  })
  if (found.length === 0) return { entries: input.entries, edits: [], spared: 0 }
  const from = (input.from ?? DROPS_ALL)(found)
  const going = found.filter(({ index }) => index >= from)
  const spared = found.length - going.length
  if (going.length === 0) return { entries: input.entries, edits: [], spared }
  const entries = [...input.entries]
  const edits = going.map(({ index, position, savedBytes, bare }): Edit => {
    const edit = {
      kind: 'replace',
      id: newId(),
      rung: 'DropRetrieval',
      original: digestAt(index),
      text: Buffer.from(bare.bytes).toString('utf8'),
      savedBytes,
    } as const
    entries[position] = { message: bare, index, edit }
    return edit
  })
  return { entries, edits, spared }
}

/**
 * UTF-8 bytes of retrieved context in each of the messages sent, for splitting the cost by what drove it. Marks are of the
 * client's list: a message counts by where it stands there; one that an edit put in, or took the context out of, has none.
 */
export function retrievalBytes(request: ModelRequest, rules: Marks, sent: readonly Message[] = request.messages): number[] {
  const marker = markerOf(request, rules)
  const indexes = new Map(request.messages.map((message, index) => [message, index]))
  return sent.map((message) => {
    const index = indexes.get(message)
    const bare = index === undefined ? null : marker.without(message, index)
    return bare === null ? 0 : Math.max(0, message.bytes.length - bare.bytes.length)
  })
}

/** What users say in these messages: texts without retrieved context, however short, and without results of tools. */
export function spokenTexts(request: ModelRequest, rules: Marks, indexes: readonly number[]): readonly string[] {
  const marker = markerOf(request, rules)
  return indexes.flatMap((index) => {
    const message = request.messages[index]
    return message === undefined ? [] : marker.spoken(message, index).filter((text) => text !== '')
  })
}

interface Marker {
  /** The message without its retrieved context; null when it has none that is worth dropping. */
  readonly without: (message: Message, index: number) => Message | null
  /** Texts of the message that are neither retrieved nor a tool's. */
  readonly spoken: (message: Message, index: number) => readonly string[]
}

function markerOf(request: ModelRequest, rules: Marks): Marker {
  const { messages } = request
  const names = toolNames(messages)
  const listed = indexesIn(request.metadata[RETRIEVAL_METADATA])
  const tags = rules.retrieval.tags.length === 0 ? null : tagPattern(rules.retrieval.tags)
  const isWhole = (message: Message, index: number): boolean =>
    message.role !== 'assistant' && (listed.has(index) || message.name === RETRIEVAL_NAME)
  const isRetrieved = (part: TextPart): boolean => {
    const name = part.answers === null ? undefined : names.get(part.answers)
    return name !== undefined && rules.retrieval.toolNames.some((pattern) => matchesPattern(pattern, name))
  }
  const question = lastQuestion(messages, isWhole)
  return {
    spoken: (message, index) =>
      isWhole(message, index)
        ? []
        : message.texts
            .filter((part) => part.kind === 'text' && part.answers === null && part.name !== RETRIEVAL_NAME && part.name !== DOCUMENT_NAME)
            .map(({ text }) => (tags === null ? text : outsideTags(text, tags)).trim()),
    without: (message, index) => {
      if (message.role === 'assistant') return null
      const { texts } = message
      const whole = isWhole(message, index)
      if (whole && index === question) return null
      const isMarked = texts.map((part) => whole || isRetrieved(part) || part.name === RETRIEVAL_NAME)
      // Most messages: every turn asks this of all of them, to split its cost.
      if (!isMarked.includes(true) && (tags === null || message.role !== 'user')) return null
      // What was retrieved together is left out together: the results of a call, or all of a message.
      const groupOf = (part: TextPart, at: number): string =>
        part.answers !== null ? `call/${part.answers}` : whole ? 'message' : `part/${at}`
      const sizes = new Map<string, number>()
      texts.forEach((part, at) => {
        const group = groupOf(part, at)
        if (isMarked[at] === true) sizes.set(group, (sizes.get(group) ?? 0) + Buffer.byteLength(part.text))
      })
      const stubbed = new Set<string>()
      let changes = false
      const rest = texts.map((part, at) => {
        if (isMarked[at] !== true) {
          const text = tags === null || message.role !== 'user' || part.answers !== null ? part.text : withoutTagged(part.text, tags)
          changes ||= text !== part.text
          return text
        }
        const group = groupOf(part, at)
        if ((sizes.get(group) ?? 0) < MARKED_BYTES_MIN) return part.text
        changes = true
        if (stubbed.has(group)) return null
        stubbed.add(group)
        return RETRIEVAL_STUB
      })
      return changes ? message.withTexts(rest) : null
    },
  }
}

/**
 * The one message of the last user turn that must stay whatever marks it, so that the turn still asks something: its last
 * user message, unless another user message of the turn is unmarked. -1 when there is none to protect.
 */
function lastQuestion(messages: readonly Message[], isWhole: (message: Message, index: number) => boolean): number {
  let last = -1
  for (let index = messages.length - 1; index >= 0; index--) {
    const message = messages[index]
    if (message === undefined || isInstruction(message)) continue
    if (message.role !== 'user') break
    if (!isWhole(message, index)) return -1
    if (last < 0) last = index
  }
  return last
}

/** Names of the tools that were called, by the id of the call. */
function toolNames(messages: readonly Message[]): ReadonlyMap<string, string> {
  const names = new Map<string, string>()
  for (const message of messages) {
    for (const { id, name } of message.toolCalls) names.set(id, name)
    // An old function result names its function, and no call.
    if (message.role === 'function' && message.name !== null)
      for (const id of message.answers) if (!names.has(id)) names.set(id, message.name)
  }
  return names
}

function indexesIn(list: string | undefined): ReadonlySet<number> {
  const indexes = new Set<number>()
  for (const item of (list ?? '').split(',')) if (/^\s*[0-9]{1,9}\s*$/.test(item)) indexes.add(Number(item))
  return indexes
}

function tagPattern(tags: readonly string[]): RegExp {
  const names = tags.map((tag) => tag.replace(/[^\w:-]/g, (character) => `\\${character}`)).join('|')
  return new RegExp(`<(/?)(${names})(?:\\s[^<>]{0,${TAG_ATTRIBUTES_MAX}})?>`, 'g')
}

/** The text between outermost balanced tags replaced by the stub; the tags stay, so that the prompt keeps its structure. Linear. */
function withoutTagged(text: string, tags: RegExp): string {
  let result = ''
  let from = 0
  for (const { start, end } of taggedRegions(text, tags)) {
    if (Buffer.byteLength(text.slice(start, end)) < MARKED_BYTES_MIN) continue
    result += text.slice(from, start) + RETRIEVAL_STUB
    from = end
  }
  return result + text.slice(from)
}

/** The text without its outermost balanced tags and what is between them. */
function outsideTags(text: string, tags: RegExp): string {
  let result = ''
  let from = 0
  for (const region of taggedRegions(text, tags)) {
    result += text.slice(from, region.opensAt)
    from = region.closesAt
  }
  return result + text.slice(from)
}

interface Region {
  /** Before and after the opening tag. */
  readonly opensAt: number
  readonly start: number
  /** Before and after the closing tag. */
  readonly end: number
  readonly closesAt: number
}

/** Outermost regions between an opening tag and its closing one, in order. A tag without its partner marks nothing. */
function taggedRegions(text: string, tags: RegExp): readonly Region[] {
  const regions: Region[] = []
  const open: { readonly tag: string; readonly opensAt: number; readonly start: number }[] = []
  const openCounts = new Map<string, number>() // so that a closing tag without an opening one costs no search
  let seen = 0
  for (const match of text.matchAll(tags)) {
    if (++seen > TAGS_MAX) break
    const [whole, slash, tag = ''] = match
    if (slash === '') {
      open.push({ tag, opensAt: match.index, start: match.index + whole.length })
      openCounts.set(tag, (openCounts.get(tag) ?? 0) + 1)
      continue
    }
    if ((openCounts.get(tag) ?? 0) === 0) continue
    for (let last = open.pop(); last !== undefined; last = open.pop()) {
      openCounts.set(last.tag, (openCounts.get(last.tag) ?? 1) - 1)
      if (last.tag !== tag) continue // opened inside, never closed: part of this region
      while ((regions.at(-1)?.start ?? -1) >= last.start) regions.pop()
      regions.push({ opensAt: last.opensAt, start: last.start, end: match.index, closesAt: match.index + whole.length })
      break
    }
  }
  return regions
}
