/**
 * The compiled config: all that a sidecar needs to know of one ConversationBudget and its tiers. Knows nothing of
 * Kubernetes. Written by compile, read by `sidecar/src/config`. Amounts are decimal strings in USD, whatever the tier's
 * currency: the ledger is USD, and `usdRate` turns it back for people.
 */
import * as z from 'zod'
import { CARRIERS, CLAIM_TOKEN_FORMATS, FALLBACKS, SCOPES, USER_CARRIERS } from './identity.ts'
import { ENDS, RUNGS } from './ladder.ts'
import { PeriodSchema } from './period.ts'
import { PriceEntrySchema } from './price-entry.ts'
import { copyAt, pathText, removeAt } from './schema-walk.ts'
import { STORE_FAILURE_ACTIONS } from './store-failure.ts'
import { STALE_ACTIONS } from './stale.ts'
import { PRICE_PATTERN, USD_PATTERN } from './usd.ts'

/** Grows when a sidecar that passes over fields which came later would act against what is meant: see `readDelivered`. */
export const SIDECAR_CONFIG_SCHEMA_VERSION = 1

const Usd = z.string().regex(USD_PATTERN)
const Percent = z.int().min(0).max(100)
const DurationMs = z.int().min(0)
const TokenCount = z.int().min(1).max(100_000_000)
const UpstreamName = z.string().regex(/^[a-z][a-z0-9-]{0,30}$/)

/** What users read, by occasion and locale: `texts.Summarize.en`. Built-in words stand in for what is absent. */
export const NOTICE_OCCASIONS = [
  'DropRetrieval',
  'Summarize',
  'DowngradeModel',
  'RefuseTools',
  'DropOldest',
  'Reset',
  'End',
  'Upgrade',
] as const
export type NoticeOccasion = (typeof NOTICE_OCCASIONS)[number]

/** Calls of a provider's own tools that one request may be limited to. */
export const HOSTED_CALLS_MAX = 100
export const MEMORY_MODES = ['Searchable', 'None'] as const
/** User turns that a session may be limited to. */
export const SESSION_TURNS_MAX = 10_000

/** The terms of a tier, in the form that a conversation is pinned to. `hash` is over everything else in it. */
export const ContractSchema = z.strictObject({
  hash: z.string().regex(/^[0-9a-f]{16}$/),
  tier: z.string(),
  displayName: z.string(),
  currency: z.string().regex(/^[A-Z]{3}$/),
  /** US dollars for one unit of `currency`; "1.00" for USD. */
  usdRate: z.string().regex(PRICE_PATTERN),
  pricing: z.strictObject({
    model: z.enum(['FlatPerUser', 'PerConversation', 'PerResolution']),
    /** Per user and period, per conversation, or per resolution. */
    price: Usd,
    otherCost: Usd,
    targetGrossMarginPercent: Percent,
    /** Per conversation, on the way to its price: what the margin leaves; for PerResolution, expected. */
    targetCostPerConversation: Usd,
    /** PerResolution only. */
    targetCostPerResolution: Usd.optional(),
  }),
  caps: z.strictObject({
    perConversation: Usd,
    perUser: z.strictObject({ amount: Usd, period: PeriodSchema }).optional(),
  }),
  context: z.strictObject({
    /** Absent: the model's own window. */
    windowTokens: TokenCount.optional(),
    overflow: z.enum(['Summarize', 'DropOldest', 'Refuse']),
    keepRecentTurns: z.int().min(1).max(1000),
    /** Percent of the window from which a summary is prepared between turns. */
    summarizeAfterPercent: Percent,
  }),
  models: z.strictObject({
    /** Empty: every model. A trailing `*` matches the rest of a name. */
    allow: z.array(z.string()),
    /** `upstream`: the one that serves `to`; absent: the one that was asked. */
    downgrades: z.array(z.strictObject({ from: z.string(), to: z.string(), upstream: UpstreamName.optional() })),
    summarizer: z.string().optional(),
    maxOutputTokens: TokenCount.optional(),
    usefulOutputTokens: TokenCount.optional(),
  }),
  alerts: z.array(z.int().min(1).max(100)),
  ladder: z.array(z.strictObject({ atPercent: Percent, rung: z.enum(RUNGS), end: z.enum(ENDS).optional() })),
  sessions: z.strictObject({
    resetAt: z.enum(['TaskBoundary', 'Immediately']),
    recap: z.enum(['Summary', 'None']),
    maxResets: z.int().min(0).max(100),
    /** User turns of a session: the next one opens another. Absent: any number. */
    maxTurns: z.int().min(1).max(SESSION_TURNS_MAX).optional(),
    /** A user turn after so long a pause opens another session. Absent: after none. */
    idleAfterMs: DurationMs.optional(),
    /** What users may search of what they and the assistant said. `None` keeps nothing. */
    memory: z.strictObject({ mode: z.enum(MEMORY_MODES), retentionMs: DurationMs }).default({ mode: 'None', retentionMs: 0 }),
  }),
  /** A user who costs so many times the median user of a period counts as heavy. */
  heavyUserTimesMedian: z.int().min(2).max(1000).default(10),
  notices: z.strictObject({
    mode: z.enum(['Inline', 'HeadersOnly']),
    texts: z.partialRecord(z.enum(NOTICE_OCCASIONS), z.record(z.string(), z.string())),
    /** The locale of the notices when a request asks for none. */
    defaultLocale: z.string(),
  }),
  upgrade: z.strictObject({ tier: z.string(), whenUserExceedsPercent: z.int().min(1).max(100) }).optional(),
})
export type Contract = z.infer<typeof ContractSchema>

