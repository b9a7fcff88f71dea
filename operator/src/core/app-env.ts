/**
 * The environment of an app's container: what is added, and what its owner should hear. Ours come first, so that `$(NAME)` in a
 * value of the app's own can refer to them. A base URL that is set already stays; a key that the sidecar holds does not.
 */
import { PORTS } from '@farebox/crds/cluster.ts'
import { insert, pointer } from './json-patch.ts'
import type { JsonPatch } from './json-patch.ts'
import type { Container, EnvVar } from './pod.ts'
import type { AppVariables } from './sdk-variables.ts'

/** Containers that other injectors bring: they talk to no model, and their owners know nothing of ours. */
const OTHERS = [
  'istio-init',
  'istio-validation',
  'istio-proxy',
  'enable-core-dump',
  'linkerd-init',
  'linkerd-network-validator',
  'linkerd-proxy',
  'linkerd-debug',
  'vault-agent',
  'vault-agent-init',
  'daprd',
  'otc-container',
  'queue-proxy',
  'consul-connect-inject-init',
  'consul-dataplane',
  'aws-guardduty-agent',
  'gke-gcsfuse-sidecar',
  'datadog-agent-injected',
]
const OTHERS_PREFIXES = ['opentelemetry-auto-instrumentation', 'datadog-lib-', 'csql-']

export function isOfAnotherInjector({ name }: Pick<Container, 'name'>): boolean {
  return OTHERS.includes(name) || OTHERS_PREFIXES.some((prefix) => name.startsWith(prefix))
}

export interface EnvPlan {
  readonly patch: JsonPatch
  readonly warnings: readonly string[]
}

/** `path`: of the container in its pod, as it is when the patch is applied. */
export function planEnv(container: Container, path: string, variables: AppVariables): EnvPlan {
  const env = container.env ?? []
  const missing = [...variables.urls, ...variables.keys].filter(({ name }) => !env.some((entry) => entry.name === name))
  const replaced = env.flatMap((entry, index) => {
    const key = variables.keys.find(({ name }) => name === entry.name)
    return key === undefined || isValue(entry, key.value) ? [] : [{ index, key }]
  })
  return {
    patch: [
      // From where they stand now: what is put before them comes last.
      ...replaced.map(({ index, key }) => ({ op: 'replace' as const, path: `${path}${pointer('env', index)}`, value: key })),
      ...insert(`${path}/env`, container.env, 0, missing),
    ],
    warnings: [
      ...variables.urls
        .filter(({ name, value }) => env.some((entry) => entry.name === name && !isValue(entry, value)))
        .map(({ name, value }) => `${name} is set and stays: calls by it go past the sidecar; it should be ${value}`),
      ...named(env, variables.otherUrls).map((name) => `${name} is set and stays: calls by it go past the sidecar`),
      ...new Set(replaced.map(({ key }) => `${key.name} is replaced by a key that is worth nothing: the sidecar holds the real one`)),
      ...named(env, variables.otherKeys).map((name) => `${name} is set and stays: with a real key in it the app needs no sidecar`),
      ...heldElsewhere(container, variables),
      ...shadowed(container, missing),
      ...proxied(env),
      ...(container.ports ?? [])
        .filter(({ containerPort }) => containerPort === PORTS.data || containerPort === PORTS.admin)
        .map(({ containerPort }) => `port ${containerPort} is where the sidecar listens: one of the two will not start`),
    ],
  }
}

function isValue(entry: EnvVar, value: string): boolean {
  return entry.value === value && (entry.valueFrom ?? undefined) === undefined
}

function named(env: readonly EnvVar[], names: readonly string[]): readonly string[] {
  return names.filter((name) => env.some((entry) => entry.name === name))
}

/** The app has the real key under a name of its own. */
function heldElsewhere(container: Container, { held, keys }: AppVariables): readonly string[] {
  const byName = (container.env ?? []).flatMap(({ name, valueFrom }) => {
    const from = valueFrom?.secretKeyRef
    const isReal = held.some((secret) => secret.name === from?.name && secret.key === from.key)
    return isReal && !keys.some((key) => key.name === name) ? [`${name} is the key that the sidecar should hold alone: take it away`] : []
  })
  const whole = (container.envFrom ?? []).flatMap(({ secretRef }) =>
    held.some(({ name }) => name === secretRef?.name)
      ? [`envFrom brings Secret "${secretRef?.name ?? ''}", whose key the sidecar should hold alone: take it away`]
      : [],
  )
  return [...byName, ...new Set(whole)]
}

/** `env` wins over `envFrom`: what a config map said there is silently no longer so. */
function shadowed({ envFrom }: Container, added: readonly { readonly name: string }[]): readonly string[] {
  const names = added.map(({ name }) => name).filter((name) => !name.startsWith('FAREBOX_'))
  if ((envFrom ?? []).length === 0 || names.length === 0) return []
  return [`has envFrom: if it brings ${names.join(' or ')}, the sidecar's ${names.length === 1 ? 'value wins' : 'values win'}`]
}

const PROXIES = ['HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'all_proxy']
const EXCEPTIONS = ['NO_PROXY', 'no_proxy']

/** An SDK that heeds a proxy would ask it for 127.0.0.1. */
function proxied(env: readonly EnvVar[]): readonly string[] {
  const proxy = env.find(({ name }) => PROXIES.includes(name))
  if (proxy === undefined) return []
  const exceptions = env.filter(({ name }) => EXCEPTIONS.includes(name))
  // What comes from elsewhere cannot be read here.
  const isExcepted = exceptions.some(({ value }) => typeof value !== 'string' || value === '*' || value.includes('127.0.0.'))
  return isExcepted ? [] : [`${proxy.name} is set without 127.0.0.1 in NO_PROXY: calls to the sidecar would go to that proxy`]
}
