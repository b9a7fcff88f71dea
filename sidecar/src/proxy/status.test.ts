import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Rung } from '@farebox/crds/ladder.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { newConversation } from '../core/conversation-change.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import { StoreError } from '../store/store.ts'
import type { BudgetStore } from '../store/store.ts'
import type { StoreState } from '../store/store-standing.ts'
import { OutcomeWatch } from './outcome-watch.ts'
import { bookTotals, totalsByTier } from './status.ts'
import { UserBook } from './user-book.ts'

const NOW_MS = Date.UTC(2026, 10, 24, 12)
const COST = 1_000_000n

/** A store with so many conversations, each of which cost `COST` times its number, from 1 on. */
async function withConversations(count: number, run: (store: BudgetStore) => Promise<void>): Promise<void> {
  const store = openEmbeddedStore({ file: ':memory:', nowMs: () => NOW_MS })
  try {
    await Promise.all(
      Array.from({ length: count }, async (_, index) => {
        const id = `c${index}`
        const begin = { id, tier: 'pro', contractHash: 'k1', user: `u${index % 7}`, nowMs: NOW_MS, ladderApplies: true }
        await store.update({ conversation: id, initial: newConversation(begin), change: { turnAtMs: NOW_MS }, nowMs: NOW_MS })
        const fact = { accounts: [`c:${id}:1`], cost: COST * BigInt(index + 1), atMs: NOW_MS, note: { tier: 'pro' }, change: {} }
        await store.charge({ operationId: `x${index}`, conversation: id, ...fact })
      }),
    )
    await run(store)
  } finally {
    await store.close()
  }
}

/** What totals ask of a store. */
function passedOn(store: BudgetStore): BudgetStore {
  return {
    ...store,
    read: (query) => store.read(query),
    listConversations: (query) => store.listConversations(query),
    readOutcomes: (query) => store.readOutcomes(query),
    readTotals: (query) => store.readTotals(query),
    readUsers: (query) => store.readUsers(query),
  }
}

function counting(store: BudgetStore): Parameters<typeof totalsByTier>[0] {
  return { store, nowMs: () => NOW_MS, outcomes: new OutcomeWatch(store), users: new UserBook(store) }
}

test("a status tells today's totals, and costs exactly while all conversations can be looked at", () =>
  withConversations(100, async (store) => {
    const { pro, basic } = await totalsByTier(counting(store), ['pro', 'basic'], {})
    assert.deepEqual(pro?.today, { turns: 100, spent: '5.05', users: 7 })
    assert.deepEqual(pro.cost, { p50: '0.05', p95: '0.095', p99: '0.099', max: '0.10' })
    assert.deepEqual([basic?.conversations, basic?.today], [0, { turns: 0, spent: '0.00', users: 0 }])
  }))

/** The newest conversation: of the tier companion, in its third session, each of which cost 0.14. */
async function withSessions(store: BudgetStore): Promise<void> {
  const id = 'long'
  const initial = newConversation({ id, tier: 'companion', contractHash: 'k1', user: 'u1', nowMs: NOW_MS, ladderApplies: true })
  for (const session of [1, 2, 3]) {
    const change = { turnAtMs: NOW_MS + session, ...(session === 1 ? {} : { openSession: session }) }
    await store.update({ conversation: id, initial, change, nowMs: NOW_MS })
    const fact = { accounts: [`c:${id}:${session}`], cost: 140n * COST, atMs: NOW_MS, note: { tier: 'companion' }, change: {} }
    await store.charge({ operationId: `s${session}`, conversation: id, ...fact })
  }
}

for (const others of [10, 5_000]) {
  test(`sessions are counted, and cost, each by itself, beside ${others} conversations`, () =>
    withConversations(others, async (store) => {
      await withSessions(store)
      const { companion, pro } = await totalsByTier(counting(store), [], {})
      assert.deepEqual([companion?.conversations, companion?.sessions, companion?.spent], [1, 3, '0.42'])
      assert.deepEqual([pro?.conversations, pro?.sessions], [others, others])
      const over = parseUsd(companion?.cost.max ?? '0') - 140n * COST
      assert.ok(over >= 0n && over * 8n < 140n * COST, `${companion?.cost.max} for a session`)
    }))
}

