/** What the readers of answers have in common: what an answer says of itself as facts, errors by name, and a notice put into a text. */
import { isList, isObject } from '../core/message.ts'
import type { Json } from '../core/request.ts'
import { DEPTH_MAX, memberRanges } from './json-scan.ts'
import type { Range } from './json-scan.ts'
import type { UsageReading } from './usage-reading.ts'
import type { ReadAnswer, WireFacts } from './wire.ts'

/** A longer answer is not kept. */
export const MESSAGE_BYTES_MAX = 4 * 1024 * 1024
/** Answers to one call that are kept beside the first: with it as many as Gemini gives. */
export const ALTERNATIVES_MAX = 7
export const TOOL_NAMES_MAX = 512

export const NO_FACTS: WireFacts = {
  model: null,
  serviceTier: null,
  responseId: null,
  usage: null,
  usageClamped: false,
  usageInvalid: false,
  finishReason: null,
  toolNames: [],
  outputBytes: 0,
  error: null,
}

/** Bytes that are no answer: passed on all the same, without a usage, and counted as output. */
export function unreadable(body: Buffer): ReadAnswer {
  return { facts: { ...NO_FACTS, outputBytes: body.length }, message: null, readable: false }
}

/** `isFinal`: it will not grow any more; what still may is no usage to settle by. */
export function usageFacts(
  { usage, clamped, invalid, others, audioTokens, toldCost }: UsageReading,
  isFinal = true,
): Pick<WireFacts, 'usage' | 'others' | 'audioTokens' | 'toldCost' | 'usageClamped' | 'usageInvalid'> {
  return {
    usage: isFinal ? usage : null,
    ...(isFinal && others !== undefined ? { others } : {}),
    ...(isFinal && audioTokens !== undefined ? { audioTokens } : {}),
    ...(isFinal && toldCost !== undefined ? { toldCost } : {}),
    usageClamped: clamped,
    usageInvalid: invalid,
  }
}

/** Code or type of an error object; `error` for one that has neither. */
export function errorCode(error: Json | undefined): string | null {
  if (error === undefined || error === null) return null
  if (!isObject(error)) return 'error'
  const code = error['code'] ?? error['type']
  return typeof code === 'string' || typeof code === 'number' ? String(code).slice(0, 64) : 'error'
}

/** UTF-8 bytes of the strings in a value, to the depth that a request may have; not of the members that `unwritten` names. */
export function writtenBytes(value: Json | undefined, unwritten: ReadonlySet<string>, depth = 0): number {
  if (typeof value === 'string') return Buffer.byteLength(value)
  if (typeof value !== 'object' || value === null || depth === DEPTH_MAX) return 0
  let bytes = 0
  if (isList(value)) {
    for (const element of value) bytes += writtenBytes(element, unwritten, depth + 1)
    return bytes
  }
  for (const [key, member] of Object.entries(value)) if (!unwritten.has(key)) bytes += writtenBytes(member, unwritten, depth + 1)
  return bytes
}

/** Where a body's object stands. */
export function wholeOf(body: Buffer): Range {
  return { start: body.indexOf('{'), end: body.length }
}

/** Where a member of an object stands that has it, as its parsed value shows. */
export function memberRange(body: Buffer, object: Range, name: string): Range {
  const range = memberRanges(body, object).get(name)
  if (range === undefined) throw new TypeError(`an object that was parsed must have its field ${name}`)
  return range
}

/** `bytes` with `text` put in at `at`, inside a JSON string. */
export function withInserted(bytes: Buffer, at: number, text: string): Buffer {
  return Buffer.concat([bytes.subarray(0, at), jsonInside(text), bytes.subarray(at)])
}

/** A text as JSON, without its quotes. */
export function jsonInside(text: string): Buffer {
  return Buffer.from(JSON.stringify(text).slice(1, -1))
}
