/** What sidecars that open one store have in common. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { Redis } from 'ioredis'
import { redisProgram, startRedis } from '../../../test/support/redis.ts'
import type { TestServer } from '../../../test/support/redis.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { openStore } from './open-store.ts'
import type { OpenStore } from './open-store.ts'
import { tagPrefix } from './redis/keys.ts'
import { reserveStep, settleStep } from './steps.testing.ts'

const AHEAD_MS = 300_000
const program = redisProgram()

if (program !== null) {
  let server: TestServer
  let parent: string
  let opened: OpenStore[]
  beforeEach(async () => {
    server = await startRedis(program)
    parent = mkdtempSync(join(tmpdir(), 'farebox-open-'))
    opened = []
  })
  afterEach(async () => {
    for (const store of opened) await store.close()
    await server.stop()
    rmSync(parent, { recursive: true, force: true })
  })

  const open = async (
    name: string,
    {
      namespace = 'one',
      identityKey = null,
      onTrouble = (error) => assert.fail(error),
    }: { readonly namespace?: string; readonly identityKey?: Buffer | null; readonly onTrouble?: (error: Error) => void } = {},
  ): Promise<OpenStore> => {
    const settings = {
      dataDir: join(parent, name),
      storeUrl: server.url,
      storeFile: null,
      storeCaFile: null,
      identityKey,
      namespace,
      ledgerLifeMs: undefined,
    }
    const store = await openStore(settings, {
      allowancePercent: () => 100,
      holdLifeMs: 90_000,
      onChange: () => undefined,
      onTrouble,
    })
    opened.push(store)
    return store
  }
  const closeAll = async (): Promise<void> => {
    for (const store of opened.splice(0)) await store.close()
  }

  test('all go by one time, whoever was there when the clock of the server was set back', async () => {
    const admin = new Redis(server.url)
    const isNear = (actualMs: number, expectedMs: number): void =>
      assert.ok(Math.abs(actualMs - expectedMs) < 30_000, `${actualMs} is not about ${expectedMs}`)
    try {
      const first = await open('first')
      isNear(first.nowMs(), Date.now())
      // What was there before the clock was set back has shown this.
      await admin.hset(`${tagPrefix('one', 0)}meta`, 'clock', Date.now() + AHEAD_MS)
      const later = await open('later')
      isNear(later.nowMs(), Date.now() + AHEAD_MS)
      await first.store.read({ conversation: 'A', accounts: [], nowMs: first.nowMs() })
      isNear(first.nowMs(), later.nowMs())
      // As docs/store.md says it is put right by hand.
      await closeAll()
      await admin.hdel(`${tagPrefix('one', 0)}meta`, 'clock')
      isNear((await open('last')).nowMs(), Date.now())
    } finally {
      admin.disconnect()
    }
  })

  /** Books of namespace `one` lack a step, which waits in the folder that this returns. */
  async function leaveStep(identityKey: Buffer | null = null): Promise<string> {
    const first = await open('data', { identityKey })
    process.kill(server.process.pid ?? assert.fail(), 'SIGSTOP')
    await first.store.read({ conversation: 'A', accounts: [], nowMs: first.nowMs() }).catch(() => undefined)
    await waitFor('the store is away', () => first.standing().state === 'Away')
    await first.store.reserve(reserveStep('lone', first.nowMs(), { atLeast: 50n, atMost: 50n }))
    await first.store.settle(settleStep('lone', first.nowMs(), 40n))
    await closeAll()
    process.kill(server.process.pid ?? assert.fail(), 'SIGCONT')
    return join(parent, 'data')
  }
  const spent = async ({ store, nowMs }: OpenStore): Promise<bigint> =>
    (await store.read({ conversation: 'A', accounts: ['c:A:1'], nowMs: nowMs() })).accounts.get('c:A:1')?.spent ?? 0n

  test('what a namespace could not tell its store is told by its own next run, not by that of another on the same folder', async () => {
    await leaveStep()
    const other = await open('data', { namespace: 'two' })
    assert.equal(other.standing().unsent, 0)
    assert.equal(await spent(other), 0n)
    await closeAll()
    const again = await open('data')
    await waitFor('its steps are told', async () => (await spent(again)) === 40n)
  })

  for (const [what, identityKey] of [
    ['that kept its key here', null],
    ['whose key was given to it', Buffer.alloc(32, 7)],
  ] as const)
    test(`what a version left that kept the steps of all namespaces together is told, of a sidecar ${what}`, async () => {
      const data = await leaveStep(identityKey)
      // As it is where this version was here before.
      const own = readdirSync(data).find((file) => file.startsWith('outage-')) ?? assert.fail()
      renameSync(join(data, own), join(data, 'outage'))
      mkdirSync(join(data, own))
      const again = await open('data', { identityKey })
      await waitFor('its steps are told', async () => (await spent(again)) === 40n)
    })

  test('where nobody can tell whose they are, they stay, and the log says so', async () => {
    const data = await leaveStep()
    const own = readdirSync(data).find((file) => file.startsWith('outage-')) ?? assert.fail()
    renameSync(join(data, own), join(data, 'outage'))
    writeFileSync(join(data, 'identity-of-another.key'), '')
    const told: string[] = []
    assert.equal(await spent(await open('data', { onTrouble: ({ message }) => told.push(message) })), 0n)
    assert.match(told[0] ?? '', /^the steps in .*outage are not told to the store: runs for several namespaces/)
    assert.notDeepEqual(readdirSync(join(data, 'outage')), [])
  })
}
