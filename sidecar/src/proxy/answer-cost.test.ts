import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GAUGED_BYTES_MAX, seenOfPlain } from './answer-cost.ts'

const WORDS = Buffer.from('all is well that ends well ')

test('a plain answer that breaks off counts as long as its head said', () => {
  const came = { bytes: WORDS.length, announced: 0 }
  const { tokens, textTokens } = seenOfPlain([WORDS], came)
  assert.ok(tokens >= 6 && tokens <= 9, `${tokens} tokens`)
  assert.equal(textTokens, 0, 'which of it is text, nobody can see')
  assert.equal(seenOfPlain([WORDS], { ...came, announced: 4 * WORDS.length }).tokens, 4 * tokens)
  assert.equal(seenOfPlain([], { bytes: 0, announced: 5_000 }).tokens, 0)
})

test('of a long plain answer a sample stands for the rest', () => {
  const parts = Array.from({ length: 3 }, () => Buffer.alloc(GAUGED_BYTES_MAX, WORDS))
  const bytes = parts.length * GAUGED_BYTES_MAX
  const sampled = seenOfPlain(parts.slice(0, 1), { bytes, announced: 0 })
  assert.deepEqual(seenOfPlain(parts, { bytes, announced: 0 }), sampled)
  assert.ok(sampled.tokens > 2.9 * seenOfPlain(parts.slice(0, 1), { bytes: GAUGED_BYTES_MAX, announced: 0 }).tokens)
})
