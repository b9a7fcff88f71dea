/**
 * A streamed answer of Gemini on its way to the client. Chunks are few and whole: each is parsed as it passes. Only while a notice
 * waits for its place is an unfinished event held back.
 */
import type { Usage } from '@farebox/crds/usage.ts'
import { isObject } from '../core/message.ts'
import type { JsonObject, Message } from '../core/request.ts'
import { ALTERNATIVES_MAX, errorCode, jsonInside, MESSAGE_BYTES_MAX, TOOL_NAMES_MAX, usageFacts, withInserted } from './answer-reading.ts'
import { EventFrames } from './event-frames.ts'
import { CUT_END, endOfLastText, errorOf, isFirst, isProsePart, PROSE_ENDS } from './gemini-answer.ts'
import { memberOf, objectOf, objectsOf, textOf } from './gemini-json.ts'
import { calledNames, messageFromContent } from './gemini-message.ts'
import { isSummed, readGeminiTier, readGeminiUsage } from './gemini-usage.ts'
import { objectAt } from './json-values.ts'
import { NoticePlace } from './notice-place.ts'
import { OutputGauge } from './output-gauge.ts'
import { dataOf, withData } from './sse-events.ts'
import { ABSENT, servedModel } from './usage-reading.ts'
import type { UsageReading } from './usage-reading.ts'
import type { AnswerStream, StreamOptions, WireFacts } from './wire.ts'

/** Candidates kept apart. */
const CANDIDATES_MAX = 128
/** An unfinished event that is longer than any with words holds a picture, or sound. */
const WORDS_BYTES_MAX = 64 * 1024

/** What a candidate said. */
interface Kept {
  parts: JsonObject[]
  bytes: number
}

/** The first one may fill all of a message; the others share as much room. */
function keptBytesMax(index: number): number {
  return index === 0 ? MESSAGE_BYTES_MAX : MESSAGE_BYTES_MAX / ALTERNATIVES_MAX
}

interface CandidateState {
  hasText: boolean
  /** Null: none is looked for. */
  readonly place: NoticePlace | null
  /** Calls, code, images. */
  hasMore: boolean
  isFinished: boolean
  /** The last that it said of its searches. */
  grounding: JsonObject | null
}

export class GeminiStream implements AnswerStream {
  readonly #options: Pick<StreamOptions, 'notice' | 'collect'>
  readonly #frames: EventFrames
  readonly #gauge = new OutputGauge()
  readonly #candidates = new Map<number, CandidateState>()
  readonly #toolNames: string[] = []
  /** By candidate, of as many as are kept. */
  readonly #kept = new Map<number, Kept>([[0, { parts: [], bytes: 0 }]])
  /** Words of it are not there: it is no message any more. */
  #isCut = false
  #reading: UsageReading = ABSENT
  #model: string | null = null
  #serviceTier: string | null = null
  #finishReason: string | null = null
  #error: string | null = null
  #isBlocked = false
  #isSum = false
  /** Since the last count, something came that is no text, or could not be read. */
  #isUncounted = false
  noticeAdded = false

