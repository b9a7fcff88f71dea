/** The Valkey that comes along, as its container starts it: the chart's own script and configuration, with a real server. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { Redis } from 'ioredis'
import { waitFor } from '../cluster/wait-for.ts'
import { redisProgram } from '../support/redis.ts'
import { freePorts } from '../support/sidecar.ts'
import { helmOrNull, nameOf, objectsOf, render } from './helm.ts'

const helm4 = await helmOrNull(4)
const server = redisProgram()
const options = helm4 === null || server === null ? { skip: 'helm or redis-server is missing' } : {}
const PASSWORD = 'a-password_of-the-operator'

describe('the Valkey of the chart', options, () => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-valkey-'))
  const path = (name: string): string => join(folder, name)
  let child: ChildProcess | undefined
  let port = 0
  after(async () => {
    await stop('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })

  /** The container's paths are below our folder, its port is a free one. */
  async function start(): Promise<void> {
    const files = objectsOf(render(helm4 ?? '')).find((object) => nameOf(object) === 'ConfigMap/farebox-valkey')?.['data'] as
      | Readonly<Record<string, string>>
      | undefined
    ;[port = 0] = await freePorts(1)
    for (const name of ['bin', 'data', 'files', 'store']) mkdirSync(path(name), { recursive: true })
    for (const [name, text] of Object.entries(files ?? {})) {
      const here = text
        .replaceAll('/etc/farebox/valkey', path('files'))
        .replaceAll('/etc/farebox/store', path('store'))
        .replaceAll('/data', path('data'))
        .replaceAll('6379', String(port))
      writeFileSync(join(path('files'), name), here)
    }
    child = spawn('sh', [join(path('files'), 'start.sh')], { stdio: ['ignore', 'ignore', 'inherit'] })
    await waitFor('the server', () => spawnSync('sh', [join(path('files'), 'ping.sh')]).status === 0, { withinMs: 10_000 })
  }
  async function stop(signal: NodeJS.Signals): Promise<void> {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill(signal)
    await ended
  }
  async function asked<T>(user: { readonly username?: string; readonly password?: string }, ask: (redis: Redis) => Promise<T>): Promise<T> {
    const redis = new Redis({ port, host: '127.0.0.1', ...user, maxRetriesPerRequest: 0, retryStrategy: () => null })
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
    mkdirSync(path('store'), { recursive: true })
    writeFileSync(join(path('store'), 'admin-password'), PASSWORD)
    await start()
    assert.equal(await asked(admin, (redis) => redis.ping()), 'PONG')
    await assert.rejects(
      asked({}, (redis) => redis.get('x')),
      /NOAUTH|Authentication required/,
    )
    assert.doesNotMatch(readFileSync(join(path('data'), 'users.acl'), 'utf8'), new RegExp(PASSWORD), 'only its hash is on disk')
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
    writeFileSync(join(path('store'), 'admin-password'), 'another')
    await start()
    assert.equal(await asked({ password: 'another' }, (redis) => redis.ping()), 'PONG')
    await assert.rejects(
      asked(admin, (redis) => redis.get('x')),
      /NOAUTH|WRONGPASS|Authentication/,
    )
    assert.equal(await asked(tenant, (redis) => redis.get('fb:shop:x')), '1')
  })
})

function pairs(flat: readonly string[]): readonly (readonly [string, string])[] {
  return flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1] ?? ''] as const] : []))
}
