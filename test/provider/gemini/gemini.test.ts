import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import type { Content, FunctionDeclaration, GenerateContentParameters, GenerateContentResponse } from '@google/genai'
import { ApiError, FunctionCallingConfigMode, GoogleGenAI, ThinkingLevel, Type } from '@google/genai'
import { picoPerToken } from '../bill.ts'
import type { BillLine } from '../bill.ts'
import type { Provider } from '../server.ts'
import { startProvider } from '../server.ts'

let provider: Provider
before(async () => {
  provider = await startProvider({ apiKeys: ['right'] })
})
beforeEach(() => {
  provider.bill.clear()
  provider.clearCache()
})
after(() => provider.close())

const model = 'gemini-2.5-flash'
const ask: GenerateContentParameters = { model, contents: 'How are you?' }
const look: FunctionDeclaration = {
  name: 'look',
  description: 'Looks around',
  parameters: { type: Type.OBJECT, properties: { where: { type: Type.STRING, enum: ['here', 'there'] } }, required: ['where'] },
}
const callLook = { 'x-fake-tool-call': '[{"name":"look","arguments":{"where":"here"}}]' }

function client(headers: Record<string, string> = {}, apiKey = 'right'): GoogleGenAI {
  return new GoogleGenAI({ apiKey, httpOptions: { baseUrl: provider.url, headers } })
}

test('a plain answer has the documented fields, and its usage is what the bill says', async () => {
  const answer = await client({ 'x-fake-reasoning-tokens': '64' }).models.generateContent(ask)
  const [candidate] = answer.candidates ?? []
  assert.equal(candidate?.content?.role, 'model')
  assert.equal(candidate?.finishReason, 'STOP')
  assert.ok((answer.text?.length ?? 0) > 0)
  assert.equal(answer.modelVersion, model)
  const usage = answer.usageMetadata
  const line = onlyLine()
  assert.equal(usage?.thoughtsTokenCount, 64)
  assert.deepEqual(
    [usage?.promptTokenCount, (usage?.candidatesTokenCount ?? 0) + 64, usage?.totalTokenCount],
    [line.promptTokens, line.outputTokens, line.promptTokens + line.outputTokens],
  )
  assert.equal(line.nanoUsd, priceOf(line, { input: '0.30', cachedInput: '0.03', output: '2.50' }))
})

test('a stream says the same in pieces, and each says the usage so far', async () => {
  const plain = await client().models.generateContent(ask)
  const chunks = await collect(client(), ask)
  assert.equal(chunks.map((chunk) => chunk.text ?? '').join(''), plain.text)
  assert.deepEqual(chunks.at(-1)?.usageMetadata, plain.usageMetadata)
  assert.equal(chunks.at(-1)?.candidates?.[0]?.finishReason, 'STOP')
  const counts = chunks.map((chunk) => chunk.usageMetadata?.totalTokenCount ?? -1)
  assert.deepEqual(
    counts,
    counts.toSorted((some, other) => some - other),
  )
  assert.ok(new Set(counts).size > 1)
})

test('without alt=sse a stream is a list of the same answers', async () => {
  const body = JSON.stringify({ contents: [{ parts: [{ text: 'How are you?' }] }] })
  const response = await fetch(`${provider.url}/v1beta/models/${model}:streamGenerateContent?key=right`, { method: 'POST', body })
  assert.match(response.headers.get('content-type') ?? '', /^application\/json/)
  const list = (await response.json()) as GenerateContentResponse[]
  const plain = await client().models.generateContent(ask)
  assert.equal(list.flatMap((each) => each.candidates?.[0]?.content?.parts?.map((part) => part.text ?? '') ?? []).join(''), plain.text)
  const refused = await fetch(`${provider.url}/v1beta/models/${model}:streamGenerateContent?key=right`, { method: 'POST', body: '{}' })
  const [error] = (await refused.json()) as { error: { status: string } }[]
  assert.equal(error?.error.status, 'INVALID_ARGUMENT')
})

test('the bound on output is obeyed to the token, thinking included', async () => {
  const headers = { 'x-fake-output-tokens': '500', 'x-fake-reasoning-tokens': '20' }
  const answer = await client(headers).models.generateContent({ ...ask, config: { maxOutputTokens: 31 } })
  assert.equal(answer.candidates?.[0]?.finishReason, 'MAX_TOKENS')
  assert.deepEqual([answer.usageMetadata?.candidatesTokenCount, answer.usageMetadata?.thoughtsTokenCount], [11, 20])
  const starved = await client({ 'x-fake-reasoning-tokens': '64' }).models.generateContent({ ...ask, config: { maxOutputTokens: 30 } })
  assert.deepEqual([starved.text, starved.candidates?.[0]?.content?.parts], [undefined, undefined])
  assert.equal(starved.usageMetadata?.candidatesTokenCount, undefined)
  assert.equal(starved.usageMetadata?.thoughtsTokenCount, 30)
  assert.deepEqual(
    provider.bill.lines().map((line) => line.outputTokens),
    [31, 30],
  )
})

