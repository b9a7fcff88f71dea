/** What an engine must do with money: holds, settlements, charges, caps and alerts. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { AMOUNT_MAX } from '../../core/budget.ts'
import type { Draw } from '../../core/budget.ts'
import type { ConversationChange } from '../../core/conversation.ts'
import { conversationFor, reserveStep, settleStep } from '../steps.testing.ts'
import { COST_LIFE_MS } from '../store.ts'
import { balance, kinds, withStoreOf } from './engine.testing.ts'
import type { OpenEmptyStore } from './engine.testing.ts'

const HOUR_MS = 3_600_000

export function moneyContract(open: OpenEmptyStore): void {
  const withStore = withStoreOf(open)

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
      assert.equal(first.status === 'held' && first.granted, 60n)
      const busy = await on('o2', 10n, 20n)
      assert.equal(busy.status === 'busy' && busy.account, 'u')
      const over = await on('o3', 56n, 90n)
      assert.deepEqual(over.status === 'exceedsCap' && [over.account, over.shortBy], ['u', 1n])
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
    'fires alerts of the user’s budget once in each of its periods, apart from those of the conversation’s own',
    withStore(async (store, clock) => {
      const settle = async (id: string, cost: bigint, day: number) => {
        const own = { account: 'c:A:1', cap: 1_000n }
        const ofUser = { account: `u:${day}`, cap: 50n, period: `Day1:2026-11-${day}` }
        const draws = [own, { account: ofUser.account, cap: null }]
        await store.reserve(reserveStep(id, clock.ms, { atLeast: cost, atMost: cost }, { reservation: { draws } }))
        const alerts = { draws: [own], percents: [70, 90], ofUser }
        const { snapshot, ...fired } = await store.settle(settleStep(id, clock.ms, cost, { change: { ofSession: 1 }, alerts }))
        return [fired.firedAlerts, fired.firedUserAlerts, snapshot.conversation?.userAlerts]
      }
      const known = (day: number, ...percents: number[]) => ({ period: `Day1:2026-11-${day}`, percents })
      assert.deepEqual(await settle('a', 30n, 24), [[], [], null])
      assert.deepEqual(await settle('b', 6n, 24), [[], [70], known(24, 70)])
      assert.deepEqual(await settle('c', 20n, 24), [[], [90], known(24, 70, 90)])
      assert.deepEqual(await settle('d', 1n, 24), [[], [], known(24, 70, 90)], 'each once')
      assert.deepEqual(await settle('e', 2n, 25), [[], [], known(24, 70, 90)], 'a new period begins without')
      assert.deepEqual(await settle('f', 44n, 25), [[], [70, 90], known(25, 70, 90)])
      assert.deepEqual(await settle('g', 60n, 24), [[], [], known(25, 70, 90)], 'of the period before none comes late')
      assert.deepEqual(await settle('h', 537n, 25), [[70], [], known(25, 70, 90)], 'and none hides the conversation’s own')
      const opened = await store.update({ conversation: 'A', change: { openSession: 2 }, nowMs: clock.ms })
      assert.deepEqual(
        [opened?.conversation.alerts, opened?.conversation.userAlerts],
        [[], known(25, 70, 90)],
        'the period outlives a session',
      )
      const told = { ofSession: 1, addUserAlerts: known(25, 90, 100) }
      const updated = await store.update({ conversation: 'A', change: told, nowMs: clock.ms })
      assert.deepEqual(
        [updated?.firedAlerts, updated?.firedUserAlerts, updated?.conversation.userAlerts],
        [[], [100], known(25, 70, 90, 100)],
      )
      assert.deepEqual((await store.listConversations({ limit: 1, nowMs: clock.ms }))[0]?.userAlerts, known(25, 70, 90, 100))
    }),
  )

  it(
    'keeps the alerts of earlier sessions apart, each once, in whichever it was reached',
    withStore(async (store, clock) => {
      await store.update({ conversation: 'A', initial: conversationFor('A', clock.ms), change: {}, nowMs: clock.ms })
      const known = async (change: ConversationChange) => {
        const updated = await store.update({ conversation: 'A', change, nowMs: clock.ms })
        return [updated?.firedAlerts, updated?.conversation.alerts, updated?.conversation.earlierAlerts]
      }
      assert.deepEqual(await known({ ofSession: 1, addAlerts: [70, 100] }), [[70, 100], [70, 100], []])
      assert.deepEqual(await known({ openSession: 2 }), [[], [], [70, 100]])
      assert.deepEqual(await known({ ofSession: 1, addAlerts: [70, 90, 100] }), [[], [], [70, 100]], 'of a session that is over')
      assert.deepEqual(await known({ ofSession: 2, addAlerts: [70, 90] }), [
        [70, 90],
        [70, 90],
        [70, 100],
      ])
      assert.deepEqual(await known({ openSession: 3 }), [[], [], [70, 90, 100]])
      assert.deepEqual(await known({ openSession: 4 }), [[], [], [70, 90, 100]])
      assert.deepEqual((await store.listConversations({ limit: 1, nowMs: clock.ms }))[0]?.earlierAlerts, [70, 90, 100])
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
      assert.deepEqual(await kinds(store), ['expiry 20', 'expiry 20', 'correction -20', 'settlement 5', 'correction -20'])
    }),
  )

  it(
    'takes the charge of an expired hold back under the name of its model, and enters the call under that which served it',
    withStore(async (store, clock) => {
      const note = { tier: 'pro', user: 'ann', model: 'asked' }
      await store.reserve(reserveStep('o1', clock.ms, { atLeast: 20n, atMost: 20n }, { reservation: { note } }))
      clock.ms += 90_000
      await store.sweep({ nowMs: clock.ms, limit: 10 })
      const truth = { operationId: 'o1', cost: 27n, atMs: clock.ms, note: { ...note, model: 'served' } }
      const answer = await store.settle({ ...settleStep('o1', clock.ms, 27n), settlement: truth })
      assert.ok(answer.result.status === 'corrected')
      const told = answer.result.entries.map(({ kind, cost, note: own }) => [kind, cost, own.model])
      const expected = [
        ['correction', -20n, 'asked'],
        ['settlement', 20n, 'served'],
        ['overrun', 7n, 'served'],
      ]
      assert.deepEqual(told, expected)
      const [expiry, ...entries] = await store.readLedger({ afterSequence: 0, limit: 9 })
      assert.deepEqual([expiry?.kind, expiry?.cost, expiry?.note.model], ['expiry', 20n, 'asked'])
      assert.deepEqual(
        entries.map(({ kind, cost, note: own }) => [kind, cost, own.model]),
        expected,
      )
      assert.equal(new Set([expiry, ...entries].map((entry) => entry?.id)).size, 4)
      assert.deepEqual(await balance(store, clock), { spent: 27n, held: 0n, heldInput: 0n })
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
    'knows what an app spent for as long as its conversation may live, however late it is told again',
    withStore(async (store, clock) => {
      const fact = { operationId: 'x1', accounts: ['c:A:1'], cost: 5n, note: {}, conversation: 'A', change: {} }
      assert.equal(await store.charge({ ...fact, atMs: clock.ms }), 'charged')
      for (let left = COST_LIFE_MS; left > 0; left -= 17 * HOUR_MS) {
        clock.ms += Math.min(left, 17 * HOUR_MS)
        await store.sweep({ nowMs: clock.ms, limit: 9 })
      }
      assert.equal(await store.charge({ ...fact, atMs: clock.ms }), 'exists')
      assert.deepEqual(await balance(store, clock), { spent: 5n, held: 0n, heldInput: 0n })
      assert.deepEqual(await kinds(store), ['cost 5'])
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
}
