/**
 * All that only the leader does: one queue of a few keys, each of which makes something true, whatever woke it. What wakes them is said
 * here alone.
 */
import { RUNTIME_SECRET } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import type { CertificateReport } from '../certificates/keeper.ts'
import type { Hindrance } from '../core/cluster-status.ts'
import { budgetKey } from '../core/same-pods.ts'
import type { InjectionSettings } from '../core/injection.ts'
import type { ReportBook } from '../delivery/report-book.ts'
import type { EventRecorder } from '../kube/events.ts'
import { KubeError } from '../kube/kube.ts'
import type { KubeClient } from '../kube/kube.ts'
import { WorkQueue } from '../kube/queue.ts'
import { CONVERSATION_BUDGETS } from '../kube/resources.ts'
import { StatusWriter } from '../kube/status-writer.ts'
import type { Log } from '../telemetry/log.ts'
import { messageOf } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Settings } from '../settings.ts'
import { Certificates } from './certificates.ts'
import type { Change, Cluster } from './cluster.ts'
import { Configs } from './configs.ts'
import { EVENT_REASONS } from './event-reasons.ts'
import type { EventReason } from './event-reasons.ts'
import { Gates } from './gates.ts'
import { podEvent } from './pod-events.ts'
import { isOnOurStore, namespacesOnOurStore, RuntimeSecrets } from './runtime-secrets.ts'
import { Statuses } from './statuses.ts'
import { ensureStoreSecret, storeSecretOf } from './store-secret.ts'
import { readStoreCa } from './store-trust.ts'
import { StoreUsers } from './store-users.ts'
import { StuckScripts } from './stuck-scripts.ts'

const KEYS = ['certificates', 'storeSecret', 'configs', 'runtime', 'storeUsers', 'gates', 'statuses'] as const
type Key = (typeof KEYS)[number]

/** Objects that are applied together are compiled together. */
const CONFIGS_AFTER_MS = 50
/** A policy acts a moment after what it asks of the budgets was changed; and a try costs the API server a pod. */
const GATES_AFTER_MS = 1_000
/** A Deployment that is scaled up is many pods. */
const PODS_AFTER_MS = 250
/** So often secrets are looked at while pods come. */
const RUNTIME_AFTER_MS = 1_000
/** Of a report that says something new, and of one that merely counts. */
const NEWS_AFTER_MS = 100
const COUNTS_AFTER_MS = 1_000
/** What only time changes: a sidecar that has gone silent. */
const LOOK_EVERY_MS = 15_000
/** What nothing tells us of: prices that begin to count, Secrets of others, a policy that was deleted. */
const DOUBT_EVERY_MS = 10 * 60_000
const STORE_AGAIN_MS = 1_000
const CONCURRENCY = 4
const STATUS_MANAGER = 'farebox-status'

export interface LeaderOptions {
  readonly cluster: Cluster
  /** Writes only while we lead. */
  readonly client: KubeClient
  readonly reports: ReportBook
  readonly settings: Settings
  readonly injection: InjectionSettings
  readonly trust: () => string | null | undefined
  readonly events: EventRecorder<EventReason>
  readonly metrics: Metrics
  readonly log: Log
}