test('thinking is turned off, bounded and shown as asked', async () => {
  const headers = { 'x-fake-reasoning-tokens': '300' }
  const off = await client(headers).models.generateContent({ ...ask, config: { thinkingConfig: { thinkingBudget: 0 } } })
  assert.equal(off.usageMetadata?.thoughtsTokenCount, undefined)
  const shown = await client(headers).models.generateContent({
    ...ask,
    config: { thinkingConfig: { thinkingBudget: 200, includeThoughts: true } },
  })
  assert.equal(shown.usageMetadata?.thoughtsTokenCount, 200)
  assert.equal(shown.candidates?.[0]?.content?.parts?.[0]?.thought, true)
  await refused({ ...ask, model: 'gemini-2.5-pro', config: { thinkingConfig: { thinkingBudget: 0 } } }, /only works in thinking mode/)
  await refused({ ...ask, config: { thinkingConfig: { thinkingLevel: ThinkingLevel.LOW } } }, /Thinking level is not supported/)
})

test('a call and its result go round, with the signature that belongs to the call', async () => {
  const third = 'gemini-3-pro-preview'
  const tools = [{ functionDeclarations: [look] }]
  const contents: Content[] = [{ role: 'user', parts: [{ text: 'Look!' }] }]
  const first = await client(callLook).models.generateContent({ model: third, contents, config: { tools } })
  const [call] = first.functionCalls ?? []
  assert.deepEqual([call?.name, call?.args, first.candidates?.[0]?.finishReason], ['look', { where: 'here' }, 'STOP'])
  const said = first.candidates?.[0]?.content
  assert.ok(said?.parts?.[0]?.thoughtSignature)
  const result: Content = {
    role: 'user',
    parts: [{ functionResponse: { name: 'look', id: call?.id ?? '', response: { output: 'a cat' } } }],
  }
  const second = await client().models.generateContent({ model: third, contents: [...contents, said, result], config: { tools } })
  assert.ok((second.text?.length ?? 0) > 0)

  const unsigned: Content = { role: 'model', parts: [{ functionCall: said.parts[0].functionCall ?? {} }] }
  await refused(
    { model: third, contents: [...contents, unsigned, result], config: { tools } },
    /missing a thought_signature.*`default_api:look` , position 2/,
  )
  const moved: Content = {
    role: 'model',
    parts: [{ text: 'So.', thoughtSignature: said.parts[0].thoughtSignature }, ...(unsigned.parts ?? [])],
  }
  await refused({ model: third, contents: [...contents, moved, result], config: { tools } }, /Corrupted thought signature/)
  const earlier: Content[] = [
    ...contents,
    unsigned,
    result,
    { role: 'model', parts: [{ text: 'A cat.' }] },
    { role: 'user', parts: [{ text: 'And now?' }] },
  ]
  await client().models.generateContent({ model: third, contents: earlier, config: { tools } })
})

test('calls in a stream come whole, each in a part', async () => {
  const headers = { 'x-fake-tool-call': '[{"name":"look","arguments":{"where":"here"}},{"name":"look","arguments":{"where":"there"}}]' }
  const chunks = await collect(client(headers), {
    ...ask,
    model: 'gemini-3-flash-preview',
    config: { tools: [{ functionDeclarations: [look] }] },
  })
  const parts = chunks.flatMap((chunk) => chunk.candidates?.[0]?.content?.parts ?? []).filter((part) => part.functionCall !== undefined)
  assert.deepEqual(
    parts.map((part) => [part.functionCall?.args, part.thoughtSignature !== undefined]),
    [
      [{ where: 'here' }, true],
      [{ where: 'there' }, false],
    ],
  )
})

test('a mode decides whether functions are called', async () => {
  const tools = [{ functionDeclarations: [look] }]
  const mode = async (mode: FunctionCallingConfigMode, headers: Record<string, string> = {}): Promise<GenerateContentResponse> =>
    client(headers).models.generateContent({ ...ask, config: { tools, toolConfig: { functionCallingConfig: { mode } } } })
  assert.equal((await mode(FunctionCallingConfigMode.ANY)).functionCalls?.length, 1)
  assert.equal((await mode(FunctionCallingConfigMode.NONE, callLook)).functionCalls, undefined)
  await refused(
    { ...ask, config: { toolConfig: { functionCallingConfig: { mode: FunctionCallingConfigMode.NONE } } } },
    /without function_declarations/,
  )
})

