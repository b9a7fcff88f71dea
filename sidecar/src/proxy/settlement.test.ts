import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Prices } from '@farebox/crds/prices.ts'
import { METERED_KINDS, usageOf } from '@farebox/crds/usage.ts'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { callDigests, responseDigest } from '../core/chain.ts'
import { KEPT_MESSAGES } from '../core/conversation.ts'
import { scopeOf } from '../core/identify.ts'
import { KeyedHash } from '../core/keyed-hash.ts'
import { call, chatRequest, message, user } from '../core/requests.testing.ts'
import { termsOf } from '../core/terms.ts'
import { FactorTable } from '../core/token-factor.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import type { SettleStep } from '../store/store.ts'
import { conversationFor, reserveStep, START_MS } from '../store/steps.testing.ts'
import type { Admitted } from './admit.ts'
import type { Turn } from './exchange.ts'
import type { CallEnd } from './forward.ts'
import { HoldKeeper } from './hold-keeper.ts'
import type { HoldTellers } from './hold-keeper.ts'
import { MoneyQueue } from './money-queue.ts'
import { settle, settleStep } from './settlement.ts'
import type { Ended } from './settlement.ts'
import { SideLoops } from './side-loops.ts'

type Answered = Extract<CallEnd, { status: 'settle' }>
type Facts = NonNullable<Answered['facts']>

const CONTRACT = makeContract({ alerts: [70] })
const CONFIG = makeConfig('http://provider/v1', [CONTRACT], { taskBoundary: { toolNames: ['close_*'] } })
/** One nano-dollar for each token, or whatever else is metered. */
const PRICES = Object.fromEntries(METERED_KINDS.map((kind) => [kind, 1_000n])) as unknown as Prices
const ASKED = { messages: 1, messagesDigest: 'd'.repeat(32) }
const QUESTION = { messages: 1, digest: 'd'.repeat(16) }
const KEY = new KeyedHash(Buffer.from('key'))
const CHAIN = { scope: 's', digests: ['c0'] }
const BOUND = { bytes: 90, known: 0, freshHeuristic: 80, hasFiles: false, sent: { fixedDigest: 'f', ...ASKED } }
const EDIT = { kind: 'replace', id: 'edit-1' }

/** A call that holds 100 nano-dollars of the conversation `A`. */
function admitted(turn: Partial<Turn> = {}, gateway: Partial<Turn['gateway']> = {}): Admitted {
  return {
    turn: {
      gateway: { chainKey: KEY, ...gateway },
      policy: { config: CONFIG },
      request: chatRequest([user('Hello')]),
      conversation: conversationFor('A', START_MS),
      conversationId: 'A',
      user: 'u1',
      terms: termsOf(CONTRACT),
      chain: null,
      earlierTokens: 0,
      draws: [
        { kind: 'conversation', account: 'c:A:1', cap: 500n, periodKey: null },
        { kind: 'workload', account: 'w', cap: 900n, periodKey: '2026-11-24' },
      ],
      ...turn,
    },
    plan: {
      model: 'gpt-4o',
      priced: { pricesFor: () => PRICES, capabilities: { reasoning: false } },
      bound: BOUND,
      shaped: { newEdits: [EDIT], skipped: [] },
      promoted: [],
      readings: null,
    },
    operationId: 'op',
    granted: 100n,
  } as unknown as Admitted
}

/** An answer of 60 tokens by the provider's word, 40 of them input. */
function answered(more: Partial<Answered> = {}, facts: Partial<Facts> = {}): Answered {
  const said = { model: null, responseId: null, toolNames: [], ...facts } as unknown as Facts
  const usage = usageOf({ uncachedInput: 30, cacheReadInput: 10, output: 20 })
  return {
    status: 'settle',
    usage,
    source: 'exact',
    facts: said,
    message: null,
    messages: [],
    alternatives: [],
    noticed: false,
    cost: 60n,
    isSent: true,
    ...more,
  }
}

function ended<End extends CallEnd>(end: End, more: Partial<Ended> = {}): Ended<End> {
  return { notice: null, driven: { all: 40, retrieval: 0, tools: 0 }, untold: [], asked: ASKED, beside: null, ...more, end }
}

const NOTE = { conversation: 'A', session: 1, user: 'u1', tier: 'pro', model: 'gpt-4o', purpose: 'turn' }

