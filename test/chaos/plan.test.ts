import assert from 'node:assert/strict'
import { test } from 'node:test'
import { planOf, SIDECAR_FAULTS, STORE_FAULTS } from './plan.ts'
import type { Plan } from './plan.ts'

const SIDECARS = 3
const MINUTE_MS = 60_000
const plans = Array.from({ length: 200 }, (_, seed) => planOf({ seed, sidecars: SIDECARS, forMs: MINUTE_MS }))
const tracksOf = ({ store, sidecars }: Plan) => [store, sidecars]

test('the same seed plans the same, another one something else', () => {
  const again = planOf({ seed: 7, sidecars: SIDECARS, forMs: MINUTE_MS })
  assert.deepEqual(again, plans[7])
  assert.notDeepEqual(again, plans[8])
})

test('faults of the store, and faults of sidecars, come one after the other, with a rest between, and end in time', () => {
  for (const track of plans.flatMap(tracksOf)) {
    assert.ok(track.length > 0)
    let endMs = 0
    for (const { atMs, forMs } of track) {
      assert.ok(atMs >= endMs + 1_500, `${atMs} after ${endMs}`)
      endMs = atMs + forMs
    }
    assert.ok(endMs <= MINUTE_MS)
  }
})

test('every kind comes before any comes a second time', () => {
  for (const { store, sidecars } of plans) {
    const kinds = store.slice(0, STORE_FAULTS.length).map(({ kind }) => kind)
    assert.equal(new Set(kinds).size, kinds.length)
    const first = sidecars.slice(0, SIDECAR_FAULTS.length).map(({ kind }) => kind)
    assert.ok(first.length < SIDECAR_FAULTS.length || new Set(first).size === 2)
  }
  const long = planOf({ seed: 1, sidecars: SIDECARS, forMs: 10 * MINUTE_MS })
  assert.deepEqual(new Set(long.store.map(({ kind }) => kind)), new Set(STORE_FAULTS))
})

test('nobody is killed at the end, and every sidecar is hit at some time', () => {
  const kills = plans.flatMap(({ sidecars }) => sidecars.filter(({ kind }) => kind === 'kill'))
  assert.ok(kills.every(({ atMs, forMs }) => atMs + forMs <= MINUTE_MS * 0.8))
  assert.deepEqual(new Set(kills.map(({ sidecar }) => sidecar)), new Set([0, 1, 2]))
})
