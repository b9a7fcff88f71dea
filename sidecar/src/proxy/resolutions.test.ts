import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseUsd } from '@farebox/crds/usd.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import * as fc from 'fast-check'
import { waitFor } from '../../../test/support/wait-for.ts'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { newConversation } from '../core/conversation-change.ts'
import type { Conversation } from '../core/conversation.ts'
import { resolvedOf } from '../core/outcomes.ts'
import { sessionAccount } from '../core/terms.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import { ShelteredStore } from '../store/outage/sheltered-store.ts'
import type { ServerRun } from '../store/outage/sheltered-store.ts'
import { StoreError } from '../store/store.ts'
import type { BudgetStore, OutcomeTotals } from '../store/store.ts'
import { Metrics } from '../telemetry/metrics.ts'
import { dayOf } from '../core/utc-day.ts'
import { OutcomeWatch } from './outcome-watch.ts'
import { QuietSweep } from './quiet-sweep.ts'
import { assumeResolution, confirmResolution, countStart, reverseResolution } from './resolutions.ts'
import { totalsByTier } from './status.ts'
import { UserBook } from './user-book.ts'

const START_MS = Date.UTC(2026, 10, 24, 12)
const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS
const QUIET_MS = 4 * HOUR_MS
const WINDOW_MS = 72 * HOUR_MS
const POLICY = { quietPeriodMs: QUIET_MS, reopenWindowMs: WINDOW_MS }
const CONTRACT = makeContract({
  tier: 'resolved',
  pricing: { model: 'PerResolution', price: '0.99', targetCostPerResolution: '0.10' },
})
const CONFIG = makeConfig('http://127.0.0.1:1/v1', [CONTRACT, makeContract({ tier: 'seat' })], { resolution: { toolNames: [], ...POLICY } })

/** A store with a clock of its own, and whoever enters outcomes in it. */
class Desk {
  ms = START_MS
  readonly store: BudgetStore = openEmbeddedStore({ file: ':memory:', nowMs: () => this.ms })
  readonly metrics = new Metrics()
  readonly nowMs = (): number => this.ms
  config: SidecarConfig = CONFIG
  readonly policy = () => ({ config: this.config })
  readonly log = { info: (): void => undefined, error: (...said: readonly unknown[]): void => assert.fail(JSON.stringify(said)) }

  /** A turn that ends now, at this cost. */
  async turn(
    id: string,
    { cost = '0.01', tier = 'resolved' }: { readonly cost?: string; readonly tier?: string } = {},
  ): Promise<Conversation> {
    const initial = newConversation({ id, tier, contractHash: 'k', user: `user of ${id}`, nowMs: this.ms, ladderApplies: true })
    const updated = await this.store.update({ conversation: id, initial, change: { turnAtMs: this.ms }, nowMs: this.ms })
    assert.ok(updated !== null)
    await countStart(this, tier === 'resolved' ? CONTRACT : makeContract({ tier }), updated.conversation)
    await this.store.charge({
      operationId: `${id} ${updated.conversation.turns}`,
      accounts: [sessionAccount(id, updated.conversation.session)],
      cost: parseUsd(cost),
      atMs: this.ms,
      note: { tier, conversation: id, session: updated.conversation.session },
      conversation: id,
      change: {},
    })
    return updated.conversation
  }
  async conversation(id: string): Promise<Conversation> {
    const { conversation } = await this.store.read({ conversation: id, accounts: [], nowMs: this.ms })
    assert.ok(conversation !== null)
    return conversation
  }
  async state(id: string): Promise<string> {
    return (await this.conversation(id)).resolution
  }
  outcomes(tier = 'resolved'): Promise<OutcomeTotals> {
    return this.store.readOutcomes({ tier, fromDay: dayOf(this.ms - 27 * DAY_MS), toDay: dayOf(this.ms) })
  }
  /** Assumed, confirmed, reversed; and how many stand. */
  async counts(): Promise<readonly number[]> {
    const outcomes = await this.outcomes()
    return [outcomes.assumed, outcomes.confirmed, outcomes.reversed, resolvedOf(outcomes) - outcomes.reversed]
  }
  async entries(): Promise<readonly string[]> {
    const entries = await this.store.readLedger({ afterSequence: 0, limit: 1_000 })
    return entries.flatMap(({ kind, cost, note }) => (kind === 'outcome' && cost === 0n ? [`${note.conversation} ${note.label}`] : []))
  }
  sweep(): QuietSweep {
    return new QuietSweep(this)
  }
}

