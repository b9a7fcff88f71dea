/** Raw header lists (name, value, name, value): what goes to the provider and what comes back to the client. */
import type { IncomingHttpHeaders } from 'node:http'
import type { Family } from '@farebox/crds/provider-family.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { parameterName } from '../wire/query.ts'
import { withoutSecrets } from './held-key.ts'

/** Hop-by-hop fields (RFC 9110 section 7.6.1) and those that this proxy sets itself. */
const REQUEST_DROPPED = new Set([
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'expect',
  'host',
  'content-length',
  'content-encoding', // bodies are decoded here
  'accept-encoding', // answers are read on their way
  'proxy-authorization',
  'proxy-authenticate',
  'proxy-connection',
  // Who honours these takes the request for another one than was read here: of another method or path, or with its usage left out of the answer.
  'x-http-method-override',
  'x-http-method',
  'x-method-override',
  'x-goog-fieldmask',
  'x-original-url',
  'x-rewrite-url',
  'baggage', // carries ids of conversations and users, which are not the provider's business
])
const RESPONSE_DROPPED = new Set([
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'proxy-authenticate',
  'proxy-connection',
])
/** Our own headers never leave towards the provider, and are never taken from it. */
const OWN_PREFIX = 'x-farebox-'

/** Calls `visit` with each header of a raw list, in order; a name without a value is left out. */
export function eachHeader(raw: readonly string[], visit: (name: string, value: string) => void): void {
  for (let index = 0; index + 1 < raw.length; index += 2) visit(raw[index] as string, raw[index + 1] as string)
}

/** Headers that a config makes ours, lower-case: they carry ids and claims, which are not the provider's business. */
export function ownHeadersOf({ tiers, identity }: Pick<SidecarConfig, 'tiers' | 'identity'>): ReadonlySet<string> {
  const { claim } = tiers
  return new Set([...(claim === undefined ? [] : [claim.header]), ...identity.headers].map((name) => name.toLowerCase()))
}

/** The client's headers as the provider gets them: order and spelling kept, own and hop-by-hop ones left out. */
export function requestHeaders(raw: readonly string[], connection: string | undefined, own: ReadonlySet<string>): string[] {
  const named = connectionNames(connection)
  const headers: string[] = []
  eachHeader(raw, (name, value) => {
    const lower = name.toLowerCase()
    if (REQUEST_DROPPED.has(lower) || lower.startsWith(OWN_PREFIX) || own.has(lower) || named?.has(lower) === true) return
    headers.push(name, value)
  })
  return headers
}

/**
 * The dearer service tier that Vertex is asked for, which it takes in a header and not in the body; null: none. Given more than once, either
 * may count. https://docs.cloud.google.com/vertex-ai/generative-ai/docs/priority-paygo
 */
export function askedTier(headers: IncomingHttpHeaders): 'priority' | null {
  return /priority/i.test(String(headers[SHARED_REQUEST_TYPE])) ? 'priority' : null
}
const SHARED_REQUEST_TYPE = 'x-vertex-ai-llm-shared-request-type'

/**
 * The path without a key in its query, where Google's clients may put theirs: for calls that go out with a key that is held. Everything
 * else of the query stays as it is.
 */
export function withoutQueryKey(path: string): string {
  return withQuery(path, (name) => !QUERY_KEYS.has(name))
}

/** The path with the parameters of its query that have such names. */
function withQuery(path: string, keeps: (name: string) => boolean): string {
  const query = path.indexOf('?')
  if (query < 0) return path
  const kept = path
    .slice(query + 1)
    .split('&')
    .filter((parameter) => keeps(parameterName(parameter)))
  return kept.length === 0 ? path.slice(0, query) : `${path.slice(0, query)}?${kept.join('&')}`
}
/** https://cloud.google.com/apis/docs/system-parameters; each may have a dollar in front. */
const QUERY_KEYS: ReadonlySet<string> = new Set(['key', 'access_token', 'oauth_token'])

const GOOGLE_KEY_HEADER = 'x-goog-api-key'
/** Where a client's key is: one of these for each kind of provider. */
export const KEY_HEADERS: ReadonlySet<string> = new Set(['authorization', 'api-key', 'x-api-key', GOOGLE_KEY_HEADER])

/** With this key in place of whatever the client sent for one. `headers` is a raw list. Google takes a key in its own header, and no other beside it. */
export function withKey(headers: readonly string[], key: string, family: Family = 'openai'): string[] {
  const others: string[] = []
  const bare: string[] = []
  eachHeader(headers, (name, value) => {
    const lower = name.toLowerCase()
    if (!KEY_HEADERS.has(lower)) others.push(name, value)
    // Who is asked in one of these reads no other.
    else if (lower !== 'authorization' && !bare.includes(lower)) bare.push(lower)
  })
  if (family === 'google') return [...others, GOOGLE_KEY_HEADER, key]
  return [...others, 'authorization', `Bearer ${key}`, ...bare.flatMap((name) => [name, key])]
}

