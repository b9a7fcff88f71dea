import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Json, JsonObject, Message } from '../core/request.ts'
import { readAnthropicMessage } from './anthropic-message.ts'
import { scanned } from './bodies.testing.ts'
import { withMarksOf, withoutMarks } from './cache-marks.ts'
import { readMessage } from './openai-message.ts'
import { readItems } from './responses-item.ts'

const MARK = { cache_control: { type: 'ephemeral' } }
const LONG = { cache_control: { type: 'ephemeral', ttl: '1h' } }
const text = (words: string, mark: JsonObject = {}): JsonObject => ({ type: 'text', text: words, ...mark })
const result = (content: Json, mark: JsonObject = {}): JsonObject => ({ type: 'tool_result', tool_use_id: 't', content, ...mark })
const marked = (content: Json | undefined, from: Json | undefined): Json | undefined => withMarksOf(content, from, 'text')

describe('what an edit kept has the marks of the message that is sent now', () => {
  const cases: Readonly<Record<string, readonly [kept: Json, now: Json, sent: Json]>> = {
    'the mark has moved on': [[text('stub', MARK)], [text('passage')], [text('stub')]],
    'the mark has come back': [[text('stub')], [text('passage', MARK)], [text('stub', MARK)]],
    'it is another one now': [[text('stub', MARK)], [text('passage', LONG)], [text('stub', LONG)]],
    'a bare text is marked': ['stub', [text('passage', MARK)], [text('stub', MARK)]],
    'the app writes it bare now': [[text('stub', MARK)], 'passage', [text('stub')]],
    'each block by its place': [
      [text('a'), text('b')],
      [text('A', LONG), text('B', MARK)],
      [text('a', LONG), text('b', MARK)],
    ],
    'blocks that are gone stood before it': [[text('b')], [text('A'), text('B', MARK)], [text('b', MARK)]],
    'the marked block is gone': [[text('b')], [text('A', LONG), text('B')], [text('b', LONG)]],
    'in the result of a tool': [[result([text('stub', MARK)])], [result([text('passage')], MARK)], [result([text('stub')], MARK)]],
    'inside the result of a tool': [[result('stub')], [result([text('passage', MARK)])], [result('stub', MARK)]],
    'inside a document': [
      [{ type: 'document', source: { type: 'content', content: [text('stub', MARK)] } }],
      [{ type: 'document', source: { type: 'content', content: [text('passage')] } }],
      [{ type: 'document', source: { type: 'content', content: [text('stub')] } }],
    ],
  }
  for (const [name, [kept, now, sent]] of Object.entries(cases)) test(name, () => assert.deepEqual(marked(kept, now), sent))

  test('where neither has any, nothing is written anew', () => {
    const kept = [text('stub')]
    assert.equal(marked(kept, [text('passage')]), kept)
    assert.equal(marked('stub', [text('passage')]), 'stub')
    assert.equal(marked(undefined, [text('passage', MARK)]), undefined)
  })

  test('what an app calls so in its own data is no mark', () => {
    const block = { type: 'tool_use', id: 't', name: 'set', input: MARK }
    assert.deepEqual(withoutMarks(block), block)
  })
})

test('messages of every format give the marks that they have now, also to what was logged with others', () => {
  const anthropic = (mark: JsonObject): Message | null => {
    const json = { role: 'user', content: [text('passage', mark)] }
    return readAnthropicMessage(json, Buffer.from(JSON.stringify(json)))
  }
  const chat = (mark: JsonObject): Message | null => {
    const json = { role: 'user', content: [text('passage', mark)] }
    return readMessage(json, Buffer.from(JSON.stringify(json)))
  }
  const item = (mark: JsonObject): Message | null => {
    const json = { role: 'user', content: [{ type: 'input_text', text: 'passage', ...mark }] }
    const body = Buffer.from(JSON.stringify({ input: [json] }))
    const read = readItems(scanned(body, 'input').fields[0]?.elements ?? [], body)
    return read.status === 'ok' ? (read.messages[0] ?? null) : null
  }
  const breakpoint = { prompt_cache_breakpoint: { mode: 'explicit' } }
  for (const [name, read, mark] of [
    ['Messages', anthropic, MARK],
    ['Chat', chat, breakpoint],
    ['Chat at a router', chat, MARK],
    ['Responses', item, breakpoint],
  ] as const) {
    const logged = Buffer.from(read(mark)?.withTexts(['stub'])?.bytes ?? []).toString()
    const [key = ''] = Object.keys(mark)
    assert.ok(logged.includes(key), name)
    const moved = Buffer.from(read({})?.reread(logged)?.bytes ?? []).toString()
    assert.ok(moved.includes('stub') && !moved.includes(key), `${name}: ${moved}`)
    const back = Buffer.from(read(mark)?.reread(moved)?.bytes ?? []).toString()
    assert.equal(back, logged, name)
  }
})
