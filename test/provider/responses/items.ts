/**
 * Items of the Responses API: what a client may send as `input`, what each fills the window with, and which must stand together.
 * https://developers.openai.com/api/reference/resources/responses
 */
import { ApiError, badRequest } from '../api-error.ts'
import type { JsonObject } from '../fields.ts'
import { arrayAt, isObject, missing, nameAt, objectAt, oneOf, onlyKeys, stringAt, wrongType } from '../fields.ts'
import type { ImageDetail } from '../images.ts'
import { imageSize, linkedPages, LINKED_SIZE, pdfPages } from '../images.ts'
import type { ChatMessage } from '../message-checks.ts'

/** An item in the window. */
export interface ContextItem {
  /** As it is kept and shown by the provider; its `type` is always there. */
  readonly json: JsonObject
  /** What of it is text, media and calls. */
  readonly message: ChatMessage
  /** Tokens that its text does not show: thinking, what a built-in tool found, what was compacted. */
  readonly hiddenTokens: number
}

/** What the provider knows of items that it made, by their ids. */
export interface KnownItems {
  find(id: string): ContextItem | null
  /** The reasoning item that a stored item was made after. */
  reasoningBefore(id: string): string | null
}

const ITEMS_MAX = 10_000
const PARTS_MAX = 2_048
const CALL_ID_CHARS_MAX = 64
const STATUSES = ['in_progress', 'completed', 'incomplete'] as const
const ROLES = ['user', 'assistant', 'system', 'developer'] as const
const KEYS: Readonly<Record<string, readonly string[]>> = {
  message: ['type', 'role', 'content', 'id', 'status', 'phase'],
  function_call: ['type', 'id', 'call_id', 'name', 'arguments', 'status', 'caller', 'namespace', 'async'],
  function_call_output: ['type', 'id', 'call_id', 'output', 'status', 'caller', 'name', 'namespace'],
  custom_tool_call: ['type', 'id', 'call_id', 'name', 'input', 'caller', 'namespace', 'async', 'status'],
  custom_tool_call_output: ['type', 'id', 'call_id', 'output', 'caller'],
  reasoning: ['type', 'id', 'summary', 'content', 'encrypted_content', 'status'],
  compaction: ['type', 'id', 'encrypted_content', 'created_by'],
  additional_tools: ['type', 'id', 'role', 'tools'],
  item_reference: ['type', 'id'],
  web_search_call: ['type', 'id', 'status', 'action'],
  file_search_call: ['type', 'id', 'status', 'queries', 'results'],
  code_interpreter_call: ['type', 'id', 'status', 'code', 'container_id', 'outputs'],
}
const TYPES = Object.keys(KEYS)
/** What the id of an item begins with. */
export const ID_PREFIXES: Readonly<Record<string, string>> = {
  message: 'msg',
  function_call: 'fc',
  function_call_output: 'fc',
  custom_tool_call: 'ctc',
  custom_tool_call_output: 'ctc',
  reasoning: 'rs',
  compaction: 'cmp',
  web_search_call: 'ws',
  file_search_call: 'fs',
  code_interpreter_call: 'ci',
}
const INPUT_PARTS = ['input_text', 'input_image', 'input_file'] as const
const OUTPUT_PARTS = ['output_text', 'refusal'] as const

/** `input`: a text, or a list of items, of at least `min`. Throws `ApiError`. */
export function readInput(value: unknown, path: string, known: KnownItems, min = 1): readonly ContextItem[] {
  if (typeof value === 'string') return [userItem(value)]
  if (!Array.isArray(value)) throw wrongType(path, 'one of a string or array of input items', value)
  return arrayAt(value, path, { min, max: ITEMS_MAX }).map((entry, index) =>
    readItem(objectAt(entry, `${path}[${index}]`), `${path}[${index}]`, known),
  )
}

/** A message of the user, as a text becomes one. */
export function userItem(text: string): ContextItem {
  return { json: { type: 'message', role: 'user', content: [{ type: 'input_text', text }] }, message: plain('user', text), hiddenTokens: 0 }
}

