/** The newest report of each pod. Reports are levels: an older one, or one that comes twice, says nothing new. */
import type { ReceivedReport } from '@farebox/crds/delivery.ts'

/** In memory alone. Holds a report until it is told that its pod is gone: whoever made it sees to that by `forget` or `prune`. */
export class ReportBook {
  readonly #newest = new Map<string, ReceivedReport>()

  /** `old`: what is known is as new or newer. A run that began later counts, whatever its number. */
  put(received: ReceivedReport): 'newest' | 'old' {
    const known = this.#newest.get(received.pod.uid)
    if (known !== undefined && !isLater(received.report, known.report)) return 'old'
    this.#newest.set(received.pod.uid, received)
    return 'newest'
  }

  get(uid: string): ReceivedReport | undefined {
    return this.#newest.get(uid)
  }

  /** Its pod is gone. */
  forget(uid: string): void {
    this.#newest.delete(uid)
  }

  /** Forgets the pods of which this is not true. */
  prune(isAlive: (pod: ReceivedReport['pod']) => boolean): void {
    for (const { pod } of this.#newest.values()) if (!isAlive(pod)) this.#newest.delete(pod.uid)
  }

  values(): Iterable<ReceivedReport> {
    return this.#newest.values()
  }

  get size(): number {
    return this.#newest.size
  }
}

type Order = Pick<ReceivedReport['report'], 'runSinceMs' | 'sequence'>

/** Runs of a pod begin at different times: a sidecar sees to that when its clock was set back. */
function isLater(a: Order, b: Order): boolean {
  return a.runSinceMs === b.runSinceMs ? a.sequence > b.sequence : a.runSinceMs > b.runSinceMs
}
