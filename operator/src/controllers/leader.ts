/**
 * All that only the leader does: one queue of a few keys, each of which makes something true, whatever woke it. What wakes them is said
 * here alone.
 */
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import type { CertificateReport } from '../certificates/keeper.ts'
import { messageOf } from '../core/error-text.ts'
import { namespaceOf } from '../core/same-pods.ts'
import type { InjectionSettings } from '../core/injection.ts'
import type { StatusCounts } from '../core/status-counts.ts'
import { askingOf } from '../core/workloads.ts'
import type { ReportBook } from '../delivery/report-book.ts'
import type { EventRecorder, RecordedEvent } from '../kube/events.ts'
import { KubeError } from '../kube/kube.ts'
import type { KubeClient, KubeObject } from '../kube/kube.ts'
import { WorkQueue } from '../kube/queue.ts'
import type { WorkResult } from '../kube/queue.ts'
import { CONVERSATION_BUDGETS, keyOf } from '../kube/resources.ts'
import { StatusWriter } from '../kube/status-writer.ts'
import type { Log } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Settings } from '../settings.ts'
import { Certificates } from './certificates.ts'
import type { Change, Cluster } from './cluster.ts'
import { Configs } from './configs.ts'
import { EVENT_REASONS } from './event-reasons.ts'
import type { EventReason } from './event-reasons.ts'
import { Evictions } from './evictions.ts'
import { Gates } from './gates.ts'
import { OurStore } from './our-store.ts'
import { olderPodEvent, podEvent } from './pod-events.ts'
import { Statuses } from './statuses.ts'

const KEYS = ['certificates', 'storeSecret', 'configs', 'runtime', 'storeUsers', 'gates', 'evictions', 'statuses', 'statusWrites'] as const
type Key = (typeof KEYS)[number]

/** Objects that are applied together are compiled together. */
const CONFIGS_AFTER_MS = 50
/** A policy acts a moment after what it asks of the budgets was changed; and a try costs the API server a pod. */
const GATES_AFTER_MS = 1_000
/** A Deployment that is scaled up is many pods. */
const PODS_AFTER_MS = 250
/** A pod that was made with others of its kind may be on its way out. */
const EVICTIONS_AFTER_MS = 2_000
/** So often secrets are looked at while pods come. */
const RUNTIME_AFTER_MS = 1_000
/** Of a report that says something new, and of one that merely counts. */
const NEWS_AFTER_MS = 100
const COUNTS_AFTER_MS = 1_000
/** What only time changes: a sidecar that has gone silent. */
const LOOK_EVERY_MS = 15_000
/** What nothing tells us of: prices that begin to count, Secrets of others, a policy that was deleted. */
const DOUBT_EVERY_MS = 10 * 60_000
const CONCURRENCY = 4
const STATUS_MANAGER = 'farebox-status'

export interface LeaderOptions {
  readonly cluster: Cluster
  /** Writes only while we lead. */
  readonly client: KubeClient
  readonly reports: ReportBook
  readonly settings: Settings
  readonly injection: InjectionSettings
  /** What sidecars are to trust, as PEM; null: what any machine trusts; undefined: it is not known yet. */
  readonly trust: () => string | null | undefined
  readonly events: EventRecorder<EventReason>
  readonly metrics: Metrics
  readonly log: Log
}

/**
 * Owns the queue, the timers, and all that writes: the store's connections and the statuses that wait too. Nothing is done before `start`;
 * whoever made it stops it before the lease is given back. What fails is logged and tried again.
 */
export class Leader {
  readonly #options: LeaderOptions
  readonly #queue: WorkQueue
  readonly #configs: Configs
  readonly #statuses: Statuses
  readonly #writer: StatusWriter
  readonly #gates: Gates
  /** Null: it is not asked for. */
  readonly #evictions: Evictions | null
  readonly #certificates: Certificates
  readonly #store: OurStore
  readonly #timers: NodeJS.Timeout[] = []

