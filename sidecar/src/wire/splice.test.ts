import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Splice } from './splice.ts'
import { objectTexts, scanned, valueTexts } from './bodies.testing.ts'

type Change =
  | { readonly kind: 'set'; readonly name: string; readonly value: string }
  | { readonly kind: 'drop'; readonly name: string }
  | { readonly kind: 'rename'; readonly name: string; readonly to: string }

const names = fc.oneof(fc.constantFrom('a', 'b', 'c', 'messages', 'model', '__proto__', '1', 'say "é"'), fc.string({ maxLength: 3 }))
const changes = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('set' as const), name: names, value: valueTexts() }),
    fc.record({ kind: fc.constant('drop' as const), name: names }),
    fc.record({ kind: fc.constant('rename' as const), name: names, to: names }),
  ),
  { maxLength: 5 },
)

function spliceOf(text: string): Splice {
  const bytes = Buffer.from(text)
  return new Splice(bytes, scanned(bytes))
}

function apply(splice: Splice, change: Change): void {
  switch (change.kind) {
    case 'set':
      return splice.set(change.name, change.value)
    case 'drop':
      return splice.drop(change.name)
    case 'rename':
      return splice.rename(change.name, change.to)
  }
}

/** The fields as a plain list, changed by the plainest rules. `from` is the place in the original, of what came from there. */
interface Row {
  name: string
  value: string
  from: number
}
function changed(rows: readonly Row[], all: readonly Change[]): Row[] {
  let now = rows.map((row) => ({ ...row }))
  for (const change of all) {
    const row = now.find(({ name }) => name === change.name)
    switch (change.kind) {
      case 'set':
        if (row === undefined) now.push({ name: change.name, value: change.value, from: -1 })
        else row.value = change.value
        break
      case 'drop':
        now = now.filter((known) => known !== row)
        break
      case 'rename':
        if (row === undefined || change.to === change.name) break
        if (now.some(({ name }) => name === change.to)) now = now.filter((known) => known !== row)
        else row.name = change.to
    }
  }
  return now
}

function rowsOf(text: string): Row[] {
  const bytes = Buffer.from(text)
  return scanned(bytes).fields.map(({ name, start, end }, from) => ({ name, value: bytes.toString('utf8', start, end), from }))
}

test('any changes give the object that the same changes of a plain list give, in its order', () => {
  fc.assert(
    fc.property(objectTexts(), changes, (text, all) => {
      const splice = spliceOf(text)
      for (const change of all) apply(splice, change)
      const expected = changed(rowsOf(text), all)
      const pairs = (rows: readonly Row[]): [string, string][] => rows.map(({ name, value }) => [name, value.trim()])
      assert.deepEqual(pairs(rowsOf(splice.bytes().toString('utf8'))), pairs(expected))
      for (const { name, value } of expected) assert.equal(splice.text(name)?.trim(), value.trim())
    }),
    { numRuns: 1_000 },
  )
})

test('whatever is not changed keeps its bytes, its order and the white space around it', () => {
  fc.assert(
    fc.property(objectTexts(), changes, (text, all) => {
      const bytes = Buffer.from(text)
      const splice = spliceOf(text)
      for (const change of all) apply(splice, change)
      const out = splice.bytes()
      const before = scanned(bytes)
      const after = scanned(out)
      const rows = changed(rowsOf(text), all)
      const gap = (place: number): string => {
        const start = place === 0 ? 0 : (before.fields[place - 1]?.end ?? 0)
        return bytes.toString('utf8', start, before.fields[place]?.keyStart)
      }
      for (const [index, { name, from, value }] of rows.entries()) {
        const field = after.fields[index]
        const original = before.fields[from]
        if (field === undefined || original === undefined) continue
        if (name === original.name && value === bytes.toString('utf8', original.start, original.end))
          assert.equal(out.toString('utf8', field.keyStart, field.end), bytes.toString('utf8', original.keyStart, original.end))
        if ((index === 0 && from === 0) || (index > 0 && rows[index - 1]?.from === from - 1))
          assert.equal(out.toString('utf8', after.fields[index - 1]?.end ?? 0, field.keyStart), gap(from))
      }
      const tail = bytes.toString('utf8', before.fields.at(-1)?.end ?? before.bodyStart)
      assert.equal(out.toString('utf8', after.fields.at(-1)?.end ?? after.bodyStart), tail)
    }),
    { numRuns: 1_000 },
  )
})

test('nothing changed is the same buffer, also when a value is set to what it was', () => {
  fc.assert(
    fc.property(objectTexts(), (text) => {
      const bytes = Buffer.from(text)
      const splice = new Splice(bytes, scanned(bytes))
      for (const { name, value } of rowsOf(text)) splice.set(name, value)
      splice.drop('no such field')
      splice.rename('no such field', 'other')
      assert.equal(splice.bytes(), bytes)
    }),
  )
})

for (const [name, text, change, expected] of [
  ['a value is replaced in place', '{ "a" : 1 , "b" : 2 }', (splice: Splice) => splice.set('a', '[3]'), '{ "a" : [3] , "b" : 2 }'],
  ['a new field comes last', '{ "a" : 1 }', (splice: Splice) => splice.set('b', '2'), '{ "a" : 1,"b":2 }'],
  ['the first field of an empty object has no comma', '{ }', (splice: Splice) => splice.set('b', '2'), '{"b":2 }'],
  ['the first goes with its comma', '{ "a" : 1 , "b" : 2 }', (splice: Splice) => splice.drop('a'), '{"b" : 2 }'],
  ['the last goes with its comma', '{ "a" : 1 , "b" : 2 }', (splice: Splice) => splice.drop('b'), '{ "a" : 1 }'],
  ['the only one goes', '{ "a" : 1 }', (splice: Splice) => splice.drop('a'), '{ }'],
  ['a renamed field stays where it was', '{"a": 1, "b":2}', (splice: Splice) => splice.rename('a', 'c'), '{"c":1, "b":2}'],
  ['a renamed field gives way to one of that name', '{"a":1,"b":2}', (splice: Splice) => splice.rename('a', 'b'), '{"b":2}'],
] as const) {
  test(name, () => {
    const splice = spliceOf(text)
    change(splice)
    assert.equal(splice.bytes().toString('utf8'), expected)
  })
}

test('a field renamed there and back is no change', () => {
  const bytes = Buffer.from('{"a": 1}')
  const splice = new Splice(bytes, scanned(bytes))
  splice.rename('a', 'b')
  splice.rename('b', 'a')
  assert.equal(splice.bytes(), bytes)
})

test('a field is known by the name that it will have', () => {
  const splice = spliceOf('{"a":1,"b":2}')
  splice.rename('a', 'c')
  splice.drop('b')
  splice.set('d', '4')
  assert.deepEqual(
    ['a', 'b', 'c', 'd'].map((name) => [splice.has(name), splice.text(name)]),
    [
      [false, null],
      [false, null],
      [true, '1'],
      [true, '4'],
    ],
  )
})
