import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DemoResult } from '../laptop/demo.ts'
import type { ReplayReport } from '../laptop/replay.ts'
import type { PlayedConversation, TierSummary } from '../laptop/summary.ts'
import { isSound, summaryLines } from './demo-report.ts'
import { widthOf } from './table.ts'

const CENT = 10_000_000n
const REPORT: ReplayReport = {
  id: 'a',
  outcome: 'finished',
  calls: 3,
  callsRecorded: 3,
  loopsStopped: 0,
  standing: null,
  error: null,
  durationMs: 1,
}
const PLAYED: PlayedConversation = {
  id: 'a',
  tier: 'pro',
  rung: 'None',
  spent: CENT,
  summaries: 0n,
  budget: 10n * CENT,
  billed: CENT,
  sessions: 1,
  resolved: true,
}
const RESULT: DemoResult = {
  reports: [REPORT],
  played: [PLAYED, { ...PLAYED, id: 'b', spent: 3n * CENT, rung: 'Summarize' }],
  byRung: [
    ['None', 1],
    ['Summarize', 1],
  ],
  overshoot: { beyondBudgets: 0n, conversations: [], ledger: 4n * CENT, bill: 4n * CENT },
  calls: 3,
  seconds: 1.25,
}
const TIER: TierSummary = {
  tier: 'pro',
  conversations: 2,
  spent: 4n * CENT,
  p50: CENT,
  p95: 3n * CENT,
  max: 3n * CENT,
  resolved: 2,
  revenue: 80n * CENT,
  marginPercent: 75,
  targetPercent: 70,
}
const plain = (_style: string, text: string): string => text
const summary = (result: DemoResult, width = Infinity): string => summaryLines(result, [TIER], plain, width).join('\n')

test('the summary tells cost, rungs, margin, overshoot and time', () => {
  const text = summary(RESULT)
  assert.match(text, /^2 conversations, 3 model calls, 1\.3 s\ncost per conversation, USD: p50 0\.0100, p95 0\.0300, max 0\.0300\n/)
  assert.match(text, /\nNone \(served as asked\) +1 +#+\nSummarize +1 +#+\n/)
  assert.match(text, /\npro +2 +2 +0\.0100 +0\.0300 +0\.0300 +0\.80 +0\.04 +75 % +70 %\n/)
  assert.match(text, /Overshoot against the provider's own bill: 0: no conversation was billed more than its budget/)
})

test('on 80 columns each line fits, and the margin is still there', () => {
  const lines = summary(RESULT, 80).split('\n')
  for (const line of lines) assert.ok(widthOf(line) <= 80, line)
  assert.ok(lines.some((line) => /^pro .* 75 % +70 %$/.test(line)))
})

test('it is not sound when a bill was above its budget or a conversation failed, and says which', () => {
  assert.equal(isSound(RESULT), true)
  assert.equal(isSound({ ...RESULT, overshoot: null }), true, 'no bill, no overshoot to show')
  const over: DemoResult = { ...RESULT, overshoot: { beyondBudgets: 1n, conversations: ['b'], ledger: 4n * CENT, bill: 9n * CENT } }
  assert.equal(isSound(over), false)
  assert.match(summary(over), /bill: 0\.000000001 in 1 conversations: b\n.*\(they should agree\)/)
  const stopped = { ...REPORT, outcome: 'stopped' } as const
  const cut: DemoResult = { ...RESULT, reports: [stopped], overshoot: { beyondBudgets: 0n, conversations: [], ledger: 9n, bill: 4n } }
  assert.match(summary(cut), /bill 0\.000000 \(calls that were cut are charged for what they may have cost\)\n/)
  const failed: DemoResult = { ...RESULT, reports: [{ ...REPORT, outcome: 'failed', error: 'it broke' }] }
  assert.equal(isSound(failed), false)
  assert.match(summary(failed), /1 failed\na: it broke$/)
})
