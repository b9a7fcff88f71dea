/** What users said while a shared store was away, and what is forgotten of it. */
import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { conversationFor, reserveStep, START_MS } from '../steps.testing.ts'
import type { BudgetStore } from '../store.ts'
import { openBooks, ready, said, Stage } from './stage.testing.ts'
import type { Server } from './stage.testing.ts'

let stage: Stage
let server: Server
beforeEach(() => {
  stage = new Stage()
  server = stage.server
})
afterEach(() => stage.close())

async function heard(store: BudgetStore, user = 'ann'): Promise<readonly string[]> {
  return (await store.searchMemory({ user, query: '', limit: 9, nowMs: START_MS })).hits.map(({ id }) => id)
}

test('what users said meanwhile is in the store when it is back; until then nobody can search it, or have it forgotten', async () => {
  const store = await stage.open()
  await store.remember(said('before'))
  assert.deepEqual(await heard(store), ['before'])
  server.mode = 'deaf'
  await store.remember(said('during'))
  await assert.rejects(heard(store), { code: 'away' })
  await assert.rejects(store.forgetUser({ user: 'ann', nowMs: START_MS }), { code: 'away' })
  const today = { tier: 'pro', fromDay: '2026-11-24', toDay: '2026-11-24', timesMedian: 2, atLeast: [], limit: 1 }
  await assert.rejects(store.readUsers(today), { code: 'away' })
  await assert.rejects(store.listQuiet({ tiers: ['pro'], quietSinceMs: START_MS, limit: 1, nowMs: START_MS }), { code: 'away' })
  assert.deepEqual(await heard(server.books), ['before'])
  server.mode = 'up'
  await ready(store)
  assert.deepEqual(await heard(store), ['during', 'before'])
  assert.equal((await store.forgetUser({ user: 'ann', nowMs: START_MS })).entries, 2)
  assert.deepEqual(await heard(store), [])
})

test('a user who was forgotten is forgotten again by a store that comes back without the last steps', async () => {
  const store = await stage.open()
  const cut = { kind: 'cut', id: 'e1', cause: 'Reset', leading: 0, count: 1, originals: 'd', text: 'theirs', savedBytes: 0 } as const
  const initial = conversationFor('A', START_MS, { user: 'ann' })
  for (const id of ['A', 'B', 'C'])
    await store.reserve(
      reserveStep(
        id,
        START_MS,
        { atLeast: 1n, atMost: 1n },
        { conversation: id, initial: { ...initial, id }, change: { addEdits: [cut] } },
      ),
    )
  await store.remember(said('m1'))
  await store.forgetUser({ user: 'ann', nowMs: START_MS })
  const older = openBooks()
  await older.remember(said('m0'))
  server.restart('second', older)
  await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
  await ready(store)
  assert.deepEqual(await heard(older), [])
  // What this sidecar remembers of the conversation, for the next outage, has no text of theirs either.
  server.mode = 'deaf'
  for (const id of ['A', 'B', 'C']) {
    const { conversation } = await store.read({ conversation: id, accounts: [], nowMs: START_MS })
    assert.deepEqual([conversation?.user, conversation?.edits], ['ann', []])
  }
})

test('so is what a conversation quotes that only the memory named, though the store may have lost that memory', async () => {
  const store = await stage.open()
  const cut = { kind: 'cut', id: 'e1', cause: 'Reset', leading: 0, count: 1, originals: 'd', text: 'theirs', savedBytes: 0 } as const
  const quote = { initial: conversationFor('A', START_MS, { user: null }), change: { addEdits: [cut] }, nowMs: START_MS }
  for (const conversation of ['A', 'B']) await store.update({ ...quote, conversation, initial: { ...quote.initial, id: conversation } })
  // They are told again in the order in which they were taken, though these are of a conversation, and forgetting is of a user.
  const another = { ...cut, id: 'e2' }
  await store.update({ ...quote, conversation: 'A', change: { addEdits: [another] } })
  await store.remember(said('m1'))
  assert.deepEqual(await store.forgetUser({ user: 'ann', nowMs: START_MS }), { entries: 1, conversations: ['A'] })
  const older = openBooks()
  await older.update({ ...quote, conversation: 'A' })
  server.restart('second', older)
  await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
  await ready(store)
  const edits = async (of: BudgetStore, conversation: string) =>
    (await of.read({ conversation, accounts: [], nowMs: START_MS })).conversation?.edits
  assert.deepEqual([await edits(older, 'A'), await edits(older, 'B')], [[], [cut]])
  server.mode = 'deaf'
  assert.deepEqual([await edits(store, 'A'), await edits(store, 'B')], [[], [cut]])
})
