/** A summary whose provider is gone when the turn is over: it costs nothing, and is made when the provider is there again. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { after, before, test } from 'node:test'
import { buffer } from 'node:stream/consumers'
import { formatUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { onFreePorts } from '../support/free-ports.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { settled, startTalk } from '../support/talk.ts'

const SUMMARIZER = 'gpt-4o-mini'
const HOST = '127.0.0.1'
const ANSWER_TOKENS = 120
/** About 90 tokens. */
const QUESTION = 'The lamp turns, the keeper climbs the stairs and writes the weather down. '.repeat(6)
const MESSAGES_MAX = 40

let provider: Provider
let sidecar: Sidecar
let port: number
/** The way to the provider is closed once a call has come in by it. */
let closes = true
const way = createServer((incoming, outgoing) => {
  if (closes) way.close()
  void (async () => {
    const headers = { 'content-type': 'application/json', authorization: 'Bearer test', 'x-fake-output-tokens': String(ANSWER_TOKENS) }
    const answer = await fetch(`${provider.url}${incoming.url}`, { method: 'POST', headers, body: await buffer(incoming) })
    outgoing.writeHead(answer.status, { 'content-type': 'application/json', connection: 'close' }).end(await answer.text())
  })()
})
before(async () => {
  provider = await startProvider()
  port = await onFreePorts(1, async ([free = 0]) => {
    await listen(free)
    return free
  })
  const contract = makeContract({
    context: { windowTokens: 1_200, overflow: 'Summarize', keepRecentTurns: 2, summarizeAfterPercent: 60 },
    models: { allow: [], downgrades: [], summarizer: SUMMARIZER },
  })
  sidecar = await startSidecar(makeConfig(`http://${HOST}:${port}/v1`, [contract]))
})
after(async () => {
  await sidecar.close()
  way.close()
  await provider.close()
})

async function listen(at: number): Promise<void> {
  way.listen(at, HOST)
  await once(way, 'listening')
}

async function opened(): Promise<void> {
  if (!way.listening) await listen(port)
}

async function summaries(outcome: string): Promise<number> {
  const series = `farebox_summaries_total{tier="pro",outcome="${outcome}"} `
  const line = (await sidecar.metrics()).split('\n').find((each) => each.startsWith(series))
  return Number(line?.slice(series.length) ?? 0)
}

test('a summary whose provider cannot be reached costs nothing, and is tried again', async () => {
  const talk = settled(sidecar, startTalk(sidecar, { 'x-farebox-conversation': 'unreached' }, { max_tokens: ANSWER_TOKENS }))
  const sayUntil = async (outcome: string): Promise<void> => {
    while ((await summaries(outcome)) === 0) {
      assert.ok(talk.messages.length < MESSAGES_MAX, `no summary was ${outcome}`)
      await opened()
      assert.equal((await talk.say(QUESTION)).status, 200)
    }
  }
  const billed = (model: string): bigint =>
    provider.bill
      .lines()
      .filter((line) => line.model === model)
      .reduce((sum, { nanoUsd }) => sum + nanoUsd, 0n)

  await sayUntil('failed')
  const unreached = await sidecar.standing('unreached')
  assert.deepEqual([unreached.held, unreached.drivers['summaries']], ['0.00', '0.00'])
  assert.equal(unreached.spent, formatUsd(provider.bill.totalNanoUsd()))
  assert.equal(billed(SUMMARIZER), 0n)

  closes = false
  await sayUntil('made')
  const { spent, drivers } = await sidecar.standing('unreached')
  assert.ok(billed(SUMMARIZER) > 0n)
  assert.equal(drivers['summaries'], formatUsd(billed(SUMMARIZER)))
  assert.equal(spent, formatUsd(provider.bill.totalNanoUsd()))
})
