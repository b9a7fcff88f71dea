import assert from 'node:assert/strict'
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import * as fc from 'fast-check'
import { Journal, journalParts, JournalReader } from './journal.ts'
import type { JournalRecord } from './journal.ts'

const recordOf = (sequence: number, size = 10): JournalRecord => ({
  sequence,
  clockMs: sequence * 10,
  rows: [['accounts', [[`a${sequence}`, 'ü'.repeat(size), null, { nested: ['line\nbreak'] }]]]],
})

let folder: string
let file: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'farebox-journal-'))
  file = join(folder, 'books.sqlite')
})
afterEach(() => rmSync(folder, { recursive: true }))

function written(count: number, partBytes?: number): Journal {
  const journal = new Journal(file, partBytes)
  for (let sequence = 1; sequence <= count; sequence++) journal.append(recordOf(sequence))
  return journal
}

describe('a journal', () => {
  test('begins a part when it is told to, so that those before it can be deleted once they are read', () => {
    const journal = written(2)
    journal.beginAnew()
    journal.append(recordOf(3))
    assert.deepEqual(
      journalParts(file).map(({ first }) => first),
      [1, 3],
    )
    const reader = new JournalReader(file, 0)
    assert.deepEqual(
      reader.readTo(3).map(({ sequence }) => sequence),
      [1, 2, 3],
    )
    assert.equal(reader.isAhead, true)
    reader.dropRead()
    assert.deepEqual(
      journalParts(file).map(({ first }) => first),
      [3],
    )
    reader.close()
    journal.close()
  })

  test('gives back what was appended, in order, whatever the sizes, the parts and the pauses of its reader', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(400_000), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 300_000 }),
        fc.array(fc.nat(12), { maxLength: 6 }),
        (sizes, partBytes, pauses) => {
          for (const { path } of journalParts(file)) rmSync(path)
          const journal = new Journal(file, partBytes)
          const reader = new JournalReader(file, 0)
          const records = sizes.map((size, index) => recordOf(index + 1, size))
          const read: JournalRecord[] = []
          for (const [index, record] of records.entries()) {
            journal.append(record)
            if (pauses.includes(index)) read.push(...reader.readTo(index))
          }
          read.push(...reader.readTo(records.length))
          journal.close()
          reader.close()
          assert.deepEqual(read, records)
        },
      ),
      { numRuns: 30 },
    )
  })

  test('begins where the reader says, and loses the parts that were read when it is told to', () => {
    written(30, 500).close()
    const all = journalParts(file).length
    assert.ok(all > 3)
    assert.equal(new JournalReader(file, 17).readTo(30, 1).length, 1)
    const reader = new JournalReader(file, 17)
    assert.deepEqual(
      reader.readTo(30).map(({ sequence }) => sequence),
      Array.from({ length: 13 }, (_, index) => 18 + index),
    )
    assert.ok(reader.isAhead)
    reader.dropRead()
    reader.close()
    assert.equal(readdirSync(folder).length, 1)
  })

  test('ends at a line that was cut, and at a gap', () => {
    written(9).close()
    const [part] = journalParts(file)
    assert.ok(part !== undefined)
    const whole = readFileSync(part.path).length
    truncateSync(part.path, whole - 7)
    assert.equal(new JournalReader(file, 0).readTo(99).length, 8)
    appendFileSync(part.path, `\n${JSON.stringify(recordOf(10))}\n`)
    assert.equal(new JournalReader(file, 0).readTo(99).length, 8)
    writeFileSync(part.path, [1, 2, 4].map((sequence) => `${JSON.stringify(recordOf(sequence))}\n`).join(''))
    assert.equal(new JournalReader(file, 0).readTo(99).length, 2)
  })

  test('reads a line again whose end had not come', () => {
    written(1).close()
    const [part] = journalParts(file)
    assert.ok(part !== undefined)
    const reader = new JournalReader(file, 0)
    const [first, second] = [recordOf(2, 3), recordOf(2, 5)].map((record) => `${JSON.stringify(record)}\n`)
    const end = readFileSync(part.path).length
    appendFileSync(part.path, (first ?? '').slice(0, 20))
    assert.equal(reader.readTo(9).length, 1)
    truncateSync(part.path, end) // the commit failed, and another one took its place
    appendFileSync(part.path, second ?? '')
    assert.deepEqual(reader.readTo(9), [recordOf(2, 5)])
    reader.close()
  })

  test('is written over where a part of that name holds nothing that was answered', () => {
    writeFileSync(`${file}.commits-${'1'.padStart(16, '0')}`, '{"cut')
    written(2).close()
    assert.equal(new JournalReader(file, 0).readTo(9).length, 2)
  })
})
