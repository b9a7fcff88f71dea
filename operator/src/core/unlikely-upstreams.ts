/** Upstreams that are in force as they stand, and of which their owner has hardly meant what they say. Pure. */
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { familyOf } from '@farebox/crds/provider-family.ts'
import type { Fault } from './conditions.ts'
import type { DeclaredUpstream } from './upstreams.ts'

type Declared = Pick<ConversationBudget, 'spec'>

/** Where providers are to be found. A host that is not here may be anybody's: a proxy speaks and bills as its owner says. */
const HOSTS: readonly (readonly [host: RegExp, provider: string])[] = [
  [/^([a-z0-9-]+\.)?api\.openai\.com$/, 'openai'], // `eu.` and others keep data in a region
  [/^api\.anthropic\.com$/, 'anthropic'],
  [/^generativelanguage\.googleapis\.com$/, 'google'],
  [/\.openai\.azure\.com$/, 'azure'],
  [/^api\.mistral\.ai$/, 'mistral'],
  [/^api\.groq\.com$/, 'groq'],
  [/^api\.deepseek\.com$/, 'deepseek'],
  [/^api\.x\.ai$/, 'x-ai'],
]

/** What upstreams are called beside the names of providers themselves. Of those that speak OpenAI's format a name says nothing: any server may serve their models in it. */
const OTHER_NAMES: readonly (readonly [name: string, provider: string])[] = [
  ['claude', 'anthropic'],
  ['gemini', 'google'],
]
const NAMES: ReadonlyMap<string, string> = new Map([
  ...loadCatalogue().models.flatMap(({ provider }) => (hasOwnFormat(provider) ? [[provider, provider] as const] : [])),
  ...OTHER_NAMES,
])

/** That upstreams have the provider openai, as where none is written, and by their host or their name are another's. */
export function unlikelyProvider({ spec: { upstreams } }: Declared): Fault | null {
  const found = upstreams.flatMap((upstream, index) => {
    const likely = upstream.provider === 'openai' ? likelyProvider(upstream) : 'openai'
    return likely === 'openai' ? [] : [{ index, likely, shown: `"${upstream.name}" (${likely}?)` }]
  })
  const [first] = found
  if (first === undefined) return null
  const variables = found.some(({ likely }) => hasOwnFormat(likely))
    ? ", and the variables that lead that provider's SDKs to the sidecar are not set"
    : ''
  const message = `calls to upstreams that look like another provider's are read and priced as OpenAI's${variables}: ${shownOf(found)}`
  return { reason: 'ProviderUnlikely', message, field: `spec.upstreams[${first.index}].provider` }
}

/** That the address of a well-known host lacks the version, or has one that SDKs write into each path themselves. */
export function unlikelyBaseUrl({ spec: { upstreams } }: Declared): Fault | null {
  const found = upstreams.flatMap((upstream, index) => {
    const why = whyNotThere(upstream)
    return why === null ? [] : [{ index, shown: `"${upstream.name}" ${why}` }]
  })
  const [first] = found
  if (first === undefined) return null
  const message = `calls go to paths that their provider does not have, and answers with 404: the base URL of ${shownOf(found)}`
  return { reason: 'BaseUrlUnlikely', message, field: `spec.upstreams[${first.index}].baseURL` }
}

/** A host says more than a name. Some providers speak OpenAI's format as well, below a path that says so: that may be meant. */
function likelyProvider({ name, baseURL }: DeclaredUpstream): string {
  const likely = providerAt(baseURL) ?? NAMES.get(name) ?? 'openai'
  return hasOwnFormat(likely) && pathOf(baseURL).split('/').includes('openai') ? 'openai' : likely
}

function hasOwnFormat(provider: string): boolean {
  return familyOf(provider) !== 'openai'
}

function whyNotThere({ provider, baseURL }: DeclaredUpstream): string | null {
  const [at, family, path] = [providerAt(baseURL), familyOf(provider), pathOf(baseURL)]
  if (at === 'openai' || at === 'anthropic')
    return path === '' && (family === 'openai' || family === 'anthropic') ? 'must end with the version, /v1' : null
  const isWithoutPath = (at === 'google' || at === 'azure') && family === at
  return isWithoutPath && path !== '' ? `must end with the host, without ${path}, which SDKs write into each path themselves` : null
}

function providerAt(baseURL: string): string | null {
  const { hostname } = new URL(baseURL)
  return HOSTS.find(([host]) => host.test(hostname))?.[1] ?? null
}

/** Without the slash at its end: empty where there is none but that. */
function pathOf(baseURL: string): string {
  return new URL(baseURL).pathname.replace(/\/$/, '')
}

function shownOf(found: readonly { readonly shown: string }[]): string {
  return found.map(({ shown }) => shown).join('; ')
}
