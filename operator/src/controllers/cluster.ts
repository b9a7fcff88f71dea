/**
 * What every replica knows of the cluster, from caches alone: our three kinds, checked; pods, namespaces and nodes by their metadata; the
 * config maps that are ours; and the few objects of our own installation.
 */
import { budgetInPart } from '@farebox/crds/budget-in-part.ts'
import { LABELS, MANAGED_BY } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { PriceBook } from '@farebox/crds/price-book.ts'
import type { PricingTier } from '@farebox/crds/pricing-tier.ts'
import { isDeepStrictEqual } from 'node:util'
import { budgetKey, byAge } from '../core/same-pods.ts'
import type { Snapshot } from '../core/compile.ts'
import { configMapName } from '../core/config-map-name.ts'
import { selecting } from '../core/governance.ts'
import { notStartingFor } from '../core/not-starting.ts'
import type { NotStarting } from '../core/not-starting.ts'
import type { OldNode } from '../core/old-node.ts'
import { leavesOut, namespaceSelectorsOf } from '../core/webhook-namespaces.ts'
import type { NamespaceSelectors } from '../core/webhook-namespaces.ts'
import type { Governing } from '../delivery/stream-hub.ts'
import type { PodIdentity } from '../delivery/token-verifier.ts'
import type { KubeObject, ObjectMeta, Resource } from '../kube/kube.ts'
import { Reflector } from '../kube/reflector.ts'
import type { ReflectorOptions, ReflectorProblem } from '../kube/reflector.ts'
import {
  CONFIG_MAPS,
  CONVERSATION_BUDGETS,
  MUTATING_WEBHOOK_CONFIGURATIONS,
  NAMESPACES,
  NODES,
  PODS,
  PRICE_BOOKS,
  PRICING_TIERS,
  SECRETS,
} from '../kube/resources.ts'
import { configMapOf, notUnderstood, oldNodeOf, parseAs, understood } from './known.ts'
import type { Known, KnownConfigMap } from './known.ts'
import { storeSecretOf } from './store-secret.ts'

export type Change =
  /** Something that configs are compiled from. */
  | { readonly what: 'Policy'; readonly resource: Resource; readonly key: string; readonly isGone: boolean }
  /** An object of ours, otherwise: its status, its labels. */
  | { readonly what: 'Other' }
  | { readonly what: 'ConfigMap'; readonly namespace: string; readonly key: string; readonly isGone: boolean }
  | {
      readonly what: 'Pod'
      readonly namespace: string
      readonly goneUid: string | undefined
      readonly isNew: boolean
      readonly key: string
    }
  | { readonly what: 'Namespace'; readonly name: string }
  | { readonly what: 'Certificate' }
  | { readonly what: 'Webhook' }
  | { readonly what: 'StoreSecret' }

export interface ClusterOptions {
  readonly kube: ReflectorOptions<unknown>['kube']
  /** Ours. */
  readonly namespace: string
  readonly tlsSecret: string
  readonly storeSecret: string
  readonly webhookName: string
  /** Called at once, in order: only note what there is to do. */
  readonly onChange: (change: Change) => void
  readonly onProblem: (problem: ReflectorProblem) => void
}

interface PolicyChange {
  readonly resource: Resource
  readonly key: string
  readonly before: Known<unknown> | undefined
  readonly after: Known<unknown> | undefined
}

type Supervised = Pick<Reflector<never>, 'start' | 'stop' | 'synced' | 'hasSynced' | 'lastEventAgeMs'>

/** A pod that has ended does nothing any more. */
const LIVING_PODS = 'status.phase!=Succeeded,status.phase!=Failed'
/** It waits for a node, for an image, or for its sidecar to have started. Metadata alone does not tell. */
const PENDING_PODS = 'status.phase=Pending'
/** The API server gives each namespace this label. */
const NAMESPACE_NAME = 'kubernetes.io/metadata.name'
const BY_VERSION = new Intl.Collator('en', { numeric: true })

/** A pod that has not started, and how our container keeps it from that. */
interface Pending {
  readonly uid: string | undefined
  readonly notStarting: NotStarting | null
}

/**
 * Owns a watch of each kind, from `start` to `stop`: before `synced` it knows nothing for certain, and from then on it answers from memory,
 * without a call and without a throw. What it hands out is replaced, never changed.
 */
