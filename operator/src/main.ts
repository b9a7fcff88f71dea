/**
 * The operator: builds and connects everything; starts, drains, stops. Every replica serves admission and delivery from its caches; the
 * one that leads writes.
 */
import { readFile } from 'node:fs/promises'
import type { Server } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatAddress } from '@farebox/crds/address.ts'
import type { Address } from '@farebox/crds/address.ts'
import { ANNOTATIONS } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import operatorPackage from '../package.json' with { type: 'json' }
import { createAdminServer } from './admin-server.ts'
import { expiryWarning } from './certificates/expiry.ts'
import { createServing } from './certificates/serving.ts'
import type { Served, Serving } from './certificates/serving.ts'
import { Certificates, standIn } from './controllers/certificates.ts'
import { Cluster } from './controllers/cluster.ts'
import type { Change } from './controllers/cluster.ts'
import { EVENT_REASONS } from './controllers/event-reasons.ts'
import type { EventReason } from './controllers/event-reasons.ts'
import { Leader } from './controllers/leader.ts'
import { tiersOf } from './core/compile-budget.ts'
import { messageOf } from './core/error-text.ts'
import type { InjectionSettings } from './core/injection.ts'
import { NOTHING_COUNTED } from './core/status-counts.ts'
import type { DeliveryEvents } from './delivery/events.ts'
import { Forwarder } from './delivery/forwarder.ts'
import { ReportBook } from './delivery/report-book.ts'
import { createDeliveryServer } from './delivery/server.ts'
import type { DeliveryServer } from './delivery/server.ts'
import { StreamHub } from './delivery/stream-hub.ts'
import { TokenVerifier } from './delivery/token-verifier.ts'
import type { PodIdentity } from './delivery/token-verifier.ts'
import { connectKube } from './kube/client.ts'
import type { KubeConnection } from './kube/client.ts'
import { LeaderElection } from './kube/election.ts'
import { EventRecorder } from './kube/events.ts'
import { Readiness } from './readiness.ts'
import { readSettings } from './settings.ts'
import type { Settings } from './settings.ts'
import { createLog } from './telemetry/log.ts'
import type { Log } from './telemetry/log.ts'
import { Metrics } from './telemetry/metrics.ts'
import type { Standing } from './telemetry/metrics.ts'
import { createWebhook } from './webhook/webhook.ts'
import type { Webhook } from './webhook/webhook.ts'

const LEASE = 'farebox-operator'
const CERTIFICATE_LOOK_MS = 50
/** Of a wait for it: the first time, and how often after that. */
const CERTIFICATE_TELL_AFTER_MS = 5_000
const CERTIFICATE_TELL_MS = 60_000
/** Lives of a day are looked at in time, and told of once a day. */
const EXPIRY_LOOK_MS = 3_600_000
const EXPIRY_TELL_MS = 86_400_000
/** Sidecars spread their reconnects over this time. */
const GOODBYE_MS = 2_000
const CLOSE_MS = 2_000
/** For what is still to be written. */
const LET_GO_MS = 5_000
/** A report may come a moment after its pod went. */
const PRUNE_EVERY_MS = 60_000

async function main(): Promise<void> {
  const settings = readSettings(process.env)
  const log = createLog(settings.logLevel)
  const metrics: Metrics = new Metrics(() => replica.standing)
  const kube = await connectKube({
    onRequest: ({ verb, resource, code, seconds }) => metrics.kubeSeconds.observe({ verb, resource, code }, seconds),
  })
  const replica = new Replica({ settings, log, metrics, kube })
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void replica.leave(signal))
  await replica.serve()
}

interface ReplicaOptions {
  readonly settings: Settings
  readonly log: Log
  readonly metrics: Metrics
  readonly kube: KubeConnection
}

/** Owns all parts of the process, the connection to the API server with them: `serve` once, then `leave`, which ends the process. */
class Replica {
  readonly #options: ReplicaOptions
  readonly #injection: InjectionSettings
  /** What was heard of sidecars: each replica keeps it, so that it knows something when it comes to lead. */
  readonly #reports = new ReportBook()
  readonly #cluster: Cluster
  readonly #election: LeaderElection
  readonly #events: EventRecorder<EventReason>
  readonly #serving: Serving
  readonly #deliveryEvents: DeliveryEvents
  readonly #hub: StreamHub
  readonly #verifier: TokenVerifier
  readonly #forwarder: Forwarder
  readonly #webhook: Webhook
  readonly #webhookServer: HttpsServer
  readonly #readiness: Readiness
  readonly #admin: Server
  /** Null: this replica does not lead. */
  #leader: Leader | null = null
  /** Null: there is no certificate yet. */
  #delivery: DeliveryServer | null = null
  #expiryToldMs = Number.NEGATIVE_INFINITY
  #isLeaving = false

