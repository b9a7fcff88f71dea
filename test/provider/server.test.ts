import assert from 'node:assert/strict'
import { readFile, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, test } from 'node:test'
import OpenAI, { APIError, APIUserAbortError, RateLimitError } from 'openai'
import { EXAMPLE_CONVERSATIONS } from '../support/recorded-data.ts'
import { spawnProvider } from '../support/provider-process.ts'
import { picoPerToken } from './bill.ts'
import type { BillLine } from './bill.ts'
import { DEFAULT_MODELS } from './models.ts'
import type { Provider } from './server.ts'
import { startProvider } from './server.ts'

type Params = OpenAI.ChatCompletionCreateParamsNonStreaming
type Chunk = OpenAI.ChatCompletionChunk

let provider: Provider
let client: OpenAI
before(async () => {
  provider = await startProvider({ data: [EXAMPLE_CONVERSATIONS] })
  client = new OpenAI({ apiKey: 'any', baseURL: `${provider.url}/v1`, maxRetries: 0 })
})
beforeEach(async () => {
  await provider.settled()
  provider.bill.clear()
  provider.clearCache()
})
after(() => provider.close())

const ask: Params = { model: 'gpt-4o', messages: [{ role: 'user', content: 'How are you?' }] }
const look: OpenAI.ChatCompletionTool = {
  type: 'function',
  function: {
    name: 'look',
    parameters: { type: 'object', properties: { where: { type: 'string', enum: ['here', 'there'] } }, required: ['where'] },
  },
}
const long = 'All of this was said before, word for word. '.repeat(300)

test('a plain answer has every documented field, and its usage is what the bill says', async () => {
  const { data, response } = await client.chat.completions.create(ask).withResponse()
  assert.equal(data.object, 'chat.completion')
  assert.equal(data.model, 'gpt-4o-2024-08-06')
  assert.equal(data.service_tier, 'default')
  assert.match(data.id, /^chatcmpl-/)
  const [choice] = data.choices
  assert.ok((choice?.message.content?.length ?? 0) > 0)
  assert.equal(choice?.finish_reason, 'stop')
  assert.equal(choice?.message.refusal, null)
  assert.deepEqual(data.usage?.prompt_tokens_details, { cached_tokens: 0, audio_tokens: 0 })
  assert.equal(data.usage?.total_tokens, (data.usage?.prompt_tokens ?? 0) + (data.usage?.completion_tokens ?? 0))
  const line = onlyLine()
  assert.equal(line.requestId, response.headers.get('x-request-id'))
  assert.deepEqual(
    [line.promptTokens, line.outputTokens, line.state],
    [data.usage?.prompt_tokens, data.usage?.completion_tokens, 'complete'],
  )
})

test('a stream carries the same answer in chunks; usage comes last and only when asked for', async () => {
  const plain = await client.chat.completions.create(ask)
  const chunks = await collect({ ...ask, stream_options: { include_usage: true } })
  const first = chunks[0]
  assert.deepEqual(first?.choices[0]?.delta, { role: 'assistant', content: '', refusal: null })
  assert.ok(
    chunks.slice(0, -1).every((chunk) => chunk.usage === null && chunk.choices.length === 1 && chunk.object === 'chat.completion.chunk'),
  )
  assert.equal(textOf(chunks), plain.choices[0]?.message.content)
  assert.equal(chunks.at(-2)?.choices[0]?.finish_reason, 'stop')
  assert.deepEqual(chunks.at(-1)?.choices, [])
  assert.deepEqual(chunks.at(-1)?.usage, plain.usage)
  const silent = await collect(ask)
  assert.ok(silent.every((chunk) => !('usage' in chunk)))
  assert.equal(silent.length, chunks.length - 1)
})

