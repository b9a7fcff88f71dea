/**
 * Keeps what the API server has of one kind, for ever: list, then watch from there; after any trouble watch on from the last
 * version that was seen, and list anew only when the server no longer knows it.
 */
import { listPage, metadataAccept, namedAs, objectOf, PAGE_SIZE } from './client.ts'
import { backoffMs, sleep } from './clock.ts'
import { KubeError } from './kube.ts'
import type { Cache, KubeObject, ListOptions, OnChange, Resource } from './kube.ts'
import { keyOf, pathOf } from './resources.ts'
import { Slices } from './slices.ts'
import type { Transport } from './transport.ts'
import { WatchLines } from './watch-lines.ts'

/** `Expired`: the server no longer knows our version, and everything is listed anew; it is no fault. */
export const REFLECTOR_PROBLEMS = ['List', 'Watch', 'Expired', 'Parse', 'Handler'] as const

export interface ReflectorProblem {
  readonly kind: (typeof REFLECTOR_PROBLEMS)[number]
  readonly resource: string
  /** Of the object that did not parse, or whose handler threw. */
  readonly key?: string
  readonly error: unknown
}

export interface ReflectorOptions<T> {
  readonly kube: { readonly transport: Transport }
  readonly resource: Resource
  readonly namespace?: string
  readonly labelSelector?: string
  readonly fieldSelector?: string
  /** Only apiVersion, kind and metadata are sent. */
  readonly metadataOnly?: boolean
  /** Without managedFields. One that throws is reported, and there is no such object: what must be known of it is for `parse` to return. */
  parse(object: KubeObject): T
  /** Called synchronously, in the order of changes. A throw is reported. */
  onChange?: OnChange<T>
  onProblem?(problem: ReflectorProblem): void
  readonly timing?: Partial<ReflectorTiming>
  /** Objects in a page of the list. */
  readonly pageSize?: number
  /** They are listed in small pages, and never all at once: no answer may be so large, nor has the process the memory for it. */
  readonly hasLargeObjects?: boolean
}

export interface ReflectorTiming {
  /** The server ends a watch after a time between the two. */
  readonly watchMinMs: number
  readonly watchMaxMs: number
  /** A watch on which nothing came for so long is dead: the server sends a bookmark each minute. */
  readonly idleMs: number
  readonly backoffMinMs: number
  readonly backoffMaxMs: number
}

const TIMING: ReflectorTiming = { watchMinMs: 300_000, watchMaxMs: 600_000, idleMs: 90_000, backoffMinMs: 250, backoffMaxMs: 30_000 }
/** A watch that held so long was a good one: the next trouble is the first. */
const GOOD_WATCH_MS = 10_000
/** Watches that fail in a row before the version itself is doubted. */
const FAILED_WATCHES_MAX = 5
/** Pages may expire while they are read; the third time everything is asked for at once, unless objects are large. */
const EXPIRED_PAGES_MAX = 2
/** Of objects that may have a megabyte each, and six times as much as JSON: a page is far below what an answer may have. */
const LARGE_PAGE_SIZE = 20
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration'

interface Entry<T> {
  readonly uid: string | undefined
  readonly resourceVersion: string | undefined
  /** Absent: it did not parse. */
  readonly parsed?: { readonly value: T }
}

/** Owns one watch, from `start` until `stop`; what it has stays readable after that. Trouble goes to `onProblem` alone. */
export class Reflector<T> implements Cache<T> {
  readonly #options: ReflectorOptions<T>
  readonly #timing: ReflectorTiming
  readonly #transport: Transport
  readonly #entries = new Map<string, Entry<T>>()
  readonly #stopping = new AbortController()
  /** When the first list is in; never rejects. */
  readonly synced: Promise<void>
  #markSynced: () => void = () => {}
  #hasSynced = false
  #parsedCount = 0
  #running: Promise<void> | null = null
  #resourceVersion: string | null = null
  #lists = 0
  #lastEventMs = -Infinity
  readonly #slices = new Slices()

  constructor(options: ReflectorOptions<T>) {
    this.#options = options
    this.#timing = { ...TIMING, ...options.timing }
    this.#transport = options.kube.transport
    this.synced = new Promise((resolve) => {
      this.#markSynced = resolve
    })
  }

