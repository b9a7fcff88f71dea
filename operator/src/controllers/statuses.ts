/** The statuses of all objects of ours: worked out anew from what is known, and handed to the writer, which writes what differs. */
import { ANNOTATIONS } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import { ACCOUNT_LIFE_MS } from '@farebox/crds/ledger-page.ts'
import { NANO_PER_USD, parseSignedUsd } from '@farebox/crds/usd.ts'
import { clusterStatuses, invalidStatus, storeKey } from '../core/cluster-status.ts'
import type { ClusterView, Hindrance } from '../core/cluster-status.ts'
import { budgetKey } from '../core/same-pods.ts'
import type { ObjectStatus, Snapshot } from '../core/compile.ts'
import type { InjectionSettings } from '../core/injection.ts'
import { injectionHash } from '../core/injection-hash.ts'
import { booksKey, isNewer, mergeTotals, newestOfBudgets, newestTotals } from '../core/merge-reports.ts'
import { countStatuses, NOTHING_COUNTED } from '../core/status-counts.ts'
import type { StatusCounts } from '../core/status-counts.ts'
import { isFresh, isInjected } from '../core/workloads.ts'
import type { Gate } from '../core/workloads.ts'
import type { ReportBook } from '../delivery/report-book.ts'
import type { KubeObject, ObjectMeta, Resource } from '../kube/kube.ts'
import type { Reflector } from '../kube/reflector.ts'
import { CONVERSATION_BUDGETS, PRICE_BOOKS, PRICING_TIERS } from '../kube/resources.ts'
import type { StatusValue, StatusWriter } from '../kube/status-writer.ts'
import type { Cluster } from './cluster.ts'
import type { Configs } from './configs.ts'
import type { Known } from './known.ts'

/** A leader that has just begun waits so long for sidecars to report before it says what they do not. */
const SETTLING_MS = 30_000

export interface StatusesOptions {
  readonly cluster: Cluster
  readonly configs: Configs
  readonly reports: ReportBook
  readonly writer: Pick<StatusWriter, 'want' | 'forget'>
  readonly injection: InjectionSettings
  /** By budget: why its pods cannot start with what was compiled. */
  readonly hindered: (budgets: readonly ConversationBudget[]) => ReadonlyMap<string, Hindrance>
  readonly gates: () => ReadonlyMap<string, Gate>
  /** The store that came with the chart has no volume. */
  readonly storeIsEphemeral: boolean
  readonly nowMs: () => number
  /** Of a clock that nobody sets, in ms. */
  readonly steadyMs: () => number
}

/**
 * Of one time of leading. Remembers what sidecars told last of a store that they share, and hands each status to the writer, which others
 * flush and stop.
 */
export class Statuses {
  readonly #options: StatusesOptions
  readonly #sinceMs: number
  /** What was heard here long before this replica came to lead: the one that led then heard newer, and what that told is in status. */
  readonly #superseded: WeakSet<ReceivedReport>
  /** By budget, where its sidecars share a store: what they told last. It counts while the pods are gone, too. */
  readonly #shared = new Map<string, Shared>()
  /** By spec, which stays the same object until it is compiled anew. */
  readonly #hashes = new WeakMap<ConversationBudget['spec'], string>()
  #counts: StatusCounts = NOTHING_COUNTED
  /** Of the pods that budgets govern: any pod of the cluster may report, and only these are believed. */
  #believed: readonly ReceivedReport[] = []

  constructor(options: StatusesOptions) {
    this.#options = options
    this.#sinceMs = options.steadyMs()
    const nowMs = options.nowMs()
    this.#superseded = new WeakSet([...options.reports.values()].filter((received) => !isFresh(received, nowMs)))
  }

