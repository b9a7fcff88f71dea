/** The user that the operator makes for a namespace may do all that a sidecar's store does, and the store's contract says what that is. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { runtimeSecret, storeUser } from '@farebox/operator/core/runtime-secret.ts'
import { openRedisStore } from '@farebox/sidecar/store/redis/redis.ts'
import type { BudgetStore } from '@farebox/sidecar/store/store.ts'
import { storeContract } from '@farebox/sidecar/store/store.contract.ts'
import { Redis } from 'ioredis'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'

const ROOT_KEY = Buffer.alloc(32, 1)
/** A machine that runs other tests beside these may be slow to answer. */
const ANSWER_MS_MAX = 5_000

const program = redisProgram()
if (program !== null) {
  describe('as the user of its namespace', () => {
    let server: TestServer
    let admin: Redis
    before(async () => {
      server = await startRedis(program)
      admin = new Redis(server.url)
    })
    after(async () => {
      admin.disconnect()
      await server.stop()
    })
    let namespaces = 0

    const open = async (tags: number, nowMs: () => number, ledgerLifeMs?: number): Promise<BudgetStore> => {
      const namespace = `n${++namespaces}`
      const { name, rules } = storeUser(ROOT_KEY, namespace)
      assert.equal(await admin.call('ACL', 'SETUSER', name, ...rules), 'OK')
      const { store: url } = runtimeSecret(ROOT_KEY, namespace, server.url)
      return openRedisStore({ url, namespace, nowMs, answerMsMax: ANSWER_MS_MAX, tags, ledgerLifeMs })
    }
    storeContract('the Redis engine', (...options) => open(1, ...options))

    it('may add up what is spread over tags', async () => {
      const store = await open(4, Date.now)
      const days = { tier: 'pro', fromDay: '2026-11-01', toDay: '2026-11-24' }
      assert.equal((await store.readTotals(days)).users, 0)
      assert.deepEqual(await store.readLedger({ afterSequence: 0, limit: 10 }), [])
      assert.deepEqual(await store.listConversations({ limit: 10, nowMs: Date.now() }), [])
      await store.close()
    })

    it('was never refused a command', async () => {
      const refused = await admin.call('ACL', 'LOG')
      const commands = (Array.isArray(refused) ? refused : []).map((entry) => JSON.stringify(entry))
      assert.deepEqual(
        commands.filter((entry) => !entry.includes('client|setinfo')),
        [],
      )
    })
  })
}
