/** What a streamed answer says of itself, event by event: usage, output, ends, tool calls, errors. */
import type { Usage } from '@farebox/crds/usage.ts'
import { isList, isObject } from '../core/message.ts'
import type { Json, Message } from '../core/request.ts'
import type { ChatChunk, ChunkChoice, Part } from './chat-chunk.ts'
import { parseString, stringEnd } from './json-text.ts'
import { ALTERNATIVES_MAX, errorCode, MESSAGE_BYTES_MAX, TOOL_NAMES_MAX, usageFacts } from './answer-reading.ts'
import { NoticePlace } from './notice-place.ts'
import { calledName, messageFromJson, textsIn } from './openai-message.ts'
import { readUsage } from './openai-usage.ts'
import type { UsageTold } from './openai-usage.ts'
import { OutputGauge } from './output-gauge.ts'
import type { EventData } from './sse-events.ts'
import { StreamedMessage } from './streamed-message.ts'
import { servedModel } from './usage-reading.ts'
import type { UsageReading } from './usage-reading.ts'
import type { WireFacts } from './wire.ts'

/** Answers and tool calls kept apart; of further ones only the size is counted. */
const CHOICES_MAX = 128
/** Base64 of streamed audio that one token of it takes at least: 24 kHz, 16 bit, 20 tokens a second. */
const AUDIO_BYTES_PER_TOKEN = 3_000

interface ChoiceState {
  hasText: boolean
  /** Null: none is looked for. */
  readonly place: NoticePlace | null
  /** Tool calls, a refusal, audio. */
  hasMore: boolean
  isFinished: boolean
}

interface Options {
  readonly collect: boolean
  /** Whether a notice may have to follow: see `isProse`. */
  readonly findsPlace: boolean
}

export class StreamMeter {
  readonly #findsPlace: boolean
  readonly #gauge = new OutputGauge()
  #audioTokens = 0
  /** Something could not be read since the last usage. */
  #isUncounted = false
  readonly #told: UsageTold
  /** By choice, of as many as are kept; null: none is. */
  readonly #messages: Map<number, StreamedMessage> | null
  readonly #choices = new Map<number, ChoiceState>()
  /** By choice and position of the call: some providers repeat the name in every chunk. */
  readonly #toolNames = new Map<string, string>()
  #usage: UsageReading = { usage: null, clamped: false, invalid: false }
  #usageIsFinal = false
  #model: string | null = null
  #serviceTier: string | null = null
  #finishReason: string | null = null
  #error: string | null = null
  /** The sentinel has passed. */
  isOver = false

  constructor({ collect, findsPlace }: Options, told: UsageTold = {}) {
    this.#findsPlace = findsPlace
    this.#told = told
    this.#messages = collect ? new Map([[0, new StreamedMessage()]]) : null
  }

  get usageSoFar(): Usage | null {
    return this.#usage.usage
  }

