import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TierTotals } from '@farebox/crds/sidecar-status.ts'
import { SidecarReportSchema } from '@farebox/crds/delivery.ts'
import { reportOf, totalsOf } from '../core/reports.testing.ts'
import { excessIn } from './report-bounds.ts'

const users = { active: 3, spent: '1.00', heavy: 1, heavySpent: '0.50', upgradeCandidates: 1, byUse: { '0-24': 3 } }
const resolutions = { started: 1, assumed: 1, confirmed: 0, reversed: 0, costPer: null }

function excessOf(parts: Partial<TierTotals>): string | null {
  return excessIn(reportOf({ pod: 'a', receivedAtMs: 0, tiers: { pro: totalsOf({ resolutions, users, ...parts }) } }).report)
}

test('what a sidecar says is within bounds; counts below zero or too large are not', () => {
  assert.equal(excessOf({}), null)
  assert.match(excessOf({ resolutions: { ...resolutions, assumed: -1 } }) ?? '', /each count/)
  assert.match(excessOf({ users: { ...users, active: 1e13 } }) ?? '', /each count/)
  assert.match(excessOf({ users: { ...users, heavy: -1 } }) ?? '', /each count/)
  assert.match(excessOf({ users: { ...users, byUse: { '0-24': -1 } } }) ?? '', /each count/)
})

/** What is wrong with a report of such tiers. */
function issuesOf(tiers: unknown): readonly string[] {
  const { report } = reportOf({ pod: 'a', receivedAtMs: 0, tiers: { pro: totalsOf({ users }) } })
  const read = SidecarReportSchema.safeParse({ ...report, status: { ...report.status, tiers } })
  return (read.error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`)
}
const mapWith = <T>(keys: number, value: T): Record<string, T> =>
  Object.fromEntries(Array.from({ length: keys }, (_, index) => [`n${index}`, value]))

test('maps without end are refused before they are read, and of those that are read the first fault alone is told', () => {
  const totals = totalsOf({ users })
  assert.deepEqual(issuesOf(mapWith(256, totals)), [])
  assert.deepEqual(issuesOf(mapWith(26_000, {})), ['status.tiers: must have at most 256 keys'])
  for (const [field, parts] of [
    ['byRung', { byRung: mapWith(65, 1) }],
    ['alerts', { alerts: mapWith(65, 1) }],
    ['users.byUse', { users: { ...users, byUse: mapWith(65, 1) } }],
  ] as const)
    assert.deepEqual(issuesOf({ pro: { ...totals, ...parts } }), [`status.tiers.pro.${field}: must have at most 64 keys`])
  const wrong = { ...totals, byRung: mapWith(64, 0.5), alerts: mapWith(64, 0.5) }
  assert.equal(issuesOf(mapWith(256, wrong)).length, 1)
})
