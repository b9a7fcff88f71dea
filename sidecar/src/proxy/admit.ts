/** Decides and reserves until the money is held, the conversation ends, or waiting took too long. */
import type { Rung } from '@farebox/crds/ladder.ts'
import type { AccountId, OperationId } from '../core/budget.ts'
import type { Conversation, ConversationChange } from '../core/conversation.ts'
import { reopened, toldAt } from '../core/conversation-change.ts'
import { affordableOutput, decide, observedPlan } from '../core/decide.ts'
import type { LimitField } from '../core/output-limit.ts'
import type { DecideInput, Decision, Plan } from '../core/plan.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { PricedModel } from '@farebox/crds/prices.ts'
import { familyOf, serves } from '@farebox/crds/provider-family.ts'
import { pricesAt } from '@farebox/crds/regions.ts'
import { percentUsed } from '../core/ladder.ts'
import { isUnread, planBesideLoop } from '../core/own-turn.ts'
import { balancesOf, userPeriodOf } from '../core/terms.ts'
import type { Downgrade } from '../core/swap.ts'
import type { Refusal } from '../errors.ts'
import { hasMoved } from '../store/store.ts'
import type { ReserveStep, Snapshot } from '../store/store.ts'
import type { ErrorNames } from '../wire/error-names.ts'
import { countedInput, earlierTokensOf } from './earlier.ts'
import { opensSession, withheldEnd } from './endings.ts'
import type { Ended } from './endings.ts'
import { noteOf, noticesOf, tellObserved } from './exchange.ts'
import type { Turn, Withheld } from './exchange.ts'
import { lastCount } from './last-count.ts'
import { onOtherTerms, placeTurn } from './locate.ts'
import type { LocateResult } from './locate.ts'
import { MONEY_WAIT_MS } from './money-queue.ts'
import { accountOf, ONE_ACCOUNT } from './served-tiers.ts'
import type { Beside } from './side-loops.ts'

/** Decisions are made again while other turns change the balances under them; each round sees money move. */
const ROUNDS_MAX = 100

export interface Admitted {
  readonly turn: Turn
  readonly plan: Plan
  /** How the call stood to its chat when that was decided; null: it is one of the chat itself. */
  readonly beside: Beside | null
  readonly operationId: OperationId
  readonly granted: NanoUsd
  /** Output tokens per answer that the hold covers. */
  readonly outputTokens: number
}

export type AdmitResult =
  | { readonly status: 'admitted'; readonly admitted: Admitted }
  | { readonly status: 'ended'; readonly turn: Turn; readonly decision: Ended }
  | { readonly status: 'refused'; readonly turn: Turn; readonly refusal: Refusal; readonly percent: number; readonly by: RefusedBy }
  /** The client went away while it waited. */
  | { readonly status: 'gone' }

/** As `Decision` has it. */
type RefusedBy = Extract<Decision, { status: 'refuse' }>['by']

/** What attempts before had changed of the request, the provider refused, and this one leaves as it is. */
export interface Undone {
  /** The move to another model. */
  readonly swap: { readonly to: string; readonly upstream: string; readonly why: SwapRefusal } | null
  /** That the stream tells its usage. */
  readonly usage: boolean
  /** The field in which the output was bounded. */
  readonly limitField: LimitField | null
  /** The history. */
  readonly edits: boolean
}

/** What the provider said to a call that was moved to another model, for the log. */
export interface SwapRefusal extends ErrorNames {
  readonly status: number
}

export const NOTHING_UNDONE: Undone = { swap: null, usage: false, limitField: null, edits: false }

/**
 * Decides and reserves until the money is held (`admitted`), nothing more can be paid (`ended`), or the call may not be made (`refused`).
 * Waits up to `MONEY_WAIT_MS` for money that other calls hold, then refuses with `budget_busy`. Whoever is admitted ends the hold: see
 * `settle`. Rejects with `StoreError` where the store cannot be reached.
 */
export async function admit(first: Turn, undone: Undone): Promise<AdmitResult> {
  const { gateway } = first
  const deadlineMs = performance.now() + MONEY_WAIT_MS
  let turn = first
  let waited = false
  try {
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const decided = await decideRound(turn, undone, round === 0)
      const result = decided.status === 'go' ? await reserveRound(turn, decided, waited) : decided
      if (result.status === 'admitted' && waited) {
        gateway.queue.succeeded(accountsOf(turn))
        gateway.metrics.waits.add(['admitted'])
      }
      if (result.status !== 'again' && result.status !== 'wait') return result
      turn = result.turn
      if (result.status === 'again') continue
      const outcome = await gateway.queue.wait(result.account, deadlineMs, performance.now(), waited ? 'front' : 'back')
      waited = true
      if (turn.outgoing.destroyed) return { status: 'gone' }
      if (outcome === 'timeout') break
      const reread = await seenAnew(turn)
      if (reread.status === 'refused') return refused(turn, reread.refusal)
      turn = reread.turn
    }
    gateway.metrics.waits.add(['timeout'])
    return refused(turn, { code: 'budget_busy' })
  } finally {
    // Whether it took its share or left: the next in line may fit into what is there now.
    if (waited) gateway.queue.wakeNext(accountsOf(turn))
  }
}

