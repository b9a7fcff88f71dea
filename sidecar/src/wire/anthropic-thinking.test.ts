import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject, Message } from '../core/request.ts'
import { ownAnthropicMessage, readAnthropicMessage } from './anthropic-message.ts'
import { briefThinking, isUnthoughtLoop, thinkingFor, withBoundThinking, withoutAllThinking } from './anthropic-thinking.ts'

function read(json: JsonObject): Message {
  const message = readAnthropicMessage(json, Buffer.from(JSON.stringify(json)))
  assert.ok(message !== null)
  return message
}
const user = (content: string): Message => read({ role: 'user', content })
const thought = (words: string): Message =>
  read({
    role: 'assistant',
    content: [
      { type: 'thinking', thinking: 'Hm', signature: 's' },
      { type: 'text', text: words },
    ],
  })
const calling = read({
  role: 'assistant',
  content: [
    { type: 'redacted_thinking', data: 'd' },
    { type: 'tool_use', id: 't', name: 'look', input: {} },
  ],
})
const result = read({ role: 'user', content: [{ type: 'tool_result', tool_use_id: 't', content: 'There.' }] })
/** Of each message sent, whether it still holds what was thought. */
const thinks = (messages: readonly Message[]): readonly boolean[] =>
  messages.map((message) => /thinking/.test(JSON.stringify(message.json)))

test('a history that nobody edited keeps all that was thought', () => {
  const history = [user('a'), thought('b'), user('c')]
  assert.equal(withBoundThinking(history, history), history)
  assert.equal(withBoundThinking(history, [...history]).length, 3)
  assert.deepEqual(thinks(withBoundThinking(history, [...history])), [false, true, false])
})

test('behind a cut what was thought goes, but not what the running turn thinks', () => {
  const tail = [user('c'), thought('d'), user('e'), calling, result]
  const history = [user('a'), thought('b'), ...tail]
  const sent = withBoundThinking(history, [ownAnthropicMessage('user', '[left out]'), ...tail])
  assert.deepEqual(thinks(sent), [false, false, false, false, true, false])
})

test('before an edit nothing goes: what was thought there knows nothing of it', () => {
  const history = [user('a'), thought('b'), user('c'), thought('d'), user('e')]
  const sent = [history[0], history[1], user('c, shorter'), history[3], history[4]].filter((message) => message !== undefined)
  assert.deepEqual(thinks(withBoundThinking(history, sent)), [false, true, false, false, false])
})

test('an edit of the question itself costs no thinking', () => {
  const history = [user('a'), thought('b'), user('c')]
  const sent = withBoundThinking(history, [...history.slice(0, 2), user('shorter')])
  assert.deepEqual(thinks(sent), [false, true, false])
})

test('an answer that lost our notice, and one that was nothing else, are what the model wrote', () => {
  const noticed = thought('b\n\n---\nNotice')
  const history = [user('a'), noticed, user('c'), read({ role: 'assistant', content: 'Notice' }), user('d'), thought('e'), user('f')]
  const sent = [history[0], thought('b'), history[2], history[4], history[5], history[6]].filter((message) => message !== undefined)
  assert.deepEqual(thinks(withBoundThinking(history, sent)), [false, true, false, false, true, false])
})

test('where the tools change, all that was thought goes', () => {
  const history = [user('a'), thought('b'), user('e'), calling, result]
  assert.deepEqual(thinks(withoutAllThinking(history)), [false, false, false, false, false])
  assert.equal(withoutAllThinking(history)[0], history[0])
})

test('an answer that was only thought goes as a whole', () => {
  const only = read({ role: 'assistant', content: [{ type: 'thinking', thinking: 'Hm', signature: 's' }] })
  const history = [user('a'), thought('b'), user('c'), only, user('d')]
  const sent = withBoundThinking(history, [ownAnthropicMessage('user', '[left out]'), ...history.slice(2)])
  assert.deepEqual(
    sent.map((message) => message.role),
    ['user', 'user', 'user'],
  )
})

