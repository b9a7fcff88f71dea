/**
 * OpenAI Chat Completions requests: bytes -> `ModelRequest`, and changes of it back into bytes. A change splices fields into
 * the client's own bytes; whatever it does not name goes out exactly as it came.
 */
import { bytesOf, isList, isObject } from '../core/message.ts'
import { RETRIEVAL_METADATA } from '../core/retrieval.ts'
import { HOSTED_CALLS_MAX } from '../core/request.ts'
import type { HostedTools, Json, JsonObject, ModelRequest, OutputLimit, RequestChange } from '../core/request.ts'
import { servedModel } from './azure.ts'
import { ChatStream } from './event-stream.ts'
import { textsOf } from './json-values.ts'
import { addNotice, readAnswer, syntheticAnswer } from './openai-answer.ts'
import { leastEffort } from './openai-effort.ts'
import { ownChatMessage, readMessage } from './openai-message.ts'
import type { UsageTold } from './openai-usage.ts'
import {
  askForUsage,
  asksForLongCache,
  byName,
  changedFields,
  changedMessages,
  checkedModel,
  CHOICES_MAX,
  fixedDigest,
  isBoolean,
  isGiven,
  isJsonList,
  isJsonObject,
  isWhole,
  listOf,
  messagesIn,
  namesOf,
  optional,
  OUTPUT_LIMIT_MAX,
  parseBody,
  refusesTools,
  spliceMember,
  stopsAtWords,
  textIn,
  toolsIn,
  UngovernedUse,
} from './request-reading.ts'
import type { Fields } from './request-reading.ts'
import { routerUse } from './router-use.ts'
import type { Splice } from './splice.ts'
import { GOOGLE_SEARCHES_MAX, isGoogleSearch, isHostedShell, isRunByApp, isWebSearch } from './tool-names.ts'
import type { CallContext, ParsedRequest, Wire } from './wire.ts'

export const chatWire: Wire = {
  name: 'chat',
  asksForUsage: true,
  parse: (body, call) => parseChatRequest(body, call),
  render: renderChatRequest,
  path: ({ path }) => path,
  readAnswer: (body, request) => readAnswer(body, usageTold(request)),
  addNotice,
  openStream: (options) => new ChatStream({ ...options, ...usageTold(options.request) }),
  synthetic: ({ stream, includeUsage, model }, { text, id, createdS }) =>
    syntheticAnswer({ stream, includeUsage, model, text, id: `chatcmpl-farebox-${id}`, createdS }),
  objection(status, body) {
    // Mistral answers 422.
    const isRefused = status === 400 || status === 422
    if (isRefused && body.includes('stream_options')) return 'streamOptions'
    if (isRefused && LIMIT_FIELD.test(body) && REFUSED_FIELD.test(body)) return 'limitField'
    // llama.cpp answers 500 where the chat template refuses.
    if ((isRefused || status === 500) && OF_ROLES.test(body)) return 'edits'
    return isRefused || status === 404 ? 'swap' : null
  },
  prompt({ model, served = model, system, user, maxTokens, limitField, call }) {
    // It would search the web for a prompt that has all it needs, and bill that.
    if (SEARCHING_MODEL.test(served)) return null
    const effort = leastEffort(served)
    const messages = [
      { role: 'system', content: system },
      { role: 'user', content: user },
    ]
    return {
      path: '/chat/completions',
      body: Buffer.from(
        JSON.stringify({
          model,
          messages,
          [limitField ?? (effort === null ? call.upstream.outputLimitField : 'max_completion_tokens')]: maxTokens,
          ...(effort === null ? {} : { reasoning_effort: effort }),
        }),
      ),
    }
  },
}

/** Reads what the turn needs, and refuses what it cannot be sure of; the provider judges the rest. */
export function parseChatRequest(body: Buffer, call: Pick<CallContext, 'upstream' | 'model'>): Promise<ParsedRequest> {
  return parseBody(body, SPLIT_FIELDS, (fields) => chatRequest(body, call, byName(fields)))
}

