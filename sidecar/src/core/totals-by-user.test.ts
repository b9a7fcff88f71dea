import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { UserSums } from './totals-by-user.ts'
import type { UserTotalsQuery } from './totals-by-user.ts'

const QUERY: UserTotalsQuery = { timesMedian: 10, atLeast: [], limit: 3 }

function sumsOf(spends: readonly (readonly [user: string, spent: bigint])[], max?: number): UserSums {
  const sums = new UserSums(max)
  for (const [user, spent] of spends) sums.add(user, spent)
  return sums
}

test('adds up each user, and ranks them', () => {
  const sums = sumsOf([
    ['ann', 5n],
    ['bob', 200n],
    ['ann', 15n],
    ['cem', 20n],
    ['dee', 0n],
    ['eva', 199n],
  ])
  assert.deepEqual(sums.totals({ ...QUERY, atLeast: [0n, 20n, 200n, 201n] }), {
    users: 4,
    spent: 439n,
    median: 20n,
    heavy: { users: 1, spent: 200n },
    reached: [4, 4, 1, 0],
    top: [
      { user: 'bob', spent: 200n },
      { user: 'eva', spent: 199n },
      { user: 'ann', spent: 20n },
    ],
    oneIn: 1,
  })
})

test('the median of an even number is the lower one; without users it is zero, and nobody is heavy', () => {
  const median = (...spends: readonly bigint[]): bigint => sumsOf(spends.map((spent, index) => [`u${index}`, spent])).totals(QUERY).median
  assert.deepEqual([median(), median(7n), median(7n, 1n), median(9n, 1n, 5n), median(9n, 1n, 5n, 6n)], [0n, 7n, 1n, 5n, 5n])
  assert.deepEqual(sumsOf([]).totals(QUERY).heavy, { users: 0, spent: 0n })
})

test('whom nothing was sold to, or whose cost was taken back, is no user that cost something, and moves no median', () => {
  const mostFree = sumsOf([
    ['a', 0n],
    ['b', 0n],
    ['c', 90n],
    ['c', 10n],
    ['d', 9n],
    ['e', 7n],
    ['e', -7n],
    ['f', 8n],
  ])
  const { users, median, heavy, reached, top } = mostFree.totals({ ...QUERY, atLeast: [0n], limit: 9 })
  assert.deepEqual([users, median, heavy, reached], [3, 9n, { users: 1, spent: 100n }, [3]])
  assert.deepEqual(
    top.map(({ user }) => user),
    ['c', 'd', 'f'],
  )
  const none = sumsOf([['a', -5n]]).totals(QUERY)
  assert.deepEqual([none.users, none.spent, none.median, none.top], [0, -5n, 0n, []])
})

test('is what a plain sum, sort and count of all users come to', () => {
  const spend = fc.tuple(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'), fc.bigInt({ min: -9n, max: 40n }))
  fc.assert(
    fc.property(fc.array(spend, { maxLength: 20 }), fc.integer({ min: 2, max: 5 }), fc.nat(7), (spends, timesMedian, limit) => {
      const known = Object.entries(Object.groupBy(spends, ([user]) => user))
      const users = known.map(([user, own]) => ({ user, spent: (own ?? []).reduce((sum, [, spent]) => sum + spent, 0n) }))
      const paying = users.filter(({ spent: sum }) => sum > 0n)
      const ranked = paying.toSorted((a, b) => (a.spent === b.spent ? (a.user < b.user ? -1 : 1) : Number(b.spent - a.spent)))
      const median = ranked[Math.floor(ranked.length / 2)]?.spent ?? 0n
      const heavy = ranked.filter(({ spent }) => median > 0n && spent >= median * BigInt(timesMedian))
      const total = (of: typeof users): bigint => of.reduce((sum, { spent }) => sum + spent, 0n)
      const atLeast = [-5n, 0n, 1n, 30n]
      assert.deepEqual(sumsOf(spends).totals({ timesMedian, atLeast, limit }), {
        users: paying.length,
        spent: total(users),
        median,
        heavy: { users: heavy.length, spent: total(heavy) },
        reached: atLeast.map((amount) => paying.filter(({ spent }) => spent >= amount).length),
        top: ranked.slice(0, limit),
        oneIn: 1,
      })
    }),
  )
})

test('tells the same whoever tells of whom first', () => {
  const spend = fc.tuple(fc.stringMatching(/^[0-9a-f]{8}$/), fc.bigInt({ min: -9n, max: 99n }))
  fc.assert(
    fc.property(fc.array(spend, { maxLength: 60 }), (spends) => {
      const query = { timesMedian: 3, atLeast: [10n], limit: 50 }
      for (const max of [undefined, 16]) assert.deepEqual(sumsOf(spends, max).totals(query), sumsOf(spends.toReversed(), max).totals(query))
    }),
  )
})

test('of very many users a part is looked at, from which the rest is estimated; what all spent is exact', () => {
  const users = 40_000
  const spends = Array.from({ length: users }, (_, index) => [(index * 2_654_435_761).toString(16), BigInt(index % 1_000)] as const)
  const {
    oneIn,
    users: estimated,
    spent,
    median,
    reached,
    heavy,
  } = sumsOf(spends, 5_000).totals({ timesMedian: 1, atLeast: [900n], limit: 0 })
  assert.ok(oneIn === 8 || oneIn === 16, `one in ${oneIn}`)
  const isNear = (seen: number, right: number): boolean => Math.abs(seen - right) < 0.1 * right
  assert.ok(isNear(estimated, users), `${estimated} users`)
  assert.ok(isNear(Number(median), 500), `median ${median}`)
  assert.ok(isNear(reached[0] ?? 0, users / 10), `${reached[0]} reached it`)
  assert.ok(isNear(heavy.users, users / 2), `${heavy.users} are heavy`)
  assert.ok(isNear(Number(heavy.spent), users * 375), `they spent ${heavy.spent}`)
  assert.equal(
    spent,
    spends.reduce((sum, [, one]) => sum + one, 0n),
  )
})
