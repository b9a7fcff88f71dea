import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readDocuments, trapsOf } from './yaml-traps.ts'

/** What `kubectl annotate --local -o json` of Kubernetes 1.32 makes of each. */
const KUBECTL: readonly (readonly [text: string, read: unknown])[] = [
  ['on', true],
  ['y', true],
  ['NO', false],
  ['tRUE', 'tRUE'],
  ['Null', null],
  ['"yes"', 'yes'],
  ['017', 15],
  ['-017', -15],
  ['08', 8],
  ['+5', 5],
  ['0o17', 15],
  ['0b11', 3],
  ['0b1_1', 3],
  ['0x1F', 31],
  ['1_000', 1000],
  ['1__0', 10],
  ['1_0.5', 10.5],
  ['1.', 1],
  ['.5', 0.5],
  ['6e0', 6],
  ['1.0e+3', 1000],
  ['12:30:45', '12:30:45'],
  ['09:30', '09:30'],
  ['2026-01-01', '2026-01-01'],
]

test('values are read as kubectl reads them', () => {
  for (const [text, read] of KUBECTL) assert.deepEqual(readDocuments(`a: ${text}`)[0]?.kubectl, { a: read }, text)
  assert.deepEqual(readDocuments('base: &b { q: 1 }\nz: { <<: *b, r: 2 }')[0]?.kubectl, { base: { q: 1 }, z: { q: 1, r: 2 } })
})

function messagesOf(text: string): readonly string[] {
  return readDocuments(text)
    .flatMap(trapsOf)
    .map(({ field, message }) => `${field}: ${message}`)
}

test('what others read otherwise is told once, with its field and a remedy', () => {
  assert.deepEqual(messagesOf('a: { b: [x, on] }'), ['a.b[1]: kubectl reads this as true, not "on": put it in quotes'])
  assert.deepEqual(messagesOf('a: 017'), ['a: kubectl reads this as 15, not 17: write it as a plain decimal'])
  assert.deepEqual(messagesOf('a: 12:30:45'), ['a: YAML 1.1 reads this as 45045, not "12:30:45": put it in quotes'])
  assert.deepEqual(messagesOf('no: 1'), ['no: kubectl reads the name "no" as a boolean: put it in quotes'])
  assert.deepEqual(messagesOf('017: 1'), ['17: kubectl reads the name "17" as another number: put it in quotes'])
})

test('of what is text here and a number to kubectl, the number is told', () => {
  const cases: readonly (readonly [text: string, number: number | null])[] = [
    ['1_000', 1000],
    ['0b11', 3],
    ['on', null],
    ['017', null],
    ['12:30:45', null],
  ]
  for (const [text, number] of cases)
    assert.deepEqual(
      readDocuments(`a: ${text}`)
        .flatMap(trapsOf)
        .map((trap) => trap.number),
      [number],
      text,
    )
})

test('what all read alike is no trap', () => {
  for (const text of [
    'a: 15',
    'a: 1.5',
    'a: true',
    'a: ~',
    'a: plain words',
    'a: "017"',
    'a: 2026-01-01',
    'a: 0x1F',
    'a: { <<: { b: 1 } }',
  ])
    assert.deepEqual(messagesOf(text), [], text)
})

test('a text that others cannot read at all has no traps', () => {
  assert.deepEqual(messagesOf('017: 1\n15: 2'), []) // the same name twice, to kubectl
})
