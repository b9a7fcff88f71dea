import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  bytesOf,
  contentText,
  isInstruction,
  leadingCount,
  mapText,
  ownMessage,
  parseObject,
  plainMessage,
  turnStarts,
  withJson,
} from './message.ts'
import { assistant, call, chatRequest, conversations, message, result, system, user } from './testing.ts'

const image = { type: 'image_url', image_url: { url: 'https://example.com/a.png' } }

test('a message of ours survives its JSON, and only a message is read as one', () => {
  const own = ownMessage('user', 'Grüße "alle" 👋')
  const text = JSON.stringify(own)
  const read = plainMessage(text)
  assert.deepEqual(read?.json, own)
  assert.equal(Buffer.from(read?.bytes ?? []).toString('utf8'), text)
  assert.deepEqual([read?.toolCalls, read?.answers, read?.images], [[], null, []])
  for (const other of ['', 'null', '[]', '"user"', '{"role":"narrator"}', '{"content":"x"}', '{']) assert.equal(plainMessage(other), null)
})

test('only an object is read as an object', () => {
  assert.deepEqual(parseObject('{"a":1}'), { a: 1 })
  for (const text of ['[1]', 'null', '1', '{a:1}', '']) assert.equal(parseObject(text), null)
})

test('a message with another content keeps its calls and media, and its bytes are that content', () => {
  const original = message(call({ id: 'a', name: 'f' }))
  const changed = withJson(original, { ...original.json, content: 'é' })
  assert.deepEqual(changed.toolCalls, original.toolCalls)
  assert.deepEqual(JSON.parse(Buffer.from(changed.bytes).toString('utf8')), changed.json)
})

test('the text of a content is the string, or its text parts', () => {
  assert.equal(contentText(user('plain')), 'plain')
  assert.equal(contentText(user([{ type: 'text', text: 'one' }, image, { type: 'text', text: 'two' }])), 'one\ntwo')
  assert.equal(contentText(user([{ type: 'refusal', text: 'no' }])), '')
  assert.equal(contentText(call({ id: 'a', name: 'f' })), '')
})

test('changing text touches nothing else, and leaves what does not change as it was', () => {
  const shout = (text: string): string => text.toUpperCase()
  assert.equal(mapText('a', shout), 'A')
  const parts = [{ type: 'text', text: 'a', name: 'x' }, image, { type: 'text', text: 'B' }]
  const changed = mapText(parts, shout)
  assert.deepEqual(changed, [{ type: 'text', text: 'A', name: 'x' }, image, { type: 'text', text: 'B' }])
  assert.ok(Array.isArray(changed) && changed[1] === parts[1] && changed[2] === parts[2])
  assert.equal(mapText(null, shout), null)
  assert.equal(mapText(undefined, shout), undefined)
})

test('instructions lead a history until somebody speaks', () => {
  const developer = { role: 'developer', content: 'd' }
  assert.equal(leadingCount(chatRequest([system('s'), developer, user('q'), system('t')]).messages), 2)
  assert.equal(leadingCount(chatRequest([user('q')]).messages), 0)
  assert.equal(leadingCount(chatRequest([system('s')]).messages), 1)
  assert.equal(isInstruction(message(developer)), true)
  assert.equal(isInstruction(message(user('q'))), false)
})

test('a turn begins where a user speaks after somebody else; instructions between do not count', () => {
  const history = [
    system('s'),
    user('q'),
    user('more'),
    call({ id: 'a', name: 'f' }),
    result('a', 'r'),
    assistant('x'),
    system('t'),
    user('q2'),
  ]
  assert.deepEqual(turnStarts(chatRequest(history).messages), [1, 7])
  assert.deepEqual(turnStarts(chatRequest([user('q'), system('now'), user('more')]).messages), [0])
  assert.deepEqual(turnStarts(chatRequest([assistant('hi')]).messages), [])
})

test('turns cover a history: each begins with a user, and none begins inside a tool loop', () => {
  fc.assert(
    fc.property(conversations(), (messages) => {
      const list = chatRequest(messages).messages
      const starts = turnStarts(list)
      assert.equal(starts.length, messages.filter(({ role }) => role === 'user').length)
      for (const start of starts) assert.equal(list[start]?.role, 'user')
      assert.equal(
        bytesOf(list),
        messages.reduce((sum, json) => sum + Buffer.byteLength(JSON.stringify(json)), 0),
      )
    }),
    { numRuns: 50 },
  )
})