  /** Once. */
  start(): void {
    if (this.#running !== null) throw new Error('a reflector starts once')
    this.#running = this.#run()
  }

  /** Resolves when nothing of it is left; no handler is called from here on. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  get hasSynced(): boolean {
    return this.#hasSynced
  }

  /** Since a list, an event or a bookmark came. `Infinity` before the first. */
  get lastEventAgeMs(): number {
    return this.#transport.clock.nowMs() - this.#lastEventMs
  }

  /** Lists after the first. */
  get relists(): number {
    return Math.max(0, this.#lists - 1)
  }

  get size(): number {
    return this.#parsedCount
  }

  get(key: string): T | undefined {
    return this.#entries.get(key)?.parsed?.value
  }

  *values(): Iterable<T> {
    for (const { parsed } of this.#entries.values()) if (parsed !== undefined) yield parsed.value
  }

  get #isStopped(): boolean {
    return this.#stopping.signal.aborted
  }

  async #run(): Promise<void> {
    const { clock } = this.#transport
    let failures = 0
    let watchStartMs = clock.nowMs()
    while (!this.#isStopped) {
      try {
        if (this.#resourceVersion === null) {
          this.#resourceVersion = await this.#list()
          if (this.#isStopped) return
          failures = 0
          this.#hasSynced = true
          this.#markSynced()
        }
        watchStartMs = clock.nowMs()
        await this.#watch(this.#resourceVersion)
        failures = clock.nowMs() - watchStartMs >= GOOD_WATCH_MS ? 0 : failures + 1
        // Not even a good one is opened again in the same moment, by every replica.
        await this.#pause(Math.max(1, failures), null)
      } catch (error) {
        if (this.#isStopped) return
        const listing = this.#resourceVersion === null
        failures = !listing && clock.nowMs() - watchStartMs >= GOOD_WATCH_MS ? 1 : failures + 1
        const expired = !listing && isExpired(error)
        this.#problem({ kind: listing ? 'List' : expired ? 'Expired' : 'Watch', error })
        if (expired || (!listing && failures % FAILED_WATCHES_MAX === 0 && isAnswer(error))) this.#resourceVersion = null
        await this.#pause(failures, error)
      }
    }
  }

  #pause(failures: number, error: unknown): Promise<void> {
    const { backoffMinMs, backoffMaxMs } = this.#timing
    const ownMs = backoffMs(failures, { minMs: backoffMinMs, maxMs: backoffMaxMs }, this.#transport.random)
    const askedMs = error instanceof KubeError ? (error.retryAfterMs ?? 0) : 0
    return sleep(this.#transport.clock, Math.max(ownMs, askedMs), this.#stopping.signal)
  }

  /** The version that the list is of. */
  async #list(): Promise<string> {
    const { hasLargeObjects = false, pageSize = hasLargeObjects ? LARGE_PAGE_SIZE : PAGE_SIZE } = this.#options
    for (let expired = 0; ; expired += 1) {
      try {
        return await this.#listOnce(hasLargeObjects || expired < EXPIRED_PAGES_MAX ? pageSize : 0)
      } catch (error) {
        if (!isExpired(error) || expired === EXPIRED_PAGES_MAX) throw error
        this.#problem({ kind: 'Expired', error })
      }
    }
  }

  async #listOnce(pageSize: number): Promise<string> {
    const seen = new Set<string>()
    let token = ''
    let resourceVersion: string
    do {
      const page = await listPage(this.#transport, this.#options.resource, selectionOf(this.#options), {
        pageSize,
        token,
        metadataOnly: this.#options.metadataOnly === true,
      })
      this.#slices.begin()
      this.#lastEventMs = this.#transport.clock.nowMs()
      for (const object of page.items) {
        if (this.#isStopped) return ''
        const key = keyOf(object.metadata)
        seen.add(key)
        this.#set(key, object)
        await this.#slices.yieldSometimes()
      }
      token = page.token
      resourceVersion = page.resourceVersion
    } while (token !== '' && !this.#isStopped)
    for (const key of this.#entries.keys()) {
      if (this.#isStopped) return ''
      if (!seen.has(key)) this.#remove(key)
      await this.#slices.yieldSometimes()
    }
    this.#lists += 1
    return resourceVersion
  }

  /** Until the watch ends. Rejects when it ends otherwise than the server meant it to. */
  async #watch(resourceVersion: string): Promise<void> {
    const { clock, random } = this.#transport
    const { watchMinMs, watchMaxMs, idleMs } = this.#timing
    const { resource, metadataOnly } = this.#options
    const selection = selectionOf(this.#options)
    const idle = new AbortController()
    const idleError = new KubeError(`watch ${resource.plural}: nothing came for ${idleMs} ms`, { status: 0, reason: 'Timeout' })
    const watchdog = () => clock.after(idleMs, () => idle.abort(idleError))
    const { body } = await this.#transport.watch(
      {
        verb: 'watch',
        resource: resource.plural,
        path: pathOf(resource, selection),
        query: {
          watch: 'true',
          allowWatchBookmarks: 'true',
          resourceVersion,
          timeoutSeconds: String(Math.ceil((watchMinMs + random() * (watchMaxMs - watchMinMs)) / 1_000)),
          labelSelector: selection.labelSelector,
          fieldSelector: selection.fieldSelector,
        },
        ...(metadataOnly === true ? { accept: metadataAccept('PartialObjectMetadata') } : {}),
      },
      AbortSignal.any([this.#stopping.signal, idle.signal]),
    )
    let timer = watchdog()
    try {
      const lines = new WatchLines()
      for await (const chunk of body) {
        timer.cancel()
        if (!Buffer.isBuffer(chunk)) throw new TypeError('a watch sends bytes')
        this.#slices.begin()
        for (const line of lines.take(chunk)) {
          if (this.#isStopped) return
          this.#event(line)
          await this.#slices.yieldSometimes()
        }
        timer = watchdog()
      }
    } catch (error) {
      throw idle.signal.aborted ? idleError : error
    } finally {
      timer.cancel()
      body.destroy()
    }
  }

  /** One line of the watch. Throws `KubeError` when it tells of an error. */
  #event(line: string): void {
    const event: unknown = JSON.parse(line)
    if (typeof event !== 'object' || event === null || !('type' in event) || !('object' in event)) throw new Error('no event of a watch')
    if (event.type === 'ERROR') throw refusal(this.#options.resource, event.object)
    const object = namedAs(this.#options.resource, objectOf(event.object))
    this.#lastEventMs = this.#transport.clock.nowMs()
    if (event.type === 'ADDED' || event.type === 'MODIFIED') this.#set(keyOf(object.metadata), object)
    else if (event.type === 'DELETED') this.#removeThat(keyOf(object.metadata), object.metadata.uid)
    else if (event.type !== 'BOOKMARK') return
    // After the handlers: what threw in between is seen again.
    this.#resourceVersion = object.metadata.resourceVersion ?? this.#resourceVersion
  }

  #set(key: string, object: KubeObject): void {
    const { uid, resourceVersion } = object.metadata
    const before = this.#entries.get(key)
    if (before !== undefined && before.uid === uid && resourceVersion !== undefined && before.resourceVersion === resourceVersion) return
    // The same name, another object: whoever keeps something of the old one must see it go.
    if (before !== undefined && before.uid !== uid) this.#remove(key)
    const known = this.#entries.get(key)?.parsed
    const parsed = this.#parse(key, object)
    this.#entries.set(key, { uid, resourceVersion, ...(parsed === undefined ? {} : { parsed }) })
    this.#parsedCount += (parsed === undefined ? 0 : 1) - (known === undefined ? 0 : 1)
    if (known !== undefined || parsed !== undefined) this.#tell(key, known?.value, parsed?.value)
  }

  #removeThat(key: string, uid: string | undefined): void {
    if (this.#entries.get(key)?.uid === uid) this.#remove(key)
  }

  #remove(key: string): void {
    const parsed = this.#entries.get(key)?.parsed
    this.#entries.delete(key)
    if (parsed === undefined) return
    this.#parsedCount -= 1
    this.#tell(key, parsed.value, undefined)
  }

  #parse(key: string, object: KubeObject): { readonly value: T } | undefined {
    try {
      return { value: this.#options.parse(slim(object)) }
    } catch (error) {
      this.#problem({ kind: 'Parse', key, error })
      return undefined
    }
  }

  #tell(key: string, before: T | undefined, after: T | undefined): void {
    if (this.#isStopped) return
    try {
      this.#options.onChange?.(key, before, after)
    } catch (error) {
      this.#problem({ kind: 'Handler', key, error })
    }
  }

  #problem(problem: Omit<ReflectorProblem, 'resource'>): void {
    try {
      this.#options.onProblem?.({ resource: this.#options.resource.plural, ...problem })
    } catch {
      // Whoever is told of trouble must not make more of it.
    }
  }
}

function selectionOf({ namespace, labelSelector, fieldSelector }: ListOptions): ListOptions {
  return {
    ...(namespace === undefined ? {} : { namespace }),
    ...(labelSelector === undefined ? {} : { labelSelector }),
    ...(fieldSelector === undefined ? {} : { fieldSelector }),
  }
}

/** Without what is large and of no use to us: who set which field, and what `kubectl apply` was given. */
function slim(object: KubeObject): KubeObject {
  const { managedFields: _, ...metadata } = object.metadata as typeof object.metadata & { readonly managedFields?: unknown }
  if (metadata.annotations?.[LAST_APPLIED] === undefined) return { ...object, metadata }
  const { [LAST_APPLIED]: __, ...annotations } = metadata.annotations
  return { ...object, metadata: { ...metadata, annotations } }
}

/** An answer of the API server, and not the lack of one. */
function isAnswer(error: unknown): boolean {
  return error instanceof KubeError && error.status !== 0
}

/** 410: our version is too old. 400 and 504 (`Too large resource version`): it is of another time, as after a restored backup. */
function isExpired(error: unknown): boolean {
  return error instanceof KubeError && (error.status === 410 || error.status === 400 || error.status === 504)
}

function refusal(resource: Resource, object: unknown): KubeError {
  const { code, reason, message, details } = (typeof object === 'object' && object !== null ? object : {}) as {
    code?: unknown
    reason?: unknown
    message?: unknown
    details?: { retryAfterSeconds?: unknown } | null
  }
  const seconds = details?.retryAfterSeconds
  return new KubeError(`watch ${resource.plural}: ${typeof message === 'string' ? message : 'an error without a message'}`, {
    status: typeof code === 'number' ? code : 500,
    reason: typeof reason === 'string' ? reason : 'InternalError',
    retryAfterMs: typeof seconds === 'number' ? seconds * 1_000 : null,
  })
}
