import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { AMOUNT_MAX } from './budget.ts'
import { accountsName, carriedOver } from './ledger.ts'
import type { SequencedEntry } from './ledger.ts'

const entry = (sequence: number, cost: bigint, accounts: readonly string[], more: Partial<SequencedEntry> = {}): SequencedEntry => ({
  sequence,
  id: `o${sequence}/settlement`,
  operationId: `o${sequence}`,
  kind: 'settlement',
  accounts,
  cost,
  atMs: sequence * 1_000,
  note: { tier: 'pro' },
  ...more,
})
const alive = (account: string): boolean => account.startsWith('alive')

test('what is dropped is carried by the accounts that live, in the place of the first entry', () => {
  const dropped = [
    entry(1, 5n, ['dead 1', 'alive 1']),
    entry(2, 7n, ['dead 1']),
    entry(3, -2n, ['alive 1', 'dead 2']),
    entry(4, 9n, ['alive 2']),
  ]
  const carried = carriedOver(dropped, alive, Infinity)
  assert.deepEqual(carried[0], {
    sequence: 1,
    id: 'o1/settlement/carried',
    operationId: 'o1/settlement',
    kind: 'carried',
    accounts: ['alive 1'],
    cost: 3n,
    atMs: 3_000,
    note: {},
  })
  assert.deepEqual(
    carried.map(({ sequence, cost }) => [sequence, cost]),
    [
      [1, 3n],
      [4, 9n],
    ],
  )
  const [again] = carriedOver([...carried, entry(5, 1n, ['alive 1'])], alive, Infinity)
  assert.deepEqual([again?.id, again?.cost, again?.atMs], ['o1/settlement/carried', 4n, 5_000])
})

test('what is carried alone stays as it is', () => {
  const carried = carriedOver([entry(1, 5n, ['alive 1'])], alive, Infinity)
  assert.equal(carriedOver(carried, alive, Infinity)[0], carried[0])
  assert.deepEqual(
    carriedOver(carried, () => false, Infinity),
    [],
  )
})

test('what comes so long after that the account may have begun again is carried by itself, also when it is dropped again', () => {
  const days = [entry(1, 5n, ['alive 1']), entry(2, 7n, ['alive 1']), entry(40, 1n, ['alive 1']), entry(41, 2n, ['alive 1'])]
  const carried = carriedOver(days, alive, 33_000)
  const told = (entries: readonly SequencedEntry[]) => entries.map(({ sequence, cost, atMs }) => [sequence, cost, atMs])
  assert.deepEqual(told(carried), [
    [1, 12n, 2_000],
    [40, 3n, 41_000],
  ])
  assert.deepEqual(told(carriedOver([...carried, entry(60, 4n, ['alive 1'])], alive, 33_000)), [
    [1, 12n, 2_000],
    [40, 7n, 60_000],
  ])
})

test('an outcome is not carried, and makes no account live longer', () => {
  const outcome = entry(20, 0n, ['alive 1'], { kind: 'outcome' })
  const carried = carriedOver([entry(1, 5n, ['alive 1']), outcome, entry(40, 1n, ['alive 1'])], alive, 33_000)
  assert.deepEqual(
    carried.map(({ sequence, cost }) => [sequence, cost]),
    [
      [1, 5n],
      [40, 1n],
    ],
  )
})

test('what was carried of pages before is added to, and told as it has become', () => {
  const [first] = carriedOver([entry(1, 5n, ['alive 1'])], alive, 33_000)
  assert.ok(first !== undefined)
  const known = new Map([[accountsName(first.accounts), first]])
  const page = [entry(2, 7n, ['alive 2']), entry(3, 9n, ['alive 1', 'dead 1']), entry(4, 1n, ['alive 1'])]
  assert.deepEqual(carriedOver(page, alive, 33_000, known), [
    ...carriedOver(page.slice(0, 1), alive, 33_000),
    { ...first, cost: 15n, atMs: 4_000 },
  ])
  const [later] = carriedOver([entry(60, 2n, ['alive 1'])], alive, 33_000, known)
  assert.deepEqual([later?.sequence, later?.cost], [60, 2n])
})

test('what would be more than any balance is not added up', () => {
  const carried = carriedOver([entry(1, AMOUNT_MAX, ['alive 1']), entry(2, 1n, ['alive 1']), entry(3, 1n, ['alive 1'])], alive, Infinity)
  assert.deepEqual(
    carried.map(({ sequence, cost }) => [sequence, cost]),
    [
      [1, AMOUNT_MAX],
      [2, 2n],
    ],
  )
})

test('however it is dropped, the sum of each living account is the same, with no more entries and no id twice', () => {
  fc.assert(
    fc.property(someEntries, fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 9 }), someApart, (all, batches, apartMs) => {
      let ledger: readonly SequencedEntry[] = all
      let from = 0
      for (const size of batches) {
        const kept = carriedOver(ledger.slice(from, from + size), alive, apartMs)
        ledger = [...ledger.slice(0, from), ...kept, ...ledger.slice(from + size)]
        from = from + kept.length >= ledger.length ? 0 : from + kept.length
      }
      for (const name of ['alive 1', 'alive 2', 'alive 3']) assert.equal(sumOf(ledger, name), sumOf(all, name))
      assert.ok(ledger.length <= all.length)
      assert.ok(ledger.every(({ sequence }, index) => sequence > (ledger[index - 1]?.sequence ?? 0)))
      assert.equal(new Set(ledger.map(({ id }) => id)).size, ledger.length)
    }),
  )
})

test('however long its pages are, a sweep leaves the same, and the next one changes nothing', () => {
  fc.assert(
    fc.property(someEntries, fc.integer({ min: 1, max: 9 }), someApart, (all, size, apartMs) => {
      const once = swept(all, size, apartMs)
      assert.deepEqual(once, carriedOver(all, alive, apartMs))
      for (const name of ['alive 1', 'alive 2', 'alive 3']) assert.equal(sumOf(once, name), sumOf(all, name))
      const again = swept(once, size, apartMs)
      assert.ok(again.length === once.length && again.every((kept, index) => kept === once[index]))
    }),
  )
})

const account = fc.constantFrom('alive 1', 'alive 2', 'alive 3', 'dead 1')
const someEntries = fc
  .array(fc.record({ cost: fc.bigInt(-50n, 50n), accounts: fc.uniqueArray(account, { minLength: 1 }) }), { maxLength: 30 })
  .map((parts): readonly SequencedEntry[] => parts.map(({ cost, accounts }, index) => entry(index + 1, cost, accounts)))
const someApart = fc.constantFrom(2_500, Infinity)

/** What is left of all these entries when each is old enough, so many of them looked at in one step. */
function swept(ledger: readonly SequencedEntry[], size: number, apartMs: number): readonly SequencedEntry[] {
  const left = new Map<number, SequencedEntry>()
  const known = new Map<string, SequencedEntry>()
  for (let from = 0; from < ledger.length; from += size)
    for (const kept of carriedOver(ledger.slice(from, from + size), alive, apartMs, known)) {
      left.set(kept.sequence, kept)
      known.set(accountsName(kept.accounts), kept)
    }
  return [...left.values()]
}

function sumOf(entries: readonly SequencedEntry[], name: string): bigint {
  return entries.filter(({ accounts }) => accounts.includes(name)).reduce((sum, { cost }) => sum + cost, 0n)
}
