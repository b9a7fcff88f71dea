/** Whole answers of OpenAI's Responses API: what one says, and a notice at its end. */
import { isList, isObject } from '../core/message.ts'
import type { JsonObject, Message, ModelRequest } from '../core/request.ts'
import { errorCode, unreadable, usageFacts, wholeOf, withInserted, writtenBytes } from './answer-reading.ts'
import { elementRanges, memberRanges } from './json-scan.ts'
import type { Range } from './json-scan.ts'
import { countIn, objectAt, objectsIn, textOrNull } from './json-values.ts'
import { takesNotice } from './notice-place.ts'
import { HOSTED_CALLS, nameWhenKept, outputMessages } from './responses-item.ts'
import { hostedCallsIn, ranTools, readResponsesUsage } from './responses-usage.ts'
import { servedModel } from './usage-reading.ts'
import type { ReadAnswer, WireFacts } from './wire.ts'

/** Items of an answer by which its conversation can be found again: the last ones, of which one at least comes back. */
const NAMES_MAX = 16

/** Reads a whole answer. One that is not JSON has no usage, and its bytes count as output. `cacheWrites`: as its request asked for. */
export function readResponse(body: Buffer, cacheWrites?: ModelRequest['cacheWrites']): ReadAnswer {
  const response = objectAt(body)
  if (response === null) return unreadable(body)
  const facts = factsOf(response, cacheWrites)
  const messages = outputMessages(response['output'])
  return {
    facts,
    message: spokenOf(messages),
    messages,
    readable: isList(response['output']) || facts.usage !== null || facts.error !== null,
  }
}

/** What came of a compaction: its usage, and nothing that anybody said. */
export function readCompaction(body: Buffer): ReadAnswer {
  const { facts, readable } = readResponse(body)
  return { facts: { ...facts, responseId: null }, message: null, messages: [], readable }
}

/** What a response object says of itself, finished or not. `cacheWrites`: as its request asked for. */
export function factsOf(response: JsonObject, cacheWrites?: ModelRequest['cacheWrites']): WireFacts {
  const reading = readResponsesUsage(response, cacheWrites)
  const items = objectsIn(response['output'])
  const details = response['incomplete_details']
  let outputBytes = 0
  for (const item of items) outputBytes += writtenBytes(item, UNWRITTEN_KEYS)
  return {
    model: servedModel(response['model']),
    serviceTier: textOrNull(response['service_tier']),
    responseId: textOrNull(response['id']),
    keptNames: items.slice(-NAMES_MAX).flatMap((item) => nameWhenKept(item) ?? []),
    ...usageFacts(reading),
    isSum: ranTools(response) || items.some(({ type }) => typeof type === 'string' && (HOSTED_CALLS.has(type) || type === 'compaction')),
    ...(reading.usage === null ? {} : { hostedCalls: hostedCallsIn(response) }),
    finishReason: isObject(details) ? (textOrNull(details['reason']) ?? 'incomplete') : textOrNull(response['status']),
    toolNames: items.flatMap((item) => (isCalled(item) ? (textOrNull(item['name']) ?? []) : [])),
    outputBytes,
    error: errorCode(response['error']),
  }
}

/** The message that holds the words: the last one of the answer that has some. */
export function spokenOf(messages: readonly Message[]): Message | null {
  return messages.findLast((message) => message.texts.length > 0) ?? messages.at(-1) ?? null
}

/**
 * The answer with `text` at the end of its words, when they are all that the user will read: it ended by itself or at its limit, calls
 * nothing, refuses nothing, and the words come last. Every other byte stays. `text` brings its own separator.
 */
export function addResponseNotice(body: Buffer, text: string): { readonly body: Buffer; readonly added: boolean } {
  const unchanged = { body, added: false }
  const response = objectAt(body)
  if (response === null || !isProse(response)) return unchanged
  const range = lastTextRange(body, wholeOf(body))
  return range === null ? unchanged : { body: withInserted(body, range.end - 1, text), added: true }
}

/** Whether a response is prose to its end: its last item a message whose last part is text, and no call among its items. */
export function isProse(response: JsonObject): boolean {
  const { status } = response
  const details = response['incomplete_details']
  // A filter, too, leaves one incomplete. Who is compatible may give no reason.
  const isCut = status === 'incomplete' && !(isObject(details) && details['reason'] === 'content_filter')
  if (status !== 'completed' && !isCut) return false
  const items = objectsIn(response['output'])
  if (items.some(isCalled)) return false
  const last = items.at(-1)
  return last?.['type'] === 'message' && isProseMessage(last, isCut)
}

/** A message of words, of which the last part can be gone on with. */
function isProseMessage(item: JsonObject, isCut: boolean): boolean {
  const parts = objectsIn(item['content'])
  const last = parts.at(-1)
  if (parts.some((part) => part['type'] === 'refusal')) return false
  if (!takesNotice(parts.map(({ text }) => textOrNull(text) ?? '').join(''), isCut)) return false
  return last?.['type'] === 'output_text' && typeof last['text'] === 'string' && last['text'] !== ''
}

/** Where the last text of the response object at `object` stands, its quotes included; null when there is none. */
export function lastTextRange(bytes: Buffer, object: Range): Range | null {
  const output = memberRanges(bytes, object).get('output')
  const item = output === undefined ? undefined : elementRanges(bytes, output).at(-1)
  return item === undefined ? null : itemTextRange(bytes, item)
}

/** The same of one message item. */
export function itemTextRange(bytes: Buffer, item: Range): Range | null {
  const content = memberRanges(bytes, item).get('content')
  const part = content === undefined ? undefined : elementRanges(bytes, content).at(-1)
  return part === undefined ? null : (memberRanges(bytes, part).get('text') ?? null)
}

/** A tool of the app's is called: what the user reads comes later. */
export function isCalled(item: JsonObject): boolean {
  const { type } = item
  return typeof type === 'string' && type.endsWith('_call') && typeof item['call_id'] === 'string'
}

/** Keys of items whose values the model did not write. */
const UNWRITTEN_KEYS: ReadonlySet<string> = new Set([
  'id',
  'type',
  'role',
  'status',
  'call_id',
  'annotations',
  'logprobs',
  'encrypted_content',
  'results',
  'outputs',
  'container_id',
  'result',
])

/** The tokens that the provider counted of a request; null for bytes that say none. */
export function readCount(body: Buffer): number | null {
  return countIn(body, 'input_tokens')
}
