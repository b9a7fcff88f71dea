/**
 * An API server on loopback that behaves as the real one documents: versions that grow, lists in pages, watches that replay from a
 * version, bookmarks, 410 for versions that are too old, optimistic locking. And that fails in the ways a test asks for.
 */
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { KubeObject, Resource } from '../../operator/src/kube/kube.ts'
import { apiVersionOf, keyOf } from '../../operator/src/kube/resources.ts'
import { onFreePorts } from '../support/free-ports.ts'
import { waitFor } from '../support/wait-for.ts'

export interface SeenRequest {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
  readonly atMs: number
  readonly body: unknown
}

/** `hang`: never answers, and keeps the socket. `cut`: drops it. */
export type Fault = { readonly code: number; readonly headers?: Record<string, string>; readonly body?: unknown } | 'hang' | 'cut'

interface Watching {
  readonly collection: string
  readonly response: ServerResponse
  readonly metadataOnly: boolean
  /** Null: of pods in any. */
  readonly phase: string | null
}

export class FakeApiServer {
  readonly requests: SeenRequest[] = []
  /** Asked for each request; null: it is answered as it should be. */
  fault: (request: SeenRequest) => Fault | null = () => null
  /** How a watch from a version that is too old is refused. */
  expiredAs: 'event' | 'status' = 'status'
  readonly kubeconfig: string
  readonly #folder = mkdtempSync(join(tmpdir(), 'farebox-fake-api-'))
  readonly #collections = new Map<string, Map<string, KubeObject>>()
  readonly #history: { version: number; collection: string; type: string; object: KubeObject }[] = []
  readonly #sockets = new Set<Socket>()
  readonly #watches = new Set<Watching>()
  #frozen = false
  #version = 100
  #oldest = 0
  #uids = 0
  #server: Server | null = null
  #port = 0

