/**
 * Requests to OpenAI's Responses API: bytes -> `ModelRequest`, and changes of it back into bytes. A change splices fields into the
 * client's own bytes; whatever it does not name goes out exactly as it came.
 * https://developers.openai.com/api/reference/resources/responses/methods/create
 */
import { digestOf } from '../core/digest.ts'
import { bytesOf, isList, isObject } from '../core/message.ts'
import { COMPACTION, NO_HOSTED_TOOLS } from '../core/request.ts'
import type { HostedTools, Json, JsonObject, Message, ModelRequest, RequestChange } from '../core/request.ts'
import type { Field, Scan } from './json-scan.ts'
import { textsOf } from './json-values.ts'
import {
  asksForLongCache,
  byName,
  changedFields,
  changedMessages,
  checkedModel,
  fixedDigest,
  InvalidField,
  isBoolean,
  isGiven,
  isWhole,
  listOf,
  namesOf,
  optional,
  orRefused,
  OUTPUT_LIMIT_MAX,
  readScan,
  refusesTools,
  scanBody,
  spliceMember,
  textIn,
  toolsIn,
  UngovernedUse,
} from './request-reading.ts'
import type { Fields } from './request-reading.ts'
import { isOnlyNamed, isReference, keptName, ownItem, readItems, textItem } from './responses-item.ts'
import { isSyntheticItem, realResponse } from './responses-synthetic.ts'
import { isRunByProvider, toolObjects, unseenLater } from './responses-tools.ts'
import { routerUse } from './router-use.ts'
import { Splice } from './splice.ts'
import { isHostedShell, isWebSearch } from './tool-names.ts'
import type { FreeBody, ParsedRequest } from './wire.ts'

export const OUTPUT_FIELD = 'max_output_tokens'
/** The provider takes no smaller bound of the output. */
export const OUTPUT_TOKENS_MIN = 16
/** The most output of a compaction, which no field bounds; what it makes is a fraction of what it reads, and some thinking. */
const COMPACTED_TOKENS_MAX = 16_384
const COMPACTED_THINKING_TOKENS = 1_024
const TOOL_CALLS_MAX = 1_000_000

/** Reads what the turn needs, and refuses what it cannot be sure of; the provider judges the rest. `provider`: who that is; empty: anybody. */
export async function parseResponsesRequest(
  body: Buffer,
  wire: 'responses' | 'compact' = 'responses',
  provider = '',
): Promise<ParsedRequest> {
  const scan = await scanBody(body, SPLIT_FIELDS)
  if (scan.status === 'invalid') return scan
  const fields = byName(scan.fields)
  const known = withoutOwn(body, scan)
  if (known !== body) return parseResponsesRequest(known, wire, provider)
  return readScan(body, scan, () => {
    const what = ungoverned(fields, wire, provider)
    if (what !== null) throw new UngovernedUse(what)
    const { request, hosting } = modelRequest(body, wire, provider, fields)
    HOSTING.set(body, hosting)
    return request
  })
}

/** What the provider is asked to count for nothing: the same bytes, but that it knows all that they name. */
export async function readCounted(body: Buffer): Promise<FreeBody> {
  const scan = await scanBody(body, SPLIT_FIELDS)
  return { status: 'ok', body: scan.status === 'ok' ? withoutOwn(body, scan) : body }
}

/** Items that the provider keeps in a conversation of its own, for nothing: no call that has them in its history shows them. */
export async function readKeptItems(body: Buffer): Promise<FreeBody> {
  if (body.length === 0) return { status: 'ok', body }
  const scan = await scanBody(body, KEPT_FIELDS)
  if (scan.status === 'invalid') return scan
  return orRefused(() => {
    const items = byName(scan.fields).get('items')
    if (items !== undefined && items.elements === null && items.json !== null) throw new InvalidField('items', 'must be a list')
    const what = unseenLater(items)
    if (what !== null) throw new UngovernedUse(what)
    return { body }
  })
}
const KEPT_FIELDS: ReadonlySet<string> = new Set(['items'])

/**
 * The request without names of what we made, which nobody else knows: what an answer of ours went on from takes its place, and nothing stands
 * for an item of it. The same buffer where it has none.
 */
