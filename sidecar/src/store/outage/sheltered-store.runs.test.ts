/** A shared store, or a sidecar, that comes back as another run: what is told again, once, and what is not. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { makeContract } from '../../../../test/support/make.ts'
import { conversationFor, reserveStep, settleStep, START_MS } from '../steps.testing.ts'
import { ENDED_OPERATION_LIFE_MS, StoreError } from '../store.ts'
import type { BudgetStore } from '../store.ts'
import { balanceOf, byId, chargeOf, hold, openBooks, ready, said, spentBy, Stage } from './stage.testing.ts'
import type { SharedStore } from './sheltered-store.ts'
import type { Server } from './stage.testing.ts'

const ASKED_OF_ANN = { user: 'ann', query: '', limit: 10, nowMs: START_MS }

let stage: Stage
let server: Server
beforeEach(() => {
  stage = new Stage()
  server = stage.server
})
afterEach(() => stage.close())

test('a sidecar that begins on a new run of the store lets the others tell that what it lacks, before it grants anything', async () => {
  const waited: number[] = []
  const wait = async (ms: number): Promise<void> => void waited.push(ms)
  server.knownMs = 400
  await stage.open({ graceMs: 1_000, wait })
  assert.deepEqual(waited, [600])
  server.knownMs = 1_000
  await stage.open({ graceMs: 1_000, wait, folder: join(stage.parent, 'another') })
  assert.deepEqual(waited, [600])
  server.knownMs = -3_600_000
  await stage.open({ graceMs: 1_000, wait, folder: join(stage.parent, 'third') })
  assert.deepEqual(waited, [600, 1_000], 'a clock that was set back holds nobody up for longer')
})

test('a killed sidecar tells what it did, when it is started again', async () => {
  const first = await stage.open()
  await first.reserve(hold('settled', 50n))
  server.mode = 'deaf'
  await first.settle(settleStep('settled', START_MS, 50n))
  await first.reserve(hold('out', 20n))
  await first.close() // what a kill leaves in the folder is the same: steps are in the file when they are answered
  const second = await stage.open()
  assert.deepEqual([second.standing.state, second.standing.unsent], ['Away', 3])
  server.mode = 'up'
  await ready(second)
  assert.deepEqual(await balanceOf(server.books), { spent: 50n, held: 20n, heldInput: 0n })
  await server.books.sweep({ nowMs: START_MS + 90_000, limit: 10 })
  assert.deepEqual(await balanceOf(server.books), { spent: 70n, held: 0n, heldInput: 0n }, 'whose end nobody saw is charged whole')
})

test('a store that comes back as another run is told the last steps again', async () => {
  const store = await stage.open({ graceMs: 50 })
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
  stage.percent = 0
  await assert.rejects(store.reserve(hold('c', 1n)), { code: 'away' }, 'nothing is granted before it knows')
  await ready(store)
  assert.deepEqual(await balanceOf(kept), { spent: 87n, held: 100n, heldInput: 0n })
  assert.deepEqual(await kept.getContract(contract.hash), contract)
  await store.settle(settleStep('b', START_MS, 90n))
  assert.deepEqual(await balanceOf(kept), { spent: 177n, held: 0n, heldInput: 0n })
  assert.equal((await store.reserve(hold('c', 1n))).status, 'held')
})

test('a store that loses what it was just told is told again, by another run of the sidecar too', async () => {
  const first = await stage.open({ keepMs: 60_000 })
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
  const second = await stage.open()
  await ready(second)
  assert.deepEqual(
    (await spentBy(kept)).toSorted(([a], [b]) => (a < b ? -1 : 1)),
    [
      ['a', 15n],
      ['b', 15n],
    ],
  )
  await sleep(100)
  assert.deepEqual(readdirSync(stage.folder), [])
})

test('what the store was told before an outage that is longer than the tail is told to the run that lacks it', async () => {
  const ran = { ms: 0 }
  const store = await stage.open({ ranMs: () => ran.ms })
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

test('a new run of the store is told what ended while it was away before anybody grants there', async () => {
  const toldByThen: bigint[] = []
  const wait = async (ms: number): Promise<void> => {
    if (ms === 1_000) toldByThen.push((await balanceOf(server.books))?.spent ?? 0n)
    else await turn()
  }
  const store = await stage.open({ graceMs: 1_000, wait })
  await store.reserve(hold('a', 100n))
  server.mode = 'deaf'
  await store.settle(settleStep('a', START_MS, 80n))
  server.restart('second', openBooks())
  server.mode = 'up'
  await ready(store)
  assert.deepEqual(toldByThen, [80n])
  assert.equal(store.standing.replayed, 2, 'each once')
  // And where the sidecar was killed before it could tell that.
  server.mode = 'deaf'
  await store.charge(chargeOf('cost', 5n))
  await store.close()
  server.restart('third', openBooks())
  server.knownMs = 0
  server.mode = 'up'
  await ready(await stage.open({ graceMs: 1_000, wait }))
  assert.deepEqual(toldByThen, [80n, 5n])
})

test('what a run was told while its connection was lost it is told again, and the run after it too: each counts once', async () => {
  const store = await stage.open({ wait: () => turn() })
  await store.reserve(hold('a', 100n))
  server.mode = 'deaf'
  await store.settle(settleStep('a', START_MS, 80n))
  await store.charge(chargeOf('cost', 5n))
  let looks = 0
  server.onRun = () => (looks += 1)
  server.restart('second', openBooks())
  server.onDone = (name) => {
    if (name !== 'charge') return
    server.onDone = () => undefined
    server.restart('second', server.books)
  }
  server.mode = 'up'
  await ready(store)
  assert.equal(looks, 2)
  assert.deepEqual(await balanceOf(server.books), { spent: 85n, held: 0n, heldInput: 0n })
  server.restart('third', openBooks())
  await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
  await ready(store)
  assert.deepEqual(byId(await spentBy(server.books)), [
    ['a', 80n],
    ['cost', 5n],
  ])
})

/** The server dies while it is told the charge of this number, and another, or the one before, takes its place. */
function diesAtCharge(number: number, next: { readonly run: string; readonly books: BudgetStore }): void {
  let charges = 0
  server.onDone = (name) => {
    if (name === 'charge') charges += 1
    if (charges !== number) return
    server.onDone = () => undefined
    server.mode = 'deaf'
    setTimeout(() => {
      server.restart(next.run, next.books)
      server.mode = 'up'
    }, 30)
  }
}

