/** Reading lists of messages, and the few words that we put in ourselves. The wires decode those of the client. */
import type { Json, JsonObject, Message, Role } from './request.ts'

/** A message of ours as the edit log keeps it, whatever the wire: text only, without tool calls. */
export function ownMessage(role: Role, content: string): JsonObject {
  return { role, content }
}

/**
 * What the edit log put in the place of other messages, from its JSON text: role and words of a message of ours. Null when
 * the text is none.
 */
export function readOwn(text: string): { readonly role: 'system' | 'user' | 'assistant'; readonly text: string } | null {
  const json = parseObject(text)
  const role = json?.['role']
  const content = json?.['content']
  if (typeof content !== 'string' || (role !== 'system' && role !== 'user' && role !== 'assistant')) return null
  return { role, text: content }
}

/** The JSON object in a text; null when it is anything else. */
export function parseObject(text: string): JsonObject | null {
  let value: Json
  try {
    value = JSON.parse(text)
  } catch {
    return null // not JSON: the caller says what that means
  }
  return isObject(value) ? value : null
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** All text of a message, parts joined by a line break; refusals are no part of it. */
export function contentText(message: Message): string {
  return message.texts
    .filter(({ kind }) => kind === 'text')
    .map(({ text }) => text)
    .join('\n')
}

export function isList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value)
}

export function isInstruction(message: Message): boolean {
  return message.role === 'system' || message.role === 'developer'
}

/** Whether words of some of them are known to the provider alone. */
export function isAnyOnlyNamed(messages: readonly Message[]): boolean {
  return messages.some((message) => message.isOnlyNamed === true)
}

/**
 * The answer that the app has begun itself: words of the assistant at the end of a history, in which the model goes on (a prefill, or an
 * answer that was cut). Instructions after it do not count. Null where somebody else spoke last.
 * https://platform.claude.com/docs/en/build-with-claude/prompt-engineering/prefill-claudes-response
 */
export function begunAnswer(messages: readonly Message[]): Message | null {
  const last = messages.findLast((message) => !isInstruction(message))
  return last?.role === 'assistant' && last.toolCalls.length === 0 ? last : null
}

/** The messages before an answer that the app has begun, which are what is asked; all of them where there is none. */
export function askedIn(messages: readonly Message[]): readonly Message[] {
  const begun = begunAnswer(messages)
  if (begun === null) return messages
  const asked = ASKED.get(messages) ?? messages.slice(0, messages.lastIndexOf(begun))
  ASKED.set(messages, asked)
  return asked
}

/** One list for one list: what is known of a list, as its digest, is known by the list itself. */
const ASKED = new WeakMap<readonly Message[], readonly Message[]>()

/** What of a message is said, and by whom. */
export type Said = Pick<Message, 'role' | 'texts' | 'others' | 'toolCalls' | 'answers' | 'answeredPlaces'>

/** An answer with its beginning, as the app shows it and sends it back. */
export function joinedAnswer(begun: Said, rest: Said): Said {
  const { role, toolCalls, answers } = rest // fields of a message may be getters: no spread
  return { role, texts: [...begun.texts, ...rest.texts], others: [...begun.others, ...rest.others], toolCalls, answers }
}

/** How many messages stand before the first that is not an instruction (`system`, `developer`). */
export function leadingCount(messages: readonly Message[]): number {
  const first = messages.findIndex((message) => !isInstruction(message))
  return first < 0 ? messages.length : first
}

/**
 * Where user turns begin: indexes of user messages that follow something else than a user message, but for what belongs to a tool loop. A
 * turn is everything from there to the next one: the question, the tool loop, the answer.
 */
export function turnStarts(messages: readonly Message[]): number[] {
  const starts: number[] = []
  let previous: Role | null = null
  messages.forEach((message, index) => {
    if (isInstruction(message) || goesOnInLoop(message, previous)) return
    if (message.role === 'user' && previous !== 'user') starts.push(index)
    previous = message.role
  })
  return starts
}

/**
 * Who spoke last: instructions say nothing, and what goes on in a tool loop is of the tool's result before it. Null where nobody did.
 */
export function lastSpeaker(messages: readonly Message[]): Role | null {
  let shown: Role | null = null
  for (let index = messages.length - 1; index >= 0; index -= 1) {
    const message = messages[index]
    if (message === undefined || isInstruction(message)) continue
    if (!isShownAlone(message)) return shown === null || givesResult(message.role) ? message.role : shown
    shown = message.role
  }
  return shown
}

/**
 * Whether a message goes on in the tool loop that it stands in: a user's that only shows something, right after a tool's result. So agents send
 * what a result of theirs cannot hold (OpenAI's Chat takes no pictures in one). `previous`: who spoke before it.
 */
function goesOnInLoop(message: Message, previous: Role | null): boolean {
  return previous !== null && givesResult(previous) && isShownAlone(message)
}

function givesResult(role: Role): boolean {
  return role === 'tool' || role === 'function'
}

/** Pictures or files of a user's, without a word. */
function isShownAlone({ role, images, texts }: Message): boolean {
  return role === 'user' && images.length > 0 && texts.every(({ text }) => text.trim() === '')
}

export function bytesOf(messages: readonly Message[]): number {
  let total = 0
  for (const message of messages) total += message.bytes.length
  return total
}
