import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { DatabaseSync, StatementSync } from 'node:sqlite'
import { createInterface } from 'node:readline'
import { describe, it, mock } from 'node:test'
import { setImmediate as nextTick, setTimeout as delay } from 'node:timers/promises'
import * as fc from 'fast-check'
import type { Rung } from '@farebox/crds/ladder.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { Operation } from '../core/budget.ts'
import { addedOutcomes, NO_OUTCOMES } from '../core/outcomes.ts'
import type { DayOutcomes } from '../core/outcomes.ts'
import { DAY_MS, dayNumber, dayOf, dayText } from '../core/utc-day.ts'
import { openEmbeddedStore } from './embedded.ts'
import { inFolder } from './in-folder.testing.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { BooksFile } from './books-file.ts'
import { Journal, journalParts } from './journal.ts'
import { ModelStore } from './model.testing.ts'
import { storeContract } from './store.contract.ts'
import { CONVERSATION_LIFE_MS, ENDED_OPERATION_LIFE_MS, LEDGER_LIFE_MS_MIN, StoreError } from './store.ts'
import type { BudgetStore, MemoryEntry } from './store.ts'
import { compareAll, played, stepArbitrary } from './schedule.testing.ts'
import { conversationFor, reserveStep, settleStep, START_MS } from './steps.testing.ts'

storeContract('the embedded engine', (nowMs, ledgerLifeMs) => openEmbeddedStore({ file: ':memory:', nowMs, ledgerLifeMs }))

const CUT = { kind: 'cut', id: 'e1', cause: 'Reset', leading: 0, count: 1, originals: 'd', text: 'said', savedBytes: 0 } as const
/** Only its hash is looked at. */
const CONTRACT = { hash: 'k1' } as Contract
const SAID: MemoryEntry = { id: 'm1', conversation: 'A', session: 1, atMs: START_MS, role: 'user', text: 'where is my order' }

/** Rows are written every 250 ms. */
const WRITTEN_MS = 400

async function spentOf(store: BudgetStore, account = 'c:A:1'): Promise<bigint | undefined> {
  return (await store.read({ conversation: 'A', accounts: [account], nowMs: START_MS })).accounts.get(account)?.spent
}

/** The files of an open store as a crash would leave them now; nobody may be writing the tables meanwhile. */
function copyOf(file: string, copy: string): void {
  const parts = readdirSync(dirname(file)).filter((name) => name.startsWith(basename(file)) && !/lock|-shm$/.test(name))
  for (const part of parts) copyFileSync(join(dirname(file), part), copy + part.slice(basename(file).length))
}

const isError =
  (code: StoreError['code'], message: RegExp) =>
  (error: unknown): boolean =>
    error instanceof StoreError && error.code === code && message.test(error.message)

