import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PricedModel, Prices } from '@farebox/crds/prices.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { METERED_KINDS, usageOf } from '@farebox/crds/usage.ts'
import { CAPABLE } from './capabilities.testing.ts'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { readChat } from '../wire/bodies.testing.ts'
import { EMPTY_ACCOUNT } from './budget.ts'
import { newConversation } from './conversation-change.ts'
import { decide } from './decide.ts'
import { readAtOnce } from './readings.ts'
import type { DecideInput, Plan } from './plan.ts'
import { COMPACTION } from './request.ts'
import type { HostedTools } from './request.ts'
import { termsOf } from './terms.ts'

const CONTRACT = makeContract({
  caps: { perConversation: '10.00' },
  ladder: [
    { atPercent: 90, rung: 'RefuseTools' },
    { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
  ],
})
const TOOL = { type: 'function', function: { name: 'look', parameters: { type: 'object' } } }
/** Any number of calls of tools that the provider runs, whose results it reads again. */
const SEARCHES: HostedTools = { tools: ['webSearch'], maxCalls: null, rereads: true }

/** A model at 1 USD per million tokens of any kind, but for these. */
function modelAt(prices: Partial<Prices> = {}): PricedModel {
  const all = { ...Object.fromEntries(METERED_KINDS.map((kind) => [kind, 1_000_000n])), ...prices } as unknown as Prices
  return { provider: 'openai', model: 'm', origin: 'catalogue', capabilities: CAPABLE, steps: [], pricesFor: () => all }
}

interface Setup {
  readonly hosted?: HostedTools
  readonly body?: object
  readonly model?: PricedModel
  readonly cap?: string
  readonly spent?: string
}

/** A first question, whose hosted tools bring 100 tokens with each call. */
async function inputOf({ hosted, body = {}, model = modelAt(), cap = '10.00', spent = '0.00' }: Setup): Promise<DecideInput> {
  const terms = termsOf(CONTRACT)
  const request = await readChat({ model: 'm', max_tokens: 10, messages: [{ role: 'user', content: 'Where is my order?' }], ...body })
  const state = { ...EMPTY_ACCOUNT, spent: parseUsd(spent) }
  return {
    request: hosted === undefined ? request : { ...request, hosted },
    terms,
    conversation: newConversation({ id: 'c', tier: 'pro', contractHash: CONTRACT.hash, user: null, nowMs: 0, ladderApplies: true }),
    balances: [{ kind: 'conversation', account: 'c', cap: parseUsd(cap), periodKey: null, state }],
    config: { ...makeConfig('http://provider/v1', [CONTRACT]), hostedTools: { maxResultTokens: 100 } },
    provider: 'openai',
    prices: { find: () => model, ceiling: () => null, free: () => model, catalogue: { version: 'test', date: '2026-01-01' } },
    nowMs: 0,
    factorOf: () => 1,
    accountTierOf: () => null,
    failedSwaps: new Set(),
    mayEdit: true,
    serverOf: () => null,
    earlierTokens: 0,
    newId: () => 'id',
  }
}

async function planOf(setup: Setup): Promise<Plan> {
  const decision = decide(await inputOf(setup))
  assert.ok(decision.status === 'go', decision.status)
  return decision.plan
}

/** The fewest calls of hosted tools that a call is made with, over budgets from none to one for them all. */
async function fewestCalls(hosted: HostedTools): Promise<number | null> {
  let fewest: number | null = null
  for (let cents = 1; cents <= 300; cents++) {
    const decision = decide(await inputOf({ hosted: { ...hosted, tools: [] }, cap: `0.${String(cents).padStart(4, '0')}` }))
    const calls = decision.status === 'go' ? decision.plan.hostedCalls : null
    if (calls !== null) fewest = Math.min(calls, fewest ?? calls)
  }
  return fewest
}

test('what the model writes is read again with each call of a tool that the provider runs', async () => {
  const tokensFor = async (maxTokens: number): Promise<number> =>
    (await planOf({ hosted: { ...SEARCHES, maxCalls: 2 }, body: { max_tokens: maxTokens } })).inputTokens
  assert.equal((await tokensFor(90)) - (await tokensFor(10)), 3 * 80, 'two calls, and the answer')
})

test('little money bounds hosted calls at no fewer than a request can be told to stop at', async () => {
  assert.equal(await fewestCalls(SEARCHES), 1)
  assert.equal(await fewestCalls({ ...SEARCHES, fewestCalls: 3 }), 3)
  assert.equal(await fewestCalls({ ...SEARCHES, compacts: true }), 2, 'a compaction is one more')
  assert.equal(await fewestCalls({ ...SEARCHES, fewestCalls: 3, compacts: true }), 4)
})

test('a compaction is held for beside all the calls that tools may make', async () => {
  assert.equal((await planOf({ hosted: SEARCHES })).hostedCalls, 10)
  assert.equal((await planOf({ hosted: { ...SEARCHES, compacts: true } })).hostedCalls, 11)
})

test('where tools are refused, hosted ones are neither held for nor bounded as before; a compaction is held for all the same', async () => {
  const refusing = async (hosted: HostedTools): Promise<Plan> => {
    const plan = await planOf({ hosted, body: { tools: [TOOL] }, spent: '9.50' })
    assert.deepEqual([plan.rungs, plan.refuseTools], [['RefuseTools'], true])
    return plan
  }
  const plain = await planOf({ body: { tools: [TOOL] } })
  const searching = await refusing(SEARCHES)
  assert.deepEqual([searching.inputTokens, searching.inputCost, searching.hostedCallsCut], [plain.inputTokens, plain.inputCost, true])
  const compacting = await planOf({ hosted: COMPACTION, body: { tools: [TOOL] } })
  assert.ok(compacting.inputTokens > plain.inputTokens)
  const both = await refusing({ ...SEARCHES, compacts: true })
  assert.deepEqual([both.inputTokens, both.hostedCalls, both.hostedCallsCut], [compacting.inputTokens, 1, true])
})

test('a plan knows how much of a sum of readings may have been read at once, and holds at the price of that', async () => {
  const stepped: PricedModel = {
    ...modelAt(),
    steps: [5_000],
    capabilities: { ...CAPABLE, contextTokens: 100_000 },
    pricesFor: (inputTokens) => modelAt(inputTokens > 5_000 ? { uncachedInput: 9_000_000n } : {}).pricesFor(0, null),
  }
  const content = 'Where is my order? '.repeat(150)
  const body = { max_tokens: 10, messages: [{ role: 'user', content }] }
  const { readings, inputTokens, inputCost } = await planOf({ hosted: { ...SEARCHES, maxCalls: 9 }, body, model: stepped })
  assert.ok(readings !== null && inputTokens > 20_000)
  assert.equal(inputCost, BigInt(inputTokens + 9) * 1_000n, 'ten readings, none of them over the step, and nine fees')
  assert.equal(readings.most, 10)
  const used = usageOf({ uncachedInput: inputTokens, output: 10 })
  assert.ok(readAtOnce(used, { isSum: true }, readings) <= 5_000)
  assert.equal((await planOf({ body, model: stepped })).readings, null)
  // Where nobody bounds what tools bring, one reading may be all that the model reads.
  const input = await inputOf({ hosted: SEARCHES, body, model: stepped })
  const unbounded = decide({ ...input, config: { ...input.config, hostedTools: {} } })
  assert.ok(unbounded.status === 'go' && unbounded.plan.readings !== null)
  assert.equal(readAtOnce(used, { isSum: true }, unbounded.plan.readings), inputTokens)
})

test('a call is held for in the tier that its account was seen to have, at the upstream and of the model that it goes to', async () => {
  const tiered: PricedModel = {
    ...modelAt(),
    pricesFor: (_tokens, tier) => modelAt({ output: tier === 'priority' ? 2_000_000n : 1_000_000n }).pricesFor(0, null),
  }
  const asked: unknown[] = []
  const rateOf = async (body: object): Promise<bigint | null> => {
    const input = await inputOf({ body, model: tiered })
    const accountTierOf = (model: string, upstream: string | null): string => {
      asked.push([model, upstream])
      return 'priority'
    }
    const decision = decide({ ...input, accountTierOf })
    return decision.status === 'go' ? decision.plan.outputRate : null
  }
  assert.equal(await rateOf({}), 2_000_000n)
  assert.deepEqual(asked[0], ['m', null])
  assert.equal(await rateOf({ service_tier: 'default' }), 1_000_000n)
})

test('output is held for at the dearest kind that the model may make: pictures cost many times what text does', async () => {
  const { atMost, inputCost, outputRate } = await planOf({ model: modelAt({ imageOutput: 30_000_000n }), body: { max_tokens: 1_000 } })
  assert.equal(outputRate, 30_000_000n)
  assert.equal(atMost - inputCost, parseUsd('0.03'))
})

test('spoken output is held for at its own price where it is asked for', async () => {
  const model = modelAt({ audioOutput: 30_000_000n })
  const audio = { modalities: ['text', 'audio'], audio: { voice: 'alloy', format: 'wav' } }
  assert.equal((await planOf({ model, body: audio })).outputRate, 30_000_000n)
  assert.equal((await planOf({ model })).outputRate, 1_000_000n)
})

test('of a call in flight the fees of its tools count as used as well, by the same part as its input', async () => {
  const fee = parseUsd('0.01')
  const asked = { hosted: { ...SEARCHES, maxCalls: 1, rereads: false }, body: { messages: [{ role: 'user', content: 'x'.repeat(4_000) }] } }
  const of = (webSearchCalls: bigint): Promise<Plan> => planOf({ ...asked, model: modelAt({ webSearchCalls }) })
  const [free, paid] = [await of(0n), await of(fee * 1_000n)]
  assert.equal(paid.inputCost - free.inputCost, fee)
  assert.equal(paid.likelyInputCost - free.likelyInputCost, (fee * free.likelyInputCost) / free.inputCost)
})

test('a model that thinks first has to have room for 2,048 tokens, any other for 256', async () => {
  const leastOf = async (reasoning: boolean): Promise<bigint> => {
    const model = { ...modelAt(), capabilities: { ...CAPABLE, reasoning } }
    const { atLeast, inputCost } = await planOf({ model, body: { max_tokens: 10_000 } })
    return (atLeast - inputCost) / 1_000n
  }
  assert.deepEqual([await leastOf(true), await leastOf(false)], [2_048n, 256n])
})

test('where a provider takes no bound of the output below some, none below that is held for', async () => {
  const input = await inputOf({ body: { max_tokens: 1_000 } })
  const boundTo = (models: Partial<typeof CONTRACT.models>, outputFloor?: number): readonly bigint[] => {
    const terms = { ...input.terms, contract: { ...CONTRACT, models: { ...CONTRACT.models, ...models } } }
    const request = outputFloor === undefined ? input.request : { ...input.request, outputFloor }
    const decision = decide({ ...input, terms, request })
    assert.ok(decision.status === 'go', decision.status)
    const { atLeast, atMost, inputCost } = decision.plan
    return [(atLeast - inputCost) / 1_000n, (atMost - inputCost) / 1_000n]
  }
  assert.deepEqual(boundTo({ maxOutputTokens: 10 }), [10n, 10n])
  assert.deepEqual(boundTo({ maxOutputTokens: 10 }, 16), [16n, 16n])
  assert.deepEqual(boundTo({ usefulOutputTokens: 1 }), [1n, 1_000n])
  assert.deepEqual(boundTo({ usefulOutputTokens: 1 }, 16), [16n, 1_000n])
})
