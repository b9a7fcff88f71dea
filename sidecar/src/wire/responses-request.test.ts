import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { COMPACTION, NO_HOSTED_TOOLS } from '../core/request.ts'
import type { JsonObject, ModelRequest, RequestChange } from '../core/request.ts'
import { countedBody, parseResponsesRequest, readCounted, readKeptItems, renderResponsesRequest } from './responses-request.ts'
import { syntheticId } from './responses-synthetic.ts'

const UNIQUE = '0f8fad5b-d9cb-469f-a165-70867728950e'
const WEB = { type: 'web_search' }
const LOOK = { type: 'function', name: 'look', parameters: {} }

describe('a request is read', () => {
  test('with all that the turn needs', async () => {
    const request = await read({
      model: 'gpt-5-mini',
      instructions: 'Be kind.',
      input: [{ role: 'user', content: 'Hi' }],
      stream: true,
      max_output_tokens: 200,
      metadata: { conversation_id: 'a', count: 'b' },
      prompt_cache_key: 'k',
      safety_identifier: 's',
      user: 'u',
      service_tier: 'flex',
      tools: [LOOK],
      text: { format: { type: 'json_schema', name: 'x', schema: {} } },
    })
    assert.deepEqual(
      [request.model, request.stream, request.outputLimit, request.tools, request.structured, request.serviceTier],
      ['gpt-5-mini', true, { field: 'max_output_tokens', tokens: 200 }, 'offered', true, 'flex'],
    )
    assert.deepEqual(
      [request.metadata['conversation_id'], request.promptCacheKey, request.safetyIdentifier, request.user],
      ['a', 'k', 's', 'u'],
    )
    assert.deepEqual([request.earlier, request.onlyNamed, request.generates, request.outputFloor], [null, false, true, 16])
    assert.equal(request.messages.length, 1)
  })

  test('whose input is a text, or nothing but an id', async () => {
    const text = await read({ model: 'm', input: 'Hi' })
    assert.deepEqual(
      text.messages.map(({ role, texts }) => [role, texts[0]?.text]),
      [['user', 'Hi']],
    )
    const chained = await read({ model: 'm', previous_response_id: 'resp_1' })
    assert.deepEqual([chained.messages, chained.earlier], [[], { kind: 'response', id: 'resp_1' }])
    for (const conversation of ['conv_1', { id: 'conv_1' }])
      assert.deepEqual((await read({ model: 'm', input: 'Hi', conversation })).earlier, { kind: 'conversation', id: 'conv_1' })
  })

  test('and the bytes of the rest bound what is fixed', async () => {
    const body = { model: 'm', instructions: 'x'.repeat(500), input: [{ role: 'user', content: 'y'.repeat(300) }] }
    const request = await read(body)
    const [message] = request.messages
    assert.equal(request.fixedBytes, JSON.stringify(body).length - (message?.bytes.length ?? 0))
    assert.notEqual(request.fixedDigest, (await read({ ...body, instructions: 'z' })).fixedDigest)
    assert.equal(request.fixedDigest, (await read({ ...body, stream: true, store: false, metadata: { a: 'b' } })).fixedDigest)
  })

  test('with what the choice of tools says', async () => {
    const choices: readonly (readonly [
      tools: readonly JsonObject[] | undefined,
      choice: JsonObject[string],
      is: string,
      refused: boolean,
    ])[] = [
      [undefined, undefined, 'none', false],
      [[], 'auto', 'none', false],
      [[LOOK], 'auto', 'offered', false],
      [[LOOK], 'none', 'offered', true],
      [[LOOK], 'required', 'forced', false],
      [[LOOK], { type: 'function', name: 'look' }, 'forced', false],
      [[LOOK], { type: 'allowed_tools', mode: 'auto', tools: [LOOK] }, 'offered', false],
      [[LOOK], { type: 'allowed_tools', mode: 'required', tools: [LOOK] }, 'forced', false],
      [[WEB], { type: 'web_search' }, 'forced', false],
    ]
    for (const [tools, tool_choice, is, refused] of choices) {
      const request = await read({ model: 'm', input: 'x', tools, tool_choice })
      assert.deepEqual([request.tools, request.toolsRefused], [is, refused], JSON.stringify(tool_choice))
    }
  })

  test('with the tools that the provider runs, and how often they may be called', async () => {
    const hosted = async (body: JsonObject): Promise<ModelRequest['hosted']> => (await read({ model: 'm', input: 'x', ...body })).hosted
    const tools = [WEB, { type: 'file_search', vector_store_ids: ['v'] }, { type: 'code_interpreter', container: { type: 'auto' } }, LOOK]
    assert.deepEqual(await hosted({ tools }), { tools: ['webSearch', 'fileSearch', 'codeContainer'], maxCalls: null, rereads: true })
    assert.deepEqual(await hosted({ tools: [WEB], max_tool_calls: 3 }), { tools: ['webSearch'], maxCalls: 3, rereads: true })
    assert.deepEqual(await hosted({ tools: [LOOK, { type: 'apply_patch' }] }), { tools: [], maxCalls: null, rereads: false })
    assert.deepEqual(await hosted({ tools: [{ type: 'mcp', server_label: 'x' }] }), { tools: [], maxCalls: null, rereads: true })
    assert.deepEqual(await hosted({ tools: [{ type: 'of_the_future' }] }), { tools: [], maxCalls: null, rereads: true })
    assert.deepEqual(await hosted({ tools: [WEB], tool_choice: 'none' }), { tools: [], maxCalls: null, rereads: false })
    const context_management = [{ type: 'compaction', compact_threshold: 2_000 }]
    assert.deepEqual(await hosted({ context_management }), COMPACTION)
    assert.deepEqual(await hosted({ tools: [WEB], max_tool_calls: 3, context_management }), {
      tools: ['webSearch'],
      maxCalls: 4,
      compacts: true,
      rereads: true,
    })
  })

  test('and the long cache, wherever it is asked for', async () => {
    const cache = async (body: JsonObject): Promise<ModelRequest['cacheWrites']> =>
      (await read({ model: 'm', input: 'x', ...body })).cacheWrites
    assert.equal(await cache({}), 'short')
    assert.equal(await cache({ prompt_cache_options: { ttl: '30m' } }), 'short')
    assert.equal(await cache({ prompt_cache_options: { ttl: '12h' } }), 'long')
    const content = [{ type: 'input_text', text: 'x', prompt_cache_breakpoint: { mode: 'explicit', ttl: '12h' } }]
    assert.equal(await cache({ input: [{ role: 'user', content }] }), 'long')
    const marked = [{ type: 'input_text', text: 'x', cache_control: { type: 'ephemeral', ttl: '1h' } }]
    assert.equal(await cache({ input: [{ role: 'user', content: marked }] }), 'long')
  })
})

