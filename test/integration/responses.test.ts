/** OpenAI's Responses API through a real sidecar: metered to the nano-dollar, its history where the app wants it, and never over the cap. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { PriceEntrySchema } from '@farebox/crds/price-entry.ts'
import type { Contract, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import type { Standing } from '@farebox/sidecar/core/standing.ts'
import OpenAI, { APIError } from 'openai'
import type {
  Response,
  ResponseCreateParamsNonStreaming,
  ResponseInputImage,
  ResponseInputItem,
  ResponseStreamEvent,
  Tool,
} from 'openai/resources/responses/responses'
import type { Reasoning } from 'openai/resources/shared'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import type { Random } from '../provider/random.ts'
import { randomOf } from '../provider/random.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

type Headers = Readonly<Record<string, string>>

const NOTICE = 'From here on this chat goes on with a smaller model.'
const CLOSING = 'This chat has come to its end.'
const FRAME = '\n\n---\n'
const LONG = 'All of this was said before, word for word. '.repeat(120)
const LOOK_UP: Tool = {
  type: 'function',
  name: 'look_up',
  strict: null,
  parameters: { type: 'object', properties: { id: { type: 'string' } } },
}
const SEARCH_DOCS: Tool = { type: 'function', name: 'search_docs', strict: null, parameters: { type: 'object', properties: {} } }
const WEB: Tool = { type: 'web_search' }
/** Who asks for no previews pays less for a search than the catalogue says, which cannot tell. */
const NO_PREVIEWS = PriceEntrySchema.parse({ provider: 'openai', model: 'gpt-4o', toolFees: { webSearch: '0.01' } })

/** A model that bills what it writes to its cache. */
const CACHING = {
  id: 'gpt-5.6-luna',
  tokenPercent: 100,
  reasoning: true,
  contextTokens: 1_050_000,
  maxOutputTokens: 128_000,
  price: { input: '0.20', cachedInput: '0.02', cacheWriteInput: '0.25', cacheWriteLongInput: '0.40', output: '1.20' },
  tiers: {},
}

/** Goes to a model that costs a sixteenth a token, and counts a picture as 33 times as many. */
const seeing = (tier: string, amount: string, atPercent: number): Contract =>
  makeContract({
    tier,
    caps: { perConversation: amount },
    models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }] },
    ladder: [
      { atPercent, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
    ],
    notices: { mode: 'Inline', texts: { DowngradeModel: { en: NOTICE } } },
  })

const CONTRACTS: readonly Contract[] = [
  makeContract({ tier: 'pro' }),
  makeContract({ tier: 'rich', caps: { perConversation: '20.00' } }),
  makeContract({ tier: 'middling', caps: { perConversation: '2.00' } }),
  makeContract({
    tier: 'spoken',
    models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }] },
    ladder: [
      { atPercent: 1, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation', end: 'Close' },
    ],
    notices: { mode: 'Inline', texts: { DowngradeModel: { en: NOTICE }, End: { en: CLOSING } } },
  }),
  makeContract({
    tier: 'tight',
    caps: { perConversation: '0.02' },
    context: { overflow: 'DropOldest', keepRecentTurns: 1 },
    models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }], summarizer: 'gpt-4o-mini', usefulOutputTokens: 50 },
    ladder: [
      { atPercent: 20, rung: 'DropRetrieval' },
      { atPercent: 30, rung: 'Summarize' },
      { atPercent: 60, rung: 'DowngradeModel' },
      { atPercent: 80, rung: 'RefuseTools' },
      { atPercent: 100, rung: 'EndConversation', end: 'Close' },
    ],
    notices: { mode: 'Inline', texts: { Summarize: { en: NOTICE }, DropRetrieval: { en: NOTICE }, End: { en: CLOSING } } },
  }),
  makeContract({
    tier: 'climbing',
    caps: { perConversation: '0.06' },
    context: { overflow: 'DropOldest', keepRecentTurns: 1 },
    models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }], summarizer: 'gpt-4o-mini', usefulOutputTokens: 50 },
    ladder: [
      { atPercent: 10, rung: 'DropRetrieval' },
      { atPercent: 40, rung: 'Summarize' },
      { atPercent: 60, rung: 'DowngradeModel' },
      { atPercent: 80, rung: 'RefuseTools' },
      { atPercent: 100, rung: 'EndConversation', end: 'Close' },
    ],
    notices: { mode: 'Inline', texts: { Summarize: { en: NOTICE }, DropRetrieval: { en: NOTICE }, End: { en: CLOSING } } },
  }),
  makeContract({
    tier: 'summed-up',
    caps: { perConversation: '1.00' },
    context: { overflow: 'DropOldest', keepRecentTurns: 1 },
    models: { allow: [], downgrades: [], summarizer: 'gpt-4o-mini' },
    ladder: [
      { atPercent: 0, rung: 'Summarize' },
      { atPercent: 100, rung: 'EndConversation', end: 'Close' },
    ],
  }),
  makeContract({
    tier: 'renewed',
    caps: { perConversation: '0.02', perUser: { amount: '1.00', period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } } },
    ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }],
    sessions: { resetAt: 'Immediately', recap: 'None', maxResets: 3, memory: { mode: 'None', retentionMs: 0 } },
  }),
  makeContract({
    tier: 'rethinking',
    caps: { perConversation: '0.088' },
    ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Refuse' }],
  }),
  makeContract({ tier: 'tiny', caps: { perConversation: '0.004' }, models: { allow: [], downgrades: [], usefulOutputTokens: 20 } }),
  makeContract({
    tier: 'refusing',
    caps: { perConversation: '2.00' },
    ladder: [
      { atPercent: 0, rung: 'RefuseTools' },
      { atPercent: 100, rung: 'EndConversation', end: 'Close' },
    ],
  }),
  seeing('seeing', '0.02', 10),
  seeing('seeing-long', '5.00', 0),
  makeContract({ tier: 'windowed', context: { windowTokens: 2_500, overflow: 'DropOldest', keepRecentTurns: 1 } }),
]

let provider: Provider
let sidecar: Sidecar
let seen: SeenRequest[] = []
before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request), models: [CACHING] })
  const retrieval = { toolNames: ['search_*'], tags: ['context'] }
  sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, CONTRACTS, { retrieval, prices: [NO_PREVIEWS] }))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(() => {
  seen = []
})

