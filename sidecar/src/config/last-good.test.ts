import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { LastGood } from './last-good.ts'
import { readConfig } from './watch.ts'

test('a config of a later version is kept whole: the sidecar that starts with it may be of that version', (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-last-good-'))
  context.after(() => rmSync(folder, { recursive: true }))
  const later = { ...makeConfig('http://127.0.0.1:1/v1', [makeContract()]), fieldOfLater: { deep: true } }
  const reading = readConfig(JSON.stringify(later))
  assert.ok(reading.status === 'ok')
  const lastGood = new LastGood(folder)
  lastGood.write(reading.config)
  assert.deepEqual(JSON.parse(readFileSync(join(folder, 'config', 'last.json'), 'utf8')), later)
  assert.deepEqual(lastGood.read()?.config, later)
  assert.deepEqual(lastGood.read()?.later, ['fieldOfLater'])
})
