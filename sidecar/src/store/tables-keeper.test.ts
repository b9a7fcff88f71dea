import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { openDatabase } from './database.ts'
import type { OwnedDatabase } from './database.ts'
import { Journal } from './journal.ts'
import type { JournalRecord } from './journal.ts'
import { TablesThread } from './tables-keeper.ts'

let folder: string
let file: string
let owned: OwnedDatabase
let thread: TablesThread
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'farebox-tables-'))
  file = join(folder, 'books.sqlite')
  owned = openDatabase(file)
  thread = new TablesThread(file)
})
afterEach(async () => {
  await thread.close()
  owned.close()
  rmSync(folder, { recursive: true })
})

const contract = (sequence: number, length: number): JournalRecord => ({
  sequence,
  clockMs: sequence,
  rows: [['contracts', [[`k${sequence}`, 'x'.repeat(length)]]]],
})

const count = (table: string): number => Number(owned.database.prepare(`SELECT count(*) AS rows FROM ${table}`).get()?.['rows'])

describe('the thread that writes the tables', () => {
  test('writes a row of any length, and whatever else it was asked for meanwhile', async () => {
    const journal = new Journal(file)
    for (const [index, length] of [10, 30_000_000, 10, 2_000_000].entries()) journal.append(contract(index + 1, length))
    const times = { nowMs: 1, wallMs: 1 }
    await Promise.all([thread.write(1), thread.write(3), thread.dropOutlived(3, times), thread.write(4), thread.write(4)])
    assert.equal(count('contracts'), 4)
    journal.append(contract(5, 10))
    await thread.write(5)
    assert.equal(count('contracts'), 5)
    journal.close()
  })

  test('is started with more memory where it had too little', async () => {
    // A line that is not long, of so many rows that they take ten times as much.
    const record = {
      sequence: 1,
      clockMs: 1,
      rows: [['chain', Array.from({ length: 100_000 }, (_, index) => [index.toString(36), 'c', 1])]],
    }
    const line = `${JSON.stringify(record)}\n`
    assert.ok(line.length > 1_300_000 && line.length < 1_572_864, String(line.length))
    writeFileSync(`${file}.commits-${'1'.padStart(16, '0')}`, line)
    await Promise.all([thread.write(1), thread.write(1)])
    assert.equal(count('chain'), 100_000)
  })

  test('says what went wrong, and can be asked again', async () => {
    await assert.rejects(thread.write(1), /the journal ends at commit 0, before 1/)
    const journal = new Journal(file)
    journal.append(contract(1, 10))
    journal.close()
    await thread.write(1)
    assert.equal(count('contracts'), 1)
  })
})
