/**
 * Events of a stream, whole, from chunks that end anywhere. What nobody changes passes as it came; at most one unfinished event is
 * held back, and only where something may be changed at all.
 */
import { EventBoundaries } from './sse-events.ts'

/** An event longer than this is passed on unread. */
const EVENT_BYTES_MAX = 8 * 1024 * 1024

export interface EventReader {
  /** Whether anything may have to be changed. False: every chunk passes at once, whatever `event` gives. */
  readonly rewrites: boolean
  /** One event: the pieces that replace it (none, for one that is dropped or held back); null when it passes as it is. */
  event(bytes: Buffer, start: number, end: number): Buffer[] | null
  /** Bytes that passed unread. */
  unread(bytes: number): void
}

export class EventFrames {
  readonly #reader: EventReader
  readonly #boundaries = new EventBoundaries()
  /** The unfinished event, in the pieces that it came in. */
  #pieces: Buffer[] = []
  #pieceBytes = 0
  /** The event that is passing is too long to be read. */
  #passing = false
  #over = false
  #current: Buffer | null = null

  constructor(reader: EventReader) {
    this.#reader = reader
  }

  /** Takes the next bytes from the provider; gives those to pass on now, in pieces. */
  push(chunk: Buffer): readonly Buffer[] {
    if (this.#over) return []
    const out: Buffer[] = []
    let start = 0
    /** From here to `start` the chunk's own bytes pass. */
    let copied = 0
    for (let end = this.#boundaries.next(chunk, 0); end >= 0; end = this.#boundaries.next(chunk, start)) {
      if (this.#passing) {
        this.#passing = false
        this.#reader.unread(end)
      } else if (this.#pieceBytes > 0) {
        const event = this.#takePieces(chunk.subarray(0, end))
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
    if (!this.#reader.rewrites) {
      this.#keep(chunk, start)
      return [chunk]
    }
    if (start > copied) out.push(copied === 0 && start === chunk.length ? chunk : chunk.subarray(copied, start))
    const released = this.#keep(chunk, start)
    if (released !== null) out.push(released)
    return out
  }

  /** The provider's stream has ended: what was held back, read as an event although no empty line ended it. */
  end(): readonly Buffer[] {
    if (this.#over || this.#pieceBytes === 0) {
      this.#over = true
      return []
    }
    this.#over = true
    const event = this.#takePieces(null)
    const replaced = this.#read(event, 0, event.length)
    return this.#reader.rewrites ? (replaced ?? [event]) : []
  }

  /** While an event is read: pieces to pass on before it, and then itself. */
  andThis(before: readonly Buffer[]): Buffer[] {
    return this.#current === null ? [...before] : [...before, this.#current]
  }

  #read(bytes: Buffer, start: number, end: number): Buffer[] | null {
    if (end - start > EVENT_BYTES_MAX) {
      this.#reader.unread(end - start)
      return null
    }
    this.#current = bytes.subarray(start, end)
    const replaced = this.#reader.event(bytes, start, end)
    this.#current = null
    return replaced
  }

  /** Keeps the rest of a chunk, the beginning of an event; gives back what has grown too long to be read. */
  #keep(chunk: Buffer, start: number): Buffer | null {
    const size = chunk.length - start
    if (size === 0) return null
    if (this.#passing) {
      this.#reader.unread(size)
      return chunk.subarray(start)
    }
    this.#pieces.push(Buffer.from(chunk.subarray(start))) // a copy: the chunk's memory may be used again
    this.#pieceBytes += size
    if (this.#pieceBytes <= EVENT_BYTES_MAX) return null
    this.#passing = true
    this.#reader.unread(this.#pieceBytes)
    return this.#takePieces(null)
  }

  #takePieces(last: Buffer | null): Buffer {
    const event = Buffer.concat(last === null ? this.#pieces : [...this.#pieces, last])
    this.#pieces = []
    this.#pieceBytes = 0
    return event
  }
}
