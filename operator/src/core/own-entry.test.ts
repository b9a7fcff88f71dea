import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isWithin, withOwn } from './own-entry.ts'

const OWN = {
  name: 'farebox',
  env: [
    { name: 'A', value: '1' },
    { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
  ],
  volumeMounts: [{ name: 'data', mountPath: '/data' }],
  drop: ['ALL'],
}
const DEFAULTED = {
  ...OWN,
  env: [
    { name: 'A', value: '1' },
    { name: 'POD', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.name' } } },
  ],
  volumeMounts: [
    { name: 'data', mountPath: '/data' },
    { name: 'kube-api-access', mountPath: '/var/run/secrets/kubernetes.io/serviceaccount', readOnly: true },
  ],
  terminationMessagePath: '/dev/termination-log',
}

test('defaults and what others added are no reason to write again', () => {
  assert.equal(isWithin(OWN, DEFAULTED), true)
})

test('what was changed is made right again, and what others added stays', () => {
  const changed = {
    ...DEFAULTED,
    env: [
      { name: 'A', value: '2' },
      { name: 'EXTRA', value: 'x' },
    ],
    drop: [],
  }
  assert.equal(isWithin(OWN, changed), false)
  assert.deepEqual(withOwn(changed, OWN), {
    ...DEFAULTED,
    env: [{ name: 'A', value: '1' }, { name: 'EXTRA', value: 'x' }, OWN.env[1]],
  })
})

test('a second entry by the name of ours goes: it would win', () => {
  const doubled = { ...DEFAULTED, env: [...DEFAULTED.env, { name: 'A', value: '2' }, { name: 'A', value: '1' }, { name: 'B', value: '3' }] }
  assert.equal(isWithin(OWN, doubled), false)
  assert.deepEqual(withOwn(doubled, OWN), { ...DEFAULTED, env: [...DEFAULTED.env, { name: 'B', value: '3' }] })
})
