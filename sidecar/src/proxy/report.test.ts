import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PricedModel } from '@farebox/crds/prices.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import type { SettleAnswer } from '../store/store.ts'
import { reserveStep, settleStep, START_MS } from '../store/steps.testing.ts'
import { Metrics } from '../telemetry/metrics.ts'
import type { Turn } from './exchange.ts'
import { reportMoney } from './report.ts'

const PRICED = { model: 'gpt-4o', origin: 'catalogue' } as PricedModel
const HOLD = 3_000_000_000n

/** What a call is settled at that held `HOLD`: before that ran out, or after. */
async function settledAt(cost: bigint, { isLate }: { readonly isLate: boolean }): Promise<SettleAnswer> {
  const store = openEmbeddedStore({ file: ':memory:', nowMs: () => START_MS, writer: 'inline' })
  await store.reserve(reserveStep('call', START_MS, { atLeast: HOLD, atMost: HOLD, cap: null }))
  const lateMs = START_MS + 1_000_000
  if (isLate) assert.equal((await store.sweep({ nowMs: lateMs, limit: 10 })).expired.length, 1)
  const step = settleStep('call', lateMs, cost)
  const note = { ...step.settlement.note, drivers: { history: cost - 1_000_000_000n, output: 1_000_000_000n } }
  const answer = await store.settle({ ...step, settlement: { ...step.settlement, note } })
  await store.close()
  return answer
}

async function counted(cost: bigint, answer: SettleAnswer): Promise<Readonly<Record<string, number>>> {
  const metrics = new Metrics()
  const gateway = { metrics, log: { warn: () => undefined }, nowMs: () => START_MS }
  const turn = { gateway, terms: { contract: { tier: 'pro' } }, conversation: { session: 1 }, conversationId: 'A' } as unknown as Turn
  reportMoney(turn, PRICED, answer, { cost, usage: null })
  const text = await metrics.render()
  const sum = (name: string): number =>
    [...text.matchAll(new RegExp(`^${name}(?:{.*})? (.*)$`, 'gm'))].reduce((all, [, value]) => all + Number(value), 0)
  return { drivers: sum('farebox_cost_usd_total'), models: sum('farebox_model_cost_usd_total'), overruns: sum('farebox_overruns_total') }
}

test('both counters of cost have all of a settlement, below its hold and above', async () => {
  const below = await settledAt(2_000_000_000n, { isLate: false })
  assert.deepEqual(await counted(2_000_000_000n, below), { drivers: 2, models: 2, overruns: 0 })
  const above = await settledAt(5_000_000_000n, { isLate: false })
  assert.deepEqual(await counted(5_000_000_000n, above), { drivers: 5, models: 5, overruns: 1 })
})

test('both have all of one that comes after its hold expired: less than was charged, as much, or more', async () => {
  for (const usd of [2, 3, 5]) {
    const cost = BigInt(usd) * 1_000_000_000n
    const late = await settledAt(cost, { isLate: true })
    assert.equal(late.result.status, 'corrected')
    assert.deepEqual(await counted(cost, late), { drivers: usd, models: usd, overruns: usd > 3 ? 1 : 0 })
  }
})

test('one that was entered before is not counted again', async () => {
  const { result, ...answer } = await settledAt(2_000_000_000n, { isLate: false })
  assert.equal(result.status, 'settled')
  assert.deepEqual(await counted(2_000_000_000n, { ...answer, result: { status: 'exists' } }), { drivers: 0, models: 0, overruns: 0 })
})
