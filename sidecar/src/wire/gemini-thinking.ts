/**
 * How Gemini models think, of what a change of the request must respect. What is thought is part of the output that `maxOutputTokens` bounds.
 * https://ai.google.dev/gemini-api/docs/thinking
 */
import { isObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'
import { memberOf, snakeCase } from './gemini-json.ts'

/** What a budget leaves for the answer itself. */
const ANSWER_TOKENS_MIN = 256

/** What `thinkingBudget` may be, but for -1 (as the model likes), and 0 where thinking may be off. */
interface Budgets {
  readonly least: number
  readonly most: number
  readonly mayBeOff: boolean
}

/** First match wins. */
const BUDGETS: readonly (readonly [model: RegExp, budgets: Budgets])[] = [
  [/^(?:models\/)?gemini-2\.5-pro/, { least: 128, most: 32_768, mayBeOff: false }],
  [/^(?:models\/)?gemini-2\.5-flash-lite/, { least: 512, most: 24_576, mayBeOff: true }],
  [/^(?:models\/)?gemini-2\.5-flash/, { least: 1, most: 24_576, mayBeOff: true }],
]
/** Of those that think by a level, and still take a budget. */
const OTHER_BUDGETS: Budgets = { least: 128, most: Infinity, mayBeOff: false }

/** What changes the thinking of a request: another model, a smaller bound of the output. */
export interface ThinkingChange {
  /** The model that will be asked. */
  readonly model: string
  /** It is another than the request names. */
  readonly isOther: boolean
  /** `maxOutputTokens` as it will be sent, where that is not the client's own. */
  readonly outputTokens: number | null
}

/** The `thinkingConfig` to send in place of `written` (JSON text): a budget that fits, and no level where the model takes none. */
export function thinkingFor(written: string, { model, isOther, outputTokens }: ThinkingChange): string {
  const own: Json = JSON.parse(written)
  if (!isObject(own)) return written
  const config = isOther && !isThirdOrLater(model) ? without(own, 'thinkingLevel') : own
  const budget = numberOf(memberOf(config, 'thinkingBudget'))
  const budgets = BUDGETS.find(([pattern]) => pattern.test(model))?.[1]
  const fitting = budget === null ? null : fittingBudget(budget, { budgets, isOther, outputTokens })
  if (fitting === budget || fitting === null) return config === own ? written : JSON.stringify(config)
  return JSON.stringify({ ...without(config, 'thinkingBudget'), thinkingBudget: fitting })
}

function fittingBudget(
  budget: number,
  { budgets, isOther, outputTokens }: Pick<ThinkingChange, 'isOther' | 'outputTokens'> & { readonly budgets: Budgets | undefined },
): number {
  const isBudget = budget > 0 || (budget === 0 && budgets?.mayBeOff === false)
  if (!isBudget) return budget
  const { least, most, mayBeOff } = budgets ?? OTHER_BUDGETS
  const taken = isOther && budgets !== undefined ? Math.min(most, Math.max(least, budget)) : budget
  if (outputTokens === null || taken + ANSWER_TOKENS_MIN <= outputTokens) return taken
  const room = outputTokens - ANSWER_TOKENS_MIN
  if (room >= least) return room
  // A budget that is smaller still is the client's own.
  return mayBeOff ? 0 : Math.min(taken, least)
}

/** What a prompt of our own says of thinking, whose tokens would come out of a small bound; null: nothing. */
export function leastThinking(model: string): JsonObject | null {
  const budgets = BUDGETS.find(([pattern]) => pattern.test(model))?.[1]
  if (budgets !== undefined) return { thinkingBudget: budgets.mayBeOff ? 0 : budgets.least }
  return isThirdOrLater(model) ? { thinkingLevel: 'LOW' } : null
}

/** Levels of thinking came with Gemini 3: models before it refuse them. */
export function isThirdOrLater(model: string): boolean {
  return !/^(models\/)?gemini-[12]\b/.test(model)
}

/** Numbers may be written as text. */
function numberOf(value: Json | undefined): number | null {
  const number = typeof value === 'string' && /^-?\d{1,10}$/.test(value) ? Number(value) : value
  return typeof number === 'number' && Number.isInteger(number) ? number : null
}

function without(config: JsonObject, name: string): JsonObject {
  return Object.fromEntries(Object.entries(config).filter(([key]) => key !== name && key !== snakeCase(name)))
}
