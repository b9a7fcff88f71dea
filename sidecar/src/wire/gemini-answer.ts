/** Whole answers of Gemini: what one says, a notice at its end, and answers of our own making. A stream that is no event stream is a list of them. */
import { isList, isObject } from '../core/message.ts'
import type { Json, JsonObject, ModelRequest } from '../core/request.ts'
import { ALTERNATIVES_MAX, errorCode, memberRange, unreadable, usageFacts, withInserted } from './answer-reading.ts'
import { memberOf, objectOf, objectsOf, parseObjects, textOf } from './gemini-json.ts'
import { calledNames, messageFromContent } from './gemini-message.ts'
import { isSummed, readGeminiTier, readGeminiUsage } from './gemini-usage.ts'
import { DEPTH_MAX, elementRanges } from './json-scan.ts'
import type { Range } from './json-scan.ts'
import { takesNotice } from './notice-place.ts'
import { servedModel } from './usage-reading.ts'
import type { ReadAnswer, SyntheticAnswer } from './wire.ts'

/** Finish reasons after which an answer is all that the user will read. */
export const PROSE_ENDS: ReadonlySet<string> = new Set(['STOP', 'MAX_TOKENS'])
/** The one of them that cuts it off. */
export const CUT_END = 'MAX_TOKENS'

/** Reads a whole answer. One that is not JSON has no usage, and its bytes count as output. */
export function readGeminiAnswer(body: Buffer): ReadAnswer {
  const chunks = parseObjects(body.toString('utf8'))
  if (chunks === null) return unreadable(body)
  const answer = joined(chunks)
  const candidates = objectsOf(answer, 'candidates')
  const content = objectOf(firstCandidate(candidates) ?? {}, 'content')
  const reading = readGeminiUsage(answer)
  let outputBytes = 0
  const toolNames: string[] = []
  for (const candidate of candidates) {
    const said = objectOf(candidate, 'content')
    for (const part of objectsOf(said, 'parts')) outputBytes += writtenBytes(part)
    toolNames.push(...calledNames(said))
  }
  const error = errorCode(errorOf(answer))
  return {
    facts: {
      model: servedModel(memberOf(answer, 'modelVersion')),
      serviceTier: readGeminiTier(answer),
      responseId: null,
      ...usageFacts(reading),
      isSum: isSummed(answer),
      finishReason: textOf(firstCandidate(candidates) ?? {}, 'finishReason'),
      toolNames,
      outputBytes,
      error,
    },
    message: messageFromContent(content),
    alternatives: candidates
      .filter((candidate) => !isFirst(candidate))
      .slice(0, ALTERNATIVES_MAX)
      .flatMap((candidate) => messageFromContent(objectOf(candidate, 'content')) ?? []),
    readable: candidates.length > 0 || reading.usage !== null || error !== null,
  }
}

/**
 * The answer with `text` at the end of its first candidate, when that is prose: text that ended by itself or at its limit, no
 * JSON, no code that was cut off, and nothing else. Every other byte stays. `text` brings its own separator.
 */
export function addGeminiNotice(body: Buffer, text: string): { readonly body: Buffer; readonly added: boolean } {
  const unchanged = { body, added: false }
  const chunks = parseObjects(body.toString('utf8'))
  if (chunks === null) return unchanged
  const candidate = firstCandidate(objectsOf(joined(chunks), 'candidates'))
  if (candidate === null || !isProse(candidate)) return unchanged
  const whole: Range = {
    start: Math.max(
      0,
      body.findIndex((byte) => byte === OPEN_BRACE || byte === OPEN_BRACKET),
    ),
    end: trimmedEnd(body),
  }
  const places = body[whole.start] === OPEN_BRACKET ? elementRanges(body, whole) : [whole]
  for (const [index, place] of [...places.entries()].toReversed()) {
    const chunk = chunks[index]
    const at = chunk === undefined ? null : endOfLastText(body, place, chunk)
    if (at === null) continue
    return { body: withInserted(body, at, text), added: true }
  }
  return unchanged
}

/** Where the last text of the first candidate ends, inside its quotes, in the answer that stands at `place`; null when it has none there. */
export function endOfLastText(body: Buffer, place: Range, answer: JsonObject): number | null {
  const { candidates } = answer
  if (!isList(candidates)) return null
  const index = candidates.findIndex((candidate) => isObject(candidate) && isFirst(candidate))
  const content = isObject(candidates[index]) ? objectOf(candidates[index], 'content') : {}
  const parts = memberOf(content, 'parts')
  if (!isList(parts)) return null
  const last = parts.findLastIndex((part) => isObject(part) && typeof part['text'] === 'string' && part['thought'] !== true)
  if (last < 0) return null
  const candidate = elementRanges(body, memberRange(body, place, 'candidates'))[index]
  if (candidate === undefined) return null
  const part = elementRanges(body, memberRange(body, memberRange(body, candidate, 'content'), 'parts'))[last]
  return part === undefined ? null : memberRange(body, part, 'text').end - 1
}

