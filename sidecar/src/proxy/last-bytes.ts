/**
 * The end of an answer, which waits until the call is in the books. Whoever has read it goes on with the conversation, perhaps
 * through another sidecar, and is led there by what the settlement wrote: the digests of the history, the edits, the question.
 * Where sidecars share a store, the end of an answer therefore goes out when the store has the settlement; but no piece of it
 * waits for longer than `WAIT_MS`, whatever the store or the provider does.
 */

/** A store that does not answer is found to be away before that. */
const WAIT_MS = 500

export class LastBytes {
  #waits: boolean
  #waiting: (() => void)[] = []
  #timer: NodeJS.Timeout | null = null

  constructor(waits: boolean) {
    this.#waits = waits
  }

  /** Whether what is sent now waits. */
  get waits(): boolean {
    return this.#waits
  }

  /** Sends this in its turn: at once, or behind all that waits. */
  send(write: () => void): void {
    if (!this.#waits) return write()
    this.#waiting.push(write)
    this.#timer ??= setTimeout(() => this.#flush(), WAIT_MS)
  }

  /** The call is in the books: what waits goes out, and nothing waits from now on. */
  release(): void {
    this.#waits = false
    this.#flush()
  }

  #flush(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    const waiting = this.#waiting
    this.#waiting = []
    for (const write of waiting) write()
  }
}
