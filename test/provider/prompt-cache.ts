/** The provider's prompt cache: which prefixes each model has read of late. */
import type { Prompt } from './prompt.ts'
import { CACHE_BLOCK_TOKENS, CACHE_MIN_TOKENS } from './prompt.ts'

export interface PromptCache {
  /** Reads `prompt` at `nowMs`: how many of its first tokens were cached, in whole blocks; from now on they all are. */
  read(model: string, prompt: Prompt, nowMs: number): number
  clear(): void
}

const BLOCKS_MAX = 200_000

/** A cache whose prefixes live `ttlMs` after they were last read. */
export function promptCache(ttlMs: number): PromptCache {
  const expiries = new Map<string, Map<number, number>>()
  return {
    read(model, prompt, nowMs) {
      let known = expiries.get(model)
      if (known === undefined) expiries.set(model, (known = new Map()))
      // At least one token is always worked out anew: it gives the answer's first.
      const most = Math.floor((prompt.tokens - 1 - CACHE_MIN_TOKENS) / CACHE_BLOCK_TOKENS) + 1
      let hits = 0
      for (const block of prompt.blocks.slice(0, Math.max(0, most))) {
        if ((known.get(block) ?? -Infinity) <= nowMs) break
        hits += 1
      }
      for (const block of prompt.blocks) {
        known.delete(block)
        known.set(block, nowMs + ttlMs)
      }
      for (const oldest of known.keys()) {
        if (known.size <= BLOCKS_MAX) break
        known.delete(oldest)
      }
      return hits === 0 ? 0 : CACHE_MIN_TOKENS + (hits - 1) * CACHE_BLOCK_TOKENS
    },
    clear() {
      expiries.clear()
    },
  }
}
