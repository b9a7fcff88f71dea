import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ANNOTATIONS } from '@farebox/crds/cluster.ts'
import type { KubeObject, ObjectMeta } from '../kube/kube.ts'
import { podEvent } from './pod-events.ts'

const NOW_MS = Date.parse('2026-01-01T00:00:30Z')
const OWNER = { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'chat-1', uid: 'r-1', controller: true }
const INJECTED = { [ANNOTATIONS.injectionHash]: '0123456789abcdef', [ANNOTATIONS.budget]: 'support' }

function pod(annotations: Readonly<Record<string, string>>, metadata: Partial<ObjectMeta> = {}): KubeObject {
  const own = { name: 'chat-1-x', namespace: 'shop', uid: 'p-1', creationTimestamp: '2026-01-01T00:00:00Z' }
  return { apiVersion: 'v1', kind: 'Pod', metadata: { ...own, annotations, ...metadata } }
}

test('an injected pod is told of on its controller, with what there was to warn of', () => {
  const warned = { ...INJECTED, [ANNOTATIONS.warnings]: 'one\ntwo' }
  assert.deepEqual(podEvent(pod(warned, { ownerReferences: [{ ...OWNER, name: 'no', controller: false }, OWNER] }), NOW_MS), {
    regarding: { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'chat-1', uid: 'r-1', namespace: 'shop' },
    type: 'Normal',
    reason: 'FareboxInjected',
    action: 'Inject',
    note: 'sidecar of budget "support": one; two',
  })
})

test('a skipped pod without a controller is told of on itself, with the reason', () => {
  assert.deepEqual(podEvent(pod({ [ANNOTATIONS.skipped]: 'HostNetwork' }), NOW_MS), {
    regarding: { apiVersion: 'v1', kind: 'Pod', name: 'chat-1-x', uid: 'p-1', namespace: 'shop' },
    type: 'Warning',
    reason: 'FareboxSkipped',
    action: 'Skip',
    note: 'no sidecar, HostNetwork',
  })
})

test('what is not ours, and what was there before, is not told of', () => {
  assert.equal(podEvent(pod({}), NOW_MS), null)
  assert.equal(podEvent(pod({ [ANNOTATIONS.skipped]: 'Because', [ANNOTATIONS.injectionHash]: 'x' }), NOW_MS), null)
  assert.equal(podEvent(pod(INJECTED), NOW_MS + 60_000), null)
  assert.equal(podEvent(pod(INJECTED, { creationTimestamp: 'never' }), NOW_MS), null)
})