test('balances are read a few at a time, so that turns go on', () =>
  withConversations(1_000, async (store) => {
    const read: number[] = []
    const watched: BudgetStore = {
      ...passedOn(store),
      read(query) {
        read.push(query.accounts.length)
        return store.read(query)
      },
    }
    const { pro } = await totalsByTier(counting(watched), [], {})
    assert.deepEqual([pro?.conversations, pro?.spent], [1_000, '500.50'])
    assert.ok(Math.max(...read) <= 200, read.join())
  }))

test('totals that a store which is there does not tell in time are asked for again, and never taken for none', () =>
  withConversations(3, async (store) => {
    let failures = 0
    let state: StoreState = 'Ready'
    const late: Parameters<typeof bookTotals>[0] = {
      ...counting({
        ...passedOn(store),
        listConversations: (query) =>
          failures-- > 0 ? Promise.reject(new StoreError('away', 'Command timed out')) : store.listConversations(query),
      }),
      storeStanding: () => ({ state, reason: null, sinceMs: NOW_MS, unsent: 0, outages: 0, replayed: 0 }),
    }
    const policy = { budgetKey: 'shop/desk', limits: [], config: makeConfig('http://127.0.0.1:1/v1', [makeContract({ tier: 'pro' })]) }
    failures = 2
    assert.equal((await bookTotals(late, policy)).tiers['pro']?.conversations, 3)
    failures = 3
    await assert.rejects(bookTotals(late, policy), { name: 'StoreError', code: 'away' })
    failures = 1
    state = 'Away'
    assert.deepEqual(await bookTotals(late, policy), { tiers: {} })
  }))

test("a limit of the workload tells what its budget's calls have spent and hold in the current period; of one period the tightest", () =>
  withConversations(1, async (store) => {
    const period = { unit: 'Month', timeZone: 'UTC', anchorDay: 15 } as const
    const limits = [3n, 2n].map((usd) => ({ cap: parseUsd(`${usd}.00`), period }))
    const config = makeConfig('http://127.0.0.1:1/v1', [makeContract({ tier: 'pro' })])
    const told = async (budgetKey: string) => {
      const standing = { state: 'Ready', reason: null, sinceMs: NOW_MS, unsent: 0, outages: 0, replayed: 0 } as const
      return (await bookTotals({ ...counting(store), storeStanding: () => standing }, { budgetKey, limits, config })).limits
    }
    const account = (day: string): string => `w:shop/desk:Month:UTC:15:2026-${day}`
    for (const [day, cost] of [
      ['10-15', 5n],
      ['11-15', 7n],
    ] as const) {
      const fact = { accounts: [account(day)], cost: cost * COST, atMs: NOW_MS, note: { tier: 'pro' }, change: {} }
      await store.charge({ operationId: day, conversation: 'c0', ...fact })
    }
    const use = { amount: '2.00', since: '2026-11-15', spent: '0.007', held: '0.00' }
    assert.deepEqual(await told('shop/desk'), { 'Month UTC from 15': use })
    assert.deepEqual(await told('shop/bot'), { 'Month UTC from 15': { ...use, spent: '0.00' } })
  }))

test('alerts count conversations: those of a user’s budget while its period lasts, beside their own', () =>
  withConversations(3, async (store) => {
    const day = (of: number) => ({ addUserAlerts: { period: `Day1:2026-11-${of}`, percents: [70, 100] } })
    const told = [day(23), { ...day(24), addAlerts: [70] }, { ...day(24), addAlerts: [90] }]
    for (const [index, change] of told.entries()) await store.update({ conversation: `c${index}`, change, nowMs: NOW_MS })
    const daily = { amount: '1.00', period: { unit: 'Day', timeZone: 'UTC', anchorDay: 1 } } as const
    const pro = makeContract({ tier: 'pro', caps: { perConversation: '1.00', perUser: daily } })
    assert.deepEqual((await totalsByTier(counting(store), [], { pro }))['pro']?.alerts, { 70: 2, 90: 1, 100: 2 })
  }))

