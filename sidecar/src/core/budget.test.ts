import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { charge, EMPTY_BOOKS, expire, renew, reserve, settle, voidHold } from './books.testing.ts'
import type { Books } from './books.testing.ts'
import { AMOUNT_MAX, assertCost, charged, EMPTY_ACCOUNT, entered, settled, voided } from './budget.ts'
import type { Account, Reservation } from './budget.ts'
import { ENTRY_KINDS } from './ledger.ts'

const CAP = 100n

function reservation(operationId: string, more: Partial<Reservation> = {}): Reservation {
  return {
    operationId,
    draws: [{ account: 'c', cap: CAP }],
    input: 0n,
    atLeast: 10n,
    atMost: 10n,
    expiresAtMs: 1_000,
    note: { tier: 'pro' },
    ...more,
  }
}
function account(books: Books, id = 'c'): Account {
  return books.accounts.get(id) ?? EMPTY_ACCOUNT
}
function held(books: Books, ...reservations: readonly Reservation[]): Books {
  return reservations.reduce((before, asked) => reserve(before, asked).books, books)
}
const settlement = (operationId: string, cost: bigint) => ({ operationId, cost, atMs: 5, note: { tier: 'pro' } })

describe('a reservation', () => {
  it('holds as much as the tightest account leaves, between least and most', () => {
    const draws = [
      { account: 'c', cap: 100n },
      { account: 'u', cap: 30n },
      { account: 'w', cap: null },
    ]
    const { books, result } = reserve(EMPTY_BOOKS, reservation('o', { draws, atLeast: 10n, atMost: 50n, input: 40n }))
    assert.deepEqual(result, { status: 'held', granted: 30n })
    for (const id of ['c', 'u', 'w']) assert.deepEqual(account(books, id), { spent: 0n, held: 30n, heldInput: 30n })
  })

  it('takes nothing from any account when one of them refuses', () => {
    const draws = [
      { account: 'c', cap: 100n },
      { account: 'u', cap: 9n },
    ]
    const { books, result } = reserve(EMPTY_BOOKS, reservation('o', { draws }))
    assert.deepEqual(result, { status: 'exceedsCap', account: 'u', shortBy: 1n })
    assert.equal(books, EMPTY_BOOKS)
  })

  it('is busy only when it would fit were the held output of others given back', () => {
    fc.assert(
      fc.property(amounts(), amounts(), amounts(), amounts(), (spent, hold, input, atLeast) => {
        const before = charge(held(EMPTY_BOOKS, reservation('o', { atLeast: 0n, atMost: hold, input })), {
          operationId: 'x',
          accounts: ['c'],
          cost: spent,
          atMs: 1,
          note: {},
        }).books
        const { status } = reserve(before, reservation('p', { atLeast, atMost: atLeast })).result
        const now = account(before)
        const fitsNow = now.spent + now.held + atLeast <= CAP
        const fitsLater = now.spent + now.heldInput + atLeast <= CAP
        assert.equal(status, fitsNow ? 'held' : fitsLater ? 'busy' : 'exceedsCap')
      }),
    )
  })

  it('is held where it fits exactly what others leave, and busy by one more', () => {
    const before = held(EMPTY_BOOKS, reservation('o', { atMost: 90n }))
    assert.deepEqual(reserve(before, reservation('p')).result, { status: 'held', granted: 10n })
    assert.equal(reserve(before, reservation('p', { atLeast: 11n, atMost: 11n })).result.status, 'busy')
  })

  it('is held once, and remembered after it ended', () => {
    const first = held(EMPTY_BOOKS, reservation('o'))
    assert.equal(reserve(first, reservation('o', { atMost: 50n })).books, first)
    const ended = settle(first, settlement('o', 4n)).books
    const again = reserve(ended, reservation('o'))
    assert.equal(again.books, ended)
    assert.deepEqual(again.result.status === 'exists' && again.result.operation.state, { status: 'settled', cost: 4n })
  })

  it('is refused when its amounts make no sense', () => {
    for (const wrong of [
      { input: -1n },
      { atLeast: -1n },
      { atLeast: 11n },
      { draws: [reservation('o').draws, reservation('o').draws].flat() },
    ])
      assert.throws(() => reserve(EMPTY_BOOKS, reservation('o', wrong)), RangeError)
    const full = held(EMPTY_BOOKS, reservation('o', { atLeast: AMOUNT_MAX, atMost: AMOUNT_MAX, draws: [{ account: 'c', cap: null }] }))
    assert.throws(() => reserve(full, reservation('p', { draws: [{ account: 'c', cap: null }] })), /at most/)
  })
})