export class Cluster {
  readonly tiers: Reflector<Known<PricingTier>>
  readonly books: Reflector<Known<PriceBook>>
  readonly budgets: Reflector<Known<ConversationBudget>>
  readonly pods: Reflector<KubeObject>
  readonly namespaces: Reflector<KubeObject>
  readonly configMaps: Reflector<KnownConfigMap>
  readonly tls: Reflector<KubeObject>
  readonly store: Reflector<KubeObject>
  readonly webhooks: Reflector<KubeObject>
  /** Null: it can run sidecars. */
  readonly nodes: Reflector<OldNode | null>
  /** Each pod that has not started. */
  readonly #pending: Reflector<Pending>
  /** By uid, of those that this replica saw start. */
  readonly #startedMs = new Map<string, number>()
  /** By what metrics call them. */
  readonly #all: ReadonlyMap<string, Supervised>
  readonly #podsByNamespace = new Map<string, Map<string, KubeObject>>()
  /** Those that stay, by namespace, as far as they were understood: what is asked for at each admission. */
  readonly #budgetsByNamespace = new Map<string, Map<string, ConversationBudget>>()
  /** By namespace and key, the names of those that stay and of which not even that is known which pods they select. */
  readonly #unreadableByNamespace = new Map<string, Map<string, string>>()
  /** The budgets, the oldest first; absent: nobody has asked since one of them changed. */
  readonly #budgetsByAge = new Map<string, readonly ConversationBudget[]>()
  /** By pod, for as long as pod and budgets are these. */
  readonly #selecting = new WeakMap<
    KubeObject,
    { readonly among: readonly ConversationBudget[]; readonly budgets: readonly ConversationBudget[] }
  >()
  readonly #tell: (change: Change) => void
  #lastStore: KubeObject | null = null
  #askedAbout: NamespaceSelectors = []
  /** Null: not known since a node changed. */
  #oldNodes: readonly OldNode[] | null = null

