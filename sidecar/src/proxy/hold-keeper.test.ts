import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, mock, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { redisProgram, startRedis } from '../../../test/support/redis.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import { openRedisStore } from '../store/redis/redis.ts'
import { StoreError } from '../store/store.ts'
import type { BudgetStore } from '../store/store.ts'
import { reserveStep, settleStep, START_MS } from '../store/steps.testing.ts'
import { Metrics } from '../telemetry/metrics.ts'
import { HOLD_LIFE_MS, HoldKeeper } from './hold-keeper.ts'

const SWEEP_MS = 10_000

describe('holds of calls under way', () => {
  let nowMs: number
  let store: BudgetStore
  let keeper: HoldKeeper
  let metrics: Metrics
  let logged: string[]
  /** Of the next sweep. */
  let uncharged: readonly string[]
  /** Run before holds are renewed, and after it. */
  let onRenew: () => unknown
  let onRenewed: () => unknown
  beforeEach(() => {
    mock.timers.enable({ apis: ['setInterval'] })
    nowMs = START_MS
    logged = []
    onRenew = () => undefined
    onRenewed = () => undefined
    store = openEmbeddedStore({ file: ':memory:', nowMs: () => nowMs, writer: 'inline' })
    uncharged = []
    const watched = {
      sweep: async (step: Parameters<BudgetStore['sweep']>[0]) => ({ ...(await store.sweep(step)), uncharged }),
      renew: async (...values: Parameters<BudgetStore['renew']>) => {
        onRenew()
        await store.renew(...values)
        onRenewed()
      },
    } as BudgetStore
    const note = (_fields: unknown, message: string): void => void logged.push(message)
    metrics = new Metrics()
    keeper = new HoldKeeper(watched, { log: { warn: note, error: note }, metrics }, () => nowMs)
    keeper.start()
  })
  afterEach(async () => {
    keeper.stop()
    mock.timers.reset()
    await store.close()
  })

  const hold = async (id: string): Promise<void> => {
    const { status } = await store.reserve(reserveStep(id, nowMs, { atLeast: 10n, atMost: 10n, cap: 100n }))
    assert.equal(status, 'held')
  }
  /** Timers and the clock. */
  const pass = async (ms: number): Promise<void> => {
    nowMs += ms
    mock.timers.tick(ms)
    for (let turns = 0; turns < 20; turns++) await turn()
  }
  const balance = async () => {
    const { accounts } = await store.read({ conversation: 'A', accounts: ['c:A:1'], nowMs })
    const account = accounts.get('c:A:1')
    return [account?.spent, account?.held]
  }

  const counted = async (name: string): Promise<string | undefined> => new RegExp(`^${name} (.*)$`, 'm').exec(await metrics.render())?.[1]

  test('outlive a clock that jumps, as when the machine slept; those of nobody are charged', async () => {
    await hold('live')
    keeper.add('live')
    await hold('orphan')
    await pass(SWEEP_MS)
    nowMs += 2 * HOLD_LIFE_MS
    await pass(SWEEP_MS)
    assert.deepEqual(await balance(), [10n, 10n])
    assert.deepEqual(logged, ['a hold expired and was charged'])
    assert.equal(await counted('farebox_expired_holds_total'), '1')
    assert.equal(await counted('farebox_expired_holds_usd_total'), '1e-8')
    assert.equal((await store.settle(settleStep('live', nowMs, 7n))).result.status, 'settled')
  })

  test('live on for as long as their calls do', async () => {
    await hold('live')
    keeper.add('live')
    for (let passed = 0; passed < 3 * HOLD_LIFE_MS; passed += SWEEP_MS) await pass(SWEEP_MS)
    assert.deepEqual(await balance(), [0n, 10n])
    keeper.remove('live')
    for (let passed = 0; passed < HOLD_LIFE_MS; passed += SWEEP_MS) await pass(SWEEP_MS)
    assert.deepEqual(await balance(), [10n, 0n])
  })

  test('are not charged where they could not be renewed: that is tried again', async () => {
    await hold('live')
    keeper.add('live')
    await hold('orphan')
    onRenew = () => {
      throw new StoreError('away', 'its disk is full')
    }
    nowMs += 2 * HOLD_LIFE_MS
    await pass(SWEEP_MS)
    assert.deepEqual(await balance(), [0n, 20n])
    assert.equal(logged.length, 1)
    assert.match(logged[0] ?? '', /could not be renewed/)
    assert.equal(await counted('farebox_expired_holds_total'), '0')
    onRenew = () => undefined
    await pass(SWEEP_MS)
    assert.deepEqual(await balance(), [10n, 10n])
  })

  test('are told of where they are due and cannot be charged', async () => {
    await hold('orphan')
    uncharged = ['damaged']
    nowMs += 2 * HOLD_LIFE_MS
    await pass(SWEEP_MS)
    assert.equal(logged.length, 2)
    assert.match(logged[1] ?? '', /cannot be charged/)
    assert.equal(await counted('farebox_uncharged_holds_total'), '1')
  })

  test('outlive a jump between renewal and sweep', async () => {
    await hold('live')
    keeper.add('live')
    onRenewed = () => (nowMs += 2 * HOLD_LIFE_MS)
    await pass(SWEEP_MS)
    assert.deepEqual(await balance(), [0n, 10n])
  })
})