describe('the file of the embedded engine', () => {
  it(
    'holds everything after it is closed and opened again; the holds of the run before are charged',
    inFolder(async (file) => {
      const clock = { ms: START_MS }
      const open = () => openEmbeddedStore({ file, nowMs: () => clock.ms })
      const first = open()
      await first.reserve(reserveStep('o1', clock.ms, { atLeast: 10n, atMost: 10n }))
      await first.reserve(reserveStep('o2', clock.ms, { atLeast: 20n, atMost: 20n }))
      await first.settle(settleStep('o1', clock.ms, 8n, { chain: ['d1'] }))
      await first.close()
      const second = open()
      assert.equal(await spentOf(second), 28n)
      assert.equal(await second.findByChain(['d1'], clock.ms), 'A')
      assert.equal((await second.settle(settleStep('o1', clock.ms, 8n))).result.status, 'exists')
      assert.equal((await second.settle(settleStep('o2', clock.ms, 5n))).result.status, 'corrected')
      assert.equal(await spentOf(second), 13n)
      await second.close()
      const third = open()
      const ledger = await third.readLedger({ afterSequence: 0, limit: 10 })
      assert.deepEqual(
        ledger.map(({ sequence, id, cost }) => [sequence, id, cost]),
        [
          [1, 'o1/settlement', 8n],
          [2, 'o2/expiry', 20n],
          [3, 'o2/correction', -20n],
          [4, 'o2/settlement', 5n],
        ],
      )
      await third.close()
    }),
  )

  it(
    'is what the model says after a crash at any step',
    inFolder(async (_file, folder) => {
      let runs = 0
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.array(stepArbitrary, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 14 }),
          fc.array(fc.boolean(), { minLength: 14, maxLength: 14 }),
          async (batches, waits) => {
            const file = join(folder, `run-${runs++}.sqlite`)
            const clock = { ms: START_MS }
            const model = new ModelStore(() => clock.ms)
            const store = openEmbeddedStore({ file, nowMs: () => clock.ms, writer: 'inline' })
            try {
              for (const [index, batch] of batches.entries()) {
                const steps = batch.map((step) => played(step, model, clock.ms))
                for (const step of steps) step.onModel()
                await Promise.all(steps.map((step) => step.onStore(store)))
                // Some of the rows are in the tables already.
                if (waits[index] === true) await store.readLedger({ afterSequence: 0, limit: 1 })
                clock.ms += 11_000
              }
              copyOf(file, `${file}-copy`)
            } finally {
              await store.close()
            }
            clock.ms += 1_000_000
            model.sweep({ nowMs: clock.ms, limit: 1_000 })
            const again = openEmbeddedStore({ file: `${file}-copy`, nowMs: () => clock.ms })
            try {
              await compareAll(again, model, clock.ms)
            } finally {
              await again.close()
            }
          },
        ),
        { numRuns: 25 },
      )
    }),
  )

  it(
    'has lost nothing that was answered when its process is killed',
    inFolder(async (file) => {
      const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', WORKER, file], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const ended = once(child, 'exit')
      const answered: string[] = []
      for await (const line of createInterface(child.stdout)) {
        answered.push(line)
        if (answered.length === 400) child.kill('SIGKILL')
      }
      await ended
      assert.equal(child.signalCode, 'SIGKILL')
      const store = openEmbeddedStore({ file, nowMs: Date.now })
      const ledger = await store.readLedger({ afterSequence: 0, limit: 10_000 })
      const entered = new Map(ledger.map((entry) => [entry.id, entry.cost]))
      assert.equal(entered.size, ledger.length, 'no entry twice')
      for (const line of answered) {
        const [step, id = ''] = line.split(' ')
        if (step === 'settled') assert.equal(entered.get(`${id}/settlement`), 3n)
        else assert.ok(entered.get(`${id}/settlement`) === 3n || entered.get(`${id}/expiry`) === 5n, `${id} was held: settled or charged`)
      }
      const { accounts } = await store.read({ conversation: 'A', accounts: ['c:A:1'], nowMs: Date.now() })
      assert.deepEqual(accounts.get('c:A:1'), { spent: ledger.reduce((sum, { cost }) => sum + cost, 0n), held: 0n, heldInput: 0n })
      await store.close()
    }),
  )

  it(
    'has lost nothing when its tables are asked for all the while that it is written to',
    inFolder(async (file) => {
      const store = openEmbeddedStore({ file, nowMs: () => START_MS })
      const ids = Array.from({ length: 600 }, (_, index) => `o${index}`)
      const over = new AbortController()
      const readers = Array.from({ length: 4 }, async () => {
        while (!over.signal.aborted) await store.readLedger({ afterSequence: 0, limit: 1 })
      })
      const turns = async (own: readonly string[]): Promise<void> => {
        for (const id of own) {
          await store.reserve(reserveStep(id, START_MS, { atLeast: 1n, atMost: 1n, cap: null }))
          await store.settle(settleStep(id, START_MS, 1n))
        }
      }
      await Promise.all([0, 1, 2].map((part) => turns(ids.filter((_, index) => index % 3 === part))))
      over.abort()
      await Promise.all(readers)
      await store.close()
      const again = openEmbeddedStore({ file, nowMs: () => START_MS })
      const ledger = await again.readLedger({ afterSequence: 0, limit: 10_000 })
      assert.deepEqual(ledger.map(({ id }) => id).toSorted(), ids.map((id) => `${id}/settlement`).toSorted())
      assert.equal(await spentOf(again), 600n)
      await again.close()
    }),
  )

  it(
    'is written by a thread of little memory, however many turns a commit has',
    inFolder(async (file) => {
      const troubles: string[] = []
      const store = openEmbeddedStore({ file, nowMs: () => START_MS, onTrouble: ({ message }) => void troubles.push(message) })
      const turn = async (id: string): Promise<void> => {
        const initial = conversationFor(id, START_MS)
        const reservation = { draws: [{ account: `c:${id}:1`, cap: null }] }
        await store.reserve(reserveStep(id, START_MS, { atLeast: 1n, atMost: 1n }, { conversation: id, initial, reservation }))
        await store.settle(settleStep(id, START_MS, 1n, { conversation: id }))
      }
      for (let tick = 0; tick < 60; tick++) await Promise.all(Array.from({ length: 150 }, (_, index) => turn(`${tick}-${index}`)))
      assert.equal((await store.readLedger({ afterSequence: 8_999, limit: 9 })).length, 1)
      assert.deepEqual(troubles, [])
      await store.close()
    }),
  )

  it(
    'is written by a thread of little memory, however much one step changes, and is all there after a crash',
    inFolder(async (file) => {
      const troubles: string[] = []
      const open = (path: string) =>
        openEmbeddedStore({ file: path, nowMs: () => START_MS, onTrouble: ({ message }) => void troubles.push(message) })
      const store = open(file)
      const chain = Array.from({ length: 60_000 }, (_, index) => `${index}`.padStart(43, 'd'))
      await store.reserve(reserveStep('o1', START_MS, { atLeast: 1n, atMost: 1n }))
      await store.settle(settleStep('o1', START_MS, 1n, { chain }))
      await store.update({ conversation: 'A', change: { addEdits: [{ ...CUT, text: 'y'.repeat(8_000_000) }] }, nowMs: START_MS })
      await store.putContract(CONTRACT)
      copyOf(file, `${file}-copy`)
      for (const path of [file, `${file}-copy`]) {
        const again = path === file ? store : open(path)
        assert.equal((await again.readLedger({ afterSequence: 0, limit: 9 })).length, 1)
        assert.equal(await again.findByChain(chain.slice(-1), START_MS), 'A')
        const { conversation } = await again.read({ conversation: 'A', accounts: [], nowMs: START_MS })
        assert.equal(conversation?.edits[0]?.text.length, 8_000_000)
        assert.deepEqual(await again.getContract(CONTRACT.hash), CONTRACT)
        await again.close()
      }
      assert.deepEqual(troubles, [])
    }),
  )

  it(
    'has nothing of a long commit that a crash cut short, wherever, and goes on from there',
    inFolder(async (file) => {
      const open = (path: string) => openEmbeddedStore({ file: path, nowMs: () => START_MS })
      const store = open(file)
      const chain = Array.from({ length: 30_000 }, (_, index) => `${index}`.padStart(43, 'd'))
      await store.reserve(reserveStep('o1', START_MS, { atLeast: 5n, atMost: 5n }))
      await store.putContract(CONTRACT)
      const before = bytesOf(file)
      await store.settle(settleStep('o1', START_MS, 1n, { chain }))
      const after = bytesOf(file)
      const cuts = [before + 10, before + 700_000, after - 10, after - 1, after]
      for (const bytes of cuts) {
        copyOf(file, `${file}-copy-${bytes}`)
        for (const { path } of journalParts(`${file}-copy-${bytes}`)) truncateSync(path, bytes)
      }
      for (const bytes of cuts) {
        const copy = `${file}-copy-${bytes}`
        const again = open(copy)
        const isThere = bytes === after
        assert.deepEqual(await again.getContract(CONTRACT.hash), CONTRACT, 'the commit before it')
        assert.equal(await spentOf(again), isThere ? 1n : 5n)
        assert.deepEqual(
          await Promise.all([chain.slice(0, 1), chain.slice(-1)].map((digests) => again.findByChain(digests, START_MS))),
          isThere ? ['A', 'A'] : [null, null],
        )
        await again.charge({ operationId: 'x1', accounts: ['c:A:1'], cost: 2n, atMs: START_MS, note: {}, conversation: 'A', change: {} })
        await again.close()
        const third = open(copy)
        assert.equal(await spentOf(third), isThere ? 3n : 7n)
        await third.close()
      }
      await store.close()
    }),
  )

  it(
    'goes on with a part that took the place of a commit that was cut short',
    inFolder(async (file) => {
      await openEmbeddedStore({ file, nowMs: () => START_MS }).close()
      for (const { path } of journalParts(file)) rmSync(path)
      const database = new DatabaseSync(file)
      database.exec("UPDATE meta SET value = 0 WHERE name = 'applied'")
      database.close()
      const lines = (first: number, ...names: string[]): void => {
        const text = names.map((name, index) => {
          const images = [[name, { ...CONTRACT, hash: name }]]
          return `${JSON.stringify({ sequence: first + index, clockMs: START_MS, ...(name.startsWith('cut') ? { goesOn: true } : {}), rows: [['contracts', images]] })}\n`
        })
        writeFileSync(`${file}.commits-${String(first).padStart(16, '0')}`, text.join(''))
      }
      lines(1, 'k1', 'cut 2', 'cut 3')
      lines(2, 'k2', 'k3', 'cut 4')
      const store = openEmbeddedStore({ file, nowMs: () => START_MS })
      for (const name of ['k1', 'k2', 'k3']) assert.deepEqual(await store.getContract(name), { ...CONTRACT, hash: name })
      for (const name of ['cut 2', 'cut 3', 'cut 4']) assert.equal(await store.getContract(name), null)
      await store.close()
    }),
  )

  it(
    'forgets a user of many conversations a few at a time, the memory last, so that it can be told again',
    inFolder(async (file) => {
      const store = openEmbeddedStore({ file, nowMs: () => START_MS })
      const ids = Array.from({ length: 1_500 }, (_, index) => `c${index}`)
      await Promise.all(
        ids.map((id) =>
          store.update({
            conversation: id,
            initial: conversationFor(id, START_MS, { user: 'ann' }),
            change: { addEdits: [CUT] },
            nowMs: START_MS,
          }),
        ),
      )
      const named = { ...SAID, conversation: 'B' }
      await store.update({ conversation: 'B', initial: conversationFor('B', START_MS), change: { addEdits: [CUT] }, nowMs: START_MS })
      await store.remember({ user: 'ann', entries: [named], expiresAtMs: START_MS + 1_000, nowMs: START_MS })
      const memory = async () => (await store.searchMemory({ user: 'ann', query: '', limit: 9, nowMs: START_MS })).hits
      assert.equal((await memory()).length, 1)

      // oxlint-disable-next-line typescript/unbound-method -- it is given its journal below
      const append = Journal.prototype.append
      const rows: number[] = []
      const appending = mock.method(Journal.prototype, 'append', function (this: Journal, record: Parameters<typeof append>[0]): number {
        rows.push(record.rows.reduce((sum, [, images]) => sum + images.length, 0))
        if (rows.length === 4) throw new Error('the disk is full')
        return append.call(this, record)
      })
      await assert.rejects(store.forgetUser({ user: 'ann', nowMs: START_MS }), isError('away', /disk is full/))
      assert.equal((await memory()).length, 1)
      const forgetting = store.forgetUser({ user: 'ann', nowMs: START_MS })
      let turns = 0
      const isOver = forgetting.then(() => true)
      for (; !(await Promise.race([isOver, nextTick(false)])); turns++) await spentOf(store)
      assert.deepEqual(await forgetting, { entries: 1, conversations: ['B'] })
      appending.mock.restore()
      assert.ok(turns >= 4 && Math.max(...rows) <= 500, `${turns} turns, at most ${Math.max(...rows)} rows a commit`)
      assert.deepEqual(await memory(), [])
      for (const id of [...ids, 'B'])
        assert.deepEqual((await store.read({ conversation: id, accounts: [], nowMs: START_MS })).conversation?.edits, [], id)
      await store.close()
    }),
  )

  it(
    'has its reports read a page in a tick, however many are asked for, and tells all of them',
    inFolder(async (file) => {
      await openEmbeddedStore({ file, nowMs: () => START_MS }).close()
      const database = new DatabaseSync(file)
      const put = (table: string, ...values: (string | number)[]) =>
        database.prepare(`INSERT INTO ${table} VALUES (${values.map(() => '?').join(', ')})`).run(...values)
      const days = Array.from({ length: 35 }, (_, index) => dayText(dayNumber(START_MS) - index))
      const users = new Set<string>()
      database.exec('BEGIN')
      for (const [index, day] of days.entries()) {
        put('tier_days', day, 'pro', 'spent', '7')
        for (let user = 0; user < 300; user++) {
          const id = `${user % 3 === 0 ? '\u{1f600}' : user % 3 === 1 ? '\uffee' : ''}${(user * 7_919 + index * 20) % 900}`
          users.add(id)
          put('tier_users', day, 'pro', id)
        }
      }
      for (let outcome = 0; outcome < 4_500; outcome++)
        put(
          'outcomes',
          `${outcome % 2 === 0 ? '\u{1f600}' : '\uffee'}${outcome}`,
          'pro',
          days[0] ?? '',
          ['started', 'assumed', 'confirmed assumed'][outcome % 3] ?? '',
        )
      for (let index = 0; index < 3_500; index++) {
        const { edits: _edits, readyEdits: _readyEdits, ...state } = conversationFor(`c${index}`, START_MS)
        const drivers = Object.fromEntries(Object.keys(state.drivers).map((name) => [name, '0']))
        put('conversations', index + 1, state.id, JSON.stringify({ ...state, drivers }), START_MS - index, START_MS)
      }
      database.exec('COMMIT')
      database.close()

      const store = openEmbeddedStore({ file, nowMs: () => START_MS })
      const read = () => store.read({ conversation: 'c0', accounts: [], nowMs: START_MS })
      await read()
      const span = { tier: 'pro', fromDay: days.at(-1) ?? '', toDay: days[0] ?? '' }
      const work = rowsReadPerTick()
      const [outcomes, totals, listed, ...perDay] = await Promise.all([
        store.readOutcomes(span),
        store.readTotals(span),
        store.listConversations({ limit: 3_400, nowMs: START_MS }),
        ...days.map((day) => store.readOutcomes({ tier: 'pro', fromDay: day, toDay: day })),
      ])
      const { most, calls } = await work()
      assert.deepEqual(
        [outcomes.started, outcomes.assumed, outcomes.confirmed, outcomes.confirmedAssumed, outcomes.cost],
        [1_500, 1_500, 1_500, 1_500, 245n],
      )
      assert.deepEqual(addedUp(perDay), outcomes)
      assert.deepEqual([totals.users, totals.spent], [users.size, 245n])
      assert.deepEqual(
        listed.map(({ id }) => id),
        Array.from({ length: 3_400 }, (_, index) => `c${index}`),
      )
      assert.ok(most <= 210, `${most} statements in a tick`)
      assert.ok(
        calls.every((sql) => !sql.includes('FROM edits')),
        'no edits are read',
      )
      const again = rowsReadPerTick()
      await read()
      assert.deepEqual((await again()).calls, [], 'what was asked for before the list is still remembered')
      await store.close()
    }),
  )

  it(
    'is refused while another store has it',
    inFolder(async (file) => {
      const store = openEmbeddedStore({ file, nowMs: Date.now })
      assert.throws(() => openEmbeddedStore({ file, nowMs: Date.now }), isError('away', /in use by another process/))
      await store.close()
      await openEmbeddedStore({ file, nowMs: Date.now }).close()
    }),
  )

  it(
    'is refused when it is not ours, damaged, of another format, or cannot be made',
    inFolder(async (file, folder) => {
      assert.throws(() => openEmbeddedStore({ file: join(folder, 'absent', 'x'), nowMs: Date.now }), isError('away', /cannot be used/))
      const other = join(folder, 'other.sqlite')
      const database = new DatabaseSync(other)
      database.exec('CREATE TABLE songs (title TEXT)')
      database.close()
      assert.throws(() => openEmbeddedStore({ file: other, nowMs: Date.now }), isError('corrupt', /another program/))
      const noise = join(folder, 'noise.sqlite')
      writeFileSync(noise, 'not a database at all, but long enough to be looked at '.repeat(200))
      assert.throws(() => openEmbeddedStore({ file: noise, nowMs: Date.now }), isError('corrupt', /damaged or not a Farebox store/))
      await openEmbeddedStore({ file, nowMs: Date.now }).close()
      const newer = new DatabaseSync(file)
      newer.exec('PRAGMA user_version = 99')
      newer.close()
      assert.throws(() => openEmbeddedStore({ file, nowMs: Date.now }), isError('corrupt', /format 99/))
    }),
  )

  it(
    'is read when an earlier version wrote it, which knew no memory, no spending by user, and less of a conversation',
    inFolder(async (file) => {
      const clock = { ms: START_MS }
      const note = { tier: 'pro', user: 'ann' }
      const first = openEmbeddedStore({ file, nowMs: () => clock.ms })
      const change = { resolution: { kind: 'confirmed', atMs: START_MS }, addUserTurn: true } as const
      await first.reserve(reserveStep('o1', clock.ms, { atLeast: 5n, atMost: 5n }, { change }))
      await first.settle(settleStep('o1', clock.ms, 5n))
      await first.addOutcome({ key: 'A/1/confirmed', tier: 'pro', atMs: clock.ms, kind: 'confirmed', note: {} })
      await first.close()
      await openEmbeddedStore({ file, nowMs: () => clock.ms }).close() // its journal is in the tables
      const database = new DatabaseSync(file)
      database.exec(`
        DROP TABLE memory; DROP TABLE memory_users; DROP TABLE memory_words; DROP TABLE user_days;
        DROP INDEX conversations_awaiting; DROP INDEX conversations_lone; DROP INDEX conversations_by_user;
        UPDATE conversations SET state = json_remove(state, '$.userTurns', '$.resolvedAtMs', '$.stateAtMs', '$.boundaryAtMs', '$.userAlerts', '$.earlierAlerts')`)
      database.close()
      const store = openEmbeddedStore({ file, nowMs: () => clock.ms })
      const { conversation } = await store.read({ conversation: 'A', accounts: [], nowMs: clock.ms })
      const { userTurns, resolution, resolvedAtMs, turns, stateAtMs, boundaryAtMs, userAlerts, earlierAlerts } = conversation ?? {}
      assert.deepEqual([turns, userTurns, resolution, resolvedAtMs], [1, 0, 'confirmed', null])
      assert.deepEqual([stateAtMs, boundaryAtMs, userAlerts, earlierAlerts], [null, null, null, []])
      await store.update({ conversation: 'A', change: { resolution: { kind: 'reversed', atMs: 1 }, addUserTurn: true }, nowMs: clock.ms })
      await store.update({ conversation: 'A', change: { turnAtMs: clock.ms }, nowMs: clock.ms })
      const [quiet] = await store.listQuiet({ tiers: ['pro'], quietSinceMs: clock.ms + 1, limit: 9, nowMs: clock.ms })
      assert.deepEqual([quiet?.turns, quiet?.userTurns, quiet?.resolvedAtMs], [2, 1, 1])
      await store.charge({ operationId: 'x1', accounts: ['w'], cost: 3n, atMs: clock.ms, note, conversation: 'A', change: {} })
      const today = { tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24' }
      assert.equal((await store.readOutcomes(today)).confirmed, 1)
      assert.equal((await store.readUsers({ ...today, timesMedian: 2, atLeast: [], limit: 0 })).spent, 3n)
      await store.remember({ user: 'ann', entries: [SAID], expiresAtMs: clock.ms + 1, nowMs: clock.ms })
      assert.deepEqual((await store.searchMemory({ user: 'ann', query: '', limit: 9, nowMs: clock.ms })).hits, [SAID])
      await store.close()
    }),
  )

  it(
    'has nothing left of a text once its user is forgotten, or its time is over',
    inFolder(async (file, folder) => {
      const clock = { ms: START_MS }
      const open = () => openEmbeddedStore({ file, nowMs: () => clock.ms })
      const entries = Array.from({ length: 300 }, (_, index) => ({
        ...SAID,
        id: `m${index}`,
        text: `zanzibar ${index} ${'x'.repeat(200)}`,
      }))
      const cut = { kind: 'cut', id: 'e1', cause: 'Reset', leading: 0, count: 1, originals: 'd', text: 'zanzibar', savedBytes: 0 } as const
      for (const end of ['forgotten', 'over'] as const) {
        const first = open()
        const initial = conversationFor(end, clock.ms, { user: 'ann' })
        await first.remember({ user: 'ann', entries, expiresAtMs: clock.ms + 1_000, nowMs: clock.ms })
        const change = end === 'forgotten' ? { addEdits: [cut] } : {}
        await first.update({ conversation: end, initial, change, nowMs: clock.ms })
        assert.equal((await first.searchMemory({ user: 'ann', query: 'zanzibar', limit: 1, nowMs: clock.ms })).hits.length, 1)
        if (end === 'forgotten') assert.equal((await first.forgetUser({ user: 'ann', nowMs: clock.ms })).entries, 300)
        else {
          clock.ms += 3_600_000
          await first.sweep({ nowMs: clock.ms, limit: 1 })
          for (let tries = 0; rowsOf(file)['memory'] !== 0; tries++) {
            assert.ok(tries < 100, 'rows are left')
            await delay(20)
          }
        }
        await first.close()
        await open().close() // what is left of the journal is deleted
        for (const name of readdirSync(folder))
          assert.ok(!readFileSync(join(folder, name)).includes('zanzibar'), `${name} has a text that is ${end}`)
      }
    }),
  )

  it(
    'forgets what is quoted in a conversation that only the memory names, though both are from an earlier run',
    inFolder(async (file, folder) => {
      const open = () => openEmbeddedStore({ file, nowMs: () => START_MS })
      const cut = { kind: 'cut', id: 'e1', cause: 'Reset', leading: 0, count: 1, originals: 'd', text: 'zanzibar', savedBytes: 0 } as const
      const quote = { conversation: 'A', initial: conversationFor('A', START_MS), change: { addEdits: [cut] }, nowMs: START_MS }
      const first = open()
      await first.update(quote)
      await first.remember({ user: 'ann', entries: [{ ...SAID, conversation: 'A' }], expiresAtMs: START_MS + 1_000, nowMs: START_MS })
      await first.close()
      const second = open()
      assert.deepEqual(await second.forgetUser({ user: 'ann', nowMs: START_MS }), { entries: 1, conversations: ['A'] })
      assert.deepEqual((await second.read({ conversation: 'A', accounts: [], nowMs: START_MS })).conversation?.edits, [])
      await second.close()
      const third = open()
      assert.deepEqual((await third.read({ conversation: 'A', accounts: [], nowMs: START_MS })).conversation?.edits, [])
      await third.close()
      for (const name of readdirSync(folder)) assert.ok(!readFileSync(join(folder, name)).includes('zanzibar'), name)
    }),
  )

  it(
    'tells of a damaged row when the row is asked for',
    inFolder(async (file) => {
      const first = openEmbeddedStore({ file, nowMs: () => START_MS })
      await first.reserve(reserveStep('o1', START_MS, { atLeast: 1n, atMost: 1n }))
      await first.close()
      const database = new DatabaseSync(file)
      database.exec(`UPDATE conversations SET state = '{"cut'`)
      database.close()
      const store = openEmbeddedStore({ file, nowMs: () => START_MS })
      await assert.rejects(store.read({ conversation: 'A', accounts: [], nowMs: START_MS }), isError('corrupt', /damaged/))
      await store.close()
    }),
  )

  it(
    'tells of the holds of an earlier run that it charges, once',
    inFolder(async (file) => {
      const expired: string[] = []
      const onExpired = (operations: readonly Operation[]): void => void expired.push(...operations.map(({ id, hold }) => `${id} ${hold}`))
      const open = () => openEmbeddedStore({ file, nowMs: () => START_MS, onExpired })
      const first = open()
      for (const id of ['ended', 'left']) await first.reserve(reserveStep(id, START_MS, { atLeast: 3n, atMost: 3n }))
      await first.settle(settleStep('ended', START_MS, 2n))
      await first.close()
      for (let run = 0; run < 2; run++) await open().close()
      assert.deepEqual(expired, ['left 3'])
    }),
  )

  it(
    'keeps the clock over a restart at which the wall clock is set back',
    inFolder(async (file) => {
      const clock = { ms: START_MS }
      const first = openEmbeddedStore({ file, nowMs: () => clock.ms })
      await first.reserve(reserveStep('o0', clock.ms, { atLeast: 1n, atMost: 1n }))
      await first.settle(settleStep('o0', clock.ms, 1n, { chain: ['d1'] }))
      await first.close()
      clock.ms -= 3_600_000
      const second = openEmbeddedStore({ file, nowMs: () => clock.ms })
      await second.reserve(reserveStep('o1', clock.ms, { atLeast: 1n, atMost: 1n }))
      clock.ms += 89_999
      assert.equal((await second.sweep({ nowMs: clock.ms, limit: 1 })).expired.length, 0)
      clock.ms += 1
      assert.equal((await second.sweep({ nowMs: clock.ms, limit: 1 })).expired.length, 1)
      clock.ms += CONVERSATION_LIFE_MS - 90_000
      assert.equal(await second.findByChain(['d1'], clock.ms), 'A')
      clock.ms += 1
      assert.equal(await second.findByChain(['d1'], clock.ms), null)
      await second.close()
    }),
  )

  it(
    'goes by the wall clock for days and for the age of entries, though it was once far ahead',
    inFolder(async (file) => {
      const clock = { ms: START_MS }
      const open = () => openEmbeddedStore({ file, nowMs: () => clock.ms, writer: 'inline', ledgerLifeMs: LEDGER_LIFE_MS_MIN })
      let turns = 0
      const turn = async (store: BudgetStore): Promise<void> => {
        const id = `o${turns++}`
        const initial = conversationFor(id, clock.ms)
        const reservation = { draws: [{ account: `c:${id}:1`, cap: null }], note: { tier: 'pro' } }
        await store.reserve(reserveStep(id, clock.ms, { atLeast: 5n, atMost: 5n }, { conversation: id, initial, reservation }))
        const step = settleStep(id, clock.ms, 5n, { conversation: id })
        await store.settle({ ...step, settlement: { ...step.settlement, note: { tier: 'pro', user: 'ann' } } })
        await store.addOutcome({ key: `${id}/1/started`, tier: 'pro', atMs: clock.ms, kind: 'started', note: {} })
      }
      const first = open()
      await turn(first)
      clock.ms += 450 * DAY_MS // before the host has the time
      for (let index = 0; index < 250; index++) await turn(first)
      clock.ms -= 450 * DAY_MS
      await first.close()
      const store = open()
      await turn(store)
      await turn(store)
      const today = { tier: 'pro', fromDay: dayOf(clock.ms), toDay: dayOf(clock.ms) }
      const told = async (days = today): Promise<unknown[]> => {
        const [totals, outcomes, users] = [
          await store.readTotals(days),
          await store.readOutcomes(days),
          await store.readUsers({ ...days, timesMedian: 2, atLeast: [], limit: 0 }),
        ]
        return [totals.turns, totals.spent, outcomes.started, outcomes.cost, users.spent]
      }
      assert.deepEqual(await told(), [3, 15n, 3, 15n, 15n])
      const sweep = async (): Promise<void> => {
        await store.sweep({ nowMs: clock.ms, limit: 9 })
        for (let ticks = 0; ticks < 60; ticks++) await nextTick()
      }
      const places = async (): Promise<readonly number[]> =>
        (await store.readLedger({ afterSequence: 0, limit: 1_000 })).map(({ sequence }) => sequence)
      const all = await places()
      assert.equal(all.length, 506)
      await sweep()
      assert.deepEqual(await told(), [3, 15n, 3, 15n, 15n])
      assert.deepEqual(await places(), all)

      clock.ms += LEDGER_LIFE_MS_MIN
      await turn(store)
      await sweep()
      assert.deepEqual(await places(), [...all, 507, 508], 'none is older than it must be')
      clock.ms += 3_600_001
      await sweep()
      assert.deepEqual(await places(), [507, 508], 'of those that are dated ahead none outlives the ones after it')
      await store.close()
    }),
  )

  it(
    'counts rungs and sessions to days of the wall clock, though it was once far ahead',
    inFolder(async (file) => {
      const clock = { ms: START_MS + 10 * DAY_MS } // before the host has the time
      const open = () => openEmbeddedStore({ file, nowMs: () => clock.ms, writer: 'inline' })
      const first = open()
      await first.putContract(CONTRACT)
      await first.close()
      clock.ms = START_MS
      const store = open()
      const rising = (rung: Rung) => ({ addRungs: { rungs: [rung], reason: 'threshold' } }) as const
      await store.reserve(reserveStep('o1', clock.ms, { atLeast: 40n, atMost: 40n }, { change: rising('DropRetrieval') }))
      await store.settle(settleStep('o1', clock.ms, 30n, { change: rising('Summarize') }))
      await store.update({ conversation: 'A', change: rising('DowngradeModel'), nowMs: clock.ms })
      const fact = { cost: 5_000n, atMs: clock.ms, note: { tier: 'pro' }, conversation: 'A', change: rising('RefuseTools') }
      await store.charge({ operationId: 'x1', accounts: ['c:B:1'], ...fact })
      const told = async (fromMs: number, toMs = fromMs): Promise<unknown> => {
        const { risen, costs } = await store.readTotals({ tier: 'pro', fromDay: dayOf(fromMs), toDay: dayOf(toMs) })
        return [Object.values(risen), [...costs.values()]]
      }
      const today = [
        [1, 1, 1, 1, 0],
        [1, 1],
      ]
      const none = [[0, 0, 0, 0, 0], []]
      assert.deepEqual(await told(START_MS), today)
      assert.deepEqual(await told(START_MS + DAY_MS, START_MS + 11 * DAY_MS), none)

      clock.ms += DAY_MS
      await store.reserve(reserveStep('o2', clock.ms, { atLeast: 20n, atMost: 20n }, { change: rising('EndConversation') }))
      await store.void({ operationId: 'o2', atMs: clock.ms })
      assert.deepEqual(await told(START_MS), today, 'a session counts where it began')
      assert.deepEqual(await told(clock.ms), [[0, 0, 0, 0, 1], []])
      await store.close()
    }),
  )

  it(
    'loses the rows that outlived their life, and no ledger entry of a ledger that is kept for good',
    inFolder(async (file) => {
      const clock = { ms: START_MS }
      const store = openEmbeddedStore({ file, nowMs: () => clock.ms })
      for (const id of ['o1', 'o2']) {
        await store.reserve(reserveStep(id, clock.ms, { atLeast: 1n, atMost: 1n }))
        await store.settle(settleStep(id, clock.ms, 1n, { chain: [`d-${id}`] }))
      }
      await delay(WRITTEN_MS)
      clock.ms += CONVERSATION_LIFE_MS + 1
      const initial = { ...reserveStep('o3', clock.ms, { atLeast: 1n, atMost: 1n }).initial, id: 'B' }
      const draws = [{ account: 'c:B:1', cap: null }]
      await store.reserve(reserveStep('o3', clock.ms, { atLeast: 1n, atMost: 1n }, { conversation: 'B', initial, reservation: { draws } }))
      await store.sweep({ nowMs: clock.ms, limit: 1 })
      await delay(WRITTEN_MS)
      await store.close()
      assert.deepEqual(rowsOf(file), { operations: 1, accounts: 1, conversations: 1, chain: 0, ledger: 2, memory: 0 })
    }),
  )

  it(
    'has carried entries over after a crash, though no table had heard of it',
    inFolder(async (file) => {
      const clock = { ms: START_MS }
      const open = (path: string) =>
        openEmbeddedStore({ file: path, nowMs: () => clock.ms, writer: 'inline', ledgerLifeMs: LEDGER_LIFE_MS_MIN })
      const store = open(file)
      const charge = (id: string) =>
        store.charge({ operationId: id, accounts: ['c:A:1'], cost: 5n, atMs: clock.ms, note: {}, conversation: 'A', change: {} })
      for (let month = 0; month < 4; month++) {
        await charge(`x${month}`)
        clock.ms += 30 * DAY_MS
      }
      const broken = failing(/^DELETE FROM ledger/)
      await store.sweep({ nowMs: clock.ms, limit: 1 })
      await delay(WRITTEN_MS)
      assert.ok(broken.mock.callCount() > 0)
      assert.equal(rowsOf(file)['ledger'], 4)
      copyOf(file, `${file}-copy`)
      broken.mock.restore()
      for (const path of [file, `${file}-copy`]) {
        const again = path === file ? store : open(path)
        const ledger = await again.readLedger({ afterSequence: 0, limit: 9 })
        assert.deepEqual(
          ledger.map(({ sequence, kind, cost }) => [sequence, kind, cost]),
          [
            [1, 'carried', 10n],
            [3, 'cost', 5n],
            [4, 'cost', 5n],
          ],
        )
        assert.equal((await again.read({ conversation: 'A', accounts: ['c:A:1'], nowMs: clock.ms })).accounts.get('c:A:1')?.spent, 20n)
        await again.close()
      }
    }),
  )

  it(
    'knows a cost of the app for 35 days, and nothing of it after that',
    inFolder(async (file) => {
      const clock = { ms: START_MS }
      const store = openEmbeddedStore({ file, nowMs: () => clock.ms })
      const charge = () =>
        store.charge({ operationId: 'x1', accounts: ['c:A:1'], cost: 5n, atMs: clock.ms, note: {}, conversation: 'A', change: {} })
      await charge()
      await store.reserve(reserveStep('free', clock.ms, { atLeast: 0n, atMost: 0n }))
      await store.settle(settleStep('free', clock.ms, 0n))
      for (const day of [2, 33]) {
        await delay(WRITTEN_MS)
        clock.ms += day * DAY_MS
        await store.sweep({ nowMs: clock.ms, limit: 1 })
        await waitFor('what has outlived its life is dropped', () => rowsOf(file)['operations'] === 1)
        assert.equal(await charge(), 'exists')
      }
      clock.ms += 1
      for (let hours = 0; hours < 2; hours++) {
        await store.sweep({ nowMs: clock.ms, limit: 1 })
        await delay(WRITTEN_MS)
        clock.ms += 3_600_000
      }
      await waitFor('what has outlived its life is dropped', () => rowsOf(file)['operations'] === 0)
      assert.equal(await charge(), 'charged')
      await store.close()
    }),
  )

  it(
    'knows an operation for a day after it ended',
    inFolder(async (file) => {
      const clock = { ms: START_MS }
      const store = openEmbeddedStore({ file, nowMs: () => clock.ms })
      await store.reserve(reserveStep('o1', clock.ms, { atLeast: 1n, atMost: 1n }))
      await store.void({ operationId: 'o1', atMs: clock.ms })
      await delay(WRITTEN_MS)
      clock.ms += ENDED_OPERATION_LIFE_MS
      await store.sweep({ nowMs: clock.ms, limit: 1 })
      await delay(WRITTEN_MS)
      assert.equal((await store.settle(settleStep('o1', clock.ms, 1n))).result.status, 'exists')
      clock.ms += ENDED_OPERATION_LIFE_MS
      await store.sweep({ nowMs: clock.ms, limit: 1 })
      await delay(WRITTEN_MS)
      await store.close()
      assert.equal(rowsOf(file)['operations'], 0)
    }),
  )
})

