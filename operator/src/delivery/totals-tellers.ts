/**
 * Which sidecar tells the totals of a set of books. To work them out costs the store most of all that sidecars ask of it, and all who share
 * the books would come to the same: one of them is asked to, as long as it does.
 */
import type { ReceivedReport } from '@farebox/crds/delivery.ts'

/** Longer than a sidecar is silent, so that the one who tells goes on to. */
const TOLD_MS = 25_000

export class TotalsTellers {
  /** By namespace and books; the one that was heard of longest ago is first. */
  readonly #tellers = new Map<string, { readonly uid: string; readonly atMs: number }>()

  /** Whether the next report of this pod is to have totals. `nowMs`: of a clock that is never set back. */
  isAsked({ pod, report }: Pick<ReceivedReport, 'pod' | 'report'>, nowMs: number): boolean {
    this.#sweep(nowMs)
    const key = `${pod.namespace}/${report.books}`
    const teller = this.#tellers.get(key)
    if (teller !== undefined && teller.uid !== pod.uid) return false
    // One whose store is away has nothing to tell: another may.
    const isAway = report.status !== null && report.status.store.state !== 'Ready'
    this.#tellers.delete(key)
    if (!isAway) this.#tellers.set(key, { uid: pod.uid, atMs: nowMs })
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