  constructor(options: LeaderOptions) {
    this.#options = options
    const { cluster, client, reports, settings, injection, trust, metrics, log } = options
    this.#queue = new WorkQueue({
      concurrency: CONCURRENCY,
      work: (key) => this.#timed(key),
      onFailed: (key, { attempts, error, retryInMs, stalled }) =>
        log[stalled ? 'error' : 'warn'](
          { key, attempts, retryInMs, stalled, err: messageOf(error) },
          'reconcile failed; it is tried again',
        ),
      onRecovered: (key) => log.info({ key }, 'reconcile came right'),
    })
    this.#configs = new Configs({
      cluster,
      client,
      reports,
      trust,
      hasStore: settings.store.address !== null,
      nowMs: Date.now,
      steadyMs: () => performance.now(),
      log,
      onOutcome: (outcome, { metadata }) => {
        metrics.configs.inc({ outcome })
        if (outcome === 'reverted') this.#tellOfRevert(metadata)
      },
    })
    this.#writer = new StatusWriter({
      client,
      fieldManager: STATUS_MANAGER,
      onWritten: () => metrics.statuses.inc({ outcome: 'written' }),
      onError: ({ resource, namespace, name }, error) => {
        metrics.statuses.inc({ outcome: 'failed' })
        if (error instanceof KubeError && error.reason === 'NotFound') return
        log.warn({ kind: resource.kind, namespace, name, err: whyUnwritten(error) }, 'a status could not be written; it is tried again')
      },
    })
    this.#store = new OurStore({
      cluster,
      client,
      settings,
      sidecarVersion: injection.sidecarVersion,
      steadyMs: () => performance.now(),
      log,
      onConnected: () => this.#wake('storeUsers'),
      onHindered: () => this.#wake('statuses'),
    })
    this.#gates = new Gates(cluster, client)
    this.#evictions = settings.evictsMissed
      ? new Evictions({ cluster, client, events: options.events, steadyMs: () => performance.now(), log })
      : null
    this.#statuses = new Statuses({
      cluster,
      configs: this.#configs,
      reports,
      writer: this.#writer,
      injection,
      hindered: (budgets) => this.#store.hindered(budgets),
      gates: () => this.#gates.known,
      storeIsEphemeral: settings.store.isEphemeral,
      nowMs: Date.now,
      steadyMs: () => performance.now(),
    })
    this.#certificates = new Certificates({
      client,
      secret: { namespace: settings.pod.namespace, name: settings.tls.secret },
      webhookName: settings.webhookName,
      names: settings.tls.names,
      nowMs: Date.now,
      onReport: ({ kind, message }: CertificateReport) => log.info({ kind }, message),
    })
  }

  /** Everything is looked at. Once. */
  start(): void {
    this.#queue.start()
    this.#wakeAll()
    // One that came while nobody led.
    for (const namespace of this.#options.cluster.namespacesWithBudgets()) this.#tellOfOlderPods(namespace)
    this.#timers.push(
      setInterval(() => {
        this.#queue.add('statuses', 'usage')
        this.#queue.add('statusWrites', 'usage')
      }, LOOK_EVERY_MS),
      setInterval(() => {
        this.#store.doubtRuntimeSecrets()
        this.#wakeAll()
      }, DOUBT_EVERY_MS),
    )
  }

  /** What is under way ends; what waits to be written is. */
  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    await this.#queue.stop()
    await this.#writer.flush()
    this.#writer.stop()
    this.#store.close()
  }

  /** The caches have changed: what that may have made untrue is looked at. */
  changed(change: Change): void {
    switch (change.what) {
      case 'Policy':
        if (change.isGone) this.#writer.forget(change.resource, change.key)
        this.#after('configs', CONFIGS_AFTER_MS)
        if (change.resource !== CONVERSATION_BUDGETS) return
        this.#budgetChanged()
        if (!change.isGone) this.#tellOfOlderPods(change.key.split('/', 1)[0] ?? '')
        return
      case 'ConfigMap':
        if (change.isGone) this.#configs.forget(change.key)
        this.#after('configs', CONFIGS_AFTER_MS)
        return
      case 'Namespace':
        this.#after('configs', CONFIGS_AFTER_MS)
        this.#budgetChanged()
        return
      case 'Pod':
        if (!this.#options.cluster.hasBudgets(change.namespace)) return
        this.#after('statuses', PODS_AFTER_MS)
        if (change.isNew) {
          this.#tellOfPod(change.key)
          this.#after('evictions', EVICTIONS_AFTER_MS)
        }
        // It does not start without the secret of its namespace, which somebody may have deleted.
        if (!change.isNew || this.#store.isConnected === null) return
        this.#store.doubtRuntimeSecrets(change.namespace)
        this.#after('runtime', RUNTIME_AFTER_MS)
        return
      case 'Certificate':
        this.#wake('certificates', 'configs')
        return
      case 'Webhook':
        this.#wake('certificates', 'statuses')
        return
      case 'StoreSecret':
        this.#wake('storeSecret', 'runtime', 'storeUsers')
        return
      case 'Other':
        this.#after('statuses', COUNTS_AFTER_MS)
    }
  }

  /** A sidecar said something. */
  reported(before: ReceivedReport | undefined, received: ReceivedReport): void {
    if (before !== undefined && newsOf(before) === newsOf(received)) this.#queue.addAfter('statuses', COUNTS_AFTER_MS, 'usage')
    else this.#after('statuses', NEWS_AFTER_MS)
    if (this.#configs.isBehind(received)) this.#after('configs', CONFIGS_AFTER_MS)
  }

  /** Keys that wait. */
  get queued(): number {
    return this.#queue.depth
  }

  get statusesWaiting(): number {
    return this.#writer.pending
  }

  /** Null: there is none, or its secret is not there yet. */
  get isStoreConnected(): boolean | null {
    return this.#store.isConnected
  }

  /** What all statuses say. */
  get counts(): StatusCounts {
    return this.#statuses.counts
  }

  /** By tier, in US dollars. */
  spentToday(): ReadonlyMap<string, number> {
    return this.#statuses.spentToday()
  }

  /** Every replica sees each pod; this one alone tells of it. */
  #tellOfPod(key: string): void {
    const { cluster, events } = this.#options
    const pod = cluster.pods.get(key)
    if (pod === undefined || cluster.governingOf(pod) === null) return
    const event = podEvent(pod, Date.now()) ?? this.#eventOfOlder(pod)
    if (event !== null) events.record(event)
  }

  /** A budget that comes may find pods there. */
  #tellOfOlderPods(namespace: string): void {
    const { cluster, events } = this.#options
    for (const pod of cluster.podsOf(namespace)) {
      const event = this.#eventOfOlder(pod)
      if (event !== null) events.record(event)
    }
  }

  #eventOfOlder(pod: KubeObject): RecordedEvent<EventReason> | null {
    const { cluster } = this.#options
    const budget = cluster.governingOf(pod)
    if (budget === null) return null
    return olderPodEvent(pod, askingOf(budget, cluster.isExcluded(namespaceOf(budget))), Date.now())
  }

  #tellOfRevert(budget: ConversationBudget['metadata']): void {
    const { cluster, events } = this.#options
    const object = cluster.budgets.get(`${budget.namespace}/${budget.name}`)?.object
    if (object === undefined) return
    const { name, namespace, uid } = object.metadata
    events.record({
      regarding: {
        apiVersion: object.apiVersion,
        kind: object.kind,
        name,
        ...(namespace === undefined ? {} : { namespace }),
        ...(uid === undefined ? {} : { uid }),
      },
      type: 'Warning',
      reason: EVENT_REASONS.reverted,
      action: 'WriteConfig',
      note: 'somebody changed the ConfigMap that carries the config of this budget; it was put right',
    })
  }

  /** Or where it is: what there must be for the pods of a namespace may be otherwise now. */
  #budgetChanged(): void {
    this.#after('runtime', CONFIGS_AFTER_MS)
    this.#after('storeUsers', CONFIGS_AFTER_MS)
    this.#after('gates', GATES_AFTER_MS)
  }

  #wakeAll(): void {
    this.#wake(...KEYS)
  }

  #wake(...keys: readonly Key[]): void {
    for (const key of keys) this.#queue.add(key)
  }

  #after(key: Key, delayMs: number): void {
    this.#queue.addAfter(key, delayMs)
  }

  async #timed(key: string): Promise<WorkResult | void> {
    const end = this.#options.metrics.reconcileSeconds.startTimer({ key })
    try {
      const result = await this.#reconcile(KEYS.find((known) => known === key))
      end({ outcome: 'done' })
      return result
    } catch (error) {
      end({ outcome: 'failed' })
      throw error
    }
  }

  async #reconcile(key: Key | undefined): Promise<WorkResult | void> {
    const { settings } = this.#options
    switch (key) {
      case 'certificates':
        return settings.tls.mode === 'Own' ? this.#certificates.reconcile() : undefined
      case 'storeSecret':
        return this.#store.keepSecret()
      case 'configs':
        try {
          return await this.#configs.reconcile()
        } finally {
          this.#wake('statuses')
        }
      case 'runtime':
        return this.#store.keepRuntimeSecrets()
      case 'storeUsers':
        return this.#store.keepUsers()
      case 'gates':
        if (await this.#gates.reconcile()) this.#wake('statuses')
        return
      case 'evictions':
        return this.#evictions?.reconcile()
      case 'statuses':
        this.#statuses.reconcile()
        return
      case 'statusWrites': {
        const { stuck } = this.#writer
        if (stuck === null) return
        const { target, error } = stuck
        throw new Error(`the status of ${target.resource.kind} ${keyOf(target)} cannot be written: ${whyUnwritten(error)}`, {
          cause: error,
        })
      }
      case undefined:
        throw new Error('there is no such key')
    }
  }
}

/** Of a status that its kind does not allow: server-side apply says so of fields that it does not know, and validation of all else. */
const NOT_IN_SCHEMA = /field not declared in schema/
const NOT_VALID = / is invalid: /
/** A policy may refuse with the same reason, or in such words of its own. */
const BY_A_POLICY = /ValidatingAdmissionPolicy/

/** What the API server said of a status, and what there is to do where its kind is at fault. */
export function whyUnwritten(error: unknown): string {
  const message = messageOf(error)
  const isInvalid = error instanceof KubeError && error.reason === 'Invalid' && NOT_VALID.test(message) && !BY_A_POLICY.test(message)
  const isOfOtherKinds = isInvalid || NOT_IN_SCHEMA.test(message)
  return isOfOtherKinds ? `${message} (the kinds are of another version than this operator: upgrade farebox-crds)` : message
}

/** What conditions follow from: anything else merely counts. */
function newsOf({ report }: ReceivedReport): string {
  const { inForce, refused, books, status, turns, heldKeys, bypass } = report
  return JSON.stringify([inForce, refused, books, status?.store.state, turns.count > 0, heldKeys, bypass.found])
}
