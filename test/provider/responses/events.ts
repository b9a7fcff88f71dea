/** The response object, its items, and the events of a stream, field by field as the provider writes them. */
import type { Piece } from '../drafts.ts'
import type { JsonObject } from '../fields.ts'
import type { ToolCall } from '../message-checks.ts'
import type { ResponsesRequest } from './request.ts'

export interface ResponsesUsage {
  readonly inputTokens: number
  readonly cachedTokens: number
  readonly cacheWriteTokens: number
  readonly cacheWriteLongTokens: number
  readonly outputTokens: number
  readonly reasoningTokens: number
}

/** What is the same in every part of one answer. */
export interface ResponseFrame {
  readonly id: string
  readonly createdSeconds: number
  readonly request: ResponsesRequest
}

export interface ResponseState {
  readonly status: 'queued' | 'in_progress' | 'completed' | 'incomplete' | 'failed' | 'cancelled'
  readonly output: readonly JsonObject[]
  readonly usage: ResponsesUsage | null
  readonly webSearches: number
  readonly error: JsonObject | null
}

export function responseJson(frame: ResponseFrame, state: ResponseState): JsonObject {
  const { request } = frame
  return {
    id: frame.id,
    object: 'response',
    created_at: frame.createdSeconds,
    status: state.status,
    access_programs: null,
    error: state.error,
    incomplete_details: state.status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    model: request.model.snapshot,
    ...request.echo,
    conversation: request.conversation === null ? null : { id: request.conversation },
    output: state.output,
    service_tier: request.serviceTier,
    ...(state.status === 'completed' ? { completed_at: frame.createdSeconds } : {}),
    tool_usage: { image_gen: NO_IMAGES, web_search: { num_requests: state.webSearches } },
    usage: state.usage === null ? null : usageJson(state.usage, request.model.price.cacheWriteInput !== undefined),
  }
}

/** `writes`: the model tells writes to the cache apart by how long they live. */
export function usageJson(usage: ResponsesUsage, writes: boolean): JsonObject {
  const { inputTokens, cachedTokens, cacheWriteTokens, cacheWriteLongTokens, outputTokens, reasoningTokens } = usage
  return {
    input_tokens: inputTokens,
    input_tokens_details: {
      cached_tokens: cachedTokens,
      cache_write_tokens: cacheWriteTokens + cacheWriteLongTokens,
      ...(writes ? { cache_write_tokens_details: { ttl_30m_tokens: cacheWriteTokens, ttl_12h_tokens: cacheWriteLongTokens } } : {}),
    },
    output_tokens: outputTokens,
    output_tokens_details: { reasoning_tokens: reasoningTokens },
    total_tokens: inputTokens + outputTokens,
  }
}

export interface WriterOptions {
  readonly obfuscate: boolean
  /** Ids of new items. */
  newId(prefix: string): string
  /** Pages that the text is said to be drawn from. */
  readonly citation: JsonObject | null
}

/** Puts the output together, item by item, and gives the events that say so. */
export class OutputWriter {
  readonly #options: WriterOptions
  readonly #items: JsonObject[] = []
  #sequence = 0
  #open: OpenItem | null = null

  constructor(options: WriterOptions) {
    this.#options = options
  }

  /** All items so far; the last may still grow. */
  get items(): readonly JsonObject[] {
    return this.#open === null ? this.#items : [...this.#items, itemJson(this.#open, 'in_progress', [])]
  }

  lifecycle(type: string, response: JsonObject): string {
    return this.#event(`response.${type}`, { response })
  }

  error(error: JsonObject): string {
    return this.#event('error', error)
  }

