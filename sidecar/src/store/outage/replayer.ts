/** Tells the store steps that it was not told, or may have lost. */
import { ENDED_OPERATION_LIFE_MS, StoreError } from '../store.ts'
import type { BudgetStore } from '../store.ts'
import type { StepJournal } from './step-journal.ts'
import { conversationOf, costBegun, isNothing, replay } from './steps.ts'
import type { FiredAlerts, FiredOf, OutageStep, Telling } from './steps.ts'
import type { Tail } from './tail.ts'

export interface ReplayerOptions {
  /** The time that all who share the store go by. */
  readonly nowMs: () => number
  /** How long a hold that is entered afterwards lives on, unless it is renewed. */
  readonly holdLifeMs: number
  /** Told of a step that no store would take, or that is left out (`DroppedStep`), and of a disk that takes no notes. */
  readonly onTrouble?: (error: Error) => void
  /** Told of alerts that the store fired when it was told of a step, and that were not told when the step was taken. */
  readonly onAlerts?: (fired: FiredAlerts) => void
  /** How long this process has run, whatever clocks show. */
  readonly ranMs?: () => number
}

/** The shared store, on the connection on which this run of it was met. */
export interface MetRun {
  readonly name: string
  readonly store: BudgetStore
  /** Throws `StoreError` when that connection was lost: who answers by then may be another run. */
  assertSame(): void
}

/** Of alerts that fired, those that were not told here; they count as told from then on. */
export type NewAlerts = (fired: FiredAlerts) => Promise<FiredOf>

/** Few enough that a busy store answers all of them in time. */
const CHAINS_MAX = 50

export class Replayer {
  readonly #options: ReplayerOptions
  readonly #tail: Tail
  readonly #newAlerts: NewAlerts
  #count = 0
  /** Of what the tail has, what this run of the store was told again, or first. */
  #told: { readonly run: string; readonly steps: WeakSet<OutageStep> } | null = null

  /** `newAlerts`: by default all. */
  constructor(options: ReplayerOptions, tail: Tail, newAlerts: NewAlerts = (fired) => Promise.resolve(fired)) {
    this.#options = options
    this.#tail = tail
    this.#newAlerts = newAlerts
  }

  /** Steps told so far. */
  get count(): number {
    return this.#count
  }

  /** The next of a journal that has unsent ones. Rejects with `StoreError` when the store is away: then they come again. */
  async next(run: MetRun, journal: StepJournal): Promise<void> {
    const tellings = journal.next(this.#options.nowMs())
    if (tellings.length === 0) throw new StoreError('corrupt', `${journal.unsent} steps that were kept for the store cannot be read`)
    try {
      this.#noted(() => journal.told(this.#options.nowMs()))
      await this.#all(
        run.store,
        tellings.filter((telling) => !isOver(telling)),
      )
      run.assertSame()
    } catch (error) {
      journal.again()
      throw error
    }
    this.#noted(() => journal.arrived(this.#options.nowMs()))
    const ranMs = this.ranMs()
    const toldSteps = this.#toldTo(run.name)
    for (const telling of tellings) {
      const { step, knownMs } = telling
      toldSteps.add(step)
      // Whoever takes the store's place may lack them again. Texts would fill the tail.
      if (step.kind !== 'remember' && !mayBeForgotten(telling)) this.#tail.add(step, ranMs, ranMs - (knownMs ?? 0))
    }
  }

  /** The tail, to another run. Rejects with `StoreError` when that is away: the next call goes on where this one stopped. */
  async again(run: MetRun): Promise<void> {
    const steps = this.#toldTo(run.name)
    const untold = this.#tail.tellings(this.ranMs()).filter(({ step }) => !steps.has(step))
    await this.#all(run.store, untold, (step) => {
      run.assertSame()
      steps.add(step)
    })
  }

  #toldTo(run: string): WeakSet<OutageStep> {
    if (this.#told?.run !== run) this.#told = { run, steps: new WeakSet() }
    return this.#told.steps
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
    if (mayBeForgotten(telling)) return onTrouble?.(new DroppedStep(step, TOO_OLD))
    const now = nowMs()
    let fired: FiredAlerts | null
    try {
      fired = await replay(store, step, now, now + holdLifeMs)
      this.#count += 1
    } catch (error) {
      if (error instanceof StoreError && error.code !== 'corrupt') throw error
      // No store would take it, now or ever: what comes after it shall not wait for that.
      onTrouble?.(new DroppedStep(step, `no store would take it: ${asError(error).message}`, { cause: error }))
      return
    }
    if (fired !== null) await this.#alert(fired)
  }

  /** The store fires them never again. Where it cannot be known whether they were told, they are: twice is better than never. */
  async #alert(fired: FiredAlerts): Promise<void> {
    const { onAlerts, onTrouble } = this.#options
    if (onAlerts === undefined) return
    const { ofUser: _ofUser, ...reached } = fired
    const { percents, ofUser } = await this.#newAlerts(fired).catch((error: unknown): FiredOf => {
      onTrouble?.(asError(error))
      return fired
    })
    const news = { percents, ...(ofUser === undefined ? {} : { ofUser }) }
    if (!isNothing(news)) onAlerts({ ...reached, ...news })
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

/** What a user said is no money: a store that lost it is not told it again, for the user may have been forgotten since. */
function isOver({ step, hasArrived }: Telling): boolean {
  return step.kind === 'remember' && hasArrived === true
}

/** A store that knew it, and saw it end, may have forgotten that, and would enter its cost again. */
function mayBeForgotten({ step, knownMs }: Telling): boolean {
  return knownMs !== null && knownMs > ENDED_OPERATION_LIFE_MS && costBegun(step) !== null
}

const TOO_OLD = 'it is so old that the store may have entered it and forgotten that'

/** A step that the store is never told: its books lack it for good. */
export class DroppedStep extends Error {
  override readonly name = 'DroppedStep'
  constructor(step: OutageStep, why: string, options?: ErrorOptions) {
    super(`${namedIn(step)} is not told to the store: ${why}`, options)
  }
}

/** What an owner finds it by, and what it is worth. */
function namedIn(step: OutageStep): string {
  const told = step.kind === 'settle' ? step.step.settlement : costBegun(step)
  return told === null ? `a step (${step.kind})` : `operation ${told.operationId} (${told.cost} nano-USD)`
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
