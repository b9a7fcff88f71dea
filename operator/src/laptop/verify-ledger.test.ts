import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Balances, LedgerLine } from '@farebox/crds/ledger-page.ts'
import { verifyLedger } from './verify-ledger.ts'
import type { LedgerSource } from './verify-ledger.ts'

const NOW = Date.parse('2026-11-24T10:00:00Z')
const entry = (sequence: number, account: string, cost: string, at = '2026-11-24T09:00:00.000Z'): LedgerLine => ({
  sequence,
  id: `op-${sequence}/settlement`,
  operation: `op-${sequence}`,
  kind: 'settlement',
  cost,
  at,
  accounts: [account],
})

/** A sidecar of an older version. */
const TELLS_NO_ACCOUNTS: Pick<LedgerSource, 'accounts'> = { accounts: async () => null }

/** A source whose ledger grows each time that balances are read, and that tells a page for each account. */
function source(entries: LedgerLine[], balances: () => Record<string, string>, accounts: readonly string[] = []): LedgerSource {
  return {
    async *ledger(after = 0) {
      yield entries.filter(({ sequence }) => sequence > after)
    },
    async accounts(cursor) {
      const page = Number(cursor ?? '0')
      return { accounts: accounts.slice(page, page + 1), next: page + 1 < accounts.length ? String(page + 1) : null }
    },
    async balances(accounts) {
      const all = balances()
      return Object.fromEntries(accounts.map((account) => [account, { spent: all[account] ?? '0.00', held: '0.00' }])) satisfies Balances
    },
  }
}

test('agrees where each balance is the sum of its entries', async () => {
  const verified = await verifyLedger(
    source([entry(1, 'a', '0.10'), entry(4, 'a', '0.05'), entry(5, 'b', '1.00')], () => ({ a: '0.15', b: '1.00' })),
    () => NOW,
  )
  assert.deepEqual([verified.differences, verified.outlived, verified.sheet.entries], [[], 0, 3])
})

test('tells a balance that is too high, too low or gone', async () => {
  const entries = [entry(1, 'a', '0.10'), entry(2, 'b', '0.10'), entry(3, 'c', '0.10')]
  const { differences } = await verifyLedger(
    source(entries, () => ({ a: '0.11', b: '0.09' })),
    () => NOW,
  )
  assert.deepEqual(differences, [
    { account: 'a', entered: 100_000_000n, spent: 110_000_000n },
    { account: 'b', entered: 100_000_000n, spent: 90_000_000n },
    { account: 'c', entered: 100_000_000n, spent: 0n },
  ])
})

test('a balance that was forgotten in due time is no difference', async () => {
  const verified = await verifyLedger(
    source([entry(1, 'a', '0.10', '2026-09-01T00:00:00.000Z')], () => ({})),
    () => NOW,
  )
  assert.deepEqual([verified.differences, verified.outlived], [[], 1])
})

test('an account that came back after its life has the balance of what was entered since, or of all where it may have lived on', async () => {
  const entries = [
    entry(1, 'a', '0.10', '2026-09-01T00:00:00.000Z'),
    entry(2, 'a', '0.20', '2026-09-02T00:00:00.000Z'),
    entry(3, 'a', '0.04', '2026-11-20T00:00:00.000Z'),
  ]
  const differences = async (balance: string) =>
    (
      await verifyLedger(
        source(entries, () => ({ a: balance })),
        () => NOW,
      )
    ).differences
  assert.deepEqual(await differences('0.04'), [])
  assert.deepEqual(await differences('0.34'), [])
  const wrong = (spent: bigint) => [{ account: 'a', entered: 40_000_000n, spent }]
  assert.deepEqual(await differences('0.24'), wrong(240_000_000n))
  assert.deepEqual(await differences('0.30'), wrong(300_000_000n))
  assert.deepEqual(await differences('0.00'), wrong(0n))
})