test('n answers are billed together and come side by side in a stream', async () => {
  const headers = { 'x-fake-output-tokens': '30' }
  const plain = await client.chat.completions.create({ ...ask, n: 3 }, { headers })
  assert.equal(plain.choices.length, 3)
  assert.equal(plain.usage?.completion_tokens, 90)
  assert.equal(new Set(plain.choices.map((choice) => choice.message.content)).size, 3)
  const chunks = await collect({ ...ask, n: 3 }, headers)
  for (const choice of plain.choices) assert.equal(textOf(chunks, choice.index), choice.message.content)
  assert.deepEqual(
    provider.bill.lines().map((line) => line.outputTokens),
    [90, 90],
  )
})

test('the bound on output is obeyed to the token, whichever its name', async () => {
  for (const field of ['max_tokens', 'max_completion_tokens']) {
    const answer = await client.chat.completions.create({ ...ask, [field]: 17 }, { headers: { 'x-fake-output-tokens': '500' } })
    assert.equal(answer.choices[0]?.finish_reason, 'length')
    assert.equal(answer.usage?.completion_tokens, 17)
  }
  const chunks = await collect(
    { ...ask, max_completion_tokens: 17, stream_options: { include_usage: true } },
    { 'x-fake-output-tokens': '500' },
  )
  assert.equal(chunks.at(-2)?.choices[0]?.finish_reason, 'length')
  assert.equal(chunks.at(-1)?.usage?.completion_tokens, 17)
})

test('a model that counts more tokens is charged for more, and an answer of N tokens has N', async () => {
  const headers = { 'x-fake-output-tokens': '77', 'x-fake-reasoning-tokens': '0' }
  const [plain, dense] = await Promise.all(
    ['gpt-4o', 'o4-mini'].map((model) =>
      client.chat.completions.create({ ...ask, model, messages: [{ role: 'user', content: long }] }, { headers }),
    ),
  )
  assert.deepEqual([plain?.usage?.completion_tokens, dense?.usage?.completion_tokens], [77, 77])
  const words = (plain?.usage?.prompt_tokens ?? 0) - 7
  assert.equal(dense?.usage?.prompt_tokens, Math.ceil(words * 1.8) + 7)
})

test('a reasoning model thinks in hidden tokens, inside the bound', async () => {
  const model = 'gpt-5'
  const answer = await client.chat.completions.create(
    { ...ask, model },
    { headers: { 'x-fake-reasoning-tokens': '128', 'x-fake-output-tokens': '10' } },
  )
  assert.equal(answer.usage?.completion_tokens, 138)
  assert.equal(answer.usage?.completion_tokens_details?.reasoning_tokens, 128)
  const starved = await client.chat.completions.create(
    { ...ask, model, max_completion_tokens: 100 },
    { headers: { 'x-fake-reasoning-tokens': '128' } },
  )
  assert.deepEqual(
    [starved.choices[0]?.finish_reason, starved.choices[0]?.message.content, starved.usage?.completion_tokens],
    ['length', '', 100],
  )
  assert.equal(provider.bill.lines()[1]?.reasoningTokens, 100)
})

test('a forced tool is called with arguments that its schema allows', async () => {
  for (const tool_choice of ['required', { type: 'function', function: { name: 'look' } }] as const) {
    const { choices }: OpenAI.ChatCompletion = await client.chat.completions.create({ ...ask, tools: [look], tool_choice })
    const call = choices[0]?.message.tool_calls?.[0]
    assert.ok(call?.type === 'function' && call.function.name === 'look')
    assert.match(call.function.arguments, /^\{"where":"(here|there)"\}$/)
    assert.equal(choices[0]?.message.content, null)
    assert.equal(choices[0]?.finish_reason, tool_choice === 'required' ? 'tool_calls' : 'stop')
  }
})

