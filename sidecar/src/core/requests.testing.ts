/** Requests and conversations for tests of pure rules: built from plain messages, recorded, or generated. */
import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import { canonicalJson } from './digest.ts'
import { isList, isObject, parseObject } from './message.ts'
import type { ModelRequest, ImagePart, Json, JsonObject, Message } from './request.ts'
import { NO_HOSTED_TOOLS, ROLES } from './request.ts'

/** A message as a client would send it, in the chat format: what a wire makes of its bytes. */
export function message(json: JsonObject): Message {
  const role = ROLES.find((known) => known === json['role'])
  if (role === undefined) throw new TypeError(`no role: ${JSON.stringify(json)}`)
  const { content, tool_calls: calls, tool_call_id: answered, refusal, function_call: old } = json
  const answers = typeof answered === 'string' ? [answered] : role === 'function' ? [text(json['name'])] : []
  const parts = isList(content) ? content.filter(isObject) : []
  const isText = (part: JsonObject): boolean => part['type'] === 'text'
  const ofCall = answers[0] ?? null
  const spoken: readonly JsonObject[] = typeof content === 'string' ? [{ text: content }] : parts.filter(isText)
  const bytes = Buffer.from(JSON.stringify(json))
  return {
    role,
    json,
    bytes,
    stableBytes: bytes,
    name: typeof json['name'] === 'string' ? json['name'] : null,
    toolCalls: [
      ...(isList(calls) ? calls.filter(isObject) : []).map((call) => ({
        id: text(call['id']),
        ...called(call['function'] ?? call['custom']),
      })),
      ...(isObject(old) ? [{ id: text(old['name']), ...called(old) }] : []),
    ],
    answers,
    texts: [
      ...spoken.map((part) => ({
        text: text(part['text']),
        kind: 'text' as const,
        name: typeof part['name'] === 'string' ? part['name'] : null,
        answers: ofCall,
      })),
      ...(typeof refusal === 'string' && refusal !== '' ? [{ text: refusal, kind: 'refusal' as const, name: null, answers: null }] : []),
    ],
    withTexts(texts) {
      const left = [...texts]
      const rest: Json =
        typeof content === 'string'
          ? (left.shift() ?? null)
          : parts.flatMap((part) => {
              const said = isText(part) ? left.shift() : undefined
              return said === null ? [] : [said === undefined || said === part['text'] ? part : { ...part, text: said }]
            })
      const isGone = rest === null || (isList(rest) && rest.every((part) => isObject(part) && part['text'] === ''))
      if (isGone && !isList(calls) && !isObject(old) && typeof refusal !== 'string' && !isObject(json['audio'])) return null
      return message({ ...json, content: isGone ? null : rest })
    },
    reread(kept) {
      const read = parseObject(kept)
      return read?.['role'] === role ? message(read) : null
    },
    others: parts.filter((part) => !isText(part)).map((part) => canonicalJson(part)),
    images: parts.filter((part) => part['type'] === 'image_url').map((): ImagePart => ({ kind: 'image', size: null, detail: 'auto' })),
    mediaBytes: 0,
  }
}

function called(value: Json | undefined): { readonly name: string; readonly input: string } {
  return isObject(value) ? { name: text(value['name']), input: text(value['arguments'] ?? value['input']) } : { name: '', input: '' }
}

export function chatRequest(messages: readonly JsonObject[], more: Partial<ModelRequest> = {}): ModelRequest {
  return {
    wire: 'chat',
    body: Buffer.from(JSON.stringify({ model: 'gpt-4o', messages })),
    model: 'gpt-4o',
    stream: false,
    includeUsage: false,
    choices: 1,
    outputLimit: null,
    outputField: 'max_completion_tokens',
    generates: true,
    units: {},
    earlier: null,
    messages: messages.map(message),
    tools: 'none',
    toolsRefused: false,
    structured: false,
    serviceTier: null,
    metadata: {},
    promptCacheKey: null,
    safetyIdentifier: null,
    user: null,
    fixedBytes: 20,
    fixedDigest: '0'.repeat(32),
    fields: new Set(['model', 'messages']),
    hosted: NO_HOSTED_TOOLS,
    own: (role, content) => message({ role, content }),
    ...more,
  }
}

export const system = (content: string): JsonObject => ({ role: 'system', content })
export const user = (content: Json): JsonObject => ({ role: 'user', content })
export const assistant = (content: string): JsonObject => ({ role: 'assistant', content })
export const call = (...calls: readonly { readonly id: string; readonly name: string }[]): JsonObject => ({
  role: 'assistant',
  content: null,
  tool_calls: calls.map(({ id, name }) => ({ id, type: 'function', function: { name, arguments: '{"q":"x"}' } })),
})
export const result = (id: string, content: string): JsonObject => ({ role: 'tool', tool_call_id: id, content })

/** The messages as they go out, for comparing bytes. */
export function sent(messages: readonly Message[]): string[] {
  return messages.map(({ bytes }) => Buffer.from(bytes).toString('utf8'))
}

/** What the provider would refuse about the order of messages; null when it is valid. */
export function pairingProblem(messages: readonly Message[]): string | null {
  if (messages.length === 0) return 'no messages'
  let open = new Set<string>()
  for (const [index, { role, toolCalls, answers, json, bytes }] of messages.entries()) {
    if (JSON.stringify(JSON.parse(Buffer.from(bytes).toString('utf8'))) !== JSON.stringify(json))
      return `message ${index}: bytes and json differ`
    if (role === 'tool') {
      if (answers.length === 0 || !answers.every((id) => open.delete(id))) return `message ${index}: a tool result without its call`
      continue
    }
    if (open.size > 0) return `message ${index}: follows tool calls that are not answered`
    open = new Set(toolCalls.map(({ id }) => id))
    if (role === 'assistant' && toolCalls.length === 0 && (json['content'] ?? null) === null && (json['refusal'] ?? null) === null)
      return `message ${index}: an assistant message that says nothing`
  }
  return open.size > 0 ? 'the last tool calls are not answered' : null
}

