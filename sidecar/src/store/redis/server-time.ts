/**
 * What a server's clock shows, by answers that were on their way for a while. The server looked at its clock at any moment between
 * question and answer: half of that time is what the middle of it may be wrong by, as after a stall of the network, which holds up one way
 * and not the other. So an answer counts only where it is no more doubtful than what is known already
 * (Cristian, Probabilistic clock synchronization, 1989), or where both cannot be true: then the server's clock was set, or this process
 * stood still without knowing (its host was suspended).
 */

/** Two clocks drift apart by less than this: a ten-thousandth, twice what quartz does. */
const DRIFT = 1e-4

export class ServerTime {
  /** What the server showed when this process had run for `#atMs`, give or take `#errorMs`. */
  #serverMs: number
  #atMs: number
  #errorMs = Number.POSITIVE_INFINITY

  /** Before it is heard of: `serverMs` at `atMs`, if nothing better is known. */
  constructor(serverMs: number, atMs: number) {
    this.#serverMs = serverMs
    this.#atMs = atMs
  }

  /** Another server, whose clock nothing is known of: the next answer counts. */
  forget(): void {
    this.#errorMs = Number.POSITIVE_INFINITY
  }

  /** An answer. `sentMs`, `heardMs`: how long this process had run, as all times of these but `serverMs`. */
  hear({ sentMs, heardMs, serverMs }: { readonly sentMs: number; readonly heardMs: number; readonly serverMs: number }): void {
    const errorMs = (heardMs - sentMs) / 2
    const atMs = (sentMs + heardMs) / 2
    const doubtMs = this.#errorMs + (heardMs - this.#atMs) * DRIFT
    if (errorMs > doubtMs && Math.abs(serverMs - this.at(atMs)) <= errorMs + doubtMs) return
    this.#serverMs = serverMs
    this.#atMs = atMs
    this.#errorMs = errorMs
  }

  at(ms: number): number {
    return this.#serverMs + ms - this.#atMs
  }
}
