/** What every engine of `BudgetStore` must do. An engine joins by one call in its own test file. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import * as fc from 'fast-check'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { AMOUNT_MAX } from '../core/budget.ts'
import type { Draw } from '../core/budget.ts'
import type { ConversationChange } from '../core/conversation.ts'
import { bucketOf } from '../core/cost-buckets.ts'
import type { SequencedEntry } from '../core/ledger.ts'
import { NO_OUTCOMES } from '../core/outcomes.ts'
import { DAY_MS } from '../core/utc-day.ts'
import { ModelStore } from './model.ts'
import { replay } from './outage/steps.ts'
import type { OutageStep } from './outage/steps.ts'
import {
  CONVERSATION_LIFE_MS,
  LEDGER_LIFE_MS_MIN,
  MEMORY_ENTRIES_MAX,
  MEMORY_TEXT_BYTES_MAX,
  StoreError,
  TOTALS_LIFE_DAYS,
} from './store.ts'
import type { BudgetStore, MemoryEntry, MemoryQuery } from './store.ts'
import { compareAll, CUT, mayBeAtOnce, played, stepArbitrary } from './test-schedule.ts'
import { conversationFor, reserveStep, settleStep, START_MS } from './test-steps.ts'

/** Opens an empty store whose wall clock is `nowMs`; its ledger is kept for good unless it is told for how long. */
export type OpenStore = (nowMs: () => number, ledgerLifeMs?: number) => BudgetStore | Promise<BudgetStore>

const RUNS = 150
const HOUR_MS = 3_600_000
/** Enough that a sketch of them is no list. */
const USERS = 1_000

/**
 * `atOnce: false` for an engine whose steps on one account may be several: in the random schedules, where each answer is
 * compared with the model's, its steps are then asked for one after another.
 */
