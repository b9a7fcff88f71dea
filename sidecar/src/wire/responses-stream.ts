/**
 * A streamed response of OpenAI's Responses API on its way to the client. It is metered as it passes. A notice goes to the end of the
 * last text: that a text is the last is known when the response ends, so the few events between the two are held back until then,
 * and say the same as the text with the notice in it.
 * https://developers.openai.com/api/reference/resources/responses/streaming-events
 */
import type { Usage } from '@farebox/crds/usage.ts'
import { isObject } from '../core/message.ts'
import type { JsonObject, Message, ModelRequest } from '../core/request.ts'
import { EventFrames } from './event-frames.ts'
import { memberRanges } from './json-scan.ts'
import type { Range } from './json-scan.ts'
import { errorCode, jsonInside, NO_FACTS, TOOL_NAMES_MAX } from './answer-reading.ts'
import { objectAt } from './json-values.ts'
import { OutputGauge } from './output-gauge.ts'
import { factsOf, isCalled, isProse, itemTextRange, lastTextRange, spokenOf } from './responses-answer.ts'
import { outputMessages } from './responses-item.ts'
import { eventText } from './responses-synthetic.ts'
import { dataOf, withData } from './sse-events.ts'
import type { EventData } from './sse-events.ts'
import { TopMembers } from './top-members.ts'
import type { AnswerStream, StreamOptions, WireFacts } from './wire.ts'

/** Events held back at most: those that end one text, its part, its item and the response. */
const HELD_MAX = 8

export interface ResponsesStreamOptions extends Pick<StreamOptions, 'notice' | 'collect'> {
  /** As the request asked for. */
  readonly cacheWrites?: ModelRequest['cacheWrites']
}

export class ResponsesStream implements AnswerStream {
  readonly #options: ResponsesStreamOptions
  readonly #frames: EventFrames
  readonly #members = new TopMembers()
  readonly #gauge = new OutputGauge()
  /** Of the response object that came last. */
  #facts: WireFacts = NO_FACTS
  isOver = false
  #error: string | null = null
  #toolNames: string[] = []
  #messages: readonly Message[] = []
  /** Null: nothing is held back. */
  #held: Held[] | null = null
  /** Something was said that no notice may follow. */
  #isPlainProse = true
  noticeAdded = false

  constructor(options: ResponsesStreamOptions) {
    this.#options = options
    this.#frames = new EventFrames({
      rewrites: options.notice !== null,
      event: (bytes, start, end) => this.#event(bytes, start, end),
      unread: (bytes) => this.#gauge.addUnread(bytes),
      release: () => this.#released(),
    })
  }

  push(chunk: Buffer): readonly Buffer[] {
    return this.#frames.push(chunk)
  }

  end(): readonly Buffer[] {
    return [...this.#frames.end(), ...this.#released()]
  }

  get facts(): WireFacts {
    return {
      ...this.#facts,
      usage: this.isOver ? this.#facts.usage : null,
      toolNames: this.isOver ? this.#facts.toolNames : this.#toolNames,
      outputBytes: this.#gauge.bytes,
      error: this.#facts.error ?? this.#error,
    }
  }

  get usageSoFar(): Usage | null {
    return this.#facts.usage
  }

  get message(): Message | null {
    return spokenOf(this.#messages)
  }

  get messages(): readonly Message[] {
    return this.#messages
  }

  observedOutputTokens(): number {
    const counted = this.#facts.usage
    if (counted !== null) return counted.output + counted.audioOutput
    return this.#gauge.tokens
  }

  /** One whole event: the pieces that replace it; null when it passes as it is. */
  #event(bytes: Buffer, start: number, end: number): readonly Buffer[] | null {
    const data = dataOf(bytes, start, end)
    if (data === null) return null
    const event = { data, bytes, start, end }
    const members = this.#members
    if (!members.read(data.bytes, data.start, data.end)) {
      this.#gauge.addUnread(data.end - data.start)
      return this.#afterHeld(event)
    }
    const type = members.text('type') ?? ''
    if (DELTAS.has(type)) {
      this.#meterDelta(data)
      return this.#afterHeld(event)
    }
    if (ENDINGS.has(type)) return this.#ended(event, type)
    switch (type) {
      case 'response.created':
      case 'response.in_progress':
      case 'response.queued':
        this.#readResponse(data)
        return null
      case 'error':
        this.#error = errorCode(jsonOf(data)) ?? 'error'
        return this.#afterHeld(event)
      case 'response.output_item.added':
        this.#readItem(data)
        return this.#afterHeld(event)
      case 'response.refusal.done':
        this.#isPlainProse = false
        return this.#afterHeld(event)
      case 'response.output_text.done':
      case 'response.content_part.done':
      case 'response.output_item.done':
        return this.#maybeHeld(event, type)
      default:
        return this.#afterHeld(event)
    }
  }

  #meterDelta({ bytes }: EventData): void {
    const delta = this.#members.find('delta')
    if (delta !== null && bytes[delta.start] === QUOTE) this.#gauge.addJsonString(bytes, delta.start + 1, delta.end - 1)
  }

  #readItem(data: EventData): void {
    const item = jsonOf(data)?.['item']
    if (!isObject(item) || !isCalled(item)) return
    this.#isPlainProse = false
    const { name } = item
    if (typeof name !== 'string' || this.#toolNames.length >= TOOL_NAMES_MAX) return
    this.#toolNames = [...this.#toolNames, name]
    this.#gauge.addTokens(TOKENS_PER_CALL)
  }

  #readResponse(data: EventData): JsonObject | null {
    const response = jsonOf(data)?.['response']
    if (!isObject(response)) return null
    this.#facts = factsOf(response, this.#options.cacheWrites)
    return response
  }

  #ended(event: Passing, type: string): readonly Buffer[] | null {
    const response = this.#readResponse(event.data)
    this.isOver = true
    if (response === null) return this.#afterHeld(event)
    if (this.#options.collect && type !== 'response.failed') this.#messages = outputMessages(response['output'])
    const { notice } = this.#options
    const held = this.#held
    const [text] = held ?? []
    if (notice === null || held === null || text === undefined || !this.#isPlainProse || !isProse(response)) return this.#afterHeld(event)
    const last = noticed({ type, event: bytesOf(event) }, notice)
    const all = held.map((each) => noticed(each, notice))
    const delta = deltaBefore(text, notice)
    if (last === null || delta === null || all.some((each) => each === null)) return this.#afterHeld(event)
    this.#held = null
    this.noticeAdded = true
    return [delta, ...all.filter((each) => each !== null), last]
  }

  /** Held back while it may be the end of the last text. */
  #maybeHeld(event: Passing, type: string): readonly Buffer[] | null {
    if (this.#options.notice === null || this.noticeAdded || !this.#isPlainProse) return this.#afterHeld(event)
    const begins = type === 'response.output_text.done'
    if (!begins && this.#held === null) return null
    const before = begins ? this.#released() : []
    this.#held = [...(this.#held ?? []), { type, event: Buffer.from(bytesOf(event)) }]
    return this.#held.length > HELD_MAX ? [...before, ...this.#released()] : before
  }

  /** What was held back, as it came; then the event that shows that it was not the end. */
  #afterHeld(event: Passing): readonly Buffer[] | null {
    return this.#held === null ? null : [...this.#released(), bytesOf(event)]
  }

  #released(): Buffer[] {
    const held = this.#held ?? []
    this.#held = null
    return held.map(({ event }) => event)
  }
}

