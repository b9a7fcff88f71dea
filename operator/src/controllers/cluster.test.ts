import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'node:test'
import { waitFor } from '../../../test/cluster/wait-for.ts'
import type { FakeApiServer } from '../../../test/kube/fake-api-server.ts'
import { stageCluster } from '../../../test/kube/staged-cluster.ts'
import { CONVERSATION_BUDGETS, NODES, PODS } from '../kube/resources.ts'
import type { Change } from './cluster.ts'

test('pods are told of when what is read of them changes; who governs them and the oldest kubelet follow', async (context) => {
  const changes: Change[] = []
  const budget = (server: FakeApiServer, name: string, app: string, generation: number): void => {
    const spec = { selector: { matchLabels: { app } }, tier: { default: 'pro' } }
    server.put(CONVERSATION_BUDGETS, name, { namespace: 'shop', fields: { spec, metadata: { name, namespace: 'shop', generation } } })
  }
  const node = (server: FakeApiServer, name: string, kubeletVersion: string): void => {
    server.put(NODES, name, { fields: { status: { nodeInfo: { kubeletVersion } } } })
  }
  const pod = (server: FakeApiServer, labels: Record<string, string>, phase: string): void => {
    server.put(PODS, 'web', { namespace: 'shop', labels, fields: { status: { phase } } })
  }
  const pods = (): number => changes.filter(({ what }) => what === 'Pod').length
  const { server, cluster } = await stageCluster(
    context,
    (empty) => {
      node(empty, 'a', 'v1.34.1')
      node(empty, 'b', 'v1.33.10')
      node(empty, 'c', 'v1.33.9')
      budget(empty, 'one', 'web', 1)
      pod(empty, { app: 'web' }, 'Pending')
    },
    (change) => changes.push(change),
  )
  const governing = (): string | undefined => {
    const known = cluster.pods.get('shop/web')
    return known === undefined ? undefined : cluster.governingOf(known)?.metadata.name
  }
  assert.equal(cluster.oldestKubelet(), 'v1.33.9')
  assert.equal(governing(), 'one')
  assert.deepEqual([cluster.hasBudgets('shop'), cluster.hasBudgets('other'), pods()], [true, false, 1])

  const version = (): string | undefined => cluster.pods.get('shop/web')?.metadata.resourceVersion
  const before = version()
  pod(server, { app: 'web' }, 'Running')
  await waitFor('the pod as it is now', () => version() !== before)
  await delay(20)
  assert.equal(pods(), 1, 'its phase is nothing to us')
  pod(server, { app: 'web', canary: 'yes' }, 'Running')
  await waitFor('the label to be told', () => pods() === 2)

  budget(server, 'one', 'other', 2)
  await waitFor('nobody to govern it', () => governing() === undefined)
  budget(server, 'two', 'web', 1)
  await waitFor('another to govern it', () => governing() === 'two')

  server.remove(NODES, 'c')
  await waitFor('the node to be gone', () => cluster.oldestKubelet() === 'v1.33.10')
})
