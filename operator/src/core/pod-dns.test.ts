import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makePod } from '../../../test/support/pods.ts'
import { dnsWarning } from './pod-dns.ts'
import { PodSchema } from './pod.ts'

const warns = (spec: object): boolean => dnsWarning(PodSchema.parse(makePod({ containers: [{ name: 'app' }], ...spec }))) !== null

test('a pod that does not resolve names of the cluster is warned of', () => {
  assert.equal(warns({}), false)
  for (const dnsPolicy of ['ClusterFirst', 'ClusterFirstWithHostNet']) assert.equal(warns({ dnsPolicy }), false)
  assert.equal(warns({ dnsPolicy: 'Default' }), true)
  const none = (...searches: readonly string[]) => warns({ dnsPolicy: 'None', dnsConfig: { nameservers: ['10.96.0.10'], searches } })
  assert.equal(none(), true)
  assert.equal(warns({ dnsPolicy: 'None' }), true)
  assert.equal(none('example.com', 'svc.cluster.local'), true, 'it makes NAME.NAMESPACE.svc.svc.cluster.local')
  assert.equal(none('cluster.local.'), false)
  assert.equal(none('shop.svc.k8s.example', 'svc.k8s.example', 'k8s.example'), false)
})
