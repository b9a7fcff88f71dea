/**
 * The rules of a budget, which every engine applies to its own rows: each takes one operation and tells how its accounts move and what is
 * entered. Money is held before it is spent and settled after, once, by operation id; so a retry, a crash or a late answer is harmless.
 *
 * An account is anything with a cap: a session of a conversation, a user's period, a workload's limit. One operation
 * moves all its accounts together, or none.
 */
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { EntryNote, LedgerEntry } from './ledger.ts'

export type AccountId = string
export type OperationId = string

/** `heldInput` is the part of `held` that is certain to be billed once the call is out: the input of calls in flight. */
export interface Account {
  readonly spent: NanoUsd
  readonly held: NanoUsd
  readonly heldInput: NanoUsd
}
export const EMPTY_ACCOUNT: Account = { spent: 0n, held: 0n, heldInput: 0n }

export type OperationState =
  | { readonly status: 'held' }
  | { readonly status: 'settled'; readonly cost: NanoUsd }
  | { readonly status: 'voided' }
  /** The hold was charged; the truth may still correct it. */
  | { readonly status: 'expired' }

export interface Operation {
  readonly id: OperationId
  readonly accounts: readonly AccountId[]
  readonly hold: NanoUsd
  readonly input: NanoUsd
  readonly expiresAtMs: number
  readonly state: OperationState
  readonly note: EntryNote
}

/** No step moves more, and no balance goes beyond: an engine that counts in doubles or 64 bits loses no digit. About nine million USD. */
export const AMOUNT_MAX: NanoUsd = 2n ** 53n - 1n

/** An account to draw on, with the cap that its contract gives it now. `null`: counted, not capped. */
export interface Draw {
  readonly account: AccountId
  readonly cap: NanoUsd | null
}

/**
 * Asks for a hold between `atLeast` and `atMost`: as much as the tightest account leaves. So the output bound that the
 * money affords is found in the same step that takes the money. `input` is the part that is certain to be billed.
 */
export interface Reservation {
  readonly operationId: OperationId
  readonly draws: readonly Draw[]
  readonly input: NanoUsd
  readonly atLeast: NanoUsd
  readonly atMost: NanoUsd
  readonly expiresAtMs: number
  readonly note: EntryNote
}

export type ReserveResult =
  | { readonly status: 'held'; readonly granted: NanoUsd }
  /** Seen before, even settled: nothing changed. */
  | { readonly status: 'exists'; readonly operation: Operation }
  /** `atLeast` would fit but for output that other calls hold: worth waiting for. */
  | { readonly status: 'busy'; readonly account: AccountId }
  /** `atLeast` does not fit, whatever the calls in flight give back. */
  | { readonly status: 'exceedsCap'; readonly account: AccountId; readonly shortBy: NanoUsd }

export interface Settlement {
  readonly operationId: OperationId
  readonly cost: NanoUsd
  readonly atMs: number
  readonly note: EntryNote
}

export type SettleResult =
  | { readonly status: 'settled'; readonly entries: readonly LedgerEntry[] }
  /** It was charged when it expired; that was taken back. */
  | { readonly status: 'corrected'; readonly entries: readonly LedgerEntry[] }
  /** Settled or voided before: nothing changed. */
  | { readonly status: 'exists' }
  | { readonly status: 'unknown' }

/** Money that is spent already, held by nobody before. */
export interface Charge {
  readonly operationId: OperationId
  readonly accounts: readonly AccountId[]
  readonly cost: NanoUsd
  readonly atMs: number
  readonly note: EntryNote
}

/** How an operation ends: what it becomes, what each of its accounts gains, and the entries. */
export interface Outcome {
  readonly operation: Operation
  readonly delta: Account
  readonly entries: readonly LedgerEntry[]
  readonly corrects: boolean
}

/** How much can be held now, between `atLeast` and `atMost`; or why nothing can. */
export function offer(reservation: Reservation, accountNow: (account: AccountId) => Account): Exclude<ReserveResult, { status: 'exists' }> {
  let granted = reservation.atMost
  let busy: AccountId | null = null
  for (const { account, cap } of reservation.draws) {
    if (cap === null) continue
    const { spent, held, heldInput } = accountNow(account)
    const shortBy = reservation.atLeast - (cap - spent - heldInput)
    if (shortBy > 0n) return { status: 'exceedsCap', account, shortBy }
    const free = cap - spent - held
    if (free < reservation.atLeast) busy ??= account
    if (free < granted) granted = free
  }
  return busy === null ? { status: 'held', granted } : { status: 'busy', account: busy }
}

export function heldOperation(reservation: Reservation, granted: NanoUsd): Operation {
  const { operationId, draws, input, expiresAtMs, note } = reservation
  return {
    id: operationId,
    accounts: draws.map((draw) => draw.account),
    hold: granted,
    input: input < granted ? input : granted,
    expiresAtMs,
    state: { status: 'held' },
    note,
  }
}

