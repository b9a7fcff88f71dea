/**
 * Anthropic Messages requests: bytes -> `ModelRequest`, and changes of it back into bytes. https://platform.claude.com/docs/en/api/messages
 * A change splices fields into the client's own bytes; whatever it does not name goes out exactly as it came.
 */
import { servedAs } from '@farebox/crds/prices.ts'
import { canonicalJson, digestOf } from '../core/digest.ts'
import { bytesOf, isList, isObject } from '../core/message.ts'
import type { HostedTools, Json, ModelRequest, RequestChange } from '../core/request.ts'
import { FIXED_TOKENS_PER_BYTE } from '../core/estimate.ts'
import { COMPACTION, HOSTED_CALLS_MAX, NO_HOSTED_TOOLS } from '../core/request.ts'
import { UNDECIDED } from '../core/service-tier.ts'
import { addAnthropicNotice, readAnthropicAnswer, syntheticAnthropic } from './anthropic-answer.ts'
import { withPlacedInstructions } from './anthropic-instructions.ts'
import { cacheMarkOf, longer, ownAnthropicMessage, readAnthropicMessage } from './anthropic-message.ts'
import type { CacheMark } from './anthropic-message.ts'
import { AnthropicStream } from './anthropic-stream.ts'
import { briefThinking, isUnthoughtLoop, thinkingFor, withBoundThinking, withoutAllThinking } from './anthropic-thinking.ts'
import type { ThinkingChange } from './anthropic-thinking.ts'
import { elementRanges } from './json-scan.ts'
import { countIn, textOrNull } from './json-values.ts'
import {
  byName,
  changedFields,
  changedMessages,
  checkedModel,
  InvalidField,
  isBoolean,
  isGiven,
  listOf,
  messagesIn,
  namesOf,
  optional,
  OUTPUT_LIMIT_MAX,
  parseBody,
  refusesTools,
  spliceMember,
  toolsIn,
  UngovernedUse,
} from './request-reading.ts'
import type { Fields } from './request-reading.ts'
import { routerUse } from './router-use.ts'
import type { Splice } from './splice.ts'
import type { ParsedRequest, Wire } from './wire.ts'

export const messagesWire: Wire = {
  name: 'messages',
  asksForUsage: false,
  parse: (body) => parseMessagesRequest(body),
  render: renderMessagesRequest,
  path: ({ path }) => path,
  readAnswer: (body, { cacheWrites }) => readAnthropicAnswer(body, cacheWrites),
  addNotice: addAnthropicNotice,
  openStream: (options) => new AnthropicStream({ ...options, cacheWrites: options.request.cacheWrites }),
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
  // https://platform.claude.com/docs/en/api/messages-count-tokens
  counts: {
    ask: (request, { path }, change = {}) => ({
      path: path.replace(/\/messages(?=\?|$)/, '/messages/count_tokens'),
      body: renderMessagesRequest(request, { ...change, drop: [...request.fields].filter((name) => !COUNTED_FIELDS.has(name)) }),
    }),
    read: (body) => countIn(body, 'input_tokens'),
    isUnknown: () => false,
  },
}

/** Fields that the provider's count takes. */
// oxfmt-ignore
const COUNTED_FIELDS: ReadonlySet<string> = new Set([
  'messages', 'model', 'system', 'tools', 'tool_choice', 'thinking', 'cache_control', 'output_config', 'output_format', 'context_management',
])

/** Reads what the turn needs, and refuses what it cannot be sure of; the provider judges the rest. */
export function parseMessagesRequest(body: Buffer): Promise<ParsedRequest> {
  return parseBody(body, SPLIT_FIELDS, (fields) => messagesRequest(body, byName(fields)))
}

/** The request with `change` made to it: the same buffer when nothing changes. */
export function renderMessagesRequest(request: ModelRequest, change: RequestChange): Buffer {
  const splice = changedFields(request, change, SPLIT_FIELDS)
  const model = change.model === undefined || change.model === request.model ? null : change.model
  if (change.effort !== undefined) spliceMember(splice, 'output_config', 'effort', change.effort)
  const maxTokens = change.outputLimit?.tokens ?? null
  if (maxTokens !== null) splice.set('max_tokens', String(maxTokens))
  // Tools stay: all that was thought is bound to them. `tool_choice` is not.
  if (refusesTools(request, change)) splice.set('tool_choice', '{"type":"none"}')
  if (change.hostedCalls !== undefined) spliceBounds(splice, change.hostedCalls - (request.hosted.compacts === true ? 1 : 0))
  const changed = changedMessages(request, change)
  const bound = changed === null ? null : withBoundThinking(request.messages, changed)
  const thought = change.hostedCallsCut === true ? withoutAllThinking(bound ?? request.messages) : bound
  const messages = thought === null ? null : withPlacedInstructions(thought)
  if (messages !== null) splice.set('messages', listOf(messages))
  spliceThinking(splice, { model, maxTokens, messages: messages ?? request.messages })
  return splice.bytes()
}

