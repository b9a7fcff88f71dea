/**
 * Anthropic Messages requests: bytes -> `ModelRequest`, and changes of it back into bytes. https://platform.claude.com/docs/en/api/messages
 * A change splices fields into the client's own bytes; whatever it does not name goes out exactly as it came.
 */
import { hash } from 'node:crypto'
import { servedAs } from '@farebox/crds/prices.ts'
import { canonicalJson } from '../core/digest.ts'
import { isObject } from '../core/message.ts'
import type { HostedTools, Json, Message, ModelRequest, RequestChange } from '../core/request.ts'
import { NO_HOSTED_TOOLS } from '../core/request.ts'
import { addAnthropicNotice, readAnthropicAnswer, syntheticAnthropic } from './anthropic-answer.ts'
import { cacheMarkOf, longer, ownAnthropicMessage, readAnthropicMessage } from './anthropic-message.ts'
import type { AnthropicMessage, CacheMark } from './anthropic-message.ts'
import { AnthropicStream } from './anthropic-stream.ts'
import { briefThinking, isUnthoughtLoop, thinkingFor, withBoundThinking } from './anthropic-thinking.ts'
import { elementRanges, scanObject } from './json-scan.ts'
import type { Field } from './json-scan.ts'
import { MODEL_LENGTH_MAX, OUTPUT_LIMIT_MAX } from './openai-chat.ts'
import { Pacer } from './pacer.ts'
import { Splice } from './splice.ts'
import type { Layout } from './splice.ts'
import type { ParsedRequest, Wire } from './wire.ts'

/** Bodies from this size on wait for their turn before they are read at all. */
const LARGE_BODY_BYTES = 256 * 1024

export const messagesWire: Wire = {
  name: 'messages',
  asksForUsage: false,
  parse: (body) => parseMessagesRequest(body),
  render: renderMessagesRequest,
  path: ({ path }) => path,
  readAnswer: (body) => readAnthropicAnswer(body),
  addNotice: addAnthropicNotice,
  openStream: (options) => new AnthropicStream(options),
  synthetic: ({ stream, model }, { text, id }) => syntheticAnthropic({ stream, model, text, id: `msg_farebox_${id}` }),
  objection(status, body) {
    if (status === 400 && OF_EDITS.test(body)) return 'edits'
    return status === 400 || status === 404 ? 'swap' : null
  },
  prompt({ model, system, user, maxTokens }) {
    const messages = [{ role: 'user', content: user }]
    return {
      path: '/messages',
      body: Buffer.from(JSON.stringify({ model, max_tokens: maxTokens, system, messages, ...briefThinking(model) })),
    }
  },
}

