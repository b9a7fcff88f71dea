/** What a sidecar writes to its log while the shared store is away: a line when that changes, and one for each call that is refused. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startProvider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import { startSidecar } from '../support/sidecar.ts'

const program = redisProgram()
const CALLS = 5
/** In the first two seconds the connection is tried a dozen times. */
const AWAY_MS = 2_500

test(
  'the log of an outage is a line for its beginning and one for each refused call, with the reason, and no error for any',
  { skip: program === null ? 'there is no redis-server' : false },
  async () => {
    const provider = await startProvider()
    const server = await startRedis(program ?? '')
    const onStoreFailure = { action: 'Deny', allowancePercent: 0 } as const
    const sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [makeContract()], { onStoreFailure }), {
      environment: { FAREBOX_STORE: server.url },
    })
    try {
      const before = sidecar.log().length
      await server.stop()
      for (let call = 0; call < CALLS; call++) {
        const client = sidecar.client({ 'x-farebox-conversation': `c${call}` })
        const asked = client.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'hi' }] })
        await assert.rejects(asked, { status: 503 })
      }
      await sleep(AWAY_MS)
      const lines = sidecar
        .log()
        .slice(before)
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>)
      const refused = lines.filter(({ msg }) => msg === 'refused')
      assert.equal(refused.length, CALLS)
      for (const { level, code, reason } of refused) {
        assert.deepEqual([level, code], [40, 'budget_store_unavailable'])
        assert.match(String(reason), /^the shared store is away: /)
      }
      const rest = lines
        .filter(({ msg }) => msg !== 'refused')
        .map(({ level, msg, reason, err }) => `${String(level)} ${String(msg)}: ${String(reason ?? err)}`)
      assert.equal(new Set(rest).size, rest.length, `each but once:\n${rest.join('\n')}`)
      assert.ok(rest.length <= 5, rest.join('\n'))
      assert.equal(rest.filter((line) => line.startsWith('50')).length, 1, rest.join('\n'))
    } finally {
      await sidecar.close()
      await server.stop()
      await provider.close()
    }
  },
)
