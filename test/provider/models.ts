/**
 * The models that the fake serves: what each accepts, how its tokens are counted, and its list price. The numbers are written
 * down here once more, on purpose: the bill must not depend on the catalogue that it is there to check.
 */

/** USD per million tokens, as decimal strings with at most 6 digits after the point. */
export interface ListPrice {
  readonly input: string
  readonly cachedInput: string
  /** What is written to the cache; absent: as `input`, and no answer speaks of writes. */
  readonly cacheWriteInput?: string
  readonly cacheWriteLongInput?: string
  readonly output: string
}

/** How a model charges for an image; see `images.ts`. */
export type ImageRule =
  | { readonly kind: 'tiles'; readonly base: number; readonly tile: number }
  | { readonly kind: 'patches'; readonly percent: number }

export interface Model {
  readonly id: string
  /** The dated id that answers carry when the request names `id`; requests may name it too. */
  readonly snapshot: string
  /** Tokens of this model per 100 tokens of o200k, 100 to 180. */
  readonly tokenPercent: number
  readonly contextTokens: number
  readonly maxOutputTokens: number
  /** Searches the web for every call, and charges so much for it, in nano-dollars; absent: takes no `web_search_options`. */
  readonly searchNanoUsd?: bigint
  /** A reasoning model: thinks in hidden tokens, and refuses `max_tokens`, `stop`, sampling parameters and logprobs. */
  readonly reasoning: boolean
  readonly images: ImageRule
  readonly price: ListPrice
  /** Prices of other service tiers; a tier that is not here is refused. */
  readonly tiers: Readonly<Partial<Record<ServiceTier, ListPrice>>>
}

export type Effort = 'none' | 'minimal' | 'low' | 'medium' | 'high' | 'xhigh' | 'max'

export type ServiceTier = 'flex' | 'priority'

const PLAIN_TILES: ImageRule = { kind: 'tiles', base: 85, tile: 170 }

