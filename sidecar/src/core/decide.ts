/**
 * What to do with a request, decided purely: which rungs are in effect, what is sent, how much money to hold, or why the
 * conversation ends. The call is tried with the rungs that the thresholds ask for; while it does not fit, the next rungs
 * are added in order. Money that other calls merely hold never raises a rung.
 */
import type { LadderStep, Rung } from '@farebox/crds/ladder.ts'
import { BOUNDARY_RUNGS, RUNGS } from '@farebox/crds/ladder.ts'
import type { PricedModel } from '@farebox/crds/prices.ts'
import type { NoticeOccasion } from '@farebox/crds/sidecar-config.ts'
import { PICO_PER_NANO } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { modelNotAllowed } from '../errors.ts'
import type { Refusal } from '../errors.ts'
import { attachmentOf, questionPart } from './attachment.ts'
import { EMPTY_ACCOUNT } from './budget.ts'
import type { AccountId } from './budget.ts'
import type { Conversation, Edit } from './conversation.ts'
import { downgraded, STAYS } from './downgrade.ts'
import type { Downgraded } from './downgrade.ts'
import { messagesOf, replay, replayCounted } from './edit-log.ts'
import { holdsFiles, inputBound } from './estimate.ts'
import type { InputBound } from './estimate.ts'
import { isReadIn } from './history-cut.ts'
import { fitMoney, holdTerms, likelyInputCost, withoutTools } from './hold.ts'
import { isBoundary, percentUsed, risenRungs, thresholdsApply } from './ladder.ts'
import type { DecideInput, Decision, Plan, TooLarge, ToCount } from './plan.ts'
import { turnStarts } from './message.ts'
import { UNTALKED_WIRES } from './request.ts'
import type { ModelRequest } from './request.ts'
import { DROPS_ALL } from './retrieval.ts'
import type { DropsFrom } from './retrieval.ts'
import { dropWays, ONE_WAY } from './retrieval-cache.ts'
import { shape } from './rewrite.ts'
import type { ModelSwap, Shaped, ShapeRules } from './shape.ts'
import { instructionsAlone, lastTurnAlone } from './reset.ts'
import { isAskedAgain, isUserTurn } from './sessions.ts'
import { modelAllowed } from './swap.ts'
import { tightestOf } from './terms.ts'
import type { Balance, CapKind } from './terms.ts'
import { assumedFactor } from './token-factor.ts'
import { fitWindow } from './window.ts'

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
  let short: Balance | null = null
  /** The account in which the call would fit, but for input that others hold. */
  let waitsFor: AccountId | null = null
  let isPriced = false
  for (const rungs of candidates(contract.ladder, byThreshold, atBoundary)) {
    if (short !== null) takenFor[short.kind] = rungs
    const attempt = tryWith(input, rungs, at)
    const byFit = rungs.filter((rung) => !byThreshold.includes(rung))
    // A rung that would refuse the call does not make it fit.
    if (attempt.status === 'refuse' && byFit.length === 0) return attempt
    if (attempt.status === 'short') {
      if (attempt.uncounted !== null) return { status: 'count', ...attempt.uncounted }
      if (waitsFor === null && fitsAlone(input, rungs, at)) waitsFor = attempt.short.account
      // Money that others merely hold takes nothing away from a conversation.
      if (waitsFor !== null && short === null) return { status: 'wait', percent, account: waitsFor }
      short = attempt.short
      isPriced ||= attempt.isPriced
    }
    if (attempt.status !== 'fits') continue
    const standing = conversation.reason ?? (userActive.length > 0 || ofUserBefore ? 'threshold' : null)
    const reason = byFit.length > 0 ? 'fit' : risen.length + risenForUser.length > 0 ? 'threshold' : standing
    // What only the user's cap made necessary lasts as long as its period, and the user turn; what only a workload's limit did, as long as that.
    const forOwn = takenFor.conversation.filter((rung) => !byThreshold.includes(rung))
    const forUser = takenFor.user.filter((rung) => !byThreshold.includes(rung) && !forOwn.includes(rung))
    const forTurn = takenFor.workload.filter((rung) => !byThreshold.includes(rung) && !forOwn.includes(rung) && !forUser.includes(rung))
    return {
      status: 'go',
      plan: {
        ...attempt.plan,
        risen: union(risen, forOwn),
        risenForUser: union(risenForUser, forUser),
        turnRungs: union(turnActive, forTurn, atBoundary ? union(userActive, risenForUser, forUser).filter(isBoundaryRung) : []),
        reason,
      },
    }
  }
  // And it ends none: with more rungs the call fits when that input is billed, or given back.
  if (waitsFor !== null) return { status: 'wait', percent, account: waitsFor }
  const ways = [...candidates(contract.ladder, byThreshold, atBoundary)]
  const attachment = attachmentInTheWay(input, ways, at)
  if (attachment === null && short !== null && !isPriced && !isLedUnpriced(input, ways, at))
    return { status: 'refuse', refusal: { code: 'model_unpriced', param: 'model', message: unpricedMessage(request.model) } }
  const { account, kind } = short ?? tightestOf(balances)
  const end = { status: 'end', percent, reason: 'fit', account } as const
  if (attachment !== null) return { ...end, ...attachment }
  // That says nothing of what else the conversation can afford.
  if (kind !== 'workload' && isTooLong(input, kind))
    return { ...end, tooLarge: { what: 'message', param: questionPart(request) }, fitsAfresh: false }
  return { ...end, fitsAfresh: fitsAsFirst(input) }
}

