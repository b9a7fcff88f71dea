import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Capabilities, Prices } from '@farebox/crds/prices.ts'
import { METERED_KINDS } from '@farebox/crds/usage.ts'
import { CAPABLE } from './capabilities.testing.ts'
import { downgradeFor, modelAllowed, planSwap, swapSaves } from './swap.ts'
import type { SwapInput, SwapMoney } from './swap.ts'
import { call, chatRequest, result, user } from './requests.testing.ts'

const capable: Capabilities = { ...CAPABLE, contextTokens: 100_000 }
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
  assert.deepEqual(plan({}), { status: 'swap', swap: { from: 'gpt-4o', to: 'small', upstream: null, change: { drop: [], rename: {} } } })
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

test('an effort that the target does not take gives way to the nearest, of two as near to the lesser, or to none', () => {
  const moved = (effort: string | undefined, efforts: Capabilities['efforts']): unknown => {
    const request = chatRequest([user('hi')], effort === undefined ? {} : { effort })
    const planned = plan({ request, can: { reasoning: true, ...(efforts === undefined ? {} : { efforts }) } })
    return planned.status === 'swap' && planned.swap.change.effort
  }
  assert.equal(moved('minimal', ['low', 'medium', 'high']), 'low')
  assert.equal(moved('max', ['low', 'medium', 'high']), 'high')
  assert.equal(moved('minimal', ['none', 'low']), 'none')
  assert.equal(moved('none', ['minimal', 'low']), 'minimal')
  assert.equal(moved('high', []), null)
  assert.equal(moved('low', ['low']), undefined, 'it is taken')
  assert.equal(moved('high', undefined), undefined, 'nobody knows')
  assert.equal(moved('utmost', ['low']), undefined, 'a word for the provider to judge')
  assert.equal(moved(undefined, []), undefined)
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
  assert.equal(downgradeFor(downgrades, 'gpt-4o')?.to, 'gpt-4o-mini')
  assert.equal(downgradeFor(downgrades, 'gpt-4.1')?.to, 'gpt-4.1-nano')
  assert.equal(downgradeFor(downgrades, 'gpt-4.1-nano'), null)
  assert.equal(downgradeFor(downgrades, 'o3'), null)
})

test('an empty list allows every model, else a pattern must match', () => {
  assert.equal(modelAllowed([], 'x'), true)
  assert.equal(modelAllowed(['gpt-4o', 'o3*'], 'o3-mini'), true)
  assert.equal(modelAllowed(['gpt-4o', 'o3*'], 'gpt-4o-mini'), false)
  assert.equal(modelAllowed(['*'], 'x'), true)
})

/** Prices in proportion to that of input: a cached token a tenth, a written one a quarter more, output four times as much. */
function pricesAt(unit: bigint, more: Partial<Prices> = {}): Prices {
  const nothing = Object.fromEntries(METERED_KINDS.map((kind) => [kind, 0n])) as Record<keyof Prices, bigint>
  return { ...nothing, uncachedInput: 10n * unit, cacheReadInput: unit, cacheWriteInput: 0n, output: 40n * unit, ...more }
}
const warm: Omit<SwapMoney, 'from' | 'to' | 'furtherCalls'> = {
  inputTokens: { from: 20_000, to: 20_000 },
  cachedTokens: 20_000,
  outputTokens: 0,
}
/** Fewest further calls after which a swap saves; null when none of the first thousand does. */
function breakEven(money: Partial<SwapMoney> & Pick<SwapMoney, 'from' | 'to'>): number | null {
  for (let furtherCalls = 0; furtherCalls <= 1_000; furtherCalls++) if (swapSaves({ ...warm, ...money, furtherCalls })) return furtherCalls
  return null
}

test('a swap pays for the cache that it loses: at a tenth of the price at once, at half of it after many calls', () => {
  const from = pricesAt(1_000n)
  assert.equal(breakEven({ from, to: pricesAt(100n) }), 1)
  assert.equal(breakEven({ from, to: pricesAt(100n), cachedTokens: 0 }), 0)
  assert.equal(breakEven({ from, to: pricesAt(500n) }), 9)
  assert.equal(breakEven({ from, to: pricesAt(500n, { cacheWriteInput: 6_250n }) }), 11, 'where writing has a price')
  assert.equal(breakEven({ from, to: pricesAt(500n), outputTokens: 5_000 }), 0, 'what is saved on output counts too')
  assert.equal(breakEven({ from, to: from }), null)
})

test('each model counts the input in its own way: a picture may be so many tokens to the cheaper one that nothing saves', () => {
  const from = pricesAt(1_000n)
  const to = pricesAt(100n)
  assert.equal(breakEven({ from, to, cachedTokens: 0, inputTokens: { from: 3_000, to: 29_000 } }), 0)
  assert.equal(breakEven({ from, to, cachedTokens: 0, inputTokens: { from: 3_000, to: 31_000 } }), null)
  assert.equal(breakEven({ from, to, cachedTokens: 3_000, inputTokens: { from: 3_000, to: 31_000 } }), null)
})

test('what saves with so many calls to come saves with more, and a cheaper target never saves less', () => {
  const money = fc.record({
    inputTokens: fc.nat(200_000).map((tokens) => ({ from: tokens, to: tokens })),
    cachedTokens: fc.nat(200_000),
    outputTokens: fc.nat(8_000),
    furtherCalls: fc.nat(60),
    from: fc.bigInt(500n, 1_000n).map((unit) => pricesAt(unit)),
    to: fc.bigInt(1n, 499n).map((unit) => pricesAt(unit, { cacheWriteInput: (25n * unit) / 2n })),
  })
  fc.assert(
    fc.property(money, (at) => {
      if (!swapSaves(at)) return
      assert.ok(swapSaves({ ...at, furtherCalls: at.furtherCalls + 1 }))
      assert.ok(swapSaves({ ...at, to: pricesAt(at.to.cacheReadInput - 1n) }))
    }),
  )
})
