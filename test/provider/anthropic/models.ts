/**
 * The Claude models that the fake serves: what each accepts, how its tokens are counted, and its list price, written down once more on
 * purpose. https://platform.claude.com/docs/en/about-claude/models/overview, .../about-claude/pricing, .../build-with-claude/prompt-caching
 */

/** USD per million tokens, as decimal strings. A write for 5 minutes costs 1.25 times the input, one for an hour twice. */
export interface ClaudePrice {
  readonly input: string
  readonly cacheRead: string
  readonly output: string
}

export interface ClaudeModel {
  readonly id: string
  /** The id that answers carry; requests may name it too. */
  readonly snapshot: string
  /** Tokens of this model per 100 tokens of o200k, 100 to 180. */
  readonly tokenPercent: number
  readonly contextTokens: number
  readonly maxOutputTokens: number
  /** The shortest prefix that is cached. */
  readonly cacheMinTokens: number
  readonly price: ClaudePrice
  /** What the whole request costs once its input, cached or not, is above so many tokens. */
  readonly longPrice: { readonly overTokens: number; readonly price: ClaudePrice } | null
  /** The values of `thinking.type` that it takes, the default first. */
  readonly thinking: readonly ThinkingType[]
  /** What `thinking.display` is when the request does not say. */
  readonly thinkingShown: 'summarized' | 'omitted'
  /** The values of `output_config.effort` that it takes; none: it refuses the parameter. */
  readonly efforts: readonly Effort[]
  /** Takes `temperature`, `top_p` and `top_k` other than their defaults. */
  readonly sampling: boolean
  /** Continues a last message of the assistant. */
  readonly prefill: boolean
  /** Takes `system` as a role in the middle of a conversation. */
  readonly systemMessages: boolean
  /** Checks that what stood before a thinking block has not changed. */
  readonly preservedThinking: boolean
}

export const EFFORTS = ['low', 'medium', 'high', 'xhigh', 'max'] as const
export type Effort = (typeof EFFORTS)[number]

export type ThinkingType = 'disabled' | 'enabled' | 'adaptive' | 'between_tools'

const CLAUDE_4: Omit<ClaudeModel, 'id' | 'snapshot' | 'price' | 'cacheMinTokens'> = {
  tokenPercent: 115,
  contextTokens: 200_000,
  maxOutputTokens: 64_000,
  longPrice: null,
  thinking: ['disabled', 'enabled'],
  thinkingShown: 'summarized',
  efforts: [],
  sampling: true,
  prefill: true,
  systemMessages: false,
  preservedThinking: false,
}
const CLAUDE_5: Omit<ClaudeModel, 'id' | 'snapshot' | 'price' | 'cacheMinTokens'> = {
  ...CLAUDE_4,
  tokenPercent: 150,
  contextTokens: 1_000_000,
  maxOutputTokens: 128_000,
  thinking: ['adaptive', 'disabled'],
  thinkingShown: 'omitted',
  efforts: EFFORTS,
  sampling: false,
  prefill: false,
  systemMessages: true,
}
const CLAUDE_5_5: typeof CLAUDE_5 = { ...CLAUDE_5, preservedThinking: true }

export const CLAUDE_MODELS: readonly ClaudeModel[] = [
  {
    ...CLAUDE_4,
    id: 'claude-haiku-4-5',
    snapshot: 'claude-haiku-4-5-20251001',
    price: { input: '1', cacheRead: '0.10', output: '5' },
    cacheMinTokens: 4_096,
  },
  {
    ...CLAUDE_4,
    id: 'claude-sonnet-4-5',
    snapshot: 'claude-sonnet-4-5-20250929',
    price: { input: '3', cacheRead: '0.30', output: '15' },
    cacheMinTokens: 1_024,
  },
  {
    ...CLAUDE_4,
    id: 'claude-sonnet-4-6',
    snapshot: 'claude-sonnet-4-6',
    contextTokens: 1_000_000,
    thinking: ['disabled', 'adaptive', 'enabled'],
    efforts: ['low', 'medium', 'high', 'max'],
    prefill: false,
    price: { input: '3', cacheRead: '0.30', output: '15' },
    cacheMinTokens: 1_024,
  },
  {
    ...CLAUDE_5,
    id: 'claude-sonnet-5',
    snapshot: 'claude-sonnet-5',
    price: { input: '2', cacheRead: '0.20', output: '10' },
    cacheMinTokens: 1_024,
  },
  {
    ...CLAUDE_5,
    id: 'claude-opus-5',
    snapshot: 'claude-opus-5',
    price: { input: '5', cacheRead: '0.50', output: '25' },
    cacheMinTokens: 512,
  },
  {
    ...CLAUDE_5_5,
    id: 'claude-haiku-5-5',
    snapshot: 'claude-haiku-5-5',
    price: { input: '0.10', cacheRead: '0.01', output: '0.50' },
    longPrice: { overTokens: 100_000, price: { input: '0.50', cacheRead: '0.05', output: '2.50' } },
    cacheMinTokens: 512,
  },
  {
    ...CLAUDE_5_5,
    id: 'claude-sonnet-5-5',
    snapshot: 'claude-sonnet-5-5',
    thinking: ['adaptive', 'between_tools'],
    price: { input: '2', cacheRead: '0.10', output: '10' },
    cacheMinTokens: 1_024,
  },
  {
    ...CLAUDE_5_5,
    id: 'claude-opus-5-5',
    snapshot: 'claude-opus-5-5',
    thinking: ['adaptive'],
    price: { input: '4', cacheRead: '0.20', output: '20' },
    cacheMinTokens: 512,
  },
  {
    ...CLAUDE_5_5,
    id: 'claude-fable-5-2',
    snapshot: 'claude-fable-5-2',
    thinking: ['adaptive'],
    price: { input: '10', cacheRead: '0.25', output: '50' },
    cacheMinTokens: 512,
  },
]

/** A model to add, or to change by its `id`: what is left out is as in the table, or as `claude-sonnet-4-5`. */
export type ClaudeModelChange = Partial<ClaudeModel> & { readonly id: string }

/** The models by every name that a request may use. */
export function claudeModels(changes: readonly ClaudeModelChange[] = []): ReadonlyMap<string, ClaudeModel> {
  const byId = new Map(CLAUDE_MODELS.map((model) => [model.id, model]))
  const base = byId.get('claude-sonnet-4-5')
  for (const change of changes) {
    const known = byId.get(change.id) ?? base
    if (known !== undefined) byId.set(change.id, { ...known, ...(byId.has(change.id) ? {} : { snapshot: change.id }), ...change })
  }
  const table = new Map<string, ClaudeModel>()
  for (const model of byId.values()) {
    table.set(model.id, model)
    table.set(model.snapshot, model)
  }
  return table
}
