/** What an engine must enter in the ledger, tell of it page by page, and carry over when it grows old. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SequencedEntry } from '../../core/ledger.ts'
import { DAY_MS } from '../../core/utc-day.ts'
import { replay } from '../outage/steps.ts'
import type { OutageStep } from '../outage/steps.ts'
import { CUT } from '../schedule.testing.ts'
import { conversationFor, reserveStep, settleStep, START_MS } from '../steps.testing.ts'
import { LEDGER_LIFE_MS_MIN } from '../store.ts'
import { balance, kinds, listedAccounts, withStoreOf } from './engine.testing.ts'
import type { OpenEmptyStore } from './engine.testing.ts'

/** More than any engine drops in one step. */
const ACCOUNTS = 520

export function ledgerContract(open: OpenEmptyStore): void {
  const withStore = withStoreOf(open)

  it(
    'reads the ledger page by page, in the order of the steps',
    withStore(async (store, clock) => {
      for (let index = 0; index < 7; index++)
        await store.charge({
          operationId: `x${index}`,
          accounts: ['w'],
          cost: BigInt(index),
          atMs: clock.ms - index,
          note: {},
          conversation: 'A',
          change: {},
        })
      const read: bigint[] = []
      let after = 0
      for (;;) {
        const page = await store.readLedger({ afterSequence: after, limit: 3 })
        if (page.length === 0) break
        assert.ok(page.every((entry, index) => entry.sequence > (page[index - 1]?.sequence ?? after)))
        read.push(...page.map((entry) => entry.cost))
        after = page.at(-1)?.sequence ?? after
      }
      assert.deepEqual(read, [0n, 1n, 2n, 3n, 4n, 5n, 6n])
    }),
  )

  it(
    'drops entries that are too old, and carries over what the accounts that live need to be the sum of theirs',
    withStore(async (store, clock) => {
      let charges = 0
      const charge = (...accounts: string[]) =>
        store.charge({
          operationId: `x${++charges}`,
          accounts,
          cost: BigInt(charges),
          atMs: clock.ms,
          note: { tier: 'pro' },
          conversation: 'A',
          change: {},
        })
      const swept = async (isDone: (entries: readonly SequencedEntry[]) => boolean): Promise<readonly SequencedEntry[]> => {
        for (let tries = 0; tries < 200; tries++) {
          await store.sweep({ nowMs: clock.ms, limit: 9 })
          const entries = await store.readLedger({ afterSequence: 0, limit: 1_000 })
          if (isDone(entries)) return entries
          await sleep(10) // an engine may drop them beside its steps
        }
        throw new Error('entries have not been dropped')
      }
      await charge('c:B:1', 'u:ann:May')
      const first = (await store.readLedger({ afterSequence: 0, limit: 1 }))[0]?.sequence
      for (let week = 0; week < 20; week++) {
        await charge('c:A:1', `u:ann:${Math.floor(week / 4)}`)
        await store.sweep({ nowMs: clock.ms, limit: 9 })
        clock.ms += 7 * DAY_MS
      }
      const isOld = ({ atMs }: SequencedEntry): boolean => atMs < clock.ms - LEDGER_LIFE_MS_MIN
      const entries = await swept((all) => all.filter(isOld).length === 1)
      const [carried, ...rest] = entries
      assert.deepEqual([carried?.kind, carried?.accounts, carried?.cost], ['carried', ['c:A:1'], (11n * 12n) / 2n - 1n])
      assert.ok((carried?.sequence ?? 0) > (first ?? 0))
      assert.deepEqual(
        rest.map(({ cost }) => cost),
        [12n, 13n, 14n, 15n, 16n, 17n, 18n, 19n, 20n, 21n],
      )
      assert.ok(entries.every(({ sequence }, index) => sequence > (entries[index - 1]?.sequence ?? 0)))
      assert.equal(new Set(entries.map(({ id }) => id)).size, entries.length)
      const { spent } = (await balance(store, clock)) ?? {}
      assert.equal(
        entries.reduce((sum, { cost }) => sum + cost, 0n),
        spent,
      )
      const { accounts } = await store.read({ conversation: 'A', accounts: [...(await listedAccounts(store))], nowMs: clock.ms })
      assert.ok([...accounts.values()].some((account) => account.spent > 0n))
      for (const [account, balance] of accounts) {
        const own = entries.filter((entry) => entry.accounts.includes(account))
        const sum = own.reduce((total, { cost }) => total + cost, 0n)
        assert.ok(balance.spent === sum || balance.spent === 0n, account)
      }
      const last = entries.at(-1)?.sequence ?? 0
      assert.deepEqual(await store.readLedger({ afterSequence: last, limit: 9 }), [])

      clock.ms += LEDGER_LIFE_MS_MIN
      await charge('c:C:1')
      const after = await swept((all) => all.length === 1)
      assert.deepEqual(after[0]?.accounts, ['c:C:1'])
      assert.ok((after[0]?.sequence ?? 0) > last, 'numbers go on')
      const days = { tier: 'pro', fromDay: '2026-11-24', toDay: '2027-11-24' }
      assert.equal((await store.readTotals(days)).spent, BigInt((charges * (charges + 1)) / 2))
    }, LEDGER_LIFE_MS_MIN),
  )

  it(
    'carries the life of an account that came back by itself, and no outcomes, so that its balance is the sum of what follows',
    withStore(async (store, clock) => {
      const begunMs = clock.ms
      const outcome = { tier: 'pro', kind: 'assumed', note: { conversation: 'A', session: 1 } } as const
      for (const day of [0, 10, 60, 80, 110, 140]) {
        clock.ms = begunMs + day * DAY_MS
        const charge = { operationId: `x${day}`, accounts: ['c:A:1'], cost: 5n, atMs: clock.ms, note: {} }
        await store.charge({ ...charge, conversation: 'A', change: {} })
        if (day === 10) await store.addOutcome({ key: 'A/1/assumed', ...outcome, atMs: clock.ms + 20 * DAY_MS })
      }
      clock.ms = begunMs + 155 * DAY_MS
      const told = async () => {
        await store.sweep({ nowMs: clock.ms, limit: 9 })
        const ledger = await store.readLedger({ afterSequence: 0, limit: 9 })
        return ledger.map(({ kind, cost, atMs }) => [kind, cost, (atMs - begunMs) / DAY_MS])
      }
      for (let tries = 0; tries < 50 && (await told()).length > 4; tries++) await sleep(10) // an engine may drop them beside its steps
      assert.deepEqual(await told(), [
        ['carried', 10n, 10],
        ['carried', 10n, 80],
        ['cost', 5n, 110],
        ['cost', 5n, 140],
      ])
      assert.equal((await balance(store, clock))?.spent, 20n)
    }, LEDGER_LIFE_MS_MIN),
  )

  it(
    'adds up what it carries over for each account, however many take turns, and drops it when they have outlived their lives',
    withStore(async (store, clock) => {
      const names = Array.from({ length: ACCOUNTS }, (_, index) => `c:A${index}:1`)
      const [ending = '', ...staying] = names
      const charge = async (accounts: readonly string[], month: number): Promise<void> => {
        for (let from = 0; from < accounts.length; from += 50)
          await Promise.all(
            accounts.slice(from, from + 50).map((account) => {
              const charged = { operationId: `${account}/${month}`, accounts: [account], cost: 5n, atMs: clock.ms, note: {} }
              return store.charge({ ...charged, conversation: account.slice(2, -2), change: {} })
            }),
          )
      }
      const swept = async (isDone: (ledger: readonly SequencedEntry[]) => boolean): Promise<readonly SequencedEntry[]> => {
        for (let tries = 0; tries < 500; tries++) {
          await store.sweep({ nowMs: clock.ms, limit: 9 })
          const ledger = await store.readLedger({ afterSequence: 0, limit: 10_000 })
          if (isDone(ledger)) return ledger
          await sleep(10) // an engine may drop them beside its steps
        }
        throw new Error('entries have not been carried over')
      }
      const begunMs = clock.ms
      for (let month = 0; month < 6; month++) {
        clock.ms = begunMs + 30 * month * DAY_MS
        await charge(month < 5 ? names : staying, month)
        await store.sweep({ nowMs: clock.ms, limit: 9 })
      }
      // The last two months are young enough. Whose last cost is 41 days ago has outlived its life.
      clock.ms += 11 * DAY_MS
      const ledger = await swept((all) => all.length === 3 * staying.length + 1)
      assert.equal(new Set(ledger.map(({ id }) => id)).size, ledger.length)
      const costs = new Map<string, bigint[]>()
      for (const { accounts, cost } of ledger) for (const account of accounts) costs.set(account, [...(costs.get(account) ?? []), cost])
      for (const account of staying) assert.deepEqual(costs.get(account), [20n, 5n, 5n])
      assert.deepEqual(costs.get(ending), [5n])
      const { accounts } = await store.read({ conversation: 'A', accounts: names, nowMs: clock.ms })
      for (const account of names) assert.equal(accounts.get(account)?.spent, account === ending ? 0n : 30n)

      // None of the entries is older than it may be now, but all accounts have outlived their lives.
      clock.ms += 25 * DAY_MS
      const left = await swept((all) => all.length === 2 * staying.length + 1)
      assert.ok(left.every(({ kind }) => kind === 'cost'))
    }, LEDGER_LIFE_MS_MIN),
  )

  it(
    'lists every account that lives, whatever names it, from one page to the next, also those of other weeks and of earlier sessions',
    withStore(async (store, clock) => {
      const turn = async (conversation: string, session: number, ...others: string[]): Promise<void> => {
        const accounts = [`c:${conversation}:${session}`, ...others]
        const draws = accounts.map((account) => ({ account, cap: null }))
        const id = `${conversation}/${session}/${clock.ms}`
        const seen = session === 1 ? null : { contractHash: 'k1', user: null, session: session - 1 }
        const change = session === 1 ? {} : { openSession: session }
        await store.reserve(
          reserveStep(
            id,
            clock.ms,
            { atLeast: 1n, atMost: 1n },
            {
              conversation,
              initial: conversationFor(conversation, clock.ms),
              seen,
              change,
              reservation: { draws },
            },
          ),
        )
        await store.settle(settleStep(id, clock.ms, 1n, { conversation }))
      }
      const missing = async (expected: readonly string[]): Promise<readonly string[]> => {
        const all = await listedAccounts(store)
        return expected.filter((account) => !all.has(account))
      }
      const begun: string[] = []
      for (let week = 0; week < 5; week++) {
        for (const name of ['x', 'y', 'z']) {
          const own = [`c:${name}${week}:1`, `u:${name}${week}:pro:Week:1`, `w:shop/${name}:Week:${week}`]
          begun.push(...own)
          await turn(`${name}${week}`, 1, ...own.slice(1), 'w:shop/bot:Month:1')
        }
        clock.ms += 7 * DAY_MS - 1
      }
      await turn('x4', 2)
      assert.deepEqual(await missing([...begun, 'c:x4:2', 'w:shop/bot:Month:1']), [])
      await store.forgetUser({ user: 'x4', conversations: ['x4'], nowMs: clock.ms })
      assert.deepEqual(await missing(['c:x4:1', 'c:x4:2', 'u:x4:pro:Week:1']), [])
      // Whose life is over is zero, listed or not.
      clock.ms += 20 * DAY_MS
      await turn('x0', 1, 'u:x0:pro:Week:9')
      const { accounts } = await store.read({ conversation: '', accounts: [...(await listedAccounts(store))], nowMs: clock.ms })
      const living = [...accounts].filter(([, { spent }]) => spent !== 0n).map(([account]) => account)
      const recent = begun.filter((account) => /[34]/.test(account))
      assert.deepEqual(living.toSorted(), [...recent, 'c:x4:2', 'w:shop/bot:Month:1', 'c:x0:1', 'u:x0:pro:Week:9'].toSorted())
    }),
  )

  it('is not opened with a ledger that forgets what balances need', async () => {
    await assert.rejects(async () => open(() => START_MS, LEDGER_LIFE_MS_MIN - 1), RangeError)
  })

  it(
    'takes every text that a client or a provider may choose, also one that is half a character',
    withStore(async (store, clock) => {
      const half = 'gpt\ud83d"user":"eve"'
      const note = { conversation: 'A', session: 1, user: 'ann', tier: 'pro', model: half, label: half }
      const hold = (id: string) =>
        reserveStep(id, clock.ms, { atLeast: 10n, atMost: 10n, cap: null }, { reservation: { note }, seen: conversationFor('A', START_MS) })
      const settle = (id: string, cost: bigint) => {
        const step = settleStep(id, clock.ms, cost)
        return { ...step, settlement: { ...step.settlement, note } }
      }
      for (const id of ['o1', 'o2', 'o3', 'o4']) assert.equal((await store.reserve(hold(id))).status, 'held')
      assert.equal((await store.settle(settle('o1', 14n))).result.status, 'settled')
      clock.ms += 90_000
      const swept = await store.sweep({ nowMs: clock.ms, limit: 9 })
      assert.deepEqual([swept.expired.length, swept.uncharged], [3, undefined])
      assert.equal(await store.void({ operationId: 'o2', atMs: clock.ms }), 'voided')
      assert.equal((await store.settle(settle('o3', 7n))).result.status, 'corrected')
      const fact = { accounts: ['c:A:1'], cost: 2n, atMs: clock.ms, note, conversation: 'A', change: {} }
      assert.equal(await store.charge({ operationId: 'x1', ...fact }), 'charged')
      const told: OutageStep[] = [
        { kind: 'hold', step: hold('o5'), granted: 10n },
        { kind: 'settle', step: settle('o5', 3n) },
      ]
      for (const step of [...told, ...told]) await replay(store, step, clock.ms, clock.ms + 90_000)
      assert.deepEqual((await kinds(store)).toSorted(), [
        'correction -10',
        'correction -10',
        'cost 2',
        'expiry 10',
        'expiry 10',
        'expiry 10',
        'overrun 4',
        'settlement 10',
        'settlement 3',
        'settlement 7',
      ])
      const today = { tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24' }
      const spent = 14n + 7n + 10n + 2n + 3n
      assert.equal((await store.readTotals(today)).spent, spent)
      assert.deepEqual((await store.readUsers({ ...today, timesMedian: 2, atLeast: [], limit: 9 })).top, [{ user: 'ann', spent }])
      const entries = await store.readLedger({ afterSequence: 0, limit: 99 })
      assert.ok(entries.every((entry) => entry.note.model === half))
      const texts = [{ ...CUT, text: `${half},"kind":"notice"` }, { kind: 'notice', id: 'e3', text: half } as const]
      await store.update({ conversation: 'A', change: { addEdits: texts }, nowMs: clock.ms })
      await store.forgetUser({ user: 'ann', conversations: ['A'], nowMs: clock.ms })
      const { conversation } = await store.read({ conversation: 'A', accounts: [], nowMs: clock.ms })
      assert.deepEqual(conversation?.edits, texts.slice(1))
    }),
  )
}
