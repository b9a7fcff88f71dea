import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parsePricePerMillion, parseUsd } from '@farebox/crds/usd.ts'
import { inCurrency } from './currency.ts'

test('dollars stay as they are, other currencies are divided by their rate', () => {
  assert.equal(inCurrency(parseUsd('0.50'), '1.00'), '0.50')
  assert.equal(inCurrency(parseUsd('0.54'), '1.08'), '0.50')
  assert.equal(inCurrency(parseUsd('0.0067'), '0.0067'), '1.00')
  assert.equal(inCurrency(0n, '1.08'), '0.00')
})

test('what people read is never more than there is', () => {
  assert.equal(inCurrency(1_000_000_000n, '3'), '0.333333333')
  const rates = fc.integer({ min: 1, max: 1_000_000_000 }).map((micro) => (micro / 1_000_000).toFixed(6))
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 10n ** 15n }), rates, (amount, usdRate) => {
      const [whole = '', fraction = ''] = inCurrency(amount, usdRate).split('.')
      const shown = BigInt(whole + fraction.padEnd(9, '0'))
      const rate = parsePricePerMillion(usdRate)
      assert.ok(shown * rate <= amount * 1_000_000n && (shown + 1n) * rate > amount * 1_000_000n)
    }),
  )
})
