/**
 * Gemini requests (`generateContent`, `streamGenerateContent`): bytes and path -> `ModelRequest`, and changes of it back into
 * both. The model stands in the path. https://ai.google.dev/api/generate-content
 */
import { digestOf } from '../core/digest.ts'
import { bytesOf, isList, isObject } from '../core/message.ts'
import { HOSTED_CALLS_MAX, NO_HOSTED_TOOLS } from '../core/request.ts'
import type { HostedTools, Json, JsonObject, Message, ModelRequest, RequestChange } from '../core/request.ts'
import { foldedName } from './field-names.ts'
import { addGeminiNotice, readGeminiAnswer, syntheticGemini } from './gemini-answer.ts'
import { memberOf, objectOf, objectsIn, objectsOf, snakeCase, textOf } from './gemini-json.ts'
import { isSystemInstruction, ownGeminiMessage, readContents, systemMessage } from './gemini-message.ts'
import { GeminiStream } from './gemini-stream.ts'
import { isThirdOrLater, leastThinking, thinkingFor } from './gemini-thinking.ts'
import type { ThinkingChange } from './gemini-thinking.ts'
import { geminiTier } from './gemini-usage.ts'
import { FIELDS_MAX, memberRanges } from './json-scan.ts'
import type { Field, Range } from './json-scan.ts'
import { countIn, textsOf } from './json-values.ts'
import { parameterName, parametersIn } from './query.ts'
import {
  asBuffer,
  changedMessages,
  CHOICES_MAX,
  InvalidField,
  isWhole,
  listOf,
  MODEL_LENGTH_MAX,
  optional,
  OUTPUT_LIMIT_MAX,
  parseBody,
  refusesTools,
  SpelledFields,
  spliceOf,
  stopsAtWords,
  UngovernedUse,
} from './request-reading.ts'
import type { Fields } from './request-reading.ts'
import { Splice } from './splice.ts'
import type { Layout } from './splice.ts'
import { GOOGLE_SEARCHES_MAX, isGoogleSearch, isRunByApp } from './tool-names.ts'
import type { CallContext, ParsedRequest, PromptTask, Wire } from './wire.ts'

export const geminiWire: Wire = {
  name: 'gemini',
  asksForUsage: false,
  parse: (body, call) => parseGeminiRequest(body, call),
  render: renderGeminiRequest,
  path: (call, { model }) => (model === undefined ? call.path : withModel(call.path, model)),
  readAnswer: (body) => readGeminiAnswer(body),
  addNotice: addGeminiNotice,
  openStream: (options) => new GeminiStream(options),
  synthetic: (request, answer) => syntheticGemini({ request, asEvents: READ_AS_EVENTS.has(request.body), ...answer }),
  objection(status, body) {
    if (status !== 400 && status !== 404) return null
    return /thought_signature|thought signature|function (call|response)/i.test(body) ? 'edits' : 'swap'
  },
  prompt: promptCall,
  counts: { ask: askedCount, read: (body) => countIn(body, 'totalTokens'), isUnknown: () => false },
}

/** What the path of a call says. Versions differ, and so does what stands before the model at Vertex, which in express mode names no project. */
const CALL_PATH =
  /^((?:\/v1(?:beta\d*|alpha\d*)?)?\/(?:(?:projects\/[^/]+\/locations\/[^/]+\/)?publishers\/[^/]+\/)?models\/)([^/:?]+):(\w+)(\?.*)?$/

/** The model and the method that a path names; null where it is none of these calls. */
export function geminiCall(path: string): { readonly model: string; readonly method: string } | null {
  const found = CALL_PATH.exec(path)
  const model = found === null ? null : decoded(found[2] ?? '')
  return model === null ? null : { model, method: found?.[3] ?? '' }
}

const OUTPUT_FIELD = 'generationConfig.maxOutputTokens'
/** Of a query. Others can leave the usage out of the answer (`fields`), or bring headers of their own (`$httpHeaders`). */
const PARAMETERS: ReadonlySet<string> = new Set(['alt', 'key', 'access_token', 'oauth_token', 'prettyprint', 'quotauser', 'userproject'])
const SPLIT_FIELDS: ReadonlySet<string> = new Set(['contents', 'tools'])
/** Bodies whose answer, where it is streamed, is read as server-sent events; of all others, as a list. */
const READ_AS_EVENTS = new WeakSet<Uint8Array>()

