import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { usageOf } from '@farebox/crds/usage.ts'
import type { Usage } from '@farebox/crds/usage.ts'
import type { JsonObject } from '../core/request.ts'
import { readAnthropicAnswer } from './anthropic-answer.ts'
import { AnthropicStream } from './anthropic-stream.ts'
import { passedOn } from './bodies.testing.ts'

const START_USAGE = {
  input_tokens: 10,
  cache_creation_input_tokens: 30,
  cache_read_input_tokens: 40,
  cache_creation: { ephemeral_5m_input_tokens: 10, ephemeral_1h_input_tokens: 20 },
  output_tokens: 1,
  service_tier: 'standard',
  inference_geo: 'us',
}
const END_USAGE = {
  input_tokens: null,
  cache_creation_input_tokens: null,
  cache_read_input_tokens: null,
  output_tokens: 50,
  server_tool_use: null,
}
const event = (data: JsonObject & { readonly type: string }): string => `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`
const PING = event({ type: 'ping' })
const start = (usage: JsonObject | null = START_USAGE): string =>
  event({
    type: 'message_start',
    message: {
      id: 'msg_1',
      type: 'message',
      role: 'assistant',
      model: 'claude-sonnet-4-5-20250929',
      content: [],
      stop_reason: null,
      ...(usage === null ? {} : { usage }),
    },
  })
const block = (index: number, content: JsonObject, deltas: readonly JsonObject[]): string =>
  [
    event({ type: 'content_block_start', index, content_block: content }),
    ...deltas.map((delta) => event({ type: 'content_block_delta', index, delta })),
    event({ type: 'content_block_stop', index }),
  ].join('')
const textBlock = (index: number, ...pieces: readonly string[]): string =>
  block(
    index,
    { type: 'text', text: '' },
    pieces.map((text) => ({ type: 'text_delta', text })),
  )
const thinkingBlock = (index: number, thinking: string, signature: string): string =>
  block(index, { type: 'thinking', thinking: '', signature: '' }, [
    ...(thinking === '' ? [] : [{ type: 'thinking_delta', thinking }]),
    { type: 'signature_delta', signature },
  ])
const callBlock = (index: number, ...pieces: readonly string[]): string =>
  block(
    index,
    { type: 'tool_use', id: 'toolu_1', name: 'look', input: {} },
    pieces.map((partial_json) => ({ type: 'input_json_delta', partial_json })),
  )
const end = (stop_reason: string, usage: JsonObject | null = END_USAGE): string =>
  event({ type: 'message_delta', delta: { stop_reason, stop_sequence: null }, ...(usage === null ? {} : { usage }) }) +
  event({ type: 'message_stop' })
const NOTICE = '\n\n---\nNote'
const noticeEvent = (index: number): string => event({ type: 'content_block_delta', index, delta: { type: 'text_delta', text: NOTICE } })

interface Fed {
  readonly output: string
  readonly stream: AnthropicStream
}
function feed(
  text: string,
  { notice = null, collect = true }: { notice?: string | null; collect?: boolean } = {},
  cuts: readonly number[] = [],
): Fed {
  const stream = new AnthropicStream({ notice, collect })
  return { output: passedOn(stream, text, cuts), stream }
}

const WHOLE =
  start() +
  PING +
  thinkingBlock(0, 'Let me see', 'sig') +
  textBlock(1, 'Hello', ' there') +
  callBlock(2, '{"wh', 'ere":"here"}') +
  end('tool_use')

test('a stream is over with its last event', () => {
  assert.equal(feed(WHOLE).stream.isOver, true)
  assert.equal(feed(WHOLE.slice(0, WHOLE.lastIndexOf('event: '))).stream.isOver, false)
})

const declined = (category: string | null, usage: JsonObject | null = END_USAGE): string =>
  event({
    type: 'message_delta',
    delta: { stop_reason: 'refusal', stop_sequence: null, stop_details: { type: 'refusal', category, explanation: null } },
    ...(usage === null ? {} : { usage }),
  }) + event({ type: 'message_stop' })

