/** A shared store behind TLS, on a real server with a certificate of a CA of our own. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { openRedisStore } from '@farebox/sidecar/store/redis/redis.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig } from '../support/make.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { freePorts, startSidecar } from '../support/sidecar.ts'

const program = redisProgram()
const hasOpenssl = spawnSync('openssl', ['version']).status === 0
const missing = program === null ? 'there is no redis-server' : hasOpenssl ? false : 'there is no openssl to make a certificate with'

describe('a shared store behind TLS', { skip: missing }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-tls-'))
  let server: TestServer
  let tlsPort: number
  let provider: Provider
  before(async () => {
    // oxfmt-ignore
    execFileSync('openssl', [
      'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=store',
      '-addext', 'subjectAltName=DNS:localhost', '-keyout', join(folder, 'key.pem'), '-out', join(folder, 'certificate.pem'),
    ], { stdio: 'ignore' })
    tlsPort = (await freePorts(1))[0] ?? 0
    // oxfmt-ignore
    server = await startRedis(program ?? '', [
      '--tls-port', String(tlsPort), '--tls-auth-clients', 'no', '--tls-cert-file', join(folder, 'certificate.pem'),
      '--tls-key-file', join(folder, 'key.pem'), '--tls-ca-cert-file', join(folder, 'certificate.pem'),
    ])
    provider = await startProvider()
  })
  after(async () => {
    await provider.close()
    await server.stop()
    rmSync(folder, { recursive: true })
  })

  test('is reached by the name in its certificate, once the CA is trusted', async () => {
    const sidecar = await startSidecar(makeConfig(`${provider.url}/v1`), {
      environment: { FAREBOX_STORE: `rediss://localhost:${tlsPort}`, NODE_EXTRA_CA_CERTS: join(folder, 'certificate.pem') },
    })
    try {
      const answer = await sidecar
        .client({ 'x-farebox-conversation': 'private' })
        .chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello.' }] })
      assert.equal(answer.object, 'chat.completion')
      await sidecar.idle()
      assert.equal((await sidecar.standing('private')).turns, 1)
    } finally {
      await sidecar.close()
    }
  })

  test('is away for who does not trust its CA, and says why', async () => {
    const opening = openRedisStore({ url: `rediss://localhost:${tlsPort}`, namespace: 'tls', nowMs: () => Date.now() })
    await assert.rejects(opening, { name: 'StoreError', code: 'away', message: /^localhost:\d+ cannot be used: self-signed certificate/ })
  })
})
