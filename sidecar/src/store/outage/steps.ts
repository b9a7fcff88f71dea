/**
 * The steps that a sidecar took by itself while the store was away, as they are kept in a file and taken again in the store.
 * Each is keyed by its operation, or changes nothing when it is repeated: replaying one twice is replaying it once.
 */
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { AccountId, OperationId } from '../../core/budget.ts'
import type { Conversation, ConversationChange, ConversationId, UserAlerts } from '../../core/conversation.ts'
import type { OutcomeStep } from '../../core/outcomes.ts'
import { StoreError } from '../store.ts'
import type { BudgetStore, FiredPercents, RememberStep, ReserveStep, SettleStep } from '../store.ts'

export type OutageStep =
  /** A hold, whoever granted it: the step that asked for it, and how much it got. `isUnasked`: the store was never asked for it. */
  | { readonly kind: 'hold'; readonly step: ReserveStep; readonly granted: NanoUsd; readonly isUnasked?: true }
  | { readonly kind: 'settle'; readonly step: SettleStep }
  | { readonly kind: 'void'; readonly step: Parameters<BudgetStore['void']>[0]; readonly conversation: string }
  | { readonly kind: 'charge'; readonly step: Parameters<BudgetStore['charge']>[0] }
  | { readonly kind: 'update'; readonly step: Parameters<BudgetStore['update']>[0] }
  | { readonly kind: 'outcome'; readonly step: Parameters<BudgetStore['addOutcome']>[0] }
  | { readonly kind: 'remember'; readonly step: RememberStep }
  | { readonly kind: 'forget'; readonly step: Parameters<BudgetStore['forgetUser']>[0] }
  | { readonly kind: 'contract'; readonly step: Contract }

export type Hold = Extract<OutageStep, { kind: 'hold' }>

/**
 * A hold as it is kept. Of a conversation that was there before, without its edits: the store has them, or is told them by steps before this
 * one. One that has lost the whole conversation begins it without them: it then goes on with its whole history.
 */
export function holdOf(step: ReserveStep, granted: NanoUsd, more: Pick<Hold, 'isUnasked'> = {}): Hold {
  const kept = step.seen === null ? step : { ...step, initial: { ...step.initial, edits: [], readyEdits: [] } }
  return { kind: 'hold', step: kept, granted, ...more }
}

/** Alerts that the store fired when it was told of a step, some time after it was taken. */
export interface FiredAlerts {
  readonly atMs: number
  readonly conversation: ConversationId
  readonly session: number
  readonly tier: string
  /** Of the session's budget. */
  readonly percents: readonly number[]
  /** Of the user's budget; absent for none. */
  readonly ofUser?: UserAlerts
}
export type FiredOf = Pick<FiredAlerts, 'percents' | 'ofUser'>

/** `period`: that of the user's. */
export function firedOf({ firedAlerts, firedUserAlerts }: FiredPercents, period: string | undefined): FiredOf {
  const isUsers = period !== undefined && firedUserAlerts.length > 0
  return { percents: firedAlerts, ...(isUsers ? { ofUser: { period, percents: firedUserAlerts } } : {}) }
}

/** By which a conversation knows that they fired. */
export function alertsChange({ percents, ofUser }: FiredOf): ConversationChange {
  return { addAlerts: percents, ...(ofUser === undefined ? {} : { addUserAlerts: ofUser }) }
}

export function isNothing({ percents, ofUser }: FiredOf): boolean {
  return percents.length === 0 && ofUser === undefined
}

/**
 * A step that is to be told. `knownMs`: for how long the store may know it already; null when it does not. `hasArrived`: an earlier run of
 * this sidecar saw it arrive, so that only a store which lost it since lacks it.
 */
export interface Telling {
  readonly step: OutageStep
  readonly knownMs: number | null
  readonly hasArrived?: true
}

