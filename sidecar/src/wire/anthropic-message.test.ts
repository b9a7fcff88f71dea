import assert from 'node:assert/strict'
import { test } from 'node:test'
import { originalDigest } from '../core/digest.ts'
import { messageTokensBound, messageTokensHeuristic } from '../core/message-tokens.ts'
import type { Json, JsonObject } from '../core/request.ts'
import type { AnthropicMessage } from './anthropic-message.ts'
import { cacheMarkOf, ownAnthropicMessage, readAnthropicMessage, withoutThinking } from './anthropic-message.ts'

function read(json: JsonObject): AnthropicMessage {
  const message = readAnthropicMessage(json, Buffer.from(JSON.stringify(json)))
  assert.ok(message !== null)
  return message
}
const text = (words: string, more: JsonObject = {}): JsonObject => ({ type: 'text', text: words, ...more })
const MARK = { cache_control: { type: 'ephemeral' } }
const LONG_MARK = { cache_control: { type: 'ephemeral', ttl: '1h' } }
const THOUGHT = { type: 'thinking', thinking: 'Hm', signature: 'c2ln' }
const REDACTED = { type: 'redacted_thinking', data: 'eHl6' }
const CALL = { type: 'tool_use', id: 'toolu_1', name: 'look', input: { where: 'here' } }
const PNG = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAYAAAC56t6B' } }
const FOUND = { type: 'search_result', source: 'https://example.com', title: 'A', content: [text('one'), text('two')] }
const result = (content: Json, id = 'toolu_1'): JsonObject => ({ type: 'tool_result', tool_use_id: id, content })

test('a user message with results of tools is a tool message, and says which calls it answers', () => {
  const message = read({ role: 'user', content: [result('There.'), result([text('a'), text('b')], 'toolu_2'), text('Well?')] })
  assert.equal(message.role, 'tool')
  assert.deepEqual(message.answers, ['toolu_1', 'toolu_2'])
  assert.deepEqual(
    message.texts.map((part) => [part.text, part.answers]),
    [
      ['There.', 'toolu_1'],
      ['a', 'toolu_2'],
      ['b', 'toolu_2'],
      ['Well?', null],
    ],
  )
})

test('calls of the app are tool calls; those of the provider are not, and what they found stays as it is', () => {
  const searched = { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: { query: 'x' } }
  const message = read({ role: 'assistant', content: [THOUGHT, searched, text('Look:'), CALL] })
  assert.deepEqual(message.toolCalls, [{ id: 'toolu_1', name: 'look', input: '{"where":"here"}' }])
  assert.equal(message.others.length, 1)
  assert.deepEqual(
    message.texts.map((part) => part.text),
    ['Look:'],
  )
})

test('texts are replaced where they stand; everything else keeps its place', () => {
  const message = read({
    role: 'user',
    content: [result([FOUND, PNG]), text('a', MARK), { type: 'document', source: { type: 'text', data: 'b' } }],
  })
  assert.deepEqual(
    message.texts.map((part) => [part.text, part.name]),
    [
      ['one\ntwo', 'retrieval'],
      ['a', null],
      ['b', 'document'],
    ],
  )
  const changed = message.withTexts(['[left out]', 'A', 'B'])
  assert.deepEqual(changed?.json['content'], [
    result([text('[left out]'), PNG]),
    text('A', MARK),
    { type: 'document', source: { type: 'text', data: 'B' } },
  ])
  assert.deepEqual(JSON.parse(Buffer.from(changed?.bytes ?? []).toString()), changed?.json)
  assert.equal(message.withTexts(message.texts.map((part) => part.text)), message)
})

test('a result keeps its call whatever is left out of it; a message of nothing is none', () => {
  const message = read({ role: 'user', content: [result('There.')] })
  assert.deepEqual(message.withTexts([null])?.json['content'], [{ type: 'tool_result', tool_use_id: 'toolu_1' }])
  assert.equal(read({ role: 'assistant', content: 'Only ours' }).withTexts([null]), null)
  assert.equal(read({ role: 'assistant', content: [THOUGHT, text('Only ours')] }).withTexts([null]), null)
  assert.equal(read({ role: 'assistant', content: [text('a'), text('b')] }).withTexts([null, '']), null)
})

test('thinking is left out alone; a message that was nothing else goes with it', () => {
  const message = read({ role: 'assistant', content: [THOUGHT, REDACTED, text('So:'), CALL] })
  assert.deepEqual(withoutThinking(message)?.json['content'], [text('So:'), CALL])
  assert.equal(withoutThinking(read({ role: 'assistant', content: [THOUGHT] })), null)
  const plain = read({ role: 'assistant', content: 'Hi' })
  assert.equal(withoutThinking(plain), plain)
})

