/**
 * OpenAI Chat Completions requests: bytes -> `ModelRequest`, and changes of it back into bytes. A change splices fields into
 * the client's own bytes; whatever it does not name goes out exactly as it came.
 */
import { hash } from 'node:crypto'
import { isList, isObject } from '../core/message.ts'
import type { HostedTools, ModelRequest, Json, JsonObject, Message, OutputLimit, RequestChange } from '../core/request.ts'
import { scanObject } from './json-scan.ts'
import type { Field } from './json-scan.ts'
import { ChatStream } from './event-stream.ts'
import { addNotice, readAnswer, syntheticAnswer } from './openai-answer.ts'
import { ownChatMessage, readMessage } from './openai-message.ts'
import { Pacer } from './pacer.ts'
import { Splice } from './splice.ts'
import type { Layout } from './splice.ts'
import type { CallContext, ParsedRequest, Wire } from './wire.ts'

export const MODEL_LENGTH_MAX = 256
export const CHOICES_MAX = 128
/** More output tokens than any model makes; a larger limit is taken for a mistake. */
export const OUTPUT_LIMIT_MAX = 100_000_000
/** Bodies from this size on wait for their turn before they are read at all. */
const LARGE_BODY_BYTES = 256 * 1024

export const chatWire: Wire = {
  name: 'chat',
  asksForUsage: true,
  parse: (body, call) => parseChatRequest(body, call),
  render: renderChatRequest,
  path: ({ path }) => path,
  readAnswer: (body) => readAnswer(body),
  addNotice,
  openStream: (options) => new ChatStream(options),
  synthetic: ({ stream, includeUsage, model }, { text, id, createdS }) =>
    syntheticAnswer({ stream, includeUsage, model, text, id: `chatcmpl-farebox-${id}`, createdS }),
  objection(status, body) {
    if (status === 400 && body.includes('stream_options')) return 'streamOptions'
    return status === 400 || status === 404 ? 'swap' : null
  },
  prompt({ model, system, user, maxTokens, call }) {
    const messages = [
      { role: 'system', content: system },
      { role: 'user', content: user },
    ]
    return {
      path: '/chat/completions',
      body: Buffer.from(JSON.stringify({ model, messages, [call.upstream.outputLimitField]: maxTokens })),
    }
  },
}

/** Reads what the turn needs, and refuses what it cannot be sure of; the provider judges the rest. */
export async function parseChatRequest(
  body: Buffer,
  call: Pick<CallContext, 'upstream'>,
  pacer: Pacer = SHARED_PACER,
): Promise<ParsedRequest> {
  if (body.length >= LARGE_BODY_BYTES) await pacer.turn()
  const scan = await pacer.run(scanObject(body, SPLIT_FIELDS))
  if (scan.status === 'invalid') return scan
  try {
    const request = chatRequest(body, call, new Map(scan.fields.map((field) => [field.name, field])))
    LAYOUTS.set(body, {
      bodyStart: scan.bodyStart,
      fields: scan.fields.map(({ name, keyStart, start, end }) => ({ name, keyStart, start, end })),
    })
    return { status: 'ok', request }
  } catch (error) {
    if (error instanceof InvalidField) return { status: 'invalid', field: error.field, message: error.message }
    throw error
  }
}

/** The request with `change` made to it: the same buffer when nothing changes. */
export function renderChatRequest(request: ModelRequest, change: RequestChange): Buffer {
  const body = asBuffer(request.body)
  const splice = new Splice(body, layoutOf(body))
  for (const name of change.drop ?? []) splice.drop(name)
  for (const [from, to] of Object.entries(change.rename ?? {})) splice.rename(from, to)
  if (change.model !== undefined && change.model !== request.model) splice.set('model', JSON.stringify(change.model))
  spliceOutputLimit(splice, request, change)
  if (change.includeUsage === true && !request.includeUsage) splice.set('stream_options', withUsageAsked(body))
  // OpenAI refuses `tool_choice` without tools, and `function_call` without functions.
  if (change.toolChoice === 'none' && !request.toolsRefused && request.tools !== 'none') {
    if (OFFERS_ANY.test(splice.text('tools') ?? '')) splice.set('tool_choice', '"none"')
    if (OFFERS_ANY.test(splice.text('functions') ?? '')) splice.set('function_call', '"none"')
  }
  if (change.messages !== undefined && !areSame(change.messages, request.messages)) splice.set('messages', joined(change.messages))
  return splice.bytes()
}

const SHARED_PACER = new Pacer()
const SPLIT_FIELDS: ReadonlySet<string> = new Set(['messages', 'tools'])
/** Where the fields of a body stand; kept by the body, so that a request may be copied freely. */
const LAYOUTS = new WeakMap<Uint8Array, Layout>()

