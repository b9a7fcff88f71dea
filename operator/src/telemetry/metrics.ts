/**
 * Every metric of the operator, with its unit and its labels; docs/metrics.md lists the same. Labels are bounded: tiers are objects of
 * the cluster, all else are words of ours. Never a namespace, a pod or a user.
 */
import { NOT_ASKED_REASONS, SKIP_REASONS } from '@farebox/crds/cluster.ts'
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import { readyBudgets } from '../core/status-counts.ts'
import type { StatusCounts } from '../core/status-counts.ts'
import { DELIVERY_COUNTS } from '../delivery/events.ts'
import type { DeliveryCount } from '../delivery/events.ts'
import { REFLECTOR_PROBLEMS } from '../kube/reflector.ts'

const SECONDS_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]

/** Asked for when somebody looks. */
export interface Standing {
  readonly isLeader: boolean
  readonly isReady: boolean
  readonly streams: number
  readonly reports: number
  readonly queued: number
  readonly statusesWaiting: number
  /** By plural: since the API server said anything of it. */
  readonly watchAgesMs: ReadonlyMap<string, number>
  /** By tier, in US dollars. */
  readonly spentToday: () => ReadonlyMap<string, number>
  /** Null: there is no store to be connected to, or another replica leads. */
  readonly isStoreConnected: boolean | null
  /** Of what is served; null: nothing is yet. */
  readonly certificateExpiresAtMs: number | null
  /** What all statuses say; nothing where another replica leads. */
  readonly counts: () => StatusCounts
}

