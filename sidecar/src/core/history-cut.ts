/**
 * Cutting old turns out of a history. A cut begins right after the leading instructions and ends where a user turn
 * begins, so that tool calls and their results leave together. What takes its place is one message, labelled so that
 * model and reader know that something is missing. A later cut begins at the same place and covers the earlier one.
 * What the provider itself compacted stays within it, and that message comes after.
 */
import type { Digest, Edit } from './conversation.ts'
import { compacted, cutDigest, entriesUnder, replayEntries, stays } from './edit-log.ts'
import type { Cut, Entry, Replayed } from './edit-log.ts'
import { bytesOf, leadingCount, ownMessage, readOwn, turnStarts } from './message.ts'
import type { ModelRequest, JsonObject, Message } from './request.ts'

/** A cut that could be made. */
export interface CutPlan {
  /** Leading instructions, which stay. */
  readonly leading: number
  /** How many messages after them the cut covers, as the client sends them. */
  readonly count: number
  /** Chained digest of those. */
  readonly originals: Digest
  /** User turns covered: the first to this one. */
  readonly turns: number
  /**
   * What the provider would be sent of them without this cut: an earlier cut's message first, later ones with their edits. Without those
   * before a compaction, which it does not read.
   */
  readonly messages: readonly Message[]
  /** Bytes of the covered messages as the client sends them, and of `messages`. */
  readonly originalBytes: number
  readonly currentBytes: number
  /** Of `currentBytes`, what an earlier cut says in the place of its turns; 0 where none stands. */
  readonly notesBytes: number
  /** Answers of the model among `messages`: so many calls were made of the turns that no earlier cut covers. */
  readonly answers: number
  /** Bytes of what is sent in any case: instructions, and the turns that stay. */
  readonly keptBytes: number
  /** Of `keptBytes`, what stands behind the cut: a provider's cache loses it, while it keeps the instructions before. */
  readonly tailBytes: number
}

/**
 * Plans a cut of all turns but the last `keepRecentTurns` (1 or more; the last one may still be running). Null when there
 * are no more turns than that, or when the log cuts as much already. May be planned after any answer; the edit is to be
 * applied from a user-turn boundary on.
 */
export function planCut({
  request,
  edits,
  keepRecentTurns,
}: {
  readonly request: ModelRequest
  readonly edits: readonly Edit[]
  readonly keepRecentTurns: number
}): CutPlan | null {
  const starts = turnStarts(request.messages)
  const kept = Math.max(1, keepRecentTurns)
  if (starts.length <= kept) return null
  return planAt(request.messages, replayEntries(request, edits), starts, starts.length - kept)
}

/** The edit of a plan. `message` takes the place of what is cut; null: nothing does. */
export function cutEdit(plan: CutPlan, cause: Cut['cause'], message: JsonObject | null, id: string): Cut {
  const text = message === null ? '' : JSON.stringify(message)
  const { leading, count, originals } = plan
  return { kind: 'cut', id, cause, leading, count, originals, text, savedBytes: Math.max(0, plan.originalBytes - Buffer.byteLength(text)) }
}

export type DropOldestResult =
  | { readonly status: 'fits' }
  | { readonly status: 'cut'; readonly edit: Cut; readonly entries: readonly Entry[]; readonly messages: readonly Message[] }
  /** Even the last turn alone does not fit. */
  | { readonly status: 'exceeds' }

/**
 * Leaves out the fewest oldest turns so that the rest fits, and says so in their place. The last turn always stays, and what the cut in
 * force says of turns before it, a summary or a recap, as long as anything fits with it.
 * `edits` is the log with all that is to be applied now; `fits` must not turn false for fewer messages, nor `leavesRoom`, which asks for
 * more, and is done without where nothing does. Call it at a user-turn boundary only.
 */
export function dropOldest({
  request,
  edits,
  fits,
  leavesRoom = fits,
  newId,
}: {
  readonly request: ModelRequest
  readonly edits: readonly Edit[]
  readonly fits: (messages: readonly Message[]) => boolean
  readonly leavesRoom?: (messages: readonly Message[]) => boolean
  readonly newId: () => string
}): DropOldestResult {
  const { messages } = request
  const replayed = replayEntries(request, edits)
  if (fits(replayed.entries.map((entry) => entry.message))) return { status: 'fits' }
  const starts = turnStarts(messages)
  const id = newId()
  const fewestBeside = (notes: string | null, isEnough: typeof fits): Extract<DropOldestResult, { status: 'cut' }> | null => {
    let fewest: ReturnType<typeof fewestBeside> = null
    let low = 1
    let high = starts.length - 1
    while (low <= high) {
      const turns = Math.floor((low + high) / 2)
      const plan = planAt(messages, replayed, starts, turns)
      if (plan === null) {
        low = turns + 1 // cut already
        continue
      }
      const edit = cutEdit(plan, 'DropOldest', leftOutMessage(plan, notes), id)
      const entries = entriesUnder(request, replayed, edit)
      const rest = entries.map((entry) => entry.message)
      if (isEnough(rest)) {
        fewest = { status: 'cut', edit, entries, messages: rest }
        high = turns - 1
      } else low = turns + 1
    }
    return fewest
  }
  const notes = notesOf(replayed.cut)
  const ways = notes === null ? [null] : [notes, null]
  for (const said of ways) {
    const cut = fewestBeside(said, leavesRoom) ?? (leavesRoom === fits ? null : fewestBeside(said, fits))
    if (cut !== null) return cut
  }
  return { status: 'exceeds' }
}

