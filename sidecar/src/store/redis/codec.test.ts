import assert from 'node:assert/strict'
import { test } from 'node:test'
import { wordOf } from './codec.ts'

test('a word that a script answers is one of those that it may be', () => {
  const words = ['charged', 'exists'] as const
  for (const word of words) assert.equal(wordOf(word, words), word)
  for (const other of ['moved', '', null, ['charged']]) assert.throws(() => wordOf(other, words), TypeError)
})
