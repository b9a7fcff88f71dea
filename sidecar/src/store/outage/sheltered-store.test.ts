import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import type { ConversationChange } from '../../core/conversation.ts'
import { makeContract } from '../../../../test/support/make.ts'
import { openEmbeddedStore } from '../embedded.ts'
import { ENDED_OPERATION_LIFE_MS, StoreError } from '../store.ts'
import type { BudgetStore, ReserveStep } from '../store.ts'
import { conversationFor, reserveStep, settleStep, START_MS } from '../test-steps.ts'
import { ShelteredStore } from './sheltered-store.ts'
import { decodeStep, encodeStep } from './steps.ts'
import type { FiredAlerts, OutageStep } from './steps.ts'
import type { ServerRun, SharedStore, ShelterOptions } from './sheltered-store.ts'

/** A shared store whose connection can be cut: before a step arrives, or before its answer does. */
class Server {
  books = openBooks()
  run = 'first'
  knownMs = Number.POSITIVE_INFINITY
  /** `deaf`: steps do not arrive; `mute`: they do, and are not answered. */
  mode: 'up' | 'deaf' | 'mute' = 'up'
  /** Runs when a step was done, and when the run is asked for. */
  onDone: (name: keyof BudgetStore) => void = () => undefined
  onRun: () => void = () => undefined
  /** How long a step takes, in turns of the event loop. */
  turns: () => number = () => 0
  /** Steps under way, now and at most. */
  atOnce = 0
  atOnceMost = 0
  #connections = 1

