import assert from 'node:assert/strict'
import { afterEach, beforeEach, mock, test } from 'node:test'
import type { TierTotals } from '@farebox/crds/sidecar-status.ts'
import { ShownTotals } from './shown-totals.ts'

const TIERS = { pro: {} as TierTotals }
let uptimeMs: number
let workedOut: number
const workOut = (): Promise<typeof TIERS> => {
  workedOut += 1
  return Promise.resolve(TIERS)
}

beforeEach(() => {
  uptimeMs = 1_000
  workedOut = 0
  mock.method(performance, 'now', () => uptimeMs)
})
afterEach(() => mock.restoreAll())

test('who looks at totals of more than a minute ago has newer ones worked out, once', async () => {
  const totals = new ShownTotals(workOut, { onSight: true })
  assert.deepEqual([totals.lastKnown(), totals.lastKnown()], [{}, {}])
  await totals.now()
  assert.equal(workedOut, 1)
  uptimeMs += 59_000
  assert.equal(totals.lastKnown(), TIERS)
  assert.equal(workedOut, 1)
  uptimeMs += 2_000
  assert.equal(totals.lastKnown(), TIERS, 'what is known is shown meanwhile')
  assert.equal(workedOut, 2)
})

test('where one of many is asked for totals, looking works nothing out, and what nobody asked for again is shown no more', async () => {
  const totals = new ShownTotals(workOut, { onSight: false })
  assert.deepEqual(totals.lastKnown(), {})
  await totals.now()
  uptimeMs += 119_000
  assert.equal(totals.lastKnown(), TIERS)
  uptimeMs += 2_000
  assert.deepEqual(totals.lastKnown(), {})
  assert.equal(workedOut, 1)
})