/** Reads what the turn needs, and refuses what it cannot be sure of; the provider judges the rest. */
export function parseGeminiRequest(body: Buffer, { path, askedTier }: Pick<CallContext, 'path' | 'askedTier'>): Promise<ParsedRequest> {
  return parseBody(body, SPLIT_FIELDS, (list) => {
    const fields = fieldsOf(list)
    checkParameters(path)
    if (typeof fields.get('cachedContent')?.json === 'string')
      throw new UngovernedUse('A request on top of cached content, whose length is not known here,')
    const request = geminiRequest(body, path, fields)
    if (/[?&](?:\$|%24)?alt=sse(?:&|$)/.test(path)) READ_AS_EVENTS.add(body)
    return typeof askedTier === 'string' ? { ...request, serviceTier: askedTier } : request
  })
}

/** Throws `InvalidField`. */
export function checkParameters(path: string): void {
  if (parametersIn(path).some((parameter) => !PARAMETERS.has(parameterName(parameter))))
    throw new InvalidField('query', 'must have no parameters that change what the answer says')
}

/** The request with `change` made to it, but for the model: the same buffer when nothing changes. */
export function renderGeminiRequest(request: ModelRequest, change: RequestChange): Buffer {
  const splice = spliceOf(request, SPLIT_FIELDS)
  const nameOf = (field: string): string => (splice.has(snakeCase(field)) ? snakeCase(field) : field)
  const drop = (change.drop ?? []).map((name) => name.split('.'))
  for (const [name = '', ...inner] of drop) if (inner.length === 0) splice.drop(nameOf(name))
  spliceConfig(splice, nameOf('generationConfig'), {
    drop: drop.flatMap(([name, inner, ...more]) =>
      name === 'generationConfig' && inner !== undefined && more.length === 0 ? [inner] : [],
    ),
    model: change.model ?? request.model,
    isOther: change.model !== undefined,
    outputTokens: change.outputLimit?.tokens ?? null,
  })
  if (refusesTools(request, change)) refuseTools(splice, nameOf('toolConfig'))
  const messages = changedMessages(request, change)
  if (messages !== null) {
    splice.set('contents', listOf(messages.filter((message) => !isSystemInstruction(message))))
    const system = messages.find(isSystemInstruction)
    if (system !== undefined) splice.set(nameOf('systemInstruction'), asBuffer(system.bytes))
  }
  return splice.bytes()
}

/** Members of `generationConfig` that change nothing of what fills the window; all others are part of `fixedDigest`. */
// oxfmt-ignore
const CONFIG_OUTSIDE_WINDOW: ReadonlySet<string> = new Set([
  'maxOutputTokens', 'candidateCount', 'temperature', 'topP', 'topK', 'seed', 'stopSequences', 'presencePenalty', 'frequencyPenalty',
  'responseLogprobs', 'logprobs', 'thinkingConfig',
])
const FIELDS_OUTSIDE_WINDOW: ReadonlySet<string> = new Set([
  'contents',
  'systemInstruction',
  'generationConfig',
  'safetySettings',
  'labels',
  'serviceTier',
  'store',
])
/** By number, as protocol buffers allow: https://ai.google.dev/api/generate-content#Modality */
const MODALITIES = ['MODALITY_UNSPECIFIED', 'TEXT', 'IMAGE', 'AUDIO'] as const
/** https://ai.google.dev/api/caching#Mode_1 */
const MODES = ['MODE_UNSPECIFIED', 'AUTO', 'ANY', 'NONE', 'VALIDATED'] as const

/** By their lowerCamelCase name. */
function fieldsOf(fields: readonly Field[]): Fields {
  const forms = new Set<string>()
  for (const { name } of fields) {
    const form = formOf(name)
    if (forms.has(form)) throw new InvalidField(camelCase(name), 'must be given once, whichever way it is spelled')
    forms.add(form)
  }
  return new SpelledFields(
    fields.map((field) => [camelCase(field.name), field] as const),
    formOf,
  )
}

/** One for all spellings of a name: `maxOutputTokens`, `max_output_tokens`, and what others than Google may take for either. */
function formOf(name: string): string {
  return foldedName(name).replaceAll('_', '')
}

function camelCase(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
}

