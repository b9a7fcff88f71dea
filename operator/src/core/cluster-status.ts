/**
 * Each object's status as a cluster shows it: what compile found, what the pods are, and what their sidecars tell. Pure. What is not
 * known is not made up: where no sidecar has reported, the numbers that were known before stay.
 */
import type { Problem } from '@farebox/crds/check.ts'
import type { ConversationBudget, ConversationBudgetStatus } from '@farebox/crds/conversation-budget.ts'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import type { Condition } from '@farebox/crds/fields.ts'
import type { PricingTierStatus } from '@farebox/crds/pricing-tier.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { TierTotals } from '@farebox/crds/sidecar-status.ts'
import type { TierTraffic } from '@farebox/crds/traffic-status.ts'
import { canonicalJson } from './canonical.ts'
import type { Compiled, ObjectStatus, Snapshot } from './compile.ts'
import { tiersOf } from './compile-budget.ts'
import { conditionsOf, findingsOf, withSummary } from './conditions.ts'
import type { Finding } from './conditions.ts'
import { holds } from './judged-budgets.ts'
import { limitsTold, shownLimits } from './limit-use.ts'
import { booksKey, mergeTotals, newestTotals } from './merge-reports.ts'
import type { Totals } from './merge-reports.ts'
import type { NotStarting } from './not-starting.ts'
import { invalidFinding } from './not-understood.ts'
import { budgetKey } from './same-pods.ts'
import { goalsOf, marginsOf, trafficOf } from './traffic.ts'
import type { BudgetTraffic } from './traffic.ts'
import { askingOf, isFresh, isInjected, withWorkloads } from './workloads.ts'
import type { Gate, Pod } from './workloads.ts'

/** Of a status as JSON. */
export const STATUS_BYTES_MAX = 16 * 1024

export interface ClusterView {
  readonly nowMs: number
  readonly snapshot: Snapshot
  readonly compiled: Pick<Compiled, 'statuses' | 'tiers'>
  /** In force, by budget: what was compiled and written, or what was before where nothing could be. */
  readonly configs: ReadonlyMap<string, SidecarConfig>
  /** By the budget that governs them. */
  readonly pods: ReadonlyMap<string, readonly Pod[]>
  /** By budget: of the pods that it selects and others govern, how many have sidecars, by the budget that governs them. */
  readonly elsewhere: ReadonlyMap<string, ReadonlyMap<string, number>>
  /** By uid of the pod. */
  readonly reports: ReadonlyMap<string, ReceivedReport>
  /** Of each shared store, by `storeKey`, the newest report of each budget, though its pod may be gone: the books are not. */
  readonly shared: ReadonlyMap<string, readonly ReceivedReport[]>
  readonly isOutdated: (budget: ConversationBudget, pod: Pod) => boolean
  /** From when on the sidecar of a pod may speak; null: the pod has not started. */
  readonly startedMs: (pod: Pod) => number | null
  /** How the container that was added to a pod keeps it from starting; null: it does not. */
  readonly notStarting: (pod: Pod) => NotStarting | null
  /** The store that came with the chart has no volume. */
  readonly storeIsEphemeral: boolean
  /** Whether the webhook leaves a namespace out. */
  readonly isExcluded: (namespace: string) => boolean
  /** By namespace, where sidecars are required. */
  readonly gates: ReadonlyMap<string, Gate>
  /** Whether this leader has just begun: sidecars that it has not heard of may be well. */
  readonly isSettling: boolean
  /** By budget: why its config is not in force though it was compiled. */
  readonly hindered: ReadonlyMap<string, Hindrance>
}

export interface Hindrance {
  readonly reason: 'NotWritten' | 'WriteRefused' | 'NoStore' | 'NoRuntimeSecret' | 'RuntimeSecretRefused' | 'TooLarge' | 'Contested'
  readonly message: string
}

