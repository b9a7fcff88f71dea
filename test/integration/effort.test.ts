/** How much a model is asked to think, where the call goes to one that takes other efforts: the swap goes through all the same. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract, makeUpstream } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const SCHEMA = {
  type: 'json_schema' as const,
  schema: { type: 'object', properties: { '10': { type: 'string' }, '2': { type: 'string' } }, additionalProperties: false },
}

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  const downgrades = [
    { from: 'gpt-5', to: 'o4-mini' },
    { from: 'claude-sonnet-4-6', to: 'claude-haiku-4-5' },
    { from: 'claude-opus-5', to: 'claude-sonnet-4-6' },
  ]
  const contract = makeContract({ models: { allow: [], downgrades }, ladder: [{ atPercent: 0, rung: 'DowngradeModel' }] })
  sidecar = await startSidecar(
    makeConfig(`${provider.url}/v1`, [contract], {
      upstreams: [
        makeUpstream({ name: 'openai', provider: 'openai', baseUrl: `${provider.url}/v1` }),
        makeUpstream({ name: 'anthropic', provider: 'anthropic', baseUrl: `${provider.url}/v1` }),
      ],
    }),
  )
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
})

test('Chat', async () => {
  const answer = await openai('chat').chat.completions.create({
    model: 'gpt-5',
    reasoning_effort: 'minimal',
    messages: [{ role: 'user', content: 'Hello.' }],
  })
  assert.match(answer.model, /^o4-mini/)
  assert.deepEqual(sent(), [{ model: 'o4-mini', reasoning_effort: 'low' }])
})

test('Responses', async () => {
  const answer = await openai('responses').responses.create({
    model: 'gpt-5',
    reasoning: { effort: 'minimal', summary: 'auto' },
    input: 'Hello.',
  })
  assert.match(answer.model, /^o4-mini/)
  assert.deepEqual(sent(), [{ model: 'o4-mini', reasoning: { effort: 'low', summary: 'auto' } }])
})

test('Messages, to a model that takes none; a schema beside it stays', async () => {
  for (const format of [undefined, SCHEMA]) {
    seen = []
    const answer = await claude(`none ${format?.type}`, 'claude-sonnet-4-6', {
      effort: 'high',
      ...(format === undefined ? {} : { format }),
    })
    assert.match(answer.model, /^claude-haiku-4-5/)
    assert.deepEqual(sent(), [{ model: 'claude-haiku-4-5', ...(format === undefined ? {} : { output_config: { format } }) }])
  }
})

test('Messages, to a model that takes fewer, and one that it takes as it is', async () => {
  for (const [effort, taken] of [
    ['xhigh', 'high'],
    ['medium', 'medium'],
  ] as const) {
    seen = []
    const answer = await claude(`fewer ${effort}`, 'claude-opus-5', { effort })
    assert.match(answer.model, /^claude-sonnet-4-6/)
    assert.deepEqual(sent(), [{ model: 'claude-sonnet-4-6', output_config: { effort: taken } }])
  }
})

function openai(id: string): ReturnType<Sidecar['client']> {
  return sidecar.client({ 'x-farebox-conversation': id }, { maxRetries: 0 })
}

function claude(id: string, model: string, config: Anthropic.OutputConfig): Promise<Anthropic.Message> {
  const client = new Anthropic({
    apiKey: 'test',
    authToken: null,
    baseURL: `${sidecar.url}/anthropic`,
    maxRetries: 0,
    defaultHeaders: { 'x-farebox-conversation': id },
  })
  return client.messages.create({ model, max_tokens: 500, messages: [{ role: 'user', content: 'Hello.' }], output_config: config })
}

/** The model and effort of each call that reached the provider. */
function sent(): readonly Record<string, unknown>[] {
  return seen.map(({ body }) => {
    const all = JSON.parse(body.toString()) as Record<string, unknown>
    return Object.fromEntries(Object.entries(all).filter(([name]) => KEPT.has(name)))
  })
}
const KEPT: ReadonlySet<string> = new Set(['model', 'reasoning_effort', 'reasoning', 'output_config'])