/**
 * A contract as a sidecar of another version may have kept it: what did not exist then has its default, and fields that came later are left
 * out. Fails where what this version knows cannot be read, as a rung that came later.
 */
export function readContract(kept: unknown): z.ZodSafeParseResult<Contract> {
  return readKnown(ContractSchema, kept).result
}

/** `later`: the fields that this version does not know, at any depth. */
function readKnown<T>(schema: z.ZodType<T>, value: unknown): { readonly result: z.ZodSafeParseResult<T>; readonly later: readonly Path[] } {
  const whole = schema.safeParse(value)
  if (whole.success) return { result: whole, later: [] }
  const later = whole.error.issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...issue.path, key]) : [],
  )
  const known: unknown = structuredClone(value)
  for (const path of later) removeAt(known, path)
  return { result: schema.safeParse(known), later }
}

type Path = readonly PropertyKey[]

export const UpstreamSchema = z.strictObject({
  /** The first path segment on the data plane: `openai` serves `/openai/v1/...`. */
  name: UpstreamName,
  /** Whose price list and wire format: `anthropic` speaks Messages, `google` Gemini, `azure` OpenAI's by deployments, all others OpenAI's. */
  provider: z.string(),
  /** Origin and path prefix, without a trailing slash: `https://api.openai.com/v1`. */
  baseUrl: z.url({ protocol: /^https?$/ }),
  /** `Passthrough`: the app's own key goes on unread. `Held`: the sidecar has the key in a file of the upstream's name, and puts it in. */
  credential: z.enum(['Passthrough', 'Held']),
  /** Set on each call, in place of what the app sends by that name, which is lower-case. Without `value` the sidecar has it in a file: see `headerFile`. */
  headers: z.array(z.strictObject({ name: z.string(), value: z.string().optional() })).optional(),
  /** Ask streams for usage and strip it again when the client did not ask. */
  injectUsage: z.enum(['Auto', 'Never']),
  /** The field that bounds output when the client names none. */
  outputLimitField: z.enum(['max_completion_tokens', 'max_tokens']),
  /** Azure: which model each deployment serves, by the deployment's name. */
  deployments: z.array(z.strictObject({ name: z.string(), model: z.string() })),
})
export type Upstream = z.infer<typeof UpstreamSchema>

