/**
 * Plays random schedules on Redis and on the model, in a thread of its own: the runner of tests follows every promise of its thread,
 * which would take half of the time.
 */
import assert from 'node:assert/strict'
import { workerData } from 'node:worker_threads'
import * as fc from 'fast-check'
import { ModelStore } from '../model.testing.ts'
import { StoreClock } from '../store-clock.ts'
import type { BudgetStore } from '../store.ts'
import { compareAll, mayBeAtOnce, played, stepArbitrary } from '../schedule.testing.ts'
import type { RandomStep } from '../schedule.testing.ts'
import { START_MS } from '../steps.testing.ts'
import { Link } from './link.ts'
import { Tag } from './tag.ts'

export interface Schedules {
  /** Of the server. */
  readonly url: string
  readonly answerMsMax: number
  /** Seed of the first of them; the next one has the next. */
  readonly first: number
  readonly count: number
}

const AT_ONCE = 16

const schedules = fc.array(fc.array(stepArbitrary, { minLength: 1, maxLength: 5 }), { minLength: 4, maxLength: 12 })

const { url, answerMsMax, first, count } = workerData as Schedules
const link = await Link.open({ url, answerMsMax })
try {
  await Promise.all(
    Array.from({ length: AT_ONCE }, async (_, lane) => {
      for (let seed = first + lane; seed < first + count; seed += AT_ONCE) await play(seed)
    }),
  )
} finally {
  await link.close()
}

async function play(seed: number): Promise<void> {
  const clock = { ms: START_MS }
  // What `openRedisStore` gives for one tag, without a connection of its own: those would take most of the time.
  const store = new Tag({ link, namespace: `s${seed}`, tag: 0, clock: new StoreClock(() => clock.ms), ticks: { seen: 0 } })
  const [batches = []] = fc.sample(schedules, { numRuns: 1, seed })
  try {
    await playBoth(batches, store, clock)
  } catch (error) {
    throw new Error(`${String(error)} (FAREBOX_SEED=${seed} plays it again)`, { cause: error })
  }
}

/** The steps of a batch are asked for at the same time. */
async function playBoth(batches: readonly (readonly RandomStep[])[], store: BudgetStore, clock: { ms: number }): Promise<void> {
  const model = new ModelStore(() => clock.ms)
  for (const batch of batches) {
    const steps = batch.map((step) => played(step, model, clock.ms))
    const expected = steps.map((step) => step.onModel())
    const answers: unknown[] = []
    if (mayBeAtOnce(batch)) answers.push(...(await Promise.all(steps.map((step) => step.onStore(store)))))
    else for (const step of steps) answers.push(await step.onStore(store))
    assert.deepEqual(answers, expected)
    clock.ms += batch.length * 17_000 * (batch.some((step) => step.kind === 'clockBack') ? -1 : 1)
    // Both see where the wall clock went: a jump that nobody sees did not happen.
    const query = { conversation: 'A', accounts: ['u'], nowMs: clock.ms }
    assert.deepEqual(await store.read(query), model.read(query))
  }
  await compareAll(store, model, clock.ms)
}
