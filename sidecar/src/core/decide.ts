/**
 * What to do with a request, decided purely: which rungs are in effect, what is sent, how much money to hold, or why the
 * conversation ends. The call is tried with the rungs that the thresholds ask for; while it does not fit, the next rungs
 * are added in order. Money that other calls merely hold never raises a rung.
 */
import type { Rung } from '@farebox/crds/ladder.ts'
import { PICO_PER_NANO } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { modelNotAllowed } from '../errors.ts'
import { tryWith } from './attempt.ts'
import type { At } from './attempt.ts'
import type { AccountId } from './budget.ts'
import { inputBound } from './estimate.ts'
import { holdTerms, priceOf } from './hold.ts'
import { candidates, isBoundary, needsBoundary, percentUsed, risenRungs, thresholdsApply, union } from './ladder.ts'
import { areToolsTooDear, fitsAsFirst, nothingFits } from './nothing-fits.ts'
import type { DecideInput, Decision, Plan } from './plan.ts'
import { UNTALKED_WIRES } from './request.ts'
import type { ModelRequest } from './request.ts'
import { isAskedAgain } from './sessions.ts'
import { modelAllowed } from './swap.ts'
import { tightestOf } from './terms.ts'
import type { Balance, CapKind } from './terms.ts'

/**
 * `go` with the first plan that fits: by the rungs that the thresholds ask for, else by more of the ladder, a step at a time. Output that other
 * calls hold does not count here: the reservation tells whether there is room beside it. Where their input is all that is in the way of
 * the rungs asked for, or of any plan at all, the call is to `wait`. `percent`: as `percentUsed` gives it, of the conversation's cap or the user's, whichever is used more.
 */
