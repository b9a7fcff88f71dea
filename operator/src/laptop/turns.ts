/** A recorded conversation as an app would live it: user turns, and what the app does with each answer. */
import type { RecordedCall, RecordedConversation, RecordedMessage } from './records.ts'

/** What the user says, and the steps that the recorded assistant took until it answered. */
export interface UserTurn {
  /** The user's message; null where a recording begins without one. */
  readonly user: string | null
  readonly steps: readonly Step[]
}

/** One recorded answer, and the results of its calls by their ids. */
export interface Step {
  readonly content: string | null
  readonly calls: readonly RecordedCall[]
  readonly results: ReadonlyMap<string, string>
}

/** Of a question whose answer was not recorded. */
const UNKNOWN_ANSWER: Step = { content: null, calls: [], results: new Map() }

export interface Script {
  /** The leading instructions. */
  readonly system: readonly string[]
  readonly turns: readonly UserTurn[]
  /** Answers in all: at most this many calls are made. */
  readonly calls: number
}

/**
 * Where somebody answered, it leaves out user turns that nobody did: there is nothing to play, and what a user said last needs no answer. A
 * list of questions, without any answer, is what is to be asked: each of them once.
 */
export function scriptOf(conversation: Pick<RecordedConversation, 'messages'>): Script {
  const { messages } = conversation
  const system: string[] = []
  let at = 0
  for (let message = messages[at]; message?.role === 'system'; message = messages[at]) {
    system.push(message.content)
    at += 1
  }
  const turns: { user: string | null; steps: Step[] }[] = []
  for (; at < messages.length; at += 1) {
    const message = messages[at]
    if (message === undefined) break
    if (message.role === 'user') turns.push({ user: message.content, steps: [] })
    if (message.role !== 'assistant') continue
    if (turns.length === 0) turns.push({ user: null, steps: [] })
    turns.at(-1)?.steps.push({ content: message.content, calls: message.calls, results: resultsAfter(messages, at) })
  }
  const answered = turns.filter((turn) => turn.steps.length > 0)
  const played = answered.length > 0 ? answered : turns.map(({ user }) => ({ user, steps: [UNKNOWN_ANSWER] }))
  return { system, turns: played, calls: played.reduce((total, turn) => total + turn.steps.length, 0) }
}

/** What a model answered, as far as the app cares. */
export interface Answer {
  readonly content: string | null
  readonly calls: readonly RecordedCall[]
  /** The answer was cut by its output bound: its calls cannot be trusted to be whole. */
  readonly truncated: boolean
}

/** A message of the app's own history. */
export type HistoryMessage =
  | { readonly role: 'system' | 'user'; readonly content: string }
  | { readonly role: 'assistant'; readonly content: string | null; readonly tool_calls?: RecordedCall[] }
  | { readonly role: 'tool'; readonly content: string; readonly tool_call_id: string }

export interface Reaction {
  /** What joins the history. */
  readonly messages: readonly HistoryMessage[]
  /** `loop`: the calls were answered, ask again; `answered`: words for the user; `stopped`: the tool loop ends without an answer. */
  readonly next: 'loop' | 'answered' | 'stopped'
}

const NO_RESULT = 'This tool gave no result.'

/**
 * What the app does with an answer. It resends the words that it received, whatever was recorded. Calls that the recording
 * knows get their recorded results; any other call gets a result that says so, and the loop of this turn ends, so that no call
 * stays unanswered. A cut answer keeps its words only.
 */
export function reactTo(answer: Answer, step: Step): Reaction {
  if (answer.calls.length === 0 || answer.truncated) {
    const said: HistoryMessage[] = answer.content === null || answer.content === '' ? [] : [{ role: 'assistant', content: answer.content }]
    return { messages: said, next: answer.calls.length === 0 ? 'answered' : 'stopped' }
  }
  const unused = [...step.calls]
  let known = true
  const results = answer.calls.map((call): HistoryMessage => {
    const index = unused.findIndex((recorded) => isSameCall(recorded, call))
    const recorded = index < 0 ? undefined : unused.splice(index, 1)[0]
    const content = recorded === undefined ? undefined : step.results.get(recorded.id)
    if (content === undefined) known = false
    return { role: 'tool', tool_call_id: call.id, content: content ?? NO_RESULT }
  })
  return {
    messages: [{ role: 'assistant', content: answer.content, tool_calls: [...answer.calls] }, ...results],
    next: known ? 'loop' : 'stopped',
  }
}

function resultsAfter(messages: readonly RecordedMessage[], at: number): ReadonlyMap<string, string> {
  const results = new Map<string, string>()
  for (let index = at + 1; index < messages.length; index += 1) {
    const message = messages[index]
    if (message?.role !== 'tool') break
    results.set(message.callId, message.content)
  }
  return results
}

function isSameCall(recorded: RecordedCall, made: RecordedCall): boolean {
  return recorded.function.name === made.function.name && canonical(recorded.function.arguments) === canonical(made.function.arguments)
}

/** Arguments in one spelling: models write the same JSON with other blanks and another order of keys. */
function canonical(text: string): string {
  try {
    return JSON.stringify(sorted(JSON.parse(text)))
  } catch {
    return text
  }
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, sorted(inner)]),
  )
}