test('parallel calls are made on demand, one without parallel_tool_calls, none under tool_choice none', async () => {
  const headers = { 'x-fake-tool-call': '[{"name":"look","arguments":{"where":"here"}},{"name":"look"}]' }
  const request: Params = { ...ask, tools: [look] }
  const both = await client.chat.completions.create(request, { headers })
  assert.equal(both.choices[0]?.message.tool_calls?.length, 2)
  assert.equal(new Set(both.choices[0]?.message.tool_calls?.map((call) => call.id)).size, 2)
  const final = await client.chat.completions.stream({ ...request, stream: true }, { headers }).finalMessage()
  assert.deepEqual(
    final.tool_calls?.map(({ id, type }) => [id, type]),
    both.choices[0]?.message.tool_calls?.map(({ id, type }) => [id, type]),
  )
  const one = await client.chat.completions.create({ ...request, parallel_tool_calls: false }, { headers })
  assert.equal(one.choices[0]?.message.tool_calls?.length, 1)
  const none = await client.chat.completions.create({ ...request, tool_choice: 'none' }, { headers })
  assert.equal(none.choices[0]?.message.tool_calls, undefined)
  assert.ok((none.choices[0]?.message.content?.length ?? 0) > 0)
})

test('a tool loop of the client runs along a recorded conversation to its recorded end', async () => {
  const [record] = (await readFile(EXAMPLE_CONVERSATIONS, 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { tools: OpenAI.ChatCompletionTool[]; messages: OpenAI.ChatCompletionMessageParam[] })
  assert.ok(record)
  const messages: OpenAI.ChatCompletionMessageParam[] = []
  for (const recorded of record.messages) {
    if (recorded.role !== 'assistant') {
      messages.push(recorded)
      continue
    }
    const completion: OpenAI.ChatCompletion = await client.chat.completions.create({ model: 'gpt-4o', messages, tools: record.tools })
    const answer: OpenAI.ChatCompletionMessage | undefined = completion.choices[0]?.message
    assert.ok(answer)
    assert.equal(answer.content, recorded.content)
    assert.deepEqual(answer.tool_calls, recorded.tool_calls)
    messages.push(answer)
  }
  assert.equal(messages.length, record.messages.length)
})

test('structured output parses, in one piece and in a stream', async () => {
  const response_format: OpenAI.ResponseFormatJSONSchema = {
    type: 'json_schema',
    json_schema: {
      name: 'verdict',
      strict: true,
      schema: {
        type: 'object',
        properties: { ok: { type: 'boolean' }, why: { type: 'string' } },
        required: ['ok', 'why'],
        additionalProperties: false,
      },
    },
  }
  const parsed = (await client.chat.completions.parse({ ...ask, response_format })).choices[0]?.message.parsed
  assert.ok(typeof parsed === 'object' && parsed !== null && 'ok' in parsed && typeof parsed.ok === 'boolean' && 'why' in parsed)
  const streamed = await client.chat.completions.stream({ model: ask.model, messages: ask.messages, response_format }).finalContent()
  assert.deepEqual(JSON.parse(streamed ?? ''), parsed)
  const object = await client.chat.completions.create({
    ...ask,
    messages: [{ role: 'user', content: 'Answer as json' }],
    response_format: { type: 'json_object' },
  })
  assert.equal(typeof JSON.parse(object.choices[0]?.message.content ?? ''), 'object')
})

test('asked for a summary, it gives one within the length that was named', async () => {
  const transcript: OpenAI.ChatCompletionMessageParam[] = Array.from({ length: 8 }, (_, index) => ({
    role: index % 2 === 0 ? 'user' : 'assistant',
    content: `Point ${index}. ${'There is much to say about this point and its consequences. '.repeat(20)}`,
  }))
  const instruction = 'Summarize the conversation so far in at most 90 tokens.'
  const messages = [...transcript, { role: 'user', content: instruction }] satisfies OpenAI.ChatCompletionMessageParam[]
  const { choices, usage } = await client.chat.completions.create({ model: 'gpt-4.1-nano', messages, max_completion_tokens: 300 })
  assert.equal(choices[0]?.finish_reason, 'stop')
  assert.match(choices[0]?.message.content ?? '', /^Earlier in this conversation: Point 0\..*Point 6\./s)
  assert.ok((usage?.completion_tokens ?? 0) <= 90 * 1.5)
  const tight = await client.chat.completions.create({ model: 'gpt-4.1-nano', messages, max_completion_tokens: 40 })
  assert.equal(tight.choices[0]?.finish_reason, 'stop')
  assert.ok((tight.usage?.completion_tokens ?? 0) <= 40)
})

test('a repeated prefix is cached in blocks of 128 tokens, for its model and its time', async () => {
  let nowMs = 0
  const timed = await startProvider({ nowMs: () => nowMs, cacheTtlMs: 1_000 })
  try {
    const other = new OpenAI({ apiKey: 'any', baseURL: `${timed.url}/v1`, maxRetries: 0 })
    const cached = async (content: string, model = 'gpt-4o'): Promise<number | undefined> =>
      (
        await other.chat.completions.create({
          model,
          messages: [
            { role: 'system', content: long },
            { role: 'user', content },
          ],
        })
      ).usage?.prompt_tokens_details?.cached_tokens
    assert.equal(await cached('One?'), 0)
    const hit = (await cached('Two?')) ?? 0
    assert.ok(hit >= 1_024 && hit % 128 === 0, String(hit))
    assert.equal(await cached('Two?', 'gpt-4o-mini'), 0)
    nowMs = 999
    assert.equal(await cached('Three?'), hit)
    nowMs = 1_999
    assert.equal(await cached('Four?'), 0)
    const line = timed.bill.lines()[1]
    assert.ok(line)
    assert.equal(line.nanoUsd, priceOf(line))
  } finally {
    await timed.close()
  }
})

test('stop sequences end the answer before them', async () => {
  const headers = { 'x-fake-content': encodeURIComponent('One, two — three. Vier') }
  const { choices, usage } = await client.chat.completions.create({ ...ask, stop: ['three', 'two'] }, { headers })
  assert.equal(choices[0]?.message.content, 'One, ')
  assert.equal(usage?.completion_tokens, 3)
})

test('an unused prediction is billed as output', async () => {
  const headers = { 'x-fake-content': 'One two three' }
  const { usage } = await client.chat.completions.create(
    { ...ask, prediction: { type: 'content', content: 'One two four five' } },
    { headers },
  )
  assert.equal(usage?.completion_tokens, 3 + 2)
  assert.deepEqual(
    [usage?.completion_tokens_details?.accepted_prediction_tokens, usage?.completion_tokens_details?.rejected_prediction_tokens],
    [2, 2],
  )
  assert.equal(onlyLine().outputTokens, 5)
})

test('each tier has its price', async () => {
  for (const service_tier of ['auto', 'flex', 'priority'] as const) {
    const { service_tier: served } = await client.chat.completions.create({ ...ask, model: 'gpt-5', service_tier })
    assert.equal(served, service_tier === 'auto' ? 'default' : service_tier)
  }
  for (const line of provider.bill.lines()) assert.equal(line.nanoUsd, priceOf(line))
})

test('an aborted stream is billed for what was generated until it was noticed', async () => {
  const stream = await client.chat.completions.create(
    { ...ask, stream: true },
    { headers: { 'x-fake-output-tokens': '400', 'x-fake-token-delay-ms': '2', 'x-fake-tag': 'abort' } },
  )
  let seen = 0
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content) seen += 1
    if (seen === 40) break
  }
  stream.controller.abort()
  await provider.settled()
  const line = onlyLine()
  assert.deepEqual([line.state, line.tag], ['aborted', 'abort'])
  assert.ok(line.outputTokens >= 40 && line.outputTokens < 200, `${line.outputTokens} tokens`)
  assert.equal(line.nanoUsd, priceOf(line))
})

