/** Random schedules of steps, to be played on a store and on the model at the same time. */
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import type { AccountId, Draw } from '../core/budget.ts'
import type { Conversation, ConversationChange, Edit } from '../core/conversation.ts'
import { listedAccounts } from './contract/engine.testing.ts'
import type { ModelStore } from './model.testing.ts'
import type { OutcomeStep } from '../core/outcomes.ts'
import type { BudgetStore, RememberStep, ReserveAnswer, ReserveStep, SettleStep } from './store.ts'
import { conversationFor, START_MS } from './steps.testing.ts'

const HOUR_MS = 3_600_000

/** One step of a random schedule; ids, amounts and changes come from few, so that steps meet. */
export type RandomStep =
  | {
      readonly kind: 'reserve'
      readonly operation: number
      readonly conversation: 'A' | 'B'
      readonly atLeast: number
      readonly more: number
      readonly input: number
      readonly seen: 'now' | 'absent' | 'stale'
      readonly change: ConversationChange
    }
  | {
      readonly kind: 'settle'
      readonly operation: number
      readonly conversation: 'A' | 'B'
      readonly cost: number
      readonly change: ConversationChange
    }
  | { readonly kind: 'void' | 'renew'; readonly operation: number }
  | { readonly kind: 'charge'; readonly operation: number; readonly cost: number }
  | { readonly kind: 'update'; readonly conversation: 'A' | 'B'; readonly begins: boolean; readonly change: ConversationChange }
  | { readonly kind: 'sweep'; readonly limit: number }
  | { readonly kind: 'outcome'; readonly key: number; readonly outcome: Pick<OutcomeStep, 'kind' | 'of'> }
  | { readonly kind: 'remember'; readonly user: 'ann' | 'cem'; readonly entries: readonly SaidEntry[]; readonly lifeMs: number }
  | { readonly kind: 'forgetUser'; readonly user: 'ann' | 'cem' }
  | { readonly kind: 'clockBack' }

interface SaidEntry {
  readonly id: number
  readonly text: string
  readonly atMs: number
}

/** What users say here, and ask for. */
export const SAID = ['refund of order 17', 'Rückerstattung, bitte', '退款怎么办理', 'refunds AND "orders"', 'the order NEAR(you)*'] as const
const ASKED = ['refund', 'order', 'RUCK', '退款', '款', 'AND', '"', 'NEAR(refund order)', 'refund* OR -you', ''] as const

export const CUT: Edit = {
  kind: 'cut',
  id: 'e1',
  cause: 'Summarize',
  leading: 1,
  count: 2,
  originals: 'd',
  text: '{"a":"\u00fc"}',
  savedBytes: 3,
}
const DROP: Edit = { kind: 'replace', id: 'e2', rung: 'DropRetrieval', original: 'd', text: '{}', savedBytes: 3 }
const NOTICE: Edit = { kind: 'notice', id: 'e3', text: 'short of money' }

