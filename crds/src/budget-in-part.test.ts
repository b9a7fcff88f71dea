import assert from 'node:assert/strict'
import { test } from 'node:test'
import { budgetInPart } from './budget-in-part.ts'
import { checkObject } from './check.ts'
import type { ConversationBudget } from './conversation-budget.ts'

const SPEC = {
  selector: { matchLabels: { app: 'desk' } },
  tier: { default: 'pro' },
  mode: 'Observe',
  upstreams: [{ name: 'openai', baseURL: 'https://api.openai.com/v1', credential: { secretRef: { name: 'keys', key: 'openai' } } }],
  injection: { mode: 'Required' },
}

function stored(spec: object, more: object = {}): object {
  return { apiVersion: 'farebox.dev/v1alpha1', kind: 'ConversationBudget', metadata: { name: 'desk', namespace: 'shop' }, spec, ...more }
}

function understood(spec: object): ConversationBudget {
  const checked = checkObject(stored(spec))
  assert.ok(checked.status === 'ok' && checked.value.kind === 'ConversationBudget')
  return checked.value
}

test('fields of a later version are left out, at any depth, and everything else stays', () => {
  const [openai] = SPEC.upstreams
  const later = {
    ...SPEC,
    fieldOfLater: true,
    upstreams: [{ ...openai, fieldOfLater: {}, credential: { ...openai?.credential, fieldOfLater: [] } }],
    injection: { ...SPEC.injection, fieldOfLater: 'x' },
  }
  assert.equal(checkObject(stored(later)).status, 'invalid')
  assert.deepEqual(budgetInPart(stored(later), null), understood(SPEC))
})

test('a rule that came with a later version takes nothing away', () => {
  const upstreams = [{ name: 'farebox', baseURL: 'https://api.openai.com/v1' }]
  assert.equal(checkObject(stored({ ...SPEC, upstreams })).status, 'invalid')
  assert.equal(budgetInPart(stored({ ...SPEC, upstreams }), null)?.spec.upstreams[0]?.name, 'farebox')
})

test('what governing does not need has its default where it cannot be read; of a status what can be read stays', () => {
  const spec = { ...SPEC, mode: 'ModeOfLater', contractMaxAge: 5 }
  const status = { observedGeneration: 3, fieldOfLater: 1 }
  const part = budgetInPart(stored(spec, { status }), null)
  const { mode: _, ...rest } = SPEC
  assert.deepEqual(part, { ...understood(rest), status: { observedGeneration: 3 } })
  assert.equal(budgetInPart(stored(spec, { status: { observedGeneration: 'x' } }), null)?.status, undefined)
})

test('where a needed field cannot be read the whole spec is as it was, and without one before nothing is known', () => {
  const before = understood(SPEC)
  for (const lost of [
    { ...SPEC, mode: 'Enforce', store: { kind: 'KindOfLater' } },
    { ...SPEC, selector: { matchLabels: { app: 1 } } },
    { ...SPEC, selector: { ...SPEC.selector, fieldOfLater: 1 } },
    { ...SPEC, selector: { fieldOfLater: ['a'] } },
    { ...SPEC, selector: {} },
    { ...SPEC, selector: {}, fieldOfLater: true },
    { ...SPEC, tier: undefined },
    undefined,
  ]) {
    const object = stored(lost as object, { status: { observedGeneration: 7 } })
    assert.deepEqual(budgetInPart(object, before), { ...before, status: { observedGeneration: 7 } })
    assert.equal(budgetInPart(object, null), null)
  }
  for (const none of [null, 'text', { kind: 'ConversationBudget' }]) assert.equal(budgetInPart(none, before), null)
})
