/** Events of events.k8s.io/v1: what `kubectl describe` shows. Repeats are counted in one object, and nobody is flooded. */
import { createHash } from 'node:crypto'
import { systemClock } from './clock.ts'
import type { Clock, Timer } from './clock.ts'
import { KubeError } from './kube.ts'
import type { KubeClient } from './kube.ts'
import { microTime } from './lease.ts'
import { TokenBucket } from './rate.ts'
import { apiVersionOf, EVENTS } from './resources.ts'

export interface EventSubject {
  readonly apiVersion: string
  readonly kind: string
  readonly name: string
  readonly namespace?: string
  readonly uid?: string
}

export interface RecordedEvent<Reason extends string> {
  readonly regarding: EventSubject
  readonly type: 'Normal' | 'Warning'
  readonly reason: Reason
  /** What was done or left undone: `Inject`, `Compile`, ... At most 128 characters. */
  readonly action: string
  /** For people; cut at 1 KiB. */
  readonly note: string
}

export interface EventRecorderOptions<Reason extends string> {
  readonly client: KubeClient
  /** Another reason is a bug. */
  readonly reasons: readonly Reason[]
  /** `farebox.dev/operator`. */
  readonly controller: string
  /** The pod's name. */
  readonly instance: string
  /** Where events of what has no namespace go. */
  readonly defaultNamespace?: string
  /** New events of one object at once; one more each minute. Repeats cost nothing. */
  readonly perObject?: number
  onError?(error: unknown): void
  readonly clock?: Clock
}

const NOTE_MAX = 1_024
const ACTION_MAX = 128
const PER_OBJECT = 10
const PER_OBJECT_PER_SECOND = 1 / 60
/** A repeat after so long is an event of its own. */
const SERIES_MS = 6 * 60_000
/** How often the count of a series is written. */
const SERIES_WRITE_MS = 60_000
/** What is remembered: the oldest goes first. */
const SERIES_MAX = 2_000
const SUBJECTS_MAX = 2_000
/** Waiting to be sent; more are dropped. */
const PENDING_MAX = 500

interface Series {
  readonly body: { readonly name: string; readonly namespace: string } & Readonly<Record<string, unknown>>
  count: number
  lastMs: number
  lastWallMs: number
  writtenCount: number
  writtenMs: number
}

/** Owns what is being sent, and the counts of repeats that are still to be: `stop` writes them. */
export class EventRecorder<Reason extends string> {
  readonly #options: EventRecorderOptions<Reason>
  readonly #clock: Clock
  readonly #series = new Map<string, Series>()
  readonly #budgets = new Map<string, TokenBucket>()
  readonly #sending = new Set<Promise<void>>()
  #sequence = 0
  #timer: Timer | null = null
  #stopped = false

  constructor(options: EventRecorderOptions<Reason>) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
  }

  /**
   * Returns at once. Nothing is told of events that could not be written but to `onError`. Not for what a dry run did. Throws for a reason
   * that was not declared.
   */
  record(event: RecordedEvent<Reason>): void {
    if (this.#stopped) return
    if (!this.#options.reasons.includes(event.reason)) throw new Error(`${event.reason} is no reason that was declared`)
    const nowMs = this.#clock.nowMs()
    const key = JSON.stringify([subjectKey(event.regarding), event.type, event.reason, event.action, event.note])
    const known = this.#series.get(key)
    if (known !== undefined && nowMs - known.lastMs < SERIES_MS) {
      known.count += 1
      known.lastMs = nowMs
      known.lastWallMs = this.#clock.wallMs()
      // The first repeat makes it a series; then its count is written now and then.
      if (known.count === 2 || nowMs - known.writtenMs >= SERIES_WRITE_MS) this.#write(known)
      else this.#scheduleSweep()
      return
    }
    if (!this.#budget(subjectKey(event.regarding)).tryTake()) return
    const series = this.#begin(event, nowMs)
    this.#series.delete(key)
    this.#series.set(key, series)
    dropOldest(this.#series, SERIES_MAX)
    this.#write(series)
  }

  /** Writes the counts that were not written yet; resolves when all is sent. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    for (const series of this.#series.values()) if (series.count > series.writtenCount) this.#write(series)
    await Promise.all(this.#sending)
  }

  #begin({ regarding, type, reason, action, note }: RecordedEvent<Reason>, nowMs: number): Series {
    this.#sequence += 1
    const { controller, instance, defaultNamespace = 'default' } = this.#options
    const wallMs = this.#clock.wallMs()
    const namespace = regarding.namespace ?? defaultNamespace
    // As client-go names them: unique for this process and moment.
    const unique = createHash('sha256').update(`${instance}/${wallMs}/${this.#sequence}`).digest('hex').slice(0, 16)
    return {
      body: {
        name: `${regarding.name.slice(0, 230)}.${unique}`,
        namespace,
        eventTime: microTime(wallMs, this.#sequence),
        reportingController: controller,
        reportingInstance: instance.slice(0, 128),
        action: action.slice(0, ACTION_MAX),
        reason,
        regarding,
        note: note.slice(0, NOTE_MAX),
        type,
      },
      count: 1,
      lastMs: nowMs,
      lastWallMs: wallMs,
      writtenCount: 0,
      writtenMs: nowMs,
    }
  }

  #budget(subject: string): TokenBucket {
    const known = this.#budgets.get(subject)
    if (known !== undefined) return known
    const budget = new TokenBucket({
      perSecond: PER_OBJECT_PER_SECOND,
      burst: this.#options.perObject ?? PER_OBJECT,
      nowMs: () => this.#clock.nowMs(),
    })
    this.#budgets.set(subject, budget)
    dropOldest(this.#budgets, SUBJECTS_MAX)
    return budget
  }

  #write(series: Series): void {
    if (this.#sending.size >= PENDING_MAX) return
    series.writtenCount = series.count
    series.writtenMs = this.#clock.nowMs()
    const sending = this.#send(series).catch((error: unknown) => {
      // A namespace that ends takes no events.
      if (!(error instanceof KubeError && (error.status === 404 || error.status === 403))) this.#options.onError?.(error)
    })
    this.#sending.add(sending)
    void sending.finally(() => this.#sending.delete(sending))
  }

  async #send({ body: { name, namespace, ...fields }, count, lastWallMs }: Series): Promise<void> {
    const object = {
      apiVersion: apiVersionOf(EVENTS),
      kind: EVENTS.kind,
      metadata: { name, namespace },
      ...fields,
      ...(count > 1 ? { series: { count, lastObservedTime: microTime(lastWallMs, 0) } } : {}),
    }
    await this.#options.client.apply(EVENTS, object, { fieldManager: this.#options.controller.replace('/', '-'), force: true })
  }

  #scheduleSweep(): void {
    if (this.#timer !== null) return
    this.#timer = this.#clock.after(SERIES_WRITE_MS, () => {
      this.#timer = null
      for (const series of this.#series.values()) if (series.count > series.writtenCount) this.#write(series)
    })
  }
}

function subjectKey({ kind, namespace, name, uid }: EventSubject): string {
  return `${kind}/${namespace ?? ''}/${name}/${uid ?? ''}`
}

function dropOldest(map: Map<string, unknown>, max: number): void {
  if (map.size <= max) return
  const [oldest] = map.keys()
  if (oldest !== undefined) map.delete(oldest)
}
