import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import { TotalsTellers } from './totals-tellers.ts'

type Said = Pick<ReceivedReport, 'pod' | 'report'>

function said(uid: string, books: string, parts: { readonly namespace?: string; readonly state?: 'Ready' | 'Away' } = {}): Said {
  const { namespace = 'shop', state = 'Ready' } = parts
  const report = { books, status: { store: { state } } } as ReceivedReport['report']
  return { pod: { namespace, name: uid, uid }, report }
}

test('of those who share books one tells their totals, until it is silent', () => {
  const tellers = new TotalsTellers()
  assert.equal(tellers.isAsked(said('a', 'x'), 0), true)
  assert.equal(tellers.isAsked(said('b', 'x'), 1), false)
  assert.equal(tellers.isAsked(said('b', 'y'), 2), true, 'other books')
  assert.equal(tellers.isAsked(said('c', 'x', { namespace: 'desk' }), 3), true, 'nobody speaks for another namespace')
  assert.equal(tellers.isAsked(said('a', 'x'), 20_000), true)
  assert.equal(tellers.isAsked(said('b', 'x'), 40_000), false)
  assert.equal(tellers.isAsked(said('b', 'x'), 45_001), true, 'the other was silent')
  assert.equal(tellers.isAsked(said('a', 'x'), 45_002), false)
  assert.equal(tellers.size, 1, 'who was silent is forgotten')
})

test('one whose store is away keeps nobody else from telling', () => {
  const tellers = new TotalsTellers()
  tellers.isAsked(said('a', 'x'), 0)
  assert.equal(tellers.isAsked(said('a', 'x', { state: 'Away' }), 1), true)
  assert.equal(tellers.isAsked(said('b', 'x'), 2), true)
  assert.equal(tellers.isAsked(said('a', 'x'), 3), false)
})
