import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { inputTokens, usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import * as fc from 'fast-check'
import type { Json, JsonObject } from '../core/request.ts'
import { readUsage } from './openai-usage.ts'
import { TOKENS_MAX } from './usage-reading.ts'

describe('usage as providers write it', () => {
  const cases: Record<string, [raw: JsonObject, expected: Partial<Usage>, audioTokens?: number]> = {
    'the least that there may be': [
      { prompt_tokens: 10, completion_tokens: 5 },
      { uncachedInput: 10, output: 5 },
    ],
    'OpenAI, nothing cached': [
      {
        prompt_tokens: 19,
        completion_tokens: 10,
        total_tokens: 29,
        prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
        completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 0, accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
      },
      { uncachedInput: 19, output: 10 },
      0,
    ],
    'OpenAI, cached': [
      { prompt_tokens: 2006, completion_tokens: 300, total_tokens: 2306, prompt_tokens_details: { cached_tokens: 1920 } },
      { uncachedInput: 86, cacheReadInput: 1920, output: 300 },
    ],
    'reasoning and rejected predictions are part of the output': [
      {
        prompt_tokens: 10,
        completion_tokens: 500,
        total_tokens: 510,
        completion_tokens_details: { reasoning_tokens: 448, rejected_prediction_tokens: 12 },
      },
      { uncachedInput: 10, output: 500 },
    ],
    'audio in and out': [
      {
        prompt_tokens: 100,
        completion_tokens: 80,
        total_tokens: 180,
        prompt_tokens_details: { cached_tokens: 20, audio_tokens: 30, text_tokens: 70 },
        completion_tokens_details: { audio_tokens: 60, text_tokens: 20 },
      },
      { uncachedInput: 50, cacheReadInput: 20, audioInput: 30, output: 20, audioOutput: 60 },
      50,
    ],
    images: [
      { prompt_tokens: 300, completion_tokens: 8, prompt_tokens_details: { image_tokens: 255, text_tokens: 45 } },
      { uncachedInput: 45, imageInput: 255, output: 8 },
    ],
    'cache writes of both lives': [
      {
        prompt_tokens: 1000,
        completion_tokens: 1,
        prompt_tokens_details: {
          cached_tokens: 100,
          cache_write_tokens: 700,
          cache_write_tokens_details: { ttl_30m_tokens: 500, ttl_12h_tokens: 200 },
        },
      },
      { uncachedInput: 200, cacheReadInput: 100, cacheWriteInput: 500, cacheWriteLongInput: 200, output: 1 },
    ],
    'cache writes without their lives are short': [
      { prompt_tokens: 1000, completion_tokens: 1, prompt_tokens_details: { cache_write_tokens: 700 } },
      { uncachedInput: 300, cacheWriteInput: 700, output: 1 },
    ],
    'cached tokens beside the details, as DeepSeek has them': [
      { prompt_tokens: 100, completion_tokens: 7, total_tokens: 107, prompt_cache_hit_tokens: 64, prompt_cache_miss_tokens: 36 },
      { uncachedInput: 36, cacheReadInput: 64, output: 7 },
    ],
    'cached tokens beside the details, as Moonshot has them': [
      { prompt_tokens: 100, completion_tokens: 7, total_tokens: 107, cached_tokens: 64 },
      { uncachedInput: 36, cacheReadInput: 64, output: 7 },
    ],
    'cached tokens in both places count once': [
      { prompt_tokens: 100, completion_tokens: 7, prompt_cache_hit_tokens: 64, prompt_tokens_details: { cached_tokens: 64 } },
      { uncachedInput: 36, cacheReadInput: 64, output: 7 },
    ],
    'cache writes as LiteLLM has them, in details of its own and beside them': [
      {
        prompt_tokens: 1000,
        completion_tokens: 1,
        prompt_tokens_details: {
          cached_tokens: 100,
          cache_creation_tokens: 700,
          cache_creation_token_details: { ephemeral_5m_input_tokens: 500, ephemeral_1h_input_tokens: 200 },
        },
        cache_creation_input_tokens: 700,
        cache_read_input_tokens: 100,
      },
      { uncachedInput: 200, cacheReadInput: 100, cacheWriteInput: 500, cacheWriteLongInput: 200, output: 1 },
    ],
    "the cache in Anthropic's words alone, beside the details": [
      {
        prompt_tokens: 1000,
        completion_tokens: 1,
        cache_creation_input_tokens: 700,
        cache_read_input_tokens: 100,
        cache_creation: { ephemeral_5m_input_tokens: 600, ephemeral_1h_input_tokens: 100 },
      },
      { uncachedInput: 200, cacheReadInput: 100, cacheWriteInput: 600, cacheWriteLongInput: 100, output: 1 },
    ],
    'the same, with an input that leaves it out, and a total that does so too': [
      {
        prompt_tokens: 31,
        completion_tokens: 467,
        total_tokens: 498,
        prompt_tokens_details: { cached_tokens: 0 },
        cache_creation_input_tokens: 1253,
        cache_read_input_tokens: 0,
      },
      { uncachedInput: 31, cacheWriteInput: 1253, output: 467 },
    ],
    'or a total that has it: nothing of it was reasoning': [
      { prompt_tokens: 31, completion_tokens: 467, total_tokens: 1851, cache_creation_input_tokens: 1253, cache_read_input_tokens: 100 },
      { uncachedInput: 31, cacheReadInput: 100, cacheWriteInput: 1253, output: 467 },
    ],
    'less than the rest, and on top of it by the total': [
      {
        prompt_tokens: 5000,
        completion_tokens: 300,
        total_tokens: 8400,
        prompt_tokens_details: { cached_tokens: 0 },
        cache_creation_input_tokens: 100,
        cache_read_input_tokens: 3000,
      },
      { uncachedInput: 5000, cacheReadInput: 3000, cacheWriteInput: 100, output: 300 },
    ],
    'less than the rest, with a total that does not say so, is part of it': [
      { prompt_tokens: 5000, completion_tokens: 300, total_tokens: 5300, cache_read_input_tokens: 3000 },
      { uncachedInput: 2000, cacheReadInput: 3000, output: 300 },
    ],
    'a zero in the details beside a number outside them': [
      {
        prompt_tokens: 6000,
        completion_tokens: 7,
        total_tokens: 6007,
        prompt_tokens_details: { cached_tokens: 0, cache_creation_tokens: 0 },
        cache_read_input_tokens: 5000,
        cache_creation_input_tokens: 500,
      },
      { uncachedInput: 500, cacheReadInput: 5000, cacheWriteInput: 500, output: 7 },
    ],
    'an explicit zero in the details is zero': [
      { prompt_tokens: 100, completion_tokens: 7, cached_tokens: 64, prompt_tokens_details: { cached_tokens: 0 } },
      { uncachedInput: 100, output: 7 },
    ],
    'null in the details is absent': [
      { prompt_tokens: 100, completion_tokens: 7, cached_tokens: 64, prompt_tokens_details: { cached_tokens: null } },
      { uncachedInput: 36, cacheReadInput: 64, output: 7 },
    ],
    'details that are null': [
      { prompt_tokens: 100, completion_tokens: 7, prompt_tokens_details: null, completion_tokens_details: null },
      { uncachedInput: 100, output: 7 },
    ],
    'reasoning that is only in the total, as xAI has it': [
      { prompt_tokens: 32, completion_tokens: 9, total_tokens: 135, completion_tokens_details: { reasoning_tokens: 94 } },
      { uncachedInput: 32, output: 103 },
    ],
    'a total that is less than its parts says nothing': [
      { prompt_tokens: 32, completion_tokens: 9, total_tokens: 10 },
      { uncachedInput: 32, output: 9 },
    ],
    'no completion but a total': [
      { prompt_tokens: 32, total_tokens: 40 },
      { uncachedInput: 32, output: 8 },
    ],
    'embeddings: a total that is the prompt': [{ prompt_tokens: 8, total_tokens: 8 }, { uncachedInput: 8 }],
    'audio in seconds, as Mistral counts it: the rest of the total was heard': [
      { prompt_tokens: 4, completion_tokens: 635, total_tokens: 3264, prompt_audio_seconds: 203 },
      { uncachedInput: 4, audioInput: 2625, output: 635, seconds: 203 },
      2625,
    ],
    'no audio, as Mistral says it': [
      { prompt_tokens: 4, completion_tokens: 5, total_tokens: 9, prompt_audio_seconds: {} },
      { uncachedInput: 4, output: 5 },
    ],
    'all zero is a usage': [{ prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 }, {}],
    'searches, as Anthropic counts them': [
      { prompt_tokens: 1, completion_tokens: 1, server_tool_use: { web_search_requests: 3 } },
      { uncachedInput: 1, output: 1, webSearchCalls: 3 },
    ],
    'searches, as Perplexity counts them': [
      { prompt_tokens: 1, completion_tokens: 1, num_search_queries: 2 },
      { uncachedInput: 1, output: 1, webSearchCalls: 2 },
    ],
    'fields that nobody knows': [
      { prompt_tokens: 1, completion_tokens: 1, energy: 0.5, queue_time: -1.5, x: null },
      { uncachedInput: 1, output: 1 },
    ],
    'the most that is believed': [{ prompt_tokens: TOKENS_MAX, completion_tokens: 0 }, { uncachedInput: TOKENS_MAX }],
  }
  for (const [name, [raw, expected, audioTokens]] of Object.entries(cases)) {
    const sound = audioTokens === undefined ? {} : { audioTokens }
    test(name, () => assert.deepEqual(readUsage(raw), { usage: usageOf(expected), ...sound, clamped: false, invalid: false }))
  }
})

test('cache writes without a life have the one that the request asked for', () => {
  const read = (counts: JsonObject): readonly (number | undefined)[] => {
    const { usage } = readUsage({ prompt_tokens: 1000, completion_tokens: 1, prompt_tokens_details: counts }, { cacheWrites: 'long' })
    return [usage?.cacheWriteInput, usage?.cacheWriteLongInput]
  }
  assert.deepEqual(read({ cache_write_tokens: 700 }), [0, 700])
  assert.deepEqual(read({ cache_creation_tokens: 700 }), [0, 700])
  assert.deepEqual(read({ cache_write_tokens: 700, cache_write_tokens_details: { ttl_30m_tokens: 500, ttl_12h_tokens: 200 } }), [500, 200])
  assert.deepEqual(read({ cache_creation_tokens: 700, cache_creation_token_details: { ephemeral_5m_input_tokens: 600 } }), [600, 100])
})

test('what the provider says that it charged stands beside the usage', () => {
  const usage = usageOf({ uncachedInput: 1, output: 1 })
  const raw = { prompt_tokens: 1, completion_tokens: 1, cost: 0.5 }
  assert.deepEqual(readUsage(raw), { usage, toldCost: 500_000_000n, clamped: false, invalid: false })
})

describe('parts that are more than their total are cut to it, and said to be', () => {
  const cases: Record<string, [raw: JsonObject, expected: Partial<Usage>, audioTokens?: number]> = {
    'more cached than there was': [
      { prompt_tokens: 10, completion_tokens: 1, prompt_tokens_details: { cached_tokens: 11 } },
      { cacheReadInput: 10, output: 1 },
    ],
    'overlapping parts': [
      { prompt_tokens: 10, completion_tokens: 1, prompt_tokens_details: { cached_tokens: 8, audio_tokens: 8, image_tokens: 8 } },
      { cacheReadInput: 8, audioInput: 2, output: 1 },
      10,
    ],
    'audio of which most was cached, nobody says how much': [
      {
        prompt_tokens: 21_000,
        completion_tokens: 10,
        total_tokens: 21_010,
        prompt_tokens_details: { cached_tokens: 18_000, audio_tokens: 20_000 },
      },
      { uncachedInput: 0, cacheReadInput: 18_000, audioInput: 3_000, output: 10 },
      21_000,
    ],
    'more long-lived writes than writes': [
      {
        prompt_tokens: 10,
        completion_tokens: 1,
        prompt_tokens_details: { cache_write_tokens: 4, cache_write_tokens_details: { ttl_12h_tokens: 6 } },
      },
      { uncachedInput: 6, cacheWriteLongInput: 4, output: 1 },
    ],
    'more audio than output': [
      { prompt_tokens: 10, completion_tokens: 3, completion_tokens_details: { audio_tokens: 5 } },
      { uncachedInput: 10, audioOutput: 3 },
    ],
  }
  for (const [name, [raw, expected, audioTokens]] of Object.entries(cases)) {
    const sound = audioTokens === undefined ? {} : { audioTokens }
    test(name, () => assert.deepEqual(readUsage(raw), { usage: usageOf(expected), ...sound, clamped: true, invalid: false }))
  }
})

test('no usage is none, which is not the same as zero', () => {
  const absent: (Json | undefined)[] = [
    undefined,
    null,
    {},
    { completion_tokens: 5 },
    { prompt_tokens: null, completion_tokens: 5 },
    { prompt_tokens: 5 },
    { total_tokens: 5 },
  ]
  for (const raw of absent) assert.deepEqual(readUsage(raw), { usage: null, clamped: false, invalid: false })
})

test('a number that cannot be makes the whole usage invalid, wherever it stands', () => {
  for (const bad of [-1, 0.5, TOKENS_MAX + 1, '5', true, [], {}, NaN]) {
    for (const raw of [
      { prompt_tokens: bad, completion_tokens: 1 },
      { prompt_tokens: 1, completion_tokens: bad },
      { prompt_tokens: 1, completion_tokens: 1, total_tokens: bad },
      { prompt_tokens: 1, completion_tokens: 1, prompt_tokens_details: { cached_tokens: bad } },
      { prompt_tokens: 1, completion_tokens: 1, prompt_tokens_details: { cache_write_tokens_details: { ttl_12h_tokens: bad } } },
      { prompt_tokens: 1, completion_tokens: 1, prompt_tokens_details: { cache_creation_tokens: bad } },
      { prompt_tokens: 1, completion_tokens: 1, cache_creation_input_tokens: bad },
      { prompt_tokens: 1, completion_tokens: 1, completion_tokens_details: { audio_tokens: bad } },
      { prompt_tokens: 1, completion_tokens: 1, server_tool_use: { web_search_requests: bad } },
    ])
      assert.deepEqual(readUsage(raw), { usage: null, clamped: false, invalid: true })
  }
  for (const raw of ['usage', 5, [], true]) assert.equal(readUsage(raw).invalid, true)
})

test('whatever the parts, input kinds add up to the prompt and output kinds to what is left', () => {
  const tokens = fc.oneof(fc.nat(100), fc.constant(null), fc.constant(undefined))
  const raw = fc.record({
    prompt_tokens: fc.nat(100),
    completion_tokens: fc.nat(100),
    total_tokens: tokens,
    prompt_tokens_details: fc.record({
      cached_tokens: tokens,
      cache_write_tokens: tokens,
      audio_tokens: tokens,
      image_tokens: tokens,
      cache_write_tokens_details: fc.record({ ttl_12h_tokens: tokens }),
    }),
    completion_tokens_details: fc.record({ audio_tokens: tokens, reasoning_tokens: tokens }),
  })
  fc.assert(
    fc.property(raw, (written) => {
      const { usage, invalid } = readUsage(written)
      assert.ok(usage !== null && !invalid)
      assert.equal(inputTokens(usage), written.prompt_tokens)
      assert.equal(
        usage.output + usage.audioOutput,
        Math.max(written.completion_tokens, (written.total_tokens ?? 0) - written.prompt_tokens),
      )
      assert.ok(Object.values(usage).every((count) => count >= 0))
      assert.ok(usage.cacheReadInput <= (written.prompt_tokens_details.cached_tokens ?? 0))
    }),
  )
})
