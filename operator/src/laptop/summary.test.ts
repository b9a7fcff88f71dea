import assert from 'node:assert/strict'
import { test } from 'node:test'
import { countByRung, differsBy, overshootOf, summariseTier } from './summary.ts'
import type { PlayedConversation, TierTerms } from './summary.ts'

const CENT = 10_000_000n
const played = (id: string, changes: Partial<PlayedConversation> = {}): PlayedConversation => ({
  id,
  tier: 'pro',
  rung: 'None',
  spent: 2n * CENT,
  summaries: 0n,
  budget: 10n * CENT,
  billed: 2n * CENT,
  sessions: 1,
  resolved: false,
  ...changes,
})
const TERMS: TierTerms = {
  tier: 'pro',
  pricing: 'PerResolution',
  price: 100n * CENT,
  otherCost: 20n * CENT,
  expectedConversationsPerUser: null,
  targetGrossMarginPercent: 60,
}

test('a price per resolution is earned by resolved conversations only, and all of them cost', () => {
  const summary = summariseTier(TERMS, [
    played('a', { resolved: true }),
    played('b', { spent: 28n * CENT }),
    played('c', { tier: 'other' }),
  ])
  assert.equal(summary.conversations, 2)
  assert.equal(summary.revenue, 100n * CENT)
  assert.equal(summary.marginPercent, 50) // 100 - 20 - 30
  assert.equal(summary.max, 28n * CENT)
})

test('a seat is shared by the conversations that it is expected to have', () => {
  const summary = summariseTier({ ...TERMS, pricing: 'FlatPerUser', expectedConversationsPerUser: 10 }, [played('a'), played('b')])
  assert.equal(summary.revenue, 20n * CENT)
  assert.equal(summary.marginPercent, 60) // 20 - 4 - 4
})

test('each session of a conversation is sold, and no conversation counts twice', () => {
  const terms: TierTerms = { ...TERMS, pricing: 'PerConversation', price: 10n * CENT, otherCost: 0n }
  const summary = summariseTier(terms, [played('a', { sessions: 3 }), played('b')])
  assert.equal(summary.conversations, 2)
  assert.equal(summary.revenue, 40n * CENT)
  assert.equal(summary.marginPercent, 90) // 40 - 4
})

test('a tier without revenue has no margin', () => {
  assert.equal(summariseTier(TERMS, [played('a')]).marginPercent, null)
})

test('what was billed past a budget is overshoot, summaries included; what one left does not make up for another', () => {
  const overshoot = overshootOf([played('a', { billed: 9n * CENT, summaries: 2n * CENT }), played('b', { billed: 1n })], 12n * CENT)
  assert.equal(overshoot?.beyondBudgets, CENT)
  assert.deepEqual(overshoot?.conversations, ['a'])
  assert.equal(overshootOf([played('a')], null), null)
})

test('ledger and bill differ when the gap is more than the share', () => {
  assert.equal(differsBy({ ledger: 99n, bill: 100n }, 1), false)
  assert.equal(differsBy({ ledger: 98n, bill: 100n }, 1), true)
})

test('rungs are counted in order, and those with nobody too', () => {
  assert.deepEqual(countByRung([played('a'), played('b', { rung: 'Summarize' })], ['DropRetrieval', 'Summarize']), [
    ['None', 1],
    ['DropRetrieval', 0],
    ['Summarize', 1],
  ])
})
