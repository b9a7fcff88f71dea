import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { inputTokens, usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import * as fc from 'fast-check'
import type { Json, JsonObject } from '../core/request.ts'
import { mergeAnthropicUsage, readAnthropicUsage, readServed } from './anthropic-usage.ts'
import { OTHERS_MAX, TOKENS_MAX } from './usage-reading.ts'

const NULLS = {
  cache_creation: null,
  cache_creation_input_tokens: null,
  cache_read_input_tokens: null,
  inference_geo: null,
  output_tokens_details: null,
  server_tool_use: null,
  service_tier: null,
  speed: null,
}

test('what a router says that it charged stands beside the usage, however many passes there were', () => {
  const iterations = [
    { type: 'compaction', input_tokens: 9, output_tokens: 2 },
    { type: 'message', input_tokens: 1, output_tokens: 1 },
  ]
  for (const more of [{}, { iterations }])
    assert.equal(readAnthropicUsage({ input_tokens: 1, output_tokens: 1, cost: 0.5, ...more }).toldCost, 500_000_000n)
})

describe('usage as Anthropic writes it', () => {
  const cases: Record<string, [raw: JsonObject, expected: Partial<Usage>]> = {
    'the least that there may be': [
      { input_tokens: 10, output_tokens: 5 },
      { uncachedInput: 10, output: 5 },
    ],
    'null is absent': [
      { ...NULLS, input_tokens: 10, output_tokens: 5 },
      { uncachedInput: 10, output: 5 },
    ],
    'input excludes what was read and written': [
      {
        input_tokens: 3,
        cache_creation_input_tokens: 1000,
        cache_read_input_tokens: 20_000,
        cache_creation: { ephemeral_5m_input_tokens: 400, ephemeral_1h_input_tokens: 600 },
        output_tokens: 250,
      },
      { uncachedInput: 3, cacheReadInput: 20_000, cacheWriteInput: 400, cacheWriteLongInput: 600, output: 250 },
    ],
    'writes without a life are short': [
      { input_tokens: 3, cache_creation_input_tokens: 1000, output_tokens: 1 },
      { uncachedInput: 3, cacheWriteInput: 1000, output: 1 },
    ],
    'what the lives leave of the writes is short': [
      { input_tokens: 3, cache_creation_input_tokens: 1000, cache_creation: { ephemeral_1h_input_tokens: 600 }, output_tokens: 1 },
      { uncachedInput: 3, cacheWriteInput: 400, cacheWriteLongInput: 600, output: 1 },
    ],
    'lives without their total': [
      { input_tokens: 3, cache_creation: { ephemeral_5m_input_tokens: 4, ephemeral_1h_input_tokens: 6 }, output_tokens: 1 },
      { uncachedInput: 3, cacheWriteInput: 4, cacheWriteLongInput: 6, output: 1 },
    ],
    'thinking is part of the output': [
      { input_tokens: 3, output_tokens: 900, output_tokens_details: { thinking_tokens: 850 } },
      { uncachedInput: 3, output: 900 },
    ],
    'searches cost, fetches do not': [
      { input_tokens: 3, output_tokens: 9, server_tool_use: { web_search_requests: 2, web_fetch_requests: 5 } },
      { uncachedInput: 3, output: 9, webSearchCalls: 2 },
    ],
    'all zero is a usage': [{ input_tokens: 0, output_tokens: 0 }, {}],
    'no iterations are none': [
      { input_tokens: 3, output_tokens: 9, iterations: [] },
      { uncachedInput: 3, output: 9 },
    ],
  }
  for (const [name, [raw, expected]] of Object.entries(cases)) {
    test(name, () => assert.deepEqual(readAnthropicUsage(raw), { usage: usageOf(expected), clamped: false, invalid: false }))
  }
})

test('each pass is one: the last message answers, compaction and advisors come on top, with the model that they name', () => {
  const read = readAnthropicUsage({
    input_tokens: 700,
    output_tokens: 70,
    server_tool_use: { web_search_requests: 1 },
    iterations: [
      { type: 'compaction', input_tokens: 180_000, output_tokens: 3_500, cache_read_input_tokens: 0, cache_creation_input_tokens: 0 },
      { type: 'message', input_tokens: 300, output_tokens: 30, cache_read_input_tokens: 50, model: null },
      { type: 'message', input_tokens: 400, output_tokens: 40, model: 'claude-opus-5-5' },
      { type: 'advisor_message', input_tokens: 9_000, output_tokens: 800, model: 'claude-fable-5-1' },
    ],
  })
  assert.deepEqual(read, {
    usage: usageOf({ uncachedInput: 400, output: 40, webSearchCalls: 1 }),
    others: [
      { model: null, usage: usageOf({ uncachedInput: 180_000, output: 3_500 }) },
      { model: null, usage: usageOf({ uncachedInput: 300, cacheReadInput: 50, output: 30 }) },
      { model: 'claude-fable-5-1', usage: usageOf({ uncachedInput: 9_000, output: 800 }) },
    ],
    clamped: false,
    invalid: false,
  })
})

test('no number of passes is lost', () => {
  const iterations = Array.from({ length: 500 }, () => ({ type: 'message', input_tokens: 2, output_tokens: 1 }))
  const { usage, others = [] } = readAnthropicUsage({ input_tokens: 1000, output_tokens: 500, iterations })
  assert.equal(others.length, OTHERS_MAX)
  const all = [usage, ...others.map((other) => other.usage)]
  assert.equal(
    all.reduce((sum, part) => sum + (part?.output ?? 0), 0),
    500,
  )
  assert.equal(
    all.reduce((sum, part) => sum + (part === null ? 0 : inputTokens(part)), 0),
    1000,
  )
})

describe('of a request that asks for the long cache', () => {
  const written = { input_tokens: 3, cache_creation_input_tokens: 65_000, output_tokens: 1 }
  const cases: Record<string, [lives: JsonObject | null, expected: Partial<Usage>]> = {
    'writes without a life are long': [null, { cacheWriteLongInput: 65_000 }],
    'what the lives leave is long': [
      { ephemeral_5m_input_tokens: 1_000, ephemeral_1h_input_tokens: 4_000 },
      { cacheWriteInput: 1_000, cacheWriteLongInput: 64_000 },
    ],
    'what the lives leave nothing of is as they say': [
      { ephemeral_5m_input_tokens: 60_000, ephemeral_1h_input_tokens: 5_000 },
      { cacheWriteInput: 60_000, cacheWriteLongInput: 5_000 },
    ],
  }
  for (const [name, [cache_creation, expected]] of Object.entries(cases))
    test(name, () => {
      const usage = usageOf({ uncachedInput: 3, output: 1, ...expected })
      assert.deepEqual(readAnthropicUsage({ ...written, cache_creation }, 'long'), { usage, clamped: false, invalid: false })
    })
})

test('more written for a life than was written at all is cut, and said to be', () => {
  assert.deepEqual(
    readAnthropicUsage({
      input_tokens: 3,
      output_tokens: 1,
      cache_creation_input_tokens: 5,
      cache_creation: { ephemeral_1h_input_tokens: 9 },
    }),
    { usage: usageOf({ uncachedInput: 3, cacheWriteLongInput: 5, output: 1 }), clamped: true, invalid: false },
  )
})

test('no usage is none, and a number that cannot be makes all of it invalid', () => {
  for (const raw of [undefined, null, {}, { input_tokens: 5 }, { output_tokens: 5 }] as const)
    assert.deepEqual(readAnthropicUsage(raw), { usage: null, clamped: false, invalid: false })
  for (const bad of [-1, 0.5, TOKENS_MAX + 1, '5', true, [], {}]) {
    for (const raw of [
      { input_tokens: bad, output_tokens: 1 },
      { input_tokens: 1, output_tokens: bad },
      { input_tokens: 1, output_tokens: 1, cache_read_input_tokens: bad },
      { input_tokens: 1, output_tokens: 1, cache_creation: { ephemeral_1h_input_tokens: bad } },
      { input_tokens: 1, output_tokens: 1, server_tool_use: { web_search_requests: bad } },
      { input_tokens: 1, output_tokens: 1, iterations: [{ type: 'message', input_tokens: 1, output_tokens: bad }] },
    ])
      assert.deepEqual(readAnthropicUsage(raw), { usage: null, clamped: false, invalid: true }, JSON.stringify(raw))
  }
  for (const raw of ['usage', 5, [], true]) assert.equal(readAnthropicUsage(raw).invalid, true)
})

test('a stream says the same as an answer in one piece, however its totals come', () => {
  const count = fc.nat(100_000)
  const whole = fc.record({
    input_tokens: count,
    cache_read_input_tokens: fc.option(count),
    cache_creation_input_tokens: fc.option(count),
    server_tool_use: fc.option(fc.record({ web_search_requests: fc.nat(9) })),
    output_tokens: count,
  })
  fc.assert(
    fc.property(whole, fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 3 }), fc.boolean(), (usage, shares, repeats) => {
      let seen: JsonObject = { ...usage, server_tool_use: null, output_tokens: 1 }
      for (const share of shares)
        seen = mergeAnthropicUsage(seen, { ...nulls(usage), output_tokens: Math.floor(usage.output_tokens * share) })
      const last = { server_tool_use: usage.server_tool_use, output_tokens: usage.output_tokens }
      seen = mergeAnthropicUsage(seen, repeats ? { ...usage, ...last } : { ...nulls(usage), ...last })
      assert.deepEqual(readAnthropicUsage(seen), readAnthropicUsage(usage))
    }),
  )
})

function nulls(usage: JsonObject): JsonObject {
  return Object.fromEntries(Object.keys(usage).map((field) => [field, null]))
}

test('how a call was served is one word for each thing that was said', () => {
  const cases: readonly [Json | undefined, string | null][] = [
    [undefined, null],
    [{ input_tokens: 1 }, null],
    [{ ...NULLS }, null],
    [{ service_tier: 'standard' }, 'standard'],
    [{ service_tier: 'standard', speed: 'fast', inference_geo: 'us' }, 'standard+fast+us'],
    [{ service_tier: 'batch', speed: null, inference_geo: 'not_available' }, 'batch+not_available'],
    [{ service_tier: 5 }, null],
  ]
  for (const [raw, served] of cases) assert.equal(readServed(raw), served)
})
