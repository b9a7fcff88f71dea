import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import { TotalsTellers } from './totals-tellers.ts'

type Said = Pick<ReceivedReport, 'pod' | 'report'>

const PRO = ['pro']

function said(uid: string, books: string, parts: { readonly namespace?: string; readonly state?: 'Ready' | 'Away' } = {}): Said {
  const { namespace = 'shop', state = 'Ready' } = parts
  const report = { books, status: { store: { state } } } as ReceivedReport['report']
  return { pod: { namespace, name: uid, uid }, report }
}

test('of those who share books one tells their totals, until it is silent', () => {
  const tellers = new TotalsTellers()
  assert.equal(tellers.isAsked(said('a', 'x'), PRO, 0), true)
  assert.equal(tellers.isAsked(said('b', 'x'), PRO, 1), false)
  assert.equal(tellers.isAsked(said('b', 'y'), PRO, 2), true, 'other books')
  assert.equal(tellers.isAsked(said('c', 'x', { namespace: 'desk' }), PRO, 3), true, 'nobody speaks for another namespace')
  assert.equal(tellers.isAsked(said('a', 'x'), PRO, 20_000), true)
  assert.equal(tellers.isAsked(said('b', 'x'), PRO, 40_000), false)
  assert.equal(tellers.isAsked(said('b', 'x'), PRO, 45_001), true, 'the other was silent')
  assert.equal(tellers.isAsked(said('a', 'x'), PRO, 45_002), false)
  assert.equal(tellers.size, 1, 'who was silent is forgotten')
})

test('one whose store is away keeps nobody else from telling', () => {
  const tellers = new TotalsTellers()
  tellers.isAsked(said('a', 'x'), PRO, 0)
  assert.equal(tellers.isAsked(said('a', 'x', { state: 'Away' }), PRO, 1), true)
  assert.equal(tellers.isAsked(said('b', 'x'), PRO, 2), true)
  assert.equal(tellers.isAsked(said('a', 'x'), PRO, 3), false)
})

test('of each set of tiers one tells: others know neither their contracts nor all that has them', () => {
  const tellers = new TotalsTellers()
  assert.equal(tellers.isAsked(said('a', 'x'), ['pro', 'free'], 0), true)
  assert.equal(tellers.isAsked(said('b', 'x'), ['pro'], 1), true)
  assert.equal(tellers.isAsked(said('c', 'x'), ['free', 'pro'], 2), false, 'the same tiers, of whichever budget')
  assert.equal(tellers.isAsked(said('d', 'x'), ['pro'], 3), false)
})

test('one that waits for its first config tells nothing, and keeps nobody else from telling', () => {
  const tellers = new TotalsTellers()
  const waiting = said('waiting', 'x')
  let told = 0
  for (let second = 0; second < 600; second += 15) {
    assert.equal(tellers.isAsked({ ...waiting, report: { ...waiting.report, status: null } }, PRO, second * 1_000), false)
    if (tellers.isAsked(said('well', 'x'), PRO, second * 1_000 + 7_000)) told += 1
  }
  assert.equal(told, 40)
})
