import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import { StoreError } from '../store/store.ts'
import type { BudgetStore } from '../store/store.ts'
import { START_MS } from '../store/steps.testing.ts'
import { OutcomeWatch } from './outcome-watch.ts'

/** Only its price is looked at. */
const CONTRACT = { hash: 'k1', tier: 'pro', pricing: { model: 'PerResolution', targetCostPerResolution: '1.00' } } as Contract

test('the days are looked up once for all conversations that begin meanwhile, and again after a minute, or where the store was away', async () => {
  const store = openEmbeddedStore({ file: ':memory:', nowMs: () => START_MS })
  let days = 0
  let isAway = false
  const readOutcomes: BudgetStore['readOutcomes'] = (query) => {
    days += 1
    return isAway ? Promise.reject(new StoreError('away', 'away')) : store.readOutcomes(query)
  }
  const watch = new OutcomeWatch({ ...store, readOutcomes })
  const ask = (atMs: number): Promise<boolean[]> => Promise.all([0, 1, 2].map(() => watch.ladderApplies(CONTRACT, atMs)))
  assert.deepEqual(await ask(START_MS), [false, false, false])
  assert.equal(days, 56)
  await ask(START_MS + 59_999)
  assert.equal(days, 56)
  isAway = true
  assert.deepEqual(await ask(START_MS + 60_000), [false, false, false])
  assert.equal(days, 112)
  isAway = false
  await ask(START_MS + 60_001)
  assert.equal(days, 168)
  await store.close()
})
