import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { UsersPageSchema } from '@farebox/crds/users-page.ts'
import type { UsersPage } from '@farebox/crds/users-page.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { termsOf, userDraw } from '../core/terms.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import type { BudgetStore } from '../store/store.ts'
import { UserBook } from './user-book.ts'
import { usersPage, userStanding } from './users-api.ts'

const NOW_MS = Date.UTC(2026, 10, 24, 12)
const DAY_MS = 24 * 3_600_000
const MONTH = { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } as const
const PRO = makeContract({
  caps: { perUser: { amount: '2.00', period: MONTH } },
  heavyUserTimesMedian: 5,
  upgrade: { tier: 'max', whenUserExceedsPercent: 80 },
})
const EURO = makeContract({ tier: 'euro', currency: 'EUR', usdRate: '1.25', caps: { perUser: { amount: '2.50', period: MONTH } } })
/** 3.8967 in the currency of its tier. */
const ODD = makeContract({ tier: 'odd', currency: 'EUR', usdRate: '1.083333', caps: { perUser: { amount: '4.221423701', period: MONTH } } })
const LOOSE = makeContract({ tier: 'loose' })
const CONFIG = makeConfig('http://127.0.0.1:1/v1', [PRO, EURO, ODD, LOOSE])

type Gateway = Parameters<typeof usersPage>[0]

/** Users with what they spent, of a tier, on a day. */
async function withSpending(
  spending: readonly (readonly [user: string, usd: string, tier?: string, atMs?: number])[],
  run: (gateway: Gateway, store: BudgetStore) => Promise<void>,
): Promise<void> {
  const store = openEmbeddedStore({ file: ':memory:', nowMs: () => NOW_MS })
  try {
    for (const [index, [user, usd, tier = 'pro', atMs = NOW_MS]] of spending.entries()) {
      const contract = CONFIG.contracts[tier]
      assert.ok(contract !== undefined)
      const draw = userDraw(termsOf(contract), user, atMs)
      await store.charge({
        operationId: `x${index}`,
        accounts: draw === null ? [] : [draw.account],
        cost: parseUsd(usd),
        atMs,
        note: { tier, user },
        conversation: 'none',
        change: {},
      })
    }
    await run({ store, nowMs: () => NOW_MS, users: new UserBook(store) }, store)
  } finally {
    await store.close()
  }
}

async function page(gateway: Gateway, query = '', limit = 10, config: SidecarConfig = CONFIG): Promise<UsersPage> {
  const { status, body } = await usersPage(gateway, { config }, new URLSearchParams(query), limit)
  assert.equal(status, 200)
  return UsersPageSchema.parse(body)
}

const SPENDING = [
  ['ann', '0.10'],
  ['bob', '0.10'],
  ['cat', '0.50'],
  ['ann', '0.05'],
  ['dan', '1.60'],
  ['eve', '2.00'],
  ['eve', '0.10', 'loose'],
  ['old', '9.00', 'pro', NOW_MS - 30 * DAY_MS],
] as const

test('the users of a period come heaviest first, each with the share of their budget, the median, and whether they belong elsewhere', () =>
  withSpending(SPENDING, async (gateway) => {
    const { users, ...all } = await page(gateway)
    assert.deepEqual(all, {
      tier: 'pro',
      currency: 'USD',
      period: '2026-11-01',
      from: '2026-11-01',
      to: '2026-11-24',
      budget: '2.00',
      active: 5,
      spent: '4.35',
      median: '0.50',
      heavy: 0,
      heavySharePercent: 0,
      upgradeCandidates: 2,
      upgradeTo: 'max',
      byUse: { '0-24': 2, '25-49': 1, '50-74': 0, '75-99': 1, '100': 1 },
      oneIn: 1,
    })
    assert.deepEqual(
      users.map(({ user, spent, percent, timesMedian, upgradeCandidate }) => [user, spent, percent, timesMedian, upgradeCandidate]),
      [
        ['eve', '2.00', 100, 4, true],
        ['dan', '1.60', 80, 3, true],
        ['cat', '0.50', 25, 1, false],
        ['ann', '0.15', 7, 0, false],
        ['bob', '0.10', 5, 0, false],
      ],
    )
    assert.deepEqual(
      (await page(gateway, '', 2)).users.map(({ user }) => user),
      ['eve', 'dan'],
    )
  }))

test('heavy users cost many times the median, and it is told what share of the cost is theirs', () =>
  withSpending(
    [
      ['ann', '0.10'],
      ['bob', '0.10'],
      ['cat', '0.20'],
      ['dan', '0.50'],
      ['eve', '1.10'],
    ],
    async (gateway) => {
      const { heavy, heavySharePercent, median, users } = await page(gateway)
      assert.deepEqual([heavy, heavySharePercent, median], [1, 55, '0.20'])
      assert.deepEqual(
        users.filter((one) => one.heavy).map(({ user, timesMedian }) => [user, timesMedian]),
        [['eve', 5]],
      )
    },
  ))

