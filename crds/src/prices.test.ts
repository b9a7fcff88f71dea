import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { costOf, costOfAll, servedAs, servedWords } from './prices.ts'
import type { Prices } from './prices.ts'
import { formatUsd, parseUsd, PICO_PER_NANO } from './usd.ts'
import { METERED_KINDS, usageOf } from './usage.ts'
import type { MeteredKind } from './usage.ts'

function pricesOf(parts: Readonly<Partial<Record<MeteredKind, bigint>>>): Prices {
  return Object.fromEntries(METERED_KINDS.map((kind) => [kind, parts[kind] ?? 0n])) as Prices
}
const PRICES = pricesOf({ uncachedInput: 2_500_000n, cacheReadInput: 12_500n, output: 10_000_000n })

test('bills cached input at its own price and rounds up once', () => {
  const usage = usageOf({ uncachedInput: 1_000, cacheReadInput: 3, output: 500 })
  assert.equal(formatUsd(costOf(usage, PRICES)), '0.007500038') // 0.0025 + 0.0000000375 + 0.005
})

test('nothing costs nothing, and the smallest use costs a nano-dollar', () => {
  assert.equal(costOf(usageOf({}), PRICES), 0n)
  assert.equal(costOf(usageOf({ cacheReadInput: 1 }), pricesOf({ cacheReadInput: 1n })), 1n)
  assert.equal(costOf(usageOf({ output: 1_000_000 }), pricesOf({})), 0n)
})

test('every kind is billed at its own price, calls of tools too', () => {
  METERED_KINDS.forEach((kind, index) => {
    const prices = pricesOf(Object.fromEntries(METERED_KINDS.map((other, price) => [other, BigInt(price + 1) * PICO_PER_NANO])))
    assert.equal(costOf(usageOf({ [kind]: 10 }), prices), 10n * BigInt(index + 1), kind)
  })
})

test('a conversation of 0.50 pays for 33 calls of 2,000 tokens in and 1,000 out, not for 34', () => {
  const cost = costOf(usageOf({ uncachedInput: 2_000, output: 1_000 }), PRICES)
  assert.equal(formatUsd(cost), '0.015')
  assert.equal(parseUsd('0.50') / cost, 33n)
})

test('a turn is metered at its price or above it, by less than a nano-dollar, whatever the parts', () => {
  const units = fc.tuple(...METERED_KINDS.map(() => fc.nat(10_000_000)))
  const rates = fc.tuple(...METERED_KINDS.map(() => fc.bigInt({ min: 0n, max: 75_000_000n })))
  fc.assert(
    fc.property(units, rates, (counts, picoUsd) => {
      const usage = usageOf(Object.fromEntries(METERED_KINDS.map((kind, index) => [kind, counts[index]])))
      const prices = pricesOf(Object.fromEntries(METERED_KINDS.map((kind, index) => [kind, picoUsd[index]])))
      const exact = METERED_KINDS.reduce((sum, kind) => sum + BigInt(usage[kind]) * prices[kind], 0n)
      const excess = costOf(usage, prices) * PICO_PER_NANO - exact
      assert.ok(excess >= 0n && excess < PICO_PER_NANO)
    }),
  )
})

test('what a call used at several prices is rounded up once', () => {
  const part = { usage: usageOf({ cacheReadInput: 1 }), prices: pricesOf({ cacheReadInput: 400n }) }
  assert.equal(costOfAll([part, part]), 1n)
  assert.equal(costOfAll([part, part, part]), 2n)
  assert.equal(costOfAll([]), 0n)
})

test('how a call was served is read as it was written', () => {
  for (const words of [['standard'], ['priority', 'fast', 'us']]) assert.deepEqual(servedWords(servedAs(words)), words)
  assert.equal(servedAs([]), null)
  assert.deepEqual(servedWords(null), [])
})
