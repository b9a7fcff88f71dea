/** Summaries of a conversation that several sidecars serve: one at a time among all of them, and billed once. */
import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk, talking } from '../support/talk.ts'
import type { Talk } from '../support/talk.ts'
import { waitFor } from '../support/wait-for.ts'

const SUMMARIZER = 'gpt-4o-mini'
/** The fake provider has no such model. */
const NOBODY = 'gpt-3.5-turbo'
const QUESTION = 'The lamp turns, the keeper climbs the stairs and writes the weather down. '.repeat(6)
const SOON = { everyMs: 10 }
/** Longer than it takes from an answer to the call for a summary. */
const BEGINS_WITHIN_MS = 60
/** A summary is due long before. */
const TURNS_MAX = 20
const program = redisProgram()

function tier(name: string, summarizer: string): ReturnType<typeof makeContract> {
  const context = { windowTokens: 2_000, overflow: 'Summarize', summarizeAfterPercent: 30, keepRecentTurns: 1 } as const
  return makeContract({ tier: name, caps: { perConversation: '5.00' }, context, models: { allow: [], downgrades: [], summarizer } })
}

describe('sidecars on one Redis', { skip: program === null ? 'there is no redis-server' : false }, () => {
  let redis: TestServer
  let provider: Provider
  let sidecars: readonly Sidecar[] = []
  let asked = 0
  /** Until it resolves, summaries are not answered. */
  let gate = Promise.withResolvers<undefined>()
  before(async () => {
    redis = await startRedis(program ?? '')
    provider = await startProvider({
      onRequest: async ({ body }) => {
        if (!body.includes('Summarise the transcript')) return
        asked += 1
        await gate.promise
      },
    })
    const config = makeConfig(`${provider.url}/v1`, [tier('served', SUMMARIZER), tier('unserved', NOBODY)])
    const environment = { FAREBOX_STORE: redis.url, FAREBOX_NAMESPACE: 'summaries' }
    sidecars = await Promise.all([1, 2].map(() => startSidecar(config, { environment })))
  })
  after(async () => {
    gate.resolve(undefined)
    await Promise.all(sidecars.map((sidecar) => sidecar.close()))
    await provider.close()
    await redis.stop()
  })
  beforeEach(() => {
    asked = 0
    gate = Promise.withResolvers()
    provider.bill.clear()
  })
  afterEach(() => gate.resolve(undefined))

  /** Of a talk whose turns go to one sidecar after the other: says the next. */
  function sharedTalk(id: string, tierName: string): () => Promise<void> {
    const headers = talking(id, tierName, { 'x-fake-output-tokens': '150' })
    const talks: readonly Talk[] = sidecars.map((sidecar) => startTalk(sidecar, headers))
    let history: Talk['messages'] = []
    let turns = 0
    return async () => {
      const talk = talks[turns++ % talks.length]
      assert.ok(talk !== undefined)
      talk.messages.splice(0, talk.messages.length, ...history)
      assert.equal((await talk.say(`Question ${turns}. ${QUESTION}`)).code, null)
      history = [...talk.messages]
      await sleep(BEGINS_WITHIN_MS)
    }
  }

  async function untilAsked(say: () => Promise<void>, times: number): Promise<void> {
    for (let turn = 0; turn < TURNS_MAX; turn += 1) {
      if (asked >= times) break
      await say()
    }
    assert.equal(asked, times)
  }

  async function summaries(outcome: string): Promise<number> {
    const texts = await Promise.all(sidecars.map((sidecar) => sidecar.metrics()))
    const counts = texts.map((text) => new RegExp(`^farebox_summaries_total\\{[^}]*outcome="${outcome}"\\} (\\d+)$`, 'm').exec(text)?.[1])
    return counts.reduce((sum, count) => sum + Number(count ?? 0), 0)
  }

  test('make one summary, while whoever serves the turns meanwhile leaves it to the one that is at it', async () => {
    const say = sharedTalk('once', 'served')
    await untilAsked(say, 1)
    const left = await summaries('elsewhere')
    for (let turn = 0; turn < 4; turn += 1) await say()
    await waitFor('the other one to have looked', async () => (await summaries('elsewhere')) > left, SOON)
    assert.equal(asked, 1)
    gate.resolve(undefined)
    await waitFor('the summary', async () => (await summaries('made')) === 1, SOON)
    await Promise.all(sidecars.map((sidecar) => sidecar.idle()))
    await provider.settled()
    const [standing] = await Promise.all(sidecars.map((sidecar) => sidecar.standing('once')))
    assert.ok(standing !== undefined)
    const ofSummaries = provider.bill.lines().filter(({ model }) => model === SUMMARIZER)
    assert.equal(ofSummaries.length, 1)
    assert.equal(standing.drivers['summaries'], formatUsd(ofSummaries[0]?.nanoUsd ?? 0n))
    assert.equal(standing.spent, formatUsd(provider.bill.totalNanoUsd()))
    assert.equal(standing.held, '0.00')

    // What was made makes room for the next, by whichever of them.
    await untilAsked(say, 2)
    await waitFor('the next summary', async () => (await summaries('made')) === 2, SOON)
  })

  test('one that failed keeps nobody else from trying', async () => {
    gate.resolve(undefined)
    const say = sharedTalk('failed', 'unserved')
    for (let turn = 0; turn < 6; turn += 1) await say()
    await waitFor(
      'both to have tried',
      async () => {
        const texts = await Promise.all(sidecars.map((sidecar) => sidecar.metrics()))
        return texts.every((text) => text.includes('outcome="refused"'))
      },
      SOON,
    )
  })
})
