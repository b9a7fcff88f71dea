/**
 * A streamed answer on its way to the client: what it says is metered as it passes, and the little that must change is
 * changed in its bytes. Chunks that need no change are passed on as they are; at most one unfinished event is held back.
 */
import type { Usage } from '@farebox/crds/usage.ts'
import type { Message } from '../core/request.ts'
import { ChatChunk } from './chat-chunk.ts'
import type { Part } from './chat-chunk.ts'
import { PROSE_ENDS } from './openai-answer.ts'
import { dataOf, EventBoundaries, withData } from './sse-events.ts'
import { StreamMeter } from './stream-meter.ts'
import type { AnswerStream, StreamOptions, WireFacts } from './wire.ts'

/** An event longer than this is passed on unread (images come as single events, but not as large as this). */
export const EVENT_BYTES_MAX = 8 * 1024 * 1024

export type ChatStreamOptions = Pick<StreamOptions, 'stripUsage' | 'notice' | 'collect'>

export class ChatStream implements AnswerStream {
  readonly #options: ChatStreamOptions
  /** Whether anything may have to be changed: then, and only then, an unfinished event is held back. */
  readonly #rewrites: boolean
  readonly #boundaries = new EventBoundaries()
  readonly #chunk = new ChatChunk()
  readonly #meter: StreamMeter
  /** The unfinished event, in the pieces that it came in. */
  #pieces: Buffer[] = []
  #pieceBytes = 0
  /** The event that is passing is too long to be read. */
  #passing = false
  #over = false
  noticeAdded = false

  constructor(options: ChatStreamOptions) {
    this.#options = options
    this.#rewrites = options.stripUsage || options.notice !== null
    this.#meter = new StreamMeter(options.collect)
  }

  /**
   * Takes the next bytes from the provider; gives those to pass on now, in pieces: the chunk itself where nothing changed,
   * views of it, and what was put in.
   */
  push(chunk: Buffer): readonly Buffer[] {
    if (this.#over) return []
    const out: Buffer[] = []
    let start = 0
    /** From here to `start` the chunk's own bytes pass. */
    let copied = 0
    for (let end = this.#boundaries.next(chunk, 0); end >= 0; end = this.#boundaries.next(chunk, start)) {
      if (this.#passing) {
        this.#passing = false
        this.#meter.addUnread(end)
      } else if (this.#pieceBytes > 0) {
        const event = this.#takePieces(chunk.subarray(0, end))
        out.push(...(this.#event(event, 0, event.length) ?? [event]))
        copied = end
      } else {
        const replaced = this.#event(chunk, start, end)
        if (replaced !== null) {
          if (start > copied) out.push(chunk.subarray(copied, start))
          out.push(...replaced)
          copied = end
        }
      }
      start = end
    }
    if (!this.#rewrites) {
      this.#keep(chunk, start)
      return [chunk]
    }
    if (start > copied) out.push(copied === 0 && start === chunk.length ? chunk : chunk.subarray(copied, start))
    const released = this.#keep(chunk, start)
    if (released !== null) out.push(released)
    return out
  }

  /** The provider's stream has ended: what was held back, read as an event although no empty line ended it. */
  end(): readonly Buffer[] {
    if (this.#over || this.#pieceBytes === 0) {
      this.#over = true
      return []
    }
    this.#over = true
    const event = this.#takePieces(null)
    const replaced = this.#event(event, 0, event.length)
    return this.#rewrites ? (replaced ?? [event]) : []
  }

  /** What the answer has said of itself so far. `usage` only when it is final: see `usageSoFar`. */
  get facts(): WireFacts {
    return this.#meter.facts()
  }

  /** The last usage seen, which some providers send along with every chunk: exact for its input, behind for its output. */
  get usageSoFar(): Usage | null {
    return this.#meter.usageSoFar
  }

  /** The first answer as a message, when it was collected: what the app will send back, without the notice. */
  get message(): Message | null {
    return this.#meter.message()
  }

  /** Output tokens of all that has passed, estimated from above; exact where the provider counts along. Hidden reasoning is not in it. */
  observedOutputTokens(): number {
    return this.#meter.observedOutputTokens()
  }

  /** One whole event: the pieces that replace it (none, for one that is dropped); null when it passes as it is. */
  #event(bytes: Buffer, start: number, end: number): Buffer[] | null {
    if (end - start > EVENT_BYTES_MAX) {
      this.#meter.addUnread(end - start)
      return null
    }
    const data = dataOf(bytes, start, end)
    if (data === null || !this.#meter.read(data, this.#chunk) || !this.#rewrites) return null
    const chunk = this.#chunk
    const edits: Edit[] = []
    const before = this.#placeNotice(data.bytes, edits)
    if (this.#options.stripUsage && chunk.usage.start >= 0) {
      // The chunk that is there only because we asked goes; one that says more stays without its usage.
      if (chunk.choicesEmpty && chunk.isObject(chunk.usage) && !chunk.carriesMore && chunk.error.start < 0)
        return before === null ? [] : [before]
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
    if (notice === null || this.noticeAdded || !this.#meter.isProse(0)) return null
    const chunk = this.#chunk
    for (let position = 0; position < chunk.choiceCount; position += 1) {
      const choice = chunk.choices[position]
      if (choice === undefined || choice.index !== 0 || choice.finish.start < 0) continue
      if (!PROSE_ENDS.has(bytes.toString('latin1', choice.finish.start, choice.finish.end))) return null
      this.noticeAdded = true
      if (choice.content.end > choice.content.start) {
        edits.push({ start: choice.content.end, end: choice.content.end, bytes: Buffer.from(JSON.stringify(notice).slice(1, -1)) })
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

  /** Keeps the rest of a chunk, the beginning of an event; gives back what has grown too long to be read. */
  #keep(chunk: Buffer, start: number): Buffer | null {
    const size = chunk.length - start
    if (size === 0) return null
    if (this.#passing) {
      this.#meter.addUnread(size)
      return chunk.subarray(start)
    }
    this.#pieces.push(Buffer.from(chunk.subarray(start))) // a copy: the chunk's memory may be used again
    this.#pieceBytes += size
    if (this.#pieceBytes <= EVENT_BYTES_MAX) return null
    this.#passing = true
    this.#meter.addUnread(this.#pieceBytes)
    return this.#takePieces(null)
  }

  #takePieces(last: Buffer | null): Buffer {
    const event = Buffer.concat(last === null ? this.#pieces : [...this.#pieces, last])
    this.#pieces = []
    this.#pieceBytes = 0
    return event
  }
}

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
