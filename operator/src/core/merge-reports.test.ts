import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import type { TierTotals } from '@farebox/crds/sidecar-status.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import * as fc from 'fast-check'
import { mergeTotals, newestTotals } from './merge-reports.ts'
import type { Totals } from './merge-reports.ts'
import { reportOf, totalsOf } from './reports.testing.ts'

const NOW = Date.UTC(2026, 10, 24, 12)

const from = (pod: string, books: string, receivedAtMs: number, tiers: Totals, namespace = 'support'): ReceivedReport =>
  reportOf({ pod, namespace, receivedAtMs, books, tiers })

test('sidecars that share books count once, by what was said last', () => {
  const early = from('a', 'shared', 1_000, { pro: totalsOf({ conversations: 3, spent: '0.30' }) })
  const late = from('b', 'shared', 2_000, { pro: totalsOf({ conversations: 4, spent: '0.40' }) })
  const merged = mergeTotals(newestTotals([late, early], NOW).values())
  assert.deepEqual(merged, { pro: totalsOf({ conversations: 4, spent: '0.40' }) })
})

test('a sidecar whose store is away has no totals: what another said before stays', () => {
  const known = from('a', 'shared', 1_000, { pro: totalsOf({ conversations: 3 }) })
  const away = from('b', 'shared', 2_000, {})
  assert.equal(mergeTotals(newestTotals([known, away], NOW).values())['pro']?.conversations, 3)
})

test('after the clock was set back, what is said now counts, and not what came by the clock of before', () => {
  const before = from('a', 'shared', NOW + 3_600_000, { pro: totalsOf({ conversations: 3 }) })
  const after = from('b', 'shared', NOW, { pro: totalsOf({ conversations: 4 }) })
  assert.equal(newestTotals([before, after], NOW).get('support/shared')?.['pro']?.conversations, 4)
  // Clocks of replicas are never quite the same.
  const ahead = from('c', 'shared', NOW + 1_000, { pro: totalsOf({ conversations: 5 }) })
  assert.equal(newestTotals([ahead, after], NOW).get('support/shared')?.['pro']?.conversations, 5)
})

test('no pod speaks for the books of another namespace', () => {
  const theirs = from('a', 'shared', 1_000, { pro: totalsOf({ conversations: 3 }) }, 'support')
  const forged = from('b', 'shared', 2_000, { pro: totalsOf({ conversations: 9_000 }) }, 'elsewhere')
  assert.equal(newestTotals([theirs, forged], NOW).get('support/shared')?.['pro']?.conversations, 3)
})

const USERS = { active: 2, spent: '0.50', heavy: 1, heavySpent: '0.40', upgradeCandidates: 0, byUse: {} }

test('of budgets that share books each tells of its tiers; one report counts for a tier, the newest that knows its contract', () => {
  const told = (pod: string, budget: string, receivedAtMs: number, tiers: Totals): ReceivedReport =>
    reportOf({ pod, budget, receivedAtMs, tiers })
  const pro = totalsOf({ conversations: 2, resolutions: { ...totalsOf({}).resolutions, isOverTarget: true }, users: USERS })
  const ofDesk = told('a', 'desk', NOW - 9_000, { pro })
  const ofBot = told('b', 'bot', NOW, { free: totalsOf({ conversations: 3, users: USERS }), pro: totalsOf({ conversations: 2 }) })
  const both = { free: totalsOf({ conversations: 3, users: USERS }), pro }
  assert.deepEqual(mergeTotals(newestTotals([ofDesk, ofBot], NOW).values()), both)
  assert.deepEqual(mergeTotals(newestTotals([ofBot, ofDesk, ofBot], NOW).values()), both)
  // Of one budget the newest says all: a tier that it does not name any more is none.
  const stuck = told('c', 'bot', NOW - 9_000, { old: totalsOf({ conversations: 7 }) })
  assert.deepEqual(mergeTotals(newestTotals([ofDesk, stuck, ofBot], NOW).values()), both)
})

test('where those who know a contract are gone, others tell of the tier; its users stay as they were told', () => {
  const told = (pod: string, budget: string, receivedAtMs: number, tiers: Totals): ReceivedReport =>
    reportOf({ pod, budget, receivedAtMs, tiers })
  const gone = told('a', 'desk', 0, {
    pro: totalsOf({ conversations: 2, held: '0.20', users: USERS }),
    max: totalsOf({ conversations: 1 }),
  })
  const later = told('b', 'bot', 60_000, { free: totalsOf({}), pro: totalsOf({ conversations: 2, spent: '0.10' }) })
  assert.deepEqual(mergeTotals(newestTotals([gone, later], 60_000).values()), {
    free: totalsOf({}),
    max: totalsOf({ conversations: 1 }),
    pro: totalsOf({ conversations: 2, spent: '0.10', users: USERS }),
  })
})

