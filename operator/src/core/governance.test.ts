import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeBudget } from '../../../test/support/pods.ts'
import { governing, selecting } from './governance.ts'

const POD = { namespace: 'shop', labels: { app: 'chat' } }

test('T15: of two budgets that select a pod the oldest governs', () => {
  const older = makeBudget({ name: 'z', createdAt: '2026-01-01T00:00:00Z' })
  const newer = makeBudget({ name: 'a', createdAt: '2026-02-01T00:00:00Z' })
  assert.equal(governing(POD, [newer, older]), older)
})

test('of two that are equally old the name decides', () => {
  const createdAt = '2026-01-01T00:00:00Z'
  const [b, a] = [makeBudget({ name: 'b', createdAt }), makeBudget({ name: 'a', createdAt })]
  assert.equal(governing(POD, [b, a]), a)
  assert.equal(governing(POD, [a, b]), a)
})

test('budgets of other namespaces and of other pods do not govern', () => {
  const elsewhere = makeBudget({ namespace: 'other' })
  const others = makeBudget({ spec: { selector: { matchLabels: { app: 'batch' } } } })
  assert.equal(governing(POD, [elsewhere, others]), null)
})

test('all that select a pod are known, in the order in which they came', () => {
  const [one, two] = [makeBudget({ name: 'one' }), makeBudget({ name: 'two' })]
  const others = makeBudget({ spec: { selector: { matchLabels: { app: 'batch' } } } })
  assert.deepEqual(selecting(POD.labels, [two, others, one]), [two, one])
})
