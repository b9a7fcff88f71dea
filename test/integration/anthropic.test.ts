/** Anthropic Messages through a real sidecar, by the real SDK, against the provider's strict checks and its own bill. */
import type Anthropic from '@anthropic-ai/sdk'
import { BadRequestError, PaymentRequiredError, PermissionDeniedError } from '@anthropic-ai/sdk'
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Contract, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { startClaudeTalk } from '../support/claude-talk.ts'
import type { ClaudeSaid, ClaudeTalk } from '../support/claude-talk.ts'
import { makeConfig, makeContract, makeUpstream } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

type Params = Partial<Anthropic.MessageCreateParamsNonStreaming>

const NOTICE = 'From here on this chat goes on with less.'
const ENDED = 'This chat has come to its end.'
const WINDOW_TOKENS = 2_400
const OPUS = 'claude-opus-5-5'
const SONNET = 'claude-sonnet-4-5'
const HAIKU = 'claude-haiku-4-5'
const LOOK: Anthropic.Tool = { name: 'look_up', input_schema: { type: 'object', properties: { what: { type: 'string' } } } }
/** About 90 tokens. */
const QUESTION = 'The lamp turns, the keeper climbs the stairs and writes the weather down. '.repeat(6)
const PASSAGE = 'Passages that were looked up, one after the other, each of them long. '.repeat(20)

function tier(name: string, parts: Parameters<typeof makeContract>[0]): Contract {
  return makeContract({
    tier: name,
    models: { allow: [], downgrades: [{ from: OPUS, to: HAIKU }], summarizer: HAIKU, usefulOutputTokens: 50 },
    notices: {
      mode: 'Inline',
      texts: { DropRetrieval: { en: NOTICE }, Summarize: { en: NOTICE }, DowngradeModel: { en: NOTICE }, End: { en: ENDED } },
    },
    ...parts,
  })
}

