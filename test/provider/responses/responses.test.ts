import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import OpenAI, { APIError } from 'openai'
import type {
  Response,
  ResponseCreateParamsNonStreaming,
  ResponseInputItem,
  ResponseStreamEvent,
  Tool,
} from 'openai/resources/responses/responses'
import type { BillLine } from '../bill.ts'
import type { Provider } from '../server.ts'
import { startProvider } from '../server.ts'

let provider: Provider
let client: OpenAI
before(async () => {
  const writes = { input: '0.25', cachedInput: '0.025', cacheWriteInput: '0.3125', cacheWriteLongInput: '0.50', output: '2.00' }
  provider = await startProvider({ models: [{ id: 'writer', tokenPercent: 100, price: writes }] })
  client = new OpenAI({ apiKey: 'any', baseURL: `${provider.url}/v1`, maxRetries: 0 })
})
beforeEach(async () => {
  await provider.settled()
  provider.bill.clear()
  provider.clearCache()
})
after(() => provider.close())

const ask: ResponseCreateParamsNonStreaming = { model: 'gpt-4o', input: 'How are you?' }
const thinking: ResponseCreateParamsNonStreaming = { model: 'gpt-5-mini', input: 'How are you?' }
const look: Tool = {
  type: 'function',
  name: 'look',
  strict: null,
  parameters: { type: 'object', properties: { where: { type: 'string' } }, required: ['where'] },
}
const long = 'All of this was said before, word for word. '.repeat(300)

describe('an answer', () => {
  test('has every documented field, and its usage is what the bill says', async () => {
    const { data, response } = await client.responses.create({ ...ask, instructions: 'Be kind.', metadata: { a: 'b' } }).withResponse()
    assert.equal(data.object, 'response')
    assert.equal(data.status, 'completed')
    assert.equal(data.model, 'gpt-4o-2024-08-06')
    assert.equal(data.instructions, 'Be kind.')
    assert.deepEqual(data.metadata, { a: 'b' })
    assert.deepEqual(data.tool_usage?.web_search, { num_requests: 0 })
    assert.ok(data.output_text.length > 0)
    assert.equal(data.usage?.total_tokens, (data.usage?.input_tokens ?? 0) + (data.usage?.output_tokens ?? 0))
    const line = onlyLine()
    assert.equal(line.requestId, response.headers.get('x-request-id'))
    assert.deepEqual([line.promptTokens, line.outputTokens, line.state], [data.usage?.input_tokens, data.usage?.output_tokens, 'complete'])
  })

  test('streamed is the same, in events whose numbers grow by one', async () => {
    const plain = await client.responses.create(ask)
    const events = await streamed(ask)
    assert.deepEqual(
      events.map((event) => event.sequence_number),
      events.map((_, index) => index),
    )
    const deltas = events.filter((event) => event.type === 'response.output_text.delta')
    assert.equal(deltas.map((event) => event.delta).join(''), plain.output_text)
    const others = events.map((event) => event.type).filter((type) => type !== 'response.output_text.delta')
    assert.deepEqual(others, [
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.completed',
    ])
    assert.deepEqual(usageIn(events), plain.usage)
    const whole = await client.responses.stream({ model: 'gpt-4o', input: 'How are you?' }).finalResponse()
    assert.equal(whole.output_text, plain.output_text)
  })

  test('with reasoning thinks first, in tokens that are billed as output', async () => {
    const headers = { 'x-fake-reasoning-tokens': '100', 'x-fake-output-tokens': '20' }
    const answer = await client.responses.create(thinking, { headers })
    assert.deepEqual(
      answer.output.map((item) => item.type),
      ['reasoning', 'message'],
    )
    assert.equal(answer.usage?.output_tokens_details.reasoning_tokens, 100)
    assert.equal(answer.usage?.output_tokens, 120)
  })

  test('of structured output fits the schema', async () => {
    const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'], additionalProperties: false }
    const answer = await client.responses.create({ ...ask, text: { format: { type: 'json_schema', name: 'n', schema, strict: true } } })
    assert.equal(typeof JSON.parse(answer.output_text).n, 'number')
  })

  test('reads a long prefix from the cache, and says what it wrote to it where the model bills writes', async () => {
    const first = await client.responses.create({ model: 'writer', input: long, prompt_cache_options: { ttl: '12h' } })
    const second = await client.responses.create({ model: 'writer', input: long + long })
    const wrote = first.usage?.input_tokens_details
    assert.ok((wrote?.cache_write_tokens ?? 0) >= 1_024)
    assert.deepEqual(wrote?.cache_write_tokens_details, { ttl_30m_tokens: 0, ttl_12h_tokens: wrote?.cache_write_tokens })
    assert.equal(second.usage?.input_tokens_details.cached_tokens, wrote?.cache_write_tokens)
    const [line] = provider.bill.lines()
    const { input_tokens: input = 0, output_tokens: output = 0 } = first.usage ?? {}
    const written = wrote?.cache_write_tokens ?? 0
    assert.equal(line?.nanoUsd, BigInt((input - written) * 250 + written * 500 + output * 2_000))
  })

  test('on another service tier says which, and is billed by it', async () => {
    const answer = await client.responses.create({ ...thinking, service_tier: 'flex' })
    assert.equal(answer.service_tier, 'flex')
    assert.equal(onlyLine().serviceTier, 'flex')
  })
})

