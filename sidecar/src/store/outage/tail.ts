/**
 * The last steps that this sidecar took in the store, and the holds that it has there. A store that comes back as another
 * run (a restart, a replica in its place) may lack the last of what it was told: these are told again.
 */
import type { NanoUsd } from '@farebox/crds/usd.ts'
import type { OperationId } from '../../core/budget.ts'
import type { ReserveStep } from '../store.ts'
import type { OutageStep } from './steps.ts'

/** Longer than a server with an append-only file, or a replica, lags behind. */
export const TAIL_MS = 10_000
/** Bounds memory where turns are very many: the tail is then shorter than that. */
const TAIL_STEPS_MAX = 20_000

export type Hold = Extract<OutageStep, { kind: 'hold' }>

export class Tail {
  #steps: { readonly atMs: number; readonly step: OutageStep }[] = []
  /** Of `#steps`, from the front: forgotten, and cut off now and then. */
  #dropped = 0
  readonly #holds = new Map<OperationId, Hold>()

  held(step: ReserveStep, granted: NanoUsd): void {
    this.#holds.set(step.reservation.operationId, { kind: 'hold', step, granted })
  }
  hold(id: OperationId): Hold | null {
    return this.#holds.get(id) ?? null
  }
  /** The hold is no more: its end is in the tail, and itself before it. `atMs`: of this process, for the age of the tail alone. */
  ended(id: OperationId, step: OutageStep, atMs: number): void {
    const hold = this.#holds.get(id)
    this.#holds.delete(id)
    if (hold !== undefined) this.add(hold, atMs)
    this.add(step, atMs)
  }
  add(step: OutageStep, atMs: number): void {
    this.#steps.push({ atMs, step })
    while (this.#steps.length - this.#dropped > TAIL_STEPS_MAX || (this.#steps[this.#dropped]?.atMs ?? atMs) < atMs - TAIL_MS)
      this.#dropped += 1
    if (this.#dropped <= this.#steps.length / 2) return
    this.#steps = this.#steps.slice(this.#dropped)
    this.#dropped = 0
  }

  /** In order: what was done, then what is held. */
  get steps(): readonly OutageStep[] {
    return [...this.#steps.slice(this.#dropped).map(({ step }) => step), ...this.#holds.values()]
  }
}
