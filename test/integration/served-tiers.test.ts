/** Service tiers that the account of the key has set, and no request says: held for from the first answer on that shows them. */
import Anthropic from '@anthropic-ai/sdk'
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import OpenAI from 'openai'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract, makeUpstream } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const CAP = '0.10'
const HELLO = 'Hello.'
/** More than any bound: each answer is as long as it may be. */
const ENDLESS = { 'x-fake-output-tokens': '100000' }

let provider: Provider
let sidecar: Sidecar

before(async () => {
  provider = await startProvider()
  const contract = makeContract({
    tier: 'tight',
    caps: { perConversation: CAP },
    ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Refuse' }],
  })
  const upstreams = [
    makeUpstream({ name: 'openai', provider: 'openai', baseUrl: `${provider.url}/v1` }),
    makeUpstream({ name: 'anthropic', provider: 'anthropic', baseUrl: `${provider.url}/v1` }),
  ]
  sidecar = await startSidecar(makeConfig('', [contract], { upstreams }))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

type Ask = (headers: Record<string, string>, more: object) => Promise<Response>

/** What one call of a conversation of its own came to: the output that it was bounded to, and nano-dollars. */
async function call(
  ask: Ask,
  id: string,
  headers: Record<string, string>,
  more: object = {},
): Promise<{ readonly bound: number; readonly spent: bigint }> {
  const answer = await ask({ 'x-farebox-conversation': id, 'x-farebox-tier': 'tight', 'x-fake-tag': id, ...ENDLESS, ...headers }, more)
  await sidecar.idle()
  const { spent } = await sidecar.standing(id, '?tier=tight')
  assert.equal(spent, formatUsd(provider.bill.totalNanoUsd(id)))
  return { bound: Number(answer.headers.get('x-farebox-max-output')), spent: parseUsd(spent) }
}

function openai(apiKey = 'k'): OpenAI {
  return new OpenAI({ apiKey, baseURL: `${sidecar.url}/openai/v1`, maxRetries: 0 })
}

const WAYS: readonly { readonly way: string; readonly account: Record<string, string>; readonly named: object; readonly ask: Ask }[] = [
  ...[false, true].map((stream) => ({
    way: `Chat Completions ${stream ? 'streamed' : 'plain'}`,
    account: { 'x-fake-account-tier': 'priority' },
    named: { service_tier: 'default' },
    ask: async (headers: Record<string, string>, more: object) => {
      const model = stream ? 'gpt-4o' : 'gpt-4.1'
      const body = { model, stream, messages: [{ role: 'user' as const, content: HELLO }], ...more }
      const { data, response } = await openai().chat.completions.create(body, { headers }).withResponse()
      if (Symbol.asyncIterator in data) for await (const _chunk of data);
      return response
    },
  })),
  ...[false, true].map((stream) => ({
    way: `Responses ${stream ? 'streamed' : 'plain'}`,
    account: { 'x-fake-account-tier': 'priority' },
    named: { service_tier: 'default' },
    ask: async (headers: Record<string, string>, more: object) => {
      const body = { model: stream ? 'gpt-5' : 'gpt-5-mini', stream, input: HELLO, ...more }
      const { data, response } = await openai().responses.create(body, { headers }).withResponse()
      if (Symbol.asyncIterator in data) for await (const _event of data);
      return response
    },
  })),
  {
    way: 'Messages',
    account: { 'x-fake-account-geo': 'us' },
    named: { inference_geo: 'global' },
    ask: async (headers, more) => {
      const client = new Anthropic({ apiKey: 'k', baseURL: `${sidecar.url}/anthropic`, maxRetries: 0 })
      const body = { model: 'claude-opus-5-5', max_tokens: 20_000, messages: [{ role: 'user' as const, content: HELLO }], ...more }
      const stream = client.messages.stream(body, { headers })
      const { response } = await stream.withResponse()
      await stream.finalMessage()
      return response
    },
  },
]

for (const { way, account, named, ask } of WAYS) {
  describe(way, () => {
    const id = (name: string): string => `${way} ${name}`
    let standard = 0

    test('what the account has set is held for as soon as one answer shows it', async () => {
      const first = await call(ask, id('first'), account)
      assert.ok(first.spent > parseUsd(CAP), 'nobody could know')
      const second = await call(ask, id('second'), account)
      assert.ok(second.spent <= parseUsd(CAP), `${formatUsd(second.spent)} of ${CAP}`)
      assert.ok(second.spent > (parseUsd(CAP) * 9n) / 10n, 'and no more than that')
      assert.ok(second.bound < first.bound)
      standard = first.bound
    })

    test('a request that names its tier is held for at that', async () => {
      const { bound } = await call(ask, id('known'), account)
      const other = await call(ask, id('named'), account, named)
      assert.ok(other.bound > bound)
      assert.equal((await call(ask, id('still known'), account)).bound, bound, 'and its answer says nothing of the others')
    })

    test('another region takes the place of what was known; a standard tier in between takes nothing back', async () => {
      const { bound } = await call(ask, id('before'), account)
      assert.notEqual(bound, standard)
      assert.equal((await call(ask, id('changed'), {})).bound, bound)
      assert.equal((await call(ask, id('after'), {})).bound, 'x-fake-account-geo' in account ? standard : bound)
    })
  })
}

test('OpenAI is left the choice by its own word for that, too', async () => {
  const ask: Ask = async (headers, more) => {
    const body = { model: 'gpt-4.1-mini', messages: [{ role: 'user' as const, content: HELLO }], n: 4, ...more }
    return (await openai().chat.completions.create(body, { headers }).withResponse()).response
  }
  const account = { 'x-fake-account-tier': 'priority' }
  const first = await call(ask, 'auto first', account, { service_tier: 'auto' })
  const second = await call(ask, 'auto second', account, { service_tier: 'auto' })
  assert.ok(first.spent > parseUsd(CAP) && second.spent <= parseUsd(CAP))
})

test('what the account of one key has set is not held for with another key', async () => {
  const by =
    (apiKey: string): Ask =>
    async (headers, more) => {
      const body = { model: 'gpt-4.1-nano', messages: [{ role: 'user' as const, content: HELLO }], n: 4, ...more }
      return (await openai(apiKey).chat.completions.create(body, { headers }).withResponse()).response
    }
  const { bound } = await call(by('of-a-project'), 'other key before', {})
  await call(by('of-priority'), 'dear key first', { 'x-fake-account-tier': 'priority' })
  assert.ok((await call(by('of-priority'), 'dear key', { 'x-fake-account-tier': 'priority' })).bound < bound)
  assert.equal((await call(by('of-a-project'), 'other key after', {})).bound, bound)
})
