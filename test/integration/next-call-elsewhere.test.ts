/**
 * Sidecars that share a store, one of them further from it than the other: who has read an answer to its end and goes on at once
 * through another sidecar is in the same conversation there, as the answer left it.
 */
import assert from 'node:assert/strict'
import { Agent, request } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startStoreProxy } from '../support/store-proxy.ts'
import type { StoreProxy } from '../support/store-proxy.ts'

/** Each way. Without waiting for it, the next call is at the other sidecar long before. */
const FAR_MS = 40
const CALLS = 6
const MODEL = 'gpt-4o'
/** After which readers of a stream stop reading. */
const LAST_EVENT = /data: \[DONE\]\n\n|event: response\.completed\n.*\n\n/
const NOTICE = 'A smaller model answers from here on.'
const program = redisProgram()

interface Answer {
  readonly conversation: string
  readonly text: string
}

describe('the next call of a conversation through another sidecar', { skip: program === null ? 'there is no redis-server' : false }, () => {
  let redis: TestServer
  let provider: Provider
  let onRequest = (): void => undefined
  let network: StoreProxy
  let sidecars: readonly Sidecar[] = []
  const agent = new Agent({ keepAlive: true })
  before(async () => {
    redis = await startRedis(program ?? '')
    provider = await startProvider({ onRequest: () => onRequest() })
    network = await startStoreProxy(2, redis.port)
    network.lanes[0]?.delay(FAR_MS)
    const contract = makeContract({
      caps: { perConversation: '0.50' },
      models: { allow: [], downgrades: [{ from: MODEL, to: 'gpt-4o-mini' }] },
      ladder: [
        { rung: 'DowngradeModel', atPercent: 1 },
        { rung: 'EndConversation', atPercent: 100, end: 'Close' },
      ],
      notices: { mode: 'Inline', texts: { DowngradeModel: { en: NOTICE } }, defaultLocale: 'en' },
    })
    const config = makeConfig(`${provider.url}/v1`, [contract])
    sidecars = await Promise.all(
      network.lanes.map(({ port }) => startSidecar(config, { environment: { FAREBOX_STORE: `redis://127.0.0.1:${port}` } })),
    )
  })
  after(async () => {
    agent.destroy()
    await Promise.all(sidecars.map((sidecar) => sidecar.close()))
    await network.close()
    await provider.close()
    await redis.stop()
  })

  /** Through one sidecar and the other in turns, each call as soon as the answer before it is there. */
  async function talk(call: (sidecar: Sidecar, turn: number) => Promise<Answer>, first = 0): Promise<readonly string[]> {
    const conversations: string[] = []
    for (let turn = 0; turn < CALLS; turn++) {
      const sidecar = sidecars[(first + turn) % sidecars.length]
      assert.ok(sidecar !== undefined)
      conversations.push((await call(sidecar, turn)).conversation)
    }
    return conversations
  }

  for (const stream of [false, true]) {
    const how = stream ? 'streamed' : 'plain'

    test(`is led there by the id of the answer (${how})`, async () => {
      let previous: string | undefined
      const conversations = await talk(async (sidecar, turn) => {
        const input = `Question ${turn} (${how}).`
        const answer = await post(agent, sidecar, 'responses', { model: MODEL, stream, input, previous_response_id: previous })
        previous = /"id":\s*"(resp_[^"]+)"/.exec(answer.text)?.[1]
        assert.ok(previous !== undefined, answer.text)
        return answer
      })
      assert.equal(new Set(conversations).size, 1, conversations.join(' '))
    })

    test(`is led there by its history (${how})`, async () => {
      const messages: object[] = []
      const conversations = await talk(async (sidecar, turn) => {
        messages.push({ role: 'user', content: `What of ${turn} (${how})?` })
        const answer = await post(agent, sidecar, 'chat/completions', { model: MODEL, stream, max_tokens: 40, messages })
        messages.push({ role: 'assistant', content: stream ? streamedText(answer.text) : plainText(answer.text) })
        return answer
      })
      assert.equal(new Set(conversations).size, 1, conversations.join(' '))
    })
  }

  test('a notice that the answer before it carried is not told again', async () => {
    const messages: object[] = []
    const texts: string[] = []
    const headers = { 'x-farebox-conversation': 'told-once', 'x-fake-output-tokens': '800' }
    const call = async (sidecar: Sidecar, turn: number): Promise<Answer> => {
      messages.push({ role: 'user', content: `What of ${turn}, and how did that come about?` })
      const answer = await post(agent, sidecar, 'chat/completions', { model: MODEL, stream: true, messages }, headers)
      texts.push(streamedText(answer.text))
      messages.push({ role: 'assistant', content: texts.at(-1) })
      return answer
    }
    await talk(call, 1) // the second answer tells it, of the sidecar that is far
    assert.deepEqual(
      texts.map((text) => text.includes(NOTICE)),
      [false, true, false, false, false, false],
    )
  })

  test('a reader is not kept by a store that is gone', async () => {
    const [far, near] = sidecars
    assert.ok(far !== undefined && near !== undefined)
    const reachedProvider = new Promise<void>((resolve) => (onRequest = resolve))
    const headers = { 'x-fake-delay-ms': '300', 'x-farebox-conversation': 'store-gone' }
    const asked = post(
      agent,
      far,
      'chat/completions',
      { model: MODEL, max_tokens: 40, messages: [{ role: 'user', content: 'hi' }] },
      headers,
    )
    await reachedProvider
    await network.lanes[0]?.turn('silent')
    try {
      assert.match((await asked).text, /chat\.completion/)
      assert.match(await far.metrics(), /^farebox_store_outages_total 1$/m)
    } finally {
      await network.lanes[0]?.turn('open')
    }
  })
})

/** Reads as eager clients do: a stream until its last event, not until the connection says that it is over. */
function post(agent: Agent, sidecar: Sidecar, path: string, body: object, headers: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      `${sidecar.url}/openai/v1/${path}`,
      { method: 'POST', agent, headers: { 'content-type': 'application/json', authorization: 'Bearer t', ...headers } },
      (answer) => {
        let text = ''
        const done = (): void => {
          if (answer.statusCode === 200) resolve({ conversation: String(answer.headers['x-farebox-conversation']), text })
          else reject(new Error(`${answer.statusCode}: ${text}`))
        }
        answer.setEncoding('utf8')
        answer.on('data', (more: string) => {
          text += more
          if (LAST_EVENT.test(text)) done()
        })
        answer.on('end', done)
        answer.on('error', reject)
      },
    )
    sent.on('error', reject)
    sent.end(JSON.stringify(body))
  })
}

function plainText(text: string): string {
  return (JSON.parse(text) as { choices: { message: { content: string } }[] }).choices[0]?.message.content ?? ''
}

function streamedText(text: string): string {
  const events = [...text.matchAll(/^data: (\{.*)$/gm)].map(
    ([, data]) => JSON.parse(data ?? '') as { choices: { delta: { content?: string } }[] },
  )
  return events.map(({ choices }) => choices[0]?.delta.content ?? '').join('')
}
