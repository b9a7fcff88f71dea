/** The summariser: what a model answers when it is told to summarise. */
import type { ChatRequest } from './chat-request.ts'
import { tokenTexts } from './tokens.ts'

const ASKS = /\bsummar(?:y|ies|i[sz]e[ds]?|i[sz]ing)\b|zusammenfass|fasse\b.*\bzusammen/i
/** Where in a long message an instruction is looked for: its beginning and its end. */
const INSTRUCTION_CHARS = 600
/** Requests with more messages than this are conversations: what their system message says of summaries is no instruction for this answer. */
const INSTRUCTED_MESSAGES_MAX = 3
const SHARE_OF_INPUT = 10
const TOKENS_MIN = 24
const TOKENS_PER_WORD_PERCENT = 130

/** Whether the last instruction of the request asks for a summary. */
export function asksForSummary(request: ChatRequest): boolean {
  const last = request.messages.at(-1)
  if (last !== undefined && last.role !== 'tool' && last.role !== 'assistant' && asks(last.text)) return true
  if (request.messages.length > INSTRUCTED_MESSAGES_MAX) return false
  return request.messages.some((message) => (message.role === 'system' || message.role === 'developer') && asks(message.text))
}

/**
 * A summary of the texts of the request, in o200k tokens, as the pieces that a model would stream. It stays within the length that the
 * instruction names, and within 9/10 of `limit` tokens.
 */
export function summarise(request: ChatRequest, limit: number): string[] {
  const sources = sourcesOf(request)
  const inputTokens = sources.reduce((sum, source) => sum + tokenTexts(source).length, 0)
  const wanted = Math.max(TOKENS_MIN, Math.ceil(inputTokens / SHARE_OF_INPUT))
  const most = Math.max(1, Math.min(wanted, namedLimit(request) ?? wanted, Math.floor((limit * 9) / 10)))
  const pieces: string[] = [...tokenTexts('Earlier in this conversation:')]
  const share = Math.max(6, Math.floor((most - pieces.length) / Math.max(1, sources.length)))
  for (const source of sources) {
    if (pieces.length >= most) break
    const words = tokenTexts(` ${source}`).slice(0, share - 1)
    pieces.push(...words, ';')
  }
  const kept = pieces.slice(0, most)
  if (kept.length > 1) kept[kept.length - 1] = '.'
  return kept
}

function asks(text: string): boolean {
  return ASKS.test(text.slice(0, INSTRUCTION_CHARS)) || ASKS.test(text.slice(-INSTRUCTION_CHARS))
}

/** What was said, a line each: the messages but for instructions, or the lines of a transcript inside one message. */
function sourcesOf(request: ChatRequest): readonly string[] {
  const said = request.messages
    .filter((message) => message.role !== 'system' && message.role !== 'developer')
    .map((message) => message.text)
  const told = request.messages.length <= INSTRUCTED_MESSAGES_MAX ? said.flatMap((text) => text.split('\n')) : said.slice(0, -1)
  return told.map((text) => text.replace(/\s+/g, ' ').trim()).filter((text) => text !== '' && !ASKS.test(text))
}

/** The smallest bound that the instruction states in tokens or words. */
function namedLimit(request: ChatRequest): number | null {
  const bounds: number[] = []
  for (const message of request.messages) {
    if (!asks(message.text)) continue
    for (const [, digits = '', unit = ''] of message.text.matchAll(/(\d[\d,. ]*)\s*(tokens?|words?|Wörter[n]?)\b/gi)) {
      const count = Number(digits.replace(/\D/g, ''))
      if (count > 0) bounds.push(/^t/i.test(unit) ? count : Math.floor((count * TOKENS_PER_WORD_PERCENT) / 100))
    }
  }
  return bounds.length === 0 ? null : Math.min(...bounds)
}
