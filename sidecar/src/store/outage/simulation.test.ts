/**
 * Seeded schedules of several sidecars on one store that goes away, loses answers, is replaced by a copy that lacks its last
 * steps, also while it is told what it lacks, or by the one before, while sidecars are killed and started again and time passes. What
 * each call cost is known here, and is the judge.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { randomOf } from '../../../../test/provider/random.ts'
import type { Random } from '../../../../test/provider/random.ts'
import { openEmbeddedStore } from '../embedded.ts'
import { StoreError } from '../store.ts'
import type { BudgetStore } from '../store.ts'
import { conversationFor, START_MS } from '../steps.testing.ts'
import { ShelteredStore } from './sheltered-store.ts'
import type { ServerRun, SharedStore } from './sheltered-store.ts'
import { TAIL_MS } from './tail.ts'

const SCHEDULES = 60
const STEPS = 80
const SIDECARS = 3
const CONVERSATIONS = ['A', 'B', 'C']
const CAP = 700n
const USER = 'u:U'
const USER_CAP = 1_200n
const HOLD_LIFE_MS = 90_000
const PAUSE_MS_MAX = 30_000
/** So that what waits takes several. */
const BATCH = 3
const GRACE_MS = 2_000
const GRACE_TURNS = 20
const LOST_MAX = 15
const ENDS_MAX = 12
const TURNS_MAX = 4
const WAITED_TURNS_MAX = 10_000
/** While it is told what it lacks it goes away once in so many turns, and at most so often. */
const CUTS = { oneIn: 8, most: 3, ends: 4, turns: 8 }

for (const percent of [0, 10, 100])
  test(`${SCHEDULES} schedules with an allowance of ${percent} percent`, async () => {
    for (let seed = 1; seed <= SCHEDULES; seed++) {
      const schedule = new Schedule(seed * 1_000 + percent, percent)
      try {
        await schedule.run()
      } catch (error) {
        throw new Error(`seed ${seed}:\n${schedule.log.join('\n')}`, { cause: error })
      } finally {
        await schedule.close()
      }
    }
  })

interface Call {
  readonly id: string
  readonly conversation: string
  readonly granted: bigint
}

interface SidecarState {
  readonly folder: string
  store: ShelteredStore
  link: 'up' | 'deaf' | 'mute'
  readonly calls: Call[]
  /** All that it was granted in this life. */
  granted: Call[]
}

interface Applied {
  readonly method: keyof BudgetStore
  readonly values: readonly never[]
  readonly atMs: number
}

/** One run of the store. */
interface Server {
  readonly run: number
  readonly books: BudgetStore
  readonly applied: Applied[]
}

class Schedule {
  readonly log: string[] = []
  readonly #percent: number
  readonly #random: Random
  readonly #parent = mkdtempSync(join(tmpdir(), 'farebox-schedule-'))
  readonly #sidecars: SidecarState[] = []
  /** What each operation must have cost in the end; several where each is right. */
  readonly #expected = new Map<string, readonly bigint[]>()
  /** What each call was billed: what it cost, or all that it could where nobody saw its end. */
  readonly #billed = new Map<string, bigint>()
  /** Of sidecars that were killed since: nobody can tell a store again what it lost of these. */
  readonly #orphans = new Map<string, { readonly granted: bigint }>()
  readonly #lost = new Set<string>()
  #nowMs = START_MS
  readonly #servers: Server[] = [{ run: 1, books: this.#open(), applied: [] }]
  #server = this.#servers[0] as Server
  /** The one before, until all know that it is gone, and how many of its first steps the one now has. */
  #former: { readonly server: Server; readonly common: number } | null = null
  /** What some server lacked since all were last connected to one: whoever is killed before that tells it no more. */
  readonly #missed = new Set<string>()
  /** On whichever server. */
  #lastAppliedMs = 0
  #isNewRun = false
  #cuts = 0
  #connections = 1
  #ids = 0
  #outages = 0

  constructor(seed: number, percent: number) {
    this.#random = randomOf(seed)
    this.#percent = percent
  }

