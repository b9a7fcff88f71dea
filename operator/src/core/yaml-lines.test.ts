import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fieldLines, lineOf } from './yaml-lines.ts'

const TEXT = `# a comment
a: 1
b:
  c: [x,
    y]
  d:
    - e: 1
      f: |
        text: no field
    - {e: 2, "g": {h: 3}}
---
- i
-
  j: &anchor
    k: 1
l: 2
`
  .replace('- i\n-\n', 'list:\n- i\n-\n')
  .replace('l: 2', 'm: *anchor')

test('each field has its line, whatever the style', () => {
  const [first, second] = fieldLines(TEXT)
  assert.ok(first !== undefined && second !== undefined)
  const at = (field: string): number => lineOf(first, field)
  assert.deepEqual(['a', 'b', 'b.c', 'b.c[0]', 'b.c[1]'].map(at), [2, 3, 4, 4, 5])
  assert.deepEqual(['b.d[0].e', 'b.d[0].f', 'b.d[1].e', 'b.d[1].g.h'].map(at), [7, 8, 10, 10])
  assert.equal(first.has('b.d[0].f.text'), false, 'a block text holds no fields')
  assert.deepEqual(
    ['list[0]', 'list[1].j.k', 'm'].map((field) => lineOf(second, field)),
    [13, 16, 17],
  )
})

test('an absent field stands where the nearest one above it does', () => {
  const [lines = new Map()] = fieldLines(TEXT)
  assert.equal(lineOf(lines, 'b.d[1].x.y'), 10)
  assert.equal(lineOf(lines, 'b.d[7]'), 6)
  assert.equal(lineOf(lines, 'z'), 2)
  assert.equal(lineOf(lines, ''), 2)
})

test('an empty item of a list stands where the list does', () => {
  const [lines = new Map()] = fieldLines('# a comment\na:\n  - 1\n  -\n  - 3\n')
  assert.deepEqual(
    ['a[0]', 'a[1]', 'a[2]'].map((field) => lineOf(lines, field)),
    [3, 2, 5],
  )
})

test('names may hold any character', () => {
  const [lines = new Map()] = fieldLines('a:\n  example.com/x: 1\n  "b[0].c": 2\n')
  assert.equal(lineOf(lines, 'a.example.com/x'), 2)
  assert.equal(lineOf(lines, 'a.b[0].c'), 3)
  for (const field of ['a.x[', 'a.]', 'a.[x', 'a..', 'a.b]c']) assert.equal(lineOf(lines, field), 1, field)
})

test('documents are told apart; an empty one has no fields, and windows line ends count once', () => {
  const documents = fieldLines('a: 1\r\nb: 2\r\n---\r\n---\r\nc: 3\r\n')
  assert.deepEqual(
    documents.map((lines) => [...lines].filter(([field]) => field !== '')),
    [
      [
        ['a', 1],
        ['b', 2],
      ],
      [],
      [['c', 5]],
    ],
  )
})

test('keys that are no text do not shift what comes after', () => {
  const [lines = new Map()] = fieldLines('a: 1\n? [x, y]\n: {z: 1}\nb: 2\n')
  assert.equal(lineOf(lines, 'b'), 4)
})