function withoutOwn(body: Buffer, scan: Extract<Scan, { status: 'ok' }>): Buffer {
  const real = realResponse(scan.fields.find(({ name }) => name === PREVIOUS)?.json)
  const items = scan.fields.find(({ name }) => name === 'input')?.elements ?? []
  const known = items.filter(({ json }) => !isSyntheticReference(json))
  if (real === null && known.length === items.length) return body
  const splice = new Splice(body, scan)
  if (real?.id === null) splice.drop(PREVIOUS)
  else if (real !== null) splice.set(PREVIOUS, JSON.stringify(real.id))
  if (known.length < items.length) splice.set('input', listOf(known.map(({ start, end }) => ({ bytes: body.subarray(start, end) }))))
  return splice.bytes()
}

function isSyntheticReference(item: Json): boolean {
  return isReference(item) && isSyntheticItem(keptName(item) ?? '')
}

/** The request with `change` made to it: the same buffer when nothing changes. */
export function renderResponsesRequest(request: ModelRequest, change: RequestChange): Buffer {
  const splice = changedFields(request, change, SPLIT_FIELDS)
  // A session that begins anew leaves the history where it is.
  if (request.earlier === null && splice.has(PREVIOUS)) splice.drop(PREVIOUS)
  if (change.outputLimit !== undefined && request.wire === 'responses')
    splice.set(OUTPUT_FIELD, String(Math.max(OUTPUT_TOKENS_MIN, change.outputLimit.tokens)))
  if (change.effort !== undefined) spliceMember(splice, 'reasoning', 'effort', change.effort)
  const hosting = HOSTING.get(request.body)
  if (change.hostedCalls !== undefined && hosting?.runsTools === true) {
    const calls = Math.max(1, change.hostedCalls - (request.hosted.compacts === true ? 1 : 0))
    splice.set(MAX_CALLS, String(Math.min(hosting.ownCalls ?? calls, calls)))
  }
  if (refusesTools(request, change)) splice.set('tool_choice', '"none"')
  const messages = changedMessages(request, change)
  if (messages !== null) splice.set('input', listOf(messages))
  return splice.bytes()
}

/** What the provider is asked to count: the fields of the request that fill the window, as it takes them there. */
export function countedBody(request: ModelRequest, change: RequestChange = {}): Buffer {
  return renderResponsesRequest(request, { ...change, drop: [...request.fields].filter((name) => !COUNTED_FIELDS.has(name)) })
}

const PREVIOUS = 'previous_response_id'
const MAX_CALLS = 'max_tool_calls'
const SPLIT_FIELDS: ReadonlySet<string> = new Set(['input', 'tools'])

interface Hosting {
  /** Tools that the provider runs may be called. */
  readonly runsTools: boolean
  /** `max_tool_calls` as the client has it. */
  readonly ownCalls: number | null
}
/** What of a body is no part of a request; kept by the body, so that a request may be copied freely. */
const HOSTING = new WeakMap<Uint8Array, Hosting>()

/** Fields that change nothing of what fills the window; all others, the unknown ones too, are part of `fixedDigest`. */
const FIELDS_OUTSIDE_WINDOW: ReadonlySet<string> = new Set([
  'input',
  'model',
  'stream',
  'stream_options',
  'background',
  OUTPUT_FIELD,
  MAX_CALLS,
  'store',
  'include',
  'user',
  'metadata',
  'temperature',
  'top_p',
  'top_logprobs',
  'truncation',
  'safety_identifier',
  'prompt_cache_key',
  'prompt_cache_options',
  'prompt_cache_retention',
  'service_tier',
])
/** Beside `reasoning`, which may ask for the thoughts of all turns, what decides how much of a history that is kept is read. */
const READING_FIELDS = ['image', 'truncation'] as const
/** Members of `reasoning` that change nothing of what is read. */
const THINKING: ReadonlySet<string> = new Set(['effort', 'summary', 'generate_summary'])
/** https://developers.openai.com/api/reference/resources/responses/subresources/input_tokens */
const COUNTED_FIELDS: ReadonlySet<string> = new Set([
  'conversation',
  'input',
  'instructions',
  'model',
  'parallel_tool_calls',
  PREVIOUS,
  'reasoning',
  'text',
  'tool_choice',
  'tools',
  'truncation',
])
/** The smallest container, which the known fee is for. */
const CONTAINER_MEMORY = '1g'

