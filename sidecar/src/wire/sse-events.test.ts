import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { dataOf, EventBoundaries, withData } from './sse-events.ts'

/** Lines of one event, and what the specification says its data is; null without data. */
const LINES: readonly [lines: readonly string[], data: string | null][] = [
  [['data: a'], 'a'],
  [['data:a'], 'a'],
  [['data:  a '], ' a '],
  [['data:'], ''],
  [['data: '], ''],
  [['data'], ''],
  [['data: a', 'data: b'], 'a\nb'],
  [['data: a', 'data', 'data:b'], 'a\n\nb'],
  [[': keepalive'], null],
  [['id: 1'], null],
  [['datum: x'], null],
  [['database'], null],
  [[' data: x'], null],
  [['event: message', 'data: a', 'id: 2'], 'a'],
  [[': comment', 'data: a: b'], 'a: b'],
  [['event: ping', 'retry: 5'], null],
]
const events = fc.record({ of: fc.constantFrom(...LINES), end: fc.constantFrom('\n', '\r\n') })
const textOf = ({ of: [lines], end }: { of: readonly [readonly string[], unknown]; end: string }): string => [...lines, '', ''].join(end)

/** Places after each event, for pieces that end at `cuts`. */
function boundaries(text: string, cuts: readonly number[]): number[] {
  const bytes = Buffer.from(text)
  const finder = new EventBoundaries()
  const found: number[] = []
  let start = 0
  for (const end of [...new Set([...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort((one, other) => one - other)) {
    const piece = bytes.subarray(start, end)
    for (let at = finder.next(piece, 0); at >= 0; at = finder.next(piece, at)) found.push(start + at)
    start = end
  }
  return found
}

test('events end after their empty line, wherever the stream is cut', () => {
  fc.assert(
    fc.property(fc.array(events), fc.array(fc.nat()), fc.constantFrom('', 'data: open', 'data: open\r\n', '\r'), (list, cuts, rest) => {
      const texts = list.map(textOf)
      const ends: number[] = []
      for (const text of texts) ends.push((ends.at(-1) ?? 0) + text.length)
      const stream = texts.join('') + rest
      assert.deepEqual(boundaries(stream, cuts), ends)
      assert.deepEqual(
        boundaries(
          stream,
          Array.from({ length: stream.length }, (_, index) => index),
        ),
        ends,
      )
    }),
    { numRuns: 300 },
  )
})

test('an empty line more is an event of its own, which says nothing', () => {
  assert.deepEqual(boundaries('\n\r\ndata: a\n\n\n', []), [1, 3, 12, 13])
  assert.equal(dataOf(Buffer.from('\n'), 0, 1), null)
  assert.equal(dataOf(Buffer.from('\r\n'), 0, 2), null)
})

describe('the data of an event', () => {
  for (const [lines, expected] of LINES) {
    for (const end of ['\n', '\r\n']) {
      test(JSON.stringify(lines.join(end)), () => {
        // Among others, so that nothing is read beyond the event's own end.
        const text = [...lines, '', ''].join(end)
        const bytes = Buffer.from(`data: before\n\n${text}data: after\n\n`)
        const start = 'data: before\n\n'.length
        const data = dataOf(bytes, start, start + text.length)
        assert.equal(data === null ? null : data.bytes.toString('utf8', data.start, data.end), expected)
        assert.equal(data?.isPlain ?? true, lines.length === 1 || expected === null)
      })
    }
  }

  test('is read without an empty line, and without any line end, at the end of a stream', () => {
    for (const text of ['data: a', 'data: a\n', 'data: a\r\n', 'id: 1\ndata: a', 'data: a\r']) {
      const bytes = Buffer.from(text)
      const data = dataOf(bytes, 0, bytes.length)
      assert.equal(data?.bytes.toString('utf8', data.start, data.end), 'a')
    }
  })
})

test('other data takes the place of the old, and all other lines stay', () => {
  const replaced = (text: string, data: string): string => withData(Buffer.from(text), 0, text.length, Buffer.from(data)).toString('utf8')
  assert.equal(replaced('id: 1\ndata: a\ndata: b\n: c\n\n', 'x'), 'id: 1\n: c\ndata: x\n\n')
  assert.equal(replaced('id: 1\r\ndata: a\r\n\r\n', 'x\ny'), 'id: 1\r\ndata: x\ndata: y\n\n')
  fc.assert(
    fc.property(events, fc.array(fc.constantFrom('a', ' b', '', 'data: c')), (event, parts) => {
      const text = textOf(event)
      const changed = withData(Buffer.from(text), 0, text.length, Buffer.from(parts.join('\n')))
      const data = dataOf(changed, 0, changed.length)
      assert.equal(data?.bytes.toString('utf8', data.start, data.end), parts.join('\n'))
      assert.deepEqual(boundaries(changed.toString('utf8'), []), [changed.length])
      for (const line of event.of[0]) if (!/^data(:|$)/.test(line)) assert.ok(changed.includes(line))
    }),
  )
})
