/**
 * The time by the server's clock, for all sidecars that share it. The wall clock of a sidecar is asked for nothing: one
 * that is wrong, or jumps, would make the holds of others expire, and its own periods begin at the wrong time.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Link } from './link.ts'
import type { LinkOptions } from './link.ts'

const ASKED_EVERY_MS = 10_000

export class ServerClock {
  readonly #link: Link
  readonly #stopping = new AbortController()
  /** What the server showed when this process had run for `#atMs`. */
  #serverMs = 0
  #atMs = 0
  #shownMs = 0

  private constructor(link: Link) {
    this.#link = link
  }

  /** Rejects with `StoreError` when the server does not tell the time. */
  static async open(options: LinkOptions): Promise<ServerClock> {
    const clock = new ServerClock(await Link.open(options))
    try {
      await clock.#ask()
    } catch (error) {
      await clock.#link.close()
      throw error
    }
    void clock.#keepAsking()
    return clock
  }

  /** Never runs backwards. While the server is away it goes on by how long this process runs. */
  now(): number {
    this.#shownMs = Math.max(this.#shownMs, Math.floor(this.#serverMs + performance.now() - this.#atMs))
    return this.#shownMs
  }

  async close(): Promise<void> {
    this.#stopping.abort()
    await this.#link.close()
  }

  async #ask(): Promise<void> {
    const sentMs = performance.now()
    const [seconds = 0, micros = 0] = (await this.#link.ask((client) => client.time())).map(Number)
    // The answer was made about half-way.
    this.#atMs = (sentMs + performance.now()) / 2
    this.#serverMs = seconds * 1_000 + micros / 1_000
  }

  async #keepAsking(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      await sleep(ASKED_EVERY_MS, undefined, { signal, ref: false }).catch(() => undefined) // aborted: the loop ends
      if (!signal.aborted) await this.#ask().catch(() => undefined) // away: it goes on by itself
    }
  }
}
