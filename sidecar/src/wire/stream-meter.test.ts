import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { usageOf } from '@farebox/crds/usage.ts'
import { contentText } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'
import { ChatChunk } from './chat-chunk.ts'
import { StreamMeter } from './stream-meter.ts'
import { choice, chunk } from './bodies.testing.ts'

/** A meter that read these, one event each; text stands for data that is no JSON of ours. */
function metered(...events: readonly (JsonObject | string)[]): StreamMeter {
  return read(new StreamMeter({ collect: false, findsPlace: true }), events)
}
const collected = (...events: readonly JsonObject[]): StreamMeter => read(new StreamMeter({ collect: true, findsPlace: false }), events)

function read(meter: StreamMeter, events: readonly (JsonObject | string)[]): StreamMeter {
  const reader = new ChatChunk()
  for (const json of events) {
    const bytes = Buffer.from(`data: ${typeof json === 'string' ? json : JSON.stringify(json)}\n\n`)
    meter.read({ bytes, start: 6, end: bytes.length - 2, isPlain: true }, reader)
  }
  return meter
}
const said = (content: string, index = 0): JsonObject => chunk([choice({ content }, null, index)])
const ended = (reason: string, index = 0): JsonObject => chunk([choice({}, reason, index)])
const used = (input: number, output: number, choices: readonly JsonObject[] = []): JsonObject =>
  chunk(choices, { usage: { prompt_tokens: input, completion_tokens: output, total_tokens: input + output } })
const called = (index: number, written: JsonObject): JsonObject =>
  choice({ tool_calls: [{ index, id: `call_${index}`, type: 'function', function: written }] })

describe('what the stream says of itself', () => {
  test('the model that served, once it is known', () => {
    assert.equal(metered(chunk([], { model: '' }), chunk([], { model: 'a' }), chunk([], { model: 'b' })).facts().model, 'a')
    assert.equal(metered('{"choices":[]}').facts().model, null)
  })

  test('the service tier that served, not the one that was asked for', () => {
    const tiers = (...values: Json[]): string | null =>
      metered(...values.map((tier) => chunk([], { service_tier: tier }))).facts().serviceTier
    assert.equal(tiers(null, 'auto', null, 'default', 'flex'), 'default')
    assert.equal(tiers('auto', null), 'auto')
    assert.equal(tiers(null), null)
  })

  test('each of several answers, as many as are kept', () => {
    const events = Array.from({ length: 20 }, (_, index) => [
      said(`${index}`, index),
      said(' and more', index),
      ended('stop', index),
    ]).flat()
    const texts = collected(chunk([called(0, { name: 'f', arguments: '{}' })]), ...events)
      .alternatives()
      .map(contentText)
    assert.deepEqual(
      texts,
      ['1', '2', '3', '4', '5', '6', '7'].map((text) => `${text} and more`),
    )
    assert.deepEqual(metered(...events).alternatives(), [])
    const calls = collected(chunk([{ ...called(0, { name: 'f', arguments: '{}' }), index: 1 }])).alternatives()
    assert.deepEqual(calls[0]?.toolCalls, [{ id: 'call_0', name: 'f', input: '{}' }])
    const long = collected(said('a'.repeat(1 << 20), 1), said('b', 2), said('c'.repeat(1 << 20)))
    assert.deepEqual([long.message()?.texts.length, ...long.alternatives().map(contentText)], [1, 'b'], 'a long one is not kept')
  })

  test('the reason of the first answer', () => {
    assert.equal(metered(ended('length', 1), ended('stop')).facts().finishReason, 'stop')
    assert.equal(metered(ended('length', 1)).facts().finishReason, null)
  })

  test('no reason is an empty one, as some servers send with each chunk: a count that comes along is not the last', () => {
    const { finishReason, usage } = metered(used(10, 1, [choice({ content: 'a' }, '')])).facts()
    assert.deepEqual([finishReason, usage], [null, null])
  })

  test('that it is over by the sentinel alone', () => {
    assert.equal(metered(said('a'), ended('stop'), used(10, 1)).isOver, false)
    assert.equal(metered(said('a'), ended('stop'), '[DONE]').isOver, true)
  })

  test('tools by name, each call once, however often a provider repeats it', () => {
    const parallel = [
      called(0, { name: 'look_up', arguments: '' }),
      called(0, { name: 'look_up', arguments: '{}' }),
      called(1, { name: 'book' }),
    ]
    const custom = choice({ tool_calls: [{ index: 2, type: 'custom', custom: { name: 'run', input: 'ls' } }] })
    const other = choice({ tool_calls: [{ index: 0, function: { name: 'look_up' } }] }, null, 1)
    const old = choice({ function_call: { name: 'old', arguments: '{}' } }, null, 2)
    const { toolNames } = metered(...[...parallel, custom, other, old].map((one) => chunk([one]))).facts()
    assert.deepEqual(toolNames, ['look_up', 'book', 'run', 'look_up', 'old'])
  })

  test('its error, the first one, by its code', () => {
    assert.equal(metered({ error: { type: 'a', message: 'secret' } }, { error: { code: 'b' } }).facts().error, 'a')
    assert.equal(metered('{"error":"secret"}').facts().error, 'error')
    assert.equal(metered('{"error":null}').facts().error, null)
  })
})

