import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import type { ModelRequest, Json, JsonObject, RequestChange } from '../core/request.ts'
import { NO_HOSTED_TOOLS } from '../core/request.ts'
import { conversations, message, user } from '../core/requests.testing.ts'
import { completionsWire } from './completions.ts'
import { chatWire, parseChatRequest, renderChatRequest } from './openai-chat.ts'
import { CHOICES_MAX, MODEL_LENGTH_MAX, OUTPUT_LIMIT_MAX } from './request-reading.ts'
import { changedIn, CHAT_CALL, readChat, scanned, valueTexts } from './bodies.testing.ts'

const HI = user('Hi')
const TOOL = { type: 'function', function: { name: 'look_up', parameters: { type: 'object' } } }
const FUNCTION = { name: 'look_up', parameters: { type: 'object' } }

async function parse(text: string): Promise<ModelRequest> {
  return await readChat(text)
}
const request = (more: JsonObject = {}): Promise<ModelRequest> => parse(JSON.stringify({ model: 'gpt-4o', messages: [HI], ...more }))

/** The fields that `change` leaves different from the request's own, `undefined` for one that is gone. */
async function rendered(more: JsonObject, change: RequestChange): Promise<Record<string, Json | undefined>> {
  const original = await request(more)
  return changedIn(original.body, renderChatRequest(original, change))
}

test('the mark of what was retrieved stays here, and `metadata` with it where it has nothing else', async () => {
  const sent = async (metadata: string): Promise<string> => {
    const marked = await parse(`{"model":"m","metadata":${metadata}, "messages":[{"role":"user","content":"Hi"}]}`)
    return renderChatRequest(marked, {}).toString()
  }
  assert.equal(await sent('{"farebox_retrieval":"0"}'), '{"model":"m","messages":[{"role":"user","content":"Hi"}]}')
  const others = '{"model":"m","metadata":{"a" : "b"}, "messages":[{"role":"user","content":"Hi"}]}'
  assert.equal(await sent('{"farebox_retrieval":"0","a" : "b"}'), others)
  assert.equal(await sent('{"a" : "b"}'), others)
})

