/** One namespace's script must not hold up a store that all share. With a real server. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StuckScripts } from '@farebox/operator/controllers/stuck-scripts.ts'
import { runtimeSecret, storeUser } from '@farebox/operator/core/runtime-secret.ts'
import { Redis } from 'ioredis'
import { waitFor } from '../support/wait-for.ts'
import { redisProgram, startRedis } from '../support/redis.ts'

const program = redisProgram()
const ROOT_KEY = Buffer.alloc(32, 1)

test(
  'a script that holds everybody up is ended, also one that was there before us; one that has written is told of',
  { skip: program === null ? 'redis-server is missing' : false },
  async (context) => {
    const server = await startRedis(program ?? '', ['--busy-reply-threshold', '500'])
    context.after(() => server.stop())
    const admin = new Redis(server.url)
    const { name, rules } = storeUser(ROOT_KEY, 'shop')
    await admin.call('ACL', 'SETUSER', name, ...rules)
    const tenant = new Redis(runtimeSecret(ROOT_KEY, 'shop', server.url).store, { retryStrategy: () => null })
    context.after(() => {
      admin.disconnect()
      tenant.disconnect()
    })
    tenant.on('error', () => undefined)
    const ended = tenant.eval('while true do end', 0).then(
      () => null,
      (error: unknown) => String(error),
    )
    await waitFor('the store to be held up', async () => /BUSY/.test(await admin.ping().catch(String)))
    const told: (string | null)[] = []
    const scripts = new StuckScripts({
      address: server.url,
      ca: null,
      adminPassword: '',
      onEnded: () => told.push(null),
      onUnending: ({ message }) => told.push(message),
    })
    context.after(() => scripts.close())
    assert.match((await ended) ?? '', /killed by user/i)
    await waitFor('what was told', () => told.length === 1)
    assert.equal(told[0], null)
    assert.equal(await admin.ping(), 'PONG')

    tenant.eval('redis.call("set", KEYS[1], "1") while true do end', 1, 'fb:shop:x').catch(() => undefined)
    await waitFor('what was told', () => told.length === 2)
    assert.match(told[1] ?? '', /^UNKILLABLE/)
  },
)
