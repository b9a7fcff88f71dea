/** The real `openai` client against the sidecar and against the provider: nothing degraded, nothing different. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import OpenAI from 'openai'
import { zodResponseFormat } from 'openai/helpers/zod'
import * as z from 'zod'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const TOOLS: OpenAI.ChatCompletionTool[] = [
  {
    type: 'function',
    function: {
      name: 'look_up',
      description: 'Looks an order up.',
      parameters: { type: 'object', properties: { order: { type: 'string' } }, required: ['order'] },
    },
  },
]
const QUESTION = { role: 'user', content: 'Where is order 17?' } as const

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [makeContract({ caps: { perConversation: '5.00' } })]))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

/** One raw call, by whichever way: the request as the provider saw it, and the bytes of the answer. */
async function exchange(
  baseUrl: string,
  body: string,
): Promise<{ readonly sent: string; readonly status: number; readonly answer: string }> {
  seen = []
  provider.clearCache()
  const answer = await fetch(`${baseUrl}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer test', 'x-farebox-conversation': `raw-${body.length}` },
    body,
  })
  const text = await answer.text()
  return { sent: seen[0]?.body.toString('utf8') ?? '', status: answer.status, answer: text }
}

/** Ids and times are the provider's own for each call. */
function withoutIds(text: string): string {
  return text
    .replaceAll(/"(id|call_id)":"[^"]*"/g, '"$1":""')
    .replaceAll(/"created":\d+/g, '"created":0')
    .replaceAll(/call_\w+/g, 'call')
}

describe('when nothing is degraded, the same bytes as a direct call', () => {
  const bodies: Record<string, object> = {
    plain: { model: 'gpt-4o', max_tokens: 60, messages: [QUESTION], temperature: 0.5 },
    'plain, n = 2': { model: 'gpt-4o', max_tokens: 60, n: 2, messages: [QUESTION] },
    'streamed with usage': { model: 'gpt-4o', max_tokens: 60, stream: true, stream_options: { include_usage: true }, messages: [QUESTION] },
    'streamed without usage': { model: 'gpt-4o', max_tokens: 60, stream: true, messages: [QUESTION] },
    tools: { model: 'gpt-4o', max_tokens: 60, tools: TOOLS, tool_choice: 'required', messages: [QUESTION] },
    'structured output': {
      model: 'gpt-4o',
      max_tokens: 200,
      response_format: { type: 'json_object' },
      messages: [{ role: 'user', content: 'Answer in json.' }],
    },
  }
  for (const [name, body] of Object.entries(bodies)) {
    test(name, async () => {
      const text = JSON.stringify(body, null, 1) // white space that no serialiser of ours would write
      const direct = await exchange(`${provider.url}/v1`, text)
      const governed = await exchange(`${sidecar.url}/openai/v1`, text)
      assert.equal(governed.status, direct.status)
      assert.equal(withoutIds(governed.answer), withoutIds(direct.answer))
      if ('stream' in body && !('stream_options' in body)) {
        assert.notEqual(governed.sent, text, 'usage is asked for')
        const { stream_options: asked, ...rest } = JSON.parse(governed.sent) as Record<string, unknown>
        assert.deepEqual(asked, { include_usage: true })
        assert.deepEqual(rest, body)
        assert.ok(governed.sent.startsWith(text.slice(0, -2)), 'and nothing else moves')
      } else assert.equal(governed.sent, text)
    })
  }

  test('without a limit of its own, the request is sent with one, and all else as it was', async () => {
    const text = JSON.stringify({ model: 'gpt-4o', messages: [QUESTION] })
    const governed = await exchange(`${sidecar.url}/openai/v1`, text)
    const { max_completion_tokens: bound, ...rest } = JSON.parse(governed.sent) as Record<string, unknown>
    assert.ok(Number(bound) > 0)
    assert.deepEqual(rest, JSON.parse(text))
  })

  test("the provider's own errors pass through", async () => {
    const text = JSON.stringify({ model: 'gpt-4o', max_tokens: 10, messages: [{ role: 'tool', tool_call_id: 'x', content: 'no call' }] })
    const direct = await exchange(`${provider.url}/v1`, text)
    const governed = await exchange(`${sidecar.url}/openai/v1`, text)
    assert.equal(governed.status, 400)
    assert.equal(governed.answer, direct.answer)
  })
})

describe('the openai client', () => {
  const client = (): OpenAI => sidecar.client({ 'x-farebox-conversation': 'client', 'x-farebox-user': 'ann' })

  test('plain, streamed, tools and parse', async () => {
    const plain = await client().chat.completions.create({ model: 'gpt-4o', max_tokens: 50, messages: [QUESTION] })
    assert.ok((plain.choices[0]?.message.content ?? '').length > 0)
    assert.ok((plain.usage?.completion_tokens ?? 0) > 0)

    const streamed = client().chat.completions.stream({
      model: 'gpt-4o',
      max_tokens: 50,
      messages: [QUESTION],
      stream_options: { include_usage: true },
    })
    const final = await streamed.finalChatCompletion()
    assert.ok((final.choices[0]?.message.content ?? '').length > 0)
    assert.ok((final.usage?.completion_tokens ?? 0) > 0)

    const called = await client().chat.completions.create({
      model: 'gpt-4o',
      max_tokens: 50,
      tools: TOOLS,
      tool_choice: 'required',
      messages: [QUESTION],
    })
    const call = called.choices[0]?.message.tool_calls?.[0]
    assert.equal(call?.type === 'function' ? call.function.name : undefined, 'look_up')

    const parsed = await client().chat.completions.parse({
      model: 'gpt-4o',
      max_tokens: 300,
      response_format: zodResponseFormat(z.object({ place: z.string() }), 'answer'),
      messages: [QUESTION],
    })
    assert.equal(typeof parsed.choices[0]?.message.parsed?.place, 'string')
  })

  test('makes one attempt on 402, with its default retries', async () => {
    const poor = await startSidecar(makeConfig(`${provider.url}/v1`, [makeContract({ caps: { perConversation: '0.0001' } })]))
    try {
      let attempts = 0
      const counting = new OpenAI({
        baseURL: `${poor.url}/openai/v1`,
        apiKey: 'test',
        fetch: (url, init) => (attempts++, fetch(url, init)),
      })
      await assert.rejects(
        counting.chat.completions.create({ model: 'gpt-4o', messages: [QUESTION] }, { headers: { 'x-farebox-conversation': 'poor' } }),
        (error: unknown) => error instanceof OpenAI.APIError && error.status === 402 && error.code === 'conversation_budget_exhausted',
      )
      assert.equal(attempts, 1)
    } finally {
      await poor.close()
    }
  })
})