async function atDesk(run: (desk: Desk) => Promise<void>): Promise<void> {
  const desk = new Desk()
  try {
    await run(desk)
  } finally {
    await desk.store.close()
  }
}

test('a resolution is confirmed once, taken back once, and confirmed again; each is an entry of the ledger', () =>
  atDesk(async (desk) => {
    await desk.turn('A')
    assert.equal(await reverseResolution(desk, { id: 'A' }, POLICY), 'notResolved')
    assert.equal(await confirmResolution(desk, { id: 'nobody' }), 'unknown')
    for (const status of ['added', 'exists', 'exists']) assert.equal(await confirmResolution(desk, { id: 'A' }), status)
    for (const status of ['added', 'exists']) assert.equal(await reverseResolution(desk, { id: 'A' }, POLICY), status)
    assert.deepEqual(await desk.counts(), [0, 1, 1, 0])
    assert.equal(await confirmResolution(desk, { id: 'A' }), 'added')
    assert.deepEqual(await desk.counts(), [0, 2, 1, 1])
    assert.deepEqual(await desk.entries(), ['A started', 'A confirmed', 'A reversed', 'A confirmed'])
    assert.match(await desk.metrics.render(), /^farebox_outcomes_total\{tier="resolved",outcome="confirmed"\} 2$/m)
  }))

test('a resolution that was taken back by a clock that is ahead is confirmed once, however often that is said', () =>
  atDesk(async (desk) => {
    for (const kind of ['none', 'assumed']) {
      await desk.turn(kind)
      const { session } = await desk.conversation(kind)
      if (kind === 'assumed') {
        desk.ms += QUIET_MS
        await assumeResolution(desk, { id: kind, session }, POLICY)
      } else await confirmResolution(desk, { id: kind })
      desk.ms += MINUTE_MS
      await reverseResolution(desk, { id: kind }, POLICY)
      desk.ms -= 5_000
      const before = await desk.outcomes()
      const told: string[] = []
      for (let repeat = 0; repeat < 3; repeat++) {
        desk.ms += 1_000
        told.push(await confirmResolution(desk, { id: kind }))
      }
      assert.deepEqual(told, ['added', 'exists', 'exists'])
      assert.equal(await desk.state(kind), 'confirmed')
      assert.equal((await desk.outcomes()).confirmed, before.confirmed + 1)
    }
  }))

test('one that was assumed as of a time which this clock has not reached yet is confirmed in its place, once', () =>
  atDesk(async (desk) => {
    await desk.turn('A')
    const { session } = await desk.conversation('A')
    desk.ms += QUIET_MS
    await assumeResolution(desk, { id: 'A', session }, POLICY)
    desk.ms -= 5_000
    for (const status of ['added', 'exists', 'exists']) assert.equal(await confirmResolution(desk, { id: 'A' }), status)
    assert.equal(await desk.state('A'), 'confirmed')
    assert.deepEqual(await desk.counts(), [1, 1, 0, 1])
  }))

