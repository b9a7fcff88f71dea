/** Answers whose input is the sum of several readings, none of which is over the model's long-context step: booked as they are billed. */
import Anthropic from '@anthropic-ai/sdk'
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { formatUsd } from '@farebox/crds/usd.ts'
import OpenAI from 'openai'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract, makeUpstream } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

/** About 76,000 tokens of Claude's, and 57,000 of OpenAI's: in four readings more than either's step, which is at 200,000 and 272,000. */
const LONG = 'The keeper writes the weather down. '.repeat(9_500)
const SEARCHES = {
  'x-fake-hosted-calls': 'web_search,web_search,web_search,web_search,web_search',
  'x-fake-hosted-result-tokens': '50',
  'x-fake-output-tokens': '50',
}
/** It reads more than the step at once, if it is given as much. */
const WIDE = {
  id: 'gpt-5.4',
  tokenPercent: 100,
  reasoning: true,
  contextTokens: 1_050_000,
  maxOutputTokens: 128_000,
  price: { input: '2.50', cachedInput: '0.25', output: '15.00' },
  tiers: {},
}

let provider: Provider
let sidecar: Sidecar

before(async () => {
  provider = await startProvider({ models: [WIDE] })
  const upstreams = [
    makeUpstream({ name: 'openai', provider: 'openai', baseUrl: `${provider.url}/v1` }),
    makeUpstream({ name: 'anthropic', provider: 'anthropic', baseUrl: `${provider.url}/v1` }),
  ]
  const contract = makeContract({ tier: 'rich', caps: { perConversation: '20.00' } })
  sidecar = await startSidecar(makeConfig('', [contract], { upstreams, hostedTools: { maxCalls: 5, maxResultTokens: 1_000 } }))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

function headersOf(id: string): Record<string, string> {
  return { 'x-farebox-conversation': id, 'x-farebox-tier': 'rich', 'x-fake-tag': id, ...SEARCHES }
}

async function assertBooked(id: string): Promise<void> {
  await sidecar.idle()
  const { spent, held } = await sidecar.standing(id, '?tier=rich')
  assert.deepEqual([spent, held], [formatUsd(provider.bill.totalNanoUsd(id)), '0.00'])
  assert.match(await sidecar.metrics(), /^farebox_overruns_total 0$/m)
}

for (const stream of [false, true]) {
  test(`searches of Claude over a long history, ${stream ? 'streamed' : 'plain'}`, async () => {
    const id = `claude ${stream}`
    const client = new Anthropic({ apiKey: 'k', baseURL: `${sidecar.url}/anthropic`, maxRetries: 0, defaultHeaders: headersOf(id) })
    const ask: Anthropic.MessageCreateParamsNonStreaming = {
      model: 'claude-sonnet-4-5',
      max_tokens: 500,
      system: LONG,
      tools: [{ type: 'web_search_20250305', name: 'web_search' }],
      messages: [{ role: 'user', content: 'What is new?' }],
    }
    const { usage } = stream ? await client.messages.stream(ask).finalMessage() : await client.messages.create(ask)
    assert.equal(usage.server_tool_use?.web_search_requests, 5)
    assert.ok(usage.input_tokens > 200_000)
    await assertBooked(id)
  })

  test(`searches by Responses over a long history, ${stream ? 'streamed' : 'plain'}`, async () => {
    const id = `responses ${stream}`
    const client = new OpenAI({ apiKey: 'k', baseURL: `${sidecar.url}/openai/v1`, maxRetries: 0, defaultHeaders: headersOf(id) })
    const ask = { model: WIDE.id, max_output_tokens: 500, tools: [{ type: 'web_search' as const }], input: LONG }
    const { usage } = stream ? await client.responses.stream(ask).finalResponse() : await client.responses.create(ask)
    assert.ok((usage?.input_tokens ?? 0) > 272_000)
    await assertBooked(id)
  })
}