describe('a turn', () => {
  test('plain and streamed is entered at what the provider bills, and goes out byte for byte but for its bound', async () => {
    const headers = named('plain')
    const plain = await create(headers, { input: 'How are you?', max_output_tokens: 100 })
    assert.ok(plain.output_text.length > 0)
    assert.equal(bodyOf(seen[0])['max_output_tokens'], 100)
    const events = await stream(headers, { input: 'And you?' })
    assert.equal(events.at(-1)?.type, 'response.completed')
    assert.deepEqual(
      events.map((event) => event.sequence_number),
      events.map((_, index) => index),
    )
    await assertExact('plain')
  })

  test('that thinks, and one that writes to the cache, is entered at what the provider bills', async () => {
    const headers = named('thinks')
    for (const ttl of ['12h', '30m'] as const)
      await create(headers, { model: CACHING.id, input: LONG + ttl, prompt_cache_options: { ttl }, reasoning: { effort: 'high' } })
    await create(headers, { model: CACHING.id, input: `${LONG}12h${LONG}` })
    await assertExact('thinks')
    assert.ok(provider.bill.lines('thinks').some((line) => line.cacheWriteLongTokens > 0))
    assert.ok(provider.bill.lines('thinks').some((line) => line.cachedTokens > 0))
  })

  test('with tools: the loop of calls and outputs goes through, with the reasoning between them', async () => {
    const headers = named('loop')
    const tools = [LOOK_UP]
    const input: ResponseInputItem[] = [{ role: 'user', content: 'Where is order 17?' }]
    const called = await create(
      { ...headers, 'x-fake-tool-call': 'look_up', 'x-fake-reasoning-tokens': '64' },
      { model: 'gpt-5-mini', input, tools },
    )
    assert.deepEqual(
      called.output.map((item) => item.type),
      ['reasoning', 'function_call'],
    )
    input.push(...itemsOf(called), outputFor(called, 'In Rotterdam.'))
    const answered = await create(headers, { model: 'gpt-5-mini', input, tools })
    assert.ok(answered.output_text.length > 0)
    input.push(...itemsOf(answered), { role: 'user', content: 'And order 18?' })
    await create(headers, { model: 'gpt-5-mini', input, tools })
    await assertExact('loop')
  })

  test('of structured output is parsed by the client, and carries no notice', async () => {
    const client = clientFor(named('structured', 'spoken'))
    await client.responses.create({ model: 'gpt-4o', input: 'Hello.' }, { headers: { 'x-fake-output-tokens': '700' } })
    const schema = { type: 'object', properties: { open: { type: 'boolean' } }, required: ['open'], additionalProperties: false }
    const format = { type: 'json_schema' as const, name: 'place', schema, strict: true }
    const parsed: { readonly output_parsed: { readonly open?: unknown } | null } = await client.responses.parse({
      model: 'gpt-4o',
      input: 'Where?',
      text: { format },
    })
    assert.equal(typeof parsed.output_parsed?.open, 'boolean')
    await assertExact('structured', 'spoken')
  })

  test('whose client leaves is charged for what it may have cost', async () => {
    const client = clientFor({ ...named('left'), 'x-fake-output-tokens': '3000', 'x-fake-token-delay-ms': '1' })
    const events = await client.responses.create({ model: 'gpt-4o', input: 'Tell me everything.', stream: true })
    for await (const event of events) if (event.type === 'response.output_text.delta' && event.sequence_number > 40) break
    await provider.settled()
    await sidecar.idle()
    const { spent } = await sidecar.standing('left', '?tier=pro')
    assert.ok(parseUsd(spent) >= provider.bill.totalNanoUsd('left'), `${spent} of ${formatUsd(provider.bill.totalNanoUsd('left'))}`)
  })
})

describe('history that the provider keeps', () => {
  test('chains of responses are one conversation, without an id of its own, and each is entered exactly', async () => {
    const headers = { 'x-fake-tag': 'chained' }
    const client = clientFor(headers)
    let previous: string | null = null
    const conversations = new Set<string | null>()
    for (let turn = 0; turn < 5; turn += 1) {
      const { data, response } = await client.responses
        .create({ model: 'gpt-4o', input: `Question ${turn}: ${LONG}`, previous_response_id: previous })
        .withResponse()
      conversations.add(response.headers.get('x-farebox-conversation'))
      previous = data.id
    }
    assert.equal(conversations.size, 1)
    await provider.settled()
    const asked = seen.filter(({ path }) => path === '/v1/responses/input_tokens')
    assert.equal(asked.length, 0, 'each turn starts from the exact count of the one before')
    const inputs = provider.bill.lines('chained').map((line) => line.promptTokens)
    assert.ok(inputs.every((tokens, index) => index === 0 || tokens > (inputs[index - 1] ?? 0)))
  })

  test('is counted anew where it is to be read otherwise than it was', async () => {
    const headers = { ...named('thoughts', 'rich'), 'x-fake-reasoning-tokens': '2000' }
    const ask = (input: string, previous: string | null, reasoning: Reasoning): Promise<Response> =>
      create(headers, { model: 'gpt-5-mini', input, previous_response_id: previous, reasoning })
    const first = await ask('Think.', null, { context: 'current_turn' })
    const second = await ask('And again.', first.id, { context: 'current_turn', effort: 'high' })
    assert.equal(seen.filter(({ path }) => path === '/v1/responses/input_tokens').length, 0)
    const third = await ask('All of it.', second.id, { context: 'all_turns', effort: 'high' })
    const fourth = await ask('Once more.', third.id, { context: 'all_turns' })
    await ask('Truncated.', fourth.id, { context: 'all_turns' })
    assert.equal(seen.filter(({ path }) => path === '/v1/responses/input_tokens').length, 1)
    await create(headers, {
      model: 'gpt-5-mini',
      input: 'Cut.',
      previous_response_id: fourth.id,
      reasoning: { context: 'all_turns' },
      truncation: 'auto',
    })
    assert.equal(seen.filter(({ path }) => path === '/v1/responses/input_tokens').length, 2)
    const inputs = provider.bill.lines('thoughts').map((line) => line.promptTokens)
    assert.ok((inputs[1] ?? 0) < 2_000 && (inputs[2] ?? 0) > 4_000, inputs.join())
    await assertExact('thoughts', 'rich')
  })

  test('and stays within the cap with all that is read again', async () => {
    const headers = { ...named('rethought', 'rethinking'), 'x-fake-reasoning-tokens': '10000', 'x-fake-output-tokens': '20' }
    let previous: string | null = null
    for (let turn = 0; turn < 4; turn += 1)
      previous = (
        await create(headers, {
          model: 'gpt-5-mini',
          input: 'Think.',
          previous_response_id: previous,
          max_output_tokens: 10_100,
          reasoning: { context: 'current_turn' },
        })
      ).id
    const params = { model: 'gpt-5-mini', input: 'All of it.', previous_response_id: previous, max_output_tokens: 16 }
    const refused = await refusal(headers, { ...params, reasoning: { context: 'all_turns' } })
    assert.equal(refused.code, 'conversation_budget_exhausted')
    await assertExact('rethought', 'rethinking')
  })

  test('a branch is in the conversation of its root, and is counted by the provider first', async () => {
    const headers = named('branched')
    const first = await create(headers, { input: LONG })
    const second = await create({ 'x-fake-tag': 'branched' }, { input: 'And then?', previous_response_id: first.id })
    await create({ 'x-fake-tag': 'branched' }, { input: 'Once more.', previous_response_id: second.id })
    await create({ 'x-fake-tag': 'branched' }, { input: 'Or else?', previous_response_id: first.id })
    assert.equal(seen.filter(({ path }) => path === '/v1/responses/input_tokens').length, 1)
    await assertExact('branched')
  })

  test('nobody goes on from what the provider keeps of another user, by whatever name', async () => {
    const asks = (user: string, more: Headers = {}): Headers => ({ 'x-farebox-user': user, 'x-fake-tag': 'of-ann', ...more })
    const own: Headers = { 'x-farebox-conversation': 'of-the-other' }
    const first = await create(asks('ann'), { input: LONG })
    const bound = { input: 'What was said?', conversation: (await clientFor({}).conversations.create()).id }
    await create(asks('ann', named('ann-1')), bound)
    const item: ResponseInputItem = { type: 'item_reference', id: first.output[0]?.id ?? '' }
    seen = []
    const tries: readonly (readonly [Headers, Params])[] = [
      [asks('ben'), { input: 'And?', previous_response_id: first.id }],
      [asks('ben', own), { input: 'And?', previous_response_id: first.id }],
      [asks('ben', { ...own, 'x-farebox-tier': 'rich' }), { input: 'And?', previous_response_id: first.id }],
      [asks('ben', own), { input: [item, { role: 'user', content: 'And?' }] }],
      [asks('ben', own), bound],
    ]
    for (const [headers, params] of tries) {
      const refused = await refusal(headers, params)
      assert.deepEqual([refused.status, refused.code], [403, 'identity_rejected'])
    }
    assert.equal(seen.length, 0)
    await create(asks('ann', own), { input: 'And?', previous_response_id: first.id })
  })

  test('a response from elsewhere is counted by the provider before it is held for', async () => {
    const direct = new OpenAI({ baseURL: `${provider.url}/v1`, apiKey: 'test' })
    const elsewhere = await direct.responses.create({ model: 'gpt-4o', input: LONG.repeat(4) })
    const before = provider.bill.lines().length
    await create(named('adopted'), { input: 'Go on.', previous_response_id: elsewhere.id })
    const counted = seen.find(({ path }) => path === '/v1/responses/input_tokens')
    assert.deepEqual(Object.keys(bodyOf(counted)).toSorted(), ['input', 'model', 'previous_response_id'])
    assert.equal(provider.bill.lines().length, before + 1, 'counting costs nothing')
    await assertExact('adopted')
    // Too long for this tier: told at once, and nothing was spent.
    const refused = await refusal(named('too-long', 'tiny'), { input: 'Go on.', previous_response_id: elsewhere.id })
    assert.deepEqual([refused.status, refused.code], [402, 'conversation_budget_exhausted'])
    assert.equal(provider.bill.totalNanoUsd('too-long'), 0n)
  })

  test('where the provider cannot count, it is asked once more, and then a whole context is held for', async () => {
    const direct = new OpenAI({ baseURL: `${provider.url}/v1`, apiKey: 'test' })
    const elsewhere = await direct.responses.create({ model: 'gpt-4o', input: 'Hello.' })
    const params = { input: 'Go on.', previous_response_id: elsewhere.id }
    await create({ ...named('counted-again', 'tiny'), 'x-fake-status': '503', 'x-fake-status-times': '1' }, params)
    await assertExact('counted-again', 'tiny')
    const refused = await refusal({ ...named('uncounted', 'tiny'), 'x-fake-status': '503', 'x-fake-status-times': '2' }, params)
    assert.equal(refused.code, 'conversation_budget_exhausted')
    await create({ ...named('uncounted-rich', 'rich'), 'x-fake-status': '503', 'x-fake-status-times': '2' }, params)
    await assertExact('uncounted-rich', 'rich')
  })

  test('a response that the provider does not know is refused in its own words, and the conversation lives on', async () => {
    const headers = named('unknown')
    const refused = await refusal(headers, { input: 'Go on.', previous_response_id: 'resp_0123456789abcdef' })
    assert.deepEqual([refused.status, refused.code], [400, 'previous_response_not_found'])
    await create(headers, { input: 'Then anew.' })
    await assertExact('unknown')
  })

  test('a conversation of the provider is one of ours, and is counted before each turn', async () => {
    const client = clientFor({ 'x-fake-tag': 'kept' })
    const conversation = await client.conversations.create({ items: [{ role: 'user', content: LONG }] })
    const ids = new Set<string | null>()
    for (const input of ['First.', 'Second.', 'Third.']) {
      const { response } = await client.responses.create({ model: 'gpt-4o', input, conversation: conversation.id }).withResponse()
      ids.add(response.headers.get('x-farebox-conversation'))
    }
    assert.equal(ids.size, 1)
    assert.equal(seen.filter(({ path }) => path === '/v1/responses/input_tokens').length, 3)
    const standing = await sidecar.standing(conversation.id, '?tier=pro')
    await provider.settled()
    assert.equal(parseUsd(standing.spent), provider.bill.totalNanoUsd('kept'))
  })

  test('it stays within the cap, turn after turn, to the last', async () => {
    const client = clientFor(named('to-the-end', 'tiny'))
    let previous: string | null = null
    let refused: APIError | null = null
    for (let turn = 0; turn < 40 && refused === null; turn += 1) {
      try {
        const answer: Response = await client.responses.create({
          model: 'gpt-4o',
          input: `Go on, ${turn}.`,
          previous_response_id: previous,
        })
        previous = answer.id
      } catch (error) {
        assert.ok(error instanceof APIError)
        refused = error
      }
    }
    assert.equal(refused?.status, 402)
    await provider.settled()
    assert.ok(provider.bill.totalNanoUsd('to-the-end') <= parseUsd('0.004'))
    assert.ok(provider.bill.totalNanoUsd('to-the-end') >= parseUsd('0.003'), 'and most of it was used')
    await assertExact('to-the-end', 'tiny')
  })

  test('rungs that rewrite say that it is not theirs, and what is new is shortened all the same', async () => {
    const headers = named('not-ours', 'tight')
    const first = await create(headers, { input: LONG.repeat(2) })
    const passage = 'A passage that was looked up and is long enough to be worth leaving out. '.repeat(10)
    await create(headers, { input: `<context>${passage}</context> What does it say?`, previous_response_id: first.id })
    const sent = bodyOf(seen.at(-1))
    assert.ok(!JSON.stringify(sent['input']).includes('A passage that was looked up'))
    await create({ ...headers, 'x-fake-output-tokens': '400' }, { input: 'Go on.', previous_response_id: first.id })
    await create(headers, { input: 'Go on.', previous_response_id: first.id })
    const metrics = await sidecar.metrics()
    assert.match(metrics, /farebox_rung_skipped_total\{rung="Summarize",reason="serverHistory"\} [1-9]/)
    await assertExact('not-ours', 'tight')
  })
})

