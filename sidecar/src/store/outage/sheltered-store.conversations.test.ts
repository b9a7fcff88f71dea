/** Conversations of a shared store that goes away: how they go on here, and what the store knows of them afterwards. */
import assert from 'node:assert/strict'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import type { ConversationChange } from '../../core/conversation.ts'
import { conversationFor, reserveStep, settleStep, START_MS } from '../steps.testing.ts'
import type { BudgetStore } from '../store.ts'
import { balanceOf, chargeOf, hold, ready, Stage } from './stage.testing.ts'
import type { Server } from './stage.testing.ts'

let stage: Stage
let server: Server
beforeEach(() => {
  stage = new Stage()
  server = stage.server
})
afterEach(() => stage.close())

test('a conversation goes on as it was last seen', async () => {
  const store = await stage.open()
  const change: ConversationChange = { addRungs: { rungs: ['Summarize'], reason: 'threshold' } }
  await store.reserve({ ...hold('a', 10n), change })
  server.mode = 'deaf'
  const seen = await store.read({ conversation: 'A', accounts: ['c:A:1'], nowMs: START_MS })
  assert.deepEqual(seen.conversation?.rungs, ['Summarize'])
  const more: ConversationChange = { addRungs: { rungs: ['DowngradeModel'], reason: 'fit' } }
  await store.reserve({ ...hold('b', 10n), change: more, initial: seen.conversation ?? conversationFor('A', START_MS) })
  const again = await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
  assert.deepEqual(again.conversation?.rungs, ['Summarize', 'DowngradeModel'])
  await store.update({ conversation: 'A', change: { atTaskBoundary: { is: true, atMs: START_MS } }, nowMs: START_MS })
  server.mode = 'up'
  await ready(store)
  const shared = await server.books.read({ conversation: 'A', accounts: [], nowMs: START_MS })
  assert.deepEqual([shared.conversation?.rungs, shared.conversation?.atTaskBoundary], [['Summarize', 'DowngradeModel'], true])
  // A hold that was granted here is held there by now.
  await store.settle(settleStep('b', START_MS, 10n))
  assert.deepEqual(await balanceOf(server.books), { spent: 10n, held: 10n, heldInput: 0n })
})

test('what a conversation came to in an outage is known in the next: owner, rungs, edits and its history', async () => {
  const store = await stage.open()
  const cut = { kind: 'cut', id: 'e1', cause: 'Reset', leading: 0, count: 1, originals: 'd', text: '{}', savedBytes: 0 } as const
  const initial = conversationFor('A', START_MS, { user: 'ann' })
  const change: ConversationChange = { addRungs: { rungs: ['Summarize'], reason: 'threshold' }, addEdits: [cut] }
  server.mode = 'deaf'
  await store.reserve({ ...hold('a', 10n), initial, change })
  await store.settle(settleStep('a', START_MS, 10n, { chain: ['d1'] }))
  const backAndAway = async (): Promise<void> => {
    server.mode = 'up'
    await ready(store)
    server.mode = 'deaf'
  }
  const known = async () => {
    const { conversation } = await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
    return [conversation?.user, conversation?.turns, conversation?.rungs, conversation?.edits]
  }
  await backAndAway()
  assert.deepEqual(await known(), ['ann', 1, ['Summarize'], [cut]])
  assert.equal(await store.findByChain(['d2', 'd1'], START_MS), 'A')
  const ben = await store.reserve({ ...hold('b', 10n), initial: conversationFor('A', START_MS, { user: 'ben' }) })
  assert.equal(ben.status, 'moved', 'it is not theirs')
  assert.equal(ben.snapshot.conversation?.user, 'ann')
  const seen = { contractHash: 'k1', user: 'ann', session: 1 }
  const next = await store.reserve({ ...hold('c', 10n), seen, initial })
  assert.deepEqual([next.status, next.snapshot.conversation?.rungs], ['held', ['Summarize']])
  await store.settle(settleStep('c', START_MS, 10n))
  await backAndAway()
  assert.deepEqual(await balanceOf(server.books), { spent: 20n, held: 0n, heldInput: 0n })
  assert.deepEqual(await known(), ['ann', 2, ['Summarize'], [cut]])
})

test('so is what was said or charged without a turn', async () => {
  const store = await stage.open()
  const initial = conversationFor('A', START_MS)
  const boundary: ConversationChange = { atTaskBoundary: { is: true, atMs: START_MS } }
  const steps = [
    () => store.update({ conversation: 'A', initial, change: boundary, nowMs: START_MS }),
    () => store.charge({ ...chargeOf('cost', 3n), change: { addDrivers: { other: 3n } } }),
  ]
  for (const step of steps) {
    server.mode = 'deaf'
    await step()
    server.mode = 'up'
    await ready(store)
  }
  server.mode = 'deaf'
  const { conversation } = await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
  assert.deepEqual([conversation?.atTaskBoundary, conversation?.drivers.other], [true, 3n])
})

test('a call that was under way when the store went away ends in the conversation that others go on with here, and is known later', async () => {
  const store = await stage.open()
  for (const id of ['a', 'b']) await store.reserve(hold(id, 10n))
  server.mode = 'deaf'
  const boundary: ConversationChange = { atTaskBoundary: { is: true, atMs: START_MS } }
  await store.update({ conversation: 'A', initial: conversationFor('A', START_MS), change: boundary, nowMs: START_MS })
  const told = await store.settle(settleStep('a', START_MS, 7n, { chain: ['d1'] }))
  assert.deepEqual([told.snapshot.conversation?.turns, told.snapshot.conversation?.atTaskBoundary], [1, true])
  await store.settle(settleStep('b', START_MS, 7n, { chain: ['d2'] }))
  for (const _outage of [1, 2]) {
    const { conversation } = await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
    assert.deepEqual([conversation?.turns, conversation?.atTaskBoundary], [2, true])
    assert.equal(await store.findByChain(['d2'], START_MS), 'A')
    server.mode = 'up'
    await ready(store)
    server.mode = 'deaf'
  }
})