/** What a hold adds to each of its accounts. */
export function holdTaken(operation: Operation): Account {
  return { spent: 0n, held: operation.hold, heldInput: operation.input }
}

/** Null when the operation was settled or voided before. */
export function settled(operation: Operation, { cost, atMs, note }: Settlement): Outcome | null {
  const ended: Operation = { ...operation, state: { status: 'settled', cost } }
  const entry = (kind: LedgerEntry['kind'], amount: NanoUsd): LedgerEntry => entryOf(operation, kind, amount, atMs, note)
  const within = cost < operation.hold ? cost : operation.hold
  const entries = [entry('settlement', within), ...(cost > within ? [entry('overrun', cost - within)] : [])]
  switch (operation.state.status) {
    case 'held':
      return { operation: ended, delta: { spent: cost, held: -operation.hold, heldInput: -operation.input }, entries, corrects: false }
    case 'expired':
      return {
        operation: ended,
        delta: { spent: cost - operation.hold, held: 0n, heldInput: 0n },
        entries: [...takenBack(operation, atMs), ...entries],
        corrects: true,
      }
    case 'settled':
    case 'voided':
      return null
  }
}

/** Null when the operation was settled or voided before. */
export function voided(operation: Operation, atMs: number): Outcome | null {
  const ended: Operation = { ...operation, state: { status: 'voided' } }
  switch (operation.state.status) {
    case 'held':
      return { operation: ended, delta: { spent: 0n, held: -operation.hold, heldInput: -operation.input }, entries: [], corrects: false }
    case 'expired':
      return {
        operation: ended,
        delta: { spent: -operation.hold, held: 0n, heldInput: 0n },
        entries: takenBack(operation, atMs),
        corrects: true,
      }
    case 'settled':
    case 'voided':
      return null
  }
}

/** The charge of an expired hold, under the name that it was made under: the call may have been served by another model. */
function takenBack(operation: Operation, atMs: number): readonly LedgerEntry[] {
  return operation.hold === 0n ? [] : [entryOf(operation, 'correction', -operation.hold, atMs, operation.note)]
}

/** The held operations whose time has run out, oldest first. */
export function overdue(operations: Iterable<Operation>, nowMs: number): readonly Operation[] {
  const due: Operation[] = []
  for (const operation of operations) if (operation.state.status === 'held' && operation.expiresAtMs <= nowMs) due.push(operation)
  return due.toSorted((a, b) => a.expiresAtMs - b.expiresAtMs || (a.id < b.id ? -1 : 1))
}

/** Only for a held operation: its hold becomes its cost until the truth comes. */
export function charged(operation: Operation, atMs: number): Outcome {
  return {
    operation: { ...operation, state: { status: 'expired' } },
    delta: { spent: operation.hold, held: -operation.hold, heldInput: -operation.input },
    entries: [entryOf(operation, 'expiry', operation.hold, atMs, operation.note)],
    corrects: false,
  }
}

/** An operation that was never held. */
export function entered({ operationId, accounts, cost, atMs, note }: Charge): Outcome {
  const operation: Operation = {
    id: operationId,
    accounts,
    hold: 0n,
    input: 0n,
    expiresAtMs: atMs,
    state: { status: 'settled', cost },
    note,
  }
  return {
    operation,
    delta: { spent: cost, held: 0n, heldInput: 0n },
    entries: [entryOf(operation, 'cost', cost, atMs, note)],
    corrects: false,
  }
}

/** Throws `RangeError` when the balance would go beyond `AMOUNT_MAX`. */
export function added(account: Account, delta: Account): Account {
  const sum = { spent: account.spent + delta.spent, held: account.held + delta.held, heldInput: account.heldInput + delta.heldInput }
  if (sum.spent > AMOUNT_MAX || sum.held > AMOUNT_MAX) throw new RangeError(`a balance must be at most ${AMOUNT_MAX} nano-dollars`)
  return sum
}

/** Throws `RangeError` for a reservation that no caller should ask for. */
export function assertReservation({ input, atLeast, atMost, draws }: Reservation): void {
  if (input < 0n || atLeast < 0n || atMost < atLeast) throw new RangeError('a reservation needs 0 <= input and 0 <= atLeast <= atMost')
  draws.forEach(({ account }, index) => {
    if (draws.findIndex((draw) => draw.account === account) !== index) throw new RangeError('a reservation draws on each account once')
  })
}

export function assertCost(cost: NanoUsd): void {
  if (cost < 0n || cost > AMOUNT_MAX) throw new RangeError(`a cost must be from 0 to ${AMOUNT_MAX} nano-dollars`)
}

function entryOf(operation: Operation, kind: LedgerEntry['kind'], cost: NanoUsd, atMs: number, note: EntryNote): LedgerEntry {
  return { id: `${operation.id}/${kind}`, operationId: operation.id, kind, accounts: operation.accounts, cost, atMs, note }
}