describe('stateless history', () => {
  test('without any id is one conversation, however the app sends it back', async () => {
    const headers = { 'x-fake-tag': 'stateless', 'x-fake-reasoning-tokens': '64' }
    const client = clientFor(headers)
    const input: ResponseInputItem[] = [{ role: 'user', content: 'Hello there, for the very first time.' }]
    const ids = new Set<string | null>()
    for (let turn = 0; turn < 4; turn += 1) {
      const { data, response } = await client.responses
        .create({ model: 'gpt-5-mini', input, store: false, include: ['reasoning.encrypted_content'] })
        .withResponse()
      ids.add(response.headers.get('x-farebox-conversation'))
      // Every other turn the app keeps nothing but the words.
      if (turn % 2 === 0) input.push(...itemsOf(data))
      else input.push({ role: 'assistant', content: data.output_text })
      input.push({ role: 'user', content: `Question ${turn}.` })
    }
    assert.equal(ids.size, 1)
    await provider.settled()
  })

  test('climbs the ladder without one refusal by the provider, and ends in words, within its budget', async () => {
    const client = clientFor({ ...named('climbs', 'climbing'), 'x-fake-reasoning-tokens': '30' })
    const tools = [SEARCH_DOCS]
    const input: ResponseInputItem[] = [{ role: 'developer', content: 'Be brief.' }]
    const rungs = new Set<string>()
    let last: Response | null = null
    for (let turn = 0; turn < 150 && last === null; turn += 1) {
      input.push({ role: 'user', content: `Question ${turn}: what do the documents say of opening hours in winter?` })
      const called = await answered(client, { model: 'gpt-4o', input, tools }, { 'x-fake-tool-call': 'search_docs' })
      rungs.add(called.rung)
      if (called.isSynthetic) last = called.data
      else {
        input.push(...itemsOf(called.data))
        if (!called.data.output.some((item) => item.type === 'function_call')) continue
        input.push(outputFor(called.data, 'Passage: the shop is open from nine to five, also in winter. '.repeat(12)))
        const spoken = await answered(client, { model: 'gpt-4o', input, tools })
        rungs.add(spoken.rung)
        if (spoken.isSynthetic) last = spoken.data
        else input.push(...itemsOf(spoken.data))
      }
    }
    assert.equal(last?.output_text, CLOSING)
    for (const rung of ['DropRetrieval', 'Summarize', 'DowngradeModel', 'RefuseTools'])
      assert.ok(rungs.has(rung), `${rung} in ${[...rungs].join(', ')}`)
    await provider.settled()
    await sidecar.idle()
    const billed = provider.bill.totalNanoUsd('climbs')
    const { spent } = await sidecar.standing('climbs', '?tier=climbing')
    assert.ok(billed <= parseUsd(spent) && parseUsd(spent) <= parseUsd('0.06'), `${formatUsd(billed)} billed, ${spent} entered`)
    const summaries = seen.filter(({ path, headers }) => path === '/v1/responses' && headers['x-fake-tag'] === undefined)
    assert.ok(summaries.length > 0, 'summaries are calls of the same kind')
    assert.ok(
      seen.some(({ body }) => body.includes('Earlier conversation summari')),
      'and stand where the turns stood',
    )
  })

  test('by references is one conversation too', async () => {
    const client = clientFor({ 'x-fake-tag': 'referred' })
    const input = user('A beginning that nobody else has.')
    const ids = new Set<string | null>()
    for (let turn = 0; turn < 3; turn += 1) {
      const { data, response } = await client.responses.create({ model: 'gpt-4o', input }).withResponse()
      ids.add(response.headers.get('x-farebox-conversation'))
      for (const item of data.output) input.push({ type: 'item_reference', id: item.id ?? '' })
      input.push(...user(`Question ${turn}.`))
    }
    assert.equal(ids.size, 1)
  })

  test('by references has no summary, which would lose all that was answered, and says why; by its words it has one', async () => {
    const talkOf = async (id: string, sentBack: (answer: Response) => ResponseInputItem[]): Promise<string> => {
      const client = clientFor({ ...named(id, 'summed-up'), 'x-fake-output-tokens': '200' })
      const input: ResponseInputItem[] = []
      seen = []
      for (let turn = 0; turn < 5; turn += 1) {
        input.push(...user(`Question ${turn}: ${LONG}`))
        input.push(...sentBack(await client.responses.create({ model: 'gpt-4o', input })))
        await sidecar.idle()
      }
      return seen
        .filter(({ path }) => path === '/v1/responses')
        .map(({ body }) => body.toString())
        .join('\n')
    }
    const skipped = async (): Promise<number> =>
      Number(/farebox_rung_skipped_total\{rung="Summarize",reason="serverHistory"\} (\d+)/.exec(await sidecar.metrics())?.[1] ?? 0)
    const before = await skipped()
    const byName = await talkOf('summed up by name', ({ output }) => output.map(({ id }) => ({ type: 'item_reference', id: id ?? '' })))
    assert.doesNotMatch(byName, /Summarise the transcript|summarised by farebox/)
    assert.ok((await skipped()) > before)
    const said = await talkOf('summed up by word', itemsOf)
    assert.match(said, /Summarise the transcript/)
    assert.match(said, /summarised by farebox/)
  })

  test('what is only named is counted by the provider first', async () => {
    const headers = { ...named('only-named'), 'x-fake-reasoning-tokens': '500' }
    const first = await create(headers, { model: 'gpt-5-mini', input: 'Think.' })
    seen = []
    await create(headers, { model: 'gpt-5-mini', input: [...user('Think.'), ...itemsOf(first), ...user('Again.')] })
    assert.equal(seen[0]?.path, '/v1/responses/input_tokens')
    await assertExact('only-named')
  })

  test('the window of a tier leaves out the oldest turns', async () => {
    const headers = named('windowed', 'windowed')
    const first = await create(headers, { input: LONG })
    await create(headers, { input: [...user(LONG), ...itemsOf(first), ...user(`Now: ${LONG}`)] })
    const sent = JSON.stringify(bodyOf(seen.at(-1))['input'])
    assert.ok(sent.includes('Now: ') && sent.includes('Earlier conversation left out'), sent)
    assert.equal(sent.split('Now: ').length, 2)
    assert.ok(sent.length < LONG.length * 1.5)
    await assertExact('windowed', 'windowed')
  })
})