test('what an answered call resolved is in the store once that is back, though it was away meanwhile and nothing may begin without it', () =>
  atDesk(async (desk) => {
    const folder = mkdtempSync(join(tmpdir(), 'farebox-resolutions-'))
    let isAway = false
    const heard = (): void => {
      if (isAway) throw new StoreError('away', 'deaf')
    }
    const shared = new Proxy(desk.store, {
      get:
        (books, name: keyof BudgetStore) =>
        async (...values: never[]) => {
          if (name === 'close') return null
          heard()
          const step: (...values: never[]) => Promise<unknown> = books[name]
          return await step.apply(books, values)
        },
    })
    const run = async (): Promise<ServerRun> => {
      heard()
      return { name: 'first', knownMs: HOUR_MS }
    }
    const store = await ShelteredStore.open({
      folder,
      connect: async () => ({ store: shared, connections: () => 1, run }),
      nowMs: desk.nowMs,
      allowancePercent: () => 0,
      holdLifeMs: MINUTE_MS,
    })
    try {
      for (const id of ['told', 'not-told']) await desk.turn(id)
      const { nowMs, metrics } = desk
      await store.read({ conversation: 'told', accounts: [], nowMs: nowMs() })
      isAway = true
      assert.equal(await confirmResolution({ store, nowMs, metrics }, { id: 'told' }), 'added')
      await assert.rejects(store.read({ conversation: 'told', accounts: [], nowMs: nowMs() }), { code: 'away' })
      isAway = false
      await waitFor('the store', () => store.standing.state === 'Ready', { withinMs: 10_000 })
      assert.deepEqual(await desk.counts(), [0, 1, 0, 1])
      assert.deepEqual([await desk.state('told'), await desk.state('not-told')], ['confirmed', 'none'])
    } finally {
      await store.close()
      rmSync(folder, { recursive: true })
    }
  }))

test('after the reopen window a resolution stands', () =>
  atDesk(async (desk) => {
    await desk.turn('A')
    await desk.turn('B')
    for (const id of ['A', 'B']) await confirmResolution(desk, { id })
    desk.ms += WINDOW_MS
    assert.equal(await reverseResolution(desk, { id: 'A' }, POLICY), 'added')
    desk.ms += 1
    assert.equal(await reverseResolution(desk, { id: 'B' }, POLICY), 'tooLate')
    assert.deepEqual([await desk.state('A'), await desk.state('B')], ['reversed', 'confirmed'])
  }))

test('what was assumed and is then confirmed is one resolution; what was assumed may be taken back', () =>
  atDesk(async (desk) => {
    for (const id of ['A', 'B']) await desk.turn(id)
    desk.ms += QUIET_MS + 1
    assert.equal(await desk.sweep().look(), 2)
    assert.deepEqual(await desk.counts(), [2, 0, 0, 2])
    for (const status of ['added', 'exists']) assert.equal(await confirmResolution(desk, { id: 'A' }), status)
    assert.deepEqual(await desk.counts(), [2, 1, 0, 2])
    assert.equal(await reverseResolution(desk, { id: 'B' }, POLICY), 'added')
    assert.deepEqual([await desk.state('A'), await desk.state('B'), await desk.counts()], ['confirmed', 'reversed', [2, 1, 1, 1]])
    assert.deepEqual(await desk.entries(), ['A started', 'B started', 'A assumed', 'B assumed', 'A confirmed', 'B reversed'])
  }))

test('is assumed as of the end of the quiet time, whoever looks and whenever', () =>
  atDesk(async (desk) => {
    await desk.turn('A')
    desk.ms += QUIET_MS
    assert.equal(await desk.sweep().look(), 0, 'not a moment before')
    desk.ms += 20 * MINUTE_MS
    await Promise.all([desk.sweep().look(), desk.sweep().look(), desk.sweep().look()])
    assert.equal((await desk.conversation('A')).resolvedAtMs, START_MS + QUIET_MS)
    assert.deepEqual(await desk.counts(), [1, 0, 0, 1])
    assert.equal(await desk.sweep().look(), 0)
  }))

test('is assumed again when it was taken back and has been quiet once more, and not before a turn', () =>
  atDesk(async (desk) => {
    await desk.turn('A')
    desk.ms += QUIET_MS + 1
    await desk.sweep().look()
    await reverseResolution(desk, { id: 'A' }, POLICY)
    desk.ms += QUIET_MS + 1
    assert.equal(await desk.sweep().look(), 0, 'it was said that it is not resolved, and nothing since')
    await desk.turn('A')
    desk.ms += QUIET_MS + 1
    assert.equal(await desk.sweep().look(), 1)
    assert.deepEqual(await desk.counts(), [2, 0, 1, 1])
  }))

