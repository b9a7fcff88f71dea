/**
 * JSON as protocol buffers read it: names in lowerCamelCase or as in the `.proto` file, null for absent, and nothing unknown.
 * https://protobuf.dev/programming-guides/json/
 */
import type { JsonObject } from '../fields.ts'
import { isObject } from '../fields.ts'
import { invalidArgument } from './errors.ts'

/** A field of a message: a scalar, a message by its name, JSON that is taken as it is, or a list of these. */
type Kind = 'string' | 'number' | 'boolean' | 'json' | MessageName | `${'string' | 'number' | 'json' | MessageName}[]`
type MessageName = keyof typeof MESSAGES

// oxfmt-ignore
/** https://ai.google.dev/api/generate-content, as far as the fake goes. */
const MESSAGES = {
  GenerateContentRequest: {
    model: 'string', contents: 'Content[]', systemInstruction: 'Content', tools: 'Tool[]', toolConfig: 'ToolConfig', safetySettings: 'json[]',
    generationConfig: 'GenerationConfig', cachedContent: 'string', store: 'boolean', serviceTier: 'string',
  },
  // https://ai.google.dev/api/embeddings
  EmbedContentRequest: { model: 'string', content: 'Content', taskType: 'string', title: 'string', outputDimensionality: 'number' },
  BatchEmbedContentsRequest: { requests: 'EmbedContentRequest[]' },
  CountTokensRequest: { contents: 'Content[]', generateContentRequest: 'GenerateContentRequest' },
  Content: { role: 'string', parts: 'Part[]' },
  Part: {
    text: 'string', thought: 'boolean', thoughtSignature: 'string', inlineData: 'Blob', fileData: 'FileData', functionCall: 'FunctionCall',
    functionResponse: 'FunctionResponse', executableCode: 'json', codeExecutionResult: 'json', videoMetadata: 'json', partMetadata: 'json',
    mediaResolution: 'json',
  },
  Blob: { mimeType: 'string', data: 'string', displayName: 'string' },
  FileData: { mimeType: 'string', fileUri: 'string', displayName: 'string' },
  FunctionCall: { id: 'string', name: 'string', args: 'json' },
  FunctionResponse: { id: 'string', name: 'string', response: 'json', parts: 'json[]', willContinue: 'boolean', scheduling: 'string' },
  Tool: {
    functionDeclarations: 'FunctionDeclaration[]', googleSearch: 'json', googleSearchRetrieval: 'json', codeExecution: 'json', urlContext: 'json',
    computerUse: 'json', fileSearch: 'json', googleMaps: 'json',
  },
  FunctionDeclaration: {
    name: 'string', description: 'string', behavior: 'string', parameters: 'json', parametersJsonSchema: 'json', response: 'json',
    responseJsonSchema: 'json',
  },
  ToolConfig: { functionCallingConfig: 'FunctionCallingConfig', retrievalConfig: 'json', includeServerSideToolInvocations: 'boolean' },
  FunctionCallingConfig: { mode: 'string', allowedFunctionNames: 'string[]' },
  GenerationConfig: {
    candidateCount: 'number', maxOutputTokens: 'number', stopSequences: 'string[]', temperature: 'number', topP: 'number', topK: 'number',
    seed: 'number', presencePenalty: 'number', frequencyPenalty: 'number', responseMimeType: 'string', responseSchema: 'json',
    responseJsonSchema: 'json', responseModalities: 'string[]', responseLogprobs: 'boolean', logprobs: 'number',
    thinkingConfig: 'ThinkingConfig', mediaResolution: 'string', speechConfig: 'json', imageConfig: 'json', enableEnhancedCivicAnswers: 'boolean',
  },
  ThinkingConfig: { includeThoughts: 'boolean', thinkingBudget: 'number', thinkingLevel: 'string' },
} as const

/** `value` as the message `name`, with its names in lowerCamelCase. Throws a 400 for what such a message cannot hold. */
export function readMessage(value: unknown, name: MessageName, path = ''): JsonObject {
  if (!isObject(value)) throw invalidValue(path, name, value)
  const kinds: Readonly<Record<string, Kind>> = MESSAGES[name]
  const message: Record<string, unknown> = {}
  for (const [given, member] of Object.entries(value)) {
    const field = given.includes('_') ? camelCase(given) : given
    const kind = Object.hasOwn(kinds, field) ? kinds[field] : undefined
    const at = path === '' ? field : `${path}.${field}`
    if (kind === undefined) throw unknownName(given, path)
    if (field in message) throw invalidArgument(`Invalid JSON payload received. Proto field is not repeating, cannot start list: ${at}`)
    if (member !== null) message[field] = readField(member, kind, at)
  }
  return message
}

function readField(value: unknown, kind: Kind, path: string): unknown {
  if (!kind.endsWith('[]')) return readOne(value, kind, path)
  if (!Array.isArray(value)) {
    // One message where a list is meant is taken for a list of one.
    if (isObject(value)) return [readOne(value, kind.slice(0, -2), path)]
    throw invalidValue(path, kind, value)
  }
  return value.map((element, index) => readOne(element, kind.slice(0, -2), `${path}[${index}]`))
}

function readOne(value: unknown, kind: string, path: string): unknown {
  if (kind === 'json') return value
  if (kind === 'number' && typeof value === 'string' && /^-?\d+$/.test(value)) return Number(value)
  if (kind === 'string' || kind === 'number' || kind === 'boolean') {
    if (typeof value === kind) return value
    throw invalidValue(path, kind, value)
  }
  return readMessage(value, messageName(kind), path)
}

function messageName(kind: string): MessageName {
  if (isMessageName(kind)) return kind
  throw new TypeError(`no message ${kind}`)
}
function isMessageName(kind: string): kind is MessageName {
  return Object.hasOwn(MESSAGES, kind)
}

function camelCase(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}

function unknownName(name: string, path: string): Error {
  const where = path === '' ? '' : ` at '${path}'`
  return invalidArgument(`Invalid JSON payload received. Unknown name "${name}"${where}: Cannot find field.`, path === '' ? name : path)
}

function invalidValue(path: string, kind: string, value: unknown): Error {
  return invalidArgument(`Invalid value at '${path}' (${kind}), ${JSON.stringify(value)?.slice(0, 100)}`, path)
}
