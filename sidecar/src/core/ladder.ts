/** The ladder: from what a conversation has used to the rungs in effect. */
import { BOUNDARY_RUNGS, RUNGS } from '@farebox/crds/ladder.ts'
import type { LadderStep, Rung } from '@farebox/crds/ladder.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { Account } from './budget.ts'
import type { Conversation } from './conversation.ts'
import { askedIn, isInstruction, lastSpeaker } from './message.ts'
import type { AtBoundary, Shaped } from './shape.ts'

/** Percent is clamped to this: what lies beyond is a sum of overruns, and three digits fit a header. */
export const PERCENT_MAX = 999
/** From here on a threshold applies whatever the pricing model: the cap is reached. */
const AT_CAP_PERCENT = 100

/** What of a step decides when its rung rises. */
export type Threshold = Pick<LadderStep, 'atPercent' | 'rung'>

/** All rungs whose threshold `percent` has reached, gentlest first. */
export function rungsAt(steps: readonly Threshold[], percent: number): readonly Rung[] {
  return union(steps.filter((step) => step.atPercent <= percent).map((step) => step.rung))
}

/**
 * Percent of the tightest cap that is spent, or certain to be billed for calls in flight: a whole number from 0 to 999,
 * rounded down. Held output does not count: a burst of parallel calls must not degrade a conversation that has spent
 * little. A cap of zero is used up; an account without a cap does not count.
 */
export function percentUsed(draws: readonly { readonly cap: NanoUsd | null; readonly account: Account }[]): number {
  let highest = 0
  for (const { cap, account } of draws) {
    if (cap === null) continue
    highest = Math.max(highest, cap <= 0n ? AT_CAP_PERCENT : percentOfCap(account.spent + account.heldInput, cap))
  }
  return highest
}

/**
 * A user turn begins here: the last message is a user's, or its answer is begun by the app. System messages that an app appends after it
 * do not count. In the middle of a tool loop it is false, pictures for that included, and so it is for a request that asks to go on in an
 * answer that was given.
 */
export const isBoundary: AtBoundary = ({ messages, beginsAnswer }) => {
  const asked = beginsAnswer === true ? askedIn(messages) : messages
  return lastSpeaker(asked) === 'user'
}

/** A user turn goes on, by a tool loop or in an answer that was given. Not so where nobody said anything: an agent may live by instructions alone. */
export function isMidTurn(request: Parameters<AtBoundary>[0]): boolean {
  return !isBoundary(request) && request.messages.some((message) => !isInstruction(message))
}

/** The highest rung in effect, as an answer tells it: not `DowngradeModel` where the model that was asked for answers. Null for none. */
export function rungTold({ rungs, shaped }: { readonly rungs: readonly Rung[]; readonly shaped: Pick<Shaped, 'skipped'> }): Rung | null {
  const isStill = hasStayed({ shaped })
  return rungs.findLast((rung) => !isStill || rung !== 'DowngradeModel') ?? null
}

/** Whether `DowngradeModel` was in effect and did nothing, whatever the reason. */
export function hasStayed({ shaped }: { readonly shaped: Pick<Shaped, 'skipped'> }): boolean {
  return shaped.skipped.some(({ rung }) => rung === 'DowngradeModel')
}

/** What decides whether a rung rises now. */
export interface Climb {
  readonly steps: readonly Threshold[]
  /** As `percentUsed` gives it. */
  readonly percent: number
  /** Rungs in effect already; they stay, whatever the percent. */
  readonly active: readonly Rung[]
  /** As `isBoundary` gives it. */
  readonly atBoundary: boolean
  /** False: thresholds below 100 do not apply (a tier priced per resolution that is on target). */
  readonly ladderApplies: boolean
}

/**
 * The rungs that become active now, gentlest first; those that are active already are not among them. Rungs that rewrite
 * or swap rise only at a user-turn boundary, the others between any two calls. Repeating it with its result added to
 * `active` gives nothing.
 */
export function risenRungs({ steps, percent, active, atBoundary, ladderApplies }: Climb): Rung[] {
  const applying = ladderApplies ? steps : steps.filter((step) => step.atPercent >= AT_CAP_PERCENT)
  return rungsAt(applying, percent).filter((rung) => !active.includes(rung) && (atBoundary || !needsBoundary(rung)))
}

/** The rungs in effect, then the same with each further step that may be taken here; the last step is the end, not a candidate. */
export function* candidates(ladder: readonly Threshold[], active: readonly Rung[], atBoundary: boolean): Generator<readonly Rung[]> {
  yield active
  let rungs = active
  for (const { rung } of ladder) {
    if (rungs.includes(rung) || rung === 'EndConversation') continue
    if (!atBoundary && needsBoundary(rung)) continue
    rungs = union(rungs, [rung])
    yield rungs
  }
}

/** Whether a conversation that has used so much of its budget is at its end. */
export function isAtEnd(steps: readonly Threshold[], percent: number): boolean {
  return percent >= AT_CAP_PERCENT || rungsAt(steps, percent).includes('EndConversation')
}

/** Whether a rung may rise only at a user-turn boundary. */
export function needsBoundary(rung: Rung): boolean {
  return BOUNDARY_RUNGS.some((boundaryRung) => boundaryRung === rung)
}

/** Whether thresholds below the cap apply: always, but where a tier priced by the resolution was on target when the conversation began. */
export function thresholdsApply({ ladderApplies }: Pick<Conversation, 'ladderApplies'>, { pricing }: Pick<Contract, 'pricing'>): boolean {
  return ladderApplies || pricing.model !== 'PerResolution'
}

function percentOfCap(used: NanoUsd, cap: NanoUsd): number {
  const percent = (used * 100n) / cap
  if (percent <= 0n) return 0
  return percent > BigInt(PERCENT_MAX) ? PERCENT_MAX : Number(percent)
}

/** All of them once, gentlest first. */
export function union(...lists: readonly (readonly Rung[])[]): readonly Rung[] {
  return RUNGS.filter((rung) => lists.some((list) => list.includes(rung)))
}
