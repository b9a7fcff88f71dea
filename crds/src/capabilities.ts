/**
 * What models can take, kept by hand: the source of prices does not say. It decides only which swaps are possible and how
 * long an unbounded answer may be, so what is not known here is taken for not there; a PriceBook can say otherwise.
 */
import type { Capabilities, Effort } from './prices.ts'

interface Known extends Omit<Capabilities, 'efforts'> {
  readonly provider: string
  /** The first prefix that a model's name has decides. */
  readonly prefixes: readonly string[]
  /** Factors of the served tier, in percent of the standard price. */
  readonly serviceTierPercent: Readonly<Record<string, number>>
  readonly source: string
}

const MODELS_PAGE = 'https://platform.openai.com/docs/models'
const REASONING_PAGE = 'https://platform.openai.com/docs/guides/reasoning'

const EMBEDDINGS_PAGE = 'https://developers.openai.com/api/docs/guides/embeddings'
const IMAGES_PAGE = 'https://developers.openai.com/api/docs/guides/image-generation'
const CLAUDE_MODELS_PAGE = 'https://platform.claude.com/docs/en/about-claude/models/overview'
const CLAUDE_MIGRATION_PAGE = 'https://platform.claude.com/docs/en/about-claude/models/migration-guide'
const GEMINI_MODELS_PAGE = 'https://ai.google.dev/gemini-api/docs/models'
const GEMINI_IMAGES_PAGE = 'https://ai.google.dev/gemini-api/docs/image-generation'

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

/** Priority processing, which is called fast mode as well since 2026-07-30: either word asks for it. https://openai.com/api-fast-mode/ */
function priority(percent: number): Known['serviceTierPercent'] {
  return { priority: percent, fast: percent }
}

/** Texts in, vectors out: nothing is written. */
const VECTORS = {
  maxOutputTokens: 0,
  modalities: [],
  tools: false,
  structuredOutput: false,
  reasoning: false,
  drop: [],
  rename: {},
  serviceTierPercent: {},
} as const

/**
 * Claude. A model that thinks unless it is told not to counts as one that reasons: an answer that is bounded too tightly has no
 * text. `priority` is capacity that was bought before, at the standard price; from Opus 4.6 on, inference in the US costs 1.1
 * times as much, and `speed: fast` what the model's own page says.
 * https://platform.claude.com/docs/en/api/service-tiers, https://platform.claude.com/docs/en/build-with-claude/fast-mode
 */
const CLAUDE = {
  provider: 'anthropic',
  modalities: ['image', 'file'],
  tools: true,
  structuredOutput: true,
  reasoning: false,
  rename: {},
  source: CLAUDE_MODELS_PAGE,
} as const
const CLAUDE_TIERS = { batch: 50, priority: 100 } as const
const CLAUDE_GEO_TIERS = { ...CLAUDE_TIERS, us: 110 } as const
/** They think by a budget, and know neither `adaptive` nor effort; nor structured output. */
const CLAUDE_EARLY = {
  ...CLAUDE,
  contextTokens: 200_000,
  structuredOutput: false,
  drop: ['thinking', 'output_config', 'speed'],
  serviceTierPercent: CLAUDE_TIERS,
} as const
const CLAUDE_4_5 = {
  ...CLAUDE,
  contextTokens: 200_000,
  maxOutputTokens: 64_000,
  drop: ['thinking', 'speed'],
  serviceTierPercent: CLAUDE_TIERS,
} as const
/** They take every kind of `thinking`. */
const CLAUDE_4_6 = { ...CLAUDE, contextTokens: 1_000_000, maxOutputTokens: 128_000 } as const
/** From Opus 4.7 on: sampling parameters are refused, and thinking by a budget; which of the other kinds, differs. */
const CLAUDE_ADAPTIVE = {
  ...CLAUDE,
  contextTokens: 1_000_000,
  maxOutputTokens: 128_000,
  source: CLAUDE_MIGRATION_PAGE,
} as const
const CLAUDE_ADAPTIVE_DROPS = ['temperature', 'top_p', 'top_k', 'thinking'] as const