  /** An item that comes all at once: reasoning, a call of a built-in tool, a compaction. */
  whole(item: JsonObject, steps: readonly string[]): string {
    const output_index = this.#items.length
    const before = item['status'] === undefined ? item : { ...item, status: 'in_progress' }
    const events = [
      this.#event('response.output_item.added', { output_index, item: before }),
      ...steps.map((step) => this.#event(`response.${String(item['type'])}.${step}`, { output_index, item_id: item['id'] })),
      this.#event('response.output_item.done', { output_index, item }),
    ]
    this.#items.push(item)
    return events.join('')
  }

  piece(piece: Piece): string {
    if (piece.kind === 'text') {
      const opened = this.#open === null ? this.#start({ kind: 'message', id: this.#options.newId('msg'), text: '' }) : ''
      return opened + this.#delta(piece.text, 'response.output_text.delta', { content_index: 0, logprobs: [] })
    }
    if (piece.kind === 'call') {
      const { call } = piece
      const closed = this.close('completed')
      return closed + this.#start({ kind: call.kind, id: this.#options.newId(call.kind === 'custom' ? 'ctc' : 'fc'), text: '', call })
    }
    return this.#delta(piece.text, piece.custom ? 'response.custom_tool_call_input.delta' : 'response.function_call_arguments.delta', {})
  }

  /** Ends the open item, if there is one. */
  close(status: 'completed' | 'incomplete'): string {
    const open = this.#open
    if (open === null) return ''
    const output_index = this.#items.length
    const at = { item_id: open.id, output_index }
    const annotations = open.kind === 'message' && this.#options.citation !== null ? [this.#options.citation] : []
    const item = itemJson(open, status, annotations)
    const done: string[] = []
    if (open.kind === 'message') {
      const part = partJson(open.text, annotations)
      for (const [annotation_index, annotation] of annotations.entries())
        done.push(this.#event('response.output_text.annotation.added', { ...at, content_index: 0, annotation_index, annotation }))
      done.push(
        this.#event('response.output_text.done', { ...at, content_index: 0, text: open.text, logprobs: [] }),
        this.#event('response.content_part.done', { ...at, content_index: 0, part }),
      )
    } else if (open.kind === 'function') {
      done.push(this.#event('response.function_call_arguments.done', { ...at, name: open.call.name, arguments: open.text }))
    } else {
      done.push(this.#event('response.custom_tool_call_input.done', { ...at, input: open.text }))
    }
    done.push(this.#event('response.output_item.done', { output_index, item }))
    this.#items.push(item)
    this.#open = null
    return done.join('')
  }

  #start(open: OpenItem): string {
    this.#open = open
    const output_index = this.#items.length
    const item = open.kind === 'message' ? { ...itemJson(open, 'in_progress', []), content: [] } : itemJson(open, 'in_progress', [])
    const added = this.#event('response.output_item.added', { output_index, item })
    if (open.kind !== 'message') return added
    return added + this.#event('response.content_part.added', { item_id: open.id, output_index, content_index: 0, part: partJson('', []) })
  }

  #delta(text: string, type: string, more: JsonObject): string {
    const open = this.#open
    if (open === null) throw new TypeError('a delta needs an item that is open')
    open.text += text
    const hidden = this.#options.obfuscate ? { obfuscation: OBFUSCATION } : {}
    return this.#event(type, { item_id: open.id, output_index: this.#items.length, ...more, delta: text, ...hidden })
  }

  #event(type: string, fields: JsonObject): string {
    const sequence_number = this.#sequence
    this.#sequence += 1
    return `event: ${type}\ndata: ${JSON.stringify({ type, ...fields, sequence_number })}\n\n`
  }
}

const OBFUSCATION = 'aZ3kQ9xWm1Tr7LpE'
const NO_IMAGES = {
  input_tokens: 0,
  input_tokens_details: { image_tokens: 0, text_tokens: 0 },
  output_tokens: 0,
  output_tokens_details: { image_tokens: 0, text_tokens: 0 },
  total_tokens: 0,
}

type OpenItem =
  | { readonly kind: 'message'; readonly id: string; text: string }
  | { readonly kind: 'function' | 'custom'; readonly id: string; text: string; readonly call: ToolCall }

function itemJson(open: OpenItem, status: string, annotations: readonly JsonObject[]): JsonObject {
  if (open.kind === 'message')
    return { id: open.id, type: 'message', status, content: [partJson(open.text, annotations)], role: 'assistant' }
  if (open.kind === 'function')
    return { id: open.id, type: 'function_call', status, arguments: open.text, call_id: open.call.id, name: open.call.name }
  return { id: open.id, type: 'custom_tool_call', status, input: open.text, call_id: open.call.id, name: open.call.name }
}

function partJson(text: string, annotations: readonly JsonObject[]): JsonObject {
  return { type: 'output_text', annotations, logprobs: [], text }
}