test('an answer that was counted is settled by that count, from which the next bound starts', () => {
  const end = answered()
  const drivers = { history: 40n, retrieval: 0n, tools: 0n, output: 20n }
  assert.deepEqual(settleStep(admitted(), ended(end), START_MS), {
    settlement: { operationId: 'op', cost: 60n, atMs: START_MS, note: { ...NOTE, usage: end.usage, source: 'exact', drivers } },
    conversation: 'A',
    change: {
      ofSession: 1,
      turnAtMs: START_MS,
      addUserTurn: true,
      question: QUESTION,
      addDrivers: drivers,
      exact: { model: 'gpt-4o', ...BOUND.sent, inputTokens: 40, cachedTokens: 10, outputTokens: 20, atMs: START_MS, lastEdit: 'edit-1' },
    },
    chain: [],
    alerts: { draws: [{ account: 'c:A:1', cap: 500n }], percents: [70] },
  })
})

test('what was written into the cache, and what was heard, is kept with the count where there is any', () => {
  const usage = usageOf({
    uncachedInput: 5,
    cacheWriteInput: 10,
    cacheWriteLongInput: 20,
    audioInput: 3,
    cacheReadAudioInput: 2,
    output: 1,
  })
  const { exact } = settleStep(admitted(), ended(answered({ usage }, { audioTokens: 35 })), START_MS).change
  assert.deepEqual([exact?.inputTokens, exact?.cachedTokens, exact?.cacheWrittenTokens, exact?.audioTokens], [40, 2, 30, 35])
})

test('that nothing was heard is kept as well, and is not the same as nobody saying so', () => {
  const audioTokens = (facts: Partial<Facts>): number | undefined =>
    settleStep(admitted(), ended(answered({}, facts)), START_MS).change.exact?.audioTokens
  assert.deepEqual([audioTokens({ audioTokens: 0 }), audioTokens({})], [0, undefined])
})

test('that the model that was asked for answered on DowngradeModel is kept, whatever the reason; of other rungs nothing is', () => {
  const stayed = (skipped: Admitted['plan']['shaped']['skipped']): true | undefined => {
    const { plan, ...rest } = admitted()
    const end = ended(answered())
    return settleStep({ ...rest, plan: { ...plan, shaped: { ...plan.shaped, skipped } } }, end, START_MS).change.exact?.stayed
  }
  for (const reason of ['noDowngrade', 'refused', 'incapable', 'noSaving'] as const)
    assert.equal(
      stayed([
        { rung: 'Summarize', reason: 'noSummary' },
        { rung: 'DowngradeModel', reason },
      ]),
      true,
    )
  assert.equal(stayed([{ rung: 'Summarize', reason: 'noSummary' }]), undefined)
})

test('alerts are watched on the session’s budget, and on the user’s in its period; a limit of the workload has none', () => {
  const user = { kind: 'user', account: 'u:u1:pro:Day:2026-11-24', cap: 90n, periodKey: 'Day1:2026-11-24' } as const
  const workload = { kind: 'workload', account: 'w', cap: 9n, periodKey: '2026-11-24' } as const
  const given = admitted()
  const turn = { ...given.turn, draws: [...given.turn.draws, user, workload] }
  const { alerts } = settleStep({ ...given, turn }, ended(answered()), START_MS)
  assert.deepEqual(alerts, {
    draws: [{ account: 'c:A:1', cap: 500n }],
    percents: [70],
    ofUser: { account: user.account, cap: 90n, period: 'Day1:2026-11-24' },
  })
})

test('an answer that nobody counted is settled by what was seen of it, and counts for no bound', () => {
  for (const source of ['partial', 'estimated'] as const) {
    const { settlement, change } = settleStep(admitted(), ended(answered({ source, facts: null })), START_MS)
    assert.deepEqual([settlement.cost, settlement.note.source, settlement.note.usage?.output], [60n, source, 20])
    assert.equal(change.exact, undefined)
    assert.equal(change.addUserTurn, true)
  }
})

test('the sum of several readings of the context is billed, and counts for no bound', () => {
  const { settlement, change } = settleStep(admitted(), ended(answered({}, { isSum: true })), START_MS)
  assert.equal(settlement.note.source, 'exact')
  assert.equal(change.exact, undefined)
})

