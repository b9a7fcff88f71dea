import assert from 'node:assert/strict'
import { styleText } from 'node:util'
import { test } from 'node:test'
import { renderTable, truncate, widthOf, wrap } from './table.ts'
import type { Column } from './table.ts'

type Row = readonly [name: string, count: string, note: string]
const COLUMNS: readonly Column<Row>[] = [
  { head: 'NAME', cell: ([name]) => name },
  { head: 'COUNT', align: 'right', cell: ([, count]) => count },
  { head: 'NOTE', need: 'optional', cell: ([, , note]) => note },
]
const ROWS: readonly Row[] = [
  ['a', '12', 'x'],
  ['longer', '3', 'some words'],
]

test('numbers stand to the right, and no line ends in blanks', () => {
  assert.deepEqual(renderTable(COLUMNS, ROWS), ['NAME     COUNT   NOTE', 'a           12   x', 'longer       3   some words'])
})

test('a narrow terminal gets narrower gaps first, then loses what is optional, then nothing more', () => {
  assert.deepEqual(renderTable(COLUMNS, ROWS, 26)[2], 'longer      3  some words')
  assert.deepEqual(renderTable(COLUMNS, ROWS, 15), ['NAME     COUNT', 'a           12', 'longer       3'])
  assert.deepEqual(renderTable(COLUMNS, ROWS, 3), ['NAME    COUNT', 'a          12', 'longer      3'])
})

test('colours take no room', () => {
  const red = styleText('red', 'longer', { validateStream: false })
  const plain = renderTable(COLUMNS, ROWS)
  const painted = renderTable(COLUMNS, [ROWS[0] ?? ['', '', ''], [red, '3', 'some words']])
  assert.deepEqual(painted.map(widthOf), plain.map(widthOf))
})

test('text is broken between words, and a longer word stays whole', () => {
  assert.deepEqual(wrap('one two three', 7), ['one two', 'three'])
  assert.deepEqual(wrap('a http://a-long-address b', 5), ['a', 'http://a-long-address', 'b'])
  assert.deepEqual(wrap('as it is', Infinity), ['as it is'])
})

test('names are cut in the middle: both ends tell them apart', () => {
  assert.equal(truncate('tau-airline-32-0', 16), 'tau-airline-32-0')
  assert.equal(truncate('tau-airline-32-0', 9), 'tau-…32-0')
  assert.equal(truncate('abc', 1), '…')
  assert.equal(widthOf(truncate('😀😀😀😀', 3)), 3)
})
