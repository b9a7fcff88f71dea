/** Whole answers of Chat Completions: what one says, a notice at its end, and answers of our own making. */
import { isList, isObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'
import { ALTERNATIVES_MAX, errorCode, memberRange, unreadable, usageFacts, wholeOf, withInserted, writtenBytes } from './answer-reading.ts'
import { elementRanges } from './json-scan.ts'
import type { Range } from './json-scan.ts'
import { objectAt, objectsIn, textOrNull } from './json-values.ts'
import { takesNotice } from './notice-place.ts'
import { calledName, isTextPart, messageFromJson, textsIn } from './openai-message.ts'
import { readUsage } from './openai-usage.ts'
import type { UsageTold } from './openai-usage.ts'
import { servedModel } from './usage-reading.ts'
import type { ReadAnswer } from './wire.ts'

/**
 * Reads a whole answer. One that is not JSON has no usage, and its bytes count as output. `isSum`: see `AnswerFacts`, which in Chat
 * Completions only the request tells.
 */
export function readAnswer(body: Buffer, { isSum = false, ...told }: UsageTold & { readonly isSum?: boolean } = {}): ReadAnswer {
  const answer = objectAt(body)
  if (answer === null) return unreadable(body)
  const choices = objectsIn(answer['choices'])
  const first = firstChoice(choices)
  const message = first?.['message']
  const reading = readUsage(answer['usage'], told)
  const error = errorCode(answer['error'])
  const toolNames: string[] = []
  let outputBytes = 0
  for (const choice of choices) {
    const spoken = choice['message']
    if (!isObject(spoken)) continue
    outputBytes += writtenBytes(spoken, UNWRITTEN_KEYS)
    toolNames.push(...toolNamesOf(spoken))
  }
  return {
    facts: {
      model: servedModel(answer['model']),
      serviceTier: textOrNull(answer['service_tier']),
      responseId: null,
      ...usageFacts(reading),
      ...(isSum ? { isSum } : {}),
      finishReason: textOrNull(first?.['finish_reason']),
      toolNames,
      outputBytes,
      error,
    },
    message: isObject(message) ? messageFromJson(message) : null,
    ...alternativesOf(choices, first),
    readable: choices.length > 0 || reading.usage !== null || error !== null,
  }
}

/**
 * The answer with `text` at the end of its first choice, when that is prose: text that ended by itself or at its limit,
 * no JSON, no code that was cut off, without tool calls or a refusal. Every other byte stays. `text` brings its own separator.
 */
export function addNotice(body: Buffer, text: string): { readonly body: Buffer; readonly added: boolean } {
  const unchanged = { body, added: false }
  const answer = objectAt(body)
  const choices = answer?.['choices']
  if (!isList(choices)) return unchanged
  const index = choices.indexOf(firstChoice(objectsIn(choices)) ?? null)
  const choice = choices[index]
  if (!isObject(choice) || !isProse(choice)) return unchanged
  const choiceRange = elementRanges(body, memberRange(body, wholeOf(body), 'choices'))[index]
  if (choiceRange === undefined) return unchanged
  const message = choice['message']
  const content = memberRange(body, memberRange(body, choiceRange, 'message'), 'content')
  const spoken = isObject(message) && isList(message['content']) ? lastTextRange(body, content, message['content']) : content
  return spoken === undefined ? unchanged : { body: withInserted(body, spoken.end - 1, text), added: true }
}

/** Finish reasons after which an answer is all that the user will read. */
export const PROSE_ENDS: ReadonlySet<string> = new Set(['stop', 'length'])
/** The one of them that cuts it off. */
export const CUT_END = 'length'

/** Usage as providers write it. */
export interface WireUsage {
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
}
const NO_USAGE: WireUsage = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 }

/**
 * An answer that no model made: `text` as a completion that ended by itself and used nothing. Never for callers who
 * expect JSON: prose makes their parsers throw.
 */
