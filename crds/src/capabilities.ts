/**
 * What models can take, kept by hand: the source of prices does not say. It decides only which swaps are possible and how
 * long an unbounded answer may be, so what is not known here is taken for not there; a PriceBook can say otherwise.
 */
import type { Capabilities } from './prices.ts'

interface Known extends Capabilities {
  readonly provider: string
  /** The first prefix that a model's name has decides. */
  readonly prefixes: readonly string[]
  /** Factors of the served tier, in percent of the standard price. */
  readonly serviceTierPercent: Readonly<Record<string, number>>
  readonly source: string
}

const MODELS_PAGE = 'https://platform.openai.com/docs/models'
const REASONING_PAGE = 'https://platform.openai.com/docs/guides/reasoning'

/** Sampling parameters that OpenAI's reasoning models refuse, and the old name of the output limit. */
const REASONING_DROPS = [
  'temperature',
  'top_p',
  'presence_penalty',
  'frequency_penalty',
  'logprobs',
  'top_logprobs',
  'logit_bias',
  'stop',
  'prediction',
] as const
const REASONING_RENAMES = { max_tokens: 'max_completion_tokens' } as const

const CHAT = {
  modalities: ['image'],
  tools: true,
  structuredOutput: true,
  reasoning: false,
  drop: ['reasoning_effort', 'verbosity'],
  rename: {},
  source: MODELS_PAGE,
} as const
const REASONING = {
  modalities: ['image'],
  tools: true,
  structuredOutput: true,
  reasoning: true,
  drop: REASONING_DROPS,
  rename: REASONING_RENAMES,
  source: REASONING_PAGE,
} as const

const KNOWN: readonly Known[] = [
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4o-2024-05-13'],
    contextTokens: 128_000,
    maxOutputTokens: 4_096,
    structuredOutput: false,
    serviceTierPercent: { priority: 175 },
  },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4o-audio', 'gpt-4o-mini-audio', 'gpt-audio'],
    contextTokens: 128_000,
    maxOutputTokens: 16_384,
    modalities: ['audio'],
    structuredOutput: false,
    serviceTierPercent: {},
  },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4o-search', 'gpt-4o-mini-search'],
    contextTokens: 128_000,
    maxOutputTokens: 16_384,
    modalities: [],
    tools: false,
    serviceTierPercent: {},
  },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4o-mini'],
    contextTokens: 128_000,
    maxOutputTokens: 16_384,
    serviceTierPercent: { priority: 167 },
  },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4o', 'chatgpt-4o'],
    contextTokens: 128_000,
    maxOutputTokens: 16_384,
    serviceTierPercent: { priority: 170 },
  },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4.1-nano'],
    contextTokens: 1_047_576,
    maxOutputTokens: 32_768,
    serviceTierPercent: { priority: 200 },
  },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4.1'],
    contextTokens: 1_047_576,
    maxOutputTokens: 32_768,
    serviceTierPercent: { priority: 175 },
  },
  { ...CHAT, provider: 'openai', prefixes: ['gpt-4.5'], contextTokens: 128_000, maxOutputTokens: 16_384, serviceTierPercent: {} },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4-turbo'],
    contextTokens: 128_000,
    maxOutputTokens: 4_096,
    structuredOutput: false,
    serviceTierPercent: {},
  },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4-32k'],
    contextTokens: 32_768,
    maxOutputTokens: 32_768,
    modalities: [],
    structuredOutput: false,
    serviceTierPercent: {},
  },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4'],
    contextTokens: 8_192,
    maxOutputTokens: 8_192,
    modalities: [],
    structuredOutput: false,
    serviceTierPercent: {},
  },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-3.5-turbo'],
    contextTokens: 16_385,
    maxOutputTokens: 4_096,
    modalities: [],
    structuredOutput: false,
    serviceTierPercent: {},
  },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-5-chat', 'gpt-5.1-chat', 'gpt-5.2-chat', 'gpt-5.3-chat', 'gpt-chat'],
    contextTokens: 128_000,
    maxOutputTokens: 16_384,
    tools: false,
    serviceTierPercent: { priority: 200 },
  },
  {
    ...REASONING,
    provider: 'openai',
    prefixes: ['gpt-5-mini'],
    contextTokens: 400_000,
    maxOutputTokens: 128_000,
    serviceTierPercent: { flex: 50, priority: 180 },
  },
  {
    ...REASONING,
    provider: 'openai',
    prefixes: ['gpt-5', 'gpt-6', 'codex-mini'],
    contextTokens: 400_000,
    maxOutputTokens: 128_000,
    serviceTierPercent: { flex: 50, priority: 200 },
  },
  {
    ...REASONING,
    provider: 'openai',
    prefixes: ['o1-mini', 'o1-preview'],
    contextTokens: 128_000,
    maxOutputTokens: 65_536,
    modalities: [],
    tools: false,
    structuredOutput: false,
    serviceTierPercent: {},
  },
  {
    ...REASONING,
    provider: 'openai',
    prefixes: ['o4-mini'],
    contextTokens: 200_000,
    maxOutputTokens: 100_000,
    serviceTierPercent: { flex: 50, priority: 182 },
  },
  {
    ...REASONING,
    provider: 'openai',
    prefixes: ['o3-mini'],
    contextTokens: 200_000,
    maxOutputTokens: 100_000,
    modalities: [],
    serviceTierPercent: {},
  },
  {
    ...REASONING,
    provider: 'openai',
    prefixes: ['o1', 'o3'],
    contextTokens: 200_000,
    maxOutputTokens: 100_000,
    serviceTierPercent: { flex: 50, priority: 175 },
  },
]

/** What is assumed of a model that nobody described. */
export const UNKNOWN: Capabilities = {
  contextTokens: 128_000,
  maxOutputTokens: 16_384,
  modalities: [],
  tools: false,
  structuredOutput: false,
  reasoning: false,
  drop: [],
  rename: {},
}

/** The entry of a model; null for one that is not described. */
export function knownCapabilities(provider: string, model: string): Known | null {
  return KNOWN.find((known) => known.provider === provider && known.prefixes.some((prefix) => model.startsWith(prefix))) ?? null
}

/** Factors for service tiers of models that nobody described: what providers charge at most for the tiers that they name. */
export const UNKNOWN_SERVICE_TIER_PERCENT: Readonly<Record<string, number>> = { priority: 250, fast: 600, ultrafast: 600 }
