import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LadderStep } from '@farebox/crds/ladder.ts'
import type { Capabilities, PricedModel, PriceList, Prices } from '@farebox/crds/prices.ts'
import { METERED_KINDS } from '@farebox/crds/usage.ts'
import { CAPABLE } from './capabilities.testing.ts'
import { divideCeil, PICO_PER_NANO } from '@farebox/crds/usd.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { checkRequest } from '../../../test/provider/chat-request.ts'
import { DEFAULT_MODELS } from '../../../test/provider/models.ts'
import { readPrompt } from '../../../test/provider/prompt.ts'
import { prose } from '../../../test/provider/prose.ts'
import { randomOf } from '../../../test/provider/random.ts'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { EMPTY_ACCOUNT } from './budget.ts'
import { newConversation } from './conversation-change.ts'
import type { Conversation } from './conversation.ts'
import { decide } from './decide.ts'
import { lastEditOf } from './edit-log.ts'
import type { Plan } from './plan.ts'
import type { JsonObject, Message } from './request.ts'
import { assistant, chatRequest, user } from './requests.testing.ts'
import { RETRIEVAL_STUB } from './retrieval.ts'
import { termsOf } from './terms.ts'

/** Counts 1.8 tokens for each of o200k, which nobody here knows of it. */
const MODEL = 'o4-mini'
const OTHER = 'gpt-4.1-nano'
/** Of a token, in pico-dollars. A cache costs more to write than plain input, as with Anthropic and the newer models of OpenAI. */
const RATES: Partial<Prices> = {
  uncachedInput: 1_000_000n,
  cacheReadInput: 100_000n,
  cacheWriteInput: 1_250_000n,
  cacheWriteLongInput: 2_000_000n,
  output: 5_000_000n,
}
const ANSWER_TOKENS = 150
const CAPABILITIES: Capabilities = { ...CAPABLE, contextTokens: 200_000, maxOutputTokens: 500 }
const PRICES: PriceList = {
  find: (provider, model) => pricedAt(provider, model, model === OTHER ? 2n : 1n),
  ceiling: (provider, model) => pricedAt(provider, model, 1n),
  free: (provider, model) => pricedAt(provider, model, 1n),
  catalogue: { version: 'test', date: '2026-01-01' },
}
const FAKE_MODELS = new Map(DEFAULT_MODELS.map((model) => [model.id, model]))

/** Who keeps what was sent, and how long after it was last read. */
interface Keeper {
  readonly provider: string
  readonly lifeMs: number
  readonly cacheWrites?: 'long'
}
const ANTHROPIC: Keeper = { provider: 'anthropic', lifeMs: 5 * 60_000 }
const ANTHROPIC_LONG: Keeper = { provider: 'anthropic', lifeMs: 60 * 60_000, cacheWrites: 'long' }
const OPENAI: Keeper = { provider: 'openai', lifeMs: 30 * 60_000 }

function pricedAt(provider: string, model: string, cheaper: bigint): PricedModel {
  const prices = Object.fromEntries(METERED_KINDS.map((kind) => [kind, (RATES[kind] ?? 0n) / cheaper])) as unknown as Prices
  return { provider, model, origin: 'catalogue', capabilities: CAPABILITIES, steps: [], pricesFor: () => prices }
}

interface Setup {
  readonly cap: string
  readonly steps: readonly LadderStep[]
  /** Between two calls. */
  readonly pauseMs?: number
  readonly keeper?: Keeper
  /** Tokens of o200k of the passages that come with a question; 0: none do. */
  readonly passageTokens: (turn: number) => number
  readonly turns?: number
  readonly windowTokens?: number
  /** Of the request's body. */
  readonly fields?: readonly string[]
}

interface Played {
  readonly plans: readonly Plan[]
  readonly costs: readonly NanoUsd[]
}

const END: LadderStep = { atPercent: 100, rung: 'EndConversation', end: 'Refuse' }
const dropsAt = (atPercent: number): readonly LadderStep[] => [{ atPercent, rung: 'DropRetrieval' }, END]

