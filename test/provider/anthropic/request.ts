/**
 * A Messages request, checked as strictly as the provider checks it: bounds, unknown fields, what a model refuses.
 * https://platform.claude.com/docs/en/api/messages/create
 */
import { ApiError } from '../api-error.ts'
import type { JsonObject } from '../fields.ts'
import { isObject } from '../fields.ts'
import type { Block, CacheTtl, Turn } from './content.ts'
import { cacheTtlAt, checkMessages, checkSystem } from './content.ts'
import { invalid } from './error.ts'
import { booleanAt, integerAt, listAt, numberAt, objectAt, oneOf, onlyKeys, stringAt } from './fields.ts'
import type { ClaudeModel, Effort, ThinkingType } from './models.ts'
import { checkThinking } from './thinking.ts'

export interface ClaudeRequest {
  readonly model: ClaudeModel
  readonly system: readonly Block[]
  readonly turns: readonly Turn[]
  readonly tools: readonly ClaudeTool[]
  readonly toolChoice: ToolChoice
  /** 0 fills the cache and generates nothing. */
  readonly maxTokens: number
  readonly stream: boolean
  readonly stopSequences: readonly string[]
  readonly thinking: Thinking
  /** Tokens of the thinking blocks sent back, by path. */
  readonly thinkingTokens: ReadonlyMap<string, number>
  /** The schema that the answer must fit. */
  readonly format: JsonObject | null
  readonly effort: Effort
  /** Where the top-level `cache_control` asks for a breakpoint at the last block. */
  readonly cacheTtl: CacheTtl | null
  readonly inferenceGeo: string | null
  /** `system` and `tools`, which every thinking block is bound to. */
  readonly fixed: unknown
}

export interface ClaudeTool {
  readonly kind: 'client' | 'server'
  /** `web_search_20260318`, or `custom`. */
  readonly type: string
  readonly name: string
  readonly schema: JsonObject
  readonly definition: JsonObject
  readonly cacheTtl: CacheTtl | null
  /** Of a server tool: how often it may be called in this request. */
  readonly maxUses: number | null
  /** It may be called from code that the model writes and the provider runs. */
  readonly runsCode: boolean
  /** It is found by a tool search alone. */
  readonly isDeferred: boolean
}

export interface ToolChoice {
  readonly type: 'auto' | 'any' | 'tool' | 'none'
  readonly name: string | null
  readonly parallel: boolean
}

export interface Thinking {
  readonly type: ThinkingType
  readonly budgetTokens: number | null
  readonly shown: 'summarized' | 'omitted'
}

// oxfmt-ignore
const PARAMETERS = new Set([
  'cache_control', 'container', 'diagnostics', 'inference_geo', 'max_tokens', 'messages', 'metadata', 'model', 'output_config', 'service_tier',
  'speed', 'stop_sequences', 'stream', 'system', 'temperature', 'thinking', 'tool_choice', 'tools', 'top_k', 'top_p',
])
// oxfmt-ignore
const COUNT_PARAMETERS = new Set(['cache_control', 'messages', 'model', 'output_config', 'system', 'thinking', 'tool_choice', 'tools', 'speed'])
const SAMPLING = ['temperature', 'top_p', 'top_k'] as const
const NO_SAMPLING_SINCE = '2026-10-21'
const BUDGET_TOKENS_MIN = 1_024
const CACHE_BREAKPOINTS_MAX = 4
const SERVER_TOOL = /^(web_search|web_fetch|code_execution|tool_search_tool_\w+?)_\d{8}$/
/** These filter what they find in code, unless they may only be called directly. */
const FILTERING_TOOL = /^web_(?:search|fetch)_/
const FILTERING_SINCE = '20260209'
const ANTHROPIC_TOOL = /^(bash|text_editor|memory|computer|computer_toolset|browser_toolset)_\d{8}$/
// oxfmt-ignore
const TOOL_KEYS = new Set([
  'type', 'name', 'description', 'input_schema', 'cache_control', 'strict', 'allowed_callers', 'defer_loading', 'eager_input_streaming', 'input_examples',
])

/**
 * The request in `body` (parsed JSON) to one of `models`, by the API of `version`: from 2026-10-21 on without sampling parameters.
 * https://platform.claude.com/docs/en/api/versioning. Throws `ApiError`.
 */