test('what was ended and is opened again is quiet from then on, not since its last turn', () =>
  atDesk(async (desk) => {
    const become = (is: 'ended' | 'open') =>
      desk.store.update({ conversation: 'A', change: { state: { is, atMs: desk.ms } }, nowMs: desk.ms })
    await desk.turn('A')
    await become('ended')
    desk.ms += DAY_MS
    await become('open')
    assert.equal(await desk.sweep().look(), 0)
    desk.ms += QUIET_MS + 1
    assert.equal(await desk.sweep().look(), 1)
    assert.equal((await desk.conversation('A')).resolvedAtMs, START_MS + DAY_MS + QUIET_MS)
  }))

test('is not assumed while a call is under way, of what its budget has ended, or of tiers that are priced otherwise', () =>
  atDesk(async (desk) => {
    for (const id of ['busy', 'ended']) await desk.turn(id)
    await desk.turn('seat', { tier: 'seat' })
    const busy = await desk.conversation('busy')
    desk.ms += QUIET_MS + 1
    await desk.store.update({ conversation: 'ended', change: { state: { is: 'ended', atMs: desk.ms } }, nowMs: desk.ms })
    await desk.store.reserve({
      conversation: 'busy',
      initial: busy,
      seen: { contractHash: busy.contractHash, user: busy.user, session: 1 },
      change: {},
      reservation: {
        operationId: 'under way',
        draws: [{ account: sessionAccount('busy', 1), cap: parseUsd('1.00') }],
        input: 1n,
        atLeast: 10n,
        atMost: 10n,
        expiresAtMs: desk.ms + 90_000,
        note: {},
      },
      nowMs: desk.ms,
    })
    assert.equal(await desk.sweep().look(), 0)
    await desk.store.void({ operationId: 'under way', atMs: desk.ms })
    assert.equal(await desk.sweep().look(), 1)
    await desk.store.update({ conversation: 'ended', change: { state: { is: 'open', atMs: desk.ms } }, nowMs: desk.ms })
    desk.ms += QUIET_MS + 1
    assert.equal(await desk.sweep().look(), 1, 'opened again, and quiet all the same')
    assert.deepEqual([await desk.state('busy'), await desk.state('ended'), await desk.state('seat')], ['assumed', 'assumed', 'none'])
  }))

test('a turn that ends while it is assumed takes it back', () =>
  atDesk(async (desk) => {
    const seen = await desk.turn('A')
    desk.ms += QUIET_MS + 1
    // The turn comes between the look at the conversation and the entry.
    const { store } = desk
    const slow: BudgetStore = Object.assign(Object.create(store) as BudgetStore, {
      read: store.read.bind(store),
      update: store.update.bind(store),
      addOutcome: async (outcome: Parameters<BudgetStore['addOutcome']>[0]) => {
        if (outcome.kind === 'assumed') await desk.turn('A')
        return await store.addOutcome(outcome)
      },
    })
    await assumeResolution({ store: slow, nowMs: desk.nowMs, metrics: desk.metrics }, seen, POLICY)
    assert.deepEqual([await desk.state('A'), await desk.counts()], ['reversed', [1, 0, 1, 0]])
  }))

test('without a quiet period nothing is assumed, and a stopped sweep looks no more', () =>
  atDesk(async (desk) => {
    await desk.turn('A')
    desk.ms += QUIET_MS + 1
    desk.config = makeConfig('http://127.0.0.1:1/v1', [CONTRACT])
    assert.equal(await desk.sweep().look(), 0)
    desk.config = CONFIG
    const sweep = desk.sweep()
    sweep.stop()
    assert.equal(await sweep.look(), 0)
    assert.equal(await desk.sweep().look(), 1)
  }))

test('more quiet conversations than a batch are all assumed', () =>
  atDesk(async (desk) => {
    for (let index = 0; index < 250; index++) await desk.turn(`c${index}`)
    desk.ms += QUIET_MS + 1
    assert.equal(await desk.sweep().look(), 250)
  }))

