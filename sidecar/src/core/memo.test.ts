import assert from 'node:assert/strict'
import { test } from 'node:test'
import { memo, memoOfTwo } from './memo.ts'

test('each object has its own value, worked out once, whatever it is', () => {
  let computed = 0
  const count = memo(({ length }: readonly string[]) => {
    computed += 1
    return length === 0 ? null : length
  })
  const [none, one, other] = [[], ['a'], ['a']]
  assert.deepEqual([none, one, other, one, none].map(count), [null, 1, 1, 1, null])
  assert.equal(computed, 3)
})

test('two objects have a value together', () => {
  let computed = 0
  const join = memoOfTwo((one: readonly string[], other: readonly string[]) => {
    computed += 1
    return [...one, ...other].join('')
  })
  const [a, b] = [['a'], ['b']]
  assert.deepEqual([join(a, b), join(b, a), join(a, a), join(a, b)], ['ab', 'ba', 'aa', 'ab'])
  assert.equal(computed, 3)
})
