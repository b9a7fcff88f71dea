import assert from 'node:assert/strict'
import { test } from 'node:test'
import { matchesPattern } from './pattern.ts'

test('a name matches itself, and a trailing star the rest of a name', () => {
  assert.equal(matchesPattern('gpt-4o', 'gpt-4o'), true)
  assert.equal(matchesPattern('gpt-4o', 'gpt-4o-mini'), false)
  assert.equal(matchesPattern('gpt-4o*', 'gpt-4o'), true)
  assert.equal(matchesPattern('gpt-4o*', 'gpt-4o-mini'), true)
  assert.equal(matchesPattern('gpt-4o*', 'my-gpt-4o'), false)
  assert.equal(matchesPattern('*', ''), true)
  assert.equal(matchesPattern('', 'x'), false)
})

test('nothing else in a pattern has a meaning', () => {
  assert.equal(matchesPattern('gpt-4.1', 'gpt-4x1'), false)
  assert.equal(matchesPattern('[a-z]*', 'gpt'), false)
  assert.equal(matchesPattern('a*b*', 'a*bc'), true)
  assert.equal(matchesPattern('a*b*', 'axbc'), false)
})
