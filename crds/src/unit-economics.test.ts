import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { deriveBudgets } from './unit-economics.ts'
import type { Derived } from './unit-economics.ts'
import { formatUsd, parseUsd } from './usd.ts'

type Spec = Parameters<typeof deriveBudgets>[0]

function derivedOf(pricing: Spec['pricing'], unitEconomics: Spec['unitEconomics']): Derived {
  const derivation = deriveBudgets({ pricing, unitEconomics })
  assert.equal(derivation.status, 'derived')
  if (derivation.status !== 'derived') throw new TypeError()
  return derivation.derived
}

test('19.00 at 70 % less 2.70 over 6 conversations is 3.00 per user and 0.50 per conversation', () => {
  const derived = derivedOf(
    { model: 'FlatPerUser', price: '19.00', period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } },
    { targetGrossMarginPercent: 70, otherCost: '2.70', expectedConversationsPerUser: 6 },
  )
  assert.equal(formatUsd(derived.perUser ?? 0n), '3.00')
  assert.equal(formatUsd(derived.perConversation), '0.50')
  assert.deepEqual(
    derived.lines.map((line) => line.amount),
    ['19.00', '5.70', '-2.70', '3.00', '0.50'],
  )
})

test('a price per conversation is its own unit', () => {
  const derived = derivedOf({ model: 'PerConversation', price: '0.40' }, { targetGrossMarginPercent: 65, otherCost: '0.02' })
  assert.equal(formatUsd(derived.perConversation), '0.12')
  assert.equal(derived.perUser, null)
})

test('a price per resolution caps at the revenue at stake and expects the share that is resolved', () => {
  const derived = derivedOf(
    { model: 'PerResolution', price: '0.99' },
    { targetGrossMarginPercent: 60, otherCost: '0.15', expectedResolutionPercent: 50 },
  )
  assert.equal(formatUsd(derived.targetPerResolution ?? 0n), '0.246')
  assert.equal(formatUsd(derived.targetPerConversation), '0.123')
  assert.equal(formatUsd(derived.perConversation), '0.84')
})

test('a margin that leaves nothing is refused, and the message shows the numbers', () => {
  const derivation = deriveBudgets({
    pricing: { model: 'PerConversation', price: '1.00' },
    unitEconomics: { targetGrossMarginPercent: 90, otherCost: '0.10' },
  })
  assert.equal(derivation.status, 'marginLeavesNothing')
  assert.match(
    derivation.status === 'marginLeavesNothing' ? derivation.message : '',
    /1\.00 at a margin of 90 % leaves 0\.10, and other cost takes 0\.10/,
  )
})

test('the least budget of a conversation is a billionth: numbers that come to less are refused, and the field to look at is named', () => {
  const perUser = (conversations: number): Spec => ({
    pricing: { model: 'FlatPerUser', price: '0.00000001' },
    unitEconomics: { targetGrossMarginPercent: 50, otherCost: '0', expectedConversationsPerUser: conversations },
  })
  const perResolution = (percent: number): Spec => ({
    pricing: { model: 'PerResolution', price: '1.00' },
    unitEconomics: { targetGrossMarginPercent: 99, otherCost: '0.009999999', expectedResolutionPercent: percent },
  })
  const perConversation = (otherCost: string): Spec => ({
    pricing: { model: 'PerConversation', price: '1.00' },
    unitEconomics: { targetGrossMarginPercent: 99, otherCost },
  })
  const least = '0.000000001'
  const cases: readonly (readonly [name: string, spec: Spec, expected: string])[] = [
    ['5 billionths over 5 conversations', perUser(5), least],
    ['5 billionths over 6 conversations', perUser(6), 'spec.unitEconomics'],
    ['a billionth per resolution, all resolved', perResolution(100), least],
    ['a billionth per resolution, half of them resolved', perResolution(50), 'spec.unitEconomics'],
    ['a billionth per conversation', perConversation('0.009999999'), least],
    ['nothing per conversation', perConversation('0.01'), 'spec.unitEconomics.targetGrossMarginPercent'],
  ]
  for (const [name, spec, expected] of cases) {
    const derivation = deriveBudgets(spec)
    const found = derivation.status === 'derived' ? formatUsd(derivation.derived.targetPerConversation) : derivation.field
    assert.equal(found, expected, name)
  }
})

test('what is derived, over all conversations and with the other cost, never exceeds what the margin leaves', () => {
  const cents = (max: number): fc.Arbitrary<string> => fc.integer({ min: 1, max }).map((amount) => (amount / 100).toFixed(2))
  fc.assert(
    fc.property(
      cents(100_000),
      fc.integer({ min: 0, max: 99 }),
      cents(1_000),
      fc.integer({ min: 1, max: 1_000 }),
      (price, margin, otherCost, conversations) => {
        const derivation = deriveBudgets({
          pricing: { model: 'FlatPerUser', price },
          unitEconomics: { targetGrossMarginPercent: margin, otherCost, expectedConversationsPerUser: conversations },
        })
        if (derivation.status !== 'derived') return
        const { perConversation, perUser } = derivation.derived
        assert.ok(perConversation * BigInt(conversations) <= (perUser ?? 0n))
        assert.ok(((perUser ?? 0n) + parseUsd(otherCost)) * 100n <= parseUsd(price) * BigInt(100 - margin))
      },
    ),
  )
})
