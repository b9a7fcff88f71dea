import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { inputTokens, usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import * as fc from 'fast-check'
import type { JsonObject } from '../core/request.ts'
import { readGeminiTier, readGeminiUsage } from './gemini-usage.ts'
import { TOKENS_MAX } from './usage-reading.ts'

const searched = (modelVersion: string, ...queries: readonly (readonly string[])[]): JsonObject => ({
  modelVersion,
  candidates: queries.map((webSearchQueries) => ({ groundingMetadata: { webSearchQueries } })),
  usageMetadata: { promptTokenCount: 10, candidatesTokenCount: 5, totalTokenCount: 15 },
})

const placed = (groundingMetadata: JsonObject): JsonObject => ({
  ...searched('gemini-3.5-flash'),
  candidates: [{ groundingMetadata }],
})

describe('usage as Gemini writes it', () => {
  const cases: Record<string, [response: JsonObject, expected: Partial<Usage>, audioTokens?: number]> = {
    'nothing cached': [
      { usageMetadata: { promptTokenCount: 10, candidatesTokenCount: 5, totalTokenCount: 15 } },
      { uncachedInput: 10, output: 5 },
    ],
    'the prompt includes what was cached, thoughts come on top of the candidates': [
      {
        usageMetadata: {
          promptTokenCount: 2_000,
          cachedContentTokenCount: 1_500,
          candidatesTokenCount: 100,
          thoughtsTokenCount: 400,
          totalTokenCount: 2_500,
        },
      },
      { uncachedInput: 500, cacheReadInput: 1_500, output: 500 },
    ],
    'results of tools are input on top of the prompt': [
      {
        usageMetadata: {
          promptTokenCount: 30,
          toolUsePromptTokenCount: 8_000,
          toolUsePromptTokensDetails: [
            { modality: 'TEXT', tokenCount: 7_000 },
            { modality: 'IMAGE', tokenCount: 1_000 },
          ],
          candidatesTokenCount: 100,
          totalTokenCount: 8_130,
        },
      },
      { uncachedInput: 7_030, imageInput: 1_000, output: 100 },
    ],
    'thoughts that are only in the total': [
      { usageMetadata: { promptTokenCount: 10, candidatesTokenCount: 5, totalTokenCount: 115 } },
      { uncachedInput: 10, output: 105 },
    ],
    'no answer but thoughts': [
      { usageMetadata: { promptTokenCount: 10, thoughtsTokenCount: 90, totalTokenCount: 100 } },
      { uncachedInput: 10, output: 90 },
    ],
    'a prompt that was refused': [{ usageMetadata: { promptTokenCount: 10, totalTokenCount: 10 } }, { uncachedInput: 10 }],
    'kinds of input, cached or not; a video is images, a document text': [
      {
        usageMetadata: {
          promptTokenCount: 1_000,
          promptTokensDetails: [
            { modality: 'TEXT', tokenCount: 100 },
            { modality: 'AUDIO', tokenCount: 400 },
            { modality: 'IMAGE', tokenCount: 258 },
            { modality: 'VIDEO', tokenCount: 142 },
            { modality: 'DOCUMENT', tokenCount: 100 },
          ],
          cachedContentTokenCount: 350,
          cacheTokensDetails: [
            { modality: 'AUDIO', tokenCount: 300 },
            { modality: 'IMAGE', tokenCount: 50 },
          ],
          candidatesTokenCount: 5,
          totalTokenCount: 1_005,
        },
      },
      { uncachedInput: 200, cacheReadInput: 50, cacheReadAudioInput: 300, audioInput: 100, imageInput: 350, output: 5 },
      400,
    ],
    'images and audio made': [
      {
        usageMetadata: {
          promptTokenCount: 10,
          candidatesTokenCount: 1_400,
          candidatesTokensDetails: [
            { modality: 'IMAGE', tokenCount: 1_290 },
            { modality: 'AUDIO', tokenCount: 60 },
          ],
          thoughtsTokenCount: 40,
          totalTokenCount: 1_450,
        },
      },
      { uncachedInput: 10, output: 90, imageOutput: 1_290, audioOutput: 60 },
    ],
    'from Gemini 3 on, each search counts': [
      searched('gemini-3.5-flash', ['a', 'b'], ['c']),
      { uncachedInput: 10, output: 5, webSearchCalls: 3 },
    ],
    'before it, an answer with searches is one': [
      searched('gemini-2.5-flash', ['a', 'b'], ['c']),
      { uncachedInput: 10, output: 5, webSearchCalls: 1 },
    ],
    'places of Google Maps, for which no query is named, are one': [
      placed({ groundingChunks: [{ maps: { uri: 'u', placeId: 'p' } }, { maps: { uri: 'v', placeId: 'q' } }] }),
      { uncachedInput: 10, output: 5, webSearchCalls: 1 },
    ],
    'places beside searches are none of their own': [
      placed({ webSearchQueries: ['a', 'b'], groundingChunks: [{ web: { uri: 'u' } }, { maps: { uri: 'v', placeId: 'q' } }] }),
      { uncachedInput: 10, output: 5, webSearchCalls: 2 },
    ],
    'no search is none': [searched('gemini-2.5-flash', []), { uncachedInput: 10, output: 5 }],
    'all zero is a usage': [{ usageMetadata: { promptTokenCount: 0, candidatesTokenCount: 0, totalTokenCount: 0 } }, {}],
  }
  for (const [name, [response, expected, audioTokens]] of Object.entries(cases)) {
    const sound = audioTokens === undefined ? {} : { audioTokens }
    test(name, () => assert.deepEqual(readGeminiUsage(response), { usage: usageOf(expected), ...sound, clamped: false, invalid: false }))
  }
})

test('the most that may be sound is the prompt without what is named otherwise, whatever is said of the cache', () => {
  const soundOf = (usage: JsonObject): number | undefined =>
    readGeminiUsage({ usageMetadata: { promptTokenCount: 21_000, candidatesTokenCount: 1, ...usage } }).audioTokens
  const text = { modality: 'TEXT', tokenCount: 1_000 }
  const audio = { modality: 'AUDIO', tokenCount: 20_000 }
  assert.equal(soundOf({ cachedContentTokenCount: 18_000, promptTokensDetails: [text, audio] }), 20_000)
  assert.equal(soundOf({ promptTokensDetails: [{ ...text, tokenCount: 21_000 }] }), 0)
  assert.equal(soundOf({ promptTokensDetails: [text, { ...audio, modality: 'MODALITY_UNSPECIFIED' }] }), 20_000)
  assert.equal(soundOf({}), undefined)
})

test('parts that are more than their total are cut to it, and said to be', () => {
  assert.deepEqual(
    readGeminiUsage({ usageMetadata: { promptTokenCount: 10, cachedContentTokenCount: 12, candidatesTokenCount: 1, totalTokenCount: 11 } }),
    { usage: usageOf({ cacheReadInput: 10, output: 1 }), clamped: true, invalid: false },
  )
})

test('no usage is none, and a number that cannot be makes all of it invalid', () => {
  for (const response of [{}, { usageMetadata: null }, { usageMetadata: {} }, { usageMetadata: { candidatesTokenCount: 1 } }])
    assert.deepEqual(readGeminiUsage(response), { usage: null, clamped: false, invalid: false })
  const plain = { promptTokenCount: 10, candidatesTokenCount: 5 }
  for (const bad of [-1, 0.5, TOKENS_MAX + 1, '5', true, {}]) {
    for (const usageMetadata of [
      { ...plain, promptTokenCount: bad },
      { ...plain, candidatesTokenCount: bad },
      { ...plain, thoughtsTokenCount: bad },
      { ...plain, toolUsePromptTokenCount: bad },
      { ...plain, cachedContentTokenCount: bad },
      { ...plain, promptTokensDetails: [{ modality: 'AUDIO', tokenCount: bad }] },
    ])
      assert.deepEqual(readGeminiUsage({ usageMetadata }), { usage: null, clamped: false, invalid: true }, JSON.stringify(usageMetadata))
  }
  for (const usageMetadata of ['usage', 5, [], true]) assert.equal(readGeminiUsage({ usageMetadata }).invalid, true)
})

test('whatever the parts, nothing is counted twice or lost', () => {
  const tokens = fc.option(fc.nat(100))
  const parts = fc.array(fc.record({ modality: fc.constantFrom('TEXT', 'IMAGE', 'AUDIO', 'VIDEO', 'DOCUMENT'), tokenCount: fc.nat(60) }), {
    maxLength: 4,
  })
  const metadata = fc.record({
    promptTokenCount: fc.nat(100),
    candidatesTokenCount: fc.nat(100),
    thoughtsTokenCount: tokens,
    toolUsePromptTokenCount: tokens,
    cachedContentTokenCount: tokens,
    promptTokensDetails: parts,
    cacheTokensDetails: parts,
    toolUsePromptTokensDetails: parts,
    candidatesTokensDetails: parts,
  })
  fc.assert(
    fc.property(metadata, (written) => {
      const { usage } = readGeminiUsage({ usageMetadata: written })
      assert.ok(usage !== null)
      assert.equal(inputTokens(usage), written.promptTokenCount + (written.toolUsePromptTokenCount ?? 0))
      assert.equal(usage.output + usage.imageOutput + usage.audioOutput, written.candidatesTokenCount + (written.thoughtsTokenCount ?? 0))
      assert.ok(Object.values(usage).every((count) => count >= 0))
    }),
  )
})

test("the tier is the one that Gemini's API names, or what Vertex says of the traffic", () => {
  const cases: readonly [JsonObject, string | null][] = [
    [{}, null],
    [{ serviceTier: 'flex' }, 'flex'],
    [{ serviceTier: 'PRIORITY' }, 'priority'],
    [{ serviceTier: 'SERVICE_TIER_FLEX' }, 'flex'],
    [{ trafficType: 'ON_DEMAND_FLEX' }, 'flex'],
    [{ trafficType: 'ON_DEMAND' }, 'standard'],
    [{ trafficType: 'PROVISIONED_THROUGHPUT' }, null],
  ]
  for (const [usageMetadata, tier] of cases) assert.equal(readGeminiTier({ usageMetadata }), tier)
})