  constructor(options: Pick<StreamOptions, 'notice' | 'collect'>) {
    this.#options = options
    this.#frames = new EventFrames({
      rewrites: options.notice !== null,
      event: (bytes, start, end) => this.#event(bytes, start, end),
      unread: (bytes) => this.#addUnread(bytes),
      outlined: (event) => this.#outlined(event),
    })
  }

  push(chunk: Buffer): readonly Buffer[] {
    return this.#frames.push(chunk)
  }

  end(): readonly Buffer[] {
    return this.#frames.end()
  }

  get facts(): WireFacts {
    return {
      model: this.#model,
      serviceTier: this.#serviceTier,
      responseId: null,
      ...usageFacts(this.#reading, this.#isFinal() && !this.#isUncounted),
      isSum: this.#isSum,
      finishReason: this.#finishReason,
      toolNames: this.#toolNames,
      outputBytes: this.#gauge.bytes,
      error: this.#error,
    }
  }

  get usageSoFar(): Usage | null {
    return this.#reading.usage
  }

  get message(): Message | null {
    return this.#messageOf(0)
  }

  get alternatives(): readonly Message[] {
    return [...this.#kept.keys()].flatMap((index) => (index === 0 ? [] : (this.#messageOf(index) ?? [])))
  }

  observedOutputTokens(): number {
    const seen = this.#gauge.tokens
    const { usage } = this.#reading
    if (usage === null) return seen
    const exact = usage.output + usage.audioOutput + usage.imageOutput
    return this.#candidates.size > 1 ? Math.max(exact, seen) : exact
  }

  observedTextTokens(): number {
    return this.#gauge.textTokens
  }

  get isUnread(): boolean {
    return this.#isUncounted || this.#frames.unfinishedBytes > WORDS_BYTES_MAX
  }

  /** One whole event: the pieces that replace it; null when it passes as it is. */
  #event(bytes: Buffer, start: number, end: number): readonly Buffer[] | null {
    const data = dataOf(bytes, start, end)
    if (data === null) return null
    const answer = objectAt(data.bytes, data.start, data.end)
    if (answer === null) {
      this.#addUnread(data.end - data.start)
      return null
    }
    this.#read(answer)
    const { notice } = this.#options
    if (notice === null || this.noticeAdded || !this.#endsProse(answer)) return null
    this.noticeAdded = true
    const at = endOfLastText(data.bytes, { start: data.start, end: data.end }, answer)
    if (at === null) return [this.#noticeEvent(answer, notice), bytes.subarray(start, end)]
    if (data.isPlain) return [bytes.subarray(start, at), jsonInside(notice), bytes.subarray(at, end)]
    return [withData(bytes, start, end, withInserted(data.bytes, at, notice))]
  }

  #addUnread(bytes: number): void {
    this.#gauge.addUnread(bytes)
    this.#isUncounted = true
  }

  /** An event that was too long to be kept: pictures, as a rule, which come with the count that they are part of. */
  #outlined(event: Buffer | null): void {
    this.#isCut = true
    this.#kept.clear()
    const data = event === null ? null : dataOf(event, 0, event.length)
    const answer = data === null ? null : objectAt(data.bytes, data.start, data.end)
    if (answer !== null) this.#read(answer)
  }

  #read(answer: JsonObject): void {
    this.#model ??= servedModel(memberOf(answer, 'modelVersion'))
    this.#serviceTier = readGeminiTier(answer) ?? this.#serviceTier
    this.#error ??= errorCode(errorOf(answer))
    if (isObject(memberOf(answer, 'promptFeedback')) && textOf(objectOf(answer, 'promptFeedback'), 'blockReason') !== null)
      this.#isBlocked = true
    for (const candidate of objectsOf(answer, 'candidates')) this.#readCandidate(candidate)
    if (isObject(answer['usageMetadata'])) {
      const candidates = [...this.#candidates.values()].flatMap(({ grounding }) =>
        grounding === null ? [] : [{ groundingMetadata: grounding }],
      )
      this.#isSum = isSummed(answer)
      this.#reading = readGeminiUsage({ ...answer, candidates, modelVersion: this.#model ?? '' })
      if (this.#reading.usage !== null) this.#isUncounted = false
    }
  }

  #readCandidate(candidate: JsonObject): void {
    const index = typeof candidate['index'] === 'number' ? candidate['index'] : 0
    const state = this.#stateOf(index)
    const content = objectOf(candidate, 'content')
    for (const part of objectsOf(content, 'parts')) {
      const { text } = part
      if (typeof text === 'string') {
        this.#gauge.addText(text)
        if (text !== '' && part['thought'] !== true) {
          state.hasText = true
          state.place?.add(text)
        }
      } else {
        state.hasMore ||= Object.keys(part).length > 0
        this.#isUncounted ||= memberOf(part, 'inlineData') !== undefined
        const written = memberOf(part, 'functionCall') ?? memberOf(part, 'executableCode')
        if (isObject(written)) this.#gauge.addText(JSON.stringify(memberOf(written, 'args') ?? written))
      }
    }
    for (const name of calledNames(content)) if (this.#toolNames.length < TOOL_NAMES_MAX) this.#toolNames.push(name)
    const reason = textOf(candidate, 'finishReason')
    if (reason !== null) state.isFinished = true
    const grounding = memberOf(candidate, 'groundingMetadata')
    if (isObject(grounding)) state.grounding = grounding
    if (isFirst(candidate)) this.#finishReason ??= reason
    if (this.#options.collect && !this.#isCut) this.#collect(index, objectsOf(content, 'parts'))
  }

  #collect(index: number, parts: readonly JsonObject[]): void {
    const kept = this.#kept.get(index) ?? { parts: [], bytes: 0 }
    if (!this.#kept.has(index) && this.#kept.size > ALTERNATIVES_MAX) return
    this.#kept.set(index, kept)
    for (const part of parts) {
      kept.bytes += JSON.stringify(part).length
      if (kept.bytes > keptBytesMax(index)) kept.parts = []
      else kept.parts.push(part)
    }
  }

  #messageOf(index: number): Message | null {
    const kept = this.#kept.get(index)
    if (kept === undefined || kept.parts.length === 0 || kept.bytes > keptBytesMax(index)) return null
    return messageFromContent({ role: 'model', parts: kept.parts })
  }

  /** Whether this chunk ends the first candidate, which is text and nothing else, and a notice may follow it. */
  #endsProse(answer: JsonObject): boolean {
    const state = this.#candidates.get(0)
    if (state === undefined || !state.hasText || state.hasMore) return false
    return objectsOf(answer, 'candidates').some((candidate) => {
      const reason = textOf(candidate, 'finishReason') ?? ''
      const isProse = objectsOf(objectOf(candidate, 'content'), 'parts').every(isProsePart)
      return isFirst(candidate) && PROSE_ENDS.has(reason) && isProse && state.place?.isFree(reason === CUT_END) === true
    })
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
    const place = this.#options.notice === null || index !== 0 ? null : new NoticePlace()
    const fresh = { hasText: false, place, hasMore: false, isFinished: false, grounding: null }
    if (this.#candidates.size < CANDIDATES_MAX) this.#candidates.set(index, fresh)
    return fresh
  }
}
