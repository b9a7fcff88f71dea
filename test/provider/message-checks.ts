/** Checks of `messages`: roles, parts, and the pairing of tool calls with their answers. */
import { badRequest } from './api-error.ts'
import type { JsonObject } from './fields.ts'
import { arrayAt, isObject, missing, nameAt, objectAt, oneOf, onlyKeys, stringAt, wrongType } from './fields.ts'
import type { ImageDetail, ImageSize } from './images.ts'
import { imageSize, LINKED_SIZE, pdfPages } from './images.ts'

export type Role = (typeof ROLES)[number]

export interface ToolCall {
  readonly id: string
  readonly kind: 'function' | 'custom'
  readonly name: string
  /** JSON text of a function's arguments, or the free text of a custom tool's input. */
  readonly input: string
}

export interface ChatMessage {
  readonly role: Role
  /** All text of the message, parts joined. */
  readonly text: string
  readonly name: string | null
  readonly toolCalls: readonly ToolCall[]
  readonly toolCallId: string | null
  readonly images: readonly { readonly url: string; readonly size: ImageSize; readonly detail: ImageDetail }[]
  /** Pages of attached documents, each counted as an image and some text. */
  readonly pages: number
}

const ROLES = ['system', 'assistant', 'user', 'function', 'tool', 'developer'] as const
const MESSAGES_MAX = 2_048
const CALLS_MAX = 128
/** The longest tool call id that the provider takes back. */
const CALL_ID_CHARS_MAX = 40
const KEYS: Readonly<Record<Role, ReadonlySet<string>>> = {
  system: new Set(['role', 'content', 'name']),
  developer: new Set(['role', 'content', 'name']),
  user: new Set(['role', 'content', 'name']),
  assistant: new Set(['role', 'content', 'name', 'tool_calls', 'function_call', 'refusal', 'audio', 'annotations']),
  // No reference names `name`, and many agents send it: https://github.com/langchain-ai/langchain/issues/23601
  tool: new Set(['role', 'content', 'tool_call_id', 'name']),
  function: new Set(['role', 'content', 'name']),
}
const PARTS: Readonly<Record<Role, readonly string[]>> = {
  system: ['text'],
  developer: ['text'],
  user: ['text', 'image_url', 'input_audio', 'file'],
  assistant: ['text', 'refusal'],
  tool: ['text'],
  function: ['text'],
}

/** The messages of a request. Throws `ApiError`. */
export function checkMessages(value: unknown): readonly ChatMessage[] {
  const messages = arrayAt(value, 'messages', { min: 1, max: MESSAGES_MAX }).map(messageAt)
  checkPairing(messages)
  return messages
}

function messageAt(value: unknown, index: number): ChatMessage {
  const path = `messages[${index}]`
  const message = objectAt(value, path)
  const role = oneOf(message['role'], `${path}.role`, ROLES)
  onlyKeys(message, KEYS[role], path)
  const toolCalls = role === 'assistant' ? callsOf(message, path) : []
  if (role === 'function') nameAt(message['name'], `${path}.name`)
  else if (message['name'] !== undefined && message['name'] !== null) checkName(message['name'], `${path}.name`)
  const content = contentOf(message, role, path, toolCalls.length > 0)
  return {
    role,
    ...content,
    name: typeof message['name'] === 'string' ? message['name'] : null,
    toolCalls,
    toolCallId: role === 'tool' ? stringAt(message['tool_call_id'], `${path}.tool_call_id`) : null,
  }
}

function contentOf(message: JsonObject, role: Role, path: string, calls: boolean): Pick<ChatMessage, 'text' | 'images' | 'pages'> {
  const content = message['content']
  // A call by the old name fills the window as text does.
  const oldCall = role === 'assistant' && isObject(message['function_call']) ? JSON.stringify(message['function_call']) : ''
  const refusal = (role === 'assistant' && typeof message['refusal'] === 'string' ? message['refusal'] : '') + oldCall
  if (typeof content === 'string') return { text: content + refusal, images: [], pages: 0 }
  if (content === null || content === undefined) {
    const mayBeEmpty = role === 'function' || (role === 'assistant' && (calls || refusal !== ''))
    if (mayBeEmpty) return { text: refusal, images: [], pages: 0 }
    if (content === undefined && role !== 'assistant') throw missing(`${path}.content`)
    throw badRequest(`messages.[${path.slice(9, -1)}].content`, null, "Invalid value for 'content': expected a string, got null.")
  }
  if (!Array.isArray(content)) throw wrongType(`${path}.content`, 'one of a string or array of objects', content)
  const texts: string[] = []
  const images: ChatMessage['images'][number][] = []
  let pages = 0
  for (const [index, value] of arrayAt(content, `${path}.content`, { min: 1, max: MESSAGES_MAX }).entries()) {
    const partPath = `${path}.content[${index}]`
    const part = objectAt(value, partPath)
    const kind = oneOf(part['type'], `${partPath}.type`, PARTS[role])
    if (kind === 'text') texts.push(stringAt(part['text'], `${partPath}.text`))
    else if (kind === 'refusal') texts.push(stringAt(part['refusal'], `${partPath}.refusal`))
    else if (kind === 'image_url') images.push(imageAt(part['image_url'], `${partPath}.image_url`))
    else if (kind === 'file') pages += pagesAt(part['file'], `${partPath}.file`)
    else throw badRequest(partPath, 'invalid_value', 'Audio is not supported by this model: send text, images or files.')
  }
  return { text: texts.join('') + refusal, images, pages }
}

