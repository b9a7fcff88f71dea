/**
 * The end of an answer, which waits until the call is in the books. Whoever has read it goes on with the conversation, perhaps
 * through another sidecar, and is led there by what the settlement wrote: the digests of the history, the edits, the question.
 * Where sidecars share a store, the end of an answer therefore goes out when the store has the settlement; but no reader waits
 * for longer than `WAIT_MS`, whatever the store or the provider does.
 */

/** A store that does not answer is found to be away before that. */
const WAIT_MS = 500

export class LastBytes {
  /** Null: nothing waits any more. */
  #waiting: (() => void)[] | null
  #timer: NodeJS.Timeout | null = null

  constructor(waits: boolean) {
    this.#waiting = waits ? [] : null
  }

  /** Whether what is sent now waits. */
  get waits(): boolean {
    return this.#waiting !== null
  }

  /** Sends this in its turn: at once, or with all that waits. */
  send(write: () => void): void {
    if (this.#waiting === null) return write()
    this.#waiting.push(write)
    this.#timer ??= setTimeout(() => this.release(), WAIT_MS)
  }

  /** It was not the end yet: what waits goes out, and the end waits still. */
  goOn(): void {
    const waiting = this.#waiting
    if (waiting === null || waiting.length === 0) return
    this.#waiting = []
    this.#stopTimer()
    for (const write of waiting) write()
  }

  /** The call is in the books: what waits goes out, and nothing waits from now on. */
  release(): void {
    this.goOn()
    this.#waiting = null
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }
}