test('each session has a resolution of its own', () =>
  atDesk(async (desk) => {
    await desk.turn('A')
    await confirmResolution(desk, { id: 'A' })
    desk.ms += WINDOW_MS + 1
    const opened = await desk.store.update({ conversation: 'A', change: { openSession: 2 }, nowMs: desk.ms })
    assert.ok(opened !== null)
    await countStart(desk, CONTRACT, opened.conversation)
    await desk.turn('A')
    assert.equal(await reverseResolution(desk, { id: 'A' }, POLICY), 'notResolved', 'the one before stands')
    assert.equal(await confirmResolution(desk, { id: 'A' }), 'added')
    const { started, confirmed } = await desk.outcomes()
    assert.deepEqual([started, confirmed], [2, 2])
  }))

test('what is told of a session while the next one begins is not of the next one', () =>
  atDesk(async (desk) => {
    await desk.turn('A')
    const { store } = desk
    const slow: BudgetStore = Object.assign(Object.create(store) as BudgetStore, {
      read: store.read.bind(store),
      update: store.update.bind(store),
      addOutcome: async (outcome: Parameters<BudgetStore['addOutcome']>[0]) => {
        await store.update({ conversation: 'A', change: { openSession: 2 }, nowMs: desk.ms })
        return await store.addOutcome(outcome)
      },
    })
    assert.equal(await confirmResolution({ store: slow, nowMs: desk.nowMs, metrics: desk.metrics }, { id: 'A' }), 'added')
    assert.deepEqual([await desk.state('A'), await desk.counts()], ['none', [0, 1, 0, 1]])
    assert.equal(await confirmResolution(desk, { id: 'A' }), 'added', 'the next one has a resolution of its own')
    assert.deepEqual([await desk.state('A'), await desk.counts()], ['confirmed', [0, 2, 0, 2]])
  }))

test('an id that comes back when its conversation is forgotten is resolved anew', () =>
  atDesk(async (desk) => {
    await desk.turn('A')
    await confirmResolution(desk, { id: 'A' })
    desk.ms += 36 * DAY_MS
    await desk.turn('A')
    assert.equal(await confirmResolution(desk, { id: 'A' }), 'added')
    assert.deepEqual([(await desk.outcomes()).started, (await desk.outcomes()).confirmed], [1, 1])
  }))

test('however it is told, in whatever order and how often: what stands is what is counted', async () => {
  const step = fc.record({
    id: fc.constantFrom('A', 'B'),
    what: fc.constantFrom('turn', 'confirm', 'confirm', 'reverse', 'look', 'look'),
    afterMs: fc.constantFrom(1, HOUR_MS, QUIET_MS + 1, WINDOW_MS),
    times: fc.integer({ min: 1, max: 3 }),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 14 }), (steps) =>
      atDesk(async (desk) => {
        for (const id of ['A', 'B']) await desk.turn(id)
        for (const { id, what, afterMs, times } of steps) {
          // None of these days drops out of the window.
          if (desk.ms + afterMs < START_MS + 27 * DAY_MS) desk.ms += afterMs
          const repeats = Array.from({ length: times }, () => ({ id }))
          if (what === 'turn') await desk.turn(id)
          else if (what === 'confirm') await Promise.all(repeats.map((one) => confirmResolution(desk, one)))
          else if (what === 'reverse') await Promise.all(repeats.map((one) => reverseResolution(desk, one, POLICY)))
          else await Promise.all(repeats.map(() => desk.sweep().look()))
        }
        const states = [await desk.state('A'), await desk.state('B')]
        const standing = states.filter((state) => state === 'assumed' || state === 'confirmed').length
        assert.equal((await desk.counts()).at(-1), standing, states.join())
      }),
    ),
    { numRuns: 60 },
  )
})