describe('the end of a hold', () => {
  it('is the same whether it comes once or many times, and whatever comes after it', () => {
    fc.assert(
      fc.property(amounts(), fc.array(ending(), { minLength: 1, maxLength: 5 }), (cost, endings) => {
        const once = settle(held(EMPTY_BOOKS, reservation('o')), settlement('o', cost)).books
        assert.equal(
          endings.reduce((books, end) => end(books), once),
          once,
        )
      }),
    )
  })

  it('costs what the call cost, whether the hold expired before or not', () => {
    fc.assert(
      fc.property(amounts(), (cost) => {
        const start = held(EMPTY_BOOKS, reservation('o', { input: 3n }))
        const inTime = settle(start, settlement('o', cost))
        const late = settle(expire(start, 1_000, 9).books, settlement('o', cost))
        assert.equal(inTime.result.status, 'settled')
        assert.equal(late.result.status, 'corrected')
        for (const { books } of [inTime, late]) assert.deepEqual(account(books), { spent: cost, held: 0n, heldInput: 0n })
      }),
    )
  })

  it('is an overrun where the cost is above the hold, and only by that much', () => {
    const { result } = settle(held(EMPTY_BOOKS, reservation('o')), settlement('o', 14n))
    assert.deepEqual(result.status === 'settled' && result.entries.map(({ kind, cost }) => [kind, cost]), [
      ['settlement', 10n],
      ['overrun', 4n],
    ])
  })

  it('by void costs nothing, even after it was charged', () => {
    const start = held(EMPTY_BOOKS, reservation('o'))
    for (const books of [start, expire(start, 1_000, 9).books]) {
      const voided = voidHold(books, { operationId: 'o', atMs: 7 })
      assert.equal(voided.status, 'voided')
      assert.deepEqual(account(voided.books), EMPTY_ACCOUNT)
      assert.equal(voidHold(voided.books, { operationId: 'o', atMs: 8 }).status, 'exists')
    }
    assert.equal(voidHold(start, { operationId: 'other', atMs: 7 }).status, 'unknown')
  })

  it('by expiry comes at its time, oldest first, not before and not to those renewed', () => {
    const start = held(
      EMPTY_BOOKS,
      reservation('b', { expiresAtMs: 20 }),
      reservation('a', { expiresAtMs: 20 }),
      reservation('first', { expiresAtMs: 10 }),
      reservation('renewed', { expiresAtMs: 10 }),
    )
    const renewed = renew(renew(start, ['renewed', 'unknown'], 30), ['renewed'], 15)
    assert.deepEqual(expire(renewed, 9, 9).expired, [])
    assert.deepEqual(
      expire(renewed, 20, 2).expired.map(({ id }) => id),
      ['first', 'a'],
    )
    const { books, expired } = expire(renewed, 29, 9)
    assert.deepEqual(
      expired.map(({ id }) => id),
      ['first', 'a', 'b'],
    )
    assert.deepEqual(account(books), { spent: 30n, held: 10n, heldInput: 0n })
  })
})

describe('what an end comes to', () => {
  const of = (books: Books) => {
    const operation = books.operations.get('o')
    assert.ok(operation !== undefined)
    return operation
  }
  const open = of(held(EMPTY_BOOKS, reservation('o', { input: 3n })))
  const expired = of(expire(held(EMPTY_BOOKS, reservation('o', { input: 3n })), 1_000, 9).books)
  const entriesOf = (outcome: ReturnType<typeof settled>) => outcome?.entries.map(({ kind, cost }) => [kind, cost])

  it('is a correction only of what was charged before, which is taken back whole, and as it was noted', () => {
    assert.deepEqual(
      [settled(open, settlement('o', 4n)), voided(open, 7), charged(open, 7)].map((outcome) => outcome?.corrects),
      [false, false, false],
    )
    assert.equal(entered({ operationId: 'x', accounts: ['c'], cost: 5n, atMs: 1, note: {} }).corrects, false)
    assert.deepEqual(
      [settled(expired, settlement('o', 4n)), voided(expired, 7)].map((outcome) => outcome?.corrects),
      [true, true],
    )
    const truth = { ...settlement('o', 14n), note: { model: 'gpt-4o-2024-08-06' } }
    const late = settled({ ...expired, note: { model: 'gpt-4o' } }, truth)?.entries.map(({ kind, cost, note }) => [kind, cost, note.model])
    assert.deepEqual(late, [
      ['correction', -10n, 'gpt-4o'],
      ['settlement', 10n, 'gpt-4o-2024-08-06'],
      ['overrun', 4n, 'gpt-4o-2024-08-06'],
    ])
    const free = settled({ ...expired, hold: 0n }, settlement('o', 0n))
    assert.deepEqual(entriesOf(free), [['settlement', 0n]])
    assert.deepEqual(entriesOf(voided(expired, 7)), [['correction', -10n]])
    assert.deepEqual(entriesOf(voided({ ...expired, hold: 0n }, 7)), [])
    assert.deepEqual(entriesOf(settled(open, settlement('o', 10n))), [['settlement', 10n]], 'no overrun of nothing')
  })

  it('takes the hold off its accounts once', () => {
    assert.deepEqual(settled(open, settlement('o', 4n))?.delta, { spent: 4n, held: -10n, heldInput: -3n })
    assert.deepEqual(voided(open, 7)?.delta, { spent: 0n, held: -10n, heldInput: -3n })
    assert.deepEqual(settled(expired, settlement('o', 4n))?.delta, { spent: -6n, held: 0n, heldInput: 0n })
    assert.deepEqual(voided(expired, 7)?.delta, { spent: -10n, held: 0n, heldInput: 0n })
    assert.deepEqual(entered({ operationId: 'x', accounts: ['c'], cost: 5n, atMs: 1, note: {} }).operation.hold, 0n)
  })

  it('is asked for within bounds only', () => {
    for (const cost of [0n, AMOUNT_MAX]) assertCost(cost)
    for (const cost of [-1n, AMOUNT_MAX + 1n]) assert.throws(() => assertCost(cost), RangeError)
    reserve(EMPTY_BOOKS, reservation('o', { input: 0n, atLeast: 0n, atMost: 0n }))
    for (const wrong of [{ input: -1n }, { atLeast: -1n }, { atMost: 9n }])
      assert.throws(() => reserve(EMPTY_BOOKS, reservation('o', wrong)), RangeError)
  })
})

