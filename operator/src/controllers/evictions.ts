/**
 * Where a budget requires sidecars a pod may still come without one: while an API server starts, policies that read objects of ours let
 * everything in. Such pods are evicted, in each namespace one after the other, and what made them makes them anew.
 */
import { SIDECAR_CONTAINER } from '@farebox/crds/cluster.ts'
import * as z from 'zod'
import { messageOf } from '../core/error-text.ts'
import { namespaceOf } from '../core/same-pods.ts'
import { askingOf, isInjected, skipReason } from '../core/workloads.ts'
import type { EventRecorder } from '../kube/events.ts'
import { KubeError } from '../kube/kube.ts'
import type { KubeClient, KubeObject } from '../kube/kube.ts'
import type { WorkResult } from '../kube/queue.ts'
import { PODS } from '../kube/resources.ts'
import type { Log } from '../telemetry/log.ts'
import type { Cluster } from './cluster.ts'
import { EVENT_REASONS } from './event-reasons.ts'
import type { EventReason } from './event-reasons.ts'
import { inBatches } from './in-batches.ts'
import { subjectOf } from './pod-events.ts'

/** Of each namespace one pod in this time. */
const EVICT_EVERY_MS = 5_000
const AT_ONCE = 2
const PROBE_NAME = 'farebox-eviction-check'
/** These make another pod in the place of one that goes. A Job would begin its work anew, and a pod of nobody would be gone. */
const REPLACING: ReadonlySet<string> = new Set(['ReplicaSet', 'StatefulSet', 'DaemonSet'])
const APPS = /^apps\//

const WithSpec = z.object({ spec: z.looseObject({ initContainers: z.array(z.object({ name: z.string() })).optional() }) })

export interface EvictionsOptions {
  readonly cluster: Cluster
  readonly client: KubeClient
  readonly events: EventRecorder<EventReason>
  readonly steadyMs: () => number
  readonly log: Log
}

export class Evictions {
  readonly #options: EvictionsOptions
  /** By namespace, when the next pod may go. */
  readonly #dueMs = new Map<string, number>()
  /** By namespace, the uids of those whose turn it was since all had theirs. */
  readonly #tried = new Map<string, Set<string>>()

  constructor(options: EvictionsOptions) {
    this.#options = options
  }

  /** Evicts at most one pod of each namespace that has such, and of none sooner than is due. Wants to be asked again while there are any. */
  async reconcile(): Promise<WorkResult> {
    const { cluster, steadyMs } = this.#options
    const nowMs = steadyMs()
    const demanding = [...cluster.namespacesWithBudgets()].filter((namespace) => this.#hasMissed(namespace))
    for (const namespace of this.#dueMs.keys())
      if (!demanding.includes(namespace)) {
        this.#dueMs.delete(namespace)
        this.#tried.delete(namespace)
      }
    const due = demanding.filter((namespace) => nowMs >= (this.#dueMs.get(namespace) ?? 0))
    await inBatches(due, AT_ONCE, async (namespace) => {
      this.#dueMs.set(namespace, nowMs + EVICT_EVERY_MS)
      const pod = this.#next(namespace)
      if (pod !== null) await this.#evict(pod)
    })
    return demanding.length === 0 ? {} : { againAfterMs: EVICT_EVERY_MS }
  }

  #hasMissed(namespace: string): boolean {
    const { cluster } = this.#options
    return !cluster.isGoing(namespace) && this.#missedIn(namespace).length > 0
  }

  #missedIn(namespace: string): readonly KubeObject[] {
    return [...this.#options.cluster.podsOf(namespace)].filter((pod) => replacerOf(pod) !== null && this.#isMissed(pod))
  }

  /** Null: none may go before the one that came in the place of the last has started. One that may not go now is in nobody's way. */
  #next(namespace: string): KubeObject | null {
    const { cluster } = this.#options
    const coming = new Set(
      [...cluster.podsOf(namespace)]
        .filter(({ metadata }) => isInjected(metadata) && cluster.startedMs(metadata) === null)
        .map((pod) => replacerOf(pod)),
    )
    const may = this.#missedIn(namespace).filter((pod) => !coming.has(replacerOf(pod)))
    const tried = this.#tried.get(namespace)
    const next = may.find(({ metadata }) => tried?.has(metadata.uid ?? '') !== true) ?? may[0]
    if (next === undefined) return null
    const uid = next.metadata.uid ?? ''
    if (tried === undefined || tried.has(uid)) this.#tried.set(namespace, new Set([uid]))
    else tried.add(uid)
    return next
  }

  #isMissed(pod: KubeObject): boolean {
    const { cluster } = this.#options
    if (pod.metadata.deletionTimestamp !== undefined || isInjected(pod.metadata)) return false
    const budget = cluster.governingOf(pod)
    if (budget?.spec.injection.mode !== 'Required') return false
    return skipReason(pod.metadata, askingOf(budget, cluster.isExcluded(namespaceOf(budget)))) === 'Missed'
  }

  /** Only where a pod just like it would come with a sidecar now: else the one that goes would be missing. */
  async #evict({ metadata }: KubeObject): Promise<void> {
    const { client, events, log } = this.#options
    const { name, namespace = '', uid = '' } = metadata
    const told = { namespace, pod: name }
    try {
      if (!(await this.#wouldBeInjected(name, namespace))) return
      await client.evict({ name, namespace, uid })
    } catch (error) {
      if (!(error instanceof KubeError)) throw error
      // As its disruption budget has it, or a policy of somebody: it is tried again.
      log.debug({ ...told, err: messageOf(error) }, 'a pod without its sidecar could not be evicted')
      return
    }
    log.info(told, 'a pod without the sidecar that its budget requires was evicted')
    const note = `pod ${name} came without the sidecar that its budget requires, and was evicted to come again with one`
    events.record({ regarding: subjectOf(metadata), type: 'Warning', reason: EVENT_REASONS.evicted, action: 'Evict', note })
  }

  /** Proved by a dry run of its own spec, but for what it got since it was made. Rejects where that is refused. */
  async #wouldBeInjected(name: string, namespace: string): Promise<boolean> {
    const { client } = this.#options
    const found = await client.get(PODS, name, namespace)
    if (found === null) return false
    const { nodeName: _, ephemeralContainers: __, schedulingGates: ___, ...spec } = WithSpec.parse(found).spec
    const { labels = {}, annotations = {} } = found.metadata
    const metadata = { name: PROBE_NAME, namespace, labels, annotations }
    const made = WithSpec.parse(await client.create(PODS, { apiVersion: 'v1', kind: 'Pod', metadata, spec }, { dryRun: true }))
    return made.spec.initContainers?.some((container) => container.name === SIDECAR_CONTAINER) === true
  }
}

/** The uid of what makes another pod in its place; null: nothing does. */
function replacerOf({ metadata: { ownerReferences = [] } }: KubeObject): string | null {
  const owner = ownerReferences.find(
    ({ controller, kind, apiVersion }) => controller === true && REPLACING.has(kind) && APPS.test(apiVersion),
  )
  return owner?.uid ?? null
}
