import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { lockData } from './data-lock.ts'

const MODULE = new URL('data-lock.ts', import.meta.url).href

test('a data folder is for one operator at a time', (t) => {
  const folder = folderFor(t)
  const first = lockData(folder)
  assert.ok(first)
  assert.equal(lockData(folder), null)
  first.release()
  first.release()
  const second = lockData(folder)
  assert.ok(second)
  second.release()
})

test('a folder that another process has is told, and is free as soon as that process is killed', async (t) => {
  const folder = folderFor(t)
  const code = `import { lockData } from ${JSON.stringify(MODULE)}; lockData(${JSON.stringify(folder)}); console.log('has it'); setInterval(() => {}, 1000)`
  const other = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(other, 'exit')
  t.after(() => other.kill('SIGKILL'))
  await once(other.stdout, 'data')
  assert.equal(lockData(folder), null)
  other.kill('SIGKILL')
  await ended
  const lock = lockData(folder)
  assert.ok(lock)
  lock.release()
})

test('a lock that may only be read, as one that root left, is had by nobody', (t) => {
  const folder = folderFor(t)
  const file = join(folder, 'run.lock')
  writeFileSync(file, '')
  chmodSync(file, 0o444)
  chmodSync(folder, 0o777)
  const NOBODY = 65534
  const isRoot = process.geteuid?.() === 0
  if (isRoot) process.seteuid?.(NOBODY)
  try {
    assert.throws(() => lockData(folder), { message: `${file} cannot be written to` })
  } finally {
    if (isRoot) process.seteuid?.(0)
  }
})

test('a lock takes no room: it is had on a full disk', (t) => {
  const folder = folderFor(t)
  const lock = lockData(folder)
  t.after(() => lock?.release())
  assert.deepEqual(readdirSync(folder), ['run.lock'])
  assert.equal(statSync(join(folder, 'run.lock')).size, 0)
})

function folderFor(t: { after(act: () => void): void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-data-lock-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