/** By object: `PricingTier/pro`, `ConversationBudget/support/desk`, `PriceBook/list`. */
export function clusterStatuses(view: ClusterView): ReadonlyMap<string, ObjectStatus> {
  const { snapshot, compiled } = view
  const statuses = new Map<string, ObjectStatus>()
  for (const book of snapshot.priceBooks) keepFound(statuses, `PriceBook/${book.metadata.name}`, compiled)
  const books = newestTotals([...view.reports.values(), ...[...view.shared.values()].flat()], view.nowMs)
  const { totals, remembered } = allTotals(books, snapshot.budgets)
  const isSettling = [...view.pods.values()].some((pods) => isUnheardOf(pods, view))
  const margins = marginsOf(compiled, snapshot.tiers, totals)
  for (const tier of snapshot.tiers) {
    const object = `PricingTier/${tier.metadata.name}`
    const status: PricingTierStatus | undefined = compiled.statuses.get(object)
    if (status === undefined) continue
    const margin = margins.get(tier.metadata.name)
    const known = tier.status?.margin?.realisedPercent
    // Status tells no sessions, by which a margin is worked out.
    const keeps =
      (isSettling || !Object.hasOwn(totals, tier.metadata.name) || remembered.has(tier.metadata.name)) &&
      known !== undefined &&
      compiled.tiers.get(tier.metadata.name)?.status === 'accepted'
    statuses.set(object, { ...status, ...(margin === undefined ? {} : { margin: keeps ? { ...margin, realisedPercent: known } : margin }) })
  }
  const boundInNamespace = tiersByNamespace(snapshot.budgets)
  for (const budget of snapshot.budgets) {
    const object = `ConversationBudget/${budgetKey(budget)}`
    const status: ConversationBudgetStatus | undefined = compiled.statuses.get(object)
    if (status === undefined) continue
    const bound = boundInNamespace.get(budget.metadata.namespace ?? 'default') ?? new Set()
    statuses.set(object, budgetStatus(budget, status, bound, view, books))
  }
  return statuses
}

function keepFound(statuses: Map<string, ObjectStatus>, object: string, compiled: ClusterView['compiled']): void {
  const status = compiled.statuses.get(object)
  if (status !== undefined) statuses.set(object, status)
}

/** Of an object that is not understood. */
export function invalidStatus(
  object: { readonly generation: number | undefined; readonly conditions: readonly Condition[] },
  problems: readonly Problem[],
  nowMs: number,
): ObjectStatus {
  const findings = withSummary([invalidFinding(problems)])
  return {
    ...(object.generation === undefined ? {} : { observedGeneration: object.generation }),
    conditions: conditionsOf(findings, object.conditions, object.generation, nowMs),
  }
}

/** `bound`: the tiers that budgets of the namespace may use. */
function budgetStatus(
  budget: ConversationBudget,
  status: ConversationBudgetStatus,
  bound: ReadonlySet<string>,
  view: ClusterView,
  books: Books,
): ObjectStatus {
  const key = budgetKey(budget)
  const config = view.configs.get(key) ?? null
  const pods = view.pods.get(key) ?? []
  const before = budget.status ?? {}
  const isSettling = isUnheardOf(pods, view)
  const gate = budget.spec.injection.mode === 'Required' ? (view.gates.get(budget.metadata.namespace ?? 'default') ?? null) : null
  const { workloads, findings: ofPods } = withWorkloads(foundBy(status, view.hindered.get(key)), {
    nowMs: view.nowMs,
    config,
    hash: status.config?.hash,
    pods,
    reports: view.reports,
    isOutdated: (pod) => view.isOutdated(budget, pod),
    startedMs: view.startedMs,
    notStarting: view.notStarting,
    gate,
    ...askingOf(budget, view.isExcluded(budget.metadata.namespace ?? 'default')),
    storeIsEphemeral: view.storeIsEphemeral && budget.spec.store.kind === 'Shared' && budget.spec.store.redis === undefined,
  })
  const findings = withElsewhere(ofPods, budget, view)
  const said = isSettling ? withKnown(findings, before, config) : findings
  const { generation } = budget.metadata
  return bounded({
    ...status,
    conditions: conditionsOf(withSummary(said), before.conditions ?? [], generation, view.nowMs),
    workloads: isSettling ? withKnownCounts(workloads, before.workloads) : workloads,
    ...traffic(budget, pods, bound, view, books),
    ...limitUse(budget, config, pods, view),
  })
}

