import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ObjectStatus } from './compile.ts'
import { coordinationOf, withCoordination } from './coordination.ts'
import type { StoreReport } from './coordination.ts'

const SINCE = '2026-11-24T12:00:00Z'
const condition = (type: string, status: 'True' | 'False', reason: string) => ({
  type,
  status,
  reason,
  message: '',
  lastTransitionTime: SINCE,
})
const statuses = (ready: 'True' | 'False', reason: string): ReadonlyMap<string, ObjectStatus> =>
  new Map([
    ['PricingTier/pro', { conditions: [condition('Ready', 'True', 'Ready')] }],
    ['ConversationBudget/support/desk', { observedGeneration: 3, conditions: [condition('Ready', ready, reason)] }],
  ])
const report = (store: Partial<StoreReport['store']>): StoreReport => ({
  config: { budget: 'support/desk' },
  store: { kind: 'Shared', state: 'Ready', reason: null, since: '2026-11-24T13:14:15.678Z', unsent: 0, ...store },
})
const said = (given: ReadonlyMap<string, ObjectStatus>, store: Partial<StoreReport['store']>) =>
  withCoordination(given, report(store))
    .get('ConversationBudget/support/desk')
    ?.conditions?.map(({ type, status, reason }) => [type, status, reason])

test('a budget says whether its sidecars share their books, and is not ready while they do not', () => {
  const good = statuses('True', 'Ready')
  assert.deepEqual(said(good, { kind: 'Embedded' }), [
    ['Coordinated', 'True', 'OneSidecar'],
    ['Ready', 'True', 'Ready'],
  ])
  assert.deepEqual(said(good, {}), [
    ['Coordinated', 'True', 'StoreReady'],
    ['Ready', 'True', 'Ready'],
  ])
  assert.deepEqual(said(good, { state: 'Away', reason: 'no route', unsent: 2 }), [
    ['Coordinated', 'False', 'StoreAway'],
    ['Ready', 'False', 'StoreAway'],
  ])
  assert.deepEqual(said(good, { kind: 'Embedded', state: 'Away', reason: 'the disk is full' }), [
    ['Coordinated', 'False', 'StoreAway'],
    ['Ready', 'False', 'StoreAway'],
  ])
  assert.deepEqual(said(good, { state: 'Replaying' }), [
    ['Coordinated', 'False', 'StoreReplaying'],
    ['Ready', 'False', 'StoreReplaying'],
  ])
})

test('what stood in the way before is the reason still', () => {
  assert.deepEqual(said(statuses('False', 'TierNotFound'), { state: 'Away' })?.at(-1), ['Ready', 'False', 'TierNotFound'])
})

test('the condition says why, since when, and of which generation; other objects stay as they are', () => {
  const all = withCoordination(statuses('True', 'Ready'), report({ state: 'Away', reason: 'store:6379 cannot be used', unsent: 1 }))
  assert.deepEqual(all.get('ConversationBudget/support/desk')?.conditions?.[0], {
    type: 'Coordinated',
    status: 'False',
    reason: 'StoreAway',
    message: 'store:6379 cannot be used; 1 step has not been told to it',
    observedGeneration: 3,
    lastTransitionTime: '2026-11-24T13:14:15Z',
  })
  assert.equal(all.get('PricingTier/pro')?.conditions?.length, 1)
  const other = { ...report({}), config: { budget: 'support/other' } }
  assert.deepEqual(withCoordination(statuses('True', 'Ready'), other), statuses('True', 'Ready'))
})

test('of many sidecars: whether they share their books, and what is wrong with any of them', () => {
  const { config, store: ready } = report({})
  const sidecar = (books: string, store: Partial<StoreReport['store']> = {}) => ({
    books,
    status: { config, store: { ...ready, ...store } } as Parameters<typeof coordinationOf>[0][number]['status'],
  })
  const silent = { books: 'one', status: null }
  const told = (...reports: Parameters<typeof coordinationOf>[0]) => {
    const { status, reason, message } = coordinationOf(reports)
    return `${status} ${reason}: ${message}`
  }
  assert.match(told(), /^Unknown NoReports/)
  assert.match(told(silent), /^Unknown NoReports/)
  assert.match(told(sidecar('one'), sidecar('one'), silent), /^True StoreReady/)
  assert.match(told(sidecar('one'), sidecar('two'), silent), /^False SeparateStores: 2 sidecars keep 2 sets/)
  assert.match(told(sidecar('one', { kind: 'Embedded' })), /^False EphemeralStore/)
  const full = { kind: 'Embedded', state: 'Away', reason: 'the disk is full' } as const
  assert.equal(told(sidecar('one', full)), 'False StoreAway: for 1 of 1 sidecars: its books cannot be written: the disk is full')
  const away = { state: 'Away', reason: 'no route', unsent: 2 } as const
  assert.equal(
    told(sidecar('one'), sidecar('one', away), sidecar('one', { ...away, unsent: 3 })),
    'False StoreAway: for 2 of 3 sidecars: no route; 5 steps have not been told to it',
  )
  assert.match(
    told(sidecar('one', { state: 'Replaying', unsent: 1 }), sidecar('one')),
    /^False StoreReplaying: for 1 of 2 sidecars: .*; 1 step has/,
  )
  assert.match(told(sidecar('one', { state: 'Replaying' }), sidecar('one', away)), /^False StoreAway/, 'the worse of the two')
})