/** https://platform.openai.com/docs/pricing and /docs/models: list prices, windows and snapshots. */
export const DEFAULT_MODELS: readonly Model[] = [
  {
    id: 'gpt-4o',
    snapshot: 'gpt-4o-2024-08-06',
    tokenPercent: 100,
    contextTokens: 128_000,
    maxOutputTokens: 16_384,
    reasoning: false,
    images: PLAIN_TILES,
    price: { input: '2.50', cachedInput: '1.25', output: '10.00' },
    tiers: { priority: { input: '4.25', cachedInput: '2.125', output: '17.00' } },
  },
  {
    id: 'gpt-4o-mini',
    snapshot: 'gpt-4o-mini-2024-07-18',
    tokenPercent: 100,
    contextTokens: 128_000,
    maxOutputTokens: 16_384,
    reasoning: false,
    images: { kind: 'tiles', base: 2_833, tile: 5_667 },
    price: { input: '0.15', cachedInput: '0.075', output: '0.60' },
    tiers: { priority: { input: '0.25', cachedInput: '0.125', output: '1.00' } },
  },
  {
    id: 'gpt-4o-search-preview',
    snapshot: 'gpt-4o-search-preview-2025-03-11',
    tokenPercent: 100,
    contextTokens: 128_000,
    maxOutputTokens: 16_384,
    searchNanoUsd: 25_000_000n,
    reasoning: false,
    images: PLAIN_TILES,
    price: { input: '2.50', cachedInput: '1.25', output: '10.00' },
    tiers: {},
  },
  {
    id: 'gpt-4.1',
    snapshot: 'gpt-4.1-2025-04-14',
    tokenPercent: 110,
    contextTokens: 1_047_576,
    maxOutputTokens: 32_768,
    reasoning: false,
    images: PLAIN_TILES,
    price: { input: '2.00', cachedInput: '0.50', output: '8.00' },
    tiers: { priority: { input: '3.50', cachedInput: '0.875', output: '14.00' } },
  },
  {
    id: 'gpt-4.1-mini',
    snapshot: 'gpt-4.1-mini-2025-04-14',
    tokenPercent: 130,
    contextTokens: 1_047_576,
    maxOutputTokens: 32_768,
    reasoning: false,
    images: { kind: 'patches', percent: 162 },
    price: { input: '0.40', cachedInput: '0.10', output: '1.60' },
    tiers: { priority: { input: '0.70', cachedInput: '0.175', output: '2.80' } },
  },
  {
    id: 'gpt-4.1-nano',
    snapshot: 'gpt-4.1-nano-2025-04-14',
    tokenPercent: 150,
    contextTokens: 1_047_576,
    maxOutputTokens: 32_768,
    reasoning: false,
    images: { kind: 'patches', percent: 246 },
    price: { input: '0.10', cachedInput: '0.025', output: '0.40' },
    tiers: { priority: { input: '0.20', cachedInput: '0.05', output: '0.80' } },
  },
  {
    id: 'gpt-5',
    snapshot: 'gpt-5-2025-08-07',
    tokenPercent: 120,
    contextTokens: 400_000,
    maxOutputTokens: 128_000,
    reasoning: true,
    images: { kind: 'tiles', base: 70, tile: 140 },
    price: { input: '1.25', cachedInput: '0.125', output: '10.00' },
    tiers: {
      flex: { input: '0.625', cachedInput: '0.0625', output: '5.00' },
      priority: { input: '2.50', cachedInput: '0.25', output: '20.00' },
    },
  },
  {
    id: 'gpt-5-mini',
    snapshot: 'gpt-5-mini-2025-08-07',
    tokenPercent: 140,
    contextTokens: 400_000,
    maxOutputTokens: 128_000,
    reasoning: true,
    images: { kind: 'patches', percent: 162 },
    price: { input: '0.25', cachedInput: '0.025', output: '2.00' },
    tiers: {
      flex: { input: '0.125', cachedInput: '0.0125', output: '1.00' },
      priority: { input: '0.45', cachedInput: '0.045', output: '3.60' },
    },
  },
  {
    id: 'o4-mini',
    snapshot: 'o4-mini-2025-04-16',
    tokenPercent: 180,
    contextTokens: 200_000,
    maxOutputTokens: 100_000,
    reasoning: true,
    images: { kind: 'patches', percent: 172 },
    price: { input: '1.10', cachedInput: '0.275', output: '4.40' },
    tiers: {
      flex: { input: '0.55', cachedInput: '0.138', output: '2.20' },
      priority: { input: '2.00', cachedInput: '0.50', output: '8.00' },
    },
  },
]

/**
 * Which efforts a reasoning model takes: gpt-5 knows minimal, the o-series does not, and neither knows the newest; after gpt-5 it is none.
 * https://developers.openai.com/api/docs/guides/reasoning
 */
export function effortsOf({ id }: Model): readonly Effort[] {
  if (id.startsWith('o')) return ['low', 'medium', 'high']
  return /^gpt-5\.\d/.test(id) ? ['none', 'low', 'medium', 'high', 'xhigh', 'max'] : ['minimal', 'low', 'medium', 'high']
}

/** A model to add, or to change by its `id`: what is left out is as in the table, or as `gpt-4o` with a token factor drawn from the id. */
export type ModelChange = Partial<Model> & { readonly id: string }

/** The models by every name that a request may use. Throws `RangeError` when a change makes no sense. */
export function modelTable(changes: readonly ModelChange[] = []): ReadonlyMap<string, Model> {
  const byId = new Map(DEFAULT_MODELS.map((model) => [model.id, model]))
  for (const change of changes) {
    const model: Model = { ...(byId.get(change.id) ?? newModel(change.id)), ...change }
    if (!Number.isInteger(model.tokenPercent) || model.tokenPercent < 100 || model.tokenPercent > 180)
      throw new RangeError(`models: "${model.id}".tokenPercent must be a whole number from 100 to 180, not ${model.tokenPercent}`)
    byId.set(model.id, model)
  }
  const table = new Map<string, Model>()
  for (const model of byId.values()) {
    table.set(model.id, model)
    table.set(model.snapshot, model)
  }
  return table
}

function newModel(id: string): Model {
  const base = DEFAULT_MODELS[0]
  if (base === undefined) throw new Error('the table of models is empty')
  let hash = 0
  for (const letter of id) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) % 1_000_003
  return { ...base, id, snapshot: id, tokenPercent: 100 + (hash % 9) * 10 }
}
