import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { writeNewFile } from './new-file.ts'

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'farebox-new-file-'))
  path = join(folder, 'ledger.ndjson')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const NEVER = new AbortController().signal

async function* pieces(...texts: readonly (string | Error)[]): AsyncGenerator<string> {
  for (const text of texts) {
    if (text instanceof Error) throw text
    yield await Promise.resolve(text)
  }
}

test('a file is replaced once the new one is whole, and keeps its permissions', async () => {
  await writeNewFile(path, pieces('one\n', 'two\n'), NEVER)
  assert.equal(readFileSync(path, 'utf8'), 'one\ntwo\n')
  chmodSync(path, 0o600)
  await writeNewFile(path, pieces('three\n'), NEVER)
  assert.equal(readFileSync(path, 'utf8'), 'three\n')
  assert.equal(statSync(path).mode & 0o777, 0o600)
  assert.deepEqual(readdirSync(folder), ['ledger.ndjson'])
})

test('one that cannot be finished, or is told to stop, leaves what was there before and nothing else', async () => {
  writeFileSync(path, 'before\n')
  await assert.rejects(writeNewFile(path, pieces(new Error('nobody answers')), NEVER), { message: 'nobody answers' })
  await assert.rejects(writeNewFile(path, pieces('half', new Error('and then')), NEVER), { message: 'and then' })
  const stopping = new AbortController()
  const endless = (async function* () {
    for (;;) {
      yield await Promise.resolve('more\n')
      stopping.abort()
    }
  })()
  await assert.rejects(writeNewFile(path, endless, stopping.signal), { name: 'AbortError' })
  const waiting = new AbortController()
  const silent = (async function* () {
    yield 'one\n'
    setTimeout(() => waiting.abort(), 20)
    await new Promise(() => undefined)
  })()
  await assert.rejects(writeNewFile(path, silent, waiting.signal), { name: 'AbortError' })
  assert.equal(readFileSync(path, 'utf8'), 'before\n')
  assert.deepEqual(readdirSync(folder), ['ledger.ndjson'])
})

test('a link goes on pointing to its file, and a pipe on being one', async () => {
  const link = join(folder, 'link')
  writeFileSync(path, 'before\n')
  symlinkSync('ledger.ndjson', link)
  await writeNewFile(link, pieces('after\n'), NEVER)
  assert.ok(lstatSync(link).isSymbolicLink())
  assert.equal(readFileSync(path, 'utf8'), 'after\n')
  const pipe = join(folder, 'pipe')
  assert.equal(spawnSync('mkfifo', [pipe]).status, 0)
  const [read] = await Promise.all([readFile(pipe, 'utf8'), writeNewFile(pipe, pieces('to whoever reads\n'), NEVER)])
  assert.equal(read, 'to whoever reads\n')
  assert.ok(lstatSync(pipe).isFIFO())
})