describe('tools that an item of the input adds', () => {
  const user = { role: 'user', content: 'x' }
  const added = (type: string, tool: JsonObject): JsonObject => ({ type, role: 'developer', tools: [tool] })

  test('are held for like those of the request', async () => {
    for (const type of ['additional_tools', 'tool_search_output']) {
      const item = { type, role: 'developer', tools: [WEB, { type: 'file_search', vector_store_ids: ['v'] }] }
      const request = await read({ model: 'm', store: false, input: [user, item] })
      assert.deepEqual(request.hosted, { tools: ['webSearch', 'fileSearch'], maxCalls: null, rereads: true }, type)
      assert.equal(JSON.parse(renderResponsesRequest(request, { hostedCalls: 3 }).toString()).max_tool_calls, 3)
      assert.deepEqual((await read({ model: 'm', input: [user, added(type, LOOK)] })).hosted, NO_HOSTED_TOOLS)
    }
  })

  test('are refused, and forced, like those of the request', async () => {
    for (const type of ['additional_tools', 'tool_search_output'])
      for (const tool of [LOOK, WEB]) {
        const body = { model: 'm', store: false, input: [user, added(type, tool)] }
        const request = await read(body)
        assert.deepEqual([request.tools, request.toolsRefused], ['offered', false])
        assert.deepEqual(sentOf(request, { toolChoice: 'none' }), { ...body, tool_choice: 'none' })
        assert.equal((await read({ ...body, tool_choice: 'required' })).tools, 'forced')
        const refused = await read({ ...body, tool_choice: 'none' })
        assert.deepEqual([refused.toolsRefused, refused.hosted], [true, NO_HOSTED_TOOLS])
      }
  })

  test('and that the provider keeps are those of who chooses among them', async () => {
    const kept = { model: 'm', input: 'x', previous_response_id: 'resp_1' }
    const tools = async (body: JsonObject): Promise<ModelRequest['tools']> => (await read(body)).tools
    assert.equal(await tools({ ...kept, tool_choice: 'required' }), 'forced')
    assert.equal(await tools(kept), 'none')
    assert.equal(sentOf(await read({ ...kept, tool_choice: 'auto' }), { toolChoice: 'none' })['tool_choice'], 'none')
  })

  test('and that the provider runs are refused where it keeps them: no later call shows them', async () => {
    const bodies: readonly JsonObject[] = [
      {},
      { store: null },
      { store: true },
      { previous_response_id: 'resp_1' },
      { conversation: 'conv_1', store: false },
      { conversation: { id: 'conv_1' } },
      { tools: [WEB] },
    ]
    for (const type of ['additional_tools', 'tool_search_output'])
      for (const tool of [WEB, { type: 'mcp', server_label: 's' }, { type: 'of_the_future' }])
        for (const body of bodies) {
          const parsed = await parse({ model: 'm', ...body, input: [user, added(type, tool)] })
          assert.ok(parsed.status === 'ungoverned', JSON.stringify([type, tool, body]))
          assert.match(parsed.what, /tool of the provider that an item adds/)
        }
    const item = added('additional_tools', WEB)
    await read({ model: 'm', store: false, previous_response_id: 'resp_1', input: [item] })
    assert.equal((await parseResponsesRequest(Buffer.from(JSON.stringify({ model: 'm', input: [item] })), 'compact')).status, 'ok')
  })

  test('but for what the provider found among those of the request', async () => {
    const mcp = { type: 'mcp', server_label: 's', defer_loading: true }
    const found = { ...added('tool_search_output', mcp), execution: 'server' }
    await read({ model: 'm', tools: [{ type: 'tool_search' }, mcp], input: [user, found] })
    assert.equal((await parse({ model: 'm', tools: [{ type: 'tool_search' }], input: [user, found] })).status, 'ungoverned')
  })
})

