/**
 * What sidecars need to start without us: in each namespace whose budgets use the store that came with the chart, the Secret
 * `farebox-runtime`. A pod that is to have a sidecar does not start before it is there, so it is written for budgets that are not
 * accepted, too.
 */
import { LABELS, MANAGED_BY, RUNTIME_KEYS, RUNTIME_SECRET } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { messageOf } from '../core/error-text.ts'
import { runtimeSecret } from '../core/runtime-secret.ts'
import { applied, applyIfChanged } from '../kube/apply.ts'
import { KubeError } from '../kube/kube.ts'
import type { KubeClient } from '../kube/kube.ts'
import { SECRETS } from '../kube/resources.ts'
import type { Log } from '../telemetry/log.ts'
import type { Cluster } from './cluster.ts'
import { inBatches } from './in-batches.ts'
import { dataOf } from './store-secret.ts'
import type { StoreSecret } from './store-secret.ts'

const FIELD_MANAGER = 'farebox-runtime'
const AT_ONCE = 4

export interface RuntimeSecretsOptions {
  readonly client: KubeClient
  readonly address: string
  /** Certificates in PEM, of which one signed the store's; null: sidecars trust the system's authorities. */
  readonly ca: string | null
  readonly secret: StoreSecret
  readonly log: Log
}

/** Of one secret of the store: with another, make another. Remembers which it found right, and why others are not. */
export class RuntimeSecrets {
  readonly #options: RuntimeSecretsOptions
  /** Those that are known to be right: they are not looked at each time, since Secrets of others are not watched. */
  readonly #right = new Set<string>()
  readonly #failed = new Map<string, unknown>()

  constructor(options: RuntimeSecretsOptions) {
    this.#options = options
  }

  /** By namespace, why it could not be made. An API server that does not answer says nothing of what there is. */
  get failed(): ReadonlyMap<string, unknown> {
    return this.#failed
  }

  /** Rejects when one could not be written; all others are. */
  async reconcile(namespaces: ReadonlySet<string>): Promise<void> {
    for (const known of [this.#right, this.#failed])
      for (const namespace of known.keys()) if (!namespaces.has(namespace)) known.delete(namespace)
    const unsure = [...namespaces].filter((namespace) => !this.#right.has(namespace))
    const failures: (readonly [namespace: string, error: unknown])[] = []
    await inBatches(unsure, AT_ONCE, async (namespace) => {
      try {
        await this.#write(namespace)
        this.#failed.delete(namespace)
      } catch (error) {
        failures.push([namespace, error])
        if (!isSilence(error)) this.#failed.set(namespace, error)
      }
    })
    const [first] = failures
    if (first === undefined) return
    const [namespace, cause] = first
    throw new Error(`${failures.length} runtime secrets could not be written, the first in ${namespace}: ${messageOf(cause)}`, { cause })
  }

  async #write(namespace: string): Promise<void> {
    const { client, address, ca, secret, log } = this.#options
    const { store, identityKey, storeCa } = runtimeSecret(secret.rootKey, namespace, address, ca)
    const encoded = (text: string): string => Buffer.from(text).toString('base64')
    const wanted = applied(SECRETS, RUNTIME_SECRET, {
      namespace,
      labels: { [LABELS.managedBy]: MANAGED_BY },
      fields: {
        data: {
          [RUNTIME_KEYS.store]: encoded(store),
          [RUNTIME_KEYS.identityKey]: encoded(identityKey),
          ...(storeCa === null ? {} : { [RUNTIME_KEYS.storeCa]: encoded(storeCa) }),
        },
      },
    })
    const current = (await client.get(SECRETS, RUNTIME_SECRET, namespace)) ?? undefined
    // An authority that is none any more would not show as a difference.
    const isLeftOver = storeCa === null && current !== undefined && dataOf(current)(RUNTIME_KEYS.storeCa) !== undefined
    const known = isLeftOver ? undefined : current
    const after = await applyIfChanged(client, SECRETS, wanted, { fieldManager: FIELD_MANAGER, force: true, current: known })
    if (after !== current) log.info({ namespace }, 'runtime secret written')
    this.#right.add(namespace)
  }

  /** That of a namespace, or each, is to be looked at once more. */
  doubt(namespace?: string): void {
    if (namespace === undefined) this.#right.clear()
    else this.#right.delete(namespace)
  }
}

/** Nobody answered, or only that it is too much now, or that something broke. */
function isSilence(error: unknown): boolean {
  return error instanceof KubeError && (error.status < 400 || error.status >= 500 || error.status === 429)
}

/** Whether its sidecars go to the store that came with the chart. */
export function isOnOurStore({ spec: { store } }: ConversationBudget): boolean {
  return store.kind === 'Shared' && store.redis === undefined
}

/** Namespaces whose sidecars go to the store that came with the chart. */
export function namespacesOnOurStore(cluster: Cluster): ReadonlySet<string> {
  const namespaces = new Set<string>()
  for (const namespace of cluster.namespacesWithBudgets()) {
    if (cluster.isGoing(namespace)) continue
    for (const budget of cluster.budgetsOf(namespace)) if (isOnOurStore(budget)) namespaces.add(namespace)
  }
  return namespaces
}
