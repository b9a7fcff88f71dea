import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { SidecarProcess } from './sidecar-process.ts'
import type { SidecarProcessOptions } from './sidecar-process.ts'

test('the sidecar is told where the keys of claims are, or of none', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-sidecar-process-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const main = join(folder, 'says-what-it-was-told.cjs')
  writeFileSync(main, "process.stderr.write(process.env.FAREBOX_CLAIM_KEYS ?? 'no keys'); process.exitCode = 1\n")
  const lastWords = (more: Partial<SidecarProcessOptions>): Promise<string> =>
    new SidecarProcess({
      configFile: join(folder, 'config.json'),
      dataDir: folder,
      logFile: join(folder, 'log'),
      listen: { host: '127.0.0.1', port: 1 },
      admin: { host: '127.0.0.1', port: 1 },
      program: { main, flags: [] },
      say: () => undefined,
      ...more,
    })
      .start()
      .then(
        () => 'it started',
        (error: unknown) => String(error),
      )
  assert.equal(await lastWords({ claimKeysDir: '/claim-keys' }), 'Error: the sidecar did not start: /claim-keys')
  assert.equal(await lastWords({}), 'Error: the sidecar did not start: no keys')
})
