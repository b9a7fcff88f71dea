import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { usageOf } from '@farebox/crds/usage.ts'
import type { JsonObject } from '../core/request.ts'
import { addAnthropicNotice, readAnthropicAnswer, syntheticAnthropic } from './anthropic-answer.ts'
import { AnthropicStream } from './anthropic-stream.ts'

const USAGE = {
  input_tokens: 10,
  cache_creation_input_tokens: 30,
  cache_read_input_tokens: 40,
  cache_creation: { ephemeral_5m_input_tokens: 10, ephemeral_1h_input_tokens: 20 },
  output_tokens: 50,
  service_tier: 'standard',
}
const THOUGHT = { type: 'thinking', thinking: 'Hm', signature: 's' }
const text = (words: string): JsonObject => ({ type: 'text', text: words, citations: null })
const CALL = { type: 'tool_use', id: 'toolu_1', name: 'look', input: { where: 'here' } }
const answer = (content: readonly JsonObject[], more: JsonObject = {}): Buffer =>
  Buffer.from(
    JSON.stringify({
      id: 'msg_1',
      type: 'message',
      role: 'assistant',
      model: 'claude-sonnet-4-5-20250929',
      content,
      stop_reason: 'end_turn',
      usage: USAGE,
      ...more,
    }),
  )
const NOTICE = '\n\n---\nNote "1"'

describe('a whole answer', () => {
  test('says what it used, in disjoint parts, and what was said', () => {
    const { facts, message, readable } = readAnthropicAnswer(answer([THOUGHT, text('Hello'), CALL], { stop_reason: 'tool_use' }))
    assert.ok(readable)
    assert.deepEqual(
      facts.usage,
      usageOf({ uncachedInput: 10, cacheReadInput: 40, cacheWriteInput: 10, cacheWriteLongInput: 20, output: 50 }),
    )
    assert.deepEqual(
      [facts.model, facts.serviceTier, facts.finishReason, facts.toolNames, facts.error],
      ['claude-sonnet-4-5-20250929', 'standard', 'tool_use', ['look'], null],
    )
    assert.equal(facts.outputBytes, 'Hm'.length + 'Hello'.length + '{"where":"here"}'.length)
    assert.deepEqual(message?.toolCalls, [{ id: 'toolu_1', name: 'look', input: '{"where":"here"}' }])
  })

  test('one that was declined before it began used nothing, unless that is billed', () => {
    const details = (category: string | null): JsonObject => ({ type: 'refusal', category, explanation: null })
    const NOTHING = usageOf({})
    for (const [what, content, more, isUnbilled] of [
      ['a category that is not billed', [], { stop_details: details('cyber') }, true],
      ['one that is new', [], { stop_details: details('general_harms') }, true],
      ['none', [], { stop_details: details(null) }, true],
      ['without a count', [], { stop_details: details('cyber'), usage: null }, true],
      ['biology', [], { stop_details: details('bio') }, false],
      ['competing models', [], { stop_details: details('frontier_llm') }, false],
      ['thoughts', [], { stop_details: details('reasoning_extraction') }, false],
      ['after some words', [text('Well')], { stop_details: details('cyber') }, false],
      ['of a model that says no more', [], {}, false],
      ['another end', [], { stop_details: details('cyber'), stop_reason: 'end_turn' }, false],
    ] as const) {
      const { facts, readable } = readAnthropicAnswer(answer(content, { stop_reason: 'refusal', ...more }))
      assert.ok(readable, what)
      assert.equal(facts.isUnbilled === true, isUnbilled, what)
      if (isUnbilled) assert.deepEqual(facts.usage, NOTHING, what)
      else assert.ok(facts.usage !== null && facts.usage.uncachedInput > 0, what)
    }
    const iterations = [
      { type: 'compaction', input_tokens: 500, output_tokens: 40 },
      { type: 'message', input_tokens: 60, output_tokens: 0 },
    ]
    const compacted = answer([], { stop_reason: 'refusal', stop_details: details(null), usage: { ...USAGE, iterations } })
    const { usage, others } = readAnthropicAnswer(compacted).facts
    assert.deepEqual([usage, others], [NOTHING, [{ model: null, usage: usageOf({ uncachedInput: 500, output: 40 }) }]])
  })

  test('an error is readable, and used nothing', () => {
    const { facts, message, readable } = readAnthropicAnswer(
      Buffer.from('{"type":"error","error":{"type":"overloaded_error","message":"secret"}}'),
    )
    assert.deepEqual([facts.error, facts.usage, message, readable], ['overloaded_error', null, null, true])
  })

  test('half an answer is not', () => {
    const whole = answer([text('Hello')])
    const { facts, readable } = readAnthropicAnswer(whole.subarray(0, 100))
    assert.deepEqual([facts.usage, facts.outputBytes, readable], [null, 100, false])
    assert.equal(readAnthropicAnswer(Buffer.from('{"something":"else"}')).readable, false)
  })

  test('a usage that cannot be is no usage', () => {
    const { facts } = readAnthropicAnswer(answer([text('x')], { usage: { input_tokens: -5, output_tokens: 1 } }))
    assert.deepEqual([facts.usage, facts.usageInvalid], [null, true])
  })
})

