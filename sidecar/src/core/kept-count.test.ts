import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keptTokens, tellApart } from './kept-count.ts'

const SEEN = { model: 'gpt-4o', inputTokens: 3_000, outputTokens: 100 }

test('a count is one for its own model, and for another where all of it is text, of which that may make twice as many tokens', () => {
  assert.equal(keptTokens(SEEN, 'gpt-4o'), 3_100)
  assert.equal(keptTokens(SEEN, 'gpt-4o-mini'), null, 'a picture is 33 times as many to it')
  const read = { ...SEEN, isText: true as const }
  assert.equal(keptTokens(read, 'gpt-4o-mini'), 3_100, 'of one tokenizer')
  assert.equal(keptTokens(read, 'gpt-4.1-mini'), 6_200)
  assert.equal(keptTokens({ ...read, model: 'gpt-4.1' }, 'gpt-4o'), 6_200)
})

test('what two models of one tokenizer have counted alike is the same to each of those, and to no other', () => {
  const alike = { ...SEEN, isAlike: true }
  assert.deepEqual(
    [keptTokens(alike, 'gpt-4o-mini'), keptTokens(alike, 'gpt-4.1'), keptTokens({ ...SEEN, isAlike: false }, 'gpt-4o-mini')],
    [3_100, null, null],
  )
  assert.equal(tellApart('gpt-4o', 'gpt-4o-mini'), true)
  for (const [one, other] of [
    ['gpt-4o', 'chatgpt-4o-latest'],
    ['gpt-4o', 'gpt-4.1-mini'],
    ['gpt-4o', 'gpt-4o'],
  ] as const)
    assert.equal(tellApart(one, other), false)
})
