/** Answers as bytes: the plain completion and the chunks of a stream, field by field as the provider writes them. */
import { CONTENT_FILTER_RESULTS, OPENING_EVENT, PROMPT_FILTER_RESULTS } from './azure.ts'
import type { ChatRequest } from './chat-request.ts'
import type { Draft, Piece } from './drafts.ts'
import type { ToolCall } from './message-checks.ts'
import { tokenTexts } from './tokens.ts'

export interface Usage {
  readonly promptTokens: number
  readonly cachedTokens: number
  readonly outputTokens: number
  readonly reasoningTokens: number
  readonly acceptedPredictionTokens: number
  readonly rejectedPredictionTokens: number
}

/** What is the same in every part of one answer. */
export interface AnswerFrame {
  readonly id: string
  readonly createdSeconds: number
  readonly request: ChatRequest
  /** Azure says in each answer what its content filter found. */
  readonly dialect: 'openai' | 'azure'
}

export const DONE = 'data: [DONE]\n\n'
const FINGERPRINT = 'fp_44709d6fcb'
const OBFUSCATION = 'aZ3kQ9xWm1Tr7LpE'

/** The body of a plain completion; `usage` null leaves the field out. */
export function completionJson(frame: AnswerFrame, drafts: readonly Draft[], usage: Usage | null): string {
  const { request } = frame
  const azure = frame.dialect === 'azure'
  return JSON.stringify({
    id: frame.id,
    object: 'chat.completion',
    created: frame.createdSeconds,
    model: request.model.snapshot,
    choices: drafts.map((draft, index) => ({
      index,
      message: messageJson(request, draft),
      logprobs: request.logprobs ? { content: textsOf(draft.pieces).map(logprob), refusal: null } : null,
      finish_reason: draft.finish,
      ...(azure ? { content_filter_results: CONTENT_FILTER_RESULTS } : {}),
    })),
    ...(azure ? { prompt_filter_results: PROMPT_FILTER_RESULTS } : {}),
    ...(usage === null ? {} : { usage: usageJson(usage) }),
    service_tier: request.serviceTier,
    system_fingerprint: FINGERPRINT,
  })
}

/** Writes the events of one stream. */
export interface ChunkWriter {
  /** What comes before the first event of any choice; mostly nothing. */
  opening(): string
  /** The first event of a choice. */
  start(choice: number, draft: Draft): string
  piece(choice: number, piece: Piece, usage: Usage | null): string
  finish(choice: number, reason: Draft['finish'], usage: Usage | null): string
  /** The event with no choices, which `include_usage` asks for. */
  usage(usage: Usage): string
}

export function chunkWriter(frame: AnswerFrame): ChunkWriter {
  const { request } = frame
  const head = `data: {"id":"${frame.id}","object":"chat.completion.chunk","created":${frame.createdSeconds},"model":${JSON.stringify(request.model.snapshot)},"service_tier":"${request.serviceTier}","system_fingerprint":"${FINGERPRINT}","choices":[`
  const tail = (usage: Usage | null): string => {
    const shown = usage === null ? (request.includeUsage ? ',"usage":null' : '') : `,"usage":${JSON.stringify(usageJson(usage))}`
    return `]${shown}${request.obfuscate ? `,"obfuscation":"${OBFUSCATION}"` : ''}}\n\n`
  }
  const event = (choice: number, delta: string, logprobs: string, reason: string, usage: Usage | null): string =>
    `${head}{"index":${choice},"delta":${delta},"logprobs":${logprobs},"finish_reason":${reason}}${tail(usage)}`
  return {
    opening: () => (frame.dialect === 'azure' ? OPENING_EVENT : ''),
    start(choice, draft) {
      const first = draft.pieces[0]
      const delta =
        first === undefined || first.kind === 'text'
          ? '{"role":"assistant","content":"","refusal":null}'
          : '{"role":"assistant","content":null,"refusal":null}'
      return event(choice, delta, 'null', 'null', null)
    },
    piece(choice, piece, usage) {
      const logprobs =
        request.logprobs && piece.kind === 'text' ? JSON.stringify({ content: [logprob(piece.text)], refusal: null }) : 'null'
      return event(choice, JSON.stringify(deltaJson(request, piece)), logprobs, 'null', usage)
    },
    finish: (choice, reason, usage) => event(choice, '{}', 'null', `"${reason}"`, usage),
    usage: (usage) => `${head}${tail(usage)}`,
  }
}

export function usageJson(usage: Usage): Record<string, unknown> {
  return {
    prompt_tokens: usage.promptTokens,
    completion_tokens: usage.outputTokens,
    total_tokens: usage.promptTokens + usage.outputTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: usage.reasoningTokens,
      audio_tokens: 0,
      accepted_prediction_tokens: usage.acceptedPredictionTokens,
      rejected_prediction_tokens: usage.rejectedPredictionTokens,
    },
  }
}

/** Of a prediction, the tokens that the answer begins with, and the rest, which is billed too. */
export function predictionTokens(prediction: string, answer: string): { accepted: number; rejected: number } {
  const predicted = tokenTexts(prediction)
  const written = tokenTexts(answer)
  let accepted = 0
  while (accepted < predicted.length && predicted[accepted] === written[accepted]) accepted += 1
  return { accepted, rejected: predicted.length - accepted }
}

/** The words of an answer, joined; null when it has none. */
export function contentOf(draft: Draft): string | null {
  const texts = textsOf(draft.pieces)
  const empty = texts.length === 0 && draft.pieces.length > 0
  return empty ? null : texts.join('')
}

function messageJson(request: ChatRequest, draft: Draft): Record<string, unknown> {
  const calls: { call: ToolCall; input: string }[] = []
  for (const piece of draft.pieces) {
    if (piece.kind === 'call') calls.push({ call: piece.call, input: '' })
    const last = calls.at(-1)
    if (piece.kind === 'input' && last !== undefined) last.input += piece.text
  }
  const message = { role: 'assistant', content: contentOf(draft), refusal: null, annotations: [] }
  const [first] = calls
  if (first === undefined) return message
  if (request.legacyFunctions) return { ...message, function_call: { name: first.call.name, arguments: first.input } }
  return { ...message, tool_calls: calls.map(({ call, input }) => ({ id: call.id, ...callBody(call, input) })) }
}

function deltaJson(request: ChatRequest, piece: Piece): Record<string, unknown> {
  if (piece.kind === 'text') return { content: piece.text }
  if (request.legacyFunctions)
    return { function_call: piece.kind === 'call' ? { name: piece.call.name, arguments: '' } : { arguments: piece.text } }
  if (piece.kind === 'call') return { tool_calls: [{ index: piece.index, id: piece.call.id, ...callBody(piece.call, '') }] }
  return { tool_calls: [{ index: piece.index, ...inputDelta(piece) }] }
}

function inputDelta(piece: Extract<Piece, { kind: 'input' }>): Record<string, unknown> {
  return piece.custom ? { custom: { input: piece.text } } : { function: { arguments: piece.text } }
}

function callBody(call: ToolCall, input: string): Record<string, unknown> {
  return call.kind === 'custom'
    ? { type: 'custom', custom: { name: call.name, input } }
    : { type: 'function', function: { name: call.name, arguments: input } }
}

function textsOf(pieces: readonly Piece[]): string[] {
  const texts: string[] = []
  for (const piece of pieces) if (piece.kind === 'text') texts.push(piece.text)
  return texts
}

function logprob(token: string): Record<string, unknown> {
  return { token, logprob: -0.01, bytes: [...Buffer.from(token)], top_logprobs: [] }
}
