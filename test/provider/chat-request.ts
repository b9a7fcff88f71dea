/**
 * A Chat Completions request, checked as strictly as the provider checks it: bounds, unknown fields, what a model refuses.
 * https://platform.openai.com/docs/api-reference/chat/create
 */
import { ApiError, badRequest } from './api-error.ts'
import type { JsonObject } from './fields.ts'
import { arrayAt, booleanAt, decimalAt, integerAt, isObject, objectAt, oneOf, onlyKeys, stringAt, wrongType } from './fields.ts'
import type { ChatMessage } from './message-checks.ts'
import { checkMessages } from './message-checks.ts'
import { effortsOf } from './models.ts'
import type { Effort, Model, ServiceTier } from './models.ts'
import type { AnswerFormat, Tool, ToolChoice } from './tool-checks.ts'
import { checkFormat, checkFunctions, checkToolChoice, checkTools } from './tool-checks.ts'

export interface ChatRequest {
  readonly model: Model
  readonly messages: readonly ChatMessage[]
  readonly tools: readonly Tool[]
  /** Tools were given by the old name, `functions`: calls are answered as `function_call`. */
  readonly legacyFunctions: boolean
  readonly toolChoice: ToolChoice
  readonly parallelToolCalls: boolean
  readonly stream: boolean
  readonly includeUsage: boolean
  readonly obfuscate: boolean
  /** Answers asked for, 1 to 128. */
  readonly choices: number
  /** Bound on output tokens of one answer, hidden reasoning included; null when the client gave none. */
  readonly outputLimit: number | null
  readonly format: AnswerFormat
  readonly stop: readonly string[]
  readonly logprobs: boolean
  readonly serviceTier: 'default' | ServiceTier
  readonly effort: Effort
  /** Predicted output, if any: what of it is not used is billed as output. */
  readonly prediction: string | null
  /** Canonical JSON of what fills the window beside the messages: tools, and the schema of the answer. */
  readonly preamble: string
}

// oxfmt-ignore
const PARAMETERS = new Set([
  'audio', 'frequency_penalty', 'function_call', 'functions', 'logit_bias', 'logprobs', 'max_completion_tokens', 'max_tokens', 'messages',
  'metadata', 'modalities', 'model', 'moderation', 'n', 'parallel_tool_calls', 'prediction', 'presence_penalty', 'prompt_cache_key',
  'prompt_cache_options', 'prompt_cache_retention', 'reasoning_effort', 'response_format', 'safety_identifier', 'seed', 'service_tier', 'stop',
  'store', 'stream', 'stream_options', 'temperature', 'tool_choice', 'tools', 'top_logprobs', 'top_p', 'user', 'verbosity', 'web_search_options',
])
const EFFORTS = ['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'] as const
/** What a reasoning model refuses outright, and what it takes only at its default. */
const REFUSED_BY_REASONING = ['stop', 'logprobs', 'top_logprobs', 'logit_bias', 'prediction'] as const
const FIXED_BY_REASONING = { temperature: 1, top_p: 1, presence_penalty: 0, frequency_penalty: 0 } as const
/** https://platform.openai.com/docs/guides/predicted-outputs#limitations */
const NOT_WITH_PREDICTION = ['max_completion_tokens', 'tools', 'functions', 'logprobs', 'audio'] as const

/** The request in `body` (parsed JSON) to one of `models`. Throws `ApiError`. */
export function checkRequest(body: unknown, models: ReadonlyMap<string, Model>, accountTier: ServiceTier | null = null): ChatRequest {
  if (!isObject(body)) throw badRequest(null, null, 'We could not parse the JSON body of your request: it must be a JSON object.')
  if (body['model'] === undefined || body['model'] === '') throw badRequest(null, null, 'you must provide a model parameter')
  const given = withoutNulls(body)
  onlyKeys(body, PARAMETERS, '')
  const model = modelOf(stringAt(body['model'], 'model'), models)
  checkPlainBounds(given)
  if (given['web_search_options'] !== undefined && model.searchNanoUsd === undefined) throw unsupported('web_search_options')
  if (model.reasoning) checkForReasoning(given, model)
  else if (given['reasoning_effort'] !== undefined) throw unsupported('reasoning_effort')
  const stream = given['stream'] === undefined ? false : booleanAt(given['stream'], 'stream')
  const streamOptions = checkStreamOptions(given, stream)
  const messages = checkMessages(body['messages'])
  const legacyFunctions = given['functions'] !== undefined
  if (legacyFunctions && given['tools'] !== undefined)
    throw badRequest('functions', null, "'tools' and 'functions' are not allowed together.")
  const tools = legacyFunctions ? checkFunctions(given['functions']) : checkTools(given['tools'])
  if (given['parallel_tool_calls'] !== undefined && tools.length === 0)
    throw badRequest(
      'parallel_tool_calls',
      null,
      "Invalid value for 'parallel_tool_calls': 'parallel_tool_calls' is only allowed when 'tools' are specified.",
    )
  const format = checkFormat(given['response_format'], messages)
  return {
    model,
    messages,
    tools,
    legacyFunctions,
    toolChoice: checkToolChoice(given, tools, legacyFunctions),
    parallelToolCalls: given['parallel_tool_calls'] === undefined ? true : booleanAt(given['parallel_tool_calls'], 'parallel_tool_calls'),
    stream,
    ...streamOptions,
    choices: given['n'] === undefined ? 1 : integerAt(given['n'], 'n', 1, 128),
    outputLimit: outputLimitOf(given, model),
    format,
    stop: stopOf(given['stop']),
    logprobs: given['logprobs'] === true,
    serviceTier: tierOf(given['service_tier'], model, accountTier),
    effort: given['reasoning_effort'] === undefined ? 'medium' : oneOf(given['reasoning_effort'], 'reasoning_effort', EFFORTS),
    prediction: predictionOf(given),
    preamble: preambleOf(tools, format),
  }
}

