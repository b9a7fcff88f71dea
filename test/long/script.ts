/** What is said in a long conversation: the same words whatever the provider, so that costs can be compared. */
import { prose } from '../provider/prose.ts'
import { randomOf } from '../provider/random.ts'

/** Tools of the app; what the second finds is retrieved context. */
export const TOOLS = [
  { name: 'look_up', argument: 'order' },
  { name: 'search_docs', argument: 'query' },
] as const
export type ToolName = (typeof TOOLS)[number]['name']

export interface UserTurn {
  readonly text: string
  /** An instruction that the app gives late, right before the user's words; null: none. */
  readonly instruction: string | null
  /** Tools that the model calls, step by step, before it answers. Several in one step are called in parallel. */
  readonly steps: readonly (readonly ToolName[])[]
  /** Tokens of the answer. */
  readonly answerTokens: number
}

const LATE_INSTRUCTION = 'From now on the harbour is closed at night: say so where it matters.'

/** `count` user turns: plain questions, tool loops, parallel calls, passages that the app retrieved, one late instruction. */
export function script(count: number): readonly UserTurn[] {
  return Array.from({ length: count }, (_, turn): UserTurn => {
    const question = `Question ${turn + 1}. ${textOf(1_000 + turn, 50 + ((turn * 37) % 90))}`
    return {
      text: turn % 8 === 3 ? `${question}\n<context>${textOf(2_000 + turn, 400)}</context>` : question,
      instruction: turn === Math.floor(count / 2) ? LATE_INSTRUCTION : null,
      steps: stepsOf(turn),
      answerTokens: 90 + ((turn * 53) % 120),
    }
  })
}

/** The instructions. They begin with where it is said, so that no two apps share a cached prefix. */
export function systemFor(place: string): string {
  return `You are the help desk of a lighthouse, on ${place}. ${textOf(1, 300)}`
}

/** What a tool gives back, of a call that is the `call`-th of the conversation. */
export function resultOf(name: ToolName, call: number): string {
  return textOf(5_000 + call, name === 'search_docs' ? 500 : 80)
}

function stepsOf(turn: number): UserTurn['steps'] {
  if (turn % 10 === 5) return [['search_docs'], ['look_up']]
  if (turn % 6 === 2) return [['look_up', 'search_docs', 'look_up']]
  return turn % 4 === 1 ? [['look_up']] : []
}

/** Plain prose of so many o200k tokens. */
function textOf(seed: number, tokens: number): string {
  return prose(randomOf(seed), tokens, 'en').join('')
}
