/**
 * How much of bodies is held at a time. What a call sends is held until its answer is there, so many large calls at once would
 * end the process for want of memory, and cut all others with it. A call that finds no room waits before its body is read, first
 * come first served, and is refused when there is none in time.
 */
import { totalmem } from 'node:os'

const WAIT_MS_MAX = 10_000
/** Of each byte there are up to four more while it is read and written anew: as text, as what was parsed of it, as the body that goes out. */
const SHARE_OF_MEMORY = 8

/** Bytes for the bodies of a process with this much memory; `least` however little it has. */
export function roomIn(memoryBytes: number, least: number): number {
  return Math.max(least, Math.floor(memoryBytes / SHARE_OF_MEMORY))
}

/** Bytes of memory that this process may have: what its container or machine has. */
export function memoryOfProcess(): number {
  const limit = process.constrainedMemory() // 0, or more than there is: no limit is known
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem()
}

/** What one call holds. */
export interface Place {
  /** Holds more, which is there already. False: there is no room for it, and it is not counted. */
  add(bytes: number): boolean
  /** Gives all of it back, once. */
  leave(): void
}

export class BodyRoom {
  readonly #bytesMax: number
  readonly #waitMs: number
  readonly #waiting: { readonly bytes: number; readonly enter: () => void }[] = []
  #bytes = 0

  constructor(bytesMax: number, waitMs = WAIT_MS_MAX) {
    this.#bytesMax = bytesMax
    this.#waitMs = waitMs
  }

  /** Bytes that are held. */
  get bytes(): number {
    return this.#bytes
  }

  /** For a body of so many bytes, at most those that the room has; 0: nobody knows yet. Null: there was no room in time. */
  enter(bytes: number): Place | Promise<Place | null> {
    if (bytes === 0 || (this.#waiting.length === 0 && this.#fits(bytes))) return this.#placeOf(bytes)
    return new Promise((resolve) => {
      const waiter = {
        bytes,
        enter: () => {
          clearTimeout(timer)
          resolve(this.#placeOf(bytes))
        },
      }
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1)
        resolve(null)
        this.#letIn() // those behind it may be smaller
      }, this.#waitMs)
      this.#waiting.push(waiter)
    })
  }

  #placeOf(bytes: number): Place {
    let held = bytes
    this.#bytes += bytes
    return {
      add: (more) => {
        if (!this.#fits(more)) return false
        held += more
        this.#bytes += more
        return true
      },
      leave: () => {
        this.#bytes -= held
        held = 0
        this.#letIn()
      },
    }
  }

  #fits(bytes: number): boolean {
    return this.#bytes + bytes <= this.#bytesMax
  }

  #letIn(): void {
    for (let first = this.#waiting[0]; first !== undefined && this.#fits(first.bytes); first = this.#waiting[0]) {
      this.#waiting.shift()
      first.enter()
    }
  }
}
