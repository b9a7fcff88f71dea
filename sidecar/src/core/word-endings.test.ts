import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WordEndings } from './word-endings.ts'

const ENDINGS = new WordEndings(['start a new conversation.', 'ends "here"', '続けます。'])
const areIn = (json: unknown, endings = ENDINGS): boolean | null => endings.areIn(Buffer.from(JSON.stringify(json)))

test('a string ends so, wherever it stands, with whatever whitespace behind it', () => {
  for (const text of ['Start a conversation.', 'it ends "here"', 'では続けます。', 'a conversation. \n\t\r\n'])
    for (const json of [{ role: 'assistant', content: text }, { content: text, name: 'x' }, { parts: [{ text }, { text: 'Well.' }] }])
      assert.equal(areIn(json), true, JSON.stringify(json))
  assert.equal(ENDINGS.areIn(Buffer.from('{"content":"\\u7d9a\\u3051\\u307e\\u3059\\u3002"}')), true)
})

test('none does', () => {
  for (const text of ['', 'A conversation', 'A conversation. Well.', 'on.', '"here" it ends', '。'])
    assert.equal(areIn({ content: text }), false, text)
  assert.equal(ENDINGS.areIn(Buffer.from('on."')), false)
})

test('it is not told where words may end in anything, nor among very many strings', () => {
  for (const open of ['', 'at https://example.com/']) assert.equal(areIn({ content: 'x' }, new WordEndings(['a b', open])), null)
  assert.equal(areIn(Array.from({ length: 100 }, () => 'x')), null)
})
