import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
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

function folderFor(t: { after(act: () => void): void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-data-lock-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
