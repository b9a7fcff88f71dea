/**
 * Assumes resolutions of tiers priced per resolution, where the budget has a quiet period. Every sidecar looks, none leads: what one has
 * assumed the others do not find, and what two assume at once counts once.
 */
import { setImmediate as nextTick } from 'node:timers/promises'
import { StoreError } from '../store/store.ts'
import type { Policy, Gateway } from './gateway.ts'
import { assumeResolution } from './resolutions.ts'
import type { Entering } from './resolutions.ts'

/** Looked for as often as a quarter of the quiet period, at most once a minute. */
const LOOKS_A_PERIOD = 4
const LOOK_EVERY_MS_MAX = 60_000
const LOOK_EVERY_MS_MIN = 250
/** Sidecars that begin together look at different times: each waits so much of its time, and up to so much more. */
const WAIT_SHARE_MIN = 0.75
const WAIT_SHARE_MORE = 0.25
/** Conversations of one look: so many at a time, so many times. What is left waits for the next one. */
const BATCH = 100
const BATCHES_MAX = 20

export type SweptGateway = Entering & {
  policy(): Pick<Policy, 'config'> | null
  readonly log: Pick<Gateway['log'], 'info' | 'error'>
}

export class QuietSweep {
  readonly #gateway: SweptGateway
  #timer: NodeJS.Timeout | null = null
  #isStopped = false

  constructor(gateway: SweptGateway) {
    this.#gateway = gateway
  }

  /** Looks from now on as the config in force has it; again after each change of it. */
  follow(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    const quietPeriodMs = this.#gateway.policy()?.config.resolution.quietPeriodMs
    if (quietPeriodMs === undefined || this.#isStopped) return
    const everyMs = Math.min(LOOK_EVERY_MS_MAX, Math.max(LOOK_EVERY_MS_MIN, quietPeriodMs / LOOKS_A_PERIOD))
    const waitMs = everyMs * (WAIT_SHARE_MIN + Math.random() * WAIT_SHARE_MORE)
    this.#timer = setTimeout(() => void this.#lookAndGoOn(), waitMs).unref()
  }
  stop(): void {
    this.#isStopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  /** Assumes what has been quiet for long enough by now; says how many. */
  async look(): Promise<number> {
    const { store, nowMs, log } = this.#gateway
    const config = this.#gateway.policy()?.config
    const { quietPeriodMs, reopenWindowMs } = config?.resolution ?? {}
    const tiers = Object.values(config?.contracts ?? {}).flatMap(({ tier, pricing }) => (pricing.model === 'PerResolution' ? [tier] : []))
    if (quietPeriodMs === undefined || reopenWindowMs === undefined || tiers.length === 0) return 0
    let assumed = 0
    for (let batch = 0; batch < BATCHES_MAX && !this.#isStopped; batch++) {
      const now = nowMs()
      const quiet = await store.listQuiet({ tiers, quietSinceMs: now - quietPeriodMs, limit: BATCH, nowMs: now })
      let done = 0
      for (const conversation of quiet) {
        if (this.#isStopped) break
        const answer = await assumeResolution(this.#gateway, conversation, { quietPeriodMs, reopenWindowMs })
        if (answer === 'added') assumed += 1
        if (answer !== 'notQuiet') done += 1
        await nextTick() // turns come first
      }
      if (quiet.length < BATCH || done === 0) break
    }
    if (assumed > 0) log.info({ conversations: assumed }, 'quiet for long enough: assumed to be resolved')
    return assumed
  }

  async #lookAndGoOn(): Promise<void> {
    try {
      await this.look()
    } catch (error) {
      // While the store is away nobody can be quiet: calls are told of afterwards.
      if (!(error instanceof StoreError && error.code !== 'corrupt'))
        this.#gateway.log.error({ err: String(error) }, 'what has been quiet could not be looked for; it is looked for again')
    }
    this.follow()
  }
}
