import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ANNOTATIONS, LABELS } from '@farebox/crds/cluster.ts'
import type { KubeObject, ObjectMeta } from '../kube/kube.ts'
import { olderPodEvent, podEvent } from './pod-events.ts'

const NOW_MS = Date.parse('2026-01-01T00:00:30Z')
const OWNER = { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'chat-1', uid: 'r-1', controller: true }
const INJECTED = { [ANNOTATIONS.injectionHash]: '0123456789abcdef', [ANNOTATIONS.budget]: 'support' }

function pod(annotations: Readonly<Record<string, string>>, metadata: Partial<ObjectMeta> = {}): KubeObject {
  const own = { name: 'chat-1-x', namespace: 'shop', uid: 'p-1', creationTimestamp: '2026-01-01T00:00:00Z' }
  return { apiVersion: 'v1', kind: 'Pod', metadata: { ...own, annotations, ...metadata } }
}

test('an injected pod is told of on its controller, and as a warning where there was something to warn of', () => {
  assert.equal(podEvent(pod(INJECTED), NOW_MS)?.type, 'Normal')
  const warned = { ...INJECTED, [ANNOTATIONS.warnings]: 'one\ntwo' }
  assert.deepEqual(podEvent(pod(warned, { ownerReferences: [{ ...OWNER, name: 'no', controller: false }, OWNER] }), NOW_MS), {
    regarding: { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'chat-1', uid: 'r-1', namespace: 'shop' },
    type: 'Warning',
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

test('a pod that was there before its budget is told of when that comes, on its controller', () => {
  const asking = { budgetBornAt: '2026-01-01T00:00:00Z', isExcluded: false, isRequired: false }
  const older = pod({}, { ownerReferences: [OWNER] })
  assert.deepEqual(olderPodEvent(older, asking, NOW_MS), {
    regarding: { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'chat-1', uid: 'r-1', namespace: 'shop' },
    type: 'Warning',
    reason: 'FareboxSkipped',
    action: 'Skip',
    note: 'no sidecar, OlderThanBudget: it was made before its budget: replace it, as kubectl rollout restart does',
  })
  assert.equal(olderPodEvent(older, asking, NOW_MS + 60_000), null, 'it was told')
  assert.equal(olderPodEvent(older, { ...asking, budgetBornAt: '' }, NOW_MS), null)
  assert.equal(olderPodEvent(older, { ...asking, budgetBornAt: '2025-12-31T23:59:59Z' }, NOW_MS), null, 'the webhook was away')
  assert.equal(olderPodEvent(older, { ...asking, isExcluded: true }, NOW_MS), null, 'replacing it would not help')
  assert.equal(olderPodEvent(pod(INJECTED), asking, NOW_MS), null)
  assert.equal(olderPodEvent(pod({}, { labels: { [LABELS.inject]: 'disabled' } }), asking, NOW_MS), null)
})

test('what is not ours, and what was there before, is not told of', () => {
  assert.equal(podEvent(pod({}), NOW_MS), null)
  assert.equal(podEvent(pod({ [ANNOTATIONS.skipped]: 'Because', [ANNOTATIONS.injectionHash]: 'x' }), NOW_MS), null)
  assert.equal(podEvent(pod(INJECTED), NOW_MS + 60_000), null)
  assert.equal(podEvent(pod(INJECTED, { creationTimestamp: 'never' }), NOW_MS), null)
})
