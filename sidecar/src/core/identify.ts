/**
 * Who is speaking: the conversation, the user and the tier that a request claims. Ids come from the request and are
 * trusted only as names: they are bounded, checked and hashed with a secret, inside a scope that comes from the config.
 */
import type { Carrier, UserCarrier } from '@farebox/crds/identity.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { UserId } from './conversation.ts'
import type { KeyedHash } from './keyed-hash.ts'
import type { ModelRequest } from './request.ts'
import type { ReadClaim } from './tier-claim.ts'

export const CONVERSATION_HEADER = 'x-farebox-conversation'
export const USER_HEADER = 'x-farebox-user'
export const BOUNDARY_HEADER = 'x-farebox-boundary'

/** Longest id that a carrier may hold, in Unicode code points. */
const ID_LENGTH_MAX = 256
/** Printable, without control characters: ids are opaque, but they are not binary. */
const ID_PATTERN = new RegExp(`^\\P{Cc}{1,${ID_LENGTH_MAX}}$`, 'u')
/** W3C baggage keys that name a conversation (OpenTelemetry's GenAI conventions first). */
const BAGGAGE_KEYS = ['gen_ai.conversation.id', 'session.id'] as const
const METADATA_USER = 'metadata.user_id'
const METADATA_KEYS = ['conversation_id', 'session_id', 'thread_id'] as const

/** Reads one request header, lower-case name; undefined when absent. */
export type HeaderReader = (name: string) => string | undefined

/** `previous`: the answer that the request goes on from, where that is asked before what named it: it leads to a conversation if it is known. */
export type NamedConversation =
  | { readonly status: 'named'; readonly rawId: string; readonly carrier: Carrier | 'Alias'; readonly previous?: string }
  /** No carrier named it: the fallback decides. */
  | { readonly status: 'fallback'; readonly previous?: string }

export interface Identity {
  readonly conversation: NamedConversation
  readonly rawUser: string | null
  readonly tier: string
  /** The app says that a new task begins with this turn. */
  readonly taskBoundary: boolean
}

export type IdentifyResult =
  | { readonly status: 'ok'; readonly identity: Identity }
  | { readonly status: 'rejected'; readonly param: string; readonly message: string }

/**
 * Reads the carriers in the config's order, first hit wins. An empty text names nobody where frameworks fill in fields that they do not
 * use; in a header of ours it is a mistake. `signed`: the claim where claims are to be signed; null for a plain one.
 */
export function identify(
  config: SidecarConfig,
  header: HeaderReader,
  request: ModelRequest,
  signed: ReadClaim | null = null,
): IdentifyResult {
  const tier = claimedTier(config, header, signed)
  if (tier.status === 'rejected') return tier
  const named = namedUser(config, header, request)
  if (tier.user !== null && named !== null && named.rawId !== tier.user)
    return rejected(claimHeaderOf(config), 'the tier claim is for another user')
  const user = tier.user ?? named?.rawId ?? null
  if (user !== null && !isId(user))
    return rejected(named?.param ?? claimHeaderOf(config), `a user id must be 1 to ${ID_LENGTH_MAX} printable characters`)
  const conversation = namedConversation(config, header, request, user)
  if (conversation.status === 'rejected') return conversation
  const boundary = header(BOUNDARY_HEADER)
  if (boundary !== undefined && boundary !== 'task') return rejected(BOUNDARY_HEADER, 'the only boundary is "task"')
  return { status: 'ok', identity: { conversation, rawUser: user, tier: tier.tier, taskBoundary: boundary === 'task' } }
}

/** Hashes ids so that neither the store nor a log holds a raw one. 128 bits, hex. */
export class IdHasher {
  readonly #key: KeyedHash
  constructor(key: KeyedHash) {
    this.#key = key
  }
  /**
   * A conversation's scope is namespace (or budget) and tier: services that share an id share a cap. `rawUser`: whose it is, of an id
   * under which many users may speak.
   */
  conversation(
    config: Pick<SidecarConfig, 'namespace' | 'budget' | 'identity'>,
    tier: string,
    rawId: string,
    rawUser: string | null = null,
  ): string {
    return this.#hash('conversation', scopeOf(config), tier, rawId, ...(rawUser === null ? [] : [rawUser]))
  }
  user(config: Pick<SidecarConfig, 'namespace'>, rawUser: string): string {
    return this.#hash('user', config.namespace, rawUser)
  }
  #hash(...parts: readonly string[]): string {
    return this.#key.hex(Buffer.from(parts.map((part) => `${part.length}:${part}`).join(''))).slice(0, 32)
  }
}

/** The name inside which conversation ids are distinct. */
export function scopeOf(config: Pick<SidecarConfig, 'namespace' | 'budget' | 'identity'>): string {
  return config.identity.scope === 'Budget' ? `${config.namespace}/${config.budget}` : config.namespace
}

/** The name inside which a history names a conversation: of one tier, and of one user where a call says whose it is. */
export function chainScope(config: Parameters<typeof scopeOf>[0], tier: string, user: UserId | null): string {
  return `${scopeOf(config)}/${tier}/${user ?? ''}`
}

