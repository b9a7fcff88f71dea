/** A shared store whose password is in a file, as a cluster mounts it: replaced while the sidecar runs. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SidecarReport } from '@farebox/crds/delivery.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { Redis } from 'ioredis'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig } from '../support/make.ts'
import { mountFile, startOperator } from '../support/operator-delivery.ts'
import type { TestOperator, TestPod } from '../support/operator-delivery.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import type { Said } from '../support/talk.ts'
import { waitFor } from '../support/wait-for.ts'

const program = redisProgram()

describe('a shared store named by a file', { skip: program === null ? 'there is no redis-server' : false }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-store-file-'))
  const storeFile = join(folder, 'store')
  const keyFile = join(folder, 'identity-key')
  let server: TestServer
  let admin: Redis
  let provider: Provider
  let operator: TestOperator
  const sidecars: Sidecar[] = []
  const pods: TestPod[] = []
  before(async () => {
    server = await startRedis(program ?? '')
    admin = new Redis(server.url)
    provider = await startProvider()
    operator = await startOperator()
    mountFile(keyFile, Buffer.alloc(32, 9).toString('base64'))
    await setPassword('first')
  })
  after(async () => {
    for (const sidecar of sidecars) await sidecar.close()
    admin.disconnect()
    await operator.close()
    await provider.close()
    await server.stop()
    rmSync(folder, { recursive: true })
  })

  async function setPassword(password: string): Promise<void> {
    await admin.call('ACL', 'SETUSER', 'fb-shop', 'reset', 'on', `>${password}`, '~fb:shop:*', '+@all', '-@dangerous', '+info')
    mountFile(storeFile, `redis://fb-shop:${password}@127.0.0.1:${server.port}\n`)
  }
  async function started(name: string, allowancePercent = 0): Promise<Sidecar> {
    const onStoreFailure = { action: allowancePercent > 0 ? ('Allowance' as const) : ('Deny' as const), allowancePercent }
    const pod = operator.addPod(name)
    pods.push(pod)
    const sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, undefined, { onStoreFailure }), {
      environment: { ...operator.environment(pod), FAREBOX_STORE_FILE: storeFile, FAREBOX_IDENTITY_KEY_FILE: keyFile },
    })
    sidecars.push(sidecar)
    return sidecar
  }
  const say = async (sidecar: Sidecar): Promise<Said> => await startTalk(sidecar, { 'x-farebox-conversation': 'shared' }).say('Hello.')

  test('is used with the user of the namespace, whose key is the one that was given', async () => {
    const sidecar = await started('app-1')
    assert.equal((await say(sidecar)).status, 200)
    assert.equal(await admin.get('fb:shop:identity'), Buffer.alloc(32, 9).toString('base64'))
    assert.ok(!sidecar.log().includes('first@'), 'the password is not told')
  })

  test('is the same books for all who report of it', async () => {
    const second = await started('app-2')
    assert.equal((await say(second)).status, 200)
    const books = await admin.get('fb:shop:books')
    for (const pod of pods) assert.equal((await operator.untilReport(pod, ({ status }) => status?.store.state === 'Ready')).books, books)
    assert.equal(operator.book.size, 2)
    const [first, other] = pods
    assert.ok(first !== undefined && other !== undefined)
    const isTold = ({ status }: SidecarReport): boolean => Object.keys(status?.tiers ?? {}).length > 0
    await operator.untilReport(first, isTold)
    const before = operator.report(other)?.sequence ?? 0
    operator.publish(makeConfig(`${provider.url}/v1`, undefined, { version: Date.now() }))
    assert.equal(isTold(await operator.untilReport(other, ({ sequence }) => sequence > before)), false, 'one of them tells their totals')
  })

  test('is reached again after its password was replaced and the connections were cut', async () => {
    const [sidecar] = sidecars
    assert.ok(sidecar !== undefined)
    const state = async (): Promise<string> => ((await sidecar.getJson('/farebox/v1/status')) as SidecarStatus).store.state
    const url = `redis://fb-shop:second@127.0.0.1:${server.port}\n`
    await admin.call('ACL', 'SETUSER', 'fb-shop', 'resetpass', '>second')
    await admin.call('CLIENT', 'KILL', 'USER', 'fb-shop')
    await waitFor('the store is away', async () => (await state()) === 'Away')
    assert.equal((await say(sidecar)).status, 503)
    mountFile(storeFile, url)
    for (let tries = 0; (await state()) !== 'Ready'; tries++) {
      assert.ok(tries < 200, sidecar.log().slice(-3_000))
      await sleep(50)
    }
    assert.equal((await say(sidecar)).status, 200)
    assert.ok(!sidecar.log().includes('second@'))
  })

  test('that is away when a pod starts: it hashes by the given key, and spends what it may', async () => {
    const [first] = sidecars
    assert.ok(first !== undefined)
    const known = (await say(first)).headers.get('x-farebox-conversation')
    mountFile(storeFile, 'redis://fb-shop:second@127.0.0.1:1\n')
    const sidecar = await started('app-3', 50)
    assert.equal((await fetch(`${sidecar.adminUrl}/startz`)).status, 200)
    const said = await say(sidecar)
    assert.deepEqual([said.status, said.headers.get('x-farebox-store')], [200, 'away'])
    assert.equal(said.headers.get('x-farebox-conversation'), known, 'ids are hashed as the others hash them')
  })

  test('that has another key than the one that was given hashes by its own, and the log says so', async () => {
    await setPassword('third')
    mountFile(keyFile, Buffer.alloc(32, 5).toString('base64'))
    const sidecar = await started('app-4')
    assert.equal((await say(sidecar)).status, 200)
    assert.match(sidecar.log(), /another identity key/)
    assert.equal(await admin.get('fb:shop:identity'), Buffer.alloc(32, 9).toString('base64'))
  })
})
