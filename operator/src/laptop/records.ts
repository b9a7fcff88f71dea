/**
 * Recorded conversations from NDJSON, plain or gzipped, one record a line, in two shapes: `{id, source, model, tools, messages}`, the
 * OpenAI chat format; and `{id, source, system, turns: [{user, passages, assistant}]}`, questions with what was retrieved for
 * them, which is turned into the first.
 */
import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import * as z from 'zod'
import { Unreadable, unreadable } from './unreadable.ts'

/** `tools`: passages come as the result of a tool call; `tagged`: inside the user's message, between tags. */
export const RETRIEVAL_SHAPES = ['tools', 'tagged'] as const
export type RetrievalShape = (typeof RETRIEVAL_SHAPES)[number]

/** The tool and the tag by which replayed retrieval is known; a ConversationBudget names them under `retrieval`. */
export const RETRIEVAL_TOOL_NAME = 'search_passages'
export const RETRIEVAL_TAG = 'retrieved_context'

export interface RecordedCall {
  readonly id: string
  readonly type: 'function'
  readonly function: { readonly name: string; readonly arguments: string }
}

export type RecordedMessage =
  | { readonly role: 'system' | 'user'; readonly content: string }
  | { readonly role: 'assistant'; readonly content: string | null; readonly calls: readonly RecordedCall[] }
  | { readonly role: 'tool'; readonly content: string; readonly callId: string }

export interface RecordedTool {
  readonly type: 'function'
  readonly function: { readonly name: string; readonly description?: string; readonly parameters?: Record<string, unknown> }
}

export interface RecordedConversation {
  readonly id: string
  /** The model that was recorded; null: unknown. */
  readonly model: string | null
  readonly tools: readonly RecordedTool[]
  readonly messages: readonly RecordedMessage[]
  /** Whether the recording counts as solved; null: nobody judged it. */
  readonly solved: boolean | null
}

const FILE_BYTES_MAX = 256 * 1024 * 1024
const RECORDS_MAX = 100_000

/** Parts that are no text cannot be played: what they stood for is not in the recording. */
const Text = z
  .union([z.string(), z.array(z.object({ type: z.literal('text'), text: z.string() }))], {
    error: 'must be a text, or a list of parts whose type is text',
  })
  .transform((content) => (typeof content === 'string' ? content : content.map(({ text }) => text).join('\n')))
const Call = z.object({ id: z.string(), type: z.literal('function'), function: z.object({ name: z.string(), arguments: z.string() }) })
const Message = z.discriminatedUnion('role', [
  z.object({ role: z.enum(['system', 'developer']), content: Text }),
  z.object({ role: z.literal('user'), content: Text }),
  z.object({ role: z.literal('assistant'), content: Text.nullish(), tool_calls: z.array(Call).nullish() }),
  z.object({ role: z.literal('tool'), content: Text, tool_call_id: z.string() }),
])
const Tool = z.object({
  type: z.literal('function'),
  function: z.object({ name: z.string(), description: z.string().optional(), parameters: z.record(z.string(), z.unknown()).optional() }),
})
const Chat = z.object({
  id: z.string().min(1),
  model: z.string().nullish(),
  reward: z.number().nullish(),
  tools: z.array(Tool).default([]),
  messages: z.array(Message).min(1),
})
const Passage = z.object({ id: z.string(), title: z.string().optional(), text: z.string() })
const Retrieval = z.object({
  id: z.string().min(1),
  system: z.string(),
  turns: z.array(z.object({ user: z.string(), passages: z.array(Passage), assistant: z.string() })).min(1),
})

/** Reads at most `limit` conversations of a file. Throws an `Error` that names file, line and field. */
export async function readRecords(
  path: string,
  options: { readonly shape: RetrievalShape; readonly limit?: number },
): Promise<readonly RecordedConversation[]> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw unreadable(path, error)
  })
  const plain = path.endsWith('.gz') || isGzip(bytes) ? await unzipped(path, bytes) : bytes
  return parseRecords(decoded(path, plain), { ...options, name: basename(path) })
}

/** Whatever its name. https://www.rfc-editor.org/rfc/rfc1952#page-6 */
function isGzip(bytes: Buffer): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b
}

/** Without the byte order mark that editors of Windows put before a text. */
function decoded(path: string, bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw new Unreadable(path, 'must be UTF-8', { cause: error })
  }
}

async function unzipped(path: string, bytes: Buffer): Promise<Buffer> {
  try {
    return await promisify(gunzip)(bytes, { maxOutputLength: FILE_BYTES_MAX })
  } catch (error) {
    throw new Unreadable(path, `must be gzip of at most ${FILE_BYTES_MAX / 1024 / 1024} MiB`, { cause: error })
  }
}