  get connections(): number {
    return this.#connections
  }
  restart(run: string, books: BudgetStore): void {
    this.#connections += 1
    this.run = run
    this.books = books
  }
  get shared(): SharedStore {
    const store = new Proxy({} as BudgetStore, {
      get:
        (_target, name: keyof BudgetStore) =>
        async (...values: never[]) => {
          if (name === 'close') return
          if (this.mode === 'deaf') throw new StoreError('away', 'deaf')
          this.atOnce += 1
          this.atOnceMost = Math.max(this.atOnceMost, this.atOnce)
          const answer = await (this.books[name] as (...values: never[]) => Promise<unknown>)(...values)
          for (let left = this.turns(); left > 0; left--) await turn()
          this.atOnce -= 1
          this.onDone(name)
          if (this.mode === 'mute') throw new StoreError('away', 'mute')
          return answer
        },
    })
    const run = async (): Promise<ServerRun> => {
      if (this.mode !== 'up') throw new StoreError('away', this.mode)
      this.onRun()
      return { name: this.run, knownMs: this.knownMs }
    }
    return { store, connections: () => this.#connections, run }
  }
}

function openBooks(): BudgetStore {
  return openEmbeddedStore({ file: ':memory:', nowMs: () => START_MS, writer: 'inline' })
}

describe('a shared store that goes away', () => {
  let parent: string
  let server: Server
  let percent: number
  let opened: ShelteredStore[]
  const open = async (more: Partial<ShelterOptions> = {}): Promise<ShelteredStore> => {
    const store = await ShelteredStore.open({
      folder: join(parent, 'outage'),
      connect: async () => {
        if (server.mode !== 'up') throw new StoreError('away', 'nobody listens')
        return server.shared
      },
      nowMs: () => START_MS,
      allowancePercent: () => percent,
      holdLifeMs: 90_000,
      graceMs: 0,
      keepMs: 0,
      ...more,
    })
    opened.push(store)
    return store
  }
  beforeEach(() => {
    parent = mkdtempSync(join(tmpdir(), 'farebox-outage-'))
    server = new Server()
    percent = 10
    opened = []
  })
  afterEach(async () => {
    for (const store of opened) await store.close()
    rmSync(parent, { recursive: true, force: true })
  })

  const hold = (id: string, amount: bigint, cap: bigint | null = 1_000n) =>
    reserveStep(id, START_MS, { atLeast: amount, atMost: amount, cap })
  const balanceOf = async (store: BudgetStore, account = 'c:A:1') =>
    (await store.read({ conversation: 'A', accounts: [account], nowMs: START_MS })).accounts.get(account)
  const spentBy = async (store: BudgetStore): Promise<readonly [string, bigint][]> =>
    (await store.readLedger({ afterSequence: 0, limit: 1_000 })).map(({ operationId, cost }) => [operationId, cost])
  const byId = (spent: readonly (readonly [string, bigint])[]) => spent.toSorted(([a], [b]) => (a < b ? -1 : 1))
  const chargeOf = (operationId: string, cost: bigint) => ({
    operationId,
    accounts: ['c:A:1'],
    cost,
    atMs: START_MS,
    note: { conversation: 'A' },
    conversation: 'A',
    change: {},
  })
  const ready = async (store: ShelteredStore): Promise<void> => {
    for (let tries = 0; store.standing.state !== 'Ready'; tries++) {
      assert.ok(tries < 500, `${store.standing.state}: ${store.standing.reason}`)
      await sleep(10)
    }
  }

  test('what was done meanwhile is in the store once, when it is back', async () => {
    const store = await open()
    await store.reserve(hold('before', 100n))
    server.mode = 'deaf'
    assert.equal((await store.settle(settleStep('before', START_MS, 70n))).result.status, 'settled')
    assert.equal((await store.reserve(hold('during', 40n))).status, 'held')
    await store.settle(settleStep('during', START_MS, 30n))
    assert.equal((await store.reserve(hold('given-back', 40n))).status, 'held')
    await store.void({ operationId: 'given-back', atMs: START_MS })
    assert.equal(store.standing.state, 'Away')
    assert.deepEqual(await spentBy(server.books), [])
    server.mode = 'up'
    await ready(store)
    assert.deepEqual(await spentBy(server.books), [
      ['before', 70n],
      ['during', 30n],
    ])
    assert.deepEqual(await balanceOf(server.books), { spent: 100n, held: 0n, heldInput: 0n })
    for (let tries = 0; readdirSync(join(parent, 'outage')).length > 0; tries++) {
      assert.ok(tries < 500, 'something is left of it')
      await sleep(10)
    }
    assert.deepEqual([store.standing.unsent, store.standing.outages], [0, 1])
  })

  test('an answer that was lost counts once', async () => {
    const store = await open()
    await store.reserve(hold('a', 50n))
    server.mode = 'mute'
    await store.settle(settleStep('a', START_MS, 50n))
    await store.reserve(hold('b', 60n))
    server.mode = 'up'
    await ready(store)
    assert.equal((await store.settle(settleStep('b', START_MS, 55n))).result.status, 'settled')
    assert.deepEqual(await balanceOf(server.books), { spent: 105n, held: 0n, heldInput: 0n })
  })

  test('each sidecar spends its allowance and no more; it is no end of the budget', async () => {
    const store = await open()
    await store.reserve(hold('known', 0n))
    server.mode = 'deaf'
    assert.equal((await store.reserve(hold('a', 60n))).status, 'held')
    assert.equal((await store.reserve(hold('b', 60n))).status, 'busy', 'there may be more when a has ended')
    await store.settle(settleStep('a', START_MS, 60n))
    await assert.rejects(store.reserve(hold('b', 60n)), { code: 'away' })
    assert.equal((await store.reserve(hold('c', 40n))).status, 'held')
  })

  test('what was left when it was last seen bounds the allowance, over outages that follow one another', async () => {
    const store = await open()
    await store.reserve(hold('a', 950n))
    await store.settle(settleStep('a', START_MS, 950n))
    for (const id of ['b', 'c']) {
      server.mode = 'deaf'
      const asked = store.reserve(hold(id, 50n))
      if (id === 'b') {
        assert.equal((await asked).status, 'held')
        await store.settle(settleStep(id, START_MS, 50n))
      } else assert.equal((await asked).status, 'exceedsCap', 'the budget is used up, as far as is known here')
      server.mode = 'up'
      await ready(store)
    }
    assert.deepEqual(await balanceOf(server.books), { spent: 1_000n, held: 0n, heldInput: 0n })
  })

  test('with an allowance that is used up, a hold whose answer was lost is given back', async () => {
    const store = await open()
    await store.reserve(hold('before', 10n))
    server.mode = 'mute'
    await assert.rejects(store.reserve(hold('lost', 300n)), { code: 'away' })
    assert.equal((await balanceOf(server.books))?.held, 310n)
    server.mode = 'up'
    await ready(store)
    assert.equal((await balanceOf(server.books))?.held, 10n)
  })

  test('a hold whose answer was lost is had all the same when the store is back before anything was granted here', async () => {
    const store = await open({
      openBooks: (file) => {
        const books = openEmbeddedStore({ file, nowMs: () => START_MS, writer: 'inline' })
        const reserve: BudgetStore['reserve'] = async (step) => {
          const answer = await books.reserve(step)
          server.mode = 'up'
          await ready(store)
          return answer
        }
        return new Proxy(books, {
          get: (_books, name: keyof BudgetStore) => (name === 'reserve' ? reserve : books[name].bind(books)),
        })
      },
    })
    server.mode = 'mute'
    const { status } = await store.reserve(hold('lost', 40n))
    assert.equal(status, 'held')
    assert.equal((await balanceOf(server.books))?.held, 40n)
    await store.settle(settleStep('lost', START_MS, 30n))
    assert.deepEqual(await balanceOf(server.books), { spent: 30n, held: 0n, heldInput: 0n })
  })

  test('a sidecar that begins on a new run of the store lets the others tell that what it lacks, before it grants anything', async () => {
    const waited: number[] = []
    const wait = async (ms: number): Promise<void> => void waited.push(ms)
    server.knownMs = 400
    await open({ graceMs: 1_000, wait })
    assert.deepEqual(waited, [600])
    server.knownMs = 1_000
    await open({ graceMs: 1_000, wait, folder: join(parent, 'another') })
    assert.deepEqual(waited, [600])
    server.knownMs = -3_600_000
    await open({ graceMs: 1_000, wait, folder: join(parent, 'third') })
    assert.deepEqual(waited, [600, 1_000], 'a clock that was set back holds nobody up for longer')
  })

  test('without an allowance nothing new begins, what is under way ends, and a hold whose answer was lost is given back', async () => {
    percent = 0
    const store = await open()
    await store.reserve(hold('a', 100n))
    server.mode = 'mute'
    await assert.rejects(store.reserve(hold('lost', 100n)), { code: 'away' })
    server.mode = 'deaf'
    await assert.rejects(store.reserve(hold('b', 1n)), { code: 'away' })
    await assert.rejects(store.read({ conversation: 'A', accounts: [], nowMs: START_MS }), { code: 'away' })
    assert.equal((await store.settle(settleStep('a', START_MS, 90n))).result.status, 'settled')
    const after = await store.read({ conversation: 'A', accounts: [], nowMs: START_MS, endsCall: true })
    assert.equal(after.conversation?.turns, 1, 'what came of a call is seen to')
    assert.equal((await store.reserve(hold('watched', 5n, null))).status, 'held', 'nobody is refused where caps only count')
    await store.settle(settleStep('watched', START_MS, 5n))
    server.mode = 'up'
    await ready(store)
    assert.deepEqual(await balanceOf(server.books), { spent: 95n, held: 0n, heldInput: 0n })
  })

  test('a conversation goes on as it was last seen', async () => {
    const store = await open()
    const change: ConversationChange = { addRungs: { rungs: ['Summarize'], reason: 'threshold' } }
    await store.reserve({ ...hold('a', 10n), change })
    server.mode = 'deaf'
    const seen = await store.read({ conversation: 'A', accounts: ['c:A:1'], nowMs: START_MS })
    assert.deepEqual(seen.conversation?.rungs, ['Summarize'])
    const more: ConversationChange = { addRungs: { rungs: ['DowngradeModel'], reason: 'fit' } }
    await store.reserve({ ...hold('b', 10n), change: more, initial: seen.conversation ?? conversationFor('A', START_MS) })
    const again = await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
    assert.deepEqual(again.conversation?.rungs, ['Summarize', 'DowngradeModel'])
    await store.update({ conversation: 'A', change: { atTaskBoundary: { is: true, atMs: START_MS } }, nowMs: START_MS })
    server.mode = 'up'
    await ready(store)
    const shared = await server.books.read({ conversation: 'A', accounts: [], nowMs: START_MS })
    assert.deepEqual([shared.conversation?.rungs, shared.conversation?.atTaskBoundary], [['Summarize', 'DowngradeModel'], true])
    // A hold that was granted here is held there by now.
    await store.settle(settleStep('b', START_MS, 10n))
    assert.deepEqual(await balanceOf(server.books), { spent: 10n, held: 10n, heldInput: 0n })
  })

  test('what a conversation came to in an outage is known in the next: owner, rungs, edits and its history', async () => {
    const store = await open()
    const cut = { kind: 'cut', id: 'e1', cause: 'Reset', leading: 0, count: 1, originals: 'd', text: '{}', savedBytes: 0 } as const
    const initial = conversationFor('A', START_MS, { user: 'ann' })
    const change: ConversationChange = { addRungs: { rungs: ['Summarize'], reason: 'threshold' }, addEdits: [cut] }
    server.mode = 'deaf'
    await store.reserve({ ...hold('a', 10n), initial, change })
    await store.settle(settleStep('a', START_MS, 10n, { chain: ['d1'] }))
    const backAndAway = async (): Promise<void> => {
      server.mode = 'up'
      await ready(store)
      server.mode = 'deaf'
    }
    const known = async () => {
      const { conversation } = await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
      return [conversation?.user, conversation?.turns, conversation?.rungs, conversation?.edits]
    }
    await backAndAway()
    assert.deepEqual(await known(), ['ann', 1, ['Summarize'], [cut]])
    assert.equal(await store.findByChain(['d2', 'd1'], START_MS), 'A')
    const ben = await store.reserve({ ...hold('b', 10n), initial: conversationFor('A', START_MS, { user: 'ben' }) })
    assert.equal(ben.status, 'moved', 'it is not theirs')
    assert.equal(ben.snapshot.conversation?.user, 'ann')
    const seen = { contractHash: 'k1', user: 'ann', session: 1 }
    const next = await store.reserve({ ...hold('c', 10n), seen, initial })
    assert.deepEqual([next.status, next.snapshot.conversation?.rungs], ['held', ['Summarize']])
    await store.settle(settleStep('c', START_MS, 10n))
    await backAndAway()
    assert.deepEqual(await balanceOf(server.books), { spent: 20n, held: 0n, heldInput: 0n })
    assert.deepEqual(await known(), ['ann', 2, ['Summarize'], [cut]])
  })

  test('so is what was said or charged without a turn', async () => {
    const store = await open()
    const initial = conversationFor('A', START_MS)
    const boundary: ConversationChange = { atTaskBoundary: { is: true, atMs: START_MS } }
    const steps = [
      () => store.update({ conversation: 'A', initial, change: boundary, nowMs: START_MS }),
      () => store.charge({ ...chargeOf('cost', 3n), change: { addDrivers: { other: 3n } } }),
    ]
    for (const step of steps) {
      server.mode = 'deaf'
      await step()
      server.mode = 'up'
      await ready(store)
    }
    server.mode = 'deaf'
    const { conversation } = await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
    assert.deepEqual([conversation?.atTaskBoundary, conversation?.drivers.other], [true, 3n])
  })

  test('a call that was under way when the store went away ends in the conversation that others go on with here, and is known later', async () => {
    const store = await open()
    for (const id of ['a', 'b']) await store.reserve(hold(id, 10n))
    server.mode = 'deaf'
    const boundary: ConversationChange = { atTaskBoundary: { is: true, atMs: START_MS } }
    await store.update({ conversation: 'A', initial: conversationFor('A', START_MS), change: boundary, nowMs: START_MS })
    const told = await store.settle(settleStep('a', START_MS, 7n, { chain: ['d1'] }))
    assert.deepEqual([told.snapshot.conversation?.turns, told.snapshot.conversation?.atTaskBoundary], [1, true])
    await store.settle(settleStep('b', START_MS, 7n, { chain: ['d2'] }))
    for (const _outage of [1, 2]) {
      const { conversation } = await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
      assert.deepEqual([conversation?.turns, conversation?.atTaskBoundary], [2, true])
      assert.equal(await store.findByChain(['d2'], START_MS), 'A')
      server.mode = 'up'
      await ready(store)
      server.mode = 'deaf'
    }
  })

  test('an equal beginning in an outage is no longer history than the one that was known before', async () => {
    const store = await open()
    await store.reserve(hold('a', 10n))
    await store.settle(settleStep('a', START_MS, 7n, { chain: ['greeting', 'question'] }))
    server.mode = 'deaf'
    await store.reserve({ ...hold('b', 10n), conversation: 'B', initial: conversationFor('B', START_MS) })
    await store.settle(settleStep('b', START_MS, 7n, { conversation: 'B', chain: ['greeting'] }))
    assert.equal(await store.findByChain(['question', 'greeting'], START_MS), 'A')
    assert.equal(await store.findByChain(['another', 'greeting'], START_MS), 'B')
  })

  test('the longest beginning is found, though less of it was known before than is here since a restart', async () => {
    server.mode = 'deaf'
    const first = await open()
    await first.reserve(hold('a', 10n))
    await first.settle(settleStep('a', START_MS, 7n, { chain: ['greeting', 'question'] }))
    await first.close()
    const store = await open()
    await store.reserve({ ...hold('b', 10n), conversation: 'B', initial: conversationFor('B', START_MS) })
    await store.settle(settleStep('b', START_MS, 7n, { conversation: 'B', chain: ['greeting'] }))
    assert.equal(await store.findByChain(['answer', 'question', 'greeting'], START_MS), 'A')
    assert.equal(await store.findByChain(['another', 'greeting'], START_MS), 'B')
    assert.equal(await store.findByChain(['another'], START_MS), null)
  })

  test('a killed sidecar tells what it did, when it is started again', async () => {
    const first = await open()
    await first.reserve(hold('settled', 50n))
    server.mode = 'deaf'
    await first.settle(settleStep('settled', START_MS, 50n))
    await first.reserve(hold('out', 20n))
    await first.close() // what a kill leaves in the folder is the same: steps are in the file when they are answered
    const second = await open()
    assert.deepEqual([second.standing.state, second.standing.unsent], ['Away', 3])
    server.mode = 'up'
    await ready(second)
    assert.deepEqual(await balanceOf(server.books), { spent: 50n, held: 20n, heldInput: 0n })
    await server.books.sweep({ nowMs: START_MS + 90_000, limit: 10 })
    assert.deepEqual(await balanceOf(server.books), { spent: 70n, held: 0n, heldInput: 0n }, 'whose end nobody saw is charged whole')
  })

  test('a store that comes back as another run is told the last steps again', async () => {
    const store = await open({ graceMs: 50 })
    const kept = openBooks()
    const contract = makeContract()
    await store.putContract(contract)
    for (const id of ['a', 'b']) await store.reserve(hold(id, 100n))
    await store.settle(settleStep('a', START_MS, 80n))
    await store.charge({
      operationId: 'cost',
      accounts: ['c:A:1'],
      cost: 7n,
      atMs: START_MS,
      note: { conversation: 'A' },
      conversation: 'A',
      change: {},
    })
    // A replica takes its place, which has nothing of all that.
    server.restart('second', kept)
    percent = 0
    await assert.rejects(store.reserve(hold('c', 1n)), { code: 'away' }, 'nothing is granted before it knows')
    await ready(store)
    assert.deepEqual(await balanceOf(kept), { spent: 87n, held: 100n, heldInput: 0n })
    assert.deepEqual(await kept.getContract(contract.hash), contract)
    await store.settle(settleStep('b', START_MS, 90n))
    assert.deepEqual(await balanceOf(kept), { spent: 177n, held: 0n, heldInput: 0n })
    assert.equal((await store.reserve(hold('c', 1n))).status, 'held')
  })

  test('a store that loses what it was just told is told again, by another run of the sidecar too', async () => {
    const first = await open({ keepMs: 60_000 })
    const kept = openBooks()
    for (const id of ['a', 'b']) {
      server.mode = 'deaf'
      await first.reserve(hold(id, 20n))
      await first.settle(settleStep(id, START_MS, 15n))
      server.mode = 'up'
      await ready(first)
    }
    await first.close()
    server.restart('second', kept)
    const second = await open()
    await ready(second)
    assert.deepEqual(
      (await spentBy(kept)).toSorted(([a], [b]) => (a < b ? -1 : 1)),
      [
        ['a', 15n],
        ['b', 15n],
      ],
    )
    await sleep(100)
    assert.deepEqual(readdirSync(join(parent, 'outage')), [])
  })

  test('what the store was told before an outage that is longer than the tail is told to the run that lacks it', async () => {
    const ran = { ms: 0 }
    const store = await open({ ranMs: () => ran.ms })
    for (const id of ['a', 'b']) await store.reserve(hold(id, 100n))
    await store.settle(settleStep('a', START_MS, 80n))
    server.mode = 'deaf'
    for (const id of ['c1', 'c2']) {
      ran.ms += 60_000
      await store.charge(chargeOf(id, 3n))
    }
    await store.settle(settleStep('b', START_MS, 70n))
    const kept = openBooks()
    server.restart('second', kept)
    server.mode = 'up'
    await ready(store)
    assert.deepEqual(byId(await spentBy(kept)), [
      ['a', 80n],
      ['b', 70n],
      ['c1', 3n],
      ['c2', 3n],
    ])
    assert.equal(store.standing.replayed, 6, 'each once')
  })

  test('while the store is frozen nothing that it was told becomes safer', async () => {
    const ran = { ms: 0 }
    const store = await open({ ranMs: () => ran.ms })
    await store.charge(chargeOf('before', 5n))
    server.mode = 'deaf'
    await store.charge(chargeOf('meanwhile', 6n))
    ran.ms += 60_000
    server.mode = 'up'
    await ready(store)
    ran.ms += 1_000
    await store.charge(chargeOf('after', 7n))
    const kept = openBooks()
    server.restart('second', kept)
    await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
    await ready(store)
    assert.deepEqual(byId(await spentBy(kept)), [
      ['after', 7n],
      ['before', 5n],
      ['meanwhile', 6n],
    ])
    ran.ms += 60_000
    await store.charge(chargeOf('later', 8n))
    server.restart('third', openBooks())
    await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
    await ready(store)
    assert.deepEqual(await spentBy(server.books), [['later', 8n]], 'what it had for long is not told again')
  })

  test('a busy store is told the last steps of many conversations a few at a time, and goes on where it stopped', async () => {
    const store = await open({ wait: () => turn() })
    const ids = Array.from({ length: 200 }, (_, index) => `t${index}`)
    for (const id of ids) {
      const initial = conversationFor(id, START_MS)
      await store.reserve(
        reserveStep(
          id,
          START_MS,
          { atLeast: 2n, atMost: 2n },
          { conversation: id, initial, reservation: { draws: [{ account: `c:${id}:1`, cap: 9n }] } },
        ),
      )
      await store.settle(settleStep(id, START_MS, 1n, { conversation: id }))
    }
    const left = { answers: 0 }
    let looks = 0
    let reserved = 0
    let underWay = 0
    let steps = 0
    server.turns = () => (steps++ % 10 === 0 ? 20 : 1)
    server.onRun = () => {
      underWay = Math.max(underWay, server.atOnce)
      looks += 1
      left.answers = 120
    }
    server.onDone = (name) => {
      left.answers -= 1
      if (left.answers < 0) throw new StoreError('away', 'too busy')
      if (name === 'reserve') reserved += 1
    }
    server.atOnceMost = 0
    server.restart('second', openBooks())
    await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
    await ready(store)
    server.onDone = () => undefined
    assert.deepEqual(byId(await spentBy(server.books)), byId(ids.map((id) => [id, 1n])))
    assert.deepEqual([looks, reserved, server.atOnceMost], [4, 200, 50])
    assert.equal(underWay, 0, 'when the store is looked for again nothing of the attempt before is under way')
  })

  test('a sidecar that starts long after it told what it did tells none of it again, and removes it', async () => {
    const clock = { ms: START_MS }
    const first = await open({ keepMs: 10_000, wait: (ms, signal) => sleep(ms, undefined, { signal, ref: false }), nowMs: () => clock.ms })
    server.mode = 'deaf'
    await first.reserve({ ...hold('a', 20n), isFirst: true })
    await first.settle(settleStep('a', START_MS, 15n))
    server.mode = 'up'
    await ready(first)
    assert.deepEqual(await spentBy(server.books), [['a', 15n]])
    await first.close()
    assert.equal(readdirSync(join(parent, 'outage')).length, 1)
    clock.ms += ENDED_OPERATION_LIFE_MS + 12 * 3_600_000
    server.books = openBooks() // as one that has forgotten what ended so long ago
    server.mode = 'deaf'
    const second = await open({ nowMs: () => clock.ms })
    assert.equal(second.standing.unsent, 0)
    server.mode = 'up'
    await ready(second)
    assert.deepEqual(await spentBy(server.books), [])
    for (let tries = 0; readdirSync(join(parent, 'outage')).length > 0; tries++) {
      assert.ok(tries < 500, 'something is left of it')
      await sleep(10)
    }
  })

  test('what the store may have entered and forgotten is not told, but reported; what it was never asked is told, however old', async () => {
    const clock = { ms: START_MS }
    const first = await open({ nowMs: () => clock.ms })
    await first.reserve(hold('asked', 20n))
    server.mode = 'mute'
    await first.settle(settleStep('asked', START_MS, 15n))
    await first.charge(chargeOf('cost', 5n))
    await first.reserve({ ...hold('own', 30n), isFirst: true })
    await first.settle(settleStep('own', START_MS, 25n))
    await first.close()
    clock.ms += ENDED_OPERATION_LIFE_MS + 1
    server.books = openBooks()
    server.mode = 'up'
    const told: string[] = []
    const second = await open({ nowMs: () => clock.ms, onTrouble: ({ message }) => told.push(message) })
    await ready(second)
    assert.deepEqual(await spentBy(server.books), [['own', 25n]])
    assert.deepEqual(await balanceOf(server.books), { spent: 25n, held: 0n, heldInput: 0n })
    assert.equal(told.length, 2)
    assert.match(told[0] ?? '', /operation asked \(20 nano-USD\) is not told/)
    assert.match(told[1] ?? '', /operation cost \(5 nano-USD\) is not told/)
  })

  test('a step that the store was told without an answer, by a sidecar that is started again much later, is one that it may know', async () => {
    const clock = { ms: START_MS }
    server.mode = 'deaf'
    const first = await open({ nowMs: () => clock.ms })
    await first.reserve({ ...hold('own', 30n), isFirst: true })
    await first.settle(settleStep('own', START_MS, 25n))
    server.onDone = () => {
      throw new StoreError('away', 'mute')
    }
    server.mode = 'up'
    for (let tries = 0; (await balanceOf(server.books))?.held !== 30n; tries++) {
      assert.ok(tries < 500, `${first.standing.state}: ${first.standing.reason}`)
      await sleep(10)
    }
    await first.close()
    clock.ms += ENDED_OPERATION_LIFE_MS + 1
    server.onDone = () => undefined
    server.books = openBooks()
    const told: string[] = []
    const second = await open({ nowMs: () => clock.ms, onTrouble: ({ message }) => told.push(message) })
    await ready(second)
    assert.deepEqual(await spentBy(server.books), [])
    assert.equal(told.length, 1)
  })

  test('a conversation that was opened again stays open when its end is told again, or late', async () => {
    const store = await open()
    const end: ConversationChange = {
      ofSession: 1,
      state: { is: 'ended', atMs: START_MS },
      addRungs: { rungs: ['EndConversation'], reason: 'threshold' },
    }
    const initial = conversationFor('A', START_MS)
    const stateOf = async (books: BudgetStore) => {
      const { conversation } = await books.read({ conversation: 'A', accounts: [], nowMs: START_MS })
      return [conversation?.state, conversation?.rungs]
    }
    const openAgain = (atMs: number) => server.books.update({ conversation: 'A', change: { state: { is: 'open', atMs } }, nowMs: START_MS })
    await store.update({ conversation: 'A', initial, change: end, nowMs: START_MS })
    assert.deepEqual(await stateOf(server.books), ['ended', ['EndConversation']])
    await openAgain(START_MS + 5)
    server.restart('second', server.books)
    await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
    await ready(store)
    assert.deepEqual(await stateOf(server.books), ['open', []], 'it was in the tail')
    server.mode = 'deaf'
    await store.update({ conversation: 'A', change: { ...end, state: { is: 'ended', atMs: START_MS + 6 } }, nowMs: START_MS })
    await openAgain(START_MS + 7)
    server.mode = 'up'
    await ready(store)
    assert.deepEqual(await stateOf(server.books), ['open', []], 'it was in the journal')
  })

  test('whether there is a contract that is not known here cannot be told while the store is away', async () => {
    const store = await open()
    const contract = makeContract()
    await server.books.putContract(contract)
    assert.equal(await store.getContract('gone'), null)
    server.mode = 'deaf'
    await assert.rejects(store.getContract(contract.hash), { code: 'away' })
    const own = { ...contract, hash: 'own' }
    await store.putContract(own)
    assert.deepEqual(await store.getContract('own'), own)
    await assert.rejects(store.getContract('gone'), { code: 'away' })
    server.mode = 'up'
    await ready(store)
    assert.deepEqual(await store.getContract(contract.hash), contract)
  })

  test('a connection that was made again to the same run goes on at once', async () => {
    const store = await open()
    await store.reserve(hold('a', 10n))
    server.restart('first', server.books)
    await store.settle(settleStep('a', START_MS, 10n))
    await ready(store)
    assert.deepEqual(await balanceOf(server.books), { spent: 10n, held: 0n, heldInput: 0n })
  })

  test('a report for which the store takes too long is no outage', async () => {
    const store = await open()
    await store.reserve(hold('o1', 10n))
    server.mode = 'mute'
    const days = { tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24' }
    for (const report of [
      () => store.listConversations({ limit: 5_000, nowMs: START_MS }),
      () => store.listQuiet({ tiers: ['pro'], quietSinceMs: START_MS, limit: 100, nowMs: START_MS }),
      () => store.readLedger({ afterSequence: 0, limit: 1_000 }),
      () => store.readTotals(days),
      () => store.readOutcomes(days),
      () => store.readUsers({ ...days, timesMedian: 2, atLeast: [1n], limit: 3 }),
    ])
      await assert.rejects(report(), { name: 'StoreError', code: 'away' })
    assert.deepEqual([store.standing.state, store.standing.outages], ['Ready', 0])
    server.mode = 'up'
    assert.equal((await store.settle(settleStep('o1', START_MS, 7n))).result.status, 'settled')
    assert.deepEqual(await spentBy(store), [['o1', 7n]])
    server.mode = 'mute'
    await store.renew(['o1'], START_MS + 90_000)
    assert.deepEqual([store.standing.state, store.standing.outages], ['Away', 1])
  })

  test('alerts fire once, by what is known here', async () => {
    const store = await open()
    percent = 100
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
      percent = 100
      told.length = 0
    })
    const alertsOf = async (store: BudgetStore) =>
      (await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })).conversation?.alerts

    test('in an outage are told when the store is told of it, once', async () => {
      const stores = [await open({ onAlerts }), await open({ onAlerts, folder: join(parent, 'other') })]
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
      const first = await open({ onAlerts })
      server.mode = 'deaf'
      assert.deepEqual(await spend(first, 'own', 75n), [70])
      await first.close()
      await server.books.reserve(reserveStep('theirs', START_MS, { atLeast: 20n, atMost: 20n, cap: 100n }))
      await server.books.settle(settleStep('theirs', START_MS, 20n, { alerts }))
      const second = await open({ onAlerts })
      server.mode = 'up'
      await ready(second)
      assert.deepEqual(told, [fired(90)])
    })

    test('count as told for what goes on here while the store is told of them', async () => {
      let meanwhile: Promise<unknown> = Promise.resolve()
      const store = await open({
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
        percent = allowed
        const store = await open({ onAlerts })
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

  test('a sidecar that starts while the store is away goes on by itself, and finds it', async () => {
    server.mode = 'deaf'
    const store = await open()
    assert.equal(store.standing.state, 'Away')
    assert.equal((await store.reserve(hold('a', 10n))).status, 'held')
    await store.settle(settleStep('a', START_MS, 10n))
    server.mode = 'up'
    await ready(store)
    assert.deepEqual(await spentBy(server.books), [['a', 10n]])
  })

  test('where nothing can be kept nothing is granted, and what is under way is tried again', async () => {
    const store = await open()
    await store.reserve(hold('a', 10n))
    rmSync(join(parent, 'outage'), { recursive: true })
    writeFileSync(join(parent, 'outage'), 'in the way')
    server.mode = 'deaf'
    await assert.rejects(store.reserve(hold('b', 10n)), { code: 'away', message: /must be a folder where steps can be kept/ })
    await assert.rejects(store.settle(settleStep('a', START_MS, 10n)), { code: 'away' })
    server.mode = 'up'
    await ready(store)
    assert.equal((await store.settle(settleStep('a', START_MS, 10n))).result.status, 'settled')
  })

  test('where books cannot be opened no call leaves anything behind; when they can be again calls go on, in one folder', async () => {
    const disk = { isFull: true }
    const files: string[] = []
    const store = await open({
      openBooks: (file) => {
        files.push(file)
        if (!disk.isFull) return openBooks()
        writeFileSync(file, 'begun')
        throw new StoreError('away', 'no space left')
      },
    })
    server.mode = 'deaf'
    for (let call = 0; call < 5; call++) await assert.rejects(store.reserve(hold('a', 10n)), { code: 'away', message: /no space left/ })
    assert.deepEqual(readdirSync(join(parent, 'outage')), [])
    assert.deepEqual([files.length, new Set(files).size], [5, 1])
    disk.isFull = false
    for (const id of ['a', 'b']) {
      assert.equal((await store.reserve(hold(id, 10n))).status, 'held')
      assert.equal(readdirSync(join(parent, 'outage')).length, 1)
      await store.settle(settleStep(id, START_MS, 10n))
      server.mode = 'up'
      await ready(store)
      for (let tries = 0; readdirSync(join(parent, 'outage')).length > 0; tries++) {
        assert.ok(tries < 500, 'something is left of it')
        await sleep(10)
      }
      server.mode = 'deaf'
    }
    assert.equal(new Set(files).size, 2, 'each outage has a folder of its own')
  })

  test('with so much waiting that nothing new is begun that is told once, what is under way ends, and all of it arrives', async () => {
    percent = 100
    const told: string[] = []
    const store = await open({
      journalBytesMax: 5_000,
      onChange: ({ reason, isFull }) => {
        if (isFull === true) told.push(reason ?? '')
      },
    })
    server.mode = 'deaf'
    await store.reserve(hold('first', 10n, null))
    let begun = 0
    const begin = async (): Promise<void> => {
      await store.reserve(hold(`of ${begun}`, 10n, null))
      begun += 1
    }
    const beginMany = async (): Promise<void> => {
      for (let call = 0; call < 100; call++) await begin()
    }
    await assert.rejects(beginMany(), { code: 'away', message: /deaf; steps that wait for it come to .* MiB, so nothing new is begun/ })
    await assert.rejects(begin(), { code: 'away' })
    assert.ok(begun > 0 && begun < 20, `${begun} fit`)
    assert.equal(store.standing.isFull, true)
    assert.deepEqual(told, [store.standing.reason])
    await store.settle(settleStep('first', START_MS, 7n))
    server.mode = 'up'
    await ready(store)
    assert.deepEqual([store.standing.isFull, store.standing.reason], [undefined, null])
    assert.deepEqual(await balanceOf(server.books), { spent: 7n, held: 10n * BigInt(begun), heldInput: 0n })
    await begin()
  })

  test('of a conversation that was there before, no turn keeps the edits: the store has them, or is told them', async () => {
    const store = await open()
    const text = 'x'.repeat(50_000)
    const edit = (id: string) =>
      ({ kind: 'cut', id, cause: 'Summarize', leading: 0, count: 1, originals: 'd', text, savedBytes: 0 }) as const
    const edits: ReturnType<typeof edit>[] = []
    const seen = { contractHash: 'k1', user: null, session: 1 }
    const say = async (conversation: string, id: string, isNew: boolean): Promise<void> => {
      const initial = conversationFor(conversation, START_MS, { edits: isNew ? [] : [...edits] })
      const note = { conversation, session: 1, tier: 'pro' }
      await store.reserve(
        reserveStep(
          `${conversation} ${id}`,
          START_MS,
          { atLeast: 1n, atMost: 1n, cap: null },
          { conversation, initial, seen: isNew ? null : seen, reservation: { note }, change: isNew ? { addEdits: [edit('e1')] } : {} },
        ),
      )
      await store.settle(settleStep(`${conversation} ${id}`, START_MS, 1n, { conversation }))
    }
    await say('A', 'before', true)
    edits.push(edit('e1'))
    server.mode = 'deaf'
    await say('B', 'before', true)
    for (let count = 0; count < 10; count++) for (const conversation of ['A', 'B']) await say(conversation, String(count), false)
    const [folder] = readdirSync(join(parent, 'outage'))
    const kept = readdirSync(join(parent, 'outage', folder ?? ''), { withFileTypes: true }).filter(({ name }) => name.startsWith('steps.'))
    const bytes = kept.reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0)
    assert.ok(bytes > 50_000 && bytes < 100_000, `${bytes} bytes are kept`)
    server.mode = 'up'
    await ready(store)
    for (const conversation of ['A', 'B']) {
      const found = (await server.books.read({ conversation, accounts: [], nowMs: START_MS })).conversation
      assert.deepEqual([found?.turns, found?.edits.map(({ id }) => id)], [11, ['e1']], conversation)
    }
  })

  test('steps that cannot be read again are said to be lost, and keep nobody busy', async () => {
    const store = await open()
    server.mode = 'deaf'
    await store.reserve(hold('a', 10n))
    for (const name of readdirSync(join(parent, 'outage'), { recursive: true, encoding: 'utf8' }))
      if (name.includes('steps.')) truncateSync(join(parent, 'outage', name))
    server.mode = 'up'
    for (let tries = 0; !/1 steps .* cannot be read/.test(store.standing.reason ?? ''); tries++) {
      assert.ok(tries < 100, `${store.standing.state}: ${store.standing.reason}`)
      await sleep(10)
    }
    assert.notEqual(store.standing.state, 'Ready')
  })

  const said = (id: string, user = 'ann') => ({
    user,
    entries: [{ id, conversation: 'A', session: 1, atMs: START_MS, role: 'user', text: `the words of ${id}` } as const],
    expiresAtMs: START_MS + 3_600_000,
    nowMs: START_MS,
  })
  const heard = async (store: BudgetStore, user = 'ann'): Promise<readonly string[]> =>
    (await store.searchMemory({ user, query: '', limit: 9, nowMs: START_MS })).hits.map(({ id }) => id)

  test('what users said meanwhile is in the store when it is back; until then nobody can search it, or have it forgotten', async () => {
    const store = await open()
    await store.remember(said('before'))
    assert.deepEqual(await heard(store), ['before'])
    server.mode = 'deaf'
    await store.remember(said('during'))
    await assert.rejects(heard(store), { code: 'away' })
    await assert.rejects(store.forgetUser({ user: 'ann', nowMs: START_MS }), { code: 'away' })
    const today = { tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24', timesMedian: 2, atLeast: [], limit: 1 }
    await assert.rejects(store.readUsers(today), { code: 'away' })
    await assert.rejects(store.listQuiet({ tiers: ['pro'], quietSinceMs: START_MS, limit: 1, nowMs: START_MS }), { code: 'away' })
    assert.deepEqual(await heard(server.books), ['before'])
    server.mode = 'up'
    await ready(store)
    assert.deepEqual(await heard(store), ['during', 'before'])
    assert.equal((await store.forgetUser({ user: 'ann', nowMs: START_MS })).entries, 2)
    assert.deepEqual(await heard(store), [])
  })

  test('a user who was forgotten is forgotten again by a store that comes back without the last steps', async () => {
    const store = await open()
    const cut = { kind: 'cut', id: 'e1', cause: 'Reset', leading: 0, count: 1, originals: 'd', text: 'theirs', savedBytes: 0 } as const
    const initial = conversationFor('A', START_MS, { user: 'ann' })
    for (const id of ['A', 'B', 'C'])
      await store.reserve(
        reserveStep(
          id,
          START_MS,
          { atLeast: 1n, atMost: 1n },
          { conversation: id, initial: { ...initial, id }, change: { addEdits: [cut] } },
        ),
      )
    await store.remember(said('m1'))
    await store.forgetUser({ user: 'ann', nowMs: START_MS })
    const older = openBooks()
    await older.remember(said('m0'))
    server.restart('second', older)
    await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
    await ready(store)
    assert.deepEqual(await heard(older), [])
    // What this sidecar remembers of the conversation, for the next outage, has no text of theirs either.
    server.mode = 'deaf'
    for (const id of ['A', 'B', 'C']) {
      const { conversation } = await store.read({ conversation: id, accounts: [], nowMs: START_MS })
      assert.deepEqual([conversation?.user, conversation?.edits], ['ann', []])
    }
  })

  test('so is what a conversation quotes that only the memory named, though the store may have lost that memory', async () => {
    const store = await open()
    const cut = { kind: 'cut', id: 'e1', cause: 'Reset', leading: 0, count: 1, originals: 'd', text: 'theirs', savedBytes: 0 } as const
    const quote = { initial: conversationFor('A', START_MS, { user: null }), change: { addEdits: [cut] }, nowMs: START_MS }
    for (const conversation of ['A', 'B']) await store.update({ ...quote, conversation, initial: { ...quote.initial, id: conversation } })
    // They are told again in the order in which they were taken, though these are of a conversation, and forgetting is of a user.
    const another = { ...cut, id: 'e2' }
    await store.update({ ...quote, conversation: 'A', change: { addEdits: [another] } })
    await store.remember(said('m1'))
    assert.deepEqual(await store.forgetUser({ user: 'ann', nowMs: START_MS }), { entries: 1, conversations: ['A'] })
    const older = openBooks()
    await older.update({ ...quote, conversation: 'A' })
    server.restart('second', older)
    await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
    await ready(store)
    const edits = async (of: BudgetStore, conversation: string) =>
      (await of.read({ conversation, accounts: [], nowMs: START_MS })).conversation?.edits
    assert.deepEqual([await edits(older, 'A'), await edits(older, 'B')], [[], [cut]])
    server.mode = 'deaf'
    assert.deepEqual([await edits(store, 'A'), await edits(store, 'B')], [[], [cut]])
  })

  test('steps that an earlier version kept are read: outcomes by their day, resolutions without a time', () => {
    const update = { conversation: 'A', change: { resolution: 'confirmed', resolutionRound: 1 }, nowMs: 7 }
    assert.deepEqual(decodeStep(JSON.stringify({ kind: 'update', step: update })), {
      kind: 'update',
      step: { ...update, change: { resolution: { kind: 'confirmed', atMs: 7 }, resolutionRound: 1 } },
    })
    const initial = conversationFor('A', START_MS)
    const { stateAtMs: _state, boundaryAtMs: _boundary, ...earlier } = initial
    const kept = {
      kind: 'update',
      step: { conversation: 'A', initial: earlier, change: { state: 'ended', atTaskBoundary: true }, nowMs: 7 },
    }
    assert.deepEqual(decodeStep(encodeStep(kept as unknown as OutageStep)), {
      kind: 'update',
      step: {
        conversation: 'A',
        initial,
        change: { state: { is: 'ended', atMs: 7 }, atTaskBoundary: { is: true, atMs: 7 } },
        nowMs: 7,
      },
    })
    const outcome = { key: 'A/1/started', tier: 'pro', kind: 'started' }
    assert.deepEqual(decodeStep(JSON.stringify({ kind: 'outcome', step: { ...outcome, day: '2026-11-24' } })), {
      kind: 'outcome',
      step: { ...outcome, atMs: Date.UTC(2026, 10, 24), note: {} },
    })
    const now = { kind: 'remember', step: said('m1') } as const
    assert.deepEqual(decodeStep(encodeStep(now)), now)
  })

  test('a closed one says so', async () => {
    const store = await open()
    await store.close()
    await assert.rejects(store.reserve(hold('a', 1n)), { code: 'closed' })
  })
})
