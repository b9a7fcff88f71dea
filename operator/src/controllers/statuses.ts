/** The statuses of all objects of ours: worked out anew from what is known, and handed to the writer, which writes what differs. */
import { ANNOTATIONS } from '@farebox/crds/cluster.ts'
import { NANO_PER_USD, parseSignedUsd } from '@farebox/crds/usd.ts'
import { clusterStatuses, invalidStatus } from '../core/cluster-status.ts'
import { budgetKey } from '../core/compile.ts'
import type { ObjectStatus, Snapshot } from '../core/compile.ts'
import type { InjectionSettings } from '../core/injection.ts'
import { injectionHash } from '../core/injection-hash.ts'
import { mergeTotals, newestTotals } from '../core/merge-reports.ts'
import type { Gate } from '../core/workloads.ts'
import type { ReportBook } from '../delivery/report-book.ts'
import type { KubeObject, ObjectMeta, Resource } from '../kube/kube.ts'
import type { Reflector } from '../kube/reflector.ts'
import { CONVERSATION_BUDGETS, PRICE_BOOKS, PRICING_TIERS } from '../kube/resources.ts'
import type { StatusValue, StatusWriter } from '../kube/status-writer.ts'
import type { Cluster, Known } from './cluster.ts'
import type { Configs } from './configs.ts'

/** A leader that has just begun waits so long for sidecars to report before it says what they do not. */
const SETTLING_MS = 30_000

export interface StatusesOptions {
  readonly cluster: Cluster
  readonly configs: Configs
  readonly reports: ReportBook
  readonly writer: Pick<StatusWriter, 'want' | 'forget'>
  readonly injection: InjectionSettings
  readonly gates: () => ReadonlyMap<string, Gate>
  readonly nowMs: () => number
  readonly onWish: (wish: 'Equal' | 'AtOnce' | 'Later') => void
}

export class Statuses {
  readonly #options: StatusesOptions
  readonly #sinceMs: number
  #readiness: ReadonlyMap<string, number> = new Map()

  constructor(options: StatusesOptions) {
    this.#options = options
    this.#sinceMs = options.nowMs()
  }

  reconcile(): void {
    const { cluster, configs, reports, injection, nowMs, gates } = this.#options
    const { inForce } = configs
    if (inForce === null) return // nothing was compiled yet: it wakes us
    const snapshot = withStatuses(inForce.snapshot, cluster)
    const hashes = new Map(snapshot.budgets.map((budget) => [budgetKey(budget), injectionHash(budget, injection)]))
    const statuses = clusterStatuses({
      nowMs: nowMs(),
      snapshot,
      compiled: inForce.compiled,
      configs: inForce.configs,
      hindered: inForce.hindered,
      pods: governedPods(cluster),
      reports: new Map([...reports.values()].map((received) => [received.pod.uid, received])),
      isOutdated: (budget, { annotations }) => annotations?.[ANNOTATIONS.injectionHash] !== hashes.get(budgetKey(budget)),
      gates: gates(),
      isSettling: nowMs() - this.#sinceMs < SETTLING_MS,
    })
    const ready = new Map<string, number>()
    for (const [object, status] of statuses) {
      this.#want(object, status)
      if (!object.startsWith('ConversationBudget/')) continue
      const said = status.conditions?.find(({ type }) => type === 'Ready')?.status ?? 'Unknown'
      ready.set(said, (ready.get(said) ?? 0) + 1)
    }
    this.#readiness = ready
    this.#wantInvalid(PRICING_TIERS, cluster.tiers)
    this.#wantInvalid(CONVERSATION_BUDGETS, cluster.budgets)
    this.#wantInvalid(PRICE_BOOKS, cluster.books)
  }

  /** Of the budgets, how many say so of being ready. */
  get readiness(): ReadonlyMap<string, number> {
    return this.#readiness
  }

