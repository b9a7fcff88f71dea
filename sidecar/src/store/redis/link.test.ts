import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { StoreError } from '../store.ts'
import type { BudgetStore } from '../store.ts'
import { conversationFor, reserveStep, settleStep, START_MS } from '../steps.testing.ts'
import { Link } from './link.ts'
import { openRedisStore } from './redis.ts'
import { redisProgram, startRedis } from '../../../../test/support/redis.ts'
import type { TestServer } from '../../../../test/support/redis.ts'

const program = redisProgram()

const isError =
  (code: StoreError['code'], message: RegExp) =>
  (error: unknown): boolean =>
    error instanceof StoreError && error.code === code && message.test(error.message)

if (program !== null)
  describe('the connection to a store in Redis', () => {
    let server: TestServer
    let admin: Redis
    before(async () => {
      server = await startRedis(program)
      admin = new Redis(server.url)
    })
    after(async () => {
      // What a failed test left open would keep this process alive.
      await Promise.all(opened.map((store) => store.close()))
      admin.disconnect()
      await server.stop()
    })
    const opened: BudgetStore[] = []
    const open = async (namespace: string, url = server.url, tags = 1): Promise<BudgetStore> => {
      const store = await openRedisStore({ url, namespace, nowMs: () => START_MS, tags })
      opened.push(store)
      return store
    }
    const step = (id: string) => reserveStep(id, START_MS, { atLeast: 1n, atMost: 1n })

    it('goes on when the server has lost its scripts', async () => {
      const store = await open('flushed')
      await store.reserve(step('o1'))
      await admin.script('FLUSH')
      assert.equal((await store.reserve(step('o2'))).status, 'held')
      assert.equal((await store.settle(settleStep('o1', START_MS, 1n))).result.status, 'settled')
      await store.close()
    })

    it('fails a step within its time while the server is frozen, and comes back by itself', async () => {
      const store = await open('frozen')
      await store.reserve(step('o1'))
      server.process.kill('SIGSTOP')
      const from = performance.now()
      await assert.rejects(store.reserve(step('o2')), isError('away', /cannot be used/))
      assert.ok(performance.now() - from < 3_000)
      server.process.kill('SIGCONT')
      await sleep(100)
      // The step was on its way, and happened: asked for again it is known, and is the answer to its first sending.
      assert.equal((await store.reserve(step('o2'))).status, 'exists')
      assert.equal((await store.reserve({ ...step('o2'), isFirst: true })).status, 'held')
      await store.close()
    })

    for (const ms of [400, 2_400])
      it(`hears the answers to its steps after a stall of its own of ${ms} ms, on the same connection`, async () => {
        const link = await Link.open({ url: server.url })
        try {
          const answers = Promise.all(['one', 'two'].map((text) => link.ask((client) => client.echo(text))))
          stall(ms)
          assert.deepEqual(await answers, ['one', 'two'])
          assert.equal(await link.ask((client) => client.echo('three')), 'three')
          assert.equal(link.connections, 1)
        } finally {
          await link.close()
        }
      })

    it('grants nothing to a step that comes after its sender gave it up', async () => {
      let nowMs = START_MS
      const late = await open('late')
      const other = await openRedisStore({ url: server.url, namespace: 'late', nowMs: () => nowMs })
      opened.push(other)
      nowMs += 3_000
      await other.reserve({ ...step('o1'), isFirst: true, nowMs })
      // As from a connection that a frozen server reads when it goes on.
      await assert.rejects(late.reserve({ ...step('o2'), isFirst: true }), isError('away', /gave it up/))
      assert.equal(await other.void({ operationId: 'o2', atMs: nowMs }), 'unknown')
      // One whose clock is behind goes by the store's from its first answer on.
      await late.read({ conversation: 'A', accounts: [], nowMs: START_MS })
      assert.equal((await late.reserve({ ...step('o3'), isFirst: true })).status, 'held')
    })

    for (const tags of [1, 4])
      it(`grants nothing to a step that comes after what its sender did in its place, of ${tags} tags`, async () => {
        let nowMs = START_MS
        const options = { url: server.url, namespace: `overtaken-${tags}`, tags, nowMs: () => nowMs }
        const [late, other] = [await openRedisStore(options), await openRedisStore(options)]
        opened.push(late, other)
        // At home with its user, which is remembered: nobody need ask for it, and be told the time.
        const initial = conversationFor('A', START_MS, { user: 'ann' })
        const hold = (id: string) => reserveStep(id, START_MS, { atLeast: 1n, atMost: 1n }, { initial })
        await late.reserve(hold('o1'))
        nowMs += 300
        assert.equal(await other.void({ operationId: 'voided', atMs: nowMs }), 'unknown')
        await other.reserve(hold('settled'))
        await other.settle(settleStep('settled', nowMs, 1n))
        nowMs -= 300
        await assert.rejects(late.reserve({ ...hold('voided'), isFirst: true }), isError('away', /gave it up/))
        assert.equal((await late.reserve({ ...hold('settled'), isFirst: true })).status, 'exists')
        assert.equal((await late.reserve({ ...hold('o2'), isFirst: true })).status, 'held')
      })

    it('is away when nobody listens, and when the password is wrong', async () => {
      await assert.rejects(open('nobody', 'redis://127.0.0.1:1'), isError('away', /127\.0\.0\.1:1 cannot be used/))
      await admin.acl('SETUSER', 'ann', 'on', '>s3cret@', '~*', '+@all')
      await assert.rejects(open('wrong', server.url.replace('//', '//ann:wrong@')), isError('away', /WRONGPASS/))
      await (await open('right', server.url.replace('//', '//ann:s3cret%40@'))).close()
    })

    it('refuses a server that evicts keys', async () => {
      await admin.config('SET', 'maxmemory', '100mb')
      await admin.config('SET', 'maxmemory-policy', 'volatile-lru')
      await assert.rejects(open('evicting'), isError('away', /set maxmemory-policy to noeviction/))
      await admin.config('SET', 'maxmemory-policy', 'noeviction')
      await admin.config('SET', 'maxmemory', '0')
    })

    it('refuses a namespace of another version, and says corrupt of keys that are not ours', async () => {
      await admin.set('fb:newer:layout', '3 1')
      await assert.rejects(open('newer'), isError('corrupt', /layout 3 1/))
      const store = await open('mixed')
      await admin.rpush('fb:mixed:{0}:a:c:A:1', 'x')
      await assert.rejects(store.reserve(step('o1')), isError('corrupt', /WRONGTYPE/))
      await admin.set('fb:mixed:{0}:a:c:A:1', 'x')
      await assert.rejects(store.reserve(step('o1')), isError('corrupt', /account c:A:1/))
      await admin.set('fb:mixed:{0}:k:A', 'x')
      await assert.rejects(store.read({ conversation: 'A', accounts: [], nowMs: START_MS }), isError('corrupt', /conversation A/))
      // What no script of ours foresees is damage too: no other try, and no other run of the server, would take it.
      await store.update({ conversation: 'B', initial: conversationFor('B', START_MS), change: {}, nowMs: START_MS })
      const record = (await admin.get('fb:mixed:{0}:k:B')) ?? ''
      await admin.set('fb:mixed:{0}:k:B', record.replace('"pro"', 'pro'))
      const change = { turnAtMs: START_MS }
      await assert.rejects(store.update({ conversation: 'B', change, nowMs: START_MS }), isError('corrupt', /user_script:\d+: /))
      await store.close()
    })

    it('knows that an operation has ended, and what it cost, though its record is gone', async () => {
      const store = await open('ended')
      for (const id of ['o1', 'o2']) await store.reserve(step(id))
      await store.settle(settleStep('o1', START_MS, 7n))
      await store.void({ operationId: 'o2', atMs: START_MS })
      for (const id of ['o1', 'o2']) {
        assert.equal(await admin.exists(`fb:ended:{0}:o:${id}`), 0)
        assert.equal((await store.settle(settleStep(id, START_MS, 9n))).result.status, 'exists')
        assert.equal(await store.void({ operationId: id, atMs: START_MS }), 'exists')
      }
      const again = await store.reserve(step('o1'))
      assert.deepEqual(again.status === 'exists' && again.operation.state, { status: 'settled', cost: 7n })
      assert.deepEqual(
        (await store.readLedger({ afterSequence: 0, limit: 9 })).map(({ id }) => id),
        ['o1/settlement', 'o1/overrun'],
      )
      await store.close()
    })

    it('takes the number of tags that a namespace was begun with', async () => {
      const begun = await open('begun', server.url, 3)
      await begun.reserve(step('o1'))
      const again = await open('begun', server.url, 8)
      assert.equal((await again.settle(settleStep('o1', START_MS, 1n))).result.status, 'settled')
      await Promise.all([begun.close(), again.close()])
    })

    it('outlives two errors of one socket, as a TLS handshake that is broken off may give', async () => {
      const link = await Link.open({ url: server.url })
      const stream = await link.ask(async (client) => (client instanceof Redis ? client.stream : null))
      assert.ok(stream !== null)
      stream.emit('error', new Error('first'))
      stream.emit('error', new Error('second'))
      await link.close()
    })

    it('wants a URL that it can read', async () => {
      await assert.rejects(open('url', 'http://127.0.0.1:6379'), RangeError)
      await assert.rejects(open('url', 'redis://127.0.0.1:1,127.0.0.1:2'), RangeError)
      await assert.rejects(open('name space'), RangeError)
    })
  })

/** Nothing of this process runs meanwhile. */
function stall(ms: number): void {
  const end = performance.now() + ms
  while (performance.now() < end);
}