function imageAt(value: unknown, path: string): ChatMessage['images'][number] {
  const image = objectAt(value, path)
  onlyKeys(image, new Set(['url', 'detail']), path)
  const url = stringAt(image['url'], `${path}.url`)
  const detail: ImageDetail =
    image['detail'] === undefined || image['detail'] === null ? 'auto' : oneOf(image['detail'], `${path}.detail`, ['auto', 'low', 'high'])
  if (/^https?:\/\//.test(url)) return { url, size: LINKED_SIZE, detail }
  const embedded = /^data:image\/(png|jpe?g|webp|gif);base64,/.exec(url)
  const size = embedded === null ? null : imageSize(Buffer.from(url.slice(embedded[0].length), 'base64'))
  if (size !== null) return { url, size, detail }
  throw badRequest(
    path,
    'invalid_image_url',
    "Invalid image: expected an http(s) URL, or a base64 data URL of a valid image in one of these formats: ['png', 'jpeg', 'gif', 'webp'].",
  )
}

function pagesAt(value: unknown, path: string): number {
  const file = objectAt(value, path)
  if (typeof file['file_id'] === 'string') throw badRequest(`${path}.file_id`, 'invalid_value', `No such File object: ${file['file_id']}`)
  const data = stringAt(file['file_data'], `${path}.file_data`)
  const pdf = /^data:application\/pdf;base64,/.exec(data)
  if (pdf === null)
    throw badRequest(`${path}.file_data`, 'invalid_value', `Invalid file data: '${path}'. Expected a base64-encoded data URL of a PDF.`)
  return pdfPages(Buffer.from(data.slice(pdf[0].length), 'base64'))
}

function callsOf(message: JsonObject, path: string): readonly ToolCall[] {
  const value = message['tool_calls']
  if (value === undefined || value === null) return []
  const ids = new Set<string>()
  return arrayAt(value, `${path}.tool_calls`, { min: 1, max: CALLS_MAX }).map((entry, index) => {
    const callPath = `${path}.tool_calls[${index}]`
    const call = objectAt(entry, callPath)
    onlyKeys(call, new Set(['id', 'type', 'function', 'custom']), callPath)
    const id = stringAt(call['id'], `${callPath}.id`, CALL_ID_CHARS_MAX)
    if (ids.has(id)) throw badRequest(`${callPath}.id`, 'invalid_value', `Duplicate value for 'tool_call_id' of '${id}' in ${path}.`)
    ids.add(id)
    const kind = oneOf(call['type'], `${callPath}.type`, ['function', 'custom'])
    const named = objectAt(call[kind], `${callPath}.${kind}`)
    const field = kind === 'function' ? 'arguments' : 'input'
    onlyKeys(named, new Set(['name', field]), `${callPath}.${kind}`)
    return {
      id,
      kind,
      name: nameAt(named['name'], `${callPath}.${kind}.name`),
      input: stringAt(named[field], `${callPath}.${kind}.${field}`),
    }
  })
}

/** Each call is answered by tool messages right after it, before any other role; no tool message stands alone. */
function checkPairing(messages: readonly ChatMessage[]): void {
  let open = new Set<string>()
  let asked = false
  for (const [index, message] of messages.entries()) {
    if (message.role === 'tool') {
      if (!asked)
        throw badRequest(
          `messages.[${index}].role`,
          null,
          "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
        )
      if (!open.delete(message.toolCallId ?? ''))
        throw badRequest(
          `messages.[${index}].tool_call_id`,
          null,
          `Invalid parameter: 'tool_call_id' of '${message.toolCallId}' not found in 'tool_calls' of previous message.`,
        )
      continue
    }
    if (open.size > 0) throw unanswered(open, index)
    open = new Set(message.toolCalls.map((call) => call.id))
    asked = open.size > 0
  }
  if (open.size > 0) throw unanswered(open, messages.length)
}

function unanswered(ids: ReadonlySet<string>, index: number): Error {
  return badRequest(
    `messages.[${index}].role`,
    null,
    `An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: ${[...ids].join(', ')}`,
  )
}

function checkName(value: unknown, path: string): void {
  if (/^[^\s<|\\/>]+$/.test(stringAt(value, path, 64))) return
  throw badRequest(
    path,
    'invalid_value',
    `Invalid '${path}': string does not match pattern. Expected a string that matches the pattern '^[^\\s<|\\\\/>]+$'.`,
  )
}