test('a conversation counts at an alert that it reached in any session, and once', () =>
  withConversations(2, async (store) => {
    const changes = [{ addAlerts: [70, 100] }, { openSession: 2 }, { addAlerts: [70, 90] }]
    for (const change of changes) await store.update({ conversation: 'c0', change, nowMs: NOW_MS })
    assert.deepEqual((await totalsByTier(counting(store), [], {}))['pro']?.alerts, { 70: 1, 90: 1, 100: 1 })
  }))

test('a conversation counts at the rung in effect, be it its own or the user’s, in the period of that', () =>
  withConversations(4, async (store) => {
    const day = (of: number) => ({ addUserRungs: { period: `Day1:2026-11-${of}`, rungs: ['DowngradeModel'] } }) as const
    const own = (rung: Rung) => ({ addRungs: { rungs: [rung], reason: 'threshold' } }) as const
    const told = [day(23), day(24), { ...day(24), ...own('RefuseTools') }, own('DropRetrieval')]
    for (const [index, change] of told.entries()) await store.update({ conversation: `c${index}`, change, nowMs: NOW_MS })
    const daily = { amount: '1.00', period: { unit: 'Day', timeZone: 'UTC', anchorDay: 1 } } as const
    const pro = makeContract({ tier: 'pro', caps: { perConversation: '1.00', perUser: daily } })
    const { byRung } = (await totalsByTier(counting(store), [], { pro }))['pro'] ?? {}
    const expected = { None: 1, DropRetrieval: 1, Summarize: 0, DowngradeModel: 1, RefuseTools: 1, EndConversation: 0 }
    assert.deepEqual(byRung, expected)
  }))

test('a session that has cost nothing counts while it is open', () =>
  withConversations(1, async (store) => {
    await store.update({ conversation: 'c0', change: { openSession: 2 }, nowMs: NOW_MS })
    assert.equal((await totalsByTier(counting(store), [], {}))['pro']?.sessions, 2)
    await store.update({ conversation: 'c0', change: { openSession: 3 }, nowMs: NOW_MS })
    assert.equal((await totalsByTier(counting(store), [], {}))['pro']?.sessions, 2)
  }))

test('a conversation that was never served is there, and is not sold: margin and quantiles are of those that were', () =>
  withConversations(1, async (store) => {
    const initialOf = (id: string) =>
      newConversation({ id, tier: 'pro', contractHash: 'k1', user: 'u1', nowMs: NOW_MS, ladderApplies: true })
    for (const id of ['failed', 'waiting', 'free', 'costly']) {
      const change = id === 'free' ? { turnAtMs: NOW_MS } : {}
      await store.update({ conversation: id, initial: initialOf(id), change, nowMs: NOW_MS })
    }
    const hold = { input: COST, atLeast: COST, atMost: COST, expiresAtMs: NOW_MS + 60_000, note: { tier: 'pro' } }
    const reservation = { operationId: 'h1', draws: [{ account: 'c:waiting:1', cap: COST * 10n }], ...hold }
    const seen = { contractHash: 'k1', user: 'u1', session: 1 }
    await store.reserve({ conversation: 'waiting', initial: initialOf('waiting'), seen, change: {}, reservation, nowMs: NOW_MS })
    const { pro } = await totalsByTier(counting(store), [], {})
    assert.deepEqual([pro?.conversations, pro?.sessions, pro?.held], [5, 2, '0.001'])
    assert.equal(pro?.byRung['None'], 5)
    const fact = { accounts: ['c:costly:1'], cost: COST * 3n, atMs: NOW_MS, note: { tier: 'pro' }, change: {} }
    await store.charge({ operationId: 'x', conversation: 'costly', ...fact })
    const after = (await totalsByTier(counting(store), [], {}))['pro']
    assert.deepEqual([after?.sessions, after?.cost.p50, after?.cost.max], [3, '0.001', '0.003'])
  }))

test('of more conversations than it looks at it tells all, and their costs a little too high', () =>
  withConversations(6_000, async (store) => {
    const { pro } = await totalsByTier(counting(store), [], {})
    assert.deepEqual([pro?.conversations, pro?.turns, pro?.spent], [6_000, 6_000, '18003.00'])
    assert.equal(pro?.byRung['None'], 5_000)
    for (const [told, exact] of [
      [pro?.cost.p50, 3_000n],
      [pro?.cost.p99, 5_940n],
      [pro?.cost.max, 6_000n],
    ] as const) {
      const over = parseUsd(told ?? '0') - COST * exact
      assert.ok(over >= 0n && over * 8n < COST * exact, `${told} for ${exact}`)
    }
  }))