/** Stands where the oldest turns were. `notes`: what is still said of some of them. */
export function leftOutMessage(plan: CutPlan, notes: string | null = null): JsonObject {
  const images = plan.messages.reduce((count, message) => count + message.images.length, 0)
  const media = images === 0 ? '' : `, with ${images} ${images === 1 ? 'image or file' : 'images or files'}`
  const label = `[Earlier conversation left out: ${turnsText(plan.turns)}${media}]`
  return ownMessage('user', notes === null ? label : label + BETWEEN_PARTS + notes)
}

/** Between the label of a cut and what else its message says. */
export const BETWEEN_PARTS = '\n\n'

/** Whether what a cut says of turns is read where `inForce` is the cut that stands. */
export function isReadIn(inForce: Cut | null, cut: Cut): boolean {
  const notes = notesOf(cut)
  return cut === inForce || (notes !== null && notes === notesOf(inForce))
}

/** What a cut says of the turns that it covers, but for a label that they are left out; null where it says no more than that. */
function notesOf(cut: Cut | null): string | null {
  const text = cut === null ? null : (readOwn(cut.text)?.text ?? null)
  if (cut === null || text === null || cut.cause === 'Summarize') return text
  const labelEnd = text.indexOf(BETWEEN_PARTS)
  if (labelEnd < 0) return null
  // Why a session began is said with its recap, whatever more of it is left out.
  return cut.cause === 'Reset' ? text : text.slice(labelEnd + BETWEEN_PARTS.length)
}

/** `turn 1` or `turns 1-7`. */
export function turnsText(turns: number): string {
  return turns === 1 ? 'turn 1' : `turns 1-${turns}`
}

/** How many turns a text that begins with a label of ours tells of; 0 where it names none. */
export function turnsIn(text: string): number {
  return Number(/\bturns? (?:1-)?(\d+)/.exec(text)?.[1] ?? 0)
}

/** The cut of the first `turns` turns; null when the log cuts as much already, or nothing stands there. */
function planAt(messages: readonly Message[], replayed: Replayed, starts: readonly number[], turns: number): CutPlan | null {
  const leading = leadingCount(messages)
  const end = starts[turns]
  if (end === undefined) return null
  const standing = compacted(messages)
  if (end <= standing.end) return null
  const count = end - leading
  if (count <= (replayed.cut?.count ?? 0) || !isClosed(messages.slice(leading, end))) return null
  const covered = messages.filter((message, index) => index >= leading && index < end && !stays(message, index, standing))
  const current = replayed.entries.filter(
    ({ index, message }) => index === null || (index >= leading && index < end && !stays(message, index, standing)),
  )
  const read = current.filter(({ index }) => index === null || index >= standing.end).map((entry) => entry.message)
  const currentSet = new Set(current)
  const kept = replayed.entries.filter((entry) => !currentSet.has(entry))
  return {
    leading,
    count,
    originals: cutDigest(leading, count, replayed.digestAt),
    turns,
    messages: read,
    originalBytes: bytesOf(covered),
    currentBytes: bytesOf(current.map((entry) => entry.message)),
    notesBytes: bytesOf(current.filter(({ index }) => index === null).map((entry) => entry.message)),
    answers: answersIn(read),
    keptBytes: bytesOf(kept.map((entry) => entry.message)),
    tailBytes: bytesOf(kept.filter(({ index }) => index === null || index >= standing.end).map((entry) => entry.message)),
  }
}

/** What one call answers may be several messages: what was thought, calls of tools, words. */
function answersIn(messages: readonly Message[]): number {
  return messages.filter(({ role }, index) => role === 'assistant' && messages[index - 1]?.role !== 'assistant').length
}

/** Whether every tool call among the messages is answered among them, and every result has its call. */
function isClosed(messages: readonly Message[]): boolean {
  const open = new Set<string>()
  for (const message of messages) {
    for (const call of message.toolCalls) open.add(call.id)
    for (const id of message.answers) if (!open.delete(id)) return false
  }
  return open.size === 0
}