function geminiRequest(body: Buffer, path: string, fields: Fields): ModelRequest {
  const call = geminiCall(path)
  if (call === null || call.model.length > MODEL_LENGTH_MAX) throw new InvalidField('model', 'must stand in the path')
  const config = configOf(fields)
  const messages = messagesOf(body, fields)
  const tools = objectsIn(valueOf(fields, 'tools'))
  const functions = tools.flatMap((tool) => objectsOf(tool, 'functionDeclarations'))
  const mode = callingMode(fields)
  const hosted = hostedTools(call.model, tools)
  const limit = wholeOf(config, 'maxOutputTokens', OUTPUT_LIMIT_MAX)
  return {
    wire: 'gemini',
    body,
    model: call.model,
    stream: call.method === 'streamGenerateContent',
    includeUsage: true,
    choices: wholeOf(config, 'candidateCount', CHOICES_MAX) ?? 1,
    outputLimit: limit === null ? null : { field: OUTPUT_FIELD, tokens: limit },
    outputField: OUTPUT_FIELD,
    generates: true,
    units: {},
    earlier: null,
    messages,
    tools: functions.length > 0 && mode === 'ANY' ? 'forced' : functions.length > 0 || hosted.runs ? 'offered' : 'none',
    toolsRefused: functions.length > 0 && mode === 'NONE' && !hosted.runs,
    structured: isStructured(config),
    serviceTier: tierIn(fields),
    metadata: textsOf(valueOf(fields, 'labels')),
    promptCacheKey: null,
    safetyIdentifier: null,
    user: null,
    fixedBytes: body.length - bytesOf(messages),
    fixedDigest: shapingDigest(body, fields, config),
    fields: fieldNames(fields, config),
    hosted: hosted.held,
    own: ownGeminiMessage,
  }
}

function messagesOf(body: Buffer, fields: Fields): readonly Message[] {
  const field = fields.get('contents')
  const elements = field?.elements ?? (isObject(field?.json) ? [{ json: field.json, start: field.start, end: field.end }] : [])
  if (elements.length === 0) throw new InvalidField('contents', 'must be a list with at least one content')
  const contents = elements.map(({ json, start, end }, index) => {
    if (!isObject(json)) throw new InvalidField(`contents[${index}]`, 'must be an object')
    return { json, start, end }
  })
  const messages = readContents(body, contents)
  if ('unknownRole' in messages) throw new InvalidField(`contents[${messages.unknownRole}].role`, 'must be "user" or "model"')
  const system = fields.get('systemInstruction')
  if (system === undefined || !isObject(system.json)) return messages
  return [systemMessage(system.json, body.subarray(system.start, system.end)), ...messages]
}

function configOf(fields: Fields): JsonObject {
  const json = fields.get('generationConfig')?.json ?? null
  if (json === null) return {}
  if (!isObject(json)) throw new InvalidField('generationConfig', 'must be an object')
  const names = Object.keys(json)
  if (names.length > FIELDS_MAX) throw new InvalidField('generationConfig', `must have at most ${FIELDS_MAX} members`)
  for (const name of names) {
    const other = snakeCase(name)
    if (other !== name && json[other] !== undefined)
      throw new InvalidField(`generationConfig.${name}`, 'must be given once, whichever way it is spelled')
    const read = CONFIG_READ.get(formOf(name))
    if (read !== undefined && read !== camelCase(name)) throw new InvalidField(`generationConfig.${name}`, `must be spelled "${read}"`)
  }
  return json
}
/** Members that the hold and the shape of a call depend on, by the form of all their spellings. */
const CONFIG_READ: ReadonlyMap<string, string> = new Map(
  [
    'maxOutputTokens',
    'candidateCount',
    'responseMimeType',
    'responseSchema',
    'responseJsonSchema',
    'responseModalities',
    'stopSequences',
    'thinkingConfig',
  ].map((name) => [formOf(name), name]),
)

function tierIn(fields: Fields): string | null {
  const written = optional(fields, 'serviceTier', 'must be a string', isText)
  return written === null ? null : geminiTier(written)
}

/** A count, which may be written as text. */
function wholeOf(config: JsonObject, name: string, most: number): number | null {
  const value = memberOf(config, name)
  if (value === undefined) return null
  const count = typeof value === 'string' && /^\d{1,10}$/.test(value) ? Number(value) : value
  if (isWhole(count, most)) return count
  throw new InvalidField(`generationConfig.${name}`, `must be an integer from 1 to ${most}`)
}

function callingMode(fields: Fields): string {
  const config = valueOf(fields, 'toolConfig')
  const mode = isObject(config) ? memberOf(objectOf(config, 'functionCallingConfig'), 'mode') : undefined
  return typeof mode === 'number' ? (MODES[mode] ?? '') : typeof mode === 'string' ? mode.toUpperCase() : ''
}