const small = fc.integer({ min: 0, max: 60 })
const operation = fc.integer({ min: 0, max: 9 })
const conversation = fc.constantFrom('A' as const, 'B' as const)
const told = fc.integer({ min: START_MS, max: START_MS + HOUR_MS })
const change: fc.Arbitrary<ConversationChange> = fc.record(
  {
    addRungs: fc.constantFrom(
      { rungs: ['DropRetrieval'], reason: 'threshold' } as const,
      { rungs: ['Summarize', 'DowngradeModel'], reason: 'fit' } as const,
      { rungs: ['RefuseTools', 'EndConversation'], reason: 'threshold' } as const,
    ),
    addEdits: fc.subarray([CUT, DROP, NOTICE]),
    addReadyEdits: fc.subarray([CUT, NOTICE]),
    addNotices: fc.constantFrom([{ id: 'n1', occasion: 'Summarize' as const }]),
    removeNotices: fc.constant(['n1']),
    addDrivers: fc.constant({ history: 3n, other: 1n }),
    turnAtMs: fc.integer({ min: START_MS, max: START_MS + HOUR_MS }),
    state: fc.record({ is: fc.constantFrom('open' as const, 'ended' as const), atMs: told }),
    atTaskBoundary: fc.record({ is: fc.boolean(), atMs: told }),
    ofSession: fc.constantFrom(1, 2),
    openSession: fc.constantFrom(2, 3),
    ladderApplies: fc.boolean(),
    contract: fc.constant({ hash: 'k2', pinnedAtMs: START_MS }),
    resolution: fc.record({
      kind: fc.constantFrom('assumed' as const, 'confirmed' as const, 'reversed' as const),
      atMs: told,
    }),
    addUserTurn: fc.constant(true as const),
    question: fc.constantFrom({ messages: 1, digest: 'aaaa' }, { messages: 3, digest: 'bbbb' }),
    turnRungs: fc.constantFrom([], ['DowngradeModel' as const], ['Summarize' as const, 'RefuseTools' as const]),
    addUserAlerts: fc.constantFrom(
      { period: 'Day1:2026-11-24', percents: [100, 50] },
      { period: 'Day1:2026-11-25', percents: [50] },
      { period: 'Month1:2026-11-01', percents: [] },
    ),
    addUserRungs: fc.constantFrom(
      { period: 'Day1:2026-11-24', rungs: ['Summarize' as const] },
      { period: 'Day1:2026-11-25', rungs: ['DropRetrieval' as const] },
      { period: 'Month1:2026-11-01', rungs: ['RefuseTools' as const] },
    ),
  },
  { requiredKeys: [] },
)
export const stepArbitrary: fc.Arbitrary<RandomStep> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('reserve' as const),
      operation,
      conversation,
      atLeast: small,
      more: small,
      input: small,
      seen: fc.constantFrom('now', 'now', 'now', 'absent', 'stale'),
      change,
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('settle' as const), operation, conversation, cost: small, change }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom('void' as const, 'renew' as const), operation }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('charge' as const), operation, cost: small }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('update' as const), conversation, begins: fc.boolean(), change }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('sweep' as const), limit: fc.integer({ min: 0, max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('clockBack' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('outcome' as const),
      key: fc.integer({ min: 0, max: 5 }),
      outcome: fc.constantFrom(
        { kind: 'started' } as const,
        { kind: 'assumed' } as const,
        { kind: 'confirmed', of: 'assumed' } as const,
        { kind: 'reversed', of: 'confirmed' } as const,
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('remember' as const),
      user: fc.constantFrom('ann' as const, 'cem' as const),
      entries: fc.array(
        fc.record({
          id: fc.integer({ min: 0, max: 9 }),
          text: fc.constantFrom(...SAID),
          atMs: fc.integer({ min: START_MS, max: START_MS + HOUR_MS }),
        }),
        { maxLength: 3 },
      ),
      lifeMs: fc.constantFrom(60_000, HOUR_MS),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('forgetUser' as const), user: fc.constantFrom('ann' as const, 'cem' as const) }) },
)

export interface Played {
  readonly onModel: () => unknown
  readonly onStore: (store: BudgetStore) => Promise<unknown>
}

