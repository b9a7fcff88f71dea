import assert from 'node:assert/strict'
import { test } from 'node:test'
import { INPUT_KINDS, inputTokens, METERED_KINDS, OUTPUT_KINDS, usageOf } from './usage.ts'

test('a usage has every kind, zero where nothing is given', () => {
  const usage = usageOf({ output: 5, cacheReadInput: 0 })
  assert.deepEqual(Object.keys(usage), [...METERED_KINDS])
  assert.equal(usage.output, 5)
  assert.deepEqual(new Set(Object.values(usage)), new Set([0, 5]))
})

test('all kinds of input fill the window, output and calls of tools do not', () => {
  const ones = usageOf(Object.fromEntries(METERED_KINDS.map((kind) => [kind, 1])))
  assert.equal(inputTokens(ones), INPUT_KINDS.length)
  for (const kind of METERED_KINDS) assert.equal(inputTokens(usageOf({ [kind]: 7 })), kind.endsWith('Input') ? 7 : 0, kind)
})

test('tokens that a model makes are apart from those that it reads', () => {
  const outputs = METERED_KINDS.filter((kind) => kind.toLowerCase().endsWith('output'))
  assert.deepEqual([...OUTPUT_KINDS], outputs)
})
