import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import type { Json, JsonObject, ModelRequest, RequestChange } from '../core/request.ts'
import { COMPACTION, NO_HOSTED_TOOLS } from '../core/request.ts'
import { messagesWire, parseMessagesRequest, renderMessagesRequest } from './anthropic-messages.ts'
import { changedIn, objectTexts } from './bodies.testing.ts'
import type { CallContext, ParsedRequest } from './wire.ts'

const HI = { role: 'user', content: 'Hi' }
const TOOL = { name: 'look_up', input_schema: { type: 'object' } }
/** A message that changes what tools there are. */
const adding = (tool: JsonObject): JsonObject => ({ role: 'system', content: [{ type: 'tool_addition', tool }] })
const SEARCH = { type: 'web_search_20260318', name: 'web_search', allowed_callers: ['direct'] }
const TOOL_SEARCH = { type: 'tool_search_tool_bm25_20251119', name: 'tool_search_tool_bm25' }
/** It filters what it finds in code. */
const FILTERING = { type: 'web_search_20260318', name: 'web_search' }
const THOUGHT = { type: 'thinking', thinking: 'Hm', signature: 's' }
const FETCH = { type: 'web_fetch_20260318', name: 'web_fetch', allowed_callers: ['direct'] }
const MARK = { type: 'ephemeral' }
const SCHEMA = { type: 'json_schema', schema: { type: 'object' } }

const parse = (body: object | string): Promise<ParsedRequest> =>
  parseMessagesRequest(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)))
async function read(body: object | string): Promise<ModelRequest> {
  const parsed = await parse(body)
  assert.equal(parsed.status, 'ok', JSON.stringify(parsed))
  return parsed.request
}
const request = (more: JsonObject = {}): Promise<ModelRequest> =>
  read({ model: 'claude-sonnet-4-5', max_tokens: 2_000, messages: [HI], ...more })

/** The fields that `change` leaves different from the request's own, `undefined` for one that is gone. */
async function rendered(more: JsonObject, change: RequestChange): Promise<Record<string, Json | undefined>> {
  const original = await request(more)
  return changedIn(original.body, renderMessagesRequest(original, change))
}

