import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Allowances } from './allowances.ts'

test('each owner may take so much at once, and so much more each second; another is not touched by it', () => {
  const allowances = new Allowances({ burst: 100, perSecond: 10 })
  assert.deepEqual(
    [60, 60, 40].map((cost) => allowances.take('a', cost, 0)),
    [true, false, true],
  )
  assert.equal(allowances.take('b', 100, 0), true)
  assert.equal(allowances.take('a', 10, 900), false)
  assert.equal(allowances.take('a', 10, 1_000), true)
  assert.equal(allowances.take('a', 1_000, 11_000), true, 'more than the burst counts as the burst')
  assert.equal(allowances.take('a', 1, 11_000), false)
})

test('owners that have all of it again are forgotten', () => {
  const allowances = new Allowances({ burst: 100, perSecond: 10 })
  for (let owner = 0; owner < 1_000; owner++) allowances.take(String(owner), 100, 1)
  allowances.take('last', 1, 70_000)
  assert.equal(allowances.size, 1)
})
