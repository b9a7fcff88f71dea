/** Answers as bytes: the plain message and the events of a stream, field by field as the provider writes them. */
import type { Piece } from '../drafts.ts'
import { isObject } from '../fields.ts'
import type { ClaudeAnswer, HostedCall } from './answer.ts'
import type { InputTokens } from './prompt.ts'
import type { ClaudeRequest } from './request.ts'
import { sign } from './thinking.ts'

/** What is the same in every part of one answer. */
export interface Frame {
  readonly id: string
  readonly request: ClaudeRequest
  readonly answer: ClaudeAnswer
  /** Digest of what stands before the answer. */
  readonly prefix: string
}

export interface ClaudeUsage {
  readonly input: InputTokens
  readonly outputTokens: number
  readonly thinkingTokens: number
  readonly webSearches: number
  readonly webFetches: number
}

/** The body of a plain answer; `usage` null leaves the field out. */
export function messageJson(frame: Frame, usage: ClaudeUsage | null): string {
  const { answer } = frame
  return JSON.stringify({
    ...envelope(frame),
    content: contentOf(frame),
    stop_reason: answer.stopReason,
    stop_sequence: answer.stopSequence,
    stop_details: stopDetails(answer),
    ...(usage === null ? {} : { usage: usageJson(frame.request, usage) }),
  })
}

/** Writes the events of a stream, in order. */
export class EventWriter {
  readonly #frame: Frame
  #index = -1
  #open: 'text' | 'thinking' | 'call' | null = null

  constructor(frame: Frame) {
    this.#frame = frame
  }

