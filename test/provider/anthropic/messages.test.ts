import Anthropic, { APIError, APIUserAbortError, NotFoundError, RateLimitError } from '@anthropic-ai/sdk'
import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { EXAMPLE_CONVERSATIONS } from '../../support/recorded-data.ts'
import type { BillLine } from '../bill.ts'
import type { Provider } from '../server.ts'
import { startProvider } from '../server.ts'

type Params = Anthropic.MessageCreateParamsNonStreaming

let provider: Provider
let client: Anthropic
before(async () => {
  provider = await startProvider({ data: [EXAMPLE_CONVERSATIONS] })
  client = new Anthropic({ apiKey: 'any', authToken: null, baseURL: provider.url, maxRetries: 0 })
})
beforeEach(async () => {
  await provider.settled()
  provider.bill.clear()
  provider.clearCache()
})
after(() => provider.close())

const ask: Params = { model: 'claude-sonnet-4-5', max_tokens: 400, messages: [{ role: 'user', content: 'How are you?' }] }
const thinker: Params = { ...ask, model: 'claude-opus-5-5', max_tokens: 2_000 }
const look: Anthropic.Tool = {
  name: 'look',
  input_schema: { type: 'object', properties: { where: { type: 'string', enum: ['here', 'there'] } }, required: ['where'] },
}
const search: Anthropic.WebSearchTool20260318 = { type: 'web_search_20260318', name: 'web_search', max_uses: 2 }
const long = 'All of this was said before, word for word. '.repeat(600)
const thinking = { 'x-fake-reasoning-tokens': '60' }

test('a plain answer has every documented field, and its usage is what the bill says', async () => {
  const { data, response } = await client.messages.create(ask).withResponse()
  assert.equal(data.type, 'message')
  assert.equal(data.model, 'claude-sonnet-4-5-20250929')
  assert.match(data.id, /^msg_/)
  assert.equal(data.stop_reason, 'end_turn')
  assert.equal(data.stop_sequence, null)
  assert.deepEqual(typesOf(data), ['text'])
  assert.equal(data.usage.service_tier, 'standard')
  const line = onlyLine()
  assert.equal(line.requestId, response.headers.get('request-id'))
  assert.deepEqual([line.promptTokens, line.outputTokens, line.state], [data.usage.input_tokens, data.usage.output_tokens, 'complete'])
  assert.equal(line.nanoUsd, BigInt(data.usage.input_tokens) * 3_000n + BigInt(data.usage.output_tokens) * 15_000n)
})

test('a stream carries the same answer in events, with cumulative usage at its end', async () => {
  for (const model of ['claude-sonnet-4-5', 'claude-opus-5-5']) {
    const params = { ...ask, model }
    const plain = await client.messages.create(params, { headers: thinking })
    const stream = client.messages.stream(params, { headers: thinking })
    const streamed = await stream.finalMessage()
    assert.deepEqual(streamed.content, plain.content)
    assert.equal(streamed.stop_reason, plain.stop_reason)
    assert.equal(streamed.usage.output_tokens, plain.usage.output_tokens)
    assert.equal(streamed.usage.input_tokens, plain.usage.input_tokens)
  }
})

test('the events come in the documented order; what is known from the start is null at the end on older models', async () => {
  const events: Anthropic.RawMessageStreamEvent[] = []
  for await (const event of await client.messages.create({ ...ask, stream: true })) events.push(event)
  assert.deepEqual(
    [...new Set(events.map((event) => event.type))],
    ['message_start', 'content_block_start', 'content_block_delta', 'content_block_stop', 'message_delta', 'message_stop'],
  )
  const [first] = events
  assert.equal(first?.type === 'message_start' && first.message.usage.output_tokens, 1)
  const delta = events.find((event) => event.type === 'message_delta')
  assert.equal(delta?.usage.input_tokens, null)
  assert.equal(delta?.usage.output_tokens, onlyLine().outputTokens)
})