describe('what is read', () => {
  test('a plain request has the defaults of the API', async () => {
    const text = '{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}]}'
    const { body, messages, fixedDigest, own, ...rest } = await parse(text)
    assert.deepEqual(own('user', 'Hi').json, { role: 'user', content: 'Hi' })
    assert.equal(body.toString(), text)
    assert.equal(messages.length, 1)
    assert.match(fixedDigest, /^[0-9a-f]{32}$/)
    assert.deepEqual(rest, {
      wire: 'chat',
      model: 'gpt-4o',
      stream: false,
      includeUsage: false,
      choices: 1,
      outputLimit: null,
      outputField: 'max_completion_tokens',
      generates: true,
      units: {},
      earlier: null,
      tools: 'none',
      toolsRefused: false,
      structured: false,
      cacheWrites: 'short',
      serviceTier: null,
      metadata: {},
      promptCacheKey: null,
      safetyIdentifier: null,
      user: null,
      fixedBytes: text.length - '{"role":"user","content":"Hi"}'.length,
      fields: new Set(['model', 'messages']),
      hosted: NO_HOSTED_TOOLS,
    })
  })

  const readings: Record<string, [more: JsonObject, expected: Partial<ModelRequest>]> = {
    stream: [{ stream: true }, { stream: true, includeUsage: false }],
    'usage that the client asks for': [{ stream: true, stream_options: { include_usage: true } }, { includeUsage: true }],
    'usage that it declines': [{ stream: true, stream_options: { include_usage: false } }, { includeUsage: false }],
    n: [{ n: CHOICES_MAX }, { choices: CHOICES_MAX }],
    'null for a default': [
      { n: null, stream: null, stream_options: null, tools: null, functions: null, max_tokens: null },
      { choices: 1, stream: false, tools: 'none', outputLimit: null },
    ],
    max_completion_tokens: [{ max_completion_tokens: 5 }, { outputLimit: { field: 'max_completion_tokens', tokens: 5 } }],
    max_tokens: [{ max_tokens: OUTPUT_LIMIT_MAX }, { outputLimit: { field: 'max_tokens', tokens: OUTPUT_LIMIT_MAX } }],
    'the smaller of two limits': [{ max_completion_tokens: 9, max_tokens: 5 }, { outputLimit: { field: 'max_tokens', tokens: 5 } }],
    'the newer of two equal limits': [
      { max_completion_tokens: 5, max_tokens: 5 },
      { outputLimit: { field: 'max_completion_tokens', tokens: 5 } },
    ],
    'a limit beside one that is null': [
      { max_completion_tokens: null, max_tokens: 5 },
      { outputLimit: { field: 'max_tokens', tokens: 5 } },
    ],
    'offered tools': [{ tools: [TOOL] }, { tools: 'offered', toolsRefused: false }],
    'no tools in an empty list': [{ tools: [], functions: [] }, { tools: 'none' }],
    'required tools': [{ tools: [TOOL], tool_choice: 'required' }, { tools: 'forced' }],
    'required tools, in the word of Mistral': [{ tools: [TOOL], tool_choice: 'any' }, { tools: 'forced' }],
    'one named tool': [{ tools: [TOOL], tool_choice: { type: 'function', function: { name: 'look_up' } } }, { tools: 'forced' }],
    'automatic tools': [{ tools: [TOOL], tool_choice: 'auto' }, { tools: 'offered' }],
    'allowed tools': [{ tools: [TOOL], tool_choice: { type: 'allowed_tools', allowed_tools: { mode: 'auto' } } }, { tools: 'offered' }],
    'allowed tools that are required': [
      { tools: [TOOL], tool_choice: { type: 'allowed_tools', allowed_tools: { mode: 'required' } } },
      { tools: 'forced' },
    ],
    'refused tools': [
      { tools: [TOOL], tool_choice: 'none' },
      { tools: 'offered', toolsRefused: true },
    ],
    'old functions': [{ functions: [FUNCTION] }, { tools: 'offered' }],
    'a forced old function': [{ functions: [FUNCTION], function_call: { name: 'look_up' } }, { tools: 'forced' }],
    'refused old functions': [
      { functions: [FUNCTION], function_call: 'none' },
      { tools: 'offered', toolsRefused: true },
    ],
    'tools that the word for old functions does not refuse': [{ tools: [TOOL], function_call: 'none' }, { toolsRefused: false }],
    'tools and old functions, of which only one is refused': [
      { tools: [TOOL], functions: [FUNCTION], tool_choice: 'none' },
      { tools: 'offered', toolsRefused: false },
    ],
    'a schema': [{ response_format: { type: 'json_schema', json_schema: {} } }, { structured: true }],
    'a JSON object': [{ response_format: { type: 'json_object' } }, { structured: true }],
    'text by name': [{ response_format: { type: 'text' } }, { structured: false }],
    'no format': [{ response_format: null }, { structured: false }],
    audio: [{ modalities: ['text', 'audio'] }, { structured: true }],
    'only text': [{ modalities: ['text'] }, { structured: false }],
    'a grammar of a self-hosted server': [{ guided_json: {} }, { structured: true }],
    'a schema of llama.cpp': [{ json_schema: { type: 'object' } }, { structured: true }],
    'a grammar of llama.cpp': [{ grammar: 'root ::= "yes"' }, { structured: true }],
    'a pattern of SGLang': [{ regex: '[a-z]+' }, { structured: true }],
    'a grammar of SGLang': [{ ebnf: 'root ::= "yes"' }, { structured: true }],
    'a tag of SGLang': [{ structural_tag: '{}' }, { structured: true }],
    'words to stop at': [{ stop: ['\nObservation:'] }, { fields: new Set(['model', 'messages', 'stop']) }],
    'a word to stop at': [{ stop: 'END' }, { fields: new Set(['model', 'messages', 'stop']) }],
    'no words to stop at': [{ stop: null }, { fields: new Set(['model', 'messages']) }],
    'an empty list of words to stop at': [{ stop: [] }, { fields: new Set(['model', 'messages']) }],
    'no grammar': [{ guided_json: null, structured_outputs: null }, { structured: false }],
    identity: [
      { metadata: { a: 'b', n: 1 }, prompt_cache_key: 'k', safety_identifier: 's', user: 'u', service_tier: 'flex' },
      { metadata: { a: 'b' }, promptCacheKey: 'k', safetyIdentifier: 's', user: 'u', serviceTier: 'flex' },
    ],
    'identity of a wrong type, left to the provider': [
      { metadata: 'a', prompt_cache_key: 1, user: {} },
      { metadata: {}, promptCacheKey: null, user: null },
    ],
    'a cache for minutes': [{ prompt_cache_options: { ttl: '30m' } }, { cacheWrites: 'short' }],
    'a cache for hours': [{ prompt_cache_options: { ttl: '12h' } }, { cacheWrites: 'long' }],
    'a mark for hours': [
      { messages: [user([{ type: 'text', text: 'x', prompt_cache_breakpoint: { mode: 'explicit', ttl: '12h' } }])] },
      { cacheWrites: 'long' },
    ],
    'a mark that says no life': [
      { messages: [user([{ type: 'text', text: 'x', prompt_cache_breakpoint: { mode: 'explicit' } }])] },
      { cacheWrites: 'short' },
    ],
    "one of Anthropic's for an hour, as routers take it": [
      { messages: [user([{ type: 'text', text: 'x', cache_control: { type: 'ephemeral', ttl: '1h' } }])] },
      { cacheWrites: 'long' },
    ],
    'one for an hour in a tool, behind one for minutes': [
      {
        messages: [user([{ type: 'text', text: 'x', cache_control: { type: 'ephemeral' } }])],
        tools: [{ type: 'function', function: { name: 'f' }, cache_control: { ttl: '1h', type: 'ephemeral' } }],
      },
      { cacheWrites: 'long' },
    ],
    'ones for minutes, one that is null, and words that look like one': [
      {
        messages: [
          user([{ type: 'text', text: 'x', cache_control: { type: 'ephemeral', ttl: '5m' } }]),
          user([{ type: 'text', text: '"cache_control": {"ttl": "1h"}', cache_control: null }]),
        ],
        metadata: { mark: 'cache_control' },
      },
      { cacheWrites: 'short' },
    ],
    'a mark that cannot be read is taken for a long one': [
      { messages: [user([{ type: 'text', text: 'x', cache_control: { type: 'ephemeral', pad: 'x'.repeat(300) } }])] },
      { cacheWrites: 'long' },
    ],
    'web search': [{ web_search_options: {} }, { hosted: { tools: ['webSearch'], maxCalls: null, rereads: false } }],
    'a model that always searches': [
      { model: 'gpt-4o-search-preview' },
      { hosted: { tools: ['webSearch'], maxCalls: null, rereads: false } },
    ],
    'hosted tools in the list': [
      { tools: [{ type: 'web_search_preview' }, { type: 'file_search' }, { type: 'code_interpreter' }, { type: 'web_search' }, null] },
      { hosted: { tools: ['webSearch', 'fileSearch', 'codeContainer'], maxCalls: null, rereads: true, fewestCalls: 10 } },
    ],
    'searches in the list': [
      { tools: [{ type: 'web_search', web_search: {} }, { type: 'retrieval' }] },
      { hosted: { tools: ['webSearch', 'fileSearch'], maxCalls: null, rereads: false } },
    ],
    'searches of Google, whose results are read': [
      { tools: [{ googleMaps: {}, codeExecution: null }] },
      { hosted: { tools: ['webSearch'], maxCalls: null, rereads: false, resultsRead: 10 } },
    ],
    'all that one without a type is': [
      { tools: [{ googleSearch: {}, codeExecution: {} }] },
      { hosted: { tools: ['webSearch'], maxCalls: null, rereads: true, fewestCalls: 10 } },
    ],
    'what stands beside a null type, or that of a function that is not there': [
      {
        tools: [
          { type: null, googleSearch: {} },
          { type: 'function', codeExecution: {} },
        ],
      },
      { hosted: { tools: ['webSearch'], maxCalls: null, rereads: true, fewestCalls: 10 } },
    ],
    'a shell of the provider': [
      { tools: [{ type: 'shell', environment: { type: 'container_auto' } }] },
      { hosted: { tools: [], maxCalls: null, rereads: true, fewestCalls: 10 } },
    ],
    'a tool that nobody here knows': [
      { tools: [TOOL, { type: 'browser_search' }], tool_choice: 'auto' },
      { hosted: { tools: [], maxCalls: null, rereads: true, fewestCalls: 10 } },
    ],
    'one without a type': [{ tools: [{ urlContext: {} }] }, { hosted: { tools: [], maxCalls: null, rereads: true, fewestCalls: 10 } }],
    'one that may not be called': [{ tools: [{ type: 'browser_search' }], tool_choice: 'none' }, { hosted: NO_HOSTED_TOOLS }],
    'tools that the app runs, as others write them': [
      {
        tools: [
          { type: 'custom', custom: { name: 'run' } },
          { type: 'builtin_function', function: { name: '$web_search' } },
          { type: 'text_editor_20250728', name: 'edit' },
          { name: 'look_up', input_schema: {} },
          { function: { name: 'look_up' } },
          { functionDeclarations: [], googleSearch: null },
          { type: 'function' },
          { type: 'function', name: 'look_up', parameters: {} },
          { type: 'computer_use_preview', environment: 'browser' },
          { type: 'local_shell' },
          { computerUse: { environment: 'ENVIRONMENT_BROWSER' } },
          {},
        ],
      },
      { hosted: NO_HOSTED_TOOLS },
    ],
    'an effort': [{ reasoning_effort: 'low' }, { effort: 'low', fields: new Set(['model', 'messages', 'reasoning_effort']) }],
    'fields it does not know': [{ x_new: 'low' }, { fields: new Set(['model', 'messages', 'x_new']) }],
  }
  for (const [name, [more, expected]] of Object.entries(readings)) {
    test(name, async () => {
      const read = await request(more)
      const seen: Partial<ModelRequest> = Object.fromEntries(Object.entries(read).filter(([key]) => key in expected))
      assert.deepEqual(seen, expected)
    })
  }

  test('messages keep their bytes, and all other bytes are fixed', async () => {
    await fc.assert(
      fc.asyncProperty(conversations(), fc.constantFrom(undefined, 1, '\t'), async (messages, indent) => {
        const text = JSON.stringify({ messages, tools: [TOOL], model: 'gpt-4o' }, null, indent)
        const read = await parse(text)
        assert.deepEqual(
          read.messages.map(({ json, bytes }) => [json, JSON.parse(Buffer.from(bytes).toString('utf8'))]),
          messages.map((json) => [json, json]),
        )
        const messageBytes = read.messages.reduce((sum, { bytes }) => sum + bytes.length, 0)
        assert.equal(read.fixedBytes, Buffer.byteLength(text) - messageBytes)
        let at = 0
        for (const { bytes } of read.messages) {
          at = Buffer.from(text).indexOf(bytes, at)
          assert.ok(at > 0)
          at += bytes.length
        }
      }),
      { numRuns: 50 },
    )
  })
})

