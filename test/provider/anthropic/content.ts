/** Checks of `system` and `messages`: roles, blocks, and the pairing of tool calls with their results. */
import { createHash } from 'node:crypto'
import type { JsonObject } from '../fields.ts'
import { isObject } from '../fields.ts'
import type { ImageSize } from '../images.ts'
import { imageSize, linkedPages, LINKED_SIZE, pdfPages } from '../images.ts'
import { invalid } from './error.ts'
import { booleanAt, listAt, objectAt, oneOf, onlyKeys, stringAt } from './fields.ts'
import type { ClaudeModel } from './models.ts'

export type Role = 'user' | 'assistant' | 'system'
export type CacheTtl = '5m' | '1h'

/** One block as it fills the window. */
export interface Block {
  readonly type: string
  /** Where it stands, as refusals say it: `messages.1.content.0`. */
  readonly path: string
  /** What tells it from another block, without what no model reads (`cache_control`). */
  readonly digest: string
  readonly text: string
  readonly cacheTtl: CacheTtl | null
  readonly call: { readonly id: string; readonly name: string; readonly input: unknown } | null
  /** The call that it answers. */
  readonly answers: string | null
  /** The signature of a thinking block, or the data of a redacted one. */
  readonly signature: string | null
  readonly images: readonly ImageSize[]
  readonly pages: number
}

/** A turn: what consecutive messages of one role come to. */
export interface Turn {
  readonly role: Role
  readonly blocks: readonly Block[]
  /** The index of its first message, and of its last. */
  readonly first: number
  readonly last: number
}

const MESSAGES_MAX = 100_000
const CALL_ID = /^[a-zA-Z0-9_-]+$/
const SERVER_RESULTS = /^(web_search|web_fetch|code_execution|bash_code_execution|text_editor_code_execution|tool_search)_tool_result$/
// oxfmt-ignore
const KEYS: Readonly<Record<string, ReadonlySet<string>>> = {
  text: new Set(['type', 'text', 'cache_control', 'citations']),
  image: new Set(['type', 'source', 'cache_control']),
  document: new Set(['type', 'source', 'title', 'context', 'citations', 'cache_control']),
  search_result: new Set(['type', 'source', 'title', 'content', 'citations', 'cache_control']),
  thinking: new Set(['type', 'thinking', 'signature']),
  redacted_thinking: new Set(['type', 'data']),
  tool_use: new Set(['type', 'id', 'name', 'input', 'cache_control', 'caller', 'toolset_name']),
  server_tool_use: new Set(['type', 'id', 'name', 'input', 'cache_control', 'caller']),
  tool_result: new Set(['type', 'tool_use_id', 'content', 'is_error', 'cache_control', 'toolset_name']),
}
const BY_ROLE: Readonly<Record<Role, readonly string[]>> = {
  user: ['text', 'image', 'document', 'search_result', 'tool_result'],
  assistant: ['text', 'thinking', 'redacted_thinking', 'tool_use', 'server_tool_use'],
  system: ['text'],
}

/** The blocks of `system`. */
export function checkSystem(value: unknown): readonly Block[] {
  if (value === undefined) return []
  if (typeof value === 'string') return value === '' ? [] : [textBlock(value, 'system')]
  return listAt(value, 'system').map((entry, index) => blockAt(entry, `system.${index}`, 'system'))
}

/** The turns of `messages`. Throws `ApiError`. */
export function checkMessages(value: unknown, model: ClaudeModel): readonly Turn[] {
  const messages = listAt(value, 'messages')
  if (messages.length === 0) throw invalid('messages', 'at least one message is required')
  if (messages.length > MESSAGES_MAX) throw invalid('messages', `at most ${MESSAGES_MAX} messages are allowed`)
  const turns: Turn[] = []
  for (const [index, entry] of messages.entries()) {
    const { role, blocks } = messageAt(entry, index, index === messages.length - 1, model)
    const before = turns.at(-1)
    if (before?.role === role) turns[turns.length - 1] = { ...before, blocks: [...before.blocks, ...blocks], last: index }
    else turns.push({ role, blocks, first: index, last: index })
  }
  if (turns[0]?.role === 'system') throw invalid('messages.0', "use the top-level 'system' parameter for the initial system prompt")
  if (turns[0]?.role !== 'user') throw invalid('messages', 'first message must use the "user" role')
  checkSystemPlaces(turns)
  checkPairing(turns.filter((turn) => turn.role !== 'system'))
  checkPrefill(turns, model)
  return turns
}