  constructor() {
    this.kubeconfig = join(this.#folder, 'kubeconfig')
  }

  async start(): Promise<void> {
    if (this.#port === 0) await onFreePorts(1, ([port = 0]) => this.#listen(port))
    else await waitFor('the port that clients know', () => this.#listen(this.#port))
    const cluster = { server: `http://127.0.0.1:${this.#port}`, 'insecure-skip-tls-verify': true }
    writeFileSync(
      this.kubeconfig,
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Config',
        clusters: [{ name: 'fake', cluster }],
        users: [{ name: 'me', user: { token: 'secret' } }],
        contexts: [{ name: 'fake', context: { cluster: 'fake', user: 'me', namespace: 'here' } }],
        'current-context': 'fake',
      }),
    )
  }

  async #listen(port: number): Promise<true> {
    const server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined))
    })
    server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    server.keepAliveTimeout = 60_000
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    this.#server = server
    this.#port = port
    return true
  }

  /** As a process that is killed: what it held open is gone. The port is kept for the next `start`. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = null
    for (const socket of this.#sockets) socket.destroy()
    this.#watches.clear()
    if (server === null) return
    server.close()
    await once(server, 'close')
  }

  async end(): Promise<void> {
    await this.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  get sockets(): number {
    return this.#sockets.size
  }

  get watches(): number {
    return this.#watches.size
  }

  get version(): string {
    return String(this.#version)
  }

  /** Creates or changes, and tells watches. */
  put(resource: Resource, name: string, rest: { namespace?: string; labels?: Record<string, string>; fields?: object } = {}): KubeObject {
    const { namespace, labels, fields } = rest
    const metadata = { name, ...(namespace === undefined ? {} : { namespace }), ...(labels === undefined ? {} : { labels }) }
    return this.#store(collectionOf(resource), { apiVersion: apiVersionOf(resource), kind: resource.kind, metadata, ...fields })
  }

  remove(resource: Resource, name: string, namespace?: string): void {
    const collection = collectionOf(resource)
    const objects = this.#of(collection)
    const key = keyOf(namespace === undefined ? { name } : { name, namespace })
    const object = objects.get(key)
    if (object === undefined) throw new Error(`there is no ${key}`)
    objects.delete(key)
    this.#version += 1
    this.#tell(collection, 'DELETED', { ...object, metadata: { ...object.metadata, resourceVersion: String(this.#version) } })
  }

  read(resource: Resource, name: string, namespace?: string): KubeObject | undefined {
    return this.#of(collectionOf(resource)).get(keyOf(namespace === undefined ? { name } : { name, namespace }))
  }

  /** Forgets how it came to be as it is. */
  compact(): void {
    this.#oldest = this.#version
    this.#history.length = 0
  }

  bookmark(): void {
    for (const watch of this.#watches) {
      const metadata = { resourceVersion: String(this.#version), creationTimestamp: null }
      this.#send(watch, { type: 'BOOKMARK', object: { kind: 'Any', apiVersion: 'v1', metadata } })
    }
  }

  /** In the middle of every watch. */
  event(event: unknown): void {
    for (const watch of this.#watches) this.#send(watch, event)
  }

  raw(text: string | Buffer): void {
    for (const { response } of this.#watches) response.write(text)
  }

  /** `end`: as the server's own timeout. `cut`: as a network that fails. */
  closeWatches(how: 'end' | 'cut'): void {
    for (const { response } of this.#watches) {
      if (how === 'end') response.end()
      else response.socket?.destroy()
    }
    this.#watches.clear()
  }

  /** Sockets stay open and nothing comes any more: a peer that is gone without a word. */
  freezeWatches(): void {
    this.#watches.clear()
  }

  /** All requests from now on, too. */
  set frozen(value: boolean) {
    this.#frozen = value
  }

  #of(collection: string): Map<string, KubeObject> {
    const known = this.#collections.get(collection)
    if (known !== undefined) return known
    const objects = new Map<string, KubeObject>()
    this.#collections.set(collection, objects)
    return objects
  }

  #store(collection: string, object: KubeObject): KubeObject {
    const objects = this.#of(collection)
    const key = keyOf(object.metadata)
    const before = objects.get(key)
    this.#version += 1
    const uid = before?.metadata.uid ?? object.metadata.uid ?? `uid-${(this.#uids += 1)}`
    const stored = { ...object, metadata: { ...object.metadata, uid, resourceVersion: String(this.#version) } }
    objects.set(key, stored)
    this.#tell(collection, before === undefined ? 'ADDED' : 'MODIFIED', stored)
    return stored
  }

  #tell(collection: string, type: string, object: KubeObject): void {
    this.#history.push({ version: this.#version, collection, type, object })
    for (const watch of this.#watches) if (watch.collection === collection) this.#send(watch, { type, object })
  }

  #send({ response, metadataOnly, phase }: Watching, event: unknown): void {
    const { type: happened, object } = event as { type: string; object: KubeObject }
    const type = happened === 'ERROR' || isInPhase(object, phase) ? happened : 'DELETED'
    response.write(`${JSON.stringify({ type, object: metadataOnly && type !== 'ERROR' ? partial(object) : object })}\n`)
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://fake')
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    const text = Buffer.concat(parts).toString()
    const seen: SeenRequest = {
      method: request.method ?? '',
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      atMs: performance.now(),
      body: text === '' ? null : JSON.parse(text),
    }
    this.requests.push(seen)
    const fault = this.#frozen ? 'hang' : this.fault(seen)
    if (fault === 'hang') return
    if (fault === 'cut') {
      response.socket?.destroy()
      return
    }
    if (fault !== null) {
      response.writeHead(fault.code, { 'content-type': 'application/json', ...fault.headers })
      response.end(JSON.stringify(fault.body ?? statusOf(fault.code)))
      return
    }
    this.#serve(seen, response)
  }

  #serve(request: SeenRequest, response: ServerResponse): void {
    const { collection, namespace, name } = placeOf(request.path)
    if (name === undefined && request.query.get('watch') === 'true') {
      this.#watch(collection, request, response)
      return
    }
    const [code, body] =
      name === undefined && request.method === 'GET' ? this.#list(collection, request) : this.#one(collection, namespace, name, request)
    response.writeHead(code, { 'content-type': 'application/json' })
    response.end(JSON.stringify(body))
  }

  #list(collection: string, { query, headers }: SeenRequest): [number, unknown] {
    const limit = Number(query.get('limit') ?? '0')
    const [version = this.#version, offset = 0] = (query.get('continue') ?? '').split('-').filter(Boolean).map(Number)
    if (version < this.#oldest) return [410, statusOf(410)]
    const all = [...this.#of(collection).values()].filter((object) => isInPhase(object, phaseOf(query)))
    const items = limit === 0 ? all.slice(offset) : all.slice(offset, offset + limit)
    const rest = all.length - offset - items.length
    const metadata = { resourceVersion: String(version), ...(rest > 0 ? { continue: `${version}-${offset + items.length}` } : {}) }
    return [200, { kind: 'List', apiVersion: 'v1', metadata, items: isPartial(headers) ? items.map(partial) : items }]
  }

  #watch(collection: string, { query, headers }: SeenRequest, response: ServerResponse): void {
    const from = Number(query.get('resourceVersion'))
    const expired = from < this.#oldest
    if (expired && this.expiredAs === 'status') {
      response.writeHead(410, { 'content-type': 'application/json' })
      response.end(JSON.stringify(statusOf(410)))
      return
    }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.flushHeaders()
    const watch = { collection, response, metadataOnly: isPartial(headers), phase: phaseOf(query) }
    if (expired) {
      this.#send(watch, { type: 'ERROR', object: statusOf(410) })
      response.end()
      return
    }
    for (const event of this.#history) if (event.collection === collection && event.version > from) this.#send(watch, event)
    this.#watches.add(watch)
    response.on('close', () => this.#watches.delete(watch))
    // As short as a test asks for, unlike the real one.
    const seconds = Number(query.get('timeoutSeconds') ?? '0')
    if (seconds > 0) setTimeout(() => response.end(), seconds * 1_000).unref()
  }

  #one(collection: string, namespace: string | undefined, name: string | undefined, request: SeenRequest): [number, unknown] {
    const body = request.body as KubeObject | null
    const key = keyOf({ name: name ?? body?.metadata.name ?? '', ...(namespace === undefined ? {} : { namespace }) })
    const known = this.#of(collection).get(key)
    switch (request.method) {
      case 'GET':
        return known === undefined ? [404, statusOf(404)] : [200, known]
      case 'POST':
        return known !== undefined || body === null ? [409, statusOf(409)] : [201, this.#store(collection, body)]
      case 'PUT':
        if (known === undefined || body === null) return [404, statusOf(404)]
        if (body.metadata.resourceVersion !== undefined && body.metadata.resourceVersion !== known.metadata.resourceVersion)
          return [409, statusOf(409)]
        return [200, this.#store(collection, body)]
      case 'PATCH': {
        if (body === null) return [400, statusOf(400)]
        if (request.path.endsWith('/status') && known === undefined) return [404, statusOf(404)]
        if (body.metadata.uid !== undefined && known?.metadata.uid !== body.metadata.uid) return [409, statusOf(409)]
        return [200, this.#store(collection, { ...known, ...body, metadata: { ...known?.metadata, ...body.metadata } })]
      }
      case 'DELETE':
        if (known === undefined) return [404, statusOf(404)]
        this.#of(collection).delete(key)
        this.#version += 1
        this.#tell(collection, 'DELETED', known)
        return [200, { kind: 'Status', status: 'Success' }]
      default:
        return [405, statusOf(405)]
    }
  }
}

function collectionOf(resource: Resource): string {
  return `${apiVersionOf(resource)}/${resource.plural}`
}

function placeOf(path: string): { collection: string; namespace?: string; name?: string } {
  const parts = path.split('/').filter(Boolean)
  const version = parts[0] === 'api' ? parts[1] : `${parts[1]}/${parts[2]}`
  const rest = parts.slice(parts[0] === 'api' ? 2 : 3)
  const scoped = rest[0] === 'namespaces' && rest.length > 2
  const [plural, name] = scoped ? rest.slice(2) : rest
  return {
    collection: `${version}/${plural}`,
    ...(scoped ? { namespace: rest[1] ?? '' } : {}),
    ...(name === undefined ? {} : { name }),
  }
}

function isPartial(headers: IncomingMessage['headers']): boolean {
  return headers.accept?.includes('as=PartialObjectMetadata') === true
}

/** The one field by which pods are told apart here. */
function phaseOf(query: URLSearchParams): string | null {
  return /^status\.phase=(\w+)$/.exec(query.get('fieldSelector') ?? '')?.[1] ?? null
}

function isInPhase({ status }: KubeObject, phase: string | null): boolean {
  return phase === null || (typeof status === 'object' && status !== null && 'phase' in status && status.phase === phase)
}

function partial({ metadata }: KubeObject): object {
  return { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata }
}

function statusOf(code: number): object {
  const reason = { 404: 'NotFound', 409: 'Conflict', 410: 'Expired', 429: 'TooManyRequests' }[code] ?? 'InternalError'
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message: `answer ${code}`, reason, code }
}