describe('a notice', () => {
  const noticed: readonly [what: string, content: readonly JsonObject[], more: JsonObject, at: number | null][] = [
    ['goes to the end of a text', [text('Hello')], {}, 0],
    ['goes to the last text', [text('Hello'), text('there')], {}, 1],
    ['stands behind thinking', [THOUGHT, text('Hello')], {}, 1],
    ['tells after a search', [{ type: 'server_tool_use', id: 's', name: 'web_search', input: {} }, text('Hello')], {}, 1],
    ['tells at the limit', [text('Hello')], { stop_reason: 'max_tokens' }, 0],
    ['keeps out of tool calls', [text('Hello'), CALL], { stop_reason: 'max_tokens' }, null],
    ['keeps out of calls that stop', [text('Hello')], { stop_reason: 'tool_use' }, null],
    ['keeps out of refusals', [text('Hello')], { stop_reason: 'refusal' }, null],
    ['keeps out of stop sequences', [text('Hello')], { stop_reason: 'stop_sequence' }, null],
    ['needs words', [THOUGHT], {}, null],
    ['needs words that are said', [text('')], {}, null],
  ]
  for (const [what, content, more, at] of noticed)
    test(what, () => {
      const body = answer(content, more)
      const result = addAnthropicNotice(body, NOTICE)
      assert.equal(result.added, at !== null)
      if (at === null) return assert.equal(result.body, body)
      const changed = content.map((block, index) =>
        index === at ? { ...block, text: `${JSON.stringify(block['text']).slice(1, -1)}${NOTICE}` } : block,
      )
      assert.deepEqual(JSON.parse(result.body.toString()), JSON.parse(answer(changed, more).toString()))
    })

  test('leaves every other byte alone, however the answer is written', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), fc.constantFrom(0, 1, 2), (words, indent) => {
        const body = Buffer.from(JSON.stringify(JSON.parse(answer([text(words)]).toString()), null, indent))
        const { body: changed } = addAnthropicNotice(body, NOTICE)
        const inserted = JSON.stringify(NOTICE).slice(1, -1)
        assert.equal(changed.toString().replace(inserted, ''), body.toString())
      }),
    )
  })

  test('does not touch what is no answer', () => {
    const body = Buffer.from('not JSON')
    assert.deepEqual(addAnthropicNotice(body, NOTICE), { body, added: false })
  })
})

test('the input is a sum where the provider ran tools, but not where its passes are listed', () => {
  const isSum = (content: readonly JsonObject[], usage: JsonObject = {}): boolean | undefined => {
    const whole = answer(content, { usage: { ...USAGE, ...usage } })
    const stream = new AnthropicStream({ notice: null, collect: true })
    const events = [
      { type: 'message_start', message: { type: 'message', content: [], usage: USAGE } },
      ...content.map((block, index) => ({ type: 'content_block_start', index, content_block: block })),
      { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 5, ...usage } },
    ]
    for (const event of events) stream.push(Buffer.from(`data: ${JSON.stringify(event)}\n\n`))
    const { facts } = readAnthropicAnswer(whole)
    assert.deepEqual([stream.facts.isSum, stream.facts.hostedCalls], [facts.isSum, facts.hostedCalls])
    if (facts.isSum === true)
      assert.equal(facts.hostedCalls, usage['server_tool_use'] === undefined ? 1 : 2, 'by the blocks, or by the usage')
    return facts.isSum
  }
  const run = { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_fetch', input: {} }
  const searches = { server_tool_use: { web_search_requests: 2, web_fetch_requests: 0 } }
  const passes = { iterations: [{ type: 'message', input_tokens: 5, output_tokens: 5 }] }
  assert.equal(isSum([text('a'), CALL]), false)
  assert.equal(isSum([text('a')], { server_tool_use: { web_search_requests: 0 } }), false)
  assert.equal(isSum([run, text('a')]), true)
  assert.equal(isSum([run, text('a')], { iterations: [] }), true)
  assert.equal(isSum([text('a')], searches), true)
  assert.equal(isSum([run, text('a')], { ...searches, ...passes }), false)
})

test('an answer of ours is the same whole and streamed, ended by itself, and used nothing', () => {
  const own = { model: 'claude-sonnet-4-5', text: 'The end.', id: 'msg_farebox_1' }
  const plain = readAnthropicAnswer(syntheticAnthropic({ ...own, stream: false }).body)
  const streamed = syntheticAnthropic({ ...own, stream: true })
  assert.match(streamed.contentType, /^text\/event-stream/)
  const stream = new AnthropicStream({ notice: null, collect: true })
  stream.push(streamed.body)
  stream.end()
  assert.deepEqual(stream.facts, plain.facts)
  assert.doesNotMatch(streamed.body.toString(), /citations/, 'null is no list of them to the AI SDK, which then refuses the whole answer')
  assert.deepEqual(plain.facts.usage, usageOf({}))
  assert.deepEqual(stream.message?.texts, plain.message?.texts)
  const events = streamed.body.toString().match(/^event: \w+/gm)
  assert.deepEqual(
    events,
    ['message_start', 'content_block_start', 'content_block_delta', 'content_block_stop', 'message_delta', 'message_stop'].map(
      (name) => `event: ${name}`,
    ),
  )
})
