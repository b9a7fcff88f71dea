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
