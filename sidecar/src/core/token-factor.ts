/**
 * How far a model's own count lies above ours. The linear heuristic fits OpenAI's tokenizers; others count up to twice as
 * much for the same text, and nobody publishes by how much: so it is learned, and the highest ratio seen is kept.
 */

/** Models of the tokenizer that the heuristic was measured with: o200k, and no other by that name. */
const MEASURED_MODELS = /^(?:ft:)?(?:chatgpt|gpt)-4o(?:-|:|$)/
/** Where nobody knows better: what counts up to 1.8 times o200k stays below the heuristic times this. */
const UNKNOWN_TOKENIZER_FACTOR = 2

/**
 * The factor that money is held by where the hard bound leaves no room, before and beside what is learned: a highest ratio
 * seen on prose says little of tables and of other scripts. Windows and displays go by what was seen alone.
 */
export function assumedFactor(model: string): number {
  return MEASURED_MODELS.test(model) ? 1 : UNKNOWN_TOKENIZER_FACTOR
}

/** Whether the one counts a text as the other does, as far as anyone knows. */
export function haveSameTokens(one: string, other: string): boolean {
  return one === other || (assumedFactor(one) === 1 && assumedFactor(other) === 1)
}

/** Models remembered; the one unused for longest is forgotten first. */
const MODELS_MAX = 256
/** Below this many estimated tokens, framing and rounding say more than the text does. */
const SAMPLE_TOKENS_MIN = 32
/** Past this a ratio speaks of something other than text (an image, a hidden prompt), and is taken for this. */
const FACTOR_MAX = 4

/** Every call of a model teaches at first; after that, of all text that could, about this much a call is read for it. */
const FIRST_CALLS = 8
const LEARNED_BYTES_PER_CALL = 256
/** Saved up at most: one long prompt. */
const CREDIT_BYTES_MAX = 1024 * 1024

interface Known {
  factor: number
  calls: number
  /** Bytes that may be read for learning. */
  credit: number
}

export class FactorTable {
  readonly #known = new Map<string, Known>()

  /** What to multiply a heuristic count for `model` with: 1 to 4; 1 for a model never seen. */
  factorOf(model: string): number {
    return this.#known.get(model)?.factor ?? 1
  }

  /**
   * Whether a call should teach, which means that its text is estimated: `bytes` of it are not known exactly. Counts the
   * call. On average a call spends little on it, and a model whose prompts are long is not left out.
   */
  wants(model: string, bytes: number): boolean {
    const known = this.#youngest(model)
    known.calls += 1
    known.credit = Math.min(CREDIT_BYTES_MAX, known.credit + LEARNED_BYTES_PER_CALL)
    if (known.calls > FIRST_CALLS && known.credit < bytes) return false
    known.credit = Math.max(0, known.credit - bytes)
    return true
  }

  /** Learns from a call whose count is known: `exactTokens` by the provider for what we had estimated at `heuristicTokens`. */
  observe(model: string, sample: { readonly exactTokens: number; readonly heuristicTokens: number }): void {
    const { exactTokens, heuristicTokens } = sample
    if (!(heuristicTokens >= SAMPLE_TOKENS_MIN) || !Number.isFinite(exactTokens)) return
    const known = this.#youngest(model)
    known.factor = Math.min(FACTOR_MAX, Math.max(known.factor, exactTokens / heuristicTokens))
  }

  get size(): number {
    return this.#known.size
  }

  #youngest(model: string): Known {
    const known = this.#known.get(model) ?? { factor: 1, calls: 0, credit: 0 }
    this.#known.delete(model)
    this.#known.set(model, known)
    if (this.#known.size > MODELS_MAX) {
      for (const eldest of this.#known.keys()) {
        this.#known.delete(eldest)
        break
      }
    }
    return known
  }
}
