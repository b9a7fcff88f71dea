/** A shared store that goes away: what is granted meanwhile, what arrives when it is back, and what cannot be kept or told. */
import assert from 'node:assert/strict'
import { readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeContract } from '../../../../test/support/make.ts'
import { openEmbeddedStore } from '../embedded.ts'
import { settleStep, START_MS } from '../steps.testing.ts'
import { StoreError } from '../store.ts'
import type { BudgetStore } from '../store.ts'
import { balanceOf, hold, openBooks, ready, spentBy, Stage } from './stage.testing.ts'
import type { Server } from './stage.testing.ts'

let stage: Stage
let server: Server
beforeEach(() => {
  stage = new Stage()
  server = stage.server
})
afterEach(() => stage.close())

test('what was done meanwhile is in the store once, when it is back', async () => {
  const store = await stage.open()
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
  await stage.emptied()
  assert.deepEqual([store.standing.unsent, store.standing.outages], [0, 1])
})

test('an answer that was lost counts once', async () => {
  const store = await stage.open()
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
  const store = await stage.open()
  await store.reserve(hold('known', 0n))
  server.mode = 'deaf'
  assert.equal((await store.reserve(hold('a', 60n))).status, 'held')
  assert.equal((await store.reserve(hold('b', 60n))).status, 'busy', 'there may be more when a has ended')
  await store.settle(settleStep('a', START_MS, 60n))
  await assert.rejects(store.reserve(hold('b', 60n)), { code: 'away' })
  assert.equal((await store.reserve(hold('c', 40n))).status, 'held')
})

test('what was left when it was last seen bounds the allowance, over outages that follow one another', async () => {
  const store = await stage.open()
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
  const store = await stage.open()
  await store.reserve(hold('before', 10n))
  server.mode = 'mute'
  await assert.rejects(store.reserve(hold('lost', 300n)), { code: 'away' })
  assert.equal((await balanceOf(server.books))?.held, 310n)
  server.mode = 'up'
  await ready(store)
  assert.equal((await balanceOf(server.books))?.held, 10n)
})

