import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { isObject } from '../fields.ts'
import type { Provider } from '../server.ts'
import { startProvider } from '../server.ts'

let provider: Provider
before(async () => {
  provider = await startProvider({ claudeModels: [{ id: 'tiny', contextTokens: 100, maxOutputTokens: 80 }] })
})
after(() => provider.close())

const hello = { role: 'user', content: 'Hello' }
const hi = { role: 'assistant', content: 'Hi' }
const brief = { role: 'system', content: 'Be brief.' }
const searched = {
  role: 'assistant',
  content: [
    { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: { query: 'news' } },
    { type: 'web_search_tool_result', tool_use_id: 'srvtoolu_1', content: [] },
  ],
}
const look = { name: 'look', input_schema: { type: 'object', properties: {} } }
const ask = { model: 'claude-sonnet-4-5', max_tokens: 50, messages: [hello] }
const calls = (...ids: string[]): object => ({
  role: 'assistant',
  content: ids.map((id) => ({ type: 'tool_use', id, name: 'look', input: {} })),
})
const results = (...ids: string[]): object => ({
  role: 'user',
  content: ids.map((id) => ({ type: 'tool_result', tool_use_id: id, content: 'There.' })),
})
const cached = { type: 'text', text: 'Remember', cache_control: { type: 'ephemeral' } }
const manual = { max_tokens: 2_000, thinking: { type: 'enabled', budget_tokens: 1_024 } }