/** Fields that change nothing of what fills the window; all others, the unknown ones too, are part of `fixedDigest`. */
const FIELDS_OUTSIDE_WINDOW: ReadonlySet<string> = new Set([
  'messages',
  'model',
  'n',
  'stream',
  'stream_options',
  'max_tokens',
  'max_completion_tokens',
  'stop',
  'seed',
  'store',
  'user',
  'metadata',
  'temperature',
  'top_p',
  'frequency_penalty',
  'presence_penalty',
  'logit_bias',
  'logprobs',
  'top_logprobs',
  'safety_identifier',
  'prompt_cache_key',
  'prompt_cache_retention',
  'service_tier',
])
/** Fields by which self-hosted servers constrain the answer to a grammar. */
const GRAMMAR_FIELDS = ['guided_json', 'guided_regex', 'guided_choice', 'guided_grammar', 'structured_outputs'] as const
/** A list with something in it. */
const OFFERS_ANY = /^\[\s*[^\s\]]/
/** Models that search the web on every call, asked or not. */
const SEARCHING_MODEL = /-search(-|$)/

class InvalidField extends Error {
  readonly field: string
  constructor(field: string, message: string) {
    super(`"${field}" ${message}`)
    this.field = field
  }
}

type Fields = ReadonlyMap<string, Field>

function chatRequest(body: Buffer, call: Pick<CallContext, 'upstream' | 'model'>, fields: Fields): ModelRequest {
  const model = fields.get('model')?.json ?? call.model
  if (typeof model !== 'string' || model.length === 0 || model.length > MODEL_LENGTH_MAX) {
    throw new InvalidField('model', `must be a string of 1 to ${MODEL_LENGTH_MAX} characters`)
  }
  const messages = readMessages(body, fields.get('messages'))
  const stream = optional(fields, 'stream', 'must be true or false', isBoolean) ?? false
  const streamOptions = optional(fields, 'stream_options', 'must be an object', isJsonObject)
  const choices = optional(fields, 'n', `must be an integer from 1 to ${CHOICES_MAX}`, (value) => isWhole(value, CHOICES_MAX)) ?? 1
  const tools = fields.get('tools')
  const functions = optional(fields, 'functions', 'must be a list', isJsonList)
  if (tools !== undefined && tools.elements === null && tools.json !== null) throw new InvalidField('tools', 'must be a list')
  const toolList = tools?.elements?.map((element) => element.json) ?? []
  const toolChoice = fields.get('tool_choice')?.json
  const functionCall = fields.get('function_call')?.json
  /** Each word counts only beside the list that it speaks of. */
  const choicesMade = [...(toolList.length > 0 ? [toolChoice] : []), ...((functions ?? []).length > 0 ? [functionCall] : [])]
  let messageBytes = 0
  for (const message of messages) messageBytes += message.bytes.length
  return {
    wire: 'chat',
    body,
    model,
    stream,
    includeUsage: streamOptions?.['include_usage'] === true,
    choices,
    outputLimit: outputLimit(fields),
    outputField: call.upstream.outputLimitField,
    generates: true,
    units: {},
    earlier: null,
    messages,
    tools: choicesMade.length === 0 ? 'none' : isForced(toolChoice) || isObject(functionCall) ? 'forced' : 'offered',
    toolsRefused: choicesMade.length > 0 && choicesMade.every((choice) => choice === 'none'),
    structured: isStructured(fields),
    serviceTier: text(fields, 'service_tier'),
    metadata: metadataOf(fields),
    promptCacheKey: text(fields, 'prompt_cache_key'),
    safetyIdentifier: text(fields, 'safety_identifier'),
    user: text(fields, 'user'),
    fixedBytes: body.length - messageBytes,
    fixedDigest: fixedDigest(body, fields),
    fields: new Set(fields.keys()),
    hosted: { tools: hostedTools(model, fields, toolList), maxCalls: null, rereads: false },
    own: ownChatMessage,
  }
}

function readMessages(body: Buffer, field: Field | undefined): readonly Message[] {
  const elements = field?.elements ?? []
  if (elements.length === 0) throw new InvalidField('messages', 'must be a list with at least one message')
  return elements.map((element, index) => {
    const message = readMessage(element.json, body.subarray(element.start, element.end))
    if (message === null) throw new InvalidField(`messages[${index}]`, 'must be an object with a known "role"')
    return message
  })
}

/** With both fields the smaller bounds; rendering makes that true whichever of them the provider reads. */
function outputLimit(fields: Fields): OutputLimit | null {
  const completion = limit(fields, 'max_completion_tokens')
  const legacy = limit(fields, 'max_tokens')
  if (completion !== null && (legacy === null || completion <= legacy)) return { field: 'max_completion_tokens', tokens: completion }
  return legacy === null ? null : { field: 'max_tokens', tokens: legacy }
}

function limit(fields: Fields, name: string): number | null {
  return optional(fields, name, 'must be a positive integer', (value) => isWhole(value, OUTPUT_LIMIT_MAX))
}

function isForced(choice: Json | undefined): boolean {
  if (choice === 'required') return true
  if (!isObject(choice)) return false
  const allowed = choice['allowed_tools']
  return choice['type'] !== 'allowed_tools' || (isObject(allowed) && allowed['mode'] === 'required')
}

function isStructured(fields: Fields): boolean {
  const format = fields.get('response_format')?.json
  if (isObject(format) && format['type'] !== 'text') return true
  const modalities = fields.get('modalities')?.json
  if (isList(modalities) && modalities.some((modality) => modality !== 'text')) return true
  return GRAMMAR_FIELDS.some((name) => (fields.get(name)?.json ?? null) !== null)
}

