/** Where a conversation id may come from; facts: OpenAI and OpenTelemetry carriers, in our order of trust. */
export const CARRIERS = ['Header', 'Baggage', 'Metadata', 'PromptCacheKey'] as const
export type Carrier = (typeof CARRIERS)[number]

/** Where a user id may come from: `x-farebox-user`, `safety_identifier`, `user`, `metadata.user_id`. */
export const USER_CARRIERS = ['Header', 'SafetyIdentifier', 'User', 'Metadata'] as const
export type UserCarrier = (typeof USER_CARRIERS)[number]

/** What names a conversation when no carrier does. */
export const FALLBACKS = ['PrefixChain', 'Require', 'PerRequest', 'Workload'] as const
export type Fallback = (typeof FALLBACKS)[number]

/** Who shares a conversation id: all workloads of a namespace, or those of one budget. */
export const SCOPES = ['Namespace', 'Budget'] as const
export type Scope = (typeof SCOPES)[number]