  constructor({ kube, namespace, tlsSecret, storeSecret, webhookName, onChange, onProblem }: ClusterOptions) {
    this.#tell = onChange
    const shared = { kube, onProblem }
    const ofOurs = { ...shared, namespace, resource: SECRETS, parse: whole }
    this.tiers = new Reflector({
      ...shared,
      resource: PRICING_TIERS,
      parse: parseAs('PricingTier'),
      onChange: (key, before, after) => this.#policyChanged({ resource: PRICING_TIERS, key, before, after }),
    })
    this.books = new Reflector({
      ...shared,
      resource: PRICE_BOOKS,
      parse: parseAs('PriceBook'),
      onChange: (key, before, after) => this.#policyChanged({ resource: PRICE_BOOKS, key, before, after }),
    })
    this.budgets = new Reflector({
      ...shared,
      resource: CONVERSATION_BUDGETS,
      parse: parseAs('ConversationBudget'),
      onChange: (key, before, after) => this.#budgetChanged(key, before, after),
    })
    this.pods = new Reflector({
      ...shared,
      resource: PODS,
      fieldSelector: LIVING_PODS,
      metadataOnly: true,
      parse: whole,
      onChange: (key, before, after) => this.#podChanged(key, before, after),
    })
    this.#pending = new Reflector({
      ...shared,
      resource: PODS,
      fieldSelector: PENDING_PODS,
      parse: ({ metadata, status }) => ({ uid: metadata.uid, notStarting: notStartingFor(status) }),
      onChange: (key, before, after) => this.#pendingChanged(key, before, after),
    })
    this.namespaces = new Reflector({
      ...shared,
      resource: NAMESPACES,
      metadataOnly: true,
      parse: whole,
      onChange: (key, before, after) => this.#namespaceChanged(key, before, after),
    })
    this.configMaps = new Reflector({
      ...shared,
      resource: CONFIG_MAPS,
      labelSelector: `${LABELS.managedBy}=${MANAGED_BY}`,
      hasLargeObjects: true,
      parse: configMapOf,
      onChange: (key, before, after) => this.#configMapChanged(key, before, after),
    })
    this.tls = new Reflector({ ...ofOurs, fieldSelector: named(tlsSecret), onChange: () => onChange({ what: 'Certificate' }) })
    this.store = new Reflector({
      ...ofOurs,
      fieldSelector: named(storeSecret),
      onChange: (_, _before, after) => this.#storeSecretChanged(after),
    })
    this.webhooks = new Reflector({
      ...shared,
      resource: MUTATING_WEBHOOK_CONFIGURATIONS,
      fieldSelector: named(webhookName),
      parse: whole,
      onChange: (_, _before, after) => this.#webhookChanged(after),
    })
    this.nodes = new Reflector({
      ...shared,
      resource: NODES,
      parse: oldNodeOf,
      onChange: (_, before, after) => this.#nodeChanged(before, after),
    })
    this.#all = new Map<string, Supervised>([
      ['pricingtiers', this.tiers],
      ['pricebooks', this.books],
      ['conversationbudgets', this.budgets],
      ['pods', this.pods],
      ['pods/pending', this.#pending],
      ['namespaces', this.namespaces],
      ['nodes', this.nodes],
      ['configmaps', this.configMaps],
      ['secrets/tls', this.tls],
      ['secrets/store', this.store],
      ['mutatingwebhookconfigurations', this.webhooks],
    ])
  }

  start(): void {
    for (const reflector of this.#all.values()) reflector.start()
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#all.values()].map((reflector) => reflector.stop()))
  }

  /** When all that there was is known. */
  async synced(): Promise<void> {
    await Promise.all([...this.#all.values()].map(({ synced }) => synced))
  }

  get hasSynced(): boolean {
    return [...this.#all.values()].every(({ hasSynced }) => hasSynced)
  }

  /** The Secret of the store as it was when it last held what it must, be it gone since; null: this replica never saw it so. */
  get lastStore(): KubeObject | null {
    return this.#lastStore
  }

  /** Plurals of all that is watched. */
  get watched(): ReadonlySet<string> {
    return new Set([...this.#all.keys()].map((name) => name.split('/', 1)[0] ?? name))
  }

  /** Since anything came of each, in ms. */
  watchAgesMs(): ReadonlyMap<string, number> {
    return new Map([...this.#all].map(([name, { lastEventAgeMs }]) => [name, lastEventAgeMs]))
  }

  /** What there is to compile: all that is not being deleted. */
  snapshot(): Snapshot {
    return {
      tiers: understood(this.tiers.values()),
      budgets: [...this.#budgetsByNamespace.values()].flatMap((those) => [...those.values()]),
      priceBooks: understood(this.books.values()),
      notUnderstood: {
        tiers: notUnderstood(this.tiers.values()),
        budgets: [...this.budgets.values()].flatMap((known) => {
          const budget = this.budgetOf(known.object.metadata)
          return budget === null ? [] : notUnderstood([known]).map(({ problems }) => ({ name: budgetKey(budget), problems }))
        }),
        priceBooks: notUnderstood(this.books.values()),
      },
    }
  }

  /** Of all namespaces that have budgets. */
  namespacesWithBudgets(): Iterable<string> {
    return this.#budgetsByNamespace.keys()
  }

  hasBudgets(namespace: string): boolean {
    return this.#budgetsByNamespace.has(namespace)
  }

  /**
   * Those that govern. One that this version does not understand keeps its place, as far as it can be read: else its pods would start
   * without sidecars, or another budget would take them over.
   */
  budgetsOf(namespace: string): Iterable<ConversationBudget> {
    return this.#budgetsByNamespace.get(namespace)?.values() ?? []
  }

  /** Null: it is not there, or going, or nothing of it could be read. */
  budgetOf({ namespace = '', name }: { readonly namespace?: string | undefined; readonly name: string }): ConversationBudget | null {
    return this.#budgetsByNamespace.get(namespace)?.get(`${namespace}/${name}`) ?? null
  }

  /** Names of budgets of which nobody knows which pods they select. */
  unreadableIn(namespace: string): readonly string[] {
    return [...(this.#unreadableByNamespace.get(namespace)?.values() ?? [])]
  }

  podsOf(namespace: string): Iterable<KubeObject> {
    return this.#podsByNamespace.get(namespace)?.values() ?? []
  }

  /** Null: none does. */
  governingOf(pod: KubeObject): ConversationBudget | null {
    return this.selectingOf(pod)[0] ?? null
  }

  /** The budgets that select the pod, the oldest first: that one governs it. */
  selectingOf(pod: KubeObject): readonly ConversationBudget[] {
    const { metadata } = pod
    const { namespace = '', labels = {} } = metadata
    const among = this.#byAge(namespace)
    const known = this.#selecting.get(pod)
    if (known?.among === among) return known.budgets
    const budgets = selecting(labels, among)
    this.#selecting.set(pod, { among, budgets })
    return budgets
  }

  /** What its sidecar is to be told. A config that another version wrote is as good as it was: sidecars that cannot read it refuse it. */
  configFor({ namespace, name, uid }: PodIdentity): Governing {
    const pod = this.pods.get(`${namespace}/${name}`)
    if (pod === undefined || pod.metadata.uid !== uid) return { status: 'pending' }
    const budget = this.governingOf(pod)
    // It may be that of a budget of which nothing can be read.
    if (budget === null) return { status: this.unreadableIn(namespace).length > 0 ? 'pending' : 'released' }
    const owner = this.budgets.get(budgetKey(budget))?.object.metadata.uid
    const written = this.configMaps.get(`${namespace}/${configMapName(budget.metadata.name)}`)
    const isOurs = written?.object.metadata.ownerReferences?.some((reference) => reference.uid === owner) === true
    if (!isOurs || written.stream === null || written.name === null) return { status: 'pending' }
    return { status: 'governed', config: written.stream }
  }

  /** Those that cannot run sidecars, the oldest first. Asked at each admission. */
  oldNodes(): readonly OldNode[] {
    this.#oldNodes ??= [...this.nodes.values()].filter((node) => node !== null).toSorted((a, b) => BY_VERSION.compare(a.kubelet, b.kubelet))
    return this.#oldNodes
  }

  /** From when on a sidecar of the pod may speak, as far as this replica knows; null: the pod has not started. */
  startedMs({ namespace = '', name, uid = '', creationTimestamp = '' }: ObjectMeta): number | null {
    if (this.#pending.get(`${namespace}/${name}`)?.uid === uid) return null
    return this.#startedMs.get(uid) ?? Date.parse(creationTimestamp)
  }

  /** How the container that we added keeps the pod from starting; null: it does not. */
  notStarting({ namespace = '', name, uid = '' }: ObjectMeta): NotStarting | null {
    const pending = this.#pending.get(`${namespace}/${name}`)
    return pending?.uid === uid ? pending.notStarting : null
  }

  /** A namespace that goes takes what is in it along, and refuses what is new. */
  isGoing(namespace: string): boolean {
    const known = this.namespaces.get(namespace)
    return known === undefined || known.metadata.deletionTimestamp !== undefined
  }

  /** The webhook is not asked about pods of this namespace. */
  isExcluded(namespace: string): boolean {
    return leavesOut(this.#askedAbout, { [NAMESPACE_NAME]: namespace, ...this.namespaces.get(namespace)?.metadata.labels })
  }

  #byAge(namespace: string): readonly ConversationBudget[] {
    const known = this.#budgetsByAge.get(namespace)
    if (known !== undefined) return known
    const budgets = [...this.budgetsOf(namespace)].toSorted(byAge)
    if (budgets.length > 0) this.#budgetsByAge.set(namespace, budgets)
    return budgets
  }

  #policyChanged({ resource, key, before, after }: PolicyChange): void {
    const isSame = before !== undefined && after !== undefined && isSamePolicy(before.object.metadata, after.object.metadata)
    this.#tell(isSame ? { what: 'Other' } : { what: 'Policy', resource, key, isGone: after === undefined })
  }

  #budgetChanged(key: string, before: Known<ConversationBudget> | undefined, after: Known<ConversationBudget> | undefined): void {
    const { namespace = '', name = '' } = (after ?? before)?.object.metadata ?? {}
    const last = this.budgetOf({ namespace, name })
    const stays = after !== undefined && after.object.metadata.deletionTimestamp === undefined
    const now = stays ? asFarAsUnderstood(after, last) : null
    keep(this.#budgetsByNamespace, namespace, key, now ?? undefined)
    keep(this.#unreadableByNamespace, namespace, key, stays && now === null ? name : undefined)
    // A new status does not move a pod.
    const isSame = before !== undefined && stays && isSamePolicy(before.object.metadata, after.object.metadata)
    if (!isSame || last === null || now === null) this.#budgetsByAge.delete(namespace)
    this.#policyChanged({ resource: CONVERSATION_BUDGETS, key, before, after })
  }

  #podChanged(key: string, before: KubeObject | undefined, after: KubeObject | undefined): void {
    const { namespace = '' } = (after ?? before)?.metadata ?? {}
    keep(this.#podsByNamespace, namespace, key, after)
    // The kubelet says of each pod again and again how it is: that is nothing to us.
    if (before !== undefined && after !== undefined && isSamePod(before.metadata, after.metadata)) return
    const goneUid = after === undefined ? before?.metadata.uid : undefined
    if (before?.metadata.uid !== after?.metadata.uid) this.#startedMs.delete(before?.metadata.uid ?? '')
    this.#tell({ what: 'Pod', namespace, goneUid, isNew: before === undefined, key })
  }

  /** What is pending no more has started, now. */
  #pendingChanged(key: string, before: Pending | undefined, after: Pending | undefined): void {
    if ((before?.notStarting ?? null) !== (after?.notStarting ?? null)) this.#tell({ what: 'Other' })
    const uid = before?.uid
    if (uid === undefined || uid === after?.uid || this.pods.get(key)?.metadata.uid !== uid) return
    this.#startedMs.set(uid, Date.now())
  }

  #namespaceChanged(name: string, before: KubeObject | undefined, after: KubeObject | undefined): void {
    if (before?.metadata.deletionTimestamp !== after?.metadata.deletionTimestamp || before === undefined || after === undefined)
      this.#tell({ what: 'Namespace', name })
  }

  #configMapChanged(key: string, before: KnownConfigMap | undefined, after: KnownConfigMap | undefined): void {
    const { namespace = '' } = (after ?? before)?.object.metadata ?? {}
    this.#tell({ what: 'ConfigMap', namespace, key, isGone: after === undefined })
  }

  #storeSecretChanged(after: KubeObject | undefined): void {
    if (after !== undefined && storeSecretOf(after) !== null) this.#lastStore = after
    this.#tell({ what: 'StoreSecret' })
  }

  #webhookChanged(after: KubeObject | undefined): void {
    this.#askedAbout = namespaceSelectorsOf(after)
    this.#tell({ what: 'Webhook' })
  }

  #nodeChanged(before: OldNode | null | undefined, after: OldNode | null | undefined): void {
    if (!isDeepStrictEqual(before ?? null, after ?? null)) this.#oldNodes = null
  }
}

/**
 * `last`: what was understood under its name, be it of this object or of one that had the name before. Null: nothing is, or it never was, and
 * no config of it is in force: then it has no place to keep.
 */
function asFarAsUnderstood({ object, checked }: Known<ConversationBudget>, last: ConversationBudget | null): ConversationBudget | null {
  if (checked.status === 'ok') return checked.value
  const before = last?.metadata['uid'] === object.metadata.uid ? last : null
  const part = budgetInPart(object, before)
  return before === null && part?.status?.config === undefined ? null : part
}

function whole(object: KubeObject): KubeObject {
  return object
}

/** A field selector. */
function named(name: string): string {
  return `metadata.name=${name}`
}

/** By all that is read of a pod. */
function isSamePod(a: ObjectMeta, b: ObjectMeta): boolean {
  return (
    a.uid === b.uid &&
    a.deletionTimestamp === b.deletionTimestamp &&
    isDeepStrictEqual(a.labels, b.labels) &&
    isDeepStrictEqual(a.annotations, b.annotations)
  )
}

function isSamePolicy(a: ObjectMeta, b: ObjectMeta): boolean {
  return a.uid === b.uid && a.generation === b.generation && a.deletionTimestamp === b.deletionTimestamp
}

function keep<T>(byNamespace: Map<string, Map<string, T>>, namespace: string | undefined, key: string, value: T | undefined): void {
  if (namespace === undefined) return
  const those = byNamespace.get(namespace) ?? new Map<string, T>()
  if (value === undefined) those.delete(key)
  else those.set(key, value)
  if (those.size === 0) byNamespace.delete(namespace)
  else byNamespace.set(namespace, those)
}