export class Leader {
  readonly #options: LeaderOptions
  readonly #queue: WorkQueue
  readonly #configs: Configs
  readonly #statuses: Statuses
  readonly #writer: StatusWriter
  readonly #gates: Gates
  readonly #certificates: Certificates
  #store: {
    readonly key: string
    readonly users: StoreUsers
    readonly scripts: StuckScripts | null
    readonly secrets: RuntimeSecrets
  } | null = null
  /** Why there is no secret of the store to derive others from. */
  #storeTrouble: string | null = null
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
        if (outcome !== 'reverted') return
        const known = cluster.budgets.get(`${metadata.namespace}/${metadata.name}`)?.object
        if (known === undefined) return
        options.events.record({
          regarding: { apiVersion: known.apiVersion, kind: known.kind, ...subjectOf(known.metadata) },
          type: 'Warning',
          reason: EVENT_REASONS.reverted,
          action: 'WriteConfig',
          note: 'somebody changed the ConfigMap that carries the config of this budget; it was put right',
        })
      },
    })
    this.#writer = new StatusWriter({
      client,
      fieldManager: STATUS_MANAGER,
      onWritten: () => metrics.statuses.inc({ outcome: 'written' }),
      onError: ({ resource, namespace, name }, error) => {
        metrics.statuses.inc({ outcome: 'failed' })
        if (error instanceof KubeError && error.reason === 'NotFound') return
        log.warn({ kind: resource.kind, namespace, name, err: messageOf(error) }, 'a status could not be written; it is tried again')
      },
    })
    this.#gates = new Gates(cluster, client)
    this.#statuses = new Statuses({
      cluster,
      configs: this.#configs,
      reports,
      writer: this.#writer,
      injection,
      hindered: (budgets) => this.#hindered(budgets),
      gates: () => this.#gates.known,
      storeIsEphemeral: settings.store.isEphemeral,
      nowMs: Date.now,
      steadyMs: () => performance.now(),
      onWish: () => undefined,
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

  /** Begins: everything is looked at. */
  start(): void {
    this.#queue.start()
    this.#wakeAll()
    this.#timers.push(
      setInterval(() => this.#queue.add('statuses', 'usage'), LOOK_EVERY_MS),
      setInterval(() => {
        this.#store?.secrets.doubt()
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
    this.#closeStore()
  }

  changed(change: Change): void {
    switch (change.what) {
      case 'Policy':
        if (change.isGone) this.#writer.forget(change.resource, change.key)
        this.#after('configs', CONFIGS_AFTER_MS)
        if (change.resource === CONVERSATION_BUDGETS) this.#budgetChanged()
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
        if (change.isNew) this.#tellOf(change.key)
        // It does not start without the secret of its namespace, which somebody may have deleted.
        if (!change.isNew || this.#store === null) return
        this.#store.secrets.doubt(change.namespace)
        this.#after('runtime', RUNTIME_AFTER_MS)
        return
      case 'Certificate':
        this.#wake('certificates', 'configs')
        return
      case 'Webhook':
        this.#wake('certificates')
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
    return this.#store?.users.isConnected ?? null
  }

  /** How many budgets say so of being ready. */
  get budgets(): ReadonlyMap<string, number> {
    return this.#statuses.readiness
  }

  /** By tier, in US dollars. */
  spentToday(): ReadonlyMap<string, number> {
    return this.#statuses.spentToday()
  }

  /** Every replica sees each pod; this one alone tells of it. */
  #tellOf(key: string): void {
    const { cluster, events } = this.#options
    const pod = cluster.pods.get(key)
    const event = pod === undefined || cluster.governingOf(pod) === null ? null : podEvent(pod, Date.now())
    if (event !== null) events.record(event)
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

  async #timed(key: string): Promise<{ readonly againAfterMs?: number } | void> {
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

  async #reconcile(key: Key | undefined): Promise<{ readonly againAfterMs?: number } | void> {
    const { settings } = this.#options
    switch (key) {
      case 'certificates':
        return settings.tls.mode === 'Own' ? this.#certificates.reconcile() : undefined
      case 'storeSecret':
        try {
          await this.#keepStoreSecret()
          if (this.#storeTrouble !== null) this.#wake('statuses')
          this.#storeTrouble = null
        } catch (error) {
          // An API server that does not answer says nothing of what there is.
          if (!(error instanceof KubeError)) {
            this.#storeTrouble = messageOf(error)
            this.#wake('statuses')
          }
          throw error
        }
        return
      case 'configs':
        try {
          return await this.#configs.reconcile()
        } finally {
          this.#wake('statuses')
        }
      case 'runtime':
        return this.#keepRuntimeSecrets()
      case 'storeUsers':
        return this.#setUsers()
      case 'gates':
        if (await this.#gates.reconcile()) this.#wake('statuses')
        return
      case 'statuses':
        this.#statuses.reconcile()
        return
      case undefined:
        throw new Error('there is no such key')
    }
  }

  /** Ours is written where there is none, as it was before it was deleted. One that somebody else gives must be there, and whole. */
  async #keepStoreSecret(): Promise<void> {
    const { settings, client, cluster, log } = this.#options
    const { address, mode, secret: name } = settings.store
    if (address === null) return
    const { namespace } = settings.pod
    const known = cluster.store.get(`${namespace}/${name}`)
    if (known === undefined && mode === 'Own') {
      const done = await ensureStoreSecret(client, { namespace, name }, cluster.lastStore)
      if (done === 'restored')
        log.warn({ namespace, secret: name }, 'somebody deleted the secret of the store; it was written again as it was')
      return
    }
    if (known === undefined || storeSecretOf(known) === null)
      throw new Error(`Secret "${name}" must be there, with admin-password and a root-key of 32 bytes or more`)
  }

  async #keepRuntimeSecrets(): Promise<void> {
    const secrets = this.#ourStore()?.secrets
    if (secrets === undefined) return
    const before = secrets.failed.size
    try {
      await secrets.reconcile(namespacesOnOurStore(this.#options.cluster))
    } finally {
      if (before > 0 || secrets.failed.size > 0) this.#wake('statuses')
    }
  }

  /** Pods do not start before the secret of their namespace is there. */
  #hindered(budgets: readonly ConversationBudget[]): ReadonlyMap<string, Hindrance> {
    const failed = this.#store?.secrets.failed
    if (this.#storeTrouble === null && (failed === undefined || failed.size === 0)) return new Map()
    return new Map(
      budgets.filter(isOnOurStore).flatMap((budget) => {
        const why = this.#storeTrouble ?? failed?.get(budget.metadata.namespace ?? '')
        if (why === undefined) return []
        const message = `pods wait for the Secret "${RUNTIME_SECRET}" of the namespace, which could not be written: ${messageOf(why)}`
        return [[budgetKey(budget), { reason: 'NoRuntimeSecret', message }]]
      }),
    )
  }

  async #setUsers(): Promise<{ readonly againAfterMs?: number } | void> {
    const store = this.#ourStore()
    if (store === null) return
    if (!store.users.isConnected) return { againAfterMs: STORE_AGAIN_MS }
    const { cluster, settings } = this.#options
    // In a store of somebody else's there may be users of another cluster, whose namespaces we do not know.
    const isOurs = settings.store.mode === 'Own'
    await store.users.reconcile(namespacesOnOurStore(cluster), (namespace) => isOurs && cluster.namespaces.get(namespace) === undefined)
  }

  /** Null: there is none, or its secret is not there yet. */
  #ourStore(): { readonly users: StoreUsers; readonly secrets: RuntimeSecrets } | null {
    const { settings, cluster, client, log } = this.#options
    const { address } = settings.store
    const object = cluster.store.get(`${settings.pod.namespace}/${settings.store.secret}`)
    const secret = object === undefined ? null : storeSecretOf(object)
    if (address === null || secret === null) return null
    const ca = readStoreCa(settings.store.caFile)
    const key = `${secret.adminPassword} ${secret.rootKey.toString('hex')} ${ca}`
    if (this.#store?.key === key) return this.#store
    this.#closeStore()
    let hadTrouble = false
    this.#store = {
      key,
      users: new StoreUsers({
        address,
        ca,
        secret,
        onConnected: () => {
          hadTrouble = false
          log.info({}, 'the store is there')
          this.#wake('storeUsers')
        },
        onTrouble: (error) => {
          if (!hadTrouble) log.warn({ err: error.message }, 'the store cannot be reached; it is looked for until it is there')
          hadTrouble = true
        },
      }),
      // In a store of somebody else's a script may be meant to run long.
      scripts:
        settings.store.mode === 'Given'
          ? null
          : new StuckScripts({
              address,
              ca,
              adminPassword: secret.adminPassword,
              onEnded: () => log.warn({}, 'a script of one of its users held the store up, and was ended'),
              onUnending: (error) =>
                log.error(
                  { err: error.message },
                  'a script holds the store up, and has written, so that it cannot be ended: restart the store',
                ),
            }),
      secrets: new RuntimeSecrets({ client, address, ca, secret, log }),
    }
    return this.#store
  }

  #closeStore(): void {
    this.#store?.users.close()
    this.#store?.scripts?.close()
  }
}

function subjectOf({ name, namespace, uid }: { readonly name: string; readonly namespace?: string; readonly uid?: string }): {
  readonly name: string
  readonly namespace?: string
  readonly uid?: string
} {
  return { name, ...(namespace === undefined ? {} : { namespace }), ...(uid === undefined ? {} : { uid }) }
}

/** What conditions follow from: anything else merely counts. */
function newsOf({ report }: ReceivedReport): string {
  const { inForce, refused, books, status, turns, heldKeys, bypass } = report
  return JSON.stringify([inForce, refused, books, status?.store.state, turns.count > 0, heldKeys, bypass.found])
}
