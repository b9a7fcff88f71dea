/** Events of the operator's stream, by name, from chunks that end anywhere. */
import { dataOf, EventBoundaries } from '../wire/sse-events.ts'

export interface NamedEvent {
  readonly name: string
  readonly data: string
}

const NAME_LINE = /^event: ?(\w+)\r?$/m
/** The name stands before the data. */
const NAME_WITHIN_BYTES = 256

export class EventReader {
  readonly #bytesMax: number
  readonly #boundaries = new EventBoundaries()
  #parts: Buffer[] = []
  #bytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** Those that end with this chunk. Throws `RangeError` for one that is longer than any may be. */
  push(chunk: Buffer): readonly NamedEvent[] {
    const events: NamedEvent[] = []
    for (let from = 0; from < chunk.length;) {
      const end = this.#boundaries.next(chunk, from)
      const part = chunk.subarray(from, end < 0 ? chunk.length : end)
      this.#parts.push(part)
      this.#bytes += part.length
      if (this.#bytes > this.#bytesMax) throw new RangeError(`an event has more than ${this.#bytesMax} bytes`)
      if (end < 0) break
      from = end
      const whole = this.#parts.length === 1 ? part : Buffer.concat(this.#parts)
      this.#parts = []
      this.#bytes = 0
      const name = NAME_LINE.exec(whole.subarray(0, NAME_WITHIN_BYTES).toString('latin1'))?.[1]
      const data = dataOf(whole, 0, whole.length)
      if (name !== undefined && data !== null) events.push({ name, data: data.bytes.toString('utf8', data.start, data.end) })
    }
    return events
  }
}