export function decide(input: DecideInput): Decision {
  const { request, terms, conversation, balances } = input
  const { contract } = terms
  if (!isAllowed(input)) return { status: 'refuse', refusal: modelNotAllowed(request.model) }
  const own = balances.filter((balance) => balance.kind === 'conversation')
  const users = balances.filter((balance) => balance.kind === 'user')
  const percentOwn = percentUsed(own.map(withAccount))
  const percentUser = percentUsed(users.map(withAccount))
  const percent = Math.max(percentOwn, percentUser)
  const atBoundary = isBoundary(request)

  const period = users[0]?.periodKey ?? null
  const { userRungs } = conversation
  const userActive = userRungs?.period === period ? userRungs.rungs : []
  const climb = { steps: contract.ladder, atBoundary, ladderApplies: thresholdsApply(conversation, contract) }
  const risen = risenRungs({ ...climb, percent: percentOwn, active: conversation.rungs })
  const risenForUser = period === null ? [] : risenRungs({ ...climb, percent: percentUser, active: userActive })
  // Nothing changes in the middle of a turn but what must.
  const turnActive = atBoundary ? [] : conversation.turnRungs
  /** In a loop over the turn of the user's period, which goes on as it began. */
  const ofUserBefore = turnActive.some((rung) => userRungs?.rungs.includes(rung) === true)
  const byThreshold = union(conversation.rungs, risen, userActive, risenForUser, turnActive)
  const standing = conversation.reason ?? (userActive.length > 0 || ofUserBefore ? 'threshold' : turnActive.length > 0 ? 'fit' : null)
  /** Of the rungs that are in effect before the call is tried with more. */
  const reasonNow = risen.length + risenForUser.length > 0 ? 'threshold' : standing

  if (conversation.state === 'ended') {
    const reason = conversation.reason ?? 'threshold'
    return { status: 'end', percent, reason, account: tightestOf(own).account, fitsAfresh: fitsAsFirst(input) }
  }
  if (byThreshold.includes('EndConversation')) {
    // Whose threshold it was decides what ends: a user's period goes by, a conversation's budget does not.
    const ending = union(conversation.rungs, risen).includes('EndConversation') ? own : users
    return { status: 'end', percent, reason: 'threshold', account: tightestOf(ending).account, fitsAfresh: fitsAsFirst(input) }
  }
  /** With which rungs the call was tried for lack of room in which cap. */
  const takenFor: Record<CapKind, readonly Rung[]> = { conversation: [], user: [], workload: [] }
  // A question that is asked again is answered from what it was answered from before.
  const mayJoin = input.mayEdit && atBoundary && conversation.readyEdits.length > 0 && !isAskedAgain(request, conversation)
  const ready = mayJoin ? conversation.readyEdits : []
  // What the user's budget asks for in a new period is told again, also right after a turn that still had it of the period before,
  // unless that turn took more of them in the new one.
  const passed = atBoundary && userRungs !== null && userRungs.period !== period ? userRungs.rungs : []
  const ofLastTurn = conversation.turnRungs.filter((rung) => !passed.includes(rung))
  const at = { atBoundary, percent, percentUser, ready, known: union(conversation.rungs, userActive, ofLastTurn) }
  const toolsTooDear = areToolsTooDear(input, byThreshold, at)
  // That says nothing of what the conversation can afford: it goes without them for this turn.
  const goesWithout = toolsTooDear && request.tools === 'offered' && contract.ladder.some(({ rung }) => rung === 'RefuseTools')
  const forTools: readonly Rung[] = goesWithout ? ['RefuseTools'] : []
  const ways = [...candidates(contract.ladder, union(byThreshold, forTools), atBoundary)]
  let short: Balance | null = null
  /** The account in which the call would fit, but for input that others hold. */
  let waitsFor: AccountId | null = null
  let isPriced = false
  for (const rungs of ways) {
    if (short !== null) takenFor[short.kind] = rungs
    const attempt = tryWith(input, rungs, at)
    const byFit = rungs.filter((rung) => !byThreshold.includes(rung))
    const byRoom = byFit.filter((rung) => !forTools.includes(rung))
    // A rung that would refuse the call does not make it fit.
    if (attempt.status === 'refuse' && byRoom.length === 0) {
      const { refusal, rung } = attempt
      return { status: 'refuse', refusal, ...(rung === undefined ? {} : { by: { rung, reason: reasonNow } }) }
    }
    if (attempt.status === 'uncounted') return { status: 'count', ...attempt.toCount }
    if (attempt.status === 'short') {
      if (attempt.uncounted !== null) return { status: 'count', ...attempt.uncounted }
      if (waitsFor === null && fitsAlone(input, rungs, at)) waitsFor = attempt.short.account
      // Money that others merely hold takes nothing away from a conversation.
      if (waitsFor !== null && short === null) return { status: 'wait', percent, account: waitsFor }
      short = attempt.short
      isPriced ||= attempt.isPriced
    }
    if (attempt.status !== 'fits') continue
    const reason = byFit.length > 0 ? 'fit' : reasonNow
    // What only the user's cap made necessary lasts as long as its period, and the user turn; what only a workload's limit did, as long as that.
    const forOwn = takenFor.conversation.filter((rung) => byRoom.includes(rung))
    const forUser = takenFor.user.filter((rung) => byRoom.includes(rung) && !forOwn.includes(rung))
    const forTurn = takenFor.workload.filter((rung) => byRoom.includes(rung) && !forOwn.includes(rung) && !forUser.includes(rung))
    return {
      status: 'go',
      plan: {
        ...attempt.plan,
        risen: union(risen, forOwn),
        risenForUser: union(risenForUser, forUser),
        turnRungs: union(turnActive, forTurn, forTools, atBoundary ? union(userActive, risenForUser, forUser).filter(needsBoundary) : []),
        reason,
      },
    }
  }
  // And it ends none: with more rungs the call fits when that input is billed, or given back.
  if (waitsFor !== null) return { status: 'wait', percent, account: waitsFor }
  return nothingFits(input, { ways, at, short, isPriced, toolsTooDear: toolsTooDear && !goesWithout })
}

/** By the terms of the conversation, or by those of today: models are replaced while conversations run, and caps stay what they were. */
function isAllowed({ request: { model }, terms: { contract }, config }: DecideInput): boolean {
  const today = config.contracts[contract.tier]
  return modelAllowed(contract.models.allow, model) || (today !== undefined && modelAllowed(today.models.allow, model))
}