describe('what is refused, by field', () => {
  const refusals: Record<string, [more: JsonObject, field: string, message: RegExp]> = {
    'no model': [{ model: null }, 'model', /must be a string of 1 to 256 characters/],
    'an empty model': [{ model: '' }, 'model', /must be a string/],
    'a long model': [{ model: 'm'.repeat(MODEL_LENGTH_MAX + 1) }, 'model', /must be a string/],
    'no messages': [{ messages: null }, 'messages', /must be a list with at least one message/],
    'an empty list of messages': [{ messages: [] }, 'messages', /at least one/],
    'messages that are no list': [{ messages: {} }, 'messages', /must be a list/],
    'a message that is no object': [{ messages: [HI, 'Hi'] }, 'messages[1]', /must be an object with a known "role"/],
    'an unknown role': [{ messages: [HI, { role: 'oracle' }] }, 'messages[1]', /known "role"/],
    'stream as text': [{ stream: 'true' }, 'stream', /must be true or false/],
    'stream as a number': [{ stream: 1 }, 'stream', /must be true or false/],
    'stream options as a list': [{ stream_options: [] }, 'stream_options', /must be an object/],
    'n of zero': [{ n: 0 }, 'n', /from 1 to 128/],
    'n beyond the most': [{ n: CHOICES_MAX + 1 }, 'n', /from 1 to 128/],
    'n with a fraction': [{ n: 1.5 }, 'n', /integer/],
    'a limit of zero': [{ max_tokens: 0 }, 'max_tokens', /must be a positive integer/],
    'a limit below zero': [{ max_completion_tokens: -1 }, 'max_completion_tokens', /positive/],
    'a limit as text': [{ max_tokens: '5' }, 'max_tokens', /positive integer/],
    'a limit beyond belief': [{ max_tokens: OUTPUT_LIMIT_MAX + 1 }, 'max_tokens', /positive integer/],
    'a broken limit beside a good one': [{ max_completion_tokens: 5, max_tokens: 0.5 }, 'max_tokens', /positive integer/],
    'tools that are no list': [{ tools: {} }, 'tools', /must be a list/],
    'functions that are no list': [{ functions: 'f' }, 'functions', /must be a list/],
  }
  for (const [name, [more, field, pattern]] of Object.entries(refusals)) {
    test(name, async () => {
      const parsed = await parseChatRequest(Buffer.from(JSON.stringify({ model: 'gpt-4o', messages: [HI], ...more })), CHAT_CALL)
      assert.equal(parsed.status, 'invalid')
      if (parsed.status !== 'invalid') return
      assert.equal(parsed.field, field)
      assert.match(parsed.message, pattern)
      assert.ok(parsed.message.startsWith(`"${field}" must `))
    })
  }

  test('a model of the greatest length passes', async () => {
    assert.equal((await request({ model: 'm'.repeat(MODEL_LENGTH_MAX) })).model.length, MODEL_LENGTH_MAX)
  })

  test('no message repeats what the body says', async () => {
    const secret = 'sk-very-secret'
    for (const text of [`{"model":"${secret}`, `{"model":["${secret}"],"messages":[]}`, `{"messages":["${secret}"],"model":"m"}`, secret]) {
      const parsed = await parseChatRequest(Buffer.from(text), CHAT_CALL)
      assert.ok(parsed.status === 'invalid' && !parsed.message.includes(secret))
    }
  })
})