/** More than are told at a time. */
const CHARGES = Array.from({ length: 120 }, (_, index) => `cost-${index}`)

test('a run that goes away while it is told what a sidecar kept since its start: the run after it is told all of that', async () => {
  server.mode = 'deaf'
  const store = await stage.open({ graceMs: 1_000, wait: () => turn() })
  for (const id of CHARGES) await store.charge(chargeOf(id, 1n))
  diesAtCharge(70, { run: 'second', books: openBooks() })
  server.mode = 'up'
  await ready(store)
  assert.equal(server.run, 'second')
  assert.equal((await spentBy(server.books)).length, CHARGES.length)
})

for (const back of ['first', 'third'])
  test(`a second run goes away while it is told what was kept: the ${back} one is told all of that`, async () => {
    const first = server.books
    const store = await stage.open({ graceMs: 1_000, wait: () => turn() })
    await store.reserve(hold('a', 100n))
    server.mode = 'deaf'
    await store.settle(settleStep('a', START_MS, 80n))
    for (const id of CHARGES) await store.charge(chargeOf(id, 1n))
    server.restart('second', openBooks())
    diesAtCharge(70, { run: back, books: back === 'first' ? first : openBooks() })
    server.mode = 'up'
    await ready(store)
    assert.equal(server.run, back)
    assert.deepEqual(await balanceOf(server.books), { spent: 200n, held: 0n, heldInput: 0n })
  })