/** What a round comes to where it does not settle the matter. */
type Unsettled =
  /** The turn has changed: decide anew. */
  | { readonly status: 'again'; readonly turn: Turn }
  /** Other calls hold the money of this account: decide anew when some comes back. */
  | { readonly status: 'wait'; readonly turn: Turn; readonly account: AccountId }

/** A hold is to be had for this plan. */
interface Go {
  readonly status: 'go'
  readonly plan: Plan
  readonly beside: Beside | null
  /** Under `Observe`: what `Enforce` would do in its place; null: the same. */
  readonly withheld: Withheld | null
}

/** What to do with the turn as it is known now. */
async function decideRound(turn: Turn, undone: Undone, isFirst: boolean): Promise<AdmitResult | Unsettled | Go> {
  const beside = turn.gateway.sideLoops.find(turn.request, turn.conversation)
  const input = decideInput(turn, undone, beside)
  const decision = decide(input)
  if (decision.status === 'end') {
    const other = await otherThatGoesOn(turn, decision, (onOther) => decide(decideInput(onOther, undone, beside)))
    if (other !== null) return { status: 'again', turn: other }
  }
  if (decision.status === 'refuse' && decision.refusal.code === 'model_unpriced')
    warnUnpriced(turn, { provider: turn.upstream.provider, model: turn.request.model })
  if (turn.policy.config.mode === 'Observe') {
    const withheld = withheldOf(turn, decision)
    // Who was in the way may be gone since the turn was read.
    if (withheld?.is === 'wait' && isFirst) return decideAgain(turn, await seenAnew(turn))
    return goBy(turn, observedPlan(input, decision), beside, withheld)
  }
  switch (decision.status) {
    case 'go':
      return goBy(turn, decision.plan, beside)
    case 'refuse':
      return refused(turn, decision.refusal, decision.by)
    case 'end':
      return { status: 'ended', turn, decision }
    case 'count': {
      const counted = [...(turn.counted ?? []), await countedInput(turn, decision)]
      return decideAgain(turn, await seenAnew({ ...turn, counted }))
    }
    case 'wait':
      // Who was in the way may be gone since the turn was read, and would wake nobody.
      return isFirst ? decideAgain(turn, await seenAnew(turn)) : { status: 'wait', turn, account: decision.account }
  }
}

/**
 * The turn on the other terms, where it goes on by these, be it in another session: an edit of the terms ends nobody's conversation that would
 * go on without. Where both end it, it is by those that it is held to.
 */
async function otherThatGoesOn(turn: Turn, decision: Ended, decideOn: (turn: Turn) => Decision): Promise<Turn | null> {
  const other = await onOtherTerms(turn)
  if (other === null || turn.terms !== turn.heldTo) return other
  const decided = decideOn(other)
  if (decided.status !== 'end') return other
  // Held to them, or the round after this one would end it by the newest after all.
  return !opensSession(turn, decision) && opensSession(other, decided) ? { ...other, heldTo: other.terms } : null
}

/** What `Enforce` would come to where `Observe` goes on. */
function withheldOf(turn: Turn, decision: Decision): Withheld | null {
  switch (decision.status) {
    case 'go':
      return turn.balances.some(({ cap, state }) => cap - state.spent - state.held < decision.plan.atLeast) ? { is: 'wait' } : null
    case 'end':
      return withheldEnd(turn, decision)
    case 'wait':
      return { is: 'wait' }
    case 'refuse':
      return { is: 'refusal', refusal: decision.refusal, cap: 'none' }
    case 'count':
      return null
  }
}

function goBy(turn: Turn, plan: Plan, beside: Beside | null, withheld: Withheld | null = null): Go {
  if (plan.priced.origin === 'ceiling') warnUnpriced(turn, plan.priced)
  return { status: 'go', plan: beside?.isInLoop === true ? planBesideLoop(plan, turn.conversation) : plan, beside, withheld }
}

