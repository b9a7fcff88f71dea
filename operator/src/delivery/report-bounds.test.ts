import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TierTotals } from '@farebox/crds/sidecar-status.ts'
import { reportOf, totalsOf } from '../core/testing.ts'
import { excessIn } from './report-bounds.ts'

const users = { active: 3, spent: '1.00', heavy: 1, heavySpent: '0.50', upgradeCandidates: 1, byUse: { '0-24': 3 } }
const resolutions = { started: 1, assumed: 1, confirmed: 0, reversed: 0, costPer: null }

function excessOf(parts: Partial<TierTotals>): string | null {
  return excessIn(reportOf({ pod: 'a', receivedAtMs: 0, tiers: { pro: totalsOf({ resolutions, users, ...parts }) } }).report)
}

test('what a sidecar says is within bounds; counts below zero or too large, and maps without end, are not', () => {
  assert.equal(excessOf({}), null)
  assert.match(excessOf({ resolutions: { ...resolutions, assumed: -1 } }) ?? '', /each count/)
  assert.match(excessOf({ users: { ...users, active: 1e13 } }) ?? '', /each count/)
  assert.match(excessOf({ users: { ...users, heavy: -1 } }) ?? '', /each count/)
  assert.match(excessOf({ users: { ...users, byUse: { '0-24': -1 } } }) ?? '', /each count/)
  const endless = Object.fromEntries(Array.from({ length: 65 }, (_, index) => [String(index), 1]))
  assert.match(excessOf({ users: { ...users, byUse: endless } }) ?? '', /byUse: must have at most 64 keys/)
})