/** Thinking that fits the rest, where the rest was changed: what goes out as the client wrote it is for the provider to judge. */
function spliceThinking(
  splice: Splice,
  { messages, ...change }: Omit<ThinkingChange, 'unthought'> & Required<Pick<RequestChange, 'messages'>>,
): void {
  const written = splice.isChanged ? splice.text('thinking') : null
  if (written === null) return
  const fitting = thinkingFor(written, { ...change, unthought: isUnthoughtLoop(messages) })
  if (fitting === null) splice.drop('thinking')
  else splice.set('thinking', fitting)
}

const SPLIT_FIELDS: ReadonlySet<string> = new Set(['messages', 'tools'])

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
/**
 * Tools that the provider runs, by how their type begins, and their fee: that of a search stands for that of all that look things up. Null: what
 * is found are tools that stand in the request, for no fee.
 */
const HOSTED: readonly (readonly [prefix: string, fee: HostedTools['tools'][number] | null])[] = [
  ['web_search_', 'webSearch'],
  ['web_fetch_', 'webSearch'],
  ['code_execution_', 'codeContainer'],
  ['tool_search_tool_', null],
]
/** Those whose calls a request can bound. */
const BOUNDED_BY_MAX_USES = /^web_(?:search|fetch)_/
/**
 * From this day on they may also be called from code, which filters what they find. Each run of it reads the window again, and `max_uses` counts
 * none. https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool
 */
const FILTERED_SINCE = 20260209
const DAY_DIGITS = 8
/** Called by the model alone, they run no code. https://platform.claude.com/docs/en/agents-and-tools/tool-use/server-tools */
const DIRECT_ALONE = { allowed_callers: ['direct'] }
/**
 * What the provider says of a history that was changed under what a model had thought, or around instructions and cache marks. What it says
 * of calls and their results is not here: edits leave these whole, and apps do not, whom a second attempt would not help.
 */
const OF_EDITS =
  /bound to a different conversation|`(?:redacted_)?thinking` block|must start with a thinking block|`?signature`? in|role 'system' must|blocks with cache_control may/

function messagesRequest(body: Buffer, fields: Fields): ModelRequest {
  // SDKs run an app's tools by a thread, unless they hear by this code that there is none: then they send the whole history.
  if (isGiven(fields, 'thread')) throw new UngovernedUse('A thread, whose history is kept by the provider,', 'thread_unsupported_request')
  const unmetered = unmeteredUse(fields)
  if (unmetered !== null) throw new UngovernedUse(unmetered)
  const model = checkedModel(fields.get('model')?.json)
  const messages = messagesIn(body, fields, readAnthropicMessage)
  const maxTokens = fields.get('max_tokens')?.json
  if (typeof maxTokens !== 'number' || !Number.isInteger(maxTokens) || maxTokens < 0 || maxTokens > OUTPUT_LIMIT_MAX)
    throw new InvalidField('max_tokens', `must be an integer from 0 to ${OUTPUT_LIMIT_MAX}`)
  const stream = optional(fields, 'stream', 'must be true or false', isBoolean) ?? false
  const tools = toolsIn(fields)
  const toolChoice = fields.get('tool_choice')?.json
  const choice = isObject(toolChoice) ? toolChoice['type'] : null
  const structured = schemaOf(fields) !== null
  let cacheMark: CacheMark = longer(cacheMarkOf({ [CACHE_MARK]: fields.get(CACHE_MARK)?.json ?? null }), cacheMarkOf(tools))
  cacheMark = longer(cacheMark, cacheMarkOf(fields.get('system')?.json))
  for (const message of messages) cacheMark = longer(cacheMark, message.cacheMark)
  const user = userOf(fields)
  const effort = effortOf(fields)
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
    ...(effort === null ? {} : { effort }),
    serviceTier: askedToServe(fields),
    metadata: user === null ? {} : { user_id: user },
    promptCacheKey: null,
    safetyIdentifier: null,
    user,
    fixedBytes: body.length - bytesOf(messages) + unseenBytes(tools, structured),
    fixedDigest: unmarkedDigest(body, fields),
    fields: new Set(namesOf(fields)),
    hosted: hostedTools(tools, addedTools(fields), isCompacted(fields)),
    cacheWrites: cacheMark,
    own: ownAnthropicMessage,
  }
}