/** An answer that no model made: `text` as a candidate that ended by itself and used nothing. Never for callers who expect JSON. */
export function syntheticGemini({
  request,
  asEvents,
  text,
  id,
}: SyntheticAnswer & { readonly request: Pick<ModelRequest, 'stream' | 'model'>; readonly asEvents: boolean }): {
  readonly contentType: string
  readonly body: Buffer
} {
  const answer = JSON.stringify({
    candidates: [{ content: { parts: [{ text }], role: 'model' }, finishReason: 'STOP', index: 0 }],
    usageMetadata: { promptTokenCount: 0, candidatesTokenCount: 0, totalTokenCount: 0 },
    modelVersion: request.model,
    responseId: `farebox-${id}`,
  })
  if (request.stream && asEvents) return { contentType: 'text/event-stream', body: Buffer.from(`data: ${answer}\r\n\r\n`) }
  return { contentType: 'application/json; charset=UTF-8', body: Buffer.from(request.stream ? `[${answer}]` : answer) }
}

/** The candidate with index 0, which may leave that out. */
export function firstCandidate(candidates: readonly JsonObject[]): JsonObject | null {
  return candidates.find(isFirst) ?? null
}

export function isFirst(candidate: JsonObject): boolean {
  return (candidate['index'] ?? 0) === 0
}

/** Whether a part is text that the user reads; thoughts are shown, if at all, as what they are. */
export function isProsePart(part: JsonObject): boolean {
  return typeof part['text'] === 'string'
}

/** UTF-8 bytes of what the model wrote into a part: text, code, the arguments of a call. */
export function writtenBytes(part: JsonObject): number {
  const { text } = part
  if (typeof text === 'string') return Buffer.byteLength(text)
  const call = memberOf(part, 'functionCall') ?? memberOf(part, 'executableCode')
  return isObject(call) ? stringBytes(call, 0) : 0
}

/** The error of an answer or a chunk; Google's `status` says more than its number. */
export function errorOf(answer: JsonObject): Json | undefined {
  const error = answer['error']
  if (!isObject(error)) return error
  return typeof error['status'] === 'string' ? { code: error['status'] } : error
}

function isProse(candidate: JsonObject): boolean {
  const reason = textOf(candidate, 'finishReason')
  const parts = objectsOf(objectOf(candidate, 'content'), 'parts')
  const words = parts.map((part) => (part['thought'] === true ? '' : (textOf(part, 'text') ?? ''))).join('')
  return reason !== null && PROSE_ENDS.has(reason) && parts.every(isProsePart) && words !== '' && takesNotice(words, reason === CUT_END)
}

/** The chunks of a stream as one answer: parts one after the other, everything else as it was said last. */
function joined(chunks: readonly JsonObject[]): JsonObject {
  const [only] = chunks
  if (only !== undefined && chunks.length === 1) return only
  const candidates = new Map<number, JsonObject>()
  for (const candidate of chunks.flatMap((chunk) => objectsOf(chunk, 'candidates'))) {
    const index = typeof candidate['index'] === 'number' ? candidate['index'] : 0
    const before = candidates.get(index)
    const content = (of: JsonObject | undefined): JsonObject => (of === undefined ? {} : objectOf(of, 'content'))
    const parts = [...objectsOf(content(before), 'parts'), ...objectsOf(content(candidate), 'parts')]
    candidates.set(index, { ...before, ...candidate, content: { ...content(before), ...content(candidate), parts } })
  }
  return { ...Object.assign({}, ...chunks), candidates: [...candidates.values()] }
}

function stringBytes(value: Json | undefined, depth: number): number {
  if (typeof value === 'string') return Buffer.byteLength(value)
  if (typeof value !== 'object' || value === null || depth === DEPTH_MAX) return 0
  let bytes = 0
  if (isList(value)) {
    for (const element of value) bytes += stringBytes(element, depth + 1)
    return bytes
  }
  for (const [key, member] of Object.entries(value)) if (key !== 'id') bytes += Buffer.byteLength(key) + stringBytes(member, depth + 1)
  return bytes
}

const OPEN_BRACE = 0x7b
const OPEN_BRACKET = 0x5b

function trimmedEnd(body: Buffer): number {
  let end = body.length
  while (end > 0 && (body[end - 1] ?? 0) <= 0x20) end -= 1
  return end
}
