import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTick } from 'node:timers/promises'
import { DAY_MS } from '../core/utc-day.ts'
import { openEmbeddedStore } from './embedded.ts'
import { inFolder } from './in-folder.testing.ts'
import { START_MS } from './steps.testing.ts'
import { LEDGER_LIFE_MS_MIN } from './store.ts'

test(
  'comes to old entries behind more carried ones than a sweep looks at, and adds them to those',
  inFolder(async (file) => {
    const clock = { ms: START_MS }
    const options = { file, nowMs: () => clock.ms, writer: 'inline', ledgerLifeMs: LEDGER_LIFE_MS_MIN, dropsMax: 1 } as const
    let store = openEmbeddedStore(options)
    const accounts = Array.from({ length: 450 }, (_, index) => `c:A${index}:1`)
    const charge = (month: number, charged = accounts): Promise<unknown> =>
      Promise.all(
        charged.map((account) => {
          const fact = { operationId: `${account}/${month}`, accounts: [account], cost: 5n, atMs: clock.ms, note: {} }
          return store.charge({ ...fact, conversation: account.slice(2, -2), change: {} })
        }),
      )
    /** After so many sweeps: of each account the kinds and costs of its entries. */
    const swept = async (sweeps: number): Promise<ReadonlyMap<string, string>> => {
      for (let sweep = 0; sweep < sweeps; sweep++) {
        clock.ms += 3_600_001
        await store.sweep({ nowMs: clock.ms, limit: 1 })
        for (let ticks = 0; ticks < 1_000; ticks++) await nextTick() // far more than it takes
      }
      const told = new Map<string, string>()
      for (const { accounts: named, kind, cost } of await store.readLedger({ afterSequence: 0, limit: 10_000 }))
        for (const account of named) told.set(account, `${told.get(account) ?? ''}${kind} ${cost} `)
      return told
    }
    const everyOne = (told: ReadonlyMap<string, string>, of = accounts): unknown => [...new Set(of.map((account) => told.get(account)))]
    const begunMs = clock.ms
    for (let month = 0; month < 3; month++) {
      clock.ms = begunMs + 30 * month * DAY_MS
      await charge(month)
    }
    // The first month alone is too old: three sweeps carry it, and each looks at no more than 200 entries.
    clock.ms = begunMs + 75 * DAY_MS
    assert.deepEqual(everyOne(await swept(3)), ['carried 5 cost 5 cost 5 '])
    clock.ms = begunMs + 90 * DAY_MS
    await charge(3)
    // 450 carried ones stand before as many that are old by now: the walk that is under way comes to its end, and then a whole one.
    clock.ms = begunMs + 101 * DAY_MS
    assert.deepEqual(everyOne(await swept(8)), ['carried 10 cost 5 cost 5 '])

    // After a restart it begins anew.
    const [ended = '', ...living] = accounts
    clock.ms = begunMs + 120 * DAY_MS
    await charge(4, living)
    clock.ms = begunMs + 131 * DAY_MS
    await swept(1)
    await store.close()
    store = openEmbeddedStore(options)
    const told = await swept(8)
    assert.deepEqual(everyOne(told, living), ['carried 15 cost 5 cost 5 '])
    assert.equal(told.get(ended), 'cost 5 ', 'nothing is carried for an account that has outlived its life')
    const { accounts: balances } = await store.read({ conversation: 'A', accounts: living, nowMs: clock.ms })
    for (const account of living) assert.equal(balances.get(account)?.spent, 25n)
    await store.close()
  }),
)
