/** Plays a schedule on the model, which answers at once, or on a store of an engine, many steps at the same time. */
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { openEmbeddedStore } from '@farebox/sidecar/store/embedded.ts'
import { ModelStore } from '@farebox/sidecar/store/model.testing.ts'
import type { BudgetRules } from '@farebox/sidecar/store/model.testing.ts'
import type { BudgetStore } from '@farebox/sidecar/store/store.ts'
import { schedule, START_MS } from './schedule.ts'
import type { Action, Answer } from './schedule.ts'

/** Throws `SimulationError` for what must not happen. Returns the number of steps. */
export function playOnModel(seed: number, rules?: BudgetRules): number {
  const clock = { ms: START_MS }
  const model = new ModelStore(() => clock.ms, rules)
  const moves = schedule(seed)
  let steps = 0
  for (let move = moves.next(); move.done !== true;) {
    const answers = move.value.map((action) => onModel(action, model, clock))
    steps += answers.length
    move = moves.next(answers)
  }
  return steps
}

function onModel(action: Action, model: ModelStore, clock: { ms: number }): Answer {
  switch (action.kind) {
    case 'reserve':
      return { kind: 'reserve', answer: model.reserve(action.step) }
    case 'settle':
      return { kind: 'settle', answer: model.settle(action.step) }
    case 'void':
      return { kind: 'void', status: model.void(action.step) }
    case 'renew':
      model.renew(action.ids, action.expiresAtMs)
      return { kind: 'done' }
    case 'charge':
      return { kind: 'charge', status: model.charge(action.step) }
    case 'update':
      return { kind: 'update', answer: model.update(action.step) }
    case 'sweep':
      return { kind: 'sweep', expired: model.sweep(action.step).expired.map(({ id }) => id) }
    case 'read':
      return { kind: 'read', snapshot: model.read(action.query) }
    case 'ledger':
      return { kind: 'ledger', entries: model.books.ledger }
    case 'totals':
      return { kind: 'totals', totals: model.readTotals(action.query) }
    case 'clock':
      clock.ms += action.byMs
      return { kind: 'done' }
    case 'crash':
      // A sidecar died, and the store lives on: holds are charged as they expire.
      return { kind: 'crash', charged: false }
  }
}

/** On the embedded engine. With a folder its file is there, and a crash leaves what a killed process would; else it is in memory. */
export async function playOnEmbedded(seed: number, folder: string | null): Promise<number> {
  const clock = { ms: START_MS }
  const place = folder === null ? null : mkdtempSync(join(folder, 'run-'))
  let file = place === null ? ':memory:' : join(place, 'books-0.sqlite')
  let store = openEmbeddedStore({ file, nowMs: () => clock.ms, writer: 'inline' })
  let crashes = 0
  const moves = schedule(seed)
  let steps = 0
  try {
    for (let move = moves.next(); move.done !== true;) {
      const answers = await Promise.all(
        move.value.map(async (action): Promise<Answer> => {
          if (action.kind === 'clock') {
            clock.ms += action.byMs
            return { kind: 'done' }
          }
          if (action.kind !== 'crash') return onStore(action, store)
          if (place === null) return { kind: 'crash', charged: false }
          const next = join(place, `books-${++crashes}.sqlite`)
          copyAsCrashed(file, next)
          await store.close()
          file = next
          store = openEmbeddedStore({ file, nowMs: () => clock.ms, writer: 'inline' })
          return { kind: 'crash', charged: true }
        }),
      )
      steps += answers.length
      move = moves.next(answers)
    }
  } finally {
    await store.close()
    if (place !== null) rmSync(place, { recursive: true })
  }
  return steps
}

/** What a store answers to a step. */
export async function onStore(action: Exclude<Action, { kind: 'clock' | 'crash' }>, store: BudgetStore): Promise<Answer> {
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
    case 'totals':
      return { kind: 'totals', totals: await store.readTotals(action.query) }
  }
}

/** All that a killed process would leave of a store's files. */
function copyAsCrashed(file: string, copy: string): void {
  for (const name of readdirSync(dirname(file))) {
    if (!name.startsWith(basename(file)) || name.endsWith('.lock') || name.endsWith('-shm')) continue
    copyFileSync(join(dirname(file), name), copy + name.slice(basename(file).length))
  }
}

/** A folder in memory where there is one, so that a thousand files cost no disk. */
export function simulationFolder(): string {
  return mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'farebox-simulation-'))
}