test('marks for the cache change neither the stable bytes nor the digest', () => {
  const plain = read({ role: 'user', content: [text('a'), result('b')] })
  const marked = read({ role: 'user', content: [text('a', MARK), { ...result('b'), ...LONG_MARK }] })
  assert.deepEqual(marked.stableBytes, plain.stableBytes)
  assert.equal(originalDigest(marked), originalDigest(plain))
  assert.equal(plain.stableBytes, plain.bytes)
  const nested = read({ role: 'user', content: [result([text('a', MARK)])] })
  assert.deepEqual(nested.stableBytes, read({ role: 'user', content: [result([text('a')])] }).bytes)
})

test('one text is the same bare, in a list, and marked', () => {
  const bare = read({ role: 'user', content: 'a' })
  for (const content of [[text('a')], [text('a', MARK)]]) {
    const wrapped = read({ role: 'user', content })
    assert.deepEqual(wrapped.stableBytes, bare.stableBytes)
    assert.equal(originalDigest(wrapped), originalDigest(bare))
    wrapped.forget()
    assert.deepEqual(wrapped.stableBytes, bare.stableBytes)
  }
})

test('the longest mark counts, wherever it stands', () => {
  assert.equal(cacheMarkOf([text('a'), text('b')]), 'none')
  assert.equal(cacheMarkOf([text('a', MARK), { cache_control: null }]), 'short')
  assert.equal(cacheMarkOf({ content: [result([text('a', LONG_MARK)])] }), 'long')
  assert.equal(cacheMarkOf({ cache_control: { type: 'ephemeral', ttl: '12h' } }), 'long')
  assert.equal(read({ role: 'user', content: [text('a', LONG_MARK), text('b', MARK)] }).cacheMark, 'long')
})

test('media are counted by what they are, not by their bytes, inside results too', () => {
  const pdf = { type: 'document', source: { type: 'base64', media_type: 'application/pdf', data: 'JVBERi0x' } }
  const linked = { type: 'image', source: { type: 'url', url: 'https://example.com/a.png' } }
  const message = read({ role: 'user', content: [PNG, pdf, linked, result([PNG])] })
  assert.deepEqual(
    message.images.map((part) => [part.kind, part.size, part.embeddedBytes]),
    [
      ['image', { width: 2, height: 3 }, 33],
      ['file', null, 6],
      ['image', null, undefined],
      ['image', { width: 2, height: 3 }, 33],
    ],
  )
  assert.equal(message.mediaBytes, 44 + 8 + 44)
})

test('a document of blocks has the texts and the images of its blocks', () => {
  const photo = { ...PNG, source: { ...PNG.source, data: PNG.source.data.padEnd(40_000, 'A') } }
  const document = (content: Json): JsonObject => ({ type: 'document', source: { type: 'content', content } })
  const message = read({ role: 'user', content: [document([text('a', LONG_MARK), photo]), result([document([photo]), document('b')])] })
  assert.deepEqual(
    message.texts.map((part) => [part.text, part.name, part.answers]),
    [
      ['a', 'document', null],
      ['b', 'document', 'toolu_1'],
    ],
  )
  assert.deepEqual(
    message.images.map(({ size }) => size),
    [
      { width: 2, height: 3 },
      { width: 2, height: 3 },
    ],
  )
  assert.equal(message.mediaBytes, 80_000)
  assert.ok(messageTokensBound(message, 'claude-sonnet-4-5') < 2_000)
  assert.ok(messageTokensHeuristic(message, 'claude-sonnet-4-5') < 1_000)
  assert.equal(message.cacheMark, 'long')
  assert.equal(message.others.length, 2)
  const other = read({ role: 'user', content: [document([text('a'), PNG]), result([document([photo]), document('b')])] })
  assert.notDeepEqual(message.others, other.others)
  const without = message.withTexts([null, 'c'])
  assert.deepEqual(without?.json['content'], [document([photo]), result([document([photo]), document('c')])])
  assert.equal(read({ role: 'user', content: [document([text('a')])] }).withTexts([null]), null)
})

test('what the edit log kept is read again, but only for a message of its role', () => {
  const message = read({ role: 'user', content: [result('There.')] })
  assert.deepEqual(message.reread('{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1"}]}')?.answers, ['toolu_1'])
  assert.equal(message.reread('{"role":"user","content":"no result"}'), null)
  assert.equal(message.reread('not JSON'), null)
})

test('words of ours are a user’s or the assistant’s; roles that nobody knows are no messages', () => {
  assert.deepEqual(ownAnthropicMessage('system', 'x').json, { role: 'user', content: 'x' })
  assert.equal(ownAnthropicMessage('assistant', 'x').role, 'assistant')
  assert.equal(read({ role: 'system', content: 'Be brief.' }).role, 'system')
  assert.equal(readAnthropicMessage({ role: 'tool', content: 'x' }, Buffer.from('{}')), null)
  assert.equal(readAnthropicMessage('x', Buffer.from('"x"')), null)
})
