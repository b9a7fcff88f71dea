/** When a summary is made between turns, and what it gives back: on a real store, with a provider that answers when it is told to. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import { createPriceList } from '@farebox/crds/price-list.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { LRUCache } from 'lru-cache'
import { makeConfig, makeContract, makeUpstream } from '../../../test/support/make.ts'
import { EMPTY_ACCOUNT } from '../core/budget.ts'
import type { Conversation, Edit } from '../core/conversation.ts'
import { cutEdit, planCut } from '../core/history-cut.ts'
import { ownMessage, readOwn } from '../core/message.ts'
import type { JsonObject } from '../core/request.ts'
import { assistant, call, chatRequest, message, user } from '../core/requests.testing.ts'
import { awaitingReset, resetEdits, withSummary } from '../core/reset.ts'
import { summaryMessage } from '../core/summary.ts'
import { termsOf } from '../core/terms.ts'
import type { CapDraw } from '../core/terms.ts'
import { FactorTable } from '../core/token-factor.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import { conversationFor, START_MS } from '../store/steps.testing.ts'
import { Metrics } from '../telemetry/metrics.ts'
import { CHAT_CALL } from '../wire/bodies.testing.ts'
import { chatWire } from '../wire/openai-chat.ts'
import type { Admitted } from './admit.ts'
import { BodyRoom } from './body-room.ts'
import type { Gateway } from './gateway.ts'
import { policyOf } from './gateway.ts'
import { HoldKeeper } from './hold-keeper.ts'
import { MoneyQueue } from './money-queue.ts'
import { ServedTiers } from './served-tiers.ts'
import { Summariser } from './summariser.ts'
import type { UpstreamCall, UpstreamEvents } from './upstream.ts'

const BODY_BYTES = 1_000
const OWN: CapDraw = { kind: 'conversation', account: 'c:A:1', cap: parseUsd('0.50'), periodKey: null }
const ANNS: CapDraw = { kind: 'user', account: 'u:ann', cap: parseUsd('9.00'), periodKey: '2026-11-01' }
const PRICES = createPriceList([], loadCatalogue())
const UPSTREAM = makeUpstream({ name: 'openai', provider: 'openai', baseUrl: 'http://provider/v1' })
const ANSWER = {
  model: 'gpt-4o-mini',
  choices: [{ index: 0, message: { role: 'assistant', content: 'The keeper writes.' }, finish_reason: 'stop' }],
  usage: { prompt_tokens: 900, completion_tokens: 5, total_tokens: 905 },
}
/** About 230 tokens. */
const LONG_TEXT = 'The lamp turns, the keeper climbs the stairs and writes the weather down. '.repeat(15)

function talkOf(turns: number): readonly JsonObject[] {
  const asked = (turn: number): JsonObject => user(`What of day ${turn}?`)
  return [...Array.from({ length: turns - 1 }, (_, turn) => [asked(turn), assistant(`${turn}: ${LONG_TEXT}`)]), [asked(turns)]].flat()
}
/** A summary of all turns but the last. */
function summaryOf(messages: readonly JsonObject[], text: string): Edit {
  const plan = planCut({ request: chatRequest(messages), edits: [], keepRecentTurns: 1 })
  assert.ok(plan)
  const notes = summaryMessage({ text, plan, maxTokens: 1_500, tokensBefore: 10, tokensAfter: 5 })
  return cutEdit(plan, 'Summarize', ownMessage('user', readOwn(JSON.stringify(notes))?.text ?? ''), `summary ${plan.turns}`)
}

interface Setup {
  readonly contract: Parameters<typeof makeContract>[0]
  readonly messages?: readonly JsonObject[]
  readonly conversation?: Partial<Conversation>
  readonly draws?: readonly CapDraw[]
  readonly spent?: string
  readonly answer?: JsonObject
  readonly heldKey?: string | null
  /** Headers that the owner of the upstream sets. */
  readonly set?: readonly string[]
  readonly bound?: { readonly heuristic: number; readonly isCounted: boolean }
}

