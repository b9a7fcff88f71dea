import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import type { Draw } from '../../core/budget.ts'
import { replay } from '../outage/steps.ts'
import type { OutageStep } from '../outage/steps.ts'
import { StoreError } from '../store.ts'
import type { BudgetStore, ListQuery, ReserveStep, SettleStep } from '../store.ts'
import { conversationFor, reserveStep, settleStep, START_MS } from '../steps.testing.ts'
import { tagOf, tagPrefix } from './keys.ts'
import { Link } from './link.ts'
import { openRedisStore } from './redis.ts'
import { SpreadStore } from './spread.ts'
import { StoreClock } from '../store-clock.ts'
import { Tag } from './tag.ts'
import { redisProgram, startRedis } from '../../../../test/support/redis.ts'
import type { TestServer } from '../../../../test/support/redis.ts'

const TAGS = 5
const WORKLOAD = 'w:shop/bot:month:UTC:1:2026-11'
const program = redisProgram()

/** A turn of a user under a user's and a workload's budget. */
function turn(id: string, user: string, conversation: string, hold: bigint, more: Partial<ReserveStep> = {}): ReserveStep {
  const draws: Draw[] = [
    { account: `c:${conversation}:1`, cap: 1_000n },
    { account: `u:${user}:pro:month:2026-11`, cap: 1_000n },
    { account: WORKLOAD, cap: 1_000n },
  ]
  return reserveStep(
    id,
    START_MS,
    { atLeast: hold, atMost: hold, input: 1n },
    {
      conversation,
      initial: conversationFor(conversation, START_MS, { user }),
      isFirst: true,
      reservation: { draws },
      ...more,
    },
  )
}

