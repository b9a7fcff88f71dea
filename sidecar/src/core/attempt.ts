/**
 * The call with given rungs in effect: how its history is shaped, whom it goes to and for how much money. Whether that fits decides whether it
 * is made so, or tried with more of the ladder (`decide.ts`).
 */
import type { Rung } from '@farebox/crds/ladder.ts'
import type { PricedModel } from '@farebox/crds/prices.ts'
import type { NoticeOccasion } from '@farebox/crds/sidecar-config.ts'
import type { Refusal } from '../errors.ts'
import type { Conversation, Edit } from './conversation.ts'
import { downgraded, STAYS } from './downgrade.ts'
import type { CallLength, Downgraded } from './downgrade.ts'
import { messagesOf, replayCounted } from './edit-log.ts'
import { inputBound } from './estimate.ts'
import type { InputBound } from './estimate.ts'
import { isReadIn } from './history-cut.ts'
import { fitMoney, priceOf, withoutTools } from './hold.ts'
import type { DecideInput, Plan, ToCount } from './plan.ts'
import { DROPS_ALL } from './retrieval.ts'
import type { DropsFrom } from './retrieval.ts'
import { dropWays, ONE_WAY } from './retrieval-cache.ts'
import { shape } from './rewrite.ts'
import type { ModelSwap, Shaped, ShapeRules } from './shape.ts'
import type { Balance } from './terms.ts'
import { fitWindow } from './window.ts'

export type Attempt =
  | { readonly status: 'fits'; readonly plan: Omit<Plan, 'risen' | 'risenForUser' | 'turnRungs' | 'reason'> }
  /** `uncounted`: what the provider should be asked before this is believed. `isPriced`: it is too dear by a price, not by the ceiling. */
  | { readonly status: 'short'; readonly short: Balance; readonly uncounted: ToCount | null; readonly isPriced: boolean }
  /** Nobody can say what it costs before the provider was asked. */
  | { readonly status: 'uncounted'; readonly toCount: ToCount }
  /** `rung`: which one refuses it; absent: none does, it is refused on any. */
  | { readonly status: 'refuse'; readonly refusal: Refusal; readonly rung?: Rung }