/** Tools that stand in the window: they may be called by every response that has their item in it. */
export function addedTools(window: readonly ContextItem[]): readonly unknown[] {
  return window.flatMap(({ json }) => (json['type'] === 'additional_tools' ? listOf(json['tools']) : []))
}

/** Instructions stand before everything else, and are no item. */
export function instructionsMessage(text: string): ChatMessage {
  return plain('developer', text)
}

/** An item that the provider made itself. */
export function ownItem(json: JsonObject, hiddenTokens = 0): ContextItem {
  return { json, message: messageOf(json, ''), hiddenTokens }
}

/**
 * What must stand together, over the whole window: each call with its output, each reasoning item with what was made after it,
 * and the other way round. Throws `ApiError`.
 */
export function checkTogether(context: readonly ContextItem[], known: KnownItems): void {
  const open = new Map<string, string>()
  const ids = new Set(context.map(({ json }) => json['id']))
  for (const [index, { json }] of context.entries()) {
    const type = String(json['type'])
    const callId = typeof json['call_id'] === 'string' ? json['call_id'] : ''
    if (type === 'function_call' || type === 'custom_tool_call') open.set(callId, type)
    if (type === 'function_call_output' || type === 'custom_tool_call_output') {
      if (!open.has(callId)) throw badRequest('input', null, `No tool call found for ${type.replaceAll('_', ' ')} with call_id ${callId}.`)
      open.delete(callId)
    }
    if (type === 'reasoning' && !followsReasoning(context[index + 1]?.json, String(json['id']), known))
      throw badRequest('input', null, `Item '${String(json['id'])}' of type 'reasoning' was provided without its required following item.`)
    const before = typeof json['id'] === 'string' ? known.reasoningBefore(json['id']) : null
    if (before !== null && !ids.has(before))
      throw badRequest(
        'input',
        null,
        `Item '${String(json['id'])}' of type '${type}' was provided without its required 'reasoning' item: '${before}'.`,
      )
  }
  const [unanswered] = open.keys()
  if (unanswered !== undefined) throw badRequest('input', null, `No tool output found for function call ${unanswered}.`)
}

/** Text of a reasoning or compaction item that only the provider can read. At least 4 bytes a token, as real ones are. */
export function sealed(what: { readonly id: string; readonly tokens: number; readonly text?: string }): string {
  const content = Buffer.from(JSON.stringify(what)).toString('base64url')
  return `${SEAL}${content}.${'A'.repeat(Math.max(16, what.tokens * 4 - content.length))}`
}

const SEAL = 'gAAAAAB'

function unsealed(item: JsonObject, path: string): { readonly id: string; readonly tokens: number; readonly text: string } {
  const sealedText = stringAt(item['encrypted_content'], `${path}.encrypted_content`)
  const [content = ''] = sealedText.slice(SEAL.length).split('.')
  let value: unknown = null
  try {
    if (sealedText.startsWith(SEAL)) value = JSON.parse(Buffer.from(content, 'base64url').toString('utf8'))
  } catch {
    value = null
  }
  if (
    isObject(value) &&
    typeof value['id'] === 'string' &&
    typeof value['tokens'] === 'number' &&
    (item['id'] === undefined || item['id'] === null || item['id'] === value['id'])
  )
    return { id: value['id'], tokens: value['tokens'], text: typeof value['text'] === 'string' ? value['text'] : '' }
  throw badRequest(
    'input',
    'invalid_encrypted_content',
    `The encrypted content for item ${String(item['id'])} could not be verified. Reason: Encrypted content could not be decrypted or parsed.`,
  )
}

