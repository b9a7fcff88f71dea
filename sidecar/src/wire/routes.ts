/** Which operation a method and path of a provider are: metered, and in which format; free of charge; or not to be metered. */
import { chatWire } from './openai-chat.ts'
import type { Wire } from './wire.ts'

/** How a provider is spoken to. */
export type Family = 'openai' | 'azure' | 'anthropic' | 'google'

export type Operation =
  | { readonly kind: 'metered'; readonly wire: Wire }
  /** The provider charges nothing for it: it passes. */
  | { readonly kind: 'free' }
  /** Billed, but not in a way that can be metered as it happens, or not known at all. `name` is for people: `batches`. */
  | { readonly kind: 'ungoverned'; readonly name: string }

export function familyOf(provider: string): Family {
  switch (provider) {
    case 'anthropic':
    case 'google':
    case 'azure':
      return provider
    default:
      return 'openai'
  }
}

/**
 * `path` is below the upstream's base URL, its query included. A base URL of OpenAI's or Anthropic's kind ends with the version,
 * which clients may repeat: `/v1/messages` and `/messages` are the same there.
 */
export function operationOf(family: Family, method: string, path: string): Operation {
  const plain = plainPath(path)
  const [resource = ''] = plain.slice(1).split('/')
  const found = TABLES[family](method, plain)
  return found ?? { kind: 'ungoverned', name: resource === '' ? plain : resource }
}

/** The path that the provider gets: without the version that its base URL has already. */
export function providerPath(family: Family, path: string): string {
  const versioned = family === 'openai' || family === 'anthropic'
  return versioned && path.startsWith('/v1/') ? path.slice('/v1'.length) : path
}

type Table = (method: string, path: string) => Operation | null

const FREE: Operation = { kind: 'free' }

const TABLES: Readonly<Record<Family, Table>> = {
  openai: (method, path) => {
    const wire = OPENAI_CALLS.get(path)
    if (method === 'POST' && wire !== undefined) return { kind: 'metered', wire }
    return isFree(OPENAI_FREE, method, path) ? FREE : null
  },
  azure: (method, path) => TABLES.openai(method, path.replace(AZURE_PREFIX, '')),
  anthropic: () => null,
  google: () => null,
}

/** Calls that are metered, by path. */
const OPENAI_CALLS: ReadonlyMap<string, Wire> = new Map([['/chat/completions', chatWire]])

/** Method and path of what costs nothing. */
const OPENAI_FREE: readonly (readonly [method: string, path: RegExp])[] = [['GET', /^\/models(\/[^/]+)?$/]]

/** In front of the operation: a deployment of the older API, or the version of the newer. */
const AZURE_PREFIX = /^\/openai\/(?:deployments\/[A-Za-z0-9._-]{1,64}|v1)(?=\/)/

function isFree(list: readonly (readonly [method: string, path: RegExp])[], method: string, path: string): boolean {
  return list.some(([wanted, pattern]) => wanted === method && pattern.test(path))
}

function plainPath(path: string): string {
  const query = path.indexOf('?')
  return query < 0 ? path : path.slice(0, query)
}
