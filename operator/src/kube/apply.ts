/** Server-side apply: what one concern says of an object, and whether that is so already. */
import type { ApplyOptions, KubeClient, KubeObject, OwnerReference, Resource } from './kube.ts'
import { apiVersionOf } from './resources.ts'

export interface Applied {
  readonly namespace?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly ownerReferences?: readonly OwnerReference[]
  /** Beside metadata: `data`, `spec`, `webhooks`, ... */
  readonly fields: Readonly<Record<string, unknown>>
}

/** The body of an apply: just what is ours. */
export function applied(resource: Resource, name: string, { fields, ...metadata }: Applied): KubeObject {
  return { apiVersion: apiVersionOf(resource), kind: resource.kind, metadata: { name, ...metadata }, ...fields }
}

/**
 * For what is deleted with `object`. It must have come from the API server. It may go first: who says otherwise needs a right to its
 * finalizers, on clusters that check it.
 */
export function ownerOf({ apiVersion, kind, metadata: { name, uid } }: KubeObject): OwnerReference {
  if (uid === undefined) throw new Error(`${kind} ${name} has no uid: it was never created`)
  return { apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: false }
}

/**
 * Applies unless everything that `object` says is in `current` already; then `current` comes back and nothing is written. Fields that
 * an earlier apply had and this one lacks do not show in that: change a field that stays, or apply.
 */
export async function applyIfChanged(
  client: KubeClient,
  resource: Resource,
  object: KubeObject,
  { current, ...options }: ApplyOptions & { readonly current: KubeObject | undefined },
): Promise<KubeObject> {
  if (current !== undefined && current.metadata.deletionTimestamp === undefined && isWithin(object, current)) return current
  return client.apply(resource, object, options)
}

/** Every field of `part` is so in `whole`, which may have more. Lists of objects match item by item, since the server adds defaults to them. */
export function isWithin(part: unknown, whole: unknown): boolean {
  if (Array.isArray(part)) {
    return Array.isArray(whole) && part.length === whole.length && part.every((item, index) => isWithin(item, whole[index]))
  }
  if (typeof part !== 'object' || part === null) return part === whole
  if (typeof whole !== 'object' || whole === null || Array.isArray(whole)) return false
  const fields: Readonly<Record<string, unknown>> = { ...whole }
  return Object.entries(part).every(([name, value]) => value === undefined || isWithin(value, fields[name]))
}
