/** The calls of `KubeClient` over one `Transport`. */
import { systemClock } from './clock.ts'
import type { Clock } from './clock.ts'
import { credentialSource } from './credentials.ts'
import { KubeError } from './kube.ts'
import type { ApplyOptions, KubeClient, KubeObject, ListOptions, Resource } from './kube.ts'
import { apiVersionOf, pathOf, PODS } from './resources.ts'
import { Transport } from './transport.ts'
import type { ApiCall, Fence, RequestReport } from './transport.ts'

export interface ConnectOptions {
  /** A file. Default: KUBECONFIG, `~/.kube/config`, the pod's own service account, in this order. */
  readonly kubeconfig?: string
  /** Also the field manager of what is created or replaced. */
  readonly userAgent?: string
  /** Of a whole call with its retries. */
  readonly deadlineMs?: number
  /** Of one attempt. */
  readonly attemptMs?: number
  /** All requests of the process but those that renew the lease. */
  readonly queriesPerSecond?: number
  readonly burst?: number
  readonly onRequest?: (report: RequestReport) => void
  readonly clock?: Clock
  /** From 0 to below 1. */
  readonly random?: () => number
}

export interface KubeConnection extends KubeClient {
  /** The same connections; writes are sent only while `fence` says so, else they reject with reason `NotLeader`. */
  fenced(fence: Fence): KubeClient
  readonly transport: Transport
  /** Of the kubeconfig's context, or of the pod. */
  readonly currentNamespace: string | null
  /** Ends what is under way and closes every connection. */
  close(): Promise<void>
}

export const PAGE_SIZE = 500
const USER_AGENT = 'farebox-operator'
const EVICTION = 'eviction'
const JSON_TYPE = 'application/json'
const APPLY_TYPE = 'application/apply-patch+yaml'

/** Rejects with `KubeError` when there are no credentials. That the API server answers is not asked for. */
export async function connectKube(options: ConnectOptions = {}): Promise<KubeConnection> {
  const clock = options.clock ?? systemClock
  const userAgent = options.userAgent ?? USER_AGENT
  const credentials = credentialSource(options.kubeconfig, () => clock.nowMs())
  await credentials.current()
  const transport = new Transport({
    credentials,
    clock,
    random: options.random ?? Math.random,
    userAgent,
    deadlineMs: options.deadlineMs ?? 15_000,
    attemptMs: options.attemptMs ?? 8_000,
    queriesPerSecond: options.queriesPerSecond ?? 50,
    burst: options.burst ?? 100,
    onRequest: options.onRequest ?? (() => {}),
  })
  const currentNamespace = credentials.namespace
  return {
    ...clientOf(transport, userAgent, undefined),
    fenced: (fence) => clientOf(transport, userAgent, fence),
    transport,
    currentNamespace,
    close: () => transport.close(),
  }
}

function clientOf(transport: Transport, fieldManager: string, fence: Fence | undefined): KubeClient {
  const write = async (call: ApiCall): Promise<KubeObject> =>
    objectOf(await transport.json(fence === undefined ? call : { ...call, fence }))
  return {
    async get(resource, name, namespace) {
      try {
        return objectOf(await transport.json({ verb: 'get', resource: resource.plural, path: pathOf(resource, placeOf(name, namespace)) }))
      } catch (error) {
        if (error instanceof KubeError && error.status === 404) return null
        throw error
      }
    },

    async list(resource, options = {}) {
      const items: KubeObject[] = []
      let token = ''
      do {
        const page = await listPage(transport, resource, options, { pageSize: PAGE_SIZE, token, metadataOnly: false })
        items.push(...page.items)
        token = page.token
      } while (token !== '')
      return items
    },

    create: (resource, object, options = {}) =>
      write({
        verb: 'create',
        resource: resource.plural,
        path: pathOf(resource, namespaceOf(object)),
        query: { fieldManager, ...dryRun(options.dryRun) },
        body: { type: JSON_TYPE, json: object },
      }),

    replace: (resource, object) =>
      write({
        verb: 'update',
        resource: resource.plural,
        path: pathOf(resource, placeOf(object.metadata.name, object.metadata.namespace)),
        query: { fieldManager },
        body: { type: JSON_TYPE, json: object },
      }),

    apply: (resource, object, options: ApplyOptions) =>
      write({
        verb: 'apply',
        resource: resource.plural,
        path: pathOf(resource, {
          ...placeOf(object.metadata.name, object.metadata.namespace),
          ...(options.subresource === undefined ? {} : { subresource: options.subresource }),
        }),
        query: {
          fieldManager: options.fieldManager,
          force: options.force === true ? 'true' : undefined,
          ...dryRun(options.dryRun),
        },
        body: { type: APPLY_TYPE, json: { ...object, apiVersion: apiVersionOf(resource), kind: resource.kind } },
      }),

    async delete(resource, name, namespace, uid) {
      const call: ApiCall = {
        verb: 'delete',
        resource: resource.plural,
        path: pathOf(resource, placeOf(name, namespace)),
        body: {
          type: JSON_TYPE,
          json: {
            apiVersion: 'v1',
            kind: 'DeleteOptions',
            propagationPolicy: 'Background',
            ...(uid === undefined ? {} : { preconditions: { uid } }),
          },
        },
      }
      try {
        await transport.text(fence === undefined ? call : { ...call, fence })
      } catch (error) {
        // 409: the name is another object's by now.
        if (error instanceof KubeError && (error.status === 404 || (error.status === 409 && uid !== undefined))) return
        throw error
      }
    },

    async evict({ name, namespace, uid }) {
      const call: ApiCall = {
        verb: 'create',
        resource: `${PODS.plural}/${EVICTION}`,
        path: pathOf(PODS, { name, namespace, subresource: EVICTION }),
        body: {
          type: JSON_TYPE,
          json: { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace }, deleteOptions: { preconditions: { uid } } },
        },
      }
      try {
        await transport.text(fence === undefined ? call : { ...call, fence })
      } catch (error) {
        // 409: the name is another pod's by now.
        if (error instanceof KubeError && (error.status === 404 || error.status === 409)) return
        throw error
      }
    },

    text: (path) => transport.text({ verb: 'text', resource: path, path, accept: '*/*' }),
  }
}

