/** What an engine must keep of conversations: who goes on in which, how each stands, and for how long. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { ConversationChange } from '../../core/conversation.ts'
import { CUT } from '../schedule.testing.ts'
import { conversationFor, reserveStep, settleStep, START_MS } from '../steps.testing.ts'
import { CONVERSATION_LIFE_MS } from '../store.ts'
import { kinds, withStoreOf } from './engine.testing.ts'
import type { OpenEmptyStore } from './engine.testing.ts'

const HOUR_MS = 3_600_000

export function conversationsContract(open: OpenEmptyStore): void {
  const withStore = withStoreOf(open)

  it(
    'finds the conversation of the longest known prefix',
    withStore(async (store, clock) => {
      for (const [id, chain] of [
        ['A', ['a1', 'a2']],
        ['B', ['b1']],
      ] as const) {
        const initial = conversationFor(id, clock.ms)
        await store.reserve(reserveStep(`o${id}`, clock.ms, { atLeast: 1n, atMost: 1n }, { conversation: id, initial }))
        await store.settle(settleStep(`o${id}`, clock.ms, 1n, { conversation: id, chain }))
      }
      assert.equal(await store.findByChain(['zz', 'b1', 'a1'], clock.ms), 'B')
      assert.equal(await store.findByChain(['a2', 'b1'], clock.ms), 'A')
      assert.equal(await store.findByChain(['zz'], clock.ms), null)
      assert.equal(await store.findByChain([], clock.ms), null)
    }),
  )

  it(
    'learns of a settlement that is told again the digests that lead nowhere, and nothing else',
    withStore(async (store, clock) => {
      for (const id of ['A', 'B']) {
        const initial = conversationFor(id, clock.ms)
        await store.reserve(reserveStep(`o${id}`, clock.ms, { atLeast: 40n, atMost: 40n }, { conversation: id, initial }))
      }
      const settled = settleStep('oA', clock.ms, 90n, { chain: ['d1', 'd2'] })
      await store.settle(settled)
      await store.settle(settleStep('oB', clock.ms, 1n, { conversation: 'B', chain: ['d2'] }))
      const alerts = { draws: [{ account: 'c:A:1', cap: 100n }], percents: [70] }
      const again = await store.settle({ ...settled, chain: ['d1', 'd2', 'd3', 'd4'], alerts })
      assert.deepEqual([again.result.status, again.firedAlerts], ['exists', []])
      assert.deepEqual([again.snapshot.conversation?.turns, again.snapshot.conversation?.alerts], [1, []])
      const found = await Promise.all(['d1', 'd2', 'd3', 'd4'].map((digest) => store.findByChain([digest], clock.ms)))
      assert.deepEqual(found, ['A', 'B', 'A', 'A'])
      await store.reserve(reserveStep('back', clock.ms, { atLeast: 1n, atMost: 1n }))
      await store.void({ operationId: 'back', atMs: clock.ms })
      await store.settle(settleStep('back', clock.ms, 1n, { chain: ['d5'] }))
      assert.equal(await store.findByChain(['d5'], clock.ms), null)
    }),
  )

  it(
    'counts a question once that was asked again while its first call was under way',
    withStore(async (store, clock) => {
      const initial = conversationFor('A', clock.ms)
      const question = { messages: 1, digest: 'aaaa' }
      const asked: readonly (readonly [ConversationChange, number])[] = [
        [{ question }, 1],
        [{ question }, 1],
        [{ question: { messages: 1, digest: 'bbbb' } }, 2],
        [{ question: { messages: 3, digest: 'bbbb' } }, 3],
        [{}, 4],
        [{ openSession: 2, question: { messages: 3, digest: 'bbbb' } }, 1],
        [{ ofSession: 1, question }, 1],
      ]
      const ids = asked.map((_, index) => `o${index}`)
      for (const id of ids) await store.reserve(reserveStep(id, clock.ms, { atLeast: 1n, atMost: 1n }, { initial }))
      for (const [index, [change, userTurns]] of asked.entries()) {
        const told: ConversationChange = { turnAtMs: clock.ms, addUserTurn: true, ...change }
        const { snapshot } = await store.settle(settleStep(ids[index] ?? '', clock.ms, 1n, { change: told }))
        assert.deepEqual([snapshot.conversation?.userTurns, snapshot.conversation?.turns], [userTurns, index + 1], JSON.stringify(change))
      }
    }),
  )

  it(
    'has the ladder apply or not from the session on that a change opens',
    withStore(async (store, clock) => {
      const update = async (change: ConversationChange) =>
        (await store.update({ conversation: 'A', initial: conversationFor('A', clock.ms), change, nowMs: clock.ms }))?.conversation
      const steps: readonly (readonly [ConversationChange, boolean])[] = [
        [{ ladderApplies: false }, true],
        [{ openSession: 2, ladderApplies: false }, false],
        [{ openSession: 2, ladderApplies: true }, false],
        [{ openSession: 3 }, false],
        [{ openSession: 4, ladderApplies: true }, true],
      ]
      for (const [change, ladderApplies] of steps)
        assert.equal((await update(change))?.ladderApplies, ladderApplies, JSON.stringify(change))
    }),
  )

  it(
    'keeps a conversation open that was opened again, though its end is told again; and a task begun whose boundary is',
    withStore(async (store, clock) => {
      const update = (change: ConversationChange) =>
        store.update({ conversation: 'A', initial: conversationFor('A', clock.ms), change, nowMs: clock.ms })
      const end: ConversationChange = {
        addRungs: { rungs: ['Summarize', 'EndConversation'], reason: 'threshold' },
        state: { is: 'ended', atMs: START_MS },
        atTaskBoundary: { is: true, atMs: START_MS },
      }
      const later = { state: { is: 'open', atMs: START_MS + 1 }, atTaskBoundary: { is: false, atMs: START_MS + 1 } } as const
      for (const change of [end, later, end]) await update(change)
      const again = (await update({}))?.conversation
      assert.deepEqual([again?.state, again?.rungs, again?.atTaskBoundary], ['open', ['Summarize'], false])
      assert.deepEqual([again?.stateAtMs, again?.boundaryAtMs], [START_MS + 1, START_MS + 1])
      await update({ openSession: 2 })
      const next = (await update({ ...end, ofSession: 2 }))?.conversation
      assert.deepEqual([next?.state, next?.stateAtMs, next?.atTaskBoundary], ['ended', START_MS, true], 'of another session')
    }),
  )

  it(
    'lists conversations by their last turn, newest first, however many there are, without their edits',
    withStore(async (store, clock) => {
      const count = 450
      const ids = Array.from({ length: count }, (_, index) => `c${index}`)
      const atOf = (index: number): number => START_MS + Math.floor(((index * 7) % count) / 2)
      await Promise.all(
        ids.map((id, index) => {
          const change = { turnAtMs: atOf(index), addEdits: [CUT], addReadyEdits: [CUT] }
          return store.update({ conversation: id, initial: conversationFor(id, START_MS), change, nowMs: clock.ms })
        }),
      )
      const expected = ids
        .map((id, index) => ({ id, atMs: atOf(index) }))
        .toSorted((a, b) => b.atMs - a.atMs || (a.id < b.id ? -1 : 1))
        .map(({ id }) => id)
      for (const limit of [0, 1, 200, 430, 1_000]) {
        const listed = await store.listConversations({ limit, nowMs: clock.ms })
        assert.deepEqual(
          listed.map(({ id }) => id),
          expected.slice(0, limit),
        )
        assert.ok(listed.every((one) => one.turns === 1 && !('edits' in one) && !('readyEdits' in one)))
      }
      clock.ms += CONVERSATION_LIFE_MS + 1
      await store.update({ conversation: 'new', initial: conversationFor('new', clock.ms), change: {}, nowMs: clock.ms })
      const [newest, ...others] = await store.listConversations({ limit: 430, nowMs: clock.ms })
      assert.deepEqual([newest?.id, others], ['new', []])
    }),
  )

  it(
    'lists lone calls by themselves, and never among conversations',
    withStore(async (store, clock) => {
      for (const [index, id] of ['A', 'call-2', 'call-1', 'B', 'call-3'].entries()) {
        const change = { turnAtMs: START_MS + index }
        await store.update({ conversation: id, initial: conversationFor(id, START_MS), change, nowMs: clock.ms })
      }
      const listed = async (query: { readonly limit: number; readonly areLone?: true }) =>
        (await store.listConversations({ ...query, nowMs: clock.ms })).map(({ id }) => id)
      assert.deepEqual(await listed({ limit: 2 }), ['B', 'A'])
      assert.deepEqual(await listed({ limit: 2, areLone: true }), ['call-3', 'call-1'])
      clock.ms += CONVERSATION_LIFE_MS + 1
      await store.update({ conversation: 'call-4', initial: conversationFor('call-4', clock.ms), change: {}, nowMs: clock.ms })
      assert.deepEqual([await listed({ limit: 9 }), await listed({ limit: 9, areLone: true })], [[], ['call-4']])
    }),
  )

  it(
    'lists the conversations that have been quiet and await a resolution, those that have for longest first',
    withStore(async (store, clock) => {
      const talk = async (id: string, tier: string, turnAtMs: number | null): Promise<void> => {
        const change = turnAtMs === null ? {} : { turnAtMs }
        await store.update({ conversation: id, initial: conversationFor(id, START_MS, { tier }), change, nowMs: clock.ms })
      }
      const resolve = (id: string, kind: 'assumed' | 'confirmed' | 'reversed', atMs: number) =>
        store.update({ conversation: id, change: { resolution: { kind, atMs } }, nowMs: clock.ms })
      const quiet = async (tiers: readonly string[], quietSinceMs: number, limit = 9) =>
        (await store.listQuiet({ tiers, quietSinceMs, limit, nowMs: clock.ms })).map(({ id }) => id)
      for (const [id, tier, at] of [
        ['D', 'pro', 40],
        ['B', 'pro', 20],
        ['C', 'basic', 30],
        ['A', 'pro', 10],
        ['E', 'other', 5],
        ['F', 'pro', 20],
      ] as const)
        await talk(id, tier, START_MS + at)
      await talk('none', 'pro', null)
      await talk('call-1', 'pro', START_MS + 1)
      assert.deepEqual(await quiet(['pro', 'basic'], START_MS + 40), ['A', 'B', 'F', 'C'])
      assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS, 2), ['A', 'B'])
      assert.deepEqual(await quiet(['basic', 'pro'], START_MS + HOUR_MS, 4), ['A', 'B', 'F', 'C'])
      assert.deepEqual(await quiet([], START_MS + HOUR_MS), [])
      await resolve('A', 'assumed', START_MS + 50)
      await resolve('B', 'confirmed', START_MS + 50)
      assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS), ['F', 'D'])
      await resolve('A', 'reversed', START_MS + 60)
      assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS), ['F', 'D'], 'taken back, and nothing since')
      await talk('A', 'pro', START_MS + 70)
      await talk('B', 'pro', START_MS + 70)
      assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS), ['F', 'D', 'A'])
      await resolve('A', 'assumed', START_MS + 50)
      assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS), ['F', 'D', 'A'], 'what was told late counts no more')
      const changed = (id: string, change: ConversationChange) => store.update({ conversation: id, change, nowMs: clock.ms })
      await changed('F', { state: { is: 'ended', atMs: clock.ms } })
      assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS), ['D', 'A'], 'cut off by its budget')
      await changed('F', { state: { is: 'open', atMs: clock.ms } })
      await changed('B', { openSession: 2 })
      assert.deepEqual(await quiet(['pro'], START_MS + HOUR_MS), ['F', 'D', 'A', 'B'], 'the session before was resolved')
      clock.ms += CONVERSATION_LIFE_MS + 1
      assert.deepEqual(await quiet(['pro'], clock.ms), [])
    }),
  )

  it(
    'keeps a conversation, its balance and its chain for 35 days after its last turn, and begins anew after that',
    withStore(async (store, clock) => {
      await store.reserve(reserveStep('o1', clock.ms, { atLeast: 90n, atMost: 90n }, { change: { addEdits: [CUT] } }))
      await store.settle(settleStep('o1', clock.ms, 90n, { chain: ['d1'] }))
      clock.ms += CONVERSATION_LIFE_MS
      await store.update({ conversation: 'A', change: { atTaskBoundary: { is: true, atMs: clock.ms } }, nowMs: clock.ms })
      const last = await store.read({ conversation: 'A', accounts: ['c:A:1'], nowMs: clock.ms })
      assert.equal(last.conversation?.edits.length, 1)
      assert.equal(last.accounts.get('c:A:1')?.spent, 90n)
      assert.equal(await store.findByChain(['d1'], clock.ms), 'A')
      clock.ms += 1
      await store.sweep({ nowMs: clock.ms, limit: 10 })
      assert.equal((await store.read({ conversation: 'A', accounts: [], nowMs: clock.ms })).conversation, null)
      assert.equal(await store.findByChain(['d1'], clock.ms), null)
      assert.equal(await store.update({ conversation: 'A', change: {}, nowMs: clock.ms }), null)
      const again = await store.reserve(reserveStep('o2', clock.ms, { atLeast: 90n, atMost: 90n }))
      assert.equal(again.status, 'held')
      assert.equal(again.snapshot.conversation?.turns, 0)
      assert.deepEqual(again.snapshot.conversation?.edits, [])
      assert.deepEqual(await kinds(store), ['settlement 90'])
    }),
  )
}
