import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createAuthority, sign } from '../../../test/cluster/certificates.ts'
import { connectKube } from './client.ts'

test('an API server is trusted whose authority is itself signed by another', async (context) => {
  const authority = await createAuthority('middle', await createAuthority('root'))
  const { certificate, key } = await sign(authority, { name: 'kube-apiserver', hosts: ['localhost'] })
  const server = createServer({ cert: certificate, key }, (_asked, answer) => answer.end('ok')).listen(0, 'localhost')
  await once(server, 'listening')
  const folder = mkdtempSync(join(tmpdir(), 'farebox-trust-'))
  const kubeconfig = join(folder, 'config')
  const cluster = {
    server: `https://localhost:${(server.address() as AddressInfo).port}`,
    'certificate-authority-data': Buffer.from(authority.certificate).toString('base64'),
  }
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      clusters: [{ name: 'test', cluster }],
      users: [{ name: 'test', user: { token: 'token' } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
      'current-context': 'test',
    }),
  )
  const kube = await connectKube({ kubeconfig, deadlineMs: 5_000 })
  context.after(async () => {
    await kube.close()
    server.close()
    rmSync(folder, { recursive: true })
  })
  assert.equal(await kube.text('/version'), 'ok')
})