function isStructured(config: JsonObject): boolean {
  const type = textOf(config, 'responseMimeType')
  if (type !== null && type !== 'text/plain') return true
  if (memberOf(config, 'responseSchema') !== undefined || memberOf(config, 'responseJsonSchema') !== undefined) return true
  return modalitiesOf(config).some((modality) => modality !== 'TEXT')
}

/** By name; a list of one may be written without its brackets, and each by its number. */
function modalitiesOf(config: JsonObject): readonly string[] {
  const value = memberOf(config, 'responseModalities')
  const list = isList(value) ? value : value === undefined ? [] : [value]
  return list.map((modality) => {
    if (typeof modality === 'string') return modality.toUpperCase()
    return typeof modality === 'number' ? (MODALITIES[modality] ?? '') : ''
  })
}

function isText(value: Json | undefined): value is string {
  return typeof value === 'string'
}

/** Of the body and of `generationConfig`; `audio` where the answer may be spoken. */
function fieldNames(fields: Fields, config: JsonObject): ReadonlySet<string> {
  const names = new Set(fields.keys())
  for (const name of Object.keys(config)) {
    const member = camelCase(name)
    if (member !== 'stopSequences' || stopsAtWords(config[name])) names.add(`generationConfig.${member}`)
  }
  if (modalitiesOf(config).some((modality) => modality !== 'TEXT' && modality !== 'IMAGE')) names.add('audio')
  return names
}

/** What is held for the tools that the provider runs; `runs`: there are any. */
function hostedTools(model: string, tools: readonly JsonObject[]): { readonly runs: boolean; readonly held: HostedTools } {
  const hosted = tools.flatMap((tool) => Object.keys(tool).filter((name) => isHosted(name) && tool[name] !== null))
  if (hosted.length === 0) return { runs: false, held: NO_HOSTED_TOOLS }
  // What the provider runs beside searches the model reads as input, with all that was there before.
  const rereads = !hosted.every(isGoogleSearch)
  // A fee for each answer, or for each search from Gemini 3 on.
  const maxCalls = rereads ? null : isThirdOrLater(model) ? GOOGLE_SEARCHES_MAX : 1
  // Code and pages cost no fee of their own: what counts is that the model reads again, and nothing can make it stop.
  return {
    runs: true,
    held: {
      tools: hosted.some(isGoogleSearch) ? ['webSearch'] : [],
      maxCalls,
      rereads,
      ...(rereads ? { fewestCalls: HOSTED_CALLS_MAX } : { resultsRead: GOOGLE_SEARCHES_MAX }),
    },
  }
}

function isHosted(name: string): boolean {
  return !isRunByApp(name)
}

function shapingDigest(body: Buffer, fields: Fields, config: JsonObject): string {
  const parts: Uint8Array[] = []
  for (const [name, field] of fields) if (!FIELDS_OUTSIDE_WINDOW.has(name)) parts.push(body.subarray(field.keyStart, field.end))
  const shaping = Object.entries(config).filter(([name]) => !CONFIG_OUTSIDE_WINDOW.has(camelCase(name)))
  if (shaping.length > 0) parts.push(Buffer.from(JSON.stringify(shaping)))
  return digestOf(Buffer.concat(parts))
}

function valueOf(fields: Fields, name: string): Json | undefined {
  const field = fields.get(name)
  return field?.elements?.map(({ json }) => json) ?? field?.json
}

/** Members of `generationConfig` spliced in place: the rest of it stays as it was written. */
function spliceConfig(splice: Splice, name: string, change: ConfigChange): void {
  const text = splice.text(name)
  if (text === null || text === 'null') {
    if (change.outputTokens !== null) splice.set(name, JSON.stringify({ maxOutputTokens: change.outputTokens }))
    return
  }
  const bytes = Buffer.from(text)
  const inner = new Splice(bytes, layoutOfMembers(bytes))
  const nameOf = (field: string): string => (inner.has(snakeCase(field)) ? snakeCase(field) : field)
  for (const field of change.drop) inner.drop(nameOf(field))
  const thinking = nameOf('thinkingConfig')
  const thought = change.isOther || change.outputTokens !== null ? inner.text(thinking) : null
  if (thought !== null) inner.set(thinking, thinkingFor(thought, change))
  if (change.outputTokens !== null) inner.set(nameOf('maxOutputTokens'), String(change.outputTokens))
  splice.set(name, inner.bytes())
}

interface ConfigChange extends ThinkingChange {
  readonly drop: readonly string[]
}

function layoutOfMembers(bytes: Buffer): Layout {
  const whole: Range = { start: 0, end: bytes.length }
  const fields = [...memberRanges(bytes, whole)].map(([name, range]) => ({ name, keyStart: keyStartOf(bytes, range.start), ...range }))
  return { bodyStart: 1, fields }
}

