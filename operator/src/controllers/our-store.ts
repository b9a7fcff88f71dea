/**
 * The store of all budgets that name none of their own, as the leader keeps it: its secret; what is derived from that, the secret of each
 * namespace and the users of the store; and which budgets wait for one of them.
 */
import { ANNOTATIONS, RUNTIME_SECRET } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { Hindrance } from '../core/cluster-status.ts'
import { messageOf } from '../core/error-text.ts'
import { budgetKey } from '../core/same-pods.ts'
import { isRefusal, KubeError } from '../kube/kube.ts'
import type { KubeClient } from '../kube/kube.ts'
import type { WorkResult } from '../kube/queue.ts'
import type { Settings } from '../settings.ts'
import type { Log } from '../telemetry/log.ts'
import type { Cluster } from './cluster.ts'
import { isOnOurStore, namespacesOnOurStore, RuntimeSecrets } from './runtime-secrets.ts'
import type { StoreAddress } from './store-connection.ts'
import { ensureStoreSecret, storeSecretOf } from './store-secret.ts'
import { readStoreCa } from './store-trust.ts'
import { StoreUsers } from './store-users.ts'
import { StuckScripts } from './stuck-scripts.ts'

const CONNECTED_AGAIN_MS = 1_000
/** A rollout of the operator, from the first new replica to the last old one; a leader looks at users again every ten minutes. */
const OPERATOR_REPLACED_MS = 9 * 60_000

export interface OurStoreOptions {
  readonly cluster: Cluster
  /** Writes only while we lead. */
  readonly client: KubeClient
  readonly settings: Pick<Settings, 'pod' | 'store'>
  /** Of the sidecars that this operator injects. */
  readonly sidecarVersion: string
  readonly steadyMs: () => number
  readonly log: Log
  /** It was reached, for the first time or anew: it may have forgotten its users. */
  readonly onConnected: () => void
  /** `hindered` says something else than before. */
  readonly onHindered: () => void
}

/** What one secret of the store gives. */
interface Opened {
  /** Of the secret, and of whom to trust: with another all this is made anew. */
  readonly key: string
  readonly users: StoreUsers
  /** Null: scripts of others are none of our business. */
  readonly scripts: StuckScripts | null
  readonly secrets: RuntimeSecrets
}

/**
 * Owns the connections to the store: opened by the first `keepRuntimeSecrets` or `keepUsers` that finds its secret, and anew where that
 * has become another. What rejects was not made true, and is to be called again.
 */
export class OurStore {
  /** Since when it keeps users. Null: it has not begun. */
  #sinceMs: number | null = null
  readonly #options: OurStoreOptions
  #opened: Opened | null = null
  /** Why there is no secret to derive others from. */
  #trouble: string | null = null

  constructor(options: OurStoreOptions) {
    this.#options = options
  }

  /** Null: there is no store, or its secret is not there yet. */
  get isConnected(): boolean | null {
    return this.#opened?.users.isConnected ?? null
  }

  /**
   * Ours is written where there is none, as it was before it was deleted. One that somebody else gives must be there, and whole: rejects
   * otherwise, and with `KubeError`.
   */
  async keepSecret(): Promise<void> {
    try {
      await this.#ensureSecret()
      this.#setTrouble(null)
    } catch (error) {
      // An API server that does not answer says nothing of what there is.
      if (!(error instanceof KubeError)) this.#setTrouble(messageOf(error))
      throw error
    }
  }