describe('built-in tools', () => {
  test('are held for whole contexts, bounded at the provider, and entered with their fees', async () => {
    const headers = {
      ...named('searching', 'rich'),
      'x-fake-hosted-calls': 'web_search,web_search,file_search',
      'x-fake-hosted-result-tokens': '900',
    }
    const tools: Tool[] = [WEB, { type: 'file_search', vector_store_ids: ['vs_1'] }]
    const plain = await create(headers, { input: LONG, tools })
    assert.equal(plain.output.length, 4)
    assert.equal(bodyOf(seen[0])['max_tool_calls'], 10)
    const events = await stream(headers, { input: LONG, tools, max_tool_calls: 1 })
    assert.equal(bodyOf(seen.at(-1))['max_tool_calls'], 1)
    assert.ok(events.some((event) => event.type === 'response.web_search_call.completed'))
    await assertExact('searching', 'rich')
  })

  test('do not fit a small budget as they are, but do where the owner bounds them', async () => {
    const refused = await refusal(named('unbounded'), { input: 'Search.', tools: [WEB] })
    assert.equal(refused.code, 'conversation_budget_exhausted')
    const config = makeConfig(`${provider.url}/v1`, CONTRACTS, {
      hostedTools: { maxCalls: 2, maxResultTokens: 2_000 },
      prices: [NO_PREVIEWS],
    })
    const bounded = await startSidecar(config)
    try {
      const client = bounded.client({ ...named('bounded'), 'x-fake-hosted-calls': 'web_search,web_search,web_search' })
      const { data } = await client.responses
        .create({ model: 'gpt-4o', input: 'Search.', tools: [WEB], max_output_tokens: 500 })
        .withResponse()
      assert.equal(data.output.filter((item) => item.type === 'web_search_call').length, 2)
      await provider.settled()
      await bounded.idle()
      assert.equal(parseUsd((await bounded.standing('bounded', '?tier=pro')).spent), provider.bill.totalNanoUsd('bounded'))
    } finally {
      await bounded.close()
    }
  })

  test('are called as often as the budget affords', async () => {
    const headers = { ...named('affords', 'middling'), 'x-fake-hosted-calls': Array.from({ length: 9 }, () => 'web_search').join(',') }
    const answer = await create(headers, { input: 'Search.', tools: [WEB], max_output_tokens: 400 })
    assert.equal(bodyOf(seen[0])['max_tool_calls'], 5)
    assert.equal(answer.output.filter((item) => item.type === 'web_search_call').length, 5)
    await assertExact('affords', 'middling')
  })

  test('a stream that breaks off after searches is charged no less than it cost', async () => {
    const headers = { ...named('broken', 'rich'), 'x-fake-hosted-calls': 'web_search,web_search', 'x-fake-cut-after-tokens': '10' }
    await assert.rejects(stream(headers, { input: LONG, tools: [WEB], max_tool_calls: 2 }))
    await provider.settled()
    await sidecar.idle()
    const { spent } = await sidecar.standing('broken', '?tier=rich')
    assert.ok(parseUsd(spent) >= provider.bill.totalNanoUsd('broken'))
  })

  test('are given with each call: an item that brings one to later calls unseen is refused wherever the provider would keep it', async () => {
    const headers = { ...named('brought', 'middling'), 'x-fake-hosted-calls': Array.from({ length: 60 }, () => 'web_search').join(',') }
    const client = clientFor(headers)
    const item: ResponseInputItem = { type: 'additional_tools', role: 'developer', tools: [WEB] }
    const input: ResponseInputItem[] = [item, ...user('Search.')]
    const refused = { status: 403, code: 'endpoint_not_governed' }
    const conversation = (await client.conversations.create({ items: user('Hello.') })).id
    await assert.rejects(create(headers, { input }), refused)
    await assert.rejects(create(headers, { input, conversation, store: false }), refused)
    await assert.rejects(client.conversations.create({ items: [item] }), refused)
    await assert.rejects(client.conversations.items.create(conversation, { items: [item] }), refused)
    assert.deepEqual(provider.bill.lines('brought'), [])
    const bounded = await create(headers, { input, store: false, max_output_tokens: 400 })
    assert.equal(bounded.output.filter(({ type }) => type === 'web_search_call').length, 5)
    await assertExact('brought', 'middling')
  })

  test('are refused with all others, also where an item brings them', async () => {
    const first = await create(named('all-refused', 'refusing'), { input: 'Hello.' })
    for (const tool of [LOOK_UP, WEB]) {
      const input: ResponseInputItem[] = [{ type: 'additional_tools', role: 'developer', tools: [tool] }, ...user('Where is order 17?')]
      const headers = { ...named('all-refused', 'refusing'), ...(tool === WEB ? {} : { 'x-fake-tool-call': 'look_up' }) }
      const answer = await create(headers, { input, store: false, previous_response_id: first.id })
      assert.deepEqual([bodyOf(seen.at(-1))['tool_choice'], answer.output.map(({ type }) => type)], ['none', ['message']])
      const forced = await refusal(headers, { input, store: false, tool_choice: 'required' })
      assert.deepEqual([forced.status, forced.code], [402, 'tool_calls_refused'])
    }
    await assertExact('all-refused', 'refusing')
  })

  test('those that cannot be metered are refused by name, and so is the background', async () => {
    const painted = await refusal(named('painted'), { input: 'Paint.', tools: [{ type: 'image_generation' }] })
    assert.deepEqual([painted.status, painted.code], [403, 'endpoint_not_governed'])
    assert.match(painted.message, /image_generation/)
    const behind = await refusal(named('behind'), { input: 'Later.', background: true })
    assert.match(behind.message, /background/)
    assert.deepEqual(provider.bill.lines('behind'), [])
  })
})

