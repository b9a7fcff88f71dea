/** Changes of a conversation, applied purely: monotone or keyed, so that they commute and a repeat does nothing. */
import { RUNGS } from '@farebox/crds/ladder.ts'
import type { Rung } from '@farebox/crds/ladder.ts'
import { DRIVERS } from './conversation.ts'
import type { Conversation, ConversationChange, ConversationId, Driver, Edit, UserAlerts, UserId } from './conversation.ts'
import { isLoneCall } from './lone-call.ts'

/** A conversation as it begins. */
export function newConversation(begin: {
  readonly id: ConversationId
  readonly tier: string
  readonly contractHash: string
  readonly user: UserId | null
  readonly nowMs: number
  readonly ladderApplies: boolean
}): Conversation {
  return {
    id: begin.id,
    tier: begin.tier,
    contractHash: begin.contractHash,
    contractPinnedAtMs: begin.nowMs,
    user: begin.user,
    session: 1,
    startedAtMs: begin.nowMs,
    lastTurnAtMs: begin.nowMs,
    turns: 0,
    userTurns: 0,
    question: null,
    rungs: [],
    reason: null,
    ladderApplies: begin.ladderApplies,
    state: 'open',
    stateAtMs: null,
    exact: null,
    edits: [],
    readyEdits: [],
    userRungs: null,
    turnRungs: [],
    alerts: [],
    earlierAlerts: [],
    userAlerts: null,
    notices: [],
    atTaskBoundary: false,
    boundaryAtMs: null,
    drivers: { history: 0n, retrieval: 0n, tools: 0n, output: 0n, summaries: 0n, other: 0n },
    resolution: 'none',
    resolvedAtMs: null,
    resolutionRound: 0,
  }
}

export interface Changed {
  readonly conversation: Conversation
  /** Alerts that had not fired in this session before. */
  readonly firedAlerts: readonly number[]
  /** Those of the user's budget that had not fired in its period before. */
  readonly firedUserAlerts: readonly number[]
}

/** When something is told now that takes the place of what was told at `knownAtMs`: maybe by a clock that is ahead of this one. */
export function toldAt(nowMs: number, knownAtMs: number | null): number {
  return Math.max(nowMs, knownAtMs ?? nowMs)
}

/** Opening a session comes first: the rest of the change belongs to the session that it opens. */
export function applyChange(before: Conversation, asked: ConversationChange): Changed {
  const conversation = asked.openSession === before.session + 1 ? sessionOpened(before, asked.openSession, asked.ladderApplies) : before
  const ofSession = asked.ofSession === undefined || asked.ofSession === conversation.session ? asked : ofAnySession(asked)
  const change = withoutOutdatedState(conversation, ofSession)
  const firedAlerts = (change.addAlerts ?? []).filter((percent) => !conversation.alerts.includes(percent))
  const firedUserAlerts = firedForUser(conversation.userAlerts, change.addUserAlerts)
  const addedEdits = newById(conversation.edits, change.addEdits ?? [])
  const edits = addedEdits.length === 0 ? conversation.edits : [...conversation.edits, ...addedEdits]
  return {
    firedAlerts,
    firedUserAlerts,
    conversation: {
      ...conversation,
      edits,
      readyEdits: readyAfter(conversation, change, edits),
      rungs: rungsAfter(conversation.rungs, change),
      reason: reasonAfter(conversation, change.addRungs),
      userRungs: userRungsAfter(conversation.userRungs, change.addUserRungs),
      turnRungs: change.turnRungs ?? conversation.turnRungs,
      alerts: joinedPercents(conversation.alerts, firedAlerts),
      userAlerts: userAlertsAfter(conversation.userAlerts, change.addUserAlerts, firedUserAlerts),
      notices: noticesAfter(conversation, change),
      drivers: change.addDrivers === undefined ? conversation.drivers : driversAfter(conversation.drivers, change.addDrivers),
      turns: conversation.turns + (change.turnAtMs === undefined ? 0 : 1),
      userTurns: conversation.userTurns + (countsUserTurn(conversation, change) ? 1 : 0),
      question: change.question ?? conversation.question,
      lastTurnAtMs: Math.max(conversation.lastTurnAtMs, change.turnAtMs ?? 0),
      exact: exactAfter(conversation.exact, change.exact),
      state: change.state?.is ?? conversation.state,
      stateAtMs: change.state?.atMs ?? conversation.stateAtMs,
      ...boundaryAfter(conversation, change.atTaskBoundary),
      contractHash: change.contract?.hash ?? conversation.contractHash,
      contractPinnedAtMs: change.contract?.pinnedAtMs ?? conversation.contractPinnedAtMs,
      ...resolutionAfter(conversation, change.resolution),
      resolutionRound: Math.max(conversation.resolutionRound, change.resolutionRound ?? 0),
    },
  }
}