test('a stream that is declined before it begins used nothing, unless that is billed', () => {
  for (const [text, isUnbilled] of [
    [start() + PING + declined('cyber'), true],
    [start() + declined(null, null), true],
    [start() + declined('bio'), false],
    [start() + textBlock(0, 'Well') + declined('cyber'), false],
    [start() + end('refusal'), false],
  ] as const) {
    const { facts } = feed(text).stream
    assert.equal(facts.isUnbilled === true, isUnbilled, text)
    if (isUnbilled) assert.deepEqual(facts.usage, usageOf({}), text)
    else assert.equal(facts.usage?.uncachedInput, 10, text)
  }
})

test('a streamed answer says what the same answer says in one piece', () => {
  const plain = readAnthropicAnswer(
    Buffer.from(
      JSON.stringify({
        id: 'msg_1',
        type: 'message',
        role: 'assistant',
        model: 'claude-sonnet-4-5-20250929',
        content: [
          { type: 'text', text: 'Hello there' },
          { type: 'tool_use', id: 'toolu_1', name: 'look', input: { where: 'here' } },
        ],
        stop_reason: 'tool_use',
        usage: { ...START_USAGE, output_tokens: 50 },
      }),
    ),
  )
  fc.assert(
    fc.property(fc.array(fc.nat({ max: WHOLE.length }), { maxLength: 12 }), (cuts) => {
      const { output, stream } = feed(WHOLE, {}, cuts)
      assert.equal(output, WHOLE)
      const { outputBytes, ...facts } = stream.facts
      const { outputBytes: _, ...expected } = plain.facts
      assert.deepEqual(facts, expected)
      assert.ok(outputBytes > 0)
      assert.deepEqual(stream.message?.json, plain.message?.json)
      assert.equal(stream.observedOutputTokens(), 50)
    }),
  )
})

describe('a notice', () => {
  const cases: readonly [what: string, stream: string, at: number | null][] = [
    ['goes before the end of a text', start() + textBlock(0, 'Hello') + end('end_turn'), 0],
    ['goes to the last text', start() + textBlock(0, 'Hello') + textBlock(1, 'there') + end('end_turn'), 1],
    ['stands behind thinking', start() + thinkingBlock(0, '', 's') + textBlock(1, 'Hello') + end('max_tokens'), 1],
    ['keeps out of answers that call', start() + textBlock(0, 'Hello') + callBlock(1, '{}') + end('tool_use'), null],
    ['keeps out of calls that were cut', start() + textBlock(0, 'Hello') + callBlock(1, '{') + end('max_tokens'), null],
    ['keeps out of refusals', start() + textBlock(0, 'Hello') + end('refusal'), null],
    ['needs words', start() + thinkingBlock(0, 'Hm', 's') + end('max_tokens'), null],
    ['needs words that are said', start() + textBlock(0) + end('end_turn'), null],
    ['keeps out of what breaks off', start() + textBlock(0, 'Hello'), null],
    [
      'keeps out of what fails',
      start() + textBlock(0, 'Hello') + event({ type: 'error', error: { type: 'overloaded_error', message: '' } }),
      null,
    ],
  ]
  for (const [what, text, at] of cases)
    test(what, () => {
      const stop = at === null ? '' : event({ type: 'content_block_stop', index: at })
      const expected = at === null ? text : text.replace(stop, noticeEvent(at) + stop)
      fc.assert(
        fc.property(fc.array(fc.nat({ max: text.length }), { maxLength: 8 }), (cuts) => {
          const { output, stream } = feed(text, { notice: NOTICE }, cuts)
          assert.equal(output, expected)
          assert.equal(stream.noticeAdded, at !== null)
        }),
      )
    })

  test('holds back nothing but the end of a text, and no ping', () => {
    const stream = new AnthropicStream({ notice: NOTICE, collect: false })
    const push = (text: string): string => Buffer.concat(stream.push(Buffer.from(text))).toString()
    const begun = start() + event({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } })
    const said = event({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hello' } })
    const stopped = event({ type: 'content_block_stop', index: 0 })
    assert.equal(push(begun), begun)
    assert.equal(push(said), said)
    assert.equal(push(stopped), '')
    assert.equal(push(PING), PING)
    const next = event({ type: 'content_block_start', index: 1, content_block: { type: 'text', text: '' } })
    assert.equal(push(next), stopped + next)
  })

  test('is no part of the answer that is kept', () => {
    const { stream } = feed(start() + textBlock(0, 'Hello') + end('end_turn'), { notice: NOTICE })
    assert.deepEqual(
      stream.message?.texts.map((part) => part.text),
      ['Hello'],
    )
  })
})

describe('a stream that breaks off', () => {
  test('has its input from the first event, and no final usage', () => {
    const { stream } = feed(
      start() +
        event({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }) +
        event({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'one two three four' } }),
    )
    assert.equal(stream.facts.usage, null)
    assert.deepEqual(
      stream.usageSoFar,
      usageOf({ uncachedInput: 10, cacheReadInput: 40, cacheWriteInput: 10, cacheWriteLongInput: 20, output: 1 }),
    )
    assert.ok(stream.observedOutputTokens() >= 4)
  })

  test('counts thinking that is not shown by what it is encrypted in', () => {
    const { stream } = feed(start() + thinkingBlock(0, '', 'x'.repeat(4_000)))
    assert.equal(stream.observedOutputTokens(), 1_000)
    const shown = feed(start() + thinkingBlock(0, 'one two three', 'x'.repeat(4_000))).stream
    assert.ok(shown.observedOutputTokens() < 100)
  })

  test('is not final by a usage before its end', () => {
    const early = event({ type: 'message_delta', delta: { stop_reason: null }, usage: { output_tokens: 3 } })
    assert.equal(feed(start() + textBlock(0, 'Hello') + early).stream.facts.usage, null)
    assert.equal(feed(start(null) + textBlock(0, 'Hello') + end('end_turn', null)).stream.facts.usage, null)
  })

  test('says which error ended it, and not in whose words', () => {
    const { stream } = feed(start() + event({ type: 'error', error: { type: 'overloaded_error', message: 'secret' } }))
    assert.equal(stream.facts.error, 'overloaded_error')
  })
})