export const SidecarConfigSchema = z.strictObject({
  schemaVersion: z.literal(SIDECAR_CONFIG_SCHEMA_VERSION),
  /** Grows with each change: max(previous + 1, wall clock in ms). */
  version: z.int().min(1),
  /** Over everything but `version` and itself. */
  hash: z.string().regex(/^[0-9a-f]{16}$/),
  namespace: z.string(),
  budget: z.string(),
  mode: z.enum(['Enforce', 'Observe']),
  tiers: z.strictObject({
    default: z.string(),
    /** Tiers that a claim may choose, the default among them. */
    allowed: z.array(z.string()).min(1),
    /** The request header, lower-case, that carries a claim; absent: claims are rejected. Without `token` it is the tier's name. */
    claim: z.strictObject({ header: z.string(), token: z.strictObject({ format: z.enum(CLAIM_TOKEN_FORMATS) }).optional() }).optional(),
  }),
  /** The newest terms of each allowed tier, by tier name. */
  contracts: z.record(z.string(), ContractSchema),
  identity: z.strictObject({
    /** Where a conversation id may come from, first hit wins. */
    carriers: z.array(z.enum(CARRIERS)),
    /** Further request headers read like our own, after it. */
    headers: z.array(z.string()),
    userCarriers: z.array(z.enum(USER_CARRIERS)),
    fallback: z.enum(FALLBACKS),
    scope: z.enum(SCOPES),
  }),
  upstreams: z.array(UpstreamSchema).min(1),
  limits: z.array(z.strictObject({ amount: Usd, period: PeriodSchema })),
  existingConversations: z.enum(['KeepContract', 'AdoptNew']),
  contractMaxAgeMs: DurationMs,
  onUnknownModel: z.enum(['Ceiling', 'Refuse', 'Free']),
  onDisconnect: z.enum(['Cancel', 'Drain']),
  ungoverned: z.enum(['Refuse', 'Pass']),
  /** Of each budget, what one sidecar may spend on it while the shared store is away: 0 for `Deny`, 100 for `Allow`. */
  onStoreFailure: z.strictObject({ action: z.enum(STORE_FAILURE_ACTIONS), allowancePercent: Percent }),
  /** What to do once nobody has told for so long what is in force. */
  onStale: z.strictObject({ afterMs: DurationMs, action: z.enum(STALE_ACTIONS) }),
  retrieval: z.strictObject({ toolNames: z.array(z.string()), tags: z.array(z.string()) }),
  /** An answer that calls one of these tools ends a task. */
  taskBoundary: z.strictObject({ toolNames: z.array(z.string()) }),
  resolution: z.strictObject({
    toolNames: z.array(z.string()),
    /** Without a turn for so long a conversation is assumed to be resolved. Absent: none is assumed. */
    quietPeriodMs: DurationMs.optional(),
    /** A user turn within this time of a resolution takes it back. */
    reopenWindowMs: DurationMs,
  }),
  /** Bounds of tools that the provider runs itself. Absent: a call of one of them is held at the most that the provider may do. */
  hostedTools: z.strictObject({ maxCalls: z.int().min(1).max(HOSTED_CALLS_MAX).optional(), maxResultTokens: TokenCount.optional() }),
  /** PriceBook entries, which come before the shipped catalogue. */
  prices: z.array(PriceEntrySchema),
})
export type SidecarConfig = z.infer<typeof SidecarConfigSchema>

/**
 * A config as an operator of another version may have written it, read as `readContract` reads: one field more must not keep a brake from a
 * sidecar that runs. Fields that came later stay in it, unread: its hash and those of its contracts are over them, and by these hashes later
 * versions find what this one keeps. `later` names them: `contracts.pro.caps.perTask`.
 */
export function readDelivered(delivered: unknown): Delivered {
  const { result, later } = readKnown(SidecarConfigSchema, delivered)
  if (result.success) for (const path of later) copyAt(delivered, result.data, path)
  return { result, later: later.map(pathText) }
}

export interface Delivered {
  readonly result: z.ZodSafeParseResult<SidecarConfig>
  readonly later: readonly string[]
}