describe('a commit of the embedded engine', () => {
  it(
    'that fails answers all its steps with StoreError and changes nothing',
    inFolder(async (file) => {
      const store = openEmbeddedStore({ file, nowMs: () => START_MS })
      await store.reserve(reserveStep('o1', START_MS, { atLeast: 10n, atMost: 10n }))
      const broken = mock.method(Journal.prototype, 'append', () => {
        throw Object.assign(new Error('no space left: the disk is full'), { code: 'ENOSPC' })
      })
      const steps = [
        store.settle(settleStep('o1', START_MS, 9n)),
        store.reserve(reserveStep('o2', START_MS, { atLeast: 10n, atMost: 10n })),
        store.renew(['o1'], START_MS + 1_000_000),
      ]
      const answers = await Promise.allSettled(steps)
      broken.mock.restore()
      for (const answer of answers)
        assert.ok(answer.status === 'rejected' && isError('away', /disk is full/)(answer.reason), 'each step is refused')
      const { accounts } = await store.read({ conversation: 'A', accounts: ['c:A:1'], nowMs: START_MS })
      assert.deepEqual(accounts.get('c:A:1'), { spent: 0n, held: 10n, heldInput: 0n })
      assert.equal((await store.settle(settleStep('o2', START_MS, 1n))).result.status, 'unknown')
      assert.equal((await store.settle(settleStep('o1', START_MS, 9n))).result.status, 'settled')
      assert.equal(await spentOf(store), 9n)
      await store.close()
      const again = openEmbeddedStore({ file, nowMs: () => START_MS })
      assert.deepEqual(
        (await again.readLedger({ afterSequence: 0, limit: 9 })).map(({ id }) => id),
        ['o1/settlement'],
      )
      await again.close()
    }),
  )

  it(
    'that fails is told as the standing of the store, once, until one that is tried for it holds',
    inFolder(async (file) => {
      const said: (string | null)[] = []
      const store = openEmbeddedStore({ file, nowMs: () => START_MS, onStanding: (failure) => said.push(failure?.message ?? null) })
      const noRoom = (): never => {
        throw Object.assign(new Error('no space left'), { code: 'ENOSPC' })
      }
      const broken = mock.method(Journal.prototype, 'append', noRoom)
      const ask = (id: string) => store.reserve(reserveStep(id, START_MS, { atLeast: 10n, atMost: 10n }))
      for (const id of ['o1', 'o2']) await assert.rejects(ask(id), isError('away', /no space left/))
      await assert.rejects(store.settle(settleStep('o1', START_MS, -1n)), RangeError)
      assert.deepEqual(said, [`${file} cannot be used: no space left`])
      const full = mock.method(Journal.prototype, 'assertRoom', noRoom)
      broken.mock.restore()
      await waitFor('a try', () => full.mock.callCount() > 0)
      assert.equal(said.length, 1, 'a page that was begun may take a short commit, and no turn')
      full.mock.restore()
      await waitFor('the next try', () => said.length > 1)
      assert.equal((await ask('o3')).status, 'held')
      await store.close()
      assert.deepEqual(said.slice(1), [null])
      const again = openEmbeddedStore({ file, nowMs: () => START_MS })
      assert.equal(await spentOf(again), 10n, 'what was committed for nothing is no gap')
      await again.close()
    }),
  )

  it(
    'that holds, while none fails, ends the standing too, though the file system has less room than is asked of it for nothing',
    inFolder(async (file) => {
      const said: (string | null)[] = []
      const store = openEmbeddedStore({ file, nowMs: () => START_MS, onStanding: (failure) => said.push(failure?.message ?? null) })
      const noRoom = (): never => {
        throw Object.assign(new Error('no space left'), { code: 'ENOSPC' })
      }
      const tries = mock.method(Journal.prototype, 'assertRoom', noRoom).mock
      const broken = mock.method(Journal.prototype, 'append', noRoom)
      const ask = (id: string) => store.reserve(reserveStep(id, START_MS, { atLeast: 10n, atMost: 10n }))
      const nextTry = async (): Promise<void> => {
        const before = tries.callCount()
        await waitFor('a try', () => tries.callCount() > before)
      }
      await assert.rejects(ask('o1'), isError('away', /no space left/))
      broken.mock.restore()
      await ask('o2')
      await nextTry()
      assert.equal(said.length, 1, 'one held, but another failed')
      await store.renew(['unknown'], START_MS)
      await nextTry()
      assert.equal(said.length, 1, 'a step that changes nothing is no sign')
      await ask('o3')
      await waitFor('the next try', () => said.length > 1)
      assert.deepEqual(said.slice(1), [null])
      tries.restore()
      await store.close()
    }),
  )

  it(
    'whose memory cannot be read again is told as the standing of the store, though no commit failed',
    inFolder(async (file) => {
      const said: (string | null)[] = []
      const store = openEmbeddedStore({ file, nowMs: () => START_MS, onStanding: (failure) => said.push(failure?.message ?? null) })
      const broken = brokenReads(/FROM accounts/, 'c:A:1', 'disk I/O error')
      const unread = mock.method(BooksFile.prototype, 'recover', () => Promise.reject(new Error('disk I/O error')))
      const ask = (id: string) => store.reserve(reserveStep(id, START_MS, { atLeast: 10n, atMost: 10n }))
      for (const id of ['o1', 'o2']) await assert.rejects(ask(id), isError('away', /disk I\/O error/))
      assert.deepEqual(said, [`${file} cannot be used: disk I/O error`])
      broken()
      unread.mock.restore()
      await waitFor('the next try', () => said.length > 1)
      assert.equal(said[1], null)
      assert.equal((await ask('o3')).status, 'held')
      await store.close()
    }),
  )

  it(
    'has nothing of a step that failed in the middle, whatever failed, nor of the others of its turn',
    inFolder(async (file) => {
      const store = openEmbeddedStore({ file, nowMs: () => START_MS, writer: 'inline' })
      await store.reserve(reserveStep('o1', START_MS, { atLeast: 10n, atMost: 10n }))
      await store.close()
      const again = openEmbeddedStore({ file, nowMs: () => START_MS, writer: 'inline' })
      assert.equal(await spentOf(again), 10n)
      const failed = 'unable to read: disk I/O error'
      const broken = brokenReads(/FROM accounts/, 'c:B:1', failed)
      const draws = ['c:A:1', 'c:B:1'].map((account) => ({ account, cap: null }))
      const answers = await Promise.allSettled([
        again.charge({ operationId: 'x1', accounts: ['c:A:1'], cost: 1n, atMs: START_MS, note: {}, conversation: 'A', change: {} }),
        again.settle(settleStep('o1', START_MS, 4n, { alerts: { draws, percents: [] } })),
      ])
      for (const answer of answers) assert.ok(answer.status === 'rejected' && isError('away', /disk I\/O error/)(answer.reason))
      broken()
      assert.equal((await again.settle(settleStep('o1', START_MS, 4n, { alerts: { draws, percents: [] } }))).result.status, 'corrected')
      assert.equal(await spentOf(again), 4n)
      const ledger = await again.readLedger({ afterSequence: 0, limit: 9 })
      assert.deepEqual(
        ledger.map(({ id, cost }) => [id, cost]),
        [
          ['o1/expiry', 10n],
          ['o1/correction', -10n],
          ['o1/settlement', 4n],
        ],
      )
      await again.close()
      await assert.rejects(again.putContract(CONTRACT), isError('closed', /closed/))
    }),
  )

  it(
    'answers a step that asks for too much by itself: the others of its turn hold',
    inFolder(async (file) => {
      const store = openEmbeddedStore({ file, nowMs: () => START_MS })
      const [first, refused, second] = await Promise.allSettled([
        store.reserve(reserveStep('o1', START_MS, { atLeast: 10n, atMost: 10n })),
        store.settle(settleStep('o1', START_MS, -1n)),
        store.settle(settleStep('o1', START_MS, 4n)),
      ])
      assert.equal(first.status, 'fulfilled')
      assert.ok(refused.status === 'rejected' && refused.reason instanceof RangeError)
      assert.equal(second.status, 'fulfilled')
      assert.equal(await spentOf(store), 4n)
      await store.close()
    }),
  )

  it(
    'stands, though its rows cannot be written to their tables for a while',
    inFolder(async (file) => {
      const troubles: string[] = []
      const onTrouble = ({ message }: StoreError): void => void troubles.push(message)
      const store = openEmbeddedStore({ file, nowMs: () => START_MS, writer: 'inline', onTrouble })
      const broken = failing(/^INSERT OR REPLACE INTO accounts/)
      await store.reserve(reserveStep('o1', START_MS, { atLeast: 10n, atMost: 10n }))
      await delay(WRITTEN_MS)
      assert.ok(broken.mock.callCount() > 0)
      assert.match(troubles.join('\n'), /disk is full/)
      await assert.rejects(store.readLedger({ afterSequence: 0, limit: 1 }), isError('away', /disk is full/))
      assert.equal((await store.settle(settleStep('o1', START_MS, 4n))).result.status, 'settled')
      broken.mock.restore()
      assert.equal((await store.readLedger({ afterSequence: 0, limit: 9 })).length, 1)
      assert.equal(await spentOf(store), 4n)
      await store.close()
      const again = openEmbeddedStore({ file, nowMs: () => START_MS })
      assert.equal(await spentOf(again), 4n)
      await again.close()
    }),
  )

  it(
    'is answered in the turn of the event loop after it was asked for, all steps together',
    inFolder(async (file) => {
      const store = openEmbeddedStore({ file, nowMs: () => START_MS })
      const append = mock.method(Journal.prototype, 'append')
      await Promise.all(
        Array.from({ length: 20 }, (_, index) => store.reserve(reserveStep(`o${index}`, START_MS, { atLeast: 1n, atMost: 1n }))),
      )
      assert.equal(append.mock.callCount(), 1)
      append.mock.restore()
      await store.close()
    }),
  )
})

