import assert from 'node:assert/strict'
import { test } from 'node:test'
import { USE_BANDS } from '@farebox/crds/traffic-status.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import * as fc from 'fast-check'
import { makeContract } from '../../../test/support/make.ts'
import { EMPTY_ACCOUNT } from './budget.ts'
import type { Terms } from './terms.ts'
import { UserSums } from './totals-by-user.ts'
import { useOf, usersQuery, usersSpan, userUse } from './user-use.ts'

const CAP = parseUsd('3.00')
const terms = (upgradeAt: number | null, timesMedian = 10): Terms => {
  const contract = makeContract({
    heavyUserTimesMedian: timesMedian,
    ...(upgradeAt === null ? {} : { upgrade: { tier: 'max', whenUserExceedsPercent: upgradeAt } }),
  })
  return { contract, perConversation: CAP, perUser: { cap: CAP, period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } } }
}
const withPeriod = (unit: 'Day' | 'Week' | 'Month', timeZone: string): Pick<Terms, 'perUser'> => ({
  perUser: { cap: CAP, period: { unit, timeZone, anchorDay: 1 } },
})

test('users are those of the current period of their budget, in whole days of UTC from the midnight nearest to its beginning', () => {
  const nowMs = Date.UTC(2026, 10, 26, 9)
  assert.deepEqual(usersSpan(withPeriod('Month', 'UTC'), nowMs), { fromDay: '2026-11-01', toDay: '2026-11-26', periodKey: '2026-11-01' })
  assert.deepEqual(usersSpan(withPeriod('Month', 'Europe/Berlin'), nowMs), {
    fromDay: '2026-11-01', // it began at 23:00 the day before
    toDay: '2026-11-26',
    periodKey: '2026-11-01',
  })
  assert.equal(usersSpan(withPeriod('Month', 'America/New_York'), nowMs).fromDay, '2026-11-01') // at 04:00
  assert.equal(usersSpan(withPeriod('Week', 'UTC'), nowMs).fromDay, '2026-11-23')
  assert.deepEqual(usersSpan({ perUser: null }, nowMs), { fromDay: '2026-10-30', toDay: '2026-11-26', periodKey: null })
})

test('a period that began a moment ago in an eastern zone has today, which is yesterday there', () => {
  const nowMs = Date.UTC(2026, 10, 25, 23, 30) // 00:30 in Berlin
  assert.deepEqual(usersSpan(withPeriod('Day', 'Europe/Berlin'), nowMs), {
    fromDay: '2026-11-25',
    toDay: '2026-11-25',
    periodKey: '2026-11-26',
  })
})

/** As a store would tell it. */
function told(spends: readonly bigint[], of: Terms): ReturnType<typeof useOf> {
  const sums = new UserSums()
  for (const [index, spent] of spends.entries()) sums.add(`u${index}`, spent)
  return useOf(sums.totals(usersQuery(of, 0)))
}

test('each user is in the band of the percent that is told of them, and a candidate as it is told of them', () => {
  fc.assert(
    fc.property(
      fc.array(fc.bigInt({ min: 0n, max: CAP * 2n }), { maxLength: 40 }),
      fc.constantFrom(null, 1, 33, 70, 100),
      fc.integer({ min: 2, max: 20 }),
      (spends, upgradeAt, timesMedian) => {
        const of = terms(upgradeAt, timesMedian)
        const use = told(spends, of)
        const each = spends.map((spent) => userUse(of, { ...EMPTY_ACCOUNT, spent }, use.median))
        const bandOf = (percent: number): string => USE_BANDS[Math.min(4, Math.floor(percent / 25))] ?? ''
        for (const band of USE_BANDS)
          assert.equal(use.byUse[band], each.filter(({ percent }) => bandOf(percent ?? -1) === band).length, band)
        assert.equal(use.upgradeCandidates, each.filter(({ isUpgradeCandidate }) => isUpgradeCandidate).length)
        assert.equal(use.heavy.users, each.filter(({ isHeavy }) => isHeavy).length)
        assert.equal(use.active, spends.length)
      },
    ),
  )
})

test('heavy users cost so many times the median one, and it is told what they cost', () => {
  const cents = (count: number): bigint => BigInt(count) * 10_000_000n
  const use = told([1, 1, 2, 2, 20, 30].map(cents), terms(null))
  assert.deepEqual([formatUsd(use.median), use.heavy.users, formatUsd(use.heavy.spent), formatUsd(use.spent)], ['0.02', 2, '0.50', '0.56'])
  assert.equal(userUse(terms(null), { ...EMPTY_ACCOUNT, spent: cents(19) }, use.median).isHeavy, false)
  assert.equal(userUse(terms(null), { ...EMPTY_ACCOUNT, spent: cents(19) }, use.median).timesMedian, 9)
})

test('without a user budget nobody has a percent, a band or another plan to go to', () => {
  const of: Terms = { ...terms(50), perUser: null }
  const use = told([CAP, CAP * 30n], of)
  assert.deepEqual([use.byUse, use.upgradeCandidates, use.active, use.heavy.users], [{}, 0, 2, 1])
  assert.deepEqual(userUse(of, { ...EMPTY_ACCOUNT, spent: CAP * 30n }, use.median), {
    percent: null,
    timesMedian: 30,
    isHeavy: true,
    isUpgradeCandidate: false,
  })
})