test('how much of a kept history is read is told by the context of its thoughts, of its images and by truncation, by nothing else', async () => {
  const reading = async (more: JsonObject): Promise<string | undefined> =>
    (await read({ model: 'gpt-5-mini', input: 'Hi', ...more })).keptReading
  assert.equal(await reading({}), '')
  assert.equal(await reading({ reasoning: { effort: 'high', summary: 'auto' }, instructions: 'Be kind.', tools: [LOOK] }), '')
  const others = [
    { reasoning: { context: 'all_turns' } },
    { reasoning: { context: 'current_turn' } },
    { image: { context_compression: 'disabled' } },
    { truncation: 'auto' },
  ]
  assert.equal(new Set(await Promise.all([{}, ...others].map(reading))).size, 5)
})

test('items that a conversation of the provider keeps bring no tool of its own', async () => {
  const keep = (body: JsonObject | string): ReturnType<typeof readKeptItems> =>
    readKeptItems(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)))
  const adding = (...tools: readonly JsonObject[]): JsonObject => ({ items: [{ type: 'additional_tools', role: 'developer', tools }] })
  for (const body of ['', '{}', { items: null }, { items: [] }, { items: [{ role: 'user', content: 'x' }] }, adding(LOOK)]) {
    const kept = await keep(body)
    assert.ok(kept.status === 'ok')
    assert.equal(kept.body.toString(), typeof body === 'string' ? body : JSON.stringify(body))
  }
  for (const tool of [WEB, { type: 'image_generation' }, { type: 'tool_search' }])
    assert.equal((await keep(adding(LOOK, tool))).status, 'ungoverned')
  for (const body of ['[]', '{"items": {}}', '{"Items": []}', '{"items": [], "items": []}'])
    assert.equal((await keep(body)).status, 'invalid')
})