/** Reads what the turn needs, and refuses what it cannot be sure of; the provider judges the rest. */
export async function parseMessagesRequest(body: Buffer, pacer: Pacer = SHARED_PACER): Promise<ParsedRequest> {
  if (body.length >= LARGE_BODY_BYTES) await pacer.turn()
  const scan = await pacer.run(scanObject(body, SPLIT_FIELDS))
  if (scan.status === 'invalid') return scan
  const fields: Fields = new Map(scan.fields.map((field) => [field.name, field]))
  try {
    const unmetered = unmeteredUse(fields)
    if (unmetered !== null) return { status: 'ungoverned', what: unmetered }
    const request = messagesRequest(body, fields)
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
export function renderMessagesRequest(request: ModelRequest, change: RequestChange): Buffer {
  const body = asBuffer(request.body)
  const splice = new Splice(body, layoutOf(body))
  for (const name of change.drop ?? []) splice.drop(name)
  for (const [from, to] of Object.entries(change.rename ?? {})) splice.rename(from, to)
  const model = change.model === undefined || change.model === request.model ? null : change.model
  if (model !== null) splice.set('model', JSON.stringify(model))
  const maxTokens = change.outputLimit?.tokens ?? null
  if (maxTokens !== null) splice.set('max_tokens', String(maxTokens))
  const unthought = isUnthoughtLoop(change.messages ?? request.messages)
  const thinking = splice.text('thinking')
  if (thinking !== null && (model !== null || maxTokens !== null || unthought)) {
    const fitting = thinkingFor(thinking, { model, maxTokens, unthought })
    if (fitting === null) splice.drop('thinking')
    else splice.set('thinking', fitting)
  }
  // Tools stay: all that was thought is bound to them. `tool_choice` is not.
  if (change.toolChoice === 'none' && !request.toolsRefused && request.tools !== 'none') splice.set('tool_choice', '{"type":"none"}')
  if (change.hostedCalls !== undefined) spliceMaxUses(splice, change.hostedCalls)
  if (change.messages !== undefined && !areSame(change.messages, request.messages))
    splice.set('messages', joined(withBoundThinking(request.messages, change.messages)))
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
  'max_tokens',
  'stream',
  'stop_sequences',
  'temperature',
  'top_p',
  'top_k',
  'metadata',
  'service_tier',
  'inference_geo',
  'speed',
  'diagnostics',
  'cache_control',
])
/** Bytes that stand for prompts which the provider puts in unseen: what tells a model how to use tools, and each of its own tools. */
const TOOL_PROMPT_BYTES = 1_024
const OWN_TOOL_PROMPT_BYTES = 4_096
/** And for answers that must fit a schema. */
const SCHEMA_PROMPT_BYTES = 1_024
/** Tools that the provider runs, by how their type begins. The fee of a search stands for that of all that look things up. */
const HOSTED: readonly (readonly [prefix: string, kind: HostedTools['tools'][number]])[] = [
  ['web_search_', 'webSearch'],
  ['web_fetch_', 'webSearch'],
  ['code_execution_', 'codeContainer'],
  ['tool_search_tool_', 'fileSearch'],
]
/** Of those, the ones whose calls a request can bound. */
const BOUNDED_BY_MAX_USES = /^web_(?:search|fetch)_/
/** What the provider says of a history that was changed under what a model had thought. */
const OF_EDITS = /bound to a different conversation|`(?:redacted_)?thinking` block|must start with a thinking block|`?signature`? in/

class InvalidField extends Error {
  readonly field: string
  constructor(field: string, message: string) {
    super(`"${field}" ${message}`)
    this.field = field
  }
}

type Fields = ReadonlyMap<string, Field>

function messagesRequest(body: Buffer, fields: Fields): ModelRequest {
  const model = fields.get('model')?.json
  if (typeof model !== 'string' || model.length === 0 || model.length > MODEL_LENGTH_MAX)
    throw new InvalidField('model', `must be a string of 1 to ${MODEL_LENGTH_MAX} characters`)
  const messages = readMessages(body, fields.get('messages'))
  const maxTokens = fields.get('max_tokens')?.json
  if (typeof maxTokens !== 'number' || !Number.isInteger(maxTokens) || maxTokens < 0 || maxTokens > OUTPUT_LIMIT_MAX)
    throw new InvalidField('max_tokens', `must be an integer from 0 to ${OUTPUT_LIMIT_MAX}`)
  const stream = fields.get('stream')?.json ?? false
  if (typeof stream !== 'boolean') throw new InvalidField('stream', 'must be true or false')
  const tools = toolsOf(fields)
  const toolChoice = fields.get('tool_choice')?.json
  const choice = isObject(toolChoice) ? toolChoice['type'] : null
  const structured = schemaOf(fields) !== null
  let messageBytes = 0
  let cacheMark: CacheMark = longer(cacheMarkOf({ [CACHE_MARK]: fields.get(CACHE_MARK)?.json ?? null }), cacheMarkOf(tools))
  cacheMark = longer(cacheMark, cacheMarkOf(fields.get('system')?.json))
  for (const message of messages) {
    messageBytes += message.bytes.length
    cacheMark = longer(cacheMark, message.cacheMark)
  }
  const user = userOf(fields)
  return {
    wire: 'messages',
    body,
    model,
    stream,
    includeUsage: true,
    choices: 1,
    outputLimit: { field: 'max_tokens', tokens: maxTokens },
    outputField: 'max_tokens',
    generates: true,
    units: {},
    earlier: null,
    messages,
    tools: tools.length === 0 ? 'none' : choice === 'any' || choice === 'tool' ? 'forced' : 'offered',
    toolsRefused: tools.length > 0 && choice === 'none',
    structured,
    serviceTier: askedToServe(fields),
    metadata: user === null ? {} : { user_id: user },
    promptCacheKey: null,
    safetyIdentifier: null,
    user,
    fixedBytes: body.length - messageBytes + unseenBytes(tools, structured),
    fixedDigest: fixedDigest(body, fields),
    fields: new Set(fields.keys()),
    hosted: hostedTools(tools),
    cacheWrites: cacheMark,
    own: ownAnthropicMessage,
  }
}

/** A use that cannot be metered as it happens: history or tools of which only the provider knows. */
function unmeteredUse(fields: Fields): string | null {
  const isGiven = (name: string): boolean => (fields.get(name)?.json ?? null) !== null
  if (isGiven('thread')) return 'A thread, whose history is kept by the provider,'
  if (isGiven('mcp_servers')) return 'A request with MCP servers, which the provider calls as often as it likes,'
  if (toolsOf(fields).some((tool) => typeOf(tool).startsWith('advisor_'))) return 'A request with an advisor, which is another model,'
  return null
}

function readMessages(body: Buffer, field: Field | undefined): readonly AnthropicMessage[] {
  const elements = field?.elements ?? []
  if (elements.length === 0) throw new InvalidField('messages', 'must be a list with at least one message')
  return elements.map((element, index) => {
    const message = readAnthropicMessage(element.json, body.subarray(element.start, element.end))
    if (message === null) throw new InvalidField(`messages[${index}]`, 'must be an object with a known "role"')
    return message
  })
}

function toolsOf(fields: Fields): readonly Json[] {
  const tools = fields.get('tools')
  if (tools !== undefined && tools.elements === null && tools.json !== null) throw new InvalidField('tools', 'must be a list')
  return tools?.elements?.map((element) => element.json) ?? []
}

/** The schema that the answer must fit; null for none. Beta requests have it at the top. */
function schemaOf(fields: Fields): Json {
  const config = fields.get('output_config')?.json
  return (isObject(config) ? config['format'] : null) ?? fields.get('output_format')?.json ?? null
}

/** How the client asks to be served, of what changes the price. */
function askedToServe(fields: Fields): string | null {
  const words = ['speed', 'inference_geo'].map((name) => fields.get(name)?.json)
  return servedAs(words.filter((word) => typeof word === 'string'))
}

function userOf(fields: Fields): string | null {
  const metadata = fields.get('metadata')?.json
  const user = isObject(metadata) ? metadata['user_id'] : null
  return typeof user === 'string' ? user : null
}

function unseenBytes(tools: readonly Json[], structured: boolean): number {
  const own = tools.filter((tool) => !isOfClient(typeOf(tool))).length
  return (tools.length > 0 ? TOOL_PROMPT_BYTES : 0) + own * OWN_TOOL_PROMPT_BYTES + (structured ? SCHEMA_PROMPT_BYTES : 0)
}

function typeOf(tool: Json): string {
  const type = isObject(tool) ? tool['type'] : null
  return typeof type === 'string' ? type : ''
}

function isOfClient(type: string): boolean {
  return type === '' || type === 'custom'
}

function hostedTools(tools: readonly Json[]): HostedTools {
  const kinds = new Set<HostedTools['tools'][number]>()
  let maxCalls: number | null = 0
  for (const tool of tools) {
    const kind = HOSTED.find(([prefix]) => typeOf(tool).startsWith(prefix))?.[1]
    if (kind === undefined) continue
    kinds.add(kind)
    const maxUses = maxUsesOf(tool)
    maxCalls = maxCalls === null || maxUses === null ? null : maxCalls + maxUses
  }
  return kinds.size === 0 ? NO_HOSTED_TOOLS : { tools: [...kinds], maxCalls, rereads: true }
}

function maxUsesOf(tool: Json): number | null {
  const uses = isObject(tool) ? tool['max_uses'] : null
  return typeof uses === 'number' && Number.isInteger(uses) && uses >= 0 ? uses : null
}

/** Over what fills the window beside the messages. Cache marks, which apps move about, are no part of it. */
function fixedDigest(body: Buffer, fields: Fields): string {
  const parts: Buffer[] = []
  for (const field of fields.values()) {
    if (FIELDS_OUTSIDE_WINDOW.has(field.name)) continue
    const isMarkable = (field.name === 'system' || field.name === 'tools') && field.end - field.start <= MARKABLE_BYTES_MAX
    const json = isMarkable ? (field.json ?? field.elements?.map((element) => element.json) ?? null) : null
    parts.push(isMarkable ? Buffer.from(canonicalJson({ [field.name]: json })) : body.subarray(field.keyStart, field.end))
  }
  return hash('sha256', Buffer.concat(parts), 'hex').slice(0, 32)
}

const CACHE_MARK = 'cache_control'
/** Longer instructions are known by their very bytes: to write them once more takes time that other turns need. */
const MARKABLE_BYTES_MAX = 1024 * 1024

/** Shares `calls` out among the hosted tools; a smaller bound of the client's own stays. Every other tool keeps its bytes. */
function spliceMaxUses(splice: Splice, calls: number): void {
  const written = splice.text('tools')
  if (written === null) return
  const bytes = Buffer.from(written)
  const ranges = elementRanges(bytes, { start: 0, end: bytes.length })
  const tools = ranges.map((range): Json => JSON.parse(bytes.toString('utf8', range.start, range.end)))
  const bounded = tools.filter((tool) => BOUNDED_BY_MAX_USES.test(typeOf(tool)))
  const share = Math.max(1, Math.floor(calls / Math.max(1, bounded.length)))
  const out: Buffer[] = []
  let copied = 0
  for (const [index, range] of ranges.entries()) {
    const tool = tools[index]
    if (!isObject(tool) || !BOUNDED_BY_MAX_USES.test(typeOf(tool)) || (maxUsesOf(tool) ?? Infinity) <= share) continue
    out.push(bytes.subarray(copied, range.start), Buffer.from(JSON.stringify({ ...tool, max_uses: share })))
    copied = range.end
  }
  if (out.length > 0) splice.set('tools', Buffer.concat([...out, bytes.subarray(copied)]))
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
