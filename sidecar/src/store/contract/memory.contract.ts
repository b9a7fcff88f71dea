/** What an engine must remember of what users said, find of it, and forget. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import * as fc from 'fast-check'
import { CUT } from '../schedule.testing.ts'
import { conversationFor, reserveStep, settleStep } from '../steps.testing.ts'
import { MEMORY_ENTRIES_MAX, MEMORY_TEXT_BYTES_MAX } from '../store.ts'
import type { BudgetStore, MemoryEntry, MemoryQuery } from '../store.ts'
import { balance, kinds, withStoreOf } from './engine.testing.ts'
import type { Clock, OpenEmptyStore } from './engine.testing.ts'

const HOUR_MS = 3_600_000

export function memoryContract(open: OpenEmptyStore): void {
  const withStore = withStoreOf(open)

  it(
    'keeps what a user said once, and finds it best first, or newest first when nothing is asked for',
    withStore(async (store, clock) => {
      const { entryOf, remember, search } = saidBy(store, clock)
      const first = entryOf('m1', 'My refund for the shoes')
      await remember('ann', [first, entryOf('m2', 'Shoes and a coat', clock.ms + 5), entryOf('m3', '退款怎么办理', clock.ms + 3)])
      await remember('ann', [{ ...first, text: 'something else' }])
      const found = await search('ann', 'shoes REFUND')
      assert.deepEqual(
        found.hits.map(({ id }) => id),
        ['m1', 'm2'],
      )
      const { score, ...hit } = found.hits[0] ?? {}
      assert.deepEqual(hit, first)
      assert.ok((score ?? 0) > 0)
      assert.deepEqual(
        (await search('ann', '退款')).hits.map(({ id }) => id),
        ['m3'],
      )
      assert.deepEqual(await search('ann', 'else'), { hits: [], next: null })
      const ids: string[] = []
      for (let cursor: string | undefined; ;) {
        const page = await search('ann', '', { limit: 2, ...(cursor === undefined ? {} : { cursor }) })
        ids.push(...page.hits.map(({ id }) => id))
        if (page.next === null) break
        cursor = page.next
      }
      assert.deepEqual(ids, ['m2', 'm3', 'm1'])
      await assert.rejects(search('ann', 'shoes', { cursor: 'before:1:m1' }), RangeError)
    }),
  )

  it(
    "never shows another user's text, whatever is asked for",
    withStore(async (store, clock) => {
      const { entryOf, remember, search } = saidBy(store, clock)
      const words = ['refund', 'refunds', '退款', 'ann', 'bob', 'user:bob', '"', '*', 'OR', 'NOT', '{user}: bob', ') OR user : (bob']
      const users = ['ann', 'bob', 'an', '*']
      const texts = fc.array(fc.constantFrom(...words), { minLength: 1, maxLength: 5 }).map((picked) => picked.join(' '))
      const own = new Map<string, Map<string, string>>(users.map((user) => [user, new Map()]))
      let count = 0
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...users), texts, fc.constantFrom(...users), texts, async (sayer, text, asker, query) => {
          const id = `m${count++ % 40}`
          await remember(sayer, [entryOf(id, text)])
          if (own.get(sayer)?.has(id) !== true) own.get(sayer)?.set(id, text)
          for (const asked of [query, '', asker])
            for (const hit of (await search(asker, asked)).hits) assert.equal(hit.text, own.get(asker)?.get(hit.id))
        }),
        { numRuns: 120 },
      )
      assert.ok((await search('ann', 'refund')).hits.length > 0)
    }),
  )

  it(
    'keeps no more of a text, and no more entries of a user, than it may: the oldest go first',
    withStore(async (store, clock) => {
      const { entryOf, remember, search } = saidBy(store, clock)
      const long = `start ${'word '.repeat(MEMORY_TEXT_BYTES_MAX / 5)} end`
      await remember('ann', [entryOf('long', long)])
      assert.equal((await search('ann', 'start')).hits[0]?.text, long.slice(0, MEMORY_TEXT_BYTES_MAX))
      assert.deepEqual((await search('ann', 'end')).hits, [])
      for (let from = 0; from <= MEMORY_ENTRIES_MAX; from += 500)
        await remember(
          'ann',
          Array.from({ length: 500 }, (_, index) => entryOf(`m${from + index}`, 'again', clock.ms + 1 + from + index)),
        )
      await remember('bob', [entryOf('b1', 'again')])
      await remember('ann', [entryOf('old', 'too old already', clock.ms)])
      const count = async (user: string): Promise<string[]> => {
        const ids: string[] = []
        for (let cursor: string | undefined; ;) {
          const page = await search(user, '', cursor === undefined ? {} : { cursor })
          ids.push(...page.hits.map(({ id }) => id))
          if (page.next === null) return ids
          cursor = page.next
        }
      }
      const kept = await count('ann')
      assert.equal(kept.length, MEMORY_ENTRIES_MAX)
      assert.deepEqual([kept[0], kept.at(-1)], [`m${MEMORY_ENTRIES_MAX + 499}`, 'm500'])
      assert.deepEqual(await count('bob'), ['b1'])
      assert.equal((await search('ann', 'old')).hits.length, 0)
      assert.equal((await store.forgetUser({ user: 'ann', nowMs: clock.ms })).entries, MEMORY_ENTRIES_MAX)
    }),
  )

  it(
    'forgets what was said when its time is over, and no sooner, by a clock that never runs backwards',
    withStore(async (store, clock) => {
      const { entryOf, remember, search } = saidBy(store, clock)
      await remember('ann', [entryOf('m1', 'short')], 60_000)
      await remember('ann', [entryOf('m2', 'short too')], HOUR_MS)
      await remember('ann', [entryOf('m3', 'never short')], 0)
      clock.ms += 59_999
      assert.equal((await search('ann', 'short')).hits.length, 2)
      clock.ms += 1
      assert.deepEqual(
        (await search('ann', 'short')).hits.map(({ id }) => id),
        ['m2'],
      )
      await store.sweep({ nowMs: clock.ms, limit: 1 })
      clock.ms -= HOUR_MS
      assert.deepEqual(
        (await search('ann', '')).hits.map(({ id }) => id),
        ['m2'],
      )
      await remember('ann', [entryOf('m1', 'short again')], HOUR_MS)
      assert.deepEqual(
        (await search('ann', 'again')).hits.map(({ id }) => id),
        ['m1'],
      )
      clock.ms += HOUR_MS
      assert.deepEqual(await store.forgetUser({ user: 'ann', nowMs: clock.ms }), { entries: 0, conversations: [] })
    }),
  )

  it(
    'forgets a user: what was said, and the edits that have text of theirs; money and notices stay',
    withStore(async (store, clock) => {
      const { entryOf, remember, search } = saidBy(store, clock)
      const notice = { kind: 'notice', id: 'n1', text: 'short of money' } as const
      const ready = { ...CUT, id: 'e9' }
      for (const [id, user] of [
        ['A', 'ann'],
        ['B', 'bob'],
        ['C', 'ann'],
      ] as const) {
        const step = reserveStep(
          `o${id}`,
          clock.ms,
          { atLeast: 5n, atMost: 5n },
          {
            conversation: id,
            initial: conversationFor(id, clock.ms, { user }),
            change: { addEdits: [CUT, notice], addReadyEdits: [ready] },
          },
        )
        await store.reserve(step)
        await store.settle(settleStep(`o${id}`, clock.ms, 5n, { conversation: id }))
      }
      await remember('ann', [entryOf('m1', 'secret'), entryOf('m2', 'more')])
      await remember('bob', [entryOf('m1', 'secret')])
      assert.deepEqual(await store.forgetUser({ user: 'ann', nowMs: clock.ms }), { entries: 2, conversations: ['A'] })
      assert.deepEqual(await store.forgetUser({ user: 'ann', nowMs: clock.ms }), { entries: 0, conversations: [] })
      assert.deepEqual((await search('ann', '')).hits, [])
      assert.equal((await search('bob', 'secret')).hits.length, 1)
      const edits = async (id: string) => {
        const { conversation } = await store.read({ conversation: id, accounts: [], nowMs: clock.ms })
        return [conversation?.edits, conversation?.readyEdits]
      }
      for (const id of ['A', 'C']) assert.deepEqual(await edits(id), [[notice], []])
      assert.deepEqual(await edits('B'), [[CUT, notice], [ready]])
      assert.equal((await balance(store, clock))?.spent, 15n)
      assert.equal((await kinds(store)).length, 3)
      await store.update({ conversation: 'A', change: { addEdits: [CUT] }, nowMs: clock.ms })
      assert.deepEqual(await edits('A'), [[notice, CUT], []])
      await remember('ann', [entryOf('m1', 'said later')])
      assert.deepEqual(
        (await search('ann', '')).hits.map(({ text }) => text),
        ['said later'],
      )
    }),
  )

  it(
    "forgets what is quoted in conversations that a user's memory names, and in those it is told of, whoever's they are",
    withStore(async (store, clock) => {
      const { entryOf, remember } = saidBy(store, clock)
      const notice = { kind: 'notice', id: 'n1', text: 'short of money' } as const
      const replaced = { kind: 'replace', id: 'e2', rung: 'DropRetrieval', original: 'd', text: 'theirs', savedBytes: 0 } as const
      const ready = { ...CUT, id: 'e9' }
      const many = Array.from({ length: 1_100 }, (_, index) => `unknown ${index}`)
      const talks = { A: null, B: 'bob', C: null, D: null, E: 'ann', F: 'cem' } as const
      for (const [id, user] of Object.entries(talks))
        await store.update({
          conversation: id,
          initial: conversationFor(id, clock.ms, { user }),
          change: { addEdits: [CUT, notice], addReadyEdits: [ready] },
          nowMs: clock.ms,
        })
      const said = (id: string, conversation: string): MemoryEntry => ({ ...entryOf(id, 'secret'), conversation })
      await remember('ann', [said('m1', 'C'), said('m2', 'A'), said('m3', 'A'), said('m4', 'F'), said('m5', 'nowhere')])
      await remember('bob', [said('m1', 'B'), said('m2', 'D')])
      for (let from = 0; from < many.length; from += 500)
        await remember(
          'ann',
          many.slice(from, from + 500).map((id) => said(id, id)),
        )
      const { entries, conversations } = await store.forgetUser({ user: 'ann', conversations: ['G'], nowMs: clock.ms })
      assert.equal(entries, 5 + many.length)
      assert.deepEqual(conversations, ['A', 'C', 'F', 'nowhere', ...many].toSorted())
      const edits = async (id: string) => {
        const { conversation } = await store.read({ conversation: id, accounts: [], nowMs: clock.ms })
        return [conversation?.edits, conversation?.readyEdits]
      }
      for (const id of ['A', 'C', 'E', 'F']) assert.deepEqual(await edits(id), [[notice], []], id)
      for (const id of ['B', 'D']) assert.deepEqual(await edits(id), [[CUT, notice], [ready]], id)
      assert.deepEqual(await store.forgetUser({ user: 'ann', conversations: ['D'], nowMs: clock.ms }), { entries: 0, conversations: [] })
      assert.deepEqual(await edits('D'), [[notice], []])
      assert.deepEqual(await edits('B'), [[CUT, notice], [ready]])
      assert.equal((await store.read({ conversation: 'nowhere', accounts: [], nowMs: clock.ms })).conversation, null)
      await store.update({ conversation: 'A', change: { addEdits: [replaced] }, nowMs: clock.ms })
      assert.deepEqual(await edits('A'), [[notice, replaced], []])
      await remember('ann', [said('m1', 'A')])
      assert.deepEqual(await store.forgetUser({ user: 'ann', nowMs: clock.ms }), { entries: 1, conversations: ['A'] })
      assert.deepEqual(await edits('A'), [[notice], []])
    }),
  )
}

/** What users say to this store, and what is found of it. */
function saidBy(store: BudgetStore, clock: Clock) {
  const entryOf = (id: string, text: string, atMs = clock.ms): MemoryEntry => ({
    id,
    conversation: 'A',
    session: 2,
    atMs,
    role: 'assistant',
    text,
  })
  return {
    entryOf,
    remember: (user: string, entries: readonly MemoryEntry[], lifeMs = HOUR_MS) =>
      store.remember({ user, entries, expiresAtMs: clock.ms + lifeMs, nowMs: clock.ms }),
    search: (user: string, query: string, more: Partial<MemoryQuery> = {}) =>
      store.searchMemory({ user, query, limit: 100, nowMs: clock.ms, ...more }),
  }
}
