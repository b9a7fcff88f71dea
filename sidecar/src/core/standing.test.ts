import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Rung } from '@farebox/crds/ladder.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { makeContract } from '../../../test/support/make.ts'
import type { Account } from './budget.ts'
import { EMPTY_ACCOUNT } from './budget.ts'
import { newConversation } from './conversation-change.ts'
import type { Conversation } from './conversation.ts'
import { standingOf } from './standing.ts'
import type { Standing } from './standing.ts'
import { termsOf } from './terms.ts'
import type { Balance } from './terms.ts'

const CONTRACT = makeContract({ caps: { perConversation: '0.50' } })
const BEGUN = newConversation({ id: 'c', tier: 'pro', contractHash: CONTRACT.hash, user: 'u', nowMs: 0, ladderApplies: true })

function standing(setup: {
  readonly own?: Partial<Account>
  readonly user?: Partial<Account>
  readonly workload?: Partial<Account>
  readonly conversation?: Partial<Conversation>
  readonly contract?: typeof CONTRACT
}): Standing {
  const terms = termsOf(setup.contract ?? CONTRACT)
  const balances: Balance[] = [
    { kind: 'conversation', account: 'c', cap: terms.perConversation, periodKey: null, state: { ...EMPTY_ACCOUNT, ...setup.own } },
    { kind: 'user', account: 'u', cap: parseUsd('3.00'), periodKey: '2026-11-01', state: { ...EMPTY_ACCOUNT, ...setup.user } },
    { kind: 'workload', account: 'w', cap: parseUsd('1.00'), periodKey: '2026-11-24', state: { ...EMPTY_ACCOUNT, ...setup.workload } },
  ]
  return standingOf({ ...BEGUN, ...setup.conversation }, terms, balances)
}

test('a conversation that has just begun may go on, with all of its budget', () => {
  const { budget, spent, held, remaining, percent, rung, advice, state, session } = standing({})
  assert.deepEqual([budget, spent, held, remaining, percent], ['0.50', '0.00', '0.00', '0.50', 0])
  assert.deepEqual([rung, advice, state, session], ['None', 'continue', 'open', 1])
})

test('what remains is the budget less what is spent and held, never below zero', () => {
  const used = standing({ own: { spent: parseUsd('0.30'), held: parseUsd('0.05'), heldInput: parseUsd('0.01') } })
  assert.deepEqual([used.spent, used.held, used.remaining, used.percent], ['0.30', '0.05', '0.15', 62])
  assert.equal(standing({ own: { spent: parseUsd('0.60') } }).remaining, '0.00')
})

test('the tighter of conversation and user counts, the workload does not', () => {
  assert.equal(standing({ own: { spent: parseUsd('0.10') }, user: { spent: parseUsd('2.70') } }).percent, 90)
  assert.equal(standing({ own: { spent: parseUsd('0.10') }, workload: { spent: parseUsd('0.99') } }).percent, 20)
})

test('a move to another model that the last call did not make is not shown as one; the app is advised as before', () => {
  const stayed = {
    model: 'm',
    fixedDigest: 'f',
    messages: 1,
    messagesDigest: 'd',
    inputTokens: 1,
    cachedTokens: 0,
    outputTokens: 1,
    atMs: 0,
  }
  const shown = (rungs: readonly Rung[], exact: Conversation['exact']): unknown => {
    const { rung, reason, advice } = standing({ conversation: { rungs, reason: 'threshold', exact } })
    return [rung, reason, advice]
  }
  assert.deepEqual(shown(['Summarize', 'DowngradeModel'], { ...stayed, stayed: true }), ['Summarize', 'threshold', 'wrapUp'])
  assert.deepEqual(shown(['DowngradeModel'], { ...stayed, stayed: true }), ['None', null, 'wrapUp'])
  assert.deepEqual(shown(['DowngradeModel', 'RefuseTools'], { ...stayed, stayed: true }), ['RefuseTools', 'threshold', 'wrapUp'])
  for (const exact of [stayed, null])
    assert.deepEqual(shown(['Summarize', 'DowngradeModel'], exact), ['DowngradeModel', 'threshold', 'wrapUp'])
})

test('the highest rung in effect is shown, be it the user’s; rungs of a period that has passed are not', () => {
  const shown = (rungs: readonly Rung[], userRungs: Conversation['userRungs']): [string, string] => {
    const { rung, advice } = standing({ conversation: { rungs, userRungs } })
    return [rung, advice]
  }
  assert.deepEqual(shown(['DropRetrieval', 'Summarize'], null), ['Summarize', 'wrapUp'])
  assert.deepEqual(shown(['DropRetrieval'], { period: '2026-11-01', rungs: ['RefuseTools'] }), ['RefuseTools', 'wrapUp'])
  assert.deepEqual(shown([], { period: '2026-10-01', rungs: ['RefuseTools'] }), ['None', 'continue'])
})