/** The request with `change` made to it: the same buffer when nothing changes. */
export function renderChatRequest(request: ModelRequest, change: RequestChange): Buffer {
  const splice = changedFields(request, change, SPLIT_FIELDS)
  spliceOutputLimit(splice, request, change)
  if (change.effort === null) splice.drop(EFFORT)
  else if (change.effort !== undefined && splice.has(EFFORT)) splice.set(EFFORT, JSON.stringify(change.effort))
  if (change.includeUsage === true && !request.includeUsage) askForUsage(splice)
  // OpenAI refuses `tool_choice` without tools, and `function_call` without functions.
  if (refusesTools(request, change)) {
    if (OFFERS_ANY.test(splice.text('tools') ?? '')) splice.set('tool_choice', '"none"')
    if (OFFERS_ANY.test(splice.text('functions') ?? '')) splice.set('function_call', '"none"')
  }
  // It is for us alone, and OpenAI takes `metadata` only beside `store`.
  spliceMember(splice, 'metadata', RETRIEVAL_METADATA, null)
  const messages = changedMessages(request, change)
  if (messages !== null) splice.set('messages', listOf(messages))
  return splice.bytes()
}

const EFFORT = 'reasoning_effort'
const LIMIT_FIELD = /max_(?:completion_)?tokens/
/** That a field is not known, or not taken; what is wrong with its value is the request's own affair. */
const REFUSED_FIELD = new RegExp(
  [
    'unsupported|not supported|unrecognized|unknown|not permitted|not allowed|deprecated|should not exist|use ["\'`]?max_',
    'extra (?:inputs|fields)|extra_forbidden|additional propert|unexpected (?:keyword|argument|parameter|field|property)|was unexpected',
  ].join('|'),
  'i',
)

/** Of templates that want users and the assistant to take turns, which a message of ours before the user's turn breaks. */
const OF_ROLES = /roles? must alternate|should alternate|consecutive (?:user|messages)/i

const SPLIT_FIELDS: ReadonlySet<string> = new Set(['messages', 'tools'])

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
  'prompt_cache_options',
  'prompt_cache_retention',
  'service_tier',
])
/** Fields by which self-hosted servers (vLLM, llama.cpp, SGLang) constrain the answer to a grammar. */
// oxfmt-ignore
const GRAMMAR_FIELDS = [
  'guided_json', 'guided_regex', 'guided_choice', 'guided_grammar', 'guided_decoding', 'structured_outputs', 'json_schema', 'grammar',
  'regex', 'ebnf', 'structural_tag',
] as const
/** A list with something in it. */
const OFFERS_ANY = /^\[\s*[^\s\]]/
/** Models that search the web on every call, asked or not. */
const SEARCHING_MODEL = /-search(-|$)/

function chatRequest(body: Buffer, call: Pick<CallContext, 'upstream' | 'model'>, fields: Fields): ModelRequest {
  const model = checkedModel(fields.get('model')?.json ?? call.model)
  const messages = messagesIn(body, fields, readMessage)
  const stream = optional(fields, 'stream', 'must be true or false', isBoolean) ?? false
  const streamOptions = optional(fields, 'stream_options', 'must be an object', isJsonObject)
  const choices = optional(fields, 'n', `must be an integer from 1 to ${CHOICES_MAX}`, (value) => isWhole(value, CHOICES_MAX)) ?? 1
  const functions = optional(fields, 'functions', 'must be a list', isJsonList)
  const tools = toolsIn(fields)
  const unmetered = routerUse((name) => fields.get(name)?.json, tools)
  if (unmetered !== null) throw new UngovernedUse(unmetered)
  const toolChoice = fields.get('tool_choice')?.json
  const functionCall = fields.get('function_call')?.json
  const effort = textIn(fields, EFFORT)
  /** Each word counts only beside the list that it speaks of. */
  const choicesMade = [...(tools.length > 0 ? [toolChoice] : []), ...((functions ?? []).length > 0 ? [functionCall] : [])]
  return {
    wire: 'chat',
    body,
    model,
    stream,
    includeUsage: streamOptions?.['include_usage'] === true,
    choices,
    outputLimit: outputLimit(fields),
    outputField: call.upstream.outputLimitField,
    // https://developers.openai.com/api/docs/guides/predicted-outputs
    ...(isGiven(fields, 'prediction') ? { onlyOutputField: 'max_tokens' } : {}),
    generates: true,
    units: {},
    earlier: null,
    messages,
    tools: choicesMade.length === 0 ? 'none' : isForced(toolChoice) || isObject(functionCall) ? 'forced' : 'offered',
    toolsRefused: choicesMade.length > 0 && choicesMade.every((choice) => choice === 'none'),
    structured: isStructured(fields),
    ...(effort === null ? {} : { effort }),
    cacheWrites: asksForLongCache(body, fields) ? 'long' : 'short',
    serviceTier: textIn(fields, 'service_tier'),
    metadata: textsOf(fields.get('metadata')?.json),
    promptCacheKey: textIn(fields, 'prompt_cache_key'),
    safetyIdentifier: textIn(fields, 'safety_identifier'),
    user: textIn(fields, 'user'),
    fixedBytes: body.length - bytesOf(messages),
    fixedDigest: fixedDigest(body, fields, FIELDS_OUTSIDE_WINDOW),
    fields: new Set(namesOf(fields).filter((name) => name !== 'stop' || stopsAtWords(fields.get(name)?.json))),
    hosted: hostedTools(servedModel(model, call), fields, tools),
    own: ownChatMessage,
  }
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
  if (choice === 'required' || choice === 'any') return true // Mistral's word for it
  if (!isObject(choice)) return false
  const allowed = choice['allowed_tools']
  return choice['type'] !== 'allowed_tools' || (isObject(allowed) && allowed['mode'] === 'required')
}

