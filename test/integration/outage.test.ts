/** The shared store goes away while calls are out: frozen, killed, and back again. The provider's bill is the judge. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { MODEL } from '../support/burst.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const CALLS = 8
/** Longer than a step waits for its answer, several times. */
const AWAY_MS = 2_000

const program = redisProgram()

describe('a store that goes away while calls are out', { skip: program === null ? 'there is no redis-server' : false }, () => {
  let provider: Provider
  let redis: TestServer
  let sidecar: Sidecar
  before(async () => {
    provider = await startProvider()
    redis = await startRedis(program ?? '')
    sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [makeContract({ caps: { perConversation: '1.00' } })]), {
      environment: { FAREBOX_STORE: redis.url },
    })
  })
  after(async () => {
    await sidecar.close()
    await redis.stop()
    await provider.close()
  })

  test('frozen: calls under way are answered whole, new ones are refused as such, and afterwards the books are the bill', async () => {
    const out = Array.from({ length: CALLS }, (_, call) =>
      ask(`frozen-${call}`, { 'x-fake-delay-ms': '400', 'x-fake-output-tokens': '40' }),
    )
    await sleep(200)
    redis.process.kill('SIGSTOP')
    const answers = await Promise.all(out)
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]))
    for (const { text } of answers) assert.equal((JSON.parse(text) as { usage: { completion_tokens: number } }).usage.completion_tokens, 40)
    const refused = await ask('newcomer', {})
    assert.equal(refused.status, 503)
    assert.match(refused.text, /budget_store_unavailable/)
    assert.equal(refused.retryAfter, '2')
    await sleep(AWAY_MS)
    redis.process.kill('SIGCONT')
    await settledAs(Array.from({ length: CALLS }, (_, call) => `frozen-${call}`))
    const again = await ask('newcomer', {})
    assert.equal(again.status, 200, again.text)
    await settledAs(['newcomer'])
    assert.equal((await sidecar.standing('newcomer')).held, '0.00', 'the hold whose answer was lost is given back')
  })

  /** Until each of them has nothing held; then all that was spent is what was billed. */
  async function settledAs(conversations: readonly string[]): Promise<void> {
    const end = performance.now() + 15_000
    for (const id of conversations) {
      while ((await sidecar.standing(id)).held !== '0.00' || (await sidecar.standing(id)).turns === 0) {
        assert.ok(performance.now() < end, `${id} is still held`)
        await sleep(50)
      }
    }
    await provider.settled()
    const list = (await sidecar.getJson('/farebox/v1/conversations?limit=1000')) as { conversations: { spent: string }[] }
    const spent = list.conversations.reduce((sum, conversation) => sum + parseUsd(conversation.spent), 0n)
    assert.equal(formatUsd(spent), formatUsd(provider.bill.totalNanoUsd()))
  }

  async function ask(
    conversation: string,
    headers: Record<string, string>,
  ): Promise<{ status: number; text: string; retryAfter: string | null }> {
    const answer = await fetch(`${sidecar.url}/openai/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer test', 'x-farebox-conversation': conversation, ...headers },
      body: JSON.stringify({ model: MODEL, max_tokens: 100, messages: [{ role: 'user', content: 'Hello.' }] }),
    })
    return { status: answer.status, text: await answer.text(), retryAfter: answer.headers.get('retry-after') }
  }
})
