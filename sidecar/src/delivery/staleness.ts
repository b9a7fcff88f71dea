/** How long nobody has said which config is to be in force. A turn reads two fields; a timer keeps them true. */
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { RunFile } from './run-file.ts'

const LOOK_MS = 500
/** What the next run is to know of it is written no more often. */
const KEEP_EVERY_MS = 10_000

export interface Staleness {
  /** Longer than the budget allows. */
  readonly isStale: boolean
  /** And it refuses calls then. */
  readonly denies: boolean
  /** Since the last confirmation, this run's or an earlier one's; since the first run began where there was none. */
  readonly sinceMs: number
}

/** Where there is no operator, nothing is confirmed, and nothing goes stale. */
export const NEVER_STALE: Staleness = { isStale: false, denies: false, sinceMs: 0 }

export class StalenessWatch implements Staleness {
  readonly #file: RunFile
  /** By a clock that is never set back. */
  #confirmedAtMs: number
  #wasConfirmed = false
  #keptAtMs = Number.NEGATIVE_INFINITY
  #onStale: Pick<SidecarConfig['onStale'], 'afterMs' | 'action'> | null = null
  readonly #timer: NodeJS.Timeout
  isStale = false
  denies = false

  constructor(file: RunFile) {
    this.#file = file
    this.#confirmedAtMs = performance.now() - Math.max(0, Date.now() - file.knownGoodAtMs)
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref()
  }

  get sinceMs(): number {
    return Math.round(performance.now() - this.#confirmedAtMs)
  }
  /** Null when this run has not been told anything yet. */
  get inThisRunMs(): number | null {
    return this.#wasConfirmed ? this.sinceMs : null
  }

  /** A replica said which config is ours, or a newer one was mounted. One that cannot be put in force is no less a sign that we are reached. */
  confirmed(): void {
    const nowMs = performance.now()
    this.#confirmedAtMs = nowMs
    this.#wasConfirmed = true
    this.#look()
    if (nowMs - this.#keptAtMs < KEEP_EVERY_MS) return
    this.#keptAtMs = nowMs
    this.#file.confirmed(Date.now())
  }

  follow(config: Pick<SidecarConfig, 'onStale' | 'mode'>): void {
    // Whoever only watches refuses nothing.
    this.#onStale = config.mode === 'Observe' ? { ...config.onStale, action: 'Continue' } : config.onStale
    this.#look()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    if (this.#onStale === null) return
    this.isStale = this.sinceMs > this.#onStale.afterMs
    this.denies = this.isStale && this.#onStale.action === 'Deny'
  }
}
