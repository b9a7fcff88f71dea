import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { inputTokens, usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import * as fc from 'fast-check'
import type { JsonObject } from '../core/request.ts'
import { readResponsesUsage } from './responses-usage.ts'
import { TOKENS_MAX } from './usage-reading.ts'

const PLAIN = { input_tokens: 36, output_tokens: 87, total_tokens: 123 }

describe('usage as the Responses API writes it', () => {
  const cases: Record<string, [response: JsonObject, expected: Partial<Usage>]> = {
    'nothing cached': [
      {
        usage: {
          ...PLAIN,
          input_tokens_details: { cached_tokens: 0, cache_write_tokens: 0 },
          output_tokens_details: { reasoning_tokens: 64 },
        },
      },
      { uncachedInput: 36, output: 87 },
    ],
    'cached, and written with both lives': [
      {
        usage: {
          input_tokens: 10_000,
          input_tokens_details: {
            cached_tokens: 6_000,
            cache_write_tokens: 3_000,
            cache_write_tokens_details: { ttl_30m_tokens: 2_000, ttl_12h_tokens: 1_000 },
          },
          output_tokens: 5,
        },
      },
      { uncachedInput: 1_000, cacheReadInput: 6_000, cacheWriteInput: 2_000, cacheWriteLongInput: 1_000, output: 5 },
    ],
    'the cache as Perplexity has it': [
      {
        usage: {
          input_tokens: 10_000,
          input_tokens_details: { cache_creation_input_tokens: 3_000, cache_read_input_tokens: 6_000 },
          output_tokens: 5,
        },
      },
      { uncachedInput: 1_000, cacheReadInput: 6_000, cacheWriteInput: 3_000, output: 5 },
    ],
    'the cache on top of the input, by the total': [
      { usage: { input_tokens: 5_000, output_tokens: 300, total_tokens: 8_300, cache_read_input_tokens: 3_000 } },
      { uncachedInput: 5_000, cacheReadInput: 3_000, output: 300 },
    ],
    'billable searches, not those in the output': [
      {
        usage: PLAIN,
        tool_usage: { web_search: { num_requests: 1 } },
        output: [
          { type: 'web_search_call', action: { type: 'search' } },
          { type: 'web_search_call', action: { type: 'search' } },
        ],
      },
      { uncachedInput: 36, output: 87, webSearchCalls: 1 },
    ],
    'an explicit zero of billable searches is zero': [
      { usage: PLAIN, tool_usage: { web_search: { num_requests: 0 } }, output: [{ type: 'web_search_call' }] },
      { uncachedInput: 36, output: 87 },
    ],
    'searches of a response without tool usage: looking into a page is none': [
      {
        usage: PLAIN,
        output: [
          { type: 'web_search_call', action: { type: 'search', query: 'x' } },
          { type: 'web_search_call', action: { type: 'open_page', url: 'https://example.com' } },
          { type: 'web_search_call', action: { type: 'find_in_page' } },
          { type: 'web_search_call' },
        ],
      },
      { uncachedInput: 36, output: 87, webSearchCalls: 2 },
    ],
    'searches in files each, a container once however often code runs in it': [
      {
        usage: PLAIN,
        output: [
          { type: 'file_search_call' },
          { type: 'file_search_call' },
          { type: 'code_interpreter_call', container_id: 'cntr_1' },
          { type: 'code_interpreter_call', container_id: 'cntr_1' },
          { type: 'code_interpreter_call', container_id: 'cntr_2' },
          { type: 'message' },
          'what nobody knows',
        ],
      },
      { uncachedInput: 36, output: 87, fileSearchCalls: 2, codeContainers: 2 },
    ],
    'tools that were not used': [
      {
        usage: PLAIN,
        tool_usage: {
          web_search: { num_requests: 0 },
          image_gen: { input_tokens: 0, input_tokens_details: { image_tokens: 0, text_tokens: 0 }, output_tokens: 0, total_tokens: 0 },
        },
      },
      { uncachedInput: 36, output: 87 },
    ],
    'details that are null': [
      { usage: { ...PLAIN, input_tokens_details: null, output_tokens_details: null }, tool_usage: null, output: null },
      { uncachedInput: 36, output: 87 },
    ],
    'calls as xAI counts them, not by the items': [
      {
        usage: {
          ...PLAIN,
          server_side_tool_usage_details: {
            web_search_calls: 1,
            x_search_calls: 3,
            code_interpreter_calls: 2,
            file_search_calls: 4,
            document_search_calls: 1,
            mcp_calls: 5,
          },
        },
        output: [{ type: 'web_search_call' }, { type: 'web_search_call' }, { type: 'custom_tool_call', name: 'x_keyword_search' }],
      },
      { uncachedInput: 36, output: 87, webSearchCalls: 4, fileSearchCalls: 5, codeContainers: 2 },
    ],
    'all zero is a usage': [{ usage: { input_tokens: 0, output_tokens: 0, total_tokens: 0 } }, {}],
  }
  for (const [name, [response, expected]] of Object.entries(cases)) {
    test(name, () => assert.deepEqual(readResponsesUsage(response), { usage: usageOf(expected), clamped: false, invalid: false }))
  }
})

test('cache writes without a life have the one that the request asked for', () => {
  const usage = { input_tokens: 1_000, input_tokens_details: { cache_write_tokens: 700 }, output_tokens: 5 }
  assert.deepEqual(readResponsesUsage({ usage }, 'long').usage, usageOf({ uncachedInput: 300, cacheWriteLongInput: 700, output: 5 }))
})

test('images that a tool made are those of the model that the tool names, or of the usual one', () => {
  const made = {
    input_tokens: 60,
    input_tokens_details: { image_tokens: 40, text_tokens: 20 },
    output_tokens: 1_056,
    output_tokens_details: { image_tokens: 1_000, text_tokens: 56 },
  }
  const usage = usageOf({ uncachedInput: 20, imageInput: 40, output: 56, imageOutput: 1_000 })
  for (const [tools, model] of [
    [[{ type: 'function' }, { type: 'image_generation', model: 'gpt-image-1.5' }], 'gpt-image-1.5'],
    [[{ type: 'image_generation' }], 'gpt-image-1'],
    [undefined, 'gpt-image-1'],
  ] as const)
    assert.deepEqual(readResponsesUsage({ usage: PLAIN, tool_usage: { image_gen: made }, tools }).others, [{ model, usage }])
})

test('parts that are more than their total are cut to it, and said to be', () => {
  const read = readResponsesUsage({
    usage: { input_tokens: 10, input_tokens_details: { cached_tokens: 8, cache_write_tokens: 8 }, output_tokens: 1 },
  })
  assert.deepEqual(read, { usage: usageOf({ cacheReadInput: 8, cacheWriteInput: 2, output: 1 }), clamped: true, invalid: false })
})

test('the most that may be sound is what is said of it and what was cached, which may be any; absent where nothing is said', () => {
  const soundOf = (inputDetails: JsonObject): number | undefined =>
    readResponsesUsage({ usage: { input_tokens: 100, output_tokens: 1, input_tokens_details: inputDetails } }).audioTokens
  assert.equal(soundOf({ audio_tokens: 0, cached_tokens: 0 }), 0)
  assert.equal(soundOf({ audio_tokens: 30, cached_tokens: 20, cache_write_tokens: 5 }), 55)
  assert.equal(soundOf({ audio_tokens: 90, cached_tokens: 80 }), 100)
  assert.equal(soundOf({ cached_tokens: 20 }), undefined)
})

test('no usage is none, and a number that cannot be makes all of it invalid', () => {
  for (const response of [{}, { usage: null }, { usage: {} }, { usage: { input_tokens: 1 } }, { usage: { output_tokens: 1 } }])
    assert.deepEqual(readResponsesUsage(response), { usage: null, clamped: false, invalid: false })
  for (const bad of [-1, 0.5, TOKENS_MAX + 1, '5', true, {}]) {
    for (const response of [
      { usage: { ...PLAIN, input_tokens: bad } },
      { usage: { ...PLAIN, output_tokens: bad } },
      { usage: { ...PLAIN, input_tokens_details: { cached_tokens: bad } } },
      { usage: { ...PLAIN, input_tokens_details: { cache_write_tokens_details: { ttl_12h_tokens: bad } } } },
      { usage: PLAIN, tool_usage: { web_search: { num_requests: bad } } },
      { usage: { ...PLAIN, server_side_tool_usage_details: { x_search_calls: bad } } },
      { usage: PLAIN, tool_usage: { image_gen: { input_tokens: bad, output_tokens: 1 } } },
    ])
      assert.deepEqual(readResponsesUsage(response), { usage: null, clamped: false, invalid: true }, JSON.stringify(response))
  }
  for (const usage of ['usage', 5, [], true]) assert.equal(readResponsesUsage({ usage }).invalid, true)
})

test('whatever the parts, input kinds add up to the input', () => {
  const tokens = fc.option(fc.nat(100))
  const usage = fc.record({
    input_tokens: fc.nat(100),
    input_tokens_details: fc.record({ cached_tokens: tokens, cache_write_tokens: tokens, image_tokens: tokens, audio_tokens: tokens }),
    output_tokens: fc.nat(100),
  })
  fc.assert(
    fc.property(usage, (written) => {
      const read = readResponsesUsage({ usage: written }).usage
      assert.ok(read !== null)
      assert.equal(inputTokens(read), written.input_tokens)
      assert.equal(read.output, written.output_tokens)
      assert.ok(read.cacheReadInput <= (written.input_tokens_details.cached_tokens ?? 0))
    }),
  )
})
