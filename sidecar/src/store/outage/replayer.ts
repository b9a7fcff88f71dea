/** Tells the store steps that it was not told, or may have lost. */
import { StoreError } from '../store.ts'
import type { BudgetStore } from '../store.ts'
import type { StepJournal } from './step-journal.ts'
import { conversationOf, replay } from './steps.ts'
import type { OutageStep } from './steps.ts'
import type { Tail } from './tail.ts'

export interface ReplayerOptions {
  /** The time that all who share the store go by. */
  readonly nowMs: () => number
  /** How long a hold that is entered afterwards lives on, unless it is renewed. */
  readonly holdLifeMs: number
  /** Told of a step that no store would take. */
  readonly onTrouble?: (error: Error) => void
}

export class Replayer {
  readonly #options: ReplayerOptions
  readonly #tail: Tail
  #count = 0

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
    const steps = journal.next()
    if (steps.length === 0) throw new StoreError('corrupt', `${journal.unsent} steps that were kept for the store cannot be read`)
    try {
      await this.all(store, steps)
    } catch (error) {
      journal.again()
      throw error
    }
    journal.arrived()
    // Whoever takes the store's place may lack them again.
    for (const step of steps) this.#tail.add(step, performance.now())
  }

  /** Conversations beside each other, each in its order; but a user is forgotten after all that was before, whatever conversation has it. */
  async all(store: BudgetStore, steps: readonly OutageStep[]): Promise<void> {
    let from = 0
    for (const [index, step] of steps.entries()) {
      if (step.kind !== 'forget') continue
      await this.#beside(store, steps.slice(from, index))
      await this.#tell(store, step)
      from = index + 1
    }
    await this.#beside(store, steps.slice(from))
  }

  async #beside(store: BudgetStore, steps: readonly OutageStep[]): Promise<void> {
    const chains = Map.groupBy(steps, conversationOf)
    await Promise.all(
      [...chains.values()].map(async (chain) => {
        for (const step of chain) await this.#tell(store, step)
      }),
    )
  }

  async #tell(store: BudgetStore, step: OutageStep): Promise<void> {
    const { nowMs, holdLifeMs, onTrouble } = this.#options
    const now = nowMs()
    try {
      await replay(store, step, now, now + holdLifeMs)
      this.#count += 1
    } catch (error) {
      if (error instanceof StoreError && error.code !== 'corrupt') throw error
      // No store would take it, now or ever: what comes after it shall not wait for that.
      onTrouble?.(error instanceof Error ? error : new Error(String(error)))
    }
  }
}