test('structured output follows its schema', async () => {
  const responseSchema = { type: Type.OBJECT, properties: { ok: { type: Type.BOOLEAN } }, required: ['ok'] }
  const answer = await client().models.generateContent({ ...ask, config: { responseMimeType: 'application/json', responseSchema } })
  assert.equal(typeof (JSON.parse(answer.text ?? '') as { ok: unknown }).ok, 'boolean')
  const json = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }
  const other = await client().models.generateContent({
    ...ask,
    config: { responseMimeType: 'application/json', responseJsonSchema: json },
  })
  assert.ok(Number.isInteger((JSON.parse(other.text ?? '') as { n: unknown }).n))
  await refused({ ...ask, config: { responseSchema } }, /only allowed with response_mime_type/)
})

test('several candidates are billed together', async () => {
  const answer = await client({ 'x-fake-output-tokens': '30', 'x-fake-reasoning-tokens': '0' }).models.generateContent({
    ...ask,
    config: { candidateCount: 2 },
  })
  assert.equal(answer.candidates?.length, 2)
  assert.deepEqual([answer.usageMetadata?.candidatesTokenCount, onlyLine().outputTokens], [60, 60])
})

test('a prefix that was read before is cached by itself; a long prompt has its own price', async () => {
  const contents = [{ role: 'user', parts: [{ text: 'All of this was said before, word for word. '.repeat(300) }] }]
  await client().models.generateContent({ model, contents })
  const again = await client().models.generateContent({ model, contents })
  const cached = again.usageMetadata?.cachedContentTokenCount ?? 0
  assert.ok(cached >= 1_024, String(cached))
  const line = provider.bill.lines()[1]
  assert.ok(line)
  assert.equal(line.cachedTokens, cached)
  assert.equal(line.nanoUsd, priceOf(line, { input: '0.30', cachedInput: '0.03', output: '2.50' }))
  provider.bill.clear()
  await client().models.generateContent({ model: 'gemini-2.5-pro', contents: 'word '.repeat(190_000) })
  const long = onlyLine()
  assert.ok(long.promptTokens > 200_000)
  assert.equal(long.nanoUsd, priceOf(long, { input: '2.50', cachedInput: '0.25', output: '15.00' }))
})

test('tokens are counted for nothing, and models are listed', async () => {
  const { totalTokens } = await client().models.countTokens({ model, contents: 'How are you?' })
  assert.equal(provider.bill.lines().length, 0)
  const answer = await client().models.generateContent(ask)
  assert.equal(answer.usageMetadata?.promptTokenCount, totalTokens)
  const names = []
  for await (const listed of await client().models.list()) names.push(listed.name)
  assert.ok(names.includes('models/gemini-2.5-pro'))
  assert.equal((await client().models.get({ model })).name, `models/${model}`)
})

test('names as in the .proto file are read as well; both spellings at once are not', async () => {
  const send = async (body: object): Promise<Response> =>
    fetch(`${provider.url}/v1beta/models/${model}:generateContent`, {
      method: 'POST',
      headers: { 'x-goog-api-key': 'right', 'x-fake-output-tokens': '90', 'x-fake-reasoning-tokens': '0' },
      body: JSON.stringify({ contents: [{ parts: [{ text: 'Hello' }] }], ...body }),
    })
  const answer = (await (await send({ generation_config: { max_output_tokens: 12 } })).json()) as GenerateContentResponse
  assert.equal(answer.usageMetadata?.candidatesTokenCount, 12)
  assert.equal((await send({ generation_config: {}, generationConfig: {} })).status, 400)
})

// oxfmt-ignore
const faults: readonly [string, Partial<GenerateContentParameters>, RegExp][] = [
  ['a role of another provider', { contents: [{ role: 'assistant', parts: [{ text: 'x' }] }] }, /valid role: user, model/],
  ['a content without parts', { contents: [{ role: 'user', parts: [] }] }, /parts must not be empty/],
  ['a call without result', { contents: [user('Hi'), calls('look'), user('And?')] }, /number of function response parts/],
  ['a call at the end', { contents: [user('Hi'), calls('look')] }, /number of function response parts/],
  ['a call at the start', { contents: [calls('look'), results('look')] }, /call turn comes immediately after a user turn/],
  ['a result without call', { contents: [user('Hi'), results('look')] }, /response turn comes immediately after/],
  ['a result of another call', { contents: [user('Hi'), calls('look'), results('jump')] }, /match the function call parts/],
  ['one of two results', { contents: [user('Hi'), calls('look', 'jump'), results('look')] }, /number of function response parts/],
  ['too large a bound', { config: { maxOutputTokens: 65_537 } }, /maxOutputTokens value of 65537/],
  ['an unknown model', { model: 'gemini-9' }, /models\/gemini-9 is not found/],
  ['a cache that is not there', { config: { cachedContent: 'cachedContents/1' } }, /CachedContent not found/],
]
for (const [name, change, message] of faults) test(`refuses ${name}`, () => refused({ ...ask, ...change }, message))

