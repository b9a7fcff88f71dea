import assert from 'node:assert/strict'
import { test } from 'node:test'
import { knownCapabilities, knownEfforts, UNKNOWN, UNKNOWN_SERVICE_TIER_PERCENT } from './capabilities.ts'
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

test('Claude: what a model thinks, refuses and may write goes by its family', () => {
  const outline = (model: string): unknown[] => {
    const known = knownCapabilities('anthropic', model)
    return [known?.contextTokens, known?.maxOutputTokens, known?.structuredOutput, known?.reasoning]
  }
  assert.deepEqual(outline('claude-3-haiku-20240307'), [200_000, 4_096, false, false])
  assert.deepEqual(outline('claude-3-5-sonnet-20241022'), [200_000, 8_192, false, false])
  assert.deepEqual(outline('claude-3-7-sonnet-latest'), [200_000, 64_000, false, false])
  assert.deepEqual(outline('claude-opus-4-1-20250805'), [200_000, 32_000, false, false])
  assert.deepEqual(outline('claude-sonnet-4-20250514'), [200_000, 64_000, false, false])
  assert.deepEqual(outline('claude-sonnet-4-5-20250929'), [200_000, 64_000, true, false])
  assert.deepEqual(outline('claude-opus-4-6'), [1_000_000, 128_000, true, false])
  assert.deepEqual(outline('claude-opus-5-5'), [1_000_000, 128_000, true, true])
  assert.deepEqual(outline('claude-haiku-5-5'), [1_000_000, 128_000, true, true])
  assert.deepEqual(outline('claude-fable-5-2'), [1_000_000, 128_000, true, true])
  for (const model of ['claude-opus-4-7', 'claude-opus-4-8', 'claude-opus-5', 'claude-sonnet-5', 'claude-sonnet-5-5', 'claude-fable-5-1'])
    for (const field of ['temperature', 'top_p', 'top_k', 'thinking'])
      assert.ok(knownCapabilities('anthropic', model)?.drop.includes(field), `${model} drops ${field}`)
  assert.deepEqual(knownCapabilities('anthropic', 'claude-opus-4-6')?.drop, [])
  assert.ok(knownCapabilities('anthropic', 'claude-haiku-4-5')?.drop.includes('thinking'), 'it knows no adaptive thinking')
  for (const field of ['temperature', 'tools', 'tool_choice', 'inference_geo'])
    assert.equal(knownCapabilities('anthropic', 'claude-haiku-4-5')?.drop.includes(field), false)
})

test('Claude: US inference costs more from Opus 4.6 on, fast mode as its model says, bought capacity the same', () => {
  const percents = (model: string): unknown => knownCapabilities('anthropic', model)?.serviceTierPercent
  assert.deepEqual(percents('claude-sonnet-4-5'), { batch: 50, priority: 100 })
  assert.deepEqual(percents('claude-sonnet-4-6'), { batch: 50, priority: 100, us: 110 })
  assert.deepEqual(percents('claude-opus-4-7'), { batch: 50, priority: 100, us: 110, fast: 600 })
  assert.deepEqual(percents('claude-opus-5-5'), { batch: 50, priority: 100, us: 110, fast: 200 })
})

test("OpenAI's tiers: gpt-5.5 costs more at priority than its family, and a name that moves on has no factor", () => {
  const percents = (model: string): unknown => knownCapabilities('openai', model)?.serviceTierPercent
  for (const model of ['gpt-5.5', 'gpt-5.5-pro', 'gpt-5.5-2026-04-23'])
    assert.deepEqual(percents(model), { flex: 50, priority: 250, fast: 250 }, model)
  for (const model of ['gpt-5', 'gpt-5.4', 'gpt-5.4-mini', 'gpt-5.6-sol'])
    assert.deepEqual(percents(model), { flex: 50, priority: 200, fast: 200 }, model)
  assert.deepEqual(percents('gpt-chat-latest'), {})
})

test("Gemini's tiers, but not those of images and voices", () => {
  const percents = (model: string): unknown => knownCapabilities('google', model)?.serviceTierPercent
  for (const model of ['gemini-2.5-pro', 'gemini-2.5-flash-lite', 'gemini-3-flash-preview', 'gemini-3.1-pro-preview', 'gemini-3.5-flash'])
    assert.deepEqual(percents(model), { flex: 50, batch: 50, priority: 200 }, model)
  for (const model of ['gemini-2.5-flash-image', 'gemini-3-pro-image-preview', 'gemini-2.5-flash-preview-tts'])
    assert.deepEqual(percents(model), {}, model)
})

