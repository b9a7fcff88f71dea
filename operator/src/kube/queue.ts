/** Keys that want work: each once, one worker at a time for each, those that fail again later. */
import { backoffMs, systemClock } from './clock.ts'
import type { Clock, Timer } from './clock.ts'

/** What changed what should be goes before what merely counts. */
export type Lane = 'spec' | 'usage'

export interface WorkQueueOptions {
  /** Makes one key true, whatever woke it. Rejecting, or throwing: it is tried again later. */
  work(key: string, context: WorkContext): Promise<WorkResult | void>
  /** Keys in work at a time; 1 or more. */
  readonly concurrency?: number
  /** Before the first repeat. */
  readonly minBackoffMs?: number
  readonly maxBackoffMs?: number
  /** Failures in a row after which a key is stalled. */
  readonly stalledAfter?: number
  onFailed?(key: string, failure: WorkFailure): void
  /** A key that was stalled came right. */
  onRecovered?(key: string): void
  readonly clock?: Clock
  readonly random?: () => number
}

export interface WorkContext {
  /** 1, and one more after each failure in a row. */
  readonly attempt: number
}

export interface WorkResult {
  /** Wants to be done once more then. */
  readonly againAfterMs?: number
}

export interface WorkFailure {
  /** In a row. */
  readonly attempts: number
  readonly error: unknown
  readonly retryInMs: number
  readonly stalled: boolean
}

interface Delayed {
  readonly timer: Timer
  readonly dueMs: number
  readonly lane: Lane
}

/** Owns the timers of keys that wait, until `stop`: from then on no key is taken. None is lost to a failure. */
export class WorkQueue {
  readonly #options: WorkQueueOptions
  readonly #clock: Clock
  readonly #random: () => number
  readonly #concurrency: number
  readonly #backoff: { readonly minMs: number; readonly maxMs: number }
  readonly #stalledAfter: number
  /** In the order in which they came. A key is in one of them at most. */
  readonly #lanes: Readonly<Record<Lane, Set<string>>> = { spec: new Set(), usage: new Set() }
  readonly #inWork = new Set<string>()
  /** Came while they were in work. */
  readonly #again = new Map<string, Lane>()
  readonly #delayed = new Map<string, Delayed>()
  readonly #failures = new Map<string, number>()
  #state: 'new' | 'running' | 'stopped' = 'new'
  #idleWaiters: (() => void)[] = []

  constructor(options: WorkQueueOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
    this.#concurrency = options.concurrency ?? 2
    this.#backoff = { minMs: options.minBackoffMs ?? 100, maxMs: options.maxBackoffMs ?? 300_000 }
    this.#stalledAfter = options.stalledAfter ?? 5
  }

  /** A key that waits already stays where it is, or moves up to the lane of changes; one that is in work is done once more. */
  add(key: string, lane: Lane = 'spec'): void {
    if (this.#state === 'stopped') return
    if (this.#inWork.has(key)) {
      if (lane === 'spec' || !this.#again.has(key)) this.#again.set(key, lane)
      return
    }
    if (this.#lanes.spec.has(key)) return
    if (lane === 'spec') this.#lanes.usage.delete(key)
    this.#lanes[lane].add(key)
    this.#take()
  }

  /** Of several delays of one key the earliest counts. An `add` in between does not take it away. */
  addAfter(key: string, delayMs: number, lane: Lane = 'spec'): void {
    if (this.#state === 'stopped') return
    if (!(delayMs > 0)) {
      this.add(key, lane)
      return
    }
    const dueMs = this.#clock.nowMs() + delayMs
    const known = this.#delayed.get(key)
    if (known !== undefined && known.dueMs <= dueMs) return
    known?.timer.cancel()
    const timer = this.#clock.after(delayMs, () => {
      this.#delayed.delete(key)
      this.add(key, lane)
    })
    this.#delayed.set(key, { timer, dueMs, lane: known?.lane === 'spec' ? 'spec' : lane })
  }

  /** Before it keys only gather. */
  start(): void {
    if (this.#state !== 'new') return
    this.#state = 'running'
    this.#take()
  }

  /** Nothing is taken any more; resolves when what is in work is done. */
  async stop(): Promise<void> {
    this.#state = 'stopped'
    for (const { timer } of this.#delayed.values()) timer.cancel()
    this.#delayed.clear()
    this.#again.clear()
    for (const lane of Object.values(this.#lanes)) lane.clear()
    await this.idle()
  }

  /** Keys that wait, delayed ones aside. */
  get depth(): number {
    return this.#lanes.spec.size + this.#lanes.usage.size + this.#again.size
  }

  get inWork(): number {
    return this.#inWork.size
  }

  isStalled(key: string): boolean {
    return (this.#failures.get(key) ?? 0) >= this.#stalledAfter
  }

  /** Nothing waits, delayed keys aside, and nothing is in work. */
  async idle(): Promise<void> {
    if (this.#isIdle) return
    await new Promise<void>((resolve) => {
      this.#idleWaiters.push(resolve)
    })
  }

  get #isIdle(): boolean {
    return this.depth === 0 && this.#inWork.size === 0
  }

  #take(): void {
    while (this.#state === 'running' && this.#inWork.size < this.#concurrency) {
      const lane = this.#lanes.spec.size > 0 ? this.#lanes.spec : this.#lanes.usage
      const [key] = lane
      if (key === undefined) break
      lane.delete(key)
      this.#inWork.add(key)
      void this.#workOn(key)
    }
  }

  /** Never rejects. */
  async #workOn(key: string): Promise<void> {
    try {
      const result = await this.#options.work(key, { attempt: (this.#failures.get(key) ?? 0) + 1 })
      this.#succeeded(key)
      if (result?.againAfterMs !== undefined) this.addAfter(key, result.againAfterMs)
    } catch (error) {
      this.#failed(key, error)
    }
    this.#inWork.delete(key)
    const lane = this.#again.get(key)
    this.#again.delete(key)
    if (lane !== undefined) this.add(key, lane)
    this.#take()
    if (this.#isIdle) for (const resolve of this.#idleWaiters.splice(0)) resolve()
  }

  #succeeded(key: string): void {
    const wasStalled = this.isStalled(key)
    this.#failures.delete(key)
    if (wasStalled) quietly(() => this.#options.onRecovered?.(key))
  }

  #failed(key: string, error: unknown): void {
    const attempts = (this.#failures.get(key) ?? 0) + 1
    this.#failures.set(key, attempts)
    const retryInMs = backoffMs(attempts, this.#backoff, this.#random)
    this.addAfter(key, retryInMs)
    quietly(() => this.#options.onFailed?.(key, { attempts, error, retryInMs, stalled: attempts >= this.#stalledAfter }))
  }
}

/** Whoever is told of a failure must not make another of it. */
function quietly(tell: () => void): void {
  try {
    tell()
  } catch {
    // It has its own ways to say so.
  }
}