test('refuses fields that it does not know, and unknown or doubled keys', async () => {
  const send = async (path: string, body: object, headers: Record<string, string> = {}): Promise<string> =>
    (await fetch(`${provider.url}/v1beta/models/${model}${path}`, { method: 'POST', headers, body: JSON.stringify(body) })).text()
  const contents = [{ parts: [{ text: 'Hello' }] }]
  assert.match(await send(':generateContent?key=right', { contents, mood: 1 }), /Unknown name \\"mood\\": Cannot find field/)
  assert.match(
    await send(':generateContent?key=right', { contents: [{ parts: [{ txt: '' }] }] }),
    /Unknown name \\"txt\\" at 'contents\[0\]\.parts\[0\]'/,
  )
  assert.match(await send(':generateContent?key=right&mood=1', { contents }), /Cannot bind query parameter/)
  assert.match(await send(':generateContent?key=right', {}), /contents is not specified/)
  assert.match(await send(':generateContent?key=wrong', { contents }), /API_KEY_INVALID/)
  assert.match(await send(':generateContent', { contents }), /PERMISSION_DENIED/)
  assert.match(await send(':generateContent?key=right', { contents }, { 'x-goog-api-key': 'right' }), /Multiple authentication credentials/)
  assert.equal(provider.bill.lines().length, 0)
})

test('a failure has the status by its Google name, and a stream that fails says so in it', async () => {
  await refused(ask, /"status":"RESOURCE_EXHAUSTED"/, { 'x-fake-status': '429' })
  await refused(ask, /"status":"UNAVAILABLE"/, { 'x-fake-status': '503' })
  await assert.rejects(collect(client({ 'x-fake-error-after-tokens': '5' }), ask), /"status":"INTERNAL"/)
})

test('a reader that leaves pays for what was generated until then', async () => {
  const headers = { 'x-fake-output-tokens': '400', 'x-fake-reasoning-tokens': '0', 'x-fake-token-delay-ms': '2' }
  const controller = new AbortController()
  const stream = await client(headers).models.generateContentStream({ ...ask, config: { abortSignal: controller.signal } })
  let seen = 0
  await assert.rejects(async () => {
    for await (const chunk of stream) {
      if (chunk.text !== undefined) seen += 1
      if (seen === 40) controller.abort()
    }
  })
  await provider.settled()
  const line = onlyLine()
  assert.equal(line.state, 'aborted')
  assert.ok(line.outputTokens >= 40 && line.outputTokens < 300, String(line.outputTokens))
})

function user(text: string): Content {
  return { role: 'user', parts: [{ text }] }
}
function calls(...names: string[]): Content {
  return { role: 'model', parts: names.map((name) => ({ functionCall: { name, args: {} } })) }
}
function results(...names: string[]): Content {
  return { role: 'user', parts: names.map((name) => ({ functionResponse: { name, response: { output: 'ok' } } })) }
}

async function refused(params: GenerateContentParameters, message: RegExp, headers: Record<string, string> = {}): Promise<void> {
  await assert.rejects(client(headers).models.generateContent(params), (error: unknown) => {
    assert.ok(error instanceof ApiError)
    assert.match(error.message, message)
    return true
  })
  assert.equal(provider.bill.lines().filter((line) => line.state !== 'complete').length, 0)
}

async function collect(genai: GoogleGenAI, params: GenerateContentParameters): Promise<GenerateContentResponse[]> {
  const chunks = []
  for await (const chunk of await genai.models.generateContentStream(params)) chunks.push(chunk)
  return chunks
}

function onlyLine(): BillLine {
  const lines = provider.bill.lines()
  assert.equal(lines.length, 1)
  const [line] = lines
  assert.ok(line)
  return line
}

function priceOf(line: BillLine, price: { readonly input: string; readonly cachedInput: string; readonly output: string }): bigint {
  const pico =
    BigInt(line.promptTokens - line.cachedTokens) * picoPerToken(price.input) +
    BigInt(line.cachedTokens) * picoPerToken(price.cachedInput) +
    BigInt(line.outputTokens) * picoPerToken(price.output)
  return (pico + 999n) / 1000n
}
