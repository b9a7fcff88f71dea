import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LABELS } from '@farebox/crds/cluster.ts'
import * as fc from 'fast-check'
import { makeBudget, makeInjectionSettings } from '../../../test/support/pods.ts'
import { gatePod, labelsFor } from './gate-pod.ts'
import { planInjection } from './inject.ts'
import { PodSchema } from './pod.ts'
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
})

test('a budget that requires sidecars selects it whatever its selector says of our own label, and no sidecar is put into it', () => {
  const inject = (operator: Selector['matchExpressions'][number]['operator'], ...values: string[]): Partial<Selector> => ({
    matchExpressions: [{ key: LABELS.inject, operator, values }],
  })
  for (const parts of [
    {},
    { matchLabels: { [LABELS.inject]: 'enabled' } },
    { matchLabels: { [LABELS.inject]: 'disabled' } },
    inject('NotIn', 'disabled'),
    inject('In', 'enabled'),
    inject('Exists'),
    inject('DoesNotExist'),
  ] satisfies readonly Partial<Selector>[]) {
    const selector: Selector = { matchLabels: { app: 'desk' }, matchExpressions: [], ...parts }
    const wanted = labelsFor(selector)
    assert.ok(wanted !== null)
    const { labels, spec } = gatePod(wanted)
    assert.ok(matches(selector, labels), JSON.stringify(selector))
    const pod = PodSchema.parse({ metadata: { labels }, spec })
    const budget = makeBudget({ spec: { selector, injection: { mode: 'Required' } } })
    const planned = planInjection(pod, { namespace: 'shop', oldNodes: [], unreadable: [] }, budget, makeInjectionSettings())
    assert.equal(planned.status, 'skip')
  }
})

test('it asks for no user and for little, or says nothing of it, so that neither a cluster that chooses users nor a LimitRange refuses it', () => {
  assert.doesNotMatch(JSON.stringify(gatePod({})), /runAsUser/)
  assert.match(JSON.stringify(gatePod({}, 'Little')), /"requests":\{"cpu":"1m"/)
  assert.doesNotMatch(JSON.stringify(gatePod({}, 'Unsaid')), /resources/)
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

test('the pod that is tried would pass the restricted Pod Security Standard, and has no token', () => {
  const spec = gatePod({ app: 'desk' }).spec as Record<string, unknown> & { readonly containers: readonly Record<string, unknown>[] }
  assert.equal(spec['automountServiceAccountToken'], false)
  assert.deepEqual(spec['securityContext'], { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } })
  assert.ok(spec.containers.length > 0)
  for (const container of spec.containers)
    assert.deepEqual(container['securityContext'], {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    })
})
