/** What is in Redis beside what the contract shows: records of an earlier version, how long keys live, and how fast it is. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { MEMORY_ENTRIES_MAX } from '../store.ts'
import type { BudgetStore, MemoryEntry } from '../store.ts'
import { conversationFor, reserveStep, START_MS } from '../steps.testing.ts'
import { FIRST_FIELDS } from './conversation-record.ts'
import { tagOf, tagPrefix } from './keys.ts'
import { Link } from './link.ts'
import { openRedisStore } from './redis.ts'
import { redisProgram, startRedis } from '../../../../test/support/redis.ts'
import type { TestServer } from '../../../../test/support/redis.ts'

const HOUR_MS = 3_600_000
const program = redisProgram()

function entryOf(id: string, text: string): MemoryEntry {
  return { id, conversation: 'A', session: 1, atMs: START_MS, role: 'user', text }
}

if (program !== null)
  describe('what users said, in Redis', () => {
    let server: TestServer
    let namespaces = 0
    before(async () => {
      server = await startRedis(program)
    })
    after(() => server.stop())

    const withStore =
      (run: (store: BudgetStore, link: Link, namespace: string, clock: { ms: number }) => Promise<void>, tags = 1) =>
      async (): Promise<void> => {
        const clock = { ms: START_MS }
        const namespace = `memory-${++namespaces}`
        const store = await openRedisStore({ url: server.url, namespace, nowMs: () => clock.ms, answerMsMax: 5_000, tags })
        const link = await Link.open({ url: server.url, answerMsMax: 5_000 })
        try {
          await run(store, link, namespace, clock)
        } finally {
          await link.close()
          await store.close()
        }
      }

    it(
      'reads the record of a conversation that an earlier version wrote, and writes it as it is now',
      withStore(async (store, link, namespace, clock) => {
        const resolution = { kind: 'reversed', atMs: START_MS + 5 } as const
        const initial = conversationFor('A', clock.ms, { user: 'ann' })
        await store.update({ conversation: 'A', initial, change: { addUserTurn: true, resolution, turnAtMs: clock.ms }, nowMs: clock.ms })
        const key = `${tagPrefix(namespace, 0)}k:A`
        const record = String(await link.ask((client) => client.get(key)))
        const earlier = record.split('\n').slice(0, FIRST_FIELDS).join('\n')
        await link.ask((client) => client.set(key, earlier))
        const read = async () => (await store.read({ conversation: 'A', accounts: [], nowMs: clock.ms })).conversation
        const known = await read()
        assert.deepEqual([known?.turns, known?.resolution, known?.userTurns, known?.resolvedAtMs], [1, 'reversed', 0, null])
        assert.deepEqual([known?.stateAtMs, known?.boundaryAtMs, known?.userAlerts, known?.earlierAlerts], [null, null, null, []])
        const [listed] = await store.listConversations({ limit: 9, nowMs: clock.ms })
        assert.deepEqual({ ...listed, edits: [], readyEdits: [] }, known)
        const state = { is: 'ended', atMs: START_MS } as const
        await store.update({ conversation: 'A', change: { addUserTurn: true, resolution, state }, nowMs: clock.ms })
        const now = await read()
        assert.deepEqual([now?.userTurns, now?.resolvedAtMs, now?.state, now?.stateAtMs], [1, START_MS + 5, 'ended', START_MS])
        // One of a later version, which has more: what it has more stays.
        await link.ask((client) => client.set(key, `${record}\nmore`))
        await store.update({ conversation: 'A', change: { atTaskBoundary: { is: true, atMs: START_MS } }, nowMs: clock.ms })
        assert.match(String(await link.ask((client) => client.get(key))), /\nmore$/)
        assert.equal((await read())?.atTaskBoundary, true)
      }),
    )

    it(
      'forgets what was said by users who never come back: by the sweep, and by the life of the keys',
      withStore(async (store, link, namespace, clock) => {
        const key = (kind: string): string => `${tagPrefix(namespace, 0)}${kind}`
        const remember = (id: string, lifeMs: number) =>
          store.remember({ user: 'ann', entries: [entryOf(id, 'hello')], expiresAtMs: clock.ms + lifeMs, nowMs: clock.ms })
        await remember('m1', HOUR_MS)
        await remember('m2', 2 * HOUR_MS)
        for (const kind of ['m:ann', 'i:ann', 'j:ann']) {
          const life = Number(String(await link.ask((client) => client.pttl(key(kind)))))
          assert.ok(life > 2 * HOUR_MS && life < 72 * HOUR_MS, `${kind} lives for ${life} ms`)
        }
        const entries = async (): Promise<string> => String(await link.ask((client) => client.hlen(key('m:ann'))))
        clock.ms += HOUR_MS
        await store.sweep({ nowMs: clock.ms, limit: 1 })
        assert.equal(await entries(), '1')
        clock.ms += HOUR_MS
        await store.sweep({ nowMs: clock.ms, limit: 1 })
        assert.equal(await entries(), '0')
        assert.equal(String(await link.ask((client) => client.exists(key('memories'), key('i:ann'), key('j:ann')))), '0')
      }),
    )

    it(
      'keeps no list of quiet conversations that are gone, though nobody ever asks for it',
      withStore(async (store, link, namespace, clock) => {
        const talk = (id: string) =>
          store.update({ conversation: id, initial: conversationFor(id, clock.ms), change: { turnAtMs: clock.ms }, nowMs: clock.ms })
        const quiet = `${tagPrefix(namespace, 0)}n:pro`
        for (const id of ['A', 'B', 'C']) await talk(id)
        assert.equal(String(await link.ask((client) => client.zcard(quiet))), '3')
        clock.ms += 37 * 24 * HOUR_MS
        await talk('D')
        assert.deepEqual(await link.ask((client) => client.zrange(quiet, '0', '-1')), ['D'])
        assert.ok(Number(String(await link.ask((client) => client.pttl(quiet)))) > 0)
      }),
    )

    it(
      'forgets the texts of a conversation that is not at home with its user',
      withStore(async (store, link, namespace, clock) => {
        const talk = Array.from({ length: 50 }, (_, index) => `talk${index}`).find((id) => tagOf(id, 5) !== tagOf('ann', 5)) ?? ''
        const account = `c:${talk}:1`
        const fact = { accounts: [account], cost: 1n, atMs: clock.ms, note: {}, conversation: talk, change: {} }
        await store.charge({ operationId: 'x1', ...fact })
        const cut = { kind: 'cut', id: 'e1', cause: 'Reset', leading: 0, count: 1, originals: 'd', text: 'theirs', savedBytes: 0 } as const
        await store.reserve(
          reserveStep(
            'o1',
            clock.ms,
            { atLeast: 1n, atMost: 1n },
            {
              conversation: talk,
              initial: conversationFor(talk, clock.ms, { user: 'ann' }),
              change: { addEdits: [cut], addReadyEdits: [{ ...cut, id: 'e2' }] },
              reservation: { draws: [{ account, cap: null }] },
            },
          ),
        )
        assert.equal(await link.ask((client) => client.exists(`${tagPrefix(namespace, tagOf(talk, 5))}k:${talk}`)).then(String), '1')
        await store.forgetUser({ user: 'bob', nowMs: clock.ms })
        const read = async () => (await store.read({ conversation: talk, accounts: [], nowMs: clock.ms })).conversation
        assert.equal((await read())?.edits.length, 1)
        await store.forgetUser({ user: 'ann', nowMs: clock.ms })
        const left = await read()
        assert.deepEqual([left?.edits, left?.readyEdits, left?.user], [[], [], 'ann'])
      }, 5),
    )

    it(
      'forgets texts in whatever tag, of conversations that only the memory names; a second try still knows which they are',
      withStore(async (store, link, namespace, clock) => {
        const ids = Array.from({ length: 30 }, (_, index) => `talk${index}`)
        assert.equal(new Set(ids.map((id) => tagOf(id, 5))).size, 5, 'in every tag there is one')
        const cut = { kind: 'cut', id: 'e1', cause: 'Reset', leading: 0, count: 1, originals: 'd', text: 'theirs', savedBytes: 0 } as const
        for (const id of ids)
          await store.update({ conversation: id, initial: conversationFor(id, clock.ms), change: { addEdits: [cut] }, nowMs: clock.ms })
        const entries = ids.map((id) => ({ ...entryOf(id, 'theirs'), conversation: id }))
        const remember = () => store.remember({ user: 'ann', entries, expiresAtMs: clock.ms + HOUR_MS, nowMs: clock.ms })
        await remember()
        // Conversations of one tag cannot be listed: the memory, which names those of all tags, must stay.
        const talks = `${tagPrefix(namespace, tagOf('talk0', 5))}talks`
        await link.ask((client) => client.rename(talks, `${talks}.aside`))
        await link.ask((client) => client.set(talks, 'no list'))
        await assert.rejects(store.forgetUser({ user: 'ann', nowMs: clock.ms }))
        const count = async () => (await store.searchMemory({ user: 'ann', query: '', limit: 100, nowMs: clock.ms })).hits.length
        assert.equal(await count(), ids.length)
        await link.ask((client) => client.rename(`${talks}.aside`, talks))
        const forgotten = await store.forgetUser({ user: 'ann', nowMs: clock.ms })
        assert.deepEqual(forgotten, { entries: ids.length, conversations: ids.toSorted() })
        for (const id of ids)
          assert.deepEqual((await store.read({ conversation: id, accounts: [], nowMs: clock.ms })).conversation?.edits, [], id)
        await remember()
        const [first] = await Promise.all([
          store.forgetUser({ user: 'ann', nowMs: clock.ms }),
          store.remember({ user: 'ann', entries: [entryOf('new', 'later')], expiresAtMs: clock.ms + HOUR_MS, nowMs: clock.ms }),
        ])
        assert.equal(first.entries + (await count()), ids.length + 1, 'what is said meanwhile is forgotten or stays, as a whole')
      }, 5),
    )

    it(
      'finds its way in the memories of many users',
      withStore(async (store, _link, _namespace, clock) => {
        const words = ['order', 'refund', 'shoes', 'coat', 'late', 'where', 'is', 'my', 'the', 'parcel', '退款']
        const text = (from: number): string =>
          Array.from({ length: 60 }, (_, index) => words[(from * 7 + index * index) % words.length]).join(' ')
        for (let user = 0; user < 5; user++)
          for (let from = 0; from < MEMORY_ENTRIES_MAX; from += 200) {
            const entries = Array.from({ length: 200 }, (_, index) => entryOf(`m${from + index}`, text(from + index + user)))
            await store.remember({ user: `user ${user}`, entries, expiresAtMs: clock.ms + HOUR_MS, nowMs: clock.ms })
          }
        const startMs = performance.now()
        for (const query of ['refund', 'the order of my shoes', '退款']) {
          const { hits } = await store.searchMemory({ user: 'user 3', query, limit: 20, nowMs: clock.ms })
          assert.equal(hits.length, 20)
        }
        const tookMs = performance.now() - startMs
        assert.ok(tookMs < 8_000, `three searches took ${tookMs} ms`)
      }, 3),
    )
  })