test('Gemini: images, voices and vectors are not their family', () => {
  const outline = (model: string): unknown[] => {
    const known = knownCapabilities('google', model)
    return [known?.contextTokens, known?.maxOutputTokens, known?.tools, known?.reasoning]
  }
  assert.deepEqual(outline('gemini-2.0-flash-001'), [1_048_576, 8_192, true, false])
  assert.deepEqual(outline('gemini-2.5-pro'), [1_048_576, 65_536, true, true])
  assert.deepEqual(outline('gemini-2.5-flash-lite'), [1_048_576, 65_536, true, false])
  assert.deepEqual(outline('gemini-2.5-flash-image'), [65_536, 32_768, false, false])
  assert.deepEqual(outline('gemini-2.5-pro-preview-tts'), [32_768, 16_384, false, false])
  assert.deepEqual(outline('gemini-3-flash-preview'), [1_048_576, 65_536, true, true])
  assert.deepEqual(outline('gemini-3-pro-image-preview'), [65_536, 32_768, false, true])
  assert.deepEqual(outline('gemini-embedding-001'), [2_048, 0, false, false])
  assert.deepEqual(knownCapabilities('google', 'gemini-3.8-flash')?.serviceTierPercent, { flex: 50, batch: 50, priority: 180 })
})

test("Azure's models are OpenAI's, by Azure's names too; nothing is assumed of what is not known", () => {
  assert.equal(knownCapabilities('azure', 'gpt-4o-2024-08-06'), knownCapabilities('openai', 'gpt-4o-2024-08-06'))
  assert.equal(knownCapabilities('azure', 'gpt-35-turbo'), knownCapabilities('openai', 'gpt-3.5-turbo'))
  assert.equal(knownCapabilities('openai', 'mystery-9'), null)
  assert.equal(knownCapabilities('groq', 'gpt-4o'), null)
  assert.deepEqual([UNKNOWN.modalities, UNKNOWN.tools, UNKNOWN.structuredOutput], [[], false, false])
  assert.ok((UNKNOWN_SERVICE_TIER_PERCENT['priority'] ?? 0) >= 200)
})

test('every entry leaves room for input, says where it was read, and drops nothing that it renames', () => {
  const described = loadCatalogue().models.flatMap(({ provider, model }) => knownCapabilities(provider, model) ?? [])
  for (const [provider, least] of Object.entries({ openai: 60, anthropic: 20, google: 20 })) {
    const own = described.filter((known) => known.provider === provider)
    assert.ok(own.length >= least, `${own.length} models of ${provider} in the catalogue are described`)
  }
  for (const known of described) {
    assert.ok(known.maxOutputTokens <= known.contextTokens, known.prefixes.join())
    assert.match(known.source, /^https:\/\//)
    for (const field of Object.keys(known.rename)) assert.equal(known.drop.includes(field), false)
    for (const percent of Object.values(known.serviceTierPercent)) assert.ok(percent > 0 && percent <= 600)
  }
})

test('which efforts a model takes goes by its whole name, and is not guessed', () => {
  const taken = {
    'gpt-5-mini-2025-08-07': ['minimal', 'low', 'medium', 'high'],
    'gpt-5.1': ['none', 'low', 'medium', 'high'],
    'gpt-5.4-mini': ['none', 'low', 'medium', 'high', 'xhigh'],
    'gpt-5.6': ['none', 'low', 'medium', 'high', 'xhigh', 'max'],
    'o4-mini': ['low', 'medium', 'high'],
  }
  for (const [model, efforts] of Object.entries(taken)) assert.deepEqual(knownEfforts('openai', model), efforts, model)
  assert.deepEqual(knownEfforts('azure', 'o3'), ['low', 'medium', 'high'])
  assert.deepEqual(knownEfforts('anthropic', 'claude-haiku-4-5-20251001'), [])
  assert.deepEqual(knownEfforts('anthropic', 'claude-opus-4.5'), ['low', 'medium', 'high'])
  assert.deepEqual(knownEfforts('anthropic', 'claude-sonnet-4-6'), ['low', 'medium', 'high', 'max'])
  for (const model of ['gpt-4o', 'gpt-5-pro', 'gpt-5.1-codex', 'gpt-5-chat-latest', 'gpt-50', 'o1-pro'])
    assert.equal(knownEfforts('openai', model), null, model)
  for (const model of ['claude-haiku-5-5', 'claude-haiku-4-50']) assert.equal(knownEfforts('anthropic', model), null, model)
})
