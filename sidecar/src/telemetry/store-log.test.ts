import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Replayer } from '../store/outage/replayer.ts'
import { Tail } from '../store/outage/tail.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import { StoreError } from '../store/store.ts'
import { StoreLog } from './store-log.ts'
import type { StoreState } from '../store/store-standing.ts'
import { settleStep, START_MS } from '../store/steps.testing.ts'

test('each state of the store is told as what it is', () => {
  const told: string[] = []
  const log = {
    info: (_: object, message: string) => told.push(`info ${message}`),
    warn: (_: object, message: string) => told.push(`warn ${message}`),
    error: (_: object, message: string) => told.push(`error ${message}`),
  }
  const rest = { reason: null, sinceMs: 0, unsent: 3, outages: 1, replayed: 0 }
  for (const state of ['Away', 'Replaying', 'Ready'] satisfies StoreState[]) new StoreLog(log).standing({ ...rest, state })
  assert.match(told[0] ?? '', /^warn the store is away; it is looked for/)
  assert.match(told[1] ?? '', /^info the store is back, and is told what it missed/)
  assert.match(told[2] ?? '', /^info the store is there$/)
})

test('a step that no store takes is told as lost, with its operation and its cost; other trouble promises nothing', async () => {
  const told: [string, string][] = []
  const error = (fields: object, message: string): void => void told.push([message, (fields as { readonly err: string }).err])
  const log = new StoreLog({ info: () => undefined, warn: () => undefined, error })
  const tail = new Tail()
  const replayer = new Replayer(
    { nowMs: () => START_MS, holdLifeMs: 1_000, onTrouble: (trouble) => log.trouble(trouble), ranMs: () => 1 },
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
  await replayer.again({ name: 'run', store, assertSame: () => undefined })
  await store.close()
  log.trouble(new StoreError('away', 'the disk is full'))
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

test('the same trouble is told once, and again when it has lasted or the store was there meanwhile', () => {
  const told: string[] = []
  let uptimeMs = 0
  const error = (fields: object): void => void told.push((fields as { readonly err: string }).err)
  const log = new StoreLog({ info: () => undefined, warn: () => undefined, error }, () => uptimeMs)
  const trouble = (...messages: readonly string[]): void => {
    for (const message of messages) log.trouble(new Error(message))
  }
  for (; uptimeMs < 3_599_000; uptimeMs += 1_000) trouble('no route', 'refused')
  assert.deepEqual(told, ['no route', 'refused'])
  uptimeMs = 3_601_000
  trouble('no route')
  assert.equal(told.length, 3)
  log.standing({ state: 'Ready', reason: null, sinceMs: 0, unsent: 0, outages: 1, replayed: 0 })
  trouble('no route')
  assert.equal(told.length, 4)
})
