import assert from 'node:assert/strict'
import { test } from 'node:test'
import { matches } from './selector.ts'
import type { Selector } from './selector.ts'

const selecting = (parts: Partial<Selector>): Selector => ({ matchLabels: {}, matchExpressions: [], ...parts })
const expression = (operator: Selector['matchExpressions'][number]['operator'], values: string[] = []) =>
  selecting({ matchExpressions: [{ key: 'tier', operator, values }] })

test('all labels must be there, with their values', () => {
  const selector = selecting({ matchLabels: { app: 'chat', team: '' } })
  assert.equal(matches(selector, { app: 'chat', team: '', more: 'x' }), true)
  assert.equal(matches(selector, { app: 'chat' }), false)
  assert.equal(matches(selector, { app: 'other', team: '' }), false)
})

test('expressions are as in Kubernetes: NotIn holds for a pod without the label', () => {
  const cases: readonly [Selector, with_: boolean, other: boolean, without: boolean][] = [
    [expression('In', ['a', 'b']), true, false, false],
    [expression('NotIn', ['a', 'b']), false, true, true],
    [expression('Exists'), true, true, false],
    [expression('DoesNotExist'), false, false, true],
  ]
  for (const [selector, withIt, other, without] of cases) {
    const { operator } = selector.matchExpressions[0] ?? {}
    assert.equal(matches(selector, { tier: 'a' }), withIt, operator)
    assert.equal(matches(selector, { tier: 'z' }), other, operator)
    assert.equal(matches(selector, { app: 'chat' }), without, operator)
  }
})

test('labels and expressions hold together', () => {
  const selector = selecting({ matchLabels: { app: 'chat' }, matchExpressions: [{ key: 'tier', operator: 'Exists', values: [] }] })
  assert.equal(matches(selector, { app: 'chat', tier: 'x' }), true)
  assert.equal(matches(selector, { app: 'chat' }), false)
  assert.equal(matches(selector, { tier: 'x' }), false)
})

test('a label is not mistaken for what every object inherits', () => {
  assert.equal(matches(selecting({ matchExpressions: [{ key: 'constructor', operator: 'Exists', values: [] }] }), {}), false)
})