test('max_tokens is obeyed to the token, thinking included', async () => {
  const headers = { 'x-fake-output-tokens': '500', 'x-fake-reasoning-tokens': '40' }
  for (const [model, types] of [
    ['claude-sonnet-4-5', ['text']],
    ['claude-opus-5-5', ['thinking', 'text']],
  ] as const) {
    const plain = await client.messages.create({ ...ask, model, max_tokens: 57 }, { headers })
    assert.equal(plain.stop_reason, 'max_tokens')
    assert.equal(plain.usage.output_tokens, 57)
    assert.deepEqual(typesOf(plain), types)
    const streamed = await client.messages.stream({ ...ask, model, max_tokens: 57 }, { headers }).finalMessage()
    assert.equal(streamed.usage.output_tokens, 57)
  }
  const onlyThought = await client.messages.create({ ...thinker, max_tokens: 20 }, { headers })
  assert.deepEqual(typesOf(onlyThought), ['thinking'])
  assert.equal(onlyThought.usage.output_tokens_details?.thinking_tokens, 20)
  const warmed = await client.messages.create({ ...ask, max_tokens: 0 })
  assert.deepEqual([warmed.content, warmed.usage.output_tokens], [[], 0])
})

test('tools are called with input that fits their schema, plain and streamed', async () => {
  const params = { ...ask, tools: [look] }
  const headers = { 'x-fake-tool-call': 'look' }
  const plain = await client.messages.create(params, { headers })
  assert.equal(plain.stop_reason, 'tool_use')
  const [call] = plain.content
  assert.ok(call?.type === 'tool_use' && call.name === 'look')
  assert.ok(['here', 'there'].includes(String(Object(call.input).where)))
  const streamed = await client.messages.stream(params, { headers }).finalMessage()
  assert.deepEqual(streamed.content, plain.content)
  const forced = await client.messages.create({ ...params, tool_choice: { type: 'any' } })
  assert.equal(forced.stop_reason, 'tool_use')
  const refused = await client.messages.create({ ...params, tool_choice: { type: 'none' } }, { headers })
  assert.equal(refused.stop_reason, 'end_turn')
})

test('structured output is JSON that fits the schema', async () => {
  const schema = { type: 'object', properties: { sum: { type: 'integer' } }, required: ['sum'], additionalProperties: false }
  const answer = await client.messages.create({ ...ask, output_config: { format: { type: 'json_schema', schema } } })
  const [block] = answer.content
  assert.ok(block?.type === 'text' && Number.isInteger(JSON.parse(block.text).sum))
})

test('what cache_control asks for is written, then read, each at its price', async () => {
  const system = [{ type: 'text' as const, text: long, cache_control: { type: 'ephemeral' as const, ttl: '1h' as const } }]
  const question = (text: string): Anthropic.MessageParam => ({
    role: 'user',
    content: [{ type: 'text', text, cache_control: { type: 'ephemeral' } }],
  })
  const first = (await client.messages.create({ ...ask, system, messages: [question('One?')] })).usage
  assert.ok((first.cache_creation?.ephemeral_1h_input_tokens ?? 0) > 5_000)
  assert.ok((first.cache_creation?.ephemeral_5m_input_tokens ?? 0) > 0)
  assert.equal(first.cache_read_input_tokens, 0)
  const again = (await client.messages.create({ ...ask, system, messages: [question('One?')] })).usage
  assert.equal(again.cache_creation_input_tokens, 0)
  assert.equal(again.cache_read_input_tokens, first.cache_creation_input_tokens)
  const other = (await client.messages.create({ ...ask, system, messages: [question('Two?')] })).usage
  assert.equal(other.cache_read_input_tokens, first.cache_creation?.ephemeral_1h_input_tokens)
  const [line] = provider.bill.lines()
  assert.equal(
    line?.nanoUsd,
    BigInt(first.input_tokens) * 3_000n +
      BigInt(first.cache_creation?.ephemeral_5m_input_tokens ?? 0) * 3_750n +
      BigInt(first.cache_creation?.ephemeral_1h_input_tokens ?? 0) * 6_000n +
      BigInt(first.output_tokens) * 15_000n,
  )
})

