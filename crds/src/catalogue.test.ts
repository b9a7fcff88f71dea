import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadCatalogue, matchesClause } from './catalogue.ts'
import { METERED_KINDS } from './usage.ts'

const CATALOGUE = loadCatalogue()

test('a clause recognises a name whole, by its beginning, its end or what it holds', () => {
  assert.equal(matchesClause({ equals: 'gpt-4o' }, 'gpt-4o'), true)
  assert.equal(matchesClause({ equals: 'gpt-4o' }, 'gpt-4o-mini'), false)
  assert.equal(matchesClause({ prefix: 'gpt-4o-' }, 'gpt-4o-mini'), true)
  assert.equal(matchesClause({ prefix: 'gpt-4o-' }, 'gpt-4o'), false)
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

test('gpt-4o costs what its page says: 2.50 in, 1.25 cached, 10.00 out', () => {
  const prices = CATALOGUE.models.find(({ provider, model }) => provider === 'openai' && model === 'gpt-4o')?.dated.at(-1)?.prices
  assert.deepEqual([prices?.uncachedInput, prices?.cacheReadInput, prices?.output], [2_500_000, 1_250_000, 10_000_000])
})
