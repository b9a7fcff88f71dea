/** Bodies and streams for tests of the wire: written as no serialiser of ours would write them, and cut anywhere. */
import * as fc from 'fast-check'
import type { Json, JsonObject, Message, ModelRequest } from '../core/request.ts'
import { parseChatRequest } from './openai-chat.ts'
import { ChatStream } from './event-stream.ts'
import type { ChatStreamOptions } from './event-stream.ts'
import { scanObject } from './json-scan.ts'
import type { Scan } from './json-scan.ts'
import type { AnswerStream, CallContext, WireFacts } from './wire.ts'

export function scan(text: string | Buffer, ...split: string[]): Scan {
  const work = scanObject(Buffer.from(text), new Set(split))
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
  }
}

export function scanned(text: string | Buffer, ...split: string[]): Scan & { readonly status: 'ok' } {
  const result = scan(text, ...split)
  if (result.status === 'invalid') throw new TypeError(result.message)
  return result
}

const space = fc.constantFrom('', '', ' ', '\n', '\t ', '\r\n  ')
const spaced = (text: fc.Arbitrary<string>): fc.Arbitrary<string> => fc.tuple(space, text, space).map((parts) => parts.join(''))

/** A JSON string with its quotes: plain, escaped, with brackets and quotes inside, and longer than a short search. */
function stringTexts(): fc.Arbitrary<string> {
  const part = fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 4 }).map((text) => JSON.stringify(text).slice(1, -1)),
    fc.constantFrom(
      '\\u00e9',
      '\\"',
      '\\\\',
      '\\/',
      '\\n',
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '\\ud83d',
      '😀',
      'x'.repeat(60),
      '\\\\'.repeat(40),
    ),
  )
  return fc.array(part, { maxLength: 4 }).map((parts) => `"${parts.join('')}"`)
}

function memberTexts(values: fc.Arbitrary<string>): fc.Arbitrary<string> {
  // No key with a backslash: JSON.parse, which tests compare with, may take later keys for it (nodejs/node#63785).
  const key = fc.oneof(
    stringTexts().filter((text) => !String(JSON.parse(text)).includes('\\')),
    fc.constantFrom('"a"', '"\\u0061"', '"b"', '"messages"', '"model"', '"__proto__"', '"constructor"', '"1"', '""'),
  )
  return fc
    .uniqueArray(fc.record({ key, before: space, after: space, value: spaced(values), gap: space }), {
      selector: (member): unknown => JSON.parse(member.key),
      maxLength: 6,
    })
    .map((members) => members.map(({ key, before, after, value, gap }) => `${before}${key}${after}:${value}${gap}`).join(','))
}

/** Text of JSON values of any kind. */
export function valueTexts(): fc.Arbitrary<string> {
  return fc.letrec<{ value: string }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constantFrom('null', 'true', 'false', '0', '-0', '1e400', '-12.50E-3', '9007199254740993'),
      stringTexts(),
      fc.array(spaced(tie('value')), { maxLength: 5 }).map((elements) => `[${elements.join(',')}]`),
      memberTexts(tie('value')).map((members) => `{${members}}`),
    ),
  })).value
}

/** Text of JSON objects without a key given twice. */
export function objectTexts(): fc.Arbitrary<string> {
  return fc
    .tuple(space, memberTexts(valueTexts()), space, space)
    .map(([before, members, end, after]) => `${before}{${members}${end}}${after}`)
}

/** One event of a stream. */
export function event(json: JsonObject, end = '\n'): string {
  return `data: ${JSON.stringify(json)}${end}${end}`
}
export const DONE = 'data: [DONE]\n\n'

/** A chunk as OpenAI sends it. */
export function chunk(choices: readonly JsonObject[], more: JsonObject = {}): JsonObject {
  return { id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1_700_000_000, model: 'gpt-4o-2024-08-06', choices, ...more }
}
export function choice(delta: JsonObject, finishReason: string | null = null, index = 0): JsonObject {
  return { index, delta, logprobs: null, finish_reason: finishReason }
}

/** Where chat requests of tests come in. */
export const CHAT_CALL: CallContext = {
  upstream: { provider: 'openai', outputLimitField: 'max_completion_tokens', deployments: [] },
  path: '/chat/completions',
  contentType: 'application/json',
}

/** A chat request that must be valid. */
export async function readChat(body: string | object): Promise<ModelRequest> {
  const parsed = await parseChatRequest(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)), CHAT_CALL)
  if (parsed.status !== 'ok') throw new TypeError(JSON.stringify(parsed))
  return parsed.request
}

export const STREAM_OPTIONS: ChatStreamOptions = { stripUsage: false, notice: null, collect: true }

export interface Fed {
  readonly output: string
  readonly facts: WireFacts
  readonly message: Message | null
  readonly observedTokens: number
  readonly noticeAdded: boolean
}

/** Feeds a chat stream: see `passedOn`. */
export function feed(text: string | Buffer, options: Partial<ChatStreamOptions> = {}, cuts: readonly number[] = []): Fed {
  const stream = new ChatStream({ ...STREAM_OPTIONS, ...options })
  return {
    output: passedOn(stream, text, cuts),
    facts: stream.facts,
    message: stream.message,
    observedTokens: stream.observedOutputTokens(),
    noticeAdded: stream.noticeAdded,
  }
}

/** The fields of `after` that are not as in `before`, `undefined` for one that is gone. Both are JSON. */
export function changedIn(before: Uint8Array, after: Uint8Array): Record<string, Json | undefined> {
  const parsed = (body: Uint8Array): JsonObject => JSON.parse(Buffer.from(body).toString('utf8'))
  const [was, is] = [parsed(before), parsed(after)]
  const names = [...new Set([...Object.keys(was), ...Object.keys(is)])]
  return Object.fromEntries(names.filter((name) => JSON.stringify(was[name]) !== JSON.stringify(is[name])).map((name) => [name, is[name]]))
}

/** What a stream passes on when it is fed in pieces that end at `cuts`; the memory of each is used for something else afterwards. */
export function passedOn(stream: Pick<AnswerStream, 'push' | 'end'>, text: string | Buffer, cuts: readonly number[] = []): string {
  const bytes = Buffer.from(text)
  const out: Buffer[] = []
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((one, other) => one - other)
  let start = 0
  for (const end of [...ends, bytes.length]) {
    if (end === start) continue
    const piece = Buffer.from(bytes.subarray(start, end))
    out.push(Buffer.concat(stream.push(piece)))
    piece.fill(0)
    start = end
  }
  return Buffer.concat([...out, ...stream.end()]).toString('utf8')
}

/** The data of all events of a stream, by a reader that is not ours: lines, as the specification reads them. */
export function dataIn(stream: string): string[] {
  return stream
    .split(/\r?\n\r?\n/)
    .map((block) => block.split(/\r?\n/).filter((line) => line.startsWith('data')))
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.map((line) => line.replace(/^data:? ?/, '')).join('\n'))
}
