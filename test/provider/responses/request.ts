/**
 * A request to `POST /v1/responses`, checked as strictly as the provider checks it.
 * https://developers.openai.com/api/reference/resources/responses/methods/create
 */
import type { ApiError } from '../api-error.ts'
import { badRequest } from '../api-error.ts'
import type { ChatRequest } from '../chat-request.ts'
import type { JsonObject } from '../fields.ts'
import { arrayAt, booleanAt, decimalAt, integerAt, isObject, missing, objectAt, oneOf, onlyKeys, stringAt } from '../fields.ts'
import type { ChatMessage } from '../message-checks.ts'
import { effortsOf } from '../models.ts'
import type { Model } from '../models.ts'
import type { AnswerFormat, Tool, ToolChoice } from '../tool-checks.ts'
import { checkFormat, checkTools } from '../tool-checks.ts'
import { addedTools, checkTogether, instructionsMessage, readInput } from './items.ts'
import type { ContextItem } from './items.ts'
import type { ResponseMemory } from './memory.ts'

export type HostedKind = (typeof HOSTED_KINDS)[number]

export interface ResponsesRequest {
  readonly model: Model
  readonly instructions: string | null
  /** What the provider kept of the turns before; billed again. */
  readonly earlier: readonly ContextItem[]
  readonly input: readonly ContextItem[]
  readonly conversation: string | null
  readonly tools: readonly Tool[]
  readonly hosted: readonly HostedKind[]
  readonly toolChoice: ToolChoice
  /** A built-in tool that must be called. */
  readonly forcedHosted: HostedKind | null
  readonly maxToolCalls: number | null
  readonly parallelToolCalls: boolean
  readonly outputLimit: number | null
  readonly format: AnswerFormat
  readonly serviceTier: ChatRequest['serviceTier']
  readonly effort: ChatRequest['effort']
  readonly stream: boolean
  readonly obfuscate: boolean
  readonly store: boolean
  readonly background: boolean
  /** Reasoning items carry what only the provider can read. */
  readonly encryptedReasoning: boolean
  readonly logprobs: boolean
  readonly longCache: boolean
  readonly truncates: boolean
  /** Thoughts of earlier turns are not read again (`reasoning.context`). */
  readonly forgetsThoughts: boolean
  /** Beyond so many tokens the provider compacts the window by itself. */
  readonly compactThreshold: number | null
  /** Canonical JSON of what fills the window beside the messages. */
  readonly preamble: string
  /** Fields that the response repeats. */
  readonly echo: JsonObject
}

export const HOSTED_KINDS = ['web_search', 'file_search', 'code_interpreter'] as const
// oxfmt-ignore
const PARAMETERS = new Set([
  'access_programs', 'background', 'context_management', 'conversation', 'image', 'include', 'input', 'instructions', 'max_output_tokens',
  'max_tool_calls', 'metadata', 'model', 'moderation', 'parallel_tool_calls', 'previous_response_id', 'prompt', 'prompt_cache_key',
  'prompt_cache_options', 'prompt_cache_retention', 'reasoning', 'safety_identifier', 'service_tier', 'store', 'stream', 'stream_options',
  'temperature', 'text', 'tool_choice', 'tools', 'top_logprobs', 'top_p', 'truncation', 'user',
])
// oxfmt-ignore
const INCLUDES = [
  'web_search_call.results', 'web_search_call.action.sources', 'code_interpreter_call.outputs', 'computer_call_output.output.image_url',
  'file_search_call.results', 'message.input_image.image_url', 'message.output_text.logprobs', 'reasoning.encrypted_content',
] as const
const HOSTED_TYPES: Readonly<Record<string, HostedKind>> = {
  web_search: 'web_search',
  web_search_2025_08_26: 'web_search',
  web_search_preview: 'web_search',
  web_search_preview_2025_03_11: 'web_search',
  file_search: 'file_search',
  code_interpreter: 'code_interpreter',
}
/** The provider takes no smaller bound. */
export const OUTPUT_TOKENS_MIN = 16
const COMPACT_THRESHOLD_MIN = 1_000
const TOOLS_MAX = 128
const UNSUPPORTED = ['prompt', 'moderation', 'access_programs', 'image'] as const

