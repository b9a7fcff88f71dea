import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { JsonObject } from '../core/request.ts'
import { messagesWire } from './anthropic-messages.ts'
import { completionsWire } from './completions.ts'
import { chatWire } from './openai-chat.ts'
import { responsesWire } from './responses-wire.ts'
import { routerUse, queryNamesModel, routingHeader } from './router-use.ts'
import { CHAT_CALL } from './bodies.testing.ts'
import type { Wire } from './wire.ts'

const used = (body: JsonObject, tools: readonly JsonObject[] = []): string | null => routerUse((name) => body[name], tools)

describe('of a router', () => {
  const refused: Record<string, readonly [body: JsonObject, what: RegExp]> = {
    'other models to fall back to': [{ model: 'cheap/mini', models: ['cheap/mini', 'dear/opus'] }, /fallbacks/],
    'models without one that is asked first': [{ models: ['dear/opus'] }, /fallbacks/],
    'models that are no list': [{ model: 'm', models: 'dear/opus' }, /fallbacks/],
    'fallbacks of LiteLLM': [{ model: 'm', fallbacks: ['dear/opus'] }, /fallbacks/],
    'fallbacks for what is too long': [{ model: 'm', context_window_fallbacks: [{ m: ['dear/opus'] }] }, /fallbacks/],
    'fallbacks for what is not allowed': [{ model: 'm', content_policy_fallbacks: [{ m: ['dear/opus'] }] }, /fallbacks/],
    'a fallback that it chooses': [{ model: 'm', route: 'fallback' }, /fallbacks/],
    'fallbacks of Vercel': [{ model: 'm', providerOptions: { gateway: { models: ['dear/opus'] } } }, /fallbacks/],
    'a mode of reasoning that is another model': [{ model: 'm', reasoning: { mode: 'pro' } }, /mode of reasoning/],
    'a mode of reasoning that nobody knows': [{ model: 'm', reasoning: { mode: 1 } }, /mode of reasoning/],
    'a model that is several agents': [{ model: 'x-ai/grok-4.20-multi-agent' }, /several agents/],
    'a preset': [{ model: 'm', preset: 'dear' }, /preset/],
    'a preset behind a model': [{ model: 'm@preset/dear' }, /preset/],
    'a search before the call': [{ model: 'm:online' }, /search/],
    'a search of a variant': [{ model: 'm:online:nitro' }, /search/],
    'the plugin that searches': [{ model: 'm', plugins: [{ id: 'web', max_results: 3 }] }, /plugins/],
    'a plugin that nobody knows': [{ model: 'm', plugins: [{ id: 'response-healing' }, { id: 'of-the-future' }] }, /plugins/],
    'plugins that are no list': [{ model: 'm', plugins: { id: 'web' } }, /plugins/],
  }
  for (const [name, [body, what]] of Object.entries(refused)) test(`${name} cannot be metered`, () => assert.match(used(body) ?? '', what))
  test('tools that it runs cannot be metered', () => assert.match(used({ model: 'm' }, [{ type: 'openrouter:web_search' }]) ?? '', /tools/))

  test('what costs nothing and asks nobody else passes', () => {
    for (const body of [
      { model: 'vendor/m:free' },
      { model: 'online' },
      { model: 'm', models: null, fallbacks: [], route: null, preset: null, plugins: null },
      { model: 'm', models: [], plugins: [] },
      { model: 'm', models: ['m'] },
      { model: 'm', providerOptions: { gateway: { models: ['m'], order: ['vertex'] } } },
      { model: 'm', providerOptions: null, reasoning: null },
      { model: 'm', reasoning: { effort: 'high', mode: 'standard' } },
      { model: 'm', reasoning: { mode: null } },
      { model: 'multi-agent' },
      { model: 'm:nitro', provider: { order: ['deepinfra'], sort: 'throughput' } },
      { model: 'm', plugins: [{ id: 'response-healing' }, { id: 'context-compression' }, { id: 'web', enabled: false }] },
    ])
      assert.equal(used(body), null)
    assert.equal(used({ model: 'm' }, [{ type: 'function' }, {}]), null)
  })
})