export class Metrics {
  readonly registry = new Registry()
  readonly kubeSeconds = this.#histogram('farebox_operator_kube_seconds', 'Requests to the API server, in seconds', [
    'verb',
    'resource',
    'code',
  ])
  readonly admissionSeconds = this.#histogram('farebox_operator_admission_seconds', 'Answers to admission reviews, in seconds', ['outcome'])
  readonly skipped = this.#counter('farebox_operator_skipped_pods_total', 'Pods that were admitted without a sidecar', ['reason'])
  readonly delivery = this.#counter('farebox_operator_delivery_total', 'What happened to config streams and reports', ['event'])
  readonly reconcileSeconds = this.#histogram('farebox_operator_reconcile_seconds', 'Reconciles, in seconds', ['key', 'outcome'])
  readonly configs = this.#counter('farebox_operator_configs_total', 'Config maps by what was done to them', ['outcome'])
  readonly statuses = this.#counter('farebox_operator_statuses_total', 'Statuses by what was done to them', ['outcome'])
  readonly watchTrouble = this.#counter('farebox_operator_watch_trouble_total', 'Trouble with what the API server sends', [
    'resource',
    'kind',
  ])

  constructor(standing: () => Standing) {
    collectDefaultMetrics({ register: this.registry, prefix: 'farebox_operator_' })
    this.#gauge('farebox_operator_leader', '1: this replica leads', [], (gauge) => gauge.set(standing().isLeader ? 1 : 0))
    this.#gauge('farebox_operator_ready', '1: this replica is ready', [], (gauge) => gauge.set(standing().isReady ? 1 : 0))
    this.#gauge('farebox_operator_streams', 'Sidecars connected to this replica', [], (gauge) => gauge.set(standing().streams))
    this.#gauge('farebox_operator_reports', 'Sidecars whose report this replica keeps', [], (gauge) => gauge.set(standing().reports))
    this.#gauge('farebox_operator_queued_keys', 'Keys that wait to be reconciled', [], (gauge) => gauge.set(standing().queued))
    this.#gauge('farebox_operator_waiting_statuses', 'Statuses that wait to be written', [], (gauge) =>
      gauge.set(standing().statusesWaiting),
    )
    this.#gauge('farebox_operator_watch_age_seconds', 'Since the API server said anything of a resource', ['resource'], (gauge) => {
      for (const [resource, ageMs] of standing().watchAgesMs) gauge.set({ resource }, ageMs / 1_000)
    })
    this.#gauge('farebox_operator_spent_today_usd', 'Spent since midnight UTC, by what sidecars told the leader', ['tier'], (gauge) => {
      for (const [tier, spent] of standing().spentToday()) gauge.set({ tier }, spent)
    })
    this.#gauge('farebox_operator_store_connected', '1: the leader reaches the store, where it makes users', [], (gauge) => {
      const { isStoreConnected } = standing()
      if (isStoreConnected === null) gauge.remove()
      else gauge.set(isStoreConnected ? 1 : 0)
    })
    this.#gauge('farebox_operator_certificate_expiry_timestamp_seconds', 'When the certificate that is served runs out', [], (gauge) => {
      const { certificateExpiresAtMs } = standing()
      if (certificateExpiresAtMs === null) gauge.remove()
      else gauge.set(certificateExpiresAtMs / 1_000)
    })
    this.#gauge('farebox_operator_budgets', 'ConversationBudgets by their condition Ready, on the leader', ['ready'], (gauge) => {
      for (const [ready, budgets] of readyBudgets(standing().counts())) gauge.set({ ready }, budgets)
    })
    this.#gauge(
      'farebox_operator_conditions',
      'Objects by what their conditions say, on the leader',
      ['kind', 'type', 'status', 'reason'],
      (gauge) => {
        for (const { objects, ...labels } of standing().counts().conditions) gauge.set(labels, objects)
      },
    )
    this.#gauge(
      'farebox_operator_pods',
      'Pods that budgets govern, by what is known of their sidecars, on the leader',
      ['state'],
      (gauge) => {
        for (const [state, pods] of standing().counts().pods) gauge.set({ state }, pods)
      },
    )
    this.#gauge(
      'farebox_operator_pods_without_sidecar',
      'Pods that budgets govern and that have none, on the leader',
      ['reason'],
      (gauge) => {
        for (const [reason, pods] of standing().counts().podsWithoutSidecar) gauge.set({ reason }, pods)
      },
    )
    this.#expectAll()
  }

  /** Of these the API server is asked, by their plurals. */
  expectTroubleWith(resources: Iterable<string>): void {
    for (const resource of resources) for (const kind of REFLECTOR_PROBLEMS) this.watchTrouble.inc({ resource, kind }, 0)
  }

  /** Of what happens seldom the first time must be seen to be one: a series that begins at 1 is no increase. */
  #expectAll(): void {
    for (const outcome of ['written', 'reverted', 'failed'] as const) this.configs.inc({ outcome }, 0)
    for (const outcome of ['written', 'failed'] as const) this.statuses.inc({ outcome }, 0)
    for (const event of DELIVERY_COUNTS) this.delivery.inc({ event }, 0)
    // Of the others `farebox_operator_pods_without_sidecar` tells.
    const notAsked = new Set<string>(NOT_ASKED_REASONS)
    for (const reason of SKIP_REASONS) if (!notAsked.has(reason)) this.skipped.inc({ reason }, 0)
  }

  countDelivery(event: DeliveryCount, by = 1): void {
    this.delivery.inc({ event }, by)
  }

  render(): Promise<string> {
    return this.registry.metrics()
  }

  get contentType(): string {
    return this.registry.contentType
  }

  #counter<L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> {
    return new Counter({ name, help, labelNames: [...labelNames], registers: [this.registry] })
  }

  #histogram<L extends string>(name: string, help: string, labelNames: readonly L[]): Histogram<L> {
    return new Histogram({ name, help, labelNames: [...labelNames], buckets: SECONDS_BUCKETS, registers: [this.registry] })
  }

  #gauge<L extends string>(name: string, help: string, labelNames: readonly L[], collect: (gauge: Gauge<L>) => void): void {
    const gauge: Gauge<L> = new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers: [this.registry],
      collect: () => {
        gauge.reset()
        collect(gauge)
      },
    })
  }
}