describe('usage', () => {
  test('of its own chunk is final, also when an answer has not ended', () => {
    assert.deepEqual(metered(said('a'), used(10, 3)).facts().usage, usageOf({ uncachedInput: 10, output: 3 }))
  })

  test('along with text is final when all answers have ended, and not before', () => {
    const one = choice({ content: 'a' })
    assert.equal(metered(used(10, 1, [one])).facts().usage, null)
    assert.deepEqual(metered(used(10, 1, [one]), used(10, 2, [choice({}, 'stop')])).facts().usage?.output, 2)
    const both = [said('a'), said('b', 1), used(10, 2, [choice({}, 'stop')])]
    assert.equal(metered(...both).facts().usage, null)
    assert.equal(metered(...both, used(10, 4, [choice({}, 'stop', 1)])).facts().usage?.output, 4)
  })

  test('along with text is final at the sentinel', () => {
    assert.equal(metered(used(10, 1, [choice({ content: 'a' })]), '[DONE]').facts().usage?.output, 1)
    assert.equal(metered(said('a'), '[DONE]').facts().usage, null)
  })

  test('is never added up', () => {
    assert.equal(metered(used(10, 3), used(10, 5)).facts().usage?.output, 5)
  })

  test('null does not undo what was said', () => {
    assert.equal(metered(used(10, 3), chunk([], { usage: null })).facts().usage?.output, 3)
  })

  test('that cannot be is not believed, and said to be so', () => {
    const { usage, usageInvalid } = metered(used(10, -3)).facts()
    assert.deepEqual([usage, usageInvalid], [null, true])
  })

  test('with parts beyond the total is marked', () => {
    const usage = { prompt_tokens: 1, completion_tokens: 1, prompt_tokens_details: { cached_tokens: 5 } }
    assert.equal(metered(chunk([], { usage })).facts().usageClamped, true)
  })
})