export function syntheticAnswer(answer: {
  readonly stream: boolean
  readonly includeUsage: boolean
  readonly model: string
  readonly text: string
  /** The whole id, such as `chatcmpl-farebox-...`. */
  readonly id: string
  readonly createdS: number
}): { readonly contentType: string; readonly body: Buffer } {
  const frame = { id: answer.id, created: answer.createdS, model: answer.model }
  if (!answer.stream) {
    const message = { role: 'assistant', content: answer.text, refusal: null, annotations: [] }
    const whole = {
      ...frame,
      object: 'chat.completion',
      choices: [{ index: 0, message, logprobs: null, finish_reason: 'stop' }],
      usage: NO_USAGE,
    }
    return { contentType: 'application/json', body: Buffer.from(JSON.stringify(whole)) }
  }
  const events = [
    deltaEvent(frame, 0, { role: 'assistant', content: '' }, null),
    deltaEvent(frame, 0, { content: answer.text }, null),
    deltaEvent(frame, 0, {}, 'stop'),
    ...(answer.includeUsage ? [usageEvent(frame, NO_USAGE)] : []),
    DONE_EVENT,
  ]
  return { contentType: 'text/event-stream; charset=utf-8', body: Buffer.from(events.join('')) }
}

export const DONE_EVENT = 'data: [DONE]\n\n'

/** What chunks of one stream have in common. */
export interface ChunkFrame {
  readonly id: string
  readonly created: number
  readonly model: string
}

export function deltaEvent(frame: ChunkFrame, index: number, delta: JsonObject, finishReason: string | null): string {
  const { id, created, model } = frame
  return event({
    id,
    object: 'chat.completion.chunk',
    created,
    model,
    choices: [{ index, delta, logprobs: null, finish_reason: finishReason }],
  })
}

export function usageEvent(frame: ChunkFrame, usage: WireUsage): string {
  const { id, created, model } = frame
  return event({ id, object: 'chat.completion.chunk', created, model, choices: [], usage })
}

function event(data: object): string {
  return `data: ${JSON.stringify(data)}\n\n`
}

/** Names of the tools that a message or delta calls. */
export function toolNamesOf(message: JsonObject): readonly string[] {
  const names: string[] = []
  for (const call of objectsIn(message['tool_calls'])) {
    const name = calledName(call)
    if (name !== '') names.push(name)
  }
  const old = message['function_call']
  if (isObject(old) && typeof old['name'] === 'string' && old['name'] !== '') names.push(old['name'])
  return names
}

function isProse(choice: JsonObject): boolean {
  const message = choice['message']
  const reason = choice['finish_reason']
  if (!isObject(message) || typeof reason !== 'string' || !PROSE_ENDS.has(reason)) return false
  const { content, refusal } = message
  const saysMore =
    toolNamesOf(message).length > 0 || objectsIn(message['tool_calls']).length > 0 || (refusal ?? '') !== '' || isObject(message['audio'])
  const text = typeof content === 'string' ? content : textsIn(content).join('')
  return text !== '' && takesNotice(text, reason === CUT_END) && !saysMore
}

/** Where the last text of a list of content stands, in its quotes. */
function lastTextRange(body: Buffer, list: Range, parts: readonly Json[]): Range | undefined {
  const range = elementRanges(body, list)[parts.findLastIndex(isTextPart)]
  return range === undefined ? undefined : memberRange(body, range, 'text')
}

/** What other choices than the `first` say. */
function alternativesOf(choices: readonly JsonObject[], first: JsonObject | null): Pick<ReadAnswer, 'alternatives'> {
  if (choices.length < 2) return {}
  const others = choices.filter((choice) => choice !== first).slice(0, ALTERNATIVES_MAX)
  return { alternatives: others.flatMap(({ message }) => (isObject(message) ? (messageFromJson(message) ?? []) : [])) }
}

/** The choice with index 0, wherever it stands; the first of all when none says. */
function firstChoice(choices: readonly JsonObject[]): JsonObject | null {
  return choices.find((choice) => choice['index'] === 0) ?? choices[0] ?? null
}

/** Members of a message that the model did not write. */
const UNWRITTEN_KEYS: ReadonlySet<string> = new Set(['role', 'id', 'type', 'annotations', 'audio'])