/** From now on such a statement fails for this key; until what is returned is called. */
function brokenReads(sql: RegExp, key: string, message: string): () => void {
  // oxlint-disable-next-line typescript/unbound-method -- it is given its statement below
  const get = StatementSync.prototype.get
  const broken = mock.method(StatementSync.prototype, 'get', function (this: StatementSync, ...values: (string | number | null)[]) {
    if (isOf(this, sql) && values[0] === key) throw Object.assign(new Error(message), { errcode: 10 })
    return Reflect.apply(get, this, values)
  })
  return () => broken.mock.restore()
}

/** From now on statements that read are counted, by the turn of the event loop. */
function rowsReadPerTick(): () => Promise<{ readonly most: number; readonly calls: readonly string[] }> {
  const calls: string[] = []
  const mocks = (['get', 'all'] as const).map((name) => {
    // oxlint-disable-next-line typescript/unbound-method -- it is given its statement below
    const read = StatementSync.prototype[name]
    return mock.method(StatementSync.prototype, name, function (this: StatementSync, ...values: (string | number | null)[]) {
      calls.push(this.sourceSQL)
      return Reflect.apply(read as (...keys: (string | number | null)[]) => unknown, this, values)
    })
  })
  const over = new AbortController()
  let most = 0
  const counting = (async () => {
    for (let before = 0; !over.signal.aborted; before = calls.length) {
      await nextTick()
      most = Math.max(most, calls.length - before)
    }
  })()
  return async () => {
    over.abort()
    await counting
    for (const { mock: read } of mocks) read.restore()
    return { most, calls }
  }
}

