/**
 * The service tiers in which an upstream served calls that left theirs to the account (an OpenAI project set to Priority, an Anthropic
 * workspace set to a region): no request says it, and each answer is billed by it. The last answer counts; but a dear tier stays for an hour
 * after it was seen, since a provider that is busy serves some calls of such an account as standard ones.
 */
import type { Upstream } from '@farebox/crds/sidecar-config.ts'
import { LRUCache } from 'lru-cache'
import { modelKey } from './usage-refusals.ts'

/** What no answer has confirmed for so long is forgotten: where no budget can pay for a dear tier, no answer would tell that it is gone. */
export const TIER_KEPT_MS = 24 * 3_600_000
const TIERS_KEPT = 1_000
const DEAR_MS = 3_600_000
/** Of a call that was served at the standard price. */
const STANDARD: ReadonlySet<string> = new Set(['default', 'standard'])

export class ServedTiers {
  readonly #seen = new LRUCache<string, { readonly tier: string; readonly atMs: number }>({ max: TIERS_KEPT })
  readonly #upMs: () => number

  /** `upMs`: time that no clock sets back. */
  constructor(upMs: () => number = () => performance.now()) {
    this.#upMs = upMs
  }

  /** As `servedAs` has it; null: not known. */
  find(upstream: Pick<Upstream, 'name' | 'baseUrl'>, model: string): string | null {
    const seen = this.#seen.get(modelKey(upstream, model))
    return seen !== undefined && this.#upMs() - seen.atMs < TIER_KEPT_MS ? seen.tier : null
  }

  /** `tier` null: the answer said nothing of it, and what was seen before stays. */
  saw(upstream: Pick<Upstream, 'name' | 'baseUrl'>, model: string, tier: string | null): void {
    if (tier === null) return
    const key = modelKey(upstream, model)
    const atMs = this.#upMs()
    const seen = this.#seen.get(key)
    const isKept = STANDARD.has(tier) && seen !== undefined && !STANDARD.has(seen.tier) && atMs - seen.atMs < DEAR_MS
    if (!isKept) this.#seen.set(key, { tier, atMs })
  }
}
