import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Json } from '../core/request.ts'
import { objectTexts } from './bodies.testing.ts'
import { TopMembers } from './top-members.ts'

test('finds each member where JSON.parse would', () => {
  const members = new TopMembers()
  fc.assert(
    fc.property(objectTexts(), fc.string({ maxLength: 4 }), (text, before) => {
      const bytes = Buffer.from(`${before}${text}`)
      const start = Buffer.byteLength(before)
      assert.ok(members.read(bytes, start, bytes.length), text)
      const json = JSON.parse(text) as Record<string, Json>
      for (const name of ['a', 'b', 'model', 'messages', '1']) {
        const range = members.find(name)
        // A key may be written with escapes: then it is not found, which is what the reader of a stream can live with.
        if (range === null) continue
        assert.deepEqual(JSON.parse(bytes.toString('utf8', range.start, range.end)), json[name])
      }
    }),
  )
})

test('gives plain strings, and nothing for what is none', () => {
  const members = new TopMembers()
  const bytes = Buffer.from('{"type":"response.completed","sequence_number":12,"response":{"type":"x"},"delta":"a\\"b"}')
  assert.ok(members.read(bytes, 0, bytes.length))
  assert.equal(members.text('type'), 'response.completed')
  assert.equal(members.text('sequence_number'), null)
  assert.equal(members.text('absent'), null)
  assert.deepEqual(members.find('delta'), { start: bytes.length - 7, end: bytes.length - 1 })
})

test('is not taken in by what is no object', () => {
  const members = new TopMembers()
  for (const text of ['', '[]', '{', '{"a"}', '{"a":1', '{"a":1,}', '{"a":1}x', '{"a":"b}', '"a"', '{"a":[1}', 'null']) {
    const bytes = Buffer.from(text)
    assert.equal(members.read(bytes, 0, bytes.length), false, text)
  }
  const bytes = Buffer.from('{}')
  assert.ok(members.read(bytes, 0, 2))
  assert.equal(members.find('a'), null)
})
