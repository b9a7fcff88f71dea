import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { outageCap } from './allowance.ts'

test('an allowance is a part of the cap, and no more than was left of it', () => {
  assert.equal(outageCap(1_000n, { spent: 0n }, 10), 100n)
  assert.equal(outageCap(1_000n, { spent: 950n }, 10), 50n)
  assert.equal(outageCap(1_000n, { spent: 1_200n }, 10), 0n)
  assert.equal(outageCap(1_000n, { spent: 300n }, 100), 700n, 'as if it were alone')
  assert.equal(outageCap(1_000n, { spent: 0n }, 0), 0n, 'nothing new')
})

test('sidecars that all use theirs overspend a cap by at most their allowances', () => {
  const amount = fc.bigInt(0n, 10n ** 12n)
  fc.assert(
    fc.property(amount, amount, fc.integer({ min: 0, max: 100 }), fc.integer({ min: 1, max: 8 }), (cap, spent, percent, sidecars) => {
      const before = spent < cap ? spent : cap
      const together = before + BigInt(sidecars) * outageCap(cap, { spent: before }, percent)
      assert.ok(together <= cap + (BigInt(sidecars) * cap * BigInt(percent)) / 100n)
    }),
  )
})
