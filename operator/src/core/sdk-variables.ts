/**
 * By which environment variables the SDKs of a provider find the sidecar, and where they look for their key. Pure tables, and
 * what they make of a budget: the variables that its pods get.
 */
import { PORTS, WORTHLESS_KEY } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { heldOf, upstreamsOf } from './upstreams.ts'
import type { DeclaredUpstream } from './upstreams.ts'

interface SdkVariables {
  /** Null: its SDKs read none. `suffix`: what they expect behind the upstream's own path. */
  readonly baseUrl: { readonly name: string; readonly suffix: '' | '/v1' } | null
  /** Null: none that one could guess. */
  readonly key: string | null
  /** Read by some SDK in place of the base URL: whoever sets one may go past the sidecar. */
  readonly otherUrls: readonly string[]
  /** Read by some SDK in place of the key. */
  readonly otherKeys: readonly string[]
}

const KNOWN: Readonly<Record<string, SdkVariables>> = {
  openai: {
    baseUrl: { name: 'OPENAI_BASE_URL', suffix: '/v1' },
    key: 'OPENAI_API_KEY',
    otherUrls: ['OPENAI_API_BASE'], // LangChain looks there first
    otherKeys: [],
  },
  azure: {
    baseUrl: { name: 'AZURE_OPENAI_ENDPOINT', suffix: '' },
    key: 'AZURE_OPENAI_API_KEY',
    otherUrls: ['AZURE_OPENAI_BASE_PATH'],
    otherKeys: ['AZURE_OPENAI_AD_TOKEN'],
  },
  anthropic: {
    baseUrl: { name: 'ANTHROPIC_BASE_URL', suffix: '' },
    key: 'ANTHROPIC_API_KEY',
    otherUrls: ['ANTHROPIC_API_URL'],
    otherKeys: ['ANTHROPIC_AUTH_TOKEN'],
  },
  google: {
    baseUrl: { name: 'GOOGLE_GEMINI_BASE_URL', suffix: '' },
    key: 'GEMINI_API_KEY',
    otherUrls: ['GOOGLE_VERTEX_BASE_URL'],
    otherKeys: ['GOOGLE_API_KEY'], // of other Google services, too: not ours to replace
  },
  'x-ai': { baseUrl: null, key: 'XAI_API_KEY', otherUrls: [], otherKeys: [] },
  cohere: { baseUrl: null, key: 'CO_API_KEY', otherUrls: [], otherKeys: [] },
}

/** Others call their key by their name, as nearly all do. A name that begins with a digit would make no variable. */
function variablesOf(provider: string): SdkVariables {
  const known = Object.hasOwn(KNOWN, provider) ? KNOWN[provider] : undefined
  const key = /^[a-z][a-z0-9-]*$/.test(provider) ? `${upperSnake(provider)}_API_KEY` : null
  return known ?? { baseUrl: null, key, otherUrls: [], otherKeys: [] }
}

export interface SecretKey {
  readonly name: string
  readonly key: string
}

/** Something that is of an upstream whose key the sidecar holds. */
export interface OfUpstream {
  readonly upstream: string
}

export interface AppVariables {
  /** Base URLs: a value of the app's own stays. */
  readonly urls: readonly { readonly name: string; readonly value: string }[]
  /** Keys that the sidecar holds: a value of the app's own is replaced, or else the app could go past the sidecar with it. */
  readonly keys: readonly (OfUpstream & { readonly name: string; readonly value: string })[]
  /** Where an app may have said otherwise; only told of. */
  readonly otherUrls: readonly string[]
  readonly otherKeys: readonly (OfUpstream & { readonly name: string })[]
  /** The real keys that the sidecar holds, those of gateways too: an app that mounts one needs no sidecar. */
  readonly held: readonly (OfUpstream & SecretKey)[]
}

/** Where SDKs of its provider begin on the data plane: `/openai/v1`. */
export function basePathOf({ name, provider }: Pick<DeclaredUpstream, 'name' | 'provider'>): string {
  return `/${name}${variablesOf(provider).baseUrl?.suffix ?? '/v1'}`
}

/** Each upstream has a variable of ours, with the path that SDKs of its provider expect; of several upstreams of one provider, its SDK gets the one that is called like it, else the first. */
export function appVariables(budget: Pick<ConversationBudget, 'spec'>): AppVariables {
  const upstreams = upstreamsOf(budget)
  const providers = [...new Set(upstreams.map(({ provider }) => provider))].map((provider) => {
    const own = upstreams.filter((upstream) => upstream.provider === provider)
    return { variables: variablesOf(provider), upstream: own.find(({ name }) => name === provider) ?? own[0] }
  })
  const holding = providers.flatMap(({ variables, upstream }) =>
    upstream?.credential === undefined ? [] : [{ variables, upstream: upstream.name }],
  )
  return {
    urls: [
      ...upstreams.map(({ name, provider }) => ({
        name: `FAREBOX_BASE_URL_${upperSnake(name)}`,
        value: `${ADDRESS}${basePathOf({ name, provider })}`,
      })),
      ...providers.flatMap(({ variables: { baseUrl }, upstream }) =>
        baseUrl === null || upstream === undefined ? [] : [{ name: baseUrl.name, value: `${ADDRESS}${basePathOf(upstream)}` }],
      ),
    ],
    keys: holding.flatMap(({ variables: { key }, upstream }) => (key === null ? [] : [{ name: key, value: WORTHLESS_KEY, upstream }])),
    otherUrls: providers.flatMap(({ variables }) => variables.otherUrls),
    otherKeys: holding.flatMap(({ variables: { otherKeys }, upstream }) => otherKeys.map((name) => ({ name, upstream }))),
    held: upstreams.flatMap((upstream) => heldOf(upstream).map(({ secret }) => ({ ...secret, upstream: upstream.name }))),
  }
}

const ADDRESS = `http://127.0.0.1:${PORTS.data}`

function upperSnake(name: string): string {
  return name.toUpperCase().replaceAll('-', '_')
}