/** NDJSON text -> conversations; `name` stands for the file in errors. */
export function parseRecords(
  text: string,
  options: { readonly shape: RetrievalShape; readonly name: string; readonly limit?: number },
): readonly RecordedConversation[] {
  const limit = options.limit ?? RECORDS_MAX
  const conversations: RecordedConversation[] = []
  const seen = new Set<string>()
  let number = 0
  for (const line of text.split('\n')) {
    number += 1
    if (line.trim() === '') continue
    if (conversations.length >= limit) break
    const conversation = parseRecord(line, options.shape, `${options.name}:${number}`)
    if (seen.has(conversation.id)) throw new Error(`${options.name}:${number}: id: "${conversation.id}" must be there once`)
    seen.add(conversation.id)
    conversations.push(conversation)
  }
  if (conversations.length === 0) throw new Error(`${options.name}: must hold at least one conversation`)
  return conversations
}

function parseRecord(line: string, shape: RetrievalShape, where: string): RecordedConversation {
  let record: unknown
  try {
    record = JSON.parse(line)
  } catch {
    throw new Error(`${where}: must be one JSON object a line`)
  }
  if (typeof record === 'object' && record !== null && 'turns' in record) return renderRetrieval(check(Retrieval, record, where), shape)
  const chat = check(Chat, record, where)
  if (!chat.messages.some(({ role }) => role === 'user' || role === 'assistant'))
    throw new Error(`${where}: messages: must hold a question of the user, or an answer of the assistant`)
  return {
    id: chat.id,
    model: chat.model ?? null,
    tools: chat.tools.map(toolOf),
    messages: chat.messages.map(messageOf),
    solved: typeof chat.reward === 'number' ? chat.reward >= 1 : null,
  }
}

/** Earlier passages stay in the history, as most apps keep them. */
function renderRetrieval(record: z.infer<typeof Retrieval>, shape: RetrievalShape): RecordedConversation {
  const messages: RecordedMessage[] = [{ role: 'system', content: record.system }]
  for (const [index, turn] of record.turns.entries()) {
    const passages = turn.passages.map((passage) => JSON.stringify(passage)).join('\n')
    if (passages === '') {
      messages.push({ role: 'user', content: turn.user })
    } else if (shape === 'tagged') {
      messages.push({ role: 'user', content: `<${RETRIEVAL_TAG}>\n${passages}\n</${RETRIEVAL_TAG}>\n\n${turn.user}` })
    } else {
      const id = `call_${record.id}_${index + 1}`
      const call: RecordedCall = {
        id,
        type: 'function',
        function: { name: RETRIEVAL_TOOL_NAME, arguments: JSON.stringify({ query: turn.user }) },
      }
      messages.push(
        { role: 'user', content: turn.user },
        { role: 'assistant', content: null, calls: [call] },
        { role: 'tool', callId: id, content: passages },
      )
    }
    messages.push({ role: 'assistant', content: turn.assistant, calls: [] })
  }
  return { id: record.id, model: null, tools: shape === 'tools' ? [RETRIEVAL_TOOL] : [], messages, solved: null }
}

const RETRIEVAL_TOOL: RecordedTool = {
  type: 'function',
  function: {
    name: RETRIEVAL_TOOL_NAME,
    description: 'Finds passages that may answer the question.',
    parameters: { type: 'object', properties: { query: { type: 'string' } }, required: ['query'], additionalProperties: false },
  },
}

function messageOf(message: z.infer<typeof Message>): RecordedMessage {
  switch (message.role) {
    case 'assistant':
      return { role: 'assistant', content: message.content ?? null, calls: message.tool_calls ?? [] }
    case 'tool':
      return { role: 'tool', content: message.content, callId: message.tool_call_id }
    case 'user':
      return { role: 'user', content: message.content }
    default: // `developer` is what `system` is called for newer models
      return { role: 'system', content: message.content }
  }
}

function toolOf({ function: { name, description, parameters } }: z.infer<typeof Tool>): RecordedTool {
  return {
    type: 'function',
    function: { name, ...(description === undefined ? {} : { description }), ...(parameters === undefined ? {} : { parameters }) },
  }
}

function check<T>(schema: z.ZodType<T>, record: unknown, where: string): T {
  const parsed = schema.safeParse(record)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new Error(`${where}: ${issue?.path.join('.') || 'record'}: ${issue?.message ?? 'must be a conversation'}`)
}