/** The operation that begins in a store which does not know it, and what it holds or costs there; null when none does. */
export function costBegun(step: OutageStep): { readonly operationId: OperationId; readonly cost: NanoUsd } | null {
  switch (step.kind) {
    case 'hold':
      return { operationId: step.step.reservation.operationId, cost: step.granted }
    case 'charge':
      return { operationId: step.step.operationId, cost: step.step.cost }
    default:
      return null
  }
}

/** Since when the store may know what it was not told while it was away; null: it cannot, or it is of no account. */
export function maybeKnownSince(step: OutageStep): number | null {
  switch (step.kind) {
    case 'hold':
      return step.isUnasked === true ? null : step.step.nowMs
    case 'charge':
      // An app may tell a cost again.
      return step.step.atMs
    default:
      return null
  }
}

/** Those that it draws on. */
export function accountsOf({ step }: Hold): readonly AccountId[] {
  return step.reservation.draws.map(({ account }) => account)
}

/** Steps that follow one another in one conversation, or in the memory of one user, are replayed in this order; others beside them. */
export function conversationOf(step: OutageStep): string {
  switch (step.kind) {
    case 'hold':
    case 'settle':
    case 'charge':
    case 'update':
      return step.step.conversation
    case 'void':
      return step.conversation
    case 'remember':
    case 'forget':
      return `memory of ${step.step.user}`
    case 'outcome':
    case 'contract':
      return ''
  }
}

/**
 * Takes a step in the store. A hold is taken whatever the caps say now: its call was made. `expiresAtMs`: of holds, for their
 * owner may have lived on since. Rejects with `StoreError` when the store is away, with `RangeError` for what no store would take.
 * The alerts that it fires, the store fires never again.
 */
export async function replay(store: BudgetStore, step: OutageStep, nowMs: number, expiresAtMs: number): Promise<FiredAlerts | null> {
  switch (step.kind) {
    case 'hold':
      await replayHold(store, step, nowMs, expiresAtMs)
      return null
    case 'settle': {
      const { snapshot, ...fired } = await store.settle(step.step)
      return firedIn(snapshot.conversation, firedOf(fired, step.step.alerts.ofUser?.period), nowMs)
    }
    case 'void':
      await store.void(step.step)
      return null
    case 'charge':
      await store.charge(step.step)
      return null
    case 'update': {
      const updated = await store.update({ ...step.step, nowMs })
      const period = step.step.change.addUserAlerts?.period
      return updated === null ? null : firedIn(updated.conversation, firedOf(updated, period), nowMs)
    }
    case 'outcome':
      await store.addOutcome(step.step)
      return null
    case 'remember':
      await store.remember({ ...step.step, nowMs })
      return null
    case 'forget':
      await store.forgetUser({ ...step.step, nowMs })
      return null
    case 'contract':
      await store.putContract(step.step)
      return null
  }
}

function firedIn(conversation: Conversation | null, fired: FiredOf, atMs: number): FiredAlerts | null {
  if (conversation === null || isNothing(fired)) return null
  const { id, session, tier } = conversation
  return { atMs, conversation: id, session, tier, ...fired }
}

/** A conversation that others moved on meanwhile is met where it is now. */
const MEETINGS_MAX = 20

async function replayHold(store: BudgetStore, { step, granted }: Hold, nowMs: number, expiresAtMs: number): Promise<void> {
  const { reservation, change } = step
  const { session } = reservation.note
  let { seen } = step
  for (let meeting = 0; meeting < MEETINGS_MAX; meeting++) {
    const answer = await store.reserve({
      conversation: step.conversation,
      initial: step.initial,
      seen,
      change: session === undefined ? change : { ...change, ofSession: session },
      reservation: {
        ...reservation,
        draws: reservation.draws.map(({ account }) => ({ account, cap: null })),
        input: reservation.input < granted ? reservation.input : granted,
        atLeast: granted,
        atMost: granted,
        expiresAtMs,
      },
      nowMs,
    })
    if (answer.status !== 'moved') return
    const { conversation } = answer.snapshot
    seen = conversation === null ? null : { ...conversation }
  }
  throw new StoreError('away', 'a conversation moves on faster than its past can be entered')
}

