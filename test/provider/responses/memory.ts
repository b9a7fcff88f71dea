/** What the provider keeps: responses, the items they were made of, and conversations. */
import { ApiError, badRequest } from '../api-error.ts'
import type { JsonObject } from '../fields.ts'
import type { ContextItem, KnownItems } from './items.ts'

export interface StoredResponse {
  /** The response object, as a later `GET` shows it. */
  readonly json: JsonObject
  /** The window it was made in, without instructions, and what came out: where the next turn goes on. */
  readonly input: readonly ContextItem[]
  readonly output: readonly ContextItem[]
}

export interface StoredConversation {
  readonly id: string
  readonly createdSeconds: number
  readonly metadata: JsonObject
  readonly items: readonly ContextItem[]
}

export interface ResponseMemory extends KnownItems {
  /** Throws the provider's refusal for an id that is unknown, deleted or was not stored. */
  response(id: string): StoredResponse
  /** The window that a response leaves behind. Throws a 400 that names `previous_response_id`. */
  continuing(id: string): readonly ContextItem[]
  keep(response: StoredResponse): void
  deleteResponse(id: string): void
  conversation(id: string): StoredConversation
  keepConversation(conversation: StoredConversation): void
  deleteConversation(id: string): void
  /** A stored item, with what it was made after. */
  keepItem(item: ContextItem, reasoningBefore: string | null): void
}

/** Of each kind; the oldest go first. */
const ENTRIES_MAX = 100_000

export function responseMemory(): ResponseMemory {
  const responses = new Map<string, StoredResponse>()
  const conversations = new Map<string, StoredConversation>()
  const items = new Map<string, { readonly item: ContextItem; readonly before: string | null }>()
  return {
    find: (id) => items.get(id)?.item ?? null,
    reasoningBefore: (id) => items.get(id)?.before ?? null,
    response(id) {
      const found = responses.get(id)
      if (found === undefined) throw new ApiError(404, `Response with id '${id}' not found.`)
      return found
    },
    continuing(id) {
      const found = responses.get(id)
      if (found === undefined)
        throw badRequest('previous_response_id', 'previous_response_not_found', `Previous response with id '${id}' not found.`)
      return [...found.input, ...found.output]
    },
    keep: (response) => put(responses, String(response.json['id']), response),
    deleteResponse(id) {
      if (!responses.delete(id)) throw new ApiError(404, `Response with id '${id}' not found.`)
    },
    conversation(id) {
      const found = conversations.get(id)
      if (found === undefined) throw new ApiError(404, `Conversation with id '${id}' not found.`)
      return found
    },
    keepConversation: (conversation) => put(conversations, conversation.id, conversation),
    deleteConversation(id) {
      if (!conversations.delete(id)) throw new ApiError(404, `Conversation with id '${id}' not found.`)
    },
    keepItem(item, before) {
      if (typeof item.json['id'] === 'string') put(items, item.json['id'], { item, before })
    },
  }
}

function put<Value>(map: Map<string, Value>, id: string, value: Value): void {
  map.delete(id)
  map.set(id, value)
  for (const oldest of map.keys()) {
    if (map.size <= ENTRIES_MAX) break
    map.delete(oldest)
  }
}
