import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Provider } from './server.ts'
import { startProvider } from './server.ts'

let provider: Provider
before(async () => {
  provider = await startProvider({
    models: [{ id: 'tiny', contextTokens: 100, maxOutputTokens: 60, tokenPercent: 100 }],
    apiKeys: ['right'],
  })
})
after(() => provider.close())

const hello = { role: 'user', content: 'Hello' }
const tool = { type: 'function', function: { name: 'look', parameters: { type: 'object', properties: {} } } }
const asks = (...ids: string[]): object => ({
  role: 'assistant',
  content: null,
  tool_calls: ids.map((id) => ({ id, type: 'function', function: { name: 'look', arguments: '{}' } })),
})
const answers = (id: string): object => ({ role: 'tool', tool_call_id: id, content: 'seen' })
const schema = (root: object, strict = true): object => ({ type: 'json_schema', json_schema: { name: 'shape', strict, schema: root } })
const metadata = (count: number): object => Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, 'v']))

// oxfmt-ignore
const refused: readonly [string, object, string | null, RegExp][] = [
  ['no model', { model: undefined }, null, /must provide a model/],
  ['no messages', { messages: undefined }, 'messages', /Missing required parameter/],
  ['no message at all', { messages: [] }, 'messages', /empty array/],
  ['messages as text', { messages: 'Hello' }, 'messages', /expected an array, but got a string/],
  ['an unknown role', { messages: [{ role: 'bot', content: 'x' }] }, 'messages[0].role', /Supported values are/],
  ['a user message without content', { messages: [{ role: 'user', content: null }] }, 'messages.[0].content', /expected a string, got null/],
  ['an assistant message with nothing', { messages: [hello, { role: 'assistant', content: null }] }, 'messages.[1].content', /expected a string, got null/],
  ['an unknown field of a message', { messages: [{ ...hello, mood: 'good' }] }, 'messages[0].mood', /Unknown parameter/],
  ['an empty list of calls', { messages: [hello, { role: 'assistant', content: 'x', tool_calls: [] }] }, 'messages[1].tool_calls', /empty array/],
  ['a call without answer', { messages: [hello, asks('a')] }, 'messages.[2].role', /did not have response messages: a$/],
  ['a call answered too late', { messages: [hello, asks('a'), hello, answers('a')] }, 'messages.[2].role', /must be followed by tool messages/],
  ['one of two calls answered', { messages: [hello, asks('a', 'b'), answers('b'), hello] }, 'messages.[3].role', /response messages: a$/],
  ['an answer without call', { messages: [hello, answers('a')] }, 'messages.[1].role', /must be a response to a preceeding message/],
  ['an answer to another call', { messages: [hello, asks('a'), answers('b')] }, 'messages.[2].tool_call_id', /'b' not found/],
  ['a second answer to a call', { messages: [hello, asks('a'), answers('a'), answers('a')] }, 'messages.[3].tool_call_id', /not found/],
  ['one call id twice', { messages: [hello, asks('a', 'a'), answers('a')] }, 'messages[1].tool_calls[1].id', /Duplicate value/],
  ['an overlong call id', { messages: [hello, asks('a'.repeat(41)), answers('a'.repeat(41))] }, 'messages[1].tool_calls[0].id', /maximum length 40/],
  ['an image that is none', { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }] }] }, 'messages[0].content[0].image_url', /Invalid image/],
  ['an image in a system message', { messages: [{ role: 'system', content: [{ type: 'image_url', image_url: { url: 'https://example.com/a.png' } }] }] }, 'messages[0].content[0].type', /Supported values are: 'text'/],
  ['an unknown parameter', { colour: 'red' }, 'colour', /Unknown parameter: 'colour'/],
  ['stream_options without stream', { stream_options: { include_usage: true } }, 'stream_options', /only allowed when 'stream' is enabled/],
  ['an unknown stream option', { stream: true, stream_options: { usage: true } }, 'stream_options.usage', /Unknown parameter/],
  ['tool_choice without tools', { tool_choice: 'none' }, 'tool_choice', /only allowed when 'tools' are specified/],
  ['parallel_tool_calls without tools', { parallel_tool_calls: false }, 'parallel_tool_calls', /only allowed when 'tools'/],
  ['an unknown tool_choice', { tools: [tool], tool_choice: 'maybe' }, 'tool_choice', /Supported values are: 'none', 'auto', and 'required'/],
  ['the choice of a tool that is not offered', { tools: [tool], tool_choice: { type: 'function', function: { name: 'jump' } } }, 'tool_choice', /'jump' not found/],
  ['no tool in tools', { tools: [] }, 'tools', /empty array/],
  ['a tool with a bad name', { tools: [{ type: 'function', function: { name: 'a b' } }] }, 'tools[0].function.name', /does not match pattern/],
  ['a tool whose parameters are a list', { tools: [{ type: 'function', function: { name: 'a', parameters: { type: 'array' } } }] }, 'tools[0].function.parameters', /got 'type: "array"'/],
  ['a strict tool with an optional argument', { tools: [{ type: 'function', function: { name: 'a', strict: true, parameters: { type: 'object', properties: { b: { type: 'string' } }, required: [], additionalProperties: false } } }] }, 'tools[0].function.parameters', /Missing 'b'/],
  ['json_object where nobody says so', { response_format: { type: 'json_object' } }, 'messages', /must contain the word 'json'/],
  ['a strict schema that is open', { response_format: schema({ type: 'object', properties: {} }) }, 'response_format', /'additionalProperties' is required/],
  ['a schema without a name', { response_format: { type: 'json_schema', json_schema: { schema: {} } } }, 'response_format.json_schema.name', /Missing required/],
  ['metadata of what is not to be stored', { metadata: metadata(1) }, 'metadata', /only allowed when 'store' is enabled/],
  ['17 pairs of metadata', { metadata: metadata(17) }, 'metadata', /at most 16 properties/],
  ['a long key of metadata', { metadata: { ['k'.repeat(65)]: 'v' } }, 'metadata', /maximum length 64/],
  ['a long value of metadata', { metadata: { k: 'v'.repeat(513) } }, 'metadata.k', /maximum length 512/],
  ['a number in metadata', { metadata: { k: 1 } }, 'metadata.k', /expected a string, but got an integer/],
  ['both bounds on output', { max_tokens: 5, max_completion_tokens: 5 }, 'max_tokens', /at the same time is not supported/],
  ['a bound of 0', { max_completion_tokens: 0 }, 'max_completion_tokens', /below minimum value/],
  ['a bound above what the model can', { max_tokens: 16_385 }, 'max_tokens', /at most 16384 completion tokens/],
  ['max_tokens to a reasoning model', { model: 'o4-mini', max_tokens: 5 }, 'max_tokens', /Use 'max_completion_tokens' instead/],
  ['a temperature for a reasoning model', { model: 'gpt-5', temperature: 0.2 }, 'temperature', /Only the default \(1\)/],
  ['stop for a reasoning model', { model: 'gpt-5', stop: 'x' }, 'stop', /not supported with this model/],
  ['effort for a model that does not reason', { reasoning_effort: 'low' }, 'reasoning_effort', /not supported with this model/],
  ['a temperature of 3', { temperature: 3 }, 'temperature', /Expected a value <= 2/],
  ['n of 0', { n: 0 }, 'n', /below minimum/],
  ['five stop sequences', { stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop', /maximum length 4/],
  ['top_logprobs without logprobs', { top_logprobs: 2 }, 'top_logprobs', /must be enabled/],
  ['a tier that the model has not', { service_tier: 'flex' }, 'service_tier', /Invalid service_tier/],
  ['a prediction with a bound', { prediction: { type: 'content', content: 'x' }, max_completion_tokens: 9 }, 'max_completion_tokens', /not supported with 'prediction'/],
  ['a prompt longer than the window', { model: 'tiny', messages: [{ role: 'user', content: 'word '.repeat(100) }] }, 'messages', /maximum context length is 100 tokens/],
  ['a prompt and a bound longer than the window', { model: 'tiny', messages: [{ role: 'user', content: 'word '.repeat(50) }], max_completion_tokens: 60 }, 'messages', /in the completion/],
  ['a control that nobody knows', { headers: { 'x-fake-speed': '3' } }, 'x-fake-speed', /is none of/],
  ['a control with nonsense', { headers: { 'x-fake-delay-ms': 'soon' } }, 'x-fake-delay-ms', /must be a number/],
  ['the control to call a tool that is not offered', { tools: [tool], headers: { 'x-fake-tool-call': 'jump' } }, 'x-fake-tool-call', /does not offer/],
]

for (const [what, change, param, message] of refused) {
  test(`refuses ${what}`, async () => {
    const { status, error } = await post(change)
    assert.equal(status, 400)
    assert.equal(error?.type, 'invalid_request_error')
    assert.equal(error?.param, param)
    assert.match(error?.message ?? '', message)
  })
}

// oxfmt-ignore
const accepted: readonly [string, object][] = [
  ['parallel calls answered in any order', { messages: [hello, asks('a', 'b'), answers('b'), answers('a'), hello] }],
  ['several rounds of calls', { messages: [hello, asks('a'), answers('a'), asks('a'), answers('a')] }],
  ['an assistant answer sent back as it came', { messages: [hello, { role: 'assistant', content: 'Hi', refusal: null, annotations: [] }, hello] }],
  ['a developer message and a name', { messages: [{ role: 'developer', content: 'Be short.' }, { ...hello, name: 'ann_1' }] }],
  ['a result with the name of its tool', { messages: [hello, asks('a'), { ...answers('a'), name: 'look' }] }],
  ['an empty user text', { messages: [{ role: 'user', content: '' }] }],
  ['16 pairs of metadata', { metadata: metadata(16), store: true }],
  ['nulls for what is absent', { temperature: null, stop: null, tools: undefined, stream_options: null, metadata: null }],
  ['json_object when asked for', { messages: [{ role: 'user', content: 'Answer in JSON' }], response_format: { type: 'json_object' } }],
  ['allowed_tools', { tools: [tool], tool_choice: { type: 'allowed_tools', allowed_tools: { mode: 'auto', tools: [{ type: 'function', function: { name: 'look' } }] } } }],
  ['a bound that exactly fits the window', { model: 'tiny', max_completion_tokens: 60 }],
  ['a dated model name', { model: 'gpt-4o-2024-08-06' }],
]

for (const [what, change] of accepted) {
  test(`accepts ${what}`, async () => {
    const { status, error } = await post(change)
    assert.equal(status, 200, error?.message)
  })
}

test('needs a key, and the right one', async () => {
  assert.deepEqual(await refusal(''), [401, null, "You didn't provide an API key"])
  assert.deepEqual(await refusal('Bearer wrong'), [401, 'invalid_api_key', 'Incorrect API key provided.'])
})

test('answers 404 for unknown models and paths, 405 for a wrong method, 400 for what is no JSON', async () => {
  const unknown = await post({ model: 'gpt-9' })
  assert.deepEqual([unknown.status, unknown.error?.code], [404, 'model_not_found'])
  const headers = { authorization: 'Bearer right' }
  assert.equal((await fetch(`${provider.url}/v1/nothing`, { headers })).status, 404)
  assert.equal((await fetch(`${provider.url}/v1/chat/completions`, { headers })).status, 405)
  const broken = await fetch(`${provider.url}/v1/chat/completions`, { method: 'POST', headers, body: '{"model": ' })
  assert.equal(broken.status, 400)
  assert.match(await broken.text(), /could not parse the JSON body/)
})

test('nothing that is refused is on the bill', async () => {
  await provider.settled()
  provider.bill.clear()
  await post({ colour: 'red' })
  await post({ headers: { 'x-fake-status': '500' } })
  await post({ headers: { 'x-fake-status': '429', 'x-fake-retry-after': '2' } })
  assert.deepEqual(provider.bill.lines(), [])
  assert.equal(provider.bill.totalNanoUsd(), 0n)
})

interface Answer {
  readonly status: number
  readonly error?: { readonly message: string; readonly type: string; readonly param: string | null; readonly code: string | null }
}

async function post(change: object): Promise<Answer> {
  const { headers, ...fields } = { headers: {}, ...change }
  const response = await fetch(`${provider.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: 'Bearer right', 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ model: 'gpt-4o', messages: [hello], ...fields }),
  })
  const body = (await response.json()) as Omit<Answer, 'status'>
  return { ...body, status: response.status }
}

async function refusal(authorization: string): Promise<readonly unknown[]> {
  const headers = authorization === '' ? {} : { authorization }
  const response = await fetch(`${provider.url}/v1/models`, { headers })
  const { error } = (await response.json()) as Answer
  return [response.status, error?.code, error?.message.split('. ')[0]]
}
