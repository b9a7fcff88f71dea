import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { chainRoot, extendChain } from '../core/chain.ts'
import { originalDigest } from '../core/digest.ts'
import { KeyedHash } from '../core/keyed-hash.ts'
import { noticeFinder } from '../core/notice-frame.ts'
import type { JsonObject, Message } from '../core/request.ts'
import { readAnswer } from './openai-answer.ts'
import { messageFromJson } from './openai-message.ts'
import { choice, chunk, DONE, event, feed } from './bodies.testing.ts'

/** The message that is collected from deltas of the first answer. */
function collected(...deltas: readonly JsonObject[]): JsonObject | null {
  return feed(deltas.map((delta) => event(chunk([choice(delta)]))).join('') + DONE).message?.json ?? null
}

/** A text in pieces, which may end inside a character. */
const pieces = fc
  .tuple(fc.string({ unit: 'grapheme', maxLength: 30 }), fc.array(fc.nat({ max: 30 }), { maxLength: 6 }))
  .map(([text, cuts]) => {
    const ends = [...new Set([0, ...cuts.filter((cut) => cut < text.length), text.length])].sort((one, other) => one - other)
    return ends.slice(1).map((end, index) => text.slice(ends[index], end))
  })
const calls = fc.array(fc.record({ name: fc.constantFrom('look_up', 'run'), custom: fc.boolean(), input: pieces }), { maxLength: 3 })

function callJson(index: number, name: string, custom: boolean, input: string): JsonObject {
  const id = `call_${index}`
  return custom ? { id, type: 'custom', custom: { name, input } } : { id, type: 'function', function: { name, arguments: input } }
}
/** As OpenAI streams a call: its head once, then its input bit by bit. */
function callDeltas(index: number, name: string, custom: boolean, input: readonly string[]): JsonObject[] {
  const head = { index, ...callJson(index, name, custom, '') }
  return [head, ...input.map((part) => ({ index, ...(custom ? { custom: { input: part } } : { function: { arguments: part } }) }))]
}
function messageOf(json: JsonObject | null): Message {
  const read = json === null ? null : messageFromJson(json)
  if (read === null) throw new TypeError('no message')
  return read
}
const KEY = new KeyedHash(Buffer.alloc(32))
const digestOf = (json: JsonObject | null): string => originalDigest(messageOf(json), noticeFinder([]))

test('the message is that of the plain answer, whatever it says and wherever its deltas are cut', () => {
  fc.assert(
    fc.property(fc.option(pieces), calls, fc.boolean(), (content, called, interleaved) => {
      fc.pre((content !== null && content.length > 0) || called.length > 0)
      const parts = called.map(({ name, custom, input }, index) => callDeltas(index, name, custom, input))
      const steps = Math.max(0, ...parts.map((list) => list.length))
      const taken = Array.from({ length: steps }, (_, step) => parts.map((list) => list[step]).filter((part) => part !== undefined))
      const callsInOrder = (interleaved ? taken : parts).flat()
      const deltas = [
        { role: 'assistant', content: content === null ? null : '', refusal: null },
        ...(content ?? []).map((part) => ({ content: part })),
        ...callsInOrder.map((part) => ({ tool_calls: [part] })),
      ]
      const plain = {
        role: 'assistant',
        content: content?.join('') ?? null,
        ...(called.length === 0
          ? {}
          : { tool_calls: called.map(({ name, custom, input }, index) => callJson(index, name, custom, input.join(''))) }),
      }
      assert.deepEqual(collected(...deltas), plain)
      const answer = { choices: [{ index: 0, message: { ...plain, refusal: null, annotations: [] }, finish_reason: 'stop' }] }
      assert.equal(digestOf(collected(...deltas)), digestOf(readAnswer(Buffer.from(JSON.stringify(answer))).message?.json ?? null))
    }),
    { numRuns: 500 },
  )
})