/** The requests that make up a conversation: everything before each answer, and before the one that is still to come. */
export function requestsOf(messages: readonly JsonObject[], more: Partial<ModelRequest> = {}): ModelRequest[] {
  const ends = messages.flatMap(({ role }, index) => (role === 'assistant' && index > 0 ? [index] : []))
  if (messages.at(-1)?.['role'] !== 'assistant') ends.push(messages.length)
  return ends.map((end) => chatRequest(messages.slice(0, end), more))
}

export const RETRIEVAL_TOOL = 'search_docs'
export const RETRIEVAL_TAG = 'retrieved_context'

export interface RecordedConversation {
  readonly id: string
  readonly messages: readonly JsonObject[]
}

/**
 * Recorded conversations in both shapes of retrieval and with tools, `count` of each file; none where the recordings are
 * not at hand (they are no part of this repository).
 */
export function recordedConversations(count: number): RecordedConversation[] {
  const tools = readRecords('conversations-tools.ndjson.gz', count).flatMap((record) => {
    const messages = record['messages']
    return isList(messages) ? [{ id: text(record['id']), messages: messages.filter(isObject) }] : []
  })
  const retrieval = readRecords('conversations-retrieval.ndjson.gz', count).flatMap((record) => [
    { id: `${text(record['id'])} (tool)`, messages: rendered(record, toolTurn) },
    { id: `${text(record['id'])} (tag)`, messages: rendered(record, taggedTurn) },
  ])
  return [...tools, ...retrieval]
}

/** A valid conversation of 1 to 6 user turns: tool rounds with parallel calls, tagged and plain questions, images, late instructions. */
export function conversations(): fc.Arbitrary<readonly JsonObject[]> {
  return fc
    .record({
      systems: fc.array(fc.constantFrom('You help.', 'Be brief.'), { maxLength: 2 }),
      turns: fc.array(turn(), { minLength: 1, maxLength: 6 }),
      isOpen: fc.boolean(),
    })
    .map(({ systems, turns, isOpen }) => {
      let calls = 0
      const messages: JsonObject[] = systems.map(system)
      for (const { question, late, rounds, answer } of turns) {
        messages.push(question)
        if (late) messages.push(system('The user is waiting.'))
        for (const round of rounds) {
          const ids = round.map((name) => ({ id: `call_${calls++}`, name }))
          messages.push(call(...ids), ...ids.map(({ id }) => result(id, `result of ${id} ${'fact '.repeat(80)}`)))
        }
        messages.push(assistant(answer))
      }
      return isOpen ? messages.slice(0, -1) : messages
    })
}

function turn(): fc.Arbitrary<{
  readonly question: JsonObject
  readonly late: boolean
  readonly rounds: readonly (readonly string[])[]
  readonly answer: string
}> {
  const tagged = fc
    .string({ maxLength: 30 })
    .map((question) => `<${RETRIEVAL_TAG} k="1">${'passage '.repeat(60)}</${RETRIEVAL_TAG}>\n${question}`)
  const question = fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 60 }).map(user),
    tagged.map(user),
    tagged.map((content) =>
      user([
        { type: 'text', text: content },
        { type: 'image_url', image_url: { url: 'https://example.com/a' } },
      ]),
    ),
  )
  return fc.record({
    question,
    late: fc.integer({ min: 0, max: 9 }).map((dice) => dice === 0),
    rounds: fc.array(fc.array(fc.constantFrom(RETRIEVAL_TOOL, 'book_seat'), { minLength: 1, maxLength: 3 }), { maxLength: 3 }),
    answer: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }),
  })
}

interface Turn {
  readonly user: string
  readonly passages: string
  readonly assistant: string
}

function toolTurn(turn: Turn, index: number): JsonObject[] {
  const id = `call_${index}`
  return [user(turn.user), call({ id, name: RETRIEVAL_TOOL }), result(id, turn.passages), assistant(turn.assistant)]
}

function taggedTurn(turn: Turn): JsonObject[] {
  return [user(`<${RETRIEVAL_TAG}>\n${turn.passages}\n</${RETRIEVAL_TAG}>\n\n${turn.user}`), assistant(turn.assistant)]
}

function rendered(record: JsonObject, render: (turn: Turn, index: number) => JsonObject[]): JsonObject[] {
  const turns = isList(record['turns']) ? record['turns'].filter(isObject) : []
  return [
    system(text(record['system']) || 'Answer from the passages.'),
    ...turns.flatMap((turn, index) => {
      const passages = isList(turn['passages']) ? turn['passages'].filter(isObject).map((passage) => text(passage['text'])) : []
      return render({ user: text(turn['user']), passages: passages.join('\n\n'), assistant: text(turn['assistant']) }, index)
    }),
  ]
}

function readRecords(name: string, count: number): JsonObject[] {
  let zipped: Buffer
  try {
    zipped = readFileSync(new URL(`../../../../shared/data/${name}`, import.meta.url))
  } catch {
    return [] // the recordings are not at hand
  }
  const lines = gunzipSync(zipped)
    .toString('utf8')
    .split('\n')
    .filter((line) => line !== '')
  const step = Math.max(1, Math.floor(lines.length / count))
  const records: JsonObject[] = []
  for (let index = 0; index < lines.length && records.length < count; index += step) {
    const record: Json = JSON.parse(lines[index] ?? 'null')
    if (isObject(record)) records.push(record)
  }
  return records
}

function text(value: Json | undefined): string {
  return typeof value === 'string' ? value : ''
}