/** Reserves what the plan needs, if nobody is before this turn. */
async function reserveRound(turn: Turn, { plan: decided, beside, withheld }: Go, waited: boolean): Promise<AdmitResult | Unsettled> {
  const { gateway } = turn
  const plan = await gateway.offers.once(turn, decided)
  // Who comes while others wait queues behind them.
  const contested = waited ? null : gateway.queue.contested(accountsOf(turn))
  if (contested !== null) return { status: 'wait', turn, account: contested }
  const operationId = gateway.newId()
  const answer = await gateway.store.reserve(reserveStep(turn, plan, operationId))
  switch (answer.status) {
    case 'held': {
      gateway.holds.add(operationId)
      if (withheld !== null) tellObserved(turn, withheld)
      const { granted } = answer
      return { status: 'admitted', admitted: { turn, plan, beside, operationId, granted, outputTokens: affordableOutput(plan, granted) } }
    }
    case 'busy':
      return { status: 'wait', turn: refreshed(turn, answer.snapshot), account: answer.account }
    case 'moved':
      return decideAgain(turn, await placedAnew(turn, answer.snapshot))
    case 'exceedsCap':
    case 'exists':
      return { status: 'again', turn: refreshed(turn, answer.snapshot) }
  }
}

function decideAgain(turn: Turn, located: LocateResult): AdmitResult | Unsettled {
  return located.status === 'refused' ? refused(turn, located.refusal) : { status: 'again', turn: located.turn }
}

function refused(turn: Turn, refusal: Refusal, by?: RefusedBy): AdmitResult {
  return { status: 'refused', turn, refusal, percent: percentOf(turn), by }
}

function accountsOf(turn: Turn): readonly AccountId[] {
  return turn.draws.map((draw) => draw.account)
}

/** `beside`: how the call stands to its chat; null: it is one of the chat itself. */
function decideInput(turn: Turn, undone: Undone, beside: Beside | null): DecideInput {
  const { gateway, policy } = turn
  const conversation = reopens(turn) ? reopened(turn.conversation) : turn.conversation
  const failedSwaps = gateway.failedSwaps.get(turn.conversationId) ?? NO_SWAPS
  return {
    request: turn.request,
    terms: turn.terms,
    conversation: beside === null ? { ...conversation, exact: lastCount(turn) } : seenBeside(conversation, beside),
    balances: turn.balances,
    config: policy.config,
    provider: turn.upstream.provider,
    prices: pricesAt(policy.prices, turn.upstream),
    nowMs: gateway.nowMs(),
    factorOf: (model) => gateway.factors.factorOf(model),
    accountTierOf: accountTierOf(turn),
    serverOf: (downgrade) => serverOf(turn, downgrade),
    mayEdit: !undone.edits && !gateway.uneditable.has(turn.conversationId),
    earlierTokens: turn.earlierTokens,
    earlierIsOpen: turn.earlierIsOpen === true,
    earlierTokensOf: (model) => earlierTokensOf(turn, model),
    mayCount: turn.wire.counts !== undefined && policy.config.mode === 'Enforce',
    counted: turn.counted ?? [],
    failedSwaps: undone.swap === null ? failedSwaps : new Set([...failedSwaps, undone.swap.to]),
    newId: gateway.newId,
  }
}

/** As `DecideInput` has it. Upstreams other than the one that was asked are let in with a key that is held. */
function accountTierOf(turn: Turn): DecideInput['accountTierOf'] {
  const { servedTiers } = turn.gateway
  return (model, name) => {
    const other = name === null ? undefined : turn.policy.config.upstreams.find((upstream) => upstream.name === name)
    if (other !== undefined) return servedTiers.find(other, model, ONE_ACCOUNT)
    return servedTiers.find(turn.upstream, model, accountOf(turn))
  }
}

/** The conversation as a call beside its chat finds it. */
function seenBeside(conversation: Conversation, { loop, exact }: Beside): Conversation {
  return { ...conversation, exact, ...(loop === null ? {} : { turnRungs: loop.rungs }) }
}

const NO_SWAPS: ReadonlySet<string> = new Set()

/** Once for each model. */
function warnUnpriced({ gateway, policy, requestId }: Turn, { provider, model }: Pick<PricedModel, 'provider' | 'model'>): void {
  const key = `${provider} ${model}`
  if (gateway.unpriced.has(key)) return
  gateway.unpriced.set(key, true)
  const { onUnknownModel } = policy.config
  gateway.log.warn({ requestId, provider, model, onUnknownModel }, 'nobody prices this model: it needs an entry in a PriceBook')
}

/**
 * Another upstream can take a request over only in the format that it is written in, and with a key that this sidecar holds for it: the
 * app's own key is for the upstream that it asked.
 */