test('a call beside the chat leaves the count that the chat goes on from, and has one of its own', async () => {
  assert.equal(settleStep(admitted(), ended(answered(), { beside: { loop: null } }), START_MS).change.exact, undefined)
  const store = openEmbeddedStore({ file: ':memory:', nowMs: () => START_MS, writer: 'inline' })
  await store.reserve(reserveStep('op', START_MS, { atLeast: 100n, atMost: 100n, cap: 500n }))
  const sideLoops = new SideLoops()
  const gateway = {
    store,
    sideLoops,
    queue: new MoneyQueue(),
    factors: new FactorTable(),
    holds: new HoldKeeper(store, {} as unknown as HoldTellers, () => START_MS),
    nowMs: () => START_MS,
  }
  await settle(admitted({}, gateway), ended(answered(), { beside: { loop: null } }))
  const known = conversationFor('A', START_MS, { userTurns: 1, question: { messages: 3, digest: 'd' } })
  assert.equal(sideLoops.find(chatRequest([user('Another title')]), known)?.exact?.inputTokens, 40)
  await store.close()
})

test('how many tokens a model makes of text is learned from no call that had files in it, or a history that the provider keeps', async () => {
  const store = openEmbeddedStore({ file: ':memory:', nowMs: () => START_MS, writer: 'inline' })
  const factors = new FactorTable()
  const holds = new HoldKeeper(store, {} as unknown as HoldTellers, () => START_MS)
  const gateway = { store, factors, holds, queue: new MoneyQueue(), nowMs: () => START_MS }
  const usage = usageOf({ uncachedInput: 160, output: 20 })
  const learned = async (turn: Partial<Turn>, hasFiles: boolean): Promise<number> => {
    const given = admitted(turn, gateway)
    await settle({ ...given, plan: { ...given.plan, bound: { ...given.plan.bound, hasFiles } } }, ended(answered({ usage })))
    return factors.factorOf('gpt-4o')
  }
  assert.equal(await learned({}, true), 1)
  assert.equal(await learned({ earlierTokens: 100 }, false), 1)
  assert.equal(await learned({}, false), 2, 'the heuristic had 80')
  await store.close()
})

test('a call that is not billed ends its turn, costs nothing, and counts for no bound', () => {
  const end = answered({ usage: usageOf({}), cost: 0n }, { isUnbilled: true })
  const { settlement, change } = settleStep(admitted(), ended(end), START_MS)
  assert.deepEqual([settlement.cost, settlement.note.source, change.addUserTurn], [0n, 'exact', true])
  assert.equal(change.exact, undefined)
})

test('a call of which nobody knows what is billed is charged with all that it held', () => {
  const kept = { earlier: { kind: 'conversation', id: 'conv_1' } } as const
  const turn = { chain: CHAIN, request: chatRequest([user('Hello')], kept) }
  const step = settleStep(admitted(turn), ended({ status: 'charge' }), START_MS)
  const drivers = { output: 100n }
  assert.deepEqual(step.settlement, { operationId: 'op', cost: 100n, atMs: START_MS, note: { ...NOTE, source: 'estimated', drivers } })
  assert.deepEqual(step.chain, [])
  // The provider keeps the history: the same words would be the next question, so it is known by its call, and of more than it brings.
  const question = { messages: KEPT_MESSAGES, digest: 'op' }
  assert.deepEqual(step.change, { ofSession: 1, turnAtMs: START_MS, addUserTurn: true, question, addDrivers: drivers })
})

test('the model is the one that answered, in text that every store can read', () => {
  const { settlement } = settleStep(admitted(), ended(answered({}, { model: 'gpt-4o-\ud83d' })), START_MS)
  assert.equal(settlement.note.model, 'gpt-4o-\ufffd')
})

test('a later turn finds the conversation by its history, the answer, and what the provider keeps', () => {
  const said = message({ role: 'assistant', content: 'Hi' })
  const end = answered({ message: said, messages: [said] }, { responseId: 'resp_1', keptNames: ['item_1'] })
  const request = chatRequest([user('Hello')], { earlier: { kind: 'conversation', id: 'conv_1' } })
  const { chain, change } = settleStep(admitted({ chain: CHAIN, request }), ended(end), START_MS)
  const named = (id: string): string => responseDigest(id, KEY, `${scopeOf(CONFIG)}/pro`)
  assert.equal(chain[0], 'c0')
  assert.deepEqual(chain.slice(2), [named('resp_1'), named('conv_1'), named('item_1')])
  assert.equal(change.exact?.response, named('resp_1'))
})