if (program !== null)
  describe('a store that is spread over tags', () => {
    let server: TestServer
    let namespaces = 0
    before(async () => {
      server = await startRedis(program)
    })
    after(() => server.stop())

    const withStores =
      (run: (stores: readonly [BudgetStore, BudgetStore], clock: { ms: number }, namespace: string) => Promise<void>) => async () => {
        const clock = { ms: START_MS }
        const namespace = `spread-${++namespaces}`
        const open = (): Promise<BudgetStore> =>
          openRedisStore({ url: server.url, namespace, nowMs: () => clock.ms, answerMsMax: 5_000, tags: TAGS })
        const stores = [await open(), await open()] as const
        try {
          await run(stores, clock, namespace)
        } finally {
          await Promise.all(stores.map((store) => store.close()))
        }
      }
    const balance = async (store: BudgetStore, account = WORKLOAD) =>
      (await store.read({ conversation: 'none', accounts: [account], nowMs: START_MS })).accounts.get(account)

    it(
      "never grants more than a workload's limit to the calls of many users at once, by two sidecars",
      withStores(async (stores) => {
        const answers = await Promise.all(
          Array.from({ length: 60 }, async (_, index) => {
            const store = stores[index % 2 === 0 ? 0 : 1]
            const answer = await store.reserve(turn(`o${index}`, `user${index % 12}`, `c${index % 12}`, 30n))
            const spentAndHeld = await balance(store)
            assert.ok((spentAndHeld?.held ?? 0n) + (spentAndHeld?.spent ?? 0n) <= 1_000n)
            if (answer.status === 'held') await store.settle(settleStep(`o${index}`, START_MS, 25n, { conversation: `c${index % 12}` }))
            return answer
          }),
        )
        const held = answers.filter(({ status }) => status === 'held').length
        assert.ok(held >= 33, `${held} were held`)
        const entries = await stores[0].readLedger({ afterSequence: 0, limit: 1_000 })
        const entered = entries.reduce((sum, { cost }) => sum + cost, 0n)
        assert.equal(entered, BigInt(held) * 25n)
        assert.deepEqual(await balance(stores[1]), { spent: entered, held: 0n, heldInput: 0n })
      }),
    )

    it(
      'lets a conversation be found by another user, as that of its first',
      withStores(async ([one, other]) => {
        await one.reserve(turn('o1', 'ann', 'talk', 5n))
        const seen = await other.read({ conversation: 'talk', accounts: ['u:bob:pro:month:2026-11'], nowMs: START_MS })
        assert.equal(seen.conversation?.user, 'ann')
        assert.equal((await other.read({ conversation: 'talk', accounts: [], nowMs: START_MS })).conversation?.user, 'ann')
        const answer = await other.reserve(turn('o2', 'bob', 'talk', 5n))
        assert.equal(answer.status, 'moved')
        assert.equal(answer.snapshot.conversation?.user, 'ann')
        assert.equal((await balance(one))?.held, 5n)
      }),
    )

    it(
      'gives a conversation to one user when several begin it at once, or begin it without a user',
      withStores(async (stores) => {
        const users = ['ann', 'bob', 'cem', null, 'eva', 'fay', null, 'hal']
        for (let round = 0; round < 20; round++) {
          const id = `talk${round}`
          const answers = await Promise.all(
            users.map((user, index) => {
              const step = turn(`o${round}-${index}`, user ?? 'none', id, 1n, { initial: conversationFor(id, START_MS, { user }) })
              return stores[index % 2 === 0 ? 0 : 1].reserve(step)
            }),
          )
          const owners = new Set(answers.map(({ snapshot }) => snapshot.conversation?.user))
          assert.equal(owners.size, 1, [...owners].join())
          const [owner] = owners
          assert.ok(answers.every(({ status }, index) => status === (users[index] === owner ? 'held' : 'moved')))
        }
      }),
    )

    it(
      'voids a part whose sidecar died before home heard of the operation, and settles one that home has settled',
      withStores(async ([store], clock, namespace) => {
        const link = await Link.open({ url: server.url })
        try {
          const tagAt = (tag: number): Tag => new Tag({ link, namespace, tag, clock: new StoreClock(() => clock.ms), ticks: { seen: 0 } })
          const workload = tagOf('w:shop/bot', TAGS)
          const user = Array.from({ length: 50 }, (_, index) => `u${index}`).find((name) => tagOf(name, TAGS) !== workload) ?? ''
          const home = tagOf(user, TAGS)
          const lost = turn('lost', user, 'talk', 70n)
          const draws = lost.reservation.draws.filter(({ account }) => account === WORKLOAD)
          await tagAt(workload).holdPart({ reservation: { ...lost.reservation, draws }, home })
          assert.equal((await balance(store))?.held, 70n)

          await store.reserve(turn('done', user, 'talk', 40n))
          // The sidecar dies between the two scripts of its settlement.
          await tagAt(home).settleHere(settleStep('done', START_MS, 33n, { conversation: 'talk' }))
          await store.reserve(turn('live', user, 'talk', 20n))
          await store.renew(['live'], START_MS + 500_000)
          await store.reserve(turn('dead', user, 'talk', 10n))
          assert.equal((await balance(store))?.held, 140n)

          clock.ms += 90_000
          const { expired } = await store.sweep({ nowMs: clock.ms, limit: 100 })
          assert.deepEqual(
            expired.map(({ id }) => id),
            ['dead'],
          )
          assert.deepEqual(await balance(store), { spent: 43n, held: 20n, heldInput: 1n })
          assert.equal((await store.settle(settleStep('live', clock.ms, 20n, { conversation: 'talk' }))).result.status, 'settled')
          assert.equal((await store.settle(settleStep('dead', clock.ms, 4n, { conversation: 'talk' }))).result.status, 'corrected')
          assert.equal(await store.void({ operationId: 'lost', atMs: clock.ms }), 'unknown')
          assert.deepEqual(await balance(store), { spent: 57n, held: 0n, heldInput: 0n })
          const entries = await store.readLedger({ afterSequence: 0, limit: 100 })
          assert.equal(
            entries.reduce((sum, { cost }) => sum + cost, 0n),
            57n,
          )
          const left = await link.ask((client) => client.zcard(`${tagPrefix(namespace, workload)}parts`))
          assert.equal(`${left}`, '0')
        } finally {
          await link.close()
        }
      }),
    )

    it(
      'brings parts to where the operation is when a settlement is repeated',
      withStores(async ([store, other], clock, namespace) => {
        const link = await Link.open({ url: server.url })
        try {
          await store.reserve(turn('o1', 'ann', 'talk', 40n))
          const home = new Tag({ link, namespace, tag: tagOf('ann', TAGS), clock: new StoreClock(() => clock.ms), ticks: { seen: 0 } })
          const step = settleStep('o1', START_MS, 55n, { conversation: 'talk' })
          await home.settleHere(step)
          assert.equal((await other.settle(step)).result.status, 'exists')
          assert.equal((await store.settle(step)).result.status, 'exists')
          assert.deepEqual(await balance(store), { spent: 55n, held: 0n, heldInput: 0n })
          // Of the part no more is left than that it is settled; whoever comes late finds that.
          const late = turn('o1', 'ann', 'talk', 40n, { isFirst: false })
          assert.equal((await other.reserve(late)).status, 'exists')
          const at = tagOf('w:shop/bot', TAGS)
          const workload = new Tag({ link, namespace, tag: at, clock: new StoreClock(() => clock.ms), ticks: { seen: 0 } })
          const draws = late.reservation.draws.filter(({ account }) => account === WORKLOAD)
          assert.deepEqual(await workload.holdPart({ reservation: { ...late.reservation, draws }, home: 0 }), { status: 'ended' })
          await workload.follow('o1', 'settled', 55n, [WORKLOAD])
          await workload.follow('o1', 'voided', 0n, [WORKLOAD])
          assert.deepEqual(await balance(store), { spent: 55n, held: 0n, heldInput: 0n })
        } finally {
          await link.close()
        }
      }),
    )

    it(
      'skips no entry for a reader that goes on from its last sequence, whoever writes meanwhile',
      withStores(async (stores) => {
        const ids = Array.from({ length: 300 }, (_, index) => `x${index}`)
        const read: string[] = []
        let after = 0
        let isWriting = true
        const reading = (async () => {
          for (;;) {
            const wasWriting = isWriting
            const page = await stores[0].readLedger({ afterSequence: after, limit: 7 })
            for (const entry of page) {
              assert.ok(entry.sequence > after)
              after = entry.sequence
              read.push(entry.operationId)
            }
            if (page.length === 0 && !wasWriting) return
          }
        })()
        await Promise.all(
          [0, 1, 2, 3].map(async (lane) => {
            for (let index = lane; index < ids.length; index += 4) {
              const conversation = `c${index % 17}`
              const fact = { accounts: [`c:${conversation}:1`], cost: 1n, atMs: START_MS, note: {}, conversation, change: {} }
              await stores[lane % 2 === 0 ? 0 : 1].charge({ operationId: ids[index] ?? '', ...fact })
            }
          }),
        )
        isWriting = false
        await reading
        assert.deepEqual(read.toSorted(), ids.toSorted())
      }),
    )

    /** Of every tag, what it was asked for: entries, and records of conversations. */
    class CountedTag extends Tag {
      entriesRead = 0
      readonly pages: number[] = []

      override async entries(...query: Parameters<Tag['entries']>): ReturnType<Tag['entries']> {
        const entries = await super.entries(...query)
        this.entriesRead += entries.length
        return entries
      }
      override newest(query: ListQuery): ReturnType<Tag['newest']> {
        const next = super.newest(query)
        return async () => {
          const page = await next()
          this.pages.push(page.items.length)
          return page
        }
      }
    }

    const withTags =
      (make: (options: ConstructorParameters<typeof Tag>[0]) => Tag, run: (store: SpreadStore) => Promise<void>) =>
      async (): Promise<void> => {
        const namespace = `tags-${++namespaces}`
        const link = await Link.open({ url: server.url, answerMsMax: 5_000 })
        const clock = new StoreClock(() => START_MS)
        const ticks = { seen: 0 }
        const store = new SpreadStore(
          Array.from({ length: TAGS }, (_, tag) => make({ link, namespace, tag, clock, ticks })),
          () => START_MS,
        )
        try {
          await run(store)
        } finally {
          await store.close()
        }
      }

    it('reads of each tag little more of the ledger, and of conversations, than is asked for, a few at a time', async () => {
      const tags: CountedTag[] = []
      const make = (options: ConstructorParameters<typeof Tag>[0]): Tag => {
        const tag = new CountedTag(options)
        tags.push(tag)
        return tag
      }
      const count = 1_500
      await withTags(make, async (store) => {
        await Promise.all(
          Array.from({ length: count }, async (_, index) => {
            const id = `c${index}`
            const initial = conversationFor(id, START_MS, { lastTurnAtMs: START_MS + ((index * 7) % count) })
            await store.update({ conversation: id, initial, change: {}, nowMs: START_MS })
            const fact = { accounts: [`c:${id}:1`], cost: 1n, atMs: START_MS, note: {}, conversation: id, change: {} }
            await store.charge({ operationId: `x${index}`, ...fact })
          }),
        )
        const sum = (numbers: readonly number[]): number => numbers.reduce((all, one) => all + one, 0)
        const limit = 200
        for (let after = 0, seen = 0; seen < count; seen += limit) {
          for (const tag of tags) tag.entriesRead = 0
          const page = await store.readLedger({ afterSequence: after, limit })
          assert.equal(page.length, Math.min(limit, count - seen))
          assert.ok(sum(tags.map(({ entriesRead }) => entriesRead)) < 3 * limit)
          after = page.at(-1)?.sequence ?? after
        }
        const listed = await store.listConversations({ limit: 1_200, nowMs: START_MS })
        assert.deepEqual(
          listed.map(({ lastTurnAtMs }) => lastTurnAtMs - START_MS),
          Array.from({ length: 1_200 }, (_, index) => count - 1 - index),
        )
        const pages = tags.flatMap((tag) => tag.pages.splice(0))
        assert.ok(Math.max(...pages) <= 100 && sum(pages) < 2 * 1_200, pages.join())
        assert.equal((await store.listConversations({ limit: 100, nowMs: START_MS })).length, 100)
        assert.ok(sum(tags.flatMap((tag) => tag.pages)) < 3 * 100)
      })()
    })

    /** Home hears the settlement; its answer is lost. */
    let losesNext = false
    class LossyTag extends Tag {
      override async settleHere(step: SettleStep): ReturnType<Tag['settleHere']> {
        const answer = await super.settleHere(step)
        if (!losesNext) return answer
        losesNext = false
        throw new StoreError('away', 'Command timed out')
      }
    }

    it(
      'finishes a settlement whose answer was lost: its digests are known, and alerts fire, once',
      withTags(
        (options) => new LossyTag(options),
        async (store) => {
          await store.reserve(turn('o1', 'ann', 'talk', 1_000n))
          const chain = Array.from({ length: 20 }, (_, index) => `digest${index}`)
          const ofUser = { account: WORKLOAD, cap: 1_200n, period: 'Day1:2026-11-24' }
          const alerts = { draws: [{ account: WORKLOAD, cap: 1_000n }], percents: [70, 90], ofUser }
          const step = settleStep('o1', START_MS, 950n, { conversation: 'talk', chain, alerts })
          losesNext = true
          await assert.rejects(store.settle(step), StoreError)
          const again = await store.settle(step)
          assert.deepEqual([again.result.status, again.firedAlerts, again.firedUserAlerts], ['exists', [70, 90], [70]])
          const { alerts: fired, userAlerts } = again.snapshot.conversation ?? {}
          assert.deepEqual([fired, userAlerts], [[70, 90], { period: ofUser.period, percents: [70] }])
          assert.equal(again.snapshot.conversation?.turns, 1)
          for (const digest of chain) assert.equal(await store.findByChain([digest], START_MS), 'talk', digest)
          assert.deepEqual((await store.settle({ ...step, alerts: { ...alerts, percents: [1] } })).firedAlerts, [])
        },
      ),
    )

    const digests = Array.from({ length: 20 }, (_, index) => `digest${index}`)
    const leading = async (store: BudgetStore): Promise<readonly string[]> => {
      const found = await Promise.all(digests.map((digest) => store.findByChain([digest], START_MS)))
      return digests.filter((_, index) => found[index] === 'talk')
    }

    /** Home has heard the settlement; its answer comes when it is let. */
    let answering: Promise<void> | null = null
    class SlowTag extends Tag {
      override async settleHere(step: SettleStep): ReturnType<Tag['settleHere']> {
        const answer = await super.settleHere(step)
        await answering
        return answer
      }
    }

    it(
      'leads the next call to its conversation by every tag before home has answered the settlement',
      withTags(
        (options) => new SlowTag(options),
        async (store) => {
          const { promise, resolve } = Promise.withResolvers<void>()
          answering = promise
          await store.reserve(turn('o1', 'ann', 'talk', 10n))
          const settling = store.settle(settleStep('o1', START_MS, 5n, { conversation: 'talk', chain: digests }))
          try {
            const endMs = performance.now() + 30_000
            while ((await leading(store)).length < digests.length && performance.now() < endMs) await sleep(5)
            assert.deepEqual(await leading(store), digests)
          } finally {
            resolve()
          }
          assert.equal((await settling).result.status, 'settled')
        },
      ),
    )

    it(
      'leads nowhere by a settlement of what was given back, was held for another conversation, or never',
      withStores(async ([store]) => {
        await store.reserve(turn('o1', 'ann', 'talk', 10n))
        await store.void({ operationId: 'o1', atMs: START_MS })
        const settling = settleStep('o2', START_MS, 5n, { conversation: 'nobody', chain: digests })
        await store.reserve(turn('o2', 'ann', 'talk', 10n))
        await store.settle(settling)
        for (const digest of digests) assert.equal(await store.findByChain([digest], START_MS), null)
        for (const id of ['o1', 'never']) await store.settle(settleStep(id, START_MS, 5n, { conversation: 'talk', chain: digests }))
        assert.deepEqual(await leading(store), [])
      }),
    )

    /** The tag that takes no digests. */
    let refusing: Tag | null = null
    class RefusingTag extends Tag {
      override async putChain(...chain: Parameters<Tag['putChain']>): Promise<void> {
        if (refusing === this) throw new StoreError('away', 'Command timed out')
        await super.putChain(...chain)
      }
    }

    it('settles at home and in parts where a tag takes no digests, and leads there when the settlement is told again', async () => {
      const tags: Tag[] = []
      const make = (options: ConstructorParameters<typeof Tag>[0]): Tag => {
        const tag = new RefusingTag(options)
        tags.push(tag)
        return tag
      }
      await withTags(make, async (store) => {
        const at = digests.map((digest) => tagOf(digest, TAGS)).find((tag) => tag !== tagOf('ann', TAGS))
        assert.ok(at !== undefined)
        refusing = tags[at] ?? null
        await store.reserve(turn('o1', 'ann', 'talk', 10n))
        const step = settleStep('o1', START_MS, 5n, { conversation: 'talk', chain: digests })
        await assert.rejects(store.settle(step), StoreError)
        assert.deepEqual(await balance(store), { spent: 5n, held: 0n, heldInput: 0n })
        assert.equal((await leading(store)).length, digests.filter((digest) => tagOf(digest, TAGS) !== at).length)
        refusing = null
        assert.equal((await store.settle(step)).result.status, 'exists')
        assert.deepEqual(await leading(store), digests)
        assert.deepEqual(await balance(store), { spent: 5n, held: 0n, heldInput: 0n })
        assert.equal((await store.readLedger({ afterSequence: 0, limit: 9 })).length, 1)
      })()
    })

    describe('after a master that came back without its last steps, when these are told again', () => {
      /** Nine calls that cost 90 each, one that goes on, one that was given back, and one that was charged when it expired. */
      const calls = async (store: BudgetStore, clock: { ms: number }, user: string): Promise<readonly OutageStep[]> => {
        const told: OutageStep[] = []
        const hold = async (id: string, amount: bigint): Promise<void> => {
          const step = turn(id, user, 'talk', amount)
          assert.equal((await store.reserve(step)).status, 'held')
          told.push({ kind: 'hold', step, granted: amount })
        }
        await hold('expired', 50n)
        clock.ms += 90_000
        await store.sweep({ nowMs: clock.ms, limit: 9 })
        clock.ms -= 90_000
        for (let index = 0; index < 9; index++) {
          await hold(`o${index}`, 95n)
          const step = settleStep(`o${index}`, START_MS, 90n, { conversation: 'talk', chain: [`digest${index}`] })
          await store.settle(step)
          told.push({ kind: 'settle', step })
        }
        await hold('back', 20n)
        await store.void({ operationId: 'back', atMs: START_MS })
        told.push({ kind: 'void', step: { operationId: 'back', atMs: START_MS }, conversation: 'talk' })
        await hold('live', 60n)
        return told
      }

      for (const lost of ['parts', 'home'] as const)
        it(
          lost === 'parts' ? 'all parts are there again' : 'what a part has does not bind what home holds again',
          withStores(async ([store, other], clock, namespace) => {
            const workload = tagOf('w:shop/bot', TAGS)
            const user = Array.from({ length: 50 }, (_, index) => `u${index}`).find((name) => tagOf(name, TAGS) !== workload) ?? ''
            const raw = new Redis(server.url)
            try {
              const keys = () => raw.keys(`${tagPrefix(namespace, lost === 'parts' ? workload : tagOf(user, TAGS))}*`)
              // The conversation is known already, and nothing of these calls.
              await store.reserve(turn('first', user, 'talk', 1n))
              await store.void({ operationId: 'first', atMs: START_MS })
              const copies = await Promise.all((await keys()).map(async (key) => ({ key, dump: await raw.dumpBuffer(key) })))
              const told = await calls(store, clock, user)
              const before = await balance(other)
              const digests = Array.from({ length: 9 }, (_, index) => `digest${index}`)
              assert.deepEqual(before, { spent: 860n, held: 60n, heldInput: 1n })

              await raw.del(...(await keys()))
              for (const { key, dump } of copies) await raw.restore(key, 0, dump ?? '')
              for (const step of told) await replay(store, step, clock.ms, clock.ms + 90_000)
              // Of the charge that home lost nobody tells: its call tells what it cost.
              if (lost === 'home') await store.settle(settleStep('expired', clock.ms, 50n, { conversation: 'talk' }))
              assert.deepEqual(await balance(other), before)
              for (const digest of digests) assert.equal(await other.findByChain([digest], clock.ms), 'talk', digest)
              for (const step of told) await replay(store, step, clock.ms, clock.ms + 90_000)
              assert.deepEqual(await balance(other), before, 'told once more')

              // What is left of the workload's limit of 1000.
              assert.equal((await other.reserve(turn('over', user, 'talk', 81n))).status, 'busy')
              await other.settle(settleStep('live', clock.ms, 60n, { conversation: 'talk' }))
              assert.deepEqual(await balance(store), { spent: 920n, held: 0n, heldInput: 0n })
              const entries = await store.readLedger({ afterSequence: 0, limit: 100 })
              assert.equal(
                entries.reduce((sum, { cost }) => sum + cost, 0n),
                920n,
              )
              assert.ok(entries.every(({ kind, cost }) => (kind === 'correction' ? cost === -50n : kind !== 'overrun' && cost > 0n)))
            } finally {
              raw.disconnect()
            }
          }),
        )
    })
  })
