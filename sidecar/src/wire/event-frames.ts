/**
 * Events of a stream, whole, from chunks that end anywhere. What nobody changes passes as it came; at most one unfinished event is
 * held back, and only where something may be changed at all.
 */
import { JsonOutline } from './json-outline.ts'
import { Pieces } from './pieces.ts'
import { EventBoundaries } from './sse-events.ts'

/** A longer event is passed on as it comes; what it says beside its long strings can be read all the same. */
export const EVENT_BYTES_MAX = 8 * 1024 * 1024

export interface EventReader {
  /** Whether anything may have to be changed. False: every chunk passes at once, whatever `event` gives. */
  readonly rewrites: boolean
  /** Absent: `EVENT_BYTES_MAX`. */
  readonly eventBytesMax?: number
  /** One event: the pieces that replace it (none, for one that is dropped or held back); null when it passes as it is. */
  event(bytes: Buffer, start: number, end: number): readonly Buffer[] | null
  /** Bytes of an event that is too long to be kept. */
  unread(bytes: number): void
  /** Such an event, when it has ended, without its long strings; null where not even that can be kept. Absent: nobody asks. */
  outlined?(event: Buffer | null): void
  /** What was held back of events before, and goes out when one that is too long to be read comes; absent: nothing ever is. */
  release?(): readonly Buffer[]
}

export class EventFrames {
  readonly #reader: EventReader
  readonly #rewrites: boolean
  readonly #eventBytesMax: number
  readonly #boundaries = new EventBoundaries()
  /** The unfinished event. */
  readonly #unfinished = new Pieces()
  /** The event that is passing is too long to be kept. */
  #passing = false
  #outline: JsonOutline | null = null
  #over = false

  constructor(reader: EventReader) {
    this.#reader = reader
    this.#rewrites = reader.rewrites
    this.#eventBytesMax = reader.eventBytesMax ?? EVENT_BYTES_MAX
  }

  /** Of the event that has begun, so much is held back or kept. */
  get unfinishedBytes(): number {
    return this.#unfinished.bytes
  }

  /**
   * Takes the next bytes from the provider; gives those to pass on now, in pieces: the chunk itself where nothing changed,
   * views of it, and what was put in.
   */
  push(chunk: Buffer): readonly Buffer[] {
    if (this.#over) return NOTHING
    const out: Buffer[] = []
    let start = 0
    /** From here to `start` the chunk's own bytes pass. */
    let copied = 0
    for (let end = this.#boundaries.next(chunk, 0); end >= 0; end = this.#boundaries.next(chunk, start)) {
      if (this.#passing) {
        this.#passLong([chunk.subarray(0, end)], end)
        this.#endLong()
      } else if (this.#unfinished.bytes > 0) {
        const event = this.#takeUnfinished(chunk.subarray(0, end))
        out.push(...(this.#read(event, 0, event.length) ?? [event]))
        copied = end
      } else {
        const replaced = this.#read(chunk, start, end)
        if (replaced !== null) {
          if (start > copied) out.push(chunk.subarray(copied, start))
          out.push(...replaced)
          copied = end
        }
      }
      start = end
    }
    if (!this.#rewrites) {
      this.#keep(chunk, start)
      return [chunk]
    }
    if (start > copied) out.push(copied === 0 && start === chunk.length ? chunk : chunk.subarray(copied, start))
    const released = this.#keep(chunk, start)
    if (released.length > 0) out.push(...released)
    return out
  }

  /** The provider's stream has ended: what was held back, read as an event although no empty line ended it. */
  end(): readonly Buffer[] {
    if (this.#over) return NOTHING
    this.#over = true
    if (this.#passing) this.#endLong()
    if (this.#unfinished.bytes === 0) return NOTHING
    const event = this.#takeUnfinished(null)
    const replaced = this.#read(event, 0, event.length)
    return this.#rewrites ? (replaced ?? [event]) : NOTHING
  }

  #read(bytes: Buffer, start: number, end: number): readonly Buffer[] | null {
    if (end - start <= this.#eventBytesMax) return this.#reader.event(bytes, start, end)
    const event = bytes.subarray(start, end)
    this.#beginLong([event], event.length)
    this.#endLong()
    const before = this.#reader.release?.() ?? NOTHING
    return before.length === 0 ? null : [...before, event]
  }

  /** Keeps the rest of a chunk, the beginning of an event; gives back what has grown too long to be read. */
  #keep(chunk: Buffer, start: number): readonly Buffer[] {
    const size = chunk.length - start
    if (size === 0) return NOTHING
    if (this.#passing) {
      const piece = chunk.subarray(start)
      this.#passLong([piece], size)
      return [piece]
    }
    this.#unfinished.addCopy(chunk.subarray(start)) // the chunk's memory may be used again
    if (this.#unfinished.bytes <= this.#eventBytesMax) return NOTHING
    const pieces = this.#unfinished.parts
    this.#beginLong(pieces, this.#unfinished.bytes)
    this.#unfinished.clear()
    return this.#rewrites ? [...(this.#reader.release?.() ?? NOTHING), ...pieces] : NOTHING
  }

  #beginLong(pieces: readonly Buffer[], bytes: number): void {
    this.#passing = true
    this.#outline = this.#reader.outlined === undefined ? null : new JsonOutline()
    this.#passLong(pieces, bytes)
  }

  #passLong(pieces: readonly Buffer[], bytes: number): void {
    this.#reader.unread(bytes)
    for (const piece of pieces) this.#outline?.push(piece)
  }

  #endLong(): void {
    this.#passing = false
    this.#reader.outlined?.(this.#outline?.lines() ?? null)
    this.#outline = null
  }

  #takeUnfinished(last: Buffer | null): Buffer {
    const event = this.#unfinished.whole(last)
    this.#unfinished.clear()
    return event
  }
}

const NOTHING: readonly never[] = []