function isStructured(fields: Fields): boolean {
  const format = fields.get('response_format')?.json
  if (isObject(format) && format['type'] !== 'text') return true
  const modalities = fields.get('modalities')?.json
  if (isList(modalities) && modalities.some((modality) => modality !== 'text')) return true
  return GRAMMAR_FIELDS.some((name) => isGiven(fields, name))
}

function hostedTools(model: string, fields: Fields, tools: readonly Json[]): HostedTools {
  const hosted = new Set<HostedTools['tools'][number]>()
  if (isGiven(fields, 'web_search_options') || SEARCHING_MODEL.test(model)) hosted.add('webSearch')
  const objects = tools.filter(isObject)
  const names = objects.flatMap(toolNames)
  let rereads = objects.some(isHostedShell)
  for (const name of names) {
    if (isWebSearch(name)) hosted.add('webSearch')
    else if (FILE_SEARCH.test(name)) hosted.add('fileSearch')
    else rereads ||= !isRunByApp(name)
    if (name.startsWith('code_interpreter')) hosted.add('codeContainer')
  }
  const read = { tools: [...hosted], maxCalls: null }
  // No field of Chat bounds their calls.
  if (rereads && fields.get('tool_choice')?.json !== 'none') return { ...read, rereads, fewestCalls: HOSTED_CALLS_MAX }
  return { ...read, rereads: false, ...(names.some(isGoogleSearch) ? { resultsRead: GOOGLE_SEARCHES_MAX } : {}) }
}

/** Searched once, before the model answers, or billed by the search alone, as the web is. */
const FILE_SEARCH = /^(?:file_search|retrieval)/

/**
 * What a tool is called, which is its type. Anthropic's have none, but a name, and many servers take a function without. Google's have a member
 * for each tool (LiteLLM), which may stand beside the type of a function that is not there.
 */
function toolNames(tool: JsonObject): readonly string[] {
  const { type, name } = tool
  const isDefined = isObject(tool['function']) || isObject(tool['custom']) || typeof name === 'string'
  if (typeof type === 'string' && (isDefined || !EMPTY_ALONE.has(type))) return [type]
  return isDefined ? [] : Object.keys(tool).filter((key) => key !== 'type' && tool[key] !== null)
}

/** Types that say nothing without what the app defines beside them. */
const EMPTY_ALONE: ReadonlySet<string> = new Set(['function', 'custom'])

/**
 * What only the request tells of the usage of its answer: the web searches, which OpenAI bills and does not count, one for each answer; how
 * long the cache is asked to keep what is written; and whether the input may be the sum of several readings.
 */
function usageTold({ hosted, choices, cacheWrites }: ModelRequest): UsageTold & { readonly isSum: boolean } {
  return { searches: hosted.tools.includes('webSearch') ? choices : 0, cacheWrites, isSum: hosted.rereads }
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
