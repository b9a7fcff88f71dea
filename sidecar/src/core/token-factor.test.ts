import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { assumedFactor, FactorTable } from './token-factor.ts'

test('only models of the tokenizer that was measured go without a margin', () => {
  for (const model of ['gpt-4o', 'gpt-4o-mini', 'gpt-4o-2024-08-06', 'chatgpt-4o-latest', 'ft:gpt-4o-mini-2024-07-18:acme::x'])
    assert.equal(assumedFactor(model), 1, model)
  for (const model of ['o4-mini', 'gpt-4.1', 'gpt-5', 'gpt-4', 'gpt-4oo', 'my-gpt-4o', 'claude-sonnet-5', ''])
    assert.ok(assumedFactor(model) >= 1.8, model)
})

test('a model never seen has the factor 1, one seen the highest ratio', () => {
  const table = new FactorTable()
  assert.equal(table.factorOf('m'), 1)
  table.observe('m', { exactTokens: 150, heuristicTokens: 100 })
  table.observe('m', { exactTokens: 90, heuristicTokens: 100 })
  assert.equal(table.factorOf('m'), 1.5)
  assert.equal(table.factorOf('other'), 1)
})

test('samples that are too small, broken or out of all proportion do not mislead', () => {
  const table = new FactorTable()
  for (const [exactTokens, heuristicTokens] of [
    [300, 31],
    [300, 0],
    [300, Number.NaN],
    [Number.POSITIVE_INFINITY, 100],
    [Number.NaN, 100],
    [-500, 100],
  ] as const)
    table.observe('m', { exactTokens, heuristicTokens })
  assert.equal(table.factorOf('m'), 1)
  table.observe('m', { exactTokens: 100_000, heuristicTokens: 100 })
  assert.equal(table.factorOf('m'), 4)
})

test('a factor never falls, and stays from 1 to 4', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(10_000), fc.nat(10_000))), (samples) => {
      const table = new FactorTable()
      let before = 1
      for (const [exactTokens, heuristicTokens] of samples) {
        table.observe('m', { exactTokens, heuristicTokens })
        const now = table.factorOf('m')
        assert.ok(now >= before && now <= 4)
        if (heuristicTokens >= 32) assert.ok(now >= Math.min(4, exactTokens / heuristicTokens))
        before = now
      }
    }),
  )
})

test('a client that asks for ever new models fills no memory, and the model in use is not forgotten', () => {
  const table = new FactorTable()
  for (let index = 0; index < 2_000; index++) {
    table.observe(`model-${index}`, { exactTokens: 200, heuristicTokens: 100 })
    table.observe('used', { exactTokens: 130, heuristicTokens: 100 })
  }
  assert.equal(table.size, 256)
  assert.equal(table.factorOf('used'), 1.3)
  assert.equal(table.factorOf('model-0'), 1)
  assert.equal(table.factorOf('model-1999'), 2)
})

test('every call of a model teaches at first, then a share of them that reads a quarter of a kilobyte a call', () => {
  const table = new FactorTable()
  for (let call = 0; call < 8; call++) assert.ok(table.wants('m', 1_000_000))
  for (const bytes of [200_000, 5_000, 300]) {
    let read = 0
    for (let call = 0; call < 2_000; call++) if (table.wants('m', bytes)) read += bytes
    assert.ok(read > 0 && read <= 2_000 * 256 + 200_000, `${bytes}: ${read}`)
    if (bytes > 256) assert.ok(read >= 2_000 * 256 - bytes, `${bytes}: ${read}`)
  }
})
