/**
 * The operator: builds and connects everything; starts, drains, stops. Every replica serves admission and delivery from its caches; the
 * one that leads writes.
 */
import { readFile } from 'node:fs/promises'
import type { Server } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Address } from '@farebox/crds/address.ts'
import { ANNOTATIONS } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import operatorPackage from '../package.json' with { type: 'json' }
import { createAdminServer } from './admin-server.ts'
import { expiryWarning } from './certificates/expiry.ts'
import { createServing } from './certificates/serving.ts'
import { Certificates, standIn } from './controllers/certificates.ts'
import { Cluster } from './controllers/cluster.ts'
import type { Change } from './controllers/cluster.ts'
import { EVENT_REASONS } from './controllers/event-reasons.ts'
import { Leader } from './controllers/leader.ts'
import { tiersOf } from './core/compile.ts'
import type { InjectionSettings } from './core/injection.ts'
import type { DeliveryEvents } from './delivery/events.ts'
import { Forwarder } from './delivery/forwarder.ts'
import { ReportBook } from './delivery/report-book.ts'
import { createDeliveryServer } from './delivery/server.ts'
import type { DeliveryServer } from './delivery/server.ts'
import { StreamHub } from './delivery/stream-hub.ts'
import { TokenVerifier } from './delivery/token-verifier.ts'
import type { PodIdentity } from './delivery/token-verifier.ts'
import { connectKube } from './kube/client.ts'
import { EventRecorder } from './kube/events.ts'
import { LeaderElection } from './kube/leader.ts'
import { Readiness } from './readiness.ts'
import { hostAndPort, readSettings } from './settings.ts'
import { createLog, messageOf } from './telemetry/log.ts'
import { Metrics } from './telemetry/metrics.ts'
import { createWebhook } from './webhook/webhook.ts'

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
  const { pod, listen } = settings
  const metrics: Metrics = new Metrics(() => ({
    isLeader: election.isLeading,
    isReady: readiness.isReady,
    streams: hub.size,
    reports: reports.size,
    watchAgesMs: cluster.watchAgesMs(),
    queued: leader?.queued ?? 0,
    statusesWaiting: leader?.statusesWaiting ?? 0,
    isStoreConnected: leader?.isStoreConnected ?? null,
    certificateExpiresAtMs: serving.current?.expiresAtMs ?? null,
    budgets: () => leader?.budgets ?? new Map(),
    spentToday: () => leader?.spentToday() ?? new Map(),
  }))
  const kube = await connectKube({
    onRequest: ({ verb, resource, code, seconds }) => metrics.kubeSeconds.observe({ verb, resource, code }, seconds),
  })
  const injection: InjectionSettings = {
    sidecarImage: settings.sidecar.image,
    sidecarVersion: operatorPackage.version,
    pullPolicy: settings.sidecar.pullPolicy,
    resources: settings.sidecar.resources,
    pullSecrets: settings.sidecar.pullSecrets,
    deliveryUrl: settings.deliveryUrl,
    logLevel: settings.sidecar.logLevel,
    ledgerDays: settings.sidecar.ledgerDays,
  }

  let leader: Leader | null = null
  const reports = new ReportBook()
  const serving = createServing((message) => log.error({}, message))
  const cluster = new Cluster({
    kube,
    namespace: pod.namespace,
    tlsSecret: settings.tls.secret,
    storeSecret: settings.store.secret,
    webhookName: settings.webhookName,
    onChange: (change) => changed(change),
    onProblem: ({ kind, resource, key, error }) => {
      metrics.watchTrouble.inc({ kind, resource })
      log[kind === 'Expired' ? 'info' : 'warn']({ kind, resource, key, err: messageOf(error) }, 'trouble with what the API server sends')
    },
  })
  const election = new LeaderElection({
    kube,
    namespace: pod.namespace,
    name: LEASE,
    identity: pod.name,
    annotations: { [ANNOTATIONS.leaderAddress]: hostAndPort({ host: pod.ip, port: listen.delivery.port }) },
    onLeading() {
      log.info({ identity: election.identity }, 'this replica leads')
      leader = new Leader({ cluster, client: kube.fenced(election), reports, settings, injection, trust, events, metrics, log })
      leader.start()
    },
    onHolder: (holder) => log.info({ leader: holder?.identity ?? null }, 'who leads'),
    onTrouble: (message) => log.warn({ err: message }, 'trouble with the lease'),
  })
  const events = new EventRecorder({
    client: kube,
    reasons: Object.values(EVENT_REASONS),
    controller: 'farebox.dev/operator',
    instance: pod.name,
    onError: (error) => log.warn({ err: messageOf(error) }, 'an event could not be recorded'),
  })

  const deliveryEvents: DeliveryEvents = {
    count: (what, by) => metrics.countDelivery(what, by),
    log: (level, message, fields = {}) => log[level](fields, message),
  }
  const hub = new StreamHub({ configFor: (pod) => cluster.configFor(pod), events: deliveryEvents, nowMs: Date.now })
  const verifier = new TokenVerifier({ kube, pods: cluster.pods, nowMs: Date.now, events: deliveryEvents })
  const forwarder = new Forwarder({
    leader: () => election.holder?.annotations[ANNOTATIONS.leaderAddress] ?? null,
    ca: () => serving.current?.trust ?? '',
    serverName: settings.tls.names[0],
    token: () => readFile(settings.tokenFile, 'utf8').then((token) => token.trim()),
    events: deliveryEvents,
    nowMs: Date.now,
  })
  const webhook = createWebhook(
    {
      budgets: {
        get hasSynced() {
          return cluster.budgets.hasSynced
        },
        values: () => understoodBudgets(cluster),
      },
      oldNodes: () => cluster.oldNodes(),
      onAnswer({ result, reason, dryRun, ms }) {
        metrics.admissionSeconds.observe({ outcome: result }, ms / 1_000)
        if (reason !== null && !dryRun) metrics.skipped.inc({ reason })
      },
      onError: (error) => log.error({ err: messageOf(error) }, 'an admission review went wrong'),
    },
    { injection },
  )
  const webhookServer = webhook.createServer()
  const readiness = new Readiness({
    hasSynced: () => cluster.hasSynced,
    hasCertificate: () => serving.current !== null,
    isListening: () => webhookServer.listening,
    webhook: () => cluster.webhooks.get(settings.webhookName),
    listener: { port: listen.webhook.port, serverName: settings.tls.names[0] },
  })
  const admin = createAdminServer({
    whyNotReady: () => readiness.ask(),
    metrics: () => metrics.render(),
    metricsType: metrics.contentType,
  })

  let delivery: DeliveryServer | null = null
  let stopping = false
  const stop = async (signal: string): Promise<void> => {
    if (stopping) return
    stopping = true
    log.info({ signal, leaveMs: settings.leaveMs }, 'this replica leaves')
    readiness.leave()
    webhook.drain()
    hub.drain(GOODBYE_MS)
    const lettingGo = async (): Promise<void> => {
      await leader?.stop()
      await election.stop()
      await events.stop()
    }
    // An API server that does not answer keeps nobody from leaving: the lease runs out by itself.
    await Promise.all([sleep(settings.leaveMs), Promise.race([lettingGo(), sleep(LET_GO_MS)])])
    await delivery?.drain(GOODBYE_MS)
    forwarder.close()
    webhookServer.close()
    await Promise.race([cluster.stop().then(() => kube.close()), sleep(CLOSE_MS)])
    process.exit(0)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void stop(signal))

  await listening(admin, listen.admin)
  cluster.start()
  await cluster.synced()
  log.info({ budgets: cluster.budgets.size, pods: cluster.pods.size }, 'caches are filled')
  await election.start()
  if (settings.tls.mode === 'Own') {
    void standIn({
      certificates: new Certificates({
        client: kube,
        secret: { namespace: pod.namespace, name: settings.tls.secret },
        webhookName: settings.webhookName,
        names: settings.tls.names,
        nowMs: Date.now,
        onReport: ({ kind, message }) => log.info({ kind }, message),
      }),
      isOver: async () => stopping || (await readiness.ask()) === null,
      isLeading: () => election.isLeading,
      onTrouble: (error) =>
        log.warn({ err: messageOf(error) }, 'the leader makes no certificates for this replica, nor can it do so itself'),
    })
  }
  for (let waitedMs = 0; serving.current === null; waitedMs += CERTIFICATE_LOOK_MS) {
    if (waitedMs % CERTIFICATE_TELL_MS === CERTIFICATE_TELL_AFTER_MS)
      log.warn(
        { namespace: pod.namespace, secret: settings.tls.secret, mode: settings.tls.mode },
        'there is no certificate yet; it is waited for',
      )
    await sleep(CERTIFICATE_LOOK_MS)
  }
  serving.attach(webhookServer)
  await verifier.start()
  delivery = createDeliveryServer({
    certificate: serving.current,
    verifier,
    hub,
    events: deliveryEvents,
    nowMs: Date.now,
    ownServiceAccount: { namespace: pod.namespace, name: pod.serviceAccount },
    takeReport,
    isLeader: () => election.isLeading,
    tiersOf: tiersOfPod,
    knowsPod,
  })
  certified()
  await listening(webhookServer, listen.webhook)
  await delivery.listen(listen.delivery.host, listen.delivery.port)
  setInterval(() => reports.prune(knowsPod), PRUNE_EVERY_MS)
  let expiryToldMs = Number.NEGATIVE_INFINITY
  tellExpiry()
  setInterval(tellExpiry, EXPIRY_LOOK_MS)
  log.info({ listen }, 'operator serves')

  function knowsPod({ namespace, name, uid }: ReceivedReport['pod']): boolean {
    return cluster.pods.get(`${namespace}/${name}`)?.metadata.uid === uid
  }

  function tiersOfPod({ namespace, name }: PodIdentity): readonly string[] | null {
    const known = cluster.pods.get(`${namespace}/${name}`)
    const budget = known === undefined ? null : cluster.governingOf(known)
    return budget === null ? null : tiersOf(budget)
  }

  /** What sidecars are to trust; undefined: it is not known yet. */
  function trust(): string | null | undefined {
    return serving.current === null ? undefined : serving.current.trust
  }

  /** The listeners show the newest certificate, and sidecars are told whom to trust. */
  function certified(): void {
    if (serving.current === null) return
    delivery?.setCertificate(serving.current)
    if (serving.current.trust !== null) hub.trust(serving.current.trust)
  }

  function tellExpiry(): void {
    const nowMs = Date.now()
    const warning = serving.current === null ? null : expiryWarning(serving.current, nowMs)
    if (warning === null || nowMs - expiryToldMs < EXPIRY_TELL_MS) return
    expiryToldMs = nowMs
    log.warn({ namespace: pod.namespace, secret: settings.tls.secret }, warning)
  }

  function changed(change: Change): void {
    if (change.what === 'Certificate') {
      serving.update(cluster.tls.get(`${pod.namespace}/${settings.tls.secret}`))
      certified()
    }
    if (change.what === 'Pod') {
      if (change.goneUid !== undefined) {
        reports.forget(change.goneUid)
        hub.podGone(change.goneUid)
      }
      hub.changed(change.namespace)
    }
    if (change.what === 'ConfigMap') hub.changed(change.namespace)
    if (change.what === 'Policy') hub.changed()
    leader?.changed(change)
  }

  /** Each replica keeps what it hears, so that it knows something when it comes to lead. */
  function takeReport(heard: ReceivedReport): void {
    // The clock of the replica that heard it may be ahead of ours, where its version does not send what time it has.
    const received = { ...heard, receivedAtMs: Math.min(heard.receivedAtMs, Date.now()) }
    const before = reports.get(received.pod.uid)
    if (reports.put(received) === 'old') return
    if (election.isLeading) leader?.reported(before, received)
    else forwarder.add(received)
  }
}

function* understoodBudgets(cluster: Cluster): Iterable<ConversationBudget> {
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