/** Opened again, for whoever decides on it before that is written. */
export function reopened(conversation: Conversation): Conversation {
  return { ...conversation, state: 'open', rungs: rungsAfter(conversation.rungs, { state: { is: 'open', atMs: 0 } }) }
}

/** Not of a question that was asked again while its first call was under way: whichever ends first has counted it. */
function countsUserTurn({ question }: Conversation, { addUserTurn, question: asked }: ConversationChange): boolean {
  const isCounted = asked !== undefined && question?.messages === asked.messages && question.digest === asked.digest
  return addUserTurn === true && !isCounted
}

function sessionOpened(conversation: Conversation, session: number, ladderApplies = conversation.ladderApplies): Conversation {
  const cleared = {
    rungs: [],
    reason: null,
    alerts: [],
    notices: [],
    state: 'open',
    stateAtMs: null,
    atTaskBoundary: false,
    boundaryAtMs: null,
    userTurns: 0,
    question: null,
    turnRungs: [],
    exact: null,
    // What was resolved was the session before.
    resolution: 'none',
    resolvedAtMs: null,
  } as const
  const { alerts, earlierAlerts: known } = conversation
  const earlierAlerts = joinedPercents(
    known,
    alerts.filter((percent) => !known.includes(percent)),
  )
  return { ...conversation, session, ladderApplies, ...cleared, earlierAlerts }
}

/** What of a change counts whatever session is open. */
function ofAnySession({
  addRungs: _rungs,
  addAlerts: _alerts,
  addNotices: _notices,
  state: _state,
  atTaskBoundary: _boundary,
  addUserTurn: _userTurn,
  question: _question,
  turnRungs: _turnRungs,
  resolution: _resolution,
  exact: _exact,
  ...rest
}: ConversationChange): ConversationChange {
  return rest
}

/** Whether a later one was told before. */
function isOutdated(told: { readonly atMs: number }, knownAtMs: number | null): boolean {
  return knownAtMs !== null && told.atMs < knownAtMs
}

/** An end that is told again, after the conversation was opened again, ends nothing. */
function withoutOutdatedState({ stateAtMs }: Conversation, change: ConversationChange): ConversationChange {
  if (change.state === undefined || !isOutdated(change.state, stateAtMs)) return change
  const { state, addRungs, ...rest } = change
  if (addRungs === undefined) return rest
  const rungs = state.is === 'ended' ? addRungs.rungs.filter((rung) => rung !== 'EndConversation') : addRungs.rungs
  return { ...rest, addRungs: { ...addRungs, rungs } }
}

function boundaryAfter(
  { atTaskBoundary, boundaryAtMs }: Conversation,
  told: ConversationChange['atTaskBoundary'],
): Pick<Conversation, 'atTaskBoundary' | 'boundaryAtMs'> {
  if (told === undefined || isOutdated(told, boundaryAtMs)) return { atTaskBoundary, boundaryAtMs }
  return { atTaskBoundary: told.is, boundaryAtMs: told.atMs }
}

/** Why the newest rungs are in effect: a repeat, which adds none, gives no new reason. */
function reasonAfter({ rungs, reason }: Conversation, added: ConversationChange['addRungs']): Conversation['reason'] {
  return added?.rungs.some((rung) => !rungs.includes(rung)) === true ? added.reason : reason
}

/** Of two counts of the same time the one over the longer history. */
function exactAfter(known: Conversation['exact'], counted: ConversationChange['exact']): Conversation['exact'] {
  if (counted === undefined) return known
  if (known === null || counted.atMs > known.atMs) return counted
  return counted.atMs === known.atMs && counted.messages >= known.messages ? counted : known
}

function resolutionAfter(
  { resolution, resolvedAtMs }: Conversation,
  told: ConversationChange['resolution'],
): Pick<Conversation, 'resolution' | 'resolvedAtMs'> {
  if (told === undefined || isOutdated(told, resolvedAtMs)) return { resolution, resolvedAtMs }
  return { resolution: told.kind, resolvedAtMs: told.atMs }
}