/** Of the limits that hold for these pods: what their books tell, now or while there were pods. */
function limitUse(
  budget: ConversationBudget,
  config: SidecarConfig | null,
  pods: readonly Pod[],
  view: ClusterView,
): Pick<ConversationBudgetStatus, 'limits'> {
  const { reports, shared, nowMs } = view
  const own = pods.flatMap(({ uid }) => (uid === undefined ? [] : (reports.get(uid) ?? [])))
  // Those that this leader has not heard of yet may have told what is known.
  const isKept = isUnheardOf(pods, view) && budget.status?.limits !== undefined
  const told = isKept ? [] : limitsTold([...own, ...sharedWith(budget, shared)], budgetKey(budget), nowMs)
  const limits = shownLimits(config?.limits ?? [], told, budget.status?.limits ?? [], nowMs)
  return limits.length === 0 ? {} : { limits: [...limits] }
}

/** Whether sidecars may be well that this leader has not heard of yet. What it heard before it led may be days old. */
function isUnheardOf(pods: readonly Pod[], { isSettling, reports, nowMs }: ClusterView): boolean {
  if (!isSettling) return false
  return pods.some((pod) => {
    const received = pod.uid === undefined ? undefined : reports.get(pod.uid)
    return isInjected(pod) && (received === undefined || !isFresh(received, nowMs))
  })
}

function foundBy({ conditions = [] }: ObjectStatus, hindrance: Hindrance | undefined): readonly Finding[] {
  return findingsOf(conditions).map((finding) =>
    hindrance === undefined || finding.type !== 'Programmed' || finding.status !== 'True'
      ? finding
      : { ...finding, status: 'False', ...hindrance },
  )
}

/** Pods that other budgets govern have the limits of this one as far as they could be added there. */
function withElsewhere(findings: readonly Finding[], budget: ConversationBudget, { elsewhere, configs }: ClusterView): readonly Finding[] {
  const others = [...(elsewhere.get(budgetKey(budget)) ?? [])]
  if (others.length === 0) return findings
  const without = others.filter(([key]) => !holds(configs.get(key)?.limits ?? [], budget.spec.limits))
  return findings.map((finding) => {
    if (finding.type !== 'Programmed') return finding
    const isPartial = finding.status === 'True' || finding.reason === 'PartiallyProgrammed'
    if (without.length > 0 && isPartial)
      return {
        ...finding,
        status: 'False',
        reason: 'PartiallyProgrammed',
        message: `${governedElsewhere(without)}, without the limits of this one`,
      }
    if (finding.reason !== 'Programmed') return finding
    return { ...finding, reason: 'SelectorsOverlap', message: `${finding.message}; but ${governedElsewhere(others)}` }
  })
}

function governedElsewhere(others: readonly (readonly [string, number])[]): string {
  const pods = others.reduce((sum, [, count]) => sum + count, 0)
  const [[most] = ['']] = others.toSorted(([a, ofA], [b, ofB]) => ofB - ofA || (a < b ? -1 : 1))
  const more = others.length === 1 ? 'comes' : `and ${others.length - 1} more come`
  return `ConversationBudget "${most.slice(most.indexOf('/') + 1)}" ${more} before this one and ${others.length === 1 ? 'governs' : 'govern'} ${pods} of the pods that this one selects`
}

/** The newest totals of each, by `booksKey`. */
type Books = ReadonlyMap<string, Totals>