/** Gemini. Its request fields stand in `generationConfig`, where unknown ones are ignored: nothing is dropped. */
const GEMINI = {
  provider: 'google',
  contextTokens: 1_048_576,
  maxOutputTokens: 65_536,
  modalities: ['image', 'audio', 'file'],
  tools: true,
  structuredOutput: true,
  reasoning: true,
  drop: [],
  rename: {},
  source: GEMINI_MODELS_PAGE,
  serviceTierPercent: {},
} as const
const GEMINI_IMAGES = {
  ...GEMINI,
  maxOutputTokens: 32_768,
  modalities: ['image'],
  tools: false,
  structuredOutput: false,
  reasoning: false,
  source: GEMINI_IMAGES_PAGE,
} as const
/** https://ai.google.dev/gemini-api/docs/flex-inference */
const GEMINI_FLEX = { flex: 50, batch: 50 } as const
/** `priority` is 75 to 100 percent more, says https://ai.google.dev/gemini-api/docs/optimization; the most, where no price of the model was read. */
const GEMINI_TIERS = { ...GEMINI_FLEX, priority: 200 } as const

const KNOWN: readonly Known[] = [
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4o-2024-05-13'],
    contextTokens: 128_000,
    maxOutputTokens: 4_096,
    structuredOutput: false,
    serviceTierPercent: priority(175),
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
    serviceTierPercent: priority(167),
  },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4o', 'chatgpt-4o'],
    contextTokens: 128_000,
    maxOutputTokens: 16_384,
    serviceTierPercent: priority(170),
  },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4.1-nano'],
    contextTokens: 1_047_576,
    maxOutputTokens: 32_768,
    serviceTierPercent: priority(200),
  },
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-4.1'],
    contextTokens: 1_047_576,
    maxOutputTokens: 32_768,
    serviceTierPercent: priority(175),
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
    prefixes: ['gpt-5-chat', 'gpt-5.1-chat', 'gpt-5.2-chat', 'gpt-5.3-chat'],
    contextTokens: 128_000,
    maxOutputTokens: 16_384,
    tools: false,
    serviceTierPercent: priority(200),
  },
  // A name that moves on from model to model: what it costs at priority, no page says.
  {
    ...CHAT,
    provider: 'openai',
    prefixes: ['gpt-chat'],
    contextTokens: 128_000,
    maxOutputTokens: 16_384,
    tools: false,
    serviceTierPercent: {},
  },
  {
    ...REASONING,
    provider: 'openai',
    prefixes: ['gpt-5-mini'],
    contextTokens: 400_000,
    maxOutputTokens: 128_000,
    serviceTierPercent: { flex: 50, ...priority(180) },
  },
  {
    ...REASONING,
    provider: 'openai',
    prefixes: ['gpt-5.5'],
    contextTokens: 400_000,
    maxOutputTokens: 128_000,
    serviceTierPercent: { flex: 50, ...priority(250) },
  },
  {
    ...REASONING,
    provider: 'openai',
    prefixes: ['gpt-5', 'gpt-6', 'codex-mini'],
    contextTokens: 400_000,
    maxOutputTokens: 128_000,
    serviceTierPercent: { flex: 50, ...priority(200) },
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
    serviceTierPercent: { flex: 50, ...priority(182) },
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
    serviceTierPercent: { flex: 50, ...priority(175) },
  },
  { ...VECTORS, provider: 'openai', prefixes: ['text-embedding-'], contextTokens: 8_192, source: EMBEDDINGS_PAGE },
  {
    provider: 'openai',
    prefixes: ['gpt-image-1'],
    // Nobody says what fits in; the most that comes out is an image of 1024 x 1536 in high quality.
    contextTokens: 128_000,
    maxOutputTokens: 6_240,
    modalities: ['image'],
    tools: false,
    structuredOutput: false,
    reasoning: false,
    drop: [],
    rename: {},
    serviceTierPercent: {},
    source: IMAGES_PAGE,
  },

  {
    ...CLAUDE_EARLY,
    prefixes: ['claude-3-opus', 'claude-3-sonnet', 'claude-3-haiku'],
    maxOutputTokens: 4_096,
    modalities: ['image'],
  },
  {
    ...CLAUDE_EARLY,
    prefixes: ['claude-3-5-', 'claude-3.5-'],
    maxOutputTokens: 8_192,
  },
  {
    ...CLAUDE_EARLY,
    prefixes: ['claude-3-7-', 'claude-3.7-', 'claude-sonnet-4-0', 'claude-sonnet-4-2025', 'claude-4-sonnet'],
    maxOutputTokens: 64_000,
  },
  {
    ...CLAUDE_EARLY,
    prefixes: ['claude-opus-4-0', 'claude-opus-4-1', 'claude-opus-4.1', 'claude-opus-4-2025', 'claude-4-opus'],
    maxOutputTokens: 32_000,
  },
  {
    ...CLAUDE_4_5,
    prefixes: ['claude-opus-4-5', 'claude-opus-4.5', 'claude-sonnet-4-5', 'claude-sonnet-4.5', 'claude-haiku-4-5', 'claude-haiku-4.5'],
  },
  {
    ...CLAUDE_4_6,
    prefixes: ['claude-opus-4-6', 'claude-opus-4.6'],
    drop: [],
    serviceTierPercent: { ...CLAUDE_GEO_TIERS, fast: 600 },
  },
  { ...CLAUDE_4_6, prefixes: ['claude-sonnet-4-6', 'claude-sonnet-4.6'], drop: ['speed'], serviceTierPercent: CLAUDE_GEO_TIERS },
  {
    ...CLAUDE_ADAPTIVE,
    prefixes: ['claude-opus-4-7', 'claude-opus-4.7'],
    drop: CLAUDE_ADAPTIVE_DROPS,
    serviceTierPercent: { ...CLAUDE_GEO_TIERS, fast: 600 },
  },
  {
    ...CLAUDE_ADAPTIVE,
    prefixes: ['claude-opus-4-8', 'claude-opus-4.8'],
    drop: CLAUDE_ADAPTIVE_DROPS,
    serviceTierPercent: { ...CLAUDE_GEO_TIERS, fast: 200 },
  },
  {
    ...CLAUDE_ADAPTIVE,
    prefixes: ['claude-opus-5'],
    reasoning: true,
    drop: CLAUDE_ADAPTIVE_DROPS,
    serviceTierPercent: { ...CLAUDE_GEO_TIERS, fast: 200 },
  },
  {
    ...CLAUDE_ADAPTIVE,
    prefixes: ['claude-sonnet-5', 'claude-haiku-5', 'claude-fable-5', 'claude-mythos-5'],
    reasoning: true,
    drop: [...CLAUDE_ADAPTIVE_DROPS, 'speed'],
    serviceTierPercent: CLAUDE_GEO_TIERS,
  },

  { ...GEMINI_IMAGES, prefixes: ['gemini-2.5-flash-image'], contextTokens: 65_536 },
  {
    ...GEMINI_IMAGES,
    prefixes: ['gemini-3-pro-image', 'gemini-3.1-flash-image', 'gemini-3.1-flash-lite-image'],
    contextTokens: 65_536,
    reasoning: true,
  },
  {
    ...GEMINI,
    prefixes: [
      'gemini-2.5-flash-preview-tts',
      'gemini-2.5-flash-tts',
      'gemini-2.5-flash-lite-preview-tts',
      'gemini-2.5-pro-preview-tts',
      'gemini-2.5-pro-tts',
    ],
    contextTokens: 32_768,
    maxOutputTokens: 16_384,
    modalities: [],
    tools: false,
    structuredOutput: false,
    reasoning: false,
    source: 'https://ai.google.dev/gemini-api/docs/speech-generation',
  },
  { ...GEMINI, prefixes: ['gemini-2.0-flash'], maxOutputTokens: 8_192, reasoning: false },
  { ...GEMINI, prefixes: ['gemini-2.5-flash-lite'], reasoning: false, serviceTierPercent: GEMINI_TIERS },
  { ...GEMINI, prefixes: ['gemini-3.7-', 'gemini-3.8-'], serviceTierPercent: { ...GEMINI_FLEX, priority: 180 } },
  { ...GEMINI, prefixes: ['gemini-2.5-', 'gemini-3-', 'gemini-3.1-', 'gemini-3.5-', 'gemini-3.6-'], serviceTierPercent: GEMINI_TIERS },
  { ...VECTORS, provider: 'google', prefixes: ['gemini-embedding-001'], contextTokens: 2_048, source: GEMINI_MODELS_PAGE },
  { ...VECTORS, provider: 'google', prefixes: ['gemini-embedding-2'], contextTokens: 8_192, source: GEMINI_MODELS_PAGE },
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

