import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keptTokens } from './kept-count.ts'

const SEEN = { model: 'gpt-4o', inputTokens: 3_000, outputTokens: 100 }

test('a count is one for its own model, and for another where all of it is text, of which that may make twice as many tokens', () => {
  assert.equal(keptTokens(SEEN, 'gpt-4o'), 3_100)
  assert.equal(keptTokens(SEEN, 'gpt-4o-mini'), null, 'a picture is 33 times as many to it')
  const read = { ...SEEN, isText: true as const }
  assert.equal(keptTokens(read, 'gpt-4o-mini'), 3_100, 'of one tokenizer')
  assert.equal(keptTokens(read, 'gpt-4.1-mini'), 6_200)
  assert.equal(keptTokens({ ...read, model: 'gpt-4.1' }, 'gpt-4o'), 6_200)
})