describe('notices', () => {
  test('stand at the end of the words, plain and streamed, in every event that repeats them', async () => {
    const plain = await noticed('noticed-plain', (headers, params) => create(headers, params))
    assert.equal(plain.output_text, `It is in Rotterdam.${FRAME}${NOTICE}`)
    const events = await noticed('noticed-stream', (headers, params) => stream(headers, params))
    const said = `It is in Rotterdam.${FRAME}${NOTICE}`
    assert.equal(events.map((event) => (event.type === 'response.output_text.delta' ? event.delta : '')).join(''), said)
    const done = events.find((event) => event.type === 'response.output_text.done')
    assert.equal(done?.text, said)
    const part = events.find((event) => event.type === 'response.content_part.done')
    assert.ok(part?.part.type === 'output_text' && part.part.text === said)
    const item = events.find((event) => event.type === 'response.output_item.done')
    assert.ok(item?.item.type === 'message' && item.item.content[0]?.type === 'output_text' && item.item.content[0].text === said)
    const last = events.at(-1)
    assert.ok(last?.type === 'response.completed' && JSON.stringify(last.response.output).includes(NOTICE))
    assert.deepEqual(
      events.map((event) => event.sequence_number),
      events.map((_, index) => index),
    )
  })

  test('the helper of the client that checks every event takes them', async () => {
    const final = await noticed('noticed-helper', async (headers, params) => {
      const { stream: _stream, ...rest } = params
      return clientFor(headers)
        .responses.stream({ ...rest, model: 'gpt-4o' })
        .finalResponse()
    })
    assert.equal(final.output_text, `It is in Rotterdam.${FRAME}${NOTICE}`)
  })

  test('wait while tools are called, and are not read by the model when the app sends them back', async () => {
    const headers = named('waits', 'spoken')
    await create({ ...headers, 'x-fake-output-tokens': '700' }, { input: 'Hello.' })
    const input = user('Where is order 17?')
    const called = await stream({ ...headers, 'x-fake-tool-call': 'look_up' }, { input, tools: [LOOK_UP] })
    assert.ok(!JSON.stringify(called).includes(NOTICE))
    const done = called.at(-1)
    assert.ok(done?.type === 'response.completed')
    input.push(...itemsOf(done.response), outputFor(done.response, 'Rotterdam'))
    const spoken = await create(headers, { input, tools: [LOOK_UP] })
    assert.ok(spoken.output_text.endsWith(NOTICE))
    input.push(...itemsOf(spoken), ...user('Thanks.'))
    const next = await create(headers, { input, tools: [LOOK_UP] })
    assert.ok(!JSON.stringify(bodyOf(seen.at(-1))).includes(NOTICE))
    assert.ok(!next.output_text.includes(NOTICE), 'told once')
    await assertExact('waits', 'spoken')
  })

  async function noticed<T>(id: string, ask: (headers: Headers, params: Params) => Promise<T>): Promise<T> {
    const headers = named(id, 'spoken')
    await create({ ...headers, 'x-fake-output-tokens': '700' }, { input: 'Hello.' })
    return ask({ ...headers, 'x-fake-content': encodeURIComponent('It is in Rotterdam.') }, { input: 'Where is it?' })
  }
})

describe('pictures and another model', () => {
  const LOOK: ResponseInputItem[] = [{ role: 'user', content: [{ type: 'input_text', text: 'What is this?' }, ...pictures(4)] }]

  test('a history that is kept is counted anew when the app asks another model, and held for at that', async () => {
    const first = await create(named('other-eyes', 'seeing'), { input: LOOK, max_output_tokens: 16 })
    const asked = { input: 'And?', previous_response_id: first.id, max_output_tokens: 16 }
    const refused = await refusal(named('other-eyes', 'seeing'), { ...asked, model: 'gpt-4o-mini' })
    assert.deepEqual([refused.status, refused.code], [402, 'conversation_budget_exhausted'])
    assert.equal(seen.filter(({ path }) => path === '/v1/responses/input_tokens').length, 1)
    await assertExact('other-eyes', 'seeing')
  })

  test('a history of which nobody knows what it holds is, once, and then no more where two models have counted it alike', async () => {
    const direct = new OpenAI({ baseURL: `${provider.url}/v1`, apiKey: 'test' })
    for (const [id, input, later] of [
      ['alike', LONG, []],
      ['unlike', LOOK, ['gpt-4o', 'gpt-4o-mini']],
    ] as const) {
      let last = await direct.responses.create({ model: 'gpt-4o', input })
      seen = []
      for (const model of ['gpt-4o', 'gpt-4o-mini', 'gpt-4o', 'gpt-4o-mini'])
        last = await create(named(id, 'rich'), { model, input: 'And?', previous_response_id: last.id })
      const asked = seen.filter(({ path }) => path === '/v1/responses/input_tokens').map((request) => String(bodyOf(request)['model']))
      assert.deepEqual([asked[0], asked.slice(1, 3).toSorted(), asked.slice(3)], ['gpt-4o', ['gpt-4o', 'gpt-4o-mini'], later], id)
      await assertExact(id, 'rich')
    }
  })

  test('a history of text is not', async () => {
    const first = await create(named('same-words', 'rich'), { input: LONG })
    const second = await create(named('same-words', 'rich'), { input: 'And?', previous_response_id: first.id, model: 'gpt-4o-mini' })
    await create(named('same-words', 'rich'), { input: 'So?', previous_response_id: second.id })
    assert.equal(seen.filter(({ path }) => path === '/v1/responses/input_tokens').length, 0)
    await assertExact('same-words', 'rich')
  })

  for (const way of ['kept', 'conversation'] as const) {
    const turns = async (
      id: string,
      more: Record<string, string> = {},
    ): Promise<{ readonly told: readonly unknown[]; readonly asked: readonly unknown[] }> => {
      const direct = new OpenAI({ baseURL: `${provider.url}/v1`, apiKey: 'test' })
      const conversation = way === 'conversation' ? { conversation: (await direct.conversations.create({ items: user(LONG) })).id } : {}
      let kept = way === 'kept' ? { previous_response_id: (await direct.responses.create({ model: 'gpt-4o', input: LONG })).id } : {}
      seen = []
      const told: unknown[] = []
      for (const input of ['First.', 'Second.', 'Third.']) {
        const headers = { ...named(id, 'seeing-long'), ...more }
        const { data, rung } = await answered(clientFor(headers), {
          model: 'gpt-4o',
          max_output_tokens: 30,
          input,
          ...kept,
          ...conversation,
        })
        if (way === 'kept') kept = { previous_response_id: data.id }
        told.push([data.model.replace(/-\d{4}-.*/, ''), rung])
      }
      await assertExact(id, 'seeing-long')
      return { told, asked: seen.filter(({ path }) => path === '/v1/responses/input_tokens').map((request) => bodyOf(request)['model']) }
    }

    test(`a history that nobody here has counted moves by the provider’s count, and is not counted again for the model that it left (${way})`, async () => {
      const { told, asked } = await turns(`moved-${way}`)
      const moved = ['gpt-4o-mini', 'DowngradeModel']
      assert.deepEqual(told, [moved, moved, moved])
      // Others may add to a conversation of the provider's.
      const later = way === 'kept' ? [] : ['gpt-4o-mini', 'gpt-4o-mini']
      assert.deepEqual(asked, ['gpt-4o', 'gpt-4o-mini', ...later])
    })

    test(`where nobody can count it the rung is skipped, and not told (${way})`, async () => {
      const { told } = await turns(`unmoved-${way}`, { 'x-fake-status': '503', 'x-fake-status-times': '4' })
      const moved = ['gpt-4o-mini', 'DowngradeModel']
      assert.deepEqual(told, [['gpt-4o', 'None'], moved, moved], 'it is made once that can be had')
    })
  }

  for (const way of ['kept', 'conversation', 'own'] as const)
    test(`a rung that would make them dearer is not taken, and the conversation goes on (${way})`, async () => {
      const client = clientFor(named(`dearer-${way}`, 'seeing'))
      const conversation = way === 'conversation' ? { conversation: (await client.conversations.create()).id } : {}
      const first = await client.responses.create({ model: 'gpt-4o', input: LOOK, max_output_tokens: 16, ...conversation })
      const next = way === 'own' ? { input: [...LOOK, ...itemsOf(first), ...user('And?')] } : { input: 'And?', ...conversation }
      const kept = way === 'kept' ? { previous_response_id: first.id } : {}
      const { data, rung } = await answered(client, { model: 'gpt-4o', max_output_tokens: 16, ...next, ...kept })
      assert.deepEqual([data.model.startsWith('gpt-4o-mini'), rung], [false, 'None'])
      assert.ok(!data.output_text.includes(NOTICE))
      assert.equal((await sidecar.standing(`dearer-${way}`, '?tier=seeing')).rung, 'None')
      await assertExact(`dearer-${way}`, 'seeing')
    })

  test('it is taken, and told, once it makes the call cheaper, and stays so from turn to turn', async () => {
    const client = clientFor(named('later', 'seeing-long'))
    const history: ResponseInputItem[] = [{ role: 'user', content: [{ type: 'input_text', text: 'What is this?' }, ...pictures(1)] }]
    const models: string[] = []
    const told: boolean[] = []
    for (const length of [1, 1, 6, 1, 1, 1]) {
      if (models.length > 0) history.push(...user(LONG.repeat(length)))
      const { data } = await answered(client, { model: 'gpt-4o', input: history, max_output_tokens: 30, store: false })
      history.push(...itemsOf(data))
      models.push(data.model.replace(/-\d{4}-.*/, ''))
      told.push(data.output_text.includes(NOTICE))
    }
    const turn = models.indexOf('gpt-4o-mini')
    assert.ok(turn > 0, models.join())
    assert.ok(
      models.every((model, index) => (model === 'gpt-4o-mini') === index >= turn),
      models.join(),
    )
    assert.deepEqual(
      told,
      models.map((_, index) => index === turn),
    )
  })
})