export function checkRequest(body: unknown, models: ReadonlyMap<string, ClaudeModel>, version: string): ClaudeRequest {
  const given = checkBody(body, PARAMETERS)
  for (const name of version >= NO_SAMPLING_SINCE ? SAMPLING : [])
    if (given[name] !== undefined) throw invalid(name, `\`${name}\` is not supported in API version ${version}.`)
  const maxTokens = integerAt(given['max_tokens'], 'max_tokens', 0)
  const model = modelOf(given['model'], models)
  if (maxTokens > model.maxOutputTokens)
    throw invalid(
      'max_tokens',
      `${maxTokens} > ${model.maxOutputTokens}, which is the maximum allowed number of output tokens for ${model.id}`,
    )
  return read(given, model, maxTokens)
}

/** The request in `body` to count its input. Throws `ApiError`. */
export function checkCountRequest(body: unknown, models: ReadonlyMap<string, ClaudeModel>): ClaudeRequest {
  const given = checkBody(body, COUNT_PARAMETERS)
  const model = modelOf(given['model'], models)
  return read(given, model, model.maxOutputTokens)
}

function checkBody(body: unknown, known: ReadonlySet<string>): JsonObject {
  if (!isObject(body)) throw invalid('', 'The request body is not valid JSON: it must be an object')
  onlyKeys(body, known, '')
  return withoutNulls(body)
}

function read(given: JsonObject, model: ClaudeModel, maxTokens: number): ClaudeRequest {
  const system = checkSystem(given['system'])
  const turns = checkMessages(given['messages'], model)
  const tools = checkTools(given['tools'])
  const usesTools = turns.some((turn) => turn.blocks.some((block) => block.call !== null || block.answers !== null))
  if (usesTools && tools.length === 0) throw invalid('', 'Requests which include `tool_use` or `tool_result` blocks must define tools')
  const toolChoice = toolChoiceOf(given['tool_choice'], tools)
  const thinking = thinkingOf(given['thinking'], model, maxTokens)
  checkSampling(given, model, thinking)
  const isForced = toolChoice.type === 'any' || toolChoice.type === 'tool'
  if (isForced && thinking.type !== 'disabled') throw invalid('', 'Thinking may not be enabled when tool_choice forces tool use.')
  if (thinking.type === 'enabled') checkLoopStart(turns)
  const outputConfig = given['output_config'] === undefined ? {} : objectAt(given['output_config'], 'output_config')
  onlyKeys(outputConfig, new Set(['effort', 'format']), 'output_config')
  const cacheTtl = cacheTtlAt(given['cache_control'], 'cache_control')
  checkBreakpoints([...tools, ...system, ...turns.flatMap((turn) => turn.blocks)], cacheTtl)
  if (given['metadata'] !== undefined) checkMetadata(given['metadata'])
  if (given['service_tier'] !== undefined) oneOf(given['service_tier'], 'service_tier', ['auto', 'standard_only'])
  if (given['speed'] !== undefined && oneOf(given['speed'], 'speed', ['standard', 'fast']) === 'fast')
    throw invalid('speed', `'${model.id}' does not support fast mode`)
  const fixed = { tools: tools.map((tool) => tool.definition), system: system.map((block) => block.digest) }
  return {
    model,
    system,
    turns,
    tools,
    toolChoice,
    maxTokens,
    stream: given['stream'] !== undefined && booleanAt(given['stream'], 'stream'),
    stopSequences: stopSequencesOf(given['stop_sequences']),
    thinking,
    thinkingTokens: checkThinking(model, fixed, turns),
    format: formatOf(outputConfig['format']),
    effort: effortOf(outputConfig['effort'], model),
    cacheTtl,
    inferenceGeo: given['inference_geo'] === undefined ? null : oneOf(given['inference_geo'], 'inference_geo', ['global', 'us']),
    fixed,
  }
}

function modelOf(value: unknown, models: ReadonlyMap<string, ClaudeModel>): ClaudeModel {
  const id = stringAt(value, 'model')
  const model = models.get(id)
  if (model === undefined) throw new ApiError(404, `model: ${id}`)
  return model
}

/** Null means absent for every optional field. */
function withoutNulls(body: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null))
}

function checkTools(value: unknown): readonly ClaudeTool[] {
  if (value === undefined) return []
  const tools = listAt(value, 'tools').map((entry, index) => toolAt(entry, `tools.${index}`))
  const names = tools.map((tool) => tool.name)
  if (new Set(names).size < names.length) throw invalid('tools', 'Tool names must be unique.')
  return tools
}

