import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { divideCeil, formatPricePerMillion, formatUsd, NANO_PER_USD, parsePricePerMillion, parseUsd, percentOf } from './usd.ts'

test('amounts are read exactly, to the billionth', () => {
  assert.equal(parseUsd('0.50'), 500_000_000n)
  assert.equal(parseUsd('0'), 0n)
  assert.equal(parseUsd('0.000000001'), 1n)
  assert.equal(parseUsd('0.1'), 100_000_000n)
  assert.equal(parseUsd('999999999.999999999'), 10n ** 18n - 1n)
})

test('19.00 at 70 % less 2.70 is 3.00, over 6 is 0.50', () => {
  const perUser = percentOf(parseUsd('19.00'), 30) - parseUsd('2.70')
  assert.equal(formatUsd(perUser), '3.00')
  assert.equal(formatUsd(perUser / 6n), '0.50')
})

test('what is not a plain decimal is refused, and the message shows it', () => {
  for (const text of ['', '.5', '5.', '05', '-1', '+1', '1e3', '1,5', ' 1', '1 ', '1\n', '0x1', '١', '1234567890', '0.0000000001', 'NaN'])
    assert.throws(() => parseUsd(text), { name: 'RangeError', message: `"${text}" must be a decimal amount such as "0.50"` })
  for (const text of ['', '12345678', '0.0000001', '-1', '1_000'])
    assert.throws(() => parsePricePerMillion(text), { name: 'RangeError', message: /must be a decimal price such as "2\.50"/ })
})

test('a dollar per million tokens is a million pico-dollars per token', () => {
  assert.equal(parsePricePerMillion('1'), 1_000_000n)
  assert.equal(parsePricePerMillion('2.50'), 2_500_000n)
  assert.equal(parsePricePerMillion('0.0125'), 12_500n)
  assert.equal(parsePricePerMillion('0.000001'), 1n)
})

test('amounts are written with two decimals or as many as they need', () => {
  assert.equal(formatUsd(0n), '0.00')
  assert.equal(formatUsd(500_000_000n), '0.50')
  assert.equal(formatUsd(7_500_038n), '0.007500038')
  assert.equal(formatUsd(-1n), '-0.000000001')
  assert.equal(formatUsd(-2_700_000_000n), '-2.70')
  assert.equal(formatUsd(1_000_000_000n * NANO_PER_USD), '1000000000.00')
  assert.equal(formatPricePerMillion(12_500n), '0.0125')
})

test('reading what was written gives the same amount', () => {
  fc.assert(fc.property(fc.bigInt({ min: 0n, max: 10n ** 18n - 1n }), (amount) => assert.equal(parseUsd(formatUsd(amount)), amount)))
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 10n ** 13n - 1n }), (rate) =>
      assert.equal(parsePricePerMillion(formatPricePerMillion(rate)), rate),
    ),
  )
})

test('a quotient is rounded up, by less than one', () => {
  assert.equal(divideCeil(0n, 7n), 0n)
  assert.equal(divideCeil(7n, 7n), 1n)
  assert.equal(divideCeil(8n, 7n), 2n)
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 10n ** 24n }), fc.bigInt({ min: 1n, max: 10n ** 12n }), (numerator, denominator) => {
      const quotient = divideCeil(numerator, denominator)
      assert.ok(quotient * denominator >= numerator && (quotient - 1n) * denominator < numerator)
    }),
  )
  assert.throws(() => divideCeil(-1n, 7n), RangeError)
  assert.throws(() => divideCeil(1n, 0n), RangeError)
})

test('a share of an amount is rounded down: the shares never exceed the whole', () => {
  assert.equal(percentOf(99n, 50), 49n)
  assert.equal(percentOf(1n, 99), 0n)
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 10n ** 18n }), fc.integer({ min: 0, max: 100 }), (amount, percent) => {
      assert.ok(percentOf(amount, percent) + percentOf(amount, 100 - percent) <= amount)
    }),
  )
})
