import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { firstOf, shareOf } from './pages.ts'
import type { Pages } from './pages.ts'

const inOrder = (a: number, b: number): number => a - b

/** Read `count` at a time; what was read is counted. */
function pagesOf(items: readonly number[], count: number, onRead: (items: number) => void): Pages<number> {
  let from = 0
  return async () => {
    const page = items.slice(from, from + count)
    from += count
    onRead(page.length)
    return { items: page, isLast: page.length < count }
  }
}

test('the first of several lists are those of all of them in order, however they are spread', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.uniqueArray(fc.integer({ min: 0, max: 10_000 }), { maxLength: 60 }), { minLength: 1, maxLength: 9 }),
      fc.integer({ min: 0, max: 80 }),
      fc.integer({ min: 1, max: 9 }),
      async (lists, limit, count) => {
        const sorted = lists.map((list) => list.toSorted(inOrder))
        const first = await firstOf(
          sorted.map((list) => pagesOf(list, count, () => undefined)),
          limit,
          inOrder,
        )
        assert.deepEqual(first, sorted.flat().toSorted(inOrder).slice(0, limit))
      },
    ),
  ))

test('lists that have as much as each other are read little further than needed', async () => {
  let read = 0
  const lists = Array.from({ length: 32 }, (_, list) => Array.from({ length: 1_000 }, (_, index) => index * 32 + list))
  const first = await firstOf(
    lists.map((list) => pagesOf(list, shareOf(1_000, 32), (items) => (read += items))),
    1_000,
    inOrder,
  )
  assert.deepEqual(
    first,
    Array.from({ length: 1_000 }, (_, index) => index),
  )
  assert.ok(read <= 2_100, `${read} were read`)
})

test('a page of which nothing is left does not end its list', async () => {
  const pages = [[], [], [1, 3], [5]]
  const list: Pages<number> = async () => ({ items: pages.shift() ?? [], isLast: pages.length === 0 })
  assert.deepEqual(await firstOf([list, pagesOf([2, 4], 5, () => undefined)], 9, inOrder), [1, 2, 3, 4, 5])
})

test('when one cannot be read nothing is under way any more', async () => {
  let open = 0
  const slow: Pages<number> = async () => {
    open += 1
    await new Promise((resolve) => setTimeout(resolve, 20))
    open -= 1
    return { items: [], isLast: true }
  }
  await assert.rejects(firstOf([slow, () => Promise.reject(new Error('away')), slow], 9, inOrder), /away/)
  assert.equal(open, 0)
})
