/**
 * A streamed answer of Anthropic Messages on its way to the client: metered event by event. Only for a notice is anything held back: an
 * unfinished event, and the end of a text until the next event says whether more follows.
 */
import type { Usage } from '@farebox/crds/usage.ts'
import { isList, isObject } from '../core/message.ts'
import type { Json, JsonObject, Message, ModelRequest } from '../core/request.ts'
import { errorCode, MESSAGE_BYTES_MAX, usageFacts } from './answer-reading.ts'
import { CUT_STOP, eventText, isSpoken, PROSE_STOPS, textDelta } from './anthropic-answer.ts'
import { messageFromBlocks } from './anthropic-message.ts'
import {
  hostedCallsOf,
  isSummed,
  isUnbilledRefusal,
  mergeAnthropicUsage,
  readAnthropicUsage,
  readServed,
  unbilled,
} from './anthropic-usage.ts'
import { EventFrames } from './event-frames.ts'
import { objectAt } from './json-values.ts'
import { NoticePlace } from './notice-place.ts'
import { OutputGauge } from './output-gauge.ts'
import { dataOf } from './sse-events.ts'
import { ABSENT, servedModel } from './usage-reading.ts'
import type { UsageReading } from './usage-reading.ts'
import type { AnswerStream, StreamOptions, WireFacts } from './wire.ts'

/** A longer event is passed on unread: only what the provider's own tools found is as long. */
const EVENT_BYTES_MAX = 2 * 1024 * 1024
const BLOCKS_MAX = 4_096
/** Thinking that is not shown comes encrypted, at about as many characters for a token. */
const SIGNATURE_CHARS_PER_TOKEN = 4

/** A block of the answer, put together from its deltas. */
interface Block {
  readonly start: JsonObject
  readonly type: Json | undefined
  readonly texts: string[]
  readonly inputs: string[]
  /** Something of it could be read. */
  hasWords: boolean
}

interface Options extends Pick<StreamOptions, 'notice' | 'collect'> {
  /** As the request asked for. */
  readonly cacheWrites?: ModelRequest['cacheWrites']
}

export class AnthropicStream implements AnswerStream {
  readonly #options: Options
  readonly #frames: EventFrames
  readonly #gauge = new OutputGauge()
  /** By index; the texts only where they are collected. */
  readonly #blocks = new Map<number, Block>()
  readonly #blockTypes = new Set<Json | undefined>()
  readonly #toolNames: string[] = []
  #keptBytes = 0
  /** The end of a text, and its index: what is said next decides whether the notice goes before it. */
  #held: { readonly index: number; readonly bytes: Buffer } | null = null
  #rawUsage: JsonObject | null = null
  #reading: UsageReading = ABSENT
  #usageIsFinal = false
  #isUnbilled = false
  #model: string | null = null
  #finishReason: string | null = null
  #error: string | null = null
  #hasCalls = false
  /** Behind all texts; null: none is looked for. */
  readonly #place: NoticePlace | null
  isOver = false
  noticeAdded = false

