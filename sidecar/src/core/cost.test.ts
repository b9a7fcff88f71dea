import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import { PriceEntrySchema } from '@farebox/crds/price-entry.ts'
import { createPriceList } from '@farebox/crds/price-list.ts'
import type { PricedModel } from '@farebox/crds/prices.ts'
import { formatUsd } from '@farebox/crds/usd.ts'
import { usageOf } from '@farebox/crds/usage.ts'
import { costOfAnswer, withHeldTime } from './cost.ts'

const LIST = createPriceList([], loadCatalogue())
const NOW_MS = Date.parse('2026-11-24T12:00:00Z')
function priced(model: string, provider = 'anthropic'): PricedModel {
  const found = LIST.find(provider, model, NOW_MS)
  assert.ok(found !== null)
  return found
}

test('an answer costs what it used at the price of the model and the tier that served', () => {
  const usage = usageOf({ uncachedInput: 1_000, output: 100 })
  assert.equal(formatUsd(costOfAnswer({ usage, serviceTier: null }, priced('claude-opus-5-5'), (model) => priced(model))), '0.006')
  assert.equal(
    formatUsd(costOfAnswer({ usage, serviceTier: 'standard+us' }, priced('claude-opus-5-5'), (model) => priced(model))),
    '0.0066',
  )
})

test('each pass has its own long-context step, each model its own price, and all is rounded up once', () => {
  const long = usageOf({ uncachedInput: 150_000 })
  const twice = costOfAnswer(
    { usage: long, others: [{ model: null, usage: long }], serviceTier: null },
    priced('claude-sonnet-4-5'),
    (model) => priced(model),
  )
  assert.equal(formatUsd(twice), '0.90', 'neither is over 200,000')
  const usage = usageOf({ cacheReadInput: 1 })
  const advised = { usage, others: [{ model: 'claude-fable-5-1', usage }], serviceTier: null }
  assert.equal(
    formatUsd(costOfAnswer(advised, priced('claude-opus-5-5'), (model) => priced(model))),
    '0.00000045',
    '0.20 and 0.25 for a million',
  )
})

test('the long-context step of a sum of readings is that of the longest one', () => {
  const usage = usageOf({ uncachedInput: 320_000 })
  const cost = (readAtOnce: number): string =>
    formatUsd(costOfAnswer({ usage, readAtOnce, serviceTier: null }, priced('claude-sonnet-4-5'), (model) => priced(model)))
  assert.equal(cost(200_000), '0.96')
  assert.equal(cost(200_001), '1.92')
})

test('what a provider says that the call cost counts where it is more, but not of a model that is declared free', () => {
  const used = usageOf({ uncachedInput: 1_000, output: 100 })
  const cost = (toldCost: bigint, model: PricedModel, usage = used): string =>
    formatUsd(costOfAnswer({ usage, serviceTier: null, toldCost }, model, () => model))
  assert.equal(cost(7_000_000n, priced('claude-opus-5-5')), '0.007')
  assert.equal(cost(5_000_000n, priced('claude-opus-5-5')), '0.006')
  assert.equal(cost(7_000_000n, LIST.free('anthropic', 'mine')), '0.00')
  const booked = (provider: string, prices: object): PricedModel => {
    const entry = PriceEntrySchema.parse({ provider, model: provider === 'x-ai' ? 'grok-4.5' : 'mine', ...prices })
    const found = createPriceList([entry], loadCatalogue()).find(provider, entry.model, NOW_MS)
    assert.ok(found !== null)
    return found
  }
  assert.equal(cost(7_000_000n, booked('openrouter', { input: '0', output: '0' })), '0.00')
  const searched = usageOf({ uncachedInput: 1_000, webSearchCalls: 1 })
  assert.equal(cost(7_000_000n, booked('x-ai', { input: '0', output: '0' }), searched), '0.005', 'fees have prices of their own')
  // None of these is free, though the call comes to nothing.
  const read = usageOf({ uncachedInput: 1_000 })
  assert.equal(cost(7_000_000n, booked('openrouter', { input: '0', output: '1.00' }), read), '0.007')
  assert.equal(cost(7_000_000n, booked('openrouter', { input: '0', output: '0', perImage: '0.01' }), read), '0.007')
  assert.equal(cost(7_000_000n, priced('claude-opus-5-5'), usageOf({})), '0.007')
})

test('an answer in tokens of a model that is billed by time has the seconds that it was held for', () => {
  const heard = usageOf({ audioInput: 600, output: 100 })
  const byTime = priced('gpt-transcribe', 'openai')
  assert.deepEqual(withHeldTime(heard, { seconds: 60 }, byTime), { ...heard, seconds: 60 })
  for (const [usage, held, model] of [
    [usageOf({ output: 100, seconds: 4 }), { seconds: 60 }, byTime], // it says how long it was
    [usageOf({}), { seconds: 60 }, byTime], // nothing at all
    [heard, {}, byTime],
    [heard, { seconds: 60 }, priced('gpt-4o-transcribe', 'openai')], // which has a price of tokens, too
    [heard, { seconds: 60 }, LIST.free('openai', 'gpt-transcribe')],
  ] as const)
    assert.equal(withHeldTime(usage, held, model), usage)
})
