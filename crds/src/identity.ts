/**
 * Where a conversation id may come from, in our order of trust: `x-farebox-conversation`, the `baggage` of OpenTelemetry, and of OpenAI's
 * requests `conversation`, `previous_response_id`, `metadata` and `prompt_cache_key`.
 */
export const CARRIERS = ['Header', 'Baggage', 'Conversation', 'PreviousResponse', 'Metadata', 'PromptCacheKey'] as const
export type Carrier = (typeof CARRIERS)[number]
/** What is read where the owner does not choose: not `prompt_cache_key`, which all chats of a prompt, or of a user, may share. */
export const DEFAULT_CARRIERS: readonly Carrier[] = CARRIERS.filter((carrier) => carrier !== 'PromptCacheKey')

/** How the claim of a tier may be signed: by a shared key (HMAC-SHA256), or as a JSON Web Token (RFC 7519). */
export const CLAIM_TOKEN_FORMATS = ['HMAC', 'JWT'] as const

/** Where a user id may come from: `x-farebox-user`, `safety_identifier`, `user`, `metadata.user_id`. */
export const USER_CARRIERS = ['Header', 'SafetyIdentifier', 'User', 'Metadata'] as const
export type UserCarrier = (typeof USER_CARRIERS)[number]

/** What names a conversation when no carrier does. */
export const FALLBACKS = ['PrefixChain', 'Require', 'PerRequest', 'Workload'] as const

/** Who shares a conversation id: all workloads of a namespace, or those of one budget. */
export const SCOPES = ['Namespace', 'Budget'] as const