test('a confirmation and a sweep at the same moment are one resolution', async () => {
  for (let round = 0; round < 20; round++) {
    await atDesk(async (desk) => {
      await desk.turn('A')
      desk.ms += QUIET_MS + 1
      await Promise.all(
        round % 2 === 0
          ? [desk.sweep().look(), confirmResolution(desk, { id: 'A' }), desk.sweep().look()]
          : [confirmResolution(desk, { id: 'A' }), desk.sweep().look()],
      )
      assert.equal((await desk.counts()).at(-1), 1)
      assert.equal(await desk.state('A'), 'confirmed')
    })
  }
})

const counting = (desk: Desk): Parameters<typeof totalsByTier>[0] => ({
  store: desk.store,
  nowMs: desk.nowMs,
  outcomes: new OutcomeWatch(desk.store),
  users: new UserBook(desk.store),
})

test('status tells each resolution once, the rate and cost of them, and what was lost on conversations without one', () =>
  atDesk(async (desk) => {
    await desk.turn('confirmed', { cost: '0.10' })
    await desk.turn('assumed', { cost: '0.20' })
    await desk.turn('both', { cost: '0.30' })
    desk.ms += QUIET_MS + 1
    await desk.sweep().look()
    await confirmResolution(desk, { id: 'both' })
    await reverseResolution(desk, { id: 'confirmed' }, POLICY)
    await desk.turn('confirmed', { cost: '0.05' })
    await confirmResolution(desk, { id: 'confirmed' })
    await desk.turn('open', { cost: '0.40' })
    await desk.turn('reversed', { cost: '0.50' })
    await confirmResolution(desk, { id: 'reversed' })
    await reverseResolution(desk, { id: 'reversed' }, POLICY)
    const { resolved, seat } = await totalsByTier(counting(desk), ['resolved', 'seat'], CONFIG.contracts)
    assert.deepEqual(resolved?.resolutions, {
      started: 5,
      // Three were assumed; one of them was confirmed in its place, one was taken back before somebody confirmed it.
      assumed: 2,
      confirmed: 3,
      reversed: 2,
      cost: '1.55',
      costPer: '0.516666666',
      unresolvedCost: '0.90',
      isOverTarget: false,
    })
    assert.deepEqual(seat?.resolutions, { started: 0, assumed: 0, confirmed: 0, reversed: 0, cost: '0.00', costPer: null })
  }))

test('what is lost is never more than the days of the window cost', () =>
  atDesk(async (desk) => {
    await desk.turn('long', { cost: '5.00' })
    desk.ms += 30 * DAY_MS
    await desk.turn('long', { cost: '0.25' })
    const { resolved } = await totalsByTier(counting(desk), ['resolved'], CONFIG.contracts)
    assert.deepEqual([resolved?.resolutions.cost, resolved?.resolutions.unresolvedCost], ['0.25', '0.25'])
  }))

test('over target the ladder applies to conversations that begin from then on; at 95 % it does no more', () =>
  atDesk(async (desk) => {
    const applies = (): Promise<boolean> => new OutcomeWatch(desk.store).ladderApplies(CONTRACT, desk.ms)
    /** So many that are resolved by nobody coming back, at this cost each. */
    const quietDay = async (count: number, cost: string): Promise<void> => {
      for (let index = 0; index < count; index++) await desk.turn(`${dayOf(desk.ms)} ${index}`, { cost })
      desk.ms += DAY_MS
      await desk.sweep().look()
    }
    await quietDay(49, '0.12')
    assert.equal(await applies(), false, 'too few to say')
    await quietDay(1, '0.12')
    assert.equal(await applies(), true, '0.12 where 0.10 is the target')
    await quietDay(20, '0.08')
    assert.equal(await applies(), true, '0.1086: below 110 %, but not down to 95 %')
    await quietDay(60, '0.08')
    assert.equal(await applies(), true, '0.0954')
    await quietDay(20, '0.08')
    assert.equal(await applies(), false, '0.0933')
    await quietDay(100, '0.11')
    assert.equal(await applies(), false, 'above the target again, but not above 110 %')
    desk.ms += 40 * DAY_MS
    assert.equal(await applies(), false, 'nothing in the window: as it was')
  }))
