import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { valueTexts } from './bodies.testing.ts'
import { afterSpace, valueEnd } from './json-text.ts'

test('a value ends where it ends, whatever follows, and not at all when it is cut', () => {
  fc.assert(
    fc.property(valueTexts(), fc.constantFrom(',"b":1}', '}', ']', ' ', '\n', ''), fc.nat(), (text, after, cut) => {
      const value = text.trim()
      const bytes = Buffer.from(`"a":${value}${after}`)
      const end = 4 + Buffer.byteLength(value)
      assert.equal(valueEnd(bytes, 4, bytes.length), end)
      // Of a number or a word nobody can see that it goes on.
      if (/^["[{]/.test(value)) assert.equal(valueEnd(bytes, 4, 4 + (cut % Buffer.byteLength(value))), -1)
    }),
  )
})

test('what is no value ends nowhere', () => {
  for (const text of ['', ',', '}', ']', ' 1', '"', '"\\"', '[', '{"a":"}', '[[]']) {
    const bytes = Buffer.from(text)
    assert.equal(valueEnd(bytes, 0, bytes.length), -1, text)
  }
})

test('white space is what JSON calls so, and is looked at up to the end that is told', () => {
  const bytes = Buffer.from(' \n\r\t\x01\x0b  x')
  assert.equal(afterSpace(bytes, 0), 4)
  assert.equal(afterSpace(bytes, 5), 5)
  assert.equal(afterSpace(bytes, 6, 7), 7)
})
