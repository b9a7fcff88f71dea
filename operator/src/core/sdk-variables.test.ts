import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WORTHLESS_KEY } from '@farebox/crds/cluster.ts'
import { makeBudget } from '../../../test/support/pods.ts'
import { appVariables } from './sdk-variables.ts'

const upstream = (name: string, provider: string, secret?: string) => ({
  name,
  provider,
  baseURL: `https://${name}.example.test/v1`,
  ...(secret === undefined ? {} : { credential: { secretRef: { name: secret, key: 'key' } } }),
})
const variables = (...upstreams: readonly unknown[]) => appVariables(makeBudget({ spec: { upstreams } }))
const asMap = (list: readonly { readonly name: string; readonly value: string }[]) =>
  Object.fromEntries(list.map(({ name, value }) => [name, value]))

test('a budget without upstreams leads the SDKs of the usual providers to the sidecar', () => {
  const { urls, keys } = appVariables(makeBudget())
  assert.deepEqual(asMap(urls), {
    FAREBOX_BASE_URL_OPENAI: 'http://127.0.0.1:4180/openai/v1',
    FAREBOX_BASE_URL_ANTHROPIC: 'http://127.0.0.1:4180/anthropic',
    FAREBOX_BASE_URL_GEMINI: 'http://127.0.0.1:4180/gemini',
    OPENAI_BASE_URL: 'http://127.0.0.1:4180/openai/v1',
    ANTHROPIC_BASE_URL: 'http://127.0.0.1:4180/anthropic',
    GOOGLE_GEMINI_BASE_URL: 'http://127.0.0.1:4180/gemini',
  })
  assert.deepEqual(keys, [])
})

test('each SDK gets its variable with the path that it expects', () => {
  const { urls } = variables(
    upstream('openai', 'openai'),
    upstream('claude', 'anthropic'),
    upstream('az-eu', 'azure'),
    upstream('gemini', 'google'),
    upstream('house', 'vllm'),
  )
  assert.deepEqual(asMap(urls), {
    FAREBOX_BASE_URL_OPENAI: 'http://127.0.0.1:4180/openai/v1',
    FAREBOX_BASE_URL_CLAUDE: 'http://127.0.0.1:4180/claude',
    FAREBOX_BASE_URL_AZ_EU: 'http://127.0.0.1:4180/az-eu',
    FAREBOX_BASE_URL_GEMINI: 'http://127.0.0.1:4180/gemini',
    FAREBOX_BASE_URL_HOUSE: 'http://127.0.0.1:4180/house/v1',
    OPENAI_BASE_URL: 'http://127.0.0.1:4180/openai/v1',
    ANTHROPIC_BASE_URL: 'http://127.0.0.1:4180/claude',
    AZURE_OPENAI_ENDPOINT: 'http://127.0.0.1:4180/az-eu',
    GOOGLE_GEMINI_BASE_URL: 'http://127.0.0.1:4180/gemini',
  })
})

test('of several upstreams of a provider its SDK gets the one that is called like it, else the first', () => {
  const [eu, us, openai] = [upstream('eu', 'openai'), upstream('us', 'openai'), upstream('openai', 'openai')]
  assert.equal(asMap(variables(eu, us).urls)['OPENAI_BASE_URL'], 'http://127.0.0.1:4180/eu/v1')
  assert.equal(asMap(variables(eu, openai).urls)['OPENAI_BASE_URL'], 'http://127.0.0.1:4180/openai/v1')
})

test('a key is taken away only where the SDK goes to an upstream whose key the sidecar holds', () => {
  assert.deepEqual(variables(upstream('openai', 'openai', 'real')).keys, [
    { name: 'OPENAI_API_KEY', value: WORTHLESS_KEY, upstream: 'openai' },
  ])
  const mixed = variables(upstream('openai', 'openai'), upstream('eu', 'openai', 'real'))
  assert.deepEqual(mixed.keys, [])
  assert.deepEqual(mixed.held, [{ name: 'real', key: 'key', upstream: 'eu' }])
})

test('providers without an SDK of their own have a key by convention, if a variable can be called so', () => {
  assert.deepEqual(variables(upstream('groq', 'groq', 'real')).keys, [{ name: 'GROQ_API_KEY', value: WORTHLESS_KEY, upstream: 'groq' }])
  assert.deepEqual(variables(upstream('x', '302ai', 'real')).keys, [])
  assert.deepEqual(Object.keys(asMap(variables(upstream('groq', 'groq')).urls)), ['FAREBOX_BASE_URL_GROQ'])
})

test('names that differ stay apart as variables', () => {
  const { urls } = variables(upstream('a-b', 'x'), upstream('a--b', 'x'))
  assert.equal(new Set(urls.map(({ name }) => name)).size, urls.length)
})