describe('deltas of other kinds', () => {
  test('content in parts of a list: what was said, and no thoughts, which name nothing of a history either', () => {
    const thinking = { type: 'thinking', thinking: [{ type: 'text', text: 'Two and two.' }] }
    const found = collected({ content: [thinking] }, { content: [{ type: 'text', text: 'It is "4' }] }, { content: '".' })
    assert.deepEqual(found, { role: 'assistant', content: 'It is "4".' })
    const told = messageOf({ role: 'assistant', content: [thinking, { type: 'text', text: 'It is "4".' }] })
    const root = chainRoot(KEY, '')
    assert.equal(extendChain(root, told, KEY), extendChain(root, messageOf(found), KEY))
  })

  test('a refusal', () => {
    assert.deepEqual(collected({ role: 'assistant', content: null, refusal: '' }, { refusal: 'I ' }, { refusal: 'cannot.' }), {
      role: 'assistant',
      content: null,
      refusal: 'I cannot.',
    })
  })

  test('an old function call', () => {
    assert.deepEqual(
      collected(
        { function_call: { name: 'f', arguments: '' } },
        { function_call: { arguments: '{"a"' } },
        { function_call: { arguments: ':1}' } },
      ),
      {
        role: 'assistant',
        content: null,
        function_call: { name: 'f', arguments: '{"a":1}' },
      },
    )
  })

  test('several calls in one delta, without an index, with repeated names', () => {
    const twice = [
      { id: 'a', type: 'function', function: { name: 'f', arguments: '{' } },
      { id: 'b', type: 'function', function: { name: 'g', arguments: '[' } },
    ]
    const rest = [{ function: { name: 'f', arguments: '}' } }, { id: '', function: { name: '', arguments: ']' } }]
    assert.deepEqual(collected({ tool_calls: twice }, { tool_calls: rest })?.['tool_calls'], [
      { id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } },
      { id: 'b', type: 'function', function: { name: 'g', arguments: '[]' } },
    ])
  })

  test('calls stand in the order of their index', () => {
    const message = collected(
      { tool_calls: [{ index: 1, id: 'b', function: { name: 'g' } }] },
      { tool_calls: [{ index: 0, id: 'a', function: { name: 'f' } }] },
    )
    assert.deepEqual(messageOf(message).toolCalls, [
      { id: 'a', name: 'f', input: '' },
      { id: 'b', name: 'g', input: '' },
    ])
  })
})

describe('what is not collected', () => {
  test('an answer that says nothing', () => {
    assert.equal(collected({ role: 'assistant' }, {}), null)
    assert.equal(collected({ reasoning_content: 'Hm.' }), null)
  })

  test('other answers than the first', () => {
    const stream = event(chunk([choice({ content: 'two' }, null, 1), choice({ content: 'one' })])) + DONE
    assert.deepEqual(feed(stream).message?.json, { role: 'assistant', content: 'one' })
    assert.equal(feed(event(chunk([choice({ content: 'two' }, null, 1)]))).message, null)
  })

  test('anything, when it is not asked for', () => {
    assert.equal(feed(event(chunk([choice({ content: 'a' })])), { collect: false }).message, null)
  })

  test('a notice of ours', () => {
    const stream = event(chunk([choice({ content: 'a' })])) + event(chunk([choice({}, 'stop')])) + DONE
    const { message, noticeAdded } = feed(stream, { notice: 'Note.' })
    assert.deepEqual([message?.json, noticeAdded], [{ role: 'assistant', content: 'a' }, true])
  })

  test('an answer of more than 4 MiB, at its bound and one byte beyond', () => {
    const mib = event(chunk([choice({ content: 'x'.repeat(1 << 20) })]))
    assert.deepEqual(feed(mib.repeat(4)).message?.json, { role: 'assistant', content: 'x'.repeat(4 << 20) })
    assert.equal(feed(mib.repeat(4) + event(chunk([choice({ content: 'x' })]))).message, null)
    const argument = event(
      chunk([choice({ tool_calls: [{ index: 0, id: 'a', function: { name: 'f', arguments: 'x'.repeat(1 << 20) } }] })]),
    )
    assert.equal(feed(argument.repeat(4)).message, null)
  })

  test('tool calls beyond a number', () => {
    const list = Array.from({ length: 600 }, (_, index) => ({ index, id: `call_${index}`, function: { name: 'f', arguments: '' } }))
    assert.equal(messageOf(collected({ tool_calls: list })).toolCalls.length, 512)
  })
})
