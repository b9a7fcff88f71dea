import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Replayer } from '../store/outage/replayer.ts'
import { Tail } from '../store/outage/tail.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import { StoreError } from '../store/store.ts'
import { logStanding, logTrouble } from './store-news.ts'
import type { StoreState } from '../store/store-standing.ts'
import { settleStep, START_MS } from '../store/steps.testing.ts'

test('each state of the store is told as what it is', () => {
  const told: string[] = []
  const log = {
    info: (_: object, message: string) => told.push(`info ${message}`),
    warn: (_: object, message: string) => told.push(`warn ${message}`),
  }
  const rest = { reason: null, sinceMs: 0, unsent: 3, outages: 1, replayed: 0 }
  for (const state of ['Away', 'Replaying', 'Ready'] satisfies StoreState[]) logStanding(log, { ...rest, state })
  assert.match(told[0] ?? '', /^warn the store is away; it is looked for/)
  assert.match(told[1] ?? '', /^info the store is back, and is told what it missed/)
  assert.match(told[2] ?? '', /^info the store is there$/)
})

test('a step that no store takes is told as lost, with its operation and its cost; other trouble promises nothing', async () => {
  const told: [string, string][] = []
  const log = { error: (fields: object, message: string) => told.push([message, (fields as { readonly err: string }).err]) }
  const tail = new Tail()
  const replayer = new Replayer(
    { nowMs: () => START_MS, holdLifeMs: 1_000, onTrouble: (error) => logTrouble(log, error), ranMs: () => 1 },
    tail,
  )
  const note = { conversation: 'A', session: 1, tier: 'pro', purpose: 'cost', label: 'search', drivers: { other: 5n } } as const
  const charge = { operationId: 'job', accounts: ['a'], cost: 5n, atMs: START_MS, note, conversation: 'A', change: {} }
  tail.add({ kind: 'charge', step: charge }, 1)
  tail.add({ kind: 'settle', step: settleStep('turn', START_MS, 7n) }, 1)
  const refuses = (): Promise<never> => Promise.reject(new RangeError('an id must be without control characters'))
  const store = Object.assign(openEmbeddedStore({ file: ':memory:', nowMs: () => START_MS, writer: 'inline' }), {
    charge: refuses,
    settle: refuses,
  })
  await replayer.again(store, 'run')
  await store.close()
  logTrouble(log, new StoreError('away', 'the disk is full'))
  assert.deepEqual(told, [
    [
      'the books of the store lack a step for good',
      'operation job (5 nano-USD) is not told to the store: no store would take it: an id must be without control characters',
    ],
    [
      'the books of the store lack a step for good',
      'operation turn (7 nano-USD) is not told to the store: no store would take it: an id must be without control characters',
    ],
    ['the store has trouble that no call was told of', 'the disk is full'],
  ])
})