describe('the bound on output', () => {
  test('is exact, and an answer that meets it is incomplete', async () => {
    const headers = { 'x-fake-output-tokens': '100' }
    const answer = await client.responses.create({ ...ask, max_output_tokens: 40 }, { headers })
    assert.equal(answer.status, 'incomplete')
    assert.deepEqual(answer.incomplete_details, { reason: 'max_output_tokens' })
    assert.equal(answer.usage?.output_tokens, 40)
    const events = await streamed({ ...ask, max_output_tokens: 40 }, headers)
    assert.equal(events.at(-1)?.type, 'response.incomplete')
    assert.equal(usageIn(events)?.output_tokens, 40)
  })

  test('counts thinking, which may leave nothing for words', async () => {
    const answer = await client.responses.create({ ...thinking, max_output_tokens: 16 }, { headers: { 'x-fake-reasoning-tokens': '500' } })
    assert.deepEqual(
      answer.output.map((item) => item.type),
      ['reasoning'],
    )
    assert.deepEqual([answer.status, answer.usage?.output_tokens], ['incomplete', 16])
  })

  test('must be 16 at least', async () => {
    await refused({ ...ask, max_output_tokens: 15 }, 400, /integer below minimum value. Expected a value >= 16/, 'integer_below_min_value')
  })
})

describe('history that the provider keeps', () => {
  test('is read and billed again with every response that goes on from it', async () => {
    const first = await client.responses.create({ ...ask, input: long })
    const second = await client.responses.create({ ...ask, previous_response_id: first.id })
    const before = (first.usage?.input_tokens ?? 0) + (first.usage?.output_tokens ?? 0)
    assert.ok((second.usage?.input_tokens ?? 0) > before)
    assert.ok((second.usage?.input_tokens_details.cached_tokens ?? 0) >= 1_024)
    const stateless = await client.responses.create({ ...ask, input: [...asInput(long), ...items(first), ...asInput('How are you?')] })
    assert.equal(stateless.usage?.input_tokens, second.usage?.input_tokens)
  })

  test('does not hold the instructions of the turn before', async () => {
    const instructions = 'Answer in the words of a pirate. '.repeat(20)
    const first = await client.responses.create({ ...ask, instructions })
    const second = await client.responses.create({ ...ask, previous_response_id: first.id })
    const { input_tokens: input = 0, output_tokens: output = 0 } = first.usage ?? {}
    assert.ok((second.usage?.input_tokens ?? 0) < input + output)
  })

  test('is there under its id until it is deleted; what was not stored never was', async () => {
    const first = await client.responses.create(ask)
    const shown = await client.responses.retrieve(first.id)
    assert.deepEqual(shown.output, first.output)
    const listed = await client.responses.inputItems.list(first.id)
    assert.equal(listed.data.length, 1)
    await client.responses.delete(first.id)
    await assert.rejects(client.responses.retrieve(first.id), { status: 404 })
    await refused({ ...ask, previous_response_id: first.id }, 400, /Previous response with id .* not found/, 'previous_response_not_found')
    const forgotten = await client.responses.create({ ...ask, store: false })
    await refused({ ...ask, previous_response_id: forgotten.id }, 400, /not found/, 'previous_response_not_found')
  })

  test('of a conversation may begin with none, as agents begin one', async () => {
    const { id } = await client.conversations.create({ items: [] })
    assert.equal((await client.conversations.items.list(id)).data.length, 0)
    await assert.rejects(client.conversations.items.create(id, { items: [] }), { status: 400 })
  })

  test('of a conversation grows by what was said', async () => {
    const conversation = await client.conversations.create({ items: [{ role: 'user', content: long }], metadata: { a: 'b' } })
    const first = await client.responses.create({ ...ask, conversation: conversation.id })
    const second = await client.responses.create({ ...ask, conversation: { id: conversation.id } })
    assert.ok((second.usage?.input_tokens ?? 0) > (first.usage?.input_tokens ?? 0))
    assert.equal(first.conversation?.id, conversation.id)
    const listed = await client.conversations.items.list(conversation.id)
    assert.equal(listed.data.length, 5)
    await refused({ ...ask, conversation: conversation.id, previous_response_id: first.id }, 400, /Mutually exclusive/)
    await client.conversations.delete(conversation.id)
    await refused({ ...ask, conversation: conversation.id }, 404, /not found/)
  })

  test('is counted on request, at no cost', async () => {
    const first = await client.responses.create(ask)
    const params = { model: 'gpt-4o', input: 'And now?', previous_response_id: first.id }
    const counted = await client.responses.inputTokens.count(params)
    const second = await client.responses.create(params)
    assert.equal(counted.input_tokens, second.usage?.input_tokens)
    assert.equal(provider.bill.lines().length, 2)
  })

  test('beyond the window is refused, or cut where the client lets it be', async () => {
    const input = Array.from({ length: 60 }, () => ({ role: 'user' as const, content: long }))
    await refused({ ...ask, input }, 400, /exceeds the context window/, 'context_length_exceeded')
    const answer = await client.responses.create({ ...ask, input, truncation: 'auto', max_output_tokens: 16 })
    assert.ok((answer.usage?.input_tokens ?? 0) < 128_000)
  })
})

