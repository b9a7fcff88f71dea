/** What an engine must add up per tier and day: outcomes, totals, users. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { ConversationChange } from '../../core/conversation.ts'
import { bucketOf } from '../../core/cost-buckets.ts'
import { NO_OUTCOMES } from '../../core/outcomes.ts'
import { DAY_MS } from '../../core/utc-day.ts'
import { conversationFor, reserveStep, settleStep } from '../steps.testing.ts'
import { TOTALS_LIFE_DAYS } from '../store.ts'
import { balance, withStoreOf } from './engine.testing.ts'
import type { OpenEmptyStore } from './engine.testing.ts'

/** Enough that a sketch of them is no list. */
const USERS = 1_000

export function daysContract(open: OpenEmptyStore): void {
  const withStore = withStoreOf(open)

  it(
    'keeps contracts by hash, and outcomes by key, per tier and day',
    withStore(async (store, clock) => {
      assert.equal(await store.getContract('h1'), null)
      await store.putContract(CONTRACT)
      await store.putContract(CONTRACT)
      assert.deepEqual(await store.getContract('h1'), CONTRACT)
      const note = { conversation: 'A', session: 1, user: 'ann' }
      const started = { tier: 'pro', atMs: clock.ms, kind: 'started', note } as const
      assert.equal(await store.addOutcome({ key: 'A/started', ...started }), 'added')
      assert.equal(await store.addOutcome({ key: 'A/started', ...started }), 'exists')
      await store.addOutcome({ key: 'B/started', ...started, atMs: clock.ms - DAY_MS })
      await store.addOutcome({ key: 'A/assumed', ...started, kind: 'assumed' })
      await store.addOutcome({ key: 'B/assumed', ...started, kind: 'assumed' })
      await store.addOutcome({ key: 'A/confirmed', ...started, kind: 'confirmed', of: 'assumed' })
      await store.addOutcome({ key: 'B/reversed', ...started, kind: 'reversed', of: 'assumed' })
      await store.addOutcome({ key: 'C/reversed', ...started, tier: 'basic', kind: 'reversed', of: 'confirmed' })
      await store.reserve(reserveStep('o1', clock.ms, { atLeast: 9n, atMost: 9n }))
      await store.settle(settleStep('o1', clock.ms, 7n))
      const today = { tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24' }
      const followed = { assumed: 2, confirmed: 1, confirmedAssumed: 1, reversed: 1, reversedAssumed: 1 }
      assert.deepEqual(await store.readOutcomes(today), { ...NO_OUTCOMES, started: 1, ...followed, cost: 7n })
      assert.equal((await store.readOutcomes({ ...today, fromDay: '2026-11-23' })).started, 2)
      assert.deepEqual(await store.readOutcomes({ ...today, tier: 'basic' }), { ...NO_OUTCOMES, reversed: 1 })
    }),
  )

  it(
    'enters each outcome in the ledger, once, at no cost and to nobody as spending',
    withStore(async (store, clock) => {
      const note = { conversation: 'A', session: 1, user: 'ann' }
      const outcome = { key: 'A/1/assumed', tier: 'pro', atMs: clock.ms, kind: 'assumed', note } as const
      for (let repeat = 0; repeat < 2; repeat++) await store.addOutcome(outcome)
      const [entry, ...more] = await store.readLedger({ afterSequence: 0, limit: 9 })
      assert.deepEqual(more, [])
      const { sequence: _sequence, ...entered } = entry ?? {}
      assert.deepEqual(entered, {
        id: 'A/1/assumed/outcome',
        operationId: 'A/1/assumed',
        kind: 'outcome',
        accounts: ['c:A:1'],
        cost: 0n,
        atMs: clock.ms,
        note: { ...note, tier: 'pro', purpose: 'outcome', label: 'assumed' },
      })
      assert.deepEqual(await balance(store, clock), { spent: 0n, held: 0n, heldInput: 0n })
      const today = { tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24' }
      assert.equal((await store.readUsers({ ...today, timesMedian: 10, atLeast: [], limit: 9 })).users, 0)
    }),
  )

  it(
    'adds up turns, spending, rungs and different users per tier and day, each step once',
    withStore(async (store, clock) => {
      const change = { addRungs: { rungs: ['DropRetrieval', 'Summarize'], reason: 'threshold' } } as const
      const turn = async (id: string, conversation: string, user: string | null, cost: bigint): Promise<void> => {
        const initial = conversationFor(conversation, clock.ms, { user })
        const draws = [{ account: `c:${conversation}:1`, cap: null }]
        const seen = { contractHash: 'k1', user, session: 1 }
        const step = reserveStep(id, clock.ms, { atLeast: 5n, atMost: 5n }, { conversation, initial, seen, change, reservation: { draws } })
        for (let repeat = 0; repeat < 2; repeat++) await store.reserve(step)
        for (let repeat = 0; repeat < 2; repeat++) await store.settle(settleStep(id, clock.ms, cost, { conversation }))
      }
      await turn('o1', 'A', 'ann', 9n)
      await turn('o2', 'A', 'ann', 4n)
      await turn('o3', 'B', 'bob', 1n)
      await turn('o4', 'C', null, 1n)
      clock.ms += DAY_MS
      await turn('o5', 'B', 'bob', 6n)
      const first = { tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24' }
      const { costs: _costs, ...day } = await store.readTotals(first)
      const risen = { DropRetrieval: 3, Summarize: 3, DowngradeModel: 0, RefuseTools: 0, EndConversation: 0 }
      assert.deepEqual(day, { turns: 4, spent: 15n, risen, users: 2 })
      const both = await store.readTotals({ ...first, toDay: '2026-11-25' })
      assert.deepEqual([both.turns, both.spent, both.users, both.risen.Summarize], [5, 21n, 2, 3])
      const other = await store.readTotals({ ...first, tier: 'basic' })
      assert.deepEqual([other.turns, other.spent, other.users, other.costs.size], [0, 0n, 0, 0])
      await assert.rejects(store.readTotals({ ...first, fromDay: 'yesterday' }), RangeError)
    }),
  )

  it(
    'counts a rung again in the next session, and after its conversation was opened again',
    withStore(async (store, clock) => {
      const state = (is: 'open' | 'ended') => ({ state: { is, atMs: clock.ms } })
      const end: ConversationChange = { addRungs: { rungs: ['EndConversation'], reason: 'threshold' }, ...state('ended') }
      const update = (change: ConversationChange) =>
        store.update({ conversation: 'A', initial: conversationFor('A', clock.ms), change, nowMs: clock.ms })
      for (const change of [end, end, state('open'), end, { openSession: 2 }, { ...end, ofSession: 1 }, end]) await update(change)
      const { risen } = await store.readTotals({ tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24' })
      assert.equal(risen.EndConversation, 3)
    }),
  )

  it(
    'knows how the costs of sessions are distributed, each on the day that it began and as it is by now',
    withStore(async (store, clock) => {
      const costs = async (day: string) => [...(await store.readTotals({ tier: 'pro', fromDay: day, toDay: day })).costs]
      const on = (id: string, ...accounts: readonly string[]) => {
        const draws = accounts.map((account) => ({ account, cap: null }))
        return store.reserve(reserveStep(id, clock.ms, { atLeast: 50n, atMost: 50n, cap: null }, { reservation: { draws } }))
      }
      await on('o1', 'c:A:1', 'c:A:summaries')
      await on('o2', 'u:ann')
      assert.deepEqual(await costs('2026-11-24'), [], 'a hold sells nothing')
      await store.settle(settleStep('o1', clock.ms, 40n))
      await store.settle(settleStep('o2', clock.ms, 50n))
      assert.deepEqual(await costs('2026-11-24'), [[bucketOf(40n), 1]])
      clock.ms += DAY_MS
      const fact = { cost: 5_000n, atMs: clock.ms, note: { tier: 'pro' }, conversation: 'A', change: {} }
      for (let repeat = 0; repeat < 2; repeat++) await store.charge({ operationId: 'x1', accounts: ['c:A:1'], ...fact })
      await store.charge({ operationId: 'x2', accounts: ['c:A:2'], ...fact, note: { tier: 'basic' } })
      await on('o3', 'c:A:2')
      await on('o4', 'c:A:3')
      clock.ms += 100_000
      await store.sweep({ nowMs: clock.ms, limit: 9 })
      assert.deepEqual(await costs('2026-11-24'), [[bucketOf(5_040n), 1]])
      assert.deepEqual(await costs('2026-11-25'), [[bucketOf(50n), 1]])
      await store.void({ operationId: 'o4', atMs: clock.ms })
      assert.deepEqual(await costs('2026-11-25'), [], 'the charge was all that it had cost')
      const { costs: basic } = await store.readTotals({ tier: 'basic', fromDay: '2026-11-25', toDay: '2026-11-25' })
      assert.deepEqual([...basic], [[bucketOf(5_050n), 1]])
    }),
  )

  it(
    'counts a session from its first settlement or charge on: one whose holds were all given back was not sold',
    withStore(async (store, clock) => {
      const costs = async () => [...(await store.readTotals({ tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24' })).costs]
      const hold = (id: string, session: number) => {
        const draws = [{ account: `c:A:${session}`, cap: null }]
        return store.reserve(reserveStep(id, clock.ms, { atLeast: 50n, atMost: 50n, cap: null }, { reservation: { draws } }))
      }
      const voided = (id: string) => store.void({ operationId: id, atMs: clock.ms })
      await hold('o1', 1)
      await voided('o1')
      assert.deepEqual(await costs(), [])
      await hold('o2', 1)
      await store.settle(settleStep('o2', clock.ms, 0n))
      await hold('o3', 1)
      await voided('o3')
      assert.deepEqual(await costs(), [[0, 1]], 'one that was served for nothing stays')
      for (const id of ['o4', 'o5', 'o6']) await hold(id, 2)
      clock.ms += 100_000
      await store.sweep({ nowMs: clock.ms, limit: 9 })
      assert.deepEqual(await costs(), [
        [0, 1],
        [bucketOf(150n), 1],
      ])
      await voided('o4')
      await store.settle(settleStep('o5', clock.ms, 0n))
      assert.deepEqual(await costs(), [
        [0, 1],
        [bucketOf(50n), 1],
      ])
      await voided('o6')
      assert.deepEqual(await costs(), [[0, 1]])
      await hold('o7', 2)
      await store.settle(settleStep('o7', clock.ms, 7n))
      assert.deepEqual(await costs(), [
        [0, 1],
        [bucketOf(7n), 1],
      ])
    }),
  )

  it(
    'counts nobody as active who cost nothing, or whose charge was taken back',
    withStore(async (store, clock) => {
      const day = { tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24' }
      const ask = () => store.readUsers({ ...day, timesMedian: 10, atLeast: [0n], limit: 9 })
      const spend = async (id: string, user: string, cost: bigint) => {
        const note = { tier: 'pro', user }
        await store.reserve(reserveStep(id, clock.ms, { atLeast: 90n, atMost: 90n, cap: null }, { reservation: { note } }))
        await store.settle({ ...settleStep(id, clock.ms, cost), settlement: { operationId: id, cost, atMs: clock.ms, note } })
      }
      await spend('o1', 'ann', 8n)
      for (const user of ['bob', 'cem', 'dee']) await spend(`o-${user}`, user, 0n)
      const note = { tier: 'pro', user: 'eve' }
      await store.reserve(reserveStep('o2', clock.ms, { atLeast: 50n, atMost: 50n, cap: null }, { reservation: { note } }))
      clock.ms += 100_000
      await store.sweep({ nowMs: clock.ms, limit: 9 })
      assert.equal((await ask()).users, 2)
      await store.void({ operationId: 'o2', atMs: clock.ms })
      const { users, median, reached, top } = await ask()
      assert.deepEqual([users, median, reached, top], [1, 8n, [1], [{ user: 'ann', spent: 8n }]])
    }),
  )

  it(
    'counts no lone call among the sessions that were sold, and what it costs among what was spent',
    withStore(async (store, clock) => {
      const draws = [{ account: 'c:call-1:1', cap: null }]
      await store.reserve(reserveStep('o1', clock.ms, { atLeast: 50n, atMost: 50n, cap: null }, { reservation: { draws } }))
      await store.settle(settleStep('o1', clock.ms, 40n))
      const { costs, spent } = await store.readTotals({ tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24' })
      assert.deepEqual([costs.size, spent], [0, 40n])
    }),
  )

  it(
    'tells many users of many days apart, within a few percent',
    withStore(async (store, clock) => {
      for (let day = 0; day < 2; day++) {
        await Promise.all(
          Array.from({ length: USERS }, async (_, index) => {
            const conversation = `${day}-${index}`
            const initial = conversationFor(conversation, clock.ms, { user: `user ${index + (day * USERS) / 2}` })
            await store.update({ conversation, initial, change: { turnAtMs: clock.ms }, nowMs: clock.ms })
          }),
        )
        clock.ms += DAY_MS
      }
      const { users, turns } = await store.readTotals({ tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-25' })
      assert.equal(turns, 2 * USERS)
      assert.ok(Math.abs(users - 1.5 * USERS) < 0.04 * 1.5 * USERS, `${users} of ${1.5 * USERS}`)
    }),
  )

  it(
    'forgets what a day came to after 400 days',
    withStore(async (store, clock) => {
      await store.charge({
        operationId: 'x1',
        accounts: ['c:A:1'],
        cost: 7n,
        atMs: clock.ms,
        note: { tier: 'pro' },
        conversation: 'A',
        change: {},
      })
      await store.addOutcome({ key: 'A/started', tier: 'pro', atMs: clock.ms, kind: 'started', note: {} })
      const days = { tier: 'pro', fromDay: '2026-11-20', toDay: '2027-12-31' }
      clock.ms += (TOTALS_LIFE_DAYS - 1) * DAY_MS
      await store.sweep({ nowMs: clock.ms, limit: 9 })
      assert.equal((await store.readTotals(days)).spent, 7n)
      assert.equal((await store.readOutcomes(days)).started, 1)
      clock.ms += DAY_MS
      await store.sweep({ nowMs: clock.ms, limit: 9 })
      const { spent, costs } = await store.readTotals(days)
      assert.deepEqual([spent, costs.size], [0n, 0])
      assert.deepEqual(await store.readOutcomes(days), NO_OUTCOMES)
    }),
  )

  it(
    'tells what each user came to on some days of a tier, by entries of all kinds, each once',
    withStore(async (store, clock) => {
      const spend = async (id: string, user: string, cost: bigint, tier = 'pro'): Promise<void> => {
        const note = { tier, user }
        const fact = { accounts: ['w'], cost, atMs: clock.ms, note, conversation: 'A', change: {} }
        for (let repeat = 0; repeat < 2; repeat++) await store.charge({ operationId: id, ...fact })
      }
      await spend('x1', 'ann', 10n)
      await spend('x2', 'bob', 4n)
      await spend('x3', 'cem', 3n, 'basic')
      await spend('x4', 'dee', 5n)
      const note = { tier: 'pro', user: 'bob' }
      await store.reserve(reserveStep('o1', clock.ms, { atLeast: 90n, atMost: 90n }, { reservation: { note } }))
      clock.ms += DAY_MS
      await store.sweep({ nowMs: clock.ms, limit: 9 })
      await spend('x5', 'ann', 2n)
      await store.settle({ ...settleStep('o1', clock.ms, 6n), settlement: { operationId: 'o1', cost: 6n, atMs: clock.ms, note } })
      const ask = { tier: 'pro', timesMedian: 2, atLeast: [10n, 12n, 13n], limit: 2 }
      assert.deepEqual(await store.readUsers({ ...ask, fromDay: '2026-11-24', toDay: '2026-11-25' }), {
        users: 3,
        spent: 27n,
        median: 10n,
        heavy: { users: 0, spent: 0n },
        reached: [2, 1, 0],
        top: [
          { user: 'ann', spent: 12n },
          { user: 'bob', spent: 10n },
        ],
        oneIn: 1,
      })
      const first = await store.readUsers({ ...ask, fromDay: '2026-11-24', toDay: '2026-11-24' })
      assert.deepEqual([first.users, first.spent, first.median, first.heavy], [3, 19n, 5n, { users: 1, spent: 10n }])
      clock.ms += TOTALS_LIFE_DAYS * DAY_MS
      await store.sweep({ nowMs: clock.ms, limit: 9 })
      assert.equal((await store.readUsers({ ...ask, fromDay: '2026-11-24', toDay: '2028-01-01' })).users, 0)
      await assert.rejects(store.readUsers({ ...ask, fromDay: 'yesterday', toDay: '2026-11-24' }), RangeError)
    }),
  )

  it(
    'tells many users of many days apart by what they spent',
    withStore(async (store, clock) => {
      await Promise.all(
        Array.from({ length: 2 * USERS }, async (_, index) => {
          const note = { tier: 'pro', user: `user ${index % USERS}` }
          const atMs = clock.ms + (index < USERS ? 0 : DAY_MS)
          const fact = { accounts: ['w'], cost: BigInt((index % USERS) + 1), atMs, note, conversation: `c${index}`, change: {} }
          await store.charge({ operationId: `x${index}`, ...fact })
        }),
      )
      const days = { tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-25' }
      const told = await store.readUsers({ ...days, timesMedian: 2, atLeast: [1n, 1_900n], limit: 1 })
      const top = [{ user: `user ${USERS - 1}`, spent: BigInt(2 * USERS) }]
      assert.deepEqual([told.users, told.spent, told.reached, told.top], [USERS, BigInt(USERS * (USERS + 1)), [USERS, 51], top])
      assert.deepEqual([told.median, told.heavy.users], [BigInt(USERS), 1])
    }),
  )
}

const CONTRACT = {
  hash: 'h1',
  tier: 'pro',
  displayName: 'Pro “ünïcode”',
  caps: { perConversation: '0.50' },
  ladder: [{ atPercent: 70, rung: 'DropRetrieval' }],
} as unknown as Contract
