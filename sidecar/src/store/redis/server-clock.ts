/**
 * The time by the server's clock, for all sidecars that share it. The wall clock of a sidecar is asked for nothing: one
 * that is wrong, or jumps, would make the holds of others expire, and its own periods begin at the wrong time.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Link } from './link.ts'
import { ServerTime } from './server-time.ts'

const ASKED_EVERY_MS = 10_000

export class ServerClock {
  readonly #stopping = new AbortController()
  #link: Link | null = null
  /** Before it was asked: this machine's own. */
  readonly #time = new ServerTime(Date.now(), performance.now())
  #shownMs = 0

  constructor() {
    void this.#keepAsking()
  }

  /** Asks this server from now on. Rejects with `StoreError` when it does not tell the time. */
  async follow(link: Link): Promise<void> {
    const isFirst = this.#link === null
    this.#link = link
    this.#time.forget()
    await this.#ask()
    if (isFirst) this.#shownMs = 0
  }

  /** Never runs backwards, once a server was asked. While it is away it goes on by how long this process runs. */
  now(): number {
    this.#shownMs = Math.max(this.#shownMs, Math.floor(this.#time.at(performance.now())))
    return this.#shownMs
  }

  stop(): void {
    this.#stopping.abort()
  }

  async #ask(): Promise<void> {
    if (this.#link === null) return
    const sentMs = performance.now()
    const [seconds = 0, micros = 0] = (await this.#link.ask((client) => client.time())).map(Number)
    this.#time.hear({ sentMs, heardMs: performance.now(), serverMs: seconds * 1_000 + micros / 1_000 })
  }

  async #keepAsking(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      await sleep(ASKED_EVERY_MS, undefined, { signal, ref: false }).catch(() => undefined) // aborted: the loop ends
      if (!signal.aborted) await this.#ask().catch(() => undefined) // away: it goes on by itself
    }
  }
}