// oxfmt-ignore
const refused: readonly [string, object, RegExp][] = [
  ['no max_tokens', { max_tokens: undefined }, /^max_tokens: Field required$/],
  ['max_tokens below zero', { max_tokens: -1 }, /^max_tokens: Input should be greater than or equal to 0$/],
  ['max_tokens above what the model can', { max_tokens: 64_001 }, /^max_tokens: 64001 > 64000, which is the maximum allowed/],
  ['no messages', { messages: [] }, /at least one message is required/],
  ['a first message of the assistant', { messages: [hi, hello] }, /first message must use the "user" role/],
  ['an unknown role', { messages: [{ role: 'tool', content: 'x' }] }, /^messages\.0\.role: Input should be/],
  ['a system message to an older model', { messages: [hello, { role: 'system', content: 'Be brief.' }] }, /Unexpected role "system"/],
  ['a system message first', { model: 'claude-haiku-5-5', messages: [brief, hello] }, /^messages\.0: use the top-level 'system' parameter/],
  ['a system message after an answer', { model: 'claude-haiku-5-5', messages: [hello, hi, brief, hello] }, /^messages\.2: role 'system' must follow a 'user' message/],
  ['a system message between two answers', { model: 'claude-haiku-5-5', messages: [hello, hi, brief, hi, hello] }, /^messages\.2: role 'system' must follow/],
  ['a system message before a user', { model: 'claude-haiku-5-5', messages: [hello, brief, brief, hello] }, /^messages\.2: role 'system' must precede an 'assistant' message or end the array/],
  ['a system message between a call and its result', { model: 'claude-haiku-5-5', tools: [look], messages: [hello, calls('a'), brief, results('a')] }, /^messages\.2: role 'system' must follow/],
  ['an empty message', { messages: [{ role: 'user', content: '' }] }, /^messages\.0: all messages must have non-empty content/],
  ['a message without blocks', { messages: [hello, { role: 'assistant', content: [] }, hello] }, /^messages\.1: all messages must have non-empty content/],
  ['an empty text block', { messages: [{ role: 'user', content: [{ type: 'text', text: '' }] }] }, /text content blocks must be non-empty/],
  ['a call of a tool by the user', { messages: [{ role: 'user', content: [{ type: 'tool_use', id: 'a', name: 'b', input: {} }] }] }, /does not match any of the expected tags/],
  ['an unknown parameter', { colour: 'red' }, /^colour: Extra inputs are not permitted$/],
  ['an unknown key of a block', { messages: [{ role: 'user', content: [{ type: 'text', text: 'x', name: 'y' }] }] }, /^messages\.0\.content\.0\.name: Extra inputs/],
  ['a call without result', { tools: [look], messages: [hello, calls('a'), hello] }, /^messages\.1: `tool_use` ids were found without `tool_result` blocks immediately after: a\./],
  ['a call without anything after it', { tools: [look], messages: [hello, calls('a')] }, /without `tool_result` blocks/],
  ['one of two calls answered', { tools: [look], messages: [hello, calls('a', 'b'), results('b')] }, /immediately after: a\./],
  ['a result without call', { tools: [look], messages: [results('a')] }, /^messages\.0\.content\.0: unexpected `tool_use_id`/],
  ['a result of an earlier call', { tools: [look], messages: [hello, calls('a'), results('a'), hi, results('a')] }, /^messages\.4\.content\.0: unexpected/],
  ['two results of a call', { tools: [look], messages: [hello, calls('a'), results('a', 'a')] }, /must have a single result/],
  ['a result after text', { tools: [look], messages: [hello, calls('a'), { role: 'user', content: [{ type: 'text', text: 'Here' }, { type: 'tool_result', tool_use_id: 'a' }] }] }, /must come first/],
  ['calls without tools', { messages: [hello, calls('a'), results('a')] }, /must define tools/],
  ['a choice without tools', { tool_choice: { type: 'none' } }, /may only be specified while providing tools/],
  ['the choice of an unknown tool', { tools: [look], tool_choice: { type: 'tool', name: 'jump' } }, /'jump' not found/],
  ['parallel use under none', { tools: [look], tool_choice: { type: 'none', disable_parallel_tool_use: true } }, /^tool_choice\.disable_parallel_tool_use: Extra/],
  ['a tool twice', { tools: [look, look] }, /Tool names must be unique/],
  ['a tool without schema', { tools: [{ name: 'look' }] }, /^tools\.0\.input_schema: Field required/],
  ['a schema that is open', { output_config: { format: { type: 'json_schema', schema: { type: 'object', properties: {} } } } }, /'additionalProperties' must be explicitly set to false/],
  ['a thinking budget below 1024', { max_tokens: 2_000, thinking: { type: 'enabled', budget_tokens: 1_023 } }, /budget_tokens: Input should be greater than or equal to 1024/],
  ['a thinking budget of max_tokens', { max_tokens: 2_000, thinking: { type: 'enabled', budget_tokens: 2_000 } }, /`max_tokens` must be greater than `thinking\.budget_tokens`/],
  ['a budget for a model that adapts', { ...manual, model: 'claude-opus-5-5' }, /"thinking\.type\.enabled" is not supported/],
  ['no thinking where it is always on', { model: 'claude-opus-5-5', thinking: { type: 'disabled' } }, /"thinking\.type\.disabled" is not supported/],
  ['a forced tool while thinking', { ...manual, tools: [look], tool_choice: { type: 'any' } }, /Thinking may not be enabled when tool_choice forces/],
  ['a forced tool where thinking is always on', { model: 'claude-sonnet-5-5', tools: [look], tool_choice: { type: 'tool', name: 'look' } }, /Thinking may not be enabled/],
  ['a tool loop of manual thinking without its thinking', { ...manual, tools: [look], messages: [hello, calls('a'), results('a')] }, /Expected `thinking` or `redacted_thinking`, but found `tool_use`/],
  ['a temperature while thinking', { ...manual, temperature: 0.5 }, /may only be set to 1 when thinking is enabled/],
  ['a temperature for a newer model', { model: 'claude-haiku-5-5', temperature: 0.5 }, /^temperature: .*not supported for this model/],
  ['top_k for a newer model', { model: 'claude-sonnet-5', top_k: 5 }, /^top_k: /],
  ['a prefill for a newer model', { model: 'claude-haiku-5-5', messages: [hello, hi] }, /does not support assistant message prefill/],
  ['a prefill that ends in a space', { messages: [hello, { role: 'assistant', content: 'Hi ' }] }, /cannot end with trailing whitespace/],
  ['a forged signature', { messages: [hello, { role: 'assistant', content: [{ type: 'thinking', thinking: 'Hm', signature: 'abc' }, { type: 'text', text: 'Hi' }] }, hello] }, /^messages\.1\.content\.0: Invalid `signature` in `thinking` block$/],
  ['cache_control on thinking', { messages: [hello, { role: 'assistant', content: [{ type: 'thinking', thinking: 'Hm', signature: 'abc', cache_control: { type: 'ephemeral' } }] }, hello] }, /cache_control: Extra inputs/],
  ['five breakpoints', { messages: [{ role: 'user', content: [cached, cached, cached, cached, cached] }] }, /A maximum of 4 blocks with cache_control may be provided\. Found 5\./],
  ['an hour after five minutes', { messages: [{ role: 'user', content: [cached, { ...cached, cache_control: { type: 'ephemeral', ttl: '1h' } }] }] }, /must not come after a ttl='5m'/],
  ['an image that is none', { messages: [{ role: 'user', content: [{ type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'AAAA' } }] }] }, /Could not process image/],
  ['more metadata than a user', { metadata: { session: 'x' } }, /^metadata\.session: Extra inputs/],
  ['a prompt longer than the window', { model: 'tiny', messages: [{ role: 'user', content: 'word '.repeat(200) }] }, /^prompt is too long: \d+ tokens > 100 maximum$/],
  ['a sampling parameter by the newest API', { temperature: 1, headers: { 'anthropic-version': '2026-10-21' } }, /^temperature: .*API version 2026-10-21/],
  ['a version that is none', { headers: { 'anthropic-version': '2020-01-01' } }, /not a valid version/],
  ['a control that nobody knows', { headers: { 'x-fake-speed': '3' } }, /is none of/],
]