describe('what is read', () => {
  test('a plain request', async () => {
    const text = '{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}'
    const parsed = await read(text)
    const { body, messages, fixedDigest, ...rest } = parsed
    assert.equal(body.toString(), text)
    assert.equal(messages.length, 1)
    assert.match(fixedDigest, /^[0-9a-f]{32}$/)
    assert.deepEqual(parsed.own('user', 'Hi').json, HI)
    assert.deepEqual(
      { ...rest, own: null },
      {
        own: null,
        wire: 'messages',
        model: 'claude-sonnet-4-5',
        stream: false,
        includeUsage: true,
        choices: 1,
        outputLimit: { field: 'max_tokens', tokens: 9 },
        outputField: 'max_tokens',
        generates: true,
        units: {},
        earlier: null,
        tools: 'none',
        toolsRefused: false,
        structured: false,
        serviceTier: null,
        metadata: {},
        promptCacheKey: null,
        safetyIdentifier: null,
        user: null,
        fixedBytes: text.length - '{"role":"user","content":"Hi"}'.length,
        fields: new Set(['model', 'max_tokens', 'messages']),
        hosted: NO_HOSTED_TOOLS,
        cacheWrites: 'none',
      },
    )
  })

  const readings: Record<string, [more: JsonObject, expected: Partial<ModelRequest>]> = {
    stream: [{ stream: true }, { stream: true }],
    'a bound of nothing': [{ max_tokens: 0 }, { outputLimit: { field: 'max_tokens', tokens: 0 } }],
    'offered tools': [{ tools: [TOOL] }, { tools: 'offered', toolsRefused: false }],
    'forced tools': [{ tools: [TOOL], tool_choice: { type: 'any' } }, { tools: 'forced' }],
    'one forced tool': [{ tools: [TOOL], tool_choice: { type: 'tool', name: 'look_up' } }, { tools: 'forced' }],
    'refused tools': [
      { tools: [TOOL], tool_choice: { type: 'none' } },
      { tools: 'offered', toolsRefused: true },
    ],
    'no tools in an empty list': [{ tools: [] }, { tools: 'none' }],
    'a schema': [{ output_config: { format: { type: 'json_schema', schema: {} } } }, { structured: true }],
    'a schema of a beta': [{ output_format: { type: 'json_schema', schema: {} } }, { structured: true }],
    'effort alone': [{ output_config: { effort: 'low' } }, { structured: false }],
    'a user': [{ metadata: { user_id: 'u1' } }, { user: 'u1', metadata: { user_id: 'u1' } }],
    'how to be served': [{ speed: 'fast', inference_geo: 'us' }, { serviceTier: 'fast+us' }],
    'how to be served, but not where': [{ speed: 'fast' }, { serviceTier: 'fast+auto' }],
    'where to be served': [{ inference_geo: 'global' }, { serviceTier: 'global' }],
    'a mark in the system prompt': [{ system: [{ type: 'text', text: 'x', cache_control: MARK }] }, { cacheWrites: 'short' }],
    'a mark of an hour on a tool': [{ tools: [{ ...TOOL, cache_control: { ...MARK, ttl: '1h' } }] }, { cacheWrites: 'long' }],
    'a mark for all': [{ cache_control: MARK }, { cacheWrites: 'short' }],
    'a mark in a message': [
      { messages: [{ role: 'user', content: [{ type: 'text', text: 'x', cache_control: MARK }] }] },
      { cacheWrites: 'short' },
    ],
    'a search without bound': [{ tools: [SEARCH] }, { hosted: { tools: ['webSearch'], maxCalls: null, rereads: true, fewestCalls: 1 } }],
    'tools of the provider with bounds': [
      { tools: [{ ...SEARCH, max_uses: 3 }, { ...FETCH, max_uses: 2 }, TOOL] },
      { hosted: { tools: ['webSearch'], maxCalls: 5, rereads: true, fewestCalls: 2 } },
    ],
    'a search that may be called from code': [
      { tools: [{ ...FILTERING, max_uses: 3 }, FETCH] },
      { hosted: { tools: ['webSearch'], maxCalls: null, rereads: true, fewestCalls: 2 } },
    ],
    'searches that may be called from code, with bounds': [
      {
        tools: [
          { ...FILTERING, max_uses: 3 },
          { ...FETCH, max_uses: 2, allowed_callers: ['direct', 'code_execution_20260521'] },
        ],
      },
      { hosted: { tools: ['webSearch'], maxCalls: null, callsOnceBound: 5, rereads: true, fewestCalls: 2 } },
    ],
    'a search of a day before code filtered': [
      { tools: [{ type: 'web_search_20250305', name: 'web_search', max_uses: 3 }] },
      { hosted: { tools: ['webSearch'], maxCalls: 3, rereads: true, fewestCalls: 1 } },
    ],
    'a search among tools, which brings nothing that is not there': [
      { tools: [TOOL_SEARCH, { ...TOOL, defer_loading: true }] },
      { hosted: { tools: [], maxCalls: null, rereads: true, bringsTokens: 33, fewestCalls: 10 } },
    ],
    'a search among tools beside one that brings something': [
      { tools: [TOOL_SEARCH, { ...SEARCH, max_uses: 1 }] },
      { hosted: { tools: ['webSearch'], maxCalls: null, rereads: true, fewestCalls: 10 } },
    ],
    'running code': [
      { tools: [{ type: 'code_execution_20260521', name: 'code_execution' }] },
      { hosted: { tools: ['codeContainer'], maxCalls: null, rereads: true, fewestCalls: 10 } },
    ],
    'running code, which takes no bound': [
      {
        tools: [
          { ...SEARCH, max_uses: 1 },
          { type: 'code_execution_20260521', name: 'code_execution', max_uses: 0 },
        ],
      },
      { hosted: { tools: ['webSearch', 'codeContainer'], maxCalls: null, rereads: true, fewestCalls: 10 } },
    ],
    'a tool of the provider that a message adds': [
      { messages: [HI, adding({ type: 'tool_definition', definition: { ...SEARCH, max_uses: 2 } })] },
      { hosted: { tools: ['webSearch'], maxCalls: 2, rereads: true, fewestCalls: 10 } },
    ],
    'a tool of the app that a message adds': [
      { messages: [HI, adding({ type: 'tool_definition', definition: TOOL })] },
      { hosted: NO_HOSTED_TOOLS },
    ],
    'a compaction by the provider, which reads all once more': [
      { context_management: { edits: [{ type: 'compact_20260112' }] } },
      { hosted: COMPACTION },
    ],
    'a compaction on demand': [{ compaction: { type: 'summarize' } }, { hosted: COMPACTION }],
    'a compaction beside a search': [
      { tools: [{ ...SEARCH, max_uses: 3 }], compaction: { type: 'summarize' } },
      { hosted: { tools: ['webSearch'], maxCalls: 4, compacts: true, rereads: true, fewestCalls: 1 } },
    ],
    'an edit that only leaves out': [
      { context_management: { edits: [{ type: 'clear_tool_uses_20250919' }] } },
      { hosted: NO_HOSTED_TOOLS },
    ],
  }
  for (const [what, [more, expected]] of Object.entries(readings))
    test(what, async () => {
      const actual = await request(more)
      for (const [name, value] of Object.entries(expected)) assert.deepEqual(Reflect.get(actual, name), value, name)
    })

  const refused: readonly [what: string, body: object | string, field: string | null][] = [
    ['no max_tokens', { model: 'm', messages: [HI] }, 'max_tokens'],
    ['a bound below zero', { model: 'm', max_tokens: -1, messages: [HI] }, 'max_tokens'],
    ['a bound in words', { model: 'm', max_tokens: '5', messages: [HI] }, 'max_tokens'],
    ['no model', { max_tokens: 5, messages: [HI] }, 'model'],
    ['no messages', { model: 'm', max_tokens: 5, messages: [] }, 'messages'],
    ['a role that nobody knows', { model: 'm', max_tokens: 5, messages: [HI, { role: 'tool', content: 'x' }] }, 'messages[1]'],
    ['a stream in words', { model: 'm', max_tokens: 5, messages: [HI], stream: 'yes' }, 'stream'],
    ['tools that are no list', { model: 'm', max_tokens: 5, messages: [HI], tools: {} }, 'tools'],
    ['what is no JSON', '{"model":', null],
  ]
  for (const [what, body, field] of refused)
    test(`refuses ${what}`, async () => {
      const parsed = await parse(body)
      assert.equal(parsed.status, 'invalid')
      assert.equal(parsed.field, field)
    })

  const unmetered: readonly JsonObject[] = [
    { mcp_servers: [{ type: 'url', url: 'https://example.com', name: 'x' }] },
    { tools: [{ type: 'advisor_20260301', name: 'advisor' }] },
    { fallbacks: [{ model: 'claude-opus-4-5' }] },
    { messages: [HI, adding({ type: 'tool_definition', definition: { type: 'advisor_20260301', name: 'advisor' } })] },
    { messages: [HI, adding({ type: 'mcp_toolset', name: 'x' })] },
  ]
  for (const more of unmetered)
    test(`says that ${Object.keys(more)[0]} cannot be metered`, async () => {
      const parsed = await parse({ model: 'm', max_tokens: 5, messages: [HI], ...more })
      assert.equal(parsed.status, 'ungoverned')
    })

  test('says so of a thread by the code by which SDKs go on without one', async () => {
    for (const thread of [{ type: 'create' }, { type: 'continue', previous_message_id: 'msg_1' }]) {
      const parsed = await parse({ model: 'm', max_tokens: 5, messages: [HI], thread, mcp_servers: [{ type: 'url' }] })
      assert.ok(parsed.status === 'ungoverned')
      assert.equal(parsed.code, 'thread_unsupported_request')
    }
    assert.equal((await parse({ model: 'm', max_tokens: 5, messages: [HI], thread: null })).status, 'ok')
  })

  test('cache marks, bounds and who asks change nothing of the fixed part; instructions and tools do', async () => {
    const { fixedDigest } = await request({ system: [{ type: 'text', text: 'x' }], tools: [TOOL] })
    const same: readonly JsonObject[] = [
      { system: [{ type: 'text', text: 'x', cache_control: MARK }], tools: [{ ...TOOL, cache_control: MARK }] },
      {
        system: [{ type: 'text', text: 'x' }],
        tools: [TOOL],
        max_tokens: 7,
        metadata: { user_id: 'u' },
        cache_control: MARK,
        stream: true,
      },
    ]
    for (const more of same) assert.equal((await request(more)).fixedDigest, fixedDigest)
    const others: readonly JsonObject[] = [
      { system: [{ type: 'text', text: 'y' }], tools: [TOOL] },
      { system: [{ type: 'text', text: 'x' }], tools: [TOOL, SEARCH] },
      { system: [{ type: 'text', text: 'x' }], tools: [TOOL], thinking: { type: 'adaptive' } },
    ]
    for (const more of others) assert.notEqual((await request(more)).fixedDigest, fixedDigest)
  })

  test('what the provider adds unseen for tools and schemas is part of the fixed bytes', async () => {
    const bytesOf = async (more: JsonObject): Promise<number> => {
      const { fixedBytes, body, messages } = await request(more)
      return fixedBytes - (body.length - (messages[0]?.bytes.length ?? 0))
    }
    assert.equal(await bytesOf({}), 0)
    assert.ok((await bytesOf({ tools: [TOOL] })) >= 1_000)
    assert.ok((await bytesOf({ tools: [TOOL, SEARCH] })) > (await bytesOf({ tools: [TOOL] })) + 4_000)
    assert.ok((await bytesOf({ output_config: { format: { type: 'json_schema', schema: {} } } })) >= 1_000)
  })
})

