/** A pod that is deleted while its sidecar starts: nothing is under way, and nobody waits. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { SIDECAR_MAIN } from '../support/programs.ts'

test('a sidecar that looks for its store ends at once when it is told to, as one that serves does', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-early-'))
  // It takes calls and answers none.
  const store = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1')
  await once(store, 'listening')
  const sidecar = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', SIDECAR_MAIN], {
    env: {
      FAREBOX_CONFIG: join(folder, 'config.json'),
      FAREBOX_DATA: folder,
      FAREBOX_STORE: `redis://127.0.0.1:${(store.address() as AddressInfo).port}`,
      FAREBOX_LOG_LEVEL: 'silent',
    },
    stdio: 'ignore',
  })
  try {
    await once(store, 'connection')
    const ended = once(sidecar, 'exit')
    sidecar.kill('SIGTERM')
    assert.deepEqual(await ended, [0, null])
  } finally {
    sidecar.kill('SIGKILL')
    store.close()
    rmSync(folder, { recursive: true, force: true })
  }
})