/** So many conversations whose only call came to nothing: its hold was given back. */
async function addUnserved(store: BudgetStore, name: string, count: number): Promise<void> {
  const hold = { input: COST, atLeast: COST, atMost: COST, expiresAtMs: NOW_MS + 60_000, note: { tier: 'pro' } }
  const seen = { contractHash: 'k1', user: 'u1', session: 1 }
  await Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const id = `${name}${index}`
      const initial = newConversation({ id, tier: 'pro', contractHash: 'k1', user: 'u1', nowMs: NOW_MS + 1, ladderApplies: true })
      const reservation = { operationId: `h${id}`, draws: [{ account: `c:${id}:1`, cap: COST * 10n }], ...hold }
      await store.reserve({ conversation: id, initial, seen, change: {}, reservation, nowMs: NOW_MS })
      await store.void({ operationId: `h${id}`, atMs: NOW_MS })
    }),
  )
}

for (const unserved of [4_900, 5_050])
  test(`${unserved} conversations that nobody was served are there, and change neither what was sold nor what it cost`, () =>
    withConversations(50, async (store) => {
      await addUnserved(store, 'failed', unserved)
      await addTo(store, 'again', 2, 25n)
      const { pro } = await totalsByTier(counting(store), [], {})
      assert.deepEqual([pro?.sessions, pro?.turns], [52, 52])
      // Those that are not among the newest 5,000 are known only where they were served.
      assert.equal(pro?.conversations, Math.min(unserved + 52, 5_000 + 50))
      const over = parseUsd(pro?.cost.p50 ?? '0') - COST * 25n
      assert.ok(over >= 0n && over * 8n < COST * 25n, `${pro?.cost.p50} is the median`)
    }))

/** So many conversations or lone calls of one turn, each of which cost `COST` so many times. */
async function addTo(store: BudgetStore, name: string, count: number, times: bigint): Promise<void> {
  await Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const id = `${name}${index}`
      const begin = { id, tier: 'pro', contractHash: 'k1', user: 'u1', nowMs: NOW_MS, ladderApplies: true }
      await store.update({ conversation: id, initial: newConversation(begin), change: { turnAtMs: NOW_MS + 1 }, nowMs: NOW_MS })
      const fact = { accounts: [`c:${id}:1`], cost: COST * times, atMs: NOW_MS, note: { tier: 'pro' }, change: {} }
      await store.charge({ operationId: `x${id}`, conversation: id, ...fact })
    }),
  )
}

test('more lone calls than it looks at leave each conversation in sight, and are told by the totals of their days', () =>
  withConversations(3, async (store) => {
    const rung = { addRungs: { rungs: ['Summarize'], reason: 'threshold' } } as const
    for (const id of ['c0', 'c1']) await store.update({ conversation: id, change: rung, nowMs: NOW_MS })
    await store.update({ conversation: 'c2', change: { resolution: { kind: 'confirmed', atMs: NOW_MS } }, nowMs: NOW_MS })
    await addTo(store, 'call-', 5_500, 1n)
    const pro = makeContract({ tier: 'pro', pricing: { model: 'PerResolution', price: '0.99' } })
    const told = (await totalsByTier(counting(store), [], { pro }))['pro']
    assert.deepEqual([told?.conversations, told?.sessions, told?.byRung['None'], told?.byRung['Summarize']], [3, 3, 1, 2])
    assert.deepEqual([told?.turns, told?.spent, told?.cost.max], [5_503, '5.506', '0.003'])
    assert.equal(told?.resolutions.unresolvedCost, '0.003')
  }))

test('of more conversations than it looks at the cost without a resolution is their share, in what lone calls did not cost', () =>
  withConversations(0, async (store) => {
    await addTo(store, 'call-', 10, 100n)
    await addTo(store, 'c', 5_100, 1n)
    const pro = makeContract({ tier: 'pro', pricing: { model: 'PerResolution', price: '0.99' } })
    assert.equal((await totalsByTier(counting(store), [], { pro }))['pro']?.resolutions.unresolvedCost, '5.10')
  }))
