/** What tests of outages stand on: a shared store that can be cut off, stores of sidecars in front of it, and what is asked of both. */
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import type { Account } from '../../core/budget.ts'
import { openEmbeddedStore } from '../embedded.ts'
import { reserveStep, START_MS } from '../steps.testing.ts'
import { StoreError } from '../store.ts'
import type { BudgetStore, RememberStep, ReserveStep } from '../store.ts'
import { ShelteredStore } from './sheltered-store.ts'
import type { ServerRun, SharedStore, ShelterOptions } from './sheltered-store.ts'

const TRIES = 500

/** One shared store, and the folders of as many sidecars as are opened on it. */
export class Stage {
  readonly server = new Server()
  /** Of all folders. */
  readonly parent = mkdtempSync(join(tmpdir(), 'farebox-outage-'))
  /** Of the sidecars that are given no other. */
  readonly folder = join(this.parent, 'outage')
  /** What a sidecar may spend by itself, of what was left. */
  percent = 10
  /** How long steps are kept after the store was told them; null: as in production. */
  keepMs: number | null = 0
  readonly #opened: ShelteredStore[] = []

  async open(more: Partial<ShelterOptions> = {}): Promise<ShelteredStore> {
    const store = await ShelteredStore.open({
      folder: this.folder,
      connect: async () => {
        if (this.server.mode !== 'up') throw new StoreError('away', 'nobody listens')
        return this.server.shared
      },
      nowMs: () => START_MS,
      allowancePercent: () => this.percent,
      holdLifeMs: 90_000,
      graceMs: 0,
      ...(this.keepMs === null ? {} : { keepMs: this.keepMs }),
      ...more,
    })
    this.#opened.push(store)
    return store
  }

  /** Until nothing is kept that the store should be told. */
  async emptied(): Promise<void> {
    for (let tries = 0; readdirSync(this.folder).length > 0; tries++) {
      assert.ok(tries < TRIES, 'something is left of it')
      await sleep(10)
    }
  }

  async close(): Promise<void> {
    for (const store of this.#opened) await store.close()
    rmSync(this.parent, { recursive: true, force: true })
  }
}

/** A shared store whose connection can be cut: before a step arrives, or before its answer does. */
export class Server {
  books = openBooks()
  run = 'first'
  knownMs = Number.POSITIVE_INFINITY
  /** `deaf`: steps do not arrive; `mute`: they do, and are not answered. */
  mode: 'up' | 'deaf' | 'mute' = 'up'
  /** Runs when a step was done, and when the run is asked for. */
  onDone: (name: keyof BudgetStore) => void = () => undefined
  onRun: () => void = () => undefined
  /** How long a step takes, in turns of the event loop. */
  turns: () => number = () => 0
  /** Steps under way, now and at most. */
  atOnce = 0
  atOnceMost = 0
  #connections = 1

  get connections(): number {
    return this.#connections
  }
  restart(run: string, books: BudgetStore): void {
    this.#connections += 1
    this.run = run
    this.books = books
  }
  get shared(): SharedStore {
    const store = new Proxy({} as BudgetStore, {
      get:
        (_target, name: keyof BudgetStore) =>
        async (...values: never[]) => {
          if (name === 'close') return
          if (this.mode === 'deaf') throw new StoreError('away', 'deaf')
          this.atOnce += 1
          this.atOnceMost = Math.max(this.atOnceMost, this.atOnce)
          const step: (...values: never[]) => Promise<unknown> = this.books[name]
          const answer = await step.apply(this.books, values)
          for (let left = this.turns(); left > 0; left--) await turn()
          this.atOnce -= 1
          this.onDone(name)
          if (this.mode === 'mute') throw new StoreError('away', 'mute')
          return answer
        },
    })
    const run = async (): Promise<ServerRun> => {
      if (this.mode !== 'up') throw new StoreError('away', this.mode)
      this.onRun()
      return { name: this.run, knownMs: this.knownMs }
    }
    return { store, connections: () => this.#connections, run }
  }
}

export function openBooks(): BudgetStore {
  return openEmbeddedStore({ file: ':memory:', nowMs: () => START_MS, writer: 'inline' })
}

/** Until all is told to the store, and calls are asked of it again. */
export async function ready(store: ShelteredStore): Promise<void> {
  for (let tries = 0; store.standing.state !== 'Ready'; tries++) {
    assert.ok(tries < TRIES, `${store.standing.state}: ${store.standing.reason}`)
    await sleep(10)
  }
}

export function hold(id: string, amount: bigint, cap: bigint | null = 1_000n): ReserveStep {
  return reserveStep(id, START_MS, { atLeast: amount, atMost: amount, cap })
}

export function chargeOf(operationId: string, cost: bigint): Parameters<BudgetStore['charge']>[0] {
  const note = { conversation: 'A' }
  return { operationId, accounts: ['c:A:1'], cost, atMs: START_MS, note, conversation: 'A', change: {} }
}

/** One entry of a user's memory. */
export function said(id: string, user = 'ann'): RememberStep {
  return {
    user,
    entries: [{ id, conversation: 'A', session: 1, atMs: START_MS, role: 'user', text: `the words of ${id}` }],
    expiresAtMs: START_MS + 3_600_000,
    nowMs: START_MS,
  }
}

export async function balanceOf(store: BudgetStore, account = 'c:A:1'): Promise<Account | undefined> {
  return (await store.read({ conversation: 'A', accounts: [account], nowMs: START_MS })).accounts.get(account)
}

/** Of every entry of the ledger, in its order: the operation, and the cost. */
export async function spentBy(store: BudgetStore): Promise<readonly (readonly [string, bigint])[]> {
  return (await store.readLedger({ afterSequence: 0, limit: 1_000 })).map(({ operationId, cost }) => [operationId, cost] as const)
}

export function byId(spent: readonly (readonly [string, bigint])[]): readonly (readonly [string, bigint])[] {
  return spent.toSorted(([a], [b]) => (a < b ? -1 : 1))
}
