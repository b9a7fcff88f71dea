import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { Redis } from 'ioredis'
import { waitFor } from '../../../../test/support/wait-for.ts'
import { storeContract } from '../store.contract.ts'
import type { BudgetStore } from '../store.ts'
import { StoreClock } from '../store-clock.ts'
import { reserveStep, settleStep, START_MS } from '../steps.testing.ts'
import { openRedisStore } from './redis.ts'
import type { Schedules } from './schedules-thread.testing.ts'
import { startCluster } from '../../../../test/support/redis-cluster.ts'
import type { TestCluster } from '../../../../test/support/redis-cluster.ts'
import { redisProgram, startRedis } from '../../../../test/support/redis.ts'
import type { TestServer } from '../../../../test/support/redis.ts'
import { schedulesToPlay, SEED } from '../../../../test/support/seed.ts'

/** A machine that runs other tests beside these may be slow to answer. */
const ANSWER_MS_MAX = 5_000
const SCHEDULES = schedulesToPlay(10_000)

const program = redisProgram()

let namespaces = 0
/** An empty store: a namespace that nobody has used. */
function openEmpty(url: string, tags: number, nowMs: () => number, ledgerLifeMs?: number): Promise<BudgetStore> {
  return openRedisStore({ url, namespace: `n${++namespaces}`, nowMs, answerMsMax: ANSWER_MS_MAX, tags, ledgerLifeMs })
}

if (program !== null) {
  describe('on a Redis server', () => {
    let server: TestServer
    before(async () => {
      server = await startRedis(program)
    })
    after(() => server.stop())

    storeContract('the Redis engine', (...options) => openEmpty(server.url, 1, ...options))

    it('reserves in one round trip, and settles in one', async () => {
      const store = await openEmpty(server.url, 1, () => START_MS)
      const admin = new Redis(server.url)
      const watching = await admin.monitor()
      const asked: string[] = []
      watching.on('monitor', (_time: string, [command = '']: string[], source: string) => {
        if (source !== 'lua') asked.push(command.toLowerCase())
      })
      /** All that the server was asked meanwhile, but for what its scripts asked. */
      const askedIn = async (work: () => Promise<unknown>): Promise<readonly string[]> => {
        asked.length = 0
        await work()
        await admin.echo('over')
        await waitFor('the end', () => asked.includes('echo'), { everyMs: 5 })
        return asked.filter((command) => command !== 'echo')
      }
      const reserve = (id: string) => () => store.reserve(reserveStep(id, START_MS, { atLeast: 1n, atMost: 1n }))
      const settle = (id: string) => () => store.settle(settleStep(id, START_MS, 1n))
      try {
        for (const step of [reserve('o1'), settle('o1')]) await askedIn(step) // the server has no script before
        assert.deepEqual(await askedIn(reserve('o2')), ['evalsha'])
        assert.deepEqual(await askedIn(settle('o2')), ['evalsha'])
      } finally {
        watching.disconnect()
        admin.disconnect()
        await store.close()
      }
    })

    it('expires no hold for a jump of the server that another sidecar saw first, and goes on where its clock stands still', async () => {
      const open = async () => {
        const clock = { wallMs: START_MS, paceMs: 0 }
        const { url } = server
        const nowMs = (): number => clock.wallMs
        const clocks = { nowMs, clock: new StoreClock(nowMs, 0, () => clock.paceMs) }
        return { clock, store: await openRedisStore({ url, namespace: 'jumps', ...clocks, answerMsMax: ANSWER_MS_MAX }) }
      }
      const [one, other] = [await open(), await open()]
      try {
        const swept = async () => (await one.store.sweep({ nowMs: one.clock.wallMs, limit: 9 })).expired.map(({ id }) => id)
        await one.store.reserve(reserveStep('o1', START_MS, { atLeast: 1n, atMost: 1n }))
        other.clock.wallMs += 60_000
        await other.store.read({ conversation: 'A', accounts: [], nowMs: other.clock.wallMs })
        assert.deepEqual(await swept(), [])
        one.clock.wallMs += 60_000
        assert.deepEqual(await swept(), [])
        one.clock.paceMs += 30_000
        assert.deepEqual(await swept(), ['o1'])
      } finally {
        await Promise.all([one.store.close(), other.store.close()])
      }
    })

    it(`has the same books as the model after each of ${SCHEDULES} random schedules`, () =>
      new Promise<void>((resolve, reject) => {
        const workerData: Schedules = { url: server.url, answerMsMax: ANSWER_MS_MAX, first: SEED, count: SCHEDULES }
        const thread = new Worker(new URL('schedules-thread.testing.ts', import.meta.url), { workerData })
        thread.once('error', reject)
        thread.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`the thread ended with ${code}`))))
      }))
  })

  describe('on a cluster of three', () => {
    let cluster: TestCluster
    before(async () => {
      cluster = await startCluster(program)
    })
    after(() => cluster.stop())

    storeContract('the Redis engine, in one tag,', (...options) => openEmpty(cluster.url, 1, ...options))
    storeContract('the Redis engine, spread over tags,', (...options) => openEmpty(cluster.url, 7, ...options), { atOnce: false })
  })
}