function newById(known: readonly Edit[], added: readonly Edit[]): readonly Edit[] {
  return added.filter((edit) => !known.some(({ id }) => id === edit.id))
}

/** What joins the log leaves the waiting list. */
function readyAfter(conversation: Conversation, change: ConversationChange, edits: readonly Edit[]): readonly Edit[] {
  if (change.addEdits === undefined && change.addReadyEdits === undefined) return conversation.readyEdits
  const added = newById(conversation.readyEdits, change.addReadyEdits ?? [])
  return [...conversation.readyEdits, ...added].filter((edit) => !edits.some(({ id }) => id === edit.id))
}

/** Opening a conversation again takes its end back, and no other rung. */
function rungsAfter(known: readonly Rung[], { addRungs, state }: ConversationChange): readonly Rung[] {
  const rungs = addRungs === undefined ? known : joinedRungs(known, addRungs.rungs)
  return state?.is === 'open' && rungs.includes('EndConversation') ? rungs.filter((rung) => rung !== 'EndConversation') : rungs
}

function joinedRungs(known: readonly Rung[], added: readonly Rung[]): readonly Rung[] {
  return RUNGS.filter((rung) => known.includes(rung) || added.includes(rung))
}

function userRungsAfter(known: Conversation['userRungs'], added: ConversationChange['addUserRungs']): Conversation['userRungs'] {
  if (added === undefined || (known !== null && isEarlier(added.period, known.period))) return known
  return { period: added.period, rungs: joinedRungs(known?.period === added.period ? known.rungs : [], added.rungs) }
}

/** Alerts of the user's budget that have fired in this period. */
export function userAlertsIn({ userAlerts }: Pick<Conversation, 'userAlerts'>, period: string | null): readonly number[] {
  return userAlerts !== null && userAlerts.period === period ? userAlerts.percents : []
}

/** None of a period that another has followed. */
function firedForUser(known: UserAlerts | null, added: UserAlerts | undefined): readonly number[] {
  if (added === undefined || (known !== null && isEarlier(added.period, known.period))) return []
  const fired = userAlertsIn({ userAlerts: known }, added.period)
  return added.percents.filter((percent) => !fired.includes(percent))
}

function userAlertsAfter(known: UserAlerts | null, added: UserAlerts | undefined, fired: readonly number[]): UserAlerts | null {
  if (added === undefined || fired.length === 0) return known
  return { period: added.period, percents: joinedPercents(userAlertsIn({ userAlerts: known }, added.period), fired) }
}

function joinedPercents(known: readonly number[], fired: readonly number[]): readonly number[] {
  return fired.length === 0 ? known : [...known, ...fired].toSorted((a, b) => a - b)
}

/** Of two periods of one kind. Those of different kinds have no order: the owner changed the terms. */
function isEarlier(period: string, known: string): boolean {
  return kindOf(period) === kindOf(known) && period < known
}

function kindOf(period: string): string {
  return period.slice(0, period.indexOf(':') + 1)
}

function noticesAfter(conversation: Conversation, change: ConversationChange): Conversation['notices'] {
  if (change.addNotices === undefined && change.removeNotices === undefined) return conversation.notices
  const added = (change.addNotices ?? []).filter((notice) => !conversation.notices.some(({ id }) => id === notice.id))
  return [...conversation.notices, ...added].filter(({ id }) => !(change.removeNotices ?? []).includes(id))
}

function driversAfter(known: Conversation['drivers'], added: Readonly<Partial<Record<Driver, bigint>>>): Conversation['drivers'] {
  const drivers = { ...known }
  for (const driver of DRIVERS) drivers[driver] += added[driver] ?? 0n
  return drivers
}

/**
 * Whether nobody said so far what became of it, or it went on after what was said had been taken back. With a quiet time
 * since its last turn it may be assumed to be resolved; not one that its budget has ended: nobody can say more in it. Nor was anything said in
 * a lone call.
 */
export function awaitsResolution({ id, resolution, resolvedAtMs, turns, lastTurnAtMs, state }: Conversation): boolean {
  if (turns === 0 || state === 'ended' || isLoneCall(id)) return false
  return resolution === 'none' || (resolution === 'reversed' && resolvedAtMs !== null && lastTurnAtMs > resolvedAtMs)
}
