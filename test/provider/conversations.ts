/**
 * Recorded conversations from NDJSON files (plain or .gz), one record a line, in two shapes:
 * `{id, source, model, tools, messages}`, the OpenAI chat format, and `{id, source, system, turns: [{user, passages, assistant}]}`, questions
 * with the passages retrieved for them, which `renderRetrieval` turns into the first.
 */
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import type { JsonObject } from './fields.ts'
import { isObject } from './fields.ts'

export interface RecordedCall {
  readonly id: string
  readonly type: 'function'
  readonly function: { readonly name: string; readonly arguments: string }
}

export type RecordedMessage =
  | { readonly role: 'system' | 'user'; readonly content: string }
  | { readonly role: 'assistant'; readonly content: string | null; readonly tool_calls?: readonly RecordedCall[] }
  | { readonly role: 'tool'; readonly content: string; readonly tool_call_id: string }

export interface RecordedTool {
  readonly type: 'function'
  readonly function: JsonObject & { readonly name: string }
}

export interface Conversation {
  readonly id: string
  readonly source: string
  readonly model: string | null
  readonly tools: readonly RecordedTool[]
  readonly messages: readonly RecordedMessage[]
}

export interface RetrievalRecord {
  readonly id: string
  readonly source: string
  readonly system: string
  readonly turns: readonly {
    readonly user: string
    readonly passages: readonly { readonly id: string; readonly title?: string; readonly text: string }[]
    readonly assistant: string
  }[]
}

/** `tool`: an assistant call of `search_passages` and a tool message; `tagged`: passages before the question, in `<retrieved_context>`. */
export type RetrievalShape = 'tool' | 'tagged'

export const RETRIEVAL_TOOL: RecordedTool = {
  type: 'function',
  function: {
    name: 'search_passages',
    description: 'Finds passages that may answer the question.',
    parameters: { type: 'object', properties: { query: { type: 'string' } }, required: ['query'], additionalProperties: false },
  },
}
export const RETRIEVAL_TAG = 'retrieved_context'

/** Conversations of every `conversations*.ndjson[.gz]` in the given directories, or of the given files. Throws an `Error` that names file, line and field. */
export function loadConversations(paths: readonly string[], shape: RetrievalShape = 'tool'): readonly Conversation[] {
  return paths.flatMap((path) => filesOf(path)).flatMap((file) => readConversations(file, shape))
}

/** Conversations of one file, in its order. */
export function readConversations(file: string, shape: RetrievalShape = 'tool'): readonly Conversation[] {
  return recordsOf(file).map(({ record, where }) =>
    'turns' in record ? renderRetrieval(retrievalOf(record, where), shape) : conversationOf(record, where),
  )
}

/** A retrieval record in the chat format. Earlier passages stay in the history, as naive apps keep them. */
export function renderRetrieval(record: RetrievalRecord, shape: RetrievalShape): Conversation {
  const messages: RecordedMessage[] = [{ role: 'system', content: record.system }]
  for (const [index, turn] of record.turns.entries()) {
    const passages = turn.passages.map((passage) => JSON.stringify(passage)).join('\n')
    if (passages === '') {
      messages.push({ role: 'user', content: turn.user })
    } else if (shape === 'tagged') {
      messages.push({ role: 'user', content: `<${RETRIEVAL_TAG}>\n${passages}\n</${RETRIEVAL_TAG}>\n\n${turn.user}` })
    } else {
      const id = `call_${record.id}_${index + 1}`
      const call = { name: RETRIEVAL_TOOL.function.name, arguments: JSON.stringify({ query: turn.user }) }
      messages.push({ role: 'user', content: turn.user })
      messages.push({ role: 'assistant', content: null, tool_calls: [{ id, type: 'function', function: call }] })
      messages.push({ role: 'tool', tool_call_id: id, content: passages })
    }
    messages.push({ role: 'assistant', content: turn.assistant })
  }
  return { id: record.id, source: record.source, model: null, tools: shape === 'tool' ? [RETRIEVAL_TOOL] : [], messages }
}