describe('what is sent', () => {
  test('another effort goes where the client wrote one, and nowhere else', async () => {
    assert.deepEqual(await rendered({ reasoning_effort: 'minimal' }, { effort: 'low' }), { reasoning_effort: 'low' })
    assert.deepEqual(await rendered({ reasoning_effort: 'minimal' }, { effort: null }), { reasoning_effort: undefined })
    assert.deepEqual(await rendered({ reasoning_effort: 'minimal' }, { effort: 'low', drop: ['reasoning_effort'] }), {
      reasoning_effort: undefined,
    })
  })

  test('a change of nothing is the same buffer', async () => {
    const original = await request({ stream: true, max_tokens: 5, tools: [TOOL] })
    for (const change of [{}, { model: 'gpt-4o' }, { messages: original.messages }, { messages: [...original.messages] }, { drop: ['x'] }])
      assert.equal(renderChatRequest(original, change), original.body)
    const asked = await request({ stream: true, stream_options: { include_usage: true }, tools: [TOOL], tool_choice: 'none' })
    assert.equal(renderChatRequest(asked, { includeUsage: true, toolChoice: 'none' }), asked.body)
    const spaced = await parse('{"model":"m","messages":[{"role":"user"}],"stream_options":{ "include_usage" : true }}')
    assert.equal(renderChatRequest(spaced, { includeUsage: true }), spaced.body)
    const limited = await request({ max_tokens: 5 })
    assert.equal(renderChatRequest(limited, { outputLimit: { field: 'max_tokens', tokens: 5 } }), limited.body)
  })

  const legacy = (tokens: number): RequestChange => ({ outputLimit: { field: 'max_tokens', tokens } })
  const modern = (tokens: number): RequestChange => ({ outputLimit: { field: 'max_completion_tokens', tokens } })
  const changes: Record<string, [more: JsonObject, change: RequestChange, expected: Record<string, Json | undefined>]> = {
    'another model': [{}, { model: 'gpt-4o-mini' }, { model: 'gpt-4o-mini' }],
    'a limit where there was none': [{}, modern(9), { max_completion_tokens: 9 }],
    'a limit in the place of null': [{ max_tokens: null }, legacy(9), { max_tokens: 9 }],
    'a smaller limit in its own field': [{ max_tokens: 99 }, legacy(9), { max_tokens: 9 }],
    'a limit in the other field, never both': [{ max_tokens: 99 }, modern(9), { max_tokens: undefined, max_completion_tokens: 9 }],
    'the other way round': [{ max_completion_tokens: 99 }, legacy(9), { max_tokens: 9, max_completion_tokens: undefined }],
    'the other field where its own was null': [
      { max_tokens: 99, max_completion_tokens: null },
      modern(9),
      { max_tokens: undefined, max_completion_tokens: 9 },
    ],
    'both fields where the client sent both': [
      { max_tokens: 99, max_completion_tokens: 80 },
      modern(9),
      { max_tokens: 9, max_completion_tokens: 9 },
    ],
    'the larger of two limits comes down to the smaller': [{ max_tokens: 99, max_completion_tokens: 80 }, {}, { max_tokens: 80 }],
    'a limit under the name that a model wants': [
      { max_tokens: 99 },
      { rename: { max_tokens: 'max_completion_tokens' } },
      { max_tokens: undefined, max_completion_tokens: 99 },
    ],
    'a limit by the name that the model wants, whichever name it was asked for': [
      { max_tokens: 99 },
      { rename: { max_tokens: 'max_completion_tokens' }, ...legacy(9) },
      { max_tokens: undefined, max_completion_tokens: 9 },
    ],
    'a limit where one of two names is left out': [
      { max_tokens: 80, max_completion_tokens: 99 },
      { drop: ['max_tokens'], ...legacy(9) },
      { max_tokens: undefined, max_completion_tokens: 9 },
    ],
    'the own limit where its name is left out for one that stood there as null': [
      { max_completion_tokens: null, max_tokens: 99 },
      { drop: ['max_tokens'] },
      { max_tokens: undefined, max_completion_tokens: 99 },
    ],
    'the smaller limit where two names become one': [
      { max_tokens: 80, max_completion_tokens: 99 },
      { rename: { max_tokens: 'max_completion_tokens' } },
      { max_tokens: undefined, max_completion_tokens: 80 },
    ],
    'a limit whose new name stood there as null': [
      { max_completion_tokens: null, max_tokens: 99 },
      { rename: { max_tokens: 'max_completion_tokens' } },
      { max_tokens: undefined, max_completion_tokens: 99 },
    ],
    usage: [{ stream: true }, { includeUsage: true }, { stream_options: { include_usage: true } }],
    'usage beside other options': [
      { stream: true, stream_options: { include_usage: false, include_obfuscation: false } },
      { includeUsage: true },
      { stream_options: { include_usage: true, include_obfuscation: false } },
    ],
    'usage in the place of null': [
      { stream: true, stream_options: null },
      { includeUsage: true },
      { stream_options: { include_usage: true } },
    ],
    'tools refused': [{ tools: [TOOL] }, { toolChoice: 'none' }, { tool_choice: 'none' }],
    'forced tools refused': [{ tools: [TOOL], tool_choice: 'required' }, { toolChoice: 'none' }, { tool_choice: 'none' }],
    'old functions refused': [{ functions: [FUNCTION] }, { toolChoice: 'none' }, { function_call: 'none' }],
    'old functions beside tools that are null': [{ tools: null, functions: [FUNCTION] }, { toolChoice: 'none' }, { function_call: 'none' }],
    'tools refused although the word for old functions is there': [
      { tools: [TOOL], function_call: 'none' },
      { toolChoice: 'none' },
      { tool_choice: 'none' },
    ],
    'both lists refused': [
      { tools: [TOOL], functions: [FUNCTION] },
      { toolChoice: 'none' },
      { tool_choice: 'none', function_call: 'none' },
    ],
    'no tools to refuse': [{ tools: [] }, { toolChoice: 'none' }, {}],
    'fields taken out': [
      { temperature: 0, top_p: 1 },
      { drop: ['temperature', 'top_p', 'seed'] },
      { temperature: undefined, top_p: undefined },
    ],
    'other messages': [{}, { messages: [message(user('Ho')), message(user('He'))] }, { messages: [user('Ho'), user('He')] }],
  }
  for (const [name, [more, change, expected]] of Object.entries(changes)) {
    test(name, async () => assert.deepEqual(await rendered(more, change), expected))
  }

  test('whatever a change does not name goes out byte for byte, from a copy of the request too', async () => {
    const extra = fc.uniqueArray(fc.tuple(fc.constantFrom('x', 'y', 'z', 'temperature'), valueTexts()), { selector: ([name]) => name })
    await fc.assert(
      fc.asyncProperty(extra, conversations(), fc.integer({ min: 1, max: 99 }), async (fields, messages, tokens) => {
        const own = fields.map(([name, value]) => ` "${name}" :\t${value}\n`)
        const list = messages.map((json) => JSON.stringify(json)).join(' ,')
        const text = `{${[...own, `"messages":[ ${list} ]`, '"model" : "gpt-4o"', '"tools": [{"type":"function"}]'].join(',')} }`
        const original = await parse(text)
        const change: RequestChange = {
          model: 'gpt-4o-mini',
          outputLimit: { field: 'max_completion_tokens', tokens },
          includeUsage: true,
          toolChoice: 'none',
        }
        const expected = `${text.replace('"model" : "gpt-4o"', '"model" : "gpt-4o-mini"').slice(0, -2)},"max_completion_tokens":${tokens},"stream_options":{"include_usage":true},"tool_choice":"none" }`
        assert.equal(renderChatRequest(original, change).toString('utf8'), expected)
        const copy = { ...original, body: new Uint8Array(original.body) }
        assert.equal(renderChatRequest(copy, change).toString('utf8'), expected)
      }),
      { numRuns: 50 },
    )
  })

  test('messages are sent with the bytes that each of them has', async () => {
    const original = await parse('{"model":"m","messages":[ {"role":"user", "content":"a"} , {"role":"user","content":"b\\u00e9"} ]}')
    const [first, second] = original.messages
    assert.ok(first !== undefined && second !== undefined)
    assert.equal(
      renderChatRequest(original, { messages: [second, message(user('c')), first] }).toString('utf8'),
      '{"model":"m","messages":[{"role":"user","content":"b\\u00e9"},{"role":"user","content":"c"},{"role":"user", "content":"a"}]}',
    )
  })

  test('what is sent can be read again, and says what the change says', async () => {
    const original = await request({ max_tokens: 99, stream: true, tools: [TOOL] })
    const sent = renderChatRequest(original, { ...modern(9), model: 'gpt-5', includeUsage: true, toolChoice: 'none' })
    const { model, outputLimit, includeUsage, toolsRefused } = await parse(sent.toString('utf8'))
    assert.deepEqual(
      { model, outputLimit, includeUsage, toolsRefused },
      { model: 'gpt-5', outputLimit: modern(9).outputLimit, includeUsage: true, toolsRefused: true },
    )
    assert.equal(scanned(sent).fields.filter(({ name }) => name.startsWith('max_')).length, 1)
  })
})