test('an untimed stream stops soon after its reader is gone', async () => {
  const stream = await client.chat.completions.create({ ...ask, stream: true }, { headers: { 'x-fake-output-tokens': '16000' } })
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break
  stream.controller.abort()
  await provider.settled()
  assert.equal(onlyLine().state, 'aborted')
  assert.ok(onlyLine().outputTokens < 16_000)
})

test('a plain answer that nobody waits for is billed up to then', async () => {
  const headers = { 'x-fake-output-tokens': '1000', 'x-fake-token-delay-ms': '5' }
  await assert.rejects(client.chat.completions.create(ask, { headers, signal: AbortSignal.timeout(150) }), APIUserAbortError)
  await provider.settled()
  const line = onlyLine()
  assert.equal(line.state, 'aborted')
  assert.ok(line.outputTokens > 0 && line.outputTokens < 500, `${line.outputTokens} tokens`)
})

test('a cut connection is billed for what was generated', async () => {
  const headers = { 'x-fake-output-tokens': '100', 'x-fake-cut-after-tokens': '30', 'x-fake-cut-mid-chunk': 'true' }
  await assert.rejects(collect(ask, headers))
  await assert.rejects(client.chat.completions.create(ask, { headers }), /terminated/)
  await assert.rejects(client.chat.completions.create(ask, { headers: { 'x-fake-cut-after-tokens': 'headers' } }))
  const states = provider.bill.lines().map((line) => `${line.state} ${line.outputTokens}`)
  assert.deepEqual(states, ['cut 30', 'cut 30', 'cut 0'])
})

