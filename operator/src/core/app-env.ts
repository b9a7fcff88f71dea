/**
 * The environment of an app's container: what is added, and what its owner should hear. Ours come first, so that `$(NAME)` in a
 * value of the app's own can refer to them. A base URL that is set already stays; a key that the sidecar holds does not.
 */
import { PORTS, WORTHLESS_KEY } from '@farebox/crds/cluster.ts'
import { insert, pointer } from './json-patch.ts'
import type { JsonPatch } from './json-patch.ts'
import type { Container, EnvVar } from './pod.ts'
import type { AppVariables, OfUpstream } from './sdk-variables.ts'

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

/** By its name. Such a container is left as it is. */
export function isOfAnotherInjector({ name }: Pick<Container, 'name'>): boolean {
  return OTHERS.includes(name) || OTHERS_PREFIXES.some((prefix) => name.startsWith(prefix))
}

export interface EnvPlan {
  readonly patch: JsonPatch
  readonly warnings: readonly string[]
  /** The upstreams whose key the container may have, though the sidecar should hold it alone; some more than once. */
  readonly sharedKeys: readonly string[]
}

/** By which an app may go past the sidecar, and what its owner should hear of it. */
export interface FoundKey extends OfUpstream {
  readonly warning: string
}

/** The variables that a container of the app gets, and what its owner should hear. `path`: of the container in its pod, as it is when the patch is applied. */
export function planEnv(container: Container, path: string, variables: AppVariables): EnvPlan {
  const env = container.env ?? []
  const keys = variables.keys.map(({ name, value }) => ({ name, value }))
  const missing = [...variables.urls, ...keys].filter(({ name }) => !env.some((entry) => entry.name === name))
  const replaced = env.flatMap((entry, index) => {
    const key = keys.find(({ name }) => name === entry.name)
    return key === undefined || isValue(entry, key.value) ? [] : [{ index, key }]
  })
  const found = otherwiseHeld(container, variables)
  const past = pastSidecar(env, missing)
  return {
    patch: [
      // From where they stand now: what is put before them comes last.
      ...replaced.map(({ index, key }) => ({ op: 'replace' as const, path: `${path}${pointer('env', index)}`, value: key })),
      ...insert(`${path}/env`, container.env, 0, missing),
    ],
    warnings: [
      ...variables.urls
        .filter(({ name }) => past.has(name))
        .map(({ name, value }) => `${name} is set and stays: calls by it go past the sidecar; it should be ${value}`),
      ...variables.otherUrls.filter((name) => past.has(name)).map((name) => `${name} is set and stays: calls by it go past the sidecar`),
      ...new Set(replaced.map(({ key }) => `${key.name} is replaced by a key that is worth nothing: the sidecar holds the real one`)),
      ...found.map(({ warning }) => warning),
      ...shadowed(container, missing),
      ...proxied(env),
      ...(container.ports ?? [])
        .filter(({ containerPort }) => containerPort === PORTS.data || containerPort === PORTS.admin)
        .map(({ containerPort }) => `port ${containerPort} is where the sidecar listens: one of the two will not start`),
    ],
    sharedKeys: found.map(({ upstream }) => upstream),
  }
}

/** The same of a container that is left as it is: of its keys alone, none of which is replaced. */
export function leaveEnv(container: Container, variables: AppVariables): EnvPlan {
  const named = variables.keys
    .filter(({ name }) => (container.env ?? []).some((entry) => entry.name === name && mayHoldKey(entry)))
    .map(({ name, upstream }) => ({ upstream, warning: `${name} is set and stays, since this container is left alone: take it away` }))
  const found = [...named, ...otherwiseHeld(container, variables)]
  return { patch: [], warnings: found.map(({ warning }) => warning), sharedKeys: found.map(({ upstream }) => upstream) }
}

function isValue(entry: EnvVar, value: string): boolean {
  return entry.value === value && (entry.valueFrom ?? undefined) === undefined
}

/** The variables of the app's own that hold no address of the sidecar. `before`: what stands before them. */
function pastSidecar(env: readonly EnvVar[], before: readonly Variable[]): ReadonlySet<string> {
  const past = new Set<string>()
  const values = new Map(before.map(({ name, value }) => [name, value]))
  for (const { name, value, valueFrom } of env) {
    const text = (valueFrom ?? undefined) === undefined ? expanded(value ?? '', values) : null
    if (text === null) values.delete(name)
    else values.set(name, text)
    if (text !== null && isOfSidecar(text)) past.delete(name)
    else past.add(name)
  }
  return past
}

interface Variable {
  readonly name: string
  readonly value: string
}

/**
 * As the kubelet does it: `$(NAME)` is what a variable before this one holds, and `$$` is a `$`. What comes from elsewhere cannot be
 * read here, and stays as it is written. Null for what is too long for an address.
 * https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
 */
function expanded(text: string, values: ReadonlyMap<string, string>): string | null {
  if (text.length > ADDRESS_LENGTH_MAX) return null
  let result = ''
  let copied = 0
  for (const { 0: written, 1: name, index } of text.matchAll(/\$\$|\$\(([^)]{1,256})\)/g)) {
    result += text.slice(copied, index) + (name === undefined ? '$' : (values.get(name) ?? written))
    copied = index + written.length
    if (result.length > ADDRESS_LENGTH_MAX) return null
  }
  return result + text.slice(copied)
}

/** No address is longer: such a value is none, and is not looked into. Each of its references could be as long again. */
const ADDRESS_LENGTH_MAX = 2_048

const OWN_HOSTS: readonly string[] = ['127.0.0.1', 'localhost']

function isOfSidecar(text: string): boolean {
  const url = URL.canParse(text) ? new URL(text) : null
  return url !== null && OWN_HOSTS.includes(url.hostname) && url.port === String(PORTS.data)
}

function mayHoldKey({ value, valueFrom }: EnvVar): boolean {
  return (valueFrom ?? undefined) !== undefined || ((value ?? '') !== '' && value !== WORTHLESS_KEY)
}

/** The app has a key under another name than the one that is replaced, or may have. */
function otherwiseHeld({ env, envFrom }: Container, { held, keys, otherKeys }: AppVariables): readonly FoundKey[] {
  const set = (env ?? []).filter(mayHoldKey)
  const byOtherName = otherKeys
    .filter(({ name }) => set.some((entry) => entry.name === name))
    .map(({ name, upstream }) => ({ upstream, warning: `${name} is set and stays: with a real key in it the app needs no sidecar` }))
  const byReference = set
    .filter(({ name }) => !keys.some((key) => key.name === name))
    .flatMap(({ name, valueFrom }) =>
      held
        .filter((secret) => secret.name === valueFrom?.secretKeyRef?.name && secret.key === valueFrom.secretKeyRef.key)
        .map(({ upstream }) => ({ upstream, warning: `${name} is the key that the sidecar should hold alone: take it away` })),
    )
  const whole = held
    .filter(({ name }) => (envFrom ?? []).some(({ secretRef }) => secretRef?.name === name))
    .map(({ name, upstream }) => ({
      upstream,
      warning: `envFrom brings Secret "${name}", whose key the sidecar should hold alone: take it away`,
    }))
  return [...byOtherName, ...byReference, ...whole]
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
