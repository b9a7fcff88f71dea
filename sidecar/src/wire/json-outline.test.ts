import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import type { Json } from '../core/request.ts'
import { takesLessThan } from '../core/work.testing.ts'
import { JsonOutline } from './json-outline.ts'

const LONG = 'x'.repeat(300)

function outlineOf(text: string, ...cuts: readonly number[]): JsonOutline {
  const outline = new JsonOutline()
  const bytes = Buffer.from(text)
  let from = 0
  for (const cut of [...cuts, bytes.length]) {
    outline.push(Buffer.from(bytes.subarray(from, cut)))
    from = cut
  }
  return outline
}
const jsonOf = (bytes: Buffer | null): Json => (bytes === null ? null : (JSON.parse(bytes.toString()) as Json))

describe('the outline of a text', () => {
  test('has everything but long strings, wherever the text is cut', () => {
    const value = {
      data: [{ b64: LONG }, { b64: `${LONG}\\`, quoted: `"${LONG}"` }],
      'a "key"': '\\"',
      usage: { tokens: [1, 2.5, null, true] },
      [LONG]: '',
    }
    const short = { data: [{ b64: '' }, { b64: '', quoted: '' }], 'a "key"': '\\"', usage: { tokens: [1, 2.5, null, true] }, '': '' }
    const text = JSON.stringify(value, null, 1)
    for (let cut = 0; cut <= Buffer.byteLength(text); cut += 1)
      assert.deepEqual(jsonOf(outlineOf(text, cut).answer()), short, `cut at ${cut}`)
    for (let step = 1; step < 9; step += 1) {
      const cuts = Array.from({ length: Math.floor(text.length / step) }, (_, index) => index * step)
      assert.deepEqual(jsonOf(outlineOf(text, ...cuts).answer()), short, `in pieces of ${step}`)
    }
  })

  test('is the text with its long strings emptied, in whatever pieces it comes', () => {
    const texts = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 400 }),
      fc.string({ unit: fc.constantFrom('\\', '"', 'a'), maxLength: 400 }),
    )
    fc.assert(
      fc.property(fc.array(fc.oneof(texts, fc.jsonValue())), fc.array(fc.nat()), (list, cuts) => {
        const text = JSON.stringify({ list })
        const size = Buffer.byteLength(text)
        const sorted = cuts.map((cut) => cut % (size + 1)).toSorted((one, other) => one - other)
        assert.equal(
          outlineOf(text, ...sorted)
            .answer()
            ?.toString(),
          text.replace(/"(?:[^"\\]|\\.)*"/g, emptied),
        )
      }),
    )
  })

  test('of lines around JSON is lines', () => {
    const event = `event: image\ndata: {"b64":"${LONG}","n":1}\r\n\r\n`
    assert.equal(outlineOf(event, 40).lines()?.toString(), 'event: image\ndata: {"b64":"","n":1}\r\n\r\n')
    assert.equal(outlineOf(event).answer(), null, 'and no answer')
  })

  test('of a text that breaks off in a string, or that is no JSON, is none', () => {
    assert.equal(outlineOf(`{"a":"${LONG}`).answer(), null)
    assert.equal(outlineOf('ID3 sound "and" so on').answer(), null)
    assert.equal(outlineOf('').answer(), null)
  })
})

describe('of a text that is long without its strings', () => {
  const numbers = Array.from({ length: 60_000 }, (_, index) => index / 7)
  const usage = { prompt_tokens: 5, details: { said: 'a "b", {c', list: [{ d: '\\' }] } }

  test('the members at both ends are left', () => {
    const text = JSON.stringify({ object: 'list', model: 'm', data: [{ numbers }, { numbers }], usage, last: '}' }, null, 1)
    for (const cuts of [[], [100_000], [100, 140_000, text.length - 30], [text.length - 3]])
      assert.deepEqual(jsonOf(outlineOf(`${text}\n`, ...cuts).answer()), { object: 'list', model: 'm', usage, last: '}' })
    assert.deepEqual(jsonOf(outlineOf(JSON.stringify({ usage, data: numbers })).answer()), { usage })
    assert.deepEqual(jsonOf(outlineOf(JSON.stringify({ data: numbers, usage })).answer()), { usage })
  })

  test('what only looks like a member is none', () => {
    const inside = JSON.stringify({ data: [...numbers, { usage }], said: '"usage":{"prompt_tokens":9}', last: 1 })
    assert.deepEqual(jsonOf(outlineOf(inside).answer()), { said: '"usage":{"prompt_tokens":9}', last: 1 })
    // A string that is longer than the end that is kept.
    const hidden = JSON.stringify({ data: numbers, text: '",\\'.repeat(4_000), usage })
    assert.deepEqual(jsonOf(outlineOf(hidden).answer()), { usage })
  })

  test('of lists and of lines nothing is left, nor of what breaks off', () => {
    assert.equal(outlineOf(JSON.stringify(numbers)).answer(), null)
    assert.equal(outlineOf(`data: ${JSON.stringify({ numbers })}\n\n`).lines(), null)
    assert.deepEqual(jsonOf(outlineOf(JSON.stringify({ a: 1, numbers, usage }).slice(0, 300_000)).answer()), { a: 1 })
  })

  test('texts of nothing but short strings take no longer than others', () => {
    const nasty = Buffer.from(`{"a":[${'"\\"",'.repeat(3_000_000)}"b"],"usage":{"n":1}}`)
    takesLessThan(1_000, () => {
      const outline = new JsonOutline()
      for (let at = 0; at < nasty.length; at += 65_536) outline.push(nasty.subarray(at, at + 65_536))
      assert.deepEqual(jsonOf(outline.answer()), { usage: { n: 1 } })
    })
  })
})

function emptied(text: string): string {
  return Buffer.byteLength(text) > 256 ? '""' : text
}
