import assert from 'node:assert/strict'
import { test } from 'node:test'
import { knownCapabilities, UNKNOWN, UNKNOWN_SERVICE_TIER_PERCENT } from './capabilities.ts'
import { loadCatalogue } from './catalogue.ts'

test('the narrower name decides: a dated, mini or search model is not its family', () => {
  const outline = (model: string): unknown[] => {
    const known = knownCapabilities('openai', model)
    return [known?.contextTokens, known?.maxOutputTokens, known?.tools, known?.structuredOutput, known?.reasoning]
  }
  assert.deepEqual(outline('gpt-4o'), [128_000, 16_384, true, true, false])
  assert.deepEqual(outline('gpt-4o-2024-05-13'), [128_000, 4_096, true, false, false])
  assert.deepEqual(outline('gpt-4o-search-preview'), [128_000, 16_384, false, true, false])
  assert.deepEqual(outline('gpt-4.1-mini'), [1_047_576, 32_768, true, true, false])
  assert.deepEqual(outline('gpt-4-0613'), [8_192, 8_192, true, false, false])
  assert.deepEqual(outline('gpt-5'), [400_000, 128_000, true, true, true])
  assert.deepEqual(outline('gpt-5-chat-latest'), [128_000, 16_384, false, true, false])
  assert.deepEqual(outline('o1-mini'), [128_000, 65_536, false, false, true])
  assert.deepEqual(outline('o3-mini'), [200_000, 100_000, true, true, true])
})

test('models that reason refuse sampling parameters and call the output limit otherwise', () => {
  for (const model of ['gpt-5', 'gpt-5-mini', 'o1', 'o3', 'o4-mini', 'gpt-6-sol']) {
    const known = knownCapabilities('openai', model)
    assert.deepEqual(known?.rename, { max_tokens: 'max_completion_tokens' }, model)
    for (const field of ['temperature', 'top_p', 'stop', 'logprobs']) assert.ok(known?.drop.includes(field), `${model} drops ${field}`)
  }
  assert.ok(knownCapabilities('openai', 'gpt-4o')?.drop.includes('reasoning_effort'))
})

test('nothing is known of other providers, and nothing is assumed of what is not known', () => {
  assert.equal(knownCapabilities('azure', 'gpt-4o'), null)
  assert.equal(knownCapabilities('openai', 'mystery-9'), null)
  assert.deepEqual([UNKNOWN.modalities, UNKNOWN.tools, UNKNOWN.structuredOutput], [[], false, false])
  assert.ok((UNKNOWN_SERVICE_TIER_PERCENT['priority'] ?? 0) >= 200)
})

test('every entry leaves room for input, says where it was read, and drops nothing that it renames', () => {
  const models = loadCatalogue().models.filter(({ provider }) => provider === 'openai')
  const described = models.flatMap(({ model }) => knownCapabilities('openai', model) ?? [])
  assert.ok(described.length >= 40, `${described.length} models of the catalogue are described`)
  for (const known of described) {
    assert.ok(known.maxOutputTokens <= known.contextTokens, known.prefixes.join())
    assert.match(known.source, /^https:\/\//)
    for (const field of Object.keys(known.rename)) assert.equal(known.drop.includes(field), false)
    for (const percent of Object.values(known.serviceTierPercent)) assert.ok(percent > 0 && percent <= 600)
  }
})
