/** Answers as JSON: whole, and the pieces of a stream, field by field as the provider writes them. */
import type { Draft, Piece } from '../drafts.ts'
import type { ToolCall } from '../message-checks.ts'
import type { GeminiRequest } from './request.ts'
import { signatureOf } from './signatures.ts'

export interface GeminiUsage {
  readonly promptTokens: number
  readonly cachedTokens: number
  /** With the hidden ones. */
  readonly outputTokens: number
  readonly reasoningTokens: number
  /** Beside the output in words. */
  readonly pictureTokens: number
}

export interface GeminiFrame {
  readonly responseId: string
  readonly request: GeminiRequest
  /** Base64 of the picture that the first candidate ends with; null: none. */
  readonly pictureBytes: number | null
}

const THOUGHT_SUMMARY = '**Considering the question**\n\nThe request is plain, and so can the answer be.'

/** The body of a plain answer; `usage` null leaves it out. */
export function answerJson(frame: GeminiFrame, drafts: readonly Draft[], usage: GeminiUsage | null): object {
  const candidates = drafts.map((draft, index) => {
    const parts = [...thoughtParts(frame.request, draft), ...wholeParts(frame.request, draft), ...pictureParts(frame, index)]
    // Where thinking took all that was allowed, the content has no parts.
    const content = parts.length === 0 ? { role: 'model' } : { parts, role: 'model' }
    return { content, finishReason: finishReason(draft), index }
  })
  return { candidates, ...tail(frame, usage) }
}

/** Writes the pieces of one stream. A call goes out whole, once its arguments are complete. */
export interface ChunkWriter {
  start(choice: number, draft: Draft, usage: GeminiUsage | null): object | null
  piece(choice: number, index: number, draft: Draft, usage: GeminiUsage | null): object | null
  finish(choice: number, draft: Draft, usage: GeminiUsage | null): object
}

export function chunkWriter(frame: GeminiFrame): ChunkWriter {
  const { request } = frame
  const chunk = (index: number, parts: readonly object[], usage: GeminiUsage | null, end: object = {}): object => ({
    candidates: [{ content: parts.length === 0 ? { role: 'model' } : { parts, role: 'model' }, ...end, index }],
    ...tail(frame, usage),
  })
  return {
    start(choice, draft, usage) {
      const parts = thoughtParts(request, draft)
      return parts.length === 0 ? null : chunk(choice, parts, usage)
    },
    piece(choice, index, draft, usage) {
      const piece = draft.pieces[index]
      if (piece?.kind === 'text') return chunk(choice, [{ text: piece.text }], usage)
      if (piece === undefined || draft.pieces[index + 1]?.kind === 'input') return null
      const call = callsOf(draft.pieces.slice(0, index + 1)).at(-1)
      return call === undefined || (index === draft.pieces.length - 1 && draft.finish === 'length')
        ? null
        : chunk(choice, [callPart(request, call, call.index === 0)], usage)
    },
    finish(choice, draft, usage) {
      const words = draft.pieces.length > 0 && callsOf(draft.pieces).length === 0
      const parts = words ? [{ text: '', ...(signsWords(request) ? { thoughtSignature: signatureOf(null) } : {}) }] : []
      return chunk(choice, [...parts, ...pictureParts(frame, choice)], usage, { finishReason: finishReason(draft) })
    },
  }
}

/** Zeros are left out, as protocol buffers leave them out. */
export function usageJson(usage: GeminiUsage, images: number): Record<string, unknown> {
  const candidates = usage.outputTokens - usage.reasoningTokens + usage.pictureTokens
  const text = usage.promptTokens - images
  return {
    promptTokenCount: usage.promptTokens,
    ...(candidates > 0 ? { candidatesTokenCount: candidates } : {}),
    totalTokenCount: usage.promptTokens + usage.outputTokens + usage.pictureTokens,
    ...(usage.pictureTokens > 0 ? { candidatesTokensDetails: [{ modality: 'IMAGE', tokenCount: usage.pictureTokens }] } : {}),
    ...(usage.cachedTokens > 0
      ? { cachedContentTokenCount: usage.cachedTokens, cacheTokensDetails: [{ modality: 'TEXT', tokenCount: usage.cachedTokens }] }
      : {}),
    promptTokensDetails: [
      ...(text > 0 ? [{ modality: 'TEXT', tokenCount: text }] : []),
      ...(images > 0 ? [{ modality: 'IMAGE', tokenCount: images }] : []),
    ],
    ...(usage.reasoningTokens > 0 ? { thoughtsTokenCount: usage.reasoningTokens } : {}),
  }
}

function tail(frame: GeminiFrame, usage: GeminiUsage | null): object {
  return {
    ...(usage === null ? {} : { usageMetadata: usageJson(usage, frame.request.imageTokens) }),
    modelVersion: frame.request.model.snapshot,
    responseId: frame.responseId,
  }
}

function thoughtParts(request: GeminiRequest, draft: Draft): readonly object[] {
  return request.includeThoughts && draft.reasoningTokens > 0 ? [{ text: THOUGHT_SUMMARY, thought: true }] : []
}

function pictureParts({ pictureBytes }: GeminiFrame, choice: number): readonly object[] {
  return pictureBytes === null || choice > 0 ? [] : [{ inlineData: { mimeType: 'image/png', data: 'A'.repeat(pictureBytes) } }]
}

function wholeParts(request: GeminiRequest, draft: Draft): readonly object[] {
  const calls = callsOf(draft.pieces)
  const text = draft.pieces.map((piece) => (piece.kind === 'text' ? piece.text : '')).join('')
  // A call whose arguments were cut off is not given at all.
  const whole = draft.finish === 'length' ? calls.slice(0, -1) : calls
  const said = text === '' ? [] : [{ text, ...(calls.length === 0 && signsWords(request) ? { thoughtSignature: signatureOf(null) } : {}) }]
  return [...said, ...whole.map((call) => callPart(request, call, call.index === 0))]
}

function signsWords(request: GeminiRequest): boolean {
  return request.model.needsSignatures
}

type Call = ToolCall & { readonly index: number }

function callsOf(pieces: readonly Piece[]): readonly Call[] {
  const calls: { call: ToolCall; input: string; index: number }[] = []
  for (const piece of pieces) {
    if (piece.kind === 'call') calls.push({ call: piece.call, input: '', index: piece.index })
    const last = calls.at(-1)
    if (piece.kind === 'input' && last !== undefined) last.input += piece.text
  }
  return calls.map(({ call, input, index }) => ({ ...call, input, index }))
}

function callPart(request: GeminiRequest, call: Call, signed: boolean): object {
  const args: unknown = JSON.parse(call.input === '' ? '{}' : call.input)
  const functionCall = { name: call.name, args, ...(request.model.third ? { id: call.id } : {}) }
  return { functionCall, ...(signed ? { thoughtSignature: signatureOf({ name: call.name, args }) } : {}) }
}

function finishReason(draft: Draft): string {
  return draft.finish === 'length' ? 'MAX_TOKENS' : 'STOP'
}