describe('output that has been seen', () => {
  test('is text of all answers, refusals and reasoning, in bytes', () => {
    const meter = metered(
      said('é'),
      said('b', 1),
      chunk([choice({ refusal: 'no' })]),
      chunk([choice({ reasoning_content: 'hm', reasoning: 'hm' })]),
    )
    assert.equal(meter.facts().outputBytes, 7)
    assert.equal(meter.observedOutputTokens(), 4)
  })

  test('is what is thought and said in parts of a list, as much as in a string', () => {
    const words = 'I think of the parcel that went "on" by lorry. '
    const parts = (content: Json): StreamMeter => metered(...Array.from({ length: 40 }, () => chunk([choice({ content })])))
    const plain = parts(words)
    for (const content of [[{ type: 'thinking', thinking: [{ type: 'text', text: words }] }], [{ type: 'text', text: words }]]) {
      const meter = parts(content)
      assert.deepEqual([meter.observedOutputTokens(), meter.facts().outputBytes], [plain.observedOutputTokens(), plain.facts().outputBytes])
    }
    assert.equal(parts([{ type: 'reference', reference_ids: [1] }]).facts().outputBytes, 0)
  })

  test('is names and arguments of tool calls, not their ids and types', () => {
    const written = { name: 'f', arguments: '{"q":"é"}' }
    const bytes = Buffer.byteLength('f{"q":"é"}')
    for (const one of [
      called(0, written),
      choice({ function_call: written }),
      choice({ tool_calls: [{ custom: { name: 'f', input: '{"q":"é"}' } }] }),
    ])
      assert.equal(metered(chunk([one])).facts().outputBytes, bytes)
  })

  test('is the same however the JSON is spaced', () => {
    const json = chunk([called(0, { name: 'look_up', arguments: 'some words' })])
    const spaced = JSON.stringify(json).replaceAll('":', '" : ').replaceAll('{"', '{ "')
    assert.deepEqual(metered(spaced).facts(), metered(json).facts())
    assert.equal(metered(spaced).observedOutputTokens(), metered(json).observedOutputTokens())
  })

  test('is the count of a provider that counts along', () => {
    assert.equal(metered(used(10, 7, [choice({ content: 'one' })])).observedOutputTokens(), 7)
    assert.equal(metered(said('a'), said('b', 1), said('c'), used(10, 1, [choice({ content: 'd' })])).observedOutputTokens(), 4)
  })

  test('is what could not be read, taken for text', () => {
    const meter = metered('not json at all', '{"choices":[{"delta":{"content":"x')
    assert.deepEqual([meter.facts().outputBytes, meter.observedOutputTokens()], [49, 17])
    meter.addUnread(30)
    assert.equal(meter.observedOutputTokens(), 27)
  })

  test('is audio by its size, the one that has begun included, and apart from text', () => {
    const spoken = metered(said('a'), chunk([choice({ audio: { data: 'A'.repeat(5_900) } })]))
    assert.deepEqual([spoken.observedOutputTokens(), spoken.observedTextTokens()], [3, 1])
    assert.equal(spoken.observedOutputTokens(3_001), 5)
    assert.equal(metered(said('a')).observedOutputTokens(3_001), 1, 'no audio, as far as anybody knows')
  })

  test('goes beyond the count of a provider where something unread followed it', () => {
    const meter = metered(used(10, 7, [choice({ content: 'one' })]))
    meter.addUnread(300)
    assert.deepEqual([meter.observedOutputTokens(), meter.observedTextTokens()], [101, 1])
    const counted = metered(used(10, 7, [choice({ content: 'one' })]), 'not json at all', used(10, 8, [choice({ content: 'two' })]))
    assert.equal(counted.observedOutputTokens(), 8)
  })
})

describe('what kind of answer it is', () => {
  test('prose is text and nothing else', () => {
    assert.equal(metered(said('a')).isProse(0), true)
    for (const more of [
      called(0, { name: 'f' }),
      choice({ refusal: 'no' }),
      choice({ audio: { id: 'x' } }),
      choice({ function_call: { name: 'f' } }),
    ])
      assert.equal(metered(said('a'), chunk([more])).isProse(0), false)
    assert.equal(metered(said('')).isProse(0), false)
    assert.equal(metered(said('a', 1)).isProse(0), false)
    assert.equal(metered(said('a', 1)).isProse(1), true)
  })

  test('prose may come in parts of a list; thoughts are none, nor is JSON', () => {
    const thought = choice({ content: [{ type: 'thinking', thinking: [{ type: 'text', text: '{' }] }] })
    const parts = (...texts: readonly string[]): JsonObject => choice({ content: texts.map((text) => ({ type: 'text', text })) })
    assert.equal(metered(chunk([thought])).isProse(0), false)
    assert.equal(metered(chunk([thought]), chunk([parts('')])).isProse(0), false)
    assert.equal(metered(chunk([thought]), chunk([parts('So ', 'it is.')])).isProse(0), true)
    assert.equal(metered(chunk([thought]), chunk([parts('```')]), said('json')).isProse(0), false)
  })

  test('answers without end are counted as output, and kept apart up to a number', () => {
    const meter = metered(...Array.from({ length: 300 }, (_, index) => said('a', index)))
    assert.equal(meter.facts().outputBytes, 300)
    assert.equal(meter.isProse(127), true)
    assert.equal(meter.isProse(128), false)
  })
})
