import assert from 'node:assert/strict'
import fs, { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeConfig, makeContract } from '../support/make.ts'
import { waitFor } from '../support/wait-for.ts'
import { ConfigFile, readConfig } from '@farebox/sidecar/config/watch.ts'

const CONFIG = makeConfig('http://127.0.0.1:1/v1')
const CONTRACT = makeContract()
const textOf = (version: number): string => JSON.stringify({ ...CONFIG, version })

describe('a config', () => {
  const wrong: Readonly<Record<string, readonly [text: string, reason: RegExp]>> = {
    'that is not JSON': ['{', /^not JSON: /],
    'with an unknown value': [JSON.stringify({ ...CONFIG, mode: 'Later', later: 1 }), /^mode: /],
    'of a schema that an older sidecar could misread': [JSON.stringify({ ...CONFIG, schemaVersion: 2 }), /^schemaVersion: /],
    'with an unknown rung': [
      JSON.stringify({ ...CONFIG, contracts: { pro: { ...CONTRACT, ladder: [{ atPercent: 50, rung: 'Later', later: 1 }] } } }),
      /^contracts\.pro\.ladder\.0\.rung: /,
    ],
    'without its contracts': [JSON.stringify({ ...CONFIG, contracts: {} }), /^contracts\.pro: must be there/],
    'whose default is not allowed': [
      JSON.stringify({ ...CONFIG, tiers: { ...CONFIG.tiers, default: 'gold' } }),
      /^tiers\.default: must be one of tiers\.allowed/,
    ],
  }
  for (const [name, [text, reason]] of Object.entries(wrong)) {
    test(`${name} is refused with the field`, () => {
      const reading = readConfig(text)
      assert.ok(reading.status === 'invalid')
      assert.match(reading.reason, reason)
    })
  }
})

describe('the mounted file', () => {
  let folder: string
  let events: string[]
  let file: ConfigFile | null
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'farebox-config-'))
    events = []
    file = null
  })
  afterEach(() => {
    file?.stop()
    rmSync(folder, { recursive: true })
  })
  const follow = async (path: string): Promise<void> => {
    file = new ConfigFile(path, {
      accepted: ({ config }) => events.push(`accepted ${config.version}`),
      rejected: ({ reason }) => events.push(`rejected ${reason.slice(0, 20)}`),
      unwatched: (reason) => events.push(`unwatched ${reason}`),
    })
    await file.start()
  }
  const told = (count: number): Promise<unknown> => waitFor(`event ${count}`, () => events[count - 1], { everyMs: 10 })
  const put = (name: string, text: string): void => {
    writeFileSync(join(folder, `${name}.new`), text)
    renameSync(join(folder, `${name}.new`), join(folder, name))
  }

  test('is waited for, then told once for each content, an older version not at all', async () => {
    await follow(join(folder, 'config.json'))
    put('config.json', textOf(5))
    await told(1)
    put('config.json', textOf(4))
    put('other.json', 'x')
    put('config.json', textOf(6))
    await told(2)
    assert.deepEqual(events, ['accepted 5', 'accepted 6'])
  })

  for (const code of ['EMFILE', 'ENOSPC']) {
    test(`is followed all the same where the machine has no watch left to give (${code})`, async (context) => {
      context.mock.method(fs, 'watch', () => {
        throw Object.assign(new Error(`${code}: no watch left`), { code })
      })
      syncBuiltinESMExports()
      try {
        put('config.json', textOf(1))
        await follow(join(folder, 'config.json'))
        put('config.json', textOf(2))
        await told(3)
        assert.deepEqual(events, ['accepted 1', `unwatched ${code}: no watch left`, 'accepted 2'])
      } finally {
        context.mock.restoreAll()
        syncBuiltinESMExports()
      }
    })
  }

  test('that went bad is told once, and the next good one is taken', async () => {
    put('config.json', textOf(1))
    await follow(join(folder, 'config.json'))
    put('config.json', '{')
    await told(2)
    rmSync(join(folder, 'config.json'))
    mkdirSync(join(folder, 'config.json'))
    await told(3)
    await sleep(1_200) // more than one look
    rmSync(join(folder, 'config.json'), { recursive: true })
    put('config.json', textOf(2))
    await told(4)
    assert.deepEqual(
      events.map((event) => event.split(' ')[0]),
      ['accepted', 'rejected', 'rejected', 'accepted'],
    )
  })

  test('changes when the folder behind its symlink is swapped, as the kubelet does', async () => {
    for (const version of [1, 2]) {
      mkdirSync(join(folder, `..v${version}`))
      writeFileSync(join(folder, `..v${version}`, 'config.json'), textOf(version))
    }
    symlinkSync('..v1', join(folder, '..data'))
    symlinkSync(join('..data', 'config.json'), join(folder, 'config.json'))
    await follow(join(folder, 'config.json'))
    symlinkSync('..v2', join(folder, '..data_tmp'))
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'))
    await told(2)
    assert.deepEqual(events, ['accepted 1', 'accepted 2'])
  })
})
