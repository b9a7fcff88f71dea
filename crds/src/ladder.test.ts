import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BOUNDARY_RUNGS, DEFAULT_ALERTS, DEFAULT_LADDER, RUNGS } from './ladder.ts'

test('the default ladder takes every rung once, gentlest first, and ends at the cap with a proper last answer', () => {
  assert.deepEqual(
    DEFAULT_LADDER.map(({ atPercent, rung }) => [atPercent, rung]),
    [
      [70, 'DropRetrieval'],
      [80, 'Summarize'],
      [90, 'DowngradeModel'],
      [95, 'RefuseTools'],
      [100, 'EndConversation'],
    ],
  )
  assert.deepEqual(
    DEFAULT_LADDER.map(({ rung }) => rung),
    [...RUNGS],
  )
  assert.equal(DEFAULT_LADDER.at(-1)?.end, 'Close')
  assert.deepEqual(DEFAULT_ALERTS, [70, 90, 100])
})

test('tools are refused and conversations ended between any two calls, so that an agent loop can be stopped', () => {
  assert.deepEqual(
    RUNGS.filter((rung) => !BOUNDARY_RUNGS.some((boundaryRung) => boundaryRung === rung)),
    ['RefuseTools', 'EndConversation'],
  )
})
