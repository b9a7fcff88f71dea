import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { gatePod, labelsFor } from './gate-pod.ts'
import { matches } from './selector.ts'
import type { Selector } from './selector.ts'

test('the pod that is tried has labels that the selector matches', () => {
  const selector: Selector = {
    matchLabels: { app: 'desk' },
    matchExpressions: [
      { key: 'tier', operator: 'In', values: ['gold', 'silver'] },
      { key: 'tier', operator: 'NotIn', values: ['gold'] },
      { key: 'track', operator: 'Exists', values: [] },
      { key: 'track', operator: 'NotIn', values: ['any'] },
      { key: 'old', operator: 'DoesNotExist', values: [] },
    ],
  }
  assert.deepEqual(labelsFor(selector), { app: 'desk', tier: 'silver', track: 'any-1' })
  assert.deepEqual(gatePod({ app: 'desk' }).labels, { app: 'desk', 'farebox.dev/inject': 'disabled' })
})

test('where no pod can match there is none to try', () => {
  const never = (key: string): Selector => ({
    matchLabels: {},
    matchExpressions: [
      { key, operator: 'Exists', values: [] },
      { key, operator: 'DoesNotExist', values: [] },
    ],
  })
  assert.equal(labelsFor(never('a')), null)
})

test('labels are found for whatever can be matched by few values', () => {
  const keys = ['a', 'b']
  const values = ['x', 'y']
  const expression = fc.oneof(
    fc.record({
      key: fc.constantFrom(...keys),
      operator: fc.constantFrom('In' as const, 'NotIn' as const),
      values: fc.subarray(values, { minLength: 1 }),
    }),
    fc.record({
      key: fc.constantFrom(...keys),
      operator: fc.constantFrom('Exists' as const, 'DoesNotExist' as const),
      values: fc.constant<string[]>([]),
    }),
  )
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom(...keys), fc.constantFrom(...values)),
      fc.array(expression, { maxLength: 5 }),
      (labels, list) => {
        const selector: Selector = { matchLabels: labels, matchExpressions: list }
        const found = labelsFor(selector)
        const options = [undefined, ...values, 'any', 'some', 'other']
        const possible = options.some((a) =>
          options.some((b) => matches(selector, { ...(a === undefined ? {} : { a }), ...(b === undefined ? {} : { b }) })),
        )
        assert.equal(found !== null, possible)
        if (found !== null) assert.ok(matches(selector, found))
      },
    ),
  )
})
