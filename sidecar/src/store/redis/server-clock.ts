/**
 * The time by the server's clock, for all sidecars that share it: of their store, and of all else that they do. The wall clock of a sidecar is
 * asked for nothing: one that is wrong, or jumps, would make the holds of others expire, and its own periods begin at the wrong time.
 * Where the server's clock was set back, who was there before goes on; who starts after that learns it from the store, and goes on with them.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Link } from './link.ts'
import { ServerTime } from './server-time.ts'
import { StoreClock } from '../store-clock.ts'
import type { SharedClock } from '../store-clock.ts'

const ASKED_EVERY_MS = 10_000
/**
 * Ahead of the server, as after the server's clock was set back, time goes on a thousandth slower: ten times what clocks drift
 * apart, so that sidecars which follow each other are never driven further ahead.
 */
const AHEAD_PACE = 0.999

export class ServerClock implements SharedClock {
  readonly #stopping = new AbortController()
  readonly #ranMs: () => number
  #link: Pick<Link, 'ask'> | null = null
  #isTold = false
  readonly #time: ServerTime
  #clock: StoreClock

  /** `ranMs`: how long this process runs. */
  constructor(ranMs: () => number = () => performance.now()) {
    this.#ranMs = ranMs
    // Before it was asked: this machine's own.
    this.#time = new ServerTime(Date.now(), ranMs())
    this.#clock = this.#newClock()
    void this.#keepAsking()
  }

  /** Asks this server from now on. Rejects with `StoreError` when it does not tell the time. */
  async follow(link: Pick<Link, 'ask'>): Promise<void> {
    this.#link = link
    this.#time.forget()
    await this.ask()
  }

  /** Never runs backwards, once a server told the time. While it is away it goes on by how long this process runs. */
  now(): number {
    return this.#clock.now()
  }

  /** Times of this clock are the store's. */
  at(ms: number): number {
    return ms
  }

  /** The store showed this to one of those who share it. */
  raise(storeMs: number): void {
    this.#clock.raise(storeMs)
  }

  stop(): void {
    this.#stopping.abort()
  }

  /** As it does by itself every ten seconds. */
  async ask(): Promise<void> {
    const link = this.#link
    if (link === null) return
    const sentMs = this.#ranMs()
    const [seconds = 0, micros = 0] = (await link.ask((client) => client.time())).map(Number)
    if (link !== this.#link) return // of a server that is followed no more
    this.#time.hear({ sentMs, heardMs: this.#ranMs(), serverMs: seconds * 1_000 + micros / 1_000 })
    if (this.#isTold) return
    this.#isTold = true
    this.#clock = this.#newClock()
  }

  #newClock(): StoreClock {
    return new StoreClock(
      () => this.#time.at(this.#ranMs()),
      0,
      () => this.#ranMs() * AHEAD_PACE,
    )
  }

  async #keepAsking(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      await sleep(ASKED_EVERY_MS, undefined, { signal, ref: false }).catch(() => undefined) // aborted: the loop ends
      if (!signal.aborted) await this.ask().catch(() => undefined) // away: it goes on by itself
    }
  }
}