/** A conversation as far as its budget goes, billed by what the fake provider counts and keeps. */
function play({ cap, steps, pauseMs = 1_000, keeper = ANTHROPIC, passageTokens, turns = 60, windowTokens, fields = [] }: Setup): Played {
  const { provider, lifeMs, cacheWrites = 'short' } = keeper
  const models = { allow: [], downgrades: [{ from: MODEL, to: OTHER }] }
  const made = makeContract({ ladder: steps.map((step) => ({ ...step })), models, caps: { perConversation: cap } })
  const context = windowTokens === undefined ? made.context : { ...made.context, windowTokens, overflow: 'DropOldest' as const }
  const terms = termsOf({ ...made, context })
  const config = {
    ...makeConfig('http://provider/v1', [terms.contract], { retrieval: { toolNames: [], tags: ['context'] } }),
    onUnknownModel: 'Ceiling' as const,
  }
  let conversation: Conversation = newConversation({ id: 'c', tier: 'pro', contractHash: 'h', user: null, nowMs: 0, ladderApplies: true })
  const history: JsonObject[] = []
  const plans: Plan[] = []
  const costs: NanoUsd[] = []
  let spent = 0n
  let last: readonly string[] = []
  let ids = 0
  for (let turn = 0; turn < turns; turn++) {
    const tokens = passageTokens(turn)
    const passage = tokens === 0 ? '' : `<context>${textOf(1_000 + turn, tokens)}</context>\n`
    history.push(user(`${passage}${textOf(turn, 60)}`))
    const nowMs = turn * pauseMs
    const decision = decide({
      request: chatRequest(history, { model: MODEL, cacheWrites, fields: new Set(['model', 'messages', ...fields]) }),
      terms,
      conversation,
      balances: [{ kind: 'conversation', account: 'c', cap: terms.perConversation, periodKey: null, state: { ...EMPTY_ACCOUNT, spent } }],
      config,
      provider,
      prices: PRICES,
      nowMs,
      factorOf: () => 1,
      accountTierOf: () => null,
      failedSwaps: new Set(),
      mayEdit: true,
      serverOf: () => ({ provider, upstream: null }),
      earlierTokens: 0,
      newId: () => `id-${++ids}`,
    })
    if (decision.status !== 'go') break
    const { plan } = decision
    const { messages, newEdits } = plan.shaped
    const inputTokens = countOf(plan.model, messages)
    assert.ok(inputTokens <= plan.inputTokens, `${inputTokens} tokens, and ${plan.inputTokens} are held for`)
    const sent = messages.map(({ bytes }) => Buffer.from(bytes).toString('utf8'))
    const same = sent.findIndex((text, index) => text !== last[index])
    const isCold = pauseMs > lifeMs || plan.model !== conversation.exact?.model
    const cachedTokens = isCold || same <= 0 ? 0 : countOf(plan.model, messages.slice(0, same))
    last = sent
    const prices = plan.priced.pricesFor(0, null)
    const writeRate = cacheWrites === 'long' ? prices.cacheWriteLongInput : prices.cacheWriteInput
    const input = BigInt(cachedTokens) * prices.cacheReadInput + BigInt(inputTokens - cachedTokens) * writeRate
    costs.push(divideCeil(input + BigInt(ANSWER_TOKENS) * prices.output, PICO_PER_NANO))
    spent += costs.at(-1) ?? 0n
    plans.push(plan)
    const edits = [...conversation.edits, ...plan.promoted, ...newEdits]
    const { sent: counted } = plan.bound
    conversation = {
      ...conversation,
      turns: turn + 1,
      rungs: plan.rungs,
      edits,
      exact: {
        ...counted,
        model: plan.model,
        inputTokens,
        cachedTokens,
        outputTokens: ANSWER_TOKENS,
        atMs: nowMs,
        lastEdit: lastEditOf(edits),
      },
    }
    history.push(assistant(textOf(2_000 + turn, ANSWER_TOKENS)))
  }
  return { plans, costs }
}

function countOf(model: string, messages: readonly Message[]): number {
  return readPrompt(checkRequest({ model, messages: messages.map(({ json }) => json) }, FAKE_MODELS)).tokens
}

function textOf(seed: number, tokens: number): string {
  return prose(randomOf(seed), tokens, 'en').join('')
}

/** How many messages of the last call have lost their passages. */
function stubs({ plans }: Played): number {
  return (plans.at(-1)?.shaped.messages ?? []).filter(({ bytes }) => Buffer.from(bytes).includes(RETRIEVAL_STUB)).length
}

const sum = (costs: readonly NanoUsd[]): NanoUsd => costs.reduce((total, cost) => total + cost, 0n)
const skips = ({ plans }: Played): readonly string[] => plans.flatMap(({ shaped }) => shaped.skipped.map(({ reason }) => reason))

for (const [name, pauseMs] of [
  ['warm', 1_000],
  ['cold', 6 * 60_000],
] as const) {
  test(`in a ${name} cache, a conversation whose passages are left out ends no sooner than without, whatever its cap`, () => {
    for (const cap of ['0.03', '0.05', '0.06', '0.08', '0.1', '0.13'])
      for (const passages of [400, 40]) {
        const passageTokens = (turn: number): number => (turn % 4 === 1 ? passages : 0)
        const without = play({ cap, steps: [END], pauseMs, passageTokens })
        const dropping = play({ cap, steps: dropsAt(70), pauseMs, passageTokens })
        assert.ok(dropping.plans.length >= without.plans.length, `${cap}: ${dropping.plans.length} of ${without.plans.length} turns`)
      }
  })
}