/** With these in place of what there is by their names, which are lower-case. Raw lists. */
export function withHeaders(headers: readonly string[], set: readonly string[]): readonly string[] {
  if (set.length === 0) return headers
  return [...withoutHeaders(headers, set), ...set]
}

/** Without those that `set` has values for. Raw lists. */
export function withoutHeaders(headers: readonly string[], set: readonly string[]): readonly string[] {
  if (set.length === 0) return headers
  const names = new Set<string>()
  eachHeader(set, (name) => names.add(name))
  const kept: string[] = []
  eachHeader(headers, (name, value) => {
    if (!names.has(name.toLowerCase())) kept.push(name, value)
  })
  return kept
}

/**
 * What another provider than the one that was asked gets of a call's headers: what is said of the request. Whatever else an app sends may name
 * its account at the first, or be a secret between the two.
 */
const ELSEWHERE = new Set([
  'content-type',
  'accept',
  'user-agent',
  'anthropic-version',
  'anthropic-beta',
  'traceparent',
  'tracestate',
  SHARED_REQUEST_TYPE, // its price is reckoned with
])
/** Of SDKs: what they are. */
const SDK_PREFIX = 'x-stainless-'
/** https://learn.microsoft.com/azure/ai-services/openai/reference, `alt` of Google, `beta` of Anthropic. */
const QUERY_ELSEWHERE: ReadonlySet<string> = new Set(['api-version', 'alt', 'beta'])

/** The headers as another provider than the one that was asked gets them, with the key that is held for it. A raw list. */
export function headersElsewhere(headers: readonly string[], key: string, family?: Family): string[] {
  const kept: string[] = []
  eachHeader(headers, (name, value) => {
    const lower = name.toLowerCase()
    if (ELSEWHERE.has(lower) || KEY_HEADERS.has(lower) || lower.startsWith(SDK_PREFIX)) kept.push(name, value)
  })
  return withKey(kept, key, family)
}

/** The path with no more of its query than another provider than the one that was asked is to have. */
export function queryElsewhere(path: string): string {
  return withQuery(path, (name) => QUERY_ELSEWHERE.has(name))
}

/** Says who sends, and to whom it goes on from there: keys of all kinds, accounts, and what gateways take by names of their own. */
const OF_SENDER =
  /^(?:(?:x-portkey|helicone|cf-aig|cf-access|x-litellm|x-tfy|x-bf|x-bt|x-rapidapi|oe|ocp-apim)-|(?:openai-(?:organization|project)|anthropic-(?:version|workspace-id)|x-goog-user-project|ai-resource-group|x-vercel-protection-bypass|x-provider|cookie)$)|(?:^|-)(?:auth|authorization|token|jwt|key|apikey|secret)(?:-|$)/
/** A beta without which a token of OAuth is none; others are of the model that the turn asks. */
const OF_TOKEN = 'oauth-'
/** Another call with the same would be taken for the first. */
const OF_ONE_REQUEST = /cache|idempotency|request-id|call-id/

/** What a call of our own takes from a turn's headers, to the same upstream: what lets it in there, and nothing else of the turn. A raw list. */
export function headersOfSender(headers: readonly string[]): string[] {
  const kept: string[] = []
  eachHeader(headers, (name, value) => {
    const lower = name.toLowerCase()
    if (lower === 'anthropic-beta') {
      const ofToken = value.split(',').filter((beta) => beta.trim().startsWith(OF_TOKEN))
      if (ofToken.length > 0) kept.push(name, ofToken.join(','))
    } else if (OF_SENDER.test(lower) && !OF_ONE_REQUEST.test(lower)) kept.push(name, value)
  })
  return kept
}

/**
 * The provider's headers as the client gets them. `lengthChanges`: the body will not have the length that was announced. `secrets`: not
 * for the client to see.
 */
export function responseHeaders(
  raw: readonly string[],
  options: { readonly lengthChanges: boolean; readonly secrets: readonly string[] },
): string[] {
  const headers: string[] = []
  const named = connectionNames(rawHeader(raw, 'connection') ?? undefined)
  eachHeader(raw, (name, value) => {
    const lower = name.toLowerCase()
    if (RESPONSE_DROPPED.has(lower) || lower.startsWith(OWN_PREFIX) || named?.has(lower) === true) return
    if (options.lengthChanges && lower === 'content-length') return
    headers.push(name, withoutSecrets(value, options.secrets))
  })
  return headers
}

/** The value of one header in a raw list, the first where there are several; null when absent. */
export function rawHeader(raw: readonly string[], name: string): string | null {
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const candidate = raw[index] ?? ''
    if (candidate.length === name.length && candidate.toLowerCase() === name) return raw[index + 1] ?? null
  }
  return null
}

function connectionNames(connection: string | undefined): ReadonlySet<string> | null {
  if (connection === undefined || connection === 'keep-alive' || connection === 'close') return null
  return new Set(connection.split(',').map((name) => name.trim().toLowerCase()))
}
