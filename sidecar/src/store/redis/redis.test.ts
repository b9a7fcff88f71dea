import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import * as fc from 'fast-check'
import { ModelStore } from '../model.ts'
import { storeContract } from '../store.contract.ts'
import type { BudgetStore } from '../store.ts'
import { compareAll, mayBeAtOnce, played, stepArbitrary } from '../test-schedule.ts'
import type { RandomStep } from '../test-schedule.ts'
import { START_MS } from '../test-steps.ts'
import { StoreClock } from '../store-clock.ts'
import { Link } from './link.ts'
import { openRedisStore } from './redis.ts'
import { Tag } from './tag.ts'
import { startCluster } from '../../../../test/support/redis-cluster.ts'
import type { TestCluster } from '../../../../test/support/redis-cluster.ts'
import { redisProgram, startRedis } from '../../../../test/support/redis.ts'
import type { TestServer } from '../../../../test/support/redis.ts'

/** A machine that runs other tests beside these may be slow to answer. */
const ANSWER_MS_MAX = 5_000
const SCHEDULES = 10_000
const AT_ONCE = 16

const program = redisProgram()
const asked = process.env['FAREBOX_SEED']
const first = asked === undefined ? randomInt(2 ** 31 - SCHEDULES) : Number(asked)
/** `FAREBOX_SEED=n` plays the one schedule that a failure named. */
const count = asked === undefined ? SCHEDULES : 1

const schedules = fc.array(fc.array(stepArbitrary, { minLength: 1, maxLength: 5 }), { minLength: 4, maxLength: 12 })

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

    it(`has the same books as the model after each of ${count} random schedules`, async () => {
      const link = await Link.open({ url: server.url, answerMsMax: ANSWER_MS_MAX })
      try {
        await Promise.all(
          Array.from({ length: AT_ONCE }, async (_, lane) => {
            for (let seed = first + lane; seed < first + count; seed += AT_ONCE) {
              const clock = { ms: START_MS }
              const namespace = `n${++namespaces}`
              // What `openRedisStore` gives for one tag, without a connection of its own: those would take most of the time.
              const store = new Tag({ link, namespace, tag: 0, clock: new StoreClock(() => clock.ms), ticks: { seen: 0 } })
              const [batches = []] = fc.sample(schedules, { numRuns: 1, seed })
              try {
                await playBoth(batches, store, clock)
              } catch (error) {
                throw new Error(`${String(error)} (FAREBOX_SEED=${seed} plays it again)`, { cause: error })
              }
            }
          }),
        )
      } finally {
        await link.close()
      }
    })
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

/** The steps of a batch are asked for at the same time. */
async function playBoth(batches: readonly (readonly RandomStep[])[], store: BudgetStore, clock: { ms: number }): Promise<void> {
  const model = new ModelStore(() => clock.ms)
  for (const batch of batches) {
    const steps = batch.map((step) => played(step, model, clock.ms))
    const expected = steps.map((step) => step.onModel())
    const answers: unknown[] = []
    if (mayBeAtOnce(batch)) answers.push(...(await Promise.all(steps.map((step) => step.onStore(store)))))
    else for (const step of steps) answers.push(await step.onStore(store))
    assert.deepEqual(answers, expected)
    clock.ms += batch.length * 17_000 * (batch.some((step) => step.kind === 'clockBack') ? -1 : 1)
    // Both see where the wall clock went: a jump that nobody sees did not happen.
    const query = { conversation: 'A', accounts: ['u'], nowMs: clock.ms }
    assert.deepEqual(await store.read(query), model.read(query))
  }
  await compareAll(store, model, clock.ms)
}
