/**
 * Long work as a generator that yields between short slices: whoever runs it lets everything else go on in between (`wire/pacer.ts`). Work that
 * fits into one slice yields nothing, and costs no wait.
 */

/** UTF-16 units of text, or bytes of JSON, that are read between two pauses: about a millisecond's. */
export const SLICE_TEXT_UNITS = 64 * 1024

/** What was read since the last pause, for work that is spread over functions: `if (slice.isFull(length)) yield`. */
export class Slice {
  #read = 0

  /** Counts what was just read, and whether it is time for a pause. */
  isFull(units: number): boolean {
    this.#read += units
    if (this.#read < SLICE_TEXT_UNITS) return false
    this.#read = 0
    return true
  }
}

/** What such work comes to, in one go: for what is known to be short. */
export function atOnce<T>(work: Generator<void, T>): T {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
  }
}
