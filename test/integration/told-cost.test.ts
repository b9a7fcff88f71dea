/** Providers that say what a call cost, through a real sidecar: what they say counts where it is more than the price that is known. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { PriceEntrySchema } from '@farebox/crds/price-entry.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { makeConfig, makeContract, makeUpstream } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const MODEL = 'deepseek/deepseek-r1'
/** 100 tokens in and 10 out cost 0.0012 by the book. */
const BOOK = PriceEntrySchema.parse({ provider: 'openrouter', model: MODEL, input: '10.00', output: '20.00' })
const COUNTS = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 }
const COUNTED = { input_tokens: 100, output_tokens: 10, total_tokens: 110 }
/** The owner's own, which costs nothing per call, whatever a router would charge others for it. */
const OWN = PriceEntrySchema.parse({ provider: 'openrouter', model: 'ours/small', input: '0', output: '0' })

/** What the usage of the next answer says beside its tokens. */
let says: object = {}
let provider: Server
let sidecar: Sidecar
before(async () => {
  provider = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const asked = JSON.parse(Buffer.concat(chunks).toString()) as { model: string; stream?: boolean }
      const { type, text } = request.url?.endsWith('/responses') === true ? responseTo(asked) : completionFor(asked)
      response.writeHead(200, { 'content-type': type }).end(text)
    })
  })
  await new Promise<void>((resolve) => provider.listen(0, '127.0.0.1', resolve))
  const baseUrl = `http://127.0.0.1:${(provider.address() as AddressInfo).port}/v1`
  const contracts = [makeContract({ caps: { perConversation: '50.00' } })]
  sidecar = await startSidecar(
    makeConfig(baseUrl, contracts, {
      upstreams: [
        makeUpstream({ name: 'router', provider: 'openrouter', baseUrl, outputLimitField: 'max_tokens' }),
        makeUpstream({ name: 'xai', provider: 'x-ai', baseUrl }),
      ],
      prices: [BOOK, OWN],
    }),
  )
})
after(async () => {
  await sidecar.close()
  provider.close()
})

interface Written {
  readonly type: string
  readonly text: string
}

function completionFor({ model, stream = false }: { readonly model: string; readonly stream?: boolean }): Written {
  const usage = { ...COUNTS, ...says }
  const answer = { id: 'gen-1', object: stream ? 'chat.completion.chunk' : 'chat.completion', created: 1, model }
  const said = { index: 0, [stream ? 'delta' : 'message']: { role: 'assistant', content: 'Hello.' }, finish_reason: 'stop' }
  if (!stream) return { type: 'application/json', text: JSON.stringify({ ...answer, choices: [said], usage }) }
  return events([JSON.stringify({ ...answer, choices: [said] }), JSON.stringify({ ...answer, choices: [], usage }), '[DONE]'])
}

function responseTo({ model, stream = false }: { readonly model: string; readonly stream?: boolean }): Written {
  const content = [{ type: 'output_text', text: 'Hello.', annotations: [] }]
  const output = [{ type: 'message', id: 'msg_1', role: 'assistant', status: 'completed', content }]
  const response = { id: 'resp_1', object: 'response', status: 'completed', model, output, usage: { ...COUNTED, ...says } }
  if (!stream) return { type: 'application/json', text: JSON.stringify(response) }
  return events([JSON.stringify({ type: 'response.completed', sequence_number: 0, response })])
}

function events(datas: readonly string[]): Written {
  return { type: 'text/event-stream', text: datas.map((data) => `data: ${data}\n\n`).join('') }
}

let conversations = 0
/** What one call is booked at; its drivers add up to that. */
async function booked(path: string, body: object, more: object): Promise<string> {
  says = more
  conversations += 1
  const id = `told ${conversations}`
  const response = await fetch(`${sidecar.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-farebox-conversation': id },
    body: JSON.stringify(body),
  })
  assert.equal(response.status, 200, await response.text())
  await sidecar.idle()
  const { spent, held, drivers } = await sidecar.standing(id)
  assert.equal(held, '0.00')
  const total = Object.values(drivers).reduce((sum, cost) => sum + parseUsd(cost), 0n)
  assert.equal(total, parseUsd(spent), 'drivers add up')
  return spent
}

for (const stream of [false, true]) {
  const how = stream ? 'streamed' : 'plain'
  const chat = { model: MODEL, max_tokens: 20, messages: [{ role: 'user', content: 'Hi.' }], ...(stream ? { stream } : {}) }

  test(`what a router charges counts where its host is dearer than the book (${how})`, async () => {
    const cost = (more: object): Promise<string> => booked('/router/v1/chat/completions', chat, more)
    assert.equal(await cost({ cost: 0.0345 }), '0.0345')
    assert.equal(await cost({ cost: 0.0001 }), '0.0012', 'never less than the book')
    assert.equal(await cost({ cost: 0.0001, is_byok: true, cost_details: { upstream_inference_cost: 0.002 } }), '0.0021')
    for (const more of [{}, { cost: -1 }, { cost: '5' }, { cost: 1e12 }, { cost: null }])
      assert.equal(await cost(more), '0.0012', JSON.stringify(more))
  })

  test(`what the book has at nothing stays free, whatever a router says (${how})`, async () => {
    assert.equal(await booked('/router/v1/chat/completions', { ...chat, model: OWN.model }, { cost: 0.0345 }), '0.00')
  })

  test(`xAI's searches of X are booked, and whatever else it says that it charged (${how})`, async () => {
    const body = { model: 'grok-4.5', max_output_tokens: 100, input: 'News?', tools: [{ type: 'x_search' }], ...(stream ? { stream } : {}) }
    const cost = (more: object): Promise<string> => booked('/xai/v1/responses', body, more)
    // 0.00026 for tokens, and ten searches.
    const searched = { num_server_side_tools_used: 10, server_side_tool_usage_details: { x_search_calls: 10 } }
    assert.equal(await cost(searched), '0.05026')
    assert.equal(await cost({ ...searched, cost_in_usd_ticks: 502_600_000 }), '0.05026')
    assert.equal(await cost({ ...searched, cost_in_usd_ticks: 2_502_600_000 }), '0.25026', 'posts are billed beside the searches')
  })
}

test('what can take another model, or is many agents, is refused by name', async () => {
  const messages = [{ role: 'user', content: 'Hi.' }]
  const calls: readonly (readonly [path: string, body: object, what: RegExp])[] = [
    ['/router/v1/chat/completions', { model: MODEL, messages, reasoning: { mode: 'pro' } }, /mode of reasoning/],
    ['/router/v1/responses', { model: MODEL, input: 'x', reasoning: { mode: 'pro' } }, /mode of reasoning/],
    ['/router/v1/chat/completions', { model: MODEL, messages, providerOptions: { gateway: { models: ['dear'] } } }, /fallbacks/],
    ['/xai/v1/responses', { model: 'grok-4.20-multi-agent', input: 'x' }, /several agents/],
  ]
  for (const [path, body, what] of calls) {
    const response = await sidecar.postJson(path, body)
    assert.equal(response.status, 403, path)
    assert.match(JSON.stringify(response.body), what)
  }
})
