import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Rung } from '@farebox/crds/ladder.ts'
import { DEFAULT_LADDER } from '@farebox/crds/ladder.ts'
import type { PricedModel, PriceList, Prices } from '@farebox/crds/prices.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { METERED_KINDS } from '@farebox/crds/usage.ts'
import { CAPABLE } from './capabilities.testing.ts'
import { makeConfig, makeContract } from '../../../test/support/make.ts'
import { modelNotAllowed } from '../errors.ts'
import type { Account } from './budget.ts'
import { EMPTY_ACCOUNT } from './budget.ts'
import type { Conversation, Edit, ExactCount } from './conversation.ts'
import { affordableOutput, decide, endsForGood, observedPlan } from './decide.ts'
import { inputBound } from './estimate.ts'
import type { DecideInput, Decision, Plan } from './plan.ts'
import type { Cut } from './edit-log.ts'
import { cutEdit, planCut } from './history-cut.ts'
import { readChat } from '../wire/bodies.testing.ts'
import { rungTold } from './ladder.ts'
import { messagesDigest } from './message-digests.ts'
import { COMPACTION } from './request.ts'
import type { ModelRequest } from './request.ts'
import { resetEdits } from './reset.ts'
import { beginsUserTurn, questionOf } from './sessions.ts'
import { termsOf } from './terms.ts'
import type { Balance } from './terms.ts'

/** 1 USD per million input tokens, 10 per million output tokens. */
const DEAR = modelAt('dear', 1_000_000n, 10_000_000n)
const CHEAP = modelAt('cheap', 100_000n, 1_000_000n)
/** As `DEAR`, of the tokenizer that the heuristic was measured with. */
const MEASURED = modelAt('gpt-4o', 1_000_000n, 10_000_000n)

function modelAt(model: string, input: bigint, output: bigint): PricedModel {
  const prices = Object.fromEntries(
    METERED_KINDS.map((kind) => [kind, kind === 'output' || kind === 'audioOutput' ? output : kind.endsWith('Input') ? input : 0n]),
  ) as unknown as Prices
  return { provider: 'openai', model, origin: 'catalogue', capabilities: CAPABLE, steps: [], pricesFor: () => prices }
}

const PRICES: PriceList = {
  find: (_provider, model) => [DEAR, CHEAP, MEASURED].find((known) => known.model === model) ?? null,
  ceiling: (_provider, model) => ({ ...DEAR, model, origin: 'ceiling' }),
  free: (_provider, model) => ({ ...modelAt(model, 0n, 0n), origin: 'free' }),
  catalogue: { version: 'test', date: '2026-01-01' },
}

/** The same, where reading from the cache costs a tenth, and the cheap model half of the dear one. */
const CACHED_PRICES: PriceList = {
  ...PRICES,
  find: (provider, model, atMs) => {
    const found = model === 'cheap' ? modelAt('cheap', 500_000n, 5_000_000n) : PRICES.find(provider, model, atMs)
    if (found === null) return null
    const prices = found.pricesFor(0, null)
    return { ...found, pricesFor: () => ({ ...prices, cacheReadInput: prices.uncachedInput / 10n, cacheWriteInput: 0n }) }
  },
}

/** Where the long cache costs twice the input to write. */
const LONG_DEARER: PriceList = {
  ...CACHED_PRICES,
  find: (provider, model, atMs) => {
    const found = CACHED_PRICES.find(provider, model, atMs)
    if (found === null) return null
    const prices = found.pricesFor(0, null)
    return { ...found, pricesFor: () => ({ ...prices, cacheWriteLongInput: prices.uncachedInput * 2n }) }
  },
}

const USER_TURN = [{ role: 'user', content: 'Hello, how are you today?' }]
const TOOL_LOOP = [
  ...USER_TURN,
  { role: 'assistant', content: null, tool_calls: [{ id: 'c1', type: 'function', function: { name: 'look', arguments: '{}' } }] },
  { role: 'tool', tool_call_id: 'c1', content: 'found' },
]
const TOOLS = [{ type: 'function', function: { name: 'look', parameters: { type: 'object', properties: {} } } }]

interface Setup {
  readonly body?: Readonly<Record<string, unknown>>
  readonly contract?: Contract
  readonly own?: Partial<Account>
  readonly user?: Partial<Account> & { readonly cap: string }
  readonly workload?: Partial<Account> & { readonly cap: string }
  readonly rungs?: readonly Rung[]
  readonly conversation?: Partial<Conversation>
  readonly onUnknownModel?: 'Ceiling' | 'Refuse' | 'Free'
}

const FULL_LADDER = makeContract({
  ladder: DEFAULT_LADDER.map((step) => ({ ...step })),
  models: { allow: [], downgrades: [{ from: 'dear', to: 'cheap' }] },
})

const PER_RESOLUTION: Contract = { ...FULL_LADDER, pricing: { ...FULL_LADDER.pricing, model: 'PerResolution' } }

async function inputOf(setup: Setup): Promise<DecideInput> {
  const terms = termsOf(setup.contract ?? FULL_LADDER)
  const balances: Balance[] = [
    { kind: 'conversation', account: 'c', cap: terms.perConversation, periodKey: null, state: { ...EMPTY_ACCOUNT, ...setup.own } },
  ]
  if (setup.user !== undefined) {
    const { cap, ...state } = setup.user
    balances.push({ kind: 'user', account: 'u', cap: parseUsd(cap), periodKey: '2026-11-01', state: { ...EMPTY_ACCOUNT, ...state } })
  }
  if (setup.workload !== undefined) {
    const { cap, ...state } = setup.workload
    balances.push({ kind: 'workload', account: 'w', cap: parseUsd(cap), periodKey: '2026-11-24', state: { ...EMPTY_ACCOUNT, ...state } })
  }
  const conversation: Conversation = {
    id: 'c',
    tier: 'pro',
    contractHash: terms.contract.hash,
    contractPinnedAtMs: 0,
    user: null,
    session: 1,
    startedAtMs: 0,
    lastTurnAtMs: 0,
    turns: 1,
    rungs: setup.rungs ?? [],
    reason: null,
    ladderApplies: true,
    state: 'open',
    stateAtMs: null,
    exact: null,
    edits: [],
    readyEdits: [],
    userRungs: null,
    alerts: [],
    earlierAlerts: [],
    userAlerts: null,
    notices: [],
    atTaskBoundary: false,
    boundaryAtMs: null,
    userTurns: 0,
    question: null,
    turnRungs: [],
    drivers: { history: 0n, retrieval: 0n, tools: 0n, output: 0n, summaries: 0n, other: 0n },
    resolution: 'none',
    resolvedAtMs: null,
    resolutionRound: 0,
    ...setup.conversation,
  }
  let id = 0
  return {
    request: await readChat({ model: 'dear', messages: USER_TURN, ...setup.body }),
    terms,
    conversation,
    balances,
    config: { ...makeConfig('http://provider/v1', [terms.contract]), onUnknownModel: setup.onUnknownModel ?? 'Ceiling' },
    provider: 'openai',
    prices: PRICES,
    nowMs: 0,
    factorOf: () => 1,
    accountTierOf: () => null,
    failedSwaps: new Set(),
    mayEdit: true,
    serverOf: () => ({ provider: 'openai', upstream: null }),
    earlierTokens: 0,
    newId: () => `id-${++id}`,
  }
}

function planOf(decision: Decision): Plan {
  assert.equal(
    decision.status,
    'go',
    JSON.stringify(decision, (_key, value: unknown) => (typeof value === 'bigint' ? value.toString() : value)),
  )
  if (decision.status !== 'go') throw new TypeError()
  return decision.plan
}

test('a fresh conversation has no rung, and holds its input and the whole output that the model may give', async () => {
  const plan = planOf(decide(await inputOf({ contract: makeContract() })))
  assert.deepEqual(plan.rungs, [])
  assert.equal(plan.outputTokensMax, 16_384)
  assert.equal(plan.atMost - plan.inputCost, 163_840_000n) // 16,384 tokens at 10 USD per million
  assert.equal(plan.atLeast - plan.inputCost, 2_560_000n) // 256 useful ones
})

test('the client, the tier and the model bound the output, whichever is least; n multiplies it', async () => {
  assert.equal(planOf(decide(await inputOf({ body: { max_tokens: 50 } }))).outputTokensMax, 50)
  const tier = makeContract({ models: { allow: [], downgrades: [], maxOutputTokens: 40 } })
  assert.equal(planOf(decide(await inputOf({ contract: tier, body: { max_tokens: 50 } }))).outputTokensMax, 40)
  const three = planOf(decide(await inputOf({ body: { max_tokens: 50, n: 3 } })))
  assert.equal(three.atMost - three.inputCost, 1_500_000n)
  assert.equal(affordableOutput(three, three.inputCost + 900_000n), 30)
  assert.equal(affordableOutput(three, three.atMost), 50)
})

test('rungs that rewrite rise with the thresholds, at a user turn', async () => {
  const plan = planOf(decide(await inputOf({ own: { spent: parseUsd('0.46') }, body: { max_tokens: 100 } })))
  assert.equal(plan.percent, 92)
  assert.deepEqual(plan.rungs, ['DropRetrieval', 'Summarize', 'DowngradeModel'])
  assert.deepEqual(plan.risen, plan.rungs)
  assert.equal(plan.reason, 'threshold')
  assert.equal(plan.model, 'cheap')
})

test('inside a tool loop only tools are refused and conversations ended', async () => {
  const loop = { messages: TOOL_LOOP, tools: TOOLS, max_tokens: 100 }
  const plan = planOf(decide(await inputOf({ own: { spent: parseUsd('0.48') }, body: loop })))
  assert.deepEqual(plan.rungs, ['RefuseTools'])
  assert.equal(plan.model, 'dear')
  assert.equal(plan.refuseTools, true)
  const ended = decide(await inputOf({ own: { spent: parseUsd('0.50') }, body: loop }))
  assert.equal(ended.status, 'end')
})

test('held output of other calls raises no rung and ends nothing; their input counts', async () => {
  const held = planOf(decide(await inputOf({ own: { held: parseUsd('0.50'), heldInput: 1_000n }, body: { max_tokens: 100 } })))
  assert.deepEqual(held.rungs, [])
  assert.equal(held.percent, 0)
  const input = planOf(decide(await inputOf({ own: { held: parseUsd('0.40'), heldInput: parseUsd('0.40') }, body: { max_tokens: 100 } })))
  assert.equal(input.percent, 80)
})

