import assert from 'node:assert/strict'
import { afterEach, beforeEach, mock, test } from 'node:test'
import type { TierTotals } from '@farebox/crds/sidecar-status.ts'
import { ShownTotals } from './shown-totals.ts'
import { NOT_TOLD } from './status.ts'

const TOTALS = { tiers: { pro: {} as TierTotals } }
let uptimeMs: number
let workedOut: number
const workOut = (): Promise<typeof TOTALS> => {
  workedOut += 1
  return Promise.resolve(TOTALS)
}

beforeEach(() => {
  uptimeMs = 1_000
  workedOut = 0
  mock.method(performance, 'now', () => uptimeMs)
})
afterEach(() => mock.restoreAll())

test('who looks at totals of more than a minute ago has newer ones worked out, once', async () => {
  const totals = new ShownTotals(workOut, { onSight: true })
  assert.deepEqual([totals.lastKnown(), totals.lastKnown()], [NOT_TOLD, NOT_TOLD])
  await totals.now()
  assert.equal(workedOut, 1)
  uptimeMs += 59_000
  assert.equal(totals.lastKnown(), TOTALS)
  assert.equal(workedOut, 1)
  uptimeMs += 2_000
  assert.equal(totals.lastKnown(), TOTALS, 'what is known is shown meanwhile')
  assert.equal(workedOut, 2)
})

test('where one of many is asked for totals, looking works nothing out, and what nobody asked for again is shown no more', async () => {
  const totals = new ShownTotals(workOut, { onSight: false })
  assert.deepEqual(totals.lastKnown(), NOT_TOLD)
  await totals.now()
  uptimeMs += 119_000
  assert.equal(totals.lastKnown(), TOTALS)
  uptimeMs += 2_000
  assert.deepEqual(totals.lastKnown(), NOT_TOLD)
  assert.equal(workedOut, 1)
})
