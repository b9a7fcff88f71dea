/** Lines on their way to a log: in order, and whatever becomes of the log, without an error or a wait for whoever logs. */
import { write, writeSync } from 'node:fs'

/** Of lines that could not be written yet: they are, once that is possible. What comes beyond it is lost. */
const WAITING_BYTES_MAX = 1024 * 1024
/** What could not be written is tried again with each line, and, where none comes, this often. */
const TRY_EVERY_MS = 250

export interface LineTarget {
  readonly descriptor: number
  /** A write may wait for a reader, so that it must not be the main thread's. One that waits keeps the process from ending. */
  readonly mayBlock: boolean
}

export class LogLines {
  readonly #target: LineTarget
  readonly #onError: (error: Error) => void
  /** The first may lack its beginning, which was written. */
  readonly #waiting: Buffer[] = []
  #waitingBytes = 0
  /** The first is being written beside the main thread. */
  #isUnderWay = false
  #isTryDue = false

  /** `onError`: told of each write that failed. */
  constructor(target: LineTarget, onError: (error: Error) => void) {
    this.#target = target
    this.#onError = onError
  }

  /** Written when it returns, unless the target may block or takes nothing. */
  write(line: string): void {
    const bytes = Buffer.from(line)
    this.#waiting.push(bytes)
    this.#waitingBytes += bytes.length
    this.#flush()
    if (this.#waitingBytes <= WAITING_BYTES_MAX || this.#waiting.length === 1) return
    this.#waitingBytes -= this.#waiting.pop()?.length ?? 0
  }

  /** What still waits, but for what is on its way: for whoever ends the process. */
  lastTry(): void {
    const rest = this.#waiting.slice(this.#isUnderWay ? 1 : 0)
    if (rest.length === 0) return
    try {
      writeSync(this.#target.descriptor, Buffer.concat(rest))
    } catch {
      // it is lost
    }
  }

  #flush(): void {
    if (this.#target.mayBlock) return this.#flushAside()
    try {
      for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0])
        this.#written(first, writeSync(this.#target.descriptor, first))
    } catch (error) {
      this.#failed(error instanceof Error ? error : new Error(String(error)))
    }
  }

  #flushAside(): void {
    const [first] = this.#waiting
    if (this.#isUnderWay || first === undefined) return
    this.#isUnderWay = true
    write(this.#target.descriptor, first, (error, bytes) => {
      this.#isUnderWay = false
      if (error !== null) return this.#failed(error)
      this.#written(first, bytes)
      this.#flushAside()
    })
  }

  #written(first: Buffer, bytes: number): void {
    this.#waitingBytes -= bytes
    if (bytes < first.length) this.#waiting[0] = first.subarray(bytes)
    else this.#waiting.shift()
  }

  #failed(error: Error): void {
    this.#onError(error)
    if (this.#isTryDue) return
    this.#isTryDue = true
    setTimeout(() => {
      this.#isTryDue = false
      this.#flush()
    }, TRY_EVERY_MS).unref()
  }
}