function readItem(item: JsonObject, path: string, known: KnownItems): ContextItem {
  const type = item['type'] === undefined && item['role'] !== undefined ? 'message' : oneOf(item['type'], `${path}.type`, TYPES)
  onlyKeys(item, new Set(KEYS[type]), path)
  if (
    item['status'] !== undefined &&
    item['status'] !== null &&
    type !== 'web_search_call' &&
    type !== 'file_search_call' &&
    type !== 'code_interpreter_call'
  )
    oneOf(item['status'], `${path}.status`, STATUSES)
  const json = { ...item, type }
  const id = idAt(item, type, path)
  if (type === 'item_reference') return found(id ?? '', known)
  if (type === 'reasoning') {
    arrayAt(item['summary'], `${path}.summary`, { min: 0, max: PARTS_MAX })
    if (id === null) throw missing(`${path}.id`)
    if (typeof item['encrypted_content'] !== 'string') return { ...found(id, known), json }
    return { json, message: messageOf(json, path), hiddenTokens: unsealed(item, path).tokens }
  }
  if (type === 'compaction') {
    const { tokens } = unsealed(item, path)
    return { json, message: messageOf(json, path), hiddenTokens: tokens }
  }
  const stored = id === null ? null : known.find(id)
  return { json, message: messageOf(json, path), hiddenTokens: stored?.hiddenTokens ?? 0 }
}

function found(id: string, known: KnownItems): ContextItem {
  const item = known.find(id)
  if (item !== null) return item
  throw new ApiError(
    404,
    `Item with id '${id}' not found. Items are not persisted when \`store\` is set to false. Try again with \`store\` set to true, or remove this item from your input.`,
    { param: 'input' },
  )
}

function idAt(item: JsonObject, type: string, path: string): string | null {
  if (item['id'] === undefined || item['id'] === null) {
    if (type === 'item_reference') throw missing(`${path}.id`)
    return null
  }
  const id = stringAt(item['id'], `${path}.id`, 256)
  const prefix = ID_PREFIXES[type]
  if (prefix !== undefined && !id.startsWith(prefix))
    throw badRequest(`${path}.id`, 'invalid_value', `Invalid '${path}.id': '${id}'. Expected an ID that begins with '${prefix}'.`)
  return id
}

/** What follows was made by the model: when it is known by its id, after this very item. */
function followsReasoning(next: JsonObject | undefined, id: string, known: KnownItems): boolean {
  if (next === undefined) return false
  if (typeof next['id'] === 'string') {
    const before = known.reasoningBefore(next['id'])
    if (before !== null) return before === id
  }
  const type = next['type']
  return type === 'message' ? next['role'] === 'assistant' : typeof type === 'string' && type.endsWith('_call')
}

/** What of an item is text, media and calls. Throws `ApiError`. */
function messageOf(json: JsonObject, path: string): ChatMessage {
  switch (json['type']) {
    case 'message': {
      const role = oneOf(json['role'], `${path}.role`, ROLES)
      return { ...plain(role, ''), ...contentOf(json['content'], role === 'assistant', `${path}.content`) }
    }
    case 'function_call':
    case 'custom_tool_call': {
      const isFunction = json['type'] === 'function_call'
      const field = isFunction ? 'arguments' : 'input'
      const call = {
        id: stringAt(json['call_id'], `${path}.call_id`, CALL_ID_CHARS_MAX),
        kind: isFunction ? ('function' as const) : ('custom' as const),
        name: nameAt(json['name'], `${path}.name`),
        input: stringAt(json[field], `${path}.${field}`),
      }
      return { ...plain('assistant', ''), toolCalls: [call] }
    }
    case 'function_call_output':
    case 'custom_tool_call_output': {
      const toolCallId = stringAt(json['call_id'], `${path}.call_id`, CALL_ID_CHARS_MAX)
      return { ...plain('tool', ''), ...contentOf(json['output'], false, `${path}.output`), toolCallId }
    }
    case 'reasoning': {
      const parts = [...listOf(json['summary']), ...listOf(json['content'])]
      return plain('assistant', parts.map((part) => (isObject(part) && typeof part['text'] === 'string' ? part['text'] : '')).join(''))
    }
    case 'compaction':
      return plain('assistant', '')
    case 'additional_tools':
      // They are counted with the other definitions.
      arrayAt(json['tools'], `${path}.tools`, { min: 0, max: PARTS_MAX })
      return plain(oneOf(json['role'], `${path}.role`, ['developer']), '')
    default: {
      const { id: _id, status: _status, type: _type, ...said } = json
      return plain('assistant', JSON.stringify(said))
    }
  }
}