/** The entry of a model; null for one that is not described. Azure's are OpenAI's, of which it writes one otherwise. */
export function knownCapabilities(provider: string, model: string): Known | null {
  if (provider === 'azure') return knownCapabilities('openai', model.replace(/^gpt-35-/, 'gpt-3.5-'))
  return KNOWN.find((known) => known.provider === provider && known.prefixes.some((prefix) => model.startsWith(prefix))) ?? null
}

/** The efforts that a model takes, as `Capabilities` has them; null where that is not known. */
export function knownEfforts(provider: string, model: string): readonly Effort[] | null {
  const known = EFFORTS_TAKEN[provider === 'azure' ? 'openai' : provider] ?? []
  return known.find(([pattern]) => pattern.test(model))?.[1] ?? null
}

const DATED = /(?:-\d{4}-\d{2}-\d{2})?$/.source
/**
 * By whole names, not by prefixes: variants (`-pro`, `-codex`, `-chat`) take other efforts than their family.
 * https://developers.openai.com/api/docs/guides/reasoning and each model's page; https://platform.claude.com/docs/en/build-with-claude/effort
 */
const EFFORTS_TAKEN: Readonly<Record<string, readonly (readonly [RegExp, readonly Effort[]])[]>> = {
  openai: [
    [new RegExp(`^(?:o1|o[2-4](?:-mini)?)${DATED}`), ['low', 'medium', 'high']],
    [new RegExp(`^gpt-5(?:-(?:mini|nano))?${DATED}`), ['minimal', 'low', 'medium', 'high']],
    [new RegExp(`^gpt-5\\.1(?:-(?:mini|nano))?${DATED}`), ['none', 'low', 'medium', 'high']],
    [new RegExp(`^gpt-5\\.[2-5](?:-(?:mini|nano))?${DATED}`), ['none', 'low', 'medium', 'high', 'xhigh']],
    [new RegExp(`^gpt-5\\.\\d+(?:-(?:mini|nano))?${DATED}`), ['none', 'low', 'medium', 'high', 'xhigh', 'max']],
  ],
  anthropic: [
    [/^claude-(?:sonnet|haiku)-4[-.]5(?:[-@]|$)/, []],
    [/^claude-opus-4[-.]5(?:[-@]|$)/, ['low', 'medium', 'high']],
    [/^claude-(?:opus|sonnet)-4[-.]6(?:[-@]|$)/, ['low', 'medium', 'high', 'max']],
  ],
}

/**
 * Factors for service tiers of models that nobody described: what providers charge at most for the tiers that they name. `us` is where
 * a Claude model ran.
 */
export const UNKNOWN_SERVICE_TIER_PERCENT: Readonly<Record<string, number>> = { priority: 250, fast: 600, ultrafast: 600, us: 110 }
