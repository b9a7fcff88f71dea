/** What the log says of the store: that it is there or not, and what no call is told of. */
import { DroppedStep } from '../store/outage/replayer.ts'
import type { StoreStanding } from '../store/store-standing.ts'
import type { Log } from './log.ts'

/** The same trouble is told again after so long, or when the store was there meanwhile: it is looked for each second, for hours. */
const TOLD_MS = 3_600_000
/** Of texts that differ each time. */
const TOLD_MAX = 100

export class StoreLog {
  readonly #log: Pick<Log, 'info' | 'warn' | 'error'>
  readonly #uptimeMs: () => number
  /** When each trouble was told. */
  readonly #toldMs = new Map<string, number>()

  constructor(log: Pick<Log, 'info' | 'warn' | 'error'>, uptimeMs: () => number = () => performance.now()) {
    this.#log = log
    this.#uptimeMs = uptimeMs
  }

  standing({ state, reason, unsent }: StoreStanding): void {
    switch (state) {
      case 'Ready':
        this.#toldMs.clear()
        return this.#log.info({ unsent }, 'the store is there')
      case 'Replaying':
        return this.#log.info(
          { state, reason, unsent },
          'the store is back, and is told what it missed; until then this sidecar goes on by itself',
        )
      case 'Away':
        return this.#log.warn({ state, reason, unsent }, 'the store is away; it is looked for until it is back')
    }
  }

  trouble(error: Error): void {
    const { message } = error
    if (error instanceof DroppedStep) return this.#log.error({ err: message }, 'the books of the store lack a step for good')
    const nowMs = this.#uptimeMs()
    if (nowMs - (this.#toldMs.get(message) ?? Number.NEGATIVE_INFINITY) < TOLD_MS) return
    if (this.#toldMs.size >= TOLD_MAX) this.#toldMs.clear()
    this.#toldMs.set(message, nowMs)
    this.#log.error({ err: message }, 'the store has trouble that no call was told of')
  }
}