test('whose budget the percent is of is told, and that rungs of the user’s alone are by its threshold', () => {
  const told = (setup: Parameters<typeof standing>[0]) => {
    const { percentOf, reason } = standing(setup)
    return [percentOf, reason]
  }
  const userRungs = { period: '2026-11-01', rungs: ['RefuseTools'] } as const
  const user = { spent: parseUsd('2.70') }
  assert.deepEqual(told({}), ['conversation', null])
  assert.deepEqual(told({ user, conversation: { userRungs } }), ['user', 'threshold'])
  assert.deepEqual(told({ user, conversation: { userRungs: { ...userRungs, period: '2026-10-01' } } }), ['user', null])
  const own = { rungs: ['DropRetrieval'], reason: 'fit', userRungs } as const
  assert.deepEqual(told({ own: { spent: parseUsd('0.45') }, user, conversation: own }), ['conversation', 'fit'], 'as much of either')
})

test('alerts are those of its session and of the user’s period, each once; those of a period that has passed are not', () => {
  const shown = (userAlerts: Conversation['userAlerts']): readonly number[] =>
    standing({ conversation: { alerts: [70, 100], userAlerts } }).alerts
  assert.deepEqual(shown(null), [70, 100])
  assert.deepEqual(shown({ period: '2026-11-01', percents: [70, 90] }), [70, 90, 100])
  assert.deepEqual(shown({ period: '2026-10-01', percents: [70, 90] }), [70, 100])
})

test('a conversation that has ended advises a new one', () => {
  assert.equal(standing({ conversation: { state: 'ended', rungs: ['EndConversation'] } }).advice, 'startNew')
})

test('amounts are in the currency of the tier: the budget as it says it, and the rest adding up to it', () => {
  const contract = makeContract({ currency: 'EUR', usdRate: '1.08', caps: { perConversation: '0.54' } })
  const { currency, budget, drivers } = standing({ contract, conversation: { drivers: { ...BEGUN.drivers, history: parseUsd('0.108') } } })
  assert.deepEqual([currency, budget, drivers['history'], drivers['output']], ['EUR', '0.50', '0.10', '0.00'])
  // What a tier of 0.556671428 EUR is in dollars, rounded down.
  const odd = makeContract({ currency: 'EUR', usdRate: '1.083333', caps: { perConversation: '0.603060528' } })
  const own = { spent: parseUsd('0.000483319'), held: parseUsd('0.000000001') }
  const driven = { ...BEGUN.drivers, history: parseUsd('0.000241660'), output: parseUsd('0.000241659') }
  const used = standing({ contract: odd, own, conversation: { drivers: driven } })
  assert.equal(used.budget, '0.556671428')
  assert.equal(parseUsd(used.spent) + parseUsd(used.held) + parseUsd(used.remaining), parseUsd(used.budget))
  assert.equal(
    Object.values(used.drivers).reduce((sum, cost) => sum + parseUsd(cost), 0n),
    parseUsd(used.spent),
  )
  assert.equal(standing({ contract: odd, own: { spent: parseUsd('0.603060528') } }).remaining, '0.00')
})

test('whose next call cannot be paid is told so: a new conversation helps where the own budget is used up, not where the user’s is', () => {
  const all = { spent: parseUsd('3.00') }
  assert.equal(standing({ own: all }).advice, 'startNew')
  assert.equal(standing({ user: all }).advice, 'wrapUp')
  assert.equal(standing({ own: all, user: all }).advice, 'wrapUp')
  assert.equal(standing({ workload: all }).advice, 'continue', 'the limit of a workload is none of the conversation’s')
  const early = makeContract({ ...CONTRACT, ladder: [{ atPercent: 80, rung: 'EndConversation', end: 'Refuse' }] })
  const spent = { spent: parseUsd('0.40') }
  assert.equal(standing({ contract: early, own: spent }).advice, 'startNew')
  assert.equal(standing({ own: spent }).advice, 'continue')
})

test('where the next session follows, the conversation need not end', () => {
  const resets = makeContract({
    ...CONTRACT,
    ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }],
    sessions: { ...CONTRACT.sessions, maxResets: 1 },
  })
  const spent = { spent: parseUsd('0.50') }
  assert.equal(standing({ contract: resets, own: spent }).advice, 'wrapUp')
  assert.equal(standing({ contract: resets, own: spent, conversation: { session: 2 } }).advice, 'startNew')
})
