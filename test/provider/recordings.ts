/**
 * Finds what a recorded assistant answered to a request. It goes by the last user message or the last tool answers, so that it still
 * knows a conversation whose history was shortened, summarised, or carries notices; of several records with the same last
 * message it takes the one whose history agrees longest, walking backwards.
 */
import type { RecordedConversation, RecordedMessage } from '@farebox/operator/laptop/records.ts'
import type { ChatMessage, ToolCall } from './message-checks.ts'

export interface RecordedAnswer {
  readonly conversation: string
  readonly text: string | null
  readonly calls: readonly ToolCall[]
}

export interface Recordings {
  /**
   * The recorded answer to `messages`, or null. Where the recorded one calls a tool that `canCall` refuses, the next
   * answer in words of the same user turn. `prefer` names the conversation to take if several fit.
   */
  find(messages: readonly ChatMessage[], canCall: (name: string) => boolean, prefer: string | null): RecordedAnswer | null
}

/** A place in a recorded conversation: the index of the last message that the assistant had read. */
interface Place {
  readonly conversation: RecordedConversation
  readonly at: number
}

export function recordings(conversations: readonly RecordedConversation[]): Recordings {
  const byUserText = new Map<string, Place[]>()
  const byToolIds = new Map<string, Place[]>()
  for (const conversation of conversations) {
    for (const [at, message] of conversation.messages.entries()) {
      if (conversation.messages[at + 1]?.role !== 'assistant') continue
      if (message.role === 'tool') note(byToolIds, toolKey(trailingIds(conversation.messages, at)), { conversation, at })
      if (message.role === 'user') for (const key of userKeys(message.content)) note(byUserText, key, { conversation, at })
    }
  }
  return {
    find(messages, canCall, prefer) {
      const last = lastRead(messages)
      if (last === null) return null
      const places = placesOf(messages, last, byUserText, byToolIds)
      const preferred = places.filter((place) => place.conversation.id === prefer)
      const place = bestOf(preferred.length > 0 ? preferred : places, messages.slice(0, last + 1))
      return place === null ? null : answerAt(place, canCall)
    },
  }
}

/** What a user message is known by: its whole text, and what is left of it without tagged blocks, and its last paragraph. */
function userKeys(text: string): readonly string[] {
  const whole = squash(text)
  const keys = [whole]
  if (text.includes('</')) keys.push(squash(text.replace(/<([a-zA-Z_][\w-]*)(?:\s[^>]*)?>[\s\S]*?<\/\1>/g, ' ')))
  const paragraph = text.trimEnd().lastIndexOf('\n\n')
  if (paragraph >= 0) keys.push(squash(text.slice(paragraph).replace(/^\s*question:/i, '')))
  return [...new Set(keys)].filter((key) => key !== '')
}

function placesOf(
  messages: readonly ChatMessage[],
  last: number,
  byUserText: ReadonlyMap<string, readonly Place[]>,
  byToolIds: ReadonlyMap<string, readonly Place[]>,
): readonly Place[] {
  if (messages[last]?.role === 'tool') {
    const known = byToolIds.get(toolKey(trailingIds(messages, last)))
    if (known !== undefined) return known
  }
  // Tool ids that nobody recorded: count the steps since the user spoke.
  let user = last
  let steps = 0
  while (user >= 0 && messages[user]?.role !== 'user') {
    if (messages[user]?.role === 'assistant') steps += 1
    user -= 1
  }
  for (const key of userKeys(messages[user]?.text ?? '')) {
    const places = byUserText.get(key)
    if (places !== undefined) return places.flatMap((place) => afterSteps(place, steps) ?? [])
  }
  return []
}

/** The place after `steps` more answers of the same user turn; null when the recorded turn is shorter. */
function afterSteps(place: Place, steps: number): Place | null {
  const { messages } = place.conversation
  let at = place.at
  for (let left = steps; left > 0; left -= 1) {
    at += 1
    while (messages[at + 1]?.role === 'tool') at += 1
  }
  return messages[at + 1]?.role === 'assistant' ? { conversation: place.conversation, at } : null
}

