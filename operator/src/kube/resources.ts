/** The resources that the operator reads or writes, and how the API server addresses them. */
import { KIND_NAMES } from '@farebox/crds/crd.ts'
import { API_GROUP, API_VERSION } from '@farebox/crds/fields.ts'
import type { Resource } from './kube.ts'

export const PODS = core('Pod', 'pods')
export const CONFIG_MAPS = core('ConfigMap', 'configmaps')
export const SECRETS = core('Secret', 'secrets')
export const NAMESPACES: Resource = { ...core('Namespace', 'namespaces'), isNamespaced: false }
export const NODES: Resource = { ...core('Node', 'nodes'), isNamespaced: false }
export const LEASES = namespaced('coordination.k8s.io', 'v1', 'Lease', 'leases')
export const EVENTS = namespaced('events.k8s.io', 'v1', 'Event', 'events')
export const TOKEN_REVIEWS = clusterWide('authentication.k8s.io', 'v1', 'TokenReview', 'tokenreviews')

const ADMISSION = 'admissionregistration.k8s.io'
export const MUTATING_WEBHOOK_CONFIGURATIONS = clusterWide(ADMISSION, 'v1', 'MutatingWebhookConfiguration', 'mutatingwebhookconfigurations')

const OUR_VERSION = API_VERSION.slice(API_GROUP.length + 1)
export const PRICING_TIERS = clusterWide(API_GROUP, OUR_VERSION, 'PricingTier', KIND_NAMES.PricingTier.plural)
export const PRICE_BOOKS = clusterWide(API_GROUP, OUR_VERSION, 'PriceBook', KIND_NAMES.PriceBook.plural)
export const CONVERSATION_BUDGETS = namespaced(API_GROUP, OUR_VERSION, 'ConversationBudget', KIND_NAMES.ConversationBudget.plural)

function core(kind: string, plural: string): Resource {
  return namespaced('', 'v1', kind, plural)
}

function namespaced(group: string, version: string, kind: string, plural: string): Resource {
  return { group, version, kind, plural, isNamespaced: true }
}

function clusterWide(group: string, version: string, kind: string, plural: string): Resource {
  return { group, version, kind, plural, isNamespaced: false }
}

export function apiVersionOf({ group, version }: Resource): string {
  return group === '' ? version : `${group}/${version}`
}

/** `namespace/name`, or `name` where there are no namespaces: what caches and queues call an object. */
export function keyOf({ namespace, name }: { readonly namespace?: string; readonly name: string }): string {
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`
}

/** Where the API server has it. Without a namespace, of a resource that has them: all namespaces. */
export function pathOf(
  resource: Resource,
  where: { readonly namespace?: string; readonly name?: string; readonly subresource?: string },
): string {
  const { group, plural, isNamespaced } = resource
  const parts = [group === '' ? '/api' : '/apis', apiVersionOf(resource)]
  if (isNamespaced && where.namespace !== undefined) parts.push('namespaces', encodeURIComponent(where.namespace))
  parts.push(plural)
  if (where.name !== undefined) parts.push(encodeURIComponent(where.name))
  if (where.subresource !== undefined) parts.push(where.subresource)
  return parts.join('/')
}