function addedUp(days: readonly DayOutcomes[]): DayOutcomes {
  return days.reduce(addedOutcomes, NO_OUTCOMES)
}

/** Of the journal. */
function bytesOf(file: string): number {
  return journalParts(file).reduce((sum, { path }) => sum + statSync(path).size, 0)
}

/** From now on the disk is full for statements like this. */
function failing(sql: RegExp) {
  // oxlint-disable-next-line typescript/unbound-method -- it is given its statement below
  const run = StatementSync.prototype.run
  return mock.method(StatementSync.prototype, 'run', function (this: StatementSync, ...values: (string | number | null)[]) {
    if (isOf(this, sql)) throw Object.assign(new Error('database or disk is full'), { errcode: 13 })
    return Reflect.apply(run, this, values)
  })
}

function isOf(statement: unknown, sql: RegExp): boolean {
  return statement instanceof StatementSync && sql.test(statement.sourceSQL)
}

function rowsOf(file: string): Record<string, number> {
  const database = new DatabaseSync(file)
  const counts: Record<string, number> = {}
  for (const table of ['operations', 'accounts', 'conversations', 'chain', 'ledger', 'memory'])
    counts[table] = Number(database.prepare(`SELECT count(*) AS rows FROM ${table}`).get()?.['rows'])
  database.close()
  return counts
}

/** Reserves and settles for ever, many at a time, and says what was answered. */
const WORKER = `
import { openEmbeddedStore } from '${new URL('embedded.ts', import.meta.url).href}'
import { reserveStep, settleStep } from '${new URL('steps.testing.ts', import.meta.url).href}'
const store = openEmbeddedStore({ file: process.argv[1], nowMs: Date.now })
let next = 0
async function turns() {
  for (;;) {
    const id = 'o' + next++
    await store.reserve(reserveStep(id, Date.now(), { atLeast: 5n, atMost: 5n, cap: null }))
    console.log('held ' + id)
    await store.settle(settleStep(id, Date.now(), 3n))
    console.log('settled ' + id)
  }
}
for (let index = 0; index < 7; index++) void turns()
`