/** The text of `blocks` that a person reads. */
export function textOf(blocks: readonly Block[]): string {
  return blocks.map((block) => (block.type === 'text' ? block.text : '')).join('')
}

function messageAt(value: unknown, index: number, isLast: boolean, model: ClaudeModel): { role: Role; blocks: readonly Block[] } {
  const path = `messages.${index}`
  const message = objectAt(value, path)
  const role = oneOf(message['role'], `${path}.role`, ['user', 'assistant', 'system'])
  if (role === 'system' && !model.systemMessages)
    throw invalid(
      'messages',
      'Unexpected role "system". The Messages API accepts a top-level `system` parameter, not "system" as an input message role.',
    )
  onlyKeys(message, new Set(['role', 'content']), path)
  const content = message['content']
  const isEmpty = content === '' || (Array.isArray(content) && content.length === 0)
  if (isEmpty && !(isLast && role === 'assistant'))
    throw invalid(path, 'all messages must have non-empty content except for the optional final assistant message')
  if (typeof content === 'string') return { role, blocks: content === '' ? [] : [textBlock(content, `${path}.content`)] }
  return { role, blocks: listAt(content, `${path}.content`).map((entry, at) => blockAt(entry, `${path}.content.${at}`, role)) }
}

function blockAt(value: unknown, path: string, role: Role): Block {
  const block = objectAt(value, path)
  const type = stringAt(block['type'], `${path}.type`)
  const isServerResult = SERVER_RESULTS.test(type)
  const allowed = BY_ROLE[role]
  if (!allowed.includes(type) && !(isServerResult && role === 'assistant'))
    throw invalid(
      path,
      `Input tag '${type}' found using 'type' does not match any of the expected tags: ${allowed.map((tag) => `'${tag}'`).join(', ')}`,
    )
  const keys = KEYS[type]
  if (keys !== undefined) onlyKeys(block, keys, path)
  const cacheTtl = cacheTtlAt(block['cache_control'], `${path}.cache_control`)
  const common = {
    type,
    path,
    cacheTtl,
    digest: digestOf(block),
    text: '',
    call: null,
    answers: null,
    signature: null,
    images: [],
    pages: 0,
  }
  if (type === 'text') {
    const text = stringAt(block['text'], `${path}.text`)
    if (text === '') throw invalid('messages', 'text content blocks must be non-empty')
    return { ...common, ...textBlock(text, path), cacheTtl }
  }
  if (type === 'thinking') {
    return {
      ...common,
      text: stringAt(block['thinking'], `${path}.thinking`),
      signature: stringAt(block['signature'], `${path}.signature`),
    }
  }
  if (type === 'redacted_thinking') return { ...common, signature: stringAt(block['data'], `${path}.data`) }
  if (type === 'tool_use' || type === 'server_tool_use') {
    const id = stringAt(block['id'], `${path}.id`)
    if (!CALL_ID.test(id)) throw invalid(`${path}.id`, `String should match pattern '${CALL_ID.source}'`)
    const name = stringAt(block['name'], `${path}.name`)
    const input = objectAt(block['input'], `${path}.input`)
    const call = { id, name, input }
    return {
      ...common,
      call: type === 'tool_use' ? call : null,
      text: `${name}${JSON.stringify(input)}`,
      digest: canonical(['call', call]),
    }
  }
  if (type === 'tool_result') return toolResultAt(block, path, common)
  if (type === 'image') return { ...common, images: [imageAt(block['source'], `${path}.source`)] }
  if (type === 'document') return { ...common, ...documentAt(block, path) }
  if (type === 'search_result') {
    const parts = listAt(block['content'], `${path}.content`).map((part, at) => blockAt(part, `${path}.content.${at}`, 'system'))
    return { ...common, text: [stringAt(block['title'], `${path}.title`), ...parts.map((part) => part.text)].join('\n') }
  }
  return { ...common, text: JSON.stringify(block['content'] ?? '') }
}