describe('what a provider objects to', () => {
  const REFUSED = [
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    'Unrecognized request argument supplied: max_completion_tokens',
    '[{"type":"extra_forbidden","loc":["body","max_completion_tokens"],"msg":"Extra inputs are not permitted"}]',
    'max_completion_tokens is not allowed; use max_tokens',
    "Additional properties are not allowed ('max_completion_tokens' was unexpected)",
    'property max_completion_tokens should not exist',
    "create() got an unexpected keyword argument 'max_completion_tokens'",
    'max_tokens is deprecated, please use max_completion_tokens',
  ]
  const OTHERWISE_WRONG = [
    'Invalid max_tokens value, the valid range of max_tokens is [1, 8192]',
    'max_tokens is too large: 100000. This model supports at most 16384 completion tokens',
    "'max_tokens' must be an integer",
    'Unsupported value: temperature',
  ]
  test('the field of the output bound, and not its value', () => {
    for (const message of REFUSED) for (const status of [400, 422]) assert.equal(chatWire.objection(status, message), 'limitField', message)
    for (const message of OTHERWISE_WRONG) assert.equal(chatWire.objection(400, message), 'swap', message)
    assert.equal(chatWire.objection(429, REFUSED[0] ?? ''), null)
  })

  test('the usage that we asked a stream for, and whatever else another model does not take', () => {
    const extra = { type: 'extra_forbidden', loc: ['body', 'stream_options', 'include_usage'], msg: 'Extra inputs are not permitted' }
    const body = JSON.stringify({ object: 'error', message: { detail: [extra] }, type: 'invalid_request_error' })
    for (const status of [400, 422]) {
      for (const wire of [chatWire, completionsWire]) assert.equal(wire.objection(status, body), 'streamOptions')
      assert.equal(chatWire.objection(status, body.replaceAll('stream_options', 'reasoning_effort')), 'swap')
    }
    for (const status of [401, 429, 500]) assert.equal(chatWire.objection(status, body), null)
  })

  test('a message of ours where roles must take turns', () => {
    for (const message of [
      'Conversation roles must alternate user/assistant/user/assistant/...',
      'Error: Jinja Exception: After the optional system message, conversation roles must alternate user and assistant roles',
      'After the (optional) system message(s), user or tool message(s) should alternate with assistant message(s).',
    ])
      for (const status of [400, 500]) assert.equal(chatWire.objection(status, message), 'edits', message)
    assert.equal(chatWire.objection(500, 'The server had an error'), null)
  })
})

