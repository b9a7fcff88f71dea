/**
 * For tests: the books of a budget as plain values, and the steps that every store must take, by the rules of `budget.ts`. Each step
 * gives the books after it.
 */
import {
  added,
  assertCost,
  assertReservation,
  charged,
  EMPTY_ACCOUNT,
  entered,
  heldOperation,
  holdTaken,
  offer,
  overdue,
  settled,
  voided,
} from './budget.ts'
import type {
  Account,
  AccountId,
  Charge,
  Operation,
  OperationId,
  Outcome,
  Reservation,
  ReserveResult,
  Settlement,
  SettleResult,
} from './budget.ts'
import type { LedgerEntry } from './ledger.ts'

export interface Books {
  readonly accounts: ReadonlyMap<AccountId, Account>
  readonly operations: ReadonlyMap<OperationId, Operation>
  readonly ledger: readonly LedgerEntry[]
}
export const EMPTY_BOOKS: Books = { accounts: new Map(), operations: new Map(), ledger: [] }

/** Holds money for an operation, all accounts or none. An operation seen before, even settled, changes nothing, so a retry is safe. */
export function reserve(books: Books, reservation: Reservation): { readonly books: Books; readonly result: ReserveResult } {
  assertReservation(reservation)
  const known = books.operations.get(reservation.operationId)
  if (known !== undefined) return { books, result: { status: 'exists', operation: known } }
  const result = offer(reservation, (account) => accountOf(books, account))
  if (result.status !== 'held') return { books, result }
  const operation = heldOperation(reservation, result.granted)
  const accounts = moved(books, operation.accounts, holdTaken(operation))
  return { books: { ...books, accounts, operations: new Map(books.operations).set(operation.id, operation) }, result }
}

/** Moves the expiry of operations that are still held; others are left alone. Expiry never moves back. */
export function renew(books: Books, ids: readonly OperationId[], expiresAtMs: number): Books {
  const operations = new Map(books.operations)
  for (const id of ids) {
    const operation = operations.get(id)
    if (operation?.state.status === 'held' && operation.expiresAtMs < expiresAtMs) operations.set(id, { ...operation, expiresAtMs })
  }
  return { ...books, operations }
}

/** Replaces a hold by its real cost. Settling twice is settling once; after an expiry its charge is taken back first. */
export function settle(books: Books, settlement: Settlement): { readonly books: Books; readonly result: SettleResult } {
  assertCost(settlement.cost)
  const operation = books.operations.get(settlement.operationId)
  if (operation === undefined) return { books, result: { status: 'unknown' } }
  const outcome = settled(operation, settlement)
  if (outcome === null) return { books, result: { status: 'exists' } }
  return { books: booked(books, outcome), result: { status: outcome.corrects ? 'corrected' : 'settled', entries: outcome.entries } }
}

/** Gives a hold back: nothing is billed. After an expiry the charge is taken back. An operation settled or voided before is left alone. */
export function voidHold(
  books: Books,
  step: { readonly operationId: OperationId; readonly atMs: number },
): { readonly books: Books; readonly status: VoidStatus } {
  const operation = books.operations.get(step.operationId)
  if (operation === undefined) return { books, status: 'unknown' }
  const outcome = voided(operation, step.atMs)
  return outcome === null ? { books, status: 'exists' } : { books: booked(books, outcome), status: 'voided' }
}
export type VoidStatus = 'voided' | 'exists' | 'unknown'

/** Charges the holds that expired at or before `nowMs`, oldest first, at most `limit`. */
export function expire(books: Books, nowMs: number, limit: number): { readonly books: Books; readonly expired: readonly Operation[] } {
  const due = overdue(books.operations.values(), nowMs).slice(0, limit)
  let next = books
  for (const operation of due) next = booked(next, charged(operation, nowMs))
  return { books: next, expired: due }
}

/** Money that is spent already: a fact, entered whatever the caps say. Once per operation id. */
export function charge(books: Books, fact: Charge): { readonly books: Books; readonly status: 'charged' | 'exists' } {
  assertCost(fact.cost)
  if (books.operations.has(fact.operationId)) return { books, status: 'exists' }
  return { books: booked(books, entered(fact)), status: 'charged' }
}

function booked(books: Books, { operation, delta, entries }: Outcome): Books {
  return {
    accounts: moved(books, operation.accounts, delta),
    operations: new Map(books.operations).set(operation.id, operation),
    ledger: entries.length === 0 ? books.ledger : [...books.ledger, ...entries],
  }
}

function moved(books: Books, ids: readonly AccountId[], delta: Account): ReadonlyMap<AccountId, Account> {
  const accounts = new Map(books.accounts)
  for (const id of ids) accounts.set(id, added(accountOf(books, id), delta))
  return accounts
}

function accountOf(books: Books, id: AccountId): Account {
  return books.accounts.get(id) ?? EMPTY_ACCOUNT
}