  /** Throws `StatusTooLargeError`, the first of them, once all others are handed on. */
  reconcile(): void {
    const { cluster, configs, reports, nowMs, gates } = this.#options
    const { inForce } = configs
    if (inForce === null) return // nothing was compiled yet: it wakes us
    const snapshot = withStatuses(inForce.snapshot, cluster)
    const { pods, elsewhere } = selectedPods(cluster)
    const governed = new Set([...pods.values()].flatMap((those) => those.map(({ uid }) => uid)))
    this.#believed = [...reports.values()].filter((received) => governed.has(received.pod.uid) && !this.#superseded.has(received))
    this.#keepShared(snapshot.budgets)
    const statuses = clusterStatuses({
      nowMs: nowMs(),
      snapshot,
      compiled: inForce.compiled,
      configs: inForce.configs,
      hindered: new Map([...this.#options.hindered(snapshot.budgets), ...inForce.hindered]),
      pods,
      elsewhere,
      reports: new Map(this.#believed.map((received) => [received.pod.uid, received])),
      shared: byStore(this.#shared.values()),
      storeIsEphemeral: this.#options.storeIsEphemeral,
      isOutdated: (budget, { annotations }) => annotations?.[ANNOTATIONS.injectionHash] !== this.#hashOf(budget),
      startedMs: (pod) => cluster.startedMs(pod),
      notStarting: (pod) => cluster.notStarting(pod),
      isExcluded: (namespace) => cluster.isExcluded(namespace),
      gates: gates(),
      isSettling: this.#options.steadyMs() - this.#sinceMs < SETTLING_MS,
    })
    const wishes = [
      ...[...statuses].flatMap(([object, status]) => this.#wishFor(object, status)),
      ...this.#wishesForInvalid(PRICING_TIERS, cluster.tiers),
      // The others are compiled as far as they can be read: refused, with what is in force and what their pods are.
      ...this.#wishesForInvalid(CONVERSATION_BUDGETS, cluster.budgets, ({ metadata }) => cluster.budgetOf(metadata) === null),
      ...this.#wishesForInvalid(PRICE_BOOKS, cluster.books),
    ]
    this.#counts = countStatuses(wishes.map(({ resource: { kind }, found }) => ({ kind, status: found })))
    const failures: unknown[] = []
    for (const wish of wishes) {
      try {
        this.#want(wish)
      } catch (error) {
        failures.push(error) // one that cannot be written keeps no other from being
      }
    }
    if (failures.length > 0) throw failures[0]
  }

  /** What the statuses say that were worked out last, be they written or not. */
  get counts(): StatusCounts {
    return this.#counts
  }

  /** Of each tier, in US dollars: what sidecars told of today. */
  spentToday(): ReadonlyMap<string, number> {
    const { cluster, nowMs } = this.#options
    const told = [...this.#shared.values()].map(({ received }) => received)
    const totals = mergeTotals(newestTotals([...this.#believed, ...told], nowMs()).values())
    return new Map(
      [...cluster.tiers.values()].flatMap(({ object }) => {
        const { name } = object.metadata
        const today = Object.hasOwn(totals, name) ? totals[name]?.today : undefined
        return today === undefined ? [] : [[name, Number(parseSignedUsd(today.spent)) / Number(NANO_PER_USD)] as const]
      }),
    )
  }

  #hashOf(budget: ConversationBudget): string {
    const known = this.#hashes.get(budget.spec)
    if (known !== undefined) return known
    const hash = injectionHash(budget, this.#options.injection)
    this.#hashes.set(budget.spec, hash)
    return hash
  }

  #keepShared(budgets: readonly ConversationBudget[]): void {
    const nowMs = this.#options.nowMs()
    const stores = new Map(budgets.map((budget) => [budgetKey(budget), storeKey(budget)]))
    for (const received of newestOfBudgets(this.#believed, nowMs)) {
      const { status } = received.report
      const budget = status?.config.budget ?? ''
      const store = stores.get(budget) ?? null
      // A pod speaks for its own namespace.
      if (status?.store.kind !== 'Shared' || store === null || !budget.startsWith(`${received.pod.namespace}/`)) continue
      const known = this.#shared.get(budget)
      if (known?.store !== store || isNewer(received, known.received, nowMs)) this.#shared.set(budget, { store, received })
    }
    const lasts = new Map<string, ReceivedReport>()
    for (const { store, received } of this.#shared.values()) {
      const last = lasts.get(store)
      if (last === undefined || isNewer(received, last, nowMs)) lasts.set(store, received)
    }
    for (const [budget, { store, received }] of this.#shared) {
      // A store that has lost its books, or is another by now, has others.
      const isLost = booksKey(received) !== booksKey(lasts.get(store) ?? received)
      if (isLost || stores.get(budget) !== store || nowMs - received.receivedAtMs > ACCOUNT_LIFE_MS) this.#shared.delete(budget)
    }
  }

  /** None where the object is gone, or going. */
  #wishFor(object: string, found: ObjectStatus): readonly Wish[] {
    const [kind = '', ...rest] = object.split('/')
    const key = rest.join('/')
    const { cluster } = this.#options
    switch (kind) {
      case 'PricingTier':
        return this.#wishOf(PRICING_TIERS, cluster.tiers.get(key)?.object, found)
      case 'PriceBook':
        return this.#wishOf(PRICE_BOOKS, cluster.books.get(key)?.object, found)
      default:
        return this.#wishOf(CONVERSATION_BUDGETS, cluster.budgets.get(key)?.object, found)
    }
  }

  #wishesForInvalid<T>(
    resource: Resource,
    cache: Reflector<Known<T>>,
    isMeant: (object: KubeObject) => boolean = () => true,
  ): readonly Wish[] {
    return [...cache.values()].flatMap(({ object, checked }) => {
      if (checked.status === 'ok' || !isMeant(object)) return []
      const { generation } = object.metadata
      return this.#wishOf(resource, object, invalidStatus({ generation, conditions: [] }, checked.problems, this.#options.nowMs()), true)
    })
  }

  #wishOf(resource: Resource, current: KubeObject | undefined, found: ObjectStatus, isInvalid = false): readonly Wish[] {
    return current === undefined || this.#isGoing(current.metadata) ? [] : [{ resource, current, found, isInvalid }]
  }

  #want({ resource, current, found, isInvalid }: Wish): void {
    const { metadata, status } = current
    const { name, namespace } = metadata
    const target = { resource, name, ...(namespace === undefined ? {} : { namespace }) }
    // What is in force and what was counted of one that is not understood stays as it was told.
    const kept = isInvalid && typeof status === 'object' ? status : {}
    this.#options.writer.want(target, statusValueOf({ ...kept, ...found }), { metadata, status })
  }

  #isGoing({ deletionTimestamp, namespace }: ObjectMeta): boolean {
    return deletionTimestamp !== undefined || (namespace !== undefined && this.#options.cluster.isGoing(namespace))
  }
}

/** What was found of an object, to be its status. */
interface Wish {
  readonly resource: Resource
  readonly current: KubeObject
  readonly found: ObjectStatus
  readonly isInvalid: boolean
}

/** What sidecars of a budget told last, and by `storeKey` of what. */
interface Shared {
  readonly store: string
  readonly received: ReceivedReport
}

function byStore(shared: Iterable<Shared>): ReadonlyMap<string, readonly ReceivedReport[]> {
  const groups = Map.groupBy(shared, ({ store }) => store)
  return new Map([...groups].map(([store, group]) => [store, group.map(({ received }) => received)]))
}

/** What was compiled, with the statuses that the API server has by now. */
function withStatuses(snapshot: Snapshot, cluster: Cluster): Snapshot {
  const now = <T extends { readonly metadata: object; status?: unknown }>(object: T, known: T | null): T[] => {
    if (known === null || uidOf(object.metadata) !== uidOf(known.metadata)) return []
    const { status } = known
    return [status === object.status ? object : { ...object, status }]
  }
  return {
    tiers: snapshot.tiers.flatMap((tier) => now(tier, valueOf(cluster.tiers.get(tier.metadata.name)))),
    budgets: snapshot.budgets.flatMap((budget) => now(budget, cluster.budgetOf(budget.metadata))),
    priceBooks: snapshot.priceBooks.flatMap((book) => now(book, valueOf(cluster.books.get(book.metadata.name)))),
  }
}

function valueOf<T>(known: Known<T> | undefined): T | null {
  return known?.checked.status === 'ok' ? known.checked.value : null
}

/** Of an object of another uid nothing was found out yet. */
function uidOf(metadata: object): unknown {
  return 'uid' in metadata ? metadata.uid : undefined
}

function selectedPods(cluster: Cluster): Pick<ClusterView, 'elsewhere'> & { readonly pods: ReadonlyMap<string, readonly ObjectMeta[]> } {
  const pods = new Map<string, ObjectMeta[]>()
  const elsewhere = new Map<string, Map<string, number>>()
  for (const namespace of cluster.namespacesWithBudgets()) {
    for (const pod of cluster.podsOf(namespace)) {
      const [governing, ...later] = cluster.selectingOf(pod).map(budgetKey)
      if (governing === undefined) continue
      const those = pods.get(governing)
      if (those === undefined) pods.set(governing, [pod.metadata])
      else those.push(pod.metadata)
      if (!isInjected(pod.metadata) || pod.metadata.deletionTimestamp !== undefined) continue
      for (const budget of later) {
        const counts = elsewhere.get(budget) ?? new Map<string, number>()
        elsewhere.set(budget, counts.set(governing, (counts.get(governing) ?? 0) + 1))
      }
    }
  }
  return { pods, elsewhere }
}

/** What is absent is left out. */
function statusValueOf({ conditions, observedGeneration, ...rest }: ObjectStatus): StatusValue {
  return {
    ...rest,
    ...(observedGeneration === undefined ? {} : { observedGeneration }),
    conditions: (conditions ?? []).map(({ observedGeneration: of, ...condition }) => ({
      ...condition,
      ...(of === undefined ? {} : { observedGeneration: of }),
    })),
  }
}