  constructor(options: Options) {
    this.#options = options
    this.#place = options.notice === null ? null : new NoticePlace()
    this.#frames = new EventFrames({
      rewrites: options.notice !== null,
      eventBytesMax: EVENT_BYTES_MAX,
      event: (bytes, start, end) => this.#event(bytes, start, end),
      unread: (bytes) => this.#gauge.addUnread(bytes),
      release: () => this.#release(),
    })
  }

  push(chunk: Buffer): readonly Buffer[] {
    return this.#frames.push(chunk)
  }

  end(): readonly Buffer[] {
    const rest = this.#frames.end()
    return this.#options.notice === null ? [] : [...rest, ...this.#release()]
  }

  get facts(): WireFacts {
    return {
      model: this.#model,
      serviceTier: readServed(this.#rawUsage ?? undefined),
      responseId: null,
      ...(this.#isUnbilled ? { ...usageFacts(unbilled(this.#reading)), isUnbilled: true } : usageFacts(this.#reading, this.#usageIsFinal)),
      isSum: isSummed(this.#rawUsage ?? undefined, this.#blockTypes),
      ...(this.#usageIsFinal && this.#blocks.size < BLOCKS_MAX ? { hostedCalls: this.#hostedCalls() } : {}),
      finishReason: this.#finishReason,
      toolNames: this.#toolNames,
      outputBytes: this.#gauge.bytes,
      error: this.#error,
    }
  }

  /** Its input is exact from the first event on, but for what the provider's own tools read on the way. */
  get usageSoFar(): Usage | null {
    return this.#reading.usage
  }

  get message(): Message | null {
    if (!this.#options.collect || this.#keptBytes > MESSAGE_BYTES_MAX) return null
    return messageFromBlocks([...this.#blocks.values()].map(wholeBlock))
  }

  observedOutputTokens(): number {
    const counted = this.#reading.usage?.output ?? 0
    if (this.#usageIsFinal) return counted
    return Math.max(counted, this.#gauge.tokens)
  }

  /** One whole event: what goes out now; null: the event as it is. */
  #event(bytes: Buffer, start: number, end: number): readonly Buffer[] | null {
    const data = dataOf(bytes, start, end)
    const event = data === null ? null : objectAt(data.bytes, data.start, data.end)
    if (event !== null) this.#read(event)
    else if (data !== null) this.#gauge.addUnread(data.end - data.start)
    if (this.#options.notice === null || event?.['type'] === 'ping') return null
    return this.#placed(event, bytes.subarray(start, end), this.#options.notice)
  }

  #placed(event: JsonObject | null, bytes: Buffer, notice: string): readonly Buffer[] {
    const index = event?.['index']
    if (event?.['type'] === 'content_block_stop' && typeof index === 'number' && this.#isProse(index) && !this.noticeAdded) {
      const before = this.#release()
      this.#held = { index, bytes: Buffer.from(bytes) } // a copy: the chunk's memory may be used again
      return before
    }
    const held = this.#held
    if (held === null || event?.['type'] !== 'message_delta' || !this.#endsProse()) return [...this.#release(), bytes]
    this.noticeAdded = true
    return [Buffer.from(eventText(textDelta(held.index, notice))), ...this.#release(), bytes]
  }

  /** A text that something was said in, in an answer that calls no tool of the app and by its beginning is no JSON. */
  #isProse(index: number): boolean {
    const block = this.#blocks.get(index)
    return block !== undefined && block.type === 'text' && block.hasWords && !this.#hasCalls && this.#place?.isFree(false) === true
  }

  #endsProse(): boolean {
    return PROSE_STOPS.has(this.#finishReason) && this.#place?.isFree(this.#finishReason === CUT_STOP) === true
  }

  #release(): readonly Buffer[] {
    const held = this.#held
    this.#held = null
    return held === null ? [] : [held.bytes]
  }

  #read(event: JsonObject): void {
    const { index, message, delta, usage } = event
    switch (event['type']) {
      case 'message_start':
        if (!isObject(message)) return
        this.#model ??= servedModel(message['model'])
        if (isObject(message['usage'])) this.#count(message['usage'])
        if (isList(message['content'])) message['content'].forEach((block, at) => this.#startBlock(at, block))
        return
      case 'content_block_start':
        return this.#startBlock(index, event['content_block'])
      case 'content_block_delta':
        return this.#addDelta(index, delta)
      case 'message_delta': {
        const reason = isObject(delta) ? delta['stop_reason'] : null
        if (typeof reason === 'string') this.#finishReason = reason
        if (isObject(delta) && isUnbilledRefusal(delta, this.#blocks.size)) this.#isUnbilled = true
        if (!isObject(usage)) return
        this.#count(usage)
        // Until the end the provider has not counted the output: what it says first is no count.
        this.#usageIsFinal = typeof usage['output_tokens'] === 'number' && this.#finishReason !== null
        return
      }
      case 'message_stop':
        this.isOver = true
        return
      case 'error':
        this.#error ??= errorCode(event['error'])
        return
      default:
    }
  }

  #hostedCalls(): number {
    return hostedCallsOf(
      this.#rawUsage ?? undefined,
      [...this.#blocks.values()].map(({ type }) => type),
    )
  }

  #count(usage: JsonObject): void {
    this.#rawUsage = mergeAnthropicUsage(this.#rawUsage ?? {}, usage)
    this.#reading = readAnthropicUsage(this.#rawUsage, this.#options.cacheWrites)
  }

  #startBlock(index: Json | undefined, start: Json | undefined): void {
    if (typeof index !== 'number' || !isObject(start) || this.#blocks.size >= BLOCKS_MAX) return
    this.#blockTypes.add(start['type'])
    const block: Block = { start, type: start['type'], texts: [], inputs: [], hasWords: isSpoken(start) }
    this.#blocks.set(index, block)
    const { name, data, text, thinking } = start
    if (block.type === 'tool_use') {
      this.#hasCalls = true
      if (typeof name === 'string') this.#toolNames.push(name)
    }
    if (typeof name === 'string') this.#gauge.addText(name)
    for (const words of [text, thinking]) if (typeof words === 'string') this.#say(block, words)
    if (block.type === 'redacted_thinking' && typeof data === 'string') this.#gaugeHidden(data)
  }

  #addDelta(index: Json | undefined, delta: Json | undefined): void {
    const block = typeof index === 'number' ? this.#blocks.get(index) : undefined
    if (!isObject(delta) || block === undefined) return
    const { text, thinking, partial_json: input, signature } = delta
    for (const words of [text, thinking]) if (typeof words === 'string') this.#say(block, words)
    if (typeof input === 'string') {
      this.#gauge.addText(input)
      this.#keepText(block.inputs, input)
    }
    if (typeof signature === 'string' && !block.hasWords) this.#gaugeHidden(signature)
  }

  #say(block: Block, words: string): void {
    if (words === '') return
    block.hasWords = true
    this.#gauge.addText(words)
    if (block.type !== 'text') return
    this.#place?.add(words)
    this.#keepText(block.texts, words)
  }

  #keepText(texts: string[], text: string): void {
    if (!this.#options.collect) return
    this.#keptBytes += text.length
    if (this.#keptBytes <= MESSAGE_BYTES_MAX) texts.push(text)
  }

  #gaugeHidden(encrypted: string): void {
    this.#gauge.addTokens(Math.ceil(encrypted.length / SIGNATURE_CHARS_PER_TOKEN))
  }
}

/** As the block stands in a whole answer. What was thought is not kept. */
function wholeBlock({ start, type, texts, inputs }: Block): JsonObject {
  if (type === 'text') return { ...start, text: texts.join('') }
  if (inputs.length === 0) return start
  return { ...start, input: inputOf(inputs.join('')) }
}

/** What was cut off in the middle is no JSON. */
function inputOf(text: string): Json {
  try {
    return text === '' ? {} : JSON.parse(text)
  } catch {
    return {}
  }
}