test('what was told yesterday says nothing of today, and all of the rest', () => {
  const today = { turns: 3, spent: '0.30', users: 2 }
  const midnightMs = Date.UTC(2026, 10, 25)
  const told = from('a', 'shared', midnightMs - 1, { pro: totalsOf({ conversations: 3, spent: '0.30', today }) })
  assert.deepEqual(newestTotals([told], midnightMs - 1).get('support/shared')?.['pro']?.today, today)
  assert.deepEqual(newestTotals([told], midnightMs).get('support/shared')?.['pro'], {
    ...totalsOf({ conversations: 3, spent: '0.30' }),
    today: { turns: 0, spent: '0.00', users: 0 },
  })
})

test('sums beyond what a status can hold stay at that', () => {
  const most = '999999999.999999999'
  const today = { turns: 1, spent: `-${most}`, users: 1 }
  const merged = mergeTotals([
    { pro: totalsOf({ spent: most, held: most, today }) },
    { pro: totalsOf({ spent: most, held: '1.00', today }) },
  ])
  assert.partialDeepStrictEqual(merged['pro'], { spent: most, held: most, today: { spent: `-${most}` } })
})

test('different books add up: counts, money, outcomes, today; quantiles are never too low', () => {
  const a = totalsOf({
    conversations: 100,
    turns: 250,
    byRung: { None: 90, Summarize: 10 },
    spent: '10.00',
    held: '0.05',
    cost: { p50: '0.05', p95: '0.30', p99: '0.40', max: '0.50' },
    alerts: { '70': 5 },
    resolutions: { started: 20, confirmed: 12, reversed: 2, costPer: '0.50' },
    today: { turns: 10, spent: '-0.10', users: 4 },
  })
  const b = totalsOf({
    conversations: 10,
    turns: 20,
    byRung: { None: 10 },
    spent: '5.000000001',
    cost: { p50: '0.45', p95: '0.60', p99: '0.60', max: '0.60' },
    alerts: { '70': 1, '100': 1 },
    resolutions: { started: 5, confirmed: 5, reversed: 0, costPer: '0.80' },
    today: { turns: 1, spent: '0.30', users: 3 },
  })
  assert.deepEqual(mergeTotals([{ pro: a }, { pro: b, free: totalsOf({}) }]), {
    free: totalsOf({}),
    pro: {
      conversations: 110,
      turns: 270,
      byRung: { None: 100, Summarize: 10 },
      spent: '15.000000001',
      held: '0.05',
      // At most 0.45: 99 of the 100 and 5 of the 10, which is 104. 95 % of all are 104.5.
      cost: { p50: '0.30', p95: '0.50', p99: '0.60', max: '0.60' },
      alerts: { '70': 6, '100': 1 },
      resolutions: { started: 25, confirmed: 17, reversed: 2, costPer: '0.60' },
      today: { turns: 11, spent: '0.20', users: 7 },
    },
  })
})

test('sessions add up, and weigh the costs; where a sidecar tells none, its conversations are them', () => {
  const cost = (amount: string): TierTotals['cost'] => ({ p50: amount, p95: amount, p99: amount, max: amount })
  const few = totalsOf({ conversations: 1, sessions: 9, cost: cost('0.10') })
  const older = totalsOf({ conversations: 5, cost: cost('0.20') })
  const merged = mergeTotals([{ pro: few }, { pro: older }])['pro']
  assert.partialDeepStrictEqual(merged, { conversations: 6, sessions: 14, cost: { p50: '0.10', p95: '0.20' } })
  assert.equal(mergeTotals([{ pro: older }, { pro: older }])['pro']?.sessions, undefined)
})

test('books that tell what all cost come to the exact cost per resolution, those without any resolution included', () => {
  const part = (resolutions: Partial<TierTotals['resolutions']>): TierTotals =>
    totalsOf({
      resolutions: {
        started: 10,
        assumed: 0,
        confirmed: 0,
        reversed: 0,
        cost: '0.00',
        costPer: null,
        unresolvedCost: '0.00',
        ...resolutions,
      },
    })
  const a = part({ assumed: 3, confirmed: 2, reversed: 1, cost: '2.00', costPer: '0.50', unresolvedCost: '0.40', isOverTarget: false })
  const b = part({ cost: '1.00', unresolvedCost: '1.00', isOverTarget: true })
  assert.deepEqual(mergeTotals([{ pro: a }, { pro: b }])['pro']?.resolutions, {
    started: 20,
    assumed: 3,
    confirmed: 2,
    reversed: 1,
    cost: '3.00',
    costPer: '0.75',
    unresolvedCost: '1.40',
    isOverTarget: true,
  })
  const older = totalsOf({ resolutions: { started: 5, confirmed: 2, reversed: 0, costPer: '0.20' } })
  const merged = mergeTotals([{ pro: a }, { pro: older }])['pro']?.resolutions
  assert.deepEqual([merged?.cost, merged?.costPer], [undefined, '0.40'], 'four at 0.50, two at 0.20')
})

