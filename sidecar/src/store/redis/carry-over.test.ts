/** What dropping old entries of a ledger in Redis costs, and how it gets on with what older versions left. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { LIVES_APART_MS } from '@farebox/crds/ledger-page.ts'
import * as fc from 'fast-check'
import { carriedOver } from '../../core/ledger.ts'
import type { EntryKind, SequencedEntry } from '../../core/ledger.ts'
import { DAY_MS } from '../../core/utc-day.ts'
import { START_MS } from '../steps.testing.ts'
import { LEDGER_LIFE_MS_MIN } from '../store.ts'
import { carriedOf } from './codec.ts'
import { declaredKeys, tagPrefix } from './keys.ts'
import { SCRIPTS } from './scripts.ts'
import { TestBooks } from './test-books.testing.ts'
import type { Books } from './test-books.testing.ts'
import { redisProgram, startRedis } from '../../../../test/support/redis.ts'

const program = redisProgram()
/** More than one script takes. */
const ACCOUNTS = Array.from({ length: 520 }, (_, index) => `c:A${index}:1`)
const HOUR_MS = 3_600_000

if (program !== null)
  describe('the ledger of a store in Redis', () => {
    let server: TestBooks
    before(async () => {
      server = new TestBooks(await startRedis(program))
    })
    after(() => server.stop())

    const withBooks = (run: (books: Books) => Promise<void>) => (): Promise<void> => server.run({ ledgerLifeMs: LEDGER_LIFE_MS_MIN }, run)
    const charge = async ({ store, clock }: Books): Promise<void> => {
      await Promise.all(
        ACCOUNTS.map((account) => {
          const fact = { operationId: `${account}/${clock.ms}`, accounts: [account], cost: 5n, atMs: clock.ms, note: {} }
          return store.charge({ ...fact, conversation: 'A', change: {} })
        }),
      )
    }
    const sweep = ({ store, clock }: Books) => store.sweep({ nowMs: clock.ms, limit: 9 })
    const ledger = ({ store }: Books): Promise<readonly SequencedEntry[]> => store.readLedger({ afterSequence: 0, limit: 10_000 })
    /** How often each command was run meanwhile, by scripts too. */
    const commandsOf = async (work: () => Promise<unknown>): Promise<ReadonlyMap<string, number>> => {
      await server.admin.config('RESETSTAT')
      await work()
      const stats = await server.admin.info('commandstats')
      return new Map([...stats.matchAll(/cmdstat_(\w+):calls=(\d+)/g)].map(([, name = '', calls]) => [name, Number(calls)]))
    }

    it(
      'is looked at by its first entry alone in a sweep that has nothing to drop, however much is carried',
      withBooks(async (books) => {
        for (const days of [0, 30, 30, 30]) {
          books.clock.ms += days * DAY_MS
          await charge(books)
        }
        books.clock.ms += 11 * DAY_MS
        await sweep(books)
        assert.equal(await server.admin.zcard(books.key('carried')), ACCOUNTS.length)
        books.clock.ms += HOUR_MS
        const commands = await commandsOf(() => sweep(books))
        assert.equal(commands.get('xrange'), 1)
        for (const name of ['zadd', 'zrem', 'xtrim', 'set', 'get']) assert.equal(commands.get(name), undefined, name)

        books.clock.ms += DAY_MS
        const daily = await commandsOf(() => sweep(books))
        assert.ok((daily.get('get') ?? 0) >= ACCOUNTS.length, 'accounts are looked up once a day')
        for (const name of ['zadd', 'zrem', 'xtrim', 'set']) assert.equal(daily.get(name), undefined, name)
        assert.equal((await commandsOf(() => sweep(books))).get('get'), undefined)
      }),
    )

    it(
      'drops entries an hour at a time, so that a reader of the ledger seldom meets it',
      withBooks(async (books) => {
        const kinds = async () => (await ledger(books)).map(({ kind }) => kind)
        for (const afterMs of [0, HOUR_MS / 2, HOUR_MS - 1, HOUR_MS + 1, 50 * DAY_MS]) {
          books.clock.ms = START_MS + afterMs
          const fact = { operationId: `x${afterMs}`, accounts: ['c:A:1'], cost: 5n, atMs: books.clock.ms, note: {} }
          await books.store.charge({ ...fact, conversation: 'A', change: {} })
        }
        books.clock.ms = START_MS + LEDGER_LIFE_MS_MIN + HOUR_MS
        await sweep(books)
        assert.deepEqual(await kinds(), ['cost', 'cost', 'cost', 'cost', 'cost'])
        books.clock.ms += 1
        await sweep(books)
        assert.deepEqual(await kinds(), ['carried', 'cost', 'cost'])
      }),
    )

    it(
      'adds up what an older version carried as several, though newer entries came before it was looked through',
      withBooks(async (books) => {
        const { store, clock, key } = books
        const begunMs = clock.ms
        for (const days of [0, 30, 30, 30, 30]) {
          clock.ms += days * DAY_MS
          await charge(books)
        }
        // As an older version left the first two months: each entry by itself, and nothing that says where the last is.
        const rows = await server.admin.xrange(key('ledger'), '-', '+', 'COUNT', 2 * ACCOUNTS.length)
        for (const [id, [, operation, , kind, , accounts, , cost, , atMs]] of rows) {
          const tick = id.slice(0, -2)
          await server.admin.zadd(key('carried'), tick, [tick, `${operation}/${kind}`, accounts, cost, atMs].join('\n'))
          await server.admin.xdel(key('ledger'), id)
        }
        assert.equal((await ledger(books)).length, 5 * ACCOUNTS.length)

        clock.ms += 11 * DAY_MS
        for (let sweeps = 0; sweeps < 2; sweeps++) await sweep(books)
        const carried = (await ledger(books)).filter(({ kind }) => kind === 'carried')
        assert.deepEqual(
          carried.map(({ accounts, cost, atMs }) => [...accounts, cost, (atMs - begunMs) / DAY_MS]),
          ACCOUNTS.map((account) => [account, 15n, 60]),
        )
        const [first] = ACCOUNTS
        const { accounts } = await store.read({ conversation: 'A', accounts: ACCOUNTS.slice(0, 1), nowMs: clock.ms })
        assert.equal(accounts.get(first ?? '')?.spent, 25n)
      }),
    )

    it(
      'goes on right where an older version took away what it would have added to',
      withBooks(async (books) => {
        const { clock, key } = books
        const told = async () => (await ledger(books)).filter(({ accounts }) => accounts.includes('c:A7:1')).map(({ cost }) => cost)
        for (const days of [0, 30, 30, 30]) {
          clock.ms += days * DAY_MS
          await charge(books)
        }
        clock.ms += 10 * DAY_MS - HOUR_MS
        await sweep(books)
        assert.deepEqual(await told(), [5n, 5n, 5n, 5n])
        // Added to one before it, at another place.
        const carried = await server.admin.zrangebyscore(key('carried'), '-inf', '+inf')
        await server.admin.del(key('carried'))
        for (const packed of carried) {
          const [tick, ...rest] = packed.split('\n')
          const place = String(Number(tick) - 0.5)
          await server.admin.zadd(key('carried'), place, [place, ...rest].join('\n'))
        }
        clock.ms += 3 * HOUR_MS
        await sweep(books)
        assert.deepEqual(await told(), [5n, 5n, 5n, 5n])
        assert.equal((await ledger(books)).filter(({ kind }) => kind === 'carried').length, 2 * ACCOUNTS.length)
        clock.ms += DAY_MS
        await sweep(books)
        assert.deepEqual(await told(), [10n, 5n, 5n])
      }),
    )

    it('is carried over as the rules say, in pages of any length and in any number of sweeps', async () => {
      const someAccounts = fc.uniqueArray(fc.constantFrom('alive 1', 'alive 2', 'alive 3', 'dead 1'), { minLength: 1 })
      const someEntry = fc.record({
        accounts: someAccounts,
        cost: fc.integer({ min: -20, max: 80 }),
        days: fc.oneof(fc.integer({ min: -5, max: 5 }), fc.integer({ min: 20, max: 50 })),
        kind: fc.constantFrom('settlement', 'settlement', 'outcome'),
      })
      const someSweeps = fc.array(fc.record({ hours: fc.integer({ min: 1, max: 40 }), ofDays: fc.integer({ min: 0, max: 400 }) }), {
        maxLength: 5,
      })
      const someLegacy = fc.integer({ min: 0, max: 20 })
      const somePage = fc.integer({ min: 1, max: 6 })
      let tries = 0
      await fc.assert(
        fc.asyncProperty(fc.array(someEntry, { maxLength: 40 }), someLegacy, someSweeps, somePage, async (parts, legacy, sweeps, page) => {
          const prefix = tagPrefix(`try-${++tries}`, 0)
          for (const account of ['alive 1', 'alive 2', 'alive 3']) await server.admin.set(`${prefix}a:${account}`, `5 0 0 ${START_MS}`)
          let atMs = 0
          const entries = parts.map(({ accounts, cost, days, kind }, index): SequencedEntry => {
            atMs = Math.max(0, atMs + days * DAY_MS)
            const id = `o${index + 1}`
            const entered = { operationId: id, kind: kind as EntryKind, accounts, atMs, note: {} }
            return { ...entered, sequence: index + 1, id: `${id}/${kind}`, cost: kind === 'outcome' ? 0n : BigInt(cost) }
          })
          for (const { sequence, id, operationId, kind, accounts, cost, atMs: at } of entries)
            if (sequence > legacy) {
              const fields = ['o', operationId, 'k', kind, 'a', accounts.join('\t'), 'c', String(cost), 't', String(at), 'n', '{}']
              await server.admin.xadd(`${prefix}ledger`, `${sequence}-0`, ...fields)
            } else if (kind !== 'outcome') {
              // As an older version may have left it: by itself.
              await server.admin.zadd(`${prefix}carried`, String(sequence), [sequence, id, accounts.join('\t'), cost, at].join('\n'))
            }
          let now = START_MS
          const sweepOf = async (oldestMs: number): Promise<void> => {
            for (let more = 'more'; more !== '';) {
              const values = [now, 0, now - oldestMs, page].map(String)
              const answer = (await server.admin.eval(SCRIPTS.carryOver, 2, ...declaredKeys(prefix), ...values)) as readonly string[]
              more = answer[2] ?? ''
            }
          }
          for (const { hours, ofDays } of sweeps) {
            now += hours * HOUR_MS
            await sweepOf(ofDays * DAY_MS)
          }
          now += 2 * DAY_MS
          await sweepOf(now)
          const carried = (await server.admin.zrangebyscore(`${prefix}carried`, '-inf', '+inf')).map((packed) => carriedOf(packed))
          const isAlive = (account: string): boolean => account.startsWith('alive')
          const expected = carriedOver(entries, isAlive, LIVES_APART_MS).toSorted((one, other) => one.sequence - other.sequence)
          assert.deepEqual(
            carried.map(({ tick, entry: { accounts, cost, atMs: at } }) => ({ tick, accounts, cost, at })),
            expected.map(({ sequence, accounts, cost, atMs: at }) => ({ tick: sequence, accounts, cost, at })),
          )
          assert.equal(await server.admin.xlen(`${prefix}ledger`), 0)
        }),
        { numRuns: 100 },
      )
    })
  })