describe('at the cap', () => {
  test('an app that wants an error gets it in one attempt', async () => {
    const client = sidecar.client(named('spent', 'tiny'), { maxRetries: 2 })
    await client.responses.create({ model: 'gpt-4o', input: 'Hello.' }, { headers: { 'x-fake-output-tokens': '5000' } })
    seen = []
    await assert.rejects(client.responses.create({ model: 'gpt-4o', input: LONG }), { status: 402 })
    await assert.rejects(
      client.responses.create({ model: 'gpt-4o', input: LONG, stream: true }),
      (error) => error instanceof APIError && error.status === 402 && error.code === 'conversation_budget_exhausted',
    )
    assert.equal(seen.length, 0)
    const metrics = await sidecar.metrics()
    assert.match(metrics, /farebox_refusals_total\{code="conversation_budget_exhausted"\} [1-9]/)
  })

  test('an answer of ours has the whole shape, plain and streamed, and what goes on from it goes on from the last real one', async () => {
    const headers = named('closed', 'tight')
    const client = clientFor(headers)
    const real = await client.responses.create({ model: 'gpt-4o', input: 'Hello.' }, { headers: { 'x-fake-output-tokens': '1900' } })
    await client.responses.create({ model: 'gpt-4o', input: 'More.' }, { headers: { 'x-fake-output-tokens': '1900' } })
    const { data: closed, response } = await client.responses
      .create({ model: 'gpt-4o', input: LONG.repeat(8), previous_response_id: real.id })
      .withResponse()
    assert.equal(response.headers.get('x-farebox-synthetic'), 'true')
    assert.deepEqual([closed.output_text, closed.status, closed.usage?.total_tokens], [CLOSING, 'completed', 0])
    const events = await stream(headers, { input: LONG.repeat(8), previous_response_id: real.id })
    assert.equal(events.at(-1)?.type, 'response.completed')
    const whole = await client.responses.stream({ model: 'gpt-4o', input: 'Hello?', previous_response_id: real.id }).finalResponse()
    assert.equal(whole.output_text, CLOSING)
    // The app goes on from our answer; once there is money again, the provider is asked by the response that it knows.
    await sidecar.idle()
    const reopened = await sidecar.postJson('/farebox/v1/conversations/closed/reopen?tier=tight', {})
    assert.equal(reopened.status, 200)
    seen = []
    await fetch(`${sidecar.url}/openai/v1/responses`, {
      method: 'POST',
      headers: { authorization: 'Bearer test', 'content-type': 'application/json', ...named('elsewhere', 'rich') },
      body: JSON.stringify({ model: 'gpt-4o', input: 'And now?', previous_response_id: closed.id }),
    })
    assert.equal(bodyOf(seen.find(({ path }) => path === '/v1/responses'))['previous_response_id'], real.id)
  })

  test('an answer of ours that comes back by its name is left out, and the conversation goes on', async () => {
    const configOf = (perConversation: string): SidecarConfig => {
      const contract = makeContract({ caps: { perConversation }, ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Close' }] })
      return makeConfig(`${provider.url}/v1`, [contract], { existingConversations: 'AdoptNew' })
    }
    const raised = await startSidecar(configOf('0.01'))
    try {
      const client = raised.client({ 'x-farebox-conversation': 'by-name', 'x-fake-tag': 'by-name', 'x-fake-output-tokens': '300' })
      const input: ResponseInputItem[] = []
      const say = async (text: string): Promise<boolean> => {
        input.push(...user(text))
        const { data, isSynthetic } = await answered(client, { model: 'gpt-4o', input })
        input.push(...data.output.map((item): ResponseInputItem => ({ type: 'item_reference', id: item.id ?? '' })))
        await raised.idle()
        return isSynthetic
      }
      assert.equal(await say('Hello.'), false)
      while (!(await say('Go on.'))) assert.ok(input.length < 20)
      await raised.adopt(configOf('0.50'))
      assert.equal((await raised.postJson('/farebox/v1/conversations/by-name/reopen', {})).status, 200)
      for (const question of ['After all?', 'And again?']) {
        assert.equal(await say(question), false)
        const sent = bodyOf(seen.findLast(({ path }) => path === '/v1/responses'))['input']
        const known = input.slice(0, -1).filter((item) => !JSON.stringify(item).includes('farebox'))
        assert.deepEqual(sent, known, 'what was asked meanwhile stays')
        assert.equal(known.length, input.length - 2, 'all but our own words')
      }
    } finally {
      await raised.close()
    }
  })

  for (const carrier of ['previous_response_id', 'conversation'] as const) {
    test(`a result whose call the provider keeps (${carrier}) is refused, not closed with words, and is taken once there is money`, async () => {
      const configOf = (perConversation: string): SidecarConfig => {
        const contract = makeContract({ caps: { perConversation }, ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Close' }] })
        return makeConfig(`${provider.url}/v1`, [contract], { existingConversations: 'AdoptNew' })
      }
      const raised = await startSidecar(configOf('0.02'))
      try {
        const client = raised.client({ 'x-farebox-conversation': 'mid-loop' })
        const kept = carrier === 'conversation' ? (await client.conversations.create({})).id : null
        const from = (answer: Response): Partial<Params> => (kept === null ? { previous_response_id: answer.id } : { conversation: kept })
        const ask = async (params: Params, headers: Headers = {}): Promise<Response> => {
          const { data } = await answered(client, { model: 'gpt-4o', tools: [LOOK_UP], ...params }, headers)
          await raised.idle()
          return data
        }
        const input = 'Where is order 17?'
        const called = await ask({ input, ...(kept === null ? {} : { conversation: kept }) }, { 'x-fake-tool-call': 'look_up' })
        const result: Params = { ...from(called), input: [outputFor(called, 'It is in Rotterdam. '.repeat(2_500))] }
        await assert.rejects(ask(result), { status: 402, code: 'conversation_budget_exhausted' })
        await raised.adopt(configOf('5.00'))
        const taken = await ask(result)
        assert.equal((await ask({ ...from(taken), input: 'And order 18?' })).status, 'completed')
      } finally {
        await raised.close()
      }
    })
  }

  test('an approval whose question the provider keeps is refused, not closed with words', async () => {
    const headers = named('approving', 'tight')
    const first = await create({ ...headers, 'x-fake-output-tokens': '1900' }, { input: 'Hello.' })
    const approval: ResponseInputItem = {
      type: 'mcp_approval_response',
      approval_request_id: 'mcpr_1',
      approve: true,
      reason: LONG.repeat(16),
    }
    const refused = await refusal(headers, { input: [approval], previous_response_id: first.id })
    assert.deepEqual([refused.status, refused.code], [402, 'conversation_budget_exhausted'])
  })

  test('parallel calls on kept history never pass it', async () => {
    const first = await create(named('parallel', 'tiny'), { input: 'Hello.', max_output_tokens: 20 })
    const calls = Array.from({ length: 30 }, (_, call) =>
      create(named('parallel', 'tiny'), { input: `Go on, ${call}.`, previous_response_id: first.id }).catch((error: unknown) => error),
    )
    const outcomes = await Promise.all(calls)
    assert.ok(outcomes.some((outcome) => outcome instanceof APIError))
    await provider.settled()
    assert.ok(provider.bill.totalNanoUsd('parallel') <= parseUsd('0.004'))
    await assertExact('parallel', 'tiny')
  })
})

describe('a new session', () => {
  test('leaves the history where the provider keeps it', async () => {
    const headers = { ...named('anew', 'renewed'), 'x-farebox-user': 'ann' }
    let previous: string | null = null
    let reset: SeenRequest | undefined
    for (let turn = 0; turn < 12 && reset === undefined; turn += 1) {
      const answer: Response = await create(
        { ...headers, 'x-fake-output-tokens': '300' },
        { input: `Go on, ${turn}.`, previous_response_id: previous },
      )
      const sent = seen.findLast(({ path }) => path === '/v1/responses')
      if (previous !== null && bodyOf(sent)['previous_response_id'] === undefined) reset = sent
      previous = answer.id
    }
    assert.ok(reset !== undefined, 'a session began without it')
    const after = await create(headers, { input: 'And on.', previous_response_id: previous })
    assert.equal(bodyOf(seen.at(-1))['previous_response_id'], previous)
    assert.ok(after.output_text.length > 0)
    const standing = await sidecar.standing('anew', '?tier=renewed')
    assert.ok(parseUsd(standing.spent) < parseUsd(standing.budget))
  })
})

describe('compaction', () => {
  test('is found again by what the provider sealed, where the app gives no id', async () => {
    const client = clientFor({ 'x-fake-tag': 'sealed' })
    const ask = async (input: ResponseInputItem[]): Promise<{ readonly data: Response; readonly id: string | null }> => {
      const { data, response } = await client.responses.create({ model: 'gpt-4o', input }).withResponse()
      return { data, id: response.headers.get('x-farebox-conversation') }
    }
    const input = user(`A history of its own. ${LONG}`)
    const first = await ask(input)
    input.push(...itemsOf(first.data))
    const { data: compacted, response } = await client.responses.compact({ model: 'gpt-4o', input }).withResponse()
    const sealed = compacted.output.filter((item) => item.type === 'compaction') as ResponseInputItem[]
    const next = await ask([...sealed, ...user('Go on.')])
    assert.deepEqual([response.headers.get('x-farebox-conversation'), next.id], [first.id, first.id])
  })

  test('is metered as a call of its own, and the conversation goes on from it', async () => {
    const headers = named('compacted')
    const first = await create(headers, { input: LONG })
    const compacted = await clientFor(headers).responses.compact({ model: 'gpt-4o', previous_response_id: first.id })
    const sealed = compacted.output as ResponseInputItem[]
    await create(headers, { input: [...sealed, ...user('Go on.')] })
    assert.ok(seen.some(({ path }) => path === '/v1/responses/compact'))
    await assertExact('compacted')
  })

  test('by the provider itself is held for as one reading more', async () => {
    const headers = named('compacts', 'rich')
    const answer = await create(headers, { input: LONG, context_management: [{ type: 'compaction', compact_threshold: 1_000 }] })
    assert.equal(answer.output[0]?.type, 'compaction')
    await assertExact('compacts', 'rich')
  })
})

describe('whatever an app does', () => {
  const SEEDS = Array.from({ length: 3 }, (_, seed) => seed + 1)
  const THINKING = ['gpt-5-mini', 'gpt-5'] as const
  const MODELS = ['gpt-4o', 'gpt-4o-mini', ...THINKING] as const
  const CONVERSATIONS = 8
  const CALLS = 12
  const TIGHT: readonly Contract[] = ['0.01', '0.04', '0.2'].map((amount) =>
    makeContract({
      tier: `at-${amount.replace('.', '-')}`,
      caps: { perConversation: amount },
      context: { overflow: 'DropOldest', keepRecentTurns: 1 },
      models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }], summarizer: 'gpt-4o-mini', usefulOutputTokens: 30 },
      ladder: [
        { atPercent: 30, rung: 'DropRetrieval' },
        { atPercent: 40, rung: 'Summarize' },
        { atPercent: 60, rung: 'DowngradeModel' },
        { atPercent: 80, rung: 'RefuseTools' },
        { atPercent: 100, rung: 'EndConversation', end: 'Close' },
      ],
      notices: { mode: 'Inline', texts: { Summarize: { en: NOTICE }, End: { en: CLOSING } } },
    }),
  )
  let bounded: Sidecar
  before(async () => {
    bounded = await startSidecar(makeConfig(`${provider.url}/v1`, TIGHT, { hostedTools: { maxCalls: 2, maxResultTokens: 1_600 } }))
  })
  after(() => bounded.close())

  for (const seed of SEEDS)
    test(`no conversation is billed more than its budget, or more than was entered (seed ${seed})`, async () => {
      await Promise.all(Array.from({ length: CONVERSATIONS }, (_, index) => play(seed * 1_000 + index)))
      await provider.settled()
      await bounded.idle()
      for (let index = 0; index < CONVERSATIONS; index += 1) {
        const { id, tier } = partOf(seed * 1_000 + index)
        const billed = provider.bill.totalNanoUsd(id)
        const standing = await bounded.standing(id, `?tier=${tier}`)
        const told = `${id}: ${formatUsd(billed)} billed, ${standing.spent} entered of ${standing.budget}`
        assert.ok(billed <= parseUsd(standing.spent) && parseUsd(standing.spent) <= parseUsd(standing.budget), told)
        assert.equal(standing.held, '0.00')
      }
    })

  function partOf(number: number): { readonly id: string; readonly tier: string } {
    return { id: `any-${number}`, tier: TIGHT[number % TIGHT.length]?.tier ?? '' }
  }

  /** Calls of every kind, one after the other and sometimes two at a time; what is refused is refused. */
  async function play(number: number): Promise<void> {
    const random = randomOf(number)
    const { id, tier } = partOf(number)
    const client = bounded.client({ 'x-farebox-conversation': id, 'x-farebox-tier': tier, 'x-fake-tag': id })
    const known: string[] = []
    const history: ResponseInputItem[] = []
    for (let call = 0; call < CALLS; call += 1) {
      const made = Array.from({ length: 1 + random.below(2) }, () => one(client, random, known, history))
      await Promise.all(made)
    }
  }

  async function one(client: OpenAI, random: Random, known: string[], history: ResponseInputItem[]): Promise<void> {
    const chance = (percent: number): boolean => random.below(100) < percent
    const model = random.pick(MODELS)
    const headers: Record<string, string> = { 'x-fake-output-tokens': String(random.below(900)) }
    if (THINKING.some((thinking) => thinking === model) && chance(60)) headers['x-fake-reasoning-tokens'] = String(random.below(400))
    const leaveAfter = chance(15) ? random.below(60) : Number.POSITIVE_INFINITY
    if (chance(10)) headers['x-fake-cut-after-tokens'] = String(random.below(60))
    // What is not shown is charged by the time that it takes: no model thinks in no time.
    if (headers['x-fake-cut-after-tokens'] !== undefined || leaveAfter < 60) headers['x-fake-token-delay-ms'] = '1'
    if (chance(30)) headers['x-fake-hosted-calls'] = 'web_search,web_search,web_search'
    const next = user(LONG.slice(0, random.below(LONG.length)) + random.below(1_000))
    const earlier = chance(50) ? random.pick([...known, '']) : ''
    const tools: Tool[] = headers['x-fake-hosted-calls'] !== undefined ? [WEB] : chance(30) ? [LOOK_UP] : []
    const params: ResponseCreateParamsNonStreaming = {
      model,
      input: earlier !== '' || chance(30) ? next : [...history, ...next],
      ...(earlier === '' ? {} : { previous_response_id: earlier }),
      ...(tools.length === 0 ? {} : { tools }),
      ...(chance(40) ? { max_output_tokens: 16 + random.below(600) } : {}),
      ...(chance(20) ? { instructions: LONG.slice(0, random.below(2_000)) } : {}),
    }
    try {
      if (chance(10) && earlier !== '') await client.responses.compact({ model: 'gpt-4o', previous_response_id: earlier })
      else if (leaveAfter < 60 || chance(30)) {
        const events = await client.responses.create({ ...params, stream: true }, { headers })
        for await (const event of events) {
          if (event.type === 'response.completed') keep(event.response)
          if (event.sequence_number >= leaveAfter) break
        }
      } else keep(await client.responses.create(params, { headers }))
    } catch (error) {
      assert.ok(error instanceof Error)
    }

    function keep(answer: Response): void {
      if (answer.output.some((item) => item.type === 'function_call')) return
      known.push(answer.id)
      history.push(...next, ...answer.output.filter((item) => item.type === 'message').map(({ content }) => wordsOf(content)))
    }
  }

  function wordsOf(content: readonly { readonly type: string; readonly text?: string }[]): ResponseInputItem {
    return { role: 'assistant', content: content.map((part) => part.text ?? '').join('') }
  }
})

test('what costs nothing passes: retrieving, listing, deleting, counting', async () => {
  const client = clientFor(named('free'))
  const answer = await client.responses.create({ model: 'gpt-4o', input: 'Hello.' })
  assert.equal((await client.responses.retrieve(answer.id)).id, answer.id)
  assert.equal((await client.responses.inputItems.list(answer.id)).data.length, 1)
  assert.ok((await client.responses.inputTokens.count({ model: 'gpt-4o', input: 'Hello.' })).input_tokens > 0)
  await client.responses.delete(answer.id)
  await assertExact('free')
})

test('words of ours are left out of what is counted for nothing', async () => {
  const client = clientFor(named('counted-after', 'tight'))
  const real = await client.responses.create({ model: 'gpt-4o', input: 'Hello.' }, { headers: { 'x-fake-output-tokens': '1900' } })
  const closed = await client.responses.create({ model: 'gpt-4o', input: LONG.repeat(16), previous_response_id: real.id })
  assert.equal(closed.output_text, CLOSING)
  const count = async (previous_response_id: string): Promise<number> =>
    (await client.responses.inputTokens.count({ model: 'gpt-4o', input: 'And now?', previous_response_id })).input_tokens
  assert.equal(await count(closed.id), await count(real.id))
})

test('bad input is refused with the field at fault, and what is unknown passes', async () => {
  const bad: readonly (readonly [body: object, message: RegExp])[] = [
    [{ input: 'x' }, /"model" must be a string/],
    [{ model: 'gpt-4o', input: 7 }, /"input" must be a string or a list/],
    [{ model: 'gpt-4o', input: [{ role: 'nobody', content: 'x' }] }, /"input\[0\]" must be an item/],
    [{ model: 'gpt-4o', input: 'x', max_output_tokens: -1 }, /"max_output_tokens" must be a positive integer/],
    [{ model: 'gpt-4o', input: 'x', tools: 'all' }, /"tools" must be a list/],
    [{ model: 'gpt-4o', input: 'x', stream: 'yes' }, /"stream" must be true or false/],
  ]
  for (const [body, message] of bad) {
    const answer = await post(body)
    assert.equal(answer.status, 400, JSON.stringify(body))
    assert.match((JSON.parse(answer.text) as { readonly error: { readonly message: string } }).error.message, message)
  }
  assert.equal(seen.length, 0)
  await post({ model: 'gpt-4o', input: [{ type: 'thing_of_the_future', id: 'x_1' }], brand_new: { a: 1 } })
  assert.equal(Array.isArray(bodyOf(seen[0])['input']), true)
  assert.deepEqual(bodyOf(seen[0])['brand_new'], { a: 1 })
})

type Params = Omit<ResponseCreateParamsNonStreaming, 'model'> & { readonly model?: string }

function named(id: string, tier = 'pro'): Headers {
  return { 'x-farebox-conversation': id, 'x-farebox-tier': tier, 'x-fake-tag': id }
}

/** Each of 1024 by 1024 pixels, as its header says: that is all that is read of it. */
function pictures(count: number): ResponseInputImage[] {
  const header = Buffer.alloc(33)
  header.write('\x89PNG\r\n\x1a\n\0\0\0\rIHDR', 'latin1')
  header.writeUInt32BE(1_024, 16)
  header.writeUInt32BE(1_024, 20)
  const url = `data:image/png;base64,${header.toString('base64')}`
  return Array.from({ length: count }, () => ({ type: 'input_image', detail: 'high', image_url: url }))
}

function clientFor(headers: Headers): OpenAI {
  return sidecar.client(headers)
}

function create(headers: Headers, params: Params): Promise<Response> {
  return clientFor(headers).responses.create({ model: 'gpt-4o', ...params })
}

async function stream(headers: Headers, params: Params): Promise<ResponseStreamEvent[]> {
  const events: ResponseStreamEvent[] = []
  for await (const event of await clientFor(headers).responses.create({ model: 'gpt-4o', ...params, stream: true })) events.push(event)
  return events
}

async function answered(
  client: OpenAI,
  params: ResponseCreateParamsNonStreaming,
  headers: Headers = {},
): Promise<{ readonly data: Response; readonly rung: string; readonly isSynthetic: boolean }> {
  const { data, response } = await client.responses.create(params, { headers }).withResponse()
  return { data, rung: response.headers.get('x-farebox-rung') ?? '', isSynthetic: response.headers.get('x-farebox-synthetic') === 'true' }
}

async function refusal(headers: Headers, params: Params): Promise<APIError> {
  try {
    await create(headers, params)
  } catch (error) {
    if (error instanceof APIError) return error
    throw error
  }
  throw new assert.AssertionError({ message: 'it was not refused' })
}

async function post(body: object): Promise<{ readonly status: number; readonly text: string }> {
  const answer = await fetch(`${sidecar.url}/openai/v1/responses`, {
    method: 'POST',
    headers: { authorization: 'Bearer test', 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  return { status: answer.status, text: await answer.text() }
}

function itemsOf(answer: Response): ResponseInputItem[] {
  return answer.output as ResponseInputItem[]
}

function user(text: string): ResponseInputItem[] {
  return [{ role: 'user', content: text }]
}

function outputFor(answer: Response, output: string): ResponseInputItem {
  const call = answer.output.find((item) => item.type === 'function_call')
  assert.ok(call !== undefined)
  return { type: 'function_call_output', call_id: call.call_id, output }
}

function bodyOf(request: SeenRequest | undefined): Record<string, unknown> {
  assert.ok(request !== undefined)
  return JSON.parse(request.body.toString('utf8')) as Record<string, unknown>
}

/** What the sidecar entered is what the provider billed, and nothing is held any more. */
async function assertExact(id: string, tier = 'pro'): Promise<void> {
  await provider.settled()
  await sidecar.idle()
  const standing: Standing = await sidecar.standing(id, `?tier=${tier}`)
  assert.equal(standing.held, '0.00')
  assert.equal(formatUsd(parseUsd(standing.spent)), formatUsd(provider.bill.totalNanoUsd(id)))
  assert.ok(parseUsd(standing.spent) <= parseUsd(standing.budget))
}