  /** Of each tier, in US dollars: what sidecars told of today. */
  spentToday(): ReadonlyMap<string, number> {
    const totals = mergeTotals(newestTotals(this.#options.reports.values()).values())
    return new Map(
      [...this.#options.cluster.tiers.values()].map(({ object }) => {
        const spent = parseSignedUsd(totals[object.metadata.name]?.today?.spent ?? '0')
        return [object.metadata.name, Number(spent) / Number(NANO_PER_USD)]
      }),
    )
  }

  #want(object: string, desired: ObjectStatus): void {
    const [kind = '', ...rest] = object.split('/')
    const key = rest.join('/')
    const { cluster } = this.#options
    switch (kind) {
      case 'PricingTier':
        return this.#wantOf(PRICING_TIERS, cluster.tiers.get(key)?.object, desired)
      case 'PriceBook':
        return this.#wantOf(PRICE_BOOKS, cluster.books.get(key)?.object, desired)
      default:
        return this.#wantOf(CONVERSATION_BUDGETS, cluster.budgets.get(key)?.object, desired)
    }
  }

  #wantInvalid<T>(resource: Resource, cache: Reflector<Known<T>>): void {
    for (const { object, checked } of cache.values()) {
      if (checked.status === 'ok') continue
      const { generation } = object.metadata
      this.#wantOf(resource, object, invalidStatus({ generation, conditions: [] }, checked.problems, this.#options.nowMs()))
    }
  }

  #wantOf(resource: Resource, current: KubeObject | undefined, desired: ObjectStatus): void {
    if (current === undefined || this.#isGoing(current.metadata)) return
    const { name, namespace } = current.metadata
    const target = { resource, name, ...(namespace === undefined ? {} : { namespace }) }
    this.#options.onWish(this.#options.writer.want(target, valueOf(desired), { metadata: current.metadata, status: current['status'] }))
  }

  #isGoing({ deletionTimestamp, namespace }: ObjectMeta): boolean {
    return deletionTimestamp !== undefined || (namespace !== undefined && this.#options.cluster.isGoing(namespace))
  }
}

/** What was compiled, with the statuses that the API server has by now. */
function withStatuses(snapshot: Snapshot, cluster: Cluster): Snapshot {
  const now = <T extends { readonly metadata: object; status?: unknown }>(object: T, known: Known<T> | undefined): T[] => {
    if (known === undefined || known.checked.status === 'invalid' || uidOf(object.metadata) !== known.object.metadata.uid) return []
    const { status } = known.checked.value
    return [status === object.status ? object : { ...object, status }]
  }
  return {
    tiers: snapshot.tiers.flatMap((tier) => now(tier, cluster.tiers.get(tier.metadata.name))),
    budgets: snapshot.budgets.flatMap((budget) => now(budget, cluster.budgets.get(budgetKey(budget)))),
    priceBooks: snapshot.priceBooks.flatMap((book) => now(book, cluster.books.get(book.metadata.name))),
  }
}

/** Of an object of another uid nothing was found out yet. */
function uidOf(metadata: object): unknown {
  return 'uid' in metadata ? metadata.uid : undefined
}

function governedPods(cluster: Cluster): ReadonlyMap<string, readonly ObjectMeta[]> {
  const governed = new Map<string, ObjectMeta[]>()
  for (const namespace of cluster.namespacesWithBudgets()) {
    for (const pod of cluster.podsOf(namespace)) {
      const budget = cluster.governingOf(pod)
      if (budget === null) continue
      const key = budgetKey(budget)
      const those = governed.get(key)
      if (those === undefined) governed.set(key, [pod.metadata])
      else those.push(pod.metadata)
    }
  }
  return governed
}

/** What is absent is left out. */
function valueOf({ conditions, observedGeneration, ...rest }: ObjectStatus): StatusValue {
  return {
    ...rest,
    ...(observedGeneration === undefined ? {} : { observedGeneration }),
    conditions: (conditions ?? []).map(({ observedGeneration: of, ...condition }) => ({
      ...condition,
      ...(of === undefined ? {} : { observedGeneration: of }),
    })),
  }
}
