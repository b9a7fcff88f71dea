/** What a sweep of a store in Redis leaves, and what it does not. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { CONVERSATION_LIFE_MS } from '../store.ts'
import type { BudgetStore } from '../store.ts'
import { conversationFor, reserveStep, settleStep, START_MS } from '../steps.testing.ts'
import { TestBooks } from './test-books.testing.ts'
import type { Books } from './test-books.testing.ts'
import { redisProgram, startRedis } from '../../../../test/support/redis.ts'

const HOUR_MS = 3_600_000
const program = redisProgram()

/** As sidecars sweep. */
const SWEEP_MS = 10_000
const GRACE_MS = 30_000
function sweeping(store: BudgetStore, clock: { readonly ms: number }): () => Promise<readonly string[]> {
  return async () => (await store.sweep({ nowMs: clock.ms, limit: 9, graceMs: GRACE_MS })).expired.map(({ id }) => id)
}

if (program !== null)
  describe('a sweep of a store in Redis', () => {
    let server: TestBooks
    before(async () => {
      server = new TestBooks(await startRedis(program))
    })
    after(() => server.stop())

    const withBooks =
      (run: (books: Books) => Promise<void>, tags = 1) =>
      (): Promise<void> =>
        server.run({ tags }, run)

    for (const tags of [1, 2])
      it(
        `leaves holds that it cannot charge, says which, and charges those behind them, of ${tags} tags`,
        withBooks(async ({ store, clock, key }) => {
          const hold = async (id: string, account: string): Promise<void> => {
            const draws = [{ account, cap: null }]
            const reservation = { draws, expiresAtMs: clock.ms + 90_000 + Number(id) }
            // At home in tag 0 of two.
            const more = { conversation: 'u4', initial: conversationFor('u4', START_MS), seen: null, reservation }
            assert.equal((await store.reserve(reserveStep(id, clock.ms, { atLeast: 1n, atMost: 1n }, more))).status, 'held')
          }
          await hold('1', 'c:u4:1')
          await hold('2', 'c:u4:2')
          await hold('3', 'c:u4:3')
          await hold('4', 'c:u4:4')
          const record = (await server.admin.get(key('o:3'))) ?? ''
          assert.notEqual(record, '')
          const account = (await server.admin.get(key('a:c:u4:1'))) ?? ''
          await server.admin.set(key('a:c:u4:1'), 'no balance')
          await server.admin.rpush(key('a:c:u4:5'), 'no balance')
          await server.admin.set(key('o:2'), ((await server.admin.get(key('o:2'))) ?? '').replace('c:u4:2', 'c:u4:5'))
          await server.admin.set(key('o:3'), 'no operation')
          clock.ms += 100_000
          const sweep = async (limit: number) => {
            const { expired, uncharged } = await store.sweep({ nowMs: clock.ms, limit })
            return [expired.map(({ id }) => id), uncharged]
          }
          assert.deepEqual(await sweep(2), [[], ['1', '2']])
          assert.deepEqual(await sweep(2), [['4'], ['3']])
          assert.deepEqual(await sweep(2), [[], undefined])
          await server.admin.set(key('a:c:u4:1'), account)
          await server.admin.set(key('o:3'), record)
          clock.ms += HOUR_MS
          assert.deepEqual(await sweep(9), [['1', '3'], ['2']])
          const entries = await store.readLedger({ afterSequence: 0, limit: 9 })
          assert.deepEqual(
            entries.map(({ id }) => id),
            ['4/expiry', '1/expiry', '3/expiry'],
          )
        }, tags),
      )

    it(
      'charges what was due an hour ago all the same, where no sidecar ever sweeps for as long as it would wait',
      withBooks(async ({ store, clock }) => {
        await store.reserve(reserveStep('dead', clock.ms, { atLeast: 1n, atMost: 1n }))
        const sweep = sweeping(store, clock)
        const dueMs = clock.ms + 90_000
        for (; clock.ms < dueMs + HOUR_MS; clock.ms += GRACE_MS + 1) assert.deepEqual(await sweep(), [])
        assert.deepEqual(await sweep(), ['dead'])
      }),
    )

    for (const tags of [1, 2]) {
      it(
        `waits with what is due where nobody swept for a while, so that owners that are alive can renew it, of ${tags} tags`,
        withBooks(async ({ store, clock }) => {
          for (const id of ['live', 'dead']) await store.reserve(reserveStep(id, clock.ms, { atLeast: 1n, atMost: 1n }))
          const sweep = sweeping(store, clock)
          assert.deepEqual(await sweep(), [])
          // The store is away, or its clock is set forward; the first to hear it is a step of somebody else.
          clock.ms += 120_000
          await store.charge({ operationId: 'x', accounts: ['w'], cost: 1n, atMs: clock.ms, note: {}, conversation: '', change: {} })
          assert.deepEqual(await sweep(), [])
          clock.ms += SWEEP_MS
          await store.renew(['live'], clock.ms + 90_000)
          assert.deepEqual(await sweep(), [])
          clock.ms += GRACE_MS - SWEEP_MS - 1
          assert.deepEqual(await sweep(), [])
          clock.ms += 1
          assert.deepEqual(await sweep(), ['dead'])
          assert.equal((await store.settle(settleStep('live', clock.ms, 1n))).result.status, 'settled')
        }, tags),
      )

      it(
        `waits again where the clock jumps once more meanwhile, of ${tags} tags`,
        withBooks(async ({ store, clock }) => {
          await store.reserve(reserveStep('o1', clock.ms, { atLeast: 1n, atMost: 1n }))
          const sweep = sweeping(store, clock)
          for (const jump of [120_000, SWEEP_MS, 120_000, SWEEP_MS, SWEEP_MS]) {
            clock.ms += jump
            assert.deepEqual(await sweep(), [])
          }
          clock.ms += SWEEP_MS
          assert.deepEqual(await sweep(), ['o1'])
        }, tags),
      )

      it(
        `charges what nobody renewed as soon as it is due, where somebody swept all the while, of ${tags} tags`,
        withBooks(async ({ store, clock }) => {
          const sweep = sweeping(store, clock)
          for (let passed = 0; passed < GRACE_MS; passed += SWEEP_MS) {
            await sweep()
            clock.ms += SWEEP_MS
          }
          await store.reserve(reserveStep('o1', clock.ms, { atLeast: 1n, atMost: 1n }))
          for (let passed = 0; passed < 90_000; passed += SWEEP_MS) {
            assert.deepEqual(await sweep(), [])
            clock.ms += SWEEP_MS
          }
          assert.deepEqual(await sweep(), ['o1'])
        }, tags),
      )
    }

    it(
      'charges a hold that an earlier version wrote, to its user, whatever its note holds',
      withBooks(async ({ store, clock, key }) => {
        await store.reserve(reserveStep('o1', clock.ms, { atLeast: 3n, atMost: 3n }))
        const lines = ((await server.admin.get(key('o:o1'))) ?? '').split('\n')
        lines[4] = '0'
        lines[7] = String.raw`{"user":"c0ffee","tier":"pro","model":"gpt-\ud83d"}`
        await server.admin.set(key('o:o1'), lines.join('\n'))
        clock.ms += 90_000
        assert.deepEqual((await store.sweep({ nowMs: clock.ms, limit: 9 })).expired.length, 1)
        assert.equal(await server.admin.hget(key(`v:${Math.floor(START_MS / (24 * HOUR_MS))}:pro`), 'c0ffee'), '3')
      }),
    )

    it(
      'takes all conversations that are gone off the list, and none that lives on by costs',
      withBooks(async ({ store, clock, key }) => {
        const begin = async (id: string): Promise<void> => {
          await store.update({ conversation: id, initial: conversationFor(id, clock.ms), change: { turnAtMs: clock.ms }, nowMs: clock.ms })
        }
        const ids = (name: string, count: number): readonly string[] => Array.from({ length: count }, (_, index) => `${name}${index}`)
        const living = ids('live', 30)
        for (const id of living) await begin(id)
        clock.ms += 1_000
        await Promise.all(ids('gone', 1_100).map(begin))
        clock.ms += CONVERSATION_LIFE_MS / 2
        for (const id of living) {
          const fact = { accounts: [`c:${id}:1`], cost: 1n, atMs: clock.ms, note: {}, change: {} }
          await store.charge({ operationId: `x${id}`, conversation: id, ...fact })
        }
        clock.ms += CONVERSATION_LIFE_MS / 2 + 1
        await begin('new')
        await store.sweep({ nowMs: clock.ms, limit: 0 })
        assert.deepEqual((await server.admin.zrange(key('talks'), '0', '-1')).toSorted(), [...living, 'new'].toSorted())
        clock.ms += CONVERSATION_LIFE_MS / 2
        await store.sweep({ nowMs: clock.ms, limit: 0 })
        assert.deepEqual(await server.admin.zrange(key('talks'), '0', '-1'), ['new'])
      }),
    )

    it(
      'takes lone calls that are gone off their list, which is another',
      withBooks(async ({ store, clock, key }) => {
        const begin = async (id: string): Promise<void> => {
          await store.update({ conversation: id, initial: conversationFor(id, clock.ms), change: { turnAtMs: clock.ms }, nowMs: clock.ms })
        }
        await Promise.all(Array.from({ length: 1_100 }, (_, index) => begin(`call-${index}`)))
        assert.equal(await server.admin.zcard(key('calls')), 1_100)
        clock.ms += CONVERSATION_LIFE_MS + 1
        await begin('call-new')
        await store.sweep({ nowMs: clock.ms, limit: 0 })
        assert.deepEqual(await server.admin.zrange(key('calls'), '0', '-1'), ['call-new'])
        assert.equal(await server.admin.exists(key('talks')), 0)
      }),
    )

    it(
      'deletes all that users said whose time is over, of many users and many of one',
      withBooks(async ({ store, clock, key }) => {
        const remember = (user: string, from: number, count: number) => {
          const entry = { conversation: 'A', session: 1, atMs: clock.ms, role: 'user', text: 'hello' } as const
          const entries = Array.from({ length: count }, (_, index) => ({ ...entry, id: `m${from + index}` }))
          return store.remember({ user, entries, expiresAtMs: clock.ms + HOUR_MS, nowMs: clock.ms })
        }
        for (let from = 0; from < 1_200; from += 200) await remember('ann', from, 200)
        await Promise.all(Array.from({ length: 600 }, (_, index) => remember(`user${index}`, 0, 1)))
        clock.ms += HOUR_MS / 2
        await remember('late', 0, 1)
        clock.ms += HOUR_MS / 2
        await store.sweep({ nowMs: clock.ms, limit: 0 })
        assert.deepEqual(await server.admin.keys(key('m:*')), [key('m:late')])
        assert.deepEqual(await server.admin.zrange(key('memories'), '0', '-1'), ['late'])
      }),
    )
  })