function modelOf(id: string, models: ReadonlyMap<string, Model>): Model {
  const model = models.get(id)
  if (model !== undefined) return model
  throw new ApiError(404, `The model \`${id}\` does not exist or you do not have access to it.`, { code: 'model_not_found' })
}

/** Null means absent for every optional field. */
function withoutNulls(body: JsonObject): JsonObject {
  const given: Record<string, unknown> = {}
  for (const key in body) if (body[key] !== null) given[key] = body[key]
  return given
}

function checkPlainBounds(given: JsonObject): void {
  if (given['temperature'] !== undefined) decimalAt(given['temperature'], 'temperature', 0, 2)
  if (given['top_p'] !== undefined) decimalAt(given['top_p'], 'top_p', 0, 1)
  if (given['presence_penalty'] !== undefined) decimalAt(given['presence_penalty'], 'presence_penalty', -2, 2)
  if (given['frequency_penalty'] !== undefined) decimalAt(given['frequency_penalty'], 'frequency_penalty', -2, 2)
  if (given['seed'] !== undefined) integerAt(given['seed'], 'seed', Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
  if (given['user'] !== undefined) stringAt(given['user'], 'user')
  if (given['safety_identifier'] !== undefined) stringAt(given['safety_identifier'], 'safety_identifier', 128)
  if (given['prompt_cache_key'] !== undefined) stringAt(given['prompt_cache_key'], 'prompt_cache_key', 1_024)
  if (given['prompt_cache_retention'] !== undefined) oneOf(given['prompt_cache_retention'], 'prompt_cache_retention', ['in_memory', '24h'])
  if (given['verbosity'] !== undefined) oneOf(given['verbosity'], 'verbosity', ['low', 'medium', 'high'])
  if (given['store'] !== undefined) booleanAt(given['store'], 'store')
  if (given['metadata'] !== undefined) {
    checkMetadata(given['metadata'])
    if (given['store'] !== true) throw badRequest('metadata', null, "The 'metadata' parameter is only allowed when 'store' is enabled.")
  }
  if (given['logit_bias'] !== undefined) checkLogitBias(given['logit_bias'])
  if (given['logprobs'] !== undefined) booleanAt(given['logprobs'], 'logprobs')
  if (given['top_logprobs'] !== undefined) {
    integerAt(given['top_logprobs'], 'top_logprobs', 0, 20)
    if (given['logprobs'] !== true)
      throw badRequest('top_logprobs', 'invalid_value', "The 'logprobs' parameter must be enabled (set to 'true') to use 'top_logprobs'.")
  }
  if (given['modalities'] !== undefined)
    for (const [index, modality] of arrayAt(given['modalities'], 'modalities', { min: 1, max: 2 }).entries())
      oneOf(modality, `modalities[${index}]`, ['text'])
  for (const name of ['audio', 'moderation']) if (given[name] !== undefined) throw unsupported(name)
}

function checkMetadata(value: unknown): void {
  const metadata = objectAt(value, 'metadata')
  const keys = Object.keys(metadata)
  if (keys.length > 16)
    throw badRequest(
      'metadata',
      'object_above_max_properties',
      `Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got an object with ${keys.length} properties instead.`,
    )
  for (const key of keys) {
    if (key.length > 64)
      throw badRequest(
        'metadata',
        'property_name_above_max_length',
        `Invalid property name in 'metadata': '${key}' is too long. Expected a string with maximum length 64, but got a string with length ${key.length} instead.`,
      )
    stringAt(metadata[key], `metadata.${key}`, 512)
  }
}

function checkLogitBias(value: unknown): void {
  const bias = objectAt(value, 'logit_bias')
  for (const token in bias) decimalAt(bias[token], `logit_bias.${token}`, -100, 100)
}

function checkForReasoning(given: JsonObject, model: Model): void {
  if (given['max_tokens'] !== undefined)
    throw badRequest(
      'max_tokens',
      'unsupported_parameter',
      "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    )
  for (const name of REFUSED_BY_REASONING) if (given[name] !== undefined && given[name] !== false) throw unsupported(name)
  for (const [name, only] of Object.entries(FIXED_BY_REASONING)) {
    if (given[name] === undefined || given[name] === only) continue
    throw badRequest(
      name,
      'unsupported_value',
      `Unsupported value: '${name}' does not support ${JSON.stringify(given[name])} with this model. Only the default (${only}) value is supported.`,
    )
  }
  if (given['reasoning_effort'] !== undefined) oneOf(given['reasoning_effort'], 'reasoning_effort', effortsOf(model))
}

function checkStreamOptions(given: JsonObject, stream: boolean): { includeUsage: boolean; obfuscate: boolean } {
  if (given['stream_options'] === undefined) return { includeUsage: false, obfuscate: false }
  if (!stream) throw badRequest('stream_options', null, "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
  const options = objectAt(given['stream_options'], 'stream_options')
  onlyKeys(options, new Set(['include_usage', 'include_obfuscation']), 'stream_options')
  const flag = (name: string): boolean =>
    options[name] !== undefined && options[name] !== null && booleanAt(options[name], `stream_options.${name}`)
  return { includeUsage: flag('include_usage'), obfuscate: flag('include_obfuscation') }
}

function outputLimitOf(given: JsonObject, model: Model): number | null {
  if (given['max_tokens'] !== undefined && given['max_completion_tokens'] !== undefined)
    throw badRequest(
      'max_tokens',
      'invalid_parameter_combination',
      "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
    )
  for (const name of ['max_completion_tokens', 'max_tokens']) {
    if (given[name] === undefined) continue
    const limit = integerAt(given[name], name, 1, Number.MAX_SAFE_INTEGER)
    if (limit > model.maxOutputTokens)
      throw badRequest(
        name,
        'invalid_value',
        `${name} is too large: ${limit}. This model supports at most ${model.maxOutputTokens} completion tokens, whereas you provided ${limit}.`,
      )
    return limit
  }
  return null
}

function stopOf(value: unknown): readonly string[] {
  if (value === undefined) return []
  if (typeof value === 'string') return [value]
  return arrayAt(value, 'stop', { min: 1, max: 4 }).map((text, index) => stringAt(text, `stop[${index}]`))
}

function tierOf(value: unknown, model: Model, accountTier: ServiceTier | null): 'default' | ServiceTier {
  const open = accountTier !== null && model.tiers[accountTier] !== undefined ? accountTier : 'default'
  if (value === undefined) return open
  const tier = oneOf(value, 'service_tier', ['auto', 'default', 'flex', 'scale', 'priority', 'fast'])
  if (tier === 'auto') return open
  if (tier === 'default') return 'default'
  if ((tier === 'flex' || tier === 'priority') && model.tiers[tier] !== undefined) return tier
  throw badRequest('service_tier', 'invalid_value', `Invalid service_tier argument: '${tier}' is not available for this model.`)
}

function predictionOf(given: JsonObject): string | null {
  if (given['prediction'] === undefined) return null
  const prediction = objectAt(given['prediction'], 'prediction')
  oneOf(prediction['type'], 'prediction.type', ['content'])
  for (const name of NOT_WITH_PREDICTION)
    if (given[name] !== undefined && given[name] !== false)
      throw badRequest(name, 'unsupported_parameter', `Unsupported parameter: '${name}' is not supported with 'prediction'.`)
  if (given['n'] !== undefined && given['n'] !== 1)
    throw badRequest('n', 'unsupported_value', "Unsupported value: 'n' above 1 is not supported with 'prediction'.")
  const content = prediction['content']
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) throw wrongType('prediction.content', 'a string or an array', content)
  return content
    .map((part, index) => stringAt(objectAt(part, `prediction.content[${index}]`)['text'], `prediction.content[${index}].text`))
    .join('')
}

function preambleOf(tools: readonly Tool[], format: AnswerFormat): string {
  if (tools.length === 0 && format.kind !== 'jsonSchema') return ''
  return JSON.stringify([tools.map((tool) => tool.definition), format.kind === 'jsonSchema' ? format.schema : null])
}

function unsupported(name: string): Error {
  return badRequest(name, 'unsupported_parameter', `Unsupported parameter: '${name}' is not supported with this model.`)
}