/** A use that cannot be metered as it happens: history or tools of which only the provider knows. */
function unmeteredUse(fields: Fields): string | null {
  if (isGiven(fields, 'mcp_servers')) return 'A request with MCP servers, which the provider calls as often as it likes,'
  const tools = [...toolsIn(fields), ...addedTools(fields)]
  if (tools.some((tool) => typeOf(tool).startsWith('mcp_')))
    return 'A request with MCP servers, which the provider calls as often as it likes,'
  if (tools.some((tool) => typeOf(tool).startsWith('advisor_'))) return 'A request with an advisor, which is another model,'
  return routerUse((name) => fields.get(name)?.json, tools)
}

/** The schema that the answer must fit; null for none. Beta requests have it at the top. */
function schemaOf(fields: Fields): Json {
  const config = fields.get('output_config')?.json
  return (isObject(config) ? config['format'] : null) ?? fields.get('output_format')?.json ?? null
}

function effortOf(fields: Fields): string | null {
  const config = fields.get('output_config')?.json
  return isObject(config) ? textOrNull(config['effort']) : null
}

/** How the client asks to be served, of what changes the price. Where is the workspace's to choose unless it is asked for. */
function askedToServe(fields: Fields): string | null {
  const [speed, geo] = ['speed', 'inference_geo'].map((name) => fields.get(name)?.json)
  if (typeof speed !== 'string') return typeof geo === 'string' ? geo : null
  return servedAs([speed, typeof geo === 'string' ? geo : UNDECIDED])
}