/** The request in `body` (parsed JSON) to one of `models`. Throws `ApiError`. */
export function checkResponsesRequest(
  body: unknown,
  models: ReadonlyMap<string, Model>,
  memory: ResponseMemory,
  accountTier: 'priority' | 'flex' | null = null,
): ResponsesRequest {
  if (!isObject(body)) throw badRequest(null, null, 'We could not parse the JSON body of your request: it must be a JSON object.')
  const given = withoutNulls(body)
  onlyKeys(body, PARAMETERS, '')
  for (const name of UNSUPPORTED) if (given[name] !== undefined) throw unsupported(name)
  const model = modelAt(given, models)
  checkPlainBounds(given, model)
  const stream = flag(given, 'stream') ?? false
  const background = flag(given, 'background') ?? false
  const store = flag(given, 'store') ?? true
  if (background && !store) throw badRequest('background', 'invalid_value', "Background mode requires 'store' to be true.")
  const windowed = windowOf(given, memory)
  const own = toolsOf(given['tools'])
  const added = toolsOf(addedTools([...windowed.earlier, ...windowed.input]))
  const tools = [...own.tools, ...added.tools]
  const hosted = [...new Set([...own.hosted, ...added.hosted])]
  const definitions = [...own.definitions, ...added.definitions]
  const format = formatOf(
    given,
    [...windowed.earlier, ...windowed.input].map((item) => item.message),
  )
  const include =
    given['include'] === undefined
      ? []
      : arrayAt(given['include'], 'include', { min: 0, max: 32 }).map((name, index) => oneOf(name, `include[${index}]`, INCLUDES))
  return {
    model,
    ...windowed,
    tools,
    hosted,
    ...choiceOf(given, tools, hosted),
    maxToolCalls: given['max_tool_calls'] === undefined ? null : integerAt(given['max_tool_calls'], 'max_tool_calls', 1, 1_000_000),
    parallelToolCalls: flag(given, 'parallel_tool_calls') ?? true,
    outputLimit: outputLimitOf(given, model),
    format,
    serviceTier: tierOf(given['service_tier'], model, accountTier),
    effort: effortOf(given, model),
    stream,
    obfuscate: obfuscates(given, stream),
    store,
    background,
    encryptedReasoning: include.includes('reasoning.encrypted_content'),
    logprobs: include.includes('message.output_text.logprobs'),
    longCache: cacheTtl(given) === '12h',
    truncates: given['truncation'] !== undefined && oneOf(given['truncation'], 'truncation', ['auto', 'disabled']) === 'auto',
    forgetsThoughts: isObject(given['reasoning']) && given['reasoning']['context'] === 'current_turn',
    compactThreshold: compactThresholdOf(given['context_management']),
    preamble:
      definitions.length === 0 && format.kind !== 'jsonSchema'
        ? ''
        : JSON.stringify([definitions, format.kind === 'jsonSchema' ? format.schema : null]),
    echo: echoOf(given, own.definitions),
  }
}

/** The request as the parts of the fake that Chat Completions share see it: what the window holds is the messages. */
export function asChat(request: ResponsesRequest, context: readonly ContextItem[]): ChatRequest {
  const messages: ChatMessage[] = request.instructions === null ? [] : [instructionsMessage(request.instructions)]
  for (const item of context) messages.push(item.message)
  return {
    model: request.model,
    messages,
    tools: request.tools,
    legacyFunctions: false,
    toolChoice: request.toolChoice,
    parallelToolCalls: request.parallelToolCalls,
    stream: request.stream,
    includeUsage: true,
    obfuscate: request.obfuscate,
    choices: 1,
    outputLimit: request.outputLimit,
    format: request.format,
    stop: [],
    logprobs: request.logprobs,
    serviceTier: request.serviceTier,
    effort: request.effort,
    prediction: null,
    preamble: request.preamble,
  }
}

/** What a request to `/responses/input_tokens` or `/responses/compact` may hold. */
export function checkWindowRequest(
  body: unknown,
  allowed: ReadonlySet<string>,
  models: ReadonlyMap<string, Model>,
  memory: ResponseMemory,
): ResponsesRequest {
  if (!isObject(body)) throw badRequest(null, null, 'We could not parse the JSON body of your request: it must be a JSON object.')
  onlyKeys(body, allowed, '')
  return checkResponsesRequest(body, models, memory)
}