  constructor(options: ReplicaOptions) {
    this.#options = options
    const { settings, log, metrics, kube } = options
    this.#injection = injectionSettings(settings)
    this.#cluster = this.#createCluster()
    metrics.expectTroubleWith(this.#cluster.watched)
    this.#election = this.#createElection()
    this.#events = new EventRecorder({
      client: kube,
      reasons: Object.values(EVENT_REASONS),
      controller: 'farebox.dev/operator',
      instance: settings.pod.name,
      onError: (error) => log.warn({ err: messageOf(error) }, 'an event could not be recorded'),
    })
    this.#serving = createServing((message) => log.error({}, message))
    const events: DeliveryEvents = {
      count: (what, by) => metrics.countDelivery(what, by),
      log: (level, message, fields = {}) => log[level](fields, message),
    }
    this.#deliveryEvents = events
    this.#hub = new StreamHub({ configFor: (pod) => this.#cluster.configFor(pod), events, nowMs: Date.now })
    this.#verifier = new TokenVerifier({ kube, pods: this.#cluster.pods, nowMs: Date.now, events })
    this.#forwarder = new Forwarder({
      leader: () => this.#election.holder?.annotations[ANNOTATIONS.leaderAddress] ?? null,
      ca: () => this.#serving.current?.trust ?? '',
      serverName: settings.tls.names[0],
      token: () => readFile(settings.tokenFile, 'utf8').then((token) => token.trim()),
      events,
      nowMs: Date.now,
    })
    this.#webhook = this.#createWebhook()
    this.#webhookServer = this.#webhook.createServer()
    this.#readiness = new Readiness({
      hasSynced: () => this.#cluster.hasSynced,
      hasCertificate: () => this.#serving.current !== null,
      isListening: () => this.#webhookServer.listening,
      webhook: () => this.#cluster.webhooks.get(settings.webhookName),
      listener: { port: settings.listen.webhook.port, serverName: settings.tls.names[0] },
    })
    this.#admin = createAdminServer({
      whyNotReady: () => this.#readiness.ask(),
      metrics: () => metrics.render(),
      metricsType: metrics.contentType,
    })
  }

  get standing(): Standing {
    const leader = this.#leader
    return {
      isLeader: this.#election.isLeading,
      isReady: this.#readiness.isReady,
      streams: this.#hub.size,
      reports: this.#reports.size,
      watchAgesMs: this.#cluster.watchAgesMs(),
      queued: leader?.queued ?? 0,
      statusesWaiting: leader?.statusesWaiting ?? 0,
      isStoreConnected: leader?.isStoreConnected ?? null,
      certificateExpiresAtMs: this.#serving.current?.expiresAtMs ?? null,
      counts: () => leader?.counts ?? NOTHING_COUNTED,
      spentToday: () => leader?.spentToday() ?? new Map(),
    }
  }

  /** Resolves when it serves, for which it waits for the API server and for a certificate. Rejects where it cannot listen. */
  async serve(): Promise<void> {
    const { settings, log } = this.#options
    const { listen } = settings
    await listening(this.#admin, listen.admin)
    this.#cluster.start()
    await this.#cluster.synced()
    if (this.#isLeaving) return // a signal came meanwhile
    log.info({ budgets: this.#cluster.budgets.size, pods: this.#cluster.pods.size }, 'caches are filled')
    await this.#election.start()
    if (settings.tls.mode === 'Own') void this.#standInForLeader()
    const certificate = await this.#certificate()
    if (this.#isLeaving) return
    this.#serving.attach(this.#webhookServer)
    await this.#verifier.start()
    this.#delivery = this.#createDelivery(certificate)
    this.#certified()
    await listening(this.#webhookServer, listen.webhook)
    await this.#delivery.listen(listen.delivery.host, listen.delivery.port)
    setInterval(() => this.#reports.prune((pod) => this.#knowsPod(pod)), PRUNE_EVERY_MS)
    this.#tellExpiry()
    setInterval(() => this.#tellExpiry(), EXPIRY_LOOK_MS)
    log.info({ listen }, 'operator serves')
  }

  /** Nobody is sent here any more, what is under way is done, another may lead, and the process ends. Once, whatever comes after. */
  async leave(signal: string): Promise<void> {
    if (this.#isLeaving) return
    this.#isLeaving = true
    const { settings, log, kube } = this.#options
    log.info({ signal, leaveMs: settings.leaveMs }, 'this replica leaves')
    this.#readiness.leave()
    this.#webhook.drain()
    this.#hub.drain(GOODBYE_MS)
    // An API server that does not answer keeps nobody from leaving: the lease runs out by itself.
    await Promise.all([sleep(settings.leaveMs), Promise.race([this.#letGo(), sleep(LET_GO_MS)])])
    await this.#delivery?.drain(GOODBYE_MS)
    this.#forwarder.close()
    this.#webhookServer.close()
    await Promise.race([this.#cluster.stop().then(() => kube.close()), sleep(CLOSE_MS)])
    process.exit(0)
  }

  async #letGo(): Promise<void> {
    await this.#leader?.stop()
    await this.#election.stop()
    await this.#events.stop()
  }

  #createCluster(): Cluster {
    const { settings, log, metrics, kube } = this.#options
    return new Cluster({
      kube,
      namespace: settings.pod.namespace,
      tlsSecret: settings.tls.secret,
      storeSecret: settings.store.secret,
      webhookName: settings.webhookName,
      onChange: (change) => this.#changed(change),
      onProblem: ({ kind, resource, key, error }) => {
        metrics.watchTrouble.inc({ kind, resource })
        log[kind === 'Expired' ? 'info' : 'warn']({ kind, resource, key, err: messageOf(error) }, 'trouble with what the API server sends')
      },
    })
  }

  #createElection(): LeaderElection {
    const { settings, log, kube } = this.#options
    return new LeaderElection({
      kube,
      namespace: settings.pod.namespace,
      name: LEASE,
      identity: settings.pod.name,
      annotations: { [ANNOTATIONS.leaderAddress]: formatAddress({ host: settings.pod.ip, port: settings.listen.delivery.port }) },
      onLeading: () => this.#lead(),
      onHolder: (holder) => log.info({ leader: holder?.identity ?? null }, 'who leads'),
      onTrouble: (message) => log.warn({ err: message }, 'trouble with the lease'),
    })
  }

  #createWebhook(): Webhook {
    const { log, metrics } = this.#options
    const cluster = this.#cluster
    return createWebhook(
      {
        budgets: {
          get hasSynced() {
            return cluster.budgets.hasSynced
          },
          values: () => governingBudgets(cluster),
        },
        oldNodes: () => cluster.oldNodes(),
        unreadableIn: (namespace) => cluster.unreadableIn(namespace),
        onAnswer({ result, reason, dryRun, ms }) {
          metrics.admissionSeconds.observe({ outcome: result }, ms / 1_000)
          if (reason !== null && !dryRun) metrics.skipped.inc({ reason })
        },
        onError: (error) => log.error({ err: messageOf(error) }, 'an admission review went wrong'),
      },
      { injection: this.#injection },
    )
  }

  #createDelivery(certificate: Served): DeliveryServer {
    const { pod } = this.#options.settings
    return createDeliveryServer({
      certificate,
      verifier: this.#verifier,
      hub: this.#hub,
      events: this.#deliveryEvents,
      nowMs: Date.now,
      ownServiceAccount: { namespace: pod.namespace, name: pod.serviceAccount },
      takeReport: (received) => this.#takeReport(received),
      isLeader: () => this.#election.isLeading,
      tiersOf: (of) => this.#tiersOf(of),
      knowsPod: (of) => this.#knowsPod(of),
    })
  }

  #lead(): void {
    const { settings, log, metrics, kube } = this.#options
    log.info({ identity: this.#election.identity }, 'this replica leads')
    this.#leader = new Leader({
      cluster: this.#cluster,
      client: kube.fenced(this.#election),
      reports: this.#reports,
      settings,
      injection: this.#injection,
      trust: () => this.#serving.current?.trust,
      events: this.#events,
      metrics,
      log,
    })
    this.#leader.start()
  }

  /** The caches have changed: who serves from them is told, and who leads. */
  #changed(change: Change): void {
    const { pod, tls } = this.#options.settings
    if (change.what === 'Certificate') {
      this.#serving.update(this.#cluster.tls.get(`${pod.namespace}/${tls.secret}`))
      this.#certified()
    }
    if (change.what === 'Pod') {
      if (change.goneUid !== undefined) {
        this.#reports.forget(change.goneUid)
        this.#hub.podGone(change.goneUid)
      }
      this.#hub.changed(change.namespace)
    }
    if (change.what === 'ConfigMap') this.#hub.changed(change.namespace)
    if (change.what === 'Policy') this.#hub.changed()
    this.#leader?.changed(change)
  }

  #takeReport(heard: ReceivedReport): void {
    // The clock of the replica that heard it may be ahead of ours, where its version does not send what time it has.
    const received = { ...heard, receivedAtMs: Math.min(heard.receivedAtMs, Date.now()) }
    const before = this.#reports.get(received.pod.uid)
    if (this.#reports.put(received) === 'old') return
    if (this.#election.isLeading) this.#leader?.reported(before, received)
    else this.#forwarder.add(received)
  }

  #knowsPod({ namespace, name, uid }: ReceivedReport['pod']): boolean {
    return this.#cluster.pods.get(`${namespace}/${name}`)?.metadata.uid === uid
  }

  /** Null: no budget governs the pod. */
  #tiersOf({ namespace, name }: PodIdentity): readonly string[] | null {
    const known = this.#cluster.pods.get(`${namespace}/${name}`)
    const budget = known === undefined ? null : this.#cluster.governingOf(known)
    return budget === null ? null : tiersOf(budget)
  }

  /** What is served, as soon as there is something. */
  async #certificate(): Promise<Served> {
    const { settings, log } = this.#options
    for (let waitedMs = 0; ; waitedMs += CERTIFICATE_LOOK_MS) {
      if (this.#serving.current !== null) return this.#serving.current
      if (waitedMs % CERTIFICATE_TELL_MS === CERTIFICATE_TELL_AFTER_MS)
        log.warn(
          { namespace: settings.pod.namespace, secret: settings.tls.secret, mode: settings.tls.mode },
          'there is no certificate yet; it is waited for',
        )
      await sleep(CERTIFICATE_LOOK_MS)
    }
  }

  #standInForLeader(): Promise<void> {
    const { settings, log, kube } = this.#options
    return standIn({
      certificates: new Certificates({
        client: kube,
        secret: { namespace: settings.pod.namespace, name: settings.tls.secret },
        webhookName: settings.webhookName,
        names: settings.tls.names,
        nowMs: Date.now,
        onReport: ({ kind, message }) => log.info({ kind }, message),
      }),
      isOver: async () => this.#isLeaving || (await this.#readiness.ask()) === null,
      isLeading: () => this.#election.isLeading,
      onTrouble: (error) =>
        log.warn({ err: messageOf(error) }, 'the leader makes no certificates for this replica, nor can it do so itself'),
    })
  }

  /** The listeners show the newest certificate, and sidecars are told whom to trust. */
  #certified(): void {
    const { current } = this.#serving
    if (current === null) return
    this.#delivery?.setCertificate(current)
    if (current.trust !== null) this.#hub.trust(current.trust)
  }

  #tellExpiry(): void {
    const { settings, log } = this.#options
    const nowMs = Date.now()
    const warning = this.#serving.current === null ? null : expiryWarning(this.#serving.current, nowMs)
    if (warning === null || nowMs - this.#expiryToldMs < EXPIRY_TELL_MS) return
    this.#expiryToldMs = nowMs
    log.warn({ namespace: settings.pod.namespace, secret: settings.tls.secret }, warning)
  }
}

function injectionSettings({ sidecar, deliveryUrl }: Settings): InjectionSettings {
  return {
    sidecarImage: sidecar.image,
    sidecarVersion: operatorPackage.version,
    pullPolicy: sidecar.pullPolicy,
    resources: sidecar.resources,
    pullSecrets: sidecar.pullSecrets,
    deliveryUrl,
    logLevel: sidecar.logLevel,
    ledgerDays: sidecar.ledgerDays,
  }
}

function* governingBudgets(cluster: Cluster): Iterable<ConversationBudget> {
  for (const namespace of cluster.namespacesWithBudgets()) yield* cluster.budgetsOf(namespace)
}

function listening(server: Pick<Server, 'once' | 'off' | 'listen'>, { host, port }: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

main().catch((error: unknown) => {
  process.stderr.write(`farebox operator: ${messageOf(error)}\n`)
  process.exit(1)
})