test('an equal beginning in an outage is no longer history than the one that was known before', async () => {
  const store = await stage.open()
  await store.reserve(hold('a', 10n))
  await store.settle(settleStep('a', START_MS, 7n, { chain: ['greeting', 'question'] }))
  server.mode = 'deaf'
  await store.reserve({ ...hold('b', 10n), conversation: 'B', initial: conversationFor('B', START_MS) })
  await store.settle(settleStep('b', START_MS, 7n, { conversation: 'B', chain: ['greeting'] }))
  assert.equal(await store.findByChain(['question', 'greeting'], START_MS), 'A')
  assert.equal(await store.findByChain(['another', 'greeting'], START_MS), 'B')
})

test('the longest beginning is found, though less of it was known before than is here since a restart', async () => {
  server.mode = 'deaf'
  const first = await stage.open()
  await first.reserve(hold('a', 10n))
  await first.settle(settleStep('a', START_MS, 7n, { chain: ['greeting', 'question'] }))
  await first.close()
  const store = await stage.open()
  await store.reserve({ ...hold('b', 10n), conversation: 'B', initial: conversationFor('B', START_MS) })
  await store.settle(settleStep('b', START_MS, 7n, { conversation: 'B', chain: ['greeting'] }))
  assert.equal(await store.findByChain(['answer', 'question', 'greeting'], START_MS), 'A')
  assert.equal(await store.findByChain(['another', 'greeting'], START_MS), 'B')
  assert.equal(await store.findByChain(['another'], START_MS), null)
})

test('a conversation that was opened again stays open when its end is told again, or late', async () => {
  const store = await stage.open()
  const end: ConversationChange = {
    ofSession: 1,
    state: { is: 'ended', atMs: START_MS },
    addRungs: { rungs: ['EndConversation'], reason: 'threshold' },
  }
  const initial = conversationFor('A', START_MS)
  const stateOf = async (books: BudgetStore) => {
    const { conversation } = await books.read({ conversation: 'A', accounts: [], nowMs: START_MS })
    return [conversation?.state, conversation?.rungs]
  }
  const openAgain = (atMs: number) => server.books.update({ conversation: 'A', change: { state: { is: 'open', atMs } }, nowMs: START_MS })
  await store.update({ conversation: 'A', initial, change: end, nowMs: START_MS })
  assert.deepEqual(await stateOf(server.books), ['ended', ['EndConversation']])
  await openAgain(START_MS + 5)
  server.restart('second', server.books)
  await store.read({ conversation: 'A', accounts: [], nowMs: START_MS })
  await ready(store)
  assert.deepEqual(await stateOf(server.books), ['open', []], 'it was in the tail')
  server.mode = 'deaf'
  await store.update({ conversation: 'A', change: { ...end, state: { is: 'ended', atMs: START_MS + 6 } }, nowMs: START_MS })
  await openAgain(START_MS + 7)
  server.mode = 'up'
  await ready(store)
  assert.deepEqual(await stateOf(server.books), ['open', []], 'it was in the journal')
})

test('of a conversation that was there before, no turn keeps the edits: the store has them, or is told them', async () => {
  const store = await stage.open()
  const text = 'x'.repeat(50_000)
  const edit = (id: string) => ({ kind: 'cut', id, cause: 'Summarize', leading: 0, count: 1, originals: 'd', text, savedBytes: 0 }) as const
  const edits: ReturnType<typeof edit>[] = []
  const seen = { contractHash: 'k1', user: null, session: 1 }
  const say = async (conversation: string, id: string, isNew: boolean): Promise<void> => {
    const initial = conversationFor(conversation, START_MS, { edits: isNew ? [] : [...edits] })
    const note = { conversation, session: 1, tier: 'pro' }
    await store.reserve(
      reserveStep(
        `${conversation} ${id}`,
        START_MS,
        { atLeast: 1n, atMost: 1n, cap: null },
        { conversation, initial, seen: isNew ? null : seen, reservation: { note }, change: isNew ? { addEdits: [edit('e1')] } : {} },
      ),
    )
    await store.settle(settleStep(`${conversation} ${id}`, START_MS, 1n, { conversation }))
  }
  await say('A', 'before', true)
  edits.push(edit('e1'))
  server.mode = 'deaf'
  await say('B', 'before', true)
  for (let count = 0; count < 10; count++) for (const conversation of ['A', 'B']) await say(conversation, String(count), false)
  const [folder] = readdirSync(stage.folder)
  const kept = readdirSync(join(stage.folder, folder ?? ''), { withFileTypes: true }).filter(({ name }) => name.startsWith('steps.'))
  const bytes = kept.reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0)
  assert.ok(bytes > 50_000 && bytes < 100_000, `${bytes} bytes are kept`)
  server.mode = 'up'
  await ready(store)
  for (const conversation of ['A', 'B']) {
    const found = (await server.books.read({ conversation, accounts: [], nowMs: START_MS })).conversation
    assert.deepEqual([found?.turns, found?.edits.map(({ id }) => id)], [11, ['e1']], conversation)
  }
})
