import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  askedIn,
  begunAnswer,
  bytesOf,
  contentText,
  isInstruction,
  lastSpeaker,
  leadingCount,
  ownMessage,
  parseObject,
  readOwn,
  turnStarts,
} from './message.ts'
import type { JsonObject } from './request.ts'
import { assistant, call, chatRequest, conversations, message, result, system, user } from './requests.testing.ts'

const image = { type: 'image_url', image_url: { url: 'https://example.com/a.png' } }

test('a message of ours survives the log, and nothing else is read as one', () => {
  assert.deepEqual(readOwn(JSON.stringify(ownMessage('user', 'Grüße "alle" 👋'))), { role: 'user', text: 'Grüße "alle" 👋' })
  for (const other of ['', 'null', '[]', '"user"', '{"role":"narrator","content":"x"}', '{"content":"x"}', '{"role":"user"}', '{'])
    assert.equal(readOwn(other), null)
})

test('only an object is read as an object', () => {
  assert.deepEqual(parseObject('{"a":1}'), { a: 1 })
  for (const text of ['[1]', 'null', '1', '{a:1}', '']) assert.equal(parseObject(text), null)
})

test('the text of a message is its texts, one a line, without refusals', () => {
  const textOf = (json: JsonObject): string => contentText(message(json))
  assert.equal(textOf(user('plain')), 'plain')
  assert.equal(textOf(user([{ type: 'text', text: 'one' }, image, { type: 'text', text: 'two' }])), 'one\ntwo')
  assert.equal(textOf({ ...assistant('so'), refusal: 'no' }), 'so')
  assert.equal(textOf(call({ id: 'a', name: 'f' })), '')
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

test('pictures and files without a word, right after a tool’s result, are of its loop; what has words, or follows something else, is a question', () => {
  const loop = [user('q'), call({ id: 'a', name: 'f' }), result('a', 'taken')]
  const shown = { role: 'user', content: [image] }
  const blank = { role: 'user', content: [{ type: 'text', text: ' ' }, image] }
  const told = { role: 'user', content: [{ type: 'text', text: 'And this?' }, image] }
  const rows: [messages: JsonObject[], starts: number[], speaker: string | null][] = [
    [[...loop, shown], [0], 'tool'],
    [[...loop, system('now'), blank, shown], [0], 'tool'],
    [[...loop, shown, call({ id: 'b', name: 'f' }), result('b', 'taken'), shown, system('now')], [0], 'tool'],
    [[...loop, shown, told], [0, 4], 'user'],
    [[...loop, told, shown], [0, 3], 'user'],
    [[...loop, user('stop')], [0, 3], 'user'],
    [[...loop, assistant('x'), shown], [0, 4], 'user'],
    [[shown], [0], 'user'],
    [[system('s')], [], null],
  ]
  for (const [history, starts, speaker] of rows) {
    const { messages } = chatRequest(history)
    assert.deepEqual([turnStarts(messages), lastSpeaker(messages)], [starts, speaker], JSON.stringify(history))
  }
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

test('an answer that the app has begun stands last, instructions aside; what is asked stands before it', () => {
  const asked = [system('Be brief.'), user('q')]
  const begunIn = (messages: readonly JsonObject[]): readonly [string | null, number] => {
    const { messages: list } = chatRequest(messages)
    const begun = begunAnswer(list)
    return [begun === null ? null : contentText(begun), askedIn(list).length]
  }
  assert.deepEqual(begunIn([...asked, assistant('{')]), ['{', 2])
  assert.deepEqual(begunIn([...asked, assistant('{'), system('It is noon.')]), ['{', 2])
  assert.deepEqual(begunIn(asked), [null, 2])
  assert.deepEqual(begunIn([...asked, assistant('a'), user('q')]), [null, 4])
  assert.deepEqual(begunIn([...asked, call({ id: 'a', name: 'f' })]), [null, 3], 'a call awaits its result')
  const { messages } = chatRequest(asked)
  assert.equal(askedIn(messages), messages)
  const begun = chatRequest([...asked, assistant('{')]).messages
  assert.equal(askedIn(begun), askedIn(begun), 'one list, by which its digest is known')
})