/** Amounts are bigint, which JSON has not: `{"$nano": "12"}`. */
export function encodeStep(step: OutageStep): string {
  return JSON.stringify(step, (_key, value: unknown) => (typeof value === 'bigint' ? { [NANO]: value.toString() } : value))
}

/** Of what `encodeStep` wrote, in this version or an earlier one. Throws `SyntaxError` for anything else that is not JSON. */
export function decodeStep(text: string): OutageStep {
  const step = JSON.parse(text, (_key, value: unknown) => {
    if (typeof value !== 'object' || value === null || !(NANO in value)) return value
    return BigInt(String(value[NANO]))
  }) as OutageStep | EarlierStep
  return asWrittenNow(step)
}

/** What an earlier version kept: of an outcome its day alone, of a change of a conversation no times, of a conversation fewer fields. */
type EarlierStep =
  | { readonly kind: 'outcome'; readonly step: Omit<OutcomeStep, 'atMs' | 'note'> & { readonly day: string } }
  | WithEarlierChange<Extract<OutageStep, { readonly step: { readonly change: ConversationChange } }>>
type WithEarlierChange<Step> = Step extends { readonly step: infer Asked }
  ? Omit<Step, 'step'> & { readonly step: Omit<Asked, 'change'> & { readonly change: EarlierChange } }
  : never
type EarlierChange = Omit<ConversationChange, 'state' | 'atTaskBoundary' | 'resolution'> & {
  readonly state?: ConversationChange['state'] | 'open' | 'ended'
  readonly atTaskBoundary?: ConversationChange['atTaskBoundary'] | boolean
  readonly resolution?: ConversationChange['resolution'] | 'confirmed' | 'reversed'
}

function asWrittenNow(step: OutageStep | EarlierStep): OutageStep {
  switch (step.kind) {
    case 'outcome': {
      if (!('day' in step.step)) return { kind: 'outcome', step: step.step }
      const { day, ...outcome } = step.step
      return { kind: 'outcome', step: { ...outcome, atMs: Date.parse(`${day}T00:00:00Z`), note: {} } }
    }
    case 'hold': {
      const { initial, change, nowMs } = step.step
      return { ...step, step: { ...step.step, initial: conversationNow(initial), change: changeNow(change, nowMs) } }
    }
    case 'update': {
      const { initial, change, nowMs, conversation } = step.step
      const begins = initial === undefined ? {} : { initial: conversationNow(initial) }
      return { kind: 'update', step: { conversation, ...begins, change: changeNow(change, nowMs), nowMs } }
    }
    case 'settle':
      return { kind: 'settle', step: { ...step.step, change: changeNow(step.step.change, step.step.settlement.atMs) } }
    case 'charge':
      return { kind: 'charge', step: { ...step.step, change: changeNow(step.step.change, step.step.atMs) } }
    default:
      return step
  }
}

function conversationNow(kept: Conversation): Conversation {
  const later = { stateAtMs: null, boundaryAtMs: null, question: null, turnRungs: [], earlierAlerts: [], userAlerts: null }
  return { ...later, ...kept }
}

function changeNow({ state, atTaskBoundary, resolution, ...rest }: EarlierChange, atMs: number): ConversationChange {
  return {
    ...rest,
    ...(state === undefined ? {} : { state: typeof state === 'string' ? { is: state, atMs } : state }),
    ...(atTaskBoundary === undefined
      ? {}
      : { atTaskBoundary: typeof atTaskBoundary === 'boolean' ? { is: atTaskBoundary, atMs } : atTaskBoundary }),
    ...(resolution === undefined ? {} : { resolution: typeof resolution === 'string' ? { kind: resolution, atMs } : resolution }),
  }
}

const NANO = '$nano'
