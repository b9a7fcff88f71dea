/** The prompt cache: prefixes that a request asked to keep, for five minutes or an hour after they were last read. */
import type { InputTokens, Prompt } from './prompt.ts'

export interface ClaudeCache {
  /** Reads `prompt` at `nowMs`, and keeps what its breakpoints ask for. Prefixes shorter than `minTokens` are not kept. */
  read(prompt: Prompt, minTokens: number, nowMs: number): InputTokens
  clear(): void
}

const LIFE_MS = { '5m': 5 * 60_000, '1h': 60 * 60_000 } as const
/** How many blocks before a breakpoint a kept prefix is looked for. */
const LOOKBACK_BLOCKS = 20

export function claudeCache(): ClaudeCache {
  const kept = new Map<string, { readonly lifeMs: number; expiresAtMs: number }>()
  return {
    read({ tokens, steps }, minTokens, nowMs) {
      const breakpoints = [...steps.entries()].filter(([, step]) => step.cacheTtl !== null && step.tokens >= minTokens)
      let hit = -1
      for (const [at] of breakpoints.toReversed()) {
        for (let back = at; back >= 0 && back > at - LOOKBACK_BLOCKS && hit < 0; back -= 1) {
          const entry = kept.get(steps[back]?.digest ?? '')
          if (entry === undefined || entry.expiresAtMs <= nowMs) continue
          entry.expiresAtMs = nowMs + entry.lifeMs
          hit = back
        }
      }
      const cacheRead = steps[hit]?.tokens ?? 0
      const upTo = { '5m': cacheRead, '1h': cacheRead }
      for (const [, step] of breakpoints) {
        if (step.cacheTtl === null || step.tokens <= cacheRead) continue
        upTo[step.cacheTtl] = step.tokens
        const lifeMs = LIFE_MS[step.cacheTtl]
        kept.set(step.digest, { lifeMs, expiresAtMs: nowMs + lifeMs })
      }
      const cacheWrite1h = upTo['1h'] - cacheRead
      const cacheWrite5m = Math.max(0, upTo['5m'] - upTo['1h'])
      return { uncached: tokens - cacheRead - cacheWrite1h - cacheWrite5m, cacheRead, cacheWrite5m, cacheWrite1h }
    },
    clear() {
      kept.clear()
    },
  }
}