test('what was told to another run, which the connection led to for a moment, counts as told to nobody', async () => {
  const second = openBooks()
  let isOver = false
  const wait = async (ms: number): Promise<void> => {
    await turn()
    if (ms !== 1_000 || isOver) return
    isOver = true
    await store.settle(settleStep('a', START_MS, 80n))
    server.restart('third', openBooks())
    server.onDone = (name) => {
      if (name !== 'settle') return
      server.onDone = () => undefined
      server.restart('second', second)
    }
  }
  const store = await stage.open({ graceMs: 1_000, wait })
  await store.reserve(hold('a', 100n))
  server.restart('second', second)
  await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
  await ready(store)
  assert.equal(server.run, 'second')
  assert.deepEqual(await balanceOf(second), { spent: 80n, held: 0n, heldInput: 0n })
})

test('what is held is renewed while the store is told what it missed, however long that takes', async () => {
  const store = await stage.open({ wait: () => turn() })
  await store.reserve(hold('shared', 100n))
  server.mode = 'deaf'
  await store.reserve({ ...hold('own', 20n), isFirst: true })
  await store.charge(chargeOf('last', 3n))
  const renewed: Promise<void>[] = []
  server.onDone = (name) => {
    if (name !== 'charge') return
    assert.equal(store.standing.state, 'Replaying')
    for (const id of ['shared', 'own']) renewed.push(store.renew([id], START_MS + 180_000))
  }
  server.mode = 'up'
  await ready(store)
  await Promise.all(renewed)
  assert.equal(renewed.length, 2)
  assert.deepEqual((await server.books.sweep({ nowMs: START_MS + 179_999, limit: 9 })).expired, [])
  assert.equal((await server.books.sweep({ nowMs: START_MS + 180_000, limit: 9 })).expired.length, 2)
})

test('a renewal during which the store goes away again fails nobody', async () => {
  const store = await stage.open({ wait: () => turn() })
  server.mode = 'deaf'
  await store.charge(chargeOf('cost', 3n))
  const renewed: Promise<void>[] = []
  server.onDone = () => {
    server.onDone = () => undefined
    server.mode = 'deaf'
    renewed.push(store.renew(['shared'], START_MS + 180_000))
  }
  server.mode = 'up'
  for (let tries = 0; renewed.length === 0; tries++) {
    assert.ok(tries < 500)
    await sleep(10)
  }
  await Promise.all(renewed)
  server.mode = 'up'
  await ready(store)
})

test('a store that lost the last nine and a half seconds is told all of them again, and nothing that is much older', async () => {
  const ran = { ms: 0 }
  const store = await stage.open({ ranMs: () => ran.ms })
  for (const [id, atMs] of Object.entries({ old: 0, first: 60_000, middle: 65_000, last: 69_500 })) {
    ran.ms = atMs
    await store.charge(chargeOf(id, 5n))
  }
  const kept = openBooks()
  server.restart('second', kept)
  await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
  await ready(store)
  assert.deepEqual(byId(await spentBy(kept)), [
    ['first', 5n],
    ['last', 5n],
    ['middle', 5n],
  ])
})

test('a sidecar that is started again tells once more what the store heard nine and a half seconds ago, and not what it heard long ago', async () => {
  const clock = { ms: START_MS }
  stage.keepMs = null
  const first = await stage.open({ nowMs: () => clock.ms })
  for (const [id, laterMs] of Object.entries({ old: 60_000, lost: 9_500 })) {
    server.mode = 'deaf'
    await first.reserve({ ...hold(id, 20n), isFirst: true })
    await first.settle(settleStep(id, START_MS, 15n))
    server.mode = 'up'
    await ready(first)
    clock.ms += laterMs
  }
  await first.close()
  const kept = openBooks()
  server.restart('second', kept)
  const second = await stage.open({ nowMs: () => clock.ms })
  await ready(second)
  assert.deepEqual(await spentBy(kept), [['lost', 15n]])
})

