import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import { createPriceList } from '@farebox/crds/price-list.ts'
import type { PricedModel } from '@farebox/crds/prices.ts'
import { formatUsd } from '@farebox/crds/usd.ts'
import { usageOf } from '@farebox/crds/usage.ts'
import { costOfAnswer } from './cost.ts'

const LIST = createPriceList([], loadCatalogue())
function priced(model: string): PricedModel {
  const found = LIST.find('anthropic', model, Date.parse('2026-11-24T12:00:00Z'))
  assert.ok(found !== null)
  return found
}

test('an answer costs what it used at the price of the model and the tier that served', () => {
  const usage = usageOf({ uncachedInput: 1_000, output: 100 })
  assert.equal(formatUsd(costOfAnswer({ usage, serviceTier: null }, priced('claude-opus-5-5'), priced)), '0.006')
  assert.equal(formatUsd(costOfAnswer({ usage, serviceTier: 'standard+us' }, priced('claude-opus-5-5'), priced)), '0.0066')
})

test('each pass has its own long-context step, each model its own price, and all is rounded up once', () => {
  const long = usageOf({ uncachedInput: 150_000 })
  const twice = costOfAnswer(
    { usage: long, others: [{ model: null, usage: long }], serviceTier: null },
    priced('claude-sonnet-4-5'),
    priced,
  )
  assert.equal(formatUsd(twice), '0.90', 'neither is over 200,000')
  const usage = usageOf({ cacheReadInput: 1 })
  const advised = { usage, others: [{ model: 'claude-fable-5-1', usage }], serviceTier: null }
  assert.equal(formatUsd(costOfAnswer(advised, priced('claude-opus-5-5'), priced)), '0.00000045', '0.20 and 0.25 for a million')
})