const budget = (tokens: number): string => JSON.stringify({ type: 'enabled', budget_tokens: tokens })
const cases: readonly [what: string, written: string, change: Partial<Parameters<typeof thinkingFor>[1]>, sent: string | null][] = [
  ['a budget in a loop that began without is none', budget(2_000), { unthought: true }, '{"type":"disabled"}'],
  ['a loop without a budget stays as it is', '{"type":"adaptive"}', { unthought: true }, '{"type":"adaptive"}'],
  ['a budget that fits stays', budget(2_000), { model: null, maxTokens: 4_000 }, budget(2_000)],
  ['a budget that does not shrinks', budget(2_000), { model: null, maxTokens: 2_000 }, budget(1_744)],
  ['one that cannot shrink as far is none', budget(2_000), { model: null, maxTokens: 1_200 }, '{"type":"disabled"}'],
  ['adaptive thinking has no budget', '{"type":"adaptive"}', { model: null, maxTokens: 10 }, '{"type":"adaptive"}'],
  ['a budget for a model that adapts', budget(2_000), { model: 'claude-haiku-5-5', maxTokens: null }, '{"type":"adaptive"}'],
  ['adapting for a model that wants budgets', '{"type":"adaptive"}', { model: 'claude-haiku-4-5-20251001', maxTokens: null }, null],
  ['between_tools for another model', '{"type":"between_tools"}', { model: 'claude-haiku-5-5', maxTokens: null }, null],
  ['no thinking for a model that always does', '{"type":"disabled"}', { model: 'claude-opus-5-5', maxTokens: null }, null],
  ['anything for a model that nobody knows', budget(2_000), { model: 'claude-next', maxTokens: null }, budget(2_000)],
  ['what is no object', '"on"', { model: 'claude-opus-5-5', maxTokens: 5 }, '"on"'],
]
for (const [what, written, change, sent] of cases)
  test(`thinking in a changed request: ${what}`, () =>
    assert.equal(thinkingFor(written, { model: null, maxTokens: null, unthought: false, ...change }), sent))

test('a loop is one without thinking when its calls were made so', () => {
  const plainCall = read({
    role: 'assistant',
    content: [
      { type: 'text', text: 'x' },
      { type: 'tool_use', id: 't', name: 'look', input: {} },
    ],
  })
  assert.equal(isUnthoughtLoop([user('a'), plainCall, result]), true)
  assert.equal(isUnthoughtLoop([user('a'), calling, result]), false)
  assert.equal(isUnthoughtLoop([user('a'), plainCall, result, thought('b'), user('c')]), false)
  assert.equal(isUnthoughtLoop([user('a')]), false)
  assert.equal(isUnthoughtLoop([user('a'), calling, result, plainCall, result]), false, 'thought of once, before its first call')
  assert.equal(isUnthoughtLoop([user('a'), plainCall, result, calling, result]), true)
  assert.equal(isUnthoughtLoop([user('a'), calling, result, thought('b'), user('c'), plainCall, result]), true, 'of another turn')
  const picture = read({ role: 'user', content: [{ type: 'image', source: { type: 'url', url: 'https://example.com/a.png' } }] })
  assert.equal(isUnthoughtLoop([user('a'), plainCall, result, picture]), true)
  const only = read({ role: 'assistant', content: [{ type: 'thinking', thinking: 'Hm', signature: 's' }] })
  assert.equal(isUnthoughtLoop([user('a'), only, plainCall, result]), false, 'one turn in two messages')
})

test('a prompt of ours asks for no thinking where that can be asked', () => {
  assert.deepEqual(briefThinking('claude-haiku-4-5'), {})
  assert.deepEqual(briefThinking('claude-haiku-5-5'), { thinking: { type: 'disabled' } })
  assert.deepEqual(briefThinking('claude-opus-5-5'), { output_config: { effort: 'low' } })
  assert.deepEqual(briefThinking('unknown'), {})
})
