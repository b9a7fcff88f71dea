/**
 * Models whose server refused to be asked for the usage of a stream (`stream_options`). They are metered by estimate for a while, unless
 * they tell it unasked: servers are upgraded, and one that cannot tell what it bills today may tomorrow.
 */
import type { Upstream } from '@farebox/crds/sidecar-config.ts'
import { LRUCache } from 'lru-cache'

/** Then it is asked again, at the cost of one refused call. */
export const ASK_AGAIN_AFTER_MS = 3_600_000
const REFUSALS_KEPT = 1_000

export class UsageRefusals {
  /** When each was refused, by `upMs`. */
  readonly #atMs = new LRUCache<string, number>({ max: REFUSALS_KEPT })
  readonly #upMs: () => number

  /** `upMs`: time that no clock sets back. */
  constructor(upMs: () => number = () => performance.now()) {
    this.#upMs = upMs
  }

  has(upstream: Server, model: string): boolean {
    const atMs = this.#atMs.get(modelKey(upstream, model))
    return atMs !== undefined && this.#upMs() - atMs < ASK_AGAIN_AFTER_MS
  }

  add(upstream: Server, model: string): void {
    this.#atMs.set(modelKey(upstream, model), this.#upMs())
  }

  /** An owner who has said not to ask has seen to it: what was refused before does not count once they say otherwise. */
  follow(upstreams: readonly (Server & Pick<Upstream, 'injectUsage'>)[]): void {
    for (const upstream of upstreams) {
      if (upstream.injectUsage !== 'Never') continue
      for (const key of this.#atMs.keys()) if (key.startsWith(modelKey(upstream, ''))) this.#atMs.delete(key)
    }
  }
}

type Server = Pick<Upstream, 'name' | 'baseUrl'>

/** Not by name alone: another server may be put under it. Nor by server: one that leads to many models takes what each of them does. */
export function modelKey({ name, baseUrl }: Server, model: string): string {
  return `${name} ${baseUrl} ${model}`
}
