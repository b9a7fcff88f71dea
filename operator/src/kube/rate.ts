/** A bucket that fills with so many tokens a second; who takes one that is not there yet is told how long it must wait for it. */
export class TokenBucket {
  readonly #perSecond: number
  readonly #burst: number
  readonly #nowMs: () => number
  #tokens: number
  #atMs: number

  constructor(options: { readonly perSecond: number; readonly burst: number; readonly nowMs: () => number }) {
    this.#perSecond = options.perSecond
    this.#burst = options.burst
    this.#nowMs = options.nowMs
    this.#tokens = options.burst
    this.#atMs = options.nowMs()
  }

  /** Takes one in any case. Milliseconds until it is there; 0: at once. */
  take(): number {
    this.#fill()
    this.#tokens -= 1
    return this.#tokens >= 0 ? 0 : (-this.#tokens / this.#perSecond) * 1_000
  }

  /** Takes one only when it is there. */
  tryTake(): boolean {
    this.#fill()
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }

  /** Milliseconds until `tryTake` can succeed. */
  get waitMs(): number {
    this.#fill()
    return this.#tokens >= 1 ? 0 : ((1 - this.#tokens) / this.#perSecond) * 1_000
  }

  #fill(): void {
    const nowMs = this.#nowMs()
    this.#tokens = Math.min(this.#burst, this.#tokens + (Math.max(0, nowMs - this.#atMs) / 1_000) * this.#perSecond)
    this.#atMs = nowMs
  }
}