const TIERS: readonly Contract[] = [
  tier('plain', { notices: { mode: 'HeadersOnly' } }),
  tier('drop', { ladder: [{ atPercent: 1, rung: 'DropRetrieval' }] }),
  tier('smaller', { ladder: [{ atPercent: 1, rung: 'DowngradeModel' }] }),
  tier('no-tools', { ladder: [{ atPercent: 1, rung: 'RefuseTools' }] }),
  tier('summary', { ladder: [{ atPercent: 1, rung: 'Summarize' }], context: { keepRecentTurns: 1, overflow: 'Summarize' } }),
  tier('closed', { caps: { perConversation: '0.004' }, ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Close' }] }),
  tier('refused', { caps: { perConversation: '0.004' }, ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Refuse' }] }),
  tier('tight', { caps: { perConversation: '0.10' }, ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Refuse' }] }),
  tier('searching', { caps: { perConversation: '2.00' }, ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Refuse' }] }),
  tier('refusing', {
    caps: { perConversation: '0.50' },
    ladder: [
      { atPercent: 95, rung: 'RefuseTools' },
      { atPercent: 100, rung: 'EndConversation', end: 'Close' },
    ],
  }),
  tier('window', { context: { windowTokens: WINDOW_TOKENS, overflow: 'DropOldest', keepRecentTurns: 2 } }),
  tier('window-summary', {
    context: { windowTokens: WINDOW_TOKENS, overflow: 'Summarize', keepRecentTurns: 2, summarizeAfterPercent: 60 },
  }),
]

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []

function configOf(parts: Parameters<typeof makeConfig>[2] = {}): SidecarConfig {
  const upstreams = [makeUpstream({ name: 'anthropic', provider: 'anthropic', baseUrl: `${provider.url}/v1` })]
  return makeConfig('', TIERS, { upstreams, retrieval: { toolNames: ['look_up'], tags: ['context'] }, ...parts })
}

before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request) })
  sidecar = await startSidecar(configOf())
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
  provider.bill.clear()
  provider.clearCache()
})

function talkOf(id: string, tierName: string, params: Params = {}, headers: Record<string, string> = {}): ClaudeTalk {
  return startClaudeTalk(sidecar, { 'x-farebox-conversation': id, 'x-farebox-tier': tierName, 'x-fake-tag': id, ...headers }, params)
}

/** What the provider was sent last. */
function sent(): Anthropic.MessageCreateParams {
  return JSON.parse(seen.at(-1)?.body.toString() ?? '')
}

function assertFine(said: ClaudeSaid): void {
  assert.equal(said.error, null, said.error?.message)
  assert.equal(said.status, 200)
}

/** When no call is under way, of a turn or of a summary: that begins a moment after its turn. */
async function idle(): Promise<void> {
  for (let quiet = 0; quiet < 3; await sleep(15)) {
    const { callsInFlight }: Pick<SidecarStatus, 'callsInFlight'> = Object(await sidecar.getJson('/farebox/v1/status'))
    quiet = callsInFlight === 0 ? quiet + 1 : 0
  }
  await provider.settled()
}

/** The provider took every request; the books say what it bills for this conversation, to the nano-dollar, and nothing is held. */
async function assertBooked(id: string, tierName: string): Promise<void> {
  await idle()
  assert.equal(provider.bill.lines().length, seen.filter(({ path }) => path === '/v1/messages').length, 'the provider refused nothing')
  const { spent, held } = await sidecar.standing(id, `?tier=${tierName}`)
  assert.deepEqual([spent, held], [formatUsd(provider.bill.totalNanoUsd()), '0.00'])
}

for (const stream of [false, true]) {
  describe(stream ? 'streamed' : 'plain', () => {
    const how = stream ? 'streamed' : 'plain'

    test('a conversation with thinking is booked as it is billed', async () => {
      const talk = talkOf(`books ${how}`, 'plain', { model: OPUS, max_tokens: 2_000, system: 'Be kind.' })
      for (const words of ['Hello.', 'How are you?', 'And then?']) {
        const said = await talk.say(words, { stream })
        assertFine(said)
        assert.equal(said.headers.get('x-farebox-rung'), 'None')
        assert.ok(said.text.length > 0)
      }
      await assertBooked(`books ${how}`, 'plain')
    })

    test('a question that is declined before an answer costs what is billed: nothing, or its input', async () => {
      const talk = talkOf(`declined ${how}`, 'plain', { model: OPUS, max_tokens: 2_000 })
      assertFine(await talk.say(QUESTION, { stream }))
      await idle()
      const before = (await sidecar.standing(`declined ${how}`, '?tier=plain')).spent
      for (const [category, isBilled] of [
        ['cyber', false],
        ['null', false],
        ['bio', true],
      ] as const) {
        const said = await talk.say(QUESTION.repeat(20), { stream, headers: { 'x-fake-refusal': category } })
        assertFine(said)
        assert.equal(said.message?.stop_reason, 'refusal')
        talk.messages.pop()
        await assertBooked(`declined ${how}`, 'plain')
        assert.equal((await sidecar.standing(`declined ${how}`, '?tier=plain')).spent === before, !isBilled, category)
      }
      assertFine(await talk.say('And then?', { stream }))
      await assertBooked(`declined ${how}`, 'plain')
    })

    test('a tool loop goes through, thinking and all', async () => {
      const talk = talkOf(`tools ${how}`, 'plain', { model: OPUS, max_tokens: 2_000, tools: [LOOK] })
      const asked = await talk.say('Where is it?', { stream, headers: { 'x-fake-tool-call': 'look_up' } })
      assertFine(asked)
      assert.equal(asked.message?.stop_reason, 'tool_use')
      assert.equal(asked.calls.length, 1)
      assertFine(await talk.answer('In Rotterdam.', { stream, headers: { 'x-fake-tool-call': 'look_up' } }))
      const told = await talk.answer('Still in Rotterdam.', { stream })
      assertFine(told)
      assert.equal(told.message?.stop_reason, 'end_turn')
      await assertBooked(`tools ${how}`, 'plain')
    })

    test('writes to the cache and reads from it have prices of their own', async () => {
      const system = [
        { type: 'text' as const, text: QUESTION.repeat(30), cache_control: { type: 'ephemeral' as const, ttl: '1h' as const } },
      ]
      const talk = talkOf(`cache ${how}`, 'plain', { system, cache_control: { type: 'ephemeral' } })
      const first = await talk.say(QUESTION, { stream })
      assert.ok((first.message?.usage.cache_creation?.ephemeral_1h_input_tokens ?? 0) > 1_000)
      const second = await talk.say('And then?', { stream })
      assert.ok((second.message?.usage.cache_read_input_tokens ?? 0) > 1_000)
      await assertBooked(`cache ${how}`, 'plain')
    })

    test('structured output fits its schema, and carries no words of ours', async () => {
      const schema = { type: 'object', properties: { sum: { type: 'integer' } }, required: ['sum'], additionalProperties: false }
      const talk = talkOf(`schema ${how}`, 'smaller', { model: OPUS, max_tokens: 2_000 })
      await talk.say('Hello.', { stream, headers: { 'x-fake-output-tokens': '300' } })
      const said = await talk.say('What is it?', { stream, params: { output_config: { format: { type: 'json_schema', schema } } } })
      assertFine(said)
      assert.equal(said.headers.get('x-farebox-rung'), 'DowngradeModel')
      assert.ok(Number.isInteger(JSON.parse(said.text).sum))
      const prose = await talk.say('Thanks.', { stream })
      assert.match(prose.text, new RegExp(`---\\n${NOTICE}$`))
    })

    test('a notice stands after the answer, once, and is taken out of the history that comes back', async () => {
      const told = { 'x-fake-content': 'In%20Rotterdam.' }
      const talk = talkOf(`notice ${how}`, 'smaller', { model: OPUS, max_tokens: 2_000 })
      await talk.say('Hello.', { stream, headers: { 'x-fake-output-tokens': '300' } })
      const said = await talk.say('Where is it?', { stream, headers: told })
      assertFine(said)
      assert.equal(said.text, `In Rotterdam.\n\n---\n${NOTICE}`)
      const next = await talk.say('And now?', { stream, headers: told })
      assert.equal(next.text, 'In Rotterdam.')
      assert.ok(seen.every(({ body }) => !body.toString().includes(NOTICE)))
      assert.equal(sent().model, HAIKU)
      await assertBooked(`notice ${how}`, 'smaller')
    })

    test('near the end tools are refused, and the model answers in words', async () => {
      const talk = talkOf(`no tools ${how}`, 'no-tools', { model: OPUS, max_tokens: 2_000, tools: [LOOK] })
      await talk.say('Hello.', { stream, headers: { 'x-fake-output-tokens': '300' } })
      const said = await talk.say('Where is it?', { stream, headers: { 'x-fake-tool-call': 'look_up' } })
      assertFine(said)
      assert.equal(said.headers.get('x-farebox-rung'), 'RefuseTools')
      assert.deepEqual([sent().tool_choice, sent().tools], [{ type: 'none' }, [LOOK]])
      assert.equal(said.message?.stop_reason, 'end_turn')
      const forced = await talk.say('Look!', { stream, params: { model: SONNET, tool_choice: { type: 'any' } } })
      assert.ok(forced.error instanceof PaymentRequiredError)
      assert.equal(forced.error.errorCode, 'tool_calls_refused')
    })

    test('at the cap the conversation is closed with words, or refused, in one attempt', async () => {
      for (const [name, status] of [
        ['closed', 200],
        ['refused', 402],
      ] as const) {
        const talk = talkOf(`${name} ${how}`, name)
        let said = await talk.say('Hello.', { stream, headers: { 'x-fake-output-tokens': '100' } })
        for (let turn = 0; turn < 20 && said.headers.get('x-farebox-rung') !== 'EndConversation'; turn++) {
          assertFine(said)
          said = await talk.say('Go on.', { stream, headers: { 'x-fake-output-tokens': '100' } })
        }
        assert.equal(said.headers.get('x-farebox-rung'), 'EndConversation')
        const before = talk.attempts()
        const upstream = seen.length
        const last = await talk.say('Once more.', { stream })
        assert.deepEqual([last.status, talk.attempts() - before, seen.length - upstream], [status, 1, 0])
        if (status === 200)
          assert.deepEqual([last.text, last.message?.stop_reason, last.message?.usage.output_tokens], [ENDED, 'end_turn', 0])
        else {
          assert.ok(last.error instanceof PaymentRequiredError)
          assert.deepEqual([last.error.type, last.error.errorCode], ['billing_error', 'conversation_budget_exhausted'])
          assert.ok(last.error.requestID !== null && last.error.requestID !== undefined)
        }
        // Words would break who expects JSON, or a call.
        const schema = { type: 'object', properties: {}, additionalProperties: false }
        const json = await talk.say('As JSON.', { stream, params: { output_config: { format: { type: 'json_schema', schema } } } })
        const forced = await talk.say('Call.', { stream, params: { tools: [LOOK], tool_choice: { type: 'any' } } })
        assert.deepEqual([json.status, forced.status, talk.attempts() - before], [402, 402, 3])
        await idle()
        assert.ok(provider.bill.totalNanoUsd(`${name} ${how}`) <= parseUsd('0.004'))
      }
    })

    for (const [what, window, label] of [
      ['leaves its oldest turns out', 'window', '[Earlier conversation left out: '],
      ['summarises', 'window-summary', '[Earlier conversation summarised by farebox: '],
    ] as const) {
      test(`30 turns of a model that checks what stands before its thinking, through a window that ${what}`, async () => {
        const talk = talkOf(`preserved ${window} ${how}`, window, { model: OPUS, max_tokens: 1_000, tools: [LOOK], system: 'Be kind.' })
        await lead(talk, stream)
        assert.ok(seen.some(({ body }) => body.includes(label)))
        assert.ok(countThinking() > 5, 'thinking goes along where it can')
        assertInWindow(OPUS)
        await assertBooked(`preserved ${window} ${how}`, window)
      })

      test(`30 turns of a model with a budget for thinking, through a window that ${what}`, async () => {
        const params: Params = { model: SONNET, max_tokens: 1_500, thinking: { type: 'enabled', budget_tokens: 1_024 }, tools: [LOOK] }
        const talk = talkOf(`budgeted ${window} ${how}`, window, params)
        await lead(talk, stream)
        assert.ok(seen.some(({ body }) => body.includes(label)))
        assertInWindow('claude-sonnet-4-5')
        await assertBooked(`budgeted ${window} ${how}`, window)
      })
    }
  })
}

/** 30 user turns, every third with a loop of two calls. */
async function lead(talk: ClaudeTalk, stream: boolean): Promise<void> {
  for (let turn = 1; turn <= 30; turn++) {
    const calls = turn % 3 === 0 ? { 'x-fake-tool-call': 'look_up' } : undefined
    const headers = { 'x-fake-output-tokens': '60', 'x-fake-reasoning-tokens': '50', ...calls }
    const said = await talk.say(`${turn}. ${QUESTION}`, { stream, headers })
    assertFine(said)
    if (calls === undefined) continue
    assertFine(await talk.answer('In Rotterdam.', { stream, headers }))
    assertFine(await talk.answer('In Delft.', { stream, headers: { 'x-fake-output-tokens': '60' } }))
  }
}

/** What a turn began with was within the window that the tier sells, as the provider counts it; a tool loop may go beyond it. */
function assertInWindow(model: string): void {
  const longest = Math.max(...provider.bill.lines().flatMap((line) => (line.model === model ? [line.promptTokens] : [])))
  assert.ok(longest > WINDOW_TOKENS / 3 && longest < WINDOW_TOKENS * 1.2, `${longest}`)
}

/** Requests of the turns that brought thinking along. */
function countThinking(): number {
  return seen.filter(({ body }) => body.includes('"type":"thinking"')).length
}

/** An app that marks its system prompt and the newest question for the cache, as the documentation says to: each mark is one of now. */
test('a mark that moves with each turn is never sent twice, whatever the question was rewritten to', async () => {
  const marked = { cache_control: { type: 'ephemeral' as const } }
  const talk = talkOf('marks', 'drop', { model: OPUS, max_tokens: 2_000, system: [{ type: 'text', text: 'Be kind.', ...marked }] })
  const marks: number[] = []
  for (let turn = 1; turn <= 7; turn++) {
    for (const { content } of talk.messages)
      if (typeof content !== 'string') for (const block of content) if ('cache_control' in block) delete block.cache_control
    const passage = `<context>${PASSAGE}</context>\n\nQuestion ${turn}?`
    assertFine(await talk.say([{ type: 'text', text: passage, ...marked }], { headers: { 'x-fake-output-tokens': '200' } }))
    marks.push(String(seen.at(-1)?.body).split('"cache_control":').length - 1)
  }
  assert.deepEqual(marks, [2, 2, 2, 2, 2, 2, 2])
  assert.ok(!seen.at(-1)?.body.includes(PASSAGE))
  await assertBooked('marks', 'drop')
})

describe('instructions in the middle of a conversation', () => {
  for (const window of ['window', 'window-summary'])
    test(`stand where the provider takes them, behind every cut: ${window}`, async () => {
      const { client } = talkOf(`instructions ${window}`, window)
      const messages: Anthropic.MessageParam[] = []
      let cuts = 0
      for (let turn = 1; turn <= 16; turn++) {
        messages.push({ role: 'user', content: `${turn}. ${QUESTION.repeat(2)}` })
        if (turn % 3 !== 0) messages.push({ role: 'system', content: `Permission mode is now ${turn}.` })
        const { content } = await client.messages.create(
          { model: OPUS, max_tokens: 1_000, messages },
          { headers: { 'x-fake-output-tokens': '60', 'x-fake-reasoning-tokens': '50' } },
        )
        messages.push({ role: 'assistant', content })
        await idle()
        const body = String(seen.findLast(({ path, body }) => path === '/v1/messages' && body.includes(OPUS))?.body)
        if (body.includes('[Earlier conversation ')) cuts += 1
        for (const { role, content: words } of messages)
          if (role === 'system') assert.ok(typeof words === 'string' && body.includes(`"${words}"`), 'none is lost')
      }
      assert.ok(cuts > 5, `${cuts}`)
      await assertBooked(`instructions ${window}`, window)
    })
})

describe('rungs that rewrite', () => {
  const retrieved: readonly [what: string, content: Anthropic.ContentBlockParam[]][] = [
    [
      'in blocks of search results',
      [
        { type: 'search_result', source: 'kb', title: 'A', content: [{ type: 'text', text: PASSAGE }] },
        { type: 'text', text: 'So?' },
      ],
    ],
    ['between tags', [{ type: 'text', text: `<context>${PASSAGE}</context>\n\nSo?` }]],
  ]
  for (const [what, content] of retrieved)
    test(`retrieved context goes, ${what}`, async () => {
      const talk = talkOf(`drop ${what}`, 'drop', { model: OPUS, max_tokens: 2_000 })
      await talk.say('Hello.', { headers: { 'x-fake-output-tokens': '300' } })
      const said = await talk.say(content)
      assertFine(said)
      assert.equal(said.headers.get('x-farebox-rung'), 'DropRetrieval')
      assert.ok(!seen.at(-1)?.body.includes(PASSAGE))
      assert.match(said.text, new RegExp(`${NOTICE}$`))
      for (const words of ['And then?', 'And after that?']) assertFine(await talk.say(words))
      assert.ok(!seen.at(-1)?.body.includes(PASSAGE))
      await assertBooked(`drop ${what}`, 'drop')
    })

  test('retrieved context goes from results of tools, and every call keeps its result', async () => {
    const talk = talkOf('drop results', 'drop', { model: OPUS, max_tokens: 2_000, tools: [LOOK] })
    await talk.say('Where?', { headers: { 'x-fake-tool-call': 'look_up' } })
    assertFine(await talk.answer(PASSAGE, { headers: { 'x-fake-output-tokens': '300' } }))
    assertFine(await talk.say('So?'))
    assert.ok(!seen.at(-1)?.body.includes(PASSAGE))
    assert.ok(seen.at(-1)?.body.includes('[retrieved context omitted: budget]'))
    assertFine(await talk.say('And then?'))
    await assertBooked('drop results', 'drop')
  })

  test('old turns give way to a summary, and the provider takes every request', async () => {
    const talk = talkOf('summary', 'summary', { model: OPUS, max_tokens: 2_000 })
    for (let turn = 1; turn <= 6; turn++) {
      assertFine(
        await talk.say(`${turn}. ${QUESTION.repeat(3)}`, { headers: { 'x-fake-output-tokens': '100', 'x-fake-reasoning-tokens': '40' } }),
      )
      await idle()
    }
    assert.ok(seen.some(({ body }) => body.includes('[Earlier conversation summarised by farebox')))
    const summaries = provider.bill.lines().filter((line) => line.model === HAIKU)
    assert.ok(summaries.length > 0)
    await assertBooked('summary', 'summary')
  })

  test('a smaller model gets what it takes: no thinking that it knows not', async () => {
    const talk = talkOf('smaller', 'smaller', { model: OPUS, max_tokens: 2_000, thinking: { type: 'adaptive' } })
    await talk.say('Hello.', { headers: { 'x-fake-output-tokens': '300' } })
    const said = await talk.say('And then?')
    assertFine(said)
    assert.deepEqual([sent().model, sent().thinking, said.message?.model], [HAIKU, undefined, 'claude-haiku-4-5-20251001'])
  })
})

describe('what bounds an answer', () => {
  test('max_tokens shrinks to what the money left pays for, and the thinking budget with it', async () => {
    const talk = talkOf('clamped', 'tight', { max_tokens: 8_000, thinking: { type: 'enabled', budget_tokens: 6_000 } })
    const said = await talk.say('Hello.', { headers: { 'x-fake-output-tokens': '7000', 'x-fake-reasoning-tokens': '500' } })
    assertFine(said)
    const { max_tokens: bound, thinking } = sent()
    assert.ok(bound < 8_000)
    assert.ok(thinking?.type === 'enabled' && thinking.budget_tokens <= bound - 256)
    assert.equal(said.message?.stop_reason, 'max_tokens')
    assert.equal(said.headers.get('x-farebox-max-output'), String(bound))
    assert.ok(provider.bill.totalNanoUsd() <= parseUsd('0.10'))
  })

  test('64 parallel calls on a budget of a few holds: not a nano-dollar above it, and most of it used', async () => {
    const outcomes = await Promise.all(
      Array.from({ length: 64 }, (_, call) =>
        talkOf('burst', 'tight', { max_tokens: 1_000 }).say(`Call ${call}.`, {
          stream: call % 2 === 0,
          headers: { 'x-fake-output-tokens': '150' },
        }),
      ),
    )
    await idle()
    const billed = provider.bill.totalNanoUsd('burst')
    assert.ok(billed <= parseUsd('0.10') && billed > parseUsd('0.08'), formatUsd(billed))
    assert.ok(outcomes.every(({ status }) => status === 200 || status === 402 || status === 503))
    assert.equal((await sidecar.standing('burst', '?tier=tight')).spent, formatUsd(billed))
  })

  test('what is written to the cache is held at the price of writing, for as long as it is to be kept', async () => {
    const affordable: number[] = []
    for (const mark of [
      {},
      { cache_control: { type: 'ephemeral' as const } },
      { cache_control: { type: 'ephemeral' as const, ttl: '1h' as const } },
    ]) {
      const talk = talkOf(`marked ${affordable.length}`, 'tight', { max_tokens: 20_000 })
      const said = await talk.say([{ type: 'text', text: QUESTION.repeat(20), ...mark }], { headers: { 'x-fake-output-tokens': '50' } })
      assertFine(said)
      affordable.push(Number(said.headers.get('x-farebox-max-output')))
    }
    const [plain = 0, short = 0, long = 0] = affordable
    // A quarter of the input's price more, and once its price more.
    assert.ok(plain > short && short > long)
    assert.ok(Math.abs((plain - long) / (plain - short) - 4) < 0.1, affordable.join(' '))
  })

  test('searches of the web are bounded by the request, and their fees are booked', async () => {
    const search: Anthropic.WebSearchTool20260318 = { type: 'web_search_20260318', name: 'web_search' }
    const talk = talkOf('search', 'plain', { tools: [search] })
    const headers = { 'x-fake-hosted-calls': Array.from({ length: 12 }, () => 'web_search').join(','), 'x-fake-hosted-result-tokens': '50' }
    await sidecar.adopt(configOf({ hostedTools: { maxCalls: 3, maxResultTokens: 500 } }))
    const said = await talk.say('What is new?', { headers })
    assertFine(said)
    assert.deepEqual(sent().tools, [{ ...search, max_uses: 3, allowed_callers: ['direct'] }])
    assert.equal(said.message?.usage.server_tool_use?.web_search_requests, 3)
    await assertBooked('search', 'plain')
    await sidecar.adopt(configOf())
  })

  test('a search that runs code is held for by all its readings, or kept from running any', async () => {
    const search: Anthropic.WebSearchTool20260318 = { type: 'web_search_20260318', name: 'web_search', max_uses: 1 }
    const params: Params = { model: 'claude-sonnet-4-6', max_tokens: 500, tools: [search], system: QUESTION.repeat(20) }
    const running = Array.from({ length: 10 }, (_, call) => (call === 0 ? 'web_search' : 'code_execution')).join(',')
    const headers = { 'x-fake-hosted-calls': running, 'x-fake-hosted-result-tokens': '50', 'x-fake-output-tokens': '100' }
    await sidecar.adopt(configOf({ hostedTools: { maxResultTokens: 500 } }))
    const free = await talkOf('filtering', 'searching', params).say('What is new?', { headers })
    assertFine(free)
    assert.deepEqual(sent().tools, [search])
    assert.equal(free.message?.content.filter(({ type }) => type === 'code_execution_tool_result').length, 9)
    await assertBooked('filtering', 'searching')

    provider.bill.clear()
    seen = []
    const talk = talkOf('direct', 'tight', params)
    for (const words of ['What is new?', 'And now?', 'And then?', 'What else?']) await talk.say(words, { headers })
    assert.deepEqual((JSON.parse(seen[0]?.body.toString() ?? '') as Params).tools, [{ ...search, allowed_callers: ['direct'] }])
    await idle()
    assert.ok(provider.bill.totalNanoUsd() <= parseUsd('0.10'), formatUsd(provider.bill.totalNanoUsd()))
    assert.equal((await sidecar.standing('direct', '?tier=tight')).spent, formatUsd(provider.bill.totalNanoUsd()))
    await sidecar.adopt(configOf())
  })

  test('a search among tools costs readings of the request alone, and has room in a small budget', async () => {
    const find: Anthropic.ToolSearchToolRegex20251119 = { type: 'tool_search_tool_regex_20251119', name: 'tool_search_tool_regex' }
    const deferred = Array.from({ length: 20 }, (_, index): Anthropic.Tool => ({ ...LOOK, name: `look_up_${index}`, defer_loading: true }))
    const talk = talkOf('finding', 'refusing', { model: 'claude-sonnet-4-6', tools: [find, ...deferred] })
    const said = await talk.say('Which lamp is out?', { headers: { 'x-fake-hosted-calls': 'tool_search_tool,tool_search_tool' } })
    assertFine(said)
    assert.equal(said.message?.content.filter(({ type }) => type === 'tool_search_tool_result').length, 2)
    await assertBooked('finding', 'refusing')
  })

  test('hosted tools for which no budget has enough are refused by name, and the conversation goes on without them', async () => {
    const code: Anthropic.CodeExecutionTool20260521 = { type: 'code_execution_20260521', name: 'code_execution' }
    const talk = talkOf('too dear', 'searching', { model: 'claude-sonnet-4-6' })
    const said = await talk.say('How much is it?', { params: { tools: [code] } })
    assert.ok(said.error instanceof PaymentRequiredError)
    assert.equal(said.error.errorCode, 'conversation_budget_exhausted')
    assert.match(said.error.message, /a whole budget does not pay for it/)
    assert.equal(seen.length, 0)
    assertFine(await talk.say('How much is it?', { params: { tools: [LOOK] } }))
    assert.equal((await talk.say('And now?', { params: { tools: [code] } })).status, 402)
    assertFine(await talk.say('And now?', { params: { tools: [LOOK] } }))
    const { rung, turns, alerts } = await sidecar.standing('too dear', '?tier=searching')
    assert.deepEqual([rung, turns, alerts], ['None', 2, []])
  })

  test('where the ladder refuses tools, it does so for the turn that has such, and the next has its own', async () => {
    const code: Anthropic.CodeExecutionTool20260521 = { type: 'code_execution_20260521', name: 'code_execution' }
    const talk = talkOf('for a turn', 'refusing', { model: 'claude-sonnet-4-6' })
    const said = await talk.say('How much is it?', { params: { tools: [code, LOOK] } })
    assertFine(said)
    assert.deepEqual([sent().tool_choice, said.headers.get('x-farebox-rung')], [{ type: 'none' }, 'RefuseTools'])
    const next = await talk.say('And now?', { params: { tools: [LOOK] }, headers: { 'x-fake-tool-call': 'look_up' } })
    assertFine(next)
    assert.deepEqual([next.calls.length, next.headers.get('x-farebox-rung')], [1, 'None'])
    await assertBooked('for a turn', 'refusing')
  })
})

describe('what else the API has', () => {
  test('counting tokens and listing models pass, and cost nothing', async () => {
    const { client } = talkOf('free', 'plain')
    const counted = await client.messages.countTokens({ model: SONNET, messages: [{ role: 'user', content: 'Hello.' }] })
    assert.ok(counted.input_tokens > 0)
    assert.ok((await client.models.list()).data.length > 0)
    assert.equal(provider.bill.lines().length, 0)
  })

  test('batches are refused by name', async () => {
    const { client } = talkOf('batch', 'plain')
    const request = { custom_id: 'a', params: { model: SONNET, max_tokens: 10, messages: [{ role: 'user' as const, content: 'Hello.' }] } }
    await assert.rejects(client.messages.batches.create({ requests: [request] }), (error) => {
      assert.ok(error instanceof PermissionDeniedError)
      assert.equal(error.errorCode, 'endpoint_not_governed')
      assert.match(error.apiMessage ?? '', /"batches" is not metered here/)
      return true
    })
    assert.equal(seen.length, 0)
  })

  test('the version may be left out of the path, as some SDKs do', async () => {
    const answer = await fetch(`${sidecar.url}/anthropic/messages`, {
      method: 'POST',
      headers: { 'x-api-key': 'test', 'anthropic-version': '2023-06-01', 'content-type': 'application/json' },
      body: JSON.stringify({ model: SONNET, max_tokens: 50, messages: [{ role: 'user', content: 'Hello.' }] }),
    })
    assert.equal(answer.status, 200)
    assert.equal(seen.at(-1)?.path, '/v1/messages')
  })

  test('a request that only fills the cache is booked, and answered with nothing', async () => {
    const talk = talkOf('warm', 'plain', { max_tokens: 0, cache_control: { type: 'ephemeral' } })
    const said = await talk.say(QUESTION.repeat(20))
    assertFine(said)
    assert.deepEqual([said.message?.content, said.message?.usage.output_tokens], [[], 0])
    assert.ok((said.message?.usage.cache_creation_input_tokens ?? 0) > 1_000)
    await assertBooked('warm', 'plain')
  })

  test('beta calls are the same call with a query', async () => {
    const { client } = talkOf('beta', 'plain')
    const said = await client.beta.messages.create({ model: OPUS, max_tokens: 500, messages: [{ role: 'user', content: 'Hello.' }] })
    assert.ok(said.content.length > 0)
    await assertBooked('beta', 'plain')
  })

  test('what only the provider knows is refused: threads, and servers that it calls', async () => {
    const { client } = talkOf('unknown', 'plain')
    const mcp = { mcp_servers: [{ type: 'url' as const, url: 'https://example.com/mcp', name: 'x' }] }
    const call = client.beta.messages.create({ model: OPUS, max_tokens: 500, messages: [{ role: 'user', content: 'Hello.' }], ...mcp })
    await assert.rejects(call, (error) => error instanceof PermissionDeniedError && error.errorCode === 'endpoint_not_governed')
    const thread = client.beta.messages.thread({ model: OPUS, max_tokens: 500 })
    await assert.rejects(
      async () => await thread.send([{ role: 'user', content: 'Hello.' }]),
      (error) => error instanceof BadRequestError && error.errorCode === 'thread_unsupported_request',
    )
    assert.equal(seen.length, 0)
  })

  test('a user that the metadata name is the user of the conversation', async () => {
    const talk = talkOf('user', 'plain', { metadata: { user_id: 'ann' } })
    assertFine(await talk.say('Hello.'))
    const other = await talk.say('Hello.', { params: { metadata: { user_id: 'bob' } } })
    assert.ok(other.error instanceof PermissionDeniedError)
    assert.equal(other.error.errorCode, 'identity_rejected')
  })

  test('a conversation without a name is found by its history, streamed or not, marked for the cache or not', async () => {
    const unnamed = startClaudeTalk(sidecar, { 'x-farebox-tier': 'plain' }, { model: OPUS, max_tokens: 2_000, tools: [LOOK] })
    const ids = new Set<string | null>()
    const hello: Anthropic.ContentBlockParam[] = [{ type: 'text', text: 'Hello, I am new here.', cache_control: { type: 'ephemeral' } }]
    for (const [content, stream] of [
      [hello, false],
      ['And then?', true],
    ] as const) {
      const said = await unnamed.say(content, { stream, headers: { 'x-fake-tool-call': 'look_up' } })
      assertFine(said)
      ids.add(said.headers.get('x-farebox-conversation'))
      unnamed.messages[0] = { role: 'user', content: 'Hello, I am new here.' }
      const next = await unnamed.answer('In Rotterdam.', { stream })
      assertFine(next)
      ids.add(next.headers.get('x-farebox-conversation'))
    }
    assert.equal(ids.size, 1)
  })

  test('errors of the provider arrive as they are', async () => {
    const talk = talkOf('errors', 'plain')
    const unknown = await talk.say('Hello.', { params: { model: 'claude-none' } })
    assert.deepEqual([unknown.status, unknown.error?.type], [404, 'not_found_error'])
    const strict = await talk.say('Hello.', { params: { tools: [LOOK, LOOK] } })
    assert.match(strict.error?.apiMessage ?? '', /Tool names must be unique/)
    assert.equal((await sidecar.standing('errors', '?tier=plain')).spent, '0.00')
  })

  test('a history that the app itself broke is tried once more as it is, and then the provider says so', async () => {
    const talk = talkOf('broken', 'drop', { model: OPUS, max_tokens: 2_000 })
    const thinking = { 'x-fake-output-tokens': '300', 'x-fake-reasoning-tokens': '50' }
    assertFine(await talk.say('Hello.', { headers: thinking, params: { system: 'Be kind.' } }))
    const said = await talk.say(`<context>${PASSAGE}</context>\n\nSo?`, { params: { system: 'Be rude.' } })
    assert.equal(said.status, 400)
    assert.match(said.error?.apiMessage ?? '', /bound to a different conversation/)
    const tries = seen.slice(-2).map(({ body }) => body.includes(PASSAGE))
    assert.deepEqual([seen.length, tries], [3, [false, true]])
    const again = await talk.say(`<context>${PASSAGE}</context>\n\nSo?`, { params: { system: 'Be rude.' } })
    assert.equal(again.status, 400)
    assert.equal(seen.length, 4, 'once in a conversation')
    assertFine(await talk.say('And this?', { params: { system: 'Be kind.' } }))
    assert.equal((await talk.say('So?', { params: { system: 'Be rude.' } })).status, 400)
    assert.equal(seen.length, 7, 'and again once it was answered')
  })

  for (const [what, headers, modes = [false, true]] of [
    ['without usage', { 'x-fake-usage': 'omit' }],
    ['that breaks off', { 'x-fake-cut-after-tokens': '60' }],
    ['that breaks off in the middle of an event', { 'x-fake-cut-after-tokens': '60', 'x-fake-cut-mid-chunk': 'true' }],
    ['that fails on its way', { 'x-fake-error-after-tokens': '60' }, [true]], // in one piece it is no answer, but an error: not billed
  ] as const)
    test(`an answer ${what} costs no less in the books than at the provider`, async () => {
      for (const stream of modes) {
        const talk = talkOf(`${what} ${stream}`, 'plain', { model: OPUS, max_tokens: 2_000 })
        talk.client.maxRetries = 0
        const call = talk.say(QUESTION, { stream, headers: { 'x-fake-output-tokens': '300', 'x-fake-reasoning-tokens': '80', ...headers } })
        await call.catch(() => undefined) // how the client sees it is its own affair
        await idle()
        const billed = provider.bill.totalNanoUsd(`${what} ${stream}`)
        const { spent, held } = await sidecar.standing(`${what} ${stream}`, '?tier=plain')
        assert.ok(billed > 0n && parseUsd(spent) >= billed, `${spent} for ${formatUsd(billed)}`)
        assert.equal(held, '0.00')
      }
    })

  test('a stream that the client leaves is settled by its counted input and what was seen', async () => {
    const talk = talkOf('left', 'plain')
    const stream = talk.client.messages.stream(
      { model: SONNET, max_tokens: 4_000, messages: [{ role: 'user', content: QUESTION.repeat(20) }] },
      { headers: { 'x-fake-output-tokens': '4000', 'x-fake-token-delay-ms': '4' } },
    )
    let pieces = 0
    stream.on('text', () => {
      pieces += 1
      if (pieces === 20) stream.abort()
    })
    await assert.rejects(stream.finalMessage())
    await idle()
    const [line] = provider.bill.lines()
    const spent = parseUsd((await sidecar.standing('left', '?tier=plain')).spent)
    assert.ok(line?.state === 'aborted' && line.nanoUsd <= spent)
    const outputs = Number((spent - BigInt(line.promptTokens) * 3_000n) / 15_000n)
    assert.ok(outputs < 4_000, `${outputs} output tokens for ${line.outputTokens}`)
  })
})