describe('what must stand together', () => {
  test('a call of a function and its output', async () => {
    const tools = [look]
    const answer = await client.responses.create({ ...ask, tools, tool_choice: 'required' })
    const [call] = answer.output
    assert.ok(call?.type === 'function_call')
    const output = { type: 'function_call_output' as const, call_id: call.call_id, output: 'a door' }
    const next = await client.responses.create({
      ...ask,
      tools,
      input: [...asInput('Look.'), ...items(answer), output],
      tool_choice: 'none',
    })
    assert.ok(next.output_text.length > 0)
    await client.responses.create({ ...ask, tools, previous_response_id: answer.id, input: [output] })
    await refused({ ...ask, tools, input: [...asInput('Look.'), ...items(answer)] }, 400, /No tool output found for function call call_/)
    await refused({ ...ask, tools, previous_response_id: answer.id }, 400, /No tool output found/)
    await refused({ ...ask, tools, input: [...asInput('Look.'), output] }, 400, /No tool call found for function call output/)
  })

  test('a reasoning item and what was made after it', async () => {
    const answer = await client.responses.create(thinking, { headers: { 'x-fake-reasoning-tokens': '64' } })
    const [reasoning, message] = items(answer)
    assert.ok(reasoning !== undefined && message !== undefined)
    const next = asInput('And then?')
    await client.responses.create({ ...thinking, input: [...asInput('Hi'), reasoning, message, ...next] })
    await refused(
      { ...thinking, input: [...asInput('Hi'), reasoning, ...next] },
      400,
      /of type 'reasoning' was provided without its required following item/,
    )
    await refused(
      { ...thinking, input: [...asInput('Hi'), message, ...next] },
      400,
      /of type 'message' was provided without its required 'reasoning' item/,
    )
  })

  test('a reasoning item that was not stored, and its sealed content', async () => {
    const sealed = { ...thinking, store: false, include: ['reasoning.encrypted_content' as const] }
    const headers = { 'x-fake-reasoning-tokens': '64' }
    const answer = await client.responses.create(sealed, { headers })
    const [reasoning] = items(answer)
    assert.ok(reasoning?.type === 'reasoning' && (reasoning.encrypted_content ?? '').length >= 256)
    const before = await client.responses.create({ ...sealed, input: [...asInput('Hi'), ...items(answer), ...asInput('And then?')] })
    const without = await client.responses.create({
      ...sealed,
      input: [...asInput('Hi'), ...items(answer).slice(1), ...asInput('And then?')],
    })
    assert.ok((before.usage?.input_tokens ?? 0) >= (without.usage?.input_tokens ?? 0) + 64)
    const broken = { ...reasoning, encrypted_content: 'gAAAAABx' }
    await refused(
      { ...sealed, input: [...asInput('Hi'), broken, ...items(answer).slice(1)] },
      400,
      /could not be verified/,
      'invalid_encrypted_content',
    )
    const bare = await client.responses.create({ ...thinking, store: false }, { headers })
    await refused({ ...thinking, input: [...asInput('Hi'), ...items(bare), ...asInput('So?')] }, 404, /Items are not persisted/)
  })
})

