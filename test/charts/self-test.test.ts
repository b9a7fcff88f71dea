/** What `helm test` runs, with the rights that the chart gives it: it passes where all is well, and says what is wrong where it is not. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bundleOperator, BUNDLE_FOLDER } from '../../operator/build.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { waitFor } from '../cluster/wait-for.ts'
import { clusterTest } from '../support/cluster.ts'
import { install, OPERATOR_NAMESPACE, startOperator } from '../support/operator.ts'
import { freePorts } from '../support/sidecar.ts'

const WEBHOOK = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/farebox'

clusterTest(
  'T28: the test of the installation passes as soon as the operator is ready, and names what is wrong',
  { own: {} },
  async (cluster) => {
    await bundleOperator()
    const operator = await startOperator(cluster, await install(cluster))
    try {
      const passed = await selfTest(cluster, operator.webhookUrl)
      assert.equal(passed.code, 0, passed.said)
      assert.deepEqual(passed.said.match(/^ok: /gm)?.length, 3, passed.said)

      const [closed = 0] = await freePorts(1)
      const unreachable = await selfTest(cluster, `https://127.0.0.1:${closed}/v1/pods`)
      assert.equal(unreachable.code, 1)
      assert.match(unreachable.said, new RegExp(`127.0.0.1:${closed} cannot be asked: .*ECONNREFUSED`))

      await ask(cluster, `https://127.0.0.1:${closed}/v1/pods`)
      await waitFor('the API server not to reach it', async () =>
        /the API server does not ask the webhook about pods in default: does a firewall/.test(
          (await selfTest(cluster, operator.webhookUrl)).said,
        ),
      )
    } finally {
      await operator.stop()
    }
    await cluster.request({ method: 'DELETE', path: WEBHOOK })
    const gone = await selfTest(cluster, operator.webhookUrl)
    assert.match(gone.said, /the webhook configuration farebox cannot be read: 404/)
  },
)

/** Where the API server asks. */
async function ask(cluster: Cluster, url: string): Promise<void> {
  const patch = [{ op: 'replace', path: '/webhooks/0/clientConfig/url', value: url }]
  const { status } = await cluster.request({ method: 'PATCH', path: WEBHOOK, body: patch, contentType: 'application/json-patch+json' })
  assert.equal(status, 200)
}

async function selfTest(cluster: Cluster, webhookUrl: string): Promise<{ readonly code: number; readonly said: string }> {
  const account = join(cluster.folder, 'account')
  mkdirSync(account, { recursive: true })
  writeFileSync(join(account, 'ca.crt'), cluster.ca)
  writeFileSync(join(account, 'token'), await cluster.tokenOf(OPERATOR_NAMESPACE, 'farebox-test'))
  const { hostname, port } = new URL(cluster.server)
  const env = {
    KUBERNETES_SERVICE_HOST: hostname,
    KUBERNETES_SERVICE_PORT: port,
    FAREBOX_ACCOUNT: account,
    FAREBOX_WEBHOOK_NAME: 'farebox',
    FAREBOX_WEBHOOK_URL: webhookUrl,
    FAREBOX_TEST_NAMESPACE: 'default',
    FAREBOX_TEST_ATTEMPTS: '1',
  }
  return new Promise((resolve) => {
    execFile(process.execPath, [join(BUNDLE_FOLDER, 'self-test.cjs')], { env, timeout: 30_000 }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1, said: stdout + stderr })
    })
  })
}