test('what a resolution cost is told where there is any, and what all cost is not below nothing; else it is unknown', () => {
  const nobody = totalsOf({ resolutions: { started: 1, confirmed: 0, reversed: 0, cost: '0.00', costPer: null } })
  const costPerOf = (confirmed: number, cost: string): string | null | undefined => {
    const some = totalsOf({ resolutions: { started: 3, confirmed, reversed: 0, cost, costPer: null } })
    return mergeTotals([{ pro: some }, { pro: nobody }])['pro']?.resolutions.costPer
  }
  assert.equal(costPerOf(0, '1.00'), null, 'nobody was helped')
  assert.equal(costPerOf(1, '1.00'), '1.00')
  assert.equal(costPerOf(1, '0.00'), '0.00')
  assert.equal(costPerOf(1, '-0.50'), null, 'more was given back than it cost')
  const older = (confirmed: number, costPer: string | null): TierTotals =>
    totalsOf({ resolutions: { started: 3, confirmed, reversed: 0, costPer } })
  const merged = (...parts: readonly TierTotals[]) => mergeTotals(parts.map((pro) => ({ pro })))['pro']?.resolutions.costPer
  assert.equal(merged(older(1, '0.50'), older(0, null)), '0.50')
  assert.equal(merged(older(0, null), older(0, null)), null)
})

test('a tier is over its target where any of its books says so; where none tells, that is not known', () => {
  const told = (isOverTarget?: boolean): Totals => ({
    pro: totalsOf({
      resolutions: { started: 0, confirmed: 0, reversed: 0, costPer: null, ...(isOverTarget === undefined ? {} : { isOverTarget }) },
    }),
  })
  const merged = (...books: readonly Totals[]) => mergeTotals(books)['pro']?.resolutions.isOverTarget
  assert.equal(merged(told(true), told(true)), true)
  assert.equal(merged(told(true), told(false), told()), true)
  assert.equal(merged(told(false), told()), false)
  assert.equal(merged(told(), told()), undefined)
})

test('books that nobody used tell of no cost', () => {
  assert.deepEqual(mergeTotals([{ pro: totalsOf({}) }, { pro: totalsOf({}) }]), { pro: totalsOf({}) })
})

test('users of different books add up, and those of shared books count once', () => {
  const users = (active: number): TierTotals['users'] => ({
    active,
    spent: '1.00',
    heavy: 1,
    heavySpent: '0.60',
    upgradeCandidates: 2,
    byUse: { '0-24': active - 1, '100': 1 },
  })
  const shared = [
    from('a', 'shared', 1_000, { pro: totalsOf({ users: users(4) }) }),
    from('b', 'shared', 2_000, { pro: totalsOf({ users: users(5) }) }),
  ]
  assert.deepEqual(mergeTotals(newestTotals(shared, NOW).values())['pro']?.users, users(5))
  const other = from('c', 'own', 2_000, { pro: totalsOf({ users: users(3) }) })
  const none = from('d', 'older', 2_000, { pro: totalsOf({}) })
  assert.deepEqual(mergeTotals(newestTotals([...shared, other, none], NOW).values())['pro']?.users, {
    active: 8,
    spent: '2.00',
    heavy: 2,
    heavySpent: '1.20',
    upgradeCandidates: 4,
    byUse: { '0-24': 6, '100': 2 },
  })
})

const money = fc.bigInt({ min: 0n, max: 10n ** 12n })
const costs = fc.array(money, { minLength: 1, maxLength: 200 })

/** Nearest rank, as sidecars tell it. */
function quantile(sorted: readonly bigint[], percent: number): bigint {
  return sorted[Math.max(1, Math.ceil((sorted.length * percent) / 100)) - 1] ?? 0n
}
function told(list: readonly bigint[]): TierTotals {
  const sorted = list.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  const at = (percent: number): string => formatUsd(quantile(sorted, percent))
  return totalsOf({ conversations: list.length, cost: { p50: at(50), p95: at(95), p99: at(99), max: at(100) } })
}

