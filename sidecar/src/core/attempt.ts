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
import type { Downgraded } from './downgrade.ts'
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
import { assumedFactor } from './token-factor.ts'
import { fitWindow } from './window.ts'

export type Attempt =
  | { readonly status: 'fits'; readonly plan: Omit<Plan, 'risen' | 'risenForUser' | 'turnRungs' | 'reason'> }
  /** `uncounted`: what the provider should be asked before this is believed. `isPriced`: it is too dear by a price, not by the ceiling. */
  | { readonly status: 'short'; readonly short: Balance; readonly uncounted: ToCount | null; readonly isPriced: boolean }
  | { readonly status: 'refuse'; readonly refusal: Refusal }

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
