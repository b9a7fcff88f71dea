import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { openDatabase } from './database.ts'
import { indexedTerms, matchOf } from './memory-index.ts'
import { queryTerms, Ranking } from './memory-search.ts'
import { allValues, prepareReads } from './statements.ts'

const USERS = ['ann', 'bob', '"', 'ann OR bob']
/** Pieces that make words, parts of words, and what an index might take for its own. */
const piece = fc.oneof(
  fc.constantFrom(
    'refund',
    'refunds',
    'Re',
    '退款',
    '退',
    'キャンセル',
    'ü',
    'ß',
    'and',
    'AND',
    'NEAR(',
    '"',
    '*',
    ':',
    ' ',
    ' ',
    '_',
    '-',
  ),
  fc.string({ unit: 'grapheme', maxLength: 3 }),
)
const text = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(''))

test('the index finds what the ranking takes for hits, of one user alone, whatever the words are', () => {
  const entry = fc.record({ user: fc.constantFrom(...USERS), text })
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 8 }), fc.constantFrom(...USERS), text, (entries, user, query) => {
      const owned = openDatabase(':memory:')
      try {
        const put = owned.database.prepare('INSERT INTO memory_words (rowid, terms) VALUES (?, ?)')
        entries.forEach((one, index) => put.run(index, indexedTerms(one.user, one.text)))
        const terms = queryTerms(query)
        const match = matchOf(user, terms)
        const found = match === null ? [] : allValues(prepareReads(owned.database).findMemory, match).map(([rowid]) => Number(rowid))
        const ranking = new Ranking(terms)
        entries.forEach((one, index) => {
          if (one.user === user) ranking.see({ id: String(index), conversation: '', session: 1, atMs: 0, role: 'user', text: one.text })
        })
        const hits = ranking.hits(entries.length).map(({ id }) => Number(id))
        assert.deepEqual(new Set(found), new Set(hits))
      } finally {
        owned.close()
      }
    }),
    { numRuns: 300 },
  )
})
