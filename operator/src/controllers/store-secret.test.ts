import assert from 'node:assert/strict'
import { test } from 'node:test'
import { waitFor } from '../../../test/support/wait-for.ts'
import { stageCluster } from '../../../test/kube/staged-cluster.ts'
import { KubeError } from '../kube/kube.ts'
import type { KubeObject } from '../kube/kube.ts'
import { SECRETS } from '../kube/resources.ts'
import { ensureStoreSecret, STORE_SECRET_KEYS, storeSecretOf } from './store-secret.ts'

const PLACE = { namespace: 'farebox', name: 'store' }
const base64 = (text: string): string => Buffer.from(text).toString('base64')
const WHOLE = {
  [STORE_SECRET_KEYS.adminPassword]: base64('open'),
  [STORE_SECRET_KEYS.rootKey]: base64('k'.repeat(32)),
  more: base64('kept'),
}

/** An API server that has no such Secret, or one already. */
function apiServer(isThere = false) {
  const created: KubeObject[] = []
  return {
    created,
    create: (_: unknown, object: KubeObject): Promise<KubeObject> => {
      if (isThere) return Promise.reject(new KubeError('it is there', { status: 409, reason: 'AlreadyExists' }))
      created.push(object)
      return Promise.resolve(object)
    },
  }
}

test('where nobody remembers one, it is drawn, and whole', async () => {
  const [one, other] = [apiServer(), apiServer()]
  assert.equal(await ensureStoreSecret(one, PLACE, null), 'drawn')
  assert.equal(await ensureStoreSecret(other, PLACE, null), 'drawn')
  const [first, second] = [...one.created, ...other.created].map(storeSecretOf)
  assert.ok(first && second)
  assert.notEqual(first.adminPassword, second.adminPassword)
  assert.ok(!first.rootKey.equals(second.rootKey))
})

test('one that was deleted is written again as it was; one that is there is left alone', async () => {
  const last = { apiVersion: 'v1', kind: 'Secret', metadata: { ...PLACE, uid: 'old', resourceVersion: '7' }, type: 'Opaque', data: WHOLE }
  const server = apiServer()
  assert.equal(await ensureStoreSecret(server, PLACE, last), 'restored')
  assert.deepEqual(
    server.created.map(({ metadata, type, data }) => [metadata.name, metadata.namespace, metadata.uid, type, data]),
    [['store', 'farebox', undefined, 'Opaque', WHOLE]],
  )
  assert.equal(await ensureStoreSecret(apiServer(true), PLACE, last), 'exists')
})

test('a password from a file is without the line break at its end, as the Valkey of the chart reads it', () => {
  const passwordOf = (text: string): string | undefined => {
    const data = { ...WHOLE, [STORE_SECRET_KEYS.adminPassword]: base64(text) }
    return storeSecretOf({ apiVersion: 'v1', kind: 'Secret', metadata: PLACE, data })?.adminPassword
  }
  assert.equal(passwordOf('open\n'), 'open')
  assert.equal(passwordOf(' open '), ' open ')
  assert.equal(passwordOf('\n'), undefined, 'which is none')
})

test('a replica remembers the last one that was whole, after it was spoilt and after it was deleted', async (context) => {
  let changes = 0
  const { server, cluster } = await stageCluster(
    context,
    () => undefined,
    ({ what }) => (changes += what === 'StoreSecret' ? 1 : 0),
  )
  const put = (data: object): KubeObject => server.put(SECRETS, 'store', { namespace: 'farebox', fields: { data } })
  const until = (count: number): Promise<unknown> => waitFor('the change', () => changes === count)
  assert.equal(cluster.lastStore, null)
  put(WHOLE)
  await until(1)
  put({ more: base64('spoilt') })
  await until(2)
  server.remove(SECRETS, 'store', 'farebox')
  await until(3)
  assert.equal(cluster.store.get('farebox/store'), undefined)
  assert.deepEqual(cluster.lastStore?.['data'], WHOLE)
})
