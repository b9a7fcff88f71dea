/**
 * What every replica knows of the cluster, from caches alone: our three kinds, checked; pods, namespaces and nodes by their metadata; the
 * config maps that are ours; and the few objects of our own installation.
 */
import { CONFIG_KEYS, LABELS, MANAGED_BY } from '@farebox/crds/cluster.ts'
import { checkObject } from '@farebox/crds/check.ts'
import type { FareboxObject, Problem } from '@farebox/crds/check.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { PriceBook } from '@farebox/crds/price-book.ts'
import type { PricingTier } from '@farebox/crds/pricing-tier.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { isDeepStrictEqual } from 'node:util'
import * as z from 'zod'
import { budgetKey, byAge } from '../core/same-pods.ts'
import type { ConfigName, Snapshot } from '../core/compile.ts'
import { configMapName } from '../core/config-map-name.ts'
import { configNameOf, configOfText } from '../core/config-text.ts'
import { selecting } from '../core/governance.ts'
import type { NotUnderstood } from '../core/not-understood.ts'
import { isTooOld } from '../core/old-node.ts'
import type { OldNode } from '../core/old-node.ts'
import { streamConfigOf } from '../delivery/stream-hub.ts'
import type { Governing, StreamConfig } from '../delivery/stream-hub.ts'
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
import { storeSecretOf } from './store-secret.ts'

/** An object of one of our kinds, as the API server has it, and as what it was understood. */
export interface Known<T> {
  readonly object: KubeObject
  readonly checked: { readonly status: 'ok'; readonly value: T } | { readonly status: 'invalid'; readonly problems: readonly Problem[] }
}

/** A config map that we wrote, or that somebody has changed since. */
export interface KnownConfigMap {
  readonly object: KubeObject
  /** Null: it holds no config that this version would have written. */
  readonly config: SidecarConfig | null
  /** Of the config, which another version may have written. Null: it is none, or not the one that its hash says. */
  readonly name: ConfigName | null
  readonly stream: StreamConfig | null
}

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

type Supervised = Pick<Reflector<never>, 'start' | 'stop' | 'synced' | 'hasSynced' | 'lastEventAgeMs'>

