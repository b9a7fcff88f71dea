import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import type { JsonObject } from '../core/request.ts'
import { ChatChunk } from './chat-chunk.ts'
import type { Part } from './chat-chunk.ts'
import { choice, chunk, objectTexts, valueTexts } from './bodies.testing.ts'

/** Reads text that stands among other bytes, as it does in a stream. */
function read(
  text: string,
  reader = new ChatChunk(),
): { readonly ok: boolean; readonly chunk: ChatChunk; readonly text: (part: Part | undefined) => string | null } {
  const bytes = Buffer.from(`data: ${text}\n\ndata: {"id":"next","usage":{}}\n\n`)
  const ok = reader.read(bytes, 6, 6 + Buffer.byteLength(text))
  return { ok, chunk: reader, text: (part) => (part === undefined || part.start < 0 ? null : bytes.toString('utf8', part.start, part.end)) }
}
const written = (json: JsonObject): string => JSON.stringify(json)

test('the parts of a chunk are found as they are written', () => {
  const delta = {
    role: 'assistant',
    content: 'a "b" \\ é\n',
    refusal: 'no',
    reasoning: 'short',
    reasoning_content: 'longer thoughts',
    tool_calls: [{ index: 0, id: 'c' }],
    function_call: { name: 'f' },
    audio: { data: 'AAAA' },
  }
  const {
    ok,
    chunk: found,
    text,
  } = read(
    written(chunk([choice(delta, 'stop', 12)], { service_tier: 'default', usage: null, error: { code: 'x' }, system_fingerprint: 'fp' })),
  )
  assert.equal(ok, true)
  assert.deepEqual([found.id, found.created, found.model, found.serviceTier, found.usage, found.error].map(text), [
    '"chatcmpl-1"',
    '1700000000',
    '"gpt-4o-2024-08-06"',
    '"default"',
    'null',
    '{"code":"x"}',
  ])
  const [first] = found.choices
  assert.equal(found.choiceCount, 1)
  assert.equal(first?.index, 12)
  assert.deepEqual(
    [first?.content, first?.refusal, first?.reasoning, first?.toolCalls, first?.functionCall, first?.audio, first?.finish].map(text),
    ['a \\"b\\" \\\\ é\\n', 'no', 'longer thoughts', '[{"index":0,"id":"c"}]', '{"name":"f"}', '{"data":"AAAA"}', 'stop'],
  )
})

test('of two words for reasoning the longer counts, in whatever order', () => {
  for (const delta of [
    { reasoning: 'abc', reasoning_content: 'a' },
    { reasoning_content: 'a', reasoning: 'abc' },
  ]) {
    const { chunk: found, text } = read(written(chunk([choice(delta)])))
    assert.equal(text(found.choices[0]?.reasoning), 'abc')
  }
})

test('content that is a list is found as that', () => {
  const content = [{ type: 'thinking', thinking: [{ type: 'text', text: 'Hm' }] }]
  const { chunk: found, text } = read(written(chunk([choice({ content })])))
  assert.deepEqual([text(found.choices[0]?.contentParts), text(found.choices[0]?.content)], [JSON.stringify(content), null])
  for (const empty of ['[]', '[ ]', '{\n}', 'null', '""']) {
    const again = read(`{"choices":[{"delta":{"content":${empty},"tool_calls":[ ]}}]}`)
    assert.deepEqual([again.text(again.chunk.choices[0]?.contentParts), again.text(again.chunk.choices[0]?.toolCalls)], [null, null])
  }
})

test('what is null, empty or of another type is absent', () => {
  const delta = { content: null, refusal: 5, reasoning: [], tool_calls: [], function_call: null, audio: {} }
  const { ok, chunk: found, text } = read(written(chunk([choice(delta)])))
  assert.equal(ok, true)
  const [first] = found.choices
  for (const part of [first?.content, first?.refusal, first?.reasoning, first?.toolCalls, first?.functionCall, first?.audio, first?.finish])
    assert.equal(text(part), null)
})

test('a reader used again remembers nothing', () => {
  const reader = new ChatChunk()
  read(
    written(chunk([choice({ content: 'a', tool_calls: [{}] }, 'stop', 1), choice({})], { usage: {}, error: {}, moderation: { a: 1 } })),
    reader,
  )
  const { chunk: found, text } = read('{"choices":[{"delta":{}}]}', reader)
  assert.deepEqual([found.id, found.created, found.model, found.usage, found.error, found.usageCut].map(text), [
    null,
    null,
    null,
    null,
    null,
    null,
  ])
  assert.deepEqual([found.choicesEmpty, found.carriesMore, found.choiceCount], [false, false, 1])
  const [first] = found.choices
  assert.deepEqual([first?.index, text(first?.content), text(first?.toolCalls), text(first?.finish)], [0, null, null, null])
})