describe('what is written', () => {
  const changes: Record<string, [more: JsonObject, change: RequestChange, expected: Record<string, Json | undefined>]> = {
    nothing: [{}, {}, {}],
    'a smaller bound': [{}, { outputLimit: { field: 'max_tokens', tokens: 7 } }, { max_tokens: 7 }],
    'a bound below the thinking budget': [
      { thinking: { type: 'enabled', budget_tokens: 1_500 } },
      { outputLimit: { field: 'max_tokens', tokens: 1_500 } },
      { max_tokens: 1_500, thinking: { type: 'enabled', budget_tokens: 1_244 } },
    ],
    'another model': [
      { temperature: 0.5, thinking: { type: 'enabled', budget_tokens: 1_024 } },
      { model: 'claude-haiku-5-5', drop: ['temperature'] },
      { model: 'claude-haiku-5-5', temperature: undefined, thinking: { type: 'adaptive' } },
    ],
    'no tools': [{ tools: [TOOL] }, { toolChoice: 'none' }, { tool_choice: { type: 'none' } }],
    'no tools where there are none': [{}, { toolChoice: 'none' }, {}],
    'no tools once more': [{ tools: [TOOL], tool_choice: { type: 'none' } }, { toolChoice: 'none' }, {}],
    'a bound of searches': [{ tools: [TOOL, SEARCH] }, { hostedCalls: 4 }, { tools: [TOOL, { ...SEARCH, max_uses: 4 }] }],
    'a bound that is shared': [
      { tools: [SEARCH, FETCH] },
      { hostedCalls: 5 },
      {
        tools: [
          { ...SEARCH, max_uses: 2 },
          { ...FETCH, max_uses: 2 },
        ],
      },
    ],
    'as many calls as there may be of a search that may be called from code': [
      { tools: [FILTERING] },
      { hostedCalls: 10 },
      { tools: [{ ...FILTERING, max_uses: 10 }] },
    ],
    'fewer, which takes that no code calls it': [
      {
        tools: [
          { ...FILTERING, allowed_callers: ['code_execution_20260521'] },
          { ...FETCH, max_uses: 1 },
        ],
      },
      { hostedCalls: 3 },
      {
        tools: [
          { ...FILTERING, allowed_callers: ['direct'], max_uses: 2 },
          { ...FETCH, max_uses: 1 },
        ],
      },
    ],
    'fewer, within the bound of the client': [
      { tools: [{ ...FILTERING, max_uses: 1 }] },
      { hostedCalls: 1 },
      { tools: [{ ...FILTERING, max_uses: 1, allowed_callers: ['direct'] }] },
    ],
    'a smaller bound of the client': [{ tools: [{ ...SEARCH, max_uses: 1 }] }, { hostedCalls: 4 }, {}],
    'bounds of the client that come to just as much': [
      {
        tools: [
          { ...SEARCH, max_uses: 3 },
          { ...FETCH, max_uses: 2 },
        ],
      },
      { hostedCalls: 5 },
      {},
    ],
    'a smaller bound, which leaves the others more': [
      { tools: [SEARCH, { ...FETCH, max_uses: 2 }] },
      { hostedCalls: 10 },
      {
        tools: [
          { ...SEARCH, max_uses: 8 },
          { ...FETCH, max_uses: 2 },
        ],
      },
    ],
    'a bound that money cut, to which nothing that was thought is bound': [
      { tools: [SEARCH], messages: [HI, { role: 'assistant', content: [THOUGHT, { type: 'text', text: 'Ho' }] }, HI] },
      { hostedCalls: 2, hostedCallsCut: true },
      {
        tools: [{ ...SEARCH, max_uses: 2 }],
        messages: [HI, { role: 'assistant', content: [{ type: 'text', text: 'Ho' }] }, HI],
      },
    ],
    'another effort, beside the schema': [
      { output_config: { effort: 'xhigh', format: SCHEMA } },
      { effort: 'high' },
      { output_config: { effort: 'high', format: SCHEMA } },
    ],
    'no effort, but the schema': [
      { output_config: { effort: 'low', format: SCHEMA } },
      { effort: null },
      { output_config: { format: SCHEMA } },
    ],
    'no effort, and so nothing': [{ output_config: { effort: 'low' } }, { effort: null }, { output_config: undefined }],
    'no effort where there is none': [{ output_config: { format: SCHEMA } }, { effort: null }, {}],
    'a bound of which one is the compaction': [
      { tools: [SEARCH], compaction: { type: 'summarize' } },
      { hostedCalls: 4 },
      { tools: [{ ...SEARCH, max_uses: 3 }] },
    ],
  }
  for (const [what, [more, change, expected]] of Object.entries(changes))
    test(what, async () => assert.deepEqual(await rendered(more, change), expected))

  test('nothing changed gives the same buffer', async () => {
    const original = await request({ tools: [TOOL] })
    assert.equal(renderMessagesRequest(original, { messages: [...original.messages] }), original.body)
  })

  test('a tool loop keeps its thinking, and is not touched for it', async () => {
    const hm = { type: 'thinking', thinking: 'Hm', signature: 's' }
    const call = (id: string): JsonObject => ({ type: 'tool_use', id, name: 'look_up', input: {} })
    const result = (id: string): JsonObject => ({ role: 'user', content: [{ type: 'tool_result', tool_use_id: id, content: 'x' }] })
    const thinking = { type: 'enabled', budget_tokens: 1_024 }
    const loop = (...first: readonly JsonObject[]): Promise<ModelRequest> =>
      request({
        thinking,
        tools: [TOOL],
        messages: [
          HI,
          { role: 'assistant', content: [...first, call('a')] },
          result('a'),
          { role: 'assistant', content: [call('b')] },
          result('b'),
        ],
      })
    const bounded: RequestChange = { outputLimit: { field: 'max_tokens', tokens: 1_900 } }
    const thought = await loop(hm)
    assert.equal(renderMessagesRequest(thought, {}), thought.body)
    assert.deepEqual(changedIn(thought.body, renderMessagesRequest(thought, bounded)), { max_tokens: 1_900 })
    const unthought = await loop()
    assert.equal(renderMessagesRequest(unthought, {}), unthought.body, 'what is not changed is for the provider to judge')
    assert.deepEqual(changedIn(unthought.body, renderMessagesRequest(unthought, bounded)), {
      max_tokens: 1_900,
      thinking: { type: 'disabled' },
    })
  })

  test('what is not changed keeps every byte', async () => {
    await fc.assert(
      fc.asyncProperty(objectTexts(), async (text) => {
        const rest = text.trim().slice(1, -1)
        const body = `{ "model":"claude-x" , "max_tokens":\n50,"messages":[ {"role":"user","content":"Hi"} ]${rest.trim() === '' ? '' : `,${rest}`}}`
        const parsed = await parse(body)
        if (parsed.status !== 'ok') return
        const out = renderMessagesRequest(parsed.request, { outputLimit: { field: 'max_tokens', tokens: 7 } }).toString('utf8')
        if (parsed.request.fields.has('thinking')) return
        assert.equal(out, body.replace('\n50', '\n7'))
      }),
      { numRuns: 100 },
    )
  })

  test('edited messages are sent with what stays of them', async () => {
    const original = await request({
      messages: [
        HI,
        {
          role: 'assistant',
          content: [
            { type: 'thinking', thinking: 'x', signature: 's' },
            { type: 'text', text: 'Hello' },
          ],
        },
        HI,
      ],
    })
    const sent = JSON.parse(
      renderMessagesRequest(original, { messages: [original.own('user', '[left out]'), ...original.messages.slice(1)] }).toString(),
    )
    assert.deepEqual(sent.messages, [
      { role: 'user', content: '[left out]' },
      { role: 'assistant', content: [{ type: 'text', text: 'Hello' }] },
      HI,
    ])
  })
})