const ONE_EARLY = (turn: number): number => (turn === 1 ? 80 : 0)

test('a passage at the beginning of a warm history stays where writing the rest anew costs more than it saves', () => {
  const without = play({ cap: '0.2', steps: [END], passageTokens: ONE_EARLY })
  const dropping = play({ cap: '0.2', steps: dropsAt(30), passageTokens: ONE_EARLY })
  assert.equal(dropping.plans.at(-1)?.rungs.at(-1), 'DropRetrieval')
  assert.deepEqual(dropping.costs, without.costs)
  assert.ok(skips(dropping).includes('noSaving'))
  assert.deepEqual(
    dropping.plans.flatMap(({ occasions }) => occasions),
    [],
    'nothing was done, and nothing is told',
  )
})

test('it stays for as long as its provider keeps what it wrote, at the price of that', () => {
  for (const [keeper, pauseMs, isWarm] of [
    [ANTHROPIC, 6 * 60_000, false],
    [OPENAI, 6 * 60_000, true],
    [OPENAI, 31 * 60_000, false],
    [ANTHROPIC_LONG, 31 * 60_000, true],
    [ANTHROPIC_LONG, 61 * 60_000, false],
  ] as const) {
    const dropping = play({ cap: '0.2', steps: dropsAt(30), keeper, pauseMs, passageTokens: ONE_EARLY })
    assert.equal(stubs(dropping), isWarm ? 0 : 1, `${keeper.provider}, ${pauseMs / 60_000} minutes`)
    const without = play({ cap: '0.2', steps: [END], keeper, pauseMs, passageTokens: ONE_EARLY })
    assert.ok(sum(dropping.costs) <= sum(without.costs) || dropping.plans.length > without.plans.length)
  }
})

test('it goes when the cache has gone cold, and at once where it pays', () => {
  const cold = play({ cap: '2', steps: dropsAt(5), pauseMs: 6 * 60_000, passageTokens: ONE_EARLY })
  assert.deepEqual([stubs(cold), skips(cold).includes('noSaving')], [1, false])
  const many = (turn: number): number => (turn > 0 && turn < 9 ? 600 : 0)
  const early = play({ cap: '0.2', steps: dropsAt(10), passageTokens: many })
  assert.ok(stubs(early) >= 4, `${stubs(early)}`)
  assert.ok(sum(early.costs) < sum(play({ cap: '0.2', steps: [END], passageTokens: many }).costs))
})

test('a call is held for by its own length where the provider leaves out more the longer it is: what is cut may bring that back', () => {
  const heldAtDrop = (fields: readonly string[]): number => {
    const { plans } = play({ cap: '2', steps: dropsAt(5), pauseMs: 6 * 60_000, passageTokens: ONE_EARLY, fields })
    return plans.find(({ shaped }) => shaped.newEdits.length > 0)?.inputTokens ?? 0
  }
  const asCounted = heldAtDrop([])
  assert.ok(asCounted > 0)
  for (const name of ['context_management', 'truncation']) assert.ok(heldAtDrop([name]) > asCounted, name)
})

test('a passage of the new question goes, whatever the old ones do', () => {
  const passageTokens = (turn: number): number => (turn === 1 ? 80 : turn > 40 ? 300 : 0)
  const dropping = play({ cap: '0.2', steps: dropsAt(30), passageTokens, turns: 50 })
  const [, second] = dropping.plans.at(-1)?.shaped.messages.filter(({ role }) => role === 'user') ?? []
  assert.ok(second !== undefined && !Buffer.from(second.bytes).includes(RETRIEVAL_STUB))
  assert.equal(stubs(dropping), 9)
})

test('where another model answers or the window is full, there is no cache to spare', () => {
  const moves = play({
    cap: '0.2',
    steps: [{ atPercent: 30, rung: 'DropRetrieval' }, { atPercent: 30, rung: 'DowngradeModel' }, END],
    passageTokens: ONE_EARLY,
  })
  const moved = moves.plans.findIndex(({ model }) => model === OTHER)
  assert.ok(moved > 0 && moves.plans[moved]?.shaped.newEdits.length === 1)
  assert.ok(moves.plans[moved - 1]?.shaped.newEdits.length === 0)
  const passageTokens = (turn: number): number => (turn === 14 ? 80 : 0)
  const full = play({ cap: '0.2', steps: dropsAt(20), passageTokens, windowTokens: 10_000 })
  const edits = full.plans.flatMap(({ shaped }) => shaped.newEdits.map(({ kind }) => kind))
  assert.ok(skips(full).includes('noSaving'))
  assert.deepEqual(edits.slice(0, 2), ['replace', 'cut'], 'it goes before turns do')
})