test('a call that does not fit takes the next rungs until it does, and says so', async () => {
  const contract = makeContract({
    caps: { perConversation: '0.01' },
    models: { allow: [], downgrades: [{ from: 'dear', to: 'cheap' }], usefulOutputTokens: 2_000 },
    ladder: [
      { atPercent: 90, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
    ],
  })
  const plan = planOf(decide(await inputOf({ contract })))
  assert.equal(plan.model, 'cheap')
  assert.equal(plan.reason, 'fit')
  assert.deepEqual(plan.risen, ['DowngradeModel'])
  const none = decide(
    await inputOf({
      contract: makeContract({ caps: { perConversation: '0.001' }, models: { allow: [], downgrades: [], usefulOutputTokens: 2_000 } }),
    }),
  )
  assert.deepEqual(none.status === 'end' ? none.reason : none.status, 'fit')
})

test('the tighter of conversation and user drives the ladder; rungs of the user are kept apart', async () => {
  const plan = planOf(decide(await inputOf({ user: { cap: '3.00', spent: parseUsd('2.20') }, body: { max_tokens: 100 } })))
  assert.equal(plan.percent, 73)
  assert.deepEqual(plan.rungs, ['DropRetrieval'])
  assert.deepEqual(plan.risen, [])
  assert.deepEqual(plan.risenForUser, ['DropRetrieval'])
  const nextPeriod = planOf(
    decide(
      await inputOf({
        user: { cap: '3.00' },
        conversation: { userRungs: { period: '2026-10-01', rungs: ['DropRetrieval'] } },
        body: { max_tokens: 100 },
      }),
    ),
  )
  assert.deepEqual(nextPeriod.rungs, [], 'a new period begins without rungs')
})

test('rungs stay: a conversation that got more budget keeps what it climbed', async () => {
  const plan = planOf(decide(await inputOf({ rungs: ['DropRetrieval', 'Summarize'], body: { max_tokens: 100 } })))
  assert.deepEqual(plan.rungs, ['DropRetrieval', 'Summarize'])
  assert.deepEqual(plan.risen, [])
})

test('a tier on target takes no rung below the cap, but still fits the last call in', async () => {
  const calm = planOf(
    decide(
      await inputOf({
        contract: PER_RESOLUTION,
        own: { spent: parseUsd('0.49') },
        conversation: { ladderApplies: false },
        body: { max_tokens: 100 },
      }),
    ),
  )
  assert.deepEqual(calm.rungs, [])
})

test('models outside the tier and unpriced ones are refused as the owner says', async () => {
  const allowed = makeContract({ models: { allow: ['che*'], downgrades: [] } })
  const asked = await inputOf({ contract: allowed })
  assert.deepEqual(decide(asked), { status: 'refuse', refusal: modelNotAllowed(asked.request.model) })
  const unknown = { body: { model: 'mystery', max_tokens: 100 } }
  assert.deepEqual(decide(await inputOf({ ...unknown, onUnknownModel: 'Refuse' })), {
    status: 'refuse',
    refusal: { code: 'model_unpriced', param: 'model' },
  })
  assert.equal(planOf(decide(await inputOf(unknown))).priced.origin, 'ceiling')
  const free = planOf(decide(await inputOf({ ...unknown, onUnknownModel: 'Free' })))
  assert.deepEqual([free.atMost, affordableOutput(free, 0n)], [0n, 100], 'what costs nothing is bounded by no money')
})

describe('a call that only the ceiling makes too dear', () => {
  const unknown = { model: 'mystery' }
  const poor = makeContract({ ...FULL_LADDER, caps: { perConversation: '0.000001' } })

  test('is refused alone, by the name of the model and what it needs', async () => {
    const decision = decide(await inputOf({ contract: poor, body: unknown }))
    assert.ok(decision.status === 'refuse')
    const { code, param, message } = decision.refusal
    assert.deepEqual([code, param], ['model_unpriced', 'model'])
    assert.match(message ?? '', /"mystery".*PriceBook.*onUnknownModel/)
    assert.equal(decide(await inputOf({ contract: poor })).status, 'end', 'a price is a price')
    const withFile = decide(await inputOf({ contract: poor, body: { ...WITH_FILE, ...unknown } }))
    assert.deepEqual(withFile, decision, 'its words alone are too dear')
  })

  test('is so in the middle of a conversation with another model, and for a user', async () => {
    const left = { spent: parseUsd('0.4999') }
    const steep = makeContract({ ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Refuse' }] })
    const counted = { fixedDigest: '', messages: 0, messagesDigest: '', inputTokens: 1, cachedTokens: 0, outputTokens: 1, atMs: 0 }
    const led = { exact: { ...counted, model: 'mystery' } }
    const other = { exact: { ...counted, model: 'dear' } }
    assert.equal(decide(await inputOf({ contract: steep, own: left, body: unknown, conversation: other })).status, 'refuse')
    const poorUser = { contract: steep, user: { cap: '0.5', ...left }, body: unknown, conversation: other }
    assert.equal(decide(await inputOf(poorUser)).status, 'refuse')
    assert.equal(decide(await inputOf({ ...poorUser, conversation: { turns: 0 } })).status, 'refuse', 'as their first call too')
    assert.equal(decide(await inputOf({ contract: steep, own: left, body: unknown })).status, 'end', 'nobody knows what it was led with')
    assert.equal(decide(await inputOf({ contract: steep, own: left })).status, 'end')
    assert.equal(
      decide(await inputOf({ contract: steep, own: left, body: unknown, conversation: led })).status,
      'end',
      'it was led with it',
    )
  })

  test('ends the conversation where the model that it steps down to has a price', async () => {
    const models = { allow: [], downgrades: [{ from: 'mystery', to: 'cheap' }] }
    const contract = makeContract({ ...poor, models })
    assert.equal(decide(await inputOf({ contract, body: unknown })).status, 'end')
  })
})

test('the list of models is what apps may ask for: a downgrade may lead to another', async () => {
  const contract = makeContract({ ladder: FULL_LADDER.ladder, models: { allow: ['dear'], downgrades: [{ from: 'dear', to: 'cheap' }] } })
  const plan = planOf(decide(await inputOf({ contract, own: { spent: parseUsd('0.46') }, body: { max_tokens: 100 } })))
  assert.equal(plan.model, 'cheap')
  const asked = decide(await inputOf({ contract, body: { model: 'cheap', max_tokens: 100 } }))
  assert.deepEqual(asked, { status: 'refuse', refusal: modelNotAllowed('cheap') })
})

test('a model is allowed by the terms of the conversation or by those of today', async () => {
  const allowing = (model: string) => makeContract({ models: { allow: [model], downgrades: [] } })
  for (const [model, status] of [
    ['dear', 'go'],
    ['cheap', 'go'],
    ['other', 'refuse'],
  ] as const) {
    const input = await inputOf({ contract: allowing('dear'), body: { model, max_tokens: 100 } })
    const config = makeConfig('http://provider/v1', [allowing('cheap')])
    assert.equal(decide({ ...input, config }).status, status, model)
  }
})

test('a forced tool on the rung that refuses tools is refused, not answered otherwise', async () => {
  const forced = decide(
    await inputOf({ own: { spent: parseUsd('0.48') }, body: { tools: TOOLS, tool_choice: 'required', max_tokens: 100 } }),
  )
  const refusal = { code: 'tool_calls_refused', param: 'tool_choice' } as const
  assert.deepEqual(forced, { status: 'refuse', refusal, by: { rung: 'RefuseTools', reason: 'threshold' } })
})

test('a refusal tells the rung that refuses and why it is there, whoever took it; one on any rung tells none', async () => {
  const forcing = { tools: TOOLS, tool_choice: 'required', max_tokens: 100 }
  const by = async (setup: Setup): Promise<unknown> => {
    const decision = decide(await inputOf({ body: forcing, ...setup }))
    return decision.status === 'refuse' ? decision.by : decision.status
  }
  const userRungs = { period: '2026-11-01', rungs: ['RefuseTools'] } as const
  assert.deepEqual(await by({ rungs: ['RefuseTools'], conversation: { reason: 'fit' } }), { rung: 'RefuseTools', reason: 'fit' })
  assert.deepEqual(await by({ user: { cap: '3.00', spent: parseUsd('2.90') } }), { rung: 'RefuseTools', reason: 'threshold' })
  assert.deepEqual(await by({ user: { cap: '3.00' }, conversation: { userRungs } }), { rung: 'RefuseTools', reason: 'threshold' })
  const loop = { messages: TOOL_LOOP, ...forcing }
  assert.deepEqual(await by({ body: loop, conversation: { turnRungs: ['RefuseTools'] } }), { rung: 'RefuseTools', reason: 'fit' })
  const contract = makeContract({ ...FULL_LADDER, models: { allow: ['other'], downgrades: [] } })
  assert.equal(await by({ contract, own: { spent: parseUsd('0.48') } }), undefined)
})

test('input of calls in flight makes a call wait, and neither raises a rung nor ends the conversation', async () => {
  const room = { spent: parseUsd('0.10'), held: parseUsd('0.3985'), heldInput: parseUsd('0.3985') }
  const contract = makeContract({
    ladder: [
      { atPercent: 100, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation' },
    ],
    models: { allow: [], downgrades: [{ from: 'dear', to: 'cheap' }] },
  })
  const input = await inputOf({ contract, own: room, body: { max_tokens: 200 } })
  assert.equal(planOf(decide({ ...input, request: { ...input.request, model: 'cheap' } })).rungs.length, 0, 'the next rung has room')
  const decision = decide(input)
  assert.deepEqual([decision.status, decision.status === 'wait' && decision.account], ['wait', 'c'])
  const alone = input.balances.map((balance) => ({ ...balance, state: { ...balance.state, held: 0n, heldInput: 0n } }))
  assert.equal(planOf(decide({ ...input, balances: alone })).rungs.length, 0)
  const spent = input.balances.map((balance) => ({
    ...balance,
    state: { ...balance.state, spent: parseUsd('0.4999'), held: 0n, heldInput: 0n },
  }))
  assert.equal(decide({ ...input, balances: spent }).status, 'end', 'what is spent does')
})

test('what counts as used while a call is in flight is the part of its input that is likely to be billed', async () => {
  const plan = planOf(decide(await inputOf({ body: { messages: [{ role: 'user', content: 'x'.repeat(4_000) }], max_tokens: 100 } })))
  assert.ok(plan.likelyInputCost < (plan.inputCost * 6n) / 10n && plan.likelyInputCost > (plan.inputCost * 4n) / 10n)
})

describe('a call beside a history that the provider has cached', () => {
  const messages = [{ role: 'user', content: 'x'.repeat(40_000) }]
  const asked = [...messages, { role: 'assistant', content: 'Yes.' }, { role: 'user', content: 'y'.repeat(200) }]
  const READ = { text: 10_000n * 100_000n, atLeast: 100n * 1_000_000n }

  async function inFlight(counted: Partial<ExactCount>, nowMs = 0): Promise<{ readonly likely: bigint; readonly held: bigint }> {
    const before = await readChat({ model: 'dear', messages })
    const exact: ExactCount = {
      model: 'dear',
      fixedDigest: before.fixedDigest,
      messages: 1,
      messagesDigest: messagesDigest(before.messages, 1),
      inputTokens: 10_000,
      cachedTokens: 0,
      outputTokens: 3,
      atMs: 0,
      ...counted,
    }
    const setup = { body: { messages: asked, max_tokens: 100 }, conversation: { exact } }
    const plan = planOf(decide({ ...(await inputOf(setup)), prices: CACHED_PRICES, nowMs }))
    return { likely: plan.likelyInputCost * 1_000n, held: plan.inputCost * 1_000n }
  }

  test('counts what the last call read or wrote there at the price of reading, and what is new as ever', async () => {
    for (const counted of [{ cachedTokens: 10_000 }, { cacheWrittenTokens: 10_000 }, { cachedTokens: 9_000, cacheWrittenTokens: 1_000 }]) {
      const { likely, held } = await inFlight(counted)
      assert.ok(likely > READ.text + READ.atLeast && likely < READ.text + 4n * READ.atLeast, `${likely}`)
      assert.ok(held > 10_000n * 1_000_000n, 'the hold is as if nothing were cached')
    }
  })

  test('counts so where another of several calls at once was counted last, whose question was another', async () => {
    const other = { messages: 3, messagesDigest: 'f'.repeat(32) }
    const [cached, uncached] = await Promise.all([inFlight({ ...other, cachedTokens: 10_000 }), inFlight(other)])
    assert.equal(uncached.likely - cached.likely, 10_000n * 900_000n)
  })

  test('counts no more than what stands before its own question, however long what another call has cached', async () => {
    const savedBy = async (counted: Partial<ExactCount>): Promise<bigint> => {
      const other = { messagesDigest: 'f'.repeat(32), ...counted }
      const [cached, uncached] = await Promise.all([inFlight({ ...other, cachedTokens: 1_000_000 }), inFlight(other)])
      return (uncached.likely - cached.likely) / 900_000n
    }
    const shared = await savedBy({ messages: 3 })
    assert.ok(shared >= 20_000n && shared < 20_200n, `${shared}: two bytes a token of the history`)
    assert.equal(await savedBy({ messages: 9 }), shared)
    assert.ok((await savedBy({ messages: 1 })) < 100n, 'the long text itself was another')
  })

  test('counts as if nothing were cached once that is cold, or is of another model or other tools', async () => {
    const [plain, ...others] = await Promise.all([
      inFlight({}),
      inFlight({ cachedTokens: 10_000 }, 6 * 60_000),
      inFlight({ cachedTokens: 0, cacheWrittenTokens: 0 }),
    ])
    assert.ok(plain.likely > 10_000n * 1_000_000n)
    for (const { likely } of others) assert.equal(likely, plain.likely)
    for (const counted of [{ model: 'cheap' }, { fixedDigest: 'other' }])
      assert.deepEqual(await inFlight({ ...counted, cachedTokens: 10_000 }), await inFlight(counted))
  })
})

describe('sound beside text', () => {
  const WAV = { type: 'input_audio', input_audio: { data: Buffer.alloc(10_000).toString('base64'), format: 'wav' } }
  const AUDIO_TOKENS = 111
  /** Sound at twenty times the price of text. */
  const heard: PriceList = {
    ...PRICES,
    find: (provider, model, atMs) => {
      const found = PRICES.find(provider, model, atMs)
      if (found === null) return null
      const prices = found.pricesFor(0, null)
      return { ...found, pricesFor: () => ({ ...prices, audioInput: 20n * prices.uncachedInput }) }
    },
  }
  const system = { role: 'system', content: 'x'.repeat(20_000) }
  const note = (...parts: readonly unknown[]) => ({ role: 'user', content: [{ type: 'text', text: 'Listen.' }, ...parts] })

  async function heldFor(messages: readonly unknown[], more: Partial<Setup> = {}): Promise<Plan> {
    const input = await inputOf({ contract: makeContract(), ...more, body: { messages, max_tokens: 100 } })
    return planOf(decide({ ...input, prices: heard }))
  }

  test('has its own price, and the text beside it that of text', async () => {
    const { inputTokens, inputCost, likelyInputCost } = await heldFor([system, note(WAV)])
    assert.equal(inputCost * 1_000n, BigInt(inputTokens - AUDIO_TOKENS) * 1_000_000n + BigInt(AUDIO_TOKENS) * 20_000_000n)
    assert.ok(likelyInputCost * 1_000n < BigInt(inputTokens) * 1_000_000n)
  })

  test('is held for by no less than it costs, however much of the input it is', async () => {
    for (const [text, seconds] of [
      [20, 60],
      [2_000, 10],
      [20_000, 1],
    ] as const) {
      // The thinnest codecs need a kilobyte a second, which is ten tokens.
      const sound = { type: 'input_audio', input_audio: { data: Buffer.alloc(seconds * 1_000).toString('base64'), format: 'mp3' } }
      const { inputCost } = await heldFor([{ role: 'system', content: 'x'.repeat(text) }, note(sound)])
      assert.ok(inputCost * 1_000n >= BigInt(text) * 1_000_000n + BigInt(seconds * 10) * 20_000_000n)
    }
  })

  test('of a history that was counted is what the provider told apart, else its bound', async () => {
    const history = [system, note(WAV)]
    const before = await readChat({ model: 'dear', messages: history })
    const counted = {
      model: 'dear',
      fixedDigest: before.fixedDigest,
      messages: 2,
      messagesDigest: messagesDigest(before.messages, 2),
      inputTokens: 5_000,
      cachedTokens: 0,
      outputTokens: 3,
      atMs: 0,
    }
    const asked = [...history, { role: 'assistant', content: 'Yes.' }, note(WAV)]
    const costAt = async (exact: ExactCount): Promise<bigint> => {
      const { inputTokens, inputCost } = await heldFor(asked, { conversation: { exact } })
      return (inputCost * 1_000n - BigInt(inputTokens) * 1_000_000n) / 19_000_000n
    }
    assert.equal(await costAt(counted), 2n * BigInt(AUDIO_TOKENS))
    assert.equal(await costAt({ ...counted, audioTokens: 3 }), 3n + BigInt(AUDIO_TOKENS))
    assert.equal(await costAt({ ...counted, audioTokens: 0 }), BigInt(AUDIO_TOKENS), 'it was told that none of it is sound')
    assert.equal(await costAt({ ...counted, audioTokens: 5_000 }), 2n * BigInt(AUDIO_TOKENS), 'what may be sound, but has no part that is')
  })

  test('may be all of it where there is a file, which may hold any; a document holds none', async () => {
    const plan = (...parts: readonly unknown[]): Promise<Plan> =>
      heldFor([note(...parts)], { contract: makeContract({ caps: { perConversation: '9.00' } }) })
    const unnamed = { type: 'file', file: { file_id: 'file-1' } }
    const film = { type: 'video_url', video_url: { url: 'https://example.com/a.mp4' } }
    for (const parts of [[unnamed], [film], [WAV, unnamed], [WAV, FILE, film]]) {
      const { inputTokens, inputCost } = await plan(...parts)
      assert.equal(inputCost * 1_000n, BigInt(inputTokens) * 20_000_000n, JSON.stringify(parts))
    }
    for (const [parts, audio] of [
      [[FILE], 0],
      [[WAV, FILE], AUDIO_TOKENS],
    ] as const) {
      const { inputTokens, inputCost } = await plan(...parts)
      assert.equal(inputCost * 1_000n, BigInt(inputTokens - audio) * 1_000_000n + BigInt(audio) * 20_000_000n)
    }
  })

  test('of a film whose length the provider has counted may be all that it counted', async () => {
    const asked = [note({ type: 'video_url', video_url: { url: 'https://example.com/a.mp4' } })]
    const contract = makeContract({ caps: { perConversation: '9.00' } })
    const input = await inputOf({ contract, body: { messages: asked, max_tokens: 100 } })
    const counted = [{ model: 'dear', messages: input.request.messages, tokens: 1_000 }]
    const { inputTokens, inputCost } = planOf(decide({ ...input, prices: heard, counted }))
    assert.deepEqual([inputTokens, inputCost * 1_000n], [1_050, 1_050n * 20_000_000n])
  })

  test('of a film that is left out to see what is short is left out, too', async () => {
    const { request } = await inputOf({ body: { messages: [note({ type: 'video_url', video_url: { url: 'https://x.test/a.mp4' } })] } })
    const { messages, fixedBytes, fixedDigest } = request
    const query = { messages, fixedBytes, fixedDigest, model: 'dear', exact: null, factor: 1, contextTokens: 9_000 }
    assert.deepEqual(inputBound({ ...query, withoutFiles: true }).media, { audio: 0, image: 0 })
  })
})

test('a swap that failed before is not tried again', async () => {
  const input = await inputOf({ own: { spent: parseUsd('0.46') }, body: { max_tokens: 100 } })
  const plan = planOf(decide({ ...input, failedSwaps: new Set(['cheap']) }))
  assert.equal(plan.model, 'dear')
  assert.deepEqual(plan.shaped.skipped.at(-1), { rung: 'DowngradeModel', reason: 'refused' })
  assert.deepEqual(
    [plan.rungs.at(-1), rungTold(plan)],
    ['DowngradeModel', plan.rungs.at(-2) ?? null],
    'its answer does not say that it was made',
  )
})

test('a swap that would cost more than it saves waits, but for a call that fits no other way', async () => {
  const request = await readChat({ model: 'dear', messages: USER_TURN })
  const exact = {
    model: 'dear',
    fixedDigest: request.fixedDigest,
    messages: 1,
    messagesDigest: messagesDigest(request.messages, 1),
    inputTokens: 20_000,
    cachedTokens: 20_000,
    outputTokens: 0,
    atMs: 0,
  }
  const setup = { own: { spent: parseUsd('0.46') }, body: { max_tokens: 100 }, conversation: { turns: 2, exact } }
  const input = { ...(await inputOf(setup)), prices: CACHED_PRICES }
  const stays = planOf(decide(input))
  assert.equal(stays.model, 'dear')
  assert.ok(stays.rungs.includes('DowngradeModel'))
  assert.deepEqual(stays.shaped.skipped.at(-1), { rung: 'DowngradeModel', reason: 'noSaving' })
  assert.equal(planOf(decide({ ...input, nowMs: 10 * 60_000 })).model, 'cheap', 'the cache has gone cold')
  const longer = { ...input, request: { ...input.request, cacheWrites: 'long' as const } }
  assert.equal(planOf(decide({ ...longer, nowMs: 50 * 60_000 })).model, 'dear', 'that was written for an hour')
  assert.equal(planOf(decide({ ...longer, nowMs: 61 * 60_000 })).model, 'cheap')
  const moved = { ...input, conversation: { ...input.conversation, exact: { ...exact, model: 'cheap' } } }
  assert.equal(planOf(decide(moved)).model, 'cheap', 'it does not move back')
  const lasting = { ...input, conversation: { ...input.conversation, turns: 20 } }
  assert.equal(planOf(decide(lasting)).model, 'cheap', 'what is left pays for 20 calls that the cache serves')
  const atNinety = await inputOf({ ...setup, own: { spent: parseUsd('0.45') }, conversation: { turns: 15, exact } })
  const dearly = { ...atNinety, request: longer.request, prices: LONG_DEARER }
  assert.equal(planOf(decide(dearly)).model, 'dear', 'what is written for long costs twice as much')
  assert.equal(planOf(decide({ ...dearly, request: input.request })).model, 'cheap')
  const short = {
    ...input,
    balances: input.balances.map((balance) => ({ ...balance, state: { ...balance.state, spent: parseUsd('0.499') } })),
  }
  assert.equal(planOf(decide(short)).model, 'cheap', 'nothing else fits')
})

test('a downgrade to another upstream goes there, and nowhere where that cannot take it', async () => {
  const contract = makeContract({
    ladder: DEFAULT_LADDER.map((step) => ({ ...step })),
    models: { allow: [], downgrades: [{ from: 'dear', to: 'cheap', upstream: 'other' }] },
  })
  const input = await inputOf({ contract, own: { spent: parseUsd('0.46') }, body: { max_tokens: 100 } })
  const asked: unknown[] = []
  const serverOf: DecideInput['serverOf'] = (downgrade) => {
    asked.push(downgrade.upstream)
    return { provider: 'groq', upstream: 'other' }
  }
  assert.equal(planOf(decide({ ...input, serverOf })).swap?.upstream, 'other')
  assert.equal(asked[0], 'other')
  assert.equal(planOf(decide({ ...input, serverOf: () => null })).swap, null)
})

test('observing changes nothing, and tells what would have been', async () => {
  const input = await inputOf({ own: { spent: parseUsd('0.46') }, body: { max_tokens: 100 } })
  const plan = observedPlan(input, decide(input))
  assert.equal(plan.model, 'dear')
  assert.equal(plan.shaped.rewritten, false)
  assert.deepEqual(plan.rungs, ['DropRetrieval', 'Summarize', 'DowngradeModel'])
  const over = await inputOf({ own: { spent: parseUsd('0.60') } })
  assert.deepEqual(observedPlan(over, decide(over)).risen, ['EndConversation'])
})

test('Observe: what a call costs is held at its price, and what would have been done is told whole', async () => {
  const body = { tools: TOOLS, max_tokens: 100 }
  const user = { cap: '3.00', spent: parseUsd('2.88') }
  const turnRungs: readonly Rung[] = ['Summarize']
  const observed = async (setup: Setup): Promise<Plan> => {
    const input = await inputOf({ body, ...setup })
    return observedPlan(input, decide(input))
  }
  const plain = planOf(decide(await inputOf({ body })))
  const climbing = await observed({ user, workload: { cap: '1.00', spent: parseUsd('0.99') } })
  assert.deepEqual([climbing.risen, climbing.risenForUser], [[], ['DropRetrieval', 'Summarize', 'DowngradeModel', 'RefuseTools']])
  assert.deepEqual([climbing.reason, climbing.percent, climbing.refuseTools], ['threshold', 96, false])
  assert.ok(climbing.atMost > parseUsd('0.001') && climbing.atMost <= plain.atMost)
  const looping = await observed({ body: { ...body, messages: TOOL_LOOP }, conversation: { turnRungs } })
  assert.deepEqual([looping.turnRungs, (await observed({ conversation: { turnRungs } })).turnRungs], [turnRungs, []])

  const refused: Setup = {
    body: { ...body, model: 'mystery' },
    onUnknownModel: 'Refuse',
    own: { spent: parseUsd('0.36') },
    user: { cap: '3.00', spent: parseUsd('2.40') },
    workload: { cap: '1.00', spent: parseUsd('0.99') },
    rungs: ['DropRetrieval'],
    conversation: { reason: 'fit', turnRungs },
  }
  const { rungs, risen, risenForUser, turnRungs: kept, reason, percent, atMost } = await observed(refused)
  assert.deepEqual([rungs, risen, risenForUser, kept, reason, percent], [['DropRetrieval'], [], [], turnRungs, 'fit', 80])
  assert.equal(atMost, 0n, 'what nobody prices costs nothing')

  const over = await observed({ own: { spent: parseUsd('0.60') }, workload: { cap: '1.00', spent: parseUsd('1.50') } })
  assert.deepEqual([over.reason, over.percent], ['threshold', 120])
})

test('Observe: the end of a user or of a limit, or of one picture, ends no conversation', async () => {
  const short: Readonly<Record<string, Setup>> = {
    user: { user: { cap: '0.50', spent: parseUsd('0.60') } },
    workload: { workload: { cap: '0.50', spent: parseUsd('0.60') } },
  }
  for (const [kind, setup] of Object.entries(short)) {
    const input = await inputOf(setup)
    const decision = decide(input)
    assert.equal(decision.status, 'end', kind)
    const { rungs, risen } = observedPlan(input, decision)
    assert.deepEqual([rungs, risen], [['EndConversation'], []], kind)
  }
  const own = await inputOf({ own: { spent: parseUsd('0.60') } })
  const end = { status: 'end', percent: 120, reason: 'fit', account: 'c', fitsAfresh: false } as const
  assert.equal(endsForGood(own, end), true)
  for (const what of ['attachment', 'message'] as const)
    assert.equal(endsForGood(own, { ...end, tooLarge: { what, param: 'messages' } }), false, what)
  assert.equal(endsForGood({ ...own, request: { ...own.request, wire: 'images' } }, end), false)
})

test('a conversation that began on target, in a tier priced by the resolution, climbs as any other once its tier is not', async () => {
  const began = { own: { spent: parseUsd('0.40') }, conversation: { ladderApplies: false } }
  const before = await inputOf({ ...began, contract: PER_RESOLUTION })
  assert.deepEqual(planOf(decide(before)).risen, [])
  assert.ok(planOf(decide(await inputOf(began))).risen.length > 0)
})

test('the tier window: too long is refused, or its oldest turns are left out', async () => {
  const long = Array.from({ length: 6 }, (_, turn) => [
    { role: 'user', content: `Question ${turn}: ${'word '.repeat(200)}` },
    { role: 'assistant', content: `Answer ${turn}: ${'word '.repeat(200)}` },
  ]).flat()
  const messages = [...long, { role: 'user', content: 'And now?' }]
  const windowed = (overflow: 'Refuse' | 'DropOldest'): Contract =>
    makeContract({ caps: { perConversation: '5.00' }, context: { windowTokens: 1_500, overflow } })
  assert.deepEqual(decide(await inputOf({ contract: windowed('Refuse'), body: { messages, max_tokens: 100 } })), {
    status: 'refuse',
    refusal: { code: 'context_window_exceeded', param: 'messages' },
  })
  const plan = planOf(decide(await inputOf({ contract: windowed('DropOldest'), body: { messages, max_tokens: 100 } })))
  assert.equal(plan.shaped.rewritten, true)
  assert.ok(plan.bound.heuristic <= 1_500)
  assert.deepEqual(plan.occasions, ['DropOldest'])
})

test('a call that fits with a further rung, but for input that others hold, waits for it and ends nothing', async () => {
  const contract = makeContract({
    ladder: [
      { atPercent: 99, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation' },
    ],
    models: { allow: [], downgrades: [{ from: 'dear', to: 'cheap' }] },
    caps: { perConversation: '0.14' },
  })
  const body = { max_tokens: 5_000, messages: [{ role: 'user', content: 'x '.repeat(60_000) }] }
  const setup = { contract, body, own: { spent: parseUsd('0.10') } }
  assert.deepEqual(planOf(decide(await inputOf(setup))).rungs, ['DowngradeModel'])
  const held = { held: parseUsd('0.034'), heldInput: parseUsd('0.034') }
  const beside = decide(await inputOf({ ...setup, own: { ...setup.own, ...held } }))
  assert.deepEqual(beside, { status: 'wait', percent: 95, account: 'c' })
})

test('a call that fits now with more rungs does not wait for input that others hold', async () => {
  const contract = makeContract({
    ladder: [
      { atPercent: 99, rung: 'DropRetrieval' },
      { atPercent: 99, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation' },
    ],
    models: { allow: [], downgrades: [{ from: 'dear', to: 'cheap' }] },
    caps: { perConversation: '0.20' },
  })
  const found = [
    { role: 'user', name: 'retrieval', content: 'x '.repeat(30_000) },
    { role: 'user', content: 'y '.repeat(30_000) },
  ]
  const setup = { contract, body: { max_tokens: 1_000, messages: found } }
  const at = async (spent: string, heldInput: string) => {
    const held = parseUsd(heldInput)
    return decide(await inputOf({ ...setup, own: { spent: parseUsd(spent), held, heldInput: held } }))
  }
  assert.deepEqual(planOf(await at('0.14', '0')).rungs, ['DropRetrieval'])
  assert.deepEqual(planOf(await at('0.14', '0.03')).rungs, ['DropRetrieval', 'DowngradeModel'])
})

test('the input is held by its bytes while those leave a useful answer, then by the heuristic', async () => {
  const messages = [{ role: 'user', content: 'Where is my order, please? '.repeat(400) }]
  const planFor = async (cap: string, model: string): Promise<Plan> =>
    planOf(decide(await inputOf({ contract: makeContract({ caps: { perConversation: cap } }), body: { model, messages } })))
  const roomy = await planFor('0.50', 'gpt-4o')
  assert.equal(roomy.inputTokens, roomy.bound.bytes)
  const tight = await planFor('0.012', 'gpt-4o')
  assert.equal(tight.inputTokens, tight.bound.heuristic)
  const unseen = await planFor('0.012', 'dear')
  assert.equal(unseen.inputTokens, 2 * unseen.bound.freshHeuristic)
  assert.ok(unseen.inputTokens >= 1.8 * 400 * 7, 'each question is seven tokens of o200k, and this model may count 1.8 times as many')
})

test('whatever the heuristic, the hold covers the input and a useful answer within the cap', async () => {
  const contract = makeContract({ caps: { perConversation: '0.012' } })
  const input = await inputOf({ contract, body: { messages: [{ role: 'user', content: 'Where is my order? '.repeat(500) }] } })
  const plan = planOf(decide({ ...input, factorOf: () => 1.2 }))
  assert.ok(plan.atLeast <= parseUsd('0.012') && plan.inputCost < plan.atLeast)
  assert.ok(affordableOutput(plan, parseUsd('0.012')) >= 256)
  assert.equal(decide({ ...input, factorOf: () => 4 }).status, 'end', 'a model that was seen to count more needs more')
})

test('a service tier is held at its price, and cheaper ones at the standard price: the provider may not serve them', async () => {
  const prices: PriceList = {
    ...PRICES,
    find: () => ({
      ...DEAR,
      pricesFor: (_tokens, tier) =>
        Object.fromEntries(
          Object.entries(DEAR.pricesFor(1, null)).map(([kind, rate]) => [
            kind,
            tier === 'priority' ? rate * 2n : tier === 'flex' ? rate / 2n : tier === 'auto' ? rate * 3n : rate,
          ]),
        ) as unknown as Prices,
    }),
  }
  const ratesAt = async (serviceTier: string | null): Promise<readonly bigint[]> => {
    const input = await inputOf({ body: { max_tokens: 100, ...(serviceTier === null ? {} : { service_tier: serviceTier }) } })
    const { inputCost, inputTokens, outputRate } = planOf(decide({ ...input, prices }))
    return [inputCost / BigInt(inputTokens), outputRate]
  }
  assert.deepEqual(await ratesAt(null), [3_000n, 30_000_000n], 'the provider chooses')
  assert.deepEqual(await ratesAt('auto'), [3_000n, 30_000_000n])
  assert.deepEqual(await ratesAt('default'), [1_000n, 10_000_000n])
  assert.deepEqual(await ratesAt('flex'), [1_000n, 10_000_000n])
  assert.deepEqual(await ratesAt('priority'), [2_000n, 20_000_000n])
})

test('where writing the cache is dearer than plain input, that is the bound; long-context steps go by the bound too', async () => {
  const at = (input: bigint, write: bigint): Prices => ({ ...DEAR.pricesFor(1, null), uncachedInput: input, cacheWriteInput: write })
  const prices: PriceList = {
    ...PRICES,
    find: () => ({ ...DEAR, pricesFor: (tokens) => (tokens > 1_000 ? at(2_000_000n, 2_500_000n) : at(1_000_000n, 1_250_000n)) }),
  }
  const inputCostOf = async (content: string): Promise<readonly [bigint, number]> => {
    const input = await inputOf({ body: { messages: [{ role: 'user', content }], max_tokens: 100 } })
    const plan = planOf(decide({ ...input, prices }))
    return [plan.inputCost, plan.inputTokens]
  }
  const [short, shortTokens] = await inputCostOf('Hello')
  assert.equal(short, BigInt(Math.ceil(shortTokens * 1_250)))
  const [long, longTokens] = await inputCostOf('x'.repeat(1_000))
  assert.equal(long, BigInt(longTokens * 2_500))
})

test('fees of hosted tools are held once for each answer asked for', async () => {
  const prices: PriceList = {
    ...PRICES,
    find: () => ({ ...DEAR, pricesFor: () => ({ ...DEAR.pricesFor(1, null), webSearchCalls: 10_000_000_000n }) }),
  }
  const inputCostOf = async (body: object): Promise<bigint> => {
    const input = await inputOf({ body: { max_tokens: 100, ...body } })
    const { inputCost, inputTokens } = planOf(decide({ ...input, prices }))
    return inputCost - BigInt(inputTokens) * 1_000n
  }
  assert.equal(await inputCostOf({}), 0n)
  assert.equal(await inputCostOf({ web_search_options: {} }), parseUsd('0.01'))
  assert.equal(await inputCostOf({ web_search_options: {}, n: 3 }), parseUsd('0.03'))
})

test('a container for code is held for once, however often the tool may be called; searches each time', async () => {
  const fees = { webSearchCalls: 10_000_000_000n, codeContainers: 30_000_000_000n }
  const prices: PriceList = { ...PRICES, find: () => ({ ...DEAR, pricesFor: () => ({ ...DEAR.pricesFor(1, null), ...fees }) }) }
  const input = await inputOf({ body: { max_tokens: 100 } })
  const balances = input.balances.map((balance) => ({ ...balance, cap: parseUsd('10') }))
  const feesOf = (tools: ModelRequest['hosted']['tools'], choices = 1): bigint => {
    const request: ModelRequest = { ...input.request, choices, hosted: { tools, maxCalls: 10, rereads: true } }
    const { inputCost, inputTokens } = planOf(decide({ ...input, prices, balances, request }))
    return inputCost - BigInt(inputTokens) * 1_000n
  }
  assert.equal(feesOf(['codeContainer']), parseUsd('0.03'))
  assert.equal(feesOf(['webSearch', 'codeContainer']), parseUsd('0.13'))
  assert.equal(feesOf(['codeContainer'], 2), parseUsd('0.06'))
})

test('a call that no rung makes fit ends the conversation, even where the last rung would refuse it', async () => {
  const contract = makeContract({
    caps: { perConversation: '0.001' },
    ladder: [
      { atPercent: 95, rung: 'RefuseTools' },
      { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
    ],
  })
  const decision = decide(await inputOf({ contract, body: { tools: TOOLS, tool_choice: 'required' } }))
  assert.deepEqual(decision, { status: 'end', percent: 0, reason: 'fit', account: 'c', fitsAfresh: false })
})

test('what only the user’s cap made necessary lasts as long as its period', async () => {
  const contract = makeContract({
    ladder: FULL_LADDER.ladder,
    models: { allow: [], downgrades: [{ from: 'dear', to: 'cheap' }], usefulOutputTokens: 2_000 },
  })
  const byUser = planOf(decide(await inputOf({ contract, user: { cap: '0.01' } })))
  assert.deepEqual([byUser.model, byUser.reason, byUser.risen], ['cheap', 'fit', []])
  assert.ok(byUser.risenForUser.includes('DowngradeModel'))
  const byOwn = planOf(decide(await inputOf({ contract, own: { spent: parseUsd('0.49') }, conversation: { ladderApplies: false } })))
  assert.ok(byOwn.risen.includes('DowngradeModel'))
  assert.deepEqual(byOwn.risenForUser, [])
})

test('what only a limit of the workload made necessary is for that user turn: no rung stays', async () => {
  const contract = makeContract({
    ladder: FULL_LADDER.ladder,
    models: { allow: [], downgrades: [{ from: 'dear', to: 'cheap' }], usefulOutputTokens: 2_000 },
  })
  const passages = { role: 'user', name: 'retrieval', content: 'A passage about fares. '.repeat(50) }
  const body = { messages: [passages, ...USER_TURN] }
  const byWorkload = planOf(decide(await inputOf({ contract, body, workload: { cap: '0.01' }, user: { cap: '3.00' } })))
  assert.deepEqual([byWorkload.model, byWorkload.reason, byWorkload.rungs.at(-1)], ['cheap', 'fit', 'DowngradeModel'])
  assert.deepEqual([byWorkload.risen, byWorkload.risenForUser], [[], []])
  assert.deepEqual(byWorkload.turnRungs, ['DropRetrieval', 'Summarize', 'DowngradeModel'])
  assert.equal(byWorkload.shaped.newEdits.length, 1, 'a history that was cut stays as it was cut')

  const { turnRungs } = byWorkload
  const inLoop = await inputOf({
    contract,
    body: { messages: TOOL_LOOP, tools: TOOLS },
    workload: { cap: '3.00' },
    conversation: { turnRungs },
  })
  const next = planOf(decide(inLoop))
  assert.deepEqual([next.model, next.turnRungs, next.occasions], ['cheap', turnRungs, []], 'the loop goes on as it began')
  const asked = planOf(decide(await inputOf({ contract, workload: { cap: '3.00' }, conversation: { turnRungs } })))
  assert.deepEqual([asked.model, asked.turnRungs], ['dear', []], 'the next question is decided anew')

  const climbed = planOf(decide(await inputOf({ contract, body, workload: { cap: '0.01' }, own: { spent: parseUsd('0.36') } })))
  assert.deepEqual([climbed.rungs.at(-1), climbed.risen], ['DowngradeModel', ['DropRetrieval']], 'what its own threshold asks for stays')
  assert.deepEqual(climbed.turnRungs, ['Summarize', 'DowngradeModel'], 'and is of no turn alone')
  assert.equal(climbed.shaped.newEdits.length, 1)
})

test('a tool loop over the turn of the user’s period goes on as it began; the next question is decided in the new one', async () => {
  const rungs: readonly Rung[] = ['DropRetrieval', 'Summarize', 'DowngradeModel']
  const before = { period: '2026-10-01', rungs }
  const question = planOf(decide(await inputOf({ user: { cap: '3.00', spent: parseUsd('2.80') }, body: { max_tokens: 100 } })))
  assert.deepEqual([question.risenForUser, question.turnRungs, question.model], [rungs, rungs, 'cheap'])
  const again = await inputOf({ user: { cap: '3.00' }, conversation: { userRungs: { ...before, period: '2026-11-01' } } })
  assert.deepEqual(planOf(decide(again)).turnRungs, rungs, 'so it is where they rose before')

  const over = { user: { cap: '3.00' }, conversation: { userRungs: before, turnRungs: question.turnRungs } }
  const inLoop = planOf(decide(await inputOf({ ...over, body: { messages: TOOL_LOOP, tools: TOOLS, max_tokens: 100 } })))
  assert.deepEqual([inLoop.model, inLoop.turnRungs, inLoop.risenForUser, inLoop.occasions], ['cheap', rungs, [], []])
  assert.equal(inLoop.reason, 'threshold', 'of the period in which it began')
  const next = planOf(decide(await inputOf({ ...over, body: { max_tokens: 100 } })))
  assert.deepEqual([next.model, next.rungs, next.turnRungs], ['dear', [], []])
  const toldAgain = { ...over, user: { cap: '3.00', spent: parseUsd('2.80') }, body: { max_tokens: 100 } }
  assert.deepEqual(planOf(decide(await inputOf(toldAgain))).occasions, ['DowngradeModel'], 'and told of it')
})

test('a question of a new period does not bring rungs of the one before into its tool loop, nor do tools stay refused there', async () => {
  const body = { messages: TOOL_LOOP, tools: TOOLS, max_tokens: 100 }
  const userRungs = { period: '2026-10-01', rungs: ['DowngradeModel', 'RefuseTools'] as const }
  const later = planOf(decide(await inputOf({ user: { cap: '3.00' }, conversation: { userRungs }, body })))
  assert.deepEqual([later.model, later.rungs], ['dear', []])
  const question = planOf(decide(await inputOf({ user: { cap: '3.00', spent: parseUsd('2.91') }, body: { max_tokens: 100 } })))
  assert.ok(question.risenForUser.includes('RefuseTools') && !question.turnRungs.includes('RefuseTools'))
})

test('rungs stay with whom they were taken for: first the conversation was short, then its user', async () => {
  const contract = makeContract({
    caps: { perConversation: '0.0205' },
    ladder: FULL_LADDER.ladder,
    models: { allow: [], downgrades: [{ from: 'dear', to: 'cheap' }], usefulOutputTokens: 2_000 },
  })
  const passages = { role: 'user', name: 'retrieval', content: 'A passage about fares. '.repeat(50) }
  const body = { messages: [passages, ...USER_TURN] }
  const plan = planOf(decide(await inputOf({ contract, body, user: { cap: '0.01' } })))
  assert.deepEqual([plan.risen, plan.risenForUser], [['DropRetrieval'], ['Summarize', 'DowngradeModel']])
  assert.equal(plan.shaped.newEdits.length, 1)
  const limited = planOf(decide(await inputOf({ contract, body, workload: { cap: '0.01' } })))
  assert.deepEqual([limited.risen, limited.turnRungs], [['DropRetrieval'], ['Summarize', 'DowngradeModel']], 'or a limit of the workload')
  const roomy = makeContract({ ...contract, caps: { perConversation: '0.50' } })
  const ofUser = planOf(decide(await inputOf({ contract: roomy, body, user: { cap: '0.0205' }, workload: { cap: '0.01' } })))
  assert.deepEqual([ofUser.risen, ofUser.risenForUser], [[], ['DropRetrieval']])
  assert.deepEqual(ofUser.turnRungs, ['DropRetrieval', 'Summarize', 'DowngradeModel'], 'the turn keeps what either has asked for')
})

test('a call that is too dear for several caps ends for the conversation’s, however little the others have left', async () => {
  const contract = makeContract({ caps: { perConversation: '0.001' } })
  const decision = decide(await inputOf({ contract, user: { cap: '0.0005' }, workload: { cap: '0.0001' } }))
  assert.deepEqual(decision, { status: 'end', percent: 0, reason: 'fit', account: 'c', fitsAfresh: false })
})

test('why a conversation is on its rungs is told: a threshold, the call that would not fit, or what brought them before', async () => {
  const userRungs = { period: '2026-11-01', rungs: ['DropRetrieval'] } as const
  const cases: readonly (readonly [name: string, setup: Setup, reason: string | null])[] = [
    ['no rung', { user: { cap: '3.00' } }, null],
    ['its own threshold', { own: { spent: parseUsd('0.36') } }, 'threshold'],
    ['its user’s threshold', { user: { cap: '3.00', spent: parseUsd('2.20') } }, 'threshold'],
    ['its user’s, passed before', { user: { cap: '3.00', spent: parseUsd('2.20') }, conversation: { userRungs } }, 'threshold'],
    ['rungs of before', { rungs: ['DropRetrieval'], conversation: { reason: 'fit' } }, 'fit'],
    ['rungs of before and of its user', { user: { cap: '3.00' }, conversation: { userRungs, reason: 'fit' } }, 'fit'],
  ]
  for (const [name, setup, reason] of cases)
    assert.equal(planOf(decide(await inputOf({ body: { max_tokens: 100 }, ...setup }))).reason, reason, name)
  const ended = async (reason: Conversation['reason']) => decide(await inputOf({ conversation: { state: 'ended', reason } }))
  assert.partialDeepStrictEqual(await ended('fit'), { status: 'end', reason: 'fit' })
  assert.partialDeepStrictEqual(await ended(null), { status: 'end', reason: 'threshold' }, 'the app ended it')
})

test('tools are taken away on that rung alone, where there are any that the app has not forbidden, and it is told once', async () => {
  const contract = makeContract({
    ladder: [
      { atPercent: 95, rung: 'RefuseTools' },
      { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
    ],
  })
  const above = { spent: parseUsd('0.48') }
  const cases: readonly (readonly [name: string, setup: Setup, body: object, refuseTools: boolean, occasions: readonly string[]])[] = [
    ['below the threshold', {}, { tools: TOOLS }, false, []],
    ['above it', { own: above }, { tools: TOOLS }, true, ['RefuseTools']],
    ['above it before', { own: above, rungs: ['RefuseTools'] }, { tools: TOOLS }, true, []],
    ['without tools', { own: above }, {}, false, []],
    ['with tools that the app has forbidden', { own: above }, { tools: TOOLS, tool_choice: 'none' }, false, ['RefuseTools']],
  ]
  for (const [name, setup, body, refuseTools, occasions] of cases) {
    const plan = planOf(decide(await inputOf({ contract, ...setup, body: { max_tokens: 100, ...body } })))
    assert.deepEqual([plan.refuseTools, plan.occasions], [refuseTools, occasions], name)
  }
})

test('that retrieved context is left out is told once, with the first that goes, and only where some does', async () => {
  const passages = { role: 'user', name: 'retrieval', content: 'A passage about fares. '.repeat(50) }
  const gone: Edit = { kind: 'replace', id: 'r1', rung: 'DropRetrieval', original: 'd', text: '', savedBytes: 1 }
  const told = async (messages: readonly object[], rungs: readonly Rung[] = [], edits: readonly Edit[] = []): Promise<readonly string[]> =>
    planOf(decide(await inputOf({ own: { spent: parseUsd('0.36') }, rungs, conversation: { edits }, body: { messages, max_tokens: 100 } })))
      .occasions
  assert.deepEqual(await told([passages, ...USER_TURN]), ['DropRetrieval'])
  assert.deepEqual(await told([passages, ...USER_TURN], ['DropRetrieval'], [gone]), [], 'it was told before')
  assert.deepEqual(await told([passages, ...USER_TURN], ['DropRetrieval']), ['DropRetrieval'], 'the rung rose before there was any')
  assert.deepEqual(await told(USER_TURN), [])
})

test('what the provider keeps of a conversation counts in the tokens of the model that the call goes to', async () => {
  const of = await inputOf({ own: { spent: parseUsd('0.46') }, body: { max_tokens: 100 } })
  const input = { ...of, earlierTokens: 10_001, earlierTokensOf: () => 20_002 }
  const swapped = planOf(decide(input))
  assert.deepEqual([swapped.model, swapped.bound.known], ['cheap', 20_002], 'which may make twice as many of the same text')
  const stays = planOf(decide({ ...input, failedSwaps: new Set(['cheap']) }))
  assert.deepEqual([stays.model, stays.bound.known], ['dear', 10_001])
})

test('what only the provider can count for the other model it is asked for, and where it does not say, the call stays', async () => {
  const of = await inputOf({ own: { spent: parseUsd('0.46') }, body: { max_tokens: 100 } })
  const input = { ...of, earlierTokens: 10_001, earlierTokensOf: () => null, mayCount: true }
  const asked = decide(input)
  assert.deepEqual([asked.status, asked.status === 'count' && asked.model], ['count', 'cheap'])
  const { messages } = of.request
  const modelWhere = (tokens: number | null): string => planOf(decide({ ...input, counted: [{ model: 'cheap', messages, tokens }] })).model
  assert.deepEqual([20_000, 150_000, null].map(modelWhere), ['cheap', 'dear', 'dear'])
  assert.equal(planOf(decide({ ...input, mayCount: false })).model, 'dear')
})

test('a kept history that has moved is counted for the model that it came from only where that is needed', async () => {
  const movedTo = async (setup: Setup): Promise<DecideInput> => {
    const of = await inputOf({ own: { spent: parseUsd('0.46') }, ...setup, body: { max_tokens: 100, ...setup.body } })
    const { sent } = inputBound({ ...of.request, exact: null, factor: 1, contextTokens: 128_000 })
    const exact: ExactCount = { model: 'cheap', ...sent, inputTokens: 19_900, cachedTokens: 0, outputTokens: 100, atMs: 0 }
    const earlierTokensOf = (model: string): number | null => (model === 'cheap' ? 20_000 : null)
    const open = { earlierTokens: 128_000, earlierIsOpen: true, earlierTokensOf, mayCount: true }
    return { ...of, ...open, conversation: { ...of.conversation, exact } }
  }
  const cameTo = (input: DecideInput, tokens?: number | null): unknown => {
    const counted = tokens === undefined ? [] : [{ model: 'dear', messages: input.request.messages, tokens }]
    const decision = decide({ ...input, counted })
    if (decision.status === 'go') return [decision.plan.model, decision.plan.bound.bytes < 25_000]
    return decision.status === 'count' ? `count ${decision.model}` : decision.status
  }
  assert.deepEqual(cameTo(await movedTo({})), ['cheap', true])

  const refused = { ...(await movedTo({})), failedSwaps: new Set(['cheap']) }
  assert.deepEqual([cameTo(refused), cameTo(refused, 15_000)], ['count dear', ['dear', true]], 'it comes back')

  const picture = [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }] }]
  assert.equal(cameTo(await movedTo({ body: { messages: picture } })), 'count dear', 'what is new may be dearer there')

  const windowed = await movedTo({
    contract: { ...FULL_LADDER, context: { ...FULL_LADDER.context, windowTokens: 15_000, overflow: 'Refuse' } },
  })
  assert.equal(cameTo(windowed), 'count dear', 'none is refused by the count of another model')

  const poor = await movedTo({ own: { spent: parseUsd('0.4985') } })
  assert.deepEqual([cameTo(poor), cameTo(poor, 100)], ['count dear', ['dear', true]], 'nor for want of money')
})

test('a swap to a model that counts pictures as more than they cost at the other is not made, from turn to turn', async () => {
  const picture = { type: 'image_url', image_url: { url: 'https://x.test/a.png' } }
  const asks = (pictures: number, words: number): readonly Record<string, unknown>[] => [
    { role: 'user', content: [{ type: 'text', text: 'word '.repeat(words) }, ...Array.from({ length: pictures }, () => picture)] },
  ]
  const contract = makeContract({
    ladder: DEFAULT_LADDER.map((step) => ({ ...step })),
    models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }] },
  })
  const mini = modelAt('gpt-4o-mini', 60_000n, 600_000n)
  const prices = { ...PRICES, find: (...asked: Parameters<PriceList['find']>) => (asked[1] === mini.model ? mini : PRICES.find(...asked)) }
  const planAt = async (messages: readonly unknown[], answeredBy: string | null = null, spent = '0.46'): Promise<Plan> => {
    const body = { model: 'gpt-4o', max_tokens: 100, messages }
    const { fixedDigest, messages: read } = await readChat(body)
    const digests = { fixedDigest, messages: 1, messagesDigest: messagesDigest(read, 1) }
    const counts = { inputTokens: 9_000, cachedTokens: 0, outputTokens: 800, atMs: 0 }
    const exact = answeredBy === null ? null : { model: answeredBy, ...digests, ...counts }
    const setup = { contract, own: { spent: parseUsd(spent) }, body, rungs: ['DowngradeModel'] as const, conversation: { turns: 2, exact } }
    return planOf(decide({ ...(await inputOf(setup)), prices }))
  }
  const models = async (messages: readonly unknown[]): Promise<readonly string[]> =>
    (await Promise.all([null, 'gpt-4o', mini.model].map((by) => planAt(messages, by)))).map(({ model }) => model)
  assert.deepEqual(await models(asks(1, 10)), ['gpt-4o', 'gpt-4o', 'gpt-4o'], 'whoever answered last')
  assert.deepEqual(await models(asks(1, 3_000)), [mini.model, mini.model, mini.model], 'beside much text it pays')
  assert.deepEqual(await models(asks(0, 10)), [mini.model, mini.model, mini.model])
  const stays = await planAt(asks(1, 10))
  assert.deepEqual(stays.shaped.skipped.at(-1), { rung: 'DowngradeModel', reason: 'noSaving' })
  assert.notEqual(rungTold(stays), 'DowngradeModel', 'its answer does not say that it was made')
  assert.deepEqual((await planAt(asks(1, 3_000), 'gpt-4o')).occasions, ['DowngradeModel'], 'it is told when it is made, long after it rose')
  assert.deepEqual((await planAt(asks(1, 3_000), mini.model)).occasions, [])
})

test('an upgrade is told from its percent of the user’s budget on, by no other budget', async () => {
  const contract = makeContract({ upgrade: { tier: 'team', whenUserExceedsPercent: 50 } })
  const told = async (setup: Setup): Promise<readonly string[]> =>
    planOf(decide(await inputOf({ contract, body: { max_tokens: 100 }, ...setup }))).occasions
  assert.deepEqual(await told({ user: { cap: '3.00', spent: parseUsd('1.49') } }), [])
  assert.deepEqual(await told({ user: { cap: '3.00', spent: parseUsd('1.50') } }), ['Upgrade'])
  assert.deepEqual(await told({ own: { spent: parseUsd('0.45') }, user: { cap: '3.00' } }), [])
  assert.deepEqual(await told({ own: { spent: parseUsd('0.45') } }), [], 'nobody is known')
  assert.deepEqual(await told({ contract: makeContract(), user: { cap: '3.00', spent: parseUsd('2.90') } }), [])
})

test('whose threshold ends a conversation is told: its own, or the user’s', async () => {
  const accountOf = async (setup: Setup): Promise<string> => {
    const decision = decide(await inputOf(setup))
    return decision.status === 'end' ? decision.account : decision.status
  }
  assert.equal(await accountOf({ own: { spent: parseUsd('0.50') }, user: { cap: '3.00', spent: parseUsd('3.00') } }), 'c')
  assert.equal(await accountOf({ user: { cap: '3.00', spent: parseUsd('3.00') } }), 'u')
  assert.equal(await accountOf({ conversation: { state: 'ended' }, user: { cap: '3.00', spent: parseUsd('2.99') } }), 'c')
})

test('a rung that rises again in a new period is told again', async () => {
  const occasions = async (period: string): Promise<readonly string[]> =>
    planOf(
      decide(
        await inputOf({
          user: { cap: '3.00', spent: parseUsd('2.80') },
          conversation: { userRungs: { period, rungs: ['DropRetrieval', 'Summarize', 'DowngradeModel'] } },
          body: { max_tokens: 100 },
        }),
      ),
    ).occasions
  assert.deepEqual(await occasions('2026-11-01'), [])
  assert.deepEqual(await occasions('2026-10-01'), ['DowngradeModel'])
})

test('a pattern that matches a model cheaper than its target swaps nothing', async () => {
  const contract = makeContract({
    ladder: DEFAULT_LADDER.map((step) => ({ ...step })),
    models: { allow: [], downgrades: [{ from: '*', to: 'dear' }] },
  })
  const plan = planOf(decide(await inputOf({ contract, own: { spent: parseUsd('0.46') }, body: { model: 'cheap', max_tokens: 100 } })))
  assert.equal(plan.model, 'cheap')
  assert.deepEqual(plan.shaped.skipped.at(-1), { rung: 'DowngradeModel', reason: 'noDowngrade' })
  assert.deepEqual([plan.rungs.at(-1), rungTold(plan)], ['DowngradeModel', 'Summarize'], 'its answer does not say that it was made')
})

test('a swap to a model that cannot take the call is not told, nor would be where calls are only observed', async () => {
  const input = await inputOf({ own: { spent: parseUsd('0.46') }, body: { max_tokens: 100, tools: TOOLS } })
  const find: PriceList['find'] = (...asked) => {
    const found = PRICES.find(...asked)
    return found && asked[1] === 'cheap' ? { ...found, capabilities: { ...found.capabilities, tools: false } } : found
  }
  const seen = { ...input, prices: { ...PRICES, find } }
  const plan = planOf(decide(seen))
  assert.deepEqual([plan.model, plan.shaped.skipped.at(-1)?.reason], ['dear', 'incapable'])
  assert.deepEqual([plan.rungs.at(-1), rungTold(plan)], ['DowngradeModel', 'Summarize'])
  assert.equal(rungTold(observedPlan(seen, decide(seen))), 'Summarize')
  assert.equal(rungTold(observedPlan(input, decide(input))), 'DowngradeModel')
})

test('summaries made between turns join at the next user turn, and are told then', async () => {
  const history = [...USER_TURN, { role: 'assistant', content: 'Fine.' }, { role: 'user', content: 'Good. And the order?' }]
  const request = await readChat({ model: 'dear', messages: history })
  const cut = planCut({ request, edits: [], keepRecentTurns: 1 })
  assert.ok(cut)
  const readyEdits = [cutEdit(cut, 'Summarize', { role: 'user', content: '[summary]' }, 's')]
  const plan = planOf(decide(await inputOf({ body: { messages: history, max_tokens: 100 }, conversation: { readyEdits } })))
  assert.deepEqual(plan.occasions, ['Summarize'])
  assert.equal(plan.shaped.messages.length, 2)
  const loop = [...history, ...TOOL_LOOP.slice(1)]
  const inLoop = planOf(decide(await inputOf({ body: { messages: loop, max_tokens: 100 }, conversation: { readyEdits } })))
  assert.deepEqual([inLoop.occasions, inLoop.shaped.rewritten], [[], false])
})

/** A history, and a summary of its first turn that waits. */
async function summarised(): Promise<{ readonly history: readonly object[]; readonly summary: Cut }> {
  const history = [
    ...USER_TURN,
    { role: 'assistant', content: 'Fine. '.repeat(40) },
    { role: 'user', content: `And the order? ${'It is late. '.repeat(40)}` },
    { role: 'assistant', content: 'It comes. '.repeat(40) },
    { role: 'user', content: 'When?' },
  ]
  const request = await readChat({ model: 'dear', messages: history })
  const cut = planCut({ request, edits: [], keepRecentTurns: 2 })
  assert.ok(cut)
  return { history, summary: cutEdit(cut, 'Summarize', { role: 'user', content: '[summary]' }, 's') }
}

test('where the provider will not have its history edited, no summary joins, and none is told', async () => {
  const { history, summary } = await summarised()
  const input = await inputOf({ body: { messages: history, max_tokens: 100 }, conversation: { readyEdits: [summary] } })
  const plan = planOf(decide({ ...input, mayEdit: false }))
  assert.deepEqual([plan.shaped.rewritten, plan.promoted, plan.occasions], [false, [], []])
  assert.deepEqual(planOf(decide(input)).promoted, [summary])
})

test('where the provider will not have its history edited, nothing is left out, neither as before nor anew; our own words are', async () => {
  const { history, summary } = await summarised()
  const passages = { role: 'user', name: 'retrieval', content: 'A passage about fares. '.repeat(50) }
  const text = 'Note: this conversation has become long.'
  const said = history.map((message, index) => (index === 1 ? { role: 'assistant', content: `Fine.\n\n---\n${text}` } : message))
  const messages = [...said.slice(0, -1), passages, ...said.slice(-1)]
  const notice = { kind: 'notice', id: 'n', text } as const
  const setup = { own: { spent: parseUsd('0.36') }, body: { messages, max_tokens: 100 }, conversation: { edits: [summary, notice] } }
  const input = await inputOf(setup)
  const { shaped, occasions } = planOf(decide({ ...input, mayEdit: false }))
  const contents = shaped.messages.map(({ json }) => json['content'])
  assert.deepEqual(
    contents,
    input.request.messages.map(({ json }, index) => (index === 1 ? 'Fine.' : json['content'])),
  )
  assert.deepEqual([shaped.newEdits, occasions], [[], []])
  assert.deepEqual(planOf(decide(input)).occasions, ['DropRetrieval'])
})

test('a summary of a branch that the user left waits, and is told when that comes again', async () => {
  const { history, summary } = await summarised()
  const planFor = async (messages: readonly object[]): Promise<Plan> =>
    planOf(decide(await inputOf({ body: { messages, max_tokens: 100 }, conversation: { readyEdits: [summary] } })))
  const branched = await planFor([{ role: 'user', content: 'Hello once more.' }, ...history.slice(1)])
  assert.deepEqual([branched.shaped.rewritten, branched.promoted, branched.occasions], [false, [], []])
  const back = await planFor(history)
  assert.deepEqual([back.shaped.rewritten, back.promoted, back.occasions], [true, [summary], ['Summarize']])
})

test('a question that is asked again is answered from the history that it was answered from before', async () => {
  const { history, summary } = await summarised()
  const first = await inputOf({ body: { messages: history, max_tokens: 100 } })
  const question = questionOf(planOf(decide(first)).bound.sent)
  const again = await inputOf({
    body: { messages: history, max_tokens: 100 },
    conversation: { readyEdits: [summary], userTurns: 1, question },
  })
  const plan = planOf(decide(again))
  assert.deepEqual([plan.shaped.rewritten, plan.promoted, plan.occasions], [false, [], []])
  assert.ok(!beginsUserTurn(again.request, again.conversation, plan.bound.sent), 'it counts once')
})

test('a summary that joins as more of the history is left out is told where it is still read', async () => {
  const { history, summary } = await summarised()
  const context = { windowTokens: 100, overflow: 'Summarize', keepRecentTurns: 1, summarizeAfterPercent: 80 } as const
  const contract = makeContract({ context })
  const planWith = async (ready: Cut): Promise<Plan> =>
    planOf(decide(await inputOf({ contract, body: { messages: history, max_tokens: 100 }, conversation: { readyEdits: [ready] } })))
  const label = '[Earlier conversation left out: turns 1-2]'
  const beside = await planWith(summary)
  assert.deepEqual([beside.promoted, beside.occasions], [[summary], ['Summarize', 'DropOldest']])
  assert.equal(beside.shaped.messages[0]?.json['content'], `${label}\n\n[summary]`)
  const long = { ...summary, text: JSON.stringify({ role: 'user', content: `[summary] ${'It is late. '.repeat(40)}` }) }
  const instead = await planWith(long)
  assert.deepEqual([instead.promoted, instead.occasions], [[], ['DropOldest']])
  assert.equal(instead.shaped.messages[0]?.json['content'], label)
})

test('tools that the provider runs are held for by no fewer calls than the request can be made to stop at', async () => {
  const contract = makeContract({ ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Refuse' }] })
  const input = await inputOf({ contract, body: { messages: [{ role: 'user', content: 'x'.repeat(100) }], max_tokens: 10 } })
  const config = { ...input.config, hostedTools: { maxResultTokens: 100 } }
  const hosted = { tools: [], maxCalls: null, rereads: true } as const
  const money = (cap: string): typeof input.balances => input.balances.map((balance) => ({ ...balance, cap: parseUsd(cap) }))
  const plan = (more: object, cap: string): ReturnType<typeof decide> =>
    decide({ ...input, config, balances: money(cap), request: { ...input.request, hosted: { ...hosted, ...more } } })
  assert.equal(planOf(plan({}, '10')).hostedCalls, 10)
  assert.equal(planOf(plan({}, '10')).hostedCallsCut, false)
  assert.equal(planOf(plan({}, '0.002')).hostedCalls, 2)
  assert.equal(planOf(plan({}, '0.002')).hostedCallsCut, true)
  assert.equal(planOf(plan({ fewestCalls: 2 }, '10')).hostedCalls, 10)
  assert.equal(plan({ fewestCalls: 10 }, '0.002').status, 'end')
})

describe('tools that the provider runs, of which a whole budget pays for no call', () => {
  const ASKS = { messages: USER_TURN, tools: TOOLS, max_tokens: 100 }
  const HOSTED = { tools: [], maxCalls: null, rereads: true, fewestCalls: 10 } as const
  const ENDS = makeContract({ ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }] })
  /** Each reading may fill the window: 11 of them come to 1.4 dollars at the dear model, and to 0.14 at the cheap one. */
  const searching = async (setup: Setup, hosted: Partial<ModelRequest['hosted']> = {}): Promise<DecideInput> => {
    const input = await inputOf({ body: ASKS, ...setup })
    return { ...input, request: { ...input.request, hosted: { ...HOSTED, ...hosted } } }
  }
  const cap = (perConversation: string, contract: Contract = FULL_LADDER): Contract => ({ ...contract, caps: { perConversation } })

  test('end nothing, whatever is spent: what does not fit is said to be the tools', async () => {
    for (const spent of ['0.00', '0.49']) {
      const input = await searching({ contract: ENDS, own: { spent: parseUsd(spent) } })
      const end = decide(input)
      assert.ok(end.status === 'end')
      assert.deepEqual([end.tooLarge, end.fitsAfresh], [{ what: 'tools', param: 'tools' }, false])
      assert.equal(endsForGood(input, end), false)
    }
    const ofUser = decide(await searching({ contract: cap('5.00', ENDS), user: { cap: '0.50' } }))
    assert.deepEqual(ofUser.status === 'end' && [ofUser.account, ofUser.tooLarge?.what], ['u', 'tools'])
  })

  test('are refused for this turn alone where the ladder can, and no other rung rises for them', async () => {
    const plan = planOf(decide(await searching({ contract: cap('0.10') })))
    assert.deepEqual(
      [plan.refuseTools, plan.rungs, plan.turnRungs, plan.risen, plan.reason],
      [true, ['RefuseTools'], ['RefuseTools'], [], 'fit'],
    )
    assert.deepEqual([plan.model, plan.risenForUser, plan.occasions], ['dear', [], ['RefuseTools']])
    const later = { turnRungs: plan.turnRungs }
    const again = planOf(decide(await searching({ contract: cap('0.10'), conversation: later })))
    assert.deepEqual([again.turnRungs, again.occasions], [['RefuseTools'], []], 'told once')
    const plain = planOf(decide(await inputOf({ body: ASKS, contract: cap('0.10'), conversation: later })))
    assert.deepEqual([plain.refuseTools, plain.rungs], [false, []], 'the next question has the app’s own')
  })

  test('leave the rest of the ladder to what else is short', async () => {
    const contract = cap('0.10')
    const long = { ...ASKS, messages: [{ role: 'user', content: 'word '.repeat(50_000) }] }
    const plan = planOf(decide(await searching({ contract, body: long })))
    assert.deepEqual([plan.model, plan.turnRungs], ['cheap', ['RefuseTools']])
    assert.deepEqual(plan.risen, ['DropRetrieval', 'Summarize', 'DowngradeModel'])
    const spent = decide(await searching({ contract, own: { spent: parseUsd('0.09999') } }))
    assert.deepEqual(spent.status === 'end' && [spent.tooLarge, spent.fitsAfresh], [undefined, true], 'the budget is used up')
  })

  test('are said to be it where the call must make one', async () => {
    const forced = decide(await searching({ contract: cap('0.10'), body: { ...ASKS, tool_choice: 'required' } }))
    assert.deepEqual(forced.status === 'end' && forced.tooLarge, { what: 'tools', param: 'tools' })
  })

  test('are none of that where a model of the ladder reads less, a bound does, or a new session would', async () => {
    const cheaper = planOf(decide(await searching({ contract: cap('0.50') })))
    assert.deepEqual([cheaper.model, cheaper.refuseTools], ['cheap', false])
    const bound = planOf(decide(await searching({ contract: cap('0.50', ENDS) }, { fewestCalls: 1 })))
    assert.deepEqual([bound.hostedCalls, bound.hostedCallsCut], [2, true])
    const spent = decide(await searching({ contract: cap('2.00', ENDS), own: { spent: parseUsd('1.00') } }))
    assert.deepEqual(spent.status === 'end' && [spent.tooLarge, spent.fitsAfresh], [undefined, true])
  })

  test('leave a window that is too short the reason of its refusal', async () => {
    const contract = { ...cap('0.10'), context: { ...FULL_LADDER.context, windowTokens: 100, overflow: 'Refuse' as const } }
    const long = { ...ASKS, messages: [{ role: 'user', content: 'word '.repeat(400) }] }
    const decision = decide(await searching({ contract, body: long }))
    assert.equal(decision.status === 'refuse' && decision.refusal.code, 'context_window_exceeded')
  })
})

test('a request is held for by its own bound of calls where it is made to stop, and by no more', async () => {
  const input = await inputOf({ body: { max_tokens: 100 } })
  const hosted = { tools: [], maxCalls: null, callsOnceBound: 2, rereads: true, fewestCalls: 1 } as const
  const callsOf = (maxCalls: number | undefined, perConversation: string): readonly [calls: number | null, cut: boolean] => {
    const hostedTools = { ...(maxCalls === undefined ? {} : { maxCalls }), maxResultTokens: 100 }
    const balances = input.balances.map((balance) => ({ ...balance, cap: parseUsd(perConversation) }))
    const plan = planOf(decide({ ...input, balances, request: { ...input.request, hosted }, config: { ...input.config, hostedTools } }))
    return [plan.hostedCalls, plan.hostedCallsCut]
  }
  assert.deepEqual(callsOf(undefined, '1.00'), [10, false])
  assert.deepEqual(callsOf(5, '1.00'), [2, false])
  assert.deepEqual(callsOf(undefined, '0.005'), [2, true])
})

test('the owner’s bound of hosted calls lowers the hold of those that can be told to stop, and of no others', async () => {
  const input = await inputOf({ body: { max_tokens: 100 } })
  const holdOf = (maxCalls: number | undefined, fewestCalls: number): bigint => {
    const hosted = { tools: [], maxCalls: null, rereads: true, fewestCalls } as const
    const hostedTools = { ...(maxCalls === undefined ? {} : { maxCalls }), maxResultTokens: 100 }
    const request: ModelRequest = { ...input.request, hosted }
    return planOf(decide({ ...input, request, config: { ...input.config, hostedTools } })).atMost
  }
  assert.ok(holdOf(2, 1) < holdOf(undefined, 1))
  assert.equal(holdOf(2, 10), holdOf(undefined, 10))
})

test('the owner’s bound is of tools: a compaction is one more', async () => {
  const input = await inputOf({ body: { max_tokens: 100 } })
  const callsOf = (hosted: object): number | null => {
    const request: ModelRequest = { ...input.request, hosted: { tools: [], maxCalls: null, rereads: true, ...hosted } }
    return planOf(decide({ ...input, request, config: { ...input.config, hostedTools: { maxCalls: 2, maxResultTokens: 100 } } }))
      .hostedCalls
  }
  assert.equal(callsOf({}), 2)
  assert.equal(callsOf({ compacts: true }), 3)
})

test('a compaction alone reads no more the second time than the first', async () => {
  const input = await inputOf({ body: { messages: [{ role: 'user', content: 'x'.repeat(100) }], max_tokens: 10 } })
  const plain = planOf(decide(input))
  const compacted = planOf(decide({ ...input, request: { ...input.request, hosted: COMPACTION } }))
  assert.equal(compacted.inputTokens, 2 * (plain.inputTokens + 10))
})

const FILE = { type: 'file', file: { filename: 'a.pdf', file_data: 'data:application/pdf;base64,JVBERi0xLjc=' } }
const WITH_FILE = { messages: [{ role: 'user', content: [{ type: 'text', text: 'What does it say?' }, FILE] }], max_tokens: 100 }

async function fileInput(setup: Setup): Promise<DecideInput> {
  return { ...(await inputOf({ contract: makeContract(), body: WITH_FILE, ...setup })), mayCount: true }
}

test('a file is held for by the context of its model where the money is there, and only by what is likely while it is in flight', async () => {
  const plan = planOf(decide(await fileInput({})))
  assert.ok(plan.inputTokens > 128_000, `${plan.inputTokens}`)
  assert.ok(plan.likelyInputCost < 1_000_000n, 'the file itself is not nearly certain')
})

test('where it does not fit, the provider is asked, and its count and 5 % are the bound of the whole input', async () => {
  const input = await fileInput({ own: { spent: parseUsd('0.45') } })
  const asked = decide(input)
  assert.deepEqual(asked, { status: 'count', model: 'dear', messages: input.request.messages })
  const count = { model: 'dear', messages: input.request.messages }
  const plan = planOf(decide({ ...input, counted: [{ ...count, tokens: 20_000 }] }))
  assert.equal(plan.inputTokens, 21_000)
  assert.deepEqual(plan.rungs, [], 'no rung rises for want of a count')
  const words = await fileInput({ own: { spent: parseUsd('0.4999') }, body: { max_tokens: 100 } })
  assert.equal(decide(words).status, 'end', 'words are bounded without the provider')
})

test('what an edit wrote comes on top of a count, and a count for one model says nothing of another', async () => {
  const input = await fileInput({ own: { spent: parseUsd('0.45') } })
  const [first] = input.request.messages
  assert.ok(first !== undefined)
  const edited = { ...input, request: { ...input.request, messages: [input.request.own('user', 'Before that.'), first] } }
  const counted = [{ model: 'dear', messages: [first], tokens: 20_000 }]
  const more = planOf(decide({ ...edited, counted })).inputTokens - 21_000
  assert.ok(more > 'Before that.'.length && more < 100, `${more}`)
  assert.equal(decide({ ...input, counted: [{ model: 'cheap', messages: [first], tokens: 20_000 }] }).status, 'count')
})

test('it is counted for the model that the call would go to', async () => {
  const input = await fileInput({ contract: FULL_LADDER, own: { spent: parseUsd('0.493') } })
  const readsFiles: PriceList = {
    ...PRICES,
    find: (provider, model, atMs) => {
      const found = PRICES.find(provider, model, atMs)
      return found && { ...found, capabilities: { ...found.capabilities, modalities: ['image', 'file'] } }
    },
  }
  const asked = decide({ ...input, prices: readsFiles })
  assert.deepEqual([asked.status, asked.status === 'count' && asked.model], ['count', 'cheap'])
})

test('a file alone that is too large ends nothing: what does not fit is said to be the attachment', async () => {
  for (const tokens of [null, 60_000]) {
    const input = await fileInput({ own: { spent: parseUsd('0.45') } })
    const decision = decide({ ...input, counted: [{ model: 'dear', messages: input.request.messages, tokens }] })
    assert.deepEqual(decision, {
      status: 'end',
      percent: 90,
      reason: 'fit',
      account: 'c',
      tooLarge: { what: 'attachment', param: 'messages[0].content[1]' },
      fitsAfresh: true,
    })
  }
  const small = await fileInput({ contract: makeContract({ caps: { perConversation: '0.10' } }) })
  const never = decide({ ...small, mayCount: false })
  assert.deepEqual(never.status === 'end' && [never.tooLarge?.what, never.fitsAfresh], ['attachment', false])
  const ofUser = decide({ ...(await fileInput({ user: { cap: '0.50', spent: parseUsd('0.45') } })), mayCount: false })
  assert.deepEqual(
    ofUser.status === 'end' && [ofUser.account, ofUser.tooLarge?.what, ofUser.fitsAfresh],
    ['u', 'attachment', false],
    'no session has more of the user’s money',
  )
  const spent = decide({ ...(await fileInput({ own: { spent: parseUsd('0.4999') } })), mayCount: false })
  assert.deepEqual([spent.status, spent.status === 'end' && spent.tooLarge], ['end', undefined], 'words alone do not fit either')
  const tenCents = makeContract({ caps: { perConversation: '0.10' } })
  const words = decide({ ...(await fileInput({ contract: tenCents, own: { spent: parseUsd('0.0999') } })), mayCount: false })
  assert.deepEqual(words.status === 'end' && [words.tooLarge, words.fitsAfresh], [undefined, true], 'which have room in the next session')
})

describe('a question that is too long for any budget', () => {
  const LONG = { role: 'user', content: 'word '.repeat(200_000) }
  const BEFORE = [...USER_TURN, { role: 'assistant', content: 'Well.' }]
  const endOf = async (setup: Setup): Promise<Extract<Decision, { status: 'end' }>> => {
    const decision = decide(await inputOf(setup))
    assert.equal(decision.status, 'end')
    if (decision.status !== 'end') throw new TypeError()
    return decision
  }

  test('is said to be that, whatever is spent: nothing ends by it, and no session opens for it', async () => {
    for (const own of [{}, { spent: parseUsd('0.01') }, { spent: parseUsd('0.4999') }]) {
      const input = await inputOf({ own, body: { messages: [{ role: 'system', content: 's' }, ...BEFORE, LONG] } })
      const end = decide(input)
      assert.ok(end.status === 'end')
      assert.deepEqual([end.tooLarge, end.fitsAfresh], [{ what: 'message', param: 'messages[3]' }, false])
      assert.equal(endsForGood(input, end), false)
    }
  })

  test('is so for a user whose budget is the smaller one', async () => {
    const end = await endOf({ user: { cap: '0.0001' } })
    assert.deepEqual([end.account, end.tooLarge?.what], ['u', undefined], 'no question fits there')
    const contract = makeContract({ caps: { perConversation: '100.00' } })
    const ofUser = await endOf({ contract, user: { cap: '0.10' }, body: { messages: [LONG] } })
    assert.deepEqual([ofUser.account, ofUser.tooLarge?.what], ['u', 'message'])
  })

  test('is none that a whole budget has room for, whatever it and its history come to: that ends, and fits the next session', async () => {
    const half = { role: 'user', content: 'word '.repeat(50_000) }
    const contract = makeContract({ ladder: [...FULL_LADDER.ladder] })
    const spent = await endOf({ contract, own: { spent: parseUsd('0.45') }, body: { messages: [...BEFORE, half] } })
    assert.deepEqual([spent.tooLarge, spent.fitsAfresh], [undefined, true])
    const history = await endOf({ contract, body: { messages: [LONG, { role: 'assistant', content: 'Well.' }, ...USER_TURN] } })
    assert.deepEqual([history.tooLarge, history.fitsAfresh], [undefined, true])
  })

  test('is one too where it has no room beside what a session that was just opened for it begins with', async () => {
    const input = await inputOf({ body: { messages: [...BEFORE, ...USER_TURN] }, conversation: { session: 2, userTurns: 0 } })
    const { request, conversation } = input
    const begun = {
      request,
      conversation,
      why: 'budget',
      recap: 'Summary',
      isSearchable: false,
      passages: LONG.content,
      session: 2,
    } as const
    const opened = { ...input, conversation: { ...conversation, edits: resetEdits(begun) } }
    const end = decide(opened)
    assert.ok(end.status === 'end')
    assert.deepEqual([end.tooLarge?.what, end.fitsAfresh], ['message', false])
    const asked = decide({ ...opened, conversation: { ...opened.conversation, userTurns: 1 } })
    assert.ok(asked.status === 'end')
    assert.deepEqual([asked.tooLarge, asked.fitsAfresh], [undefined, true])
    // What came between, as an error that the app shows, makes a history of the question.
    const messages = [LONG, { role: 'assistant', content: 'Sorry.' }, ...USER_TURN]
    const later = await endOf({ body: { messages }, conversation: { session: 2, userTurns: 0 } })
    assert.deepEqual([later.tooLarge, later.fitsAfresh], [undefined, true])
  })

  test('is none in a session that was just opened where it is not the question that is in the way', async () => {
    const opened = { session: 2, userTurns: 0 }
    const spent = await endOf({ own: { spent: parseUsd('0.4999') }, conversation: opened })
    assert.deepEqual([spent.account, spent.tooLarge, spent.fitsAfresh], ['c', undefined, true], 'a title has spent its budget')
    const ofUser = await endOf({ user: { cap: '0.10', spent: parseUsd('0.0999') }, conversation: opened })
    assert.deepEqual([ofUser.account, ofUser.tooLarge, ofUser.fitsAfresh], ['u', undefined, true], 'the user has spent the period’s')

    const input = await inputOf({ body: { messages: [LONG, { role: 'assistant', content: 'Well.' }, ...USER_TURN] } })
    const { request, conversation } = input
    const begun = { request, conversation, why: 'idle', recap: 'None', isSearchable: false, passages: null, session: 2 } as const
    const uncut = { ...input, mayEdit: false, conversation: { ...conversation, ...opened, edits: resetEdits(begun) } }
    const end = decide(uncut)
    assert.deepEqual(end.status === 'end' && [end.tooLarge, end.fitsAfresh], [undefined, true], 'the provider has all of the history')
    assert.equal(decide({ ...uncut, mayEdit: true }).status, 'go')
  })

  test('is none, and no session has room for it, where the provider alone reads most of what is sent', async () => {
    const input = { ...(await inputOf({ contract: makeContract() })), earlierTokens: 600_000 }
    const kept = decide(input)
    assert.deepEqual(kept.status === 'end' && [kept.tooLarge, kept.fitsAfresh], [undefined, true], 'the next session leaves it behind')
    const named = decide({ ...input, request: { ...input.request, onlyNamed: true } })
    assert.deepEqual(named.status === 'end' && [named.tooLarge, named.fitsAfresh], [undefined, false], 'it is what is asked')
  })

  test('is none where a limit of the workload is short: another might be as long', async () => {
    const messages = [...BEFORE, LONG]
    const input = await inputOf({ contract: makeContract(), workload: { cap: '0.01' }, body: { messages, max_tokens: 100 } })
    const { request, conversation } = input
    const { sent } = inputBound({ ...request, exact: null, factor: 1, contextTokens: 128_000 })
    const exact: ExactCount = { model: 'dear', ...sent, inputTokens: 20_000, cachedTokens: 0, outputTokens: 3, atMs: 0 }
    const end = decide({ ...input, conversation: { ...conversation, exact } })
    assert.deepEqual(end.status === 'end' && [end.account, end.tooLarge, end.fitsAfresh], ['w', undefined, false])
  })

  test('is none where the instructions alone are too long, nor in a tool loop, whose results stay in the history', async () => {
    const instructed = await endOf({ body: { messages: [{ ...LONG, role: 'system' }, ...USER_TURN] } })
    assert.deepEqual([instructed.tooLarge, instructed.fitsAfresh], [undefined, false])
    const loop = TOOL_LOOP.map((message) => (message.role === 'tool' ? { ...message, content: LONG.content } : message))
    assert.equal((await endOf({ body: { messages: loop, tools: TOOLS } })).tooLarge, undefined)
  })

  test('opens no session either where the conversation has ended, or is at its last threshold', async () => {
    for (const setup of [{ conversation: { state: 'ended' } }, { own: { spent: parseUsd('0.50') } }] as const) {
      const long = await endOf({ ...setup, body: { messages: [...BEFORE, LONG] } })
      assert.deepEqual([long.tooLarge, long.fitsAfresh], [undefined, false], 'it has ended, whatever is asked')
      assert.equal((await endOf(setup)).fitsAfresh, true)
    }
  })

  test('is none where a cheaper model of the ladder could read it', async () => {
    const long = { role: 'user', content: 'word '.repeat(100_000) }
    const spent = { own: { spent: parseUsd('0.49') }, body: { messages: [...BEFORE, long] } }
    assert.deepEqual([(await endOf(spent)).tooLarge, (await endOf(spent)).fitsAfresh], [undefined, true])
  })
})

test('results of searches that are billed as input are held for, by the owner’s bound or by ours', async () => {
  const input = await inputOf({ body: { max_tokens: 100 } })
  const plain = planOf(decide(input)).inputTokens
  const request: ModelRequest = { ...input.request, hosted: { tools: ['webSearch'], maxCalls: 1, rereads: false, resultsRead: 10 } }
  assert.equal(planOf(decide({ ...input, request })).inputTokens, plain + 40_000)
  const config = { ...input.config, hostedTools: { maxResultTokens: 500 } }
  assert.equal(planOf(decide({ ...input, request, config })).inputTokens, plain + 5_000)
})
