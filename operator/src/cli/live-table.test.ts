import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { RUNGS } from '@farebox/crds/ladder.ts'
import { liveLines, LiveTable, rowsThatFit } from './live-table.ts'
import type { LiveRow } from './live-table.ts'
import { widthOf } from './table.ts'

const plain = (_style: string, text: string): string => text
const row = (changes: Partial<LiveRow> = {}): LiveRow => ({
  conversation: 'tau-airline-32-0',
  tier: 'support-outcome',
  rung: 'None',
  percent: 100,
  spent: '0.1234',
  budget: '0.20',
  turns: 17,
  state: 'running',
  ...changes,
})
const ROWS = ['None', ...RUNGS].map((rung, index) => row({ rung, state: index % 2 === 0 ? 'running' : 'finished' }))

test('tier, rung, percent, spent of budget and turns are seen whole on 80 columns', () => {
  const lines = liveLines(ROWS, plain, 80)
  for (const line of lines) assert.ok(widthOf(line) <= 80, line)
  assert.match(lines[0] ?? '', /^CONVERSATION +TIER +RUNG +USED +SPENT +BUDGET +TURNS$/)
  assert.match(lines.at(-1) ?? '', /^tau-airline-32-0 +support-outcome +EndConversation +100 % +0\.1234 +0\.20 +17$/)
})

test('a wider terminal shows the state as well; a narrower one cuts names before anything else', () => {
  assert.match(liveLines(ROWS, plain, 120)[0] ?? '', /TURNS {3}STATE$/)
  const narrow = liveLines(ROWS, plain, 70)
  for (const line of narrow) assert.ok(widthOf(line) <= 70, line)
  assert.match(narrow.at(-1) ?? '', /^tau-\S*…\S*-0 .*EndConversation +100 % +0\.1234 +0\.20 +17$/)
})

test('columns stay where they are when a conversation climbs', () => {
  const [before] = liveLines([row()], plain)
  const [after] = liveLines([row({ rung: 'EndConversation' })], plain)
  assert.equal(before, after)
})

test('a low terminal shows what runs, then what ended last, in the order of their beginning', () => {
  const rows = ['a', 'b', 'c', 'd', 'e'].map((conversation) => row({ conversation, state: conversation === 'b' ? 'running' : 'finished' }))
  assert.deepEqual(
    rowsThatFit(rows, 3).map(({ conversation }) => conversation),
    ['b', 'd', 'e'],
  )
  assert.equal(rowsThatFit(rows, 0).length, 1)
  assert.deepEqual(rowsThatFit(rows, 5), rows)
})

/** A stream that keeps what is written; with `rows` and `columns` it is a terminal. */
function screen(terminal?: { readonly rows: number; readonly columns: number }): {
  readonly stream: NodeJS.WriteStream
  readonly text: () => string
} {
  const stream = new PassThrough()
  let text = ''
  stream.setEncoding('utf8').on('data', (part: string) => (text += part))
  const shaped = Object.assign(stream, terminal === undefined ? {} : { isTTY: true, ...terminal })
  return { stream: shaped, text: () => text }
}

test('a pipe gets a line for each change of rung or state, and no control characters', () => {
  const { stream, text } = screen()
  const table = new LiveTable(stream, plain)
  table.update([row()], 'below')
  table.update([row({ percent: 71, rung: 'DropRetrieval' })], 'below')
  table.update([row({ percent: 75, rung: 'DropRetrieval' })], 'below')
  table.update([row({ percent: 75, rung: 'DropRetrieval', state: 'finished' })], 'below')
  assert.deepEqual(
    text()
      .trimEnd()
      .split('\n')
      .map((line) => line.replaceAll(/ +/g, ' ')),
    [
      'tau-airline-32-0 support-outcome DropRetrieval 71 % 0.1234 of 0.20 17 turns running',
      'tau-airline-32-0 support-outcome DropRetrieval 75 % 0.1234 of 0.20 17 turns finished',
    ],
  )
})

test('a terminal is redrawn in place, never higher than it is', () => {
  const { stream, text } = screen({ rows: 12, columns: 80 })
  const table = new LiveTable(stream, plain)
  const rows = Array.from({ length: 30 }, (_, index) => row({ conversation: `c${index}` }))
  table.update(rows.slice(0, 2), 'two')
  const first = text()
  assert.equal(first.split('\n').length - 1, 4) // head, two rows, the line below
  table.update(rows, 'thirty')
  const second = text().slice(first.length)
  assert.ok(second.startsWith('\u001b[4A'), 'it goes up by what it drew')
  assert.ok(second.split('\n').length <= 12)
  assert.ok(second.includes('thirty'))
})