/** What the request asks for that cannot be metered as it happens; null: nothing. */
function ungoverned(fields: Fields, wire: 'responses' | 'compact', provider: string): string | null {
  if (fields.get('background')?.json === true) return 'A response in the background'
  // https://developers.openai.com/api/docs/guides/responses-multi-agent: each reads a context of its own, and there may be any number.
  const agents = fields.get('multi_agent')?.json ?? null
  if (agents !== null && !(isObject(agents) && agents['enabled'] === false))
    return 'A response by several agents, which make as many more as they like,'
  if (isGiven(fields, 'prompt')) return 'A prompt template, whose text and tools only the provider has,'
  for (const tool of toolObjects(fields)) {
    if (tool['type'] === 'image_generation') return 'The tool "image_generation" of a response'
    if (isHostedShell(tool)) return 'The tool "shell" in a container of the provider'
    const { container } = tool
    if (isObject(container) && (container['memory_limit'] ?? CONTAINER_MEMORY) !== CONTAINER_MEMORY)
      return 'The tool "code_interpreter" in a container larger than the usual'
  }
  const unseen = wire === 'responses' && isKept(fields) ? unseenLater(fields.get('input'), toolsIn(fields)) : null
  if (unseen !== null) return unseen
  return routerUse((name) => fields.get(name)?.json, toolObjects(fields), provider)
}

/** Whether the provider keeps the input for later calls. A conversation of its own has all of it, whatever is said of the response. */
function isKept(fields: Fields): boolean {
  return fields.get('store')?.json !== false || isGiven(fields, 'conversation')
}

function modelRequest(
  body: Buffer,
  wire: 'responses' | 'compact',
  provider: string,
  fields: Fields,
): { readonly request: ModelRequest; readonly hosting: Hosting } {
  const model = checkedModel(fields.get('model')?.json)
  const input = readInput(body, fields.get('input'))
  const stream = optional(fields, 'stream', 'must be true or false', isBoolean) ?? false
  const earlier = earlierOf(fields)
  const toolChoice = fields.get('tool_choice')?.json
  // Tools may stand in the history that the provider keeps: who says how they are chosen has some.
  const hasTools = toolObjects(fields).length > 0 || (earlier !== null && isGiven(fields, 'tool_choice'))
  const limit = optional(fields, OUTPUT_FIELD, 'must be a positive integer', (value) => isWhole(value, OUTPUT_LIMIT_MAX))
  const toolsRefused = hasTools && toolChoice === 'none'
  const hosting = hostingOf(fields, toolsRefused)
  const reasoning = fields.get('reasoning')?.json
  const effort = isObject(reasoning) ? reasoning['effort'] : null
  const onlyNamed = input.onlyNamed || toolObjects(fields).some((tool) => tool['type'] === 'mcp')
  return {
    hosting,
    request: {
      wire,
      body,
      model,
      stream: wire === 'responses' && stream,
      includeUsage: true,
      choices: 1,
      outputLimit: limit === null || wire === 'compact' ? null : { field: OUTPUT_FIELD, tokens: limit },
      outputField: OUTPUT_FIELD,
      ...(wire === 'responses'
        ? { generates: true, units: {}, outputFloor: OUTPUT_TOKENS_MIN }
        : { generates: false, units: { output: compactedTokens(earlier === null && !onlyNamed ? body.length : null) } }),
      earlier,
      keptNames: input.keptNames,
      keptReading: keptReading(fields),
      // What only the provider can read to its end: it must be asked how long it is.
      onlyNamed,
      messages: input.messages,
      tools: !hasTools ? 'none' : isForced(toolChoice) ? 'forced' : 'offered',
      toolsRefused,
      structured: isStructured(fields),
      ...(typeof effort === 'string' ? { effort } : {}),
      cacheWrites: asksForLongCache(body, fields) ? 'long' : 'short',
      serviceTier: textIn(fields, 'service_tier'),
      metadata: textsOf(fields.get('metadata')?.json),
      promptCacheKey: textIn(fields, 'prompt_cache_key'),
      safetyIdentifier: textIn(fields, 'safety_identifier'),
      user: textIn(fields, 'user'),
      fixedBytes: Math.max(0, body.length - input.bytes),
      fixedDigest: fixedDigest(body, fields, FIELDS_OUTSIDE_WINDOW),
      fields: new Set(namesOf(fields)),
      hosted: hostedTools(fields, hosting, provider),
      own: ownItem,
    },
  }
}

function keptReading(fields: Fields): string {
  const reasoning = fields.get('reasoning')?.json
  const said = [
    ...(isObject(reasoning) ? Object.entries(reasoning).filter(([name]) => !THINKING.has(name)) : []),
    ...READING_FIELDS.flatMap((name) => (isGiven(fields, name) ? [[name, fields.get(name)?.json]] : [])),
  ]
  return said.length === 0 ? '' : digestOf(JSON.stringify(said))
}

interface Input {
  readonly messages: readonly Message[]
  /** What they take of the body. */
  readonly bytes: number
  readonly onlyNamed: boolean
  readonly keptNames: readonly string[]
}