function toolAt(entry: unknown, path: string): ClaudeTool {
  const tool = objectAt(entry, path)
  const type = tool['type'] === undefined || tool['type'] === null ? 'custom' : stringAt(tool['type'], `${path}.type`)
  const isServer = SERVER_TOOL.test(type)
  if (type !== 'custom' && !isServer && !ANTHROPIC_TOOL.test(type))
    throw invalid(path, `Input tag '${type}' found using 'type' does not match any of the expected tags`)
  const name = stringAt(tool['name'], `${path}.name`)
  if (!/^[a-zA-Z0-9_-]{1,128}$/.test(name)) throw invalid(`${path}.name`, "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'")
  const { cache_control: control, ...definition } = tool
  let schema: JsonObject = {}
  if (type === 'custom') {
    onlyKeys(tool, TOOL_KEYS, path)
    schema = objectAt(tool['input_schema'], `${path}.input_schema`)
    oneOf(schema['type'], `${path}.input_schema.type`, ['object'])
  }
  if (tool['allowed_callers'] !== undefined) listAt(tool['allowed_callers'], `${path}.allowed_callers`)
  const maxUses = tool['max_uses'] === undefined || tool['max_uses'] === null ? null : integerAt(tool['max_uses'], `${path}.max_uses`, 1)
  return {
    kind: isServer ? 'server' : 'client',
    type,
    name,
    schema,
    definition,
    cacheTtl: cacheTtlAt(control, `${path}.cache_control`),
    maxUses,
    runsCode: FILTERING_TOOL.test(type) && type.slice(-8) >= FILTERING_SINCE && !isDirect(tool['allowed_callers']),
    isDeferred: tool['defer_loading'] === true,
  }
}

function isDirect(callers: unknown): boolean {
  return Array.isArray(callers) && callers.every((caller) => caller === 'direct')
}

function toolChoiceOf(value: unknown, tools: readonly ClaudeTool[]): ToolChoice {
  if (value === undefined) return { type: 'auto', name: null, parallel: true }
  const choice = objectAt(value, 'tool_choice')
  const type = oneOf(choice['type'], 'tool_choice.type', ['auto', 'any', 'tool', 'none'])
  if (tools.length === 0) throw invalid('tool_choice', 'tool_choice may only be specified while providing tools')
  const known =
    type === 'none' ? ['type'] : type === 'tool' ? ['type', 'name', 'disable_parallel_tool_use'] : ['type', 'disable_parallel_tool_use']
  onlyKeys(choice, new Set(known), 'tool_choice')
  const single =
    choice['disable_parallel_tool_use'] !== undefined &&
    booleanAt(choice['disable_parallel_tool_use'], 'tool_choice.disable_parallel_tool_use')
  if (type !== 'tool') return { type, name: null, parallel: !single }
  const name = stringAt(choice['name'], 'tool_choice.name')
  if (!tools.some((tool) => tool.name === name)) throw invalid('tool_choice', `Tool '${name}' not found in provided tools`)
  return { type, name, parallel: !single }
}

function thinkingOf(value: unknown, model: ClaudeModel, maxTokens: number): Thinking {
  const [byDefault = 'disabled'] = model.thinking
  if (value === undefined) return { type: byDefault, budgetTokens: null, shown: model.thinkingShown }
  const thinking = objectAt(value, 'thinking')
  const type = oneOf(thinking['type'], 'thinking.type', ['disabled', 'enabled', 'adaptive', 'between_tools'])
  if (!model.thinking.includes(type))
    throw invalid(
      'thinking.type',
      `"thinking.type.${type}" is not supported for this model. Use ${model.thinking.map((each) => `"${each}"`).join(' or ')}.`,
    )
  onlyKeys(
    thinking,
    new Set(['type', ...(type === 'enabled' ? ['budget_tokens'] : []), ...(type === 'enabled' || type === 'adaptive' ? ['display'] : [])]),
    'thinking',
  )
  const shown =
    thinking['display'] === undefined || thinking['display'] === null
      ? model.thinkingShown
      : oneOf(thinking['display'], 'thinking.display', ['summarized', 'omitted'])
  if (type !== 'enabled') return { type, budgetTokens: null, shown }
  const budgetTokens = integerAt(thinking['budget_tokens'], 'thinking.enabled.budget_tokens', BUDGET_TOKENS_MIN)
  if (maxTokens <= budgetTokens) throw invalid('', '`max_tokens` must be greater than `thinking.budget_tokens`.')
  return { type, budgetTokens, shown }
}

