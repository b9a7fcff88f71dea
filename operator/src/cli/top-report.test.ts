import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { UsersPage } from '@farebox/crds/users-page.ts'
import type { Standing } from '../laptop/sidecar-client.ts'
import { conversationsLines, fullest, usersLines } from './top-report.ts'
import { widthOf } from './table.ts'

const PAGE: UsersPage = {
  tier: 'pro',
  currency: 'EUR',
  period: '2026-11-01',
  from: '2026-11-01',
  to: '2026-11-24',
  budget: '3.00',
  active: 412,
  spent: '301.25',
  median: '0.41',
  heavy: 9,
  heavySharePercent: 31,
  upgradeCandidates: 14,
  upgradeTo: 'max',
  byUse: { '0-24': 380, '25-49': 18, '50-74': 0, '75-99': 10, '100': 4 },
  oneIn: 1,
  users: [
    { user: 'a'.repeat(32), spent: '12.3456789', percent: 411, timesMedian: 30, heavy: true, upgradeCandidate: true },
    { user: 'b'.repeat(32), spent: '0.20', percent: 6, timesMedian: 0, heavy: false, upgradeCandidate: false },
  ],
}

test('users are told in one sentence for all, and a line for each of the heaviest', () => {
  assert.deepEqual(usersLines(PAGE), [
    'pro, 2026-11-01 to 2026-11-24: 412 users, 301.2500 EUR, 3.0000 for each, median 0.4100, heavy 9, who cost 31 %, for max 14; ' +
      'by share of their budget 0-24 % 380, 25-49 % 18, 75-99 % 10, 100 % 4',
    '',
    'USER                               SPENT EUR   BUDGET   MEDIAN   HEAVY   UPGRADE',
    `${'a'.repeat(32)}     12.3457    411 %     30 x   yes     to max`,
    `${'b'.repeat(32)}      0.2000      6 %      0 x`,
  ])
})

test('a tier without a user budget or anybody in it says so; an estimate is told as one', () => {
  const bare = { ...PAGE, budget: null, byUse: {}, upgradeTo: null, heavy: 0, active: 1, users: [] }
  assert.deepEqual(usersLines({ ...bare, from: PAGE.to }), ['pro, 2026-11-24: 1 user, 301.2500 EUR, median 0.4100, none heavy'])
  assert.match(usersLines({ ...bare, active: 400_000, oneIn: 4 })[0] ?? '', /: about 400000 users/)
})

test('the conversations that have used most come first, in as many columns as there is room for', () => {
  const standing = (conversation: string, percent: number): Standing => ({
    conversation,
    user: null,
    tier: 'pro',
    contract: 'c',
    currency: 'USD',
    budget: '0.50',
    spent: '0.10',
    held: '0.00',
    remaining: '0.40',
    percent,
    rung: 'None',
    reason: null,
    turns: 3,
    session: 1,
    state: 'open',
    resolution: 'assumed',
    advice: 'continue',
    drivers: {},
    alerts: [],
    lastTurnAt: '2026-11-24T12:00:00.000Z',
  })
  const most = fullest([standing('a', 5), standing('c', 90), standing('b', 90)], 2)
  assert.deepEqual(
    most.map(({ conversation }) => conversation),
    ['b', 'c'],
  )
  assert.match(conversationsLines(most)[1] ?? '', /^b +pro +90 % +0\.1000 USD +0\.5000 USD +None +3 +open +assumed$/)
  const euro = { ...standing('e', 20), currency: 'EUR' }
  assert.match(conversationsLines([...most, euro])[3] ?? '', /^e +pro +20 % +0\.1000 EUR +0\.5000 EUR /)
  assert.ok(conversationsLines(most, 60).every((line) => widthOf(line) <= 60))
  const ended = { ...standing('f'.repeat(32), 100), tier: 'support-outcome', rung: 'EndConversation' }
  const narrow = conversationsLines([ended], 80)
  assert.ok(
    narrow.every((line) => widthOf(line) <= 80),
    narrow.join('\n'),
  )
  assert.match(narrow[1] ?? '', /^f{32} .*100 % +0\.1000 USD +EndConversation$/)
  assert.deepEqual(conversationsLines([]), ['no conversations'])
})