/** By the terms of the conversation, or by those of today: models are replaced while conversations run, and caps stay what they were. */
function isAllowed({ request: { model }, terms: { contract }, config }: DecideInput): boolean {
  const today = config.contracts[contract.tier]
  return modelAllowed(contract.models.allow, model) || (today !== undefined && modelAllowed(today.models.allow, model))
}

/** The attachment but for which the call would fit, under one of these sets of rungs; null where that is not so. */
function attachmentInTheWay(
  input: DecideInput,
  ways: readonly (readonly Rung[])[],
  at: At,
): { readonly tooLarge: TooLarge; readonly fitsAfresh: boolean } | null {
  const { request, balances } = input
  if (!holdsFiles(request.messages, request.model)) return null
  if (!ways.some((rungs) => tryWith(input, rungs, { ...at, withoutFiles: true }).status === 'fits')) return null
  const fresh = balances.map((balance) => (balance.kind === 'conversation' ? { ...balance, state: EMPTY_ACCOUNT } : balance))
  const tooLarge = { what: 'attachment', param: attachmentOf(request) } as const
  return { tooLarge, fitsAfresh: fitsAnyWay({ ...input, balances: fresh }, ways, at) }
}

function fitsAnyWay(input: DecideInput, ways: readonly (readonly Rung[])[], at: At): boolean {
  return ways.some((rungs) => tryWith(input, rungs, at).status === 'fits')
}

/**
 * Whether it is the user's question itself that fits into no budget, where any shorter one would: by itself, or beside what the session begins
 * with. Not so of a tool's result: each later call of the conversation brings that along.
 */
function isTooLong(input: DecideInput, kind: CapKind): boolean {
  const { session, userTurns } = input.conversation
  const spent = input.balances.find((balance) => balance.kind === 'conversation')?.state.spent ?? 0n
  // Opened for this question, and holding no other: it has that and our own message, and another session would be no larger.
  const isUntouched = kind === 'conversation' && input.mayEdit && session > 1 && userTurns === 0 && spent === 0n
  const isJustOpened = isUntouched && turnStarts(replay(input.request, input.conversation.edits).messages).length <= 1
  return (isJustOpened || !fitsAsFirst(input)) && fitsAsFirst(input, instructionsAlone(input.request))
}

/**
 * Whether the last turn of a request would fit as the first of a session, under any rungs, with nothing spent of any budget of its user's.
 * Files, which are refused by themselves, count for nothing.
 */
function fitsAsFirst(input: DecideInput, request: ModelRequest = input.request): boolean {
  // Only a question opens a session, or is refused by itself; and the last turn of a long loop is a long request.
  if (!isUserTurn(input.request)) return false
  const atBoundary = isBoundary(input.request)
  const caps = input.balances.filter(({ kind }) => kind !== 'workload')
  const first: DecideInput = {
    ...input,
    request: lastTurnAlone(request),
    balances: caps.map((balance) => ({ ...balance, state: EMPTY_ACCOUNT })),
    // What is only named is read by the provider alone: nobody knows how much of that is of the last turn.
    earlierTokens: request.onlyNamed === true ? input.earlierTokens : 0,
  }
  const ways = [...candidates(input.terms.contract.ladder, [], atBoundary)]
  return fitsAnyWay(first, ways, { atBoundary, percent: 0, percentUser: 0, ready: [], known: [], withoutFiles: true })
}

