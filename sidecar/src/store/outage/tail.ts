/**
 * The last steps that the store was told, and the holds that this sidecar has there. A store that comes back as another run
 * (a restart, a replica in its place) may lack the last of what it was told: these are told again. What it was not told waits
 * in the journal, and is here when it has arrived.
 */
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { LRUCache } from 'lru-cache'
import type { OperationId } from '../../core/budget.ts'
import type { Hold, OutageStep, Telling } from './steps.ts'

/** Longer than a server with an append-only file, or a replica, lags behind. */
export const TAIL_MS = 10_000
/** Bounds memory where turns are very many: the tail is then shorter than that. */
const TAIL_STEPS_MAX = 10_000
const CONTRACTS_MAX = 200

/** Times are of this process, for ages alone. */
interface Told {
  readonly step: OutageStep
  /** When it was told, or the store came back with it. */
  readonly atMs: number
  /** The store may know it since then. */
  readonly sinceMs: number
}

export class Tail {
  #steps: Told[] = []
  /** Of `#steps`, from the front: forgotten, and cut off now and then. */
  #dropped = 0
  readonly #holds = new Map<OperationId, Hold>()
  /** Conversations are pinned to them: a store that lost them could not honour these. */
  readonly #contracts = new LRUCache<string, OutageStep>({ max: CONTRACTS_MAX })

  keepContract(contract: Contract): void {
    if (!this.#contracts.has(contract.hash)) this.#contracts.set(contract.hash, { kind: 'contract', step: contract })
  }
  held(hold: Hold): void {
    this.#holds.set(hold.step.reservation.operationId, hold)
  }
  hold(id: OperationId): Hold | null {
    return this.#holds.get(id) ?? null
  }
  /** The store was told that the hold is no more: its end is in the tail, and itself before it. */
  ended(id: OperationId, step: OutageStep, atMs: number): void {
    const hold = this.#holds.get(id)
    this.#holds.delete(id)
    if (hold !== undefined) this.add(hold, atMs)
    this.add(step, atMs)
  }
  /** The hold is no more, and the store is yet to be told. */
  endedUntold(id: OperationId): void {
    this.#holds.delete(id)
  }
  /** The store has just answered to it: whatever it was told long before is safe. */
  add(step: OutageStep, atMs: number, sinceMs = atMs): void {
    this.#steps.push({ step, atMs, sinceMs })
    while (this.#steps.length - this.#dropped > TAIL_STEPS_MAX || (this.#steps[this.#dropped]?.atMs ?? atMs) < atMs - TAIL_MS)
      this.#dropped += 1
    if (this.#dropped <= this.#steps.length / 2) return
    this.#steps = this.#steps.slice(this.#dropped)
    this.#dropped = 0
  }
  /** The store is back, with all of it or told all of it again: while it was away none of it became any safer. */
  renew(atMs: number): void {
    this.#steps = this.#steps.slice(this.#dropped).map(({ step, sinceMs }) => ({ step, sinceMs, atMs }))
    this.#dropped = 0
  }

  /** In order: contracts, what was done, then what is held. */
  tellings(nowMs: number): readonly Telling[] {
    const done = this.#steps.slice(this.#dropped).map(({ step, sinceMs }): Telling => ({ step, knownMs: nowMs - sinceMs }))
    return [...[...this.#contracts.values()].map(unaged), ...done, ...[...this.#holds.values()].map(unaged)]
  }
}

/** What the store does not forget: it is in use. */
function unaged(step: OutageStep): Telling {
  return { step, knownMs: null }
}
