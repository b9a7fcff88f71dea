/**
 * The last steps that this sidecar took in the store, and the holds that it has there. A store that comes back as another
 * run (a restart, a replica in its place) may lack the last of what it was told: these are told again.
 */
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { LRUCache } from 'lru-cache'
import type { OperationId } from '../../core/budget.ts'
import type { Hold, OutageStep } from './steps.ts'

/** Longer than a server with an append-only file, or a replica, lags behind. */
export const TAIL_MS = 10_000
/** Bounds memory where turns are very many: the tail is then shorter than that. */
const TAIL_STEPS_MAX = 10_000
const CONTRACTS_MAX = 200

export class Tail {
  #steps: { readonly atMs: number; readonly step: OutageStep }[] = []
  /** Of `#steps`, from the front: forgotten, and cut off now and then. */
  #dropped = 0
  readonly #holds = new Map<OperationId, Hold>()
  /** Conversations are pinned to them: a store that lost them could not honour these. */
  readonly #contracts = new LRUCache<string, Contract>({ max: CONTRACTS_MAX })

  keepContract(contract: Contract): void {
    this.#contracts.set(contract.hash, contract)
  }
  held(hold: Hold): void {
    this.#holds.set(hold.step.reservation.operationId, hold)
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

  /** In order: contracts, what was done, then what is held. */
  get steps(): readonly OutageStep[] {
    const contracts = [...this.#contracts.values()].map((step): OutageStep => ({ kind: 'contract', step }))
    return [...contracts, ...this.#steps.slice(this.#dropped).map(({ step }) => step), ...this.#holds.values()]
  }
}
