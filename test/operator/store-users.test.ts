/** The operator keeps the users of a real store as they must be, whatever becomes of them. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { StoreUsers } from '@farebox/operator/controllers/store-users.ts'
import { runtimeSecret, storeUser } from '@farebox/operator/core/runtime-secret.ts'
import { Redis } from 'ioredis'
import { waitFor } from '../support/wait-for.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'

const program = redisProgram()
const secret = { adminPassword: '', rootKey: Buffer.alloc(32, 1) }
const facts = { isGone: () => false, hasOtherVersions: () => false }

test(
  'users that the store could not keep are kept later; one that somebody deleted is set again',
  { skip: program === null ? 'redis-server is missing' : false },
  async (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'farebox-acl-'))
    context.after(() => rmSync(folder, { recursive: true, force: true }))
    const aclFile = join(folder, 'users', 'users.acl')
    mkdirSync(join(folder, 'users'))
    writeFileSync(aclFile, 'user default on nopass ~* &* +@all\n')
    const server = await startRedis(program ?? '', ['--aclfile', aclFile])
    context.after(() => server.stop())
    const users = new StoreUsers({ address: server.url, ca: null, secret, onConnected: () => undefined, onTrouble: () => undefined })
    context.after(() => users.close())
    await waitFor('the connection', () => users.isConnected)
    const kept = (): string => readFileSync(aclFile, 'utf8')

    rmSync(join(folder, 'users'), { recursive: true })
    await assert.rejects(users.reconcile(new Set(['shop']), facts), /ACL/)
    mkdirSync(join(folder, 'users'))
    await users.reconcile(new Set(['shop']), facts)
    assert.match(kept(), /^user fb-shop on /m)

    const admin = new Redis(server.url)
    context.after(() => admin.disconnect())
    await admin.call('ACL', 'DELUSER', 'fb-shop')
    await users.reconcile(new Set(['shop']), facts)
    assert.deepEqual(await admin.call('ACL', 'USERS'), ['default', 'fb-shop'])

    await users.reconcile(new Set(), { ...facts, isGone: (namespace) => namespace === 'shop' })
    assert.deepEqual(await admin.call('ACL', 'USERS'), ['default'])
    assert.doesNotMatch(kept(), /fb-shop/)
  },
)

test(
  'a user keeps the commands that a later version allowed it while sidecars of one may run, and its password, keys and channels are as they must be',
  { skip: program === null ? 'redis-server is missing' : false },
  async (context) => {
    const { server, admin } = await startStore(context)
    /** As an operator does that was started anew: it has set no user yet. */
    const reconcile = async (): Promise<void> => {
      const users = new StoreUsers({ address: server.url, ca: null, secret, onConnected: () => undefined, onTrouble: () => undefined })
      try {
        await waitFor('the connection', () => users.isConnected)
        await users.reconcile(new Set(['shop']), { ...facts, hasOtherVersions: () => true })
      } finally {
        users.close()
      }
    }
    const may = async (...command: readonly string[]): Promise<boolean> =>
      (await admin.call('ACL', 'DRYRUN', 'fb-shop', ...command)) === 'OK'
    const isOurs = async (): Promise<boolean> => {
      const answer = await admin.call('ACL', 'LIST')
      const [rules = ''] = (Array.isArray(answer) ? answer.map(String) : []).filter((line) => line.startsWith('user fb-shop '))
      return (
        / on /.test(rules) &&
        rules.match(/ #[0-9a-f]{64}/g)?.length === 1 &&
        rules.match(/ %?[RW]*~\S+/g)?.join() === ' ~fb:shop:*' &&
        !/ nopass| &| \(| allkeys/.test(rules)
      )
    }
    const OF_LATER = ['getex', 'fb:shop:a'] as const
    await reconcile()
    assert.deepEqual([await may('get', 'fb:shop:a'), await may(...OF_LATER), await isOurs()], [true, false, true])

    await admin.call('ACL', 'SETUSER', 'fb-shop', '+getex', '-get')
    await reconcile()
    assert.deepEqual([await may('get', 'fb:shop:a'), await may(...OF_LATER), await isOurs()], [true, true, true])
    assert.equal(await may('getex', 'fb:other:a'), false)

    const spoilt = ['off', 'nopass', 'resetpass', '>another', '~*', '%R~other:*', 'resetkeys', '&*', '(+@all ~*)']
    for (const rule of spoilt) {
      await admin.call('ACL', 'SETUSER', 'fb-shop', '+getex', rule)
      await reconcile()
      assert.deepEqual([await may('get', 'fb:shop:a'), await may(...OF_LATER), await isOurs()], [true, false, true], rule)
    }
  },
)

test(
  'when no sidecar of another version is left in its namespace a user may do what those of this version need, and no more',
  { skip: program === null ? 'redis-server is missing' : false },
  async (context) => {
    const { server, admin } = await startStore(context)
    const may = async (namespace: string, command: string): Promise<boolean> =>
      (await admin.call('ACL', 'DRYRUN', `fb-${namespace}`, command, `fb:${namespace}:a`)) === 'OK'
    const users = new StoreUsers({ address: server.url, ca: null, secret, onConnected: () => undefined, onTrouble: () => undefined })
    context.after(() => users.close())
    await waitFor('the connection', () => users.isConnected)
    const namespaces = new Set(['shop', 'desk'])
    const others = new Set(namespaces)
    const now = { ...facts, hasOtherVersions: (namespace: string) => others.has(namespace) }
    for (const namespace of namespaces) {
      const { name, rules } = storeUser(secret.rootKey, namespace)
      await admin.call('ACL', 'SETUSER', name, ...rules, '+getex')
    }
    await users.reconcile(namespaces, now)
    await users.reconcile(namespaces, now)
    assert.deepEqual([await may('shop', 'getex'), await may('desk', 'getex')], [true, true])

    others.delete('shop')
    const client = new Redis(runtimeSecret(secret.rootKey, 'shop', server.url).store)
    context.after(() => client.disconnect())
    await client.set('fb:shop:a', '1')
    await users.reconcile(namespaces, now)
    assert.deepEqual([await may('shop', 'getex'), await may('desk', 'getex')], [false, true])
    assert.equal(await client.get('fb:shop:a'), '1', 'who is connected stays so')
  },
)

async function startStore(context: TestContext): Promise<{ readonly server: TestServer; readonly admin: Redis }> {
  const server = await startRedis(program ?? '')
  context.after(() => server.stop())
  const admin = new Redis(server.url)
  context.after(() => admin.disconnect())
  return { server, admin }
}