function readInput(body: Buffer, field: Field | undefined): Input {
  if (field === undefined || field.json === null) return { messages: [], bytes: 0, onlyNamed: false, keptNames: [] }
  const bytes = field.end - field.start
  if (typeof field.json === 'string')
    return { messages: [textItem(field.json, body.subarray(field.start, field.end))], bytes, onlyNamed: false, keptNames: [] }
  if (field.elements === null) throw new InvalidField('input', 'must be a string or a list')
  const read = readItems(field.elements, body)
  if (read.status === 'invalid') throw new InvalidField(`input[${read.index}]`, 'must be an item with a known "role", or a "type"')
  return {
    messages: read.messages,
    bytes: bytesOf(read.messages),
    onlyNamed: field.elements.some(({ json }) => isOnlyNamed(json)),
    keptNames: field.elements.flatMap(({ json }) => keptName(json) ?? []),
  }
}

function earlierOf(fields: Fields): ModelRequest['earlier'] {
  const previous = textIn(fields, PREVIOUS)
  if (previous !== null && previous !== '') return { kind: 'response', id: previous }
  const conversation = fields.get('conversation')?.json
  const id = isObject(conversation) ? conversation['id'] : conversation
  return typeof id === 'string' && id !== '' ? { kind: 'conversation', id } : null
}

function hostingOf(fields: Fields, toolsRefused: boolean): Hosting {
  return {
    runsTools: !toolsRefused && toolObjects(fields).some(isRunByProvider),
    ownCalls: optional(fields, MAX_CALLS, 'must be a positive integer', (value) => isWhole(value, TOOL_CALLS_MAX)),
  }
}

/** `bytes`: of all that it reads; null where the provider has more. What it makes is no longer than that. */
function compactedTokens(bytes: number | null): number {
  return Math.min(COMPACTED_TOKENS_MAX, COMPACTED_THINKING_TOKENS + (bytes ?? COMPACTED_TOKENS_MAX))
}

/** A compaction reads the window once more, as a call of a tool does. */
function hostedTools(fields: Fields, { runsTools, ownCalls }: Hosting, provider: string): HostedTools {
  const management = fields.get('context_management')?.json
  const compacts = isList(management) && management.length > 0
  if (!runsTools) return compacts ? COMPACTION : NO_HOSTED_TOOLS
  const tools = new Set<HostedTools['tools'][number]>()
  for (const { type } of toolObjects(fields)) {
    if (typeof type !== 'string') continue
    if (isWebSearch(type) || type === 'x_search') tools.add('webSearch')
    else if (FILE_SEARCHES.has(type)) tools.add('fileSearch')
    // xAI bills each run of code, at the fee of a search; others the container, however much runs in it.
    else if (RUNNING_CODE.has(type)) tools.add(provider === 'x-ai' ? 'webSearch' : 'codeContainer')
  }
  const inAttachments = toolObjects(fields).some(({ type }) => type === 'attachment_search')
  const calls = { tools: [...tools, ...(inAttachments ? ATTACHMENT_SEARCH : [])], rereads: true }
  return compacts ? { ...calls, compacts, maxCalls: ownCalls === null ? null : ownCalls + 1 } : { ...calls, maxCalls: ownCalls }
}

/** OpenAI's names, and xAI's: https://docs.x.ai/developers/pricing */
const FILE_SEARCHES: ReadonlySet<string> = new Set(['file_search', 'collections_search'])
const RUNNING_CODE: ReadonlySet<string> = new Set(['code_interpreter', 'code_execution'])
/** What xAI bills a search in attachments like. */
const ATTACHMENT_SEARCH = ['webSearch', 'webSearch'] as const

function isForced(choice: Json | undefined): boolean {
  if (choice === 'required') return true
  if (!isObject(choice)) return false
  return choice['type'] !== 'allowed_tools' || choice['mode'] === 'required'
}

/** By its own word, or by the last item that sets the format for what comes after it. */
function isStructured(fields: Fields): boolean {
  const updates = (fields.get('input')?.elements ?? []).flatMap(({ json }) =>
    isObject(json) && json['type'] === 'configuration_update' ? (formatIn(json['text']) ?? []) : [],
  )
  return [formatIn(fields.get('text')?.json), updates.at(-1)].some((format) => isObject(format) && format['type'] !== 'text')
}

function formatIn(text: Json | undefined): JsonObject | null {
  const format = isObject(text) ? text['format'] : null
  return isObject(format) ? format : null
}