test('nothing shorter than the least length is cached, and a change before the breakpoint is a miss', async () => {
  const cached = { type: 'ephemeral' as const }
  const short = await client.messages.create({ ...ask, cache_control: cached })
  assert.equal(short.usage.cache_creation_input_tokens, 0)
  const turn = (text: string): Params => ({ ...ask, cache_control: cached, messages: [{ role: 'user', content: text + long }] })
  await client.messages.create(turn('A'))
  assert.equal((await client.messages.create(turn('B'))).usage.cache_read_input_tokens, 0)
  assert.ok(((await client.messages.create(turn('A'))).usage.cache_read_input_tokens ?? 0) > 5_000)
})

test('a price step and a place of inference change the price of the whole request', async () => {
  const haiku: Params = { ...ask, model: 'claude-haiku-5-5', thinking: { type: 'disabled' } }
  await client.messages.create({ ...haiku, inference_geo: 'us' })
  const [line] = provider.bill.lines()
  assert.equal(line?.nanoUsd, BigInt(line?.promptTokens ?? 0) * 110n + BigInt(line?.outputTokens ?? 0) * 550n)
  await client.messages.create({ ...haiku, messages: [{ role: 'user', content: long.repeat(20) }] })
  const big = provider.bill.lines()[1]
  assert.ok((big?.promptTokens ?? 0) > 100_000)
  assert.equal(big?.nanoUsd, BigInt(big?.promptTokens ?? 0) * 500n + BigInt(big?.outputTokens ?? 0) * 2_500n)
})

test('thinking goes back and forth as long as nothing before it changes', async () => {
  const first = await client.messages.create({ ...thinker, system: 'Be kind.' }, { headers: thinking })
  assert.deepEqual(typesOf(first), ['thinking', 'text'])
  const next = (changes: Partial<Params>, answer: Anthropic.ContentBlockParam[] = first.content): Promise<Anthropic.Message> =>
    client.messages.create({
      ...thinker,
      system: 'Be kind.',
      messages: [...thinker.messages, { role: 'assistant', content: answer }, { role: 'user', content: 'And you?' }],
      ...changes,
    })
  const second = await next({})
  await next({ system: [{ type: 'text', text: 'Be kind.', cache_control: { type: 'ephemeral' } }] })
  await next({
    messages: [
      { role: 'user', content: [{ type: 'text', text: 'How are you?' }] },
      { role: 'assistant', content: first.content },
      { role: 'user', content: 'Hm' },
    ],
  })
  await refused(next({ system: 'Be rude.' }), /bound to a different conversation/)
  await refused(
    next({
      messages: [
        { role: 'user', content: 'What?' },
        { role: 'assistant', content: first.content },
        { role: 'user', content: 'Hm' },
      ],
    }),
    /messages\.1\.content\.0: Invalid `signature` in `thinking` block\. The block is bound/,
  )
  await refused(next({ tools: [look] }), /bound to a different conversation/)
  const without = first.content.filter((block) => block.type !== 'thinking')
  await next({ system: 'Be rude.' }, without)
  const [block] = first.content
  assert.ok(block?.type === 'thinking')
  await refused(next({}, [{ ...block, thinking: 'I thought of something else.' }, ...without]), /Invalid `signature` in `thinking` block$/)
  // Left out between others: the later ones are bound to it.
  const history: Anthropic.MessageParam[] = [
    ...thinker.messages,
    { role: 'assistant', content: without },
    { role: 'user', content: 'And you?' },
  ]
  if (second.content.some((each) => each.type === 'thinking'))
    await refused(
      next({ messages: [...history, { role: 'assistant', content: second.content }, { role: 'user', content: 'Go on' }] }),
      /bound/,
    )
  // Another model does not read it, and does not mind.
  await next({ model: 'claude-fable-5-2', system: 'Be rude.' })
})