/**
 * Whether the conversation is led with a model that nobody prices, and this call would fit but for what it has cost: then it ends as any other
 * does. Otherwise the model is a slip, or newer than the prices: that it is too dear at the ceiling says nothing of what others cost.
 */
function isLedUnpriced(input: DecideInput, ways: readonly (readonly Rung[])[], at: At): boolean {
  const { exact, turns } = input.conversation
  // Without an exact count nothing says that another model led it.
  if (turns === 0 || (exact !== null && exact.model !== input.request.model)) return false
  return fitsAnyWay({ ...input, balances: input.balances.map((balance) => ({ ...balance, state: EMPTY_ACCOUNT })) }, ways, at)
}

function unpricedMessage(model: string): string {
  return (
    `Nobody prices the model "${model}", and at the highest price of its provider this call does not fit the budget. ` +
    'Other models go on. It needs an entry in a PriceBook, or another onUnknownModel in the ConversationBudget.'
  )
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
  const hold = holdTerms(input, priced, bound.heuristic)
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
    shaped: { messages: request.messages, rewritten: false, newEdits: [], cut: null, savedBytes: 0, skipped: [] },
    promoted: [],
    refuseTools: false,
    bound,
    ...hold,
    likelyInputCost: likelyInputCost(hold, bound),
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

type Attempt =
  | { readonly status: 'fits'; readonly plan: Omit<Plan, 'risen' | 'risenForUser' | 'turnRungs' | 'reason'> }
  /** `uncounted`: what the provider should be asked before this is believed. `isPriced`: it is too dear by a price, not by the ceiling. */
  | { readonly status: 'short'; readonly short: Balance; readonly uncounted: ToCount | null; readonly isPriced: boolean }
  | { readonly status: 'refuse'; readonly refusal: Refusal }

interface At {
  readonly atBoundary: boolean
  readonly percent: number
  /** Of the user's budget alone. */
  readonly percentUser: number
  /** Edits made between turns, which may come into force now. */
  readonly ready: readonly Edit[]
  /** Rungs that were in effect before this turn. */
  readonly known: readonly Rung[]
  /** Tried as if files cost nothing. */
  readonly withoutFiles?: boolean
}

/** The call with these rungs: with all that `DropRetrieval` leaves out, but where that costs a cache more than it saves, or alone is too much. */
function tryWith(input: DecideInput, rungs: readonly Rung[], at: At): Attempt {
  const { conversation } = input
  const log = input.mayEdit ? joined(conversation.edits, at.ready) : conversation.edits.filter(({ kind }) => kind === 'notice')
  const ways = input.mayEdit && at.atBoundary && rungs.includes('DropRetrieval') ? dropWays(input, log) : ONE_WAY
  const sparing = ways.sparing === null ? null : tryShaped(input, rungs, at, log, ways.sparing)
  if (sparing?.status === 'fits' && readsCache(sparing.plan, conversation)) return sparing
  const bare = tryShaped(input, rungs, at, log, DROPS_ALL)
  if (bare.status === 'fits') return bare
  const kept = ways.newOnly === null ? null : tryShaped(input, rungs, at, log, ways.newOnly)
  return [kept, sparing].find((attempt) => attempt?.status === 'fits') ?? bare
}

/** Whether a call reads what the provider keeps of the last one: another model has a cache of its own, and a cut comes before all. */
function readsCache({ model, shaped }: Pick<Plan, 'model' | 'shaped'>, { exact }: Conversation): boolean {
  return model === exact?.model && !shaped.newEdits.some(({ kind }) => kind === 'cut')
}

function tryShaped(input: DecideInput, rungs: readonly Rung[], at: At, log: readonly Edit[], dropsFrom: DropsFrom): Attempt {
  const { request, terms } = input
  const { contract } = terms
  const rules: ShapeRules = { retrieval: input.config.retrieval, keepRecentTurns: contract.context.keepRecentTurns }
  const mayRewrite = input.mayEdit && at.atBoundary
  const shaped = shape({ request, edits: log, rungs, rules, atBoundary: mayRewrite, newId: input.newId, dropsFrom })

  const original = priceOf(input, request.model)
  if (original === null) return { status: 'refuse', refusal: { code: 'model_unpriced', param: 'model' } }
  const measure = measureOf(input, original, at)
  const windowed = fitWindow({
    request,
    shaped,
    edits: log,
    context: contract.context,
    atBoundary: mayRewrite,
    tokensOf: (messages) => measure(messages, request.model).heuristic,
    newId: input.newId,
  })
  if (windowed.status === 'refuse') return { status: 'refuse', refusal: { code: 'context_window_exceeded', param: 'messages' } }
  const sent = windowed.shaped
  // One of another branch of the history waits until that comes again.
  const promoted = at.ready.filter((edit) => edit.kind !== 'cut' || isReadIn(sent.cut, edit))

  const sentTo = rungs.includes('DowngradeModel') ? downgraded(input, original, (to) => measure(sent.messages, to).heuristic) : STAYS
  const refuseTools = rungs.includes('RefuseTools') && request.tools !== 'none'
  if (refuseTools && request.tools === 'forced') return { status: 'refuse', refusal: { code: 'tool_calls_refused', param: 'tool_choice' } }

  const { placed, skipped } = place(sentTo, original, (priced, swap) => {
    const model = swap?.to ?? request.model
    const bound = measure(sent.messages, model, priced)
    return { swap, priced, model, bound, money: fitMoney(refuseTools ? withoutTools(input) : input, { model, priced, bound }) }
  })
  const { swap, priced, model, bound, money } = placed
  if (money.status === 'short') {
    // Another upstream is not asked: what it counts costs a round trip to a server that may never see the call.
    const isAsked = (input.counted ?? []).some((count) => count.model === model)
    const isWorthAsking = bound.unbounded > 0 && input.mayCount === true && !isAsked && (swap === null || swap.upstream === null)
    return {
      ...money,
      uncounted: isWorthAsking ? { model, messages: sent.messages, ...effortIn(swap) } : null,
      isPriced: priced.origin !== 'ceiling',
    }
  }
  return {
    status: 'fits',
    plan: {
      rungs,
      percent: at.percent,
      atBoundary: at.atBoundary,
      model,
      priced,
      swap,
      shaped: { ...sent, skipped: [...sent.skipped, ...skipped] },
      promoted,
      refuseTools: refuseTools && !request.toolsRefused,
      bound,
      ...money.hold,
      // Without tools no bound is written, or another one than before.
      hostedCallsCut: money.hold.hostedCallsCut || (refuseTools && request.hosted.rereads),
      likelyInputCost: likelyInputCost(money.hold, bound),
      occasions: occasionsOf({
        edits: input.conversation.edits,
        known: at.known,
        rungs,
        newEdits: sent.newEdits,
        promoted,
        swapped: swap !== null,
        refuseTools,
        upgrade: contract.upgrade !== undefined && at.percentUser >= contract.upgrade.whenUserExceedsPercent,
      }),
    },
  }
}

/** The provider counts for the other model only what that takes. */
function effortIn(swap: ModelSwap | null): Pick<ToCount, 'effort'> {
  const effort = swap?.change.effort
  return effort === undefined ? {} : { effort }
}

/** How long messages are in the tokens of a model. */
type Measure = (messages: Shaped['messages'], model: string, priced?: PricedModel) => InputBound

/** `original`: the model that was asked for, whose context counts where no other is named. */
function measureOf(input: DecideInput, original: PricedModel, { withoutFiles }: At): Measure {
  const { request, conversation } = input
  const { exact, edits } = conversation
  // What was counted is more than what an edit leaves of it only where the provider reads all that it is sent: behind an edit of ours thinking
  // goes out of the body, and what the provider itself clears or truncates depends on how long the history is.
  const readsAll = input.mayEdit && !request.fields.has('context_management') && !request.fields.has('truncation')
  return (messages, model, priced = original) =>
    inputBound({
      messages,
      fixedBytes: request.fixedBytes,
      fixedDigest: request.fixedDigest,
      model,
      exact,
      ...(exact === null || !readsAll ? {} : { unedited: () => messagesOf(request, replayCounted(request, edits, exact).entries) }),
      // Counted in the tokens of the model that was asked for: another may make more of the same text.
      earlierTokens: model === request.model ? input.earlierTokens : Math.ceil(input.earlierTokens * assumedFactor(model)),
      factor: input.factorOf(model),
      contextTokens: priced.capabilities.contextTokens,
      counted: input.counted ?? [],
      withoutFiles: withoutFiles === true,
    })
}

/** A call to one model, and whether it can be paid. */
interface Placed {
  readonly swap: ModelSwap | null
  readonly priced: PricedModel
  readonly model: string
  readonly bound: InputBound
  readonly money: ReturnType<typeof fitMoney>
}

/** Whom the call goes to, of the model that was asked for and the one that the tier asks for. `skipped`: why not to that. */
function place(
  sentTo: Downgraded,
  original: PricedModel,
  at: (priced: PricedModel, swap: ModelSwap | null) => Placed,
): { readonly placed: Placed; readonly skipped: Shaped['skipped'] } {
  if (sentTo.status === 'swap' && sentTo.saves) return { placed: at(sentTo.priced, sentTo.swap), skipped: [] }
  const stayed = at(original, null)
  switch (sentTo.status) {
    case 'stays':
      return { placed: stayed, skipped: [] }
    case 'skipped':
      return { placed: stayed, skipped: [{ rung: 'DowngradeModel', reason: sentTo.reason }] }
    case 'swap':
      // What saves nothing is done all the same where nothing else fits.
      if (stayed.money.status === 'short') return { placed: at(sentTo.priced, sentTo.swap), skipped: [] }
      return { placed: stayed, skipped: [{ rung: 'DowngradeModel', reason: 'noSaving' }] }
  }
}

/** The rungs in effect, then the same with each further step that may be taken here; the last step is the end, not a candidate. */
function* candidates(ladder: readonly LadderStep[], active: readonly Rung[], atBoundary: boolean): Generator<readonly Rung[]> {
  yield active
  let rungs = active
  for (const { rung } of ladder) {
    if (rungs.includes(rung) || rung === 'EndConversation') continue
    if (!atBoundary && isBoundaryRung(rung)) continue
    rungs = union(rungs, [rung])
    yield rungs
  }
}

function isBoundaryRung(rung: Rung): boolean {
  return (BOUNDARY_RUNGS as readonly Rung[]).includes(rung)
}

function occasionsOf(turn: {
  /** All so far. */
  readonly edits: readonly Edit[]
  readonly known: readonly Rung[]
  readonly rungs: readonly Rung[]
  readonly newEdits: readonly Edit[]
  readonly promoted: readonly Edit[]
  readonly swapped: boolean
  readonly refuseTools: boolean
  readonly upgrade: boolean
}): NoticeOccasion[] {
  const fresh = (rung: Rung): boolean => turn.rungs.includes(rung) && !turn.known.includes(rung)
  const occasions: NoticeOccasion[] = []
  // Passages may stay for a while after the rung rose: it is told when the first go.
  const dropsFirst = fresh('DropRetrieval') || !turn.edits.some((edit) => edit.kind === 'replace')
  if (dropsFirst && turn.newEdits.some((edit) => edit.kind === 'replace')) occasions.push('DropRetrieval')
  if (turn.promoted.some((edit) => edit.kind === 'cut' && edit.cause === 'Summarize')) occasions.push('Summarize')
  if (turn.newEdits.some((edit) => edit.kind === 'cut' && edit.cause === 'DropOldest')) occasions.push('DropOldest')
  if (fresh('DowngradeModel') && turn.swapped) occasions.push('DowngradeModel')
  if (fresh('RefuseTools') && turn.refuseTools) occasions.push('RefuseTools')
  if (turn.upgrade) occasions.push('Upgrade')
  return occasions
}

function priceOf(input: DecideInput, model: string): PricedModel | null {
  const { prices, provider, nowMs } = input
  const found = prices.find(provider, model, nowMs)
  if (found !== null) return found
  switch (input.config.onUnknownModel) {
    case 'Ceiling':
      return prices.ceiling(provider, model, nowMs)
    case 'Free':
      return prices.free(provider, model)
    case 'Refuse':
      return null
  }
}

function withAccount(balance: Balance): { readonly cap: NanoUsd; readonly account: Balance['state'] } {
  return { cap: balance.cap, account: balance.state }
}

function joined(edits: readonly Edit[], ready: readonly Edit[]): readonly Edit[] {
  return ready.length === 0 ? edits : [...edits, ...ready]
}

/** In the order of the ladder, so that the last is the highest. */
function union(...lists: readonly (readonly Rung[])[]): readonly Rung[] {
  return RUNGS.filter((rung) => lists.some((list) => list.includes(rung)))
}