function contentOf(content: unknown, isOutput: boolean, path: string): Pick<ChatMessage, 'text' | 'images' | 'pages'> {
  if (typeof content === 'string') return { text: content, images: [], pages: 0 }
  if (!Array.isArray(content)) throw wrongType(path, 'one of a string or array of objects', content)
  const texts: string[] = []
  const images: ChatMessage['images'][number][] = []
  let pages = 0
  for (const [index, value] of arrayAt(content, path, { min: 0, max: PARTS_MAX }).entries()) {
    const at = `${path}[${index}]`
    const part = objectAt(value, at)
    const type = isOutput ? oneOf(part['type'], `${at}.type`, OUTPUT_PARTS) : oneOf(part['type'], `${at}.type`, INPUT_PARTS)
    if (type === 'refusal') texts.push(stringAt(part['refusal'], `${at}.refusal`))
    else if (type === 'input_image') images.push(imageAt(part, at))
    else if (type === 'input_file') pages += pagesAt(part, at)
    else texts.push(stringAt(part['text'], `${at}.text`))
    if (type === 'input_text') onlyKeys(part, new Set(['type', 'text', 'prompt_cache_breakpoint']), at)
    if (type === 'output_text') onlyKeys(part, new Set(['type', 'text', 'annotations', 'logprobs']), at)
  }
  return { text: texts.join(''), images, pages }
}

function imageAt(part: JsonObject, path: string): ChatMessage['images'][number] {
  onlyKeys(part, new Set(['type', 'image_url', 'file_id', 'detail', 'prompt_cache_breakpoint']), path)
  if (typeof part['file_id'] === 'string') throw badRequest(`${path}.file_id`, 'invalid_value', `No such File object: ${part['file_id']}`)
  const url = stringAt(part['image_url'], `${path}.image_url`)
  const detail: ImageDetail =
    part['detail'] === undefined || part['detail'] === null ? 'auto' : oneOf(part['detail'], `${path}.detail`, ['auto', 'low', 'high'])
  if (/^https?:\/\//.test(url)) return { url, size: LINKED_SIZE, detail }
  const embedded = /^data:image\/(png|jpe?g|webp|gif);base64,/.exec(url)
  const size = embedded === null ? null : imageSize(Buffer.from(url.slice(embedded[0].length), 'base64'))
  if (size !== null) return { url, size, detail }
  throw badRequest(
    `${path}.image_url`,
    'invalid_value',
    `Invalid '${path}.image_url'. Expected a valid URL, but got a value with an invalid format.`,
  )
}

function pagesAt(part: JsonObject, path: string): number {
  onlyKeys(part, new Set(['type', 'file_data', 'file_id', 'file_url', 'filename', 'detail', 'prompt_cache_breakpoint']), path)
  if (typeof part['file_id'] === 'string') throw badRequest(`${path}.file_id`, 'invalid_value', `No such File object: ${part['file_id']}`)
  if (typeof part['file_url'] === 'string') return linkedPages(part['file_url']) ?? 1
  const pdf = /^data:application\/pdf;base64,/.exec(stringAt(part['file_data'], `${path}.file_data`))
  if (pdf === null)
    throw badRequest(`${path}.file_data`, 'invalid_value', `Invalid file data: '${path}'. Expected a base64-encoded data URL of a PDF.`)
  return pdfPages(Buffer.from(String(part['file_data']).slice(pdf[0].length), 'base64'))
}

function plain(role: ChatMessage['role'], text: string): ChatMessage {
  return { role, text, name: null, toolCalls: [], toolCallId: null, images: [], pages: 0 }
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}
