import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import { createPriceList } from '@farebox/crds/price-list.ts'
import { pricesAt } from '@farebox/crds/regions.ts'
import { formatUsd } from '@farebox/crds/usd.ts'
import { usageOf } from '@farebox/crds/usage.ts'
import { makeUpstream } from '../../../test/support/make.ts'
import { NO_HOSTED_TOOLS } from '../core/request.ts'
import { NO_FACTS } from '../wire/answer-reading.ts'
import type { Admitted } from './admit.ts'
import { AnswerCost, GAUGED_BYTES_MAX, NOTHING_SEEN, seenOfPlain } from './answer-cost.ts'

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

test('at an endpoint that keeps calls in a region its prices hold, also for another model that answers', () => {
  const nowMs = Date.parse('2026-11-24T12:00:00Z')
  const list = createPriceList([], loadCatalogue())
  const costAt = (baseUrl: string, model: string): string => {
    const upstream = makeUpstream({ name: 'openai', provider: 'openai', baseUrl })
    const priced = pricesAt(list, upstream).find('openai', 'gpt-5.5', nowMs)
    const turn = { request: { serviceTier: null, units: {} }, policy: { prices: list }, gateway: { nowMs: () => nowMs } }
    const admitted = { plan: { model: 'gpt-5.5', priced }, turn } as unknown as Admitted
    const worth = new AnswerCost(admitted, upstream).ofUsage(usageOf({ uncachedInput: 1_000_000 }), { ...NO_FACTS, model })
    assert.ok(worth !== null)
    return formatUsd(worth.cost)
  }
  const hosts = ['https://api.openai.com/v1', 'https://eu.api.openai.com/v1']
  assert.deepEqual(
    hosts.map((host) => costAt(host, 'gpt-5.5')),
    ['10.00', '11.00'],
    'above the long-context step',
  )
  assert.deepEqual(
    hosts.map((host) => costAt(host, 'gpt-5.4-mini')),
    ['0.75', '0.825'],
  )
})

test('an answer that breaks off before it says its tier is booked by the dearest that it was held for', () => {
  const nowMs = Date.parse('2026-11-24T12:00:00Z')
  const priced = createPriceList([], loadCatalogue()).find('openai', 'gpt-5', nowMs)
  const upstream = makeUpstream({ name: 'openai', provider: 'openai', baseUrl: 'https://api.openai.com/v1' })
  const costIn = (tiers: readonly (string | null)[], served: string | null): string => {
    const bound = { at: () => 1_000 }
    const plan = { model: 'gpt-5', priced, choices: 1, inputTokens: 1_000, bound, outputRate: 0n, readings: null, serviceTiers: tiers }
    const turn = { request: { serviceTier: null, units: {}, hosted: NO_HOSTED_TOOLS }, gateway: { factors: { factorOf: () => 1 } } }
    const admitted = { plan, turn, granted: 10n ** 9n, outputTokens: 0 } as unknown as Admitted
    const facts = { ...NO_FACTS, usage: usageOf({ uncachedInput: 1_000 }), serviceTier: served }
    return formatUsd(new AnswerCost(admitted, upstream).ofSeen({ ...NOTHING_SEEN, facts }).cost)
  }
  assert.equal(costIn([null, 'auto'], null), '0.00125')
  assert.equal(costIn([null, 'auto', 'priority'], null), '0.0025')
  assert.equal(costIn([null, 'auto', 'priority'], 'auto'), '0.0025')
  assert.equal(costIn([null, 'auto', 'priority'], 'default'), '0.00125')
})
