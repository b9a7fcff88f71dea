/**
 * Which sidecar tells the totals of a set of books. To work them out costs the store most of all that sidecars ask of it, and all who share
 * the books and may use the same tiers would come to the same: one of them is asked to, as long as it does. One of other tiers would not:
 * it knows neither their contracts, nor those of them that none of the newest conversations has.
 */
import type { ReceivedReport } from '@farebox/crds/delivery.ts'

/** Longer than a sidecar is silent, so that the one who tells goes on to. */
const TOLD_MS = 25_000

/** Remembers who tells, for as long as they do: one that falls silent is replaced by the next that reports. */
export class TotalsTellers {
  /** By namespace, books and tiers; the one that was heard of longest ago is first. */
  readonly #tellers = new Map<string, { readonly uid: string; readonly atMs: number }>()

  /** Whether the next report of this pod is to have totals. `tiers`: those that it may use. `nowMs`: of a clock that is never set back. */
  isAsked({ pod, report }: Pick<ReceivedReport, 'pod' | 'report'>, tiers: readonly string[], nowMs: number): boolean {
    this.#sweep(nowMs)
    // One that waits for its first config has nothing to tell, nor has one whose store is away: another may.
    if (report.status === null) return false
    const key = `${pod.namespace}/${tiers.toSorted().join()}/${report.books}`
    const teller = this.#tellers.get(key)
    if (teller !== undefined && teller.uid !== pod.uid) return false
    this.#tellers.delete(key)
    if (report.status.store.state === 'Ready') this.#tellers.set(key, { uid: pod.uid, atMs: nowMs })
    return true
  }

  get size(): number {
    return this.#tellers.size
  }

  #sweep(nowMs: number): void {
    for (const [key, { atMs }] of this.#tellers) {
      if (nowMs - atMs < TOLD_MS) break
      this.#tellers.delete(key)
    }
  }
}
