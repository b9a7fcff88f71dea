/**
 * The time by the server's clock, for all sidecars that share it. The wall clock of a sidecar is asked for nothing: one
 * that is wrong, or jumps, would make the holds of others expire, and its own periods begin at the wrong time.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Link } from './link.ts'

const ASKED_EVERY_MS = 10_000

export class ServerClock {
  readonly #stopping = new AbortController()
  #link: Link | null = null
  /** What the server showed when this process had run for `#atMs`. Before it was asked: this machine's own time. */
  #serverMs = Date.now()
  #atMs = performance.now()
  #shownMs = 0

  constructor() {
    void this.#keepAsking()
  }

  /** Asks this server from now on. Rejects with `StoreError` when it does not tell the time. */
  async follow(link: Link): Promise<void> {
    const isFirst = this.#link === null
    this.#link = link
    await this.#ask()
    if (isFirst) this.#shownMs = 0
  }

  /** Never runs backwards, once a server was asked. While it is away it goes on by how long this process runs. */
  now(): number {
    this.#shownMs = Math.max(this.#shownMs, Math.floor(this.#serverMs + performance.now() - this.#atMs))
    return this.#shownMs
  }

  stop(): void {
    this.#stopping.abort()
  }

  async #ask(): Promise<void> {
    if (this.#link === null) return
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