test('a tool loop of manual thinking begins with it, and its later calls need none', async () => {
  const params: Params = { ...ask, max_tokens: 2_000, thinking: { type: 'enabled', budget_tokens: 1_024 }, tools: [look] }
  const headers = { ...thinking, 'x-fake-tool-call': 'look' }
  const first = await client.messages.create(params, { headers })
  assert.deepEqual(typesOf(first), ['thinking', 'tool_use'])
  const result = (id: string): Anthropic.MessageParam => ({
    role: 'user',
    content: [{ type: 'tool_result', tool_use_id: id, content: 'x' }],
  })
  const call = first.content.find((block) => block.type === 'tool_use')
  assert.ok(call !== undefined)
  const later: Anthropic.MessageParam[] = [result(call.id), { role: 'assistant', content: [{ ...call, id: 'toolu_2' }] }, result('toolu_2')]
  const loop = (content: Anthropic.ContentBlockParam[]): Params => ({
    ...params,
    messages: [...params.messages, { role: 'assistant', content }, ...later],
  })
  assert.equal((await client.messages.create(loop(first.content))).type, 'message')
  await refused(client.messages.create(loop([call])), /Expected `thinking` or `redacted_thinking`, but found `tool_use`/)
})

test('thinking can be shown in part, or come back encrypted', async () => {
  const shown = await client.messages.create({ ...thinker, thinking: { type: 'adaptive', display: 'summarized' } }, { headers: thinking })
  assert.ok(shown.content[0]?.type === 'thinking' && shown.content[0].thinking.length > 20)
  const trigger = 'ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING_46C9A13E193C177646C7398A98432ECCCE4C1253D5E2D82641AC0E52CC2876CB'
  const messages: Anthropic.MessageParam[] = [{ role: 'user', content: trigger }]
  const plain = await client.messages.create({ ...thinker, messages }, { headers: thinking })
  assert.deepEqual(typesOf(plain), ['redacted_thinking', 'text'])
  const streamed = await client.messages.stream({ ...thinker, messages }, { headers: thinking }).finalMessage()
  assert.deepEqual(streamed.content, plain.content)
  await client.messages.create({
    ...thinker,
    messages: [...messages, { role: 'assistant', content: plain.content }, { role: 'user', content: 'Go on' }],
  })
})

test('the provider runs its own tools as often as max_uses allows, and reads the window again each time', async () => {
  const headers = { 'x-fake-hosted-calls': 'web_search,web_search,web_search', 'x-fake-hosted-result-tokens': '300' }
  const plain = await client.messages.create({ ...ask, tools: [search] }, { headers })
  assert.deepEqual(plain.usage.server_tool_use, { web_search_requests: 2, web_fetch_requests: 0 })
  assert.equal(typesOf(plain).filter((type) => type === 'web_search_tool_result').length, 3)
  const line = onlyLine()
  assert.equal(line.feesNanoUsd, 20_000_000n)
  assert.equal(line.promptTokens, plain.usage.input_tokens)
  const without = await client.messages.create({ ...ask, tools: [search] })
  assert.ok(plain.usage.input_tokens > 3 * without.usage.input_tokens)
  const streamed = await client.messages.stream({ ...ask, tools: [search] }, { headers }).finalMessage()
  assert.equal(streamed.usage.input_tokens, plain.usage.input_tokens)
  assert.deepEqual(streamed.usage.server_tool_use, plain.usage.server_tool_use)
})

