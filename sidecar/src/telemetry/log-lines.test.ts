import assert from 'node:assert/strict'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, mock, test } from 'node:test'
import { waitFor } from '../../../test/support/wait-for.ts'
import { LogLines } from './log-lines.ts'

const LINE_BYTES = 100
const BOUND = 1024 * 1024

let folder: string
let path: string
let errors: string[]
let lines: LogLines
beforeEach(() => {
  folder = fs.mkdtempSync(join(tmpdir(), 'farebox-log-lines-'))
  path = join(folder, 'log')
  errors = []
})
afterEach(() => {
  mock.restoreAll()
  syncBuiltinESMExports()
  fs.rmSync(folder, { recursive: true })
})

function open(mayBlock: boolean): void {
  lines = new LogLines({ descriptor: fs.openSync(path, 'a'), mayBlock }, ({ message }) => errors.push(message))
}

/** All lines are of one length. */
const say = (from: number, to: number): void => {
  for (let number = from; number < to; number += 1) lines.write(`${String(number).padStart(LINE_BYTES - 1, '0')}\n`)
}
const written = (): readonly number[] =>
  fs
    .readFileSync(path, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      assert.equal(line.length, LINE_BYTES - 1)
      return Number(line)
    })

test('what a full disk did not take is written with the first line that it takes; the newest of too many are lost, whole', () => {
  open(false)
  const { writeSync } = fs
  let room = 10 // so that a line is cut
  mock.method(fs, 'writeSync', (descriptor: number, bytes: Buffer) => {
    if (room === 0) throw new Error('no space left')
    const taken = writeSync(descriptor, bytes, 0, Math.min(room, bytes.length))
    room -= taken
    return taken
  })
  syncBuiltinESMExports()
  const kept = Math.floor((BOUND + 10) / LINE_BYTES)
  say(0, kept + 5_000)
  assert.equal(fs.statSync(path).size, 10)
  assert.deepEqual(new Set(errors), new Set(['no space left']))
  room = Infinity
  say(20_000, 20_003)
  assert.deepEqual(written(), [...Array.from({ length: kept }, (_, number) => number), 20_000, 20_001, 20_002])
})

test('what waits is tried again also where no line follows', async () => {
  open(false)
  const full = mock.method(fs, 'writeSync', () => {
    throw new Error('no space left')
  })
  syncBuiltinESMExports()
  say(0, 3)
  full.mock.restore()
  syncBuiltinESMExports()
  await waitFor('the lines', () => fs.statSync(path).size > 0)
  assert.deepEqual(written(), [0, 1, 2])
})

describe('where a write may block', () => {
  let stuck: Promise<void>
  let release: () => void
  let asked: number
  beforeEach(() => {
    const { write } = fs
    ;({ promise: stuck, resolve: release } = Promise.withResolvers<void>())
    asked = 0
    mock.method(fs, 'write', async (descriptor: number, bytes: Buffer, told: (error: Error | null, written: number) => void) => {
      asked += 1
      const length = asked === 1 ? 60 : bytes.length // so that a line is cut
      await stuck
      write(descriptor, bytes, 0, length, null, told)
    })
    syncBuiltinESMExports()
    open(true)
  })

  test('nobody waits for it: one is under way, those behind it are bounded, and go when it is done', async () => {
    const kept = Math.floor(BOUND / LINE_BYTES)
    say(0, kept + 5_000)
    assert.deepEqual([asked, fs.statSync(path).size], [1, 0])
    release()
    await waitFor('all lines', () => fs.statSync(path).size >= kept * LINE_BYTES)
    assert.deepEqual(
      written(),
      Array.from({ length: kept }, (_, number) => number),
    )
  })

  test('whoever ends the process has those written that are not on their way', () => {
    say(0, 3)
    lines.lastTry()
    assert.deepEqual(written(), [1, 2])
  })
})
