/**
 * A streamed answer of Gemini on its way to the client. Chunks are few and whole: each is parsed as it passes. Only while a notice
 * waits for its place is an unfinished event held back.
 */
import type { Usage } from '@farebox/crds/usage.ts'
import type { JsonObject, Message } from '../core/request.ts'
import { EVENT_BYTES_MAX } from './event-stream.ts'
import { endOfLastText, errorOf, isFirst, isProsePart, PROSE_ENDS } from './gemini-answer.ts'
import { memberOf, objectOf, objectsOf, textOf } from './gemini-json.ts'
import { calledNames, messageFromContent } from './gemini-message.ts'
import { readGeminiTier, readGeminiUsage } from './gemini-usage.ts'
import { errorCode } from './openai-answer.ts'
import { OutputGauge } from './output-gauge.ts'
import { dataOf, EventBoundaries, withData } from './sse-events.ts'
import type { UsageReading } from './usage-reading.ts'
import type { AnswerStream, StreamOptions, WireFacts } from './wire.ts'
import { isObject } from '../core/message.ts'

/** A longer answer is not kept. */
const MESSAGE_BYTES_MAX = 4 * 1024 * 1024
const TOOL_NAMES_MAX = 512
/** Candidates kept apart. */
const CANDIDATES_MAX = 128
/** What could not be read is taken for plain text. */
const UNREAD_BYTES_PER_TOKEN = 3

interface CandidateState {
  hasText: boolean
  /** Calls, code, images. */
  hasMore: boolean
  isFinished: boolean
  /** The last that it said of its searches. */
  grounding: JsonObject | null
}

export class GeminiStream implements AnswerStream {
  readonly #options: Pick<StreamOptions, 'notice' | 'collect'>
  readonly #boundaries = new EventBoundaries()
  readonly #gauge = new OutputGauge()
  readonly #candidates = new Map<number, CandidateState>()
  readonly #toolNames: string[] = []
  #parts: JsonObject[] = []
  #partBytes = 0
  /** The unfinished event, in the pieces that it came in. */
  #pieces: Buffer[] = []
  #pieceBytes = 0
  /** The event that is passing is too long to be read. */
  #passing = false
  #unreadBytes = 0
  #reading: UsageReading = { usage: null, clamped: false, invalid: false }
  #model: string | null = null
  #serviceTier: string | null = null
  #finishReason: string | null = null
  #error: string | null = null
  #isBlocked = false
  noticeAdded = false

  constructor(options: Pick<StreamOptions, 'notice' | 'collect'>) {
    this.#options = options
  }