test('a history is kept as one of text alone where the model makes no thoughts, which other models read otherwise', () => {
  const { turn, plan, ...rest } = admitted({ chain: CHAIN })
  const keptBy = (reasoning: boolean): boolean | undefined => {
    const capabilities = { ...plan.priced.capabilities, reasoning }
    const call = { ...rest, turn, plan: { ...plan, priced: { ...plan.priced, capabilities } } }
    return settleStep(call, ended(answered({}, { responseId: 'resp_1' })), START_MS).change.exact?.isText
  }
  assert.deepEqual([keptBy(false), keptBy(true)], [true, undefined])
})

test('a later turn finds the conversation by the calls of tools in the answer, inside the scope of its chain', () => {
  const calls = message(call(...['a', 'b'].map((letter) => ({ id: `call_1${letter.repeat(23)}`, name: 'look_up' }))))
  const step = (scope: string): SettleStep =>
    settleStep(admitted({ chain: { ...CHAIN, scope } }), ended(answered({ message: calls, messages: [calls] })), START_MS)
  for (const scope of ['of u1', 'of nobody']) assert.deepEqual(step(scope).chain.slice(2), callDigests([calls], 8, KEY, scope))
  assert.notDeepEqual(step('of u1').chain.slice(2), step('of nobody').chain.slice(2))
  assert.equal(step('of u1').chain.length, 4)
})

test('what the answer told waits no longer; what it did not tell does, but for what an attempt made in vain', () => {
  const notices = [
    { id: '1/Reset/0', occasion: 'Reset' },
    { id: '1/DropOldest/0', occasion: 'DropOldest' },
  ] as const
  const turn = { conversation: conversationFor('A', START_MS, { notices }) }
  const notice = { text: 'A new session.', ids: ['1/Reset/0'] }
  const changed = (noticed: boolean, untold: Ended['untold'] = []) =>
    settleStep(admitted(turn), ended(answered({ noticed }), { notice, untold }), START_MS).change
  const told = changed(true)
  assert.deepEqual(told.addEdits, [{ kind: 'notice', id: 'notice/1/Reset/0', text: 'A new session.' }])
  assert.deepEqual(told.removeNotices, ['1/Reset/0'])
  assert.deepEqual([changed(false).addEdits, changed(false).removeNotices], [undefined, undefined])
  assert.deepEqual(changed(true, ['DropOldest']).removeNotices, ['1/Reset/0', '1/DropOldest/0'])
})

test('a tool that ends a task is a task boundary until the next question is answered', () => {
  const called = settleStep(admitted(), ended(answered({}, { toolNames: ['close_case'] })), START_MS)
  assert.deepEqual(called.change.atTaskBoundary, { is: true, atMs: START_MS })
  const turn = { conversation: conversationFor('A', START_MS, { atTaskBoundary: true }) }
  assert.deepEqual(settleStep(admitted(turn), ended(answered()), START_MS).change.atTaskBoundary, { is: false, atMs: START_MS })
})

for (const { end, left } of [
  { end: answered(), left: [60n, 0n] },
  { end: { status: 'charge' }, left: [100n, 0n] },
  { end: { status: 'void' }, left: [0n, 0n] },
  { end: { status: 'retry', without: 'edits' }, left: [0n, 0n] },
] as const satisfies readonly { readonly end: CallEnd; readonly left: readonly bigint[] }[])
  test(`the hold of a call that ends as "${end.status}" ends, and who waits for its money is woken`, async () => {
    const store = openEmbeddedStore({ file: ':memory:', nowMs: () => START_MS, writer: 'inline' })
    await store.reserve(reserveStep('op', START_MS, { atLeast: 100n, atMost: 100n, cap: 500n }))
    const queue = new MoneyQueue()
    const factors = new FactorTable()
    const waiting = queue.wait('c:A:1', 1_000, 0, 'back')
    const gateway = {
      store,
      queue,
      factors,
      holds: new HoldKeeper(store, {} as unknown as HoldTellers, () => START_MS),
      nowMs: () => START_MS,
    }
    const answer = await settle(admitted({}, gateway), ended(end))
    const { accounts } = await store.read({ conversation: 'A', accounts: ['c:A:1'], nowMs: START_MS })
    const { spent, held } = accounts.get('c:A:1') ?? {}
    assert.deepEqual([spent, held], left)
    assert.equal(answer?.result.status, left[0] > 0n ? 'settled' : undefined)
    assert.equal(await waiting, 'try')
    await store.close()
  })
