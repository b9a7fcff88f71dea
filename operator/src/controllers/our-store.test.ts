import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { waitFor } from '../../../test/support/wait-for.ts'
import type { ClusterStage } from '../../../test/kube/staged-cluster.ts'
import { putDesk, stageCluster } from '../../../test/kube/staged-cluster.ts'
import { KubeError } from '../kube/kube.ts'
import type { KubeClient } from '../kube/kube.ts'
import { SECRETS } from '../kube/resources.ts'
import { createLog } from '../telemetry/log.ts'
import { OurStore } from './our-store.ts'
import { STORE_SECRET_KEYS } from './store-secret.ts'

/** A cluster with a budget on the store, whose secret is not there. `told`: what was hindered whenever that was said to be another. */
async function stage(
  context: TestContext,
  mode: 'Own' | 'Given',
  without: Partial<KubeClient> = {},
): Promise<ClusterStage & { readonly store: OurStore; readonly told: (readonly string[])[] }> {
  const staged = await stageCluster(context, (api) => putDesk(api, 'shop'))
  const { kube, cluster } = staged
  const told: (readonly string[])[] = []
  const store: OurStore = new OurStore({
    cluster,
    client: { ...kube, ...without },
    settings: {
      pod: { name: 'a', namespace: 'farebox', ip: '127.0.0.1', serviceAccount: 'farebox-operator' },
      store: { address: 'redis://127.0.0.1:1', mode, secret: 'store', caFile: null, isEphemeral: false },
    },
    log: createLog('silent'),
    onConnected: () => assert.fail('nobody connects'),
    onHindered: () => told.push([...store.hindered(cluster.snapshot().budgets).keys()]),
  })
  context.after(() => store.close())
  return { ...staged, store, told }
}

test('pods wait while the secret that somebody else gives is not there; when it is, that is so before anybody is told', async (context) => {
  const { server, cluster, store, told } = await stage(context, 'Given')
  await assert.rejects(store.keepSecret(), /^Error: Secret "store" must be there, with admin-password and a root-key of 32 bytes or more$/)
  assert.deepEqual(told, [['shop/desk']])
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  const data = { [STORE_SECRET_KEYS.adminPassword]: base64('open'), [STORE_SECRET_KEYS.rootKey]: base64('k'.repeat(32)) }
  server.put(SECRETS, 'store', { namespace: 'farebox', fields: { data } })
  await waitFor('the secret', () => cluster.store.get('farebox/store') !== undefined)
  await store.keepSecret()
  assert.deepEqual(told, [['shop/desk'], []])
  await store.keepSecret()
  assert.equal(told.length, 2, 'nothing is otherwise')
  assert.equal(store.isConnected, null, 'nobody has asked for more')
})

test('an API server that does not answer hinders nobody', async (context) => {
  const create = () => Promise.reject(new KubeError('busy', { status: 503, reason: 'ServiceUnavailable' }))
  const { store, told } = await stage(context, 'Own', { create })
  await assert.rejects(store.keepSecret(), /busy/)
  assert.deepEqual(told, [])
})

test('why pods wait for the secret of their namespace: the API server refuses it, or there is nothing to derive it from', async (context) => {
  const refused = new KubeError('exceeded quota', { status: 403, reason: 'Forbidden' })
  const { server, cluster, store } = await stage(context, 'Given', { apply: () => Promise.reject(refused) })
  const reason = (): string | undefined => store.hindered(cluster.snapshot().budgets).get('shop/desk')?.reason
  await assert.rejects(store.keepSecret())
  assert.equal(reason(), 'NoRuntimeSecret', 'somebody may be about to give it')
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  const data = { [STORE_SECRET_KEYS.adminPassword]: base64('open'), [STORE_SECRET_KEYS.rootKey]: base64('k'.repeat(32)) }
  server.put(SECRETS, 'store', { namespace: 'farebox', fields: { data } })
  await waitFor('the secret', () => cluster.store.get('farebox/store') !== undefined)
  await store.keepSecret()
  await assert.rejects(store.keepRuntimeSecrets(), /exceeded quota/)
  assert.equal(reason(), 'RuntimeSecretRefused')
})