function checkSampling(given: JsonObject, model: ClaudeModel, thinking: Thinking): void {
  const temperature = given['temperature'] === undefined ? null : numberAt(given['temperature'], 'temperature', 0, 1)
  const topP = given['top_p'] === undefined ? null : numberAt(given['top_p'], 'top_p', 0, 1)
  const topK = given['top_k'] === undefined ? null : integerAt(given['top_k'], 'top_k', 0)
  if (!model.sampling) {
    for (const [name, value, only] of [
      ['temperature', temperature, 1],
      ['top_p', topP, 1],
      ['top_k', topK, null],
    ] as const)
      if (value !== null && value !== only) throw invalid(name, `\`${name}\` is not supported for this model: only its default value is.`)
    return
  }
  if (thinking.type === 'disabled') return
  if (temperature !== null && temperature !== 1)
    throw invalid('temperature', '`temperature` may only be set to 1 when thinking is enabled.')
  if (topK !== null) throw invalid('top_k', '`top_k` must be unset when thinking is enabled.')
  if (topP !== null && topP < 0.95)
    throw invalid('top_p', '`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.')
}

/** A tool loop of manual thinking, which is one turn of the assistant, begins with thinking; later calls of it need none. */
function checkLoopStart(turns: readonly Turn[]): void {
  const isResult = (turn: Turn | undefined): boolean => turn?.blocks.some((block) => block.answers !== null) === true
  const asked = turns.findLastIndex((turn) => turn.role === 'user' && !isResult(turn))
  const first = turns.slice(asked + 1).find((turn) => turn.role === 'assistant')?.blocks[0]
  if (first === undefined || !isResult(turns.at(-1)) || first.signature !== null) return
  throw invalid(
    first.path + '.type',
    `Expected \`thinking\` or \`redacted_thinking\`, but found \`${first.type}\`. When \`thinking\` is enabled, a final \`assistant\` message must start with a thinking block (preceeding the lastmost set of \`tool_use\` and \`tool_result\` blocks).`,
  )
}

function checkBreakpoints(blocks: readonly { readonly cacheTtl: CacheTtl | null }[], atEnd: CacheTtl | null): void {
  const ttls = [...blocks.flatMap((block) => block.cacheTtl ?? []), ...(atEnd === null ? [] : [atEnd])]
  if (ttls.length > CACHE_BREAKPOINTS_MAX)
    throw invalid('', `A maximum of ${CACHE_BREAKPOINTS_MAX} blocks with cache_control may be provided. Found ${ttls.length}.`)
  const short = ttls.indexOf('5m')
  if (short >= 0 && ttls.lastIndexOf('1h') > short)
    throw invalid('', "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block.")
}

function checkMetadata(value: unknown): void {
  const metadata = objectAt(value, 'metadata')
  onlyKeys(metadata, new Set(['user_id']), 'metadata')
  if (metadata['user_id'] !== undefined && metadata['user_id'] !== null && stringAt(metadata['user_id'], 'metadata.user_id').length > 512)
    throw invalid('metadata.user_id', 'String should have at most 512 characters')
}

function stopSequencesOf(value: unknown): readonly string[] {
  if (value === undefined) return []
  return listAt(value, 'stop_sequences').map((entry, index) => {
    const text = stringAt(entry, `stop_sequences.${index}`)
    if (text.trim() === '') throw invalid('stop_sequences', 'each stop sequence must contain non-whitespace')
    return text
  })
}

function formatOf(value: unknown): JsonObject | null {
  if (value === undefined || value === null) return null
  const format = objectAt(value, 'output_config.format')
  oneOf(format['type'], 'output_config.format.type', ['json_schema'])
  const schema = objectAt(format['schema'], 'output_config.format.schema')
  if (schema['type'] === 'object' && schema['additionalProperties'] !== false)
    throw invalid('output_config.format.schema', "For 'object' type, 'additionalProperties' must be explicitly set to false")
  return schema
}

/** https://platform.claude.com/docs/en/build-with-claude/effort */
function effortOf(value: unknown, { efforts }: ClaudeModel): Effort {
  if (value === undefined || value === null) return 'high'
  if (efforts.length === 0) throw invalid('', 'This model does not support the effort parameter.')
  return oneOf(value, 'output_config.effort', efforts)
}
