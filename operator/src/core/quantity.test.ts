import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseQuantity } from './quantity.ts'

test('a quantity is read exactly, whatever its suffix', () => {
  const billion = 10n ** 9n
  const cases: readonly [string | number, bigint][] = [
    ['100m', billion / 10n],
    ['0.1', billion / 10n],
    [1, billion],
    ['1.5Gi', 3n * 2n ** 29n * billion],
    ['1e3', 1_000n * billion],
    ['1E3', 1_000n * billion],
    ['1E', 10n ** 18n * billion],
    ['1500k', 1_500_000n * billion],
    ['.5', billion / 2n],
    ['7n', 7n],
    ['0.1n', 1n], // rounded up
    ['0', 0n],
  ]
  for (const [text, expected] of cases) assert.equal(parseQuantity(text), expected, String(text))
})

test('what is not a quantity is null', () => {
  for (const text of ['', '.', 'abc', '1 Gi', '-1', '1g', '1e', '1Kii', '1e1000']) assert.equal(parseQuantity(text), null, text)
})
