import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { createAuthority, sign } from '../../test/cluster/certificates.ts'
import type { KeyPair } from '../../test/cluster/certificates.ts'
import type { KubeObject } from './kube/kube.ts'
import { Readiness } from './readiness.ts'

test('whoever is trusted by what the API server was told is ready, whether or not that authority is signed by another', async (context) => {
  const root = await createAuthority('root')
  const middle = await createAuthority('middle', root)
  const port = await serve(context, middle)
  const whyNot = (caBundle: string | null) => readiness(port, caBundle).ask()
  assert.equal(await whyNot(middle.certificate), null, 'as Go has it, any certificate of the bundle is an anchor')
  assert.match((await whyNot(root.certificate)) ?? '', /^the API server would not trust us: /, 'the one between is not sent')
  assert.match((await whyNot((await createAuthority('root')).certificate)) ?? '', /^the API server would not trust us: /)
  assert.equal(await whyNot(null), 'the webhook configuration has no caBundle yet')
})

test('a replica says what it waits for, and stays ready until it leaves', async (context) => {
  const root = await createAuthority('root')
  const port = await serve(context, root)
  const is = { hasSynced: false, hasCertificate: false, isListening: false }
  const waiting = readiness(port, root.certificate, is)
  assert.equal(await waiting.ask(), 'the caches are not filled yet')
  is.hasSynced = true
  assert.equal(await waiting.ask(), 'there is no certificate yet')
  is.hasCertificate = true
  assert.equal(await waiting.ask(), 'the webhook does not listen yet')
  is.isListening = true
  assert.equal(await waiting.ask(), null)
  is.hasSynced = false
  assert.equal(await waiting.ask(), null)
  waiting.leave()
  assert.equal(await waiting.ask(), 'it is leaving')
})

async function serve(context: TestContext, authority: KeyPair): Promise<number> {
  const { certificate, key } = await sign(authority, { name: 'operator', hosts: ['localhost'] })
  const server = createServer({ cert: certificate, key }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  context.after(() => server.close())
  return (server.address() as AddressInfo).port
}

function readiness(port: number, caBundle: string | null, is = { hasSynced: true, hasCertificate: true, isListening: true }): Readiness {
  const configuration: KubeObject = {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: 'farebox' },
    webhooks: [{ name: 'inject.farebox.dev', clientConfig: caBundle === null ? {} : { caBundle: btoa(caBundle) } }],
  }
  return new Readiness({
    hasSynced: () => is.hasSynced,
    hasCertificate: () => is.hasCertificate,
    isListening: () => is.isListening,
    webhook: () => configuration,
    listener: { port, serverName: 'localhost' },
  })
}