test('a search for tools that the app makes is run by the app', async () => {
  const search = { type: 'tool_search', execution: 'client', parameters: { type: 'object', properties: {} } }
  assert.deepEqual((await read({ model: 'm', input: 'x', tools: [search, LOOK] })).hosted, NO_HOSTED_TOOLS)
  assert.equal((await read({ model: 'm', input: 'x', tools: [{ type: 'tool_search' }, LOOK] })).hosted.rereads, true)
})

test('structured output is asked for by the request, or by the last item that sets it', async () => {
  const schema = { format: { type: 'json_schema', name: 'x', schema: {} } }
  const prose = { format: { type: 'text' } }
  const structured = async (text: JsonObject | null, ...updates: readonly JsonObject[]): Promise<boolean> => {
    const items = updates.map((update) => ({ type: 'configuration_update', ...update }))
    return (await read({ model: 'm', input: [...items, { role: 'user', content: 'x' }], ...(text === null ? {} : { text }) })).structured
  }
  assert.equal(await structured(null), false)
  assert.equal(await structured(prose), false)
  assert.equal(await structured({ format: { type: 'json_object' } }), true)
  assert.equal(await structured(null, { text: schema }), true)
  assert.equal(await structured(null, { text: schema }, { reasoning: { effort: 'low' } }), true)
  assert.equal(await structured(null, { text: schema }, { text: prose }), false)
  assert.equal(await structured(prose, { text: schema }), true)
  assert.equal(await structured(schema, { text: prose }), true, 'which of the two holds is not said')
})

test('what cannot be metered as it happens is named', async () => {
  const bodies: readonly (readonly [JsonObject, RegExp])[] = [
    [{ background: true }, /background/],
    [{ prompt: { id: 'pmpt_1' } }, /prompt template/],
    [{ multi_agent: { enabled: true, max_concurrent_subagents: 1 } }, /several agents/],
    [{ multi_agent: {} }, /several agents/],
    [{ model: 'grok-4.20-multi-agent' }, /several agents/],
    [{ tools: [{ type: 'image_generation' }] }, /image_generation/],
    [{ input: [{ type: 'additional_tools', role: 'developer', tools: [{ type: 'image_generation' }] }] }, /image_generation/],
    [{ tools: [{ type: 'shell', environment: { type: 'container_auto' } }] }, /shell/],
    [{ tools: [{ type: 'code_interpreter', container: { type: 'auto', memory_limit: '64g' } }] }, /code_interpreter/],
  ]
  for (const [body, what] of bodies) {
    const parsed = await parse({ model: 'm', input: 'x', ...body })
    assert.ok(parsed.status === 'ungoverned', JSON.stringify(body))
    assert.match(parsed.what, what)
  }
  for (const tool of [
    { type: 'shell', environment: { type: 'local' } },
    { type: 'code_interpreter', container: { type: 'auto', memory_limit: '1g' } },
  ])
    await read({ model: 'm', input: 'x', tools: [tool], background: false, multi_agent: { enabled: false } })
})

test('a mode of reasoning is the model’s own at OpenAI and Azure; elsewhere another model may take it', async () => {
  const body = Buffer.from(JSON.stringify({ model: 'm', input: 'x', reasoning: { mode: 'pro' } }))
  for (const provider of ['openai', 'azure'])
    assert.equal((await parseResponsesRequest(body, 'responses', provider)).status, 'ok', provider)
  for (const provider of ['openrouter', undefined])
    assert.equal((await parseResponsesRequest(body, 'responses', provider)).status, 'ungoverned', provider)
})