/** The step as it is asked for now; what it has seen is what the model shows before the batch. */
export function played(step: RandomStep, model: ModelStore, nowMs: number): Played {
  const drawsOf = (id: string): Draw[] => [
    { account: `c:${id}:1`, cap: 100n },
    { account: 'u', cap: 150n },
    { account: 'w', cap: null },
  ]
  switch (step.kind) {
    case 'reserve': {
      const found = model.read({ conversation: step.conversation, accounts: [], nowMs }).conversation
      const stale = { contractHash: 'k0', user: null, session: 1 }
      const seenNow = found === null ? null : { contractHash: found.contractHash, user: found.user, session: found.session }
      const asked: ReserveStep = {
        conversation: step.conversation,
        initial: begun(step.conversation, nowMs),
        seen: step.seen === 'now' ? seenNow : step.seen === 'stale' ? stale : null,
        change: step.change,
        reservation: {
          operationId: `o${step.operation}`,
          draws: drawsOf(step.conversation),
          input: BigInt(step.input),
          atLeast: BigInt(step.atLeast),
          atMost: BigInt(step.atLeast + step.more),
          expiresAtMs: nowMs + 90_000,
          note: { conversation: step.conversation, tier: 'pro', user: 'ann', drivers: { output: 7n } },
        },
        nowMs,
      }
      return { onModel: () => promised(model.reserve(asked)), onStore: async (store) => promised(await store.reserve(asked)) }
    }
    case 'settle': {
      const asked: SettleStep = {
        settlement: {
          operationId: `o${step.operation}`,
          cost: BigInt(step.cost),
          atMs: nowMs,
          note: { tier: 'pro', user: step.operation % 2 === 0 ? 'ann' : '退 "x"', source: 'exact' },
        },
        conversation: step.conversation,
        change: step.change,
        chain: [`d${step.operation % 3}`],
        alerts: { draws: drawsOf(step.conversation), percents: [50, 100], ...watchedOfUser(step.operation) },
      }
      return { onModel: () => model.settle(asked), onStore: (store) => store.settle(asked) }
    }
    case 'void': {
      const asked = { operationId: `o${step.operation}`, atMs: nowMs }
      return { onModel: () => model.void(asked), onStore: (store) => store.void(asked) }
    }
    case 'renew': {
      const ids = [`o${step.operation}`, 'o0', 'unheard-of']
      return { onModel: () => model.renew(ids, nowMs + 120_000), onStore: (store) => store.renew(ids, nowMs + 120_000) }
    }
    case 'charge': {
      const asked = {
        operationId: `x${step.operation}`,
        accounts: ['c:A:1', 'u'],
        cost: BigInt(step.cost),
        atMs: nowMs,
        note: { tier: 'basic', label: 'search' },
        conversation: 'A',
        change: { addDrivers: { other: BigInt(step.cost) } },
      }
      return { onModel: () => model.charge(asked), onStore: (store) => store.charge(asked) }
    }
    case 'update': {
      const initial = step.begins ? { initial: begun(step.conversation, nowMs) } : {}
      const asked = { conversation: step.conversation, change: step.change, nowMs, ...initial }
      return { onModel: () => model.update(asked), onStore: (store) => store.update(asked) }
    }
    case 'sweep':
      return { onModel: () => model.sweep({ nowMs, limit: step.limit }), onStore: (store) => store.sweep({ nowMs, limit: step.limit }) }
    case 'outcome': {
      const { key, outcome } = step
      const asked = { key: `out${key}`, tier: 'pro', atMs: nowMs, note: { conversation: 'A', session: 1 }, ...outcome }
      return { onModel: () => model.addOutcome(asked), onStore: (store) => store.addOutcome(asked) }
    }
    case 'remember': {
      const asked: RememberStep = {
        user: step.user,
        entries: step.entries.map(({ id, text, atMs }) => {
          return { id: `m${id}`, conversation: id === 0 ? 'B' : 'A', session: 1, atMs, role: 'user', text }
        }),
        expiresAtMs: nowMs + step.lifeMs,
        nowMs,
      }
      return { onModel: () => model.remember(asked), onStore: (store) => store.remember(asked) }
    }
    case 'forgetUser': {
      const asked = { user: step.user, nowMs }
      return { onModel: () => model.forgetUser(asked), onStore: (store) => store.forgetUser(asked) }
    }
    case 'clockBack':
      return { onModel: () => undefined, onStore: () => Promise.resolve(undefined) }
  }
}

/** An earlier version watches the user's budget with the session's; a later period may be told of before the one that it follows. */
function watchedOfUser(operation: number): Pick<SettleStep['alerts'], 'ofUser'> {
  if (operation % 3 === 0) return {}
  return { ofUser: { account: 'u', cap: 60n, period: `Day1:2026-11-2${4 + (operation % 2)}` } }
}