/** An event on its way, and its data. */
interface Passing {
  readonly data: EventData
  readonly bytes: Buffer
  readonly start: number
  readonly end: number
}
function bytesOf({ bytes, start, end }: Passing): Buffer {
  return bytes.subarray(start, end)
}

/** An event held back: a copy, since the memory of a chunk may be used again. */
interface Held {
  readonly type: string
  readonly event: Buffer
}

const QUOTE = 0x22
/** Framing of a call of a tool. */
const TOKENS_PER_CALL = 4
/** Events that carry what the model writes, piece by piece. */
const DELTAS: ReadonlySet<string> = new Set([
  'response.output_text.delta',
  'response.refusal.delta',
  'response.function_call_arguments.delta',
  'response.custom_tool_call_input.delta',
  'response.mcp_call_arguments.delta',
  'response.code_interpreter_call_code.delta',
  'response.reasoning_text.delta',
  'response.reasoning_summary_text.delta',
  'response.shell_call_command.delta',
])
const ENDINGS: ReadonlySet<string> = new Set(['response.completed', 'response.incomplete', 'response.failed'])

/** The event with `notice` at the end of the text that it repeats, and its number one higher; null when it has no such text. */
function noticed({ type, event }: Held, notice: string): Buffer | null {
  const data = dataOf(event, 0, event.length)
  if (data === null) return null
  const json = data.bytes.subarray(data.start, data.end)
  const members = memberRanges(json, { start: 0, end: json.length })
  const text = textRange(type, json, members)
  const number = members.get('sequence_number')
  if (text === null || json[text.start] !== QUOTE) return null
  const insert = { at: text.end - 1, until: text.end - 1, bytes: jsonInside(notice) }
  const edits = number === undefined ? [insert] : [insert, numberEdit(json, number)]
  const changed = applied(json, edits)
  return withData(event, 0, event.length, changed)
}

function textRange(type: string, json: Buffer, members: ReadonlyMap<string, Range>): Range | null {
  switch (type) {
    case 'response.output_text.done':
      return members.get('text') ?? null
    case 'response.content_part.done': {
      const part = members.get('part')
      return part === undefined ? null : (memberRanges(json, part).get('text') ?? null)
    }
    case 'response.output_item.done': {
      const item = members.get('item')
      return item === undefined ? null : itemTextRange(json, item)
    }
    default: {
      const response = members.get('response')
      return response === undefined ? null : lastTextRange(json, response)
    }
  }
}

/** The notice as a piece of the text that ended with `done`, under the number that this event had. */
function deltaBefore(done: Held, notice: string): Buffer | null {
  const data = dataOf(done.event, 0, done.event.length)
  const json = data === null ? null : jsonOf(data)
  if (json === null) return null
  const { item_id, output_index, content_index, sequence_number } = json
  const type = 'response.output_text.delta'
  return Buffer.from(eventText(type, { type, item_id, output_index, content_index, delta: notice, logprobs: [], sequence_number }))
}

interface Edit {
  readonly at: number
  readonly until: number
  readonly bytes: Buffer
}

function numberEdit(json: Buffer, range: Range): Edit {
  const number = Number(json.toString('latin1', range.start, range.end))
  return { at: range.start, until: range.end, bytes: Buffer.from(String(number + 1)) }
}

function applied(bytes: Buffer, edits: readonly Edit[]): Buffer {
  const out: Buffer[] = []
  let copied = 0
  for (const edit of edits.toSorted((one, other) => one.at - other.at)) {
    out.push(bytes.subarray(copied, edit.at), edit.bytes)
    copied = edit.until
  }
  return Buffer.concat([...out, bytes.subarray(copied)])
}

function jsonOf({ bytes, start, end }: EventData): JsonObject | null {
  return objectAt(bytes, start, end)
}