  facts(): WireFacts {
    return {
      model: this.#model,
      serviceTier: this.#serviceTier,
      responseId: null,
      ...usageFacts(this.#usage, this.#usageIsFinal),
      finishReason: this.#finishReason,
      toolNames: [...this.#toolNames.values()],
      outputBytes: this.#gauge.bytes,
      error: this.#error,
    }
  }

  message(): Message | null {
    return messageOf(this.#messages?.get(0))
  }

  alternatives(): readonly Message[] {
    return [...(this.#messages ?? [])].flatMap(([index, message]) => (index === 0 ? [] : (messageOf(message) ?? [])))
  }

  /** `unfinishedBytes`: of an event that has begun, which counts where the answer is spoken. */
  observedOutputTokens(unfinishedBytes = 0): number {
    const begun = this.#audioTokens > 0 ? audioTokens(unfinishedBytes) : 0
    const seen = this.#gauge.tokens + this.#audioTokens + begun
    const counted = this.#usage.usage
    if (counted === null) return seen
    // With several answers, a count that comes along is that of the answer it comes with.
    const exact = counted.output + counted.audioOutput
    return this.#choices.size > 1 || this.#isUncounted ? Math.max(exact, seen) : exact
  }

  observedTextTokens(): number {
    return this.#gauge.textTokens
  }

  /** The answer so far is text and nothing else, and a notice may follow it. `isCut`: it ended at its limit. */
  isProse(index: number, isCut = false): boolean {
    const state = this.#choices.get(index)
    return state !== undefined && state.hasText && !state.hasMore && state.place?.isFree(isCut) === true
  }

  /** Bytes that passed and could not be read. */
  addUnread(bytes: number): void {
    this.#gauge.addUnread(bytes)
    this.#isUncounted = true
  }

  /** Meters the data of one event. False when it is no chunk: the sentinel, or nothing that could be read. */
  read(data: EventData, chunk: ChatChunk): boolean {
    const { bytes, start, end } = data
    if (end - start === DONE.length && DONE.compare(bytes, start, end) === 0) {
      this.isOver = true
      if (this.#usage.usage !== null) this.#usageIsFinal = true
      return false
    }
    if (!chunk.read(bytes, start, end)) {
      this.addUnread(end - start)
      return false
    }
    this.#readServed(bytes, chunk)
    for (let position = 0; position < chunk.choiceCount; position += 1) {
      const choice = chunk.choices[position]
      if (choice !== undefined) this.#readChoice(bytes, choice)
    }
    if (chunk.isObject(chunk.usage)) {
      this.#usage = readUsage(parsed(bytes, chunk.usage), this.#told)
      if (this.#usage.usage !== null) this.#isUncounted = false
      this.#usageIsFinal = chunk.choicesEmpty || this.#allFinished()
    }
    if (chunk.error.start >= 0) this.#error ??= errorCode(parsed(bytes, chunk.error))
    return true
  }

  #readServed(bytes: Buffer, chunk: ChatChunk): void {
    if (this.#model === null) this.#model = servedModel(parsed(bytes, chunk.model))
    // `auto` is what was asked for; what served comes later.
    if (this.#serviceTier === null || this.#serviceTier === 'auto')
      this.#serviceTier = textOrNull(parsed(bytes, chunk.serviceTier)) ?? this.#serviceTier
  }

  #readChoice(bytes: Buffer, choice: ChunkChoice): void {
    const { content, contentParts, refusal, reasoning, audio, toolCalls, functionCall, finish } = choice
    const isFirst = choice.index === 0
    const state = this.#stateOf(choice.index)
    const message = this.#keptOf(choice.index)
    if (content.end > content.start) {
      this.#gauge.addJsonString(bytes, content.start, content.end)
      state.hasText = true
      state.place?.add(parseString(bytes, content.start - 1, content.end + 1) ?? '')
    }
    if (content.start >= 0) message?.addContent(bytes, content)
    if (contentParts.end > contentParts.start) this.#readParts(bytes, contentParts, choice.index)
    if (refusal.end > refusal.start) {
      this.#gauge.addJsonString(bytes, refusal.start, refusal.end)
      state.hasMore = true
      message?.addRefusal(bytes, refusal)
    }
    if (reasoning.end > reasoning.start) this.#gauge.addJsonString(bytes, reasoning.start, reasoning.end)
    if (audio.end > audio.start) {
      this.#audioTokens += audioTokens(audio.end - audio.start)
      state.hasMore = true
    }
    for (const part of [toolCalls, functionCall]) {
      if (part.end <= part.start) continue
      state.hasMore = true
      this.#gaugeStrings(bytes, part, CALLED_KEYS)
      if (message !== null || bytes.subarray(part.start, part.end).includes(NAME)) this.#readCalls(choice, parsed(bytes, part), part)
    }
    // Some servers send an empty one with each chunk.
    if (finish.end > finish.start) {
      state.isFinished = true
      if (isFirst) this.#finishReason ??= bytes.toString('utf8', finish.start, finish.end)
    }
  }

  /** Mistral's models that reason say what they think and what they answer in parts of a list. */
  #readParts(bytes: Buffer, parts: Part, index: number): void {
    this.#gaugeStrings(bytes, parts, SAID_KEYS)
    const state = this.#stateOf(index)
    for (const text of textsIn(parsed(bytes, parts))) {
      if (text === '') continue
      state.hasText = true
      state.place?.add(text)
      this.#keptOf(index)?.addText(text)
    }
  }

  #readCalls(choice: ChunkChoice, json: Json | undefined, part: Part): void {
    if (json === undefined) return
    const message = this.#keptOf(choice.index)
    const size = part.end - part.start
    if (!isList(json)) {
      if (isObject(json)) this.#addToolName(`${choice.index}`, json['name'])
      message?.addFunctionCall(json, size)
      return
    }
    json.forEach((call, position) => {
      if (isObject(call))
        this.#addToolName(`${choice.index}/${typeof call['index'] === 'number' ? call['index'] : position}`, calledName(call))
    })
    message?.addToolCalls(json, size)
  }

  #addToolName(key: string, name: Json | undefined): void {
    if (typeof name === 'string' && name !== '' && this.#toolNames.size < TOOL_NAMES_MAX) this.#toolNames.set(key, name)
  }

  /** Strings that the model wrote, by their `keys`: ids and types are none. */
  #gaugeStrings(bytes: Buffer, part: Part, keys: ReadonlySet<string>): void {
    let isText = false
    for (let at = part.start; at < part.end;) {
      if (bytes[at] !== QUOTE) {
        at += 1
        continue
      }
      const end = stringEnd(bytes, at + 1)
      if (end < 0) return
      let next = end
      while (next < part.end && (bytes[next] ?? 0) <= SPACE) next += 1
      if (bytes[next] === COLON) isText = keys.has(bytes.toString('latin1', at + 1, end - 1))
      else if (isText) this.#gauge.addJsonString(bytes, at + 1, end - 1)
      at = end
    }
  }

  #stateOf(index: number): ChoiceState {
    const known = this.#choices.get(index)
    if (known !== undefined) return known
    const place = this.#findsPlace ? new NoticePlace() : null
    const fresh = { hasText: false, place, hasMore: false, isFinished: false }
    if (this.#choices.size < CHOICES_MAX) this.#choices.set(index, fresh)
    return fresh
  }

  /** The first one whatever its size; the others share as much room. */
  #keptOf(index: number): StreamedMessage | null {
    if (this.#messages === null) return null
    const known = this.#messages.get(index)
    if (known !== undefined || this.#messages.size > ALTERNATIVES_MAX) return known ?? null
    const fresh = new StreamedMessage(MESSAGE_BYTES_MAX / ALTERNATIVES_MAX)
    this.#messages.set(index, fresh)
    return fresh
  }

  #allFinished(): boolean {
    for (const state of this.#choices.values()) if (!state.isFinished) return false
    return this.#choices.size > 0
  }
}

function messageOf(message: StreamedMessage | undefined): Message | null {
  const json = message?.json() ?? null
  return json === null ? null : messageFromJson(json)
}

/** From above. */
function audioTokens(bytes: number): number {
  return Math.ceil(bytes / AUDIO_BYTES_PER_TOKEN)
}

const DONE = Buffer.from('[DONE]')
const NAME = Buffer.from('"name"')
const QUOTE = 0x22
const COLON = 0x3a
const SPACE = 0x20
/** Of a tool call. */
const CALLED_KEYS: ReadonlySet<string> = new Set(['name', 'arguments', 'input'])
/** Of content in parts. */
const SAID_KEYS: ReadonlySet<string> = new Set(['text', 'thinking'])

/** A part of a chunk, parsed; undefined when it is absent or broken. */
function parsed(bytes: Buffer, part: Part): Json | undefined {
  if (part.start < 0) return undefined
  try {
    return JSON.parse(bytes.toString('utf8', part.start, part.end))
  } catch {
    return undefined // the client will see the same bytes; here they say nothing
  }
}

function textOrNull(value: Json | undefined): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}