test('stop sequences and refusals say why the answer ended', async () => {
  const headers = { 'x-fake-content': encodeURIComponent('One, two, STOP, three') }
  const stopped = await client.messages.create({ ...ask, stop_sequences: ['HALT', 'STOP'] }, { headers })
  assert.deepEqual([stopped.stop_reason, stopped.stop_sequence], ['stop_sequence', 'STOP'])
  assert.ok(stopped.content[0]?.type === 'text' && stopped.content[0].text === 'One, two, ')
  const refusal = await client.messages.create({
    ...ask,
    messages: [{ role: 'user', content: 'ANTHROPIC_MAGIC_STRING_TRIGGER_REFUSAL_1FAE' }],
  })
  assert.deepEqual([refusal.stop_reason, refusal.content], ['refusal', []])
})

test('a refusal before any output shows its tokens, and is on the bill in three categories alone', async () => {
  const open = { cyber: false, general_harms: false, null: false, bio: true, frontier_llm: true, reasoning_extraction: true }
  for (const stream of [false, true])
    for (const [category, isBilled] of Object.entries(open)) {
      provider.bill.clear()
      const headers = { 'x-fake-refusal': category }
      const said = stream ? await client.messages.stream(ask, { headers }).finalMessage() : await client.messages.create(ask, { headers })
      assert.deepEqual([said.stop_reason, said.content], ['refusal', []])
      assert.equal(said.stop_details?.category ?? 'null', category)
      assert.ok(said.usage.input_tokens > 0)
      await provider.settled()
      const [line] = provider.bill.lines()
      assert.equal((line?.nanoUsd ?? 0n) > 0n, isBilled, category)
    }
})

test('count_tokens costs nothing and says what the request will say; batches are accepted', async () => {
  const counted = await client.messages.countTokens({ model: ask.model, messages: ask.messages, tools: [look] })
  const { usage } = await client.messages.create({ ...ask, tools: [look] })
  assert.equal(counted.input_tokens, usage.input_tokens)
  const batch = await client.messages.batches.create({ requests: [{ custom_id: 'a', params: ask }] })
  assert.equal(batch.processing_status, 'in_progress')
  assert.equal(provider.bill.lines().length, 1)
  const models = await client.models.list()
  assert.ok(models.data.some((model) => model.id === 'claude-opus-5-5'))
})

test('errors arrive as the SDK knows them', async () => {
  await assert.rejects(client.messages.create({ ...ask, model: 'claude-none' }), (error) => {
    assert.ok(error instanceof NotFoundError)
    assert.deepEqual([error.type, error.apiMessage], ['not_found_error', 'model: claude-none'])
    assert.match(error.requestID ?? '', /^req_/)
    return true
  })
  await assert.rejects(client.messages.create(ask, { headers: { 'x-fake-status': '429' } }), RateLimitError)
  await assert.rejects(
    client.messages.create(ask, { headers: { 'x-fake-status': '529' } }),
    (error) => error instanceof APIError && error.type === 'overloaded_error',
  )
  await assert.rejects(
    client.messages.stream(ask, { headers: { 'x-fake-error-after-tokens': '5' } }).finalMessage(),
    (error) => error instanceof APIError && error.type === 'overloaded_error',
  )
})

test('an aborted stream is billed for its input and for what was generated', async () => {
  const stream = client.messages.stream(
    { ...ask, max_tokens: 4_000 },
    { headers: { 'x-fake-output-tokens': '4000', 'x-fake-token-delay-ms': '5' } },
  )
  stream.on('text', () => stream.abort())
  await assert.rejects(stream.finalMessage(), APIUserAbortError)
  await provider.settled()
  const line = onlyLine()
  assert.equal(line.state, 'aborted')
  assert.ok(line.promptTokens > 0 && line.outputTokens > 0 && line.outputTokens < 4_000)
})

async function refused(call: Promise<unknown>, message: RegExp): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof APIError)
    assert.equal(error.status, 400)
    assert.match(error.apiMessage ?? '', message)
    return true
  })
}

function typesOf(message: Anthropic.Message): readonly string[] {
  return message.content.map((block) => block.type)
}

function onlyLine(): BillLine {
  const [line, ...more] = provider.bill.lines()
  assert.ok(line !== undefined && more.length === 0)
  return line
}