test('the answer of a request for the long cache is read as one', async () => {
  const usage = { input_tokens: 3, cache_creation_input_tokens: 1_000, output_tokens: 1 }
  const message = { id: 'msg_1', type: 'message', role: 'assistant', model: 'm', content: [], stop_reason: 'end_turn', usage }
  const events = [
    { type: 'message_start', message },
    { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage },
    { type: 'message_stop' },
  ]
  for (const [ttl, long] of [
    ['1h', 1_000],
    ['5m', 0],
  ] as const) {
    const parsed = await parse({ model: 'm', max_tokens: 5, messages: [HI], cache_control: { type: 'ephemeral', ttl } })
    assert.ok(parsed.status === 'ok')
    const { request } = parsed
    assert.equal(messagesWire.readAnswer(Buffer.from(JSON.stringify(message)), request).facts.usage?.cacheWriteLongInput, long)
    const stream = messagesWire.openStream({ request, stripUsage: false, notice: null, collect: false })
    for (const event of events) stream.push(Buffer.from(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`))
    assert.equal(stream.facts.usage?.cacheWriteLongInput, long)
  }
})

test('what an error says of our changes', () => {
  const bound = 'messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation.'
  const body = (message: string): string => JSON.stringify({ type: 'error', error: { type: 'invalid_request_error', message } })
  assert.equal(messagesWire.objection(400, body(bound)), 'edits')
  assert.equal(
    messagesWire.objection(
      400,
      body(
        'Expected `thinking` or `redacted_thinking`, but found `text`. When `thinking` is enabled, a final `assistant` message must start with a thinking block',
      ),
    ),
    'edits',
  )
  for (const message of [
    "messages.67: role 'system' must precede an 'assistant' message or end the array",
    'A maximum of 4 blocks with cache_control may be provided. Found 5.',
  ])
    assert.equal(messagesWire.objection(400, body(message)), 'edits')
  const unpaired = 'messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: a.'
  assert.equal(messagesWire.objection(400, body(unpaired)), 'swap', 'which edits leave whole')
  assert.equal(messagesWire.objection(400, body('temperature: is not supported for this model')), 'swap')
  assert.equal(messagesWire.objection(404, body('model: claude-none')), 'swap')
  assert.equal(messagesWire.objection(429, body(bound)), null)
})

test('a prompt of ours is a plain request', async () => {
  const call: CallContext = {
    upstream: { provider: 'anthropic', outputLimitField: 'max_tokens', deployments: [] },
    path: '/messages',
    contentType: '',
  }
  const prompt = messagesWire.prompt({ model: 'claude-haiku-5-5', system: 'Take notes.', user: 'Text', maxTokens: 300, call })
  assert.equal(prompt?.path, '/messages')
  const read = await parse(prompt?.body.toString() ?? '')
  assert.equal(read.status, 'ok')
  assert.deepEqual(JSON.parse(prompt?.body.toString() ?? ''), {
    model: 'claude-haiku-5-5',
    max_tokens: 300,
    system: 'Take notes.',
    messages: [{ role: 'user', content: 'Text' }],
    thinking: { type: 'disabled' },
  })
})

test('the provider is asked to count what fills the window, beside the call', async () => {
  const call: CallContext = {
    upstream: { provider: 'anthropic', outputLimitField: 'max_tokens', deployments: [] },
    path: '/messages?beta=true',
    contentType: 'application/json',
  }
  const original = await request({ system: 'Be kind.', tools: [TOOL], stream: true, metadata: { user_id: 'u' }, temperature: 1 })
  const asked = messagesWire.counts?.ask(original, call, { model: 'claude-haiku-4-5' })
  assert.equal(asked?.path, '/messages/count_tokens?beta=true')
  assert.deepEqual(JSON.parse(asked?.body.toString() ?? ''), {
    model: 'claude-haiku-4-5',
    messages: [HI],
    system: 'Be kind.',
    tools: [TOOL],
  })
  assert.equal(messagesWire.counts?.read(Buffer.from('{"input_tokens": 31}')), 31)
  assert.equal(messagesWire.counts?.read(Buffer.from('{"error": {}}')), null)
})