test('xAI’s tools are held for by their fees, each run of code like a search', async () => {
  const held = async (provider: string, ...types: string[]): Promise<unknown> => {
    const body = { model: 'grok-4.6', input: 'x', tools: types.map((type) => ({ type })) }
    const parsed = await parseResponsesRequest(Buffer.from(JSON.stringify(body)), 'responses', provider)
    return parsed.status === 'ok' ? parsed.request.hosted.tools : parsed
  }
  assert.deepEqual(await held('x-ai', 'x_search'), ['webSearch'])
  assert.deepEqual(await held('x-ai', 'collections_search'), ['fileSearch'])
  assert.deepEqual(await held('x-ai', 'attachment_search'), ['webSearch', 'webSearch'], 'at twice the fee')
  for (const type of ['code_execution', 'code_interpreter']) assert.deepEqual(await held('x-ai', type), ['webSearch'], type)
  assert.deepEqual(await held('openai', 'code_interpreter'), ['codeContainer'])
})

test('what is not sure is refused, and names the field', async () => {
  const bodies: readonly (readonly [unknown, string | null])[] = [
    [{ input: 'x' }, 'model'],
    [{ model: '', input: 'x' }, 'model'],
    [{ model: 'm', input: {} }, 'input'],
    [{ model: 'm', input: [{ role: 'user', content: 'x' }, 1] }, 'input[1]'],
    [{ model: 'm', input: 'x', max_output_tokens: 1.5 }, 'max_output_tokens'],
    [{ model: 'm', input: 'x', max_tool_calls: 0 }, 'max_tool_calls'],
    [{ model: 'm', input: 'x', stream: 1 }, 'stream'],
    [{ model: 'm', input: 'x', tools: {} }, 'tools'],
    [[], null],
  ]
  for (const [body, field] of bodies) {
    const parsed = await parse(body)
    assert.ok(parsed.status === 'invalid', JSON.stringify(body))
    assert.equal(parsed.field, field)
  }
  assert.equal((await parseResponsesRequest(Buffer.from('{"model":'))).status, 'invalid')
})

