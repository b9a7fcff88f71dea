import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LedgerLine } from '@farebox/crds/ledger-page.ts'
import { BalanceSheet, csvHead, csvLines, jsonLine } from './balance-sheet.ts'

const entry = (sequence: number, cost: string, more: Partial<LedgerLine> = {}): LedgerLine => ({
  sequence,
  id: `op-${sequence}/settlement`,
  operation: `op-${sequence}`,
  kind: 'settlement',
  cost,
  at: '2026-11-24T10:00:00.000Z',
  accounts: ['c:one:1', 'u:ann:pro:Month:2026-11'],
  ...more,
})

test('balances run on over entries, corrections take back, and each entry counts once in the total', () => {
  const sheet = new BalanceSheet()
  sheet.add(entry(1, '0.10'))
  sheet.add(entry(2, '0.000000001', { accounts: ['c:one:1'] }))
  const after = sheet.add(entry(3, '-0.04', { kind: 'correction' }))
  assert.deepEqual(
    [...after],
    [
      ['c:one:1', 60_000_001n],
      ['u:ann:pro:Month:2026-11', 60_000_000n],
    ],
  )
  assert.deepEqual([sheet.entries, sheet.total, sheet.accounts.size], [3, 60_000_001n, 2])
})

test('an account that comes back after its life begins at 0 again, and where that is not sure its balance may be either', () => {
  const sheet = new BalanceSheet()
  const add = (sequence: number, cost: string, at: string, kind = 'settlement'): void => {
    sheet.add(entry(sequence, cost, { kind, at: `${at}T10:00:00.000Z`, accounts: ['c:one:1'] }))
  }
  const sum = () => [sheet.accounts.get('c:one:1')?.spent, sheet.accounts.get('c:one:1')?.possible]
  add(1, '0.000000005', '2026-01-01')
  add(2, '0.000000002', '2026-01-31')
  assert.deepEqual(sum(), [7n, [7n]])
  add(3, '0', '2026-02-20', 'outcome')
  add(4, '0.000000001', '2026-03-06')
  assert.deepEqual(sum(), [8n, [8n, 1n]], '34 days: it may have been used a day before its entry')
  add(5, '0.00000001', '2026-04-11')
  assert.deepEqual(sum(), [10n, [18n, 11n, 10n]], '36 days')
  add(6, '-0.000000001', '2026-04-12', 'correction')
  assert.deepEqual(sum(), [9n, [17n, 10n, 9n]])
  assert.equal(sheet.total, 17n)
})

test('an entry that is there twice is no ledger', () => {
  const sheet = new BalanceSheet()
  sheet.add(entry(1, '0.10'))
  assert.throws(() => sheet.add(entry(1, '0.10')), /twice/)
})

test('CSV has a line per account moved, the first with the cost that adds up, quotes what must be quoted, and no formula', () => {
  const sheet = new BalanceSheet()
  const line = entry(7, '0.5', { label: '=HYPERLINK("x"),y', conversation: 'one', session: 1 })
  const lines = csvLines(line, sheet.add(line))
  assert.equal(csvHead().split(',').length, 16)
  assert.deepEqual(lines, [
    `7,2026-11-24T10:00:00.000Z,settlement,op-7,c:one:1,0.5,0.5,0.50,one,1,,,,,"'=HYPERLINK(""x""),y",`,
    `7,2026-11-24T10:00:00.000Z,settlement,op-7,u:ann:pro:Month:2026-11,0.5,,0.50,one,1,,,,,"'=HYPERLINK(""x""),y",`,
  ])
  const lower = entry(8, '-0.75', { label: '-1+cmd()', model: '-2.5-A1', accounts: ['c:one:1'] })
  assert.deepEqual(csvLines(lower, sheet.add(lower)), [
    "8,2026-11-24T10:00:00.000Z,settlement,op-8,c:one:1,-0.75,-0.75,-0.25,,,,,'-2.5-A1,,'-1+cmd(),",
  ])
})

test('NDJSON is the entry with the balances after it', () => {
  const sheet = new BalanceSheet()
  const line = entry(1, '0.10')
  assert.deepEqual(JSON.parse(jsonLine(line, sheet.add(line))), {
    ...line,
    balances: { 'c:one:1': '0.10', 'u:ann:pro:Month:2026-11': '0.10' },
  })
})
