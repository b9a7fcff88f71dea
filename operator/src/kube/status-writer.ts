/**
 * Writes statuses, and as few as can be: what is so already is not written, what was found out is written at once, and what merely
 * counts waits until it is worth a write.
 */
import { backoffMs, systemClock } from './clock.ts'
import type { Clock, Timer } from './clock.ts'
import { KubeError } from './kube.ts'
import type { KubeClient, ObjectMeta, Resource } from './kube.ts'
import { TokenBucket } from './rate.ts'
import { apiVersionOf, keyOf } from './resources.ts'

export interface StatusTarget {
  readonly resource: Resource
  readonly name: string
  readonly namespace?: string
}

export interface StatusCondition {
  readonly type: string
  readonly status: string
  readonly reason: string
  readonly message: string
  readonly observedGeneration?: number
  /** Of one whose status flips; else that of before is kept. */
  readonly lastTransitionTime?: string
}

export interface StatusValue {
  readonly conditions?: readonly StatusCondition[]
  readonly observedGeneration?: number
  readonly [field: string]: unknown
}

/** The object as a cache has it. */
export interface StatusHolder {
  readonly metadata: Pick<ObjectMeta, 'uid' | 'resourceVersion'>
  readonly status?: unknown
}

export interface StatusWriterOptions {
  /** Fenced: only the leader writes. */
  readonly client: KubeClient
  readonly fieldManager: string
  /** Names of fields, at any depth, that are no change in themselves. `lastTransitionTime` is always one. */
  readonly timeFields?: readonly string[]
  /** Between two writes of one object that change no condition. */
  readonly counterIntervalMs?: number
  /** Of all objects together. */
  readonly writesPerSecond?: number
  /** A write failed, and is tried again unless the object is gone. */
  onError?(target: StatusTarget, error: unknown): void
  onWritten?(target: StatusTarget): void
  readonly clock?: Clock
  readonly random?: () => number
}

/** A status beyond what an object in etcd should carry. Whoever computes it must bound its lists. */
export class StatusTooLargeError extends Error {
  readonly bytes: number

  constructor(target: StatusTarget, bytes: number) {
    super(`the status of ${target.resource.kind} ${keyOf(target)} has ${bytes} bytes; it must have ${STATUS_BYTES_MAX} at most`)
    this.name = 'StatusTooLargeError'
    this.bytes = bytes
  }
}

export const STATUS_BYTES_MAX = 64 * 1024
export const MESSAGE_MAX = 1_024
const COUNTER_INTERVAL_MS = 10_000
const WRITES_PER_SECOND = 20
/** Writes under way at once. */
const CONCURRENCY = 4
const RETRY_BOUNDS = { minMs: 500, maxMs: 300_000 }
/** Failures in a row after which a status is stuck. */
const STUCK_AFTER = 5

interface Wish {
  readonly target: StatusTarget
  desired: StatusValue
  /** The object that was looked at. A write fails when it is another by now: another object, or one that another replica decided on. */
  seen: StatusHolder['metadata']
  dueMs: number
}

/** A status that the API server does not take. */
export interface StuckStatus {
  readonly target: StatusTarget
  readonly error: unknown
}

/** Due: since ever. */
const BEFORE_ALL_COUNTERS = -Infinity

/** The last write of ours, for as long as a cache may not show it yet. */
interface Written {
  readonly atMs: number
  readonly metadata: StatusHolder['metadata']
  readonly status: unknown
}

/** Owns what waits to be written, and one timer. Whoever made it ends with `flush`, then `stop`. What fails is tried again. */
export class StatusWriter {
  readonly #options: StatusWriterOptions
  readonly #clock: Clock
  readonly #random: () => number
  readonly #intervalMs: number
  readonly #ignored: ReadonlySet<string>
  readonly #bucket: TokenBucket
  readonly #wishes = new Map<string, Wish>()
  readonly #inWork = new Map<string, StatusValue>()
  readonly #written = new Map<string, Written>()
  readonly #failures = new Map<string, number>()
  /** Failures in a row that are no conflict: who wrote meanwhile does not keep us from it. */
  readonly #refusals = new Map<string, { readonly times: number; readonly stuck: StuckStatus }>()
  #timer: Timer | null = null
  #stopped = false
  #waiters: (() => void)[] = []

