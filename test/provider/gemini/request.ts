/**
 * A Gemini request, checked as strictly as the provider checks it, and read into the terms of the other fakes: one message per
 * role and result, so that answers, prompts and prices are worked out in one place. https://ai.google.dev/api/generate-content
 */
import type { ChatRequest } from '../chat-request.ts'
import type { JsonObject } from '../fields.ts'
import { isObject } from '../fields.ts'
import { imageSize, imageTokens, linkedPages, LINKED_SIZE, pdfPages } from '../images.ts'
import type { ChatMessage, ToolCall } from '../message-checks.ts'
import type { AnswerFormat, Tool, ToolChoice } from '../tool-checks.ts'
import { invalidArgument } from './errors.ts'
import type { GeminiModel } from './models.ts'
import { readMessage } from './proto.ts'
import { checkSignatures } from './signatures.ts'

export interface GeminiRequest {
  readonly model: GeminiModel
  readonly chat: ChatRequest
  /** The most hidden tokens that the request allows; null: as many as the model likes. */
  readonly thoughtsMax: number | null
  readonly includeThoughts: boolean
  /** Of the input tokens. */
  readonly imageTokens: number
}

const CANDIDATES_MAX = 8
const STOP_SEQUENCES_MAX = 5
const TOOLS_MAX = 512
const SCHEMA_TYPES = new Set(['STRING', 'NUMBER', 'INTEGER', 'BOOLEAN', 'ARRAY', 'OBJECT', 'NULL', 'TYPE_UNSPECIFIED'])
const CALLING_MODES = new Set(['AUTO', 'ANY', 'NONE', 'VALIDATED', 'MODE_UNSPECIFIED'])
const EFFORTS = { MINIMAL: 'minimal', LOW: 'low', MEDIUM: 'medium', HIGH: 'high', THINKING_LEVEL_UNSPECIFIED: 'medium' } as const
const SERVER_TOOLS = ['googleSearch', 'googleSearchRetrieval', 'codeExecution', 'urlContext', 'computerUse', 'fileSearch', 'googleMaps']

