/** Paths of the Responses and Conversations APIs, and which call each of them is. */
import type { IncomingMessage } from 'node:http'
import { ApiError } from '../api-error.ts'
import type { ChatServices } from '../chat-service.ts'
import { isObject, objectAt } from '../fields.ts'
import type { JsonObject } from '../fields.ts'
import type { ContextItem } from './items.ts'
import { readInput } from './items.ts'
import { responseMemory } from './memory.ts'
import { checkMetadata } from './request.ts'
import { responsesService } from './service.ts'
import type { ResponsesCall } from './service.ts'

export interface ResponsesRoutes {
  /** Whether the path is one of these. */
  has(path: string): boolean
  /** Answers the call; what it gives is the body to send, null when it was sent already. Throws `ApiError`. */
  handle(request: IncomingMessage, path: string, body: () => unknown, call: ResponsesCall): Promise<JsonObject | null>
}

export function responsesRoutes(services: ChatServices): ResponsesRoutes {
  const memory = responseMemory()
  const service = responsesService(services, memory)
  const nowSeconds = (): number => Math.floor(services.nowMs() / 1_000)
  const responses = async (
    method: string,
    rest: readonly string[],
    body: () => unknown,
    call: ResponsesCall,
  ): Promise<JsonObject | null> => {
    const [id, part] = rest
    if (method === 'POST' && id === undefined) {
      await service.create(body(), call)
      return null
    }
    if (method === 'POST' && part === undefined && id === 'input_tokens') return service.countInput(body())
    if (method === 'POST' && part === undefined && id === 'compact') return service.compact(body(), call)
    if (id === undefined) throw notAllowed(method)
    if (method === 'POST' && part === 'cancel') return service.cancel(id)
    if (method === 'GET' && part === undefined) return memory.response(id).json
    if (method === 'GET' && part === 'input_items') return listOf(memory.response(id).input, 'desc')
    if (method === 'DELETE' && part === undefined) {
      memory.deleteResponse(id)
      return { id, object: 'response', deleted: true }
    }
    throw notAllowed(method)
  }
  const conversations = (method: string, rest: readonly string[], body: () => unknown, call: ResponsesCall): JsonObject => {
    const [id, part, itemId] = rest
    if (method === 'POST' && id === undefined) {
      const given = body()
      const fields = given === undefined || given === null ? {} : objectAt(given, 'body')
      // Agents begin one with an empty list.
      const items = isPresent(fields['items']) ? readInput(fields['items'], 'items', memory, 0) : []
      const metadata = isPresent(fields['metadata']) ? checkMetadata(fields['metadata']) : {}
      const made = { id: `conv_${call.requestId.slice(4)}`, createdSeconds: nowSeconds(), metadata, items }
      memory.keepConversation(made)
      return conversationJson(made)
    }
    if (id === undefined) throw notAllowed(method)
    const found = memory.conversation(id)
    if (part === 'items') {
      if (method === 'GET' && itemId === undefined) return listOf(found.items, 'desc')
      if (method === 'POST' && itemId === undefined) {
        const items = readInput(objectAt(body(), 'body')['items'], 'items', memory)
        memory.keepConversation({ ...found, items: [...found.items, ...items] })
        return listOf(items, 'asc')
      }
      if (method === 'DELETE') {
        memory.keepConversation({ ...found, items: found.items.filter((item) => item.json['id'] !== itemId) })
        return conversationJson(found)
      }
      throw notAllowed(method)
    }
    if (method === 'GET') return conversationJson(found)
    if (method === 'POST') {
      const metadata = checkMetadata(objectAt(body(), 'body')['metadata'])
      memory.keepConversation({ ...found, metadata })
      return conversationJson({ ...found, metadata })
    }
    if (method !== 'DELETE') throw notAllowed(method)
    memory.deleteConversation(id)
    return { id, object: 'conversation.deleted', deleted: true }
  }
  return {
    has: (path) => /^\/v1\/(responses|conversations)(\/|$)/.test(path),
    async handle(request, path, body, call) {
      const [, , resource, ...rest] = path.split('/').map((step) => decodeURIComponent(step))
      const method = request.method ?? ''
      return resource === 'responses' ? responses(method, rest, body, call) : conversations(method, rest, body, call)
    },
  }
}

function conversationJson(conversation: {
  readonly id: string
  readonly createdSeconds: number
  readonly metadata: JsonObject
}): JsonObject {
  return { id: conversation.id, object: 'conversation', created_at: conversation.createdSeconds, metadata: conversation.metadata }
}

/** A page with everything on it. Items that came without an id are shown with one. */
function listOf(items: readonly ContextItem[], order: 'asc' | 'desc'): JsonObject {
  const shown = items.map((item, index) =>
    isObject(item.json) && item.json['id'] !== undefined ? item.json : { id: `msg_in${index}`, ...item.json },
  )
  const data = order === 'asc' ? shown : shown.toReversed()
  return { object: 'list', data, first_id: data[0]?.['id'] ?? null, last_id: data.at(-1)?.['id'] ?? null, has_more: false }
}

function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null
}

function notAllowed(method: string): ApiError {
  return new ApiError(405, `Not allowed to ${method} on this path.`)
}
