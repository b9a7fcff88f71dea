/**
 * Where a budget requires sidecars a pod may still come without one: while an API server starts, policies that read objects of ours let
 * everything in. Such pods are evicted, a few at a time, and what made them makes them anew.
 */
import { SIDECAR_CONTAINER } from '@farebox/crds/cluster.ts'
import * as z from 'zod'
import { messageOf } from '../core/error-text.ts'
import { GATE_RESOURCES, ordinaryPod } from '../core/gate-pod.ts'
import { namespaceOf } from '../core/same-pods.ts'
import type { Labels } from '../core/selector.ts'
import { askingOf, isInjected, skipReason } from '../core/workloads.ts'
import type { EventRecorder } from '../kube/events.ts'
import { isRefusal, KubeError } from '../kube/kube.ts'
import type { KubeClient, KubeObject } from '../kube/kube.ts'
import type { WorkResult } from '../kube/queue.ts'
import { PODS } from '../kube/resources.ts'
import type { Log } from '../telemetry/log.ts'
import type { Cluster } from './cluster.ts'
import { EVENT_REASONS } from './event-reasons.ts'
import type { EventReason } from './event-reasons.ts'
import { inBatches } from './in-batches.ts'
import { subjectOf } from './pod-events.ts'

/** Of each namespace one pod in this time: its successor is on its way before the next one goes. */
const EVICT_EVERY_MS = 5_000
const AT_ONCE = 2
const PROBE_NAME = 'farebox-eviction-check'
/** These make another pod in the place of one that goes. A Job would begin its work anew, and a pod of nobody would be gone. */
const REPLACING: ReadonlySet<string> = new Set(['ReplicaSet', 'StatefulSet', 'DaemonSet'])
const APPS = /^apps\//

const WithContainers = z.object({ spec: z.object({ initContainers: z.array(z.object({ name: z.string() })).optional() }) })

export interface EvictionsOptions {
  readonly cluster: Cluster
  readonly client: KubeClient
  readonly events: EventRecorder<EventReason>
  readonly log: Log
}

export class Evictions {
  readonly #options: EvictionsOptions
  /** By namespace, the uids of those whose turn it was since all had theirs. */
  readonly #tried = new Map<string, Set<string>>()

  constructor(options: EvictionsOptions) {
    this.#options = options
  }

  /** Evicts one pod of each namespace that has such. Wants to be asked again while there are any. */
  async reconcile(): Promise<WorkResult> {
    const { cluster } = this.#options
    const missed = [...cluster.namespacesWithBudgets()].flatMap((namespace) => this.#nextMissed(namespace) ?? [])
    await inBatches(missed, AT_ONCE, (pod) => this.#evict(pod))
    return missed.length === 0 ? {} : { againAfterMs: EVICT_EVERY_MS }
  }

  /** Null: there is none. One that may not go now is in nobody's way. */
  #nextMissed(namespace: string): KubeObject | null {
    const { cluster } = this.#options
    if (cluster.isGoing(namespace)) return null
    const missed = [...cluster.podsOf(namespace)].filter((pod) => this.#isMissed(pod) && isReplaced(pod))
    const tried = this.#tried.get(namespace)
    const next = missed.find(({ metadata }) => tried?.has(metadata.uid ?? '') !== true) ?? missed[0]
    if (next === undefined) {
      this.#tried.delete(namespace)
      return null
    }
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

  /** Only where a pod like it would come with a sidecar now: else the one that goes would be missing. */
  async #evict({ metadata }: KubeObject): Promise<void> {
    const { client, events, log } = this.#options
    const { name, namespace = '', uid = '', labels = {} } = metadata
    const told = { namespace, pod: name }
    try {
      if (!(await this.#wouldBeInjected(namespace, labels))) return
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

  /** Proved by a dry run. */
  async #wouldBeInjected(namespace: string, labels: Labels): Promise<boolean> {
    for (const resources of GATE_RESOURCES) {
      const { spec } = ordinaryPod(labels, resources)
      const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: PROBE_NAME, namespace, labels }, spec }
      try {
        const { initContainers = [] } = WithContainers.parse(await this.#options.client.create(PODS, pod, { dryRun: true })).spec
        return initContainers.some(({ name }) => name === SIDECAR_CONTAINER)
      } catch (error) {
        if (!isRefusal(error)) throw error
      }
    }
    return false
  }
}

/** By what owns it. */
function isReplaced({ metadata: { ownerReferences = [] } }: KubeObject): boolean {
  return ownerReferences.some(({ controller, kind, apiVersion }) => controller === true && REPLACING.has(kind) && APPS.test(apiVersion))
}