test('where the provider may have run tools, the input of an answer may be a sum; searches are told as ever', async () => {
  const body = Buffer.from('{"choices":[{"message":{"role":"assistant"}}],"usage":{"prompt_tokens":9,"completion_tokens":1}}')
  for (const [tools, isSum, searches] of [
    [[TOOL], undefined, 0],
    [[{ type: 'web_search' }], undefined, 1],
    [[{ type: 'web_search' }, { type: 'browser_search' }], true, 1],
  ] as const) {
    const asked = await request({ tools })
    const stream = chatWire.openStream({ request: asked, stripUsage: false, notice: null, collect: false })
    stream.push(Buffer.from(`data: ${body.toString()}\n\ndata: [DONE]\n\n`))
    for (const { facts } of [chatWire.readAnswer(body, asked), stream])
      assert.deepEqual([facts.isSum, facts.usage?.webSearchCalls], [isSum, searches])
  }
})

test('no model that searches on every call is given a prompt of ours', () => {
  const task = { system: 's', user: 'u', maxTokens: 9, call: CHAT_CALL }
  assert.notEqual(chatWire.prompt({ ...task, model: 'gpt-4o-mini' }), null)
  for (const model of ['gpt-4o-search-preview', 'gpt-4o-mini-search-preview-2025-03-11', 'gpt-5-search-api'])
    assert.equal(chatWire.prompt({ ...task, model }), null)
  assert.equal(chatWire.prompt({ ...task, model: 'desk', served: 'gpt-4o-search-preview' }), null)
})

