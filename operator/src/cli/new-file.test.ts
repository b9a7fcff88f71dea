import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
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

const NOBODY = 65534
const IS_ROOT = process.geteuid?.() === 0

/** As a user to whom permissions apply. */
async function asUser(act: () => Promise<void>): Promise<void> {
  if (IS_ROOT) process.seteuid?.(NOBODY)
  try {
    await act()
  } finally {
    if (IS_ROOT) process.seteuid?.(0)
  }
}

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

test('a link to a file that is not there yet goes on being one', async () => {
  mkdirSync(join(folder, 'kept', 'deep'), { recursive: true })
  symlinkSync('kept/deep', join(folder, 'short'))
  symlinkSync('short/../ledger.ndjson', join(folder, 'second')) // of `kept`
  symlinkSync(join(folder, 'second'), path)
  await writeNewFile(path, pieces('one\n'), NEVER)
  assert.ok(lstatSync(path).isSymbolicLink())
  assert.ok(lstatSync(join(folder, 'second')).isSymbolicLink())
  assert.equal(readFileSync(join(folder, 'kept', 'ledger.ndjson'), 'utf8'), 'one\n')
  const loop = join(folder, 'loop')
  symlinkSync('loop', loop)
  await assert.rejects(writeNewFile(loop, pieces('one\n'), NEVER), { code: 'ELOOP' })
  assert.ok(lstatSync(loop).isSymbolicLink())
})

test('a file in a folder that takes no new one is written to as it is', async () => {
  writeFileSync(path, 'much before\n')
  chmodSync(path, 0o666)
  chmodSync(folder, 0o555)
  await asUser(() => writeNewFile(path, pieces('one\n', 'two\n'), NEVER))
  assert.equal(readFileSync(path, 'utf8'), 'one\ntwo\n')
  await assert.rejects(
    asUser(() => writeNewFile(join(folder, 'other'), pieces('one\n'), NEVER)),
    { code: 'EACCES', path: join(folder, 'other') },
  )
  chmodSync(folder, 0o755)
  assert.deepEqual(readdirSync(folder), ['ledger.ndjson'])
})

test("somebody else's file that may be written to and not replaced is written over", { skip: !IS_ROOT && 'takes root' }, async () => {
  writeFileSync(path, 'much before\n')
  chmodSync(path, 0o666)
  chmodSync(folder, 0o1777)
  await asUser(() => writeNewFile(path, pieces('one\n'), NEVER))
  assert.equal(readFileSync(path, 'utf8'), 'one\n')
  assert.equal(statSync(path).uid, 0)
  assert.deepEqual(readdirSync(folder), ['ledger.ndjson'])
})

const MOUNTS = spawnSync('unshare', ['-rm', 'true']).status === 0

test('so is a file that is a mount, once the new one is finished', { skip: !MOUNTS && 'takes mounts' }, () => {
  const mounted = join(folder, 'mounted')
  writeFileSync(path, 'much before\n')
  writeFileSync(mounted, '')
  const module = JSON.stringify(new URL('new-file.ts', import.meta.url).href)
  const code = `
    import { readFileSync } from 'node:fs'
    import { writeNewFile } from ${module}
    const [, path, broken] = process.argv
    const text = async function* () { yield 'one\\n'; if (broken) throw new Error(readFileSync(path, 'utf8')) }
    await writeNewFile(path, text(), new AbortController().signal).catch(({ message }) => console.log(message))`
  const write = (...more: string[]) => {
    const script = 'mount --bind "$0" "$1" && shift && exec "$@"'
    const node = [process.execPath, '--input-type=module', '--eval', code, mounted, ...more]
    return spawnSync('unshare', ['-rm', 'sh', '-c', script, path, mounted, ...node], { encoding: 'utf8' })
  }
  assert.equal(write('broken').stdout, 'much before\n\n')
  assert.equal(readFileSync(path, 'utf8'), 'much before\n')
  const { status, stderr } = write()
  assert.equal(status, 0, stderr)
  assert.equal(readFileSync(path, 'utf8'), 'one\n')
  assert.deepEqual(readdirSync(folder), ['ledger.ndjson', 'mounted'])
})
