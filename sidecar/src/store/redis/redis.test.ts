import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import * as fc from 'fast-check'
import { ModelStore } from '../model.ts'
import { storeContract } from '../store.contract.ts'
import type { BudgetStore } from '../store.ts'
import { compareAll, played, stepArbitrary } from '../test-schedule.ts'
import type { RandomStep } from '../test-schedule.ts'
import { START_MS } from '../test-steps.ts'
import { openRedisStore } from './redis.ts'
import { startCluster } from '../../../../test/support/redis-cluster.ts'
import type { TestCluster } from '../../../../test/support/redis-cluster.ts'
import { redisProgram, startRedis } from '../../../../test/support/redis.ts'
import type { TestServer } from '../../../../test/support/redis.ts'

/** A machine that runs other tests beside these may be slow to answer. */
const ANSWER_MS_MAX = 5_000
const SCHEDULES = 2_000
const AT_ONCE = 8

const program = redisProgram()
const asked = process.env['FAREBOX_SEED']
const seed = asked === undefined ? randomInt(2 ** 31) : Number(asked)

let namespaces = 0
/** An empty store: a namespace that nobody has used. */
function openEmpty(url: string, nowMs: () => number, tags: number): Promise<BudgetStore> {
  return openRedisStore({ url, namespace: `n${++namespaces}`, nowMs, answerMsMax: ANSWER_MS_MAX, tags })
}

if (program !== null) {
  describe('on a Redis server', () => {
    let server: TestServer
    before(async () => {
      server = await startRedis(program)
    })
    after(() => server.stop())

    storeContract('the Redis engine', (nowMs) => openEmpty(server.url, nowMs, 1))

    it(`has the same books as the model after each of ${SCHEDULES} random schedules (FAREBOX_SEED=${seed} plays them again)`, async () => {
      const schedules = fc.sample(fc.array(fc.array(stepArbitrary, { minLength: 1, maxLength: 5 }), { minLength: 4, maxLength: 12 }), {
        numRuns: SCHEDULES,
        seed,
      })
      await Promise.all(
        Array.from({ length: AT_ONCE }, async (_, lane) => {
          for (let index = lane; index < schedules.length; index += AT_ONCE) {
            const clock = { ms: START_MS }
            const store = await openEmpty(server.url, () => clock.ms, 1)
            try {
              await playBoth(schedules[index] ?? [], store, clock)
            } catch (error) {
              throw new Error(`schedule ${index} of seed ${seed}`, { cause: error })
            } finally {
              await store.close()
            }
          }
        }),
      )
    })
  })

  describe('on a cluster of three', () => {
    let cluster: TestCluster
    before(async () => {
      cluster = await startCluster(program)
    })
    after(() => cluster.stop())

    storeContract('the Redis engine, in one tag,', (nowMs) => openEmpty(cluster.url, nowMs, 1))
    storeContract('the Redis engine, spread over tags,', (nowMs) => openEmpty(cluster.url, nowMs, 7), { atOnce: false })
  })
}

/** The steps of a batch are asked for at the same time. */
async function playBoth(batches: readonly (readonly RandomStep[])[], store: BudgetStore, clock: { ms: number }): Promise<void> {
  const model = new ModelStore(() => clock.ms)
  for (const batch of batches) {
    const steps = batch.map((step) => played(step, model, clock.ms))
    const expected = steps.map((step) => step.onModel())
    assert.deepEqual(await Promise.all(steps.map((step) => step.onStore(store))), expected)
    clock.ms += batch.length * 17_000 * (batch.some((step) => step.kind === 'clockBack') ? -1 : 1)
    // Both see where the wall clock went: a jump that nobody sees did not happen.
    const query = { conversation: 'A', accounts: ['u'], nowMs: clock.ms }
    assert.deepEqual(await store.read(query), model.read(query))
  }
  await compareAll(store, model, clock.ms)
}