describe('the digest of what is fixed', () => {
  const digest = async (more: JsonObject): Promise<string> => (await request(more)).fixedDigest

  test('stays when messages, the model or sampling change', async () => {
    const same = await digest({ tools: [TOOL] })
    for (const more of [
      { messages: [HI, HI] },
      { model: 'gpt-5', n: 2, stream: true, stream_options: { include_usage: true }, max_tokens: 5, max_completion_tokens: 5 },
      { stop: 'x', seed: 1, store: true, user: 'u', metadata: { a: 'b' }, temperature: 0, top_p: 1, logit_bias: {}, logprobs: true },
      { frequency_penalty: 1, presence_penalty: 1, top_logprobs: 1, safety_identifier: 's', prompt_cache_key: 'k', service_tier: 'flex' },
      { prompt_cache_options: { ttl: '12h' }, prompt_cache_retention: '24h' },
    ])
      assert.equal(await digest({ tools: [TOOL], ...more }), same)
  })

  test('changes with whatever else fills the window, known or not', async () => {
    const all = [{}, { tools: [TOOL] }, { tools: [TOOL, TOOL] }, { functions: [FUNCTION] }, { response_format: { type: 'json_object' } }]
    const others = [
      { prediction: { content: 'a' } },
      { tool_choice: 'auto' },
      { reasoning_effort: 'low' },
      { x_new: 1 },
      { x_new: 2 },
      { x_other: 2 },
    ]
    const digests = await Promise.all([...all, ...others].map(digest))
    assert.equal(new Set(digests).size, digests.length)
  })
})