describe('a change', () => {
  const written =
    '{ "input" : [ {"role":"user","content":"a"} ,{"role":"user","content":"b"}],\n "brand_new": {"x" :1}, "tools":[{"type":"web_search"}],"model":"m" }'

  test('of nothing gives the very bytes', async () => {
    const body = Buffer.from(written)
    const request = await readBytes(body)
    assert.equal(renderResponsesRequest(request, {}), body)
    assert.equal(renderResponsesRequest(request, { messages: [...request.messages], model: 'm' }), body)
  })

  test('splices what it names, and nothing else', async () => {
    const bound = renderResponsesRequest(await readBytes(Buffer.from(written)), { outputLimit: { field: 'max_output_tokens', tokens: 99 } })
    assert.equal(bound.toString(), written.replace('"m" }', '"m","max_output_tokens":99 }'))
    const swapped = renderResponsesRequest(await readBytes(Buffer.from(written)), { model: 'n', drop: ['brand_new'] })
    assert.equal(swapped.toString(), written.replace('"m"', '"n"').replace(/\n "brand_new": \{"x" :1\}, /, ''))
  })

  test('of the effort keeps what stands beside it, byte for byte', async () => {
    const body = '{"model":"m","input":"x","reasoning":{ "summary" : "auto", "effort":"minimal" }}'
    const request = await readBytes(Buffer.from(body))
    assert.equal(request.effort, 'minimal')
    assert.equal(renderResponsesRequest(request, { effort: 'low' }).toString(), body.replace('minimal', 'low'))
    assert.deepEqual(sentOf(request, { effort: null })['reasoning'], { summary: 'auto' })
    assert.equal(sentOf(request, { effort: 'low', drop: ['reasoning'] })['reasoning'], undefined)
  })

  test('of the messages writes them as a list, whatever the input was', async () => {
    const listed = await readBytes(Buffer.from(written))
    assert.deepEqual(sentOf(listed, { messages: listed.messages.slice(1) })['input'], [{ role: 'user', content: 'b' }])
    const text = await read({ model: 'm', input: 'a' })
    const [message] = text.messages
    assert.ok(message !== undefined)
    assert.deepEqual(sentOf(text, { messages: [text.own('user', '[left out]'), message] })['input'], [
      { role: 'user', content: '[left out]' },
      { role: 'user', content: 'a' },
    ])
  })

  test('of the bound is never below what the provider takes', async () => {
    const request = await read({ model: 'm', input: 'x' })
    assert.equal(sentOf(request, { outputLimit: { field: 'max_output_tokens', tokens: 3 } })['max_output_tokens'], 16)
  })

  test('bounds the calls of hosted tools, never above what the client wants, and only where there are such', async () => {
    const bounded = async (body: JsonObject, hostedCalls: number): Promise<unknown> =>
      sentOf(await read({ model: 'm', input: 'x', ...body }), { hostedCalls })['max_tool_calls']
    assert.equal(await bounded({ tools: [WEB] }, 5), 5)
    assert.equal(await bounded({ tools: [WEB], max_tool_calls: 3 }, 5), 3)
    assert.equal(await bounded({ tools: [WEB], max_tool_calls: 9 }, 5), 5)
    const context_management = [{ type: 'compaction' }]
    assert.equal(await bounded({ tools: [WEB], context_management }, 5), 4, 'one is the compaction')
    assert.equal(await bounded({ context_management }, 1), undefined)
  })

  test('refuses tools by the choice alone', async () => {
    const request = await read({ model: 'm', input: 'x', tools: [LOOK] })
    assert.deepEqual(sentOf(request, { toolChoice: 'none' }), { model: 'm', input: 'x', tools: [LOOK], tool_choice: 'none' })
    const without = await read({ model: 'm', input: 'x' })
    assert.deepEqual(sentOf(without, { toolChoice: 'none' }), { model: 'm', input: 'x' })
  })

  test('of the session leaves the history where it is', async () => {
    const request = await read({ model: 'm', input: 'x', previous_response_id: 'resp_1' })
    assert.deepEqual(sentOf({ ...request, earlier: null }, {}), { model: 'm', input: 'x' })
    assert.deepEqual(sentOf(request, {}), { model: 'm', input: 'x', previous_response_id: 'resp_1' })
  })
})

