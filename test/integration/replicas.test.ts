/** Sidecars that share one Redis honour one budget, against the provider's own bill. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { formatUsd } from '@farebox/crds/usd.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { assertUsed, BUDGET, burst, LADDER, MODEL, OUTPUT_MAX, startGatedProvider } from '../support/burst.ts'
import type { GatedProvider } from '../support/burst.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { ONLY_WAITS } from '../support/only-waits.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const CALLS = 200
const MONTH = { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } as const

const program = redisProgram()

describe('replicas on one Redis', { skip: program === null ? 'there is no redis-server' : false }, () => {
  let redis: TestServer
  let provider: GatedProvider
  before(async () => {
    redis = await startRedis(program ?? '')
    provider = await startGatedProvider()
  })
  after(async () => {
    await provider.close()
    await redis.stop()
  })

  for (const replicas of [2, 4, 8]) {
    describe(`${replicas} of them, ${CALLS} calls at once on a budget that covers about 20 holds`, () => {
      let sidecars: readonly Sidecar[] = []
      before(async () => {
        sidecars = await startReplicas(replicas, makeConfig(`${provider.url}/v1`))
      })
      after(() => closeAll(sidecars))

      for (const stream of [false, true]) {
        const how = stream ? 'streamed' : 'plain'
        // The sidecars go on with the next test: its conversations, users, tier and limits are its own.
        const adopt = async (
          test: string,
          caps: Parameters<typeof makeContract>[0] & object,
          parts: Parameters<typeof makeConfig>[2] = {},
        ): Promise<void> => {
          provider.bill.clear()
          const contract = makeContract({ tier: test, ladder: LADDER, ...caps })
          const config = makeConfig(`${provider.url}/v1`, [contract], { budget: test, ...parts })
          await Promise.all(sidecars.map((sidecar) => sidecar.adopt(config)))
        }
        const fire = (headersOf: (call: number) => Record<string, string>): ReturnType<typeof burst> =>
          burst(provider, sidecars, CALLS, headersOf, { stream, outputTokens: OUTPUT_MAX / 10 })

        test(`one conversation (${how})`, async () => {
          const id = `one-${how}`
          await adopt(id, { caps: { perConversation: BUDGET } })
          await assertUsed(provider, await fire(() => ({ 'x-farebox-conversation': id })))
          await allIdle(sidecars)
          const spent = await Promise.all(sidecars.map(async (sidecar) => (await sidecar.standing(id)).spent))
          assert.deepEqual(new Set(spent), new Set([formatUsd(provider.bill.totalNanoUsd())]), 'each tells the same, and it is the bill')
        })

        test(`200 conversations on one user's budget (${how})`, async () => {
          const user = `user-${how}`
          await adopt(user, { caps: { perConversation: BUDGET, perUser: { amount: BUDGET, period: MONTH } } })
          await assertUsed(provider, await fire((call) => ({ 'x-farebox-conversation': `${user}-${call}`, 'x-farebox-user': user })))
        })

        test(`200 users on one workload limit (${how})`, async () => {
          const workload = `workload-${how}`
          await adopt(workload, { caps: { perConversation: BUDGET } }, { limits: [{ amount: BUDGET, period: MONTH }] })
          await assertUsed(
            provider,
            await fire((call) => ({ 'x-farebox-conversation': `${workload}-${call}`, 'x-farebox-user': `${workload}-user-${call}` })),
          )
        })
      }
    })
  }

  test('a conversation that one replica began goes on at another: contract, rungs, notices and spending', async () => {
    const contract = makeContract({ caps: { perConversation: '0.05' } })
    await withReplicas(2, makeConfig(`${provider.url}/v1`, [contract]), async ([first, second]) => {
      assert.ok(first !== undefined && second !== undefined)
      const messages: { role: 'user' | 'assistant'; content: string }[] = []
      for (const [turn, sidecar] of [first, second, first, second].entries()) {
        messages.push({ role: 'user', content: `Question ${turn}.` })
        const answer = await sidecar
          .client({ 'x-farebox-conversation': 'shared', 'x-farebox-user': 'ann', 'x-fake-output-tokens': '50' })
          .chat.completions.create({ model: MODEL, max_tokens: 100, messages })
        messages.push({ role: 'assistant', content: answer.choices[0]?.message.content ?? '' })
      }
      await allIdle([first, second])
      const [one, other] = [await first.standing('shared'), await second.standing('shared')]
      assert.deepEqual(one, other)
      assert.equal(one.turns, 4)
      assert.equal(one.spent, formatUsd(provider.bill.totalNanoUsd()))
      const stranger = await fetch(`${second.url}/openai/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-farebox-conversation': 'shared', 'x-farebox-user': 'bob' },
        body: JSON.stringify({ model: MODEL, messages }),
      })
      assert.equal(stranger.status, 403)
      assert.match(await stranger.text(), /identity_rejected/)
    })
  })

  test("a sidecar whose clock is an hour ahead, or jumps, makes nobody's hold expire", { timeout: 60_000 }, async () => {
    const ahead = `data:text/javascript,${encodeURIComponent('const now = Date.now; Date.now = () => now() + 3_600_000')}`
    const config = makeConfig(`${provider.url}/v1`, [makeContract({ caps: { perConversation: '0.10' } })])
    await withReplicas(1, config, async ([right]) => {
      assert.ok(right !== undefined)
      const wrong = await startSidecar(config, { environment: { ...environmentOf(), NODE_OPTIONS: `--import=${ahead}` } })
      try {
        const ask = (sidecar: Sidecar, conversation: string, delayMs: number): Promise<Response> =>
          fetch(`${sidecar.url}/openai/v1/chat/completions`, {
            method: 'POST',
            headers: {
              authorization: 'Bearer test',
              'content-type': 'application/json',
              'x-farebox-conversation': conversation,
              'x-fake-delay-ms': String(delayMs),
            },
            body: JSON.stringify({ model: MODEL, max_tokens: 50, messages: [{ role: 'user', content: 'Hello.' }] }),
          })
        // Longer than it takes until the other one charges what it thinks has expired.
        const slow = ask(right, 'slow', 12_000)
        assert.equal((await ask(wrong, 'quick', 0)).status, 200)
        console.log(ONLY_WAITS)
        assert.equal((await slow).status, 200)
        await right.idle()
        const { entries } = (await right.getJson('/farebox/v1/ledger?limit=100')) as { entries: { kind: string }[] }
        assert.deepEqual(
          entries.map(({ kind }) => kind),
          ['settlement', 'settlement'],
        )
      } finally {
        await wrong.close()
      }
    })
  })

  let namespaces = 0
  const environmentOf = (): Record<string, string> => ({ FAREBOX_STORE: redis.url, FAREBOX_NAMESPACE: `test-${namespaces}` })
  async function withReplicas(count: number, config: SidecarConfig, use: (sidecars: readonly Sidecar[]) => Promise<void>): Promise<void> {
    provider.bill.clear()
    const sidecars = await startReplicas(count, config)
    try {
      await use(sidecars)
    } finally {
      await closeAll(sidecars)
    }
  }
  /** In a namespace, and so on books, of their own. */
  function startReplicas(count: number, config: SidecarConfig): Promise<readonly Sidecar[]> {
    namespaces += 1
    return Promise.all(Array.from({ length: count }, () => startSidecar(config, { environment: environmentOf() })))
  }
  /** Until all that was answered is in the books. */
  async function allIdle(sidecars: readonly Sidecar[]): Promise<void> {
    await Promise.all(sidecars.map((sidecar) => sidecar.idle()))
  }
  async function closeAll(sidecars: readonly Sidecar[]): Promise<void> {
    await Promise.all(sidecars.map((sidecar) => sidecar.close()))
  }
})