export interface At {
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
export function tryWith(input: DecideInput, rungs: readonly Rung[], at: At): Attempt {
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
  const { request, terms, conversation } = input
  const { contract } = terms
  const rules: ShapeRules = { retrieval: input.config.retrieval, keepRecentTurns: contract.context.keepRecentTurns }
  const mayRewrite = input.mayEdit && at.atBoundary
  const shaped = shape({ request, edits: log, rungs, rules, atBoundary: mayRewrite, newId: input.newId, dropsFrom })

  const original = priceOf(input, request.model)
  if (original === null) return { status: 'refuse', refusal: { code: 'model_unpriced', param: 'model' } }
  const measure = measureOf(input, original, at)
  const isOpen = isEarlierOpen(input)
  const counter = isOpen ? (conversation.exact?.model ?? request.model) : request.model
  const windowed = fitWindow({
    request,
    shaped,
    edits: log,
    context: contract.context,
    atBoundary: mayRewrite,
    tokensOf: (messages) => measure(messages, counter).heuristic,
    isUncounted: () => conversation.exact !== null && !measure(shaped.messages, counter).isCounted,
    newId: input.newId,
  })
  if (windowed.status === 'refuse') {
    if (isOpen) return { status: 'uncounted', toCount: { model: request.model, messages: shaped.messages } }
    return { status: 'refuse', refusal: { code: 'context_window_exceeded', param: 'messages' } }
  }
  const sent = windowed.shaped
  // One of another branch of the history waits until that comes again.
  const promoted = at.ready.filter((edit) => edit.kind !== 'cut' || isReadIn(sent.cut, edit))

  const sentTo = rungs.includes('DowngradeModel') ? downgraded(input, original, lengthOf(input, sent.messages, measure)) : STAYS
  if (sentTo.status === 'uncounted') {
    const { swap } = sentTo
    return { status: 'uncounted', toCount: { model: swap?.to ?? request.model, messages: sent.messages, ...effortIn(swap) } }
  }
  if (isOpen && sentTo.status !== 'swap') return { status: 'uncounted', toCount: { model: request.model, messages: sent.messages } }
  const refuseTools = rungs.includes('RefuseTools') && request.tools !== 'none'
  if (refuseTools && request.tools === 'forced')
    return { status: 'refuse', refusal: { code: 'tool_calls_refused', param: 'tool_choice' }, rung: 'RefuseTools' }

  const { placed, skipped } = place(sentTo, original, (priced, swap) => {
    const model = swap?.to ?? request.model
    const bound = measure(sent.messages, model, priced)
    const call = { model, upstream: swap?.upstream ?? null, priced, bound }
    const money = fitMoney(refuseTools ? withoutTools(input) : input, call)
    // Another upstream is not asked: what it counts costs a round trip to a server that may never see the call.
    const mayAsk = mayBeAsked(input, model) && (swap === null || swap.upstream === null)
    const isUnasked = isOpen && swap === null
    return {
      swap,
      priced,
      model,
      bound,
      money,
      isUnasked,
      isWorthAsking: money.status === 'short' && (bound.unbounded > 0 || isUnasked) && mayAsk,
    }
  })
  const { swap, priced, model, bound, money, isWorthAsking } = placed
  if (money.status === 'short') {
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
      occasions: occasionsOf({
        edits: input.conversation.edits,
        known: at.known,
        rungs,
        newEdits: sent.newEdits,
        promoted,
        swapped: swap !== null,
        moves: input.conversation.exact?.model === request.model,
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

/** Whether the provider can say how long this input is for a model, and was not asked yet. */
function mayBeAsked({ counted = [], mayCount = false }: DecideInput, model: string): boolean {
  return mayCount && !counted.some((count) => count.model === model)
}

/** How long messages are in the tokens of a model. `isPlain`: by nothing but the messages, and what is kept. */
type Measure = (messages: Shaped['messages'], model: string, priced?: PricedModel, isPlain?: boolean) => InputBound

function lengthOf(input: DecideInput, messages: Shaped['messages'], measure: Measure): CallLength {
  return {
    bound: (priced, model) => measure(messages, model, priced).heuristic,
    plain: (priced, model) => measure(messages, model, priced, true).heuristic,
    isText: () => input.earlierTokens === 0 && isText(messages),
    isNewText: () => isText(messages),
    isUncounted: (model) => earlierFor(input, model) === null && mayBeAsked(input, model),
    isOpen: isEarlierOpen(input),
  }
}

function isText(messages: Shaped['messages']): boolean {
  return !messages.some(({ images }) => images.length > 0)
}

/** How long the kept history is to the model that was asked for the provider can still be asked. */
function isEarlierOpen(input: DecideInput): boolean {
  return input.earlierIsOpen === true && input.earlierTokens > 0 && mayBeAsked(input, input.request.model)
}

/** Of the history that the provider keeps, as a model counts it; null where only the provider can say. */
function earlierFor(input: DecideInput, model: string): number | null {
  if (model === input.request.model || input.earlierTokens === 0) return input.earlierTokens
  return input.earlierTokensOf?.(model) ?? null
}

/** `original`: the model that was asked for, whose context counts where no other is named. */
function measureOf(input: DecideInput, original: PricedModel, { withoutFiles }: At): Measure {
  const { request, conversation } = input
  const { exact, edits } = conversation
  // What was counted is more than what an edit leaves of it only where the provider reads all that it is sent: behind an edit of ours thinking
  // goes out of the body, and what the provider itself clears or truncates depends on how long the history is.
  const readsAll = !request.fields.has('context_management') && !request.fields.has('truncation')
  return (messages, model, priced = original, isPlain = false) =>
    inputBound({
      messages,
      fixedBytes: request.fixedBytes,
      fixedDigest: request.fixedDigest,
      model,
      exact: isPlain ? null : exact,
      readsAll,
      ...(exact === null || !readsAll || !input.mayEdit || isPlain
        ? {}
        : { unedited: () => messagesOf(request, replayCounted(request, edits, exact).entries) }),
      // What nobody counts for this model is no more than all that it reads.
      earlierTokens: earlierFor(input, model) ?? priced.capabilities.contextTokens,
      factor: isPlain ? 1 : input.factorOf(model),
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
  /** The provider may say that it is less. */
  readonly isWorthAsking: boolean
  /** How long what is kept is to it nobody has asked yet. */
  readonly isUnasked: boolean
}

/**
 * Whom the call goes to, of the model that was asked for and the one that the tier asks for: to that where it saves and fits, else to the other
 * where that fits. `skipped`: why not to the tier's.
 */
function place(
  sentTo: Exclude<Downgraded, { readonly status: 'uncounted' }>,
  original: PricedModel,
  at: (priced: PricedModel, swap: ModelSwap | null) => Placed,
): { readonly placed: Placed; readonly skipped: Shaped['skipped'] } {
  switch (sentTo.status) {
    case 'stays':
      return { placed: at(original, null), skipped: [] }
    case 'skipped':
      return { placed: at(original, null), skipped: [{ rung: 'DowngradeModel', reason: sentTo.reason }] }
    case 'swap': {
      const swapped = sentTo.saves ? at(sentTo.priced, sentTo.swap) : null
      if (swapped !== null && (swapped.money.status === 'fits' || swapped.isWorthAsking)) return { placed: swapped, skipped: [] }
      const stayed = at(original, null)
      if (stayed.money.status === 'fits') return { placed: stayed, skipped: [{ rung: 'DowngradeModel', reason: 'noSaving' }] }
      if (stayed.isUnasked) return { placed: stayed, skipped: [] }
      // What saves nothing is done all the same where nothing else fits.
      return { placed: swapped ?? at(sentTo.priced, sentTo.swap), skipped: [] }
    }
  }
}

function joined(edits: readonly Edit[], ready: readonly Edit[]): readonly Edit[] {
  return ready.length === 0 ? edits : [...edits, ...ready]
}

function occasionsOf(turn: {
  /** All so far. */
  readonly edits: readonly Edit[]
  readonly known: readonly Rung[]
  readonly rungs: readonly Rung[]
  readonly newEdits: readonly Edit[]
  readonly promoted: readonly Edit[]
  readonly swapped: boolean
  /** The model that was asked for answered last. */
  readonly moves: boolean
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
  // It may be some time after the rung rose that a conversation moves.
  if ((fresh('DowngradeModel') || turn.moves) && turn.swapped) occasions.push('DowngradeModel')
  if (fresh('RefuseTools') && turn.refuseTools) occasions.push('RefuseTools')
  if (turn.upgrade) occasions.push('Upgrade')
  return occasions
}