const MESSAGES = [{ role: 'user', content: 'Hi' }]
const wires: readonly (readonly [Wire, JsonObject])[] = [
  [chatWire, { model: 'm', messages: MESSAGES }],
  [responsesWire, { model: 'm', input: 'Hi' }],
  [completionsWire, { model: 'm', prompt: 'Hi' }],
  [messagesWire, { model: 'm', max_tokens: 5, messages: MESSAGES }],
]
for (const [wire, plain] of wires)
  test(`${wire.name} says what of a router cannot be metered`, async () => {
    const parse = (more: JsonObject): ReturnType<Wire['parse']> => wire.parse(Buffer.from(JSON.stringify({ ...plain, ...more })), CHAT_CALL)
    assert.equal((await parse({ models: ['m'] })).status, 'ok')
    for (const more of [{ models: ['dear'] }, { model: 'm:online' }, { plugins: [{ id: 'web' }] }])
      assert.equal((await parse(more)).status, 'ungoverned', JSON.stringify(more))
    if (wire === completionsWire) return
    assert.equal((await parse({ tools: [{ type: 'openrouter:web_search' }] })).status, 'ungoverned')
    const parsed = await parse({ models: ['m'] })
    assert.ok(parsed.status === 'ok')
    const sent: JsonObject = JSON.parse(wire.render(parsed.request, { model: 'other' }).toString())
    assert.deepEqual([sent['model'], sent['models']], ['other', undefined], 'a swap is fallen back from to nothing')
  })

describe('a header by which a gateway', () => {
  const chosen = (...names: readonly string[]): string | null => {
    const found = routingHeader(names.flatMap((name) => [name, 'any']))
    return found === null ? null : `${found.namesModel ? 'model' : 'host'}: ${found.name}`
  }

  test('may ask another model is known, however it is written', () => {
    for (const name of [
      'X-Portkey-Config',
      'x-portkey-azure-deployment-id',
      'x-portkey-azure-model-name',
      'x-portkey-provider-model',
      'x-portkey-amzn-sagemaker-target-model',
      'Helicone-Fallbacks',
    ])
      assert.equal(chosen(name), `model: ${name.toLowerCase()}`)
  })

  test('and a query by which it may', () => {
    for (const path of ['/chat/completions?model=o1-pro', '/embeddings?a=b&Model', '/responses?%6Dodel=o1-pro'])
      assert.equal(queryNamesModel(path), true, path)
    for (const path of ['/chat/completions', '/chat/completions?', '/deployments/a/chat/completions?api-version=1&models=a'])
      assert.equal(queryNamesModel(path), false, path)
  })

  test('is led to another host or provider is known', () => {
    for (const name of [
      'X-Portkey-Custom-Host',
      'x-portkey-provider',
      'x-portkey-virtual-key',
      'x-portkey-forward-headers',
      'x-portkey-azure-resource-name',
      'x-portkey-of-the-future',
      'Helicone-Target-Url',
      'Helicone-OpenAI-Api-Base',
      'X-TFY-Provider-Name',
      'x-bt-endpoint-name',
      'x-provider',
      'OE-AI-Provider',
      'x-envoy-original-dst-host',
    ])
      assert.equal(chosen(name), `host: ${name.toLowerCase()}`)
  })

  test('is led by another one behind it is known by what it hands on', () => {
    assert.equal(chosen('x-pass-x-portkey-config'), 'model: x-pass-x-portkey-config')
    assert.equal(chosen('X-BF-EH-Helicone-Target-Url'), 'host: x-bf-eh-helicone-target-url')
    assert.equal(chosen('x-pass-anthropic-beta', 'x-bf-eh-x-trace', 'x-pass-'), null)
  })

  test('may ask another model is found before one that leads it to a host', () =>
    assert.equal(chosen('accept', 'x-portkey-provider', 'x-portkey-config', 'x-provider'), 'model: x-portkey-config'))

  test('is paid, traced or told of a user chooses nothing', () =>
    assert.equal(
      chosen(
        'x-portkey-api-key',
        'x-portkey-metadata',
        'x-portkey-trace-id',
        'x-portkey-cache-force-refresh',
        'Helicone-Auth',
        'Helicone-Property-Provider',
        'Helicone-User-Id',
        'x-litellm-tags',
        'x-litellm-api-key',
        'cf-aig-authorization',
        'cf-aig-request-timeout',
        'x-bf-vk',
        'x-title',
        'x-stainless-os',
        'content-type',
        'x-providers',
        '',
      ),
      null,
    ))
})