test('totals of the end replace those of the start; what the end leaves out stays', () => {
  const late = { input_tokens: 100, output_tokens: 50, server_tool_use: { web_search_requests: 2, web_fetch_requests: 0 } }
  const { stream } = feed(start() + textBlock(0, 'Hello') + end('end_turn', late))
  assert.deepEqual(
    stream.facts.usage,
    usageOf({ uncachedInput: 100, cacheReadInput: 40, cacheWriteInput: 10, cacheWriteLongInput: 20, output: 50, webSearchCalls: 2 }),
  )
  assert.equal(stream.facts.serviceTier, 'standard+us')
})

test('what later passes write is for as long as the request asks, since the end says no lives', () => {
  const late = { input_tokens: 100, cache_creation_input_tokens: 65_000, cache_read_input_tokens: 40, output_tokens: 50 }
  const usageOfStream = (cacheWrites: 'short' | 'long'): Usage | null => {
    const stream = new AnthropicStream({ notice: null, collect: false, cacheWrites })
    stream.push(Buffer.from(start() + textBlock(0, 'Hello') + end('end_turn', late)))
    return stream.facts.usage
  }
  const read = { uncachedInput: 100, cacheReadInput: 40, output: 50 }
  assert.deepEqual(usageOfStream('long'), usageOf({ ...read, cacheWriteInput: 10, cacheWriteLongInput: 64_990 }))
  assert.deepEqual(usageOfStream('short'), usageOf({ ...read, cacheWriteInput: 64_980, cacheWriteLongInput: 20 }))
})

test('what is no JSON passes, and counts as text', () => {
  const broken = 'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"del\n\n'
  const text = start() + broken + textBlock(0, 'Hello') + end('end_turn')
  const { output, stream } = feed(text, { notice: NOTICE })
  assert.ok(output.includes(broken))
  assert.equal(stream.facts.usage?.output, 50)
  const huge = `data: {"type":"x","text":"${'y'.repeat(3 * 1024 * 1024)}"}\n\n`
  const passed = feed(start() + huge + textBlock(0, 'Hello') + end('end_turn'), { notice: NOTICE }, [1_000_000, 2_500_000])
  assert.equal(passed.output.length, (start() + huge + textBlock(0, 'Hello') + end('end_turn') + noticeEvent(0)).length)
})

test('an answer that is not collected is not kept', () => {
  assert.equal(feed(WHOLE, { collect: false }).stream.message, null)
})