  /** Of each namespace whose sidecars go to the store. Rejects when one could not be written; all others are. */
  async keepRuntimeSecrets(): Promise<void> {
    const secrets = this.#open()?.secrets
    if (secrets === undefined) return
    const before = secrets.failed.size
    try {
      await secrets.reconcile(namespacesOnOurStore(this.#options.cluster))
    } finally {
      if (before > 0 || secrets.failed.size > 0) this.#options.onHindered()
    }
  }

  /** Of each such namespace. Rejects when the store does not answer, or refuses; while it is not connected it is asked nothing. */
  async keepUsers(): Promise<WorkResult | void> {
    const opened = this.#open()
    if (opened === null) return
    if (!opened.users.isConnected) return { againAfterMs: CONNECTED_AGAIN_MS }
    const { cluster, settings } = this.#options
    // In a store of somebody else's there may be users of another cluster, whose namespaces we do not know.
    const isOurs = settings.store.mode === 'Own'
    await opened.users.reconcile(namespacesOnOurStore(cluster), {
      isGone: (namespace) => isOurs && cluster.namespaces.get(namespace) === undefined,
      hasOtherVersions: (namespace) => !isOurs || this.#hasOtherVersions(namespace),
    })
  }

  /** The secret of a namespace, or of each, is to be looked at by the next `keepRuntimeSecrets`: nobody tells us when it is deleted. */
  doubtRuntimeSecrets(namespace?: string): void {
    this.#opened?.secrets.doubt(namespace)
  }

  /** By key, those of these budgets whose pods do not start, as the secret of their namespace is not there. */
  hindered(budgets: readonly ConversationBudget[]): ReadonlyMap<string, Hindrance> {
    const failed = this.#opened?.secrets.failed
    if (this.#trouble === null && (failed === undefined || failed.size === 0)) return new Map()
    return new Map(
      budgets.filter(isOnOurStore).flatMap((budget) => {
        const why = this.#trouble ?? failed?.get(budget.metadata.namespace ?? '')
        if (why === undefined) return []
        const message = `pods wait for the Secret "${RUNTIME_SECRET}" of the namespace, which could not be written: ${messageOf(why)}`
        return [[budgetKey(budget), { reason: isRefusal(why) ? 'RuntimeSecretRefused' : 'NoRuntimeSecret', message }]]
      }),
    )
  }

  /** Ends the connections, when nothing of it is in work any more. */
  close(): void {
    this.#opened?.users.close()
    this.#opened?.scripts?.close()
  }

  /** While the operator itself is replaced, replicas of both versions inject: until that is over, pods of another may come. */
  #hasOtherVersions(namespace: string): boolean {
    const { cluster, sidecarVersion, steadyMs } = this.#options
    this.#sinceMs ??= steadyMs()
    if (steadyMs() - this.#sinceMs < OPERATOR_REPLACED_MS) return true
    for (const { metadata } of cluster.podsOf(namespace))
      if ((metadata.annotations?.[ANNOTATIONS.sidecarVersion] ?? sidecarVersion) !== sidecarVersion) return true
    return false
  }

  async #ensureSecret(): Promise<void> {
    const { settings, client, cluster, log } = this.#options
    const { address, mode, secret: name } = settings.store
    if (address === null) return
    const { namespace } = settings.pod
    const known = cluster.store.get(`${namespace}/${name}`)
    if (known === undefined && mode === 'Own') {
      const done = await ensureStoreSecret(client, { namespace, name }, cluster.lastStore)
      if (done === 'restored')
        log.warn({ namespace, secret: name }, 'somebody deleted the secret of the store; it was written again as it was')
      return
    }
    if (known === undefined || storeSecretOf(known) === null)
      throw new Error(`Secret "${name}" must be there, with admin-password and a root-key of 32 bytes or more`)
  }

  #setTrouble(trouble: string | null): void {
    if (trouble === null && this.#trouble === null) return
    this.#trouble = trouble
    this.#options.onHindered()
  }

  /** Null: there is no store, or its secret is not there yet. Throws when the file with whom to trust holds something else. */
  #open(): Opened | null {
    const { settings, cluster, client, log } = this.#options
    const { address } = settings.store
    const object = cluster.store.get(`${settings.pod.namespace}/${settings.store.secret}`)
    const secret = object === undefined ? null : storeSecretOf(object)
    if (address === null || secret === null) return null
    const ca = readStoreCa(settings.store.caFile)
    const key = `${secret.adminPassword} ${secret.rootKey.toString('hex')} ${ca}`
    if (this.#opened?.key === key) return this.#opened
    this.close()
    const place = { address, ca }
    this.#opened = {
      key,
      users: new StoreUsers({ ...place, secret, ...this.#reachedAndLost() }),
      // In a store of somebody else's a script may be meant to run long.
      scripts: settings.store.mode === 'Given' ? null : this.#endingScripts(place, secret.adminPassword),
      secrets: new RuntimeSecrets({ ...place, client, secret, log }),
    }
    return this.#opened
  }

  /** Trouble is told of once, until it is over. */
  #reachedAndLost(): { readonly onConnected: () => void; readonly onTrouble: (error: Error) => void } {
    const { log, onConnected } = this.#options
    let hadTrouble = false
    return {
      onConnected() {
        hadTrouble = false
        log.info({}, 'the store is there')
        onConnected()
      },
      onTrouble(error) {
        if (!hadTrouble) log.warn({ err: error.message }, 'the store cannot be reached; it is looked for until it is there')
        hadTrouble = true
      },
    }
  }

  #endingScripts(place: StoreAddress, adminPassword: string): StuckScripts {
    const { log } = this.#options
    return new StuckScripts({
      ...place,
      adminPassword,
      onEnded: () => log.warn({}, 'a script of one of its users held the store up, and was ended'),
      onUnending: (error) =>
        log.error({ err: error.message }, 'a script holds the store up, and has written, so that it cannot be ended: restart the store'),
    })
  }
}
