/** Reading messages, and making the few that we put in ourselves. The wire decodes those of the client. */
import type { Json, JsonObject, Message, Role } from './request.ts'
import { ROLES } from './request.ts'

/** A message of ours: text only, without tool calls. */
export function ownMessage(role: Role, content: string): JsonObject {
  return { role, content }
}

/** A message that replaces `original`: the same role, calls and media, with another content. */
export function withJson(original: Message, json: JsonObject): Message {
  return { ...original, json, bytes: encode(json) }
}

/**
 * A message from its JSON text, as the edit log keeps it: plain text of ours, without tool calls or media. Null when the
 * text is no message.
 */
export function plainMessage(text: string): Message | null {
  const json = parseObject(text)
  const role = ROLES.find((known) => known === json?.['role'])
  if (json === null || role === undefined) return null
  return { role, json, bytes: Buffer.from(text, 'utf8'), toolCalls: [], answers: null, images: [], mediaBytes: 0 }
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

/** A text part of a message's content. */
export type TextPart = JsonObject & { readonly text: string }
export function isTextPart(part: Json | undefined): part is TextPart {
  return isObject(part) && part['type'] === 'text' && typeof part['text'] === 'string'
}

/** All text of a message's content, parts joined by a line break. */
export function contentText(json: JsonObject): string {
  const content = json['content']
  if (typeof content === 'string') return content
  if (!isList(content)) return ''
  return content
    .filter(isTextPart)
    .map((part) => part.text)
    .join('\n')
}

/** `content` with each of its texts changed: the string itself, or its text parts; other parts stay as they are. */
export function mapText(content: Json | undefined, change: (text: string, part: JsonObject | null) => string): Json | undefined {
  if (typeof content === 'string') return change(content, null)
  if (!isList(content)) return content
  return content.map((part) => {
    if (!isTextPart(part)) return part
    const text = change(part.text, part)
    return text === part.text ? part : { ...part, text }
  })
}

export function isList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value)
}

export function isInstruction(message: Message): boolean {
  return message.role === 'system' || message.role === 'developer'
}

/** How many messages stand before the first that is not an instruction (`system`, `developer`). */
export function leadingCount(messages: readonly Message[]): number {
  const first = messages.findIndex((message) => !isInstruction(message))
  return first < 0 ? messages.length : first
}

/**
 * Where user turns begin: indexes of user messages that follow something else than a user message. A turn is everything
 * from there to the next one: the question, the tool loop, the answer.
 */
export function turnStarts(messages: readonly Message[]): number[] {
  const starts: number[] = []
  let previous: Role | null = null
  messages.forEach((message, index) => {
    if (isInstruction(message)) return
    if (message.role === 'user' && previous !== 'user') starts.push(index)
    previous = message.role
  })
  return starts
}

export function bytesOf(messages: readonly Message[]): number {
  let total = 0
  for (const message of messages) total += message.bytes.length
  return total
}

function encode(json: JsonObject): Uint8Array {
  return Buffer.from(JSON.stringify(json), 'utf8')
}
