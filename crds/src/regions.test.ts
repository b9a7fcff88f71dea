import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadCatalogue } from './catalogue.ts'
import { PriceEntrySchema } from './price-entry.ts'
import { createPriceList } from './price-list.ts'
import type { PriceList } from './prices.ts'
import { isRegional, pricesAt } from './regions.ts'
import { formatPricePerMillion } from './usd.ts'

const NOW = Date.parse('2026-11-24T12:00:00Z')
const LIST = createPriceList([], loadCatalogue())
const EU = { provider: 'openai', baseUrl: 'https://eu.api.openai.com/v1' }
const CANADA = { provider: 'together', baseUrl: 'https://ca-api.together.ai/v1' }

/** In percent of what the model costs elsewhere. */
function percentOf(upstream: typeof EU, model: string, list: PriceList = LIST, tier: string | null = null): bigint {
  const output = (prices: PriceList): bigint => {
    const priced = prices.find(upstream.provider, model, NOW) ?? prices.ceiling(upstream.provider, model, NOW)
    assert.ok(priced !== null, model)
    return priced.pricesFor(1, tier).output
  }
  return (output(pricesAt(list, upstream)) * 100n) / output(list)
}

test('a regional endpoint is known by its host, and by no more than that', () => {
  for (const baseUrl of ['https://eu.api.openai.com/v1', 'https://US.api.openai.com', 'https://ae.api.openai.com:443/v1'])
    assert.ok(isRegional({ provider: 'openai', baseUrl }), baseUrl)
  for (const baseUrl of ['https://api.openai.com/v1', 'https://eu.api.openai.com.example.org/v1', 'https://proxy/eu.api.openai.com/v1'])
    assert.equal(isRegional({ provider: 'openai', baseUrl }), false, baseUrl)
  assert.ok(isRegional(CANADA))
  assert.equal(isRegional({ ...CANADA, baseUrl: 'https://api.together.ai/v1' }), false)
  assert.equal(isRegional({ ...EU, provider: 'vllm' }), false)
})

test("there OpenAI's models since gpt-5.4 cost a tenth more, and older ones the same", () => {
  for (const model of ['gpt-5.4', 'gpt-5.4-mini', 'gpt-5.5', 'gpt-5.6-sol', 'gpt-6-luna', 'newer-than-the-catalogue'])
    assert.equal(percentOf(EU, model), 110n, model)
  for (const model of ['gpt-4o', 'gpt-4.1-mini', 'gpt-5', 'gpt-5-mini', 'gpt-5.2', 'gpt-5.3-codex', 'o3', 'o4-mini'])
    assert.equal(percentOf(EU, model), 100n, model)
  const priced = pricesAt(LIST, EU).find('openai', 'gpt-5.5', NOW)
  const { uncachedInput, cacheReadInput, output } = priced?.pricesFor(1, null) ?? {}
  assert.deepEqual(
    [uncachedInput, cacheReadInput, output].map((price) => formatPricePerMillion(price ?? 0n)),
    ['5.50', '0.55', '33.00'],
  )
  assert.equal(priced?.pricesFor(1, 'priority').output, 82_500_000n, 'with the service tier on top of that')
  assert.equal(priced.pricesFor(1, null).webSearchCalls, LIST.find('openai', 'gpt-5.5', NOW)?.pricesFor(1, null).webSearchCalls)
})

test("Together's cost a quarter more", () => {
  assert.equal(percentOf(CANADA, 'moonshotai/Kimi-K2.5'), 125n)
})

test("a book's price is raised as well, unless the book says otherwise", () => {
  const booked = (serviceTierPercent: Record<string, number>): PriceList =>
    createPriceList([PriceEntrySchema.parse({ provider: 'openai', model: 'gpt-5.5', output: '20', serviceTierPercent })], loadCatalogue())
  assert.equal(percentOf(EU, 'gpt-5.5', booked({})), 110n)
  assert.equal(percentOf(EU, 'gpt-5.5', booked({ regional: 100 })), 100n)
  assert.equal(percentOf(EU, 'gpt-5.5', booked({ regional: 105 })), 105n)
})

test('what is declared free stays free', () => {
  assert.equal(pricesAt(LIST, EU).free('openai', 'x').pricesFor(1, null).output, 0n)
})