function toolResultAt(block: JsonObject, path: string, common: Omit<Block, 'answers'>): Block {
  const answers = stringAt(block['tool_use_id'], `${path}.tool_use_id`)
  if (block['is_error'] !== undefined) booleanAt(block['is_error'], `${path}.is_error`)
  const content = block['content']
  if (content === undefined || typeof content === 'string') {
    const text = content ?? ''
    return { ...common, answers, text, digest: canonical(['result', answers, text, block['is_error'] === true]) }
  }
  const parts = listAt(content, `${path}.content`).map((part, at) => blockAt(part, `${path}.content.${at}`, 'user'))
  if (parts.some((part) => part.answers !== null)) throw invalid(`${path}.content`, 'a tool_result cannot hold another one')
  const text = parts.map((part) => part.text).join('\n')
  const digest = canonical(['result', answers, ...parts.map((part) => part.digest), block['is_error'] === true])
  return {
    ...common,
    answers,
    text,
    digest: parts.length === 1 && parts[0]?.type === 'text' ? canonical(['result', answers, text, block['is_error'] === true]) : digest,
    images: parts.flatMap((part) => part.images),
    pages: parts.reduce((sum, part) => sum + part.pages, 0),
  }
}

function imageAt(value: unknown, path: string): ImageSize {
  const source = objectAt(value, path)
  const type = oneOf(source['type'], `${path}.type`, ['base64', 'url', 'file'])
  if (type === 'url') {
    if (/^https?:\/\//.test(stringAt(source['url'], `${path}.url`))) return LINKED_SIZE
    throw invalid(`${path}.url`, 'Only HTTP(S) URLs are supported')
  }
  if (type === 'file') throw invalid(`${path}.file_id`, 'File not found')
  oneOf(source['media_type'], `${path}.media_type`, ['image/jpeg', 'image/png', 'image/gif', 'image/webp'])
  const size = imageSize(Buffer.from(stringAt(source['data'], `${path}.data`), 'base64'))
  if (size === null) throw invalid(path, 'Could not process image')
  return size
}

function documentAt(block: JsonObject, path: string): Pick<Block, 'text' | 'pages'> {
  const source = objectAt(block['source'], `${path}.source`)
  const type = oneOf(source['type'], `${path}.source.type`, ['base64', 'text', 'content', 'url', 'file'])
  const title = typeof block['title'] === 'string' ? block['title'] : ''
  if (type === 'text') return { text: `${title}\n${stringAt(source['data'], `${path}.source.data`)}`, pages: 0 }
  if (type === 'base64') {
    oneOf(source['media_type'], `${path}.source.media_type`, ['application/pdf'])
    return { text: title, pages: pdfPages(Buffer.from(stringAt(source['data'], `${path}.source.data`), 'base64')) }
  }
  if (type === 'url') {
    const pages = linkedPages(stringAt(source['url'], `${path}.source.url`))
    if (pages === null) throw invalid(`${path}.source`, 'The document could not be fetched')
    return { text: title, pages }
  }
  if (type !== 'content') throw invalid(`${path}.source`, 'The document could not be fetched')
  const content = source['content']
  if (typeof content === 'string') return { text: `${title}\n${content}`, pages: 0 }
  const parts = listAt(content, `${path}.source.content`).map((part, at) => blockAt(part, `${path}.source.content.${at}`, 'user'))
  return { text: [title, ...parts.map((part) => part.text)].join('\n'), pages: 0 }
}

export function cacheTtlAt(value: unknown, path: string): CacheTtl | null {
  if (value === undefined || value === null) return null
  const control = objectAt(value, path)
  onlyKeys(control, new Set(['type', 'ttl']), path)
  oneOf(control['type'], `${path}.type`, ['ephemeral'])
  return control['ttl'] === undefined ? '5m' : oneOf<CacheTtl>(control['ttl'], `${path}.ttl`, ['5m', '1h'])
}

function textBlock(text: string, path: string): Block & { readonly cacheTtl: null } {
  // What an answer's text block carries beside its text (citations) may be left out when it is sent back.
  const digest = canonical(['text', text])
  return { type: 'text', path, digest, text, cacheTtl: null, call: null, answers: null, signature: null, images: [], pages: 0 }
}

/**
 * System messages in a row, as one section, follow a user turn or an assistant turn ending in a server tool result, and precede an assistant
 * turn or end the array. https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages#limitations
 */
function checkSystemPlaces(turns: readonly Turn[]): void {
  const but = 'the directive-only form (content: [] with output_config) is accepted at any position'
  for (const [at, { role, first, last }] of turns.entries()) {
    if (role !== 'system') continue
    const before = turns[at - 1]
    const after = turns[at + 1]
    if (before?.role !== 'user' && !SERVER_RESULTS.test(before?.blocks.at(-1)?.type ?? ''))
      throw invalid(
        `messages.${first}`,
        `role 'system' must follow a 'user' message or an 'assistant' message ending in a server tool result; ${but}`,
      )
    if (after !== undefined && after.role !== 'assistant')
      throw invalid(`messages.${last}`, `role 'system' must precede an 'assistant' message or end the array; ${but}`)
  }
}

/** Each call is answered at the start of the next user turn; no result stands alone. */
function checkPairing(turns: readonly Turn[]): void {
  for (const [at, turn] of turns.entries()) {
    if (turn.role === 'assistant') {
      const calls = turn.blocks.flatMap((block) => block.call?.id ?? [])
      const twice = calls.find((id, index) => calls.indexOf(id) !== index)
      if (twice !== undefined) throw invalid(`messages.${turn.last}`, '`tool_use` ids must be unique')
      const answered = new Set(turns[at + 1]?.blocks.flatMap((block) => block.answers ?? []))
      const open = calls.filter((id) => !answered.has(id))
      if (open.length > 0)
        throw invalid(
          `messages.${turn.last}`,
          `\`tool_use\` ids were found without \`tool_result\` blocks immediately after: ${open.join(', ')}. Each \`tool_use\` block must have a corresponding \`tool_result\` block in the next message.`,
        )
      continue
    }
    const asked = new Set(turns[at - 1]?.blocks.flatMap((block) => block.call?.id ?? []))
    const seen = new Set<string>()
    let others = false
    for (const block of turn.blocks) {
      if (block.answers === null) {
        others = true
        continue
      }
      if (!asked.has(block.answers))
        throw invalid(
          block.path,
          `unexpected \`tool_use_id\` found in \`tool_result\` blocks: ${block.answers}. Each \`tool_result\` block must have a corresponding \`tool_use\` block in the previous message.`,
        )
      if (seen.has(block.answers))
        throw invalid(block.path, 'each tool_use must have a single result. Found multiple `tool_result` blocks with id: ' + block.answers)
      if (others) throw invalid(block.path, '`tool_result` blocks must come first in the content of the message')
      seen.add(block.answers)
    }
  }
}

function checkPrefill(turns: readonly Turn[], model: ClaudeModel): void {
  const last = turns.at(-1)
  if (last?.role !== 'assistant') return
  if (!model.prefill)
    throw invalid('', 'This model does not support assistant message prefill. The conversation must end with a user message.')
  if (/\s$/.test(textOf(last.blocks))) throw invalid('messages', 'final assistant content cannot end with trailing whitespace')
}

/** A digest of `value` that knows neither the order of keys, nor `cache_control`, nor keys that are null. */
export function digestOf(value: unknown): string {
  return canonical(value)
}

export function canonical(value: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(plain(value)))
    .digest('base64url')
}

function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain)
  if (!isObject(value)) return value
  const entries = Object.entries(value).filter(([key, member]) => key !== 'cache_control' && member !== null)
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([key, member]) => [key, plain(member)]))
}