/** The opening quote of the key before a value. */
function keyStartOf(bytes: Buffer, valueStart: number): number {
  let at = bytes.lastIndexOf(QUOTE, valueStart - 1) // the closing one
  do at = bytes.lastIndexOf(QUOTE, at - 1)
  while (isEscaped(bytes, at))
  return at
}
const QUOTE = 0x22
const BACKSLASH = 0x5c
function isEscaped(bytes: Buffer, at: number): boolean {
  let slashes = 0
  while (bytes[at - 1 - slashes] === BACKSLASH) slashes += 1
  return slashes % 2 === 1
}

/** Functions are called no more, which a mode says; tools that the provider runs are not offered any more, since no mode stops them. */
function refuseTools(splice: Splice, toolConfig: string): void {
  const offered: Json = JSON.parse(splice.text('tools') ?? 'null')
  const tools = objectsIn(offered)
  if (tools.some((tool) => Object.keys(tool).some(isHosted))) {
    const left = tools
      .map((tool) => Object.fromEntries(Object.entries(tool).filter(([name]) => !isHosted(name))))
      .filter((tool) => Object.keys(tool).length > 0)
    if (left.length === 0) splice.drop('tools')
    else splice.set('tools', JSON.stringify(left))
  }
  // The provider refuses a mode without functions.
  if (tools.some((tool) => objectsOf(tool, 'functionDeclarations').length > 0))
    splice.set(toolConfig, withoutCalls(splice.text(toolConfig)))
}

/** A tool config under which nothing is called; what it says beside that stays. */
function withoutCalls(text: string | null): string {
  const own: Json = text === null ? null : JSON.parse(text)
  const { functionCallingConfig: _calls, function_calling_config: _sameCalls, ...rest } = isObject(own) ? own : {}
  return JSON.stringify({ ...rest, functionCallingConfig: { mode: 'NONE' } })
}

/** https://ai.google.dev/api/tokens#method:-models.counttokens. Vertex takes the fields of the request as they are, and fewer of them. */
function askedCount(
  request: ModelRequest,
  call: CallContext,
  change: RequestChange = {},
): { readonly path: string; readonly body: Buffer } {
  const model = change.model ?? request.model
  const path = withMethod(withModel(call.path, model), 'countTokens')
  if (call.path.includes('/publishers/')) {
    const drop = [...request.fields].filter((name) => !name.includes('.') && !COUNTED_BY_VERTEX.has(name))
    return { path, body: renderGeminiRequest(request, { ...change, drop }) }
  }
  const whole = renderGeminiRequest(request, { ...change, drop: ['model'] })
  const members = whole.subarray(whole.indexOf('{') + 1)
  const head = `{"generateContentRequest":{"model":${JSON.stringify(`models/${model.replace(/^models\//, '')}`)},`
  return { path, body: Buffer.concat([Buffer.from(head), members, Buffer.from('}')]) }
}
const COUNTED_BY_VERTEX: ReadonlySet<string> = new Set(['contents', 'systemInstruction', 'tools', 'generationConfig', 'labels'])

function withModel(path: string, model: string): string {
  return path.replace(
    CALL_PATH,
    (_, before: string, _model, method: string, query = '') => `${before}${encodeURIComponent(model)}:${method}${query}`,
  )
}

/** The path of a call with another method; the answer is one piece of JSON. */
function withMethod(path: string, method: string): string {
  return path
    .replace(/:\w+(\?|$)/, `:${method}$1`)
    .replace(/([?&])(?:\$|%24)?alt=[^&]*&?/, '$1')
    .replace(/[?&]$/, '')
}

/** A call of ours goes where the app's own go, with the key in the query if that is where it is. Thinking is kept small: the bound includes it. */
function promptCall({ model, system, user, maxTokens, call }: PromptTask): { readonly path: string; readonly body: Buffer } {
  const path = withMethod(withModel(call.path, model), 'generateContent')
  const thinkingConfig = leastThinking(model)
  const body = {
    systemInstruction: { parts: [{ text: system }] },
    contents: [{ role: 'user', parts: [{ text: user }] }],
    generationConfig: { maxOutputTokens: maxTokens, ...(thinkingConfig === null ? {} : { thinkingConfig }) },
  }
  return { path, body: Buffer.from(JSON.stringify(body)) }
}

function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text)
  } catch {
    return null // no provider has a model of that name
  }
}