describe('built-in tools', () => {
  const tools: Tool[] = [
    { type: 'web_search' },
    { type: 'file_search', vector_store_ids: ['vs_1'] },
    { type: 'code_interpreter', container: { type: 'auto' } },
  ]

  test('read the window again on every call, bring results into it, and cost a fee each', async () => {
    const headers = {
      'x-fake-hosted-calls': 'web_search,web_search,file_search,code_interpreter,code_interpreter',
      'x-fake-hosted-result-tokens': '500',
    }
    const one = await client.responses.inputTokens.count({ model: 'gpt-4o', input: long, tools })
    provider.clearCache()
    const answer = await client.responses.create({ ...ask, input: long, tools }, { headers })
    assert.deepEqual(
      answer.output.map((item) => item.type),
      ['web_search_call', 'web_search_call', 'file_search_call', 'code_interpreter_call', 'code_interpreter_call', 'message'],
    )
    assert.equal(answer.tool_usage?.web_search.num_requests, 2)
    assert.ok((answer.usage?.input_tokens ?? 0) > one.input_tokens * 6 + 500 * 15)
    const line = onlyLine()
    assert.equal(line.feesNanoUsd, 2n * 10_000_000n + 2_500_000n + 30_000_000n)
    assert.equal(line.promptTokens, answer.usage?.input_tokens)
    const { promptTokens, cachedTokens, outputTokens } = line
    assert.equal(
      line.nanoUsd,
      BigInt((promptTokens - cachedTokens) * 2_500 + cachedTokens * 1_250 + outputTokens * 10_000) + line.feesNanoUsd,
    )
  })

  test('keep to max_tool_calls and to tool_choice', async () => {
    const headers = { 'x-fake-hosted-calls': 'web_search,web_search,web_search' }
    const bounded = await client.responses.create({ ...ask, tools, max_tool_calls: 2 }, { headers })
    assert.equal(bounded.output.filter((item) => item.type === 'web_search_call').length, 2)
    const none = await client.responses.create({ ...ask, tools, tool_choice: 'none' }, { headers })
    assert.deepEqual(
      none.output.map((item) => item.type),
      ['message'],
    )
    const forced = await client.responses.create({ ...ask, tools, tool_choice: { type: 'file_search' }, max_tool_calls: 1 })
    assert.equal(forced.output[0]?.type, 'file_search_call')
  })

  test('that an item adds are there as long as the item is in the window', async () => {
    const headers = { 'x-fake-hosted-calls': 'web_search,web_search' }
    const item: ResponseInputItem = { type: 'additional_tools', role: 'developer', tools: [{ type: 'web_search' }] }
    const first = await client.responses.create({ ...ask, input: [item, { role: 'user', content: 'Search.' }] }, { headers })
    const kept = await client.responses.create({ ...ask, input: 'Again.', previous_response_id: first.id }, { headers })
    for (const { output } of [first, kept]) assert.equal(output.filter(({ type }) => type === 'web_search_call').length, 2)
    assert.deepEqual(kept.tools, [])
    const anew = await client.responses.create({ ...ask, input: 'Again.' }, { headers })
    assert.ok(anew.output.every(({ type }) => type !== 'web_search_call'))
  })

  test('show in a stream, step by step', async () => {
    const events = await streamed({ ...ask, tools }, { 'x-fake-hosted-calls': 'web_search' })
    const types = events.map((event) => event.type).filter((type) => type.startsWith('response.web_search_call'))
    assert.deepEqual(types, [
      'response.web_search_call.in_progress',
      'response.web_search_call.searching',
      'response.web_search_call.completed',
    ])
    assert.ok(events.some((event) => event.type === 'response.output_text.annotation.added'))
  })
})

describe('compaction', () => {
  test('gives the messages of the user and one sealed item, and is billed', async () => {
    const first = await client.responses.create({ ...ask, input: long })
    provider.bill.clear()
    const compacted = await client.responses.compact({ model: 'gpt-4o', previous_response_id: first.id })
    assert.equal(compacted.object, 'response.compaction')
    assert.deepEqual(
      compacted.output.map((item) => item.type),
      ['message', 'compaction'],
    )
    const line = onlyLine()
    assert.deepEqual([line.promptTokens, line.outputTokens], [compacted.usage.input_tokens, compacted.usage.output_tokens])
    const sealed = compacted.output.at(-1)
    assert.ok(sealed?.type === 'compaction')
    const next = await client.responses.create({ ...ask, input: [sealed, ...asInput('Go on.')] })
    assert.ok((next.usage?.input_tokens ?? 0) < (first.usage?.input_tokens ?? 0))
  })

  test('happens by itself beyond a threshold, and costs a pass of its own', async () => {
    const answer = await client.responses.create({
      ...ask,
      input: long,
      context_management: [{ type: 'compaction', compact_threshold: 1_000 }],
    })
    assert.deepEqual(
      answer.output.map((item) => item.type),
      ['compaction', 'message'],
    )
    const alone = await client.responses.inputTokens.count({ model: 'gpt-4o', input: long })
    assert.ok((answer.usage?.input_tokens ?? 0) > alone.input_tokens + 1_000)
  })
})