function filesOf(path: string): readonly string[] {
  if (!statSync(path).isDirectory()) return [path]
  return readdirSync(path)
    .filter((name) => /^conversations.*\.ndjson(\.gz)?$/.test(name))
    .toSorted()
    .map((name) => join(path, name))
}

function recordsOf(file: string): readonly { record: JsonObject; where: string }[] {
  const bytes = readFileSync(file)
  const text = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8')
  const records: { record: JsonObject; where: string }[] = []
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue
    const where = `${basename(file)}:${index + 1}`
    let record: unknown
    try {
      record = JSON.parse(line)
    } catch (cause) {
      throw new Error(`${where}: must be one JSON object a line`, { cause })
    }
    if (!isObject(record)) throw new Error(`${where}: must be one JSON object a line`)
    records.push({ record, where })
  }
  return records
}

function conversationOf(record: JsonObject, where: string): Conversation {
  return {
    id: text(record, 'id', where),
    source: text(record, 'source', where),
    model: typeof record['model'] === 'string' ? record['model'] : null,
    tools: list(record, 'tools', where).map((tool, index) => toolOf(tool, `${where}: tools[${index}]`)),
    messages: list(record, 'messages', where).map((message, index) => messageOf(message, `${where}: messages[${index}]`)),
  }
}

function toolOf(value: unknown, where: string): RecordedTool {
  const definition = isObject(value) && value['type'] === 'function' ? value['function'] : undefined
  if (!isObject(definition)) throw new Error(`${where} must be {"type": "function", "function": {...}}`)
  return { type: 'function', function: { ...definition, name: text(definition, 'name', `${where}.function`) } }
}

function messageOf(value: unknown, where: string): RecordedMessage {
  if (!isObject(value)) throw new Error(`${where} must be an object`)
  const role = value['role']
  if (role === 'system' || role === 'user') return { role, content: text(value, 'content', where) }
  if (role === 'tool') return { role, content: text(value, 'content', where), tool_call_id: text(value, 'tool_call_id', where) }
  if (role !== 'assistant') throw new Error(`${where}.role must be system, user, assistant or tool`)
  const content = value['content'] === null ? null : text(value, 'content', where)
  if (value['tool_calls'] === undefined) return { role, content }
  const calls = list(value, 'tool_calls', where).map((call, index): RecordedCall => {
    const path = `${where}.tool_calls[${index}]`
    const named = isObject(call) ? call['function'] : undefined
    if (!isObject(call) || !isObject(named)) throw new Error(`${path} must be {"id", "type", "function"}`)
    return {
      id: text(call, 'id', path),
      type: 'function',
      function: { name: text(named, 'name', path), arguments: text(named, 'arguments', path) },
    }
  })
  return { role, content, tool_calls: calls }
}

function retrievalOf(record: JsonObject, where: string): RetrievalRecord {
  return {
    id: text(record, 'id', where),
    source: text(record, 'source', where),
    system: text(record, 'system', where),
    turns: list(record, 'turns', where).map((turn, index) => {
      const path = `${where}: turns[${index}]`
      if (!isObject(turn)) throw new Error(`${path} must be an object`)
      return {
        user: text(turn, 'user', path),
        assistant: text(turn, 'assistant', path),
        passages: list(turn, 'passages', path).map((passage, at) => {
          if (!isObject(passage)) throw new Error(`${path}.passages[${at}] must be an object`)
          const title = typeof passage['title'] === 'string' ? { title: passage['title'] } : {}
          return { id: text(passage, 'id', path), text: text(passage, 'text', path), ...title }
        }),
      }
    }),
  }
}

function text(object: JsonObject, key: string, where: string): string {
  const value = object[key]
  if (typeof value !== 'string') throw new Error(`${where}: ${key} must be a string`)
  return value
}

function list(object: JsonObject, key: string, where: string): readonly unknown[] {
  const value = object[key]
  if (!Array.isArray(value)) throw new Error(`${where}: ${key} must be a list`)
  return value
}
