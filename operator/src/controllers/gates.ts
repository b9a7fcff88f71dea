/**
 * Where a budget requires sidecars, an admission policy refuses pods without one, and it works while we are away. That it does is
 * proved, not believed: a pod without a sidecar is created as a dry run, and must be refused by that policy.
 */
import { isDeepStrictEqual } from 'node:util'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { GATE_RESOURCES, gatePod, labelsFor } from '../core/gate-pod.ts'
import type { Gate } from '../core/workloads.ts'
import { KubeError } from '../kube/kube.ts'
import type { KubeClient } from '../kube/kube.ts'
import { PODS } from '../kube/resources.ts'
import type { Cluster } from './cluster.ts'
import { inBatches } from './in-batches.ts'

const AT_ONCE = 2
const POD_NAME = 'farebox-gate-check'
/** Of a refusal, in a condition's message. */
const REASON_CHARS_MAX = 256
/** What a refusal by a policy says, whoever's it is; ours are called after us. */
const BY_POLICY = /ValidatingAdmissionPolicy '[^']*farebox[^']*'/

/** Remembers what the last look found. It never rejects: what could not be found out is as it was. */
export class Gates {
  readonly #cluster: Cluster
  readonly #client: KubeClient
  #known: ReadonlyMap<string, Gate> = new Map()

  constructor(cluster: Cluster, client: KubeClient) {
    this.#cluster = cluster
    this.#client = client
  }

  /** By namespace. */
  get known(): ReadonlyMap<string, Gate> {
    return this.#known
  }

  /** Tries each namespace whose budgets require sidecars. True: something is otherwise than it was. */
  async reconcile(): Promise<boolean> {
    const found = new Map<string, Gate>()
    const demanding = [...this.#cluster.namespacesWithBudgets()].flatMap((namespace) => {
      const required = [...this.#cluster.budgetsOf(namespace)].find(({ spec }) => spec.injection.mode === 'Required')
      return required === undefined || this.#cluster.isGoing(namespace) ? [] : [{ namespace, required }]
    })
    await inBatches(demanding, AT_ONCE, async ({ namespace, required }) => {
      const gate = (await this.#try(namespace, required)) ?? this.#known.get(namespace)
      if (gate !== undefined) found.set(namespace, gate)
    })
    const isChanged =
      found.size !== this.#known.size || [...found].some(([namespace, gate]) => !isDeepStrictEqual(this.#known.get(namespace), gate))
    this.#known = found
    return isChanged
  }

  /** Null: it could not be found out. */
  async #try(namespace: string, { spec, metadata }: ConversationBudget): Promise<Gate | null> {
    const wanted = labelsFor(spec.selector)
    if (wanted === null) return null // no pod can have such labels
    const refusals: string[] = []
    for (const resources of GATE_RESOURCES) {
      const { labels, spec: podSpec } = gatePod(wanted, resources)
      const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: POD_NAME, namespace, labels }, spec: podSpec }
      try {
        await this.#client.create(PODS, pod, { dryRun: true })
        return { status: 'Open', reason: `a pod that ConversationBudget "${metadata.name}" selects was not refused` }
      } catch (error) {
        if (!(error instanceof KubeError) || error.status === 0 || error.status >= 500 || error.status === 429) return null
        if (BY_POLICY.test(error.message)) return { status: 'Holds' }
        refusals.push(error.message)
      }
    }
    return { status: 'Unknown', reason: (refusals[0] ?? '').slice(0, REASON_CHARS_MAX) }
  }
}
