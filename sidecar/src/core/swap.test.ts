import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Capabilities } from '@farebox/crds/prices.ts'
import { downgradeFor, modelAllowed, planSwap } from './swap.ts'
import type { SwapInput } from './swap.ts'
import { call, chatRequest, result, user } from './testing.ts'

const capable: Capabilities = {
  contextTokens: 100_000,
  maxOutputTokens: 16_384,
  modalities: ['image'],
  tools: true,
  structuredOutput: true,
  reasoning: false,
  drop: [],
  rename: {},
}
const image = user([{ type: 'image_url', image_url: { url: 'https://example.com/a.png' } }])

function plan(
  change: Partial<SwapInput> & { readonly can?: Partial<Capabilities>; readonly fields?: readonly string[] },
): ReturnType<typeof planSwap> {
  const { can = {}, fields = [], ...input } = change
  const request = input.request ?? chatRequest([user('hi')])
  return planSwap({
    to: 'small',
    from: capable,
    target: { ...capable, ...can },
    inputTokens: 1_000,
    ...input,
    request: { ...request, fields: new Set([...request.fields, ...fields]) },
  })
}
const needs = (...args: Parameters<typeof plan>): string | null => {
  const planned = plan(...args)
  return planned.status === 'incapable' ? planned.needs : null
}

test('a request that needs nothing special is moved as it is', () => {
  assert.deepEqual(plan({}), { status: 'swap', swap: { from: 'gpt-4o', to: 'small', change: { drop: [], rename: {} } } })
})

test('the input may fill 90 percent of the context and no more', () => {
  assert.equal(needs({ inputTokens: 90_000 }), null)
  assert.equal(needs({ inputTokens: 90_001 }), 'a context of more than 100000 tokens')
})

test('media, tools and strict schemas need a model that takes them', () => {
  assert.equal(needs({ request: chatRequest([image]), can: { modalities: [] } }), 'image input')
  assert.equal(
    needs({ request: chatRequest([image]), messages: chatRequest([user('hi')]).messages, can: { modalities: [] } }),
    null,
    'an image that was cut away needs nothing',
  )
  assert.equal(needs({ request: chatRequest([user('hi')], { tools: 'offered' }), can: { tools: false } }), 'tools')
  assert.equal(
    needs({ request: chatRequest([user('q'), call({ id: 'a', name: 'f' }), result('a', 'r'), user('hi')]), can: { tools: false } }),
    'tools',
  )
  assert.equal(needs({ request: chatRequest([user('hi')], { structured: true }), can: { structuredOutput: false } }), 'structured output')
  assert.equal(
    needs({ request: chatRequest([user('hi')], { hosted: { tools: ['webSearch'], maxCalls: null, rereads: false } }) }),
    'hosted tools (webSearch)',
  )
})

test('parameters that the target refuses are dropped, unless the answer depends on them', () => {
  const planned = plan({ can: { drop: ['temperature', 'top_p', 'n'] }, fields: ['temperature', 'n'] })
  assert.deepEqual(planned.status === 'swap' && planned.swap.change.drop, ['n', 'temperature'])
  assert.equal(needs({ request: chatRequest([user('hi')], { choices: 2 }), can: { drop: ['n'] }, fields: ['n'] }), 'the parameter "n"')
  assert.equal(needs({ can: { drop: ['stop'] }, fields: ['stop'] }), 'the parameter "stop"')
  assert.equal(
    needs({ from: { ...capable, drop: ['stop'] }, can: { drop: ['stop'] }, fields: ['stop'] }),
    null,
    'the original model did not take it either',
  )
})

test('a model that does not reason gets no reasoning parameters', () => {
  const change = (reasoning: boolean): unknown => {
    const planned = plan({ can: { reasoning }, fields: ['reasoning_effort'] })
    return planned.status === 'swap' && planned.swap.change.drop
  }
  assert.deepEqual([change(false), change(true)], [['reasoning_effort'], []])
})

test('parameters are renamed where present, and never given twice', () => {
  const can = { rename: { max_tokens: 'max_completion_tokens', seed: 'random_seed' } }
  const once = plan({ can, fields: ['max_tokens'] })
  assert.deepEqual(once.status === 'swap' && once.swap.change, { drop: [], rename: { max_tokens: 'max_completion_tokens' } })
  const both = plan({ can, fields: ['max_tokens', 'max_completion_tokens'] })
  assert.deepEqual(both.status === 'swap' && both.swap.change, { drop: ['max_tokens'], rename: {} })
})

test('the first matching downgrade counts, and none to the same model', () => {
  const downgrades = [
    { from: 'gpt-4o', to: 'gpt-4o-mini' },
    { from: 'gpt-4*', to: 'gpt-4.1-nano' },
  ]
  assert.equal(downgradeFor(downgrades, 'gpt-4o'), 'gpt-4o-mini')
  assert.equal(downgradeFor(downgrades, 'gpt-4.1'), 'gpt-4.1-nano')
  assert.equal(downgradeFor(downgrades, 'gpt-4.1-nano'), null)
  assert.equal(downgradeFor(downgrades, 'o3'), null)
})

test('an empty list allows every model, else a pattern must match', () => {
  assert.equal(modelAllowed([], 'x'), true)
  assert.equal(modelAllowed(['gpt-4o', 'o3*'], 'o3-mini'), true)
  assert.equal(modelAllowed(['gpt-4o', 'o3*'], 'gpt-4o-mini'), false)
  assert.equal(modelAllowed(['*'], 'x'), true)
})