test('in the background an answer is made without its reader, and its usage comes later', async () => {
  const queued = await client.responses.create({ ...ask, background: true })
  assert.deepEqual([queued.status, queued.usage ?? null], ['queued', null])
  await provider.settled()
  const done = await client.responses.retrieve(queued.id)
  assert.equal(done.status, 'completed')
  assert.equal(onlyLine().outputTokens, done.usage?.output_tokens)
})

test('unknown fields, items and parts are refused', async () => {
  await refusedRaw({ model: 'gpt-4o', input: 'x', max_tokens: 5 }, /Unknown parameter: 'max_tokens'/)
  await refusedRaw({ model: 'gpt-4o', input: [{ role: 'user', content: 'x', name: 'y' }] }, /Unknown parameter: 'input\[0\].name'/)
  await refusedRaw(
    { model: 'gpt-4o', input: [{ role: 'assistant', content: [{ type: 'input_text', text: 'x' }] }] },
    /Invalid value: 'input_text'/,
  )
  await refusedRaw(
    { model: 'gpt-4o', input: [{ id: 'x', type: 'message', role: 'assistant', content: [] }] },
    /Expected an ID that begins with 'msg'/,
  )
  await refusedRaw({ model: 'gpt-4o' }, /One of 'input' or 'previous_response_id'/)
  await refusedRaw({ model: 'nope', input: 'x' }, /does not exist/)
  assert.deepEqual(provider.bill.lines(), [])
})

test('an abort bills what was made until then, and stores nothing', async () => {
  const headers = { 'x-fake-output-tokens': '2000', 'x-fake-token-delay-ms': '1' }
  const stream = await client.responses.create({ ...ask, stream: true }, { headers })
  let deltas = 0
  for await (const event of stream) {
    if (event.type === 'response.output_text.delta') deltas += 1
    if (deltas === 20) break
  }
  await provider.settled()
  const line = onlyLine()
  assert.equal(line.state, 'aborted')
  assert.ok(line.outputTokens >= 20 && line.outputTokens < 2_000, String(line.outputTokens))
})

test('a failure in the stream is an error event', async () => {
  await assert.rejects(streamed(ask, { 'x-fake-error-after-tokens': '5' }), APIError)
  assert.equal(onlyLine().state, 'cut')
})

async function streamed(params: ResponseCreateParamsNonStreaming, headers: Record<string, string> = {}): Promise<ResponseStreamEvent[]> {
  const stream = await client.responses.create({ ...params, stream: true }, { headers })
  const events: ResponseStreamEvent[] = []
  for await (const event of stream) events.push(event)
  return events
}

function usageIn(events: readonly ResponseStreamEvent[]): Response['usage'] {
  const last = events.at(-1)
  assert.ok(last?.type === 'response.completed' || last?.type === 'response.incomplete')
  return last.response.usage
}

function items(answer: Response): ResponseInputItem[] {
  return answer.output as ResponseInputItem[]
}

function asInput(text: string): ResponseInputItem[] {
  return [{ role: 'user', content: text }]
}

async function refused(params: ResponseCreateParamsNonStreaming, status: number, message: RegExp, code?: string): Promise<void> {
  await assert.rejects(client.responses.create(params), (error) => {
    assert.ok(error instanceof APIError)
    assert.equal(error.status, status)
    assert.match(error.message, message)
    if (code !== undefined) assert.equal(error.code, code)
    return true
  })
}

async function refusedRaw(body: object, message: RegExp): Promise<void> {
  const response = await fetch(`${provider.url}/v1/responses`, {
    method: 'POST',
    headers: { authorization: 'Bearer any', 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  assert.equal(response.status, 400)
  assert.match(await response.text(), message)
}

function onlyLine(): BillLine {
  const lines = provider.bill.lines()
  const [line] = lines
  assert.ok(lines.length === 1 && line !== undefined, `${lines.length} lines`)
  return line
}
