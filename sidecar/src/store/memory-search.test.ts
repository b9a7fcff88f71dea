import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { keptText, newestPage, placeOf, queryTerms, rankedPage, Ranking, termsOf } from './memory-search.ts'
import { MEMORY_PAGE_MAX, MEMORY_TEXT_BYTES_MAX } from './store.ts'
import type { MemoryEntry } from './store.ts'

function said(text: string, more: Partial<MemoryEntry> = {}): MemoryEntry {
  return { id: text, conversation: 'A', session: 1, atMs: 1, role: 'user', text, ...more }
}
function found(query: string, ...texts: readonly string[]): readonly string[] {
  const ranking = new Ranking(queryTerms(query))
  for (const text of texts) ranking.see(said(text))
  return ranking.hits(texts.length).map(({ text }) => text)
}

describe('a search in what a user said', () => {
  it('finds words whatever their case and accents, and longer words by how they begin', () => {
    assert.deepEqual(found('RUCKERSTATTUNG', 'Rückerstattung, bitte'), ['Rückerstattung, bitte'])
    assert.deepEqual(found('refund', 'two refunds', 'no fund'), ['two refunds'])
    assert.deepEqual(found('straß', 'die Straße'), ['die Straße'])
    assert.deepEqual(found('go', 'google it', 'go there'), ['go there'])
    assert.deepEqual(found('order 17', 'order number 170', 'seat 17').toSorted(), ['order number 170', 'seat 17'])
  })

  it('finds Chinese, Japanese, Korean and Thai words inside a sentence', () => {
    assert.deepEqual(found('退款', '我想申请退款,怎么办理?', '我的订单在哪里'), ['我想申请退款,怎么办理?'])
    assert.deepEqual(found('款', '退款', '退货'), ['退款'])
    assert.deepEqual(found('返金', '注文の返金をお願いします', '返事の金額'), ['注文の返金をお願いします'])
    assert.deepEqual(found('キャンセル', '予約をキャンセルしたい'), ['予約をキャンセルしたい'])
    assert.deepEqual(found('환불', '환불은 언제 되나요', '배송'), ['환불은 언제 되나요'])
    assert.deepEqual(found('คืนเงิน', 'ฉันต้องการคืนเงิน', 'สวัสดี')[0], 'ฉันต้องการคืนเงิน')
    assert.deepEqual(found('iPhone退款', 'iPhone的退款'), ['iPhone的退款'])
  })

  it('takes what looks like the syntax of an index for words, or for nothing', () => {
    const texts = ['this AND that', 'or not', 'plain']
    assert.deepEqual(found('AND', ...texts), ['this AND that'])
    assert.deepEqual(found('"plain"', ...texts), ['plain'])
    assert.deepEqual(found('plain* NEAR(x, 5) ^x {col}: -y', ...texts), ['plain'])
    for (const query of ['"', '*', '()', ':', '-', '^', '\u0000', '😀', "'; DROP TABLE memory; --".replace(/[a-z]/gi, '')])
      assert.deepEqual(found(query, ...texts), [], query)
  })

  it('tells first what has more of the words, and the rarer ones; of equal ones the newer', () => {
    assert.deepEqual(found('refund shoes', 'refund', 'refund and shoes', 'refund too', 'shoes'), [
      'refund and shoes',
      'shoes',
      'refund',
      'refund too',
    ])
    const ranking = new Ranking(queryTerms('same'))
    for (const atMs of [2, 3, 1]) ranking.see(said('same', { id: `m${atMs}`, atMs }))
    const hits = ranking.hits(3)
    assert.deepEqual(
      hits.map(({ id }) => id),
      ['m3', 'm2', 'm1'],
    )
    assert.ok(hits.every(({ score }) => (score ?? 0) > 0))
  })

  it('finds every text by each of its own words', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 30 }), (text) => {
        for (const term of termsOf(text)) assert.deepEqual(found(term, text), [text], JSON.stringify(term))
      }),
      { numRuns: 500 },
    )
  })

  it('looks for a bounded number of words', () => {
    assert.equal(queryTerms(Array.from({ length: 200 }, (_, index) => `w${index}`).join(' ')).length, 32)
    assert.equal(queryTerms('a '.repeat(100_000)).length, 1)
  })

  it('keeps as much of a text as may be, and no half of a character', () => {
    assert.equal(keptText('short'), 'short')
    for (const [unit, bytes] of [
      ['a', 1],
      ['ü', 2],
      ['退', 3],
      ['😀', 4],
    ] as const) {
      const kept = keptText(`x${unit.repeat(MEMORY_TEXT_BYTES_MAX)}`)
      assert.equal(kept, `x${unit.repeat(Math.floor((MEMORY_TEXT_BYTES_MAX - 1) / bytes))}`)
    }
  })

  it('goes on page by page, and from no cursor but its own', () => {
    const entries = Array.from({ length: 5 }, (_, index) => said(`t${index}`, { atMs: 5 - index }))
    assert.deepEqual(rankedPage(entries, 0, 2), { hits: entries.slice(0, 2), next: 'after:2' })
    assert.deepEqual(rankedPage(entries, 4, 2), { hits: entries.slice(4), next: null })
    assert.deepEqual(newestPage(entries.slice(0, 3), 2), { hits: entries.slice(0, 2), next: 'before:4:t1' })
    assert.equal(newestPage(entries.slice(0, 2), 2).next, null)
    assert.deepEqual(placeOf({ query: 'x', cursor: 'after:2' }), { after: 2 })
    assert.deepEqual(placeOf({ query: ' ', cursor: 'before:4:a:b\nc' }), { before: { atMs: 4, id: 'a:b\nc' } })
    for (const [query, cursor] of [
      ['x', 'before:4:t1'],
      ['', 'after:2'],
      ['x', 'after:-1'],
      ['x', 'after:2 OR 1'],
      ['', 'before:x:y'],
      ['', ''],
    ] as const)
      assert.throws(() => placeOf({ query, cursor }), RangeError, cursor)
    assert.equal(
      rankedPage(
        Array.from({ length: 500 }, () => said('x')),
        0,
        1e9,
      ).hits.length,
      MEMORY_PAGE_MAX,
    )
    assert.equal(rankedPage(entries, 0, 0).hits.length, 1)
  })
})