  /** `usage` is what is known before the first word; null leaves it out. */
  start(usage: ClaudeUsage | null): string {
    const message = {
      ...envelope(this.#frame),
      content: [],
      stop_reason: null,
      stop_sequence: null,
      stop_details: null,
      ...(usage === null ? {} : { usage: usageJson(this.#frame.request, usage) }),
    }
    const head = event({ type: 'message_start', message })
    if (this.#frame.answer.draft.reasoningTokens === 0) return head + PING
    if (this.#frame.answer.redacted) return head + PING
    this.#open = 'thinking'
    return head + this.#startBlock({ type: 'thinking', thinking: '', signature: '' }) + PING
  }

  /** Ends the thinking, and shows what the provider's own tools did. To be called once, before the first piece. */
  afterThinking(): string {
    const { answer } = this.#frame
    let text = ''
    if (answer.draft.reasoningTokens > 0 && answer.redacted) {
      text += this.#startBlock(redactedBlock(this.#frame)) + this.#stopBlock()
    } else if (this.#open === 'thinking') {
      const { thinking, signature } = thinkingBlock(this.#frame)
      for (let at = 0; at < thinking.length; at += THINKING_CHARS)
        text += this.#delta({ type: 'thinking_delta', thinking: thinking.slice(at, at + THINKING_CHARS) })
      text += this.#delta({ type: 'signature_delta', signature }) + this.#close()
    }
    for (const call of answer.hosted) {
      text += this.#startBlock({ ...hostedUse(call), input: {} })
      text += this.#delta({ type: 'input_json_delta', partial_json: JSON.stringify({ query: call.query }) }) + this.#stopBlock()
      text += this.#startBlock(hostedResult(call)) + this.#stopBlock()
    }
    return text
  }

  piece(piece: Piece): string {
    if (piece.kind === 'text') {
      const head = this.#open === 'text' ? '' : this.#close() + this.#startBlock({ type: 'text', text: '', citations: null })
      this.#open = 'text'
      return head + this.#delta({ type: 'text_delta', text: piece.text })
    }
    if (piece.kind === 'input') return this.#delta({ type: 'input_json_delta', partial_json: piece.text })
    const closed = this.#close()
    this.#open = 'call'
    const block = { type: 'tool_use', id: piece.call.id, name: piece.call.name, input: {}, caller: DIRECT }
    return closed + this.#startBlock(block) + this.#delta({ type: 'input_json_delta', partial_json: '' })
  }

  /** `usage` null leaves it out. */
  finish(usage: ClaudeUsage | null): string {
    const { answer, request } = this.#frame
    const delta = { stop_reason: answer.stopReason, stop_sequence: answer.stopSequence, stop_details: stopDetails(answer), container: null }
    const counted = usage === null ? {} : { usage: deltaUsage(request, usage) }
    return this.#close() + event({ type: 'message_delta', delta, ...counted }) + event({ type: 'message_stop' })
  }

  #close(): string {
    if (this.#open === null) return ''
    this.#open = null
    return this.#stopBlock()
  }

  #startBlock(block: object): string {
    this.#index += 1
    return event({ type: 'content_block_start', index: this.#index, content_block: block })
  }

  #stopBlock(): string {
    return event({ type: 'content_block_stop', index: this.#index })
  }

  #delta(delta: object): string {
    return event({ type: 'content_block_delta', index: this.#index, delta })
  }
}

export function event(data: Readonly<Record<string, unknown>> & { readonly type: string }): string {
  return `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`
}

const PING = event({ type: 'ping' })
const THINKING_CHARS = 60
const DIRECT = { type: 'direct' }

function envelope({ id, request }: Frame): object {
  return { model: request.model.snapshot, id, type: 'message', role: 'assistant', container: null, diagnostics: null }
}

function contentOf(frame: Frame): readonly object[] {
  const { answer } = frame
  const blocks: object[] = []
  if (answer.draft.reasoningTokens > 0) blocks.push(answer.redacted ? redactedBlock(frame) : thinkingBlock(frame))
  for (const call of answer.hosted) blocks.push({ ...hostedUse(call), input: { query: call.query } }, hostedResult(call))
  const text = answer.draft.pieces.map((piece) => (piece.kind === 'text' ? piece.text : '')).join('')
  if (text !== '') blocks.push({ type: 'text', text, citations: null })
  for (const piece of answer.draft.pieces) {
    if (piece.kind !== 'call') continue
    const input = answer.draft.pieces.map((each) => (each.kind === 'input' && each.index === piece.index ? each.text : '')).join('')
    blocks.push({ type: 'tool_use', id: piece.call.id, name: piece.call.name, input: parsed(input), caller: DIRECT })
  }
  return blocks
}

function thinkingBlock({ request, answer, prefix }: Frame): { type: string; thinking: string; signature: string } {
  const thinking = answer.thinkingText
  return { type: 'thinking', thinking, signature: sign(request.model, prefix, answer.draft.reasoningTokens, thinking) }
}

function redactedBlock({ request, answer, prefix }: Frame): object {
  return { type: 'redacted_thinking', data: sign(request.model, prefix, answer.draft.reasoningTokens, '') }
}

function hostedUse(call: HostedCall): object {
  return { type: 'server_tool_use', id: call.id, name: call.name, caller: DIRECT }
}

function hostedResult(call: HostedCall): object {
  const kind = call.name.startsWith('tool_search') ? 'tool_search' : call.name
  return { type: `${kind}_tool_result`, tool_use_id: call.id, caller: DIRECT, content: resultContent(call, kind) }
}

function resultContent({ name, result }: HostedCall, kind: string): object {
  if (result === null) return { type: `${name}_tool_result_error`, error_code: 'max_uses_exceeded' }
  if (kind === 'tool_search') return { type: 'tool_search_tool_search_result', tool_references: JSON.parse(result) as unknown }
  if (kind === 'code_execution')
    return { type: 'encrypted_code_execution_result', encrypted_stdout: result, stderr: '', return_code: 0, content: [] }
  return [{ type: `${name}_result`, url: 'https://example.com/news', title: 'News', page_age: null, encrypted_content: result }]
}

/** What was cut off in the middle is no JSON yet. */
function parsed(input: string): object {
  try {
    const value: unknown = JSON.parse(input)
    return isObject(value) ? value : {}
  } catch {
    return {}
  }
}

function usageJson(request: ClaudeRequest, usage: ClaudeUsage): object {
  const { input } = usage
  return {
    input_tokens: input.uncached,
    cache_creation_input_tokens: input.cacheWrite5m + input.cacheWrite1h,
    cache_read_input_tokens: input.cacheRead,
    cache_creation: { ephemeral_5m_input_tokens: input.cacheWrite5m, ephemeral_1h_input_tokens: input.cacheWrite1h },
    output_tokens: usage.outputTokens,
    output_tokens_details: { thinking_tokens: usage.thinkingTokens },
    server_tool_use: serverToolUse(usage),
    service_tier: 'standard',
    speed: 'standard',
    inference_geo: request.inferenceGeo ?? 'global',
  }
}

/** Cumulative; what cannot have changed since the start of the message is null. */
function deltaUsage(request: ClaudeRequest, usage: ClaudeUsage): object {
  const { input } = usage
  const isKnown = usage.webSearches + usage.webFetches === 0 && !request.model.preservedThinking
  return {
    input_tokens: isKnown ? null : input.uncached,
    cache_creation_input_tokens: isKnown ? null : input.cacheWrite5m + input.cacheWrite1h,
    cache_read_input_tokens: isKnown ? null : input.cacheRead,
    output_tokens: usage.outputTokens,
    output_tokens_details: isKnown ? null : { thinking_tokens: usage.thinkingTokens },
    server_tool_use: serverToolUse(usage),
  }
}

function serverToolUse({ webSearches, webFetches }: ClaudeUsage): object | null {
  return webSearches + webFetches === 0 ? null : { web_search_requests: webSearches, web_fetch_requests: webFetches }
}

function stopDetails(answer: ClaudeAnswer): object | null {
  return answer.stopReason === 'refusal' ? { type: 'refusal', category: answer.refusalCategory, explanation: null } : null
}
