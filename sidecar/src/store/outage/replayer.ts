/** Tells the store steps that it was not told, or may have lost. */
import { ENDED_OPERATION_LIFE_MS, StoreError } from '../store.ts'
import type { BudgetStore } from '../store.ts'
import type { StepJournal } from './step-journal.ts'
import { conversationOf, costBegun, replay } from './steps.ts'
import type { OutageStep, Telling } from './steps.ts'
import type { Tail } from './tail.ts'

export interface ReplayerOptions {
  /** The time that all who share the store go by. */
  readonly nowMs: () => number
  /** How long a hold that is entered afterwards lives on, unless it is renewed. */
  readonly holdLifeMs: number
  /** Told of a step that no store would take, or that is left out. */
  readonly onTrouble?: (error: Error) => void
  /** How long this process has run, whatever clocks show. */
  readonly ranMs?: () => number
}

/** Few enough that a busy store answers all of them in time. */
const CHAINS_MAX = 50

export class Replayer {
  readonly #options: ReplayerOptions
  readonly #tail: Tail
  #count = 0
  /** Of the tail, what this run of the store was told. */
  #told: { readonly run: string; readonly steps: WeakSet<OutageStep> } | null = null

  constructor(options: ReplayerOptions, tail: Tail) {
    this.#options = options
    this.#tail = tail
  }

  /** Steps told so far. */
  get count(): number {
    return this.#count
  }

  /** The next of a journal that has unsent ones. Rejects with `StoreError` when the store is away: then they come again. */
  async next(store: BudgetStore, journal: StepJournal): Promise<void> {
    const tellings = journal.next(this.#options.nowMs())
    if (tellings.length === 0) throw new StoreError('corrupt', `${journal.unsent} steps that were kept for the store cannot be read`)
    try {
      this.#noted(() => journal.told(this.#options.nowMs()))
      await this.#all(store, tellings)
    } catch (error) {
      journal.again()
      throw error
    }
    this.#noted(() => journal.arrived(this.#options.nowMs()))
    const ranMs = this.ranMs()
    for (const telling of tellings) {
      const { step, knownMs } = telling
      // Whoever takes the store's place may lack them again. Texts would fill the tail.
      if (step.kind !== 'remember' && !mayBeForgotten(telling)) this.#tail.add(step, ranMs, ranMs - (knownMs ?? 0))
    }
  }

  /** The tail, to another run. Rejects with `StoreError` when that is away: the next call goes on where this one stopped. */
  async again(store: BudgetStore, run: string): Promise<void> {
    if (this.#told?.run !== run) this.#told = { run, steps: new WeakSet() }
    const { steps } = this.#told
    const untold = this.#tail.tellings(this.ranMs()).filter(({ step }) => !steps.has(step))
    await this.#all(store, untold, (step) => steps.add(step))
  }

  ranMs(): number {
    return this.#options.ranMs?.() ?? performance.now()
  }

  /** Conversations beside each other, each in its order; but a user is forgotten after all that was before, whatever conversation has it. */
  async #all(store: BudgetStore, tellings: readonly Telling[], onTold: (step: OutageStep) => void = () => undefined): Promise<void> {
    let from = 0
    for (const [index, telling] of tellings.entries()) {
      if (telling.step.kind !== 'forget') continue
      await this.#beside(store, tellings.slice(from, index), onTold)
      await this.#tell(store, telling)
      onTold(telling.step)
      from = index + 1
    }
    await this.#beside(store, tellings.slice(from), onTold)
  }

  /** When it rejects, nothing of it is under way any more. */
  async #beside(store: BudgetStore, tellings: readonly Telling[], onTold: (step: OutageStep) => void): Promise<void> {
    const chains = Map.groupBy(tellings, ({ step }) => conversationOf(step)).values()
    const tellChains = async (): Promise<void> => {
      for (const chain of chains) {
        for (const telling of chain) {
          await this.#tell(store, telling)
          onTold(telling.step)
        }
      }
    }
    const ends = await Promise.allSettled(Array.from({ length: CHAINS_MAX }, tellChains))
    for (const end of ends) if (end.status === 'rejected') throw end.reason
  }

  async #tell(store: BudgetStore, telling: Telling): Promise<void> {
    const { nowMs, holdLifeMs, onTrouble } = this.#options
    const { step } = telling
    if (mayBeForgotten(telling)) return onTrouble?.(new Error(leftOut(step)))
    const now = nowMs()
    try {
      await replay(store, step, now, now + holdLifeMs)
      this.#count += 1
    } catch (error) {
      if (error instanceof StoreError && error.code !== 'corrupt') throw error
      // No store would take it, now or ever: what comes after it shall not wait for that.
      onTrouble?.(asError(error))
    }
  }

  /** A disk that takes no notes must not keep the steps from the store. */
  #noted(note: () => void): void {
    try {
      note()
    } catch (error) {
      this.#options.onTrouble?.(asError(error))
    }
  }
}

/** A store that knew it, and saw it end, may have forgotten that, and would enter its cost again. */
function mayBeForgotten({ step, knownMs }: Telling): boolean {
  return knownMs !== null && knownMs > ENDED_OPERATION_LIFE_MS && costBegun(step) !== null
}

function leftOut(step: OutageStep): string {
  const { operationId, cost } = costBegun(step) ?? { operationId: '', cost: 0n }
  return `operation ${operationId} (${cost} nano-USD) is not told to the store: it is so old that the store may have entered it and forgotten that`
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
