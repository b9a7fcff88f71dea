import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeConfig } from '../../../test/support/make.ts'
import {
  askedTier,
  headersElsewhere,
  headersOfSender,
  ownHeadersOf,
  queryElsewhere,
  requestHeaders,
  responseHeaders,
  withHeaders,
  withKey,
  withoutQueryKey,
} from './headers.ts'
import { isPlainTarget, routeOf } from './server.ts'

const UPSTREAM = 'http://provider/v1'
const sent = (config: ReturnType<typeof makeConfig>, raw: readonly string[]): readonly string[] =>
  requestHeaders(raw, undefined, ownHeadersOf(config))

test('what a config makes ours never reaches the provider: the claim of a tier, and other names of a conversation', () => {
  const config = makeConfig(UPSTREAM, undefined, {
    tiers: { claim: { header: 'X-Plan' } },
    identity: { headers: ['x-chat-id', 'X-Thread-Id'] },
  })
  const raw = [
    'Authorization',
    'Bearer k',
    'x-plan',
    'pro',
    'X-Chat-Id',
    '17',
    'x-thread-id',
    '17',
    'X-Farebox-User',
    'ann',
    'X-Other',
    '1',
  ]
  assert.deepEqual(sent(config, raw), ['Authorization', 'Bearer k', 'X-Other', '1'])
})

test('what is for one connection alone goes no further, to the provider or to the client', () => {
  const raw = ['Connection', 'close, X-Hop', 'x-hop', '1', 'accept', '*/*']
  assert.deepEqual(requestHeaders(raw, 'close, X-Hop', new Set()), ['accept', '*/*'])
  assert.deepEqual(responseHeaders(raw, { lengthChanges: false, secrets: [] }), ['accept', '*/*'])
})

test('what is ours in an answer comes from no provider', () => {
  const raw = ['X-Farebox-Percent', '0', 'x-request-id', 'r1', 'x-farebox-of-the-future', '1']
  assert.deepEqual(responseHeaders(raw, { lengthChanges: false, secrets: [] }), ['x-request-id', 'r1'])
})

test('the same headers are the app’s own business where the config does not name them', () => {
  const { claim: _none, ...tiers } = makeConfig(UPSTREAM).tiers
  const config = { ...makeConfig(UPSTREAM), tiers }
  assert.deepEqual(sent(config, ['x-plan', 'pro', 'x-chat-id', '17', 'x-farebox-tier', 'pro']), ['x-plan', 'pro', 'x-chat-id', '17'])
})

test('a held key takes the place of whatever the client sent for one, wherever it sent it', () => {
  const sent = ['Authorization', 'Bearer app', 'accept', '*/*', 'API-Key', 'app', 'authorization', 'Bearer again']
  assert.deepEqual(withKey(sent, 'real'), ['accept', '*/*', 'authorization', 'Bearer real', 'api-key', 'real'])
  assert.deepEqual(withKey([], 'real'), ['authorization', 'Bearer real'])
})

test('Google takes a held key in its own header, and no other beside it', () => {
  const sent = ['x-goog-api-key', 'app', 'accept', '*/*', 'authorization', 'Bearer app']
  assert.deepEqual(withKey(sent, 'real', 'google'), ['accept', '*/*', 'x-goog-api-key', 'real'])
})

test('what would make another request of it, or leave the usage out of its answer, does not reach the provider', () => {
  const raw = [
    'X-HTTP-Method-Override',
    'POST',
    'X-HTTP-Method',
    'POST',
    'x-method-override',
    'POST',
    'X-Goog-FieldMask',
    'candidates',
    'X-Original-URL',
    '/a',
    'x-rewrite-url',
    '/a',
    'accept',
    '*/*',
  ]
  assert.deepEqual(sent(makeConfig(UPSTREAM), raw), ['accept', '*/*'])
})

test('the tier that Vertex is asked for by a header is known by its name, however it is written and how often', () => {
  const header = 'x-vertex-ai-llm-shared-request-type'
  for (const value of ['priority', 'Priority', 'flex, priority']) assert.equal(askedTier({ [header]: value }), 'priority', value)
  for (const headers of [{}, { [header]: 'flex' }, { [header]: '' }, { 'x-vertex-ai-llm-request-type': 'shared' }])
    assert.equal(askedTier(headers), null)
})