  constructor(options: StatusWriterOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
    this.#intervalMs = options.counterIntervalMs ?? COUNTER_INTERVAL_MS
    this.#ignored = new Set(['lastTransitionTime', ...(options.timeFields ?? [])])
    const perSecond = options.writesPerSecond ?? WRITES_PER_SECOND
    this.#bucket = new TokenBucket({ perSecond, burst: 1, nowMs: () => this.#clock.nowMs() })
  }

  /**
   * The whole status of an object, as it must become; the latest call counts. `AtOnce`: a condition differs, or the generation that
   * was looked at. `Later`: something else does. `Equal`: nothing is written, and what waited is dropped. Throws `StatusTooLargeError`.
   */
  want(target: StatusTarget, desired: StatusValue, current: StatusHolder): 'Equal' | 'AtOnce' | 'Later' {
    if (this.#stopped) return 'Equal'
    const id = idOf(target)
    const known = this.#newest(id, current)
    const status = this.#settled(desired, statusOf(known.status))
    const bytes = Buffer.byteLength(JSON.stringify(status))
    if (bytes > STATUS_BYTES_MAX) throw new StatusTooLargeError(target, bytes)
    const inWork = this.#inWork.get(id)
    const against = inWork ?? known.status
    if (this.#isSame(status, against)) {
      this.#wishes.delete(id)
      if (inWork === undefined) this.#refusals.delete(id)
      return 'Equal'
    }
    const atOnce = this.#urgent(status, statusOf(against))
    const waiting = this.#wishes.get(id)
    const failing = waiting !== undefined && this.#failures.has(id)
    // What waits for a repeat after a failure goes on waiting, unless it now says something else.
    const dueMs =
      failing && !this.#urgent(status, waiting.desired)
        ? waiting.dueMs
        : Math.min(atOnce ? BEFORE_ALL_COUNTERS : this.#counterDueMs(id), waiting?.dueMs ?? Infinity)
    this.#wishes.set(id, { target, desired: status, seen: known.metadata, dueMs })
    this.#schedule()
    return atOnce ? 'AtOnce' : 'Later'
  }

  /** Of an object that is gone. `key` as a cache has it. */
  forget(resource: Resource, key: string): void {
    const id = `${resource.plural}/${key}`
    this.#wishes.delete(id)
    this.#written.delete(id)
    this.#failures.delete(id)
    this.#refusals.delete(id)
    this.#settle()
  }

  /** Everything that waits, now; resolves when each was tried once. */
  async flush(): Promise<void> {
    const nowMs = this.#clock.nowMs()
    for (const wish of this.#wishes.values()) wish.dueMs = nowMs
    this.#failures.clear()
    this.#schedule()
    while (
      !this.#stopped &&
      (this.#inWork.size > 0 || [...this.#wishes].some(([id, { dueMs }]) => dueMs <= nowMs && !this.#failures.has(id)))
    ) {
      await new Promise<void>((resolve) => {
        this.#waiters.push(resolve)
      })
    }
  }

  /** What still waits is dropped; what is being sent goes on. */
  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
    this.#wishes.clear()
    this.#settle()
  }

  /** Objects whose status waits to be written or is being written. */
  get pending(): number {
    return this.#wishes.size + this.#inWork.size
  }

  /** One of those that failed again and again, and say what is not so until they are written; null: there is none. */
  get stuck(): StuckStatus | null {
    for (const { times, stuck } of this.#refusals.values()) if (times >= STUCK_AFTER) return stuck
    return null
  }

  /** Our own last write where the cache has not caught up with it. */
  #newest(id: string, current: StatusHolder): StatusHolder {
    const written = this.#written.get(id)
    if (written === undefined || written.metadata.uid !== current.metadata.uid) return current
    return isOlder(current.metadata.resourceVersion, written.metadata.resourceVersion) ? written : current
  }

  /** Conditions with their times, messages cut. */
  #settled(desired: StatusValue, before: StatusValue): StatusValue {
    if (desired.conditions === undefined) return desired
    const now = new Date(this.#clock.wallMs()).toISOString().replace(/\.\d+Z$/, 'Z')
    const conditions = desired.conditions.map((condition) => {
      const known = before.conditions?.find(({ type }) => type === condition.type)
      const lastTransitionTime =
        known?.status === condition.status ? (known.lastTransitionTime ?? now) : (condition.lastTransitionTime ?? now)
      return { ...condition, message: cut(condition.message), lastTransitionTime }
    })
    return { ...desired, conditions }
  }

  #isSame(desired: unknown, known: unknown): boolean {
    if (desired === known) return true
    if (Array.isArray(desired)) {
      return Array.isArray(known) && desired.length === known.length && desired.every((item, index) => this.#isSame(item, known[index]))
    }
    if (typeof desired !== 'object' || desired === null || typeof known !== 'object' || known === null || Array.isArray(known)) {
      return false
    }
    const left: Readonly<Record<string, unknown>> = { ...desired }
    const right: Readonly<Record<string, unknown>> = { ...known }
    for (const name of new Set([...Object.keys(left), ...Object.keys(right)])) {
      if (!this.#ignored.has(name) && !this.#isSame(left[name], right[name])) return false
    }
    return true
  }

  #urgent(desired: StatusValue, known: StatusValue): boolean {
    if (desired.observedGeneration !== known.observedGeneration) return true
    const after = desired.conditions ?? []
    const before = known.conditions ?? []
    return (
      after.length !== before.length ||
      after.some(({ type, status, reason, observedGeneration }) => {
        const was = before.find((condition) => condition.type === type)
        return was?.status !== status || was.reason !== reason || was.observedGeneration !== observedGeneration
      })
    )
  }

  /** Never sooner than the interval after the last write; spread, so that what began together does not stay together. */
  #counterDueMs(id: string): number {
    const spreadMs = this.#random() * this.#intervalMs * 0.1
    const writtenMs = this.#written.get(id)?.atMs
    return Math.max(this.#clock.nowMs(), writtenMs === undefined ? 0 : writtenMs + this.#intervalMs) + spreadMs
  }

  #schedule(): void {
    this.#timer?.cancel()
    this.#timer = null
    if (this.#stopped || this.#inWork.size >= CONCURRENCY) return
    const nowMs = this.#clock.nowMs()
    const next = this.#soonest()
    if (next === null) return
    const [id, wish] = next
    const waitMs = Math.max(wish.dueMs - nowMs, this.#bucket.waitMs)
    if (waitMs > 0) {
      this.#timer = this.#clock.after(Math.ceil(waitMs), () => this.#schedule())
      return
    }
    this.#bucket.take()
    this.#wishes.delete(id)
    this.#inWork.set(id, wish.desired)
    void this.#write(id, wish)
    this.#schedule()
  }

  #soonest(): readonly [string, Wish] | null {
    let soonest: readonly [string, Wish] | null = null
    for (const entry of this.#wishes) {
      if (!this.#inWork.has(entry[0]) && (soonest === null || entry[1].dueMs < soonest[1].dueMs)) soonest = entry
    }
    return soonest
  }

  /** Never rejects. */
  async #write(id: string, wish: Wish): Promise<void> {
    try {
      await this.#send(id, wish)
      this.#failures.delete(id)
      this.#refusals.delete(id)
      quietly(() => this.#options.onWritten?.(wish.target))
    } catch (error) {
      this.#failed(id, wish, error)
    }
    this.#inWork.delete(id)
    this.#schedule()
    this.#settle()
  }

  async #send(id: string, { target, desired, seen }: Wish): Promise<void> {
    const { client, fieldManager } = this.#options
    const { resource, name, namespace } = target
    const atMs = this.#clock.nowMs()
    const { resourceVersion } = this.#newest(id, { metadata: seen }).metadata
    const object = await client.apply(
      resource,
      {
        apiVersion: apiVersionOf(resource),
        kind: resource.kind,
        // A uid is no condition here: the API server looks at it for statuses of some kinds, and of custom ones not.
        metadata: {
          name,
          ...(namespace === undefined ? {} : { namespace }),
          ...(resourceVersion === undefined ? {} : { resourceVersion }),
        },
        status: desired,
      },
      { fieldManager, subresource: 'status', force: true },
    )
    this.#written.set(id, { atMs, metadata: object.metadata, status: object['status'] })
  }

  #failed(id: string, wish: Wish, error: unknown): void {
    quietly(() => this.#options.onError?.(wish.target, error))
    if (error instanceof KubeError && (error.status === 404 || error.reason === 'NotLeader')) {
      this.#wishes.delete(id)
      this.#failures.delete(id)
      this.#refusals.delete(id)
      return
    }
    const isConflict = error instanceof KubeError && error.status === 409
    if (!isConflict) this.#refusals.set(id, { times: (this.#refusals.get(id)?.times ?? 0) + 1, stuck: { target: wish.target, error } })
    const failures = (this.#failures.get(id) ?? 0) + 1
    this.#failures.set(id, failures)
    const delayMs = Math.max(backoffMs(failures, RETRY_BOUNDS, this.#random), error instanceof KubeError ? (error.retryAfterMs ?? 0) : 0)
    const dueMs = this.#clock.nowMs() + delayMs
    const newer = this.#wishes.get(id)
    this.#wishes.set(id, newer === undefined ? { ...wish, dueMs } : { ...newer, dueMs: Math.max(newer.dueMs, dueMs) })
    if (isConflict) void this.#lookAgain(id, wish)
  }

  /** After a conflict: is it still that object, and does its status still lack what we say? */
  async #lookAgain(id: string, { target, seen }: Wish): Promise<void> {
    try {
      // By a list: whoever watches a kind may list it, and need not have the right to read one object.
      const { resource, name, namespace } = target
      const place = namespace === undefined ? {} : { namespace }
      const [object] = await this.#options.client.list(resource, { ...place, fieldSelector: `metadata.name=${name}` })
      const waiting = this.#wishes.get(id)
      if (waiting === undefined || waiting.seen.uid !== seen.uid) return
      if (object === undefined || (seen.uid !== undefined && object.metadata.uid !== seen.uid)) this.forget(resource, keyOf(target))
      else if (this.#isSame(waiting.desired, object['status'])) {
        this.#wishes.delete(id)
        this.#refusals.delete(id)
      } else waiting.seen = object.metadata
      this.#settle()
    } catch {
      // The write is tried again in any case.
    }
  }

  #settle(): void {
    for (const resolve of this.#waiters.splice(0)) resolve()
  }
}

function idOf(target: StatusTarget): string {
  return `${target.resource.plural}/${keyOf(target)}`
}

function statusOf(status: unknown): StatusValue {
  return typeof status === 'object' && status !== null ? { ...status } : {}
}

/** Never halves a character. */
function cut(message: string): string {
  if (message.length <= MESSAGE_MAX) return message
  const kept = message.slice(0, MESSAGE_MAX - 1)
  return `${kept.isWellFormed() ? kept : kept.slice(0, -1)}…`
}

/** Versions of one object are numbers that grow; where they are not, the cache is believed. */
function isOlder(version: string | undefined, than: string | undefined): boolean {
  if (version === undefined || than === undefined || !/^\d{1,20}$/.test(version) || !/^\d{1,20}$/.test(than)) return false
  return BigInt(version) < BigInt(than)
}

function quietly(tell: () => void): void {
  try {
    tell()
  } catch {
    // Whoever is told of a failure must not make another of it.
  }
}
