/** The schedules of `test/simulation`, judged by its oracle: on one tag by three sidecars in turn, and spread over tags. */
import { after, before, describe, it } from 'node:test'
import type { BudgetStore } from '../store.ts'
import { onStore } from '../../../../test/simulation/play.ts'
import { schedule, START_MS } from '../../../../test/simulation/schedule.ts'
import type { Action, Answer } from '../../../../test/simulation/schedule.ts'
import { Link } from './link.ts'
import { openBooks } from './redis.ts'
import { redisProgram, startRedis } from '../../../../test/support/redis.ts'
import type { TestServer } from '../../../../test/support/redis.ts'
import { schedulesToPlay, SEED } from '../../../../test/support/seed.ts'

const ON_ONE_TAG = schedulesToPlay(600)
const SPREAD = schedulesToPlay(200)
const AT_ONCE = 6
const SIDECARS = 3

const program = redisProgram()

if (program !== null)
  describe('spent + held <= budget, entries sum to spent, settling twice is settling once: on Redis', () => {
    let server: TestServer
    before(async () => {
      server = await startRedis(program)
    })
    after(() => server.stop())

    it(`in ${ON_ONE_TAG} random schedules, by ${SIDECARS} sidecars in turn`, () => playAll(server.url, ON_ONE_TAG, 1))
    it(`in ${SPREAD} spread over seven tags`, () => playAll(server.url, SPREAD, 7))
  })

async function playAll(url: string, count: number, tags: number): Promise<void> {
  const sidecars = tags === 1 ? SIDECARS : 1
  await Promise.all(
    Array.from({ length: AT_ONCE }, async (_, lane) => {
      // A connection for each sidecar, not for each schedule: those would take most of the time.
      const links = await Promise.all(Array.from({ length: sidecars }, () => Link.open({ url, answerMsMax: 5_000 })))
      try {
        for (let seed = SEED + lane; seed < SEED + count; seed += AT_ONCE) {
          const clock = { ms: START_MS }
          const books = { namespace: `s${seed}-${tags}`, nowMs: () => clock.ms, tags }
          const stores = await Promise.all(links.map((link) => openBooks(link, books)))
          try {
            await play(seed, stores, clock, tags === 1)
          } catch (error) {
            throw new Error(`${String(error)} (FAREBOX_SEED=${seed} plays it again)`, { cause: error })
          }
        }
      } finally {
        await Promise.all(links.map((link) => link.close()))
      }
    }),
  )
}

/** Batches go to one sidecar after the other; what is in a batch is asked for at once, where a step is one script. */
async function play(seed: number, stores: readonly BudgetStore[], clock: { ms: number }, atOnce: boolean): Promise<void> {
  const moves = schedule(seed)
  let turn = 0
  for (let move = moves.next(); move.done !== true;) {
    const store = stores[turn++ % stores.length]
    if (store === undefined) throw new RangeError('a schedule needs a store')
    const answers: Answer[] = []
    if (atOnce) answers.push(...(await Promise.all(move.value.map((action) => played(action, store, clock)))))
    else for (const action of move.value) answers.push(await played(action, store, clock))
    // Every sidecar sees where the wall clock goes.
    await Promise.all(stores.map((one) => one.read({ conversation: 'A', accounts: [], nowMs: clock.ms })))
    move = moves.next(answers)
  }
}

async function played(action: Action, store: BudgetStore, clock: { ms: number }): Promise<Answer> {
  if (action.kind === 'crash') return { kind: 'crash', charged: false }
  if (action.kind !== 'clock') return await onStore(action, store)
  clock.ms += action.byMs
  return { kind: 'done' }
}
