import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { ANNOTATIONS } from '@farebox/crds/cluster.ts'
import { Redis } from 'ioredis'
import { redisProgram, startRedis } from '../../../test/support/redis.ts'
import { storeUser } from '../core/runtime-secret.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import type { ClusterStage } from '../../../test/kube/staged-cluster.ts'
import { putDesk, stageCluster } from '../../../test/kube/staged-cluster.ts'
import { KubeError } from '../kube/kube.ts'
import type { KubeClient } from '../kube/kube.ts'
import { PODS, SECRETS } from '../kube/resources.ts'
import { createLog } from '../telemetry/log.ts'
import { OurStore } from './our-store.ts'
import { STORE_SECRET_KEYS } from './store-secret.ts'

const program = redisProgram()
const noRedis = program === null ? 'redis-server is missing' : false

/** A cluster with a budget on the store, whose secret is not there. `told`: what was hindered whenever that was said to be another. */
async function stage(
  context: TestContext,
  mode: 'Own' | 'Given',
  {
    without = {},
    address,
    steadyMs = () => 0,
  }: { readonly without?: Partial<KubeClient>; readonly address?: string; readonly steadyMs?: () => number } = {},
): Promise<ClusterStage & { readonly store: OurStore; readonly told: (readonly string[])[] }> {
  const staged = await stageCluster(context, (api) => putDesk(api, 'shop'))
  const { kube, cluster } = staged
  const told: (readonly string[])[] = []
  const store: OurStore = new OurStore({
    cluster,
    client: { ...kube, ...without },
    settings: {
      pod: { name: 'a', namespace: 'farebox', ip: '127.0.0.1', serviceAccount: 'farebox-operator' },
      store: { address: address ?? 'redis://127.0.0.1:1', mode, secret: 'store', caFile: null, isEphemeral: false },
    },
    sidecarVersion: '0.1.0',
    steadyMs,
    log: createLog('silent'),
    onConnected: () => assert.notEqual(address, undefined, 'nobody connects'),
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
  const { store, told } = await stage(context, 'Own', { without: { create } })
  await assert.rejects(store.keepSecret(), /busy/)
  assert.deepEqual(told, [])
})

test('why pods wait for the secret of their namespace: the API server refuses it, or there is nothing to derive it from', async (context) => {
  const refused = new KubeError('exceeded quota', { status: 403, reason: 'Forbidden' })
  const { server, cluster, store } = await stage(context, 'Given', { without: { apply: () => Promise.reject(refused) } })
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

test(
  'a user keeps what later sidecars need while the operator may be replaced or a pod of its namespace has one, and no longer',
  { skip: noRedis },
  async (context) => {
    const redis = await startRedis(program ?? '')
    context.after(() => redis.stop())
    const admin = new Redis(redis.url)
    context.after(() => admin.disconnect())
    await admin.config('SET', 'requirepass', 'open')
    let upMs = 0
    const { server, cluster, store } = await stage(context, 'Own', { address: redis.url, steadyMs: () => upMs })
    const base64 = (text: string): string => Buffer.from(text).toString('base64')
    const data = { [STORE_SECRET_KEYS.adminPassword]: base64('open'), [STORE_SECRET_KEYS.rootKey]: base64('k'.repeat(32)) }
    server.put(SECRETS, 'store', { namespace: 'farebox', fields: { data } })
    for (const [name, version] of [
      ['later', '0.2.0'],
      ['ours', '0.1.0'],
    ] as const)
      server.put(PODS, name, {
        fields: { metadata: { name, namespace: 'shop', annotations: { [ANNOTATIONS.sidecarVersion]: version } } },
        namespace: 'shop',
      })
    await waitFor('the pods', () => [...cluster.podsOf('shop')].length === 2 && cluster.store.get('farebox/store') !== undefined)
    const { name, rules } = storeUser(Buffer.from('k'.repeat(32)), 'shop')
    await admin.call('ACL', 'SETUSER', name, ...rules, '+getex')
    const mayMore = async (): Promise<boolean> => (await admin.call('ACL', 'DRYRUN', name, 'getex', 'fb:shop:a')) === 'OK'
    await waitFor('the users', async () => (await store.keepUsers()) === undefined)
    assert.equal(await mayMore(), true)
    server.remove(PODS, 'later', 'shop')
    await waitFor('its end', () => [...cluster.podsOf('shop')].length === 1)
    await store.keepUsers()
    assert.equal(await mayMore(), true, 'a replica of the other version may still inject')
    upMs += 10 * 60_000
    await store.keepUsers()
    assert.equal(await mayMore(), false)
  },
)
