import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { DEPTH_MAX, ELEMENTS_MAX, elementRanges, FIELDS_MAX, memberRanges, scanObject, VALUES_MAX, VALUES_TOTAL_MAX } from './json-scan.ts'
import { stringEnd } from './json-text.ts'
import { objectTexts, scan, scanned, valueTexts } from './bodies.testing.ts'

/** Whether a plain parser takes the text for an object in which no key is given twice. */
function isTaken(text: string): boolean {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return false
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  let written = 0
  for (const [, colon] of text.matchAll(/"(?:[^"\\]|\\.)*"\s*(:?)/g)) if (colon === ':') written += 1
  return written === keysIn(value)
}

function keysIn(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  const inside = Object.values(value).reduce<number>((sum, member) => sum + keysIn(member), 0)
  return inside + (Array.isArray(value) ? 0 : Object.keys(value).length)
}

const NASTY = [
  '',
  ',',
  ':',
  '"',
  '\\',
  '{',
  '}',
  '[',
  ']',
  ' ',
  '1',
  '-',
  'e',
  '\u0000',
  '\u00a0',
  '\ufeff',
  '\u2028',
  'null',
  '"a":1,',
  '//',
]

/** JSON.parse, to which the text is put as well, may take keys of later texts for such a one (nodejs/node#63785). */
const BACKSLASH_KEY = /"(?:[^"\\]|\\.)*\\\\(?:[^"\\]|\\.)*"\s*:/

/** Valid text with a piece of it replaced. */
const damagedTexts = fc
  .tuple(objectTexts(), fc.nat(), fc.integer({ min: 0, max: 3 }), fc.constantFrom(...NASTY))
  .map(([text, at, length, piece]) => {
    const start = at % (text.length + 1)
    return (text.slice(0, start) + piece + text.slice(start + length)).toWellFormed()
  })
  .filter((text) => !BACKSLASH_KEY.test(text))

describe('which bodies pass', () => {
  test('exactly those that JSON.parse takes for an object, and that give no key twice', () => {
    fc.assert(
      fc.property(fc.oneof(objectTexts(), damagedTexts, valueTexts()), (text) => {
        assert.equal(scan(text, 'messages', 'a').status === 'ok', isTaken(text), text)
      }),
      { numRuns: 3_000 },
    )
  })

  test('no valid body is refused', () => {
    fc.assert(fc.property(objectTexts(), (text) => assert.equal(scan(text, 'messages', 'a').status, 'ok')))
  })

  for (const [name, text] of Object.entries({
    'a comma too many': '{"a":1,}',
    'a comma too many in a list': '{"messages":[1,]}',
    'no comma': '{"a":1 "b":2}',
    'no colon': '{"a" 1}',
    'a colon for a comma': '{"a":1:"b":2}',
    'a colon for a comma in a list': '{"messages":[1:2]}',
    'a space that only looks like one': '{"a":1\v}',
    'such a space in front': '{\f"a":1}',
    'no value': '{"a":}',
    'a bare name': '{a:1}',
    'the wrong bracket': '{"messages":[1}',
    'the wrong bracket inside': '{"a":[1}]}',
    'an open string': '{"a":"b}',
    'an open key': '{"a',
    'an escape at the end': '{"a":"\\',
    'a line feed in a string': '{"a":"\n"}',
    'a line feed in a key': '{"\n":1}',
    'something after the end': '{"a":1}x',
    'a second object': '{}{}',
    'a byte order mark': '\ufeff{}',
    'a leading zero': '{"a":01}',
    'a comment': '{/**/"a":1}',
    nothing: '',
  })) {
    test(`not ${name}`, () => {
      const result = scan(text, 'messages')
      assert.equal(result.status, 'invalid')
      assert.match(
        result.status === 'invalid' ? result.message : '',
        /^the body must be (valid JSON; it is not at byte \d+|a JSON object)$/,
      )
    })
  }

  test('not what is not UTF-8', () => {
    const body = Buffer.from('{"a":"\u00e9"}', 'latin1')
    assert.deepEqual(scan(body), { status: 'invalid', field: null, message: 'the body must be UTF-8' })
  })

  test('a key given twice is named, however it is written and wherever it stands', () => {
    const field = (text: string): unknown => {
      const result = scan(text, 'messages', 'tools')
      return result.status === 'invalid' ? [result.field, result.message] : null
    }
    assert.deepEqual(field('{"model":"a","\\u006dodel":"b"}'), ['model', 'the field "model" must be given once'])
    assert.deepEqual(field('{"a":[{"b":{"c":1,"c":2}}]}'), ['a', '"a" must not give a key twice'])
    assert.deepEqual(field('{"messages":[1,{"role":"user","r\\u006fle":"tool"}]}'), [
      'messages[1]',
      '"messages[1]" must not give a key twice',
    ])
    assert.deepEqual(field('{"__proto__":{"__proto__":1}}'), null)
  })
})

describe('where things stand', () => {
  test('ranges are those of the values, and between them are only separators', () => {
    fc.assert(
      fc.property(objectTexts(), (text) => {
        const bytes = Buffer.from(text)
        const parsed: Record<string, unknown> = JSON.parse(text)
        const { fields, bodyStart } = scanned(bytes, 'messages', 'a')
        assert.deepEqual(new Set(fields.map(({ name }) => name)), new Set(Object.keys(parsed)))
        let at = bodyStart
        assert.match(bytes.toString('utf8', 0, bodyStart), /^\s*\{$/)
        for (const [index, { name, keyStart, start, end, json, elements }] of fields.entries()) {
          assert.match(bytes.toString('utf8', at, keyStart), index === 0 ? /^\s*$/ : /^\s*,\s*$/)
          const [key, between] = splitKey(bytes.toString('utf8', keyStart, start))
          assert.equal(JSON.parse(key), name)
          assert.match(between, /^\s*:\s*$/)
          const value: unknown = JSON.parse(bytes.toString('utf8', start, end))
          assert.deepEqual(value, Object.entries(parsed).find(([known]) => known === name)?.[1])
          assert.equal(bytes.toString('utf8', start, end).trim().length, bytes.toString('utf8', start, end).length)
          if (elements === null) assert.deepEqual(json, value)
          else {
            assert.deepEqual([json, elements.map((element) => element.json)], [undefined, value])
            for (const element of elements) assert.deepEqual(JSON.parse(bytes.toString('utf8', element.start, element.end)), element.json)
          }
          assert.equal(elements !== null, (name === 'messages' || name === 'a') && Array.isArray(value))
          at = end
        }
        assert.match(bytes.toString('utf8', at), /^\s*\}\s*$/)
      }),
      { numRuns: 500 },
    )
  })

  test('members and elements of valid JSON are found by the same rules', () => {
    fc.assert(
      fc.property(objectTexts(), fc.array(valueTexts()), (text, values) => {
        const bytes = Buffer.from(text)
        const members = memberRanges(bytes, { start: bytes.indexOf('{'), end: bytes.length })
        const { fields } = scanned(bytes)
        assert.deepEqual(
          [...members],
          fields.map(({ name, start, end }) => [name, { start, end }]),
        )
        const list = Buffer.from(`x [ ${values.join(' ,\n')} ] x`)
        const ranges = elementRanges(list, { start: 2, end: list.length - 2 })
        assert.deepEqual(
          ranges.map(({ start, end }) => list.toString('utf8', start, end)),
          values.map((value) => value.trim()),
        )
      }),
    )
  })

  test('a member behind a value beyond the limits of a request is found all the same', () => {
    const wide = JSON.stringify(Array.from({ length: VALUES_MAX * 2 }, () => 0))
    const deep = `${'['.repeat(DEPTH_MAX * 2)}${']'.repeat(DEPTH_MAX * 2)}`
    for (const value of [wide, deep]) {
      const bytes = Buffer.from(`{"a":${value},"b":1}`)
      const { start, end } = memberRanges(bytes, { start: 0, end: bytes.length }).get('b') ?? { start: 0, end: 0 }
      assert.equal(bytes.toString('utf8', start, end), '1')
      const list = Buffer.from(`[${value},1]`)
      assert.equal(elementRanges(list, { start: 0, end: list.length }).length, 2)
    }
  })

  test('a string ends at its first quote that is not escaped', () => {
    const inside = fc.array(fc.constantFrom('\\"', '\\\\', 'x', 'x'.repeat(50), 'é')).map((parts) => parts.join(''))
    fc.assert(
      fc.property(inside, (text) => {
        assert.equal(stringEnd(Buffer.from(`"${text}"x"`), 1), Buffer.byteLength(text) + 2)
        assert.equal(stringEnd(Buffer.from(`"${text}`), 1), -1)
      }),
    )
  })
})

describe('a key is read as it is written, whatever keys were read before', () => {
  const nameAfter = (before: string, text: string): unknown => {
    scan(`{"messages":[${before}]}`, 'messages')
    const [field] = scanned(`{"messages":[${text}]}`, 'messages').fields
    return field?.elements?.[0]?.json
  }

  test('also where V8 would take it for one of them', () => {
    const before = '{"role":"user","content":"x","\\\\u00":1}'
    assert.deepEqual(nameAfter(before, '{"role":"user","content":"x","\\u006eame":1}'), { role: 'user', content: 'x', name: 1 })
    assert.deepEqual(nameAfter('{"a":{"h":[],"\\\\":0}}', '{"a":{"h":[], "\\"" : [ 1.5, "\\n" ] } }'), { a: { h: [], '"': [1.5, '\n'] } })
    const twice = scan('{"messages":[{"role":"user","content":"x","\\u006eame":1,"name":2}]}', 'messages')
    assert.equal(twice.status === 'invalid' ? twice.message : '', '"messages[0]" must not give a key twice')
  })

  test('with any escapes, at any depth', () => {
    const key = fc.string({ unit: fc.constantFrom('\\', '"', '\n', 'u', '0', 'n', 'é'), minLength: 1, maxLength: 4 })
    const entries = fc.uniqueArray(fc.tuple(key, fc.boolean()), { selector: ([name]) => name, maxLength: 4 })
    fc.assert(
      fc.property(fc.array(entries, { minLength: 1, maxLength: 3 }), (levels) => {
        let text = '[ null ]'
        const names: string[][] = []
        for (const level of levels) {
          const written = level.map(([name, escaped]) => `${escaped ? escapedText(name) : JSON.stringify(name)} : 1 ,`)
          text = `{ ${written.join('')}"" : ${text} }`
          names.unshift([...level.map(([name]) => name), ''])
        }
        let at = nameAfter('{}', text)
        for (const expected of names) {
          assert.ok(typeof at === 'object' && at !== null)
          assert.deepEqual(new Set(Object.keys(at)), new Set(expected))
          at = Object.entries(at).find(([name]) => name === '')?.[1]
        }
        assert.deepEqual(at, [null])
      }),
      { numRuns: 1_000 },
    )
  })
})

describe('limits, at their bound and one beyond', () => {
  const nested = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`
  const zeros = (count: number): string => `[${'0,'.repeat(count - 1)}0]`
  const cases: Record<string, (over: number) => [text: string, field: string | null, message: string]> = {
    'nesting of a field': (over) => [`{"a":${nested(DEPTH_MAX + over)}}`, 'a', `"a" must not be nested deeper than ${DEPTH_MAX}`],
    'nesting of an element': (over) => [
      `{"messages":[{},${nested(DEPTH_MAX + over)}]}`,
      'messages[1]',
      `"messages[1]" must not be nested deeper than ${DEPTH_MAX}`,
    ],
    'values in a field': (over) => [`{"a":${zeros(VALUES_MAX + over)}}`, 'a', `"a" must not hold more than ${VALUES_MAX} values`],
    'values in an element': (over) => [
      `{"messages":[${zeros(VALUES_MAX + over)}]}`,
      'messages[0]',
      `"messages[0]" must not hold more than ${VALUES_MAX} values`,
    ],
    'values of the whole body': (over) => {
      const element = zeros(9_999) // and the element itself
      return [
        `{"messages":[${Array.from({ length: 25 }, () => element).join(',')}],"a":${over === 0 ? '0' : '[0]'}}`,
        null,
        `the body must not hold more than ${VALUES_TOTAL_MAX} values`,
      ]
    },
    elements: (over) => [`{"messages":${zeros(ELEMENTS_MAX + over)}}`, 'messages', `"messages" must have at most ${ELEMENTS_MAX} elements`],
    fields: (over) => [
      `{${Array.from({ length: FIELDS_MAX + over }, (_, index) => `"${index}":0`).join(',')}}`,
      null,
      `the body must have at most ${FIELDS_MAX} fields`,
    ],
  }
  for (const [name, make] of Object.entries(cases)) {
    test(name, () => {
      assert.equal(scan(make(0)[0], 'messages').status, 'ok')
      const [text, field, message] = make(1)
      assert.deepEqual(scan(text, 'messages'), { status: 'invalid', field, message })
    })
  }

  test('a long name is shown in part', () => {
    const result = scan(`{"${'n'.repeat(1_000)}":${nested(DEPTH_MAX + 1)}}`)
    assert.equal(result.status === 'invalid' ? result.field : '', `${'n'.repeat(64)}...`)
  })
})

test('work is given up between slices, in proportion to it', () => {
  const steps = (text: string): number => {
    let count = 0
    for (const _ of scanObject(Buffer.from(text), new Set(['messages']))) count += 1
    return count
  }
  const messages = (count: number): string => `{"messages":[${'{"role":"user"},'.repeat(count - 1)}{"role":"user"}]}`
  assert.equal(steps(messages(10)), 0)
  assert.ok(steps(messages(10_000)) >= 10)
  assert.ok(steps(`{"a":[${' '.repeat(4 << 20)}]}`) >= 3)
  assert.ok(steps(`{"messages":[[${' '.repeat(4 << 20)}]]}`) >= 3)
})

function escapedText(text: string): string {
  return `"${Array.from({ length: text.length }, (_, index) => `\\u${text.charCodeAt(index).toString(16).padStart(4, '0')}`).join('')}"`
}

function splitKey(text: string): [string, string] {
  const end = stringEnd(Buffer.from(text), 1)
  const bytes = Buffer.from(text)
  return [bytes.toString('utf8', 0, end), bytes.toString('utf8', end)]
}
