/** How a store in Redis lists its accounts: sessions by their conversations, the others by the weeks that they were used in. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { CONVERSATION_LIFE_MS } from '../store.ts'
import type { AccountsPage, BudgetStore } from '../store.ts'
import { conversationFor, reserveStep, settleStep, START_MS } from '../steps.testing.ts'
import { ACCOUNTS_WEEK_MS } from './keys.ts'
import { TestBooks } from './test-books.testing.ts'
import type { Books } from './test-books.testing.ts'
import { redisProgram, startRedis } from '../../../../test/support/redis.ts'

const WORKLOAD = 'w:shop/bot:Month:1'
const program = redisProgram()

async function listed(store: BudgetStore): Promise<readonly string[]> {
  const all: string[] = []
  let cursor: string | null = null
  do {
    const page: AccountsPage = await store.listAccounts(cursor === null ? { limit: 1_000 } : { limit: 1_000, cursor })
    all.push(...page.accounts)
    cursor = page.next
  } while (cursor !== null)
  return all.toSorted()
}

async function turn(store: BudgetStore, atMs: number): Promise<void> {
  const draws = ['c:A:1', WORKLOAD].map((account) => ({ account, cap: null }))
  await store.reserve(reserveStep(`o${atMs}`, atMs, { atLeast: 1n, atMost: 1n }, { reservation: { draws } }))
  await store.settle(settleStep(`o${atMs}`, atMs, 1n))
}

if (program !== null)
  describe('the accounts of a store in Redis', () => {
    let server: TestBooks
    before(async () => {
      server = new TestBooks(await startRedis(program))
    })
    after(() => server.stop())

    const withBooks =
      (run: (books: Books) => Promise<void>, tags = 1) =>
      (): Promise<void> =>
        server.run({ tags }, run)

    it(
      'are listed once a week, but for sessions; such a list outlives the accounts in it, and no longer',
      withBooks(async ({ store, clock, key }) => {
        for (let turns = 0; turns < 3; turns++) await turn(store, (clock.ms += 1_000))
        const week = Math.floor(clock.ms / ACCOUNTS_WEEK_MS)
        assert.deepEqual(await server.admin.hkeys(key(`b:${week}`)), [WORKLOAD])
        assert.deepEqual(await listed(store), ['c:A:1', 'c:A:summaries', WORKLOAD])
        const lifeMs = await server.admin.pttl(key(`b:${week}`))
        assert.ok(lifeMs > CONVERSATION_LIFE_MS + ACCOUNTS_WEEK_MS && lifeMs < CONVERSATION_LIFE_MS + 2 * ACCOUNTS_WEEK_MS, String(lifeMs))
        clock.ms += ACCOUNTS_WEEK_MS
        await turn(store, clock.ms)
        assert.deepEqual(await server.admin.keys(key('b:*')).then((keys) => keys.toSorted()), [key(`b:${week}`), key(`b:${week + 1}`)])
        assert.deepEqual(await listed(store), ['c:A:1', 'c:A:summaries', WORKLOAD, WORKLOAD])
        clock.ms += CONVERSATION_LIFE_MS + ACCOUNTS_WEEK_MS
        await turn(store, clock.ms)
        assert.equal((await listed(store)).filter((account) => account === WORKLOAD).length, 1)
      }),
    )

    it(
      'are listed where an earlier version began them, sessions at once, the others when they are used in another week',
      withBooks(async ({ store, clock, key }) => {
        await turn(store, clock.ms)
        await server.admin.del(key(`b:${Math.floor(clock.ms / ACCOUNTS_WEEK_MS)}`))
        assert.deepEqual(await listed(store), ['c:A:1', 'c:A:summaries'])
        clock.ms += ACCOUNTS_WEEK_MS
        await turn(store, clock.ms)
        assert.deepEqual(await listed(store), ['c:A:1', 'c:A:summaries', WORKLOAD])
      }),
    )

    it(
      'are listed of lone calls, too',
      withBooks(async ({ store, clock }) => {
        await turn(store, clock.ms)
        const draws = [{ account: 'c:call-1:1', cap: null }]
        const begin = { conversation: 'call-1', initial: conversationFor('call-1', clock.ms), reservation: { draws } }
        await store.reserve(reserveStep('o1', clock.ms, { atLeast: 1n, atMost: 1n }, begin))
        assert.deepEqual(
          (await listed(store)).filter((account) => account.startsWith('c:')),
          ['c:A:1', 'c:A:summaries', 'c:call-1:1', 'c:call-1:summaries'],
        )
      }),
    )

    it(
      'of a conversation whose record is damaged are those of its first session',
      withBooks(async ({ store, clock, key }) => {
        await turn(store, clock.ms)
        await server.admin.set(key('k:A'), 'no record')
        assert.deepEqual(await listed(store), ['c:A:1', 'c:A:summaries', WORKLOAD])
      }),
    )

    for (const tags of [1, 3])
      it(
        `of ${tags} tags are not listed by a cursor that no page gave`,
        withBooks(async ({ store }) => {
          for (const cursor of ['', '9:talks:0', '0:talks', 'talks:x', 'b:1', 'talks:0:0', '2951', '1:2:3:4'])
            await assert.rejects(store.listAccounts({ limit: 1, cursor }), RangeError, cursor)
          const page = await store.listAccounts({ limit: 1 })
          assert.ok(page.next !== null)
          await store.listAccounts({ limit: 1, cursor: page.next })
        }, tags),
      )

    it('of which there are many are told a page at a time', () =>
      server.run({ tags: 2 }, async ({ store }) => {
        const names = Array.from({ length: 1_200 }, (_, index) => `u:user${index}:pro:Month:1`)
        await Promise.all(
          names.map((account, index) =>
            store.charge({
              operationId: `x${index}`,
              accounts: [account],
              cost: 1n,
              atMs: START_MS,
              note: {},
              conversation: 'A',
              change: {},
            }),
          ),
        )
        let cursor: string | null = null
        const pages: number[] = []
        const all = new Set<string>()
        do {
          const page: AccountsPage = await store.listAccounts(cursor === null ? { limit: 100 } : { limit: 100, cursor })
          pages.push(page.accounts.length)
          for (const account of page.accounts) all.add(account)
          cursor = page.next
        } while (cursor !== null)
        assert.deepEqual([...all].toSorted(), names.toSorted())
        assert.ok(Math.max(...pages) < 200, pages.join(' '))
      }))
  })