/** Whether the call fits where no other is in flight. */
function fitsAlone(input: DecideInput, rungs: readonly Rung[], at: At): boolean {
  if (input.balances.every(({ state }) => state.heldInput === 0n)) return false
  const balances = input.balances.map((balance) => ({ ...balance, state: { ...balance.state, heldInput: 0n } }))
  return tryWith({ ...input, balances }, rungs, at).status === 'fits'
}

/** For `Observe`: the call as the client made it, held for the books, with the rungs that would have been in effect. */
export function observedPlan(input: DecideInput, decision: Decision): Plan {
  const { request, conversation } = input
  const wanted = decision.status === 'go' ? decision.plan : null
  const priced = priceOf(input, request.model) ?? input.prices.free(input.provider, request.model)
  const bound = inputBound({
    messages: request.messages,
    fixedBytes: request.fixedBytes,
    fixedDigest: request.fixedDigest,
    model: request.model,
    exact: conversation.exact,
    earlierTokens: input.earlierTokens,
    factor: input.factorOf(request.model),
    contextTokens: priced.capabilities.contextTokens,
  })
  const hold = holdTerms(input, { model: request.model, upstream: null, priced, bound }, bound.heuristic)
  const ended: readonly Rung[] = decision.status === 'end' ? ['EndConversation'] : []
  const endedForGood = decision.status === 'end' && endsForGood(input, decision) ? ended : []
  return {
    rungs: wanted?.rungs ?? union(conversation.rungs, ended),
    risen: wanted?.risen ?? endedForGood.filter((rung) => !conversation.rungs.includes(rung)),
    risenForUser: wanted?.risenForUser ?? [],
    turnRungs: wanted?.turnRungs ?? conversation.turnRungs,
    reason: decision.status === 'go' ? decision.plan.reason : decision.status === 'end' ? decision.reason : conversation.reason,
    percent:
      decision.status === 'end'
        ? decision.percent
        : (wanted?.percent ?? percentUsed(input.balances.filter(({ kind }) => kind !== 'workload').map(withAccount))),
    atBoundary: isBoundary(request),
    model: request.model,
    priced,
    swap: null,
    shaped: { messages: request.messages, rewritten: false, newEdits: [], cut: null, savedBytes: 0, skipped: wanted?.shaped.skipped ?? [] },
    promoted: [],
    refuseTools: false,
    bound,
    ...hold,
    atLeast: hold.inputCost,
    occasions: [],
  }
}

/** One picture or file that is too dear says nothing of what else the conversation can afford. */
export function isCallTooDear(
  { wire }: Pick<ModelRequest, 'wire'>,
  { reason }: Pick<Extract<Decision, { status: 'end' }>, 'reason'>,
): boolean {
  return reason === 'fit' && UNTALKED_WIRES.has(wire)
}

/** Whether an end is the conversation's own: a user's period goes by, and so does a limit of the workload; one call, or a part of it, is not all. */
export function endsForGood(
  { request, balances }: Pick<DecideInput, 'request' | 'balances'>,
  decision: Extract<Decision, { status: 'end' }>,
): boolean {
  const cap = balances.find(({ account }) => account === decision.account)?.kind ?? 'conversation'
  return cap === 'conversation' && decision.tooLarge === undefined && !isCallTooDear(request, decision)
}

/** The output bound, per answer, that a granted hold affords. */
export function affordableOutput(plan: Plan, granted: NanoUsd): number {
  const left = (granted - plan.inputCost) * PICO_PER_NANO
  const perToken = plan.outputRate * BigInt(plan.choices)
  if (perToken === 0n) return plan.outputTokensMax
  const affordable = left / perToken
  return affordable < BigInt(plan.outputTokensMax) ? Number(affordable) : plan.outputTokensMax
}

function withAccount(balance: Balance): { readonly cap: NanoUsd; readonly account: Balance['state'] } {
  return { cap: balance.cap, account: balance.state }
}