/**
 * What the books of these pods tell. Budgets of a namespace that share a store share its books, and a conversation belongs to namespace
 * and tier: a tier is shown by each budget that may use it, and one that none may use any more by all of them. Of those who share books some tell at a
 * time, which may be of other budgets.
 */
function traffic(
  budget: ConversationBudget,
  pods: readonly Pod[],
  bound: ReadonlySet<string>,
  view: ClusterView,
  books: Books,
): Partial<BudgetTraffic> {
  const { snapshot, compiled, reports } = view
  if (isUnheardOf(pods, view) && budget.status?.conversations !== undefined) return knownTraffic(budget.status)
  const own = pods.flatMap(({ uid }) => (uid === undefined ? [] : (reports.get(uid) ?? [])))
  const kept = new Set([...own, ...sharedWith(budget, view.shared)].map(booksKey))
  const allowed = tiersOf(budget)
  const told = Object.entries(mergeTotals([...kept].map((key) => books.get(key) ?? {}))).filter(
    ([tier]) => allowed.includes(tier) || !bound.has(tier),
  )
  if (told.length === 0) return withoutToday(knownTraffic(budget.status))
  // Where those who tell of the books know nothing of a tier of ours, what was known of it stays.
  const isTold = new Set(told.map(([tier]) => tier))
  const known = (budget.status?.tiers ?? []).filter(({ tier }) => allowed.includes(tier) && !isTold.has(tier))
  const totals: Totals = Object.fromEntries([...told, ...known.map((tier) => [tier.tier, totalsOf(tier)] as const)])
  const shown = trafficOf(totals, marginsOf(compiled, snapshot.tiers, totals), goalsOf(compiled))
  return { ...shown, tiers: shown.tiers?.map((one) => known.find(({ tier }) => tier === one.tier) ?? one) }
}

/** What budgets of a namespace have in common whose sidecars keep one set of books; null: each sidecar has its own. */
export function storeKey({ metadata, spec }: ConversationBudget): string | null {
  return spec.store.kind === 'Embedded' ? null : `${metadata.namespace ?? 'default'}/${canonicalJson(spec.store)}`
}

/** What was told last of the books that this budget's pods keep, when there are any: by them, and by others who keep the same. */
function sharedWith(budget: ConversationBudget, shared: ClusterView['shared']): readonly ReceivedReport[] {
  const key = storeKey(budget)
  return key === null ? [] : (shared.get(key) ?? [])
}

/** Nobody has said anything for long enough that today may be another day. */
function withoutToday(known: Partial<BudgetTraffic>): Partial<BudgetTraffic> {
  if (known.spend === undefined) return known
  const { today: _today, ...spend } = known.spend
  return { ...known, spend }
}

interface AllTotals {
  readonly totals: Totals
  /** Tiers whose conversations are known by status alone. */
  readonly remembered: ReadonlySet<string>
}

/**
 * What all books tell. Of tiers that nobody in a namespace has told of since this leader began, as where all pods are gone, status tells:
 * it is what was known.
 */
function allTotals(books: Books, budgets: readonly ConversationBudget[]): AllTotals {
  const heard = new Set([...books].flatMap(([key, totals]) => Object.keys(totals).map((tier) => `${namespaceOf(key)}/${tier}`)))
  const known = new Map<string, Map<string, TierTotals>>()
  for (const { metadata, spec, status } of budgets) {
    const { namespace = 'default' } = metadata
    if (spec.store.kind === 'Embedded') continue
    const tiers = known.get(namespace) ?? new Map<string, TierTotals>()
    known.set(namespace, tiers)
    // Budgets that share books tell the same of a tier, at different times.
    for (const traffic of status?.tiers ?? []) {
      if (heard.has(`${namespace}/${traffic.tier}`)) continue
      const before = tiers.get(traffic.tier)
      if (before === undefined || before.conversations < traffic.conversations.total) tiers.set(traffic.tier, totalsOf(traffic))
    }
  }
  const told = mergeTotals(books.values())
  const tiers = [...known.values()].flatMap((ofNamespace) => [...ofNamespace.keys()])
  return {
    totals: mergeTotals([told, ...[...known.values()].map((ofNamespace) => Object.fromEntries(ofNamespace))]),
    remembered: new Set(tiers.filter((tier) => !Object.hasOwn(told, tier) || told[tier]?.conversations === 0)),
  }
}

