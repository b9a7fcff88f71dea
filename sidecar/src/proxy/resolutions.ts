/**
 * What becomes of conversations: resolved, by the word of the app, by a tool that an answer calls, or assumed after a quiet time; and
 * taken back when the user comes back with it. Each step is keyed, so that repeats, also by other sidecars, count once.
 */
import type { Contract, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { AccountId } from '../core/budget.ts'
import { awaitsResolution, toldAt } from '../core/conversation-change.ts'
import type { Conversation, Resolution } from '../core/conversation.ts'
import type { EntryNote } from '../core/ledger.ts'
import { isLoneCall } from '../core/lone-call.ts'
import type { OutcomeStep } from '../core/outcomes.ts'
import { isOwnTurn } from '../core/own-turn.ts'
import { matchesPattern } from '../core/pattern.ts'
import { isTakenBack } from '../core/reopening.ts'
import { sessionAccount } from '../core/terms.ts'
import type { Gateway } from './gateway.ts'
import type { Turn } from './exchange.ts'

/** What outcomes are entered with. */
export type Entering = Pick<Gateway, 'store' | 'nowMs'> & { readonly metrics: Pick<Gateway['metrics'], 'outcomes'> }
type Added = 'added' | 'exists'

/** Counts a session that has begun; a lone call begins none. Repeats change nothing. */
export async function countStart(gateway: Entering, contract: Contract, conversation: Conversation): Promise<void> {
  if (contract.pricing.model !== 'PerResolution' || isLoneCall(conversation.id)) return
  await enter(gateway, conversation, {
    key: `${lifeOf(conversation)}/${conversation.session}/started`,
    kind: 'started',
    atMs: conversation.session === 1 ? conversation.startedAtMs : gateway.nowMs(),
  })
}

/** Confirms a resolution; one that was assumed is confirmed in its place. What was taken back may be confirmed again. */
export async function confirmResolution(gateway: Entering, { id }: Pick<Conversation, 'id'>): Promise<Added | 'unknown'> {
  // As it stands now: a turn that took long would otherwise confirm what was taken back meanwhile.
  const conversation = await reread(gateway, id)
  if (conversation === null) return 'unknown'
  // Dated before what it takes the place of, it would count, and leave the conversation as it is: so would each repeat.
  const atMs = toldAt(gateway.nowMs(), conversation.resolvedAtMs)
  if (conversation.resolution !== 'assumed') return await resolve(gateway, conversation, 'confirmed', atMs)
  return await enterResolution(gateway, conversation, {
    key: keyOf(conversation, 'confirmed', conversation.resolutionRound),
    kind: 'confirmed',
    of: 'assumed',
    atMs,
    round: conversation.resolutionRound,
  })
}

/** `atMs`: when it turned out not to be resolved; now, where that is not given. After the reopen window a resolution stands. */
export async function reverseResolution(
  gateway: Entering,
  { id }: Pick<Conversation, 'id'>,
  { reopenWindowMs }: Pick<SidecarConfig['resolution'], 'reopenWindowMs'>,
  atMs: number = gateway.nowMs(),
): Promise<Added | 'notResolved' | 'tooLate'> {
  const conversation = await reread(gateway, id)
  if (conversation === null || conversation.resolution === 'none') return 'notResolved'
  if (!isStanding(conversation.resolution)) return 'exists'
  const { resolution, resolvedAtMs, resolutionRound } = conversation
  // Where it is not known when it was resolved, nobody can be too late.
  if (resolvedAtMs !== null && atMs - resolvedAtMs > reopenWindowMs) return 'tooLate'
  return await enterResolution(gateway, conversation, {
    key: keyOf(conversation, 'reversed', resolutionRound),
    kind: 'reversed',
    of: resolution,
    atMs: Math.max(atMs, resolvedAtMs ?? 0),
    round: resolutionRound,
  })
}

/**
 * Assumes that a conversation is resolved, as of the end of its quiet time: whichever sidecar does it, it comes to the same. Not while a
 * call of it is under way.
 */
export async function assumeResolution(
  gateway: Entering,
  { id, session }: Pick<Conversation, 'id' | 'session'>,
  policy: { readonly quietPeriodMs: number; readonly reopenWindowMs: number },
): Promise<Added | 'notQuiet'> {
  const account: AccountId = sessionAccount(id, session)
  const { conversation, accounts } = await gateway.store.read({ conversation: id, accounts: [account], nowMs: gateway.nowMs() })
  if (conversation === null || !awaitsResolution(conversation) || (accounts.get(account)?.held ?? 0n) > 0n) return 'notQuiet'
  // Who opens a conversation again expects somebody to come back to it.
  const atMs = Math.max(conversation.lastTurnAtMs, conversation.stateAtMs ?? 0) + policy.quietPeriodMs
  if (atMs > gateway.nowMs()) return 'notQuiet'
  const added = await resolve(gateway, conversation, 'assumed', atMs)
  const after = await reread(gateway, id)
  // A turn ended between the look and the entry. Nobody else would take back what it could not see.
  if (after?.resolution === 'assumed' && after.lastTurnAtMs > conversation.lastTurnAtMs) await reverseResolution(gateway, { id }, policy)
  return added
}

/**
 * What a turn that was settled says of its conversation (as it is after that): that it began, that it was not resolved after all,
 * that it is resolved.
 */
export async function reportResolution(turn: Turn, conversation: Conversation, toolNames: readonly string[]): Promise<void> {
  const { gateway, policy } = turn
  // A call that came to nothing began the conversation, but left it without a turn.
  if (turn.conversation.turns === 0) await countStart(gateway, turn.terms.contract, conversation)
  await takeBack(turn, conversation)
  const { toolNames: patterns } = policy.config.resolution
  if (toolNames.some((name) => patterns.some((pattern) => matchesPattern(pattern, name)))) await confirmResolution(gateway, conversation)
}

/** Takes back what this turn of the conversation shows not to be resolved. */
export async function takeBack(turn: Turn, conversation: Conversation): Promise<void> {
  const { gateway, policy, startedAtMs } = turn
  const { reopenWindowMs } = policy.config.resolution
  const back = {
    beganAtMs: startedAtMs,
    nowMs: gateway.nowMs(),
    isOfUser: isOwnTurn(turn.request, turn.conversation),
    isNewTask: turn.taskBoundary || turn.conversation.atTaskBoundary,
  }
  if (isTakenBack(conversation, back, reopenWindowMs)) await reverseResolution(gateway, conversation, { reopenWindowMs }, startedAtMs)
}

/** Of this round the first to say so counts, whether it was assumed or confirmed: two that say so at once are not two resolutions. */
async function resolve(gateway: Entering, conversation: Conversation, kind: 'assumed' | 'confirmed', atMs: number): Promise<Added> {
  if (conversation.resolution === 'confirmed') return 'exists'
  const round = conversation.resolutionRound + 1
  return await enterResolution(gateway, conversation, { key: keyOf(conversation, 'resolved', round), kind, atMs, round })
}

type Outcome = Pick<OutcomeStep, 'key' | 'kind' | 'of' | 'atMs'>

async function enterResolution(
  gateway: Entering,
  conversation: Conversation,
  { round, ...outcome }: Outcome & { readonly kind: Exclude<Resolution, 'none'>; readonly round: number },
): Promise<Added> {
  const added = await enter(gateway, conversation, outcome)
  const resolution = { kind: outcome.kind, atMs: outcome.atMs }
  const change = { ofSession: conversation.session, resolution, resolutionRound: round }
  await gateway.store.update({ conversation: conversation.id, change, nowMs: gateway.nowMs() })
  return added
}

async function enter(gateway: Entering, conversation: Conversation, outcome: Outcome): Promise<Added> {
  const { tier } = conversation
  const added = await gateway.store.addOutcome({ ...outcome, tier, note: noteOf(conversation) })
  if (added === 'added') gateway.metrics.outcomes.add([tier, outcome.kind])
  return added
}

/** Also for a call that has been answered: what came of it is entered though the store went away meanwhile. */
async function reread(gateway: Entering, id: string): Promise<Conversation | null> {
  return (await gateway.store.read({ conversation: id, accounts: [], nowMs: gateway.nowMs(), endsCall: true })).conversation
}

function isStanding(resolution: Resolution): resolution is 'assumed' | 'confirmed' {
  return resolution === 'assumed' || resolution === 'confirmed'
}

function noteOf({ id, session, user }: Conversation): EntryNote {
  return { conversation: id, session, ...(user === null ? {} : { user }) }
}

/** Once in each round: it was resolved, that was confirmed, that was taken back. */
function keyOf(conversation: Conversation, what: 'resolved' | 'confirmed' | 'reversed', round: number): string {
  return `${lifeOf(conversation)}/${what}/${round}`
}

/** An id that comes back when its conversation is forgotten names another. */
function lifeOf({ id, startedAtMs }: Conversation): string {
  return `${id}/${startedAtMs}`
}