/** The request in `body` (parsed JSON) to `model`. Throws `ApiError`. */
export function checkGenerateContent(body: unknown, model: GeminiModel, stream: boolean): GeminiRequest {
  const request = readMessage(body, 'GenerateContentRequest')
  if (typeof request['model'] === 'string' && request['model'].replace(/^models\//, '') !== model.id)
    throw invalidArgument('The model in the body must be the one in the path.', 'model')
  if (typeof request['cachedContent'] === 'string')
    throw invalidArgument(`CachedContent not found (or permission denied): ${request['cachedContent']}`)
  const config = asObject(request['generationConfig'])
  checkBounds(config)
  const contents = contentsOf(request['contents'])
  const tools = toolsOf(request['tools'])
  const thinking = thinkingOf(config, model)
  const format = formatOf(config)
  if (format.kind !== 'text' && tools.length > 0 && !model.third)
    throw invalidArgument(`Function calling with a response mime type: '${String(config['responseMimeType'])}' is unsupported`)
  checkPairing(contents)
  checkSignatures(contents, model)
  const system = isObject(request['systemInstruction']) ? [systemMessage(request['systemInstruction'])] : []
  const messages = [...system, ...contents.flatMap(messagesOf)]
  return {
    model,
    thoughtsMax: thinking.most,
    includeThoughts: thinking.shown,
    imageTokens: messages.reduce(
      (sum, message) => sum + message.images.reduce((count, { size, detail }) => count + imageTokens(model.images, size, detail), 0),
      0,
    ),
    chat: {
      model,
      messages,
      tools,
      legacyFunctions: false,
      toolChoice: toolChoiceOf(request['toolConfig'], tools),
      parallelToolCalls: true,
      stream,
      includeUsage: true,
      obfuscate: false,
      choices: wholeIn(config, 'candidateCount', 1, CANDIDATES_MAX) ?? 1,
      outputLimit: outputLimitOf(config, model),
      format,
      stop: stopOf(config['stopSequences']),
      logprobs: false,
      serviceTier: 'default',
      effort: thinking.effort,
      prediction: null,
      preamble: preambleOf(tools, format),
    },
  }
}

/** A content with its parts, read so far that they can be told apart. */
export interface Content {
  readonly role: 'user' | 'model'
  readonly parts: readonly JsonObject[]
  readonly path: string
}

function contentsOf(value: unknown): readonly Content[] {
  if (!Array.isArray(value) || value.length === 0) throw invalidArgument('* GenerateContentRequest.contents: contents is not specified\n')
  return value.map((content: unknown, index) => {
    const path = `contents[${index}]`
    const { role = 'user', parts } = asObject(content)
    if (role !== 'user' && role !== 'model') throw invalidArgument('Please use a valid role: user, model.')
    if (!Array.isArray(parts) || parts.length === 0)
      throw invalidArgument(`* GenerateContentRequest.${path}.parts: contents.parts must not be empty.\n`)
    return { role, parts: parts.map((part: unknown, at) => checkPart(asObject(part), role, `${path}.parts[${at}]`)), path }
  })
}

// oxfmt-ignore
const PART_DATA = ['text', 'inlineData', 'fileData', 'functionCall', 'functionResponse', 'executableCode', 'codeExecutionResult']

function checkPart(part: JsonObject, role: Content['role'], path: string): JsonObject {
  const data = PART_DATA.filter((name) => part[name] !== undefined)
  if (data.length > 1) throw invalidArgument(`Invalid value at '${path}' (oneof), oneof field 'data' is already set.`, path)
  if (data.length === 0 && part['thoughtSignature'] === undefined)
    throw invalidArgument(`* GenerateContentRequest.${path}.data: required oneof field 'data' must have one initialized field\n`)
  const { functionCall: call, functionResponse: answer } = part
  if (call !== undefined) {
    if (role !== 'model') throw invalidArgument('Please ensure that function call turns have the role model.')
    checkName(asObject(call)['name'], `${path}.function_call.name`)
    const { args } = asObject(call)
    if (args !== undefined && !isObject(args)) throw invalidArgument(`Invalid value at '${path}.function_call.args' (Struct)`, path)
  }
  if (answer !== undefined) {
    if (role !== 'user') throw invalidArgument('Please ensure that function response turns have the role user.')
    checkName(asObject(answer)['name'], `${path}.function_response.name`)
    if (!isObject(asObject(answer)['response']))
      throw invalidArgument(`Invalid value at '${path}.function_response.response' (type.googleapis.com/google.protobuf.Struct)`, path)
  }
  return part
}

function checkName(name: unknown, path: string): void {
  if (typeof name !== 'string' || name === '') throw invalidArgument(`* GenerateContentRequest.${path}: Name cannot be empty.\n`)
}

/** Contents of one role that follow each other are one turn: each turn of calls is followed by a turn with one answer for each. */
function checkPairing(contents: readonly Content[]): void {
  let open: JsonObject[] = []
  for (const turn of turnsOf(contents)) {
    const calls = membersOf(turn, 'functionCall')
    const answers = membersOf(turn, 'functionResponse')
    if (answers.length > 0 && open.length === 0)
      throw invalidArgument('Please ensure that function response turn comes immediately after a function call turn.')
    if (answers.length !== open.length) throw uneven()
    for (const answer of answers) {
      const at = open.findIndex((call) => call['name'] === answer['name'] && (answer['id'] === undefined || answer['id'] === call['id']))
      if (at < 0)
        throw invalidArgument(
          `Please ensure that the function response parts match the function call parts of the function call turn: ${String(answer['name'])}.`,
        )
      open.splice(at, 1)
    }
    open = [...calls]
    if (calls.length > 0 && turn.first)
      throw invalidArgument('Please ensure that function call turn comes immediately after a user turn or after a function response turn.')
  }
  if (open.length > 0) throw uneven()
}

function uneven(): Error {
  return invalidArgument(
    'Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.',
  )
}

interface Turn {
  readonly parts: JsonObject[]
  readonly first: boolean
}

function turnsOf(contents: readonly Content[]): readonly Turn[] {
  const turns: (Turn & { readonly role: Content['role'] })[] = []
  for (const { role, parts } of contents) {
    const last = turns.at(-1)
    if (last?.role === role) last.parts.push(...parts)
    else turns.push({ role, parts: [...parts], first: last === undefined })
  }
  return turns
}

function membersOf(turn: { readonly parts: readonly JsonObject[] }, name: string): readonly JsonObject[] {
  return turn.parts.flatMap((part) => (isObject(part[name]) ? [part[name]] : []))
}

function systemMessage(content: JsonObject): ChatMessage {
  const parts: readonly unknown[] = Array.isArray(content['parts']) ? content['parts'] : []
  const texts = parts.map((part) => asObject(part)['text'])
  if (texts.length === 0 || texts.some((text) => typeof text !== 'string'))
    throw invalidArgument('* GenerateContentRequest.system_instruction: only text is supported in system instructions.\n')
  return { role: 'system', text: texts.join(''), ...NOTHING_MORE }
}

const NOTHING_MORE = { name: null, toolCalls: [], toolCallId: null, images: [], pages: 0 } as const

/** Results first, as they answer what was said before; then what the content says itself. */
function messagesOf(content: Content): readonly ChatMessage[] {
  const answers = membersOf(content, 'functionResponse').map((answer): ChatMessage => ({
    ...NOTHING_MORE,
    role: 'tool',
    text: textOf(answer['response']),
    toolCallId: String(answer['id'] ?? answer['name']),
  }))
  const said = content.parts.filter((part) => part['functionResponse'] === undefined && part['thought'] !== true)
  if (said.length === 0) return answers
  const toolCalls = membersOf(content, 'functionCall').map((call): ToolCall => ({
    id: String(call['id'] ?? call['name']),
    kind: 'function',
    name: String(call['name']),
    input: JSON.stringify(call['args'] ?? {}),
  }))
  const media = said.map((part) => mediaOf(part, content.path))
  return [
    ...answers,
    {
      ...NOTHING_MORE,
      role: content.role === 'user' ? 'user' : 'assistant',
      text: said.map((part) => (typeof part['text'] === 'string' ? part['text'] : '')).join(''),
      toolCalls,
      images: media.flatMap(({ images }) => images),
      pages: media.reduce((sum, { pages }) => sum + pages, 0),
    },
  ]
}

/** What a function gave back: its `result` or `output` if it is text, else all of it. */
function textOf(response: unknown): string {
  const { result, output } = asObject(response)
  for (const text of [result, output]) if (typeof text === 'string') return text
  return JSON.stringify(response)
}

function mediaOf(part: JsonObject, path: string): Pick<ChatMessage, 'images' | 'pages'> {
  const blob = part['inlineData'] ?? part['fileData']
  if (!isObject(blob)) return { images: [], pages: 0 }
  const type = String(blob['mimeType'])
  const data = typeof blob['data'] === 'string' ? Buffer.from(blob['data'], 'base64') : null
  const linked = data === null ? linkedPages(String(blob['fileUri'])) : null
  if (type === 'application/pdf') return { images: [], pages: data === null ? (linked ?? 1) : pdfPages(data) }
  if (type.startsWith('video/') && linked !== null) return { images: [], pages: linked }
  if (!type.startsWith('image/')) throw invalidArgument(`Unsupported MIME type: ${type}`, path)
  const size = data === null ? LINKED_SIZE : imageSize(data)
  if (size === null)
    throw invalidArgument(
      'Unable to process input image. Please retry or report in https://developers.generativeai.google/guide/troubleshooting',
    )
  return { images: [{ url: String(blob['fileUri'] ?? blob['data']), size, detail: 'high' }], pages: 0 }
}

function toolsOf(value: unknown): readonly Tool[] {
  if (value === undefined) return []
  const tools: Tool[] = []
  for (const [index, entry] of (Array.isArray(value) ? value : []).entries()) {
    const tool = asObject(entry)
    for (const name of SERVER_TOOLS) if (tool[name] !== undefined) throw invalidArgument(`Tool ${name} is not enabled for this model.`)
    const declarations: readonly unknown[] = Array.isArray(tool['functionDeclarations']) ? tool['functionDeclarations'] : []
    for (const [at, declared] of declarations.entries())
      tools.push(functionOf(asObject(declared), `tools[${index}].function_declarations[${at}]`))
  }
  if (tools.length > TOOLS_MAX) throw invalidArgument(`At most ${TOOLS_MAX} function declarations are allowed.`)
  const names = new Set(tools.map((tool) => tool.name))
  if (names.size < tools.length) throw invalidArgument('Duplicate function declaration found.')
  return tools
}

function functionOf(definition: JsonObject, path: string): Tool {
  const name = definition['name']
  if (typeof name !== 'string' || !/^[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}$/.test(name))
    throw invalidArgument(
      `* GenerateContentRequest.${path}.name: Invalid function name. Must start with a letter or an underscore, at most 64 of a-z, A-Z, 0-9, _, ., :, -.\n`,
    )
  const { parameters, parametersJsonSchema: json } = definition
  if (parameters !== undefined && json !== undefined)
    throw invalidArgument(`* GenerateContentRequest.${path}: only one of parameters and parameters_json_schema may be set.\n`)
  const schema = json === undefined ? (parameters === undefined ? {} : jsonSchemaOf(parameters, `${path}.parameters`)) : asObject(json)
  if (schema['type'] !== undefined && schema['type'] !== 'object')
    throw invalidArgument(`* GenerateContentRequest.${path}.parameters: schema must be of type OBJECT.\n`)
  return { kind: 'function', name, schema, definition }
}

/** A schema of the OpenAPI kind, with its types in capitals, as JSON Schema. */
function jsonSchemaOf(value: unknown, path: string): JsonObject {
  if (!isObject(value)) throw invalidArgument(`Invalid value at '${path}' (Schema)`, path)
  const { type } = value
  if (type !== undefined && !(typeof type === 'string' && SCHEMA_TYPES.has(type.toUpperCase())))
    throw invalidArgument(
      `Invalid value at '${path}.type' (type.googleapis.com/google.ai.generativelanguage.v1beta.Type), ${JSON.stringify(type)}`,
      path,
    )
  const schema: Record<string, unknown> = { ...value }
  if (typeof type === 'string') schema['type'] = type.toLowerCase()
  if (isObject(value['properties'])) {
    const properties = Object.entries(value['properties'])
    schema['properties'] = Object.fromEntries(properties.map(([key, member]) => [key, jsonSchemaOf(member, `${path}.properties[${key}]`)]))
  }
  if (value['items'] !== undefined) schema['items'] = jsonSchemaOf(value['items'], `${path}.items`)
  if (Array.isArray(value['anyOf'])) schema['anyOf'] = value['anyOf'].map((member: unknown) => jsonSchemaOf(member, `${path}.any_of`))
  return schema
}

function toolChoiceOf(value: unknown, tools: readonly Tool[]): ToolChoice {
  const calling = asObject(value)['functionCallingConfig']
  if (!isObject(calling)) return { kind: 'auto', among: null }
  if (tools.length === 0) throw invalidArgument('Function calling config is set without function_declarations.')
  const mode = calling['mode'] ?? 'AUTO'
  if (typeof mode !== 'string' || !CALLING_MODES.has(mode))
    throw invalidArgument(`Invalid value at 'tool_config.function_calling_config.mode', ${JSON.stringify(mode)}`, 'tool_config')
  const among = calling['allowedFunctionNames']
  const names: readonly unknown[] | null = Array.isArray(among) && among.length > 0 ? among : null
  if (names !== null && mode !== 'ANY' && mode !== 'VALIDATED')
    throw invalidArgument('Please set allowed_function_names only when function calling mode is ANY or VALIDATED.')
  for (const name of names ?? [])
    if (!tools.some((tool) => tool.name === name))
      throw invalidArgument(`Please provide function declarations for all allowed_function_names. Not found: ${String(name)}`)
  return { kind: mode === 'NONE' ? 'none' : mode === 'ANY' ? 'required' : 'auto', among: names?.map(String) ?? null }
}

function formatOf(config: JsonObject): AnswerFormat {
  const type = config['responseMimeType'] ?? 'text/plain'
  const { responseSchema: schema, responseJsonSchema: json } = config
  if (type !== 'text/plain' && type !== 'application/json')
    throw invalidArgument(
      `* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are \`text/plain\` and \`application/json\`.\n`,
    )
  if (schema === undefined && json === undefined) return { kind: type === 'text/plain' ? 'text' : 'jsonObject' }
  if (type === 'text/plain') throw invalidArgument('response_schema is only allowed with response_mime_type application/json.')
  if (schema !== undefined && json !== undefined) throw invalidArgument('Only one of response_schema and response_json_schema may be set.')
  return {
    kind: 'jsonSchema',
    name: 'response',
    schema: json === undefined ? jsonSchemaOf(schema, 'generation_config.response_schema') : asObject(json),
  }
}

function thinkingOf(config: JsonObject, model: GeminiModel): { most: number | null; shown: boolean; effort: ChatRequest['effort'] } {
  const thinking = asObject(config['thinkingConfig'])
  const { thinkingBudget: budget, thinkingLevel: level } = thinking
  const shown = thinking['includeThoughts'] === true
  if (budget !== undefined && level !== undefined) throw invalidArgument('You can only set only one of thinking budget and thinking level.')
  if (level !== undefined) {
    if (model.thinking.by !== 'level') throw invalidArgument('Thinking level is not supported for this model.')
    const effort = Object.entries(EFFORTS).find(([name]) => typeof level === 'string' && name === level.toUpperCase())?.[1]
    if (effort === undefined)
      throw invalidArgument(`Invalid value at 'generation_config.thinking_config.thinking_level', ${JSON.stringify(level)}`)
    return { most: null, shown, effort }
  }
  if (budget === undefined || budget === -1) return { most: null, shown, effort: 'medium' }
  if (budget === 0) {
    if (model.thinking.by === 'budget' && model.thinking.mayBeOff) return { most: 0, shown, effort: 'none' }
    throw invalidArgument('Budget 0 is invalid. This model only works in thinking mode.')
  }
  const { min, max } = model.thinking.by === 'budget' ? model.thinking : { min: 1, max: model.maxOutputTokens }
  if (typeof budget !== 'number' || !Number.isInteger(budget) || budget < min || budget > max)
    throw invalidArgument(`The thinking budget ${JSON.stringify(budget)} is invalid. Please choose a value between ${min} and ${max}.`)
  return { most: budget, shown, effort: 'medium' }
}

function outputLimitOf(config: JsonObject, model: GeminiModel): number | null {
  const limit = config['maxOutputTokens']
  if (limit === undefined) return null
  if (typeof limit === 'number' && Number.isInteger(limit) && limit >= 1 && limit <= model.maxOutputTokens) return limit
  throw invalidArgument(
    `Unable to submit request because it has a maxOutputTokens value of ${JSON.stringify(limit)} but the supported range is from 1 (inclusive) to ${model.maxOutputTokens + 1} (exclusive). Update the value and try again.`,
  )
}

function checkBounds(config: JsonObject): void {
  const decimal = (name: string, min: number, max: number): void => {
    const value = config[name]
    if (value === undefined || (typeof value === 'number' && value >= min && value <= max)) return
    throw invalidArgument(`* GenerateContentRequest.generation_config.${name}: ${name} must be in the range [${min}, ${max}].\n`)
  }
  decimal('temperature', 0, 2)
  decimal('topP', 0, 1)
  decimal('presencePenalty', -2, 2)
  decimal('frequencyPenalty', -2, 2)
  wholeIn(config, 'topK', 1, 1_000)
  if (config['responseModalities'] !== undefined && JSON.stringify(config['responseModalities']) !== '["TEXT"]')
    throw invalidArgument('This model only supports text output.')
  if (config['responseLogprobs'] === true) throw invalidArgument('Logprobs is not enabled for this model.')
}

function wholeIn(config: JsonObject, name: string, min: number, max: number): number | null {
  const value = config[name]
  if (value === undefined) return null
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
  throw invalidArgument(`* GenerateContentRequest.generation_config.${name}: ${name} must be in the range [${min}, ${max}].\n`)
}

function stopOf(value: unknown): readonly string[] {
  const stops: readonly unknown[] = Array.isArray(value) ? value : []
  if (stops.length > STOP_SEQUENCES_MAX) throw invalidArgument(`At most ${STOP_SEQUENCES_MAX} stop sequences are allowed.`)
  return stops.map((stop) => {
    if (typeof stop === 'string' && stop !== '') return stop
    throw invalidArgument('stop_sequences must not be empty strings.')
  })
}

function preambleOf(tools: readonly Tool[], format: AnswerFormat): string {
  if (tools.length === 0 && format.kind !== 'jsonSchema') return ''
  return JSON.stringify([tools.map((tool) => tool.definition), format.kind === 'jsonSchema' ? format.schema : null])
}

function asObject(value: unknown): JsonObject {
  return isObject(value) ? value : {}
}
