import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { ASK_AGAIN_AFTER_MS, UsageRefusals } from './usage-refusals.ts'

const OLD = { name: 'house', baseUrl: 'http://old.example/v1', injectUsage: 'Auto' } as const
let upMs: number
let refusals: UsageRefusals
beforeEach(() => {
  upMs = 5_000
  refusals = new UsageRefusals(() => upMs)
  refusals.add(OLD, 'small')
})

test('a refusal is of one model of one server under one name', () => {
  assert.equal(refusals.has(OLD, 'small'), true)
  assert.equal(refusals.has(OLD, 'large'), false)
  assert.equal(refusals.has({ ...OLD, name: 'other' }, 'small'), false)
  assert.equal(refusals.has({ ...OLD, baseUrl: 'http://new.example/v1' }, 'small'), false)
})

test('it does not count for ever: servers are upgraded', () => {
  upMs += ASK_AGAIN_AFTER_MS - 1
  assert.equal(refusals.has(OLD, 'small'), true)
  upMs += 1
  assert.equal(refusals.has(OLD, 'small'), false)
})

test('an owner who said not to ask, and then to ask again, is taken at their word', () => {
  refusals.add({ ...OLD, name: 'other' }, 'small')
  refusals.follow([OLD])
  assert.equal(refusals.has(OLD, 'small'), true)
  refusals.follow([{ ...OLD, injectUsage: 'Never' }])
  refusals.follow([OLD])
  assert.equal(refusals.has(OLD, 'small'), false)
  assert.equal(refusals.has({ ...OLD, name: 'other' }, 'small'), true)
})