export function storeContract(name: string, open: OpenStore, { atOnce = true }: { readonly atOnce?: boolean } = {}): void {
  /** Runs with a store of its own, and a wall clock that is set by hand. */
  const withStore =
    (run: (store: BudgetStore, clock: { ms: number }) => Promise<void>, ledgerLifeMs?: number) => async (): Promise<void> => {
      const clock = { ms: START_MS }
      const store = await open(() => clock.ms, ledgerLifeMs)
      try {
        await run(store, clock)
      } finally {
        await store.close()
      }
    }
  const balance = async (store: BudgetStore, clock: { ms: number }, account = 'c:A:1') =>
    (await store.read({ conversation: 'A', accounts: [account], nowMs: clock.ms })).accounts.get(account)

  describe(`${name} keeps the contract of a store`, () => {
    it('answers every schedule as the model does, whatever runs at the same time', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(fc.array(stepArbitrary, { minLength: 1, maxLength: 5 }), { maxLength: 12 }), async (batches) => {
          const clock = { ms: START_MS }
          const model = new ModelStore(() => clock.ms)
          const store = await open(() => clock.ms)
          try {
            for (const batch of batches) {
              const steps = batch.map((step) => played(step, model, clock.ms))
              const expected = steps.map((step) => step.onModel())
              const answers: unknown[] = []
              if (atOnce && mayBeAtOnce(batch)) answers.push(...(await Promise.all(steps.map((step) => step.onStore(store)))))
              else for (const step of steps) answers.push(await step.onStore(store))
              assert.deepEqual(answers, expected)
              clock.ms += batch.length * 17_000 * (batch.some((step) => step.kind === 'clockBack') ? -1 : 1)
              await compareAll(store, model, clock.ms)
            }
          } finally {
            await store.close()
          }
        }),
        { numRuns: RUNS },
      )
    })

    it(
      'holds, settles and enters once, however often a step is repeated',
      withStore(async (store, clock) => {
        const step = reserveStep('o1', clock.ms, { atLeast: 10n, atMost: 30n, input: 10n })
        assert.deepEqual((await store.reserve(step)).status, 'held')
        assert.deepEqual((await store.reserve(step)).status, 'exists')
        assert.deepEqual(await balance(store, clock), { spent: 0n, held: 30n, heldInput: 10n })
        assert.equal((await store.settle(settleStep('o1', clock.ms, 12n))).result.status, 'settled')
        assert.equal((await store.settle(settleStep('o1', clock.ms, 25n))).result.status, 'exists')
        assert.equal(await store.void({ operationId: 'o1', atMs: clock.ms }), 'exists')
        assert.equal((await store.reserve({ ...step, seen: null })).status, 'exists')
        assert.deepEqual(await balance(store, clock), { spent: 12n, held: 0n, heldInput: 0n })
        assert.equal((await store.read({ conversation: 'A', accounts: [], nowMs: clock.ms })).conversation?.turns, 1)
        assert.deepEqual(await kinds(store), ['settlement 12'])
        assert.equal((await store.settle(settleStep('unheard-of', clock.ms, 1n))).result.status, 'unknown')
        assert.equal(await store.void({ operationId: 'unheard-of', atMs: clock.ms }), 'unknown')
      }),
    )

    it(
      'enters what a call cost above its hold as an overrun',
      withStore(async (store, clock) => {
        await store.reserve(reserveStep('o1', clock.ms, { atLeast: 10n, atMost: 10n }))
        await store.settle(settleStep('o1', clock.ms, 14n))
        assert.deepEqual(await kinds(store), ['settlement 10', 'overrun 4'])
      }),
    )

    it(
      'grants as much as the tightest account leaves; is busy while only held output is in the way, else says what is short',
      withStore(async (store, clock) => {
        const on = (id: string, atLeast: bigint, atMost: bigint) =>
          store.reserve(
            reserveStep(
              id,
              clock.ms,
              { atLeast, atMost, input: 5n },
              {
                reservation: {
                  draws: [
                    { account: 'c:A:1', cap: 100n },
                    { account: 'u', cap: 60n },
                    { account: 'w', cap: null },
                  ],
                },
              },
            ),
          )
        const first = await on('o1', 10n, 80n)
        assert.deepEqual(first.status === 'held' && first.result, { status: 'held', granted: 60n })
        const busy = await on('o2', 10n, 20n)
        assert.deepEqual(busy.status === 'busy' && busy.result, { status: 'busy', account: 'u' })
        const over = await on('o3', 56n, 90n)
        assert.deepEqual(over.status === 'exceedsCap' && over.result, { status: 'exceedsCap', account: 'u', shortBy: 1n })
        assert.deepEqual(await balance(store, clock, 'w'), { spent: 0n, held: 60n, heldInput: 5n })
        assert.equal(await store.void({ operationId: 'o1', atMs: clock.ms }), 'voided')
        assert.equal((await on('o2', 10n, 20n)).status, 'held')
      }),
    )

    it(
      'never grants more than the cap to calls that come at once',
      withStore(async (store, clock) => {
        const answers = await Promise.all(
          Array.from({ length: 50 }, (_, index) => store.reserve(reserveStep(`o${index}`, clock.ms, { atLeast: 7n, atMost: 7n }))),
        )
        assert.equal(answers.filter(({ status }) => status === 'held').length, 14)
        assert.equal(answers.filter(({ status }) => status === 'busy').length, 36)
        assert.equal((await balance(store, clock))?.held, 98n)
      }),
    )

    it(
      'says moved, and does nothing, when the conversation is under another contract, user or session',
      withStore(async (store, clock) => {
        const seen = { contractHash: 'k1', user: null, session: 1 }
        await store.reserve(reserveStep('o1', clock.ms, { atLeast: 1n, atMost: 1n }))
        const stale = [
          { ...seen, contractHash: 'k0' },
          { ...seen, user: 'ann' },
          { ...seen, session: 2 },
        ]
        for (const [index, other] of stale.entries()) {
          const answer = await store.reserve(reserveStep(`m${index}`, clock.ms, { atLeast: 1n, atMost: 1n }, { seen: other }))
          assert.equal(answer.status, 'moved')
          assert.equal(answer.snapshot.conversation?.contractHash, 'k1')
        }
        const initial = conversationFor('A', clock.ms, { user: 'ann' })
        assert.equal((await store.reserve(reserveStep('m9', clock.ms, { atLeast: 1n, atMost: 1n }, { initial }))).status, 'moved')
        assert.equal((await store.reserve(reserveStep('o2', clock.ms, { atLeast: 1n, atMost: 1n }, { seen }))).status, 'held')
        assert.equal((await balance(store, clock))?.held, 2n)
      }),
    )

    it(
      'fires each alert once, of the account that has used most of its cap',
      withStore(async (store, clock) => {
        const draws: Draw[] = [
          { account: 'c:A:1', cap: 100n },
          { account: 'u', cap: 50n },
        ]
        const alerts = { draws, percents: [70, 90, 100] }
        const fired: (readonly number[])[] = []
        for (const [index, cost] of [20n, 16n, 10n, 4n].entries()) {
          await store.reserve(reserveStep(`o${index}`, clock.ms, { atLeast: cost, atMost: cost }, { reservation: { draws } }))
          fired.push((await store.settle(settleStep(`o${index}`, clock.ms, cost, { alerts }))).firedAlerts)
        }
        assert.deepEqual(fired, [[], [70], [90], [100]])
      }),
    )

    it(
      'charges an expired hold, corrects it when the truth comes, and takes it back when nothing was billed',
      withStore(async (store, clock) => {
        for (const id of ['o1', 'o2', 'o3']) await store.reserve(reserveStep(id, clock.ms, { atLeast: 20n, atMost: 20n }))
        await store.renew(['o3', 'unheard-of'], clock.ms + HOUR_MS)
        clock.ms += 89_999
        assert.deepEqual((await store.sweep({ nowMs: clock.ms, limit: 10 })).expired, [])
        clock.ms += 1
        assert.deepEqual(
          (await store.sweep({ nowMs: clock.ms, limit: 1 })).expired.map(({ id }) => id),
          ['o1'],
        )
        assert.deepEqual(
          (await store.sweep({ nowMs: clock.ms, limit: 10 })).expired.map(({ id }) => id),
          ['o2'],
        )
        assert.deepEqual(await balance(store, clock), { spent: 40n, held: 20n, heldInput: 0n })
        assert.equal((await store.settle(settleStep('o1', clock.ms, 5n))).result.status, 'corrected')
        assert.equal(await store.void({ operationId: 'o2', atMs: clock.ms }), 'voided')
        assert.equal((await store.settle(settleStep('o2', clock.ms, 5n))).result.status, 'exists')
        assert.deepEqual(await balance(store, clock), { spent: 5n, held: 20n, heldInput: 0n })
        assert.deepEqual(await kinds(store), ['expiry 20', 'expiry 20', 'correction -15', 'correction -20'])
      }),
    )

    it(
      'measures holds by a clock that never runs backwards',
      withStore(async (store, clock) => {
        await store.reserve(reserveStep('o1', clock.ms, { atLeast: 1n, atMost: 1n }))
        clock.ms += 60_000
        await store.sweep({ nowMs: clock.ms, limit: 10 })
        clock.ms -= HOUR_MS
        await store.reserve(reserveStep('o2', clock.ms, { atLeast: 1n, atMost: 1n }))
        clock.ms += 30_000
        assert.deepEqual(
          (await store.sweep({ nowMs: clock.ms, limit: 10 })).expired.map(({ id }) => id),
          ['o1'],
        )
        clock.ms += 60_000
        assert.deepEqual(
          (await store.sweep({ nowMs: clock.ms, limit: 10 })).expired.map(({ id }) => id),
          ['o2'],
        )
      }),
    )

    it(
      'enters what an app spent, once, beyond the cap too',
      withStore(async (store, clock) => {
        await store.reserve(reserveStep('o1', clock.ms, { atLeast: 1n, atMost: 1n }))
        const fact = { operationId: 'x1', accounts: ['c:A:1'], cost: 500n, atMs: clock.ms, note: { label: 'search', tier: 'pro' } }
        const step = { ...fact, conversation: 'A', change: { addDrivers: { other: 500n } } }
        assert.equal(await store.charge(step), 'charged')
        assert.equal(await store.charge(step), 'exists')
        const { conversation } = await store.read({ conversation: 'A', accounts: [], nowMs: clock.ms })
        assert.equal(conversation?.drivers.other, 500n)
        assert.deepEqual(await kinds(store), ['cost 500'])
        assert.deepEqual((await store.readLedger({ afterSequence: 0, limit: 9 }))[0]?.note, fact.note)
      }),
    )

    it(
      'finds the conversation of the longest known prefix',
      withStore(async (store, clock) => {
        for (const [id, chain] of [
          ['A', ['a1', 'a2']],
          ['B', ['b1']],
        ] as const) {
          const initial = conversationFor(id, clock.ms)
          await store.reserve(reserveStep(`o${id}`, clock.ms, { atLeast: 1n, atMost: 1n }, { conversation: id, initial }))
          await store.settle(settleStep(`o${id}`, clock.ms, 1n, { conversation: id, chain }))
        }
        assert.equal(await store.findByChain(['zz', 'b1', 'a1'], clock.ms), 'B')
        assert.equal(await store.findByChain(['a2', 'b1'], clock.ms), 'A')
        assert.equal(await store.findByChain(['zz'], clock.ms), null)
        assert.equal(await store.findByChain([], clock.ms), null)
      }),
    )

    it(
      'learns of a settlement that is told again the digests that lead nowhere, and nothing else',
      withStore(async (store, clock) => {
        for (const id of ['A', 'B']) {
          const initial = conversationFor(id, clock.ms)
          await store.reserve(reserveStep(`o${id}`, clock.ms, { atLeast: 40n, atMost: 40n }, { conversation: id, initial }))
        }
        const settled = settleStep('oA', clock.ms, 90n, { chain: ['d1', 'd2'] })
        await store.settle(settled)
        await store.settle(settleStep('oB', clock.ms, 1n, { conversation: 'B', chain: ['d2'] }))
        const alerts = { draws: [{ account: 'c:A:1', cap: 100n }], percents: [70] }
        const again = await store.settle({ ...settled, chain: ['d1', 'd2', 'd3', 'd4'], alerts })
        assert.deepEqual([again.result.status, again.firedAlerts], ['exists', []])
        assert.deepEqual([again.snapshot.conversation?.turns, again.snapshot.conversation?.alerts], [1, []])
        const found = await Promise.all(['d1', 'd2', 'd3', 'd4'].map((digest) => store.findByChain([digest], clock.ms)))
        assert.deepEqual(found, ['A', 'B', 'A', 'A'])
        await store.reserve(reserveStep('back', clock.ms, { atLeast: 1n, atMost: 1n }))
        await store.void({ operationId: 'back', atMs: clock.ms })
        await store.settle(settleStep('back', clock.ms, 1n, { chain: ['d5'] }))
        assert.equal(await store.findByChain(['d5'], clock.ms), null)
      }),
    )

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
          const step = reserveStep(
            id,
            clock.ms,
            { atLeast: 5n, atMost: 5n },
            { conversation, initial, seen, change, reservation: { draws } },
          )
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
      'has the ladder apply or not from the session on that a change opens',
      withStore(async (store, clock) => {
        const update = async (change: ConversationChange) =>
          (await store.update({ conversation: 'A', initial: conversationFor('A', clock.ms), change, nowMs: clock.ms }))?.conversation
        const steps: readonly (readonly [ConversationChange, boolean])[] = [
          [{ ladderApplies: false }, true],
          [{ openSession: 2, ladderApplies: false }, false],
          [{ openSession: 2, ladderApplies: true }, false],
          [{ openSession: 3 }, false],
          [{ openSession: 4, ladderApplies: true }, true],
        ]
        for (const [change, ladderApplies] of steps)
          assert.equal((await update(change))?.ladderApplies, ladderApplies, JSON.stringify(change))
      }),
    )

    it(
      'keeps a conversation open that was opened again, though its end is told again; and a task begun whose boundary is',
      withStore(async (store, clock) => {
        const update = (change: ConversationChange) =>
          store.update({ conversation: 'A', initial: conversationFor('A', clock.ms), change, nowMs: clock.ms })
        const end: ConversationChange = {
          addRungs: { rungs: ['Summarize', 'EndConversation'], reason: 'threshold' },
          state: { is: 'ended', atMs: START_MS },
          atTaskBoundary: { is: true, atMs: START_MS },
        }
        const later = { state: { is: 'open', atMs: START_MS + 1 }, atTaskBoundary: { is: false, atMs: START_MS + 1 } } as const
        for (const change of [end, later, end]) await update(change)
        const again = (await update({}))?.conversation
        assert.deepEqual([again?.state, again?.rungs, again?.atTaskBoundary], ['open', ['Summarize'], false])
        assert.deepEqual([again?.stateAtMs, again?.boundaryAtMs], [START_MS + 1, START_MS + 1])
        await update({ openSession: 2 })
        const next = (await update({ ...end, ofSession: 2 }))?.conversation
        assert.deepEqual([next?.state, next?.stateAtMs, next?.atTaskBoundary], ['ended', START_MS, true], 'of another session')
      }),
    )

    it(
      'knows how the costs of sessions are distributed, each on the day that it began and as it is by now',
      withStore(async (store, clock) => {
        const costs = async (day: string) => [...(await store.readTotals({ tier: 'pro', fromDay: day, toDay: day })).costs]
        const on = (id: string, account: string) =>
          store.reserve(
            reserveStep(id, clock.ms, { atLeast: 50n, atMost: 50n, cap: null }, { reservation: { draws: [{ account, cap: null }] } }),
          )
        await on('o1', 'c:A:1')
        await on('o2', 'u:ann')
        assert.deepEqual(await costs('2026-11-24'), [[0, 1]])
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
        assert.deepEqual(await costs('2026-11-25'), [[0, 1]])
        const { costs: basic } = await store.readTotals({ tier: 'basic', fromDay: '2026-11-25', toDay: '2026-11-25' })
        assert.deepEqual([...basic], [[bucketOf(5_050n), 1]])
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
      'takes every text that a client or a provider may choose, also one that is half a character',
      withStore(async (store, clock) => {
        const half = 'gpt\ud83d"user":"eve"'
        const note = { conversation: 'A', session: 1, user: 'ann', tier: 'pro', model: half, label: half }
        const hold = (id: string) =>
          reserveStep(
            id,
            clock.ms,
            { atLeast: 10n, atMost: 10n, cap: null },
            { reservation: { note }, seen: conversationFor('A', START_MS) },
          )
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
          'correction -3',
          'cost 2',
          'expiry 10',
          'expiry 10',
          'expiry 10',
          'overrun 4',
          'settlement 10',
          'settlement 3',
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

    it(
      'tells many users of many days apart by what they spent',
      withStore(async (store, clock) => {
        await Promise.all(
          Array.from({ length: 2 * USERS }, async (_, index) => {
            const note = { tier: 'pro', user: `user ${index % USERS}` }
            const atMs = clock.ms + (index < USERS ? 0 : DAY_MS)
            const fact = { accounts: ['w'], cost: BigInt(index % USERS), atMs, note, conversation: `c${index}`, change: {} }
            await store.charge({ operationId: `x${index}`, ...fact })
          }),
        )
        const days = { tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-25' }
        const told = await store.readUsers({ ...days, timesMedian: 2, atLeast: [1n, 1_900n], limit: 1 })
        const top = [{ user: `user ${USERS - 1}`, spent: BigInt(2 * USERS - 2) }]
        assert.deepEqual([told.users, told.spent, told.reached, told.top], [USERS, BigInt(USERS * (USERS - 1)), [USERS - 1, 50], top])
        assert.deepEqual([told.median, told.heavy.users], [BigInt(USERS - 2), 2])
      }),
    )

    it(
      'lists conversations by their last turn, newest first, however many there are, without their edits',
      withStore(async (store, clock) => {
        const count = 450
        const ids = Array.from({ length: count }, (_, index) => `c${index}`)
        const atOf = (index: number): number => START_MS + Math.floor(((index * 7) % count) / 2)
        await Promise.all(
          ids.map((id, index) => {
            const change = { turnAtMs: atOf(index), addEdits: [CUT], addReadyEdits: [CUT] }
            return store.update({ conversation: id, initial: conversationFor(id, START_MS), change, nowMs: clock.ms })
          }),
        )
        const expected = ids
          .map((id, index) => ({ id, atMs: atOf(index) }))
          .toSorted((a, b) => b.atMs - a.atMs || (a.id < b.id ? -1 : 1))
          .map(({ id }) => id)
        for (const limit of [0, 1, 200, 430, 1_000]) {
          const listed = await store.listConversations({ limit, nowMs: clock.ms })
          assert.deepEqual(
            listed.map(({ id }) => id),
            expected.slice(0, limit),
          )
          assert.ok(listed.every((one) => one.turns === 1 && !('edits' in one) && !('readyEdits' in one)))
        }
        clock.ms += CONVERSATION_LIFE_MS + 1
        await store.update({ conversation: 'new', initial: conversationFor('new', clock.ms), change: {}, nowMs: clock.ms })
        const [newest, ...others] = await store.listConversations({ limit: 430, nowMs: clock.ms })
        assert.deepEqual([newest?.id, others], ['new', []])
      }),
    )

    it(
      'lists the conversations that have been quiet and await a resolution, those that have for longest first',
      withStore(async (store, clock) => {
        const talk = async (id: string, tier: string, turnAtMs: number | null): Promise<void> => {
          const change = turnAtMs === null ? {} : { turnAtMs }
          await store.update({ conversation: id, initial: conversationFor(id, START_MS, { tier }), change, nowMs: clock.ms })
        }
        const resolve = (id: string, kind: 'assumed' | 'confirmed' | 'reversed', atMs: number) =>
          store.update({ conversation: id, change: { resolution: { kind, atMs } }, nowMs: clock.ms })
        const quiet = async (tiers: readonly string[], quietSinceMs: number, limit = 9) =>
          (await store.listQuiet({ tiers, quietSinceMs, limit, nowMs: clock.ms })).map(({ id }) => id)
        for (const [id, tier, at] of [
          ['D', 'pro', 40],
          ['B', 'pro', 20],
          ['C', 'basic', 30],
          ['A', 'pro', 10],
          ['E', 'other', 5],
          ['F', 'pro', 20],
        ] as const)
          await talk(id, tier, START_MS + at)
        await talk('none', 'pro', null)
        assert.deepEqual(await quiet(['pro', 'basic'], START_MS + 40), ['A', 'B', 'F', 'C'])
        assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS, 2), ['A', 'B'])
        assert.deepEqual(await quiet(['basic', 'pro'], START_MS + HOUR_MS, 4), ['A', 'B', 'F', 'C'])
        assert.deepEqual(await quiet([], START_MS + HOUR_MS), [])
        await resolve('A', 'assumed', START_MS + 50)
        await resolve('B', 'confirmed', START_MS + 50)
        assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS), ['F', 'D'])
        await resolve('A', 'reversed', START_MS + 60)
        assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS), ['F', 'D'], 'taken back, and nothing since')
        await talk('A', 'pro', START_MS + 70)
        await talk('B', 'pro', START_MS + 70)
        assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS), ['F', 'D', 'A'])
        await resolve('A', 'assumed', START_MS + 50)
        assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS), ['F', 'D', 'A'], 'what was told late counts no more')
        const changed = (id: string, change: ConversationChange) => store.update({ conversation: id, change, nowMs: clock.ms })
        await changed('F', { state: { is: 'ended', atMs: clock.ms } })
        assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS), ['D', 'A'], 'cut off by its budget')
        await changed('F', { state: { is: 'open', atMs: clock.ms } })
        await changed('B', { openSession: 2 })
        assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS), ['F', 'D', 'A', 'B'], 'the session before was resolved')
        clock.ms += CONVERSATION_LIFE_MS + 1
        assert.deepEqual(await quiet(['pro'], clock.ms), [])
      }),
    )

    const saidBy = (store: BudgetStore, clock: { ms: number }) => {
      const entryOf = (id: string, text: string, atMs = clock.ms): MemoryEntry => ({
        id,
        conversation: 'A',
        session: 2,
        atMs,
        role: 'assistant',
        text,
      })
      return {
        entryOf,
        remember: (user: string, entries: readonly MemoryEntry[], lifeMs = HOUR_MS) =>
          store.remember({ user, entries, expiresAtMs: clock.ms + lifeMs, nowMs: clock.ms }),
        search: (user: string, query: string, more: Partial<MemoryQuery> = {}) =>
          store.searchMemory({ user, query, limit: 100, nowMs: clock.ms, ...more }),
      }
    }

    it(
      'keeps what a user said once, and finds it best first, or newest first when nothing is asked for',
      withStore(async (store, clock) => {
        const { entryOf, remember, search } = saidBy(store, clock)
        const first = entryOf('m1', 'My refund for the shoes')
        await remember('ann', [first, entryOf('m2', 'Shoes and a coat', clock.ms + 5), entryOf('m3', '退款怎么办理', clock.ms + 3)])
        await remember('ann', [{ ...first, text: 'something else' }])
        const found = await search('ann', 'shoes REFUND')
        assert.deepEqual(
          found.hits.map(({ id }) => id),
          ['m1', 'm2'],
        )
        const { score, ...hit } = found.hits[0] ?? {}
        assert.deepEqual(hit, first)
        assert.ok((score ?? 0) > 0)
        assert.deepEqual(
          (await search('ann', '退款')).hits.map(({ id }) => id),
          ['m3'],
        )
        assert.deepEqual(await search('ann', 'else'), { hits: [], next: null })
        const ids: string[] = []
        for (let cursor: string | undefined; ;) {
          const page = await search('ann', '', { limit: 2, ...(cursor === undefined ? {} : { cursor }) })
          ids.push(...page.hits.map(({ id }) => id))
          if (page.next === null) break
          cursor = page.next
        }
        assert.deepEqual(ids, ['m2', 'm3', 'm1'])
        await assert.rejects(search('ann', 'shoes', { cursor: 'before:1:m1' }), RangeError)
      }),
    )

    it(
      "never shows another user's text, whatever is asked for",
      withStore(async (store, clock) => {
        const { entryOf, remember, search } = saidBy(store, clock)
        const words = ['refund', 'refunds', '退款', 'ann', 'bob', 'user:bob', '"', '*', 'OR', 'NOT', '{user}: bob', ') OR user : (bob']
        const users = ['ann', 'bob', 'an', '*']
        const texts = fc.array(fc.constantFrom(...words), { minLength: 1, maxLength: 5 }).map((picked) => picked.join(' '))
        const own = new Map<string, Map<string, string>>(users.map((user) => [user, new Map()]))
        let count = 0
        await fc.assert(
          fc.asyncProperty(fc.constantFrom(...users), texts, fc.constantFrom(...users), texts, async (sayer, text, asker, query) => {
            const id = `m${count++ % 40}`
            await remember(sayer, [entryOf(id, text)])
            if (own.get(sayer)?.has(id) !== true) own.get(sayer)?.set(id, text)
            for (const asked of [query, '', asker])
              for (const hit of (await search(asker, asked)).hits) assert.equal(hit.text, own.get(asker)?.get(hit.id))
          }),
          { numRuns: 120 },
        )
        assert.ok((await search('ann', 'refund')).hits.length > 0)
      }),
    )

    it(
      'keeps no more of a text, and no more entries of a user, than it may: the oldest go first',
      withStore(async (store, clock) => {
        const { entryOf, remember, search } = saidBy(store, clock)
        const long = `start ${'word '.repeat(MEMORY_TEXT_BYTES_MAX / 5)} end`
        await remember('ann', [entryOf('long', long)])
        assert.equal((await search('ann', 'start')).hits[0]?.text, long.slice(0, MEMORY_TEXT_BYTES_MAX))
        assert.deepEqual((await search('ann', 'end')).hits, [])
        for (let from = 0; from <= MEMORY_ENTRIES_MAX; from += 500)
          await remember(
            'ann',
            Array.from({ length: 500 }, (_, index) => entryOf(`m${from + index}`, 'again', clock.ms + 1 + from + index)),
          )
        await remember('bob', [entryOf('b1', 'again')])
        await remember('ann', [entryOf('old', 'too old already', clock.ms)])
        const count = async (user: string): Promise<string[]> => {
          const ids: string[] = []
          for (let cursor: string | undefined; ;) {
            const page = await search(user, '', cursor === undefined ? {} : { cursor })
            ids.push(...page.hits.map(({ id }) => id))
            if (page.next === null) return ids
            cursor = page.next
          }
        }
        const kept = await count('ann')
        assert.equal(kept.length, MEMORY_ENTRIES_MAX)
        assert.deepEqual([kept[0], kept.at(-1)], [`m${MEMORY_ENTRIES_MAX + 499}`, 'm500'])
        assert.deepEqual(await count('bob'), ['b1'])
        assert.equal((await search('ann', 'old')).hits.length, 0)
        assert.equal((await store.forgetUser({ user: 'ann', nowMs: clock.ms })).entries, MEMORY_ENTRIES_MAX)
      }),
    )

    it(
      'forgets what was said when its time is over, and no sooner, by a clock that never runs backwards',
      withStore(async (store, clock) => {
        const { entryOf, remember, search } = saidBy(store, clock)
        await remember('ann', [entryOf('m1', 'short')], 60_000)
        await remember('ann', [entryOf('m2', 'short too')], HOUR_MS)
        await remember('ann', [entryOf('m3', 'never short')], 0)
        clock.ms += 59_999
        assert.equal((await search('ann', 'short')).hits.length, 2)
        clock.ms += 1
        assert.deepEqual(
          (await search('ann', 'short')).hits.map(({ id }) => id),
          ['m2'],
        )
        await store.sweep({ nowMs: clock.ms, limit: 1 })
        clock.ms -= HOUR_MS
        assert.deepEqual(
          (await search('ann', '')).hits.map(({ id }) => id),
          ['m2'],
        )
        await remember('ann', [entryOf('m1', 'short again')], HOUR_MS)
        assert.deepEqual(
          (await search('ann', 'again')).hits.map(({ id }) => id),
          ['m1'],
        )
        clock.ms += HOUR_MS
        assert.deepEqual(await store.forgetUser({ user: 'ann', nowMs: clock.ms }), { entries: 0, conversations: [] })
      }),
    )

    it(
      'forgets a user: what was said, and the edits that have text of theirs; money and notices stay',
      withStore(async (store, clock) => {
        const { entryOf, remember, search } = saidBy(store, clock)
        const notice = { kind: 'notice', id: 'n1', text: 'short of money' } as const
        const ready = { ...CUT, id: 'e9' }
        for (const [id, user] of [
          ['A', 'ann'],
          ['B', 'bob'],
          ['C', 'ann'],
        ] as const) {
          const step = reserveStep(
            `o${id}`,
            clock.ms,
            { atLeast: 5n, atMost: 5n },
            {
              conversation: id,
              initial: conversationFor(id, clock.ms, { user }),
              change: { addEdits: [CUT, notice], addReadyEdits: [ready] },
            },
          )
          await store.reserve(step)
          await store.settle(settleStep(`o${id}`, clock.ms, 5n, { conversation: id }))
        }
        await remember('ann', [entryOf('m1', 'secret'), entryOf('m2', 'more')])
        await remember('bob', [entryOf('m1', 'secret')])
        assert.deepEqual(await store.forgetUser({ user: 'ann', nowMs: clock.ms }), { entries: 2, conversations: ['A'] })
        assert.deepEqual(await store.forgetUser({ user: 'ann', nowMs: clock.ms }), { entries: 0, conversations: [] })
        assert.deepEqual((await search('ann', '')).hits, [])
        assert.equal((await search('bob', 'secret')).hits.length, 1)
        const edits = async (id: string) => {
          const { conversation } = await store.read({ conversation: id, accounts: [], nowMs: clock.ms })
          return [conversation?.edits, conversation?.readyEdits]
        }
        for (const id of ['A', 'C']) assert.deepEqual(await edits(id), [[notice], []])
        assert.deepEqual(await edits('B'), [[CUT, notice], [ready]])
        assert.equal((await balance(store, clock))?.spent, 15n)
        assert.equal((await kinds(store)).length, 3)
        await store.update({ conversation: 'A', change: { addEdits: [CUT] }, nowMs: clock.ms })
        assert.deepEqual(await edits('A'), [[notice, CUT], []])
        await remember('ann', [entryOf('m1', 'said later')])
        assert.deepEqual(
          (await search('ann', '')).hits.map(({ text }) => text),
          ['said later'],
        )
      }),
    )

    it(
      "forgets what is quoted in conversations that a user's memory names, and in those it is told of, whoever's they are",
      withStore(async (store, clock) => {
        const { entryOf, remember } = saidBy(store, clock)
        const notice = { kind: 'notice', id: 'n1', text: 'short of money' } as const
        const replaced = { kind: 'replace', id: 'e2', rung: 'DropRetrieval', original: 'd', text: 'theirs', savedBytes: 0 } as const
        const ready = { ...CUT, id: 'e9' }
        const many = Array.from({ length: 1_100 }, (_, index) => `unknown ${index}`)
        const talks = { A: null, B: 'bob', C: null, D: null, E: 'ann', F: 'cem' } as const
        for (const [id, user] of Object.entries(talks))
          await store.update({
            conversation: id,
            initial: conversationFor(id, clock.ms, { user }),
            change: { addEdits: [CUT, notice], addReadyEdits: [ready] },
            nowMs: clock.ms,
          })
        const said = (id: string, conversation: string): MemoryEntry => ({ ...entryOf(id, 'secret'), conversation })
        await remember('ann', [said('m1', 'C'), said('m2', 'A'), said('m3', 'A'), said('m4', 'F'), said('m5', 'nowhere')])
        await remember('bob', [said('m1', 'B'), said('m2', 'D')])
        for (let from = 0; from < many.length; from += 500)
          await remember(
            'ann',
            many.slice(from, from + 500).map((id) => said(id, id)),
          )
        const { entries, conversations } = await store.forgetUser({ user: 'ann', conversations: ['G'], nowMs: clock.ms })
        assert.equal(entries, 5 + many.length)
        assert.deepEqual(conversations, ['A', 'C', 'F', 'nowhere', ...many].toSorted())
        const edits = async (id: string) => {
          const { conversation } = await store.read({ conversation: id, accounts: [], nowMs: clock.ms })
          return [conversation?.edits, conversation?.readyEdits]
        }
        for (const id of ['A', 'C', 'E', 'F']) assert.deepEqual(await edits(id), [[notice], []], id)
        for (const id of ['B', 'D']) assert.deepEqual(await edits(id), [[CUT, notice], [ready]], id)
        assert.deepEqual(await store.forgetUser({ user: 'ann', conversations: ['D'], nowMs: clock.ms }), { entries: 0, conversations: [] })
        assert.deepEqual(await edits('D'), [[notice], []])
        assert.deepEqual(await edits('B'), [[CUT, notice], [ready]])
        assert.equal((await store.read({ conversation: 'nowhere', accounts: [], nowMs: clock.ms })).conversation, null)
        await store.update({ conversation: 'A', change: { addEdits: [replaced] }, nowMs: clock.ms })
        assert.deepEqual(await edits('A'), [[notice, replaced], []])
        await remember('ann', [said('m1', 'A')])
        assert.deepEqual(await store.forgetUser({ user: 'ann', nowMs: clock.ms }), { entries: 1, conversations: ['A'] })
        assert.deepEqual(await edits('A'), [[notice], []])
      }),
    )

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

    it('is not opened with a ledger that forgets what balances need', async () => {
      await assert.rejects(async () => open(() => START_MS, LEDGER_LIFE_MS_MIN - 1), RangeError)
    })

    it(
      'keeps a conversation, its balance and its chain for 35 days after its last turn, and begins anew after that',
      withStore(async (store, clock) => {
        await store.reserve(reserveStep('o1', clock.ms, { atLeast: 90n, atMost: 90n }, { change: { addEdits: [CUT] } }))
        await store.settle(settleStep('o1', clock.ms, 90n, { chain: ['d1'] }))
        clock.ms += CONVERSATION_LIFE_MS
        await store.update({ conversation: 'A', change: { atTaskBoundary: { is: true, atMs: clock.ms } }, nowMs: clock.ms })
        const last = await store.read({ conversation: 'A', accounts: ['c:A:1'], nowMs: clock.ms })
        assert.equal(last.conversation?.edits.length, 1)
        assert.equal(last.accounts.get('c:A:1')?.spent, 90n)
        assert.equal(await store.findByChain(['d1'], clock.ms), 'A')
        clock.ms += 1
        await store.sweep({ nowMs: clock.ms, limit: 10 })
        assert.equal((await store.read({ conversation: 'A', accounts: [], nowMs: clock.ms })).conversation, null)
        assert.equal(await store.findByChain(['d1'], clock.ms), null)
        assert.equal(await store.update({ conversation: 'A', change: {}, nowMs: clock.ms }), null)
        const again = await store.reserve(reserveStep('o2', clock.ms, { atLeast: 90n, atMost: 90n }))
        assert.equal(again.status, 'held')
        assert.equal(again.snapshot.conversation?.turns, 0)
        assert.deepEqual(again.snapshot.conversation?.edits, [])
        assert.deepEqual(await kinds(store), ['settlement 90'])
      }),
    )

    it(
      'keeps every digit up to AMOUNT_MAX, and refuses beyond, changing nothing',
      withStore(async (store, clock) => {
        const big = AMOUNT_MAX
        await store.reserve(reserveStep('o1', clock.ms, { atLeast: big, atMost: big, input: big - 1n, cap: null }))
        assert.deepEqual(await balance(store, clock), { spent: 0n, held: big, heldInput: big - 1n })
        await assert.rejects(store.reserve(reserveStep('o2', clock.ms, { atLeast: 1n, atMost: 1n, cap: null })), RangeError)
        await store.settle(settleStep('o1', clock.ms, big))
        assert.deepEqual(await balance(store, clock), { spent: big, held: 0n, heldInput: 0n })
        const charge = { accounts: ['w'], atMs: clock.ms, note: { tier: 'pro' }, conversation: 'A', change: {} }
        await assert.rejects(store.charge({ operationId: 'x1', cost: big + 1n, ...charge }), RangeError)
        await assert.rejects(store.charge({ operationId: 'x1', cost: -1n, ...charge }), RangeError)
        await assert.rejects(store.charge({ operationId: 'x1', cost: 1n, ...charge, accounts: ['v', 'c:A:1'] }), RangeError)
        assert.equal(await store.charge({ operationId: 'x1', cost: big, ...charge }), 'charged')
        assert.equal((await balance(store, clock, 'v'))?.spent, 0n)
        const outcomes = await store.readOutcomes({ tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24' })
        assert.equal(outcomes.cost, 2n * big)
        assert.deepEqual(await kinds(store), [`settlement ${big}`, `cost ${big}`])
        await assert.rejects(store.reserve(reserveStep('o3', clock.ms, { atLeast: 2n, atMost: 1n })), RangeError)
        await assert.rejects(store.settle(settleStep('o1', clock.ms, -1n)), RangeError)
      }),
    )

    it(
      'answers nothing after it is closed',
      withStore(async (store, clock) => {
        await store.close()
        const isClosed = (error: unknown): boolean => error instanceof StoreError && error.code === 'closed'
        await assert.rejects(store.read({ conversation: 'A', accounts: [], nowMs: clock.ms }), isClosed)
        await assert.rejects(store.reserve(reserveStep('o1', clock.ms, { atLeast: 1n, atMost: 1n })), isClosed)
        await assert.rejects(store.readLedger({ afterSequence: 0, limit: 1 }), isClosed)
      }),
    )
  })
}

async function kinds(store: BudgetStore): Promise<string[]> {
  return (await store.readLedger({ afterSequence: 0, limit: 1_000 })).map(({ kind, cost }) => `${kind} ${cost}`)
}

const CONTRACT = {
  hash: 'h1',
  tier: 'pro',
  displayName: 'Pro “ünïcode”',
  caps: { perConversation: '0.50' },
  ladder: [{ atPercent: 70, rung: 'DropRetrieval' }],
} as unknown as Contract
