/** What every engine of `BudgetStore` must do. An engine joins by one call in its own test file. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { conversationsContract } from './contract/conversations.contract.ts'
import { daysContract } from './contract/days.contract.ts'
import { withStoreOf } from './contract/engine.testing.ts'
import type { OpenEmptyStore } from './contract/engine.testing.ts'
import { ledgerContract } from './contract/ledger.contract.ts'
import { memoryContract } from './contract/memory.contract.ts'
import { moneyContract } from './contract/money.contract.ts'
import { ModelStore } from './model.testing.ts'
import { compareAll, mayBeAtOnce, played, stepArbitrary } from './schedule.testing.ts'
import { reserveStep, START_MS } from './steps.testing.ts'
import { StoreError } from './store.ts'

const RUNS = 150

/**
 * `atOnce: false` for an engine whose steps on one account may be several: in the random schedules, where each answer is
 * compared with the model's, its steps are then asked for one after another.
 */
export function storeContract(name: string, open: OpenEmptyStore, { atOnce = true }: { readonly atOnce?: boolean } = {}): void {
  describe(`${name} keeps the contract of a store`, () => {
    it('answers every schedule as the model does, whatever runs at the same time', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(fc.array(stepArbitrary, { minLength: 1, maxLength: 5 }), { maxLength: 12 }), async (batches) => {
          const clock = { ms: START_MS }
          const model = new ModelStore(() => clock.ms)
          const store = await open(() => clock.ms)
          try {
            for (const batch of batches) {
              const steps = batch.map((step) => played(step, model, clock.ms))
              const expected = steps.map((step) => step.onModel())
              const answers: unknown[] = []
              if (atOnce && mayBeAtOnce(batch)) answers.push(...(await Promise.all(steps.map((step) => step.onStore(store)))))
              else for (const step of steps) answers.push(await step.onStore(store))
              assert.deepEqual(answers, expected)
              clock.ms += batch.length * 17_000 * (batch.some((step) => step.kind === 'clockBack') ? -1 : 1)
              await compareAll(store, model, clock.ms)
            }
          } finally {
            await store.close()
          }
        }),
        { numRuns: RUNS },
      )
    })

    moneyContract(open)
    conversationsContract(open)
    daysContract(open)
    memoryContract(open)
    ledgerContract(open)

    it(
      'answers nothing after it is closed',
      withStoreOf(open)(async (store, clock) => {
        await store.close()
        const isClosed = (error: unknown): boolean => error instanceof StoreError && error.code === 'closed'
        await assert.rejects(store.read({ conversation: 'A', accounts: [], nowMs: clock.ms }), isClosed)
        await assert.rejects(store.reserve(reserveStep('o1', clock.ms, { atLeast: 1n, atMost: 1n })), isClosed)
        await assert.rejects(store.readLedger({ afterSequence: 0, limit: 1 }), isClosed)
      }),
    )
  })
}
