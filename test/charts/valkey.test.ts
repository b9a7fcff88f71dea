/** The Valkey that comes along, as its container starts it: the chart's own script and configuration, with a real server. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { connect } from 'node:tls'
import { createAuthority, issueLeaf } from '@farebox/operator/certificates/authority.ts'
import type { KeyPair } from '@farebox/operator/certificates/pem.ts'
import { Redis } from 'ioredis'
import { waitFor } from '../support/wait-for.ts'
import { redisProgram } from '../support/redis.ts'
import { freePorts } from '../support/free-ports.ts'
import { helmOrNull, nameOf, objectsOf, render } from './helm.ts'

const helm4 = await helmOrNull(4)
const server = redisProgram()
const options = helm4 === null || server === null ? { skip: 'helm or redis-server is missing' } : {}
const PASSWORD = 'a-password_of-the-operator'

/** The container's script and configuration in a folder of ours: its paths are below it, its port is a free one. */
class Staged {
  readonly folder = mkdtempSync(join(tmpdir(), 'farebox-valkey-'))
  readonly #values: readonly string[]
  #child: ChildProcess | undefined
  port = 0

  constructor(values: readonly string[] = []) {
    this.#values = values.flatMap((value) => ['--set', value])
    for (const name of ['data', 'files', 'store', 'tls']) mkdirSync(this.path(name))
    writeFileSync(this.path('store/admin-password'), PASSWORD)
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  async start(): Promise<void> {
    const rendered = objectsOf(render(helm4 ?? '', this.#values))
    const files = rendered.find((object) => nameOf(object) === 'ConfigMap/farebox-valkey')?.['data'] as
      | Readonly<Record<string, string>>
      | undefined
    ;[this.port = 0] = await freePorts(1)
    for (const [name, text] of Object.entries(files ?? {})) {
      const here = text
        .replaceAll('/etc/farebox/valkey', this.path('files'))
        .replaceAll('/etc/farebox/store', this.path('store'))
        .replaceAll('/etc/farebox/tls', this.path('tls'))
        .replaceAll('/data', this.path('data'))
        .replaceAll('6379', String(this.port))
      writeFileSync(this.path(`files/${name}`), here)
    }
    this.#child = spawn('sh', [this.path('files/start.sh')], { stdio: ['ignore', 'ignore', 'inherit'] })
    await waitFor('the server', () => this.isReady(), { withinMs: 10_000 })
  }

  /** As the kubelet asks. */
  isReady(): boolean {
    return spawnSync('sh', [this.path('files/ping.sh')]).status === 0
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill(signal)
    await ended
  }

  async close(): Promise<void> {
    await this.stop('SIGKILL')
    rmSync(this.folder, { recursive: true, force: true })
  }
}

describe('the Valkey of the chart', options, () => {
  const staged = new Staged()
  after(() => staged.close())
  const start = (): Promise<void> => staged.start()
  const stop = (signal: NodeJS.Signals): Promise<void> => staged.stop(signal)
  const path = (name: string): string => staged.path(name)
  async function asked<T>(user: { readonly username?: string; readonly password?: string }, ask: (redis: Redis) => Promise<T>): Promise<T> {
    const redis = new Redis({ port: staged.port, host: '127.0.0.1', ...user, maxRetriesPerRequest: 0, retryStrategy: () => null })
    redis.on('error', () => undefined)
    try {
      return await ask(redis)
    } finally {
      redis.disconnect()
    }
  }
  const admin = { password: PASSWORD }
  const tenant = { username: 'fb-shop', password: 'tenant' }

  test('knows the operator by the password of the Secret, and nobody without', async () => {
    await start()
    assert.equal(await asked(admin, (redis) => redis.ping()), 'PONG')
    await assert.rejects(
      asked({}, (redis) => redis.get('x')),
      /NOAUTH|Authentication required/,
    )
    assert.doesNotMatch(readFileSync(path('data/users.acl'), 'utf8'), new RegExp(PASSWORD), 'only its hash is on disk')
  })

  test('writes each step to a log, and forgets nothing to make room', async () => {
    const settings = await asked(admin, (redis) => redis.config('GET', 'append*', 'maxmemory*', 'save', 'busy-reply-threshold'))
    const found = Object.fromEntries(pairs(settings as readonly string[]))
    assert.equal(found['appendonly'], 'yes')
    assert.equal(found['appendfsync'], 'everysec')
    assert.equal(found['maxmemory-policy'], 'noeviction')
    assert.equal(found['maxmemory'], String(256 * 1_048_576))
    assert.equal(found['save'], '')
    assert.equal(found['busy-reply-threshold'], '500', 'a script that does not end can be ended')
  })

  test('keeps users of namespaces and what they wrote when it is restarted', async () => {
    await asked(admin, async (redis) => {
      await redis.call('ACL', 'SETUSER', tenant.username, 'reset', 'on', `>${tenant.password}`, '~fb:shop:*', '+@all', '-@dangerous')
      await redis.call('ACL', 'SAVE')
    })
    await asked(tenant, (redis) => redis.set('fb:shop:x', '1'))
    await stop('SIGTERM')
    await start()
    assert.equal(await asked(tenant, (redis) => redis.get('fb:shop:x')), '1')
    await assert.rejects(
      asked(tenant, (redis) => redis.get('fb:other:x')),
      /NOPERM/,
    )
  })

  test('takes another password of the operator when it is started anew', async () => {
    await stop('SIGTERM')
    writeFileSync(path('store/admin-password'), 'another')
    await start()
    assert.equal(await asked({ password: 'another' }, (redis) => redis.ping()), 'PONG')
    await assert.rejects(
      asked(admin, (redis) => redis.get('x')),
      /NOAUTH|WRONGPASS|Authentication/,
    )
    assert.equal(await asked(tenant, (redis) => redis.get('fb:shop:x')), '1')
  })
})

describe('the Valkey of the chart with TLS', options, () => {
  const staged = new Staged(['store.valkey.tls.existingSecret=store-tls'])
  after(() => staged.close())
  /** As the kubelet puts the Secret there. */
  const mount = (certificate: KeyPair, ca: string): void => {
    for (const [name, text] of Object.entries({ 'tls.crt': certificate.cert, 'tls.key': certificate.key, 'ca.crt': ca }))
      writeFileSync(staged.path(`tls/${name}`), text)
  }
  const serial = (pem: string): string => new X509Certificate(pem).serialNumber
  /** What is shown to whoever connects now. */
  async function shown(): Promise<string> {
    const socket = connect({ host: '127.0.0.1', port: staged.port, rejectUnauthorized: false })
    try {
      await once(socket, 'secureConnect')
      return socket.getPeerCertificate().serialNumber
    } finally {
      socket.destroy()
    }
  }

  test('shows a new certificate without a restart, also one of another authority, and stays ready', async () => {
    const issue = async (): Promise<readonly [leaf: KeyPair, ca: string]> => {
      const authority = await createAuthority(Date.now())
      return [await issueLeaf(authority, ['localhost'], Date.now()), authority.cert]
    }
    const [first, ca] = await issue()
    mount(first, ca)
    await staged.start()
    assert.equal(await shown(), serial(first.cert))
    const [second, otherCa] = await issue()
    mount(second, otherCa)
    assert.ok(staged.isReady())
    assert.equal(await shown(), serial(second.cert))
    mount({ ...first, key: 'spoilt' }, ca)
    assert.ok(staged.isReady(), 'one that cannot be used does no harm')
    assert.equal(await shown(), serial(second.cert))
    mount(first, ca)
    assert.ok(staged.isReady())
    assert.equal(await shown(), serial(first.cert))
  })
})

function pairs(flat: readonly string[]): readonly (readonly [string, string])[] {
  return flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1] ?? ''] as const] : []))
}
