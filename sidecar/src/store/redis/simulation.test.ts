/** The schedules of `test/simulation`, judged by its oracle: on one tag by three sidecars in turn, and spread over tags. */
import { randomInt } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import type { BudgetStore } from '../store.ts'
import { schedule, START_MS } from '../../../../test/simulation/schedule.ts'
import type { Action, Answer } from '../../../../test/simulation/schedule.ts'
import { openRedisStore } from './redis.ts'
import { redisProgram, startRedis } from './test-server.ts'
import type { TestServer } from './test-server.ts'

const ON_ONE_TAG = 600
const SPREAD = 200
const AT_ONCE = 6
const SIDECARS = 3

const program = redisProgram()
const asked = process.env['FAREBOX_SEED']
const first = asked === undefined ? randomInt(2 ** 31) : Number(asked)
const count = (whenAll: number): number => (asked === undefined ? whenAll : 1)

if (program !== null)
  describe('spent + held <= budget, entries sum to spent, settling twice is settling once: on Redis', () => {
    let server: TestServer
    before(async () => {
      server = await startRedis(program)
    })
    after(() => server.stop())

    it(`in ${count(ON_ONE_TAG)} random schedules, by ${SIDECARS} sidecars in turn`, () => playAll(server.url, count(ON_ONE_TAG), 1))
    it(`in ${count(SPREAD)} spread over seven tags`, () => playAll(server.url, count(SPREAD), 7))
  })

async function playAll(url: string, count: number, tags: number): Promise<void> {
  await Promise.all(
    Array.from({ length: AT_ONCE }, async (_, lane) => {
      for (let seed = first + lane; seed < first + count; seed += AT_ONCE) {
        const clock = { ms: START_MS }
        const open = (): Promise<BudgetStore> =>
          openRedisStore({ url, namespace: `s${seed}-${tags}`, nowMs: () => clock.ms, answerMsMax: 5_000, tags })
        const stores = await Promise.all(Array.from({ length: tags === 1 ? SIDECARS : 1 }, open))
        try {
          await play(seed, stores, clock, tags === 1)
        } catch (error) {
          throw new Error(`${String(error)} (FAREBOX_SEED=${seed} plays it again)`, { cause: error })
        } finally {
          await Promise.all(stores.map((store) => store.close()))
        }
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
    if (atOnce) answers.push(...(await Promise.all(move.value.map((action) => onStore(action, store, clock)))))
    else for (const action of move.value) answers.push(await onStore(action, store, clock))
    // Every sidecar sees where the wall clock goes.
    await Promise.all(stores.map((one) => one.read({ conversation: 'A', accounts: [], nowMs: clock.ms })))
    move = moves.next(answers)
  }
}

async function onStore(action: Action, store: BudgetStore, clock: { ms: number }): Promise<Answer> {
  switch (action.kind) {
    case 'reserve':
      return { kind: 'reserve', answer: await store.reserve(action.step) }
    case 'settle':
      return { kind: 'settle', answer: await store.settle(action.step) }
    case 'void':
      return { kind: 'void', status: await store.void(action.step) }
    case 'renew':
      await store.renew(action.ids, action.expiresAtMs)
      return { kind: 'done' }
    case 'charge':
      return { kind: 'charge', status: await store.charge(action.step) }
    case 'update':
      return { kind: 'update', answer: await store.update(action.step) }
    case 'sweep':
      return { kind: 'sweep', expired: (await store.sweep(action.step)).expired.map(({ id }) => id) }
    case 'read':
      return { kind: 'read', snapshot: await store.read(action.query) }
    case 'ledger':
      return { kind: 'ledger', entries: await store.readLedger({ afterSequence: 0, limit: 10_000 }) }
    case 'clock':
      clock.ms += action.byMs
      return { kind: 'done' }
    case 'crash':
      return { kind: 'crash', charged: false }
  }
}
