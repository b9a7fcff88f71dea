import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import OpenAI, { APIError, AzureOpenAI, NotFoundError } from 'openai'
import type { Provider } from './server.ts'
import { startProvider } from './server.ts'

let provider: Provider
before(async () => {
  provider = await startProvider({ apiKeys: ['right'] })
})
beforeEach(() => provider.bill.clear())
after(() => provider.close())

const ask: OpenAI.ChatCompletionCreateParamsNonStreaming = { model: 'desk-large', messages: [{ role: 'user', content: 'How are you?' }] }

function client(apiKey = 'right'): AzureOpenAI {
  return new AzureOpenAI({ apiKey, apiVersion: '2024-10-21', baseURL: `${provider.url}/openai`, maxRetries: 0 })
}

test('a deployment answers in the name of its model, which is what the bill says', async () => {
  const answer = await client().chat.completions.create(ask)
  assert.equal(answer.model, 'gpt-4o-2024-08-06')
  assert.ok('prompt_filter_results' in answer)
  assert.deepEqual(
    provider.bill.lines().map((line) => [line.model, line.promptTokens]),
    [['gpt-4o', answer.usage?.prompt_tokens]],
  )
})

test('a stream opens with a chunk that holds nothing but the findings of the filter', async () => {
  const chunks = []
  for await (const chunk of await client().chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } }))
    chunks.push(chunk)
  const [first, second] = chunks
  assert.ok(first !== undefined && 'prompt_filter_results' in first)
  assert.deepEqual([first.choices, first.model, first.id], [[], '', ''])
  assert.equal(second?.choices[0]?.delta.role, 'assistant')
  assert.equal(chunks.at(-1)?.usage?.prompt_tokens, provider.bill.lines()[0]?.promptTokens)
})

test('below /openai/v1 the deployment stands in the body', async () => {
  const plain = new OpenAI({ apiKey: 'right', baseURL: `${provider.url}/openai/v1`, maxRetries: 0 })
  const answer = await plain.chat.completions.create({ ...ask, model: 'desk-small' })
  assert.equal(answer.model, 'gpt-4o-mini-2024-07-18')
})

test('refuses unknown deployments, wrong keys and calls without a version', async () => {
  await assert.rejects(client().chat.completions.create({ ...ask, model: 'gpt-4o' }), (error: unknown) => {
    assert.ok(error instanceof NotFoundError)
    assert.equal(error.code, 'DeploymentNotFound')
    return true
  })
  await assert.rejects(client('wrong').chat.completions.create(ask), (error: unknown) => error instanceof APIError && error.status === 401)
  const bare = await fetch(`${provider.url}/openai/deployments/desk-large/chat/completions`, {
    method: 'POST',
    headers: { 'api-key': 'right', 'content-type': 'application/json' },
    body: JSON.stringify(ask),
  })
  assert.equal(bare.status, 404)
  assert.equal(provider.bill.lines().length, 0)
})
