import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as z from 'zod'
import { holds } from './cel.ts'
import { isTransition, rules, rulesOf } from './rules.ts'

const POSITIVE = { rule: 'self.size > 0', message: 'must be above zero' }
const EVEN = { rule: 'self.size % 2 == 0', message: 'must be even' }
const FIXED = { rule: 'self.size == oldSelf.size', message: 'cannot be changed' }

test('rules add up and leave the schema as it was', () => {
  const bare = z.strictObject({ size: z.int() }).describe('A box.')
  const once = rules(bare, POSITIVE)
  const twice = rules(once, EVEN)
  assert.deepEqual([rulesOf(bare), rulesOf(once), rulesOf(twice)], [[], [POSITIVE], [POSITIVE, EVEN]])
  assert.equal(twice.meta()?.description, 'A box.')
  assert.deepEqual(twice.parse({ size: -1 }), { size: -1 }, 'the schema judges shape only')
})

test('a rule that looks at the old object is one of transition; a word that contains its name is not', () => {
  assert.equal(isTransition(FIXED), true)
  assert.equal(isTransition(POSITIVE), false)
  assert.equal(isTransition({ rule: 'self.oldSelfie', message: '' }), false)
})

test('CEL sees whole numbers as integers, absent fields as absent, and maps by their keys', () => {
  assert.equal(holds(POSITIVE, { size: 3 }), true)
  assert.equal(holds(POSITIVE, { size: 0 }), false)
  assert.equal(holds(EVEN, { size: 3 }), false)
  assert.equal(holds({ rule: '!has(self.size)', message: '' }, { size: undefined }), true)
  assert.equal(holds({ rule: "self.all(key, key.matches('^[a-z]+$'))", message: '' }, { a: 1, B: 2 }), false)
  assert.equal(holds(FIXED, { size: 2 }, { size: 2 }), true)
  assert.equal(holds(FIXED, { size: 2 }, { size: 3 }), false)
})

test('a rule that cannot be evaluated is a bug, and throws', () => {
  assert.throws(() => holds({ rule: 'self.size >', message: '' }, { size: 1 }))
  assert.throws(() => holds(POSITIVE, { other: 1 }))
})