test('a call that hangs owes its input, and what was shown, until the client leaves', async () => {
  for (const [hang, shown] of [
    ['headers', 0],
    ['12', 12],
  ] as const) {
    const headers = { 'x-fake-output-tokens': '100', 'x-fake-hang': hang, 'x-fake-tag': hang }
    const signal = AbortSignal.timeout(200)
    await assert.rejects(async () => {
      const stream = await client.chat.completions.create({ ...ask, stream: true }, { headers, signal })
      for await (const _ of stream);
      signal.throwIfAborted() // the client ends an aborted stream without a word
    })
    await provider.settled()
    const [line] = provider.bill.lines(hang)
    assert.deepEqual([line?.state, line?.outputTokens], ['aborted', shown])
    assert.ok((line?.promptTokens ?? 0) > 0)
  }
})

test('errors are made on demand: a status for the first calls of a tag, broken JSON, an error in the stream', async () => {
  const headers = { 'x-fake-status': '429', 'x-fake-retry-after': '1', 'x-fake-status-times': '1', 'x-fake-tag': 'once' }
  await assert.rejects(client.chat.completions.create(ask, { headers }), (error) => {
    assert.ok(error instanceof RateLimitError)
    assert.equal(error.headers.get('retry-after'), '1')
    return true
  })
  await client.chat.completions.create(ask, { headers })
  assert.equal(onlyLine().tag, 'once')
  await assert.rejects(client.chat.completions.create(ask, { headers: { 'x-fake-malformed': 'true' } }), SyntaxError)
  await assert.rejects(collect(ask, { 'x-fake-malformed': 'true' }), SyntaxError)
  await assert.rejects(collect(ask, { 'x-fake-error-after-tokens': '3' }), APIError)
  for (const status of ['400', '422'])
    await assert.rejects(
      collect({ ...ask, stream_options: { include_usage: true } }, { 'x-fake-reject-stream-options': status }),
      new RegExp(`${status}.*stream_options`),
    )
  const twice = { ...ask, messages: [...ask.messages, ...ask.messages] }
  const strict = { headers: { 'x-fake-alternate-roles': ask.model } }
  await assert.rejects(client.chat.completions.create(twice, strict), /roles must alternate/)
  assert.equal(provider.bill.lines().length, 4)
  await client.chat.completions.create(ask, strict)
})

test('usage can be left out, or come with every chunk', async () => {
  const request = { ...ask, stream_options: { include_usage: true } }
  assert.equal((await client.chat.completions.create(ask, { headers: { 'x-fake-usage': 'omit' } })).usage, undefined)
  assert.ok((await collect(request, { 'x-fake-usage': 'omit' })).every((chunk) => chunk.usage === null))
  const counts = (await collect(request, { 'x-fake-usage': 'cumulative', 'x-fake-output-tokens': '40' })).flatMap(
    (chunk) => chunk.usage?.completion_tokens ?? [],
  )
  assert.ok(counts.length > 20)
  assert.deepEqual(
    counts,
    counts.toSorted((a, b) => a - b),
  )
  assert.equal(counts.at(-1), 40)
})

