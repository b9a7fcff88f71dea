import assert from 'node:assert/strict'
import fs, { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, mock, test } from 'node:test'
import * as fc from 'fast-check'
import { Journal, journalParts, JournalReader, LongLineError } from './journal.ts'
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

/** From now on the disk has room for so many bytes more; what it took may also stay there. */
function full(roomBytes: number, isTakenBack = true): () => void {
  let room = roomBytes
  const write = fs.writeSync as (...values: unknown[]) => number
  const noSpace = (): never => {
    throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
  }
  mock.method(fs, 'writeSync', (file: number, bytes: Buffer, from = 0, length = bytes.length - from, ...place: unknown[]) => {
    const taken = room > 0 ? write(file, bytes, from, Math.min(room, length), ...place) : noSpace()
    room -= taken
    return taken
  })
  if (!isTakenBack) mock.method(fs, 'ftruncateSync', noSpace)
  syncBuiltinESMExports()
  return () => {
    mock.restoreAll()
    syncBuiltinESMExports()
  }
}

/** A commit of many rows: some records of half a million characters each. */
const longRecord = (sequence: number, rows = 30_000): JournalRecord => ({
  sequence,
  clockMs: sequence * 10,
  rows: [
    ['forgotten', [['x']]],
    ['chain', Array.from({ length: rows }, (_, index) => [`d${index}`, 'ü'.repeat(30), sequence])],
    ['edits', [[1, 'A', 'e', 0, 'y'.repeat(700_000)]]],
  ],
})

test('there is room for commits, or what the file system says is thrown; nothing stays of the attempt', () => {
  const journal = written(1)
  const files = readdirSync(folder)
  journal.assertRoom()
  mock.method(fs, 'writeFileSync', (path: string) => {
    fs.closeSync(fs.openSync(path, 'w'))
    throw new Error('no space left on device')
  })
  syncBuiltinESMExports()
  try {
    assert.throws(() => journal.assertRoom(), /no space left/)
  } finally {
    mock.restoreAll()
    syncBuiltinESMExports()
  }
  assert.deepEqual(readdirSync(folder), files)
  journal.close()
})

describe('a journal', () => {
  test('goes on where it was, without a gap, after a disk that was full for a part of a line', () => {
    const journal = written(1)
    for (const isTakenBack of [true, false]) {
      const last = isTakenBack ? 2 : 3
      for (const room of [1_500, 40]) {
        const makeRoom = full(room, isTakenBack)
        assert.throws(() => journal.append(recordOf(last, 900)), /no space left/)
        makeRoom()
      }
      assert.equal(journal.append(recordOf(last, 3)), last)
    }
    journal.close()
    const [part] = journalParts(file)
    assert.ok(part !== undefined && !readFileSync(part.path).includes(0))
    assert.deepEqual(new JournalReader(file, 0).readTo(9), [recordOf(1), recordOf(2, 3), recordOf(3, 3)])
  })

  test('is read over the gap that an earlier version left', () => {
    const [first, second] = [recordOf(1), recordOf(2)].map((record) => `${JSON.stringify(record)}\n`)
    writeFileSync(`${file}.commits-${'1'.padStart(16, '0')}`, `${first}${'\0'.repeat(100_000)}${second}`)
    assert.deepEqual(new JournalReader(file, 0).readTo(9), [recordOf(1), recordOf(2)])
  })

  test('has a long commit in pieces, the last of which says that it ends', () => {
    const journal = new Journal(file)
    const last = journal.append(longRecord(1))
    assert.equal(journal.append(recordOf(last + 1)), last + 1)
    journal.close()
    const records = new JournalReader(file, 0).readTo(last + 1)
    assert.deepEqual(
      records.map(({ sequence, goesOn }) => [sequence, goesOn]),
      Array.from({ length: last + 1 }, (_, index) => [index + 1, index + 1 < last ? true : undefined]),
    )
    assert.ok(last > 2 && records.every(({ rows }) => JSON.stringify(rows).length < 525_000 || rows.length === 1))
    const images = (table: string): unknown[] =>
      records.slice(0, last).flatMap(({ rows }) => rows.flatMap(([name, own]) => (name === table ? own : [])))
    for (const [table, own] of longRecord(1).rows) assert.deepEqual(images(table), own)
  })

  test('takes back all pieces of a commit of which one found no room', () => {
    const journal = written(1)
    const makeRoom = full(1_200_000)
    assert.throws(() => journal.append(longRecord(2)), /no space left/)
    makeRoom()
    journal.append(recordOf(2))
    journal.close()
    assert.deepEqual(new JournalReader(file, 0).readTo(99), [recordOf(1), recordOf(2)])
  })

  test('is not read further than was asked for: what comes after that may be taken back', () => {
    written(2).close()
    const [part] = journalParts(file)
    assert.ok(part !== undefined)
    const reader = new JournalReader(file, 0)
    assert.equal(reader.readTo(1).length, 1)
    writeFileSync(part.path, [recordOf(1), recordOf(2, 20)].map((record) => `${JSON.stringify(record)}\n`).join(''))
    assert.deepEqual(reader.readTo(2), [recordOf(2, 20)])
    reader.close()
  })

  test('says so where its reader has too little memory for a line', () => {
    const journal = written(1, 10)
    journal.append(recordOf(2, 400_000))
    journal.append(recordOf(3, 90_000))
    journal.close()
    const reader = new JournalReader(file, 0, 100_000)
    assert.equal(reader.readTo(1).length, 1)
    assert.throws(() => reader.readTo(2), LongLineError)
    reader.close()
    assert.throws(() => new JournalReader(file, 2, 100_000).readTo(3), LongLineError)
    assert.equal(new JournalReader(file, 2, 200_000).readTo(3).length, 1)
  })

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
