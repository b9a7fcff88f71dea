/**
 * A streamed answer on its way to the client: what it says is metered as it passes, and the little that must change is
 * changed in its bytes. Chunks that need no change are passed on as they are; at most one unfinished event is held back.
 */
import type { Usage } from '@farebox/crds/usage.ts'
import type { Message } from '../core/request.ts'
import { ChatChunk } from './chat-chunk.ts'
import type { Part } from './chat-chunk.ts'
import { EventFrames } from './event-frames.ts'
import { CUT_END, PROSE_ENDS } from './openai-answer.ts'
import type { UsageTold } from './openai-usage.ts'
import { dataOf, withData } from './sse-events.ts'
import { StreamMeter } from './stream-meter.ts'
import type { AnswerStream, StreamOptions, WireFacts } from './wire.ts'

export interface ChatStreamOptions extends Pick<StreamOptions, 'stripUsage' | 'notice' | 'collect'>, UsageTold {
  /** See `AnswerFacts`. */
  readonly isSum?: boolean
}

export class ChatStream implements AnswerStream {
  readonly #options: ChatStreamOptions
  /** Whether anything may have to be changed: then, and only then, an unfinished event is held back. */
  readonly #rewrites: boolean
  readonly #frames: EventFrames
  readonly #chunk = new ChatChunk()
  readonly #meter: StreamMeter
  noticeAdded = false

  constructor(options: ChatStreamOptions) {
    this.#options = options
    this.#rewrites = options.stripUsage || options.notice !== null
    this.#meter = new StreamMeter({ collect: options.collect, findsPlace: options.notice !== null }, options)
    this.#frames = new EventFrames({
      rewrites: this.#rewrites,
      event: (bytes, start, end) => this.#event(bytes, start, end),
      unread: (bytes) => this.#meter.addUnread(bytes),
    })
  }

  push(chunk: Buffer): readonly Buffer[] {
    return this.#frames.push(chunk)
  }

  end(): readonly Buffer[] {
    return this.#frames.end()
  }

  /** What the answer has said of itself so far. `usage` only when it is final: see `usageSoFar`. */
  get facts(): WireFacts {
    const facts = this.#meter.facts()
    return this.#options.isSum === true ? { ...facts, isSum: true } : facts
  }

  /** The last usage seen, which some providers send along with every chunk: exact for its input, behind for its output. */
  get usageSoFar(): Usage | null {
    return this.#meter.usageSoFar
  }

  get isOver(): boolean {
    return this.#meter.isOver
  }

  /** The first answer as a message, when it was collected: what the app will send back, without the notice. */
  get message(): Message | null {
    return this.#meter.message()
  }

  get alternatives(): readonly Message[] {
    return this.#meter.alternatives()
  }

  /** Output tokens of all that has passed, estimated from above; exact where the provider counts along. Hidden reasoning is not in it. */
  observedOutputTokens(): number {
    return this.#meter.observedOutputTokens(this.#frames.unfinishedBytes)
  }

  /** Without sound, pictures and what could not be read. */
  observedTextTokens(): number {
    return this.#meter.observedTextTokens()
  }

  /** One whole event: the pieces that replace it (none, for one that is dropped); null when it passes as it is. */
  #event(bytes: Buffer, start: number, end: number): Buffer[] | null {
    const data = dataOf(bytes, start, end)
    if (data === null || !this.#meter.read(data, this.#chunk) || !this.#rewrites) return null
    const chunk = this.#chunk
    const edits: Edit[] = []
    const before = this.#placeNotice(data.bytes, edits)
    const isTold = chunk.isObject(chunk.usage)
    // Usage in a chunk that has choices is there unasked: what asking adds is a chunk of its own, and null in all others.
    if (this.#options.stripUsage && chunk.usage.start >= 0 && (chunk.choicesEmpty || !isTold)) {
      // The chunk that is there only because we asked goes; one that says more stays without its usage.
      if (chunk.choicesEmpty && isTold && !chunk.carriesMore && chunk.error.start < 0) return before === null ? [] : [before]
      edits.push({ start: chunk.usageCut.start, end: chunk.usageCut.end, bytes: null })
    }
    if (edits.length === 0) return before === null ? null : [before, bytes.subarray(start, end)]
    const pieces = data.isPlain
      ? applied(bytes, start, end, edits)
      : [withData(bytes, start, end, Buffer.concat(applied(data.bytes, data.start, data.end, edits)))]
    if (before !== null) pieces.unshift(before)
    return pieces
  }

  /** The notice goes before the chunk that ends the first answer; into its text where that chunk still has some. */
  #placeNotice(bytes: Buffer, edits: Edit[]): Buffer | null {
    const { notice, stripUsage } = this.#options
    if (notice === null || this.noticeAdded) return null
    const chunk = this.#chunk
    for (let position = 0; position < chunk.choiceCount; position += 1) {
      const choice = chunk.choices[position]
      if (choice === undefined || choice.index !== 0 || choice.finish.start < 0) continue
      const reason = bytes.toString('latin1', choice.finish.start, choice.finish.end)
      if (!PROSE_ENDS.has(reason) || !this.#meter.isProse(0, reason === CUT_END)) return null
      this.noticeAdded = true
      if (choice.content.end > choice.content.start) {
        edits.push({ start: choice.content.end, end: choice.content.end, bytes: Buffer.from(JSON.stringify(notice).slice(1, -1)) })
        return null
      }
      const { contentParts } = choice
      if (contentParts.end > contentParts.start && bytes[contentParts.end - 1] === CLOSE_BRACKET) {
        const at = contentParts.end - 1
        edits.push({ start: at, end: at, bytes: Buffer.from(`,${JSON.stringify({ type: 'text', text: notice })}`) })
        return null
      }
      const raw = (part: Part, absent: string): string => (part.start < 0 ? absent : bytes.toString('utf8', part.start, part.end))
      const usage = chunk.usage.start >= 0 && !stripUsage ? ',"usage":null' : ''
      const delta = JSON.stringify([{ index: 0, delta: { content: notice }, logprobs: null, finish_reason: null }])
      const head = `"id":${raw(chunk.id, '""')},"object":"chat.completion.chunk","created":${raw(chunk.created, '0')},"model":${raw(chunk.model, '""')}`
      return Buffer.from(`data: {${head},"choices":${delta}${usage}}\n\n`)
    }
    return null
  }
}

const CLOSE_BRACKET = 0x5d

interface Edit {
  readonly start: number
  readonly end: number
  /** What to put in; null: nothing. */
  readonly bytes: Buffer | null
}

/** `bytes` from `start` to `end` with the edits made, which do not overlap: in pieces. */
function applied(bytes: Buffer, start: number, end: number, edits: Edit[]): Buffer[] {
  const out: Buffer[] = []
  let at = start
  if (edits.length > 1) edits.sort((one, other) => one.start - other.start)
  for (const edit of edits) {
    if (edit.start > at) out.push(bytes.subarray(at, edit.start))
    if (edit.bytes !== null) out.push(edit.bytes)
    at = edit.end
  }
  if (end > at) out.push(bytes.subarray(at, end))
  return out
}
