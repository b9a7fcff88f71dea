import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RecordedCall } from './records.ts'
import { parseRecords } from './records.ts'
import { reactTo, scriptOf } from './turns.ts'
import type { Step } from './turns.ts'

const call = (id: string, name: string, args: string): RecordedCall => ({ id, type: 'function', function: { name, arguments: args } })
const RECORDED = call('call_1', 'find', '{"a":1,"b":2}')
const STEP: Step = { content: null, calls: [RECORDED], results: new Map([['call_1', 'found']]) }

test('a recording becomes user turns, each with the steps until its answer', () => {
  const script = scriptOf({
    messages: [
      { role: 'system', content: 'rules' },
      { role: 'user', content: 'q1' },
      { role: 'assistant', content: null, calls: [RECORDED] },
      { role: 'tool', callId: 'call_1', content: 'found' },
      { role: 'assistant', content: 'a1', calls: [] },
      { role: 'user', content: 'never answered' },
    ],
  })
  assert.deepEqual(script.system, ['rules'])
  assert.equal(script.calls, 2)
  assert.deepEqual(
    script.turns.map(({ user, steps }) => [user, steps.length]),
    [['q1', 2]],
  )
  assert.equal(script.turns[0]?.steps[0]?.results.get('call_1'), 'found')
})

test('of questions that nobody answered each is asked once', () => {
  const script = scriptOf({
    messages: [
      { role: 'system', content: 'rules' },
      { role: 'user', content: 'q1' },
      { role: 'user', content: 'q2' },
    ],
  })
  assert.deepEqual([script.system, script.turns.map(({ user }) => user), script.calls], [['rules'], ['q1', 'q2'], 2])
  const [step = assert.fail()] = script.turns[0]?.steps ?? []
  const spoken = reactTo({ content: 'hello', calls: [], truncated: false }, step)
  assert.deepEqual(spoken, { messages: [{ role: 'assistant', content: 'hello' }], next: 'answered' })
  assert.equal(reactTo({ content: null, calls: [RECORDED], truncated: false }, step).next, 'stopped')
})

test('a recorded call gets its recorded result under the id that was received, however its arguments are spelled', () => {
  const reaction = reactTo({ content: null, calls: [call('call_x', 'find', '{ "b": 2, "a": 1 }')], truncated: false }, STEP)
  assert.equal(reaction.next, 'loop')
  assert.deepEqual(reaction.messages[1], { role: 'tool', tool_call_id: 'call_x', content: 'found' })
})

test('a call that nobody recorded is answered too, and ends the loop', () => {
  const reaction = reactTo({ content: null, calls: [RECORDED, call('call_2', 'other', '{}')], truncated: false }, STEP)
  assert.equal(reaction.next, 'stopped')
  assert.deepEqual(
    reaction.messages.map((message) => message.role),
    ['assistant', 'tool', 'tool'],
  )
})

test('a cut answer keeps its words and none of its calls', () => {
  const reaction = reactTo({ content: 'I will', calls: [RECORDED], truncated: true }, STEP)
  assert.deepEqual(reaction, { messages: [{ role: 'assistant', content: 'I will' }], next: 'stopped' })
})

test('a bad record is told by file, line and field', () => {
  const parse = (text: string) => parseRecords(text, { shape: 'tools', name: 'talks.ndjson' })
  const good = '{"id":"a","messages":[{"role":"user","content":"hi"}]}'
  assert.throws(() => parse('nonsense'), /talks\.ndjson:1: must be one JSON object a line/)
  assert.throws(() => parse(`${good}\n${good}`), /talks\.ndjson:2: id: "a" must be there once/)
  assert.throws(() => parse('{"id":"a","messages":[{"role":"user"}]}'), /talks\.ndjson:1: messages\.0\.content: /)
  assert.throws(
    () => parse('{"id":"a","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}'),
    /talks\.ndjson:1: messages\.0\.content: must be a text, or a list of parts whose type is text$/,
  )
  assert.throws(
    () => parse('{"id":"a","messages":[{"role":"system","content":"rules"}]}'),
    /talks\.ndjson:1: messages: must hold a question of the user, or an answer of the assistant$/,
  )
  assert.throws(() => parse('\n'), /must hold at least one conversation/)
})