describe('the books', () => {
  it('spend what the ledger says, hold what is open, and never let holds pass the cap', () => {
    fc.assert(
      fc.property(fc.array(step(), { maxLength: 40 }), (steps) => {
        let books = EMPTY_BOOKS
        for (const apply of steps) {
          books = apply(books)
          const { spent, held: kept, heldInput } = account(books)
          const open = [...books.operations.values()].filter(({ state }) => state.status === 'held')
          assert.equal(spent, sum(books.ledger.map(({ cost }) => cost)))
          assert.equal(kept, sum(open.map(({ hold }) => hold)))
          assert.equal(heldInput, sum(open.map(({ input }) => input)))
          const beyond = books.ledger.filter(({ kind }) => kind === 'overrun' || kind === 'cost')
          assert.ok(spent + kept - sum(beyond.map(({ cost }) => cost)) <= CAP)
          assert.equal(new Set(books.ledger.map(({ id }) => id)).size, books.ledger.length)
        }
      }),
    )
  })

  it('have entries of known kinds, each named by its operation', () => {
    const charged = charge(EMPTY_BOOKS, { operationId: 'x', accounts: ['c'], cost: 5n, atMs: 1, note: { label: 'search' } }).books
    const all = settle(expire(held(charged, reservation('o')), 1_000, 1).books, settlement('o', 3n)).books
    assert.deepEqual(
      all.ledger.map(({ id }) => id),
      ['x/cost', 'o/expiry', 'o/correction', 'o/settlement'],
    )
    for (const { kind } of all.ledger) assert.ok(ENTRY_KINDS.includes(kind))
  })
})

function sum(costs: readonly bigint[]): bigint {
  return costs.reduce((total, cost) => total + cost, 0n)
}

function amounts(): fc.Arbitrary<bigint> {
  return fc.bigInt({ min: 0n, max: 130n })
}

function ending(): fc.Arbitrary<(books: Books) => Books> {
  return fc.oneof(
    amounts().map((cost) => (books: Books) => settle(books, settlement('o', cost)).books),
    fc.constant((books: Books) => voidHold(books, { operationId: 'o', atMs: 9 }).books),
    fc.constant((books: Books) => expire(books, 1_000_000, 9).books),
    fc.constant((books: Books) => reserve(books, reservation('o')).books),
    amounts().map((cost) => (books: Books) => charge(books, { operationId: 'o', accounts: ['c'], cost, atMs: 1, note: {} }).books),
  )
}

function step(): fc.Arbitrary<(books: Books) => Books> {
  const id = fc.constantFrom('a', 'b', 'd', 'e', 'f', 'g')
  return fc.oneof(
    fc.tuple(id, amounts(), amounts(), amounts(), fc.nat(100)).map(([operationId, atLeast, more, input, expiresAtMs]) => (books: Books) => {
      return reserve(books, reservation(operationId, { atLeast, atMost: atLeast + more, input, expiresAtMs })).books
    }),
    fc.tuple(id, amounts()).map(
      ([operationId, cost]) =>
        (books: Books) =>
          settle(books, settlement(operationId, cost)).books,
    ),
    id.map((operationId) => (books: Books) => voidHold(books, { operationId, atMs: 1 }).books),
    fc.nat(100).map((nowMs) => (books: Books) => expire(books, nowMs, 2).books),
    fc.tuple(id, amounts()).map(
      ([operationId, cost]) =>
        (books: Books) =>
          charge(books, { operationId, accounts: ['c'], cost, atMs: 1, note: {} }).books,
    ),
  )
}