describe('an id of ours', () => {
  test('is sent as the real response behind it, or not at all', async () => {
    const real = await read({ model: 'm', input: 'x', previous_response_id: syntheticId(UNIQUE, 'resp_0a1b') })
    assert.deepEqual(real.earlier, { kind: 'response', id: 'resp_0a1b' })
    assert.deepEqual(sentOf(real, {}), { model: 'm', input: 'x', previous_response_id: 'resp_0a1b' })
    const none = await read({ model: 'm', input: 'x', previous_response_id: syntheticId(UNIQUE, null) })
    assert.equal(none.earlier, null)
    assert.deepEqual(sentOf(none, {}), { model: 'm', input: 'x' })
  })

  test('of an item is left out where it is all that comes back of our words, and nothing else is touched', async () => {
    const before = `{"model": "m", "input" : [ {"role":"user","content":"Hi"} ,{"type":"item_reference","id":"msg_1"},`
    const after = ` {"role":"user", "content":"Still there?"} ], "store": true}`
    const ours = `{"type":"item_reference","id":"msg_farebox-${UNIQUE}"}`
    for (const wire of ['responses', 'compact'] as const) {
      const parsed = await parseResponsesRequest(Buffer.from(`${before} ${ours} ,${after}`), wire)
      assert.ok(parsed.status === 'ok')
      const { request } = parsed
      assert.deepEqual(request.keptNames, ['msg_1'])
      assert.deepEqual(
        request.messages.map(({ role }) => role),
        ['user', 'assistant', 'user'],
      )
      assert.equal(
        renderResponsesRequest(request, {}).toString(),
        `{"model": "m", "input" : [{"role":"user","content":"Hi"},{"type":"item_reference","id":"msg_1"},{"role":"user", "content":"Still there?"}], "store": true}`,
      )
      assert.ok(!countedBody(request).includes('farebox'))
    }
    const words = { type: 'message', id: `msg_farebox-${UNIQUE}`, role: 'assistant', content: [{ type: 'output_text', text: 'Closed.' }] }
    assert.equal((await read({ model: 'm', input: [words] })).messages.length, 1, 'what comes with its words is taken out by these')
  })

  test('is left out of what the provider counts for nothing', async () => {
    const counted = async (body: JsonObject): Promise<unknown> => {
      const read = await readCounted(Buffer.from(JSON.stringify(body)))
      assert.ok(read.status === 'ok')
      return JSON.parse(read.body.toString())
    }
    const ours = { type: 'item_reference', id: `msg_farebox-${UNIQUE}` }
    const known = { role: 'user', content: 'x' }
    assert.deepEqual(await counted({ model: 'm', previous_response_id: syntheticId(UNIQUE, 'resp_1'), input: [ours, known] }), {
      model: 'm',
      previous_response_id: 'resp_1',
      input: [known],
    })
    assert.deepEqual(await counted({ previous_response_id: syntheticId(UNIQUE, null), input: 'x' }), { input: 'x' })
    for (const text of ['', 'no JSON', '{"model": "m", "input" : [ ]}']) {
      const body = Buffer.from(text)
      assert.deepEqual(await readCounted(body), { status: 'ok', body }, 'nothing of ours: the provider judges it')
    }
  })

  test('that we never made goes to the provider as it is', async () => {
    for (const id of [
      'resp_farebox-x-',
      `resp_farebox-${UNIQUE}-zz`,
      `resp_farebox-${UNIQUE}-${Buffer.from('nope').toString('hex')}`,
      `${syntheticId(UNIQUE, 'resp_1')}0`,
    ]) {
      const request = await read({ model: 'm', input: 'x', previous_response_id: id })
      assert.deepEqual(request.earlier, { kind: 'response', id })
    }
  })
})

test('what is counted is what fills the window, as it is written', async () => {
  const request = await read({
    model: 'm',
    input: 'x',
    stream: true,
    store: false,
    max_output_tokens: 20,
    metadata: { a: 'b' },
    instructions: 'i',
    previous_response_id: 'resp_1',
    tools: [LOOK],
  })
  assert.deepEqual(JSON.parse(countedBody(request).toString()), {
    model: 'm',
    input: 'x',
    instructions: 'i',
    previous_response_id: 'resp_1',
    tools: [LOOK],
  })
})

test('a compaction writes what no field bounds, and says so', async () => {
  const parsed = await parseResponsesRequest(Buffer.from(JSON.stringify({ model: 'm', input: 'x', stream: true })), 'compact')
  assert.ok(parsed.status === 'ok')
  const { request } = parsed
  assert.deepEqual([request.wire, request.generates, request.stream, (request.units.output ?? 0) > 0], ['compact', false, false, true])
  assert.equal(sentOf(request, { outputLimit: { field: 'max_output_tokens', tokens: 50 } })['max_output_tokens'], undefined)
})

function sentOf(request: ModelRequest, change: RequestChange): Record<string, unknown> {
  return JSON.parse(renderResponsesRequest(request, change).toString()) as Record<string, unknown>
}

function parse(body: unknown): ReturnType<typeof parseResponsesRequest> {
  return parseResponsesRequest(Buffer.from(JSON.stringify(body)))
}

function read(body: JsonObject): Promise<ModelRequest> {
  return readBytes(Buffer.from(JSON.stringify(body)))
}

async function readBytes(body: Buffer): Promise<ModelRequest> {
  const parsed = await parseResponsesRequest(body)
  assert.ok(parsed.status === 'ok', JSON.stringify(parsed))
  return parsed.request
}