test('a hold whose answer was lost is had all the same when the store is back before anything was granted here', async () => {
  const store = await stage.open({
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

test('without an allowance nothing new begins, what is under way ends, and a hold whose answer was lost is given back', async () => {
  stage.percent = 0
  const store = await stage.open()
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

test('whether there is a contract that is not known here cannot be told while the store is away', async () => {
  const store = await stage.open()
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

test('a report for which the store takes too long is no outage', async () => {
  const store = await stage.open()
  await store.reserve(hold('o1', 10n))
  server.mode = 'mute'
  const days = { tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24' }
  for (const report of [
    () => store.listConversations({ limit: 5_000, nowMs: START_MS }),
    () => store.listQuiet({ tiers: ['pro'], quietSinceMs: START_MS, limit: 100, nowMs: START_MS }),
    () => store.readLedger({ afterSequence: 0, limit: 1_000 }),
    () => store.listAccounts({ limit: 1_000 }),
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

test('a sidecar that starts while the store is away goes on by itself, and finds it', async () => {
  server.mode = 'deaf'
  const store = await stage.open()
  assert.equal(store.standing.state, 'Away')
  assert.equal((await store.reserve(hold('a', 10n))).status, 'held')
  await store.settle(settleStep('a', START_MS, 10n))
  server.mode = 'up'
  await ready(store)
  assert.deepEqual(await spentBy(server.books), [['a', 10n]])
})

test('where nothing can be kept nothing is granted, and what is under way is tried again', async () => {
  const store = await stage.open()
  await store.reserve(hold('a', 10n))
  rmSync(stage.folder, { recursive: true })
  writeFileSync(stage.folder, 'in the way')
  server.mode = 'deaf'
  await assert.rejects(store.reserve(hold('b', 10n)), { code: 'away', message: /must be a folder where steps can be kept/ })
  await assert.rejects(store.settle(settleStep('a', START_MS, 10n)), { code: 'away' })
  server.mode = 'up'
  await ready(store)
  assert.equal((await store.settle(settleStep('a', START_MS, 10n))).result.status, 'settled')
})

test('where nothing can be kept from the start the store serves all the same, and that is told', async () => {
  writeFileSync(stage.folder, 'in the way')
  const told: string[] = []
  const store = await stage.open({ onTrouble: ({ message }) => told.push(message) })
  assert.equal(store.standing.state, 'Ready')
  assert.equal((await store.reserve(hold('a', 10n))).status, 'held')
  assert.equal(told.length, 1)
  assert.match(told[0] ?? '', /outage \(below FAREBOX_DATA\): must be a folder where steps can be kept .*: EEXIST/)
  rmSync(stage.folder)
})

test('what an earlier run left is told to the store though nothing more can be kept beside it', async () => {
  const first = await stage.open()
  server.mode = 'deaf'
  assert.equal((await first.reserve(hold('left', 10n))).status, 'held')
  await first.settle(settleStep('left', START_MS, 7n))
  await first.close()
  const told: string[] = []
  const openBooks = (): never => {
    throw new StoreError('away', 'no space left')
  }
  const second = await stage.open({ onTrouble: ({ message }) => told.push(message), openBooks })
  assert.deepEqual([second.standing.state, second.standing.unsent, told], ['Away', 2, ['no space left']])
  server.mode = 'up'
  await ready(second)
  assert.deepEqual(await spentBy(server.books), [['left', 7n]])
})

test('where books cannot be opened no call leaves anything behind; when they can be again calls go on, in one folder', async () => {
  const disk = { isFull: true }
  const files: string[] = []
  const store = await stage.open({
    openBooks: (file) => {
      files.push(file)
      if (!disk.isFull) return openBooks()
      writeFileSync(file, 'begun')
      throw new StoreError('away', 'no space left')
    },
  })
  server.mode = 'deaf'
  for (let call = 0; call < 5; call++) await assert.rejects(store.reserve(hold('a', 10n)), { code: 'away', message: /no space left/ })
  assert.deepEqual(readdirSync(stage.folder), [])
  assert.deepEqual([files.length, new Set(files).size], [5, 1])
  disk.isFull = false
  for (const id of ['a', 'b']) {
    assert.equal((await store.reserve(hold(id, 10n))).status, 'held')
    assert.equal(readdirSync(stage.folder).length, 1)
    await store.settle(settleStep(id, START_MS, 10n))
    server.mode = 'up'
    await ready(store)
    await stage.emptied()
    server.mode = 'deaf'
  }
  assert.equal(new Set(files).size, 2, 'each outage has a folder of its own')
})

test('with so much waiting that nothing new is begun that is told once, what is under way ends, and all of it arrives', async () => {
  stage.percent = 100
  const told: string[] = []
  const store = await stage.open({
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
  const { bytes = 0, bytesMax } = store.standing.journal ?? {}
  assert.equal(bytesMax, 5_000)
  assert.ok(bytes > 5_000, `${bytes} bytes`)
  assert.equal(store.standing.isFull, true)
  assert.deepEqual(told, [store.standing.reason])
  await store.settle(settleStep('first', START_MS, 7n))
  server.mode = 'up'
  await ready(store)
  assert.deepEqual([store.standing.isFull, store.standing.reason, store.standing.journal?.bytes], [undefined, null, 0])
  assert.deepEqual(await balanceOf(server.books), { spent: 7n, held: 10n * BigInt(begun), heldInput: 0n })
  await begin()
})

test('steps that cannot be read again are said to be lost, and keep nobody busy', async () => {
  const store = await stage.open()
  server.mode = 'deaf'
  await store.reserve(hold('a', 10n))
  for (const name of readdirSync(stage.folder, { recursive: true, encoding: 'utf8' }))
    if (name.includes('steps.')) truncateSync(join(stage.folder, name))
  server.mode = 'up'
  for (let tries = 0; !/1 steps .* cannot be read/.test(store.standing.reason ?? ''); tries++) {
    assert.ok(tries < 100, `${store.standing.state}: ${store.standing.reason}`)
    await sleep(10)
  }
  assert.notEqual(store.standing.state, 'Ready')
})

test('a closed one says so', async () => {
  const store = await stage.open()
  await store.close()
  await assert.rejects(store.reserve(hold('a', 1n)), { code: 'closed' })
})
