/** Alerts of a shared store that goes away: each is told once, by whoever reached it. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { reserveStep, settleStep, START_MS } from '../steps.testing.ts'
import type { BudgetStore, ReserveStep } from '../store.ts'
import { chargeOf, hold, openBooks, ready, Stage } from './stage.testing.ts'
import type { Server } from './stage.testing.ts'
import type { FiredAlerts } from './steps.ts'

let stage: Stage
let server: Server
beforeEach(() => {
  stage = new Stage()
  server = stage.server
})
afterEach(() => stage.close())

test('alerts fire once, by what is known here', async () => {
  const store = await stage.open()
  stage.percent = 100
  const alerts = { draws: [{ account: 'c:A:1', cap: 1_000n }], percents: [70, 90] }
  await store.reserve(hold('a', 600n))
  await store.settle(settleStep('a', START_MS, 600n, { alerts }))
  server.mode = 'deaf'
  await store.reserve(hold('b', 120n))
  assert.deepEqual((await store.settle(settleStep('b', START_MS, 120n, { alerts }))).firedAlerts, [70])
  await store.reserve(hold('c', 50n))
  assert.deepEqual((await store.settle(settleStep('c', START_MS, 50n, { alerts }))).firedAlerts, [])
  server.mode = 'up'
  await ready(store)
  const shared = await server.books.read({ conversation: 'A', accounts: [], nowMs: START_MS })
  assert.deepEqual(shared.conversation?.alerts, [70])
})

test('alerts of the user’s budget are told once in its period, by whoever reached them, and apart from the session’s', async () => {
  const told: FiredAlerts[] = []
  const stores = [await stage.open({ onAlerts: (fired) => void told.push(fired) })]
  stores.push(await stage.open({ folder: join(stage.parent, 'other'), onAlerts: (fired) => void told.push(fired) }))
  stage.percent = 100
  const own = { account: 'c:A:1', cap: 1_000n }
  const ofUser = { account: 'u', cap: 100n, period: 'Day1:2026-11-24' }
  const spend = async (index: number, id: string, cost: bigint): Promise<readonly (readonly number[])[]> => {
    const store = stores[index]
    assert.ok(store !== undefined)
    const draws = [own, { account: 'u', cap: 100n }]
    const step = reserveStep(id, START_MS, { atLeast: cost, atMost: cost }, { reservation: { draws } })
    assert.equal((await store.reserve(step)).status, 'held')
    const alerts = { draws: [own], percents: [70, 90], ofUser }
    const { firedAlerts, firedUserAlerts } = await store.settle(settleStep(id, START_MS, cost, { alerts }))
    return [firedAlerts, firedUserAlerts]
  }
  server.mode = 'deaf'
  assert.deepEqual(await spend(0, 'a', 75n), [[], [70]])
  assert.deepEqual(await spend(1, 'b', 20n), [[], []])
  server.mode = 'up'
  for (const store of stores) await ready(store)
  const percentsTold = told.map(({ percents, ofUser: fired }) => [percents, fired])
  assert.deepEqual(percentsTold, [[[], { period: 'Day1:2026-11-24', percents: [90] }]], 'what only the sum has reached')
  const { conversation } = await server.books.read({ conversation: 'A', accounts: [], nowMs: START_MS })
  assert.deepEqual([conversation?.alerts, conversation?.userAlerts?.percents], [[], [70, 90]])
})

describe('alerts that only the sum of several sidecars has reached', () => {
  const alerts = { draws: [{ account: 'c:A:1', cap: 100n }], percents: [70, 90] }
  const seen = { contractHash: 'k1', user: null, session: 1 }
  const spend = async (store: BudgetStore, id: string, cost: bigint, more: Partial<ReserveStep> = {}): Promise<readonly number[]> => {
    const { status } = await store.reserve(reserveStep(id, START_MS, { atLeast: cost, atMost: cost, cap: 100n }, more))
    assert.equal(status, 'held')
    return (await store.settle(settleStep(id, START_MS, cost, { alerts }))).firedAlerts
  }
  const told: FiredAlerts[] = []
  const onAlerts = (fired: FiredAlerts): void => void told.push(fired)
  const fired = (...percents: number[]): FiredAlerts => ({ atMs: START_MS, conversation: 'A', session: 1, tier: 'pro', percents })
  beforeEach(() => {
    stage.percent = 100
    told.length = 0
  })
  const alertsOf = async (store: BudgetStore) =>
    (await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })).conversation?.alerts

  test('in an outage are told when the store is told of it, once', async () => {
    const stores = [await stage.open({ onAlerts }), await stage.open({ onAlerts, folder: join(stage.parent, 'other') })]
    server.mode = 'deaf'
    for (const [index, store] of stores.entries()) assert.deepEqual(await spend(store, `o${index}`, 46n), [])
    server.mode = 'up'
    for (const store of stores) await ready(store)
    assert.deepEqual(told, [fired(70, 90)])
    assert.deepEqual(await alertsOf(server.books), [70, 90])
    const [first] = stores
    assert.ok(first !== undefined)
    assert.deepEqual(await spend(first, 'next', 1n, { seen }), [])
    server.mode = 'deaf'
    assert.deepEqual(await spend(first, 'later', 1n, { seen }), [], 'nor in another outage')
  })

  test('are not told by a sidecar that told them when it reached them by itself, not even after it was killed', async () => {
    const first = await stage.open({ onAlerts })
    server.mode = 'deaf'
    assert.deepEqual(await spend(first, 'own', 75n), [70])
    await first.close()
    await server.books.reserve(reserveStep('theirs', START_MS, { atLeast: 20n, atMost: 20n, cap: 100n }))
    await server.books.settle(settleStep('theirs', START_MS, 20n, { alerts }))
    const second = await stage.open({ onAlerts })
    server.mode = 'up'
    await ready(second)
    assert.deepEqual(told, [fired(90)])
  })

  test('count as told for what goes on here while the store is told of them', async () => {
    let meanwhile: Promise<unknown> = Promise.resolve()
    const store = await stage.open({
      onAlerts: (news) => {
        if (told.push(news) > 1) return
        meanwhile = spend(store, 'b', 30n, { seen }).then((percents) => [store.standing.state, percents])
      },
    })
    await server.books.reserve(reserveStep('theirs', START_MS, { atLeast: 30n, atMost: 30n, cap: 100n }))
    await server.books.settle(settleStep('theirs', START_MS, 30n, { alerts }))
    server.mode = 'deaf'
    assert.deepEqual(await spend(store, 'a', 42n), [])
    for (const id of ['c1', 'c2', 'c3']) await store.charge(chargeOf(id, 1n))
    server.turns = () => 100
    server.mode = 'up'
    await ready(store)
    assert.deepEqual(told, [fired(70), fired(90)])
    assert.deepEqual(await meanwhile, ['Replaying', []])
  })

  for (const allowed of [0, 100])
    test(`in a store that lost some of it are told when it is told again what this sidecar knows (${allowed} %)`, async () => {
      stage.percent = allowed
      const store = await stage.open({ onAlerts })
      assert.deepEqual(await spend(store, 'a', 46n), [])
      assert.deepEqual(await spend(store, 'b', 30n, { seen }), [70])
      const older = openBooks()
      await older.reserve(reserveStep('theirs', START_MS, { atLeast: 20n, atMost: 20n, cap: 100n }))
      await older.settle(settleStep('theirs', START_MS, 20n, { alerts }))
      server.restart('second', older)
      const reading = store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
      if (allowed === 0) await assert.rejects(reading, { code: 'away' })
      else await reading
      await ready(store)
      assert.deepEqual(await alertsOf(older), [70, 90])
      assert.deepEqual(told, [fired(90)])
    })
})