test('while the store is frozen nothing that it was told becomes safer', async () => {
  const ran = { ms: 0 }
  const store = await stage.open({ ranMs: () => ran.ms })
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
  const store = await stage.open({ wait: () => turn() })
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

test('how long ago that was, a sidecar whose own clock is wrong learns from the store', async () => {
  const first = await stage.open({ keepMs: 10_000 })
  server.mode = 'deaf'
  await first.reserve({ ...hold('a', 20n), isFirst: true })
  await first.settle(settleStep('a', START_MS, 15n))
  server.mode = 'up'
  await ready(first)
  await first.close()
  server.restart('second', openBooks())
  let nowMs = START_MS + 3_600_000
  const connect = async (): Promise<SharedStore> => {
    nowMs = START_MS
    return server.shared
  }
  await ready(await stage.open({ keepMs: 10_000, nowMs: () => nowMs, connect }))
  assert.deepEqual(await spentBy(server.books), [['a', 15n]])
})

test('words that arrived are not told again after their user was forgotten, though the sidecar was killed soon after', async () => {
  const first = await stage.open({ keepMs: 10_000 })
  server.mode = 'deaf'
  await first.remember(said('words'))
  await first.charge(chargeOf('cost', 5n))
  server.mode = 'up'
  await ready(first)
  assert.equal((await server.books.searchMemory(ASKED_OF_ANN)).hits.length, 1)
  await first.forgetUser({ user: 'ann', nowMs: START_MS })
  await first.close()
  const second = await stage.open({ keepMs: 10_000 })
  await ready(second)
  assert.equal(second.standing.replayed, 1, 'the cost')
  assert.deepEqual((await second.searchMemory(ASKED_OF_ANN)).hits, [])
})

test('a sidecar that starts long after it told what it did tells none of it again, and removes it', async () => {
  const clock = { ms: START_MS }
  const first = await stage.open({
    keepMs: 10_000,
    wait: (ms, signal) => sleep(ms, undefined, { signal, ref: false }),
    nowMs: () => clock.ms,
  })
  server.mode = 'deaf'
  await first.reserve({ ...hold('a', 20n), isFirst: true })
  await first.settle(settleStep('a', START_MS, 15n))
  server.mode = 'up'
  await ready(first)
  assert.deepEqual(await spentBy(server.books), [['a', 15n]])
  await first.close()
  assert.equal(readdirSync(stage.folder).length, 1)
  clock.ms += ENDED_OPERATION_LIFE_MS + 12 * 3_600_000
  server.books = openBooks() // as one that has forgotten what ended so long ago
  server.mode = 'deaf'
  const second = await stage.open({ nowMs: () => clock.ms })
  assert.equal(second.standing.unsent, 0)
  server.mode = 'up'
  await ready(second)
  assert.deepEqual(await spentBy(server.books), [])
  await stage.emptied()
})

test('what the store may have entered and forgotten is not told, but reported; what it was never asked is told, however old', async () => {
  const clock = { ms: START_MS }
  const first = await stage.open({ nowMs: () => clock.ms })
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
  const second = await stage.open({ nowMs: () => clock.ms, onTrouble: ({ message }) => told.push(message) })
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
  const first = await stage.open({ nowMs: () => clock.ms })
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
  const second = await stage.open({ nowMs: () => clock.ms, onTrouble: ({ message }) => told.push(message) })
  await ready(second)
  assert.deepEqual(await spentBy(server.books), [])
  assert.equal(told.length, 1)
})

test('a connection that was made again to the same run goes on at once', async () => {
  const store = await stage.open()
  await store.reserve(hold('a', 10n))
  server.restart('first', server.books)
  await store.settle(settleStep('a', START_MS, 10n))
  await ready(store)
  assert.deepEqual(await balanceOf(server.books), { spent: 10n, held: 0n, heldInput: 0n })
})