function namespaceOf(booksKey: string): string {
  return booksKey.slice(0, booksKey.indexOf('/'))
}

function totalsOf({ conversations, spend, cost, alerts, resolutions }: TierTraffic): TierTotals {
  const { total, turns, byRung } = conversations
  const { started, assumed, confirmed, reversed, costPer = null } = resolutions
  const outcomes = { started, ...(assumed === undefined ? {} : { assumed }), confirmed, reversed, costPer }
  return { conversations: total, turns, byRung, ...spend, cost, alerts, resolutions: outcomes }
}

function knownTraffic(status: ConversationBudgetStatus | undefined): Partial<BudgetTraffic> {
  if (status === undefined) return {}
  const { conversations, spend, cost, alerts, resolutions, tiers } = status
  const known = { conversations, spend, cost, alerts, resolutions, tiers }
  return Object.fromEntries(Object.entries(known).filter(([, value]) => value !== undefined))
}

/** What only reports can tell stays as it was said, while the config is the one that it was said of. */
function withKnown(findings: readonly Finding[], before: ConversationBudgetStatus, config: SidecarConfig | null): readonly Finding[] {
  const known = findingsOf(before.conditions ?? [])
  const isSame = before.config?.hash === config?.hash
  return findings.map((finding) => {
    const mayKeep = finding.type === 'Programmed' ? isSame && finding.status === 'True' : BY_REPORTS.has(finding.type)
    return (mayKeep ? known.find(({ type }) => type === finding.type) : undefined) ?? finding
  })
}

const BY_REPORTS: ReadonlySet<Finding['type']> = new Set(['Enforced', 'Coordinated', 'UsageFresh'])

type Workloads = NonNullable<ConversationBudgetStatus['workloads']>

function withKnownCounts(workloads: Workloads, before: Workloads | undefined): Workloads {
  const { worst, ...counts } = workloads
  const judged = (worst ?? []).filter(({ trouble }) => trouble !== 'Stale')
  return {
    ...counts,
    ...(before === undefined ? { stale: 0 } : { inSync: before.inSync, nacked: before.nacked, stale: before.stale }),
    ...(judged.length === 0 ? {} : { worst: judged }),
  }
}

function tiersByNamespace(budgets: readonly ConversationBudget[]): ReadonlyMap<string, ReadonlySet<string>> {
  const tiers = new Map<string, Set<string>>()
  for (const budget of budgets) {
    const namespace = budget.metadata.namespace ?? 'default'
    const known = tiers.get(namespace) ?? new Set()
    for (const tier of tiersOf(budget)) known.add(tier)
    tiers.set(namespace, known)
  }
  return tiers
}

/** Names may be long: pods are left out, the least bad first, and then tiers, the cheapest first, until the status is small enough. */
function bounded(status: ConversationBudgetStatus): ConversationBudgetStatus {
  let fitting = status
  while (Buffer.byteLength(JSON.stringify(fitting)) > STATUS_BYTES_MAX) {
    const { workloads, tiers } = fitting
    if (workloads?.worst !== undefined && workloads.worst.length > 0)
      fitting = { ...fitting, workloads: { ...workloads, worst: workloads.worst.slice(0, -1) } }
    else if (tiers !== undefined && tiers.length > 0) fitting = { ...fitting, tiers: tiers.slice(0, -1) }
    else return fitting
  }
  return fitting
}
