/** Answers of our own making in the shape of OpenAI's Responses API, and the ids that lead back from them to what is real. */
import type { Json, JsonObject } from '../core/request.ts'

/**
 * The id of an answer that no model made. It names the last real response before it, so that an app that goes on from this answer goes
 * on from that one, whichever sidecar it asks. `unique`: letters, digits and dashes; `real` null: there is none.
 */
export function syntheticId(unique: string, real: string | null): string {
  return `${PREFIX}${unique}-${real === null ? '' : Buffer.from(real).toString('hex')}`
}

/** The real response behind an id of ours, null inside when there is none; null for an id that is not ours, or that we never made. */
export function realResponse(id: Json | undefined): { readonly id: string | null } | null {
  if (typeof id !== 'string' || id.length > ID_LENGTH_MAX) return null
  const match = SYNTHETIC.exec(id)
  if (match === null) return null
  const hex = match[1] ?? ''
  if (hex === '') return { id: null }
  const real = Buffer.from(hex, 'hex').toString('latin1')
  return REAL.test(real) && !real.startsWith(PREFIX) ? { id: real } : null
}

/** Whether an item has this id because an answer that no model made consists of it. */
export function isSyntheticItem(id: string): boolean {
  return id.startsWith(ITEM_PREFIX)
}

const PREFIX = 'resp_farebox-'
const ITEM_PREFIX = 'msg_farebox-'
const ID_LENGTH_MAX = 1_024
const SYNTHETIC = /^resp_farebox-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-((?:[0-9a-f]{2})*)$/
const REAL = /^resp_[A-Za-z0-9_-]{1,256}$/

/** `text` as a response that ended by itself and used nothing. Never for callers who expect JSON: prose makes their parsers throw. */
export function syntheticResponse(answer: {
  readonly stream: boolean
  readonly model: string
  readonly text: string
  /** Random, as `randomUUID` gives it. */
  readonly unique: string
  /** The response that the request went on from; null: none. */
  readonly previous: string | null
  readonly createdS: number
}): { readonly contentType: string; readonly body: Buffer } {
  const part = { type: 'output_text', annotations: [], logprobs: [], text: answer.text }
  const item = { id: `${ITEM_PREFIX}${answer.unique}`, type: 'message', status: 'completed', role: 'assistant', content: [part] }
  const whole = responseJson(answer, 'completed', [item])
  if (!answer.stream) return { contentType: 'application/json', body: Buffer.from(JSON.stringify(whole)) }
  const begun = responseJson(answer, 'in_progress', [])
  const at = { item_id: item.id, output_index: 0, content_index: 0 }
  const events: readonly (readonly [type: string, fields: JsonObject])[] = [
    ['response.created', { response: begun }],
    ['response.in_progress', { response: begun }],
    ['response.output_item.added', { output_index: 0, item: { ...item, status: 'in_progress', content: [] } }],
    ['response.content_part.added', { ...at, part: { ...part, text: '' } }],
    ['response.output_text.delta', { ...at, delta: answer.text, logprobs: [] }],
    ['response.output_text.done', { ...at, text: answer.text, logprobs: [] }],
    ['response.content_part.done', { ...at, part }],
    ['response.output_item.done', { output_index: 0, item }],
    ['response.completed', { response: whole }],
  ]
  const written = events.map(([type, fields], sequence_number) => eventText(type, { type, sequence_number, ...fields }))
  return { contentType: 'text/event-stream; charset=utf-8', body: Buffer.from(written.join('')) }
}

/** One event of a stream of this API: it names its type twice. */
export function eventText(type: string, data: JsonObject): string {
  return `event: ${type}\ndata: ${JSON.stringify(data)}\n\n`
}

const NO_USAGE = {
  input_tokens: 0,
  input_tokens_details: { cached_tokens: 0, cache_write_tokens: 0 },
  output_tokens: 0,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: 0,
}

function responseJson(
  answer: { readonly model: string; readonly unique: string; readonly previous: string | null; readonly createdS: number },
  status: 'in_progress' | 'completed',
  output: readonly JsonObject[],
): JsonObject {
  return {
    id: syntheticId(answer.unique, answer.previous),
    object: 'response',
    created_at: answer.createdS,
    status,
    background: false,
    error: null,
    incomplete_details: null,
    instructions: null,
    max_output_tokens: null,
    max_tool_calls: null,
    metadata: {},
    model: answer.model,
    output,
    parallel_tool_calls: true,
    previous_response_id: answer.previous,
    reasoning: { effort: null, summary: null },
    service_tier: 'default',
    store: false,
    temperature: 1,
    text: { format: { type: 'text' }, verbosity: 'medium' },
    tool_choice: 'auto',
    tools: [],
    top_logprobs: 0,
    top_p: 1,
    truncation: 'disabled',
    usage: status === 'completed' ? NO_USAGE : null,
  }
}