test('a tier in another currency tells amounts in it; one without a user budget tells the last 28 days, and no percent', () =>
  withSpending(
    [
      ['ann', '1.25', 'euro'],
      ['bob', '0.30', 'loose', NOW_MS - 27 * DAY_MS],
      ['cat', '0.30', 'loose', NOW_MS - 28 * DAY_MS],
    ],
    async (gateway) => {
      const euro = await page(gateway, 'tier=euro')
      assert.deepEqual(
        [euro.currency, euro.budget, euro.spent, euro.users[0]?.spent, euro.users[0]?.percent],
        ['EUR', '2.00', '1.00', '1.00', 50],
      )
      const loose = await page(gateway, 'tier=loose')
      assert.deepEqual([loose.budget, loose.period, loose.from, loose.byUse, loose.upgradeTo], [null, null, '2026-10-28', {}, null])
      assert.deepEqual(loose.users, [{ user: 'bob', spent: '0.30', percent: null, timesMedian: 1, heavy: false, upgradeCandidate: false }])
    },
  ))

test('a user stands where the list has them; one who was never heard of has spent nothing', () =>
  withSpending(SPENDING, async (gateway) => {
    const standing = async (user: string, query = ''): Promise<unknown> =>
      (await userStanding(gateway, { config: CONFIG }, user, new URLSearchParams(query))).body
    const common = { tier: 'pro', currency: 'USD', period: '2026-11-01', budget: '2.00', held: '0.00', heavy: false, upgradeTo: 'max' }
    assert.deepEqual(await standing('dan'), {
      ...common,
      user: 'dan',
      spent: '1.60',
      remaining: '0.40',
      percent: 80,
      timesMedian: 3,
      upgradeCandidate: true,
    })
    assert.deepEqual(await standing('nobody'), {
      ...common,
      user: 'nobody',
      spent: '0.00',
      remaining: '2.00',
      percent: 0,
      timesMedian: 0,
      upgradeCandidate: false,
    })
    assert.partialDeepStrictEqual(await standing('eve', 'tier=loose'), { tier: 'loose', budget: null, spent: null, percent: null })
  }))

test('after an edit of the period all users count by its days, with what was spent before the edit, and each by the new balance', () =>
  withSpending([['ann', '1.80']], async (gateway) => {
    const period = { ...MONTH, anchorDay: 15 } as const
    const edited = makeContract({ ...PRO, caps: { ...PRO.caps, perUser: { amount: '2.00', period } } })
    const config = makeConfig('http://127.0.0.1:1/v1', [edited])
    const { users, ...all } = await page(gateway, '', 10, config)
    assert.partialDeepStrictEqual(all, { from: '2026-11-15', active: 1, spent: '1.80', upgradeCandidates: 1 })
    assert.equal(all.byUse['75-99'], 1)
    assert.partialDeepStrictEqual(users, [{ user: 'ann', spent: '0.00', percent: 0, upgradeCandidate: false }])
    const { body } = await userStanding(gateway, { config }, 'ann', new URLSearchParams())
    assert.partialDeepStrictEqual(body, { spent: '0.00', percent: 0, heavy: false, upgradeCandidate: false, remaining: '2.00' })
  }))

test('what a user spent and has left adds up to the budget that the tier says, in its currency', () =>
  withSpending([['ann', '0.000483319', 'odd']], async (gateway) => {
    const { body } = await userStanding(gateway, { config: CONFIG }, 'ann', new URLSearchParams({ tier: 'odd' }))
    assert.partialDeepStrictEqual(body, { budget: '3.8967', spent: '0.000446141', held: '0.00', remaining: '3.896253859' })
    const { budget, spent, users } = await page(gateway, 'tier=odd')
    assert.deepEqual([budget, spent, users[0]?.spent], ['3.8967', '0.000446141', '0.000446141'])
  }))

test('a tier that the workload may not use is not there', () =>
  withSpending([], async (gateway) => {
    for (const tier of ['max', 'constructor', ' ']) {
      const query = new URLSearchParams({ tier })
      assert.equal((await usersPage(gateway, { config: CONFIG }, query, 10)).status, 404)
      assert.equal((await userStanding(gateway, { config: CONFIG }, 'ann', query)).status, 404)
    }
    assert.deepEqual((await page(gateway)).users, [])
  }))

test('an empty tier is none that is asked for: it is that of the workload', () =>
  withSpending([], async (gateway) => {
    assert.deepEqual(await page(gateway, 'tier='), await page(gateway))
  }))

test('what users come to is worked out once for all who ask at a time, and anew in another period; a store that fails is asked again', async () => {
  let asked = 0
  let fails = true
  const totals = { users: 1, spent: 5n, median: 5n, heavy: { users: 0, spent: 0n }, reached: [], top: [], oneIn: 1 }
  const book = new UserBook({
    readUsers: async () => {
      asked += 1
      if (fails) throw new Error('away')
      return totals
    },
  })
  await assert.rejects(book.use(PRO, NOW_MS), /away/)
  fails = false
  const uses = await Promise.all([book.use(PRO, NOW_MS), book.use(PRO, NOW_MS), book.use(PRO, NOW_MS)])
  await book.use(PRO, NOW_MS)
  assert.deepEqual([asked, uses.every(({ spent }) => spent === 5n)], [2, true])
  await book.use(PRO, NOW_MS + 10 * DAY_MS)
  assert.equal(asked, 3, 'another month')
  await book.use(EURO, NOW_MS)
  assert.equal(asked, 4, 'another tier')
})
