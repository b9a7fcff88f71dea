import assert from 'node:assert/strict'
import { test } from 'node:test'
import { playOnModel } from '../simulation/play.ts'
import { soak } from './soak.ts'

test('plays every seed once, however many workers share them', async () => {
  const first = 4_000
  const schedules = 1_234
  let expected = 0
  for (let seed = first; seed < first + schedules; seed++) expected += playOnModel(seed)
  for (const workers of [1, 3]) {
    let told = 0
    const { played, steps, violations } = await soak({ first, schedules, workers }, (done) => {
      told = done
    })
    assert.deepEqual({ played, told, steps, violations }, { played: schedules, told: schedules, steps: expected, violations: [] })
  }
})