export interface Page {
  readonly items: readonly KubeObject[]
  /** For the next page; empty: this was the last. */
  readonly token: string
  readonly resourceVersion: string
}

export interface PageOptions {
  /** 0: everything at once. */
  readonly pageSize: number
  readonly token: string
  readonly metadataOnly: boolean
}

/** Rejects with status 410 when a token is too old: the list must begin anew. */
export async function listPage(transport: Transport, resource: Resource, options: ListOptions, page: PageOptions): Promise<Page> {
  const list = await transport.json({
    verb: 'list',
    resource: resource.plural,
    path: pathOf(resource, placeOf(undefined, options.namespace)),
    query: {
      labelSelector: options.labelSelector,
      fieldSelector: options.fieldSelector,
      limit: page.pageSize === 0 ? undefined : String(page.pageSize),
      continue: page.token === '' ? undefined : page.token,
    },
    ...(page.metadataOnly ? { accept: metadataAccept('PartialObjectMetadataList') } : {}),
  })
  const said = list as { metadata?: { continue?: string; resourceVersion?: string }; items?: unknown }
  // An empty list of metadata is sent as null.
  const { metadata, items } = said.items === null ? { ...said, items: [] } : said
  if (!Array.isArray(items)) throw new KubeError(`list ${resource.plural}: the answer is no list`, { status: 200, reason: 'InternalError' })
  return {
    items: items.map((item) => namedAs(resource, objectOf(item))),
    token: metadata?.continue ?? '',
    resourceVersion: metadata?.resourceVersion ?? '',
  }
}

export function metadataAccept(as: 'PartialObjectMetadata' | 'PartialObjectMetadataList'): string {
  return `application/json;as=${as};g=meta.k8s.io;v=v1`
}

/** Items of lists come without apiVersion and kind, and partial ones with those of the envelope. */
export function namedAs(resource: Resource, object: KubeObject): KubeObject {
  return { ...object, apiVersion: apiVersionOf(resource), kind: resource.kind }
}

export function objectOf(value: unknown): KubeObject {
  if (typeof value === 'object' && value !== null && 'metadata' in value && typeof value.metadata === 'object' && value.metadata !== null) {
    return value as KubeObject
  }
  throw new KubeError('the API server sent what is no object', { status: 200, reason: 'InternalError' })
}

function namespaceOf({ metadata: { namespace } }: KubeObject): { readonly namespace?: string } {
  return namespace === undefined ? {} : { namespace }
}

function placeOf(name: string | undefined, namespace: string | undefined): { readonly name?: string; readonly namespace?: string } {
  return { ...(name === undefined ? {} : { name }), ...(namespace === undefined ? {} : { namespace }) }
}

function dryRun(isDry: boolean | undefined): { readonly dryRun?: string } {
  return isDry === true ? { dryRun: 'All' } : {}
}
