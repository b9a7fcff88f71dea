import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { formatUsd, parsePricePerMillion, parseUsd } from '@farebox/crds/usd.ts'
import { columnInCurrency, inCurrency } from './currency.ts'

const RATE_SCALE = 1_000_000n
const amounts = fc.bigInt({ min: 0n, max: 10n ** 15n })
const rates = fc.integer({ min: 1, max: 1_000_000_000 }).map((micro) => (micro / 1_000_000).toFixed(6))

test('dollars stay as they are, other currencies are divided by their rate', () => {
  assert.equal(inCurrency(parseUsd('0.50'), '1.00'), '0.50')
  assert.equal(inCurrency(parseUsd('0.54'), '1.08'), '0.50')
  assert.equal(inCurrency(parseUsd('0.0067'), '0.0067'), '1.00')
  assert.equal(inCurrency(0n, '1.08'), '0.00')
  assert.equal(inCurrency(-parseUsd('0.54'), '1.08'), '-0.50')
})

test('a budget that was turned into dollars comes back to the digit that its tier says', () => {
  assert.equal(inCurrency(parseUsd('0.603060528'), '1.083333'), '0.556671428')
  assert.equal(inCurrency(parseUsd('4.221423701'), '1.083333'), '3.8967')
  const fromOneDollarOn = fc.integer({ min: 1_000_000, max: 1_000_000_000 }).map((micro) => (micro / 1_000_000).toFixed(6))
  fc.assert(
    fc.property(amounts, fromOneDollarOn, (amount, usdRate) => {
      // As a tier is compiled: rounded down.
      const usd = (amount * parsePricePerMillion(usdRate)) / RATE_SCALE
      assert.equal(inCurrency(usd, usdRate), formatUsd(amount))
    }),
  )
})

test('where a unit is worth less than a dollar, digits that a nano-dollar cannot tell are not made up', () => {
  assert.equal(inCurrency(parseUsd('0.002578800'), '0.0067'), '0.384896')
  assert.equal(inCurrency(parseUsd('0.223311'), '0.0067'), '33.33')
  assert.equal(inCurrency((33_333_333_000n * 6_700n) / RATE_SCALE, '0.0067'), '33.333333')
  assert.equal(inCurrency(1n, '0.000041'), '0.0001')
})

test('rounded down, what people read is never more than there is; rounded up, never less; and both are less than a digit away', () => {
  assert.equal(inCurrency(1_000_000_000n, '3', 'down'), '0.333333333')
  assert.equal(inCurrency(1_000_000_000n, '3', 'up'), '0.333333334')
  assert.equal(inCurrency(-1_000_000_000n, '3', 'down'), '-0.333333334')
  assert.equal(inCurrency(-1_000_000_000n, '3', 'up'), '-0.333333333')
  fc.assert(
    fc.property(fc.bigInt({ min: -(10n ** 15n), max: 10n ** 15n }), rates, (amount, usdRate) => {
      const rate = parsePricePerMillion(usdRate)
      const exact = amount * RATE_SCALE
      const down = shownOf(inCurrency(amount, usdRate, 'down')) * rate
      const up = shownOf(inCurrency(amount, usdRate)) * rate
      const digit = rate >= RATE_SCALE ? rate : 10n * RATE_SCALE
      assert.ok(down <= exact && exact <= up)
      assert.ok(exact - down < digit && up - exact < digit)
    }),
  )
})

test('amounts below each other add up to their sum, and are less than a digit away from what they are', () => {
  const column = columnInCurrency('1.083333')
  assert.deepEqual([parseUsd('0.000483319'), 0n, parseUsd('0.602577209')].map(column), ['0.000446141', '0.00', '0.556225287'])
  fc.assert(
    fc.property(fc.array(amounts), rates, (parts, usdRate) => {
      const rate = parsePricePerMillion(usdRate)
      const shown = parts.map(columnInCurrency(usdRate)).map(shownOf)
      assert.equal(formatUsd(sumOf(shown)), inCurrency(sumOf(parts), usdRate))
      const digit = rate >= RATE_SCALE ? rate : 10n * RATE_SCALE
      for (const [index, part] of parts.entries()) {
        const apart = (shown[index] ?? 0n) * rate - part * RATE_SCALE
        assert.ok(-digit < apart && apart < digit)
        assert.ok((shown[index] ?? 0n) >= 0n)
      }
    }),
  )
})

/** In billionths; of more digits before the point than an amount of ours may have, too. */
function shownOf(text: string): bigint {
  const [whole = '', fraction = ''] = text.split('.')
  return BigInt(whole + fraction.padEnd(9, '0'))
}

function sumOf(parts: readonly bigint[]): bigint {
  return parts.reduce((sum, part) => sum + part, 0n)
}
