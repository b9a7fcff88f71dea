/**
 * What `helm test` runs, with the rights that the chart gives it: it passes where all is well, whoever issues the certificate, and says
 * what is wrong where it is not.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { bundleOperator, BUNDLE_FOLDER } from '../../operator/build.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { waitFor } from '../support/wait-for.ts'
import { createAuthority, sign } from '../cluster/certificates.ts'
import { ownCluster } from '../support/cluster.ts'
import { install, OPERATOR_NAMESPACE, startOperator } from '../support/operator.ts'
import type { Operator } from '../support/operator.ts'
import { freePorts } from '../support/free-ports.ts'

const WEBHOOK = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/farebox'

const found = await ownCluster()

describe('the test of the installation', { skip: found === null ? 'there is no control plane' : false }, () => {
  const cluster = found as Cluster
  const operators: Operator[] = []
  const start = async (name: string, values: readonly string[] = []): Promise<Operator> => {
    const operator = await startOperator(cluster, await install(cluster, values), { name })
    operators.push(operator)
    return operator
  }
  const passes = async ({ webhookUrl }: Operator): Promise<void> => {
    const { code, said } = await selfTest(cluster, webhookUrl)
    assert.equal(code, 0, said)
    assert.deepEqual(said.match(/^ok: /gm)?.length, 3, said)
  }
  before(() => bundleOperator())
  after(async () => {
    for (const operator of operators) await operator.kill()
    await cluster.stop()
  })

  test('passes with a certificate of yours, whose CA may itself be signed by another', async () => {
    const authority = await createAuthority('middle', await createAuthority('root'))
    const { certificate, key } = await sign(authority, { name: 'operator', hosts: ['localhost', '127.0.0.1'] })
    await cluster.kubectl(['create', 'namespace', OPERATOR_NAMESPACE])
    const stringData = { 'tls.crt': certificate, 'tls.key': key, 'ca.crt': authority.certificate }
    const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'given-tls', namespace: OPERATOR_NAMESPACE }, stringData }
    await cluster.kubectl(['create', '-f', '-'], { input: JSON.stringify(secret) })
    await passes(await start('given', ['certificates.existingSecret=given-tls', `certificates.caBundle=${authority.certificate}`]))
  })

  test('passes again when that is turned off, as soon as a new replica is ready, beside a leader that makes no certificates', async () => {
    const own = await start('own')
    const [given] = operators
    assert.equal(await given?.isLeading(), true, 'it stays until the new one is ready')
    await passes(own)
    await given?.stop()
  })

  test('passes where a LimitRange demands more of a container than it asks for', async () => {
    const limits = [{ type: 'Container', min: { cpu: '100m' } }]
    const range = { apiVersion: 'v1', kind: 'LimitRange', metadata: { name: 'each', namespace: 'default' }, spec: { limits } }
    await cluster.kubectl(['create', '-f', '-'], { input: JSON.stringify(range) })
    await waitFor('the bounds', async () => {
      const containers = [{ name: 'app', image: 'app', resources: { requests: { cpu: '1m' } } }]
      const body = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'small' }, spec: { containers } }
      return (await cluster.request({ method: 'POST', path: '/api/v1/namespaces/default/pods?dryRun=All', body })).status === 403
    })
    await passes(operators.at(-1) ?? assert.fail('there is no operator'))
    await cluster.kubectl(['delete', 'limitrange', 'each'])
  })

  test('T28: passes as soon as the operator is ready, and names what is wrong', async () => {
    const operator = operators.at(-1)
    assert.ok(operator !== undefined)
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
    await operator.stop()
    await cluster.request({ method: 'DELETE', path: WEBHOOK })
    const gone = await selfTest(cluster, operator.webhookUrl)
    assert.match(gone.said, /the webhook configuration farebox cannot be read: 404/)
  })
})

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