/** Whether an engine may take the steps of a batch for one another's: what a user is forgotten in may be several steps. */
export function mayBeAtOnce(batch: readonly RandomStep[]): boolean {
  return batch.every(({ kind }) => kind !== 'forgetUser')
}

/** What a store must tell: of an operation that has ended no more than how. */
function promised(answer: ReserveAnswer): unknown {
  if (answer.status !== 'exists') return answer
  const { operation } = answer
  const { id, state } = operation
  const isOver = state.status === 'settled' || state.status === 'voided'
  return { ...answer, operation: isOver ? { id, state } : operation }
}

/** Only one of the two has a user; of seven tags both are at home in the same, so that one sweep enters them in one order. */
function begun(id: 'A' | 'B', nowMs: number): Conversation {
  return conversationFor(id, nowMs, { user: id === 'B' ? 'cem' : null })
}

/** Everything that can be read, of both. */
export async function compareAll(store: BudgetStore, model: ModelStore, nowMs: number): Promise<void> {
  const accounts = ['c:A:1', 'c:B:1', 'u', 'w']
  const digests = ['d2', 'd1', 'd0']
  const days = { fromDay: '2026-11-20', toDay: '2026-11-30' }
  const users = { fromDay: '2026-11-24', toDay: '2026-11-24', timesMedian: 2, atLeast: [1n, 30n], limit: 3 }
  const quiet = { quietSinceMs: START_MS + HOUR_MS / 2, limit: 5, nowMs }
  const ledger = store.readLedger({ afterSequence: 0, limit: 1_000 })
  // Some of them in turn: all of them after each batch would take most of the time.
  const turn = Math.floor(nowMs / 1_000)
  const words = [ASKED[turn % ASKED.length] ?? '', ASKED[(turn + 3) % ASKED.length] ?? '']
  // Asked for at the same time, so that what is sent is sent together.
  await Promise.all([
    ...['A', 'B'].map((conversation) => ({ conversation, accounts, nowMs })).map((query) => agree(store.read(query), model.read(query))),
    agree(store.findByChain(digests, nowMs), model.findByChain(digests)),
    agree(store.listConversations({ limit: 5, nowMs }), model.listConversations({ limit: 5, nowMs })),
    agree(
      ledger.then((entries) => entries.map(({ sequence: _sequence, ...entry }) => entry)),
      model.books.ledger,
    ),
    listsAll(store, model.listAccounts()),
    ...['pro', 'basic'].flatMap((tier) => [
      agree(store.readOutcomes({ ...days, tier }), model.readOutcomes({ ...days, tier })),
      agree(store.readTotals({ ...days, tier }), model.readTotals({ ...days, tier })),
      agree(store.readUsers({ ...users, tier }), model.readUsers({ ...users, tier })),
    ]),
    ...[['pro'], ['basic', 'pro', 'pro']].map((tiers) => agree(store.listQuiet({ ...quiet, tiers }), model.listQuiet({ ...quiet, tiers }))),
    ...['ann', 'cem'].flatMap((user) =>
      words.map(async (asked) => {
        const query = { user, query: asked, limit: 2, nowMs }
        const { next } = await agree(store.searchMemory(query), model.searchMemory(query))
        if (next === null) return
        const further = { ...query, cursor: next }
        await agree(store.searchMemory(further), model.searchMemory(further))
      }),
    ),
  ])
}

/** Every one of these accounts is listed; what else is, is the engine's matter. */
async function listsAll(store: BudgetStore, expected: readonly AccountId[]): Promise<void> {
  const listed = await listedAccounts(store)
  assert.deepEqual(
    expected.filter((account) => !listed.has(account)),
    [],
  )
}

/** The answer, which must be what the model says. */
async function agree<Answer>(answer: Promise<Answer>, expected: Answer): Promise<Answer> {
  const given = await answer
  assert.deepEqual(given, expected)
  return given
}