test('a merged quantile is at least the true one and at most the highest of the parts; the dearest is exact', () => {
  fc.assert(
    fc.property(fc.array(costs, { minLength: 2, maxLength: 6 }), (books) => {
      const parts = books.map(told)
      const merged = mergeTotals(parts.map((part) => ({ pro: part })))['pro']
      const all = books.flat().toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0))
      for (const [name, percent] of [
        ['p50', 50],
        ['p95', 95],
        ['p99', 99],
        ['max', 100],
      ] as const) {
        const found = parseUsd(merged?.cost[name] ?? '')
        assert.ok(found >= quantile(all, percent), `${name} too low`)
        const highest = parts.map(({ cost }) => parseUsd(cost[name])).reduce((most, cost) => (cost > most ? cost : most), 0n)
        assert.ok(found <= highest, `${name} above all parts`)
      }
      assert.equal(parseUsd(merged?.cost.max ?? ''), all.at(-1))
    }),
  )
})

/** By its definition: the lowest cost of which these sets of books together say that so many percent of the sessions cost at most that. */
function mergedQuantile(parts: readonly TierTotals[], percent: bigint): bigint {
  const steps = (part: TierTotals): readonly (readonly [percent: bigint, cost: bigint])[] => [
    [50n, parseUsd(part.cost.p50)],
    [95n, parseUsd(part.cost.p95)],
    [99n, parseUsd(part.cost.p99)],
    [100n, parseUsd(part.cost.max)],
  ]
  const sessionsOf = (part: TierTotals): bigint => BigInt(part.sessions ?? part.conversations)
  const used = parts.filter((part) => sessionsOf(part) > 0n)
  const all = used.reduce((sum, part) => sum + sessionsOf(part), 0n)
  const within = (most: bigint): bigint =>
    used.reduce((sum, part) => sum + sessionsOf(part) * (steps(part).findLast(([, cost]) => cost <= most)?.[0] ?? 0n), 0n)
  const enough = used.flatMap((part) => steps(part).map(([, cost]) => cost)).filter((cost) => within(cost) >= all * percent)
  return enough.reduce<bigint | null>((least, cost) => (least === null || cost < least ? cost : least), null) ?? 0n
}

test('merged quantiles are what their definition says, of books that nobody used or that tell quantiles out of order, too', () => {
  const usd = fc.bigInt({ min: 0n, max: 20n }).map(formatUsd)
  const count = fc.oneof(fc.nat({ max: 5 }), fc.nat({ max: 1_000_000_000_000 }))
  const part = fc
    .record({ conversations: count, sessions: fc.option(count, { nil: undefined }), costs: fc.tuple(usd, usd, usd, usd) })
    .map(({ conversations, sessions, costs: [p50, p95, p99, max] }) =>
      totalsOf({ conversations, ...(sessions === undefined ? {} : { sessions }), cost: { p50, p95, p99, max } }),
    )
  fc.assert(
    fc.property(fc.array(part, { minLength: 2, maxLength: 12 }), (parts) => {
      const merged = mergeTotals(parts.map((totals) => ({ pro: totals })))['pro']
      const quantiles = [50n, 95n, 99n, 100n].map((percent) => formatUsd(mergedQuantile(parts, percent)))
      assert.deepEqual(Object.values(merged?.cost ?? {}), quantiles)
    }),
  )
})

test('the order in which reports come changes nothing, and neither does one that comes twice', () => {
  const report = fc.record({
    pod: fc.constantFrom('a', 'b', 'c'),
    books: fc.constantFrom('x', 'y'),
    budget: fc.constantFrom('desk', 'bot'),
    knows: fc.boolean(),
    receivedAtMs: fc.nat({ max: 5 }),
    conversations: fc.nat({ max: 9 }),
  })
  fc.assert(
    fc.property(fc.uniqueArray(report, { selector: ({ pod, receivedAtMs }) => `${pod} ${receivedAtMs}` }), fc.nat(), (reports, seed) => {
      const received = reports.map(({ knows, conversations, ...parts }) =>
        reportOf({ ...parts, tiers: { pro: totalsOf({ conversations, ...(knows ? { users: USERS } : {}) }) } }),
      )
      const turned = received.toSorted((a, b) => ((a.receivedAtMs * 7 + seed) % 5) - ((b.receivedAtMs * 7 + seed) % 5))
      assert.deepEqual(mergeTotals(newestTotals([...turned, ...received], NOW).values()), mergeTotals(newestTotals(received, NOW).values()))
    }),
  )
})
