/** What sidecars of a namespace need to reach the store, as the API server has it. */
import assert from 'node:assert/strict'
import { RuntimeSecrets } from '@farebox/operator/controllers/runtime-secrets.ts'
import { dataOf } from '@farebox/operator/controllers/store-secret.ts'
import { connectKube } from '@farebox/operator/kube/client.ts'
import { SECRETS } from '@farebox/operator/kube/resources.ts'
import { createLog } from '@farebox/operator/telemetry/log.ts'
import { RUNTIME_KEYS, RUNTIME_SECRET } from '@farebox/crds/cluster.ts'
import { clusterTest, freshNamespace } from '../support/cluster.ts'

clusterTest(
  'the authority of the store is in the secret of each namespace while there is one, and goes with it',
  async (cluster, context) => {
    const namespace = await freshNamespace(cluster, context, 'runtime')
    const kube = await connectKube({ kubeconfig: cluster.kubeconfig })
    const secret = { adminPassword: 'none', rootKey: Buffer.alloc(32, 1) }
    /** As by a leader who starts with this authority: what is written, and its version. */
    const written = async (ca: string | null): Promise<readonly [ca: string | undefined, version: string | undefined]> => {
      const secrets = new RuntimeSecrets({ client: kube, address: 'rediss://store:6379', ca, secret, log: createLog('silent') })
      await secrets.reconcile(new Set([namespace]))
      const known = await kube.get(SECRETS, RUNTIME_SECRET, namespace)
      assert.ok(known !== null)
      const data = dataOf(known)
      assert.match(data(RUNTIME_KEYS.store)?.toString() ?? '', /^rediss:\/\/fb-/)
      assert.equal(Buffer.from(data(RUNTIME_KEYS.identityKey)?.toString() ?? '', 'base64').length, 32)
      return [data(RUNTIME_KEYS.storeCa)?.toString(), known.metadata.resourceVersion]
    }
    try {
      assert.deepEqual((await written('one'))[0], 'one')
      const [other, version] = await written('other')
      assert.equal(other, 'other')
      assert.deepEqual(await written('other'), ['other', version], 'what is right is not written')
      const [none, after] = await written(null)
      assert.equal(none, undefined)
      assert.deepEqual(await written(null), [undefined, after])
    } finally {
      await kube.close()
    }
  },
)