function claimedTier(
  config: SidecarConfig,
  header: HeaderReader,
  signed: ReadClaim | null,
): { readonly status: 'ok'; readonly tier: string; readonly user: string | null } | Extract<IdentifyResult, { status: 'rejected' }> {
  const claimHeader = claimHeaderOf(config)
  const text = header(claimHeader)
  if (text === undefined) return { status: 'ok', tier: config.tiers.default, user: null }
  const { claim, allowed } = config.tiers
  if (claim === undefined) return rejected(claimHeader, 'this workload may not claim a tier')
  if (signed?.status === 'rejected') return rejected(claimHeader, signed.why)
  if (claim.token !== undefined && signed === null) return rejected(claimHeader, 'the tier claim must be signed')
  const tier = signed?.claim.tier ?? text
  if (!allowed.includes(tier)) return rejected(claimHeader, 'the claimed tier is not among those allowed')
  return { status: 'ok', tier, user: signed?.claim.user ?? null }
}

/** The header that carries a tier claim. */
export function claimHeaderOf(config: Pick<SidecarConfig, 'tiers'>): string {
  return config.tiers.claim?.header ?? 'x-farebox-tier'
}

function namedConversation(
  config: SidecarConfig,
  header: HeaderReader,
  request: ModelRequest,
  rawUser: string | null,
): NamedConversation | Extract<IdentifyResult, { status: 'rejected' }> {
  let went: { readonly previous?: string } = {}
  for (const found of conversationCandidates(config, header, request, rawUser)) {
    if (found.rawId === '' && found.param !== CONVERSATION_HEADER) continue
    if (!isId(found.rawId)) return rejected(found.param, `a conversation id must be 1 to ${ID_LENGTH_MAX} printable characters`)
    if (found.carrier === 'PreviousResponse') went = { previous: found.rawId }
    else return { status: 'named', rawId: found.rawId, carrier: found.carrier, ...went }
  }
  return { status: 'fallback', ...went }
}

function* conversationCandidates(
  config: SidecarConfig,
  header: HeaderReader,
  request: ModelRequest,
  rawUser: string | null,
): Generator<{ readonly rawId: string; readonly carrier: Carrier | 'Alias'; readonly param: string }> {
  for (const carrier of config.identity.carriers) {
    switch (carrier) {
      case 'Header': {
        const own = header(CONVERSATION_HEADER)
        if (own !== undefined) yield { rawId: own, carrier, param: CONVERSATION_HEADER }
        for (const name of config.identity.headers) {
          const alias = header(name.toLowerCase())
          if (alias !== undefined) yield { rawId: alias, carrier: 'Alias', param: name }
        }
        break
      }
      case 'Baggage': {
        const baggage = header('baggage')
        if (baggage === undefined) break
        for (const key of BAGGAGE_KEYS) {
          const value = baggageValue(baggage, key)
          if (value !== null) yield { rawId: value, carrier, param: `baggage ${key}` }
        }
        break
      }
      case 'Conversation':
        if (request.earlier?.kind === 'conversation') yield { rawId: request.earlier.id, carrier, param: 'conversation' }
        break
      case 'PreviousResponse':
        if (request.earlier?.kind === 'response') yield { rawId: request.earlier.id, carrier, param: 'previous_response_id' }
        break
      case 'Metadata':
        for (const key of METADATA_KEYS) {
          const value = request.metadata[key]
          if (value !== undefined) yield { rawId: value, carrier, param: `metadata.${key}` }
        }
        break
      case 'PromptCacheKey':
        // All chats of a prompt may share it (https://platform.openai.com/docs/guides/prompt-caching): alone it would make one of them.
        if (request.promptCacheKey !== null && rawUser !== null) yield { rawId: request.promptCacheKey, carrier, param: 'prompt_cache_key' }
        break
    }
  }
}

function namedUser(
  config: SidecarConfig,
  header: HeaderReader,
  request: ModelRequest,
): { readonly rawId: string; readonly param: string } | null {
  for (const carrier of config.identity.userCarriers) {
    const { rawId, param } = userIn(carrier, header, request)
    if (rawId === undefined || rawId === null || (rawId === '' && param !== USER_HEADER)) continue
    return { rawId, param }
  }
  return null
}

function userIn(
  carrier: UserCarrier,
  header: HeaderReader,
  request: ModelRequest,
): { readonly rawId: string | null | undefined; readonly param: string } {
  switch (carrier) {
    case 'Header':
      return { rawId: header(USER_HEADER), param: USER_HEADER }
    case 'SafetyIdentifier':
      return { rawId: request.safetyIdentifier, param: 'safety_identifier' }
    case 'User':
      return { rawId: request.user, param: request.wire === 'messages' ? METADATA_USER : 'user' }
    case 'Metadata':
      return { rawId: request.metadata['user_id'], param: METADATA_USER }
  }
}

/** The value of one member of a W3C baggage header (percent-decoded), https://www.w3.org/TR/baggage/. */
function baggageValue(baggage: string, key: string): string | null {
  for (const member of baggage.split(',')) {
    const [pair = ''] = member.split(';')
    const equals = pair.indexOf('=')
    if (equals < 0 || pair.slice(0, equals).trim() !== key) continue
    const value = pair.slice(equals + 1).trim()
    try {
      return decodeURIComponent(value)
    } catch {
      return value // not percent-encoded after all: the bytes as they came are the name
    }
  }
  return null
}

/** Halves of characters are all one to a hash. */
function isId(text: string): boolean {
  return ID_PATTERN.test(text) && text.isWellFormed()
}

function rejected(param: string, message: string): Extract<IdentifyResult, { status: 'rejected' }> {
  return { status: 'rejected', param, message }
}