test('another provider than the one that was asked learns nothing of the account there, nor of any secret between it and the app', () => {
  const secrets = [
    'OpenAI-Organization',
    'Cookie',
    'Ocp-Apim-Subscription-Key',
    'cf-aig-authorization',
    'CF-Access-Client-Id',
    'X-RapidAPI-Host',
    'x-portkey-api-key',
    'x-portkey-config',
    'Helicone-Auth',
    'x-litellm-api-key',
    'x-auth-token',
    'x-amz-security-token',
    'of-the-future',
  ].flatMap((name) => [name, 'secret'])
  const said = [
    'Content-Type',
    'application/json',
    'accept',
    '*/*',
    'X-Stainless-OS',
    'Linux',
    'anthropic-version',
    '2023-06-01',
    'traceparent',
    '00',
    'X-Vertex-AI-LLM-Shared-Request-Type',
    'priority',
  ]
  const sent = headersElsewhere(['Authorization', 'Bearer app', ...secrets, ...said, 'x-api-key', 'app'], 'held')
  assert.deepEqual(sent, [...said, 'authorization', 'Bearer held', 'x-api-key', 'held'])
  assert.deepEqual(headersElsewhere(['authorization', 'Bearer app'], 'held', 'google'), ['x-goog-api-key', 'held'])
})

test('of the query another provider gets what the formats know, and no key', () => {
  assert.equal(queryElsewhere('/c?api-version=1&subscription-key=s&beta=true&of-the-future=s'), '/c?api-version=1&beta=true')
  assert.equal(queryElsewhere('/m:g?key=app&alt=sse'), '/m:g?alt=sse')
  assert.equal(queryElsewhere('/c?code=s'), '/c')
  assert.equal(queryElsewhere('/c'), '/c')
})

test('a call of our own has what lets it in at a gateway, and nothing else of the turn', () => {
  const sender = [
    'Authorization',
    'API-Key',
    'x-goog-api-key',
    'OpenAI-Project',
    'anthropic-version',
    'Ocp-Apim-Subscription-Key',
    'cf-aig-authorization',
    'x-portkey-api-key',
    'X-Portkey-Provider',
    'Helicone-Auth',
    'Helicone-Target-Url',
    'x-litellm-api-key',
    'x-litellm-tags',
    'x-bf-vk',
    'X-Corp-Access-Token',
    'apikey',
    'cookie',
  ].flatMap((name) => [name, 'a'])
  const ofTurn = [
    'Content-Type',
    'Accept',
    'Idempotency-Key',
    'X-Request-Id',
    'Helicone-Request-Id',
    'x-litellm-call-id',
    'cf-aig-cache-key',
    'x-stainless-retry-count',
    'x-output-tokens',
    'x-author',
    'X-Vertex-AI-LLM-Shared-Request-Type',
    'x-other',
  ].flatMap((name) => [name, 'a'])
  assert.deepEqual(headersOfSender([...ofTurn, ...sender]), sender)
  const betas = ['anthropic-beta', 'context-1m-2025-08-07,oauth-2025-04-20', 'anthropic-beta', 'files-api-2025-04-14']
  assert.deepEqual(headersOfSender(betas), ['anthropic-beta', 'oauth-2025-04-20'])
})

test('a target with a fragment is none: who cuts it off reads another path', () => {
  for (const target of ['/openai/v1/responses/#/cancel', '/openai/v1/models#', '/openai/v1/models?a=#b'])
    assert.equal(isPlainTarget(target), false, target)
  assert.equal(isPlainTarget('/openai/v1/responses/resp_1/cancel?a=%23'), true)
})

test('a target without a path names its upstream without the query, which may hold a key', () => {
  assert.deepEqual(routeOf('/gemini?key=secret'), { upstream: 'gemini', path: '/' })
  assert.deepEqual(routeOf('/gemini?key=se/cret'), { upstream: 'gemini', path: '/' })
  assert.deepEqual(routeOf('/gemini/v1beta/models?a=/b'), { upstream: 'gemini', path: '/v1beta/models?a=/b' })
})

test('a key in the query goes, and nothing else of it', () => {
  assert.equal(withoutQueryKey('/m:g?alt=sse&key=app&fields=a%2Cb'), '/m:g?alt=sse&fields=a%2Cb')
  assert.equal(withoutQueryKey('/m:g?key=app'), '/m:g')
  assert.equal(withoutQueryKey('/m:g?%6Bey=app&keys=1'), '/m:g?keys=1')
  assert.equal(withoutQueryKey('/m:g'), '/m:g')
  assert.equal(withoutQueryKey('/m:g?$key=app&%24KEY=b&access_token=c&oauth%5Ftoken=d&alt=sse'), '/m:g?alt=sse')
})

test("what an upstream's owner sets stands in place of what there is by its name, in any spelling", () => {
  assert.deepEqual(withHeaders(['X-Route', 'a', 'accept', '*/*', 'x-route', 'b'], ['x-route', 'c']), ['accept', '*/*', 'x-route', 'c'])
  assert.deepEqual(withHeaders(['X-Route', 'a'], []), ['X-Route', 'a'])
})