  push(chunk: Buffer): readonly Buffer[] {
    const holds = this.#options.notice !== null
    const out: Buffer[] = []
    let start = 0
    for (let end = this.#boundaries.next(chunk, 0); end >= 0; end = this.#boundaries.next(chunk, start)) {
      if (this.#passing) {
        this.#passing = false
        this.#unreadBytes += end - start
        out.push(chunk.subarray(start, end))
      } else {
        const event = this.#pieceBytes > 0 ? this.#takePieces(chunk.subarray(start, end)) : chunk.subarray(start, end)
        out.push(...this.#event(event))
      }
      start = end
    }
    const released = this.#keep(chunk, start)
    if (!holds) return [chunk]
    return released === null ? out : [...out, released]
  }

  end(): readonly Buffer[] {
    if (this.#pieceBytes === 0) return []
    const rest = this.#event(this.#takePieces(null))
    return this.#options.notice === null ? [] : rest
  }

  get facts(): WireFacts {
    const { usage, clamped, invalid } = this.#reading
    return {
      model: this.#model,
      serviceTier: this.#serviceTier,
      responseId: null,
      usage: this.#isFinal() ? usage : null,
      usageClamped: clamped,
      usageInvalid: invalid,
      finishReason: this.#finishReason,
      toolNames: this.#toolNames,
      outputBytes: this.#gauge.bytes + this.#unreadBytes,
      error: this.#error,
    }
  }

  get usageSoFar(): Usage | null {
    return this.#reading.usage
  }

  get message(): Message | null {
    if (this.#parts.length === 0 || this.#partBytes > MESSAGE_BYTES_MAX) return null
    return messageFromContent({ role: 'model', parts: this.#parts })
  }

  observedOutputTokens(): number {
    const seen = this.#gauge.tokens + Math.ceil(this.#unreadBytes / UNREAD_BYTES_PER_TOKEN)
    const { usage } = this.#reading
    if (usage === null) return seen
    const exact = usage.output + usage.audioOutput + usage.imageOutput
    return this.#candidates.size > 1 ? Math.max(exact, seen) : exact
  }

  /** One whole event: what goes out for it. */
  #event(bytes: Buffer): readonly Buffer[] {
    const data = bytes.length > EVENT_BYTES_MAX ? null : dataOf(bytes, 0, bytes.length)
    if (data === null) {
      if (bytes.length > EVENT_BYTES_MAX) this.#unreadBytes += bytes.length
      return [bytes]
    }
    const answer = parsed(data.bytes, data.start, data.end)
    if (answer === null) {
      this.#unreadBytes += data.end - data.start
      return [bytes]
    }
    this.#read(answer)
    const { notice } = this.#options
    if (notice === null || this.noticeAdded || !this.#endsProse(answer)) return [bytes]
    this.noticeAdded = true
    const at = endOfLastText(data.bytes, { start: data.start, end: data.end }, answer)
    if (at === null) return [this.#noticeEvent(answer, notice), bytes]
    const words = Buffer.from(JSON.stringify(notice).slice(1, -1))
    if (data.isPlain) return [bytes.subarray(0, at), words, bytes.subarray(at)]
    const changed = Buffer.concat([data.bytes.subarray(0, at), words, data.bytes.subarray(at)])
    return [withData(bytes, 0, bytes.length, changed)]
  }

  #read(answer: JsonObject): void {
    this.#model ??= textOf(answer, 'modelVersion')
    this.#serviceTier = readGeminiTier(answer) ?? this.#serviceTier
    this.#error ??= errorCode(errorOf(answer))
    if (isObject(memberOf(answer, 'promptFeedback')) && textOf(objectOf(answer, 'promptFeedback'), 'blockReason') !== null)
      this.#isBlocked = true
    for (const candidate of objectsOf(answer, 'candidates')) this.#readCandidate(candidate)
    if (isObject(answer['usageMetadata'])) {
      const candidates = [...this.#candidates.values()].flatMap(({ grounding }) =>
        grounding === null ? [] : [{ groundingMetadata: grounding }],
      )
      this.#reading = readGeminiUsage({ ...answer, candidates, modelVersion: this.#model ?? '' })
    }
  }

  #readCandidate(candidate: JsonObject): void {
    const state = this.#stateOf(typeof candidate['index'] === 'number' ? candidate['index'] : 0)
    const content = objectOf(candidate, 'content')
    for (const part of objectsOf(content, 'parts')) {
      const { text } = part
      if (typeof text === 'string') {
        this.#gaugeText(text)
        if (text !== '' && part['thought'] !== true) state.hasText = true
      } else {
        state.hasMore ||= Object.keys(part).length > 0
        const written = memberOf(part, 'functionCall') ?? memberOf(part, 'executableCode')
        if (isObject(written)) this.#gaugeText(JSON.stringify(memberOf(written, 'args') ?? written))
      }
    }
    for (const name of calledNames(content)) if (this.#toolNames.length < TOOL_NAMES_MAX) this.#toolNames.push(name)
    const reason = textOf(candidate, 'finishReason')
    if (reason !== null) state.isFinished = true
    const grounding = memberOf(candidate, 'groundingMetadata')
    if (isObject(grounding)) state.grounding = grounding
    if (!isFirst(candidate)) return
    this.#finishReason ??= reason
    if (this.#options.collect) this.#collect(objectsOf(content, 'parts'))
  }

  #collect(parts: readonly JsonObject[]): void {
    for (const part of parts) {
      this.#partBytes += JSON.stringify(part).length
      if (this.#partBytes > MESSAGE_BYTES_MAX) this.#parts = []
      else this.#parts.push(part)
    }
  }

  #gaugeText(text: string): void {
    const bytes = Buffer.from(JSON.stringify(text))
    this.#gauge.addJsonString(bytes, 1, bytes.length - 1)
  }

  /** Whether this chunk ends the first candidate, which is text and nothing else. */
  #endsProse(answer: JsonObject): boolean {
    const state = this.#candidates.get(0)
    if (state === undefined || !state.hasText || state.hasMore) return false
    return objectsOf(answer, 'candidates').some(
      (candidate) =>
        isFirst(candidate) &&
        PROSE_ENDS.has(textOf(candidate, 'finishReason') ?? '') &&
        objectsOf(objectOf(candidate, 'content'), 'parts').every(isProsePart),
    )
  }

  #noticeEvent({ modelVersion, responseId }: JsonObject, notice: string): Buffer {
    const candidates = [{ content: { parts: [{ text: notice }], role: 'model' }, index: 0 }]
    return Buffer.from(`data: ${JSON.stringify({ candidates, modelVersion, responseId })}\r\n\r\n`)
  }

  /** The last count is the whole one when every candidate has ended, or none was begun. */
  #isFinal(): boolean {
    if (this.#isBlocked) return true
    return this.#candidates.size > 0 && [...this.#candidates.values()].every(({ isFinished }) => isFinished)
  }

  #stateOf(index: number): CandidateState {
    const known = this.#candidates.get(index)
    if (known !== undefined) return known
    const fresh = { hasText: false, hasMore: false, isFinished: false, grounding: null }
    if (this.#candidates.size < CANDIDATES_MAX) this.#candidates.set(index, fresh)
    return fresh
  }

  /** Keeps the rest of a chunk, the beginning of an event; gives back what has grown too long to be read. */
  #keep(chunk: Buffer, start: number): Buffer | null {
    const size = chunk.length - start
    if (size === 0) return null
    if (this.#passing) {
      this.#unreadBytes += size
      return chunk.subarray(start)
    }
    this.#pieces.push(Buffer.from(chunk.subarray(start))) // a copy: the chunk's memory may be used again
    this.#pieceBytes += size
    if (this.#pieceBytes <= EVENT_BYTES_MAX) return null
    this.#passing = true
    this.#unreadBytes += this.#pieceBytes
    return this.#takePieces(null)
  }

  #takePieces(last: Buffer | null): Buffer {
    const event = Buffer.concat(last === null ? this.#pieces : [...this.#pieces, last])
    this.#pieces = []
    this.#pieceBytes = 0
    return event
  }
}

function parsed(bytes: Buffer, start: number, end: number): JsonObject | null {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8', start, end))
    return isAnswer(value) ? value : null
  } catch {
    return null // the client will see the same bytes; here they say nothing
  }
}

function isAnswer(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
