import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { familyOf } from '@farebox/crds/provider-family.ts'
import { operationOf, providerPath } from './routes.ts'

const ROWS = readFileSync(new URL('../../../docs/providers.md', import.meta.url), 'utf8')
  .split('\n')
  .flatMap((line) => {
    const [, provider = '', endpoint = '', kind = ''] = line.split('|').map((cell) => cell.trim())
    const [, method, path] = /^`([A-Z]+) (\/\S*)`$/.exec(endpoint) ?? []
    return method === undefined || path === undefined ? [] : [{ provider, method, path, kind }]
  })

describe('the docs page says what an endpoint is', () => {
  test('for all four kinds of provider, and for those who speak as OpenAI does', () =>
    assert.deepEqual([...new Set(ROWS.map(({ provider }) => provider))], ['openai', 'any other', 'azure', 'anthropic', 'google']))
  for (const { provider, method, path, kind } of ROWS) {
    test(`${provider} ${method} ${path}`, () => {
      assert.equal(operationOf(provider, method, path).kind, kind)
      assert.equal(operationOf(provider, method, `${path}?api-version=1`).kind, kind)
      // No method but its own is metered or free by accident.
      if (kind === 'metered')
        for (const other of ['GET', 'PUT', 'DELETE']) assert.equal(operationOf(provider, other, path).kind, 'ungoverned')
    })
  }
})

test('what OpenAI gives away, others who speak as it does may bill: all they have for nothing is their list of models', () => {
  const free = ROWS.filter(({ provider, kind }) => provider === 'openai' && kind === 'free')
  assert.ok(free.length > 5)
  for (const provider of ['mistral', 'groq', 'openrouter', 'vllm', 'OpenAI'])
    for (const { method, path } of free)
      assert.equal(operationOf(provider, method, path).kind, path === '/models' ? 'free' : 'ungoverned', `${provider} ${path}`)
  for (const path of ['/conversations', '/conversations/conv_1', '/moderations'])
    assert.equal(operationOf('mistral', 'POST', path).kind, 'ungoverned', path)
})

test('what is ungoverned is named', () => {
  const nameOf = (provider: string, path: string): string => {
    const operation = operationOf(provider, 'POST', path)
    return operation.kind === 'ungoverned' ? operation.name : operation.kind
  }
  assert.equal(nameOf('openai', '/batches'), 'batches')
  assert.equal(nameOf('openai', '/fine_tuning/jobs'), 'fine_tuning')
  assert.equal(nameOf('anthropic', '/messages/batches'), 'batches')
  assert.equal(nameOf('google', '/v1beta/models/gemini-2.5-flash:batchGenerateContent'), 'batchGenerateContent')
  assert.equal(nameOf('google', '/v1beta/cachedContents'), 'cachedContents')
})

test('what a provider may decode into another call is none that is free', () => {
  for (const [method, path] of [
    ['GET', '/v1beta/models/gemini-2.5-pro%3AgenerateContent'],
    ['POST', '/v1beta/models/gemini-2.5-pro%3agenerateContent%3Fx:countTokens'],
    ['GET', '/v1beta/models/gemini-2.5-pro%253AgenerateContent'],
  ] as const)
    assert.equal(operationOf('google', method, path).kind, 'ungoverned', path)
  for (const [method, path] of [
    ['POST', '/responses/#/cancel'],
    ['POST', '/responses/%23/cancel'],
    ['POST', '/responses/;a/cancel'],
    ['DELETE', '/responses/%3fa'],
    ['POST', '/conversations/#a/items'],
    ['GET', '/conversations/conv_1/items/%23'],
  ] as const)
    for (const [provider, prefix] of [
      ['openai', ''],
      ['azure', '/openai/v1'],
    ] as const)
      assert.equal(operationOf(provider, method, `${prefix}${path}`).kind, 'ungoverned', path)
})

test('ids of all kinds are read: OpenAI’s, and the base64 of a router', () => {
  for (const id of ['resp_68a0b1c2', 'resp_bGl0ZWxsbTpjdXN0b20+b3BlbmFp==', 'a.b-c'])
    for (const [method, path] of [
      ['POST', `/responses/${id}/cancel`],
      ['GET', `/responses/${id}/input_items`],
      ['DELETE', `/conversations/${id}/items/${id}`],
    ] as const)
      assert.equal(operationOf('openai', method, path).kind, 'free', path)
})

test('a version that the base URL has is not repeated, and one that it lacks stays', () => {
  assert.equal(providerPath('openai', '/v1/chat/completions'), '/chat/completions')
  assert.equal(providerPath('anthropic', '/v1/messages?beta=true'), '/messages?beta=true')
  assert.equal(providerPath('anthropic', '/messages'), '/messages')
  assert.equal(providerPath('google', '/v1beta/models'), '/v1beta/models')
  assert.equal(providerPath('azure', '/openai/v1/responses'), '/openai/v1/responses')
})

test('every other provider is spoken to as OpenAI is', () => {
  assert.deepEqual(['openai', 'groq', 'vllm', 'azure', 'anthropic', 'google'].map(familyOf), [
    'openai',
    'openai',
    'openai',
    'azure',
    'anthropic',
    'google',
  ])
})