function windowOf(
  given: JsonObject,
  memory: ResponseMemory,
): Pick<ResponsesRequest, 'instructions' | 'earlier' | 'input' | 'conversation'> {
  const previous = given['previous_response_id'] === undefined ? null : stringAt(given['previous_response_id'], 'previous_response_id')
  const conversation = conversationAt(given['conversation'])
  if (previous !== null && conversation !== null)
    throw badRequest(
      'previous_response_id',
      'mutually_exclusive_parameters',
      "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Ensure you are only providing one of these parameters.",
    )
  if (previous !== null && !previous.startsWith('resp_'))
    throw badRequest(
      'previous_response_id',
      'invalid_value',
      `Invalid 'previous_response_id': '${previous}'. Expected an ID that begins with 'resp'.`,
    )
  const earlier = previous !== null ? memory.continuing(previous) : conversation !== null ? memory.conversation(conversation).items : []
  if (given['input'] === undefined && earlier.length === 0)
    throw badRequest(
      null,
      'missing_required_parameter',
      "One of 'input' or 'previous_response_id' or 'prompt' or 'conversation' must be provided.",
    )
  const input = given['input'] === undefined ? [] : readInput(given['input'], 'input', memory)
  checkTogether([...earlier, ...input], memory)
  return {
    instructions: given['instructions'] === undefined ? null : stringAt(given['instructions'], 'instructions'),
    earlier,
    input,
    conversation,
  }
}

function conversationAt(value: unknown): string | null {
  if (value === undefined) return null
  return isObject(value) ? stringAt(value['id'], 'conversation.id') : stringAt(value, 'conversation')
}

function modelAt(given: JsonObject, models: ReadonlyMap<string, Model>): Model {
  if (given['model'] === undefined) throw missing('model')
  const id = stringAt(given['model'], 'model')
  const model = models.get(id)
  if (model !== undefined) return model
  throw badRequest('model', 'model_not_found', `The requested model '${id}' does not exist.`)
}

function withoutNulls(body: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null))
}

function flag(given: JsonObject, name: string): boolean | null {
  return given[name] === undefined ? null : booleanAt(given[name], name)
}

function checkPlainBounds(given: JsonObject, model: Model): void {
  if (given['temperature'] !== undefined) decimalAt(given['temperature'], 'temperature', 0, 2)
  if (given['top_p'] !== undefined) decimalAt(given['top_p'], 'top_p', 0, 1)
  if (given['top_logprobs'] !== undefined) integerAt(given['top_logprobs'], 'top_logprobs', 0, 20)
  if (given['user'] !== undefined) stringAt(given['user'], 'user')
  if (given['safety_identifier'] !== undefined) stringAt(given['safety_identifier'], 'safety_identifier', 128)
  if (given['prompt_cache_key'] !== undefined) stringAt(given['prompt_cache_key'], 'prompt_cache_key', 1_024)
  if (given['prompt_cache_retention'] !== undefined) oneOf(given['prompt_cache_retention'], 'prompt_cache_retention', ['in_memory', '24h'])
  if (given['metadata'] !== undefined) checkMetadata(given['metadata'])
  if (!model.reasoning) return
  for (const name of ['temperature', 'top_p', 'top_logprobs']) if (given[name] !== undefined && given[name] !== 1) throw unsupported(name)
}

export function checkMetadata(value: unknown): JsonObject {
  const metadata = objectAt(value, 'metadata')
  const keys = Object.keys(metadata)
  if (keys.length > 16)
    throw badRequest(
      'metadata',
      'object_above_max_properties',
      `Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got an object with ${keys.length} properties instead.`,
    )
  for (const key of keys) stringAt(metadata[key], `metadata.${key}`, 512)
  return metadata
}

function outputLimitOf(given: JsonObject, model: Model): number | null {
  if (given['max_output_tokens'] === undefined) return null
  const limit = integerAt(given['max_output_tokens'], 'max_output_tokens', OUTPUT_TOKENS_MIN, Number.MAX_SAFE_INTEGER)
  if (limit <= model.maxOutputTokens) return limit
  throw badRequest(
    'max_output_tokens',
    'invalid_value',
    `max_output_tokens is too large: ${limit}. This model supports at most ${model.maxOutputTokens} completion tokens, whereas you provided ${limit}.`,
  )
}

function tierOf(value: unknown, model: Model, accountTier: 'priority' | 'flex' | null): ResponsesRequest['serviceTier'] {
  const open = accountTier !== null && model.tiers[accountTier] !== undefined ? accountTier : 'default'
  if (value === undefined) return open
  const tier = oneOf(value, 'service_tier', ['auto', 'default', 'flex', 'scale', 'priority', 'fast', 'ultrafast'])
  if (tier === 'auto') return open
  if (tier === 'default') return 'default'
  const served = tier === 'fast' ? 'priority' : tier
  if ((served === 'flex' || served === 'priority') && model.tiers[served] !== undefined) return served
  throw badRequest('service_tier', 'invalid_value', `Invalid service_tier argument: '${tier}' is not available for this model.`)
}

