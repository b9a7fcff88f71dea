import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseUsd } from '@farebox/crds/usd.ts'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { EMPTY_ACCOUNT } from './budget.ts'
import { balancesOf, drawsOf, limitsOf, remainingOf, sessionAccount, termsOf } from './terms.ts'
import type { CapDraw, WorkloadLimit } from './terms.ts'

const MONTH = { unit: 'Month', timeZone: 'Europe/Berlin', anchorDay: 1 } as const
/** 19.00 a month at 70 %, less 2.70, over 6 conversations. */
const PLUS = makeContract({ tier: 'plus', caps: { perConversation: '0.50', perUser: { amount: '3.00', period: MONTH } } })
const DAILY = { cap: parseUsd('100'), period: { unit: 'Day', timeZone: 'UTC', anchorDay: 1 } } as const
const MONTHLY = { cap: parseUsd('900'), period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } } as const
/** As `PLUS`, its users counted by the day. */
const DAILY_PLUS = makeContract({ ...PLUS, caps: { perConversation: '0.50', perUser: { amount: '3.00', period: DAILY.period } } })

function drawn(more: Partial<Parameters<typeof drawsOf>[0]> = {}): readonly CapDraw[] {
  return drawsOf({
    terms: termsOf(PLUS),
    conversation: 'c1',
    session: 1,
    user: 'u1',
    budgetKey: 'shop/support',
    limits: [DAILY],
    nowMs: Date.parse('2026-10-31T23:30:00Z'),
    ...more,
  })
}
const accounts = (draws: readonly CapDraw[]): string[] => draws.map(({ account }) => account)

test('the amounts of a contract are parsed once: 0.50 a conversation, 3.00 a user', () => {
  const terms = termsOf(PLUS)
  assert.equal(terms.perConversation, 500_000_000n)
  assert.deepEqual(terms.perUser, { cap: 3_000_000_000n, period: MONTH })
  assert.equal(termsOf(makeContract()).perUser, null)
})

test('what the user has left is that of the tighter budget, the owner’s limits aside', () => {
  const draws = drawn()
  const [own, user, limit] = accounts(draws)
  const left = (spent: Readonly<Record<string, string>>, held = '0.00'): bigint => {
    const states = Object.entries(spent).map(([account, cost]) => [account, { ...EMPTY_ACCOUNT, spent: parseUsd(cost) }] as const)
    return remainingOf(balancesOf(draws, new Map(states)), parseUsd(held))
  }
  assert.equal(left({}), parseUsd('0.50'))
  assert.equal(left({ [own ?? '']: '0.10', [user ?? '']: '2.70' }, '0.05'), parseUsd('0.25'))
  assert.equal(left({ [user ?? '']: '3.10' }), 0n)
  assert.equal(left({ [limit ?? '']: '100.00' }), parseUsd('0.50'))
})

test('a turn draws on its session, its user’s period in the zone of the tier, and the limits of the workload', () => {
  const draws = drawn()
  assert.deepEqual(
    draws.map(({ kind, cap, periodKey }) => [kind, cap, periodKey]),
    [
      ['conversation', 500_000_000n, null],
      ['user', 3_000_000_000n, 'Month1/Europe/Berlin:2026-11-01'], // half past midnight in Berlin
      ['workload', 100_000_000_000n, '2026-10-31'],
    ],
  )
  assert.equal(draws[0]?.account, sessionAccount('c1', 1))
})

test('without a user, or a tier that caps users, only the others count', () => {
  assert.deepEqual(
    drawn({ user: null, limits: [] }).map(({ kind }) => kind),
    ['conversation'],
  )
  assert.deepEqual(
    drawn({ terms: termsOf(makeContract()) }).map(({ kind }) => kind),
    ['conversation', 'workload'],
  )
})

test('each session, user, tier, period, budget and limit has an account of its own', () => {
  const variants = [
    drawn(),
    drawn({ session: 2 }),
    drawn({ conversation: 'c2' }),
    drawn({ user: 'u2' }),
    drawn({ terms: termsOf(makeContract({ ...PLUS, tier: 'pro' })) }),
    drawn({ nowMs: Date.parse('2026-12-01T12:00:00Z') }),
    drawn({ budgetKey: 'shop/other' }),
    drawn({ limits: [DAILY, MONTHLY] }),
    drawn({ terms: termsOf(DAILY_PLUS), nowMs: Date.parse('2026-11-01T12:00:00Z') }),
  ]
  const distinct = [...new Set(variants.flatMap(accounts))]
  const counted = (kind: string): number => distinct.filter((account) => account.startsWith(kind)).length
  assert.deepEqual([counted('c:'), counted('u:'), counted('w:')], [3, 5, 5])
})

test('a limit of a workload is known by its period, not by its place: in another order it has spent the same', () => {
  const capsOf = (limits: readonly WorkloadLimit[]): Map<string, bigint> =>
    new Map(drawn({ limits }).flatMap(({ kind, account, cap }) => (kind === 'workload' ? [[account, cap] as const] : [])))
  const zoned = { cap: parseUsd('50'), period: { ...DAILY.period, timeZone: 'Europe/Berlin' } }
  const anchored = { cap: parseUsd('60'), period: { ...MONTHLY.period, anchorDay: 2 } }
  const straight = capsOf([DAILY, MONTHLY, zoned, anchored])
  assert.equal(straight.size, 4)
  assert.deepEqual(capsOf([anchored, zoned, MONTHLY, DAILY]), new Map([...straight].toReversed()))
})

test('limits of different periods have accounts of their own on a day on which both have the same date', () => {
  const inBerlin = { ...DAILY, period: { ...DAILY.period, timeZone: 'Europe/Berlin' } }
  const from = (anchorDay: number): WorkloadLimit => ({ ...MONTHLY, period: { ...MONTHLY.period, anchorDay } })
  for (const limits of [
    [DAILY, inBerlin],
    [from(30), from(31)],
  ]) {
    const draws = drawn({ limits, nowMs: Date.parse('2026-11-30T12:00:00Z') }).filter(({ kind }) => kind === 'workload')
    assert.equal(new Set(draws.map(({ periodKey }) => periodKey)).size, 1)
    assert.equal(new Set(accounts(draws)).size, 2, 'a reservation draws on each account once')
  }
})

test('limits of one period are one account under the tighter cap: a reservation draws on each account once', () => {
  const tighter = { ...DAILY, cap: parseUsd('40') }
  for (const limits of [
    [DAILY, tighter],
    [tighter, DAILY],
  ]) {
    const draws = drawn({ limits }).filter(({ kind }) => kind === 'workload')
    assert.deepEqual(
      draws.map(({ account, cap }) => [account, cap]),
      [[accounts(drawn()).at(-1), tighter.cap]],
    )
  }
})

test('the limits of a workload are parsed from its config', () => {
  const config = makeConfig('http://provider/v1', [PLUS], { limits: [{ amount: '100.00', period: DAILY.period }] })
  assert.deepEqual(limitsOf(config), [DAILY])
})

test('an account that nobody has drawn on is empty', () => {
  const state = { spent: 5n, held: 2n, heldInput: 1n }
  const [own, user] = balancesOf(drawn({ limits: [] }), new Map([['c:c1:1', state]]))
  assert.deepEqual([own?.state, user?.state], [state, EMPTY_ACCOUNT])
  assert.equal(own?.cap, 500_000_000n)
})
