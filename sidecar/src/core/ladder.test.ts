import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { DEFAULT_LADDER, RUNGS } from '@farebox/crds/ladder.ts'
import { EMPTY_ACCOUNT } from './budget.ts'
import { isAtEnd, isBoundary, isMidTurn, needsBoundary, percentUsed, PERCENT_MAX, risenRungs, rungsAt } from './ladder.ts'
import { assistant, call, chatRequest, result, system, user } from './requests.testing.ts'

const USD = 1_000_000_000n
const account = (spent: bigint, heldInput = 0n, held = heldInput): typeof EMPTY_ACCOUNT => ({ spent, held, heldInput })
const climb = { steps: DEFAULT_LADDER, active: [], atBoundary: true, ladderApplies: true }

test('a rung is in effect from its threshold on, with every step before it', () => {
  assert.deepEqual(rungsAt(DEFAULT_LADDER, 69), [])
  assert.deepEqual(rungsAt(DEFAULT_LADDER, 70), ['DropRetrieval'])
  assert.deepEqual(rungsAt(DEFAULT_LADDER, 94), ['DropRetrieval', 'Summarize', 'DowngradeModel'])
  assert.deepEqual(rungsAt(DEFAULT_LADDER, PERCENT_MAX), RUNGS)
})

test('percent used is that of the tightest cap, rounded down', () => {
  assert.equal(
    percentUsed([
      { cap: USD, account: account(USD / 2n) },
      { cap: 10n * USD, account: account(6n * USD + 999_999_999n) },
    ]),
    69,
  )
  assert.equal(percentUsed([{ cap: 3n, account: account(2n) }]), 66)
})

test('input of calls in flight counts, held output does not', () => {
  assert.equal(percentUsed([{ cap: 100n, account: account(10n, 5n, 90n) }]), 15)
})

test('a cap of zero is used up, no cap never is, and overruns are clamped', () => {
  assert.equal(percentUsed([{ cap: 0n, account: EMPTY_ACCOUNT }]), 100)
  assert.equal(percentUsed([{ cap: null, account: account(USD) }]), 0)
  assert.equal(percentUsed([]), 0)
  assert.equal(percentUsed([{ cap: 1n, account: account(USD) }]), PERCENT_MAX)
  assert.equal(percentUsed([{ cap: 100n, account: account(-5n) }]), 0)
})

test('a user turn begins at a user message, and not within a tool loop', () => {
  assert.equal(isBoundary(chatRequest([system('s'), user('hi')])), true)
  assert.equal(isBoundary(chatRequest([user('hi'), system('it is noon')])), true)
  assert.equal(isBoundary(chatRequest([user('hi'), call({ id: 'a', name: 'f' }), result('a', 'r')])), false)
  assert.equal(isBoundary(chatRequest([user('hi'), call({ id: 'a', name: 'f' }), result('a', 'r'), system('go on')])), false)
  assert.equal(isBoundary(chatRequest([user('hi'), assistant('Dear')])), false)
  assert.equal(isBoundary(chatRequest([user('hi'), assistant('Dear')], { beginsAnswer: false })), false)
  assert.equal(isBoundary(chatRequest([user('hi'), assistant('Dear')], { beginsAnswer: true })), true)
  const loop = [user('hi'), call({ id: 'a', name: 'f' }), result('a', 'r'), assistant('Dear')]
  assert.equal(isBoundary(chatRequest(loop, { beginsAnswer: true })), false)
  const picture = { role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://example.com/a.png' } }] }
  assert.equal(isBoundary(chatRequest([...loop.slice(0, 3), picture])), false)
  assert.equal(isBoundary(chatRequest([picture])), true)
  assert.equal(isBoundary(chatRequest([system('s')])), false)
})

test('a turn goes on in its tool loop and in an answer that was given, and not where nobody has said anything', () => {
  const loop = [user('hi'), call({ id: 'a', name: 'f' }), result('a', 'r')]
  assert.equal(isMidTurn(chatRequest(loop)), true)
  assert.equal(isMidTurn(chatRequest([user('hi'), assistant('Dear')], { beginsAnswer: false })), true)
  assert.equal(isMidTurn(chatRequest([user('hi'), assistant('Dear')], { beginsAnswer: true })), false)
  assert.deepEqual(
    [[...loop, user('and now?')], [system('s')], []].map((messages) => isMidTurn(chatRequest(messages))),
    [false, false, false],
  )
})

test('within a tool loop only tools are refused and the conversation ended', () => {
  assert.deepEqual(risenRungs({ ...climb, percent: 96, atBoundary: false }), ['RefuseTools'])
  assert.deepEqual(risenRungs({ ...climb, percent: 100, atBoundary: false }), ['RefuseTools', 'EndConversation'])
  assert.deepEqual(risenRungs({ ...climb, percent: 96, active: ['RefuseTools'] }), ['DropRetrieval', 'Summarize', 'DowngradeModel'])
})

test('on target, a tier priced per resolution climbs only at its cap', () => {
  const onTarget = { ...climb, ladderApplies: false }
  assert.deepEqual(risenRungs({ ...onTarget, percent: 99 }), [])
  assert.deepEqual(risenRungs({ ...onTarget, percent: 100 }), ['EndConversation'])
})

test('the end is at its threshold, or where the cap is reached', () => {
  const ending = [
    { atPercent: 70, rung: 'Summarize' },
    { atPercent: 95, rung: 'EndConversation' },
  ] as const
  assert.deepEqual(
    [94, 95, 100].map((percent) => isAtEnd(ending, percent)),
    [false, true, true],
  )
  assert.deepEqual(
    [99, 100].map((percent) => isAtEnd([], percent)),
    [false, true],
  )
})

test('spending more never gives a milder rung, and asking again gives nothing', () => {
  const percents = fc.integer({ min: 0, max: PERCENT_MAX })
  fc.assert(
    fc.property(
      percents,
      percents,
      fc.subarray([...RUNGS]),
      fc.boolean(),
      fc.boolean(),
      (one, other, active, atBoundary, ladderApplies) => {
        const at = (percent: number): readonly string[] => risenRungs({ ...climb, percent, active, atBoundary, ladderApplies })
        const [less, more] = [at(Math.min(one, other)), at(Math.max(one, other))]
        assert.ok(less.every((rung) => more.includes(rung)))
        const risen = risenRungs({ ...climb, percent: one, active, atBoundary, ladderApplies })
        assert.ok(atBoundary || !risen.some(needsBoundary))
        assert.deepEqual(risenRungs({ ...climb, percent: one, active: [...active, ...risen], atBoundary, ladderApplies }), [])
      },
    ),
  )
})