test('images count by size and detail, links as one of 1024 by 1024', async () => {
  const tokens = async (url: string, detail: 'low' | 'high'): Promise<number> => {
    const content: OpenAI.ChatCompletionContentPart[] = [{ type: 'image_url', image_url: { url, detail } }]
    const { usage } = await client.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content }], max_tokens: 1 })
    return (usage?.prompt_tokens ?? 0) - 7
  }
  assert.equal(await tokens('https://example.com/a.png', 'high'), 765)
  assert.equal(await tokens('https://example.com/a.png', 'low'), 85)
  assert.equal(await tokens(png(2_048, 4_096), 'high'), 1_105)
  assert.equal(await tokens(png(100, 100), 'high'), 255)
})

test('lists its models', async () => {
  const ids: string[] = []
  for await (const model of client.models.list()) ids.push(model.id)
  assert.ok(ids.includes('gpt-4o') && ids.includes('gpt-4o-2024-08-06'))
  assert.equal((await client.models.retrieve('gpt-5')).id, 'gpt-5')
})

test('as a program it prints where it listens, serves, and keeps its bill at /bill and in a file', async () => {
  const billFile = join(await mkdtemp(join(tmpdir(), 'provider-')), 'bill.ndjson')
  const program = await spawnProvider(['--data', EXAMPLE_CONVERSATIONS, '--bill', billFile])
  try {
    const other = new OpenAI({ apiKey: 'any', baseURL: `${program.url}/v1`, maxRetries: 0 })
    await other.chat.completions.create(ask, { headers: { 'x-fake-tag': 'a' } })
    await other.chat.completions.create(ask, { headers: { 'x-fake-tag': 'b' } })
    const all = await program.bill()
    const [a, b] = [await program.bill('a'), await program.bill('b')]
    assert.equal(all.lines.length, 2)
    assert.ok(a.totalNanoUsd > 0n)
    assert.equal(all.totalNanoUsd, a.totalNanoUsd + b.totalNanoUsd)
    await program.clearBill()
    assert.equal((await program.bill()).totalNanoUsd, 0n)
  } finally {
    await program.stop()
  }
  const lines = (await readFile(billFile, 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { tag: string; state: string })
  assert.deepEqual(
    lines.map(({ tag, state }) => [tag, state]),
    [
      ['a', 'complete'],
      ['b', 'complete'],
    ],
  )
})

function onlyLine(): BillLine {
  const lines = provider.bill.lines()
  const [line] = lines
  assert.ok(line !== undefined && lines.length === 1, `${lines.length} lines`)
  return line
}

async function collect(params: Omit<Params, 'stream'>, headers: Record<string, string> = {}): Promise<Chunk[]> {
  const chunks: Chunk[] = []
  for await (const chunk of await client.chat.completions.create({ ...params, stream: true }, { headers })) chunks.push(chunk)
  return chunks
}

function textOf(chunks: readonly Chunk[], index = 0): string {
  return chunks
    .flatMap((chunk) => chunk.choices.filter((choice) => choice.index === index).map((choice) => choice.delta.content ?? ''))
    .join('')
}

/** The line worked out anew from the list: rounded up once, to a nano-dollar. */
function priceOf(line: BillLine): bigint {
  const model = DEFAULT_MODELS.find((each) => each.id === line.model)
  assert.ok(model)
  const price = line.serviceTier === 'default' ? model.price : model.tiers[line.serviceTier]
  assert.ok(price)
  const micro = (text: string): number => Math.round(Number(text) * 1e6)
  assert.equal(picoPerToken(price.input), BigInt(micro(price.input)))
  const pico =
    (line.promptTokens - line.cachedTokens) * micro(price.input) +
    line.cachedTokens * micro(price.cachedInput) +
    line.outputTokens * micro(price.output)
  return BigInt(Math.ceil(pico / 1_000))
}

/** The head of a PNG, which is all that is read of it. */
function png(width: number, height: number): string {
  const bytes = Buffer.alloc(33)
  bytes.write('89504e470d0a1a0a0000000d49484452', 'hex')
  bytes.writeUInt32BE(width, 16)
  bytes.writeUInt32BE(height, 20)
  return `data:image/png;base64,${bytes.toString('base64')}`
}