  async run(): Promise<void> {
    for (let index = 0; index < SIDECARS; index++) {
      const sidecar = { folder: join(this.#parent, String(index)), link: 'up' as const, calls: [], granted: [] }
      this.#sidecars.push({ ...sidecar, store: await this.#start(sidecar.folder, () => this.#sidecars[index]?.link ?? 'up') })
    }
    for (let step = 0; step < STEPS; step++) await this.#step()
    await this.#mend()
    for (const sidecar of this.#sidecars) while (sidecar.calls.length > 0) await this.#end(sidecar)
    this.#nowMs += 2 * HOLD_LIFE_MS
    await this.#server.books.sweep({ nowMs: this.#nowMs, limit: 10_000 })
    await this.#judge()
  }

  async close(): Promise<void> {
    for (const { store } of this.#sidecars) await store.close()
    for (const { books } of this.#servers) await books.close()
    rmSync(this.#parent, { recursive: true, force: true })
  }

  async #step(): Promise<void> {
    const sidecar = this.#random.pick(this.#sidecars)
    const dice = this.#random.below(100)
    if (dice < 40) return await this.#begin(sidecar)
    if (dice < 75) return await this.#end(sidecar)
    if (dice < 85) {
      sidecar.link = this.#random.pick(['up', 'up', 'deaf', 'mute'] as const)
      this.log.push(`link of ${sidecar.folder.at(-1)}: ${sidecar.link}`)
      return
    }
    if (dice < 90) return await this.#kill(sidecar)
    if (dice < 93) return await this.#replace()
    if (dice < 96) return await this.#mend()
    if (dice < 97) return await this.#charge(sidecar)
    const pauseMs = this.#random.below(PAUSE_MS_MAX)
    this.log.push(`${pauseMs} ms pass`)
    this.#nowMs += pauseMs
    await turn()
  }

  async #begin(sidecar: SidecarState): Promise<void> {
    const conversation = this.#random.pick(CONVERSATIONS)
    const id = `${conversation}${++this.#ids}`
    const atLeast = BigInt(1 + this.#random.below(100))
    const atMost = atLeast + BigInt(this.#random.below(300))
    this.log.push(`${sidecar.folder.at(-1)} begins ${id}: ${atLeast} to ${atMost}`)
    this.#expected.set(id, [0n])
    try {
      const draws = [
        { account: `c:${conversation}:1`, cap: CAP },
        { account: USER, cap: USER_CAP },
      ]
      const seen = await sidecar.store.read({ conversation, accounts: [], nowMs: this.#nowMs })
      const known = seen.conversation
      const answer = await this.#held(
        sidecar.store.reserve({
          conversation,
          initial: known ?? conversationFor(conversation, this.#nowMs, { user: 'U' }),
          seen: known === null ? null : { contractHash: known.contractHash, user: known.user, session: known.session },
          change: {},
          isFirst: true,
          reservation: {
            operationId: id,
            draws,
            input: atLeast / 2n,
            atLeast,
            atMost,
            expiresAtMs: this.#nowMs + HOLD_LIFE_MS,
            note: { conversation, session: 1, tier: 'pro' },
          },
          nowMs: this.#nowMs,
        }),
      )
      this.log.push(`  ${answer.status}`)
      if (answer.status !== 'held') return
      const call = { id, conversation, granted: answer.granted }
      sidecar.calls.push(call)
      sidecar.granted.push(call)
    } catch (error) {
      this.#assertAway(error)
    }
  }

  /** A cost that the app tells: it is spent, whatever the caps say. */
  async #charge(sidecar: SidecarState): Promise<void> {
    const conversation = this.#random.pick(CONVERSATIONS)
    const id = `${conversation}cost${++this.#ids}`
    const cost = BigInt(this.#random.below(20))
    this.log.push(`${sidecar.folder.at(-1)} charges ${id}: ${cost}`)
    await sidecar.store.charge({
      operationId: id,
      accounts: [`c:${conversation}:1`, USER],
      cost,
      atMs: this.#nowMs,
      note: { conversation },
      conversation,
      change: {},
    })
    this.#expected.set(id, [cost])
    sidecar.granted.push({ id, conversation, granted: cost })
  }

  async #held(answer: ReturnType<BudgetStore['reserve']>) {
    const given = await answer
    if (given.status === 'moved') throw new Error('nobody moves a conversation here')
    return given
  }

  async #end(sidecar: SidecarState): Promise<void> {
    const [call] = sidecar.calls.splice(this.#random.below(sidecar.calls.length), 1)
    if (call === undefined) return
    const { id, conversation, granted } = call
    if (this.#random.below(5) === 0) {
      this.log.push(`${sidecar.folder.at(-1)} gives ${id} back`)
      await sidecar.store.void({ operationId: id, atMs: this.#nowMs })
      return
    }
    const cost = BigInt(this.#random.below(Number(granted) + 1))
    this.log.push(`${sidecar.folder.at(-1)} settles ${id}: ${cost} of ${granted}`)
    this.#expected.set(id, [cost])
    this.#billed.set(id, cost)
    const { result } = await sidecar.store.settle({
      settlement: { operationId: id, cost, atMs: this.#nowMs, note: { conversation, tier: 'pro' } },
      conversation,
      change: { turnAtMs: this.#nowMs },
      chain: [],
      alerts: { draws: [], percents: [] },
    })
    assert.notEqual(result.status, 'unknown', id)
  }

  /** Calls that were under way are charged whole. */
  async #kill(sidecar: SidecarState): Promise<void> {
    this.log.push(`${sidecar.folder.at(-1)} is killed`)
    for (const { id, granted } of sidecar.calls.splice(0)) {
      this.#expected.set(id, [granted])
      this.#billed.set(id, granted)
    }
    for (const { id, granted } of sidecar.granted.splice(0)) {
      this.#orphans.set(id, { granted })
      if (this.#missed.has(id)) this.#mayBeLost(id)
    }
    await sidecar.store.close()
    sidecar.store = await this.#start(sidecar.folder, () => sidecar.link)
  }

  async #replace(): Promise<void> {
    await this.#failOver()
    // Until it is there nobody answers, and calls end.
    for (const sidecar of this.#sidecars) sidecar.link = 'deaf'
    for (let ends = this.#random.below(ENDS_MAX); ends > 0; ends--) await this.#end(this.#random.pick(this.#sidecars))
    await this.#mend()
  }

  /** Again, while it is told what it lacks; or the one before is back. Nobody answers for some turns. */
  async #cut(): Promise<void> {
    this.#cuts += 1
    if (this.#former !== null && this.#random.below(2) === 0) this.#failBack(this.#former)
    else await this.#failOver()
    const links = this.#sidecars.map(({ link }) => link)
    for (const sidecar of this.#sidecars) sidecar.link = 'deaf'
    for (let ends = this.#random.below(CUTS.ends); ends > 0; ends--) await this.#end(this.#random.pick(this.#sidecars))
    await turns(this.#random.below(CUTS.turns))
    if (this.#random.below(4) === 0) await this.#kill(this.#random.pick(this.#sidecars))
    for (const [index, sidecar] of this.#sidecars.entries()) sidecar.link = links[index] ?? 'up'
  }

  /** Another server, which lacks the last steps, takes the place of this one. It lags no more than a tail. */
  async #failOver(): Promise<void> {
    const { applied } = this.#server
    const safeMs = this.#lastAppliedMs - TAIL_MS
    const unsafe = applied.length - 1 - applied.findLastIndex(({ atMs }) => atMs < safeMs)
    const lost = Math.min(this.#random.below(LOST_MAX), unsafe)
    this.log.push(`the store is replaced by one without the last ${lost} steps`)
    const kept = applied.slice(0, applied.length - lost)
    const next = { run: this.#servers.length + 1, books: this.#open(), applied: kept }
    for (const step of kept) await applyTo(next.books, step)
    this.#former = { server: this.#server, common: kept.length }
    this.#servers.push(next)
    this.#moveTo(next, applied.slice(kept.length))
    this.#isNewRun = true
  }

  #failBack({ server, common }: { readonly server: Server; readonly common: number }): void {
    this.log.push('the server before is back')
    this.#former = null
    this.#moveTo(server, this.#server.applied.slice(common))
  }

  #moveTo(server: Server, missed: readonly Applied[]): void {
    for (const { values } of missed) {
      const id = operationOf(values[0])
      if (id === null) continue
      this.#missed.add(id)
      this.#mayBeLost(id)
    }
    this.#server = server
    this.#connections += 1
  }

  /** The hold is gone and the cost with it, or the hold is there and its end is gone. */
  #mayBeLost(id: string): void {
    const orphan = this.#orphans.get(id)
    if (orphan === undefined) return
    this.#expected.set(id, [...(this.#expected.get(id) ?? []), 0n, orphan.granted])
    this.#lost.add(id)
  }

  async #mend(): Promise<void> {
    this.log.push('all are connected again')
    for (const sidecar of this.#sidecars) sidecar.link = 'up'
    for (const { store } of this.#sidecars) {
      // Who has not noticed yet does now.
      await store.read({ conversation: 'A', accounts: [], nowMs: this.#nowMs }).catch((error: unknown) => this.#assertAway(error))
    }
    this.#cuts = 0
    const notReady = (): ShelteredStore | undefined => this.#sidecars.find(({ store }) => store.standing.state !== 'Ready')?.store
    let waited = 0
    for (let store = notReady(); store !== undefined; store = notReady()) {
      assert.ok(waited++ < WAITED_TURNS_MAX, `${store.standing.state}: ${store.standing.reason}`)
      await turn()
      if (this.#cuts < CUTS.most && this.#random.below(CUTS.oneIn) === 0) await this.#cut()
      await this.#beginMeanwhile()
    }
    for (const { store } of this.#sidecars) assert.equal(store.standing.unsent, 0)
    this.#isNewRun = false
    this.#former = null
    this.#missed.clear()
  }

  /** Who is back first spends what the others may not have told yet. */
  async #beginMeanwhile(): Promise<void> {
    for (const sidecar of this.#sidecars) if (sidecar.store.standing.state === 'Ready') await this.#begin(sidecar)
  }

  async #judge(): Promise<void> {
    const entries = await this.#server.books.readLedger({ afterSequence: 0, limit: 10_000 })
    const costs = new Map<string, bigint>()
    for (const { operationId, cost } of entries) costs.set(operationId, (costs.get(operationId) ?? 0n) + cost)
    for (const [id, expected] of this.#expected) {
      const cost = costs.get(id) ?? 0n
      assert.ok(expected.includes(cost), `${id} is in the books with ${cost}, not ${expected.join(' or ')}`)
    }
    const accounts = [...CONVERSATIONS.map((id) => `c:${id}:1`), USER]
    const { accounts: balances } = await this.#server.books.read({ conversation: 'A', accounts, nowMs: this.#nowMs })
    for (const [account, { held }] of balances) {
      assert.equal(held, 0n, `${account} is held`)
      const cap = account === USER ? USER_CAP : CAP
      const most = cap + ((cap * BigInt(this.#percent)) / 100n) * BigInt(this.#outages)
      let billed = 0n
      for (const [id, cost] of this.#billed) {
        // What a store lost together with the sidecar that knew it, nobody could count.
        if (!this.#lost.has(id) && (account === USER || account === `c:${id.charAt(0)}:1`)) billed += cost
      }
      assert.ok(billed <= most, `${account}: ${billed} was billed, over ${this.#outages} outages`)
    }
  }

  #assertAway(error: unknown): void {
    assert.ok(error instanceof StoreError && error.code === 'away', String(error))
    this.log.push(`  ${error.message}`)
  }

  #start(folder: string, link: () => SidecarState['link']): Promise<ShelteredStore> {
    return ShelteredStore.open({
      folder,
      connect: async () => {
        if (link() !== 'up') throw new StoreError('away', 'nobody listens')
        return this.#shared(link)
      },
      nowMs: () => this.#nowMs,
      ranMs: () => this.#nowMs,
      allowancePercent: () => this.#percent,
      holdLifeMs: HOLD_LIFE_MS,
      openBooks: () => this.#open(),
      graceMs: GRACE_MS,
      batch: BATCH,
      wait: async (ms, signal) => {
        // Those that are back with it have told it their last steps by then.
        await turns(ms === GRACE_MS ? GRACE_TURNS : 1, signal)
      },
      onChange: ({ state, reason }) => {
        if (state === 'Away') this.#outages += 1
        this.log.push(`  ${folder.at(-1)} is ${state}${reason === null ? '' : `: ${reason}`}`)
      },
    })
  }

  #shared(link: () => SidecarState['link']): SharedStore {
    const store = new Proxy({} as BudgetStore, {
      get:
        (_target, method: keyof BudgetStore) =>
        async (...values: never[]) => {
          if (method === 'close') return
          const server = this.#server
          await turns(this.#random.below(TURNS_MAX))
          if (link() === 'deaf' || this.#server !== server) throw new StoreError('away', 'deaf')
          const answer = await this.#apply({ method, values, atMs: this.#nowMs })
          await turns(this.#random.below(TURNS_MAX))
          if (link() === 'mute' || this.#server !== server) throw new StoreError('away', 'mute')
          return answer
        },
    })
    const run = async (): Promise<ServerRun> => {
      if (link() !== 'up') throw new StoreError('away', link())
      return { name: String(this.#server.run), knownMs: this.#isNewRun ? 0 : Number.POSITIVE_INFINITY }
    }
    return { store, connections: () => this.#connections, run }
  }

  #apply(applied: Applied): Promise<unknown> {
    this.#server.applied.push(applied)
    this.#lastAppliedMs = applied.atMs
    return applyTo(this.#server.books, applied)
  }

  #open(): BudgetStore {
    return openEmbeddedStore({ file: ':memory:', nowMs: () => this.#nowMs, writer: 'inline' })
  }
}

async function turns(count: number, signal?: AbortSignal): Promise<void> {
  for (let left = count; left > 0; left--) await turn(undefined, { signal })
}

function applyTo(books: BudgetStore, { method, values }: Applied): Promise<unknown> {
  const step: (...values: readonly never[]) => Promise<unknown> = books[method]
  return step.apply(books, [...values])
}

/** Of a reservation, a settlement or a void. */
function operationOf(step: unknown): string | null {
  const of = step as { reservation?: { operationId: string }; settlement?: { operationId: string }; operationId?: string } | undefined
  return of?.reservation?.operationId ?? of?.settlement?.operationId ?? of?.operationId ?? null
}
