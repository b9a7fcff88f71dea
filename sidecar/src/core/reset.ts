/** The next session of a conversation begins without its history, but for a recap where the tier promises one. */
import type { Conversation, Edit } from './conversation.ts'
import { coveringCuts, replayEntries } from './edit-log.ts'
import type { Cut } from './edit-log.ts'
import { BETWEEN_PARTS, cutEdit, planCut, turnsIn, turnsText } from './history-cut.ts'
import type { CutPlan } from './history-cut.ts'
import { leadingCount, ownMessage, readOwn, turnStarts } from './message.ts'
import { answersKeptCall } from './request.ts'
import type { ModelRequest } from './request.ts'
import type { SessionEnd } from './sessions.ts'
import { summaryPart } from './summary.ts'

export interface ResetInput {
  readonly request: ModelRequest
  readonly conversation: Pick<Conversation, 'edits' | 'readyEdits'>
  readonly why: SessionEnd
  readonly recap: 'Summary' | 'None'
  /** What was said in earlier sessions is remembered for the user. */
  readonly isSearchable: boolean
  /** What was said there that may bear on the question, labelled and fenced; null for nothing. Only a recap has it. */
  readonly passages: string | null
  /** Its number. */
  readonly session: number
}

const WHY: Readonly<Record<SessionEnd, string>> = {
  budget: 'the last one had used up its budget',
  maxTurns: 'the last one had all its turns',
  idle: 'after a pause',
}

/**
 * The edits with which the session begins: everything before the last user turn becomes one labelled message, with the
 * newest summary of it, and what is remembered of the matter. A summary is made between turns before the session ends, so a
 * reset never waits for one; where none was made yet of all that is left out, one joins the message later (`awaitedSummary`). Empty when
 * there is nothing before the last user turn.
 */
export function resetEdits({ request, conversation, why, recap, isSearchable, passages, session }: ResetInput): readonly Edit[] {
  const log = [...conversation.edits, ...conversation.readyEdits]
  const plan = planCut({ request, edits: log, keepRecentTurns: 1 })
  if (plan === null) return conversation.readyEdits
  const search = isSearchable ? '; earlier sessions can be searched' : ''
  const label = `[New session (${WHY[why]}): ${turnsText(plan.turns)} of the earlier conversation left out${search}]`
  const parts = recap === 'None' ? [label] : [label, newestSummary(request, log), passages].filter((part) => part !== null)
  // Calls that come together open it with one and the same edit.
  const id = `reset/${session}/${plan.originals}`
  return [...conversation.readyEdits, cutEdit(plan, 'Reset', ownMessage('user', parts.join(BETWEEN_PARTS)), id)]
}

/**
 * The request without the history that the provider keeps of it: what a new session begins with. Null where it cannot stand alone: it
 * belongs to a conversation of the provider's, or answers a call that was made in what would be left behind.
 */
export function standingAlone(request: ModelRequest): ModelRequest | null {
  if (request.earlier === null) return request
  if (request.earlier.kind === 'conversation') return null
  return answersKeptCall(request) ? null : { ...request, earlier: null }
}

/** The request as the first of a session, but for a recap: its instructions, and the last user turn. */
export function lastTurnAlone(request: ModelRequest): ModelRequest {
  const { messages } = request
  const start = turnStarts(messages).at(-1) ?? leadingCount(messages)
  return { ...instructionsAlone(request), messages: [...messages.slice(0, leadingCount(messages)), ...messages.slice(start)] }
}

/** All of the request that no question changes. */
export function instructionsAlone(request: ModelRequest): ModelRequest {
  return { ...request, messages: request.messages.slice(0, leadingCount(request.messages)), earlier: null }
}

/** What a reset left out without a summary of all of it. */
export interface AwaitedSummary {
  readonly reset: Cut
  /** The same cut again, over what it left out. */
  readonly plan: CutPlan
  /** Bytes that stand in its place now. */
  readonly currentBytes: number
}

/** The reset that this request begins with, when it awaits a summary; null when there is none. */
export function awaitedSummary(request: ModelRequest, edits: readonly Edit[]): AwaitedSummary | null {
  const reset = awaitingReset(edits)
  if (reset === null || replayEntries(request, edits).cut !== reset) return null
  const starts = turnStarts(request.messages)
  const end = leadingCount(request.messages) + reset.count
  const kept = starts.filter((start) => start >= end).length
  const plan = planCut({ request, edits: edits.filter((edit) => edit !== reset), keepRecentTurns: kept })
  return plan?.originals === reset.originals ? { reset, plan, currentBytes: Buffer.byteLength(reset.text) } : null
}

/** The newest cut of the log, when it is a reset whose message has no summary of all that it leaves out: of an earlier session at best. */
export function awaitingReset(edits: readonly Edit[]): Cut | null {
  const cut = edits.findLast((edit) => edit.kind === 'cut')
  return cut?.kind === 'cut' && cut.cause === 'Reset' && turnsSummedUp(cut) < turnsIn(readOwn(cut.text)?.text ?? '') ? cut : null
}

/** A reset with the summary that came after it, in the place of an older one: it takes the other's place from the next user turn on. */
export function withSummary(reset: Cut, summary: string, id: string): Cut {
  const older = summaryIn(reset)
  const [label = '', ...rest] = (readOwn(reset.text)?.text ?? '')
    .replace(older === null ? '' : BETWEEN_PARTS + older, '')
    .split(BETWEEN_PARTS)
  const text = JSON.stringify(ownMessage('user', [label, summary, ...rest].filter((part) => part !== '').join(BETWEEN_PARTS)))
  const grown = Buffer.byteLength(text) - Buffer.byteLength(reset.text)
  return { ...reset, id, text, savedBytes: Math.max(0, reset.savedBytes - grown) }
}

/**
 * A summary that comes when its session has been reset joins the message of that reset: the turns that it would replace are gone. Null
 * where the log has no reset that awaits one, or one that leaves out less than it sums up, or has a summary of as much.
 */
export function joinedToReset(
  edits: readonly Edit[],
  late: { readonly plan: CutPlan; readonly summary: string; readonly id: string },
): Cut | null {
  const reset = awaitingReset(edits)
  if (reset === null || reset.count < late.plan.count || turnsIn(late.summary) <= turnsSummedUp(reset)) return null
  return withSummary(reset, late.summary, late.id)
}

/**
 * The text of the summary that tells of most of this history, label and fence included, of equal ones the newest; null when none was made.
 * One of turns that were since asked anew, or edited, is none of it.
 */
function newestSummary(request: ModelRequest, log: readonly Edit[]): string | null {
  const { digestAt } = replayEntries(request, log)
  let newest: string | null = null
  for (const cut of coveringCuts(request.messages, log, digestAt)) {
    const summary = summaryIn(cut)
    if (summary !== null && turnsIn(summary) >= turnsIn(newest ?? '')) newest = summary
  }
  return newest
}

function turnsSummedUp(reset: Cut): number {
  return turnsIn(summaryIn(reset) ?? '')
}

/** A summary is the message of its own cut, or part of the message of another. */
function summaryIn(cut: Cut): string | null {
  const text = readOwn(cut.text)?.text ?? null
  return text === null || cut.cause === 'Summarize' ? text : summaryPart(text)
}