function effortOf(given: JsonObject, model: Model): ResponsesRequest['effort'] {
  if (given['reasoning'] === undefined) return 'medium'
  const reasoning = objectAt(given['reasoning'], 'reasoning')
  onlyKeys(reasoning, new Set(['effort', 'summary', 'generate_summary', 'context', 'mode']), 'reasoning')
  if (!model.reasoning) {
    const [first] = Object.entries(reasoning).filter(([, value]) => value !== null)
    if (first === undefined) return 'medium'
    throw badRequest(
      `reasoning.${first[0]}`,
      'unsupported_parameter',
      `Unsupported parameter: 'reasoning.${first[0]}' is not supported with this model.`,
    )
  }
  const { effort } = reasoning
  return effort === undefined || effort === null ? 'medium' : oneOf(effort, 'reasoning.effort', effortsOf(model))
}

function obfuscates(given: JsonObject, stream: boolean): boolean {
  if (given['stream_options'] === undefined) return stream
  if (!stream) throw badRequest('stream_options', null, "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
  const options = objectAt(given['stream_options'], 'stream_options')
  onlyKeys(options, new Set(['include_obfuscation']), 'stream_options')
  return options['include_obfuscation'] === undefined || booleanAt(options['include_obfuscation'], 'stream_options.include_obfuscation')
}

function cacheTtl(given: JsonObject): string | null {
  if (given['prompt_cache_options'] === undefined) return null
  const options = objectAt(given['prompt_cache_options'], 'prompt_cache_options')
  onlyKeys(options, new Set(['mode', 'ttl', 'comparison_response_id', 'prewarm']), 'prompt_cache_options')
  return options['ttl'] === undefined ? null : oneOf(options['ttl'], 'prompt_cache_options.ttl', ['30m', '12h'])
}

function compactThresholdOf(value: unknown): number | null {
  if (value === undefined) return null
  const [first] = arrayAt(value, 'context_management', { min: 1, max: 1 })
  const entry = objectAt(first, 'context_management[0]')
  onlyKeys(entry, new Set(['type', 'compact_threshold']), 'context_management[0]')
  oneOf(entry['type'], 'context_management[0].type', ['compaction'])
  const threshold = entry['compact_threshold']
  if (threshold === undefined || threshold === null) return null
  return integerAt(threshold, 'context_management[0].compact_threshold', COMPACT_THRESHOLD_MIN, Number.MAX_SAFE_INTEGER)
}

function toolsOf(value: unknown): {
  readonly tools: readonly Tool[]
  readonly hosted: readonly HostedKind[]
  readonly definitions: readonly JsonObject[]
} {
  if (value === undefined) return { tools: [], hosted: [], definitions: [] }
  const own: JsonObject[] = []
  const hosted: HostedKind[] = []
  const definitions = arrayAt(value, 'tools', { min: 0, max: TOOLS_MAX }).map((entry, index) => {
    const path = `tools[${index}]`
    const tool = objectAt(entry, path)
    const type = oneOf(tool['type'], `${path}.type`, ['function', 'custom', ...Object.keys(HOSTED_TYPES)])
    const kind = HOSTED_TYPES[type]
    if (kind !== undefined) {
      checkHosted(tool, kind, path)
      hosted.push(kind)
      return tool
    }
    onlyKeys(
      tool,
      new Set(
        type === 'function'
          ? ['type', 'name', 'description', 'parameters', 'strict', 'output_schema', 'defer_loading', 'allowed_callers', 'async']
          : ['type', 'name', 'description', 'format', 'defer_loading', 'allowed_callers', 'async'],
      ),
      path,
    )
    const { name, description, parameters, strict, format } = tool
    own.push({
      type,
      [type]: type === 'function' ? defined({ name, description, parameters, strict }) : defined({ name, description, format }),
    })
    return tool
  })
  return { tools: own.length === 0 ? [] : checkTools(own), hosted: [...new Set(hosted)], definitions }
}

function defined(object: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined))
}

function checkHosted(tool: JsonObject, kind: HostedKind, path: string): void {
  if (kind === 'file_search') arrayAt(tool['vector_store_ids'], `${path}.vector_store_ids`, { min: 1, max: 16 })
  if (kind === 'code_interpreter' && typeof tool['container'] !== 'string')
    oneOf(objectAt(tool['container'], `${path}.container`)['type'], `${path}.container.type`, ['auto'])
}