function serverOf(turn: Turn, { to, upstream: name }: Downgrade): ReturnType<DecideInput['serverOf']> {
  const { upstream: own, policy, family, gateway, incoming } = turn
  if (name === undefined || name === own.name) return serves(own, to) ? { provider: own.provider, upstream: null } : null
  const other = policy.config.upstreams.find((candidate) => candidate.name === name)
  if (other === undefined || familyOf(other.provider) !== family || !serves(other, to)) return null
  if (!gateway.credentials.letIn(other, incoming.headers)) return null
  return { provider: other.provider, upstream: other.name, prices: pricesAt(policy.prices, other) }
}

function reserveStep(turn: Turn, plan: Plan, operationId: OperationId): ReserveStep {
  const { gateway, conversation } = turn
  const observing = turn.policy.config.mode === 'Observe'
  return {
    conversation: conversation.id,
    initial: conversation,
    seen: seenOf(turn),
    change: changeOf(turn, plan),
    isFirst: true,
    reservation: {
      operationId,
      draws: turn.draws.map(({ account, cap }) => ({ account, cap: observing ? null : cap })),
      input: plan.likelyInputCost,
      atLeast: plan.atLeast,
      atMost: plan.atMost,
      expiresAtMs: gateway.holds.expiryMs(),
      note: noteOf(turn, plan.model, 'turn'),
    },
    nowMs: gateway.nowMs(),
  }
}

/** What this turn changes in the conversation, written together with its hold. */
function changeOf(turn: Turn, plan: Plan): ConversationChange {
  const { conversation, terms } = turn
  const edits = [...plan.promoted, ...plan.shaped.newEdits]
  const notices = noticesOf(turn, plan.occasions)
  const period = userPeriodOf(turn.draws)
  const nowMs = turn.gateway.nowMs()
  return {
    ...(plan.risen.length > 0 ? { addRungs: { rungs: plan.risen, reason: plan.reason ?? 'threshold' } } : {}),
    ...(plan.risenForUser.length > 0 && period !== null ? { addUserRungs: { period, rungs: plan.risenForUser } } : {}),
    ...(isSame(plan.turnRungs, conversation.turnRungs) || isUnread(turn.request, conversation) ? {} : { turnRungs: plan.turnRungs }),
    ...(edits.length > 0 ? { addEdits: edits } : {}),
    ...(notices.length > 0 ? { addNotices: notices } : {}),
    ...(adopts(turn) ? { contract: { hash: terms.contract.hash, pinnedAtMs: nowMs } } : {}),
    // Observed, even one at its end by these terms goes on.
    ...(reopens(turn) && !plan.rungs.includes('EndConversation')
      ? { state: { is: 'open', atMs: toldAt(nowMs, conversation.stateAtMs) } }
      : {}),
  }
}

/** Whether the conversation goes on by other terms than those that it was pinned to. */
function adopts({ exists, terms, conversation }: Turn): boolean {
  return exists && terms.contract.hash !== conversation.contractHash
}

/** What ended by its terms goes on by others, where it is not at their end. */
function reopens(turn: Turn): boolean {
  return adopts(turn) && turn.conversation.state === 'ended'
}

function isSame(some: readonly Rung[], others: readonly Rung[]): boolean {
  return some.length === others.length && some.every((rung) => others.includes(rung))
}

/** Of the tighter of the conversation's and the user's budget, for a call that was not decided. */
export function percentOf(turn: Turn): number {
  return percentUsed(turn.balances.filter(({ kind }) => kind !== 'workload').map(({ cap, state }) => ({ cap, account: state })))
}

/**
 * The turn on what the store says now. Others may have gone on meanwhile: a conversation that another user began is theirs, and in another
 * session or on other terms it is other money.
 */
async function seenAnew(turn: Turn): Promise<LocateResult> {
  const { gateway, conversationId, conversation } = turn
  const snapshot = await gateway.store.read({ conversation: conversationId, accounts: accountsOf(turn), nowMs: gateway.nowMs() })
  if (hasMoved(snapshot.conversation, { seen: seenOf(turn), initial: conversation })) return await placedAnew(turn, snapshot)
  return { status: 'ok', turn: refreshed(turn, snapshot) }
}

async function placedAnew(turn: Turn, snapshot: Snapshot): Promise<LocateResult> {
  return await placeTurn(turn, await turn.gateway.contracts.newest(newestContract(turn)), snapshot)
}

function seenOf({ exists, conversation: { contractHash, user, session } }: Turn): ReserveStep['seen'] {
  return exists ? { contractHash, user, session } : null
}

/** The turn on what the store says now, under the same terms. */
function refreshed(turn: Turn, { conversation, accounts }: Snapshot): Turn {
  return {
    ...turn,
    ...(conversation === null ? {} : { conversation, exists: true }),
    balances: balancesOf(turn.draws, accounts),
  }
}

function newestContract(turn: Turn): Turn['terms']['contract'] {
  return turn.policy.config.contracts[turn.terms.contract.tier] ?? turn.terms.contract
}
