/** The operator keeps the users of a real store as they must be, whatever becomes of them. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { StoreUsers } from '@farebox/operator/controllers/store-users.ts'
import { Redis } from 'ioredis'
import { waitFor } from '../support/wait-for.ts'
import { redisProgram, startRedis } from '../support/redis.ts'

const program = redisProgram()
const secret = { adminPassword: '', rootKey: Buffer.alloc(32, 1) }
const nobodyIsGone = (): boolean => false

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
    await assert.rejects(users.reconcile(new Set(['shop']), nobodyIsGone), /ACL/)
    mkdirSync(join(folder, 'users'))
    await users.reconcile(new Set(['shop']), nobodyIsGone)
    assert.match(kept(), /^user fb-shop on /m)

    const admin = new Redis(server.url)
    context.after(() => admin.disconnect())
    await admin.call('ACL', 'DELUSER', 'fb-shop')
    await users.reconcile(new Set(['shop']), nobodyIsGone)
    assert.deepEqual(await admin.call('ACL', 'USERS'), ['default', 'fb-shop'])

    await users.reconcile(new Set(), (namespace) => namespace === 'shop')
    assert.deepEqual(await admin.call('ACL', 'USERS'), ['default'])
    assert.doesNotMatch(kept(), /fb-shop/)
  },
)