function choiceOf(
  given: JsonObject,
  tools: readonly Tool[],
  hosted: readonly HostedKind[],
): Pick<ResponsesRequest, 'toolChoice' | 'forcedHosted'> {
  const value = given['tool_choice']
  if (value === undefined) return { toolChoice: { kind: 'auto', among: null }, forcedHosted: null }
  if (!isObject(value)) {
    const kind = oneOf(value, 'tool_choice', ['none', 'auto', 'required'])
    if (kind === 'required' && tools.length + hosted.length === 0)
      throw badRequest('tool_choice', null, "Tool choice 'required' must be specified with 'tools' parameter.")
    // A built-in tool is called where there is nothing else to call.
    if (kind === 'required' && tools.length === 0) return { toolChoice: { kind: 'auto', among: null }, forcedHosted: hosted[0] ?? null }
    return { toolChoice: { kind, among: null }, forcedHosted: null }
  }
  const type = oneOf(value['type'], 'tool_choice.type', ['function', 'custom', 'allowed_tools', ...Object.keys(HOSTED_TYPES)])
  const kind = HOSTED_TYPES[type]
  if (kind !== undefined) {
    if (!hosted.includes(kind)) throw badRequest('tool_choice', null, `Tool choice '${type}' not found in 'tools' parameter.`)
    return { toolChoice: { kind: 'auto', among: null }, forcedHosted: kind }
  }
  if (type !== 'allowed_tools') return { toolChoice: { kind: 'named', name: namedTool(value['name'], tools) }, forcedHosted: null }
  const among = arrayAt(value['tools'], 'tool_choice.tools', { min: 1, max: TOOLS_MAX }).flatMap((entry, index) => {
    const allowed = objectAt(entry, `tool_choice.tools[${index}]`)
    return HOSTED_TYPES[String(allowed['type'])] === undefined ? [namedTool(allowed['name'], tools)] : []
  })
  return { toolChoice: { kind: oneOf(value['mode'], 'tool_choice.mode', ['auto', 'required']), among }, forcedHosted: null }
}

function namedTool(value: unknown, tools: readonly Tool[]): string {
  const name = stringAt(value, 'tool_choice.name')
  if (tools.some((tool) => tool.name === name)) return name
  throw badRequest('tool_choice', null, `Tool choice '${name}' not found in 'tools' parameter.`)
}

function formatOf(given: JsonObject, messages: readonly ChatMessage[]): AnswerFormat {
  if (given['text'] === undefined) return { kind: 'text' }
  const text = objectAt(given['text'], 'text')
  onlyKeys(text, new Set(['format', 'verbosity']), 'text')
  if (text['format'] === undefined || text['format'] === null) return { kind: 'text' }
  const format = objectAt(text['format'], 'text.format')
  const type = oneOf(format['type'], 'text.format.type', ['text', 'json_object', 'json_schema'])
  if (type === 'json_schema') {
    const { type: _type, ...schema } = format
    return checkFormat({ type, json_schema: schema }, messages)
  }
  if (type === 'json_object' && !messages.some((message) => /json/i.test(message.text)))
    throw badRequest(
      'input',
      null,
      "Response input messages must contain the word 'json' in some form to use 'text.format' of type 'json_object'.",
    )
  return { kind: type === 'text' ? 'text' : 'jsonObject' }
}

function echoOf(given: JsonObject, tools: readonly JsonObject[]): JsonObject {
  const reasoning = isObject(given['reasoning']) ? given['reasoning'] : {}
  const text = isObject(given['text']) ? given['text'] : {}
  return {
    background: given['background'] ?? false,
    instructions: given['instructions'] ?? null,
    max_output_tokens: given['max_output_tokens'] ?? null,
    max_tool_calls: given['max_tool_calls'] ?? null,
    metadata: given['metadata'] ?? {},
    parallel_tool_calls: given['parallel_tool_calls'] ?? true,
    previous_response_id: given['previous_response_id'] ?? null,
    prompt_cache_key: given['prompt_cache_key'] ?? null,
    reasoning: { effort: reasoning['effort'] ?? null, summary: reasoning['summary'] ?? null },
    safety_identifier: given['safety_identifier'] ?? null,
    store: given['store'] ?? true,
    temperature: given['temperature'] ?? 1,
    text: { format: text['format'] ?? { type: 'text' }, verbosity: text['verbosity'] ?? 'medium' },
    tool_choice: given['tool_choice'] ?? 'auto',
    tools,
    top_logprobs: given['top_logprobs'] ?? 0,
    top_p: given['top_p'] ?? 1,
    truncation: given['truncation'] ?? 'disabled',
    user: given['user'] ?? null,
  }
}

function unsupported(name: string): ApiError {
  return badRequest(name, 'unsupported_parameter', `Unsupported parameter: '${name}' is not supported with this model.`)
}
