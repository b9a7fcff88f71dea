import assert from 'node:assert/strict'
import { test } from 'node:test'
import { foldedName, spelledAgain } from './field-names.ts'

test('names that differ in case alone, as Go sees it, have one form', () => {
  for (const name of ['max_tokens', 'MAX_TOKENS', 'Max_Tokens', 'max_to\u212aens', 'max_token\u017f', '\uff4dax_tokens'])
    assert.equal(foldedName(name), 'max_tokens')
  assert.notEqual(foldedName('maxTokens'), 'max_tokens')
})

test('a form is its own', () => {
  for (const name of ['', 'n', 'top_p', '{"@[`\0\x7f']) assert.equal(foldedName(name), name)
  for (const name of ['N', 'a\u017f', '\u00e9', '\u0130']) assert.equal(foldedName(foldedName(name)), foldedName(name))
})

test('a name of any length is as good as no work', () => {
  const long = '\ufdfa'.repeat(1_000_000)
  assert.equal(foldedName(long), long)
})

test('of two spellings the later one is named', () => {
  assert.equal(spelledAgain(['a', 'B', 'ab', 'b', 'A']), 'b')
  assert.equal(spelledAgain(['a', 'B', 'A_', '_a']), null)
})
