/**
 * What to do with a request, decided purely: which rungs are in effect, what is sent, how much money to hold, or why the
 * conversation ends. The call is tried with the rungs that the thresholds ask for; while it does not fit, the next rungs
 * are added in order. Money that other calls merely hold never raises a rung.
 */
import type { LadderStep, Rung, RungReason } from '@farebox/crds/ladder.ts'
import { BOUNDARY_RUNGS, RUNGS } from '@farebox/crds/ladder.ts'
import type { PricedModel, PriceList } from '@farebox/crds/prices.ts'
import type { NoticeOccasion, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { divideCeil, PICO_PER_NANO } from '@farebox/crds/usd.ts'
import type { NanoUsd, PicoUsd } from '@farebox/crds/usd.ts'
import { METERED_KINDS } from '@farebox/crds/usage.ts'
import type { MeteredKind } from '@farebox/crds/usage.ts'
import type { Refusal } from '../errors.ts'
import type { Conversation, Edit } from './conversation.ts'
import { attachmentOf } from './attachment.ts'
import { EMPTY_ACCOUNT } from './budget.ts'
import { holdsFiles, inputBound } from './estimate.ts'
import type { CountedInput, InputBound } from './estimate.ts'
import { isBoundary, percentUsed, risenRungs } from './ladder.ts'
import { HOSTED_CALLS_MAX, NO_HOSTED_TOOLS } from './request.ts'
import type { Message, ModelRequest } from './request.ts'
import { shape } from './rewrite.ts'
import type { Shaped, ShapeRules, ModelSwap } from './shape.ts'
import { expectedFurtherCalls } from './summary.ts'
import { downgradeFor, modelAllowed, planSwap, swapSaves } from './swap.ts'
import type { Downgrade } from './swap.ts'
import type { Balance, CapKind, Terms } from './terms.ts'
import { assumedFactor } from './token-factor.ts'
import { fitWindow } from './window.ts'

/** Output below which a clamped answer is not worth giving, unless the tier says otherwise. */
const USEFUL_OUTPUT_TOKENS = 256
/** Reasoning models spend the first tokens on thinking: a small bound leaves no text at all. */
const USEFUL_OUTPUT_TOKENS_REASONING = 2_048
/** What a search brings where the provider bills its results as input and the owner bounds none: ten of them, each a passage. */
const SEARCH_RESULT_TOKENS = 4_000

export interface DecideInput {
  readonly request: ModelRequest
  readonly terms: Terms
  readonly conversation: Conversation
  readonly balances: readonly Balance[]
  readonly config: Pick<SidecarConfig, 'retrieval' | 'onUnknownModel' | 'hostedTools'>
  readonly provider: string
  readonly prices: PriceList
  readonly nowMs: number
  /** Highest exact / heuristic ratio seen for a model, never below 1. */
  readonly factorOf: (model: string) => number
  /** Models to which a swap failed in this conversation: not tried again. */
  readonly failedSwaps: ReadonlySet<string>
  /** Who serves a downgrade's model: null where nobody does whom this request can be sent to. `upstream` null: the one that was asked. */
  readonly serverOf: (downgrade: Downgrade) => { readonly provider: string; readonly upstream: string | null } | null
  /** The provider refused this history as we edited it: it goes out as it comes. */
  readonly mayEdit: boolean
  /** The most tokens of the history that the provider keeps; 0 where there is none. */
  readonly earlierTokens: number
  /** The provider can be asked how long an input is, at no cost. Absent: it cannot. */
  readonly mayCount?: boolean
  /** What it said so far. Absent: nothing. */
  readonly counted?: readonly CountedInput[]
  readonly newId: () => string
}

export type Decision =
  | { readonly status: 'go'; readonly plan: Plan }
  /** No admissible call fits, or the last threshold is reached. `attachment`: but for it, a call would fit. */
  | {
      readonly status: 'end'
      readonly percent: number
      readonly reason: RungReason
      readonly account: string
      readonly attachment?: TooLarge
    }
  /** A file does not fit by anything that is known here: the provider is to be asked how long this input is. */
  | ({ readonly status: 'count' } & ToCount)
  /** It would fit, but for the input of calls in flight, which is held by its bound: less of it may be billed. */
  | { readonly status: 'wait'; readonly percent: number; readonly account: string }
  | { readonly status: 'refuse'; readonly refusal: Refusal }

export interface ToCount {
  readonly model: string
  /** As they would be sent. */
  readonly messages: readonly Message[]
}

/** An attachment for which there is no money left. */
export interface TooLarge {
  /** The part of the request. */
  readonly param: string
  /** It would fit into a budget of which nothing is spent. */
  readonly fitsAfresh: boolean
}

/** A call that can be made, and the money that it needs. */
export interface Plan {
  readonly rungs: readonly Rung[]
  /** Rungs that came into effect with this turn: the conversation's own, and the user's. */
  readonly risen: readonly Rung[]
  readonly risenForUser: readonly Rung[]
  readonly reason: RungReason | null
  readonly percent: number
  readonly atBoundary: boolean
  readonly model: string
  readonly priced: PricedModel
  readonly swap: ModelSwap | null
  readonly shaped: Shaped
  readonly refuseTools: boolean
  readonly bound: InputBound
  /** Input tokens that the hold covers. */
  readonly inputTokens: number
  readonly inputCost: NanoUsd
  /** Of that, what is nearly certain to be billed: counts as used while the call is in flight. */
  readonly likelyInputCost: NanoUsd
  /** Holds for the least useful and for the whole output. */
  readonly atLeast: NanoUsd
  readonly atMost: NanoUsd
  readonly outputRate: PicoUsd
  readonly choices: number
  readonly outputTokensMax: number
  /** The most calls of hosted tools that the hold covers, where the request itself bounds none; null: nothing to bound. */
  readonly hostedCalls: number | null
  /** What users should be told about this turn; an upgrade is told on every turn from its threshold on. */
  readonly occasions: readonly NoticeOccasion[]
}

export function decide(input: DecideInput): Decision {
  const { request, terms, conversation, balances } = input
  const { contract } = terms
  if (!modelAllowed(contract.models.allow, request.model)) {
    return { status: 'refuse', refusal: { code: 'model_not_allowed', param: 'model' } }
  }
  const own = balances.filter((balance) => balance.kind === 'conversation')
  const users = balances.filter((balance) => balance.kind === 'user')
  const percentOwn = percentUsed(own.map(withAccount))
  const percentUser = percentUsed(users.map(withAccount))
  const percent = Math.max(percentOwn, percentUser)
  const atBoundary = isBoundary(request)

  const period = users[0]?.periodKey ?? null
  const userActive = conversation.userRungs !== null && conversation.userRungs.period === period ? conversation.userRungs.rungs : []
  const climb = { steps: contract.ladder, atBoundary, ladderApplies: conversation.ladderApplies }
  const risen = risenRungs({ ...climb, percent: percentOwn, active: conversation.rungs })
  const risenForUser = period === null ? [] : risenRungs({ ...climb, percent: percentUser, active: userActive })
  const byThreshold = union(conversation.rungs, risen, userActive, risenForUser)

  if (conversation.state === 'ended')
    return { status: 'end', percent, reason: conversation.reason ?? 'threshold', account: tightestOf(own).account }
  if (byThreshold.includes('EndConversation')) {
    // Whose threshold it was decides what ends: a user's period goes by, a conversation's budget does not.
    const ending = union(conversation.rungs, risen).includes('EndConversation') ? own : users
    return { status: 'end', percent, reason: 'threshold', account: tightestOf(ending).account }
  }
  /** With which rungs the call was tried for lack of room in which cap. */
  const takenFor: Record<CapKind, readonly Rung[]> = { conversation: [], user: [], workload: [] }
  const at = { atBoundary, percent, percentUser, known: union(conversation.rungs, userActive) }
  let short: Balance | null = null
  for (const rungs of candidates(contract.ladder, byThreshold, atBoundary)) {
    if (short !== null) takenFor[short.kind] = rungs
    const attempt = tryWith(input, rungs, at)
    const byFit = rungs.filter((rung) => !byThreshold.includes(rung))
    // A rung that would refuse the call does not make it fit.
    if (attempt.status === 'refuse' && byFit.length === 0) return attempt
    if (attempt.status === 'short') {
      if (attempt.uncounted !== null) return { status: 'count', ...attempt.uncounted }
      // Money that others merely hold takes nothing away from a conversation, and ends none.
      if (short === null && fitsAlone(input, rungs, at)) return { status: 'wait', percent, account: attempt.short.account }
      short = attempt.short
    }
    if (attempt.status !== 'fits') continue
    const standing = conversation.reason ?? (userActive.length > 0 ? 'threshold' : null)
    const reason = byFit.length > 0 ? 'fit' : risen.length + risenForUser.length > 0 ? 'threshold' : standing
    // What only the user's cap made necessary lasts as long as its period; what only a workload's limit did, for this call.
    const forOwn = takenFor.conversation.filter((rung) => !byThreshold.includes(rung))
    const forUser = takenFor.user.filter((rung) => !byThreshold.includes(rung) && !forOwn.includes(rung))
    const lasting = union(byThreshold, forOwn, forUser)
    return {
      status: 'go',
      plan: {
        ...attempt.plan,
        shaped: { ...attempt.plan.shaped, newEdits: attempt.plan.shaped.newEdits.filter((edit) => isLasting(edit, lasting)) },
        risen: union(risen, forOwn),
        risenForUser: union(risenForUser, forUser),
        reason,
      },
    }
  }
  const attachment = tooLarge(input, [...candidates(contract.ladder, byThreshold, atBoundary)], at)
  const account = (short ?? tightestOf(balances)).account
  return { status: 'end', percent, reason: 'fit', account, ...(attachment === null ? {} : { attachment }) }
}

/** The attachment but for which the call would fit, under one of these sets of rungs; null where that is not so. */
function tooLarge(input: DecideInput, ways: readonly (readonly Rung[])[], at: At): TooLarge | null {
  const { request, balances } = input
  if (!holdsFiles(request.messages, request.model)) return null
  if (!ways.some((rungs) => tryWith(input, rungs, { ...at, withoutFiles: true }).status === 'fits')) return null
  const fresh = balances.map((balance) => (balance.kind === 'conversation' ? { ...balance, state: EMPTY_ACCOUNT } : balance))
  const fitsAfresh = ways.some((rungs) => tryWith({ ...input, balances: fresh }, rungs, at).status === 'fits')
  return { param: attachmentOf(request), fitsAfresh }
}

/** The bound of the input is by its bytes: at two of them a token, what is new is seldom less than this. */
function likelyInputCost({ inputCost, inputTokens }: HoldTerms, { bytes, known, unbounded }: InputBound): NanoUsd {
  const likely = Math.min(inputTokens, known + Math.ceil((bytes - unbounded - known) / 2))
  return inputTokens === 0 ? inputCost : (inputCost * BigInt(likely)) / BigInt(inputTokens)
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
  return {
    rungs: wanted?.rungs ?? union(conversation.rungs, ended),
    risen: wanted?.risen ?? ended.filter((rung) => !conversation.rungs.includes(rung)),
    risenForUser: wanted?.risenForUser ?? [],
    reason: decision.status === 'go' ? decision.plan.reason : decision.status === 'end' ? decision.reason : conversation.reason,
    percent:
      decision.status === 'end'
        ? decision.percent
        : (wanted?.percent ?? percentUsed(input.balances.filter(({ kind }) => kind !== 'workload').map(withAccount))),
    atBoundary: isBoundary(request),
    model: request.model,
    priced,
    swap: null,
    shaped: { messages: request.messages, rewritten: false, newEdits: [], savedBytes: 0, skipped: [] },
    refuseTools: false,
    bound,
    ...hold,
    likelyInputCost: likelyInputCost(hold, bound),
    atLeast: hold.inputCost,
    occasions: [],
  }
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
  | { readonly status: 'fits'; readonly plan: Omit<Plan, 'risen' | 'risenForUser' | 'reason'> }
  /** `uncounted`: what the provider should be asked before this is believed. */
  | { readonly status: 'short'; readonly short: Balance; readonly uncounted: ToCount | null }
  | { readonly status: 'refuse'; readonly refusal: Refusal }

interface At {
  readonly atBoundary: boolean
  readonly percent: number
  /** Of the user's budget alone. */
  readonly percentUser: number
  /** Rungs that were in effect before this turn. */
  readonly known: readonly Rung[]
  /** Tried as if files cost nothing. */
  readonly withoutFiles?: boolean
}

function tryWith(input: DecideInput, rungs: readonly Rung[], at: At): Attempt {
  const { request, conversation, terms } = input
  const { contract } = terms
  const logged = at.atBoundary ? joined(conversation.edits, conversation.readyEdits) : conversation.edits
  const log = input.mayEdit ? logged : logged.filter(({ kind }) => kind === 'notice')
  const rules: ShapeRules = { retrieval: input.config.retrieval, keepRecentTurns: contract.context.keepRecentTurns }
  const mayRewrite = input.mayEdit && at.atBoundary
  const shaped = shape({ request, edits: log, rungs, rules, atBoundary: mayRewrite, newId: input.newId })

  const original = priceOf(input, request.model)
  if (original === null) return { status: 'refuse', refusal: { code: 'model_unpriced', param: 'model' } }
  const measure = (messages: Shaped['messages'], model: string, priced: PricedModel = original): InputBound =>
    inputBound({
      messages,
      fixedBytes: request.fixedBytes,
      fixedDigest: request.fixedDigest,
      model,
      exact: conversation.exact,
      // Counted in the tokens of the model that was asked for: another may make more of the same text.
      earlierTokens: model === request.model ? input.earlierTokens : Math.ceil(input.earlierTokens * assumedFactor(model)),
      factor: input.factorOf(model),
      contextTokens: priced.capabilities.contextTokens,
      counted: input.counted ?? [],
      withoutFiles: at.withoutFiles === true,
    })

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
  const skipped = [...sent.skipped]

  const sentTo = rungs.includes('DowngradeModel') ? downgraded(input, original, (to) => measure(sent.messages, to).heuristic) : STAYS
  if (sentTo.status === 'skipped') skipped.push({ rung: 'DowngradeModel', reason: sentTo.reason })
  const refuseTools = rungs.includes('RefuseTools') && request.tools !== 'none'
  if (refuseTools && request.tools === 'forced') return { status: 'refuse', refusal: { code: 'tool_calls_refused', param: 'tool_choice' } }

  const placedAt = (swap: ModelSwap | null, priced: PricedModel): Placed => {
    const model = swap?.to ?? request.model
    const bound = measure(sent.messages, model, priced)
    return { swap, priced, model, bound, money: fitMoney(refuseTools ? withoutTools(input) : input, { model, priced, bound }) }
  }
  let placed = sentTo.status === 'swap' && sentTo.saves ? placedAt(sentTo.swap, sentTo.priced) : placedAt(null, original)
  if (sentTo.status === 'swap' && placed.swap === null) {
    // What saves nothing is done all the same where nothing else fits.
    if (placed.money.status === 'short') placed = placedAt(sentTo.swap, sentTo.priced)
    else skipped.push({ rung: 'DowngradeModel', reason: 'noSaving' })
  }
  const { swap, priced, model, bound, money } = placed
  if (money.status === 'short') {
    // Another upstream is not asked: what it counts costs a round trip to a server that may never see the call.
    const isAsked = (input.counted ?? []).some((count) => count.model === model)
    const isWorthAsking = bound.unbounded > 0 && input.mayCount === true && !isAsked && (swap === null || swap.upstream === null)
    return { ...money, uncounted: isWorthAsking ? { model, messages: sent.messages } : null }
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
      shaped: { ...sent, skipped },
      refuseTools: refuseTools && !request.toolsRefused,
      bound,
      ...money.hold,
      likelyInputCost: likelyInputCost(money.hold, bound),
      occasions: occasionsOf({
        known: at.known,
        rungs,
        newEdits: sent.newEdits,
        promoted: at.atBoundary ? conversation.readyEdits : [],
        swapped: swap !== null,
        refuseTools,
        upgrade: contract.upgrade !== undefined && at.percentUser >= contract.upgrade.whenUserExceedsPercent,
      }),
    },
  }
}

/** A call to one model, and whether it can be paid. */
interface Placed {
  readonly swap: ModelSwap | null
  readonly priced: PricedModel
  readonly model: string
  readonly bound: InputBound
  readonly money: ReturnType<typeof fitMoney>
}

type Downgraded =
  | { readonly status: 'stays' }
  | { readonly status: 'skipped'; readonly reason: 'noDowngrade' | 'incapable' }
  /** `saves` is false where going on with the other model would cost more than staying. */
  | { readonly status: 'swap'; readonly swap: ModelSwap; readonly priced: PricedModel; readonly saves: boolean }
const STAYS: Downgraded = { status: 'stays' }

/** The swap that the tier asks for, if the other model is to be had, costs less a token, and can take the request. */
function downgraded(input: DecideInput, original: PricedModel, tokensOf: (model: string) => number): Downgraded {
  const { request, terms, prices, nowMs } = input
  const downgrade = request.generates ? downgradeFor(terms.contract.models.downgrades, request.model) : null
  const server = downgrade === null || input.failedSwaps.has(downgrade.to) ? null : input.serverOf(downgrade)
  const target = downgrade === null || server === null ? null : prices.find(server.provider, downgrade.to, nowMs)
  if (downgrade === null || server === null || target === null || !isCheaper(target, original))
    return { status: 'skipped', reason: 'noDowngrade' }
  const { to } = downgrade
  const inputTokens = tokensOf(to)
  const planned = planSwap({
    request,
    to,
    upstream: server.upstream,
    from: original.capabilities,
    target: target.capabilities,
    inputTokens,
  })
  if (planned.status === 'incapable') return { status: 'skipped', reason: 'incapable' }
  return { status: 'swap', swap: planned.swap, priced: target, saves: savesByDowngrade(input, original, target, inputTokens, to) }
}

/** Once a conversation has moved, it stays: moving back would pay for its cache again. */
function savesByDowngrade(input: DecideInput, from: PricedModel, to: PricedModel, inputTokens: number, model: string): boolean {
  const { conversation, balances } = input
  const { exact } = conversation
  if (exact === null || exact.model === model) return true
  const oldPrices = from.pricesFor(inputTokens, null)
  const lastCost = divideCeil(
    BigInt(exact.inputTokens) * oldPrices.uncachedInput + BigInt(exact.outputTokens) * oldPrices.output,
    PICO_PER_NANO,
  )
  return swapSaves({
    inputTokens,
    cachedTokens: input.nowMs - exact.atMs > CACHE_LIFE_MS ? 0 : exact.cachedTokens,
    outputTokens: exact.outputTokens,
    from: oldPrices,
    to: to.pricesFor(inputTokens, null),
    furtherCalls: expectedFurtherCalls({ turns: conversation.turns, remaining: freeOf(tightestOf(balances)), lastCost }),
  })
}

/** Providers keep a prefix for some minutes after its last use: https://platform.openai.com/docs/guides/prompt-caching (5 to 10). */
const CACHE_LIFE_MS = 5 * 60_000

type HoldTerms = Pick<
  Plan,
  'inputTokens' | 'inputCost' | 'atLeast' | 'atMost' | 'outputRate' | 'choices' | 'outputTokensMax' | 'hostedCalls'
>

/** The hard bound of the input first; where that leaves no useful answer, the heuristic one. */
function fitMoney(
  input: DecideInput,
  call: { readonly model: string; readonly priced: PricedModel; readonly bound: InputBound },
): { readonly status: 'fits'; readonly hold: HoldTerms } | { readonly status: 'short'; readonly short: Balance } {
  const { model, priced, bound } = call
  let tightest: Balance | null = null
  for (const within of hostedBounds(input)) {
    const hard = holdTerms(within, priced, bound.bytes)
    if (firstShort(within.balances, hard.atLeast) === null) return { status: 'fits', hold: hard }
    const factor = Math.max(within.factorOf(model), assumedFactor(model))
    const hold = holdTerms(within, priced, bound.at(factor))
    const short = firstShort(within.balances, hold.atLeast)
    if (short === null) return { status: 'fits', hold }
    tightest ??= short
  }
  return { status: 'short', short: tightest ?? tightestOf(input.balances) }
}

/** The call as it is; then, where the provider runs tools in it, with fewer and fewer calls of them: less is better than none. */
function* hostedBounds(input: DecideInput): Generator<DecideInput> {
  yield input
  const { request } = input
  if (!request.hosted.rereads) return
  const least = (request.hosted.fewestCalls ?? 1) + compactions(request)
  let calls = hostedCallsMost(input)
  while (calls > least) {
    calls = Math.max(least, Math.floor(calls / 2))
    yield { ...input, request: { ...request, hosted: { ...request.hosted, maxCalls: calls } } }
  }
}

/** Whether a swap is a downgrade at all: a pattern may match models that cost less than the one it leads to. */
function isCheaper(target: PricedModel, original: PricedModel): boolean {
  const [less, more] = [target.pricesFor(0, null), original.pricesFor(0, null)]
  return less.uncachedInput < more.uncachedInput || less.output < more.output
}

function holdTerms(input: DecideInput, priced: PricedModel, inputTokens: number): HoldTerms {
  const { request, terms } = input
  const { models } = terms.contract
  const outputTokensMax = !request.generates
    ? 0
    : Math.min(
        request.outputLimit?.tokens ?? Number.POSITIVE_INFINITY,
        // A bound that the provider does not take would be sent as one that it does.
        Math.max(models.maxOutputTokens ?? Number.POSITIVE_INFINITY, request.outputFloor ?? 1),
        priced.capabilities.maxOutputTokens,
      )
  const hosted = hostedTerms(input, priced, inputTokens, outputTokensMax)
  const standard = priced.pricesFor(hosted.longest, null)
  const asked = priced.pricesFor(hosted.longest, request.serviceTier)
  const rate = (kind: MeteredKind): PicoUsd => (asked[kind] > standard[kind] ? asked[kind] : standard[kind])
  const inputRate = dearest([rate('uncachedInput'), ...writeKinds(request).map(rate), ...mediaKinds(request).map(rate)])
  const calls = hosted.calls ?? request.hosted.maxCalls ?? 1
  let fees = 0n
  for (const tool of request.hosted.tools) fees += standard[HOSTED_FEES[tool]] * BigInt(calls)
  for (const [kind, count] of unitsOf(request)) fees += rate(kind) * BigInt(count)
  const inputCost = divideCeil(BigInt(hosted.inputTokens) * inputRate + fees * BigInt(request.choices), PICO_PER_NANO)

  const useful = models.usefulOutputTokens ?? (priced.capabilities.reasoning ? USEFUL_OUTPUT_TOKENS_REASONING : USEFUL_OUTPUT_TOKENS)
  const outputRate = dearest([rate('output'), rate('imageOutput'), ...(request.fields.has('audio') ? [rate('audioOutput')] : [])])
  const hold = (tokens: number): NanoUsd => inputCost + divideCeil(BigInt(tokens) * BigInt(request.choices) * outputRate, PICO_PER_NANO)
  return {
    inputTokens: hosted.inputTokens,
    inputCost,
    atLeast: hold(Math.min(Math.max(useful, request.outputFloor ?? 1), outputTokensMax)),
    atMost: hold(outputTokensMax),
    outputRate,
    choices: request.choices,
    outputTokensMax,
    hostedCalls: hosted.calls,
  }
}

/** What is not called is not paid for; a window that the provider compacts is read once more all the same. */
function withoutTools(input: DecideInput): DecideInput {
  const { request } = input
  if (!request.hosted.rereads) return input
  const rereads = request.fields.has('context_management')
  return { ...input, request: { ...request, hosted: rereads ? { tools: [], maxCalls: 1, rereads, brings: false } : NO_HOSTED_TOOLS } }
}

/**
 * What tools that the provider runs make of the input: it reads everything again after each call, with the result in it. What the
 * owner does not bound may fill the context each time. `longest`: the most that is read at once, which long-context steps go by.
 */
function hostedTerms(
  { request, config }: DecideInput,
  priced: PricedModel,
  inputTokens: number,
  outputTokens: number,
): { readonly inputTokens: number; readonly longest: number; readonly calls: number | null } {
  const { rereads, resultsRead = 0 } = request.hosted
  const { maxResultTokens } = config.hostedTools
  if (!rereads) {
    const withResults = inputTokens + resultsRead * (maxResultTokens ?? SEARCH_RESULT_TOKENS)
    return { inputTokens: withResults, longest: withResults, calls: null }
  }
  const calls = hostedCallsMost({ request, config })
  const { contextTokens } = priced.capabilities
  const longest =
    request.hosted.brings === false
      ? Math.min(contextTokens, inputTokens + outputTokens)
      : maxResultTokens === undefined
        ? contextTokens
        : Math.min(contextTokens, inputTokens + outputTokens + calls * maxResultTokens)
  return { inputTokens: (calls + 1) * Math.max(longest, inputTokens), longest: Math.max(longest, inputTokens), calls }
}

function hostedCallsMost({ request, config }: Pick<DecideInput, 'request' | 'config'>): number {
  const asked = request.hosted.maxCalls ?? HOSTED_CALLS_MAX
  const owned = config.hostedTools.maxCalls
  return owned === undefined ? asked : Math.min(asked, owned + compactions(request))
}

/** Where the provider compacts the window between calls of its tools, that is one reading more; it is among the calls of the request. */
function compactions({ fields }: ModelRequest): number {
  return fields.has('context_management') ? 1 : 0
}

function unitsOf({ units }: ModelRequest): readonly (readonly [MeteredKind, number])[] {
  return METERED_KINDS.flatMap((kind) => {
    const count = units[kind] ?? 0
    return count > 0 ? [[kind, count] as const] : []
  })
}

/** As what input may be written to the provider's cache: the dearest rate is the bound. Most providers decide that themselves. */
function writeKinds({ cacheWrites }: ModelRequest): MeteredKind[] {
  if (cacheWrites === 'none') return []
  return cacheWrites === 'long' ? ['cacheWriteInput', 'cacheWriteLongInput'] : ['cacheWriteInput']
}

/** Kinds of input beside text that this request carries. */
function mediaKinds(request: ModelRequest): MeteredKind[] {
  const parts = request.messages.flatMap((message) => message.images)
  const kinds: MeteredKind[] = []
  if (parts.some((part) => part.kind === 'audio')) kinds.push('audioInput')
  if (parts.some((part) => part.kind !== 'audio')) kinds.push('imageInput')
  return kinds
}

function dearest(rates: readonly PicoUsd[]): PicoUsd {
  return rates.reduce((most, rate) => (rate > most ? rate : most), 0n)
}

const HOSTED_FEES = { webSearch: 'webSearchCalls', fileSearch: 'fileSearchCalls', codeContainer: 'codeContainers' } as const

/** The first cap into which `cost` does not fit, output held by other calls left aside: that may come back. */
function firstShort(balances: readonly Balance[], cost: NanoUsd): Balance | null {
  return balances.find((balance) => balance.cap - balance.state.spent - balance.state.heldInput < cost) ?? null
}

function tightestOf(balances: readonly Balance[]): Balance {
  const [first] = balances
  if (first === undefined) throw new RangeError('a turn draws on at least one account')
  return balances.reduce((tightest, balance) => (freeOf(balance) < freeOf(tightest) ? balance : tightest), first)
}
function freeOf(balance: Balance): NanoUsd {
  return balance.cap - balance.state.spent - balance.state.heldInput
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
  if (fresh('DropRetrieval') && turn.newEdits.some((edit) => edit.kind === 'replace')) occasions.push('DropRetrieval')
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

/** Whether an edit is for the log: one of a rung that is for this call only is not. */
function isLasting(edit: Edit, lasting: readonly Rung[]): boolean {
  return edit.kind !== 'replace' || lasting.includes(edit.rung)
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