test('what was said of a conversation later does not prolong the life of its account', async () => {
  const outcome = { ...entry(2, 'a', '0', '2026-10-01T00:00:00.000Z'), kind: 'outcome' }
  const entries = [entry(1, 'a', '0.10', '2026-09-15T00:00:00.000Z'), outcome, entry(3, 'a', '0.04', '2026-10-30T00:00:00.000Z')]
  const verified = await verifyLedger(
    source(entries, () => ({ a: '0.04' })),
    () => NOW,
  )
  assert.deepEqual(verified.differences, [])
})

test('what is entered while it reads is caught up with', async () => {
  const entries = [entry(1, 'a', '0.10')]
  let reads = 0
  const verified = await verifyLedger(
    source(entries, () => {
      reads += 1
      if (reads === 1) entries.push(entry(2, 'a', '0.02'))
      return { a: '0.12' }
    }),
    () => NOW,
  )
  assert.deepEqual([verified.differences, verified.sheet.entries, reads], [[], 2, 2])
})

test('entries that are carried over are the balance of their accounts, also when that happens while they are read', async () => {
  const after: LedgerLine[] = [
    { ...entry(1, 'a', '0.30'), id: 'op-1/settlement/carried', operation: 'op-1/settlement', kind: 'carried' },
    entry(3, 'a', '0.05'),
  ]
  const balances: LedgerSource['balances'] = async (accounts) =>
    Object.fromEntries(accounts.map((account) => [account, { spent: '0.35', held: '0.00' }]))
  let reads = 0
  const verified = await verifyLedger(
    {
      async *ledger(from = 0) {
        reads += 1
        if (reads === 1) yield [entry(1, 'a', '0.10')] // the second is gone by the time that it is asked for
        yield after.filter(({ sequence }) => sequence > Math.max(from, reads === 1 ? 1 : 0))
      },
      balances,
      ...TELLS_NO_ACCOUNTS,
    },
    () => NOW,
  )
  assert.deepEqual([verified.differences, verified.sheet.entries], [[], 2])
})

test('a balance that no entry names is a difference, unless it is zero', async () => {
  const balances = { a: '0.10', b: '0.20', c: '0.00' }
  const verified = await verifyLedger(
    source([entry(1, 'a', '0.10')], () => balances, ['c', 'b', 'a', 'b']),
    () => NOW,
  )
  assert.deepEqual([verified.differences, verified.isOfEntriesAlone], [[{ account: 'b', entered: 0n, spent: 200_000_000n }], false])
  const { differences } = await verifyLedger(
    source([], () => balances, ['a', 'b', 'c']),
    () => NOW,
  )
  assert.deepEqual(
    differences.map(({ account }) => account),
    ['a', 'b'],
  )
})

test('an account whose first entry comes between the reading of the ledger and of the accounts is caught up with', async () => {
  const entries = [entry(1, 'a', '0.10')]
  const accounts = ['a']
  const growing = source(entries, () => ({ a: '0.10', b: '0.02' }), accounts)
  const verified = await verifyLedger(
    {
      ...growing,
      accounts: async (cursor) => {
        if (accounts.length === 1) {
          entries.push(entry(2, 'b', '0.02'))
          accounts.push('b')
        }
        return await growing.accounts(cursor)
      },
    },
    () => NOW,
  )
  assert.deepEqual([verified.differences, verified.sheet.entries], [[], 2])
})

test('of a sidecar that does not tell its accounts those are compared that an entry names, and it says so', async () => {
  const old = { ...source([entry(1, 'a', '0.10')], () => ({ a: '0.10', b: '0.20' }), ['b']), ...TELLS_NO_ACCOUNTS }
  const verified = await verifyLedger(old, () => NOW)
  assert.deepEqual([verified.differences, verified.isOfEntriesAlone], [[], true])
})

test('a balance that was set below zero is told as any other', async () => {
  const { differences } = await verifyLedger(
    source([entry(1, 'a', '0.10')], () => ({ a: '-1.00' })),
    () => NOW,
  )
  assert.deepEqual(differences, [{ account: 'a', entered: 100_000_000n, spent: -1_000_000_000n }])
})