/** A pod that has ended does nothing any more. */
const LIVING_PODS = 'status.phase!=Succeeded,status.phase!=Failed'
/** It waits for a node, for an image, or for its sidecar to have started. Metadata alone does not tell. */
const PENDING_PODS = 'status.phase=Pending'
const BY_VERSION = new Intl.Collator('en', { numeric: true })

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
  /** The uid of each pod that has not started. */
  readonly #pending: Reflector<string | undefined>
  /** By uid, of those that this replica saw start. */
  readonly #startedMs = new Map<string, number>()
  /** By what metrics call them. */
  readonly #all: ReadonlyMap<string, Supervised>
  readonly #podsByNamespace = new Map<string, Map<string, KubeObject>>()
  /** Those that were understood and stay, by namespace: what is asked for at each admission. */
  readonly #budgetsByNamespace = new Map<string, Map<string, ConversationBudget>>()
  /** The same, the oldest first; absent: nobody has asked since one of them changed. */
  readonly #budgetsByAge = new Map<string, readonly ConversationBudget[]>()
  /** By pod, for as long as pod and budgets are these. */
  readonly #selecting = new WeakMap<
    KubeObject,
    { readonly among: readonly ConversationBudget[]; readonly budgets: readonly ConversationBudget[] }
  >()
  #lastStore: KubeObject | null = null
  /** Null: not known since a node changed. */
  #oldNodes: readonly OldNode[] | null = null

  constructor(options: ClusterOptions) {
    const { onChange, onProblem, kube, namespace } = options
    const policy =
      <T>(resource: Resource) =>
      (key: string, before: Known<T> | undefined, after: Known<T> | undefined): void => {
        if (before !== undefined && after !== undefined && isSamePolicy(before.object.metadata, after.object.metadata))
          onChange({ what: 'Other' })
        else onChange({ what: 'Policy', resource, key, isGone: after === undefined })
      }
    const onBudget = policy<ConversationBudget>(CONVERSATION_BUDGETS)
    const named = (name: string): { readonly namespace: string; readonly fieldSelector: string } => ({
      namespace,
      fieldSelector: `metadata.name=${name}`,
    })
    const whole = (object: KubeObject): KubeObject => object
    this.tiers = new Reflector({
      kube,
      resource: PRICING_TIERS,
      parse: (object) => known(object, (value) => (value.kind === 'PricingTier' ? value : null)),
      onChange: policy(PRICING_TIERS),
      onProblem,
    })
    this.books = new Reflector({
      kube,
      resource: PRICE_BOOKS,
      parse: (object) => known(object, (value) => (value.kind === 'PriceBook' ? value : null)),
      onChange: policy(PRICE_BOOKS),
      onProblem,
    })
    this.budgets = new Reflector<Known<ConversationBudget>>({
      kube,
      resource: CONVERSATION_BUDGETS,
      parse: (object) => known(object, (value) => (value.kind === 'ConversationBudget' ? value : null)),
      onChange: (key, before, after) => {
        const metadata = (after ?? before)?.object.metadata
        const isThere = after?.checked.status === 'ok' && metadata?.deletionTimestamp === undefined
        keep(this.#budgetsByNamespace, metadata?.namespace, key, isThere ? after.checked.value : undefined)
        // A new status does not move a pod.
        const isSame = before?.checked.status === 'ok' && isThere && isSamePolicy(before.object.metadata, after.object.metadata)
        if (!isSame) this.#budgetsByAge.delete(metadata?.namespace ?? '')
        onBudget(key, before, after)
      },
      onProblem,
    })
    this.pods = new Reflector({
      kube,
      resource: PODS,
      fieldSelector: LIVING_PODS,
      metadataOnly: true,
      parse: whole,
      onChange: (key, before, after) => {
        const { namespace = '' } = (after ?? before)?.metadata ?? {}
        keep(this.#podsByNamespace, namespace, key, after)
        // The kubelet says of each pod again and again how it is: that is nothing to us.
        if (before !== undefined && after !== undefined && isSamePod(before.metadata, after.metadata)) return
        const goneUid = after === undefined ? before?.metadata.uid : undefined
        if (before?.metadata.uid !== after?.metadata.uid) this.#startedMs.delete(before?.metadata.uid ?? '')
        onChange({ what: 'Pod', namespace, goneUid, isNew: before === undefined, key })
      },
      onProblem,
    })
    this.#pending = new Reflector<string | undefined>({
      kube,
      resource: PODS,
      fieldSelector: PENDING_PODS,
      metadataOnly: true,
      parse: ({ metadata }) => metadata.uid,
      onChange: (key, before, after) => {
        if (before === undefined || before === after || this.pods.get(key)?.metadata.uid !== before) return
        this.#startedMs.set(before, Date.now())
      },
      onProblem,
    })
    this.namespaces = new Reflector({
      kube,
      resource: NAMESPACES,
      metadataOnly: true,
      parse: whole,
      onChange: (name, before, after) => {
        if (before?.metadata.deletionTimestamp !== after?.metadata.deletionTimestamp || before === undefined || after === undefined)
          onChange({ what: 'Namespace', name })
      },
      onProblem,
    })
    this.configMaps = new Reflector<KnownConfigMap>({
      kube,
      resource: CONFIG_MAPS,
      labelSelector: `${LABELS.managedBy}=${MANAGED_BY}`,
      parse: configMap,
      onChange: (key, before, after) => {
        const { namespace = '' } = (after ?? before)?.object.metadata ?? {}
        onChange({ what: 'ConfigMap', namespace, key, isGone: after === undefined })
      },
      onProblem,
    })
    this.tls = new Reflector({
      kube,
      resource: SECRETS,
      ...named(options.tlsSecret),
      parse: whole,
      onChange: () => onChange({ what: 'Certificate' }),
      onProblem,
    })
    this.store = new Reflector({
      kube,
      resource: SECRETS,
      ...named(options.storeSecret),
      parse: whole,
      onChange: (_, _before, after) => {
        if (after !== undefined && storeSecretOf(after) !== null) this.#lastStore = after
        onChange({ what: 'StoreSecret' })
      },
      onProblem,
    })
    this.webhooks = new Reflector({
      kube,
      resource: MUTATING_WEBHOOK_CONFIGURATIONS,
      fieldSelector: `metadata.name=${options.webhookName}`,
      parse: whole,
      onChange: () => onChange({ what: 'Webhook' }),
      onProblem,
    })
    this.nodes = new Reflector({
      kube,
      resource: NODES,
      parse: oldNode,
      onChange: (_, before, after) => {
        if (!isDeepStrictEqual(before ?? null, after ?? null)) this.#oldNodes = null
      },
      onProblem,
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

  /** Since anything came of each, in ms. */
  watchAgesMs(): ReadonlyMap<string, number> {
    return new Map([...this.#all].map(([name, { lastEventAgeMs }]) => [name, lastEventAgeMs]))
  }

  /** What there is to compile: all that is not being deleted. */
  snapshot(): Snapshot {
    return {
      tiers: understood(this.tiers),
      budgets: understood(this.budgets),
      priceBooks: understood(this.books),
      notUnderstood: { tiers: notUnderstood(this.tiers), priceBooks: notUnderstood(this.books) },
    }
  }

  /** Of all namespaces that have budgets. */
  namespacesWithBudgets(): Iterable<string> {
    return this.#budgetsByNamespace.keys()
  }

  hasBudgets(namespace: string): boolean {
    return this.#budgetsByNamespace.has(namespace)
  }

  budgetsOf(namespace: string): Iterable<ConversationBudget> {
    return this.#budgetsByNamespace.get(namespace)?.values() ?? []
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
    if (budget === null) return { status: 'released' }
    const owner = this.budgets.get(budgetKey(budget))?.object.metadata.uid
    const written = this.configMaps.get(`${namespace}/${configMapName(budget.metadata.name)}`)
    const isOurs = written?.object.metadata.ownerReferences?.some((reference) => reference.uid === owner) === true
    if (!isOurs || written.stream === null || written.name === null) return { status: 'pending' }
    return { status: 'governed', config: written.stream }
  }

  #byAge(namespace: string): readonly ConversationBudget[] {
    const known = this.#budgetsByAge.get(namespace)
    if (known !== undefined) return known
    const budgets = [...this.budgetsOf(namespace)].toSorted(byAge)
    if (budgets.length > 0) this.#budgetsByAge.set(namespace, budgets)
    return budgets
  }

  /** Those that cannot run sidecars, the oldest first. Asked at each admission. */
  oldNodes(): readonly OldNode[] {
    this.#oldNodes ??= [...this.nodes.values()].filter((node) => node !== null).toSorted((a, b) => BY_VERSION.compare(a.kubelet, b.kubelet))
    return this.#oldNodes
  }

  /** From when on a sidecar of the pod may speak, as far as this replica knows; null: the pod has not started. */
  startedMs({ namespace = '', name, uid = '', creationTimestamp = '' }: ObjectMeta): number | null {
    if (this.#pending.get(`${namespace}/${name}`) === uid) return null
    return this.#startedMs.get(uid) ?? Date.parse(creationTimestamp)
  }

  /** A namespace that goes takes what is in it along, and refuses what is new. */
  isGoing(namespace: string): boolean {
    const known = this.namespaces.get(namespace)
    return known === undefined || known.metadata.deletionTimestamp !== undefined
  }
}

function known<T extends FareboxObject>(object: KubeObject, ofKind: (value: FareboxObject) => T | null): Known<T> {
  const checked = checkObject(object)
  if (checked.status === 'invalid') return { object, checked }
  const value = ofKind(checked.value)
  return value === null
    ? { object, checked: { status: 'invalid', problems: [{ field: 'kind', message: `must be another than ${checked.value.kind}` }] } }
    : { object, checked: { status: 'ok', value } }
}

function oldNode({ metadata: { labels = {} }, status, spec }: KubeObject): OldNode | null {
  const kubelet = NodeStatus.safeParse(status).data?.nodeInfo.kubeletVersion ?? ''
  if (!isTooOld(kubelet)) return null
  return { kubelet, labels, taints: NodeSpec.safeParse(spec).data?.taints ?? [] }
}

const NodeStatus = z.object({ nodeInfo: z.object({ kubeletVersion: z.string() }) })
const NodeSpec = z.object({ taints: z.array(z.object({ key: z.string(), value: z.string().optional(), effect: z.string() })).optional() })

function configMap(object: KubeObject): KnownConfigMap {
  const { data } = object
  const text = typeof data === 'object' && data !== null && CONFIG_KEYS.config in data ? data[CONFIG_KEYS.config] : undefined
  if (typeof text !== 'string') return { object, config: null, name: null, stream: null }
  let config: SidecarConfig | null | undefined
  let name: ConfigName | null | undefined
  return {
    object,
    // Milliseconds and memory for each, which only the leader needs.
    get config() {
      if (config === undefined) config = configOfText(text)
      return config
    },
    get name() {
      if (name === undefined) name = configNameOf(text)
      return name
    },
    stream: streamConfigOf(text),
  }
}

function understood<T extends FareboxObject>(cache: Reflector<Known<T>>): readonly T[] {
  return [...cache.values()].flatMap(({ object, checked }) =>
    checked.status === 'ok' && object.metadata.deletionTimestamp === undefined ? [checked.value] : [],
  )
}

function notUnderstood<T extends FareboxObject>(cache: Reflector<Known<T>>): readonly NotUnderstood[] {
  return [...cache.values()].flatMap(({ object: { metadata }, checked }) =>
    checked.status === 'invalid' && metadata.deletionTimestamp === undefined ? [{ name: metadata.name, problems: checked.problems }] : [],
  )
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
  return a.generation === b.generation && a.deletionTimestamp === b.deletionTimestamp
}

function keep<T>(byNamespace: Map<string, Map<string, T>>, namespace: string | undefined, key: string, value: T | undefined): void {
  if (namespace === undefined) return
  const those = byNamespace.get(namespace) ?? new Map<string, T>()
  if (value === undefined) those.delete(key)
  else those.set(key, value)
  if (those.size === 0) byNamespace.delete(namespace)
  else byNamespace.set(namespace, those)
}
