import assert from 'node:assert/strict'
import { test } from 'node:test'
import { knownCapabilities } from './capabilities.ts'
import { loadCatalogue, matchesClause } from './catalogue.ts'
import { METERED_KINDS } from './usage.ts'

const CATALOGUE = loadCatalogue()

test('a clause recognises a name whole, by its beginning, its end or what it holds', () => {
  assert.equal(matchesClause({ equals: 'gpt-4o' }, 'gpt-4o'), true)
  assert.equal(matchesClause({ equals: 'gpt-4o' }, 'gpt-4o-mini'), false)
  assert.equal(matchesClause({ prefix: 'gpt-4o-' }, 'gpt-4o-mini'), true)
  assert.equal(matchesClause({ prefix: 'gpt-4o-' }, 'gpt-4o'), false)
  assert.equal(matchesClause({ prefix: 'gemini-2.5-pro', except: '-tts' }, 'gemini-2.5-pro-preview'), true)
  assert.equal(matchesClause({ prefix: 'gemini-2.5-pro', except: '-tts' }, 'gemini-2.5-pro-preview-tts'), false)
  for (const day of ['-2026-01-31', '-20260131']) assert.equal(matchesClause({ dated: 'gpt-6-sol' }, `gpt-6-sol${day}`), true)
  for (const other of ['', '-2', '-mini', '-2026-0131', '-202601', '-2026-01-31-x'])
    assert.equal(matchesClause({ dated: 'gpt-6-sol' }, `gpt-6-sol${other}`), false, other)
  assert.equal(matchesClause({ suffix: '-mini' }, 'gpt-4o-mini'), true)
  assert.equal(matchesClause({ contains: '4o' }, 'gpt-4o-mini'), true)
  assert.equal(matchesClause({ all: ['gpt', 'mini'] }, 'gpt-4o-mini'), true)
  assert.equal(matchesClause({ all: ['gpt', 'nano'] }, 'gpt-4o-mini'), false)
  assert.equal(matchesClause({}, 'gpt-4o'), false)
})

test('the catalogue says where and when it was read, and names each model of a provider once', () => {
  assert.match(CATALOGUE.version, /^@pydantic\/genai-prices@\d/)
  assert.match(CATALOGUE.date, /^20\d\d-\d\d-\d\d$/)
  const names = CATALOGUE.models.map(({ provider, model }) => `${provider}/${model}`)
  assert.equal(new Set(names).size, names.length)
  assert.ok(names.includes('openai/gpt-4o') && names.length > 200)
})

test('prices come in the order of their first day, steps in the order of their threshold', () => {
  for (const { model, dated } of CATALOGUE.models) {
    dated.forEach(({ from, steps }, index) => {
      const before = dated[index - 1]
      if (before !== undefined) assert.ok((from ?? '') > (before.from ?? ''), model)
      steps.forEach((step, position) => assert.ok(position === 0 || step.inputOver > (steps[position - 1]?.inputOver ?? 0), model))
    })
  }
})

test('a longer context never makes a kind cheaper, and reading the cache never costs more than plain input', () => {
  for (const { provider, model, dated } of CATALOGUE.models) {
    for (const { prices, steps } of dated) {
      for (const step of steps)
        for (const kind of METERED_KINDS) assert.ok(step.prices[kind] >= prices[kind], `${provider}/${model} ${kind}`)
      assert.ok(prices.cacheReadInput <= prices.uncachedInput, `${provider}/${model}`)
    }
  }
})

test('no model for audio has that priced as text', () => {
  const audio = CATALOGUE.models.filter(({ provider, model }) => knownCapabilities(provider, model)?.modalities.join() === 'audio')
  assert.ok(audio.length >= 4, `${audio.length} models`)
  for (const { model, dated } of audio)
    for (const { prices } of dated)
      assert.ok(
        prices.audioInput > prices.uncachedInput && prices.cacheReadAudioInput > prices.uncachedInput && prices.audioOutput > prices.output,
        model,
      )
})

test('only what makes vectors, or is not paid by tokens, has output for nothing', () => {
  for (const { provider, model, dated } of CATALOGUE.models)
    for (const { prices } of dated)
      if (prices.output === 0) assert.ok(prices.uncachedInput === 0 || model.includes('embed'), `${provider}/${model}`)
})

test('models that the source finds by a regular expression are there', () => {
  const found = (provider: string, name: string): string | undefined =>
    CATALOGUE.models.find((entry) => entry.provider === provider && entry.match.some((clause) => matchesClause(clause, name)))?.model
  assert.equal(found('openai', 'gpt-6-sol-2026-08-07'), 'gpt-6-sol')
  assert.equal(found('anthropic', 'claude-opus-5-5-20260922'), 'claude-opus-5-5')
  assert.equal(found('anthropic', 'claude-fable-5-2'), undefined)
  assert.equal(found('google', 'gemini-2.5-pro'), 'gemini-2.5-pro')
  assert.equal(found('google', 'gemini-2.5-pro-preview-tts'), 'gemini-2.5-pro-tts')
})

test('where hours of the day have prices, the dearest of those in force counts', () => {
  const { dated = [] } = CATALOGUE.models.find(({ model }) => model === 'deepseek-v4-flash') ?? {}
  assert.deepEqual(
    dated.map(({ from, prices }) => [from, prices.uncachedInput]),
    [
      [undefined, 140_000],
      ['2026-08-17', 440_000],
    ],
  )
})

test('gpt-4o costs what its page says: 2.50 in, 1.25 cached, 10.00 out', () => {
  const prices = CATALOGUE.models.find(({ provider, model }) => provider === 'openai' && model === 'gpt-4o')?.dated.at(-1)?.prices
  assert.deepEqual([prices?.uncachedInput, prices?.cacheReadInput, prices?.output], [2_500_000, 1_250_000, 10_000_000])
})
