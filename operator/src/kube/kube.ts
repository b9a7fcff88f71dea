/**
 * What the rest of the operator knows of a cluster: plain objects, kinds by name, and a few calls that end by a deadline.
 * Everything here is a type; the parts beside it do the work on `@kubernetes/client-node`.
 */

/** As it came from the API server: times are strings. What is more than metadata is parsed by who reads it. */
export interface KubeObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: ObjectMeta
  readonly [field: string]: unknown
}

export interface ObjectMeta {
  readonly name: string
  readonly namespace?: string
  readonly uid?: string
  readonly resourceVersion?: string
  readonly generation?: number
  readonly creationTimestamp?: string
  readonly deletionTimestamp?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly ownerReferences?: readonly OwnerReference[]
}

export interface OwnerReference {
  readonly apiVersion: string
  readonly kind: string
  readonly name: string
  readonly uid: string
  readonly controller?: boolean
  readonly blockOwnerDeletion?: boolean
}

export interface Resource {
  /** `''` for the core group. */
  readonly group: string
  readonly version: string
  readonly kind: string
  readonly plural: string
  readonly isNamespaced: boolean
}

/** The API server's refusal, or why it could not be asked. `status` is 0 when there was no answer. */
export class KubeError extends Error {
  readonly status: number
  /** `NotFound`, `Conflict`, `AlreadyExists`, `Forbidden`, `Invalid`, ...: `Status.reason`; `Timeout` and `Unreachable` are ours. */
  readonly reason: string
  readonly retryAfterMs: number | null

  constructor(
    message: string,
    details: { readonly status: number; readonly reason: string; readonly retryAfterMs?: number | null; readonly cause?: unknown },
  ) {
    super(message, { cause: details.cause })
    this.name = 'KubeError'
    this.status = details.status
    this.reason = details.reason
    this.retryAfterMs = details.retryAfterMs ?? null
  }
}

/** Answers that say nothing of what was asked: who we are is not clear, it was too slow, somebody else was faster, it is too much now. */
const PASSING_STATUSES: ReadonlySet<number> = new Set([401, 404, 408, 409, 429])

/** Of a quota that was made a moment ago: what it bounds is not counted yet. */
const UNCOUNTED_QUOTA = /status unknown for quota/

/** The API server has looked at it and said no, as a quota, a policy or a right has it: asked again, it says the same until somebody acts. */
export function isRefusal(error: unknown): boolean {
  if (!(error instanceof KubeError) || PASSING_STATUSES.has(error.status) || UNCOUNTED_QUOTA.test(error.message)) return false
  return error.status >= 400 && error.status < 500
}

export interface ListOptions {
  readonly namespace?: string
  readonly labelSelector?: string
  readonly fieldSelector?: string
}

export interface ApplyOptions {
  /** One per concern: `farebox-config`, `farebox-status`, ... */
  readonly fieldManager: string
  /** Only for fields that are wholly ours. */
  readonly force?: boolean
  readonly subresource?: 'status'
  readonly dryRun?: boolean
}

/** Every call rejects with `KubeError`. Reads wait as `Retry-After` says and try again within their deadline; so do writes that were told 429 or 503. */
export interface KubeClient {
  /** Null when there is none. */
  get(resource: Resource, name: string, namespace?: string): Promise<KubeObject | null>
  /** All pages. */
  list(resource: Resource, options?: ListOptions): Promise<readonly KubeObject[]>
  create(resource: Resource, object: KubeObject, options?: { readonly dryRun?: boolean }): Promise<KubeObject>
  /** With `metadata.resourceVersion`: `Conflict` when it is no longer that. */
  replace(resource: Resource, object: KubeObject): Promise<KubeObject>
  /** Server-side apply: `object` holds just the fields that the field manager says. */
  apply(resource: Resource, object: KubeObject, options: ApplyOptions): Promise<KubeObject>
  /** Of an object that is gone: nothing. `uid`: only of that one. */
  delete(resource: Resource, name: string, namespace?: string, uid?: string): Promise<void>
  /** Asks the API server to end a pod as a drain does: what would fall below its disruption budget is refused with 429. Of one that is gone: nothing. */
  evict(pod: { readonly name: string; readonly namespace: string; readonly uid: string }): Promise<void>
  /** The text at a path of the API server, such as `/openid/v1/jwks`. */
  text(path: string): Promise<string>
}

/** What a reflector has of one kind. Read-only; an object that changes is replaced. */
export interface Cache<T> {
  /** The first list is in. */
  readonly hasSynced: boolean
  /** By `namespace/name`, or `name` where there are no namespaces. */
  get(key: string): T | undefined
  values(): Iterable<T>
  readonly size: number
}

/** `before` is undefined for what is new, `after` for what is gone. An object that was deleted and made again is told as both, in order. */
export type OnChange<T> = (key: string, before: T | undefined, after: T | undefined) => void