/** A turn that has just been answered, and what its sidecar makes of it. */
function afterTurn({
  contract: parts,
  messages = talkOf(6),
  conversation: more = {},
  draws = [OWN],
  spent = '0.00',
  answer,
  heldKey = null,
  set = [],
  bound = { heuristic: 2_000, isCounted: true },
}: Setup) {
  const contract = makeContract({ models: { allow: [], downgrades: [], summarizer: 'gpt-4o-mini' }, ...parts })
  const priced = PRICES.find('openai', 'gpt-4o', START_MS)
  assert.ok(priced)
  const store = openEmbeddedStore({ file: ':memory:', nowMs: () => START_MS, writer: 'inline' })
  const metrics = new Metrics()
  const log = { info() {}, error() {}, warn() {} }
  const bodies = new BodyRoom(BODY_BYTES)
  const queue = new MoneyQueue()
  const asked: { readonly call: UpstreamCall; readonly events: UpstreamEvents }[] = []
  const underWay: Promise<void>[] = []
  const gateway = {
    store,
    storeIsShared: false,
    holds: new HoldKeeper(store, { log, metrics }, () => START_MS),
    factors: new FactorTable(),
    limitFields: new LRUCache<string, never>({ max: 1 }),
    servedTiers: new ServedTiers(),
    uneditable: new LRUCache<string, true>({ max: 1 }),
    underWay: { add: (summary: Promise<void>) => void underWay.push(summary) },
    upstreams: { call: (made: UpstreamCall, events: UpstreamEvents) => void asked.push({ call: made, events }) },
    queue,
    metrics,
    log,
    nowMs: () => START_MS,
    newId: () => 'made',
  } as unknown as Gateway
  const place = bodies.place()
  assert.ok(place.takeNow(BODY_BYTES))
  const tokens = { inputTokens: 2_000, cachedTokens: 0, outputTokens: 300 }
  const exact = { model: 'gpt-4o', fixedDigest: 'f', messages: messages.length, messagesDigest: 'd', ...tokens, atMs: START_MS }
  const conversation = conversationFor('A', START_MS, { turns: 2, userTurns: 2, exact, ...more })
  const admitted = {
    turn: {
      gateway,
      policy: policyOf(makeConfig(UPSTREAM.baseUrl, [contract]), PRICES),
      upstream: UPSTREAM,
      path: '/chat/completions',
      incoming: {
        rawHeaders: [
          'authorization',
          'Bearer of-the-turn',
          'Content-Type',
          'text/plain',
          'Ocp-Apim-Subscription-Key',
          'of-the-app',
          'x-other',
          '1',
        ],
        headers: {},
      },
      heldKey,
      upstreamHeaders: { raw: set, secrets: [] },
      family: 'openai',
      wire: chatWire,
      call: CHAT_CALL,
      request: chatRequest(messages),
      conversation,
      conversationId: 'A',
      user: draws.includes(ANNS) ? 'ann' : null,
      terms: termsOf(contract),
      draws,
      place,
    },
    plan: { bound, priced, promoted: [], shaped: { newEdits: [] }, inputCost: 1n, atLeast: 1n },
  } as unknown as Admitted
  const state = { ...EMPTY_ACCOUNT, spent: parseUsd(spent) }
  const snapshot = { conversation, accounts: new Map([[OWN.account, state]]) }
  const said = message(answer ?? assistant(LONG_TEXT))
  const summariser = new Summariser(() => gateway)
  return {
    place,
    bodies,
    queue,
    isMade: () => summariser.consider(admitted, snapshot, said, said.toolCalls.length > 0),
    headers: async (): Promise<readonly string[]> => (await waitForCall(asked)).call.headers,
    /** The bound of the one that was asked for. */
    limit: async (): Promise<number> => {
      const body = await waitForCall(asked)
      return Number((JSON.parse(body.call.body?.toString() ?? '') as JsonObject)['max_completion_tokens'])
    },
    answered: async (): Promise<void> => {
      const { events } = await waitForCall(asked)
      events.head(200, [])
      events.data(Buffer.from(JSON.stringify(ANSWER)))
      events.end()
      await Promise.all(underWay)
    },
  }
}

async function waitForCall<T>(asked: readonly T[]): Promise<T> {
  for (;;) {
    const [first] = asked
    if (first !== undefined) return first
    await new Promise(setImmediate)
  }
}

describe('the recap of a session that has had its turns', () => {
  const contract: Setup['contract'] = { sessions: { maxTurns: 2, recap: 'Summary', maxResets: 2 } }
  const opensNext = { contract, draws: [OWN, ANNS] }

  test('is made with the answer that ends it, and not with a call of tools', () => {
    assert.equal(afterTurn(opensNext).isMade(), true)
    assert.equal(afterTurn({ ...opensNext, answer: call({ id: 'a', name: 'look_up' }) }).isMade(), false)
  })

  test('is not made where no session follows: no budget of a user is behind it, or it was the last', () => {
    assert.equal(afterTurn({ contract }).isMade(), false)
    assert.equal(afterTurn({ ...opensNext, conversation: { session: 3 } }).isMade(), false)
  })
})

