import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Shelf } from './shelf.ts'

test('what is not committed yet does not leave for the table: its image is still there for the commit', () => {
  const shelf = new Shelf<{ readonly value: number }>({
    name: 'things',
    cached: 0,
    load: () => null,
    encode: ({ value }, key) => [key, value],
  })
  shelf.set('old', { value: 1 })
  shelf.set('both', { value: 1 })
  shelf.committed()
  shelf.set('both', { value: 2 })
  shelf.set('new', { value: 3 })
  shelf.leave()
  assert.deepEqual(shelf.freshValues(), [
    ['both', 2],
    ['new', 3],
  ])
  assert.deepEqual(shelf.get('old'), { value: 1 })
  shelf.arrived()
  assert.equal(shelf.get('old'), null)
  assert.deepEqual(shelf.get('both'), { value: 2 })
  shelf.committed()
  shelf.leave()
  shelf.arrived()
  assert.equal(shelf.get('new'), null)
})

test('a row that is withdrawn before its commit was never set; all that have not arrived can be seen', () => {
  const shelf = new Shelf<{ readonly value: number }>({
    name: 'rows',
    cached: 0,
    load: () => null,
    encode: ({ value }, key) => [key, value],
  })
  for (const [key, value] of [
    ['leaving', 1],
    ['waiting', 2],
    ['fresh', 3],
    ['fresh too', 4],
  ] as const) {
    shelf.set(key, { value })
    if (key === 'leaving') {
      shelf.committed()
      shelf.leave()
    }
    if (key === 'waiting') shelf.committed()
  }
  assert.deepEqual(
    Array.from(shelf.unwrittenRows(), ({ value }) => value),
    [1, 2, 3, 4],
  )
  shelf.withdraw(({ value }) => value < 4)
  assert.deepEqual(
    Array.from(shelf.unwrittenRows(), ({ value }) => value),
    [1, 2, 4],
    'what the journal has stays',
  )
  assert.deepEqual(shelf.freshValues(), [['fresh too', 4]])
})