for (const [what, change, message] of refused) {
  test(`refuses ${what}`, async () => {
    const { status, error } = await post(change)
    assert.deepEqual([status, error['type']], [400, 'invalid_request_error'])
    assert.match(String(error['message']), message)
  })
}

// oxfmt-ignore
const accepted: readonly [string, object][] = [
  ['messages of one role in a row', { messages: [hello, hello, hi, hi, hello] }],
  ['results over two messages', { tools: [look], messages: [hello, calls('a', 'b'), results('b'), results('a')] }],
  ['text after results', { tools: [look], messages: [hello, calls('a'), { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'a' }, { type: 'text', text: 'Well?' }] }] }],
  ['a system message to a newer model, at the end', { model: 'claude-haiku-5-5', messages: [hello, hi, hello, brief] }],
  ['system messages in a row, before an answer', { model: 'claude-haiku-5-5', messages: [hello, brief, brief, hi, hello] }],
  ['a system message after results', { model: 'claude-haiku-5-5', tools: [look], messages: [hello, calls('a'), results('a'), brief] }],
  ['a system message after the result of a server tool', { model: 'claude-haiku-5-5', messages: [hello, searched, brief, hi, hello] }],
  ['a prefill', { messages: [hello, { role: 'assistant', content: 'Hi' }] }],
  ['an empty last message of the assistant', { messages: [hello, { role: 'assistant', content: [] }] }],
  ['between_tools', { model: 'claude-sonnet-5-5', thinking: { type: 'between_tools' } }],
  ['a choice of none', { tools: [look], tool_choice: { type: 'none' } }],
  ['nulls for what is absent', { temperature: null, thinking: null, metadata: { user_id: null }, tools: undefined }],
  ['default sampling for a newer model', { model: 'claude-haiku-5-5', temperature: 1, top_p: 1 }],
  ['an hour before five minutes', { messages: [{ role: 'user', content: [{ ...cached, cache_control: { type: 'ephemeral', ttl: '1h' } }, cached] }] }],
  ['documents and search results', { messages: [{ role: 'user', content: [{ type: 'document', source: { type: 'text', media_type: 'text/plain', data: 'Facts' } }, { type: 'search_result', source: 'https://example.com', title: 'More', content: [{ type: 'text', text: 'Facts' }] }] }] }],
]

for (const [what, change] of accepted) {
  test(`accepts ${what}`, async () => {
    const { status, error } = await post(change)
    assert.equal(status, 200, String(error['message']))
  })
}

test('needs a key and a version', async () => {
  const none = await post({ headers: { 'x-api-key': '' } })
  assert.deepEqual([none.status, none.error['type'], none.error['message']], [401, 'authentication_error', 'x-api-key header is required'])
  const bearer = await post({ headers: { 'x-api-key': '', authorization: 'Bearer token' } })
  assert.equal(bearer.status, 200)
  const noVersion = await post({ headers: { 'anthropic-version': null } })
  assert.deepEqual([noVersion.status, noVersion.error['message']], [400, 'anthropic-version: header is required'])
})

async function post(change: object): Promise<{ status: number; error: Readonly<Record<string, unknown>> }> {
  const { headers, ...fields }: { headers?: unknown } = change
  const sent = new Headers({ 'x-api-key': 'any', 'anthropic-version': '2023-06-01', 'content-type': 'application/json' })
  for (const [name, value] of Object.entries(isObject(headers) ? headers : {})) {
    if (typeof value === 'string') sent.set(name, value)
    else sent.delete(name)
  }
  const response = await fetch(`${provider.url}/v1/messages`, {
    method: 'POST',
    headers: sent,
    body: JSON.stringify({ ...ask, ...fields }),
  })
  const body: unknown = await response.json()
  assert.ok(isObject(body))
  assert.match(response.headers.get('request-id') ?? '', /^req_/)
  if (response.status !== 200) assert.deepEqual([body['type'], body['request_id']], ['error', response.headers.get('request-id')])
  return { status: response.status, error: isObject(body['error']) ? body['error'] : {} }
}