function bestOf(places: readonly Place[], messages: readonly ChatMessage[]): Place | null {
  if (places.length < 2) return places[0] ?? null
  const asked = anchorsOf(messages.map((message) => ({ role: message.role, text: message.text, id: message.toolCallId })))
  let best: Place | null = null
  let bestScore = -1
  for (const place of places) {
    const score = agreement(asked, anchorsOf(place.conversation.messages.slice(0, place.at + 1).map(plain)))
    if (score <= bestScore) continue
    best = place
    bestScore = score
  }
  return best
}

interface Anchor {
  readonly key: string
  /** What the assistant had said just before. */
  readonly said: string
}

function anchorsOf(messages: readonly { readonly role: string; readonly text: string; readonly id: string | null }[]): readonly Anchor[] {
  const anchors: Anchor[] = []
  let said = ''
  for (const message of messages) {
    if (message.role === 'assistant') said = message.text
    else if (message.role === 'user') anchors.push({ key: squash(message.text), said })
    else if (message.role === 'tool') anchors.push({ key: `id ${message.id}`, said })
  }
  return anchors
}

/** How far two histories agree, from their ends backwards; equal length counts a little more. */
function agreement(asked: readonly Anchor[], recorded: readonly Anchor[]): number {
  let score = asked.length === recorded.length ? 1 : 0
  for (let back = 1; back <= Math.min(asked.length, recorded.length); back += 1) {
    const here = asked.at(-back)
    const there = recorded.at(-back)
    // The last anchor is what both were found by, however much its text was rewritten since.
    if (back > 1 && here?.key !== there?.key) break
    score += here?.said === there?.said ? 4 : 2
  }
  return score
}

function answerAt(place: Place, canCall: (name: string) => boolean): RecordedAnswer | null {
  const { id, messages } = place.conversation
  for (let at = place.at + 1; at < messages.length; at += 1) {
    const message = messages[at]
    if (message === undefined || message.role === 'user') return null
    if (message.role !== 'assistant') continue
    const calls = message.calls.map((call): ToolCall => ({
      id: call.id,
      kind: 'function',
      name: call.function.name,
      input: call.function.arguments,
    }))
    if (calls.every((call) => canCall(call.name)) && (calls.length > 0 || message.content !== null))
      return { conversation: id, text: message.content, calls }
    if (message.content !== null && message.content !== '') return { conversation: id, text: message.content, calls: [] }
  }
  return null
}

/** The last user or tool message, unless the assistant spoke after it. */
function lastRead(messages: readonly ChatMessage[]): number | null {
  for (let at = messages.length - 1; at >= 0; at -= 1) {
    const role = messages[at]?.role
    if (role === 'user' || role === 'tool') return at
    if (role === 'assistant') return null
  }
  return null
}

/** Ids of the tool messages in a row that end at `at`. */
function trailingIds(messages: readonly (RecordedMessage | ChatMessage)[], at: number): readonly string[] {
  const ids: string[] = []
  for (let index = at; messages[index]?.role === 'tool'; index -= 1) {
    const message = messages[index]
    if (message === undefined) break
    if ('toolCallId' in message) ids.push(message.toolCallId ?? '')
    else if (message.role === 'tool') ids.push(message.callId)
  }
  return ids
}

function toolKey(ids: readonly string[]): string {
  return ids.toSorted().join(' ')
}

function plain(message: RecordedMessage): { role: string; text: string; id: string | null } {
  return { role: message.role, text: message.content ?? '', id: message.role === 'tool' ? message.callId : null }
}

function squash(text: string): string {
  return text.replace(/\s+/g, ' ').trim()
}

function note(index: Map<string, Place[]>, key: string, place: Place): void {
  const places = index.get(key)
  if (places === undefined) index.set(key, [place])
  else places.push(place)
}