test('any JSON object is understood, and any cut of it is not', () => {
  fc.assert(
    fc.property(objectTexts(), fc.nat(), (text, cut) => {
      const parsed: Record<string, unknown> = JSON.parse(text)
      const whole = text.trim()
      if (!('choices' in parsed)) assert.equal(read(text).ok, true, text)
      const part = whole.slice(0, cut % whole.length)
      assert.equal(read(part).ok, false, part)
    }),
    { numRuns: 500 },
  )
})

test('usage and errors are found, and usage is cut out, in any order of any other fields', () => {
  const members = fc.tuple(
    fc.shuffledSubarray(['a', 'b', 'choices', 'usage', 'error'], { minLength: 1 }),
    fc.array(valueTexts(), { minLength: 5, maxLength: 5 }),
  )
  fc.assert(
    fc.property(members, fc.constantFrom('', ' ', '  '), ([names, values], space) => {
      const valueOf = (name: string, index: number): string => (name === 'choices' ? '[]' : (values[index] ?? '0').trim())
      const text = `{${space}${names.map((name, index) => `"${name}"${space}:${space}${valueOf(name, index)}`).join(`${space},${space}`)}${space}}`
      const { ok, chunk: found, text: textOf } = read(text)
      assert.equal(ok, true)
      for (const [name, part] of [
        ['usage', found.usage],
        ['error', found.error],
      ] as const) {
        const index = names.indexOf(name)
        assert.equal(textOf(part), index < 0 ? null : valueOf(name, index))
      }
      assert.equal(found.choicesEmpty, names.includes('choices'))
      if (!names.includes('usage')) return
      const bytes = Buffer.from(`data: ${text}`)
      const without = Buffer.concat([bytes.subarray(6, found.usageCut.start), bytes.subarray(found.usageCut.end)]).toString('utf8')
      const { usage: _, ...expected }: Record<string, unknown> = JSON.parse(text)
      assert.deepEqual(JSON.parse(without), expected)
    }),
    { numRuns: 500 },
  )
})

describe('whether a chunk says more than its usage', () => {
  const cases: Record<string, [more: JsonObject, carriesMore: boolean]> = {
    'content filters': [{ prompt_filter_results: [{ prompt_index: 0 }] }, true],
    moderation: [{ moderation: { flagged: false } }, true],
    'an empty list': [{ prompt_filter_results: [] }, false],
    'an empty object': [{ moderation: {} }, false],
    'words and numbers': [{ system_fingerprint: 'fp', obfuscation: 'abc', provider: 'x', latency: 5, cached: true, nothing: null }, false],
    'a second copy of the usage': [{ x_groq: { id: 'a', usage: { prompt_tokens: 1 } } }, false],
  }
  for (const [name, [more, carriesMore]] of Object.entries(cases)) {
    test(`${name}: ${carriesMore ? 'yes' : 'no'}`, () => {
      const { chunk: found } = read(written(chunk([], { usage: {}, ...more })))
      assert.deepEqual([found.carriesMore, found.choicesEmpty], [carriesMore, true])
    })
  }
})

test('choices that are no list of objects are not taken for empty', () => {
  for (const [text, ok] of [
    ['{"choices":null}', true],
    ['{"choices":{}}', true],
    ['{"choices":[5]}', false],
    ['{"choices":[[]]}', false],
    [`{"choices":[${'{},'.repeat(128)}{}]}`, false],
  ] as const) {
    const found = read(text)
    assert.equal(found.ok, ok, text)
    assert.equal(found.chunk.choicesEmpty, false)
  }
  assert.equal(read(`{"choices":[${'{},'.repeat(127)}{}]}`).chunk.choiceCount, 128)
})

test('what is no object, or more than one, is not understood', () => {
  for (const text of ['', ' ', '[DONE]', 'null', '5', '"{}"', '{}{}', '{} x', '{"a":1', '{"a"}', '{"a":}', '{"a":1,}', '{,}', '{"a":"b}'])
    assert.equal(read(text).ok, false, text)
})
