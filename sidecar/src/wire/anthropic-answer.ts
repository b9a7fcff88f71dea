/** Whole answers of Anthropic Messages: what one says, a notice at its end, and answers of our own making. */
import { isList, isObject } from '../core/message.ts'
import type { Json, JsonObject, ModelRequest } from '../core/request.ts'
import { errorCode, memberRange, unreadable, usageFacts, wholeOf, withInserted } from './answer-reading.ts'
import { messageFromBlocks } from './anthropic-message.ts'
import { hostedCallsOf, isSummed, isUnbilledRefusal, readAnthropicUsage, readServed, unbilled } from './anthropic-usage.ts'
import { elementRanges } from './json-scan.ts'
import { objectAt, objectsIn, textOrNull } from './json-values.ts'
import { takesNotice } from './notice-place.ts'
import { servedModel } from './usage-reading.ts'
import type { ReadAnswer } from './wire.ts'

/** Reads a whole answer. One that is not JSON has no usage, and its bytes count as output. `cacheWrites`: as its request asked for. */
export function readAnthropicAnswer(body: Buffer, cacheWrites?: ModelRequest['cacheWrites']): ReadAnswer {
  const answer = objectAt(body)
  if (answer === null) return unreadable(body)
  const blocks = objectsIn(answer['content'])
  const types = blocks.map(({ type }) => type)
  const reading = readAnthropicUsage(answer['usage'], cacheWrites)
  const error = errorCode(answer['error'])
  return {
    facts: {
      model: servedModel(answer['model']),
      serviceTier: readServed(answer['usage']),
      responseId: null,
      ...(isUnbilledRefusal(answer, blocks.length) ? { ...usageFacts(unbilled(reading)), isUnbilled: true } : usageFacts(reading)),
      isSum: isSummed(answer['usage'], types),
      ...(reading.usage === null ? {} : { hostedCalls: hostedCallsOf(answer['usage'], types) }),
      finishReason: textOrNull(answer['stop_reason']),
      toolNames: blocks.flatMap(calledName),
      outputBytes: blocks.reduce((sum, block) => sum + writtenIn(block), 0),
      error,
    },
    message: messageFromBlocks(blocks),
    readable: answer['type'] === 'message' || reading.usage !== null || error !== null,
  }
}

/** Reasons to stop after which an answer is all that the user will read. */
export const PROSE_STOPS: ReadonlySet<Json | undefined> = new Set(['end_turn', 'max_tokens'])
/** The one of them that cuts it off. */
export const CUT_STOP = 'max_tokens'

/**
 * The answer with `text` at the end of its last text, when it is prose: it ended by itself or at its limit, is no JSON and no code
 * that was cut off, and calls no tool of the app. Every other byte stays. `text` brings its own separator.
 */
export function addAnthropicNotice(body: Buffer, text: string): { readonly body: Buffer; readonly added: boolean } {
  const unchanged = { body, added: false }
  const answer = objectAt(body)
  const content = answer?.['content']
  if (answer === null || !isList(content) || !PROSE_STOPS.has(answer['stop_reason'])) return unchanged
  if (content.some((block) => isObject(block) && block['type'] === 'tool_use')) return unchanged
  const spoken = content.map((block) => (isObject(block) && isSpoken(block) ? (textOrNull(block['text']) ?? '') : ''))
  if (!takesNotice(spoken.join(''), answer['stop_reason'] === CUT_STOP)) return unchanged
  const last = spoken.findLastIndex((words) => words !== '')
  if (last < 0) return unchanged
  const block = elementRanges(body, memberRange(body, wholeOf(body), 'content'))[last]
  if (block === undefined) return unchanged
  return { body: withInserted(body, memberRange(body, block, 'text').end - 1, text), added: true }
}

/** An answer that no model made: `text` as a message that ended by itself and used nothing. Never for callers who expect JSON. */
export function syntheticAnthropic(answer: {
  readonly stream: boolean
  readonly model: string
  readonly text: string
  /** The whole id, such as `msg_farebox_...`. */
  readonly id: string
}): { readonly contentType: string; readonly body: Buffer } {
  const { id, model, text } = answer
  const message = {
    id,
    type: 'message',
    role: 'assistant',
    model,
    container: null,
    diagnostics: null,
    stop_details: null,
    stop_sequence: null,
  }
  const block = { type: 'text', text } // no `citations: null`, which some clients take for a malformed list
  if (!answer.stream) {
    const whole = { ...message, content: [block], stop_reason: 'end_turn', usage: NO_USAGE }
    return { contentType: 'application/json', body: Buffer.from(JSON.stringify(whole)) }
  }
  const events = [
    { type: 'message_start', message: { ...message, content: [], stop_reason: null, usage: NO_USAGE } },
    { type: 'content_block_start', index: 0, content_block: { ...block, text: '' } },
    textDelta(0, text),
    { type: 'content_block_stop', index: 0 },
    {
      type: 'message_delta',
      delta: { stop_reason: 'end_turn', stop_sequence: null, stop_details: null, container: null },
      usage: NO_USAGE,
    },
    { type: 'message_stop' },
  ]
  return { contentType: 'text/event-stream; charset=utf-8', body: Buffer.from(events.map(eventText).join('')) }
}

export function textDelta(index: number, text: string): JsonObject & { readonly type: string } {
  return { type: 'content_block_delta', index, delta: { type: 'text_delta', text } }
}

export function eventText(data: JsonObject & { readonly type: string }): string {
  return `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`
}

/** Text that a user reads. */
export function isSpoken(block: JsonObject): boolean {
  return block['type'] === 'text' && typeof block['text'] === 'string' && block['text'] !== ''
}

const NO_USAGE: JsonObject = {
  input_tokens: 0,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: 0,
  cache_creation: { ephemeral_5m_input_tokens: 0, ephemeral_1h_input_tokens: 0 },
  output_tokens: 0,
  output_tokens_details: { thinking_tokens: 0 },
  server_tool_use: null,
  service_tier: 'standard',
  speed: 'standard',
  inference_geo: null,
}

function calledName(block: JsonObject): readonly string[] {
  const { name } = block
  return block['type'] === 'tool_use' && typeof name === 'string' ? [name] : []
}

/** What the model wrote of a block; results of the provider's own tools it did not. */
function writtenIn(block: JsonObject): number {
  const { text, thinking, input } = block
  if (typeof text === 'string') return Buffer.byteLength(text)
  if (typeof thinking === 'string') return Buffer.byteLength(thinking)
  return input === undefined ? 0 : Buffer.byteLength(JSON.stringify(input))
}
