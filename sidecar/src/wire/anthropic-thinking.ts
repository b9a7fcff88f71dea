/**
 * How Claude models think, of what a change of the request must respect: which values of `thinking.type` each takes, the budget that must
 * fit below `max_tokens`, and which thinking may be sent back. https://platform.claude.com/docs/en/build-with-claude/thinking
 */
import { isObject, lastSpeaker, parseObject, turnStarts } from '../core/message.ts'
import type { JsonObject, Message } from '../core/request.ts'
import { AnthropicMessage, withoutThinking } from './anthropic-message.ts'

/** The least that `thinking.budget_tokens` may be. */
const BUDGET_TOKENS_MIN = 1_024
/** What a budget leaves for the answer itself. */
const ANSWER_TOKENS_MIN = 256

type ThinkingType = 'adaptive' | 'between_tools' | 'disabled' | 'enabled'

/** First match wins. Models that are not here are newer: nothing is changed for them. */
const TYPES: readonly (readonly [model: RegExp, types: readonly ThinkingType[]])[] = [
  [/claude-(?:sonnet|opus)-4[-.]6/, ['disabled', 'adaptive', 'enabled']],
  [/claude-opus-4[-.][78]/, ['disabled', 'adaptive']],
  [/claude-(?:[23]|instant|(?:sonnet|opus|haiku)-4)/, ['disabled', 'enabled']],
  [/claude-sonnet-5[-.]5/, ['adaptive', 'between_tools']],
  [/claude-(?:opus-5[-.]5|fable|mythos)/, ['adaptive']],
  [/claude-(?:haiku-5[-.]5|sonnet-5|opus-5)/, ['adaptive', 'disabled']],
]

/** What changes the thinking of a request: another model, a smaller bound of the output, a tool loop that began without. */
export interface ThinkingChange {
  /** The model that will be asked, where it is another. */
  readonly model: string | null
  /** `max_tokens` as it will be sent, where that is not the client's own. */
  readonly maxTokens: number | null
  /** As `isUnthoughtLoop` says: a budget that was too small for one call of a loop is none for all of it. */
  readonly unthought: boolean
}

/**
 * The `thinking` to send in place of `written` (JSON text): a budget that fits, or none; a type that the model takes. Null drops the
 * field, which leaves the model's own default.
 */
export function thinkingFor(written: string, { model, maxTokens, unthought }: ThinkingChange): string | null {
  const thinking = parseObject(written)
  if (thinking === null) return written
  const types = model === null ? null : (TYPES.find(([pattern]) => pattern.test(model))?.[1] ?? null)
  const type = thinking['type']
  if (types !== null && !types.some((known) => known === type)) {
    const thinks = type === 'enabled' || type === 'adaptive'
    return thinks && types.includes('adaptive') ? JSON.stringify(asAdaptive(thinking)) : null
  }
  if (type === 'enabled' && unthought) return NO_THINKING
  const budget = thinking['budget_tokens']
  if (type !== 'enabled' || typeof budget !== 'number' || maxTokens === null || budget + ANSWER_TOKENS_MIN <= maxTokens) return written
  const fitting = maxTokens - ANSWER_TOKENS_MIN
  return fitting < BUDGET_TOKENS_MIN ? NO_THINKING : JSON.stringify({ ...thinking, budget_tokens: fitting })
}
const NO_THINKING = '{"type":"disabled"}'

/**
 * Whether these messages end in a tool loop that the model began without thinking: then it cannot begin to think now. A loop is one turn
 * of the model, which without interleaved thinking thinks once, before its first call.
 */
export function isUnthoughtLoop(messages: readonly Message[]): boolean {
  if (lastSpeaker(messages) !== 'tool') return false
  const first = messages.slice(turnStarts(messages).at(-1) ?? 0).find((message) => message.role === 'assistant')
  return first instanceof AnthropicMessage && !first.beginsWithThinking
}

/** What a prompt of our own says of thinking, whose tokens would come out of a small bound. */
export function briefThinking(model: string): JsonObject {
  const types = TYPES.find(([pattern]) => pattern.test(model))?.[1]
  if (types === undefined || types[0] === 'disabled') return {}
  return types.includes('disabled') ? { thinking: { type: 'disabled' } } : { output_config: { effort: 'low' } }
}

/**
 * The messages to send, without the thinking that the provider would refuse: behind an edit, all that was thought before the running
 * user turn. It was bound to what stood there before the edit. What the running turn thought came after the edit, which is only ever made
 * where a user turn begins, and a tool loop needs it; with the next turn it goes too, so that a history is always cut in the same way.
 */
export function withBoundThinking(original: readonly Message[], sent: readonly Message[]): readonly Message[] {
  const from = firstEdited(original, sent)
  if (from === null) return sent
  const running = turnStarts(sent).at(-1) ?? sent.length
  return sent.flatMap((message, index) => {
    if (index < from || index >= running || message.role !== 'assistant') return [message]
    return withoutThinking(message) ?? []
  })
}

/** The messages without anything that was thought: all of it is bound to the tools, which say something else now. */
export function withoutAllThinking(messages: readonly Message[]): readonly Message[] {
  return messages.flatMap((message) => withoutThinking(message) ?? [])
}

/**
 * Where the messages sent are no longer those that the model saw or wrote; null when they are all the same to it. An assistant's message
 * that lost our notice, or is gone because it was nothing else, is what the model wrote.
 */
function firstEdited(original: readonly Message[], sent: readonly Message[]): number | null {
  let at = 0
  for (const [index, message] of sent.entries()) {
    while (original[at]?.role === 'assistant' && message.role !== 'assistant') at += 1
    const before = original[at]
    if (before === undefined) return index
    const isSame = before === message || before.bytes === message.bytes || (before.role === 'assistant' && message.role === 'assistant')
    if (!isSame) return index
    at += 1
  }
  return null
}

function asAdaptive(thinking: JsonObject): JsonObject {
  const { budget_tokens: _, ...rest } = thinking
  return isObject(rest) ? { ...rest, type: 'adaptive' } : { type: 'adaptive' }
}
