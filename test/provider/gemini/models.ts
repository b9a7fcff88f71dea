/** The Gemini models that the fake serves. https://ai.google.dev/gemini-api/docs/models and /pricing */
import type { ListPrice, Model, ModelChange } from '../models.ts'

export interface GeminiModel extends Model {
  /** What a call of more input tokens than `over` costs, all of it. */
  readonly longContext: { readonly over: number; readonly price: ListPrice } | null
  /** How thinking is asked for; the least budget that may be named, where 0 turns it off. */
  readonly thinking:
    | { readonly by: 'budget'; readonly min: number; readonly max: number; readonly mayBeOff: boolean }
    | { readonly by: 'level' }
  /** The first call of each step of the turn under way must carry the signature that came with it. */
  readonly needsSignatures: boolean
  /** Calls carry ids, and tools go with JSON answers. */
  readonly third: boolean
  /** USD per million tokens of a picture; null: draws none. */
  readonly picturePrice: string | null
}

const CONTEXT_TOKENS = 1_048_576
const OUTPUT_TOKENS_MAX = 65_536

function gemini(
  model: Pick<GeminiModel, 'id' | 'tokenPercent' | 'price' | 'longContext' | 'thinking'> & Partial<Pick<GeminiModel, 'picturePrice'>>,
): GeminiModel {
  const third = model.id.startsWith('gemini-3')
  return {
    picturePrice: null,
    ...model,
    snapshot: model.id,
    contextTokens: CONTEXT_TOKENS,
    maxOutputTokens: OUTPUT_TOKENS_MAX,
    reasoning: true,
    images: { kind: 'tiles', base: 0, tile: 258 },
    tiers: {},
    needsSignatures: third,
    third,
  }
}

const GEMINI_MODELS: readonly GeminiModel[] = [
  gemini({
    id: 'gemini-2.5-pro',
    tokenPercent: 110,
    price: { input: '1.25', cachedInput: '0.125', output: '10.00' },
    longContext: { over: 200_000, price: { input: '2.50', cachedInput: '0.25', output: '15.00' } },
    thinking: { by: 'budget', min: 128, max: 32_768, mayBeOff: false },
  }),
  gemini({
    id: 'gemini-2.5-flash',
    tokenPercent: 110,
    price: { input: '0.30', cachedInput: '0.03', output: '2.50' },
    longContext: null,
    thinking: { by: 'budget', min: 1, max: 24_576, mayBeOff: true },
  }),
  gemini({
    id: 'gemini-2.5-flash-lite',
    tokenPercent: 120,
    price: { input: '0.10', cachedInput: '0.01', output: '0.40' },
    longContext: null,
    thinking: { by: 'budget', min: 512, max: 24_576, mayBeOff: true },
  }),
  gemini({
    id: 'gemini-3-pro-preview',
    tokenPercent: 115,
    price: { input: '2.00', cachedInput: '0.20', output: '12.00' },
    longContext: { over: 200_000, price: { input: '4.00', cachedInput: '0.40', output: '18.00' } },
    thinking: { by: 'level' },
  }),
  gemini({
    id: 'gemini-3-flash-preview',
    tokenPercent: 115,
    price: { input: '0.50', cachedInput: '0.05', output: '3.00' },
    longContext: null,
    thinking: { by: 'level' },
  }),
  gemini({
    id: 'gemini-3-pro-image-preview',
    tokenPercent: 115,
    price: { input: '2.00', cachedInput: '2.00', output: '12.00' },
    picturePrice: '120.00',
    longContext: null,
    thinking: { by: 'level' },
  }),
]

/** The models by name; `changes` to others than these are none of Gemini's. */
export function geminiModels(changes: readonly ModelChange[]): ReadonlyMap<string, GeminiModel> {
  const changed = new Map(changes.map((change) => [change.id, change]))
  return new Map(GEMINI_MODELS.map((model) => [model.id, { ...model, ...changed.get(model.id) }]))
}