function hostedTools(model: string, fields: Fields, tools: readonly Json[]): HostedTools['tools'] {
  const hosted = new Set<HostedTools['tools'][number]>()
  if ((fields.get('web_search_options')?.json ?? null) !== null || SEARCHING_MODEL.test(model)) hosted.add('webSearch')
  for (const tool of tools) {
    const type = isObject(tool) ? tool['type'] : null
    if (typeof type !== 'string') continue
    if (type.startsWith('web_search')) hosted.add('webSearch')
    else if (type.startsWith('file_search')) hosted.add('fileSearch')
    else if (type.startsWith('code_interpreter')) hosted.add('codeContainer')
  }
  return [...hosted]
}

function metadataOf(fields: Fields): Readonly<Record<string, string>> {
  const metadata = fields.get('metadata')?.json
  if (!isObject(metadata)) return {}
  return Object.fromEntries(Object.entries(metadata).filter((entry): entry is [string, string] => typeof entry[1] === 'string'))
}

function fixedDigest(body: Buffer, fields: Fields): string {
  const parts: Buffer[] = []
  for (const field of fields.values()) if (!FIELDS_OUTSIDE_WINDOW.has(field.name)) parts.push(body.subarray(field.keyStart, field.end))
  return hash('sha256', Buffer.concat(parts), 'hex').slice(0, 32)
}

/** A field of the type that `is` says; null when it is absent or null. */
function optional<T extends Json>(fields: Fields, name: string, must: string, is: (value: Json | undefined) => value is T): T | null {
  const field = fields.get(name)
  if (field === undefined || field.json === null) return null
  if (!is(field.json)) throw new InvalidField(name, must)
  return field.json
}

/** A carrier of identity or tier: anything but a string is left for the provider to judge. */
function text(fields: Fields, name: string): string | null {
  const value = fields.get(name)?.json
  return typeof value === 'string' ? value : null
}

function isBoolean(value: Json | undefined): value is boolean {
  return typeof value === 'boolean'
}
function isJsonObject(value: Json | undefined): value is JsonObject {
  return isObject(value)
}
function isJsonList(value: Json | undefined): value is readonly Json[] {
  return isList(value)
}
function isWhole(value: Json | undefined, most: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= most
}

/** Every limit that will be sent is the one asked for, or at most the client's own: no provider reads a larger one. */
function spliceOutputLimit(splice: Splice, request: ModelRequest, change: RequestChange): void {
  const names: readonly string[] = ['max_completion_tokens', 'max_tokens']
  const written = names.filter((name) => Number(splice.text(name) ?? 0) > 0) // null counts as absent
  const asked = change.outputLimit
  if (asked === undefined) {
    const own = request.outputLimit
    if (own === null) return
    for (const name of written) if (Number(splice.text(name)) > own.tokens) splice.set(name, String(own.tokens))
    const left = names.find((name) => splice.has(name)) // null, where the field that held the limit gave way to it
    if (written.length === 0 && left !== undefined) splice.set(left, String(own.tokens))
    return
  }
  const field = limitField(change, asked.field)
  const [other] = written
  if (other !== undefined && !written.includes(field)) {
    splice.drop(field) // which is null
    splice.rename(other, field)
  }
  splice.set(field, String(asked.tokens))
  if (written.length === names.length) for (const name of written) splice.set(name, String(asked.tokens))
}

/** Where the limit goes: to the other field when the model refuses this one. */
function limitField(change: RequestChange, field: string): string {
  const other = field === 'max_tokens' ? 'max_completion_tokens' : 'max_tokens'
  return change.rename?.[field] === other || change.drop?.includes(field) === true ? other : field
}

function withUsageAsked(body: Buffer): string {
  const field = layoutOf(body).fields.find(({ name }) => name === 'stream_options')
  const own: Json = field === undefined ? null : JSON.parse(body.toString('utf8', field.start, field.end))
  return JSON.stringify({ ...(isObject(own) ? own : {}), include_usage: true })
}

function areSame(some: readonly Message[], others: readonly Message[]): boolean {
  if (some === others) return true
  return some.length === others.length && some.every((message, index) => message.bytes === others[index]?.bytes)
}

function joined(messages: readonly Message[]): Buffer {
  const parts: Uint8Array[] = []
  for (const message of messages) parts.push(parts.length === 0 ? OPEN : COMMA, message.bytes)
  return Buffer.concat([...parts, CLOSE])
}
const OPEN = Buffer.from('[')
const COMMA = Buffer.from(',')
const CLOSE = Buffer.from(']')

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function layoutOf(body: Buffer): Layout {
  const known = LAYOUTS.get(body)
  if (known !== undefined) return known
  const work = scanObject(body, SPLIT_FIELDS) // a copy of a body that was read before, or one of our own making
  for (;;) {
    const step = work.next()
    if (step.done !== true) continue
    if (step.value.status === 'invalid') throw new TypeError(`a request that was read must render: ${step.value.message}`)
    return step.value
  }
}