describe('the recap of a session that nears its cap', () => {
  const contract: Setup['contract'] = {
    context: { keepRecentTurns: 1 },
    ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }],
    sessions: { recap: 'Summary', maxResets: 2 },
  }
  const nearing = { contract, spent: '0.45' }

  test('is made whether or not it saves anything in this one', () => {
    const conversation = { turns: 0 }
    assert.equal(afterTurn({ ...nearing, conversation }).isMade(), true)
    assert.equal(afterTurn({ contract, conversation }).isMade(), false, 'far from it')
  })

  test('is made once, and again in the next session, which began with one', () => {
    const [first, messages] = [talkOf(4), talkOf(9)]
    const summary = summaryOf(first, LONG_TEXT)
    assert.equal(afterTurn({ ...nearing, messages, conversation: { edits: [summary] } }).isMade(), false)
    const opening = { why: 'idle', recap: 'Summary', isSearchable: false, passages: null, session: 2 } as const
    const [reset] = resetEdits({ ...opening, request: chatRequest(first), conversation: { edits: [], readyEdits: [] } })
    assert.ok(reset?.kind === 'cut' && summary.kind === 'cut')
    const edits = [reset, withSummary(reset, readOwn(summary.text)?.text ?? '', 'late')]
    assert.equal(awaitingReset(edits), null)
    assert.equal(afterTurn({ ...nearing, messages, conversation: { session: 2, edits } }).isMade(), true)
  })
})

describe('a summary for want of room', () => {
  const contract: Setup['contract'] = {
    context: { windowTokens: 2_500, overflow: 'Summarize', summarizeAfterPercent: 60, keepRecentTurns: 1 },
  }

  test('goes by the measure that the window is cut by: the estimate, where no count serves', () => {
    const wide: Setup['contract'] = {
      context: { windowTokens: 5_000, overflow: 'Summarize', summarizeAfterPercent: 60, keepRecentTurns: 1 },
    }
    const made = (bound: NonNullable<Setup['bound']>): boolean => afterTurn({ contract: wide, bound }).isMade()
    assert.equal(made({ heuristic: 3_000, isCounted: false }), true)
    assert.equal(made({ heuristic: 2_900, isCounted: false }), false)
    assert.equal(made({ heuristic: 3_000, isCounted: true }), false, 'the next turn goes on from the count')
  })

  test('is no longer for the notes that it takes the place of', async () => {
    const made = afterTurn({ contract, conversation: { edits: [summaryOf(talkOf(3), LONG_TEXT.repeat(6))] } })
    assert.equal(made.isMade(), true)
    const limit = await made.limit()
    assert.ok(limit <= (2_000 * 15) / 100, `${limit}`)
    await made.answered()
  })

  test('is made however many were made of turns that are cut by now, and not beside eight that nobody has read', () => {
    const edits = [summaryOf(talkOf(5), LONG_TEXT)]
    const [cut] = edits
    assert.ok(cut?.kind === 'cut')
    const others = (count: number): readonly Edit[] =>
      Array.from({ length: 8 }, (_, index) => ({ ...cut, id: `other ${index}`, originals: 'of another branch', count }))
    assert.equal(afterTurn({ contract, conversation: { edits, readyEdits: others(cut.count) } }).isMade(), true)
    assert.equal(afterTurn({ contract, conversation: { edits, readyEdits: others(cut.count + 2) } }).isMade(), false)
  })

  test('is asked for with what lets the turn in at a gateway, its own keys too, or the key that is held', async () => {
    const type = ['content-type', 'application/json']
    const gateways = ['Ocp-Apim-Subscription-Key', 'of-the-app']
    for (const [heldKey, key] of [
      [null, ['authorization', 'Bearer of-the-turn', ...gateways]],
      ['held', [...gateways, 'authorization', 'Bearer held']],
    ] as const) {
      const set = ['x-other', 'of-the-owner', 'x-route', 'a']
      for (const more of [[], set]) {
        const made = afterTurn({ contract, heldKey, set: more })
        assert.equal(made.isMade(), true)
        assert.deepEqual(await made.headers(), [...type, ...key, ...more])
        await made.answered()
      }
    }
  })

  test('keeps the room of its request until it is made, and wakes who waits for the money that it held', async () => {
    const { place, bodies, queue, isMade, answered } = afterTurn({ contract })
    assert.equal(isMade(), true)
    place.leave() // the turn itself is over
    assert.equal(bodies.bytes, BODY_BYTES)
    const waiting = queue.wait(OWN.account, START_MS + 10_000, START_MS, 'back')
    await answered()
    assert.equal(bodies.bytes, 0)
    assert.equal(await waiting, 'try')
  })
})
