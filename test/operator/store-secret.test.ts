/** The Secret of the installation's own store, when somebody deletes it: the store that runs knows no other. */
import assert from 'node:assert/strict'
import { waitFor } from '../support/wait-for.ts'
import { clusterTest } from '../support/cluster.ts'
import { install, OPERATOR_NAMESPACE, startOperator } from '../support/operator.ts'
import { shown } from './plans.ts'
import type { Shown } from './plans.ts'

clusterTest('the secret of the store, deleted, is written again as it was', { own: {} }, async (cluster) => {
  const operator = await startOperator(cluster, await install(cluster), { environment: { FAREBOX_STORE_ADDRESS: 'redis://127.0.0.1:1' } })
  const path = `/api/v1/namespaces/${OPERATOR_NAMESPACE}/secrets/farebox-store`
  const other = (uid?: string): Promise<Shown> =>
    waitFor('the secret', async () => {
      const found = await shown(cluster, path)
      return found === null || found.metadata.uid === uid ? undefined : found
    })
  try {
    const before = await other()
    assert.equal(Buffer.from(before.data?.['root-key'] ?? '', 'base64').length, 32)
    assert.equal((await cluster.request({ method: 'DELETE', path })).status, 200)
    assert.deepEqual((await other(before.metadata.uid)).data, before.data)
    await waitFor('the log', () => /somebody deleted the secret of the store; it was written again as it was/.test(operator.log()))
  } finally {
    await operator.kill()
  }
})
