import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RUNTIME_KEYS, RUNTIME_SECRET } from '@farebox/crds/cluster.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { putDesk, stageCluster } from '../../../test/kube/staged-cluster.ts'
import { KubeError } from '../kube/kube.ts'
import type { KubeClient, KubeObject } from '../kube/kube.ts'
import { NAMESPACES } from '../kube/resources.ts'
import { createLog } from '../telemetry/log.ts'
import { namespacesOnOurStore, RuntimeSecrets } from './runtime-secrets.ts'

/** Of an API server, what these need. `refused`: namespaces in which nothing may be written. */
function fakeClient(refused: ReadonlySet<string>): {
  readonly client: KubeClient
  readonly secrets: Map<string, KubeObject>
  looks: number
} {
  const secrets = new Map<string, KubeObject>()
  const missing = (): never => {
    throw new Error('nobody asks for that')
  }
  const fake = {
    secrets,
    looks: 0,
    client: {
      get: (_resource, name, namespace = '') => {
        fake.looks += 1
        return Promise.resolve(name === RUNTIME_SECRET ? (secrets.get(namespace) ?? null) : null)
      },
      apply: (_resource, object) => {
        const { namespace = '' } = object.metadata
        if (refused.has(namespace)) return Promise.reject(new KubeError('exceeded quota', { status: 403, reason: 'Forbidden' }))
        secrets.set(namespace, object)
        return Promise.resolve(object)
      },
      list: missing,
      create: missing,
      replace: missing,
      delete: missing,
      text: missing,
      evict: missing,
    } satisfies KubeClient as KubeClient,
  }
  return fake
}

const options = {
  address: 'redis://store:6379',
  ca: null,
  secret: { adminPassword: 'p', rootKey: Buffer.alloc(32, 1) },
  log: createLog('silent'),
}

test('namespaces that refuse the secret keep no other from having it', async () => {
  const refused = new Set(['a', 'b', 'c', 'd'])
  const { client, secrets: written } = fakeClient(refused)
  const secrets = new RuntimeSecrets({ ...options, client })
  const namespaces = new Set([...refused, 'e', 'f'])
  await assert.rejects(secrets.reconcile(namespaces), /^Error: 4 runtime secrets could not be written, the first in [a-d]: exceeded quota$/)
  assert.deepEqual([...written.keys()], ['e', 'f'])
  assert.deepEqual([...secrets.failed.keys()], ['a', 'b', 'c', 'd'])
  refused.delete('b')
  await assert.rejects(secrets.reconcile(namespaces))
  assert.deepEqual([...secrets.failed.keys()], ['a', 'c', 'd'])
  await secrets.reconcile(new Set(['b', 'e']))
  assert.equal(secrets.failed.size, 0, 'what nobody asks for is forgotten')
})

test('why none can be made at all is known of each namespace; an API server that is busy says nothing of them', async () => {
  const { client } = fakeClient(new Set())
  const namespaces = new Set(['shop', 'desk'])
  const secrets = new RuntimeSecrets({ ...options, client, address: 'redis://a:6379,b:6379' })
  await assert.rejects(secrets.reconcile(namespaces), /Invalid URL/)
  assert.deepEqual([...secrets.failed.keys()], ['shop', 'desk'])
  for (const status of [0, 429, 503]) {
    const get = () => Promise.reject(new KubeError('busy', { status, reason: 'Busy' }))
    const busy = new RuntimeSecrets({ ...options, client: { ...client, get } })
    await assert.rejects(busy.reconcile(namespaces), /busy/)
    assert.equal(busy.failed.size, 0, String(status))
  }
})

test('a secret that is right is looked at again when somebody doubts it, and written when it is gone', async () => {
  const fake = fakeClient(new Set())
  const secrets = new RuntimeSecrets({ ...options, client: fake.client })
  const namespaces = new Set(['shop', 'desk'])
  await secrets.reconcile(namespaces)
  const { looks } = fake
  await secrets.reconcile(namespaces)
  assert.equal(fake.looks, looks)
  fake.secrets.delete('shop')
  secrets.doubt('shop')
  await secrets.reconcile(namespaces)
  assert.equal(fake.looks, looks + 1, 'one look, at that one')
  assert.ok(fake.secrets.has('shop'))
})

test('an authority that is none any more is taken out of the secret', async () => {
  const { client, secrets } = fakeClient(new Set())
  const keys = (): readonly string[] => Object.keys(secrets.get('shop')?.['data'] ?? {})
  for (const [ca, has] of [
    ['a certificate', true],
    [null, false],
  ] as const) {
    await new RuntimeSecrets({ ...options, client, address: 'rediss://store:6379', ca }).reconcile(new Set(['shop']))
    assert.equal(keys().includes(RUNTIME_KEYS.storeCa), has, String(ca))
  }
})

test('a namespace that goes has no more need of the secret', async (context) => {
  const { server, cluster } = await stageCluster(context, (empty) => {
    for (const namespace of ['shop', 'desk']) putDesk(empty, namespace)
  })
  assert.deepEqual([...namespacesOnOurStore(cluster)].toSorted(), ['desk', 'shop'])
  server.put(NAMESPACES, 'shop', { fields: { metadata: { name: 'shop', deletionTimestamp: '2026-11-24T12:00:00Z' } } })
  await waitFor('the namespace to go', () => cluster.isGoing('shop'))
  assert.deepEqual([...namespacesOnOurStore(cluster)], ['desk'])
})
