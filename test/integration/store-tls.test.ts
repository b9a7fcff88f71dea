/** A shared store behind TLS, on a real server whose certificate is of a CA of our own. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { StoreUsers } from '@farebox/operator/controllers/store-users.ts'
import { openRedisStore } from '@farebox/sidecar/store/redis/redis.ts'
import { Redis } from 'ioredis'
import { createAuthority, sign } from '../cluster/certificates.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig } from '../support/make.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { onFreePorts } from '../support/free-ports.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import { waitFor } from '../support/wait-for.ts'

const SOON = { withinMs: 20_000 }

const program = redisProgram()
const hasOpenssl = spawnSync('openssl', ['version']).status === 0
const missing = program === null ? 'there is no redis-server' : hasOpenssl ? false : 'there is no openssl to make a certificate with'

describe('a shared store behind TLS', { skip: missing }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-tls-'))
  const path = (name: string): string => join(folder, name)
  let server: TestServer
  let admin: Redis
  let tlsPort: number
  let provider: Provider
  before(async () => {
    for (const authority of ['first', 'second']) makeAuthority(folder, authority)
    server = await onFreePorts(1, ([free = 0]) => {
      tlsPort = free
      // oxfmt-ignore
      return startRedis(program ?? '', [
        '--tls-port', String(free), '--tls-auth-clients', 'no', '--tls-cert-file', path('first-leaf.pem'),
        '--tls-key-file', path('first-leaf.key'), '--tls-ca-cert-file', path('first.pem'),
      ])
    })
    admin = new Redis(server.url)
    provider = await startProvider()
  })
  after(async () => {
    admin.disconnect()
    await provider.close()
    await server.stop()
    rmSync(folder, { recursive: true })
  })

  const started = (environment: Readonly<Record<string, string>>): Promise<Sidecar> =>
    startSidecar(makeConfig(`${provider.url}/v1`), { environment: { FAREBOX_STORE: `rediss://localhost:${tlsPort}`, ...environment } })
  const storeOf = async (sidecar: Sidecar): Promise<SidecarStatus['store']> =>
    ((await sidecar.getJson('/farebox/v1/status')) as SidecarStatus).store

  test('is reached by the name in its certificate, once the whole process trusts the CA', async () => {
    const sidecar = await started({ NODE_EXTRA_CA_CERTS: path('first.pem') })
    try {
      assert.equal((await startTalk(sidecar, { 'x-farebox-conversation': 'private' }).say('Hello.')).status, 200)
      await sidecar.idle()
      assert.equal((await sidecar.standing('private')).turns, 1)
    } finally {
      await sidecar.close()
    }
  })

  test('is reached with a file of its CA, which is read again when the store is looked for', async () => {
    copyFileSync(path('first.pem'), path('trusted.pem'))
    const sidecar = await started({ FAREBOX_STORE_CA: path('trusted.pem') })
    try {
      assert.equal((await startTalk(sidecar, { 'x-farebox-conversation': 'by-file' }).say('Hello.')).status, 200)
      await sidecar.idle()
      assert.equal((await sidecar.standing('by-file')).turns, 1)

      await admin.call('CONFIG', 'SET', 'tls-cert-file', path('second-leaf.pem'), 'tls-key-file', path('second-leaf.key'))
      await admin.call('CLIENT', 'KILL', 'TYPE', 'NORMAL', 'SKIPME', 'yes')
      await waitFor('the certificate is refused', async () => /certificate/.test((await storeOf(sidecar)).reason ?? ''), SOON)
      copyFileSync(path('second.pem'), path('trusted.pem'))
      await waitFor('the new CA is trusted', async () => (await storeOf(sidecar)).state === 'Ready', SOON)
      assert.equal((await startTalk(sidecar, { 'x-farebox-conversation': 'by-file' }).say('Hello again.')).status, 200)
    } finally {
      await sidecar.close()
      await admin.call('CONFIG', 'SET', 'tls-cert-file', path('first-leaf.pem'), 'tls-key-file', path('first-leaf.key'))
    }
  })

  test('is away for who does not trust its CA, and says why', async () => {
    const options = { url: `rediss://localhost:${tlsPort}`, namespace: 'tls', nowMs: () => Date.now() }
    const refused = { name: 'StoreError', code: 'away', message: /^localhost:\d+ cannot be used: .*(certificate|issuer)/ }
    await assert.rejects(openRedisStore(options), refused)
    await assert.rejects(openRedisStore({ ...options, ca: pemOf(path('second.pem')) }), refused, 'a file of another CA')
    await assert.rejects(openRedisStore({ ...options, url: `rediss://127.0.0.1:${tlsPort}`, ca: pemOf(path('first.pem')) }), {
      code: 'away',
      message: /IP: 127\.0\.0\.1 is not in the cert/,
    })
    await (await openRedisStore({ ...options, ca: pemOf(path('first.pem')) })).close()
  })

  /** `connected`, once they are set; else why not. */
  async function usersBy(ca: string | null): Promise<string> {
    const told = Promise.withResolvers<string>()
    const users = new StoreUsers({
      address: `rediss://localhost:${tlsPort}`,
      ca,
      secret: { adminPassword: '', rootKey: Buffer.alloc(32, 1) },
      onConnected: () => told.resolve('connected'),
      onTrouble: ({ message }) => told.resolve(message),
    })
    try {
      const outcome = await told.promise
      if (users.isConnected) await users.reconcile(new Set(['shop']), { isGone: () => false, hasOtherVersions: () => false })
      return outcome
    } finally {
      users.close()
    }
  }

  test("gets its users from the operator, who trusts the CA's file as well", async () => {
    assert.match(await usersBy(null), /certificate|issuer/)
    assert.equal(await usersBy(pemOf(path('first.pem'))), 'connected')
    assert.match(String(await admin.call('ACL', 'USERS')), /fb-shop/)
  })

  test('is trusted by operator and sidecars through a CA that is itself signed by another', async () => {
    const authority = await createAuthority('middle', await createAuthority('root'))
    const leaf = await sign(authority, { name: 'store', hosts: ['localhost'] })
    writeFileSync(path('middle-leaf.pem'), leaf.certificate)
    writeFileSync(path('middle-leaf.key'), leaf.key)
    const serves = (name: string) =>
      admin.call('CONFIG', 'SET', 'tls-cert-file', path(`${name}-leaf.pem`), 'tls-key-file', path(`${name}-leaf.key`))
    await serves('middle')
    try {
      const ca = authority.certificate
      assert.equal(await usersBy(ca), 'connected')
      await (await openRedisStore({ url: `rediss://localhost:${tlsPort}`, namespace: 'tls', nowMs: () => Date.now(), ca })).close()
    } finally {
      await serves('first')
    }
  })
})

/** `NAME.pem` signed `NAME-leaf.pem`, which is for `localhost`. */
function makeAuthority(folder: string, name: string): void {
  const file = (end: string): string => join(folder, `${name}${end}`)
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  const openssl = (...args: readonly string[]): void => void execFileSync('openssl', args, { stdio: 'ignore' })
  openssl('req', '-x509', ...key, '-subj', `/CN=${name}`, '-keyout', file('.key'), '-out', file('.pem'))
  openssl('req', ...key.slice(0, -2), '-subj', '/CN=store', '-keyout', file('-leaf.key'), '-out', file('-leaf.csr'))
  writeFileSync(file('.ext'), 'subjectAltName=DNS:localhost\n')
  const by = ['-CA', file('.pem'), '-CAkey', file('.key'), '-CAcreateserial', '-extfile', file('.ext'), '-days', '2']
  openssl('x509', '-req', '-in', file('-leaf.csr'), ...by, '-out', file('-leaf.pem'))
}

function pemOf(file: string): string {
  return readFileSync(file, 'utf8')
}
