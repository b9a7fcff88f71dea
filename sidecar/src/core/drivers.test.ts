import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { METERED_KINDS, usageOf } from '@farebox/crds/usage.ts'
import type { Prices } from '@farebox/crds/prices.ts'
import type { Edit } from './conversation.ts'
import { replay } from './edit-log.ts'
import { cutEdit, planCut } from './history-cut.ts'
import type { ModelRequest, JsonObject } from './request.ts'
import { assistant, call, chatRequest, conversations, result, RETRIEVAL_TAG, user } from './requests.testing.ts'
import { driverBytes, splitByDriver } from './drivers.ts'

const PRICES = Object.fromEntries(METERED_KINDS.map((kind, index) => [kind, BigInt(index + 1) * 1_000n])) as Prices
const RETRIEVAL = { toolNames: ['search_docs'], tags: [RETRIEVAL_TAG] }
type Split = ReturnType<typeof splitByDriver>
function split(
  messages: readonly JsonObject[],
  usage: Parameters<typeof usageOf>[0],
  cost: bigint,
  more: Partial<ModelRequest> = {},
): Split {
  const request = chatRequest(messages, more)
  return splitByDriver({
    bytes: driverBytes(request, request.messages, RETRIEVAL),
    usage: usageOf(usage),
    priced: { pricesFor: () => PRICES },
    cost,
  })
}

test('the parts of a cost sum to it exactly, and none is below zero', () => {
  const usages = fc.record(Object.fromEntries(METERED_KINDS.map((kind) => [kind, fc.nat(100_000)])))
  fc.assert(
    fc.property(conversations(), usages, fc.bigInt({ min: 0n, max: 10n ** 12n }), fc.boolean(), (messages, usage, cost, hasTools) => {
      const parts = Object.values(split(messages, usage, cost, hasTools ? { tools: 'offered', fixedBytes: 900 } : {}))
      assert.equal(
        parts.reduce((sum, part) => sum + part, 0n),
        cost,
      )
      assert.ok(parts.every((part) => part >= 0n))
    }),
    { numRuns: 100 },
  )
})

test('what the app marked by its index is found by it after a cut, and a mark on what was cut hits nothing else', () => {
  const passage = 'A passage about fares. '.repeat(100)
  const history = [user('q'), assistant('a'), user('r'), assistant('b'), user(passage), user('s')]
  const splitOf = (marked: string, edits: readonly Edit[]): Split => {
    const request = chatRequest(history, { metadata: { farebox_retrieval: marked } })
    return splitByDriver({
      bytes: driverBytes(request, replay(request, edits).messages, RETRIEVAL),
      usage: usageOf({ uncachedInput: 600 }),
      priced: { pricesFor: () => PRICES },
      cost: 1_000_000n,
    })
  }
  const plan = planCut({ request: chatRequest(history), edits: [], keepRecentTurns: 1 })
  assert.ok(plan)
  const cut = [cutEdit(plan, 'Summarize', user('[summary]'), 'cut')]
  assert.ok(splitOf('4', cut).retrieval > 800_000n)
  assert.equal(splitOf('1', cut).retrieval, 0n)
  assert.equal(splitOf('0', cut).retrieval, 0n)
  assert.equal(splitOf('2', cut).retrieval, 0n, 'the third message of what is sent is another')
})

test('what the app marked drives retrieval, results and schemas drive tools, the rest of the input is history', () => {
  const passage = 'A passage about fares. '.repeat(100)
  const plain = split([user('q')], { uncachedInput: 100, output: 100 }, 1_000_000n)
  assert.deepEqual([plain.retrieval, plain.tools], [0n, 0n])
  assert.ok(plain.output > plain.history, 'output has seven times the price here')
  const tagged = split([user(`<${RETRIEVAL_TAG}>${passage}</${RETRIEVAL_TAG}> q`)], { uncachedInput: 600 }, 1_000_000n)
  assert.ok(tagged.retrieval > 900_000n && tagged.output === 0n)
  const tools = split([user('q'), call({ id: 'a', name: 'book_seat' }), result('a', passage)], { uncachedInput: 600 }, 1_000_000n)
  assert.ok(tools.tools > 850_000n && tools.retrieval === 0n)
  const searched = split([user('q'), call({ id: 'a', name: 'search_docs' }), result('a', passage)], { uncachedInput: 600 }, 1_000_000n)
  assert.ok(searched.retrieval > 800_000n)
  const schemas = split([user('q')], { uncachedInput: 600 }, 1_000_000n, { tools: 'offered', fixedBytes: 5_000 })
  assert.ok(schemas.tools > 900_000n)
})

test('fees of hosted tools are a cost of tools, and a cost without usage is one of output', () => {
  const fee = split([user('q')], { webSearchCalls: 3 }, 30_000n)
  assert.deepEqual(fee, { history: 0n, retrieval: 0n, tools: 30_000n, output: 0n })
  assert.deepEqual(split([user('q')], {}, 7n), { history: 0n, retrieval: 0n, tools: 0n, output: 7n })
})
