/**
 * How far a model's own count lies above ours. The linear heuristic fits OpenAI's tokenizers; others count up to twice as
 * much for the same text, and nobody publishes by how much: so it is learned, and the highest ratio seen is kept.
 */

/** Models remembered; the one unused for longest is forgotten first. */
const MODELS_MAX = 256
/** Below this many estimated tokens, framing and rounding say more than the text does. */
const SAMPLE_TOKENS_MIN = 32
/** Past this a ratio speaks of something other than text (an image, a hidden prompt), and is taken for this. */
const FACTOR_MAX = 4

export class FactorTable {
  readonly #factors = new Map<string, number>()

  /** What to multiply a heuristic count for `model` with: 1 to 4; 1 for a model never seen. */
  factorOf(model: string): number {
    return this.#factors.get(model) ?? 1
  }

  /** Learns from a call whose count is known: `exactTokens` by the provider for what we had estimated at `heuristicTokens`. */
  observe(model: string, sample: { readonly exactTokens: number; readonly heuristicTokens: number }): void {
    const { exactTokens, heuristicTokens } = sample
    if (!(heuristicTokens >= SAMPLE_TOKENS_MIN) || !Number.isFinite(exactTokens)) return
    const highest = Math.min(FACTOR_MAX, Math.max(this.factorOf(model), exactTokens / heuristicTokens))
    this.#factors.delete(model) // set again as the youngest
    this.#factors.set(model, highest)
    if (this.#factors.size <= MODELS_MAX) return
    for (const eldest of this.#factors.keys()) {
      this.#factors.delete(eldest)
      break
    }
  }

  get size(): number {
    return this.#factors.size
  }
}