function userOf(fields: Fields): string | null {
  const metadata = fields.get('metadata')?.json
  return isObject(metadata) ? textOrNull(metadata['user_id']) : null
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

/** `added`: by messages, where no bound can be put in, since what was thought is bound to them. A compaction reads the window once more. */
function hostedTools(tools: readonly Json[], added: readonly Json[], isCompacted: boolean): HostedTools {
  const run = [...tools, ...added].flatMap((tool) => {
    const found = HOSTED.find(([prefix]) => typeOf(tool).startsWith(prefix))
    const isBounded = BOUNDED_BY_MAX_USES.test(typeOf(tool))
    const canBound = isBounded && tools.includes(tool)
    return found === undefined ? [] : [{ tool, fee: found[1], maxUses: isBounded ? maxUsesOf(tool) : null, canBound }]
  })
  if (run.length === 0) return isCompacted ? COMPACTION : NO_HOSTED_TOOLS
  let ownCalls: number | null = isCompacted ? 1 : 0
  for (const { maxUses } of run) ownCalls = ownCalls === null || maxUses === null ? null : ownCalls + maxUses
  const runsCode = run.some(({ tool }) => mayRunCode(tool))
  const canBound = run.every((each) => each.canBound)
  return {
    tools: [...new Set(run.flatMap(({ fee }) => fee ?? []))],
    maxCalls: runsCode ? null : ownCalls,
    ...(runsCode && canBound && ownCalls !== null ? { callsOnceBound: ownCalls } : {}),
    ...(isCompacted ? { compacts: true } : {}),
    rereads: true,
    ...(run.every(({ fee }) => fee === null) ? { bringsTokens: deferredTokens(tools) } : {}),
    // Each can be told to stop after one call, and none to make none.
    fewestCalls: canBound ? run.length : HOSTED_CALLS_MAX,
  }
}

/** What a search may find. Before it is found the provider does not count it, and a count of an earlier call does not have it. */
function deferredTokens(tools: readonly Json[]): number {
  const deferred = tools.filter((tool) => isObject(tool) && tool['defer_loading'] === true)
  return Math.ceil(deferred.reduce<number>((bytes, tool) => bytes + Buffer.byteLength(JSON.stringify(tool)), 0) * FIXED_TOKENS_PER_BYTE)
}

/** Whether `max_uses` bounds only a part of what comes of it. */
function mayRunCode(tool: Json): boolean {
  if (!isObject(tool) || !BOUNDED_BY_MAX_USES.test(typeOf(tool)) || Number(typeOf(tool).slice(-DAY_DIGITS)) < FILTERED_SINCE) return false
  const callers = tool['allowed_callers']
  return !isList(callers) || callers.some((caller) => caller !== 'direct')
}

/** Tools that messages define in the midst of a conversation. */
function addedTools(fields: Fields): readonly Json[] {
  return (fields.get('messages')?.elements ?? []).flatMap(({ json }) => {
    const content = isObject(json) ? json['content'] : null
    if (!isList(content)) return []
    return content.flatMap((block): readonly Json[] => {
      const tool = isObject(block) && block['type'] === 'tool_addition' ? block['tool'] : null
      // Others name what is defined elsewhere, or a set of another server's tools.
      return isObject(tool) ? [tool['definition'] ?? tool] : []
    })
  })
}

/** The provider sums the window up, on demand or when it is long: a pass of its own, which nothing else bounds. */
function isCompacted(fields: Fields): boolean {
  if (isGiven(fields, 'compaction')) return true
  const management = fields.get('context_management')?.json
  const edits = isObject(management) ? management['edits'] : null
  return isList(edits) && edits.some((edit) => !typeOf(edit).startsWith('clear_'))
}

function maxUsesOf(tool: Json): number | null {
  const uses = isObject(tool) ? tool['max_uses'] : null
  return typeof uses === 'number' && Number.isInteger(uses) && uses >= 0 ? uses : null
}

/** Over what fills the window beside the messages. Cache marks, which apps move about, are no part of it. */
function unmarkedDigest(body: Buffer, fields: Fields): string {
  const parts: Buffer[] = []
  for (const field of fields.values()) {
    if (FIELDS_OUTSIDE_WINDOW.has(field.name)) continue
    const isMarkable = (field.name === 'system' || field.name === 'tools') && field.end - field.start <= MARKABLE_BYTES_MAX
    const json = isMarkable ? (field.json ?? field.elements?.map((element) => element.json) ?? null) : null
    parts.push(isMarkable ? Buffer.from(canonicalJson({ [field.name]: json })) : body.subarray(field.keyStart, field.end))
  }
  return digestOf(Buffer.concat(parts))
}

const CACHE_MARK = 'cache_control'
/** Longer instructions are known by their very bytes: to write them once more takes time that other turns need. */
const MARKABLE_BYTES_MAX = 1024 * 1024

/**
 * Shares `calls` out among the hosted tools; a smaller bound of the client's own stays, and what it leaves is for the others. Where they are
 * fewer than those that nobody bounds, none is called from code. Every other tool keeps its bytes.
 */
function spliceBounds(splice: Splice, calls: number): void {
  const written = splice.text('tools')
  if (written === null) return
  const bytes = Buffer.from(written)
  const ranges = elementRanges(bytes, { start: 0, end: bytes.length })
  const tools = ranges.map((range): Json => JSON.parse(bytes.toString('utf8', range.start, range.end)))
  const share = shareOf(calls, tools.filter((tool) => BOUNDED_BY_MAX_USES.test(typeOf(tool))).map(maxUsesOf))
  const out: Buffer[] = []
  let copied = 0
  for (const [index, range] of ranges.entries()) {
    const tool = tools[index]
    if (!isObject(tool) || !BOUNDED_BY_MAX_USES.test(typeOf(tool))) continue
    const isOver = (maxUsesOf(tool) ?? Infinity) > share
    const isStopped = calls < HOSTED_CALLS_MAX && mayRunCode(tool)
    if (!isOver && !isStopped) continue
    const bound = { ...tool, ...(isOver ? { max_uses: share } : {}), ...(isStopped ? DIRECT_ALONE : {}) }
    out.push(bytes.subarray(copied, range.start), Buffer.from(JSON.stringify(bound)))
    copied = range.end
  }
  if (out.length > 0) splice.set('tools', Buffer.concat([...out, bytes.subarray(copied)]))
}

/** What each may make at most, so that all together make no more than `calls`: one at least, see `fewestCalls`. `own`: the bounds that they have already. */
function shareOf(calls: number, own: readonly (number | null)[]): number {
  let [left, sharers] = [calls, own.length]
  for (const bound of own.map((uses) => uses ?? Infinity).toSorted((one, other) => one - other)) {
    if (bound * sharers > left) break
    left -= bound
    sharers -= 1
  }
  // With none left, the bounds that they have come to no more.
  return sharers === 0 ? Infinity : Math.max(1, Math.floor(left / sharers))
}
