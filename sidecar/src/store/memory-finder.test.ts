import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTick } from 'node:timers/promises'
import { openEmbeddedStore } from './embedded.ts'
import { inFolder } from './in-folder.testing.ts'
import { START_MS } from './steps.testing.ts'
import { MEMORY_ENTRIES_MAX } from './store.ts'
import type { MemoryEntry } from './store.ts'

const SAID: MemoryEntry = { id: 'm1', conversation: 'A', session: 1, atMs: START_MS, role: 'user', text: 'where is my order' }

test(
  'finds its way in the memories of many users, and lets others have their turn',
  inFolder(async (file) => {
    const store = openEmbeddedStore({ file, nowMs: () => START_MS })
    const words = ['order', 'refund', 'shoes', 'coat', 'late', 'where', 'is', 'my', 'the', 'parcel', '退款']
    const text = (from: number): string =>
      Array.from({ length: 60 }, (_, index) => words[(from * 7 + index * index) % words.length]).join(' ')
    for (let user = 0; user < 5; user++)
      for (let from = 0; from < MEMORY_ENTRIES_MAX; from += 500) {
        const entries = Array.from({ length: 500 }, (_, index) => ({ ...SAID, id: `m${from + index}`, text: text(from + index + user) }))
        await store.remember({ user: `user ${user}`, entries, expiresAtMs: START_MS + 1_000, nowMs: START_MS })
      }
    const ask = (query: string) => store.searchMemory({ user: 'user 3', query, limit: 20, nowMs: START_MS })
    await ask('all of them are in the tables then')
    let turns = 0
    const searching = new AbortController()
    const counting = (async () => {
      while (!searching.signal.aborted) {
        await nextTick()
        turns += 1
      }
    })()
    const startMs = performance.now()
    for (const query of ['refund', 'the order of my shoes', '退款']) assert.equal((await ask(query)).hits.length, 20)
    const tookMs = performance.now() - startMs
    searching.abort()
    await counting
    assert.ok(turns > 10, `others had ${turns} turns`)
    assert.deepEqual((await ask('nowhere')).hits, [])
    assert.ok(tookMs < 10_000, `three searches took ${tookMs} ms`)
    await store.close()
  }),
)
