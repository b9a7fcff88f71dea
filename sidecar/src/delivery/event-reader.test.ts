import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { EventReader } from './event-reader.ts'

test('events are read the same wherever the stream is cut', () => {
  const event = fc.record(
    { name: fc.constantFrom('config', 'beat', 'trust'), data: fc.string({ unit: 'grapheme' }).map((text) => JSON.stringify({ text })) },
    { noNullPrototype: true },
  )
  fc.assert(
    fc.property(fc.array(event), fc.array(fc.nat(40)), (events, cuts) => {
      const bytes = Buffer.from(events.map(({ name, data }) => `event: ${name}\ndata: ${data}\n\n`).join(': a comment\n\n'))
      const reader = new EventReader(1_000_000)
      const read = []
      let at = 0
      for (const cut of [...cuts, bytes.length]) {
        read.push(...reader.push(bytes.subarray(at, at + cut)))
        at += cut
      }
      read.push(...reader.push(bytes.subarray(at)))
      assert.deepEqual(read, events)
    }),
  )
})

test('several lines of data are one text, and what has no name or no data is no event', () => {
  const reader = new EventReader(1_000)
  const text = 'event: config\ndata: {\ndata: }\n\ndata: nameless\n\nevent: empty\n\n: beat\n\nevent:beat\r\ndata:{}\r\n\r\n'
  assert.deepEqual(reader.push(Buffer.from(text)), [
    { name: 'config', data: '{\n}' },
    { name: 'beat', data: '{}' },
  ])
})

test('an event that never ends is not kept', () => {
  const reader = new EventReader(1_000)
  assert.throws(() => {
    for (let index = 0; index < 20; index++) reader.push(Buffer.from('data: '.padEnd(100, 'x')))
  }, RangeError)
})