const program = redisProgram()
if (program !== null)
  test('holds of other sidecars on one store outlive its outage and a jump of its clock, whoever sweeps first; those of the dead do not', async () => {
    const server = await startRedis(program)
    mock.timers.enable({ apis: ['setInterval'] })
    let nowMs = START_MS
    const charged: unknown[] = []
    const log = {
      warn: ({ operation }: { readonly operation?: unknown }): void => void charged.push(operation),
      error: (...said: readonly unknown[]): void => assert.fail(JSON.stringify(said)),
    }
    const sidecars: { readonly store: BudgetStore; readonly keeper: HoldKeeper }[] = []
    try {
      for (let count = 0; count < 2; count++) {
        const store = await openRedisStore({ url: server.url, namespace: 'holds', nowMs: () => nowMs, answerMsMax: 5_000 })
        const keeper = new HoldKeeper(store, { log, metrics: new Metrics() }, () => nowMs)
        keeper.start()
        sidecars.push({ store, keeper })
        mock.timers.tick(SWEEP_MS / 2) // the first sweeps five seconds before the other
      }
      const [first, other] = sidecars
      assert.ok(first !== undefined && other !== undefined)
      const pass = async (ms: number): Promise<void> => {
        for (let passed = 0; passed < ms; passed += SWEEP_MS / 2) {
          nowMs += SWEEP_MS / 2
          mock.timers.tick(SWEEP_MS / 2)
          // What was begun by the tick is answered before this.
          for (let answers = 0; answers < 6; answers++) await Promise.all(sidecars.map(({ store }) => store.getContract('none')))
        }
      }
      for (const id of ['live', 'dead']) await other.store.reserve(reserveStep(id, nowMs, { atLeast: 10n, atMost: 10n }))
      other.keeper.add('live')
      await pass(40_000)
      nowMs += 2 * HOLD_LIFE_MS
      await pass(3 * SWEEP_MS)
      assert.deepEqual(charged, [])
      await pass(2 * SWEEP_MS)
      assert.deepEqual(charged, ['dead'])
      await pass(2 * HOLD_LIFE_MS)
      assert.deepEqual(charged, ['dead'])
      assert.equal((await other.store.settle(settleStep('live', nowMs, 7n))).result.status, 'settled')
    } finally {
      mock.timers.reset()
      for (const { store, keeper } of sidecars) {
        keeper.stop()
        await store.close()
      }
      await server.stop()
    }
  })
