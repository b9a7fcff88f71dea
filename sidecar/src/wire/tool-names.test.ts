import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HostedTools, JsonObject } from '../core/request.ts'
import { CHAT_CALL } from './bodies.testing.ts'
import { parseGeminiRequest } from './gemini-request.ts'
import { parseChatRequest } from './openai-chat.ts'
import { parseResponsesRequest } from './responses-request.ts'
import { isAppToolSearch, isGoogleSearch, isHostedShell, isRunByApp, isWebSearch } from './tool-names.ts'
import type { ParsedRequest } from './wire.ts'

// oxfmt-ignore
const OF_APPS = [
  'function', 'custom', 'namespace', 'computer', 'computer_use', 'computerUse', 'computer_use_preview', 'local_shell', 'shell', 'apply_patch',
  'functionDeclarations', 'function_declarations', 'builtin_function', 'bash_20250124', 'computer_20251124', 'memory_20250818', 'text_editor_20250728',
]
const OF_GOOGLE = ['googleSearch', 'google_search', 'googleSearchRetrieval', 'googleMaps', 'google_maps', 'enterpriseWebSearch']
const SEARCHES = ['web_search', 'web_search_preview', 'web_search_preview_2025_03_11', 'web_search_20250305', ...OF_GOOGLE]
const UNKNOWN = [
  'mcp',
  'browser_search',
  'code_interpreter',
  'codeExecution',
  'url_context',
  'bash',
  'memory',
  'computer_use_now',
  'function2',
  '',
]

test('a name says who runs a tool, and whether it searches for a fee', () => {
  for (const name of OF_APPS) assert.deepEqual([isRunByApp(name), isWebSearch(name)], [true, false], name)
  for (const name of SEARCHES) assert.deepEqual([isRunByApp(name), isWebSearch(name)], [false, true], name)
  for (const name of SEARCHES) assert.equal(isGoogleSearch(name), OF_GOOGLE.includes(name), name)
  for (const name of UNKNOWN) assert.deepEqual([isRunByApp(name), isWebSearch(name)], [false, false], name)
})

test('a search for tools is the app’s where it says so', () => {
  assert.equal(isAppToolSearch({ type: 'tool_search', execution: 'client' }), true)
  for (const tool of [{ type: 'tool_search' }, { type: 'tool_search', execution: 'server' }, { type: 'mcp', execution: 'client' }])
    assert.equal(isAppToolSearch(tool), false)
})

test('a shell is the provider’s where its environment is', () => {
  for (const environment of [undefined, null, { type: 'local' }])
    assert.equal(isHostedShell({ type: 'shell', ...(environment === undefined ? {} : { environment }) }), false)
  assert.equal(isHostedShell({ type: 'shell', environment: { type: 'container_auto' } }), true)
  assert.equal(isHostedShell({ type: 'computer_use_preview', environment: { type: 'browser' } }), false)
})

test('every format knows them', async () => {
  const body = (json: JsonObject): Buffer => Buffer.from(JSON.stringify(json))
  const hosted = (parsed: ParsedRequest): HostedTools => {
    assert.ok(parsed.status === 'ok')
    return parsed.request.hosted
  }
  const chat = async (tool: JsonObject): Promise<HostedTools> =>
    hosted(await parseChatRequest(body({ model: 'm', messages: [{ role: 'user', content: 'Hi.' }], tools: [tool] }), CHAT_CALL))
  const responses = async (tool: JsonObject): Promise<HostedTools> =>
    hosted(await parseResponsesRequest(body({ model: 'm', input: 'Hi.', tools: [tool] })))
  const gemini = async (tool: JsonObject): Promise<HostedTools> =>
    hosted(
      await parseGeminiRequest(body({ contents: [{ parts: [{ text: 'Hi.' }] }], tools: [tool] }), {
        path: '/v1beta/models/gemini-3-pro:generateContent',
      }),
    )
  for (const name of OF_APPS)
    for (const held of [
      await chat({ type: name }),
      await chat({ [name]: {} }),
      await responses({ type: name }),
      await gemini({ [name]: {} }),
    ])
      assert.deepEqual([held.tools, held.rereads], [[], false], name)
  for (const name of OF_GOOGLE)
    for (const held of [
      await chat({ type: name }),
      await chat({ [name]: {} }),
      await responses({ type: name }),
      await gemini({ [name]: {} }),
    ])
      assert.deepEqual(held.tools, ['webSearch'], name)
})
