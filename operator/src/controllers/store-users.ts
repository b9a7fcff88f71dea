/**
 * The users of the store that came with the chart: one for each namespace that has budgets there. The store may forget them with each
 * restart, so they are set anew with each connection, and when one is missing; those of namespaces that are gone are deleted.
 */
import type { Redis } from 'ioredis'
import { namespaceOfUser, storeUser, storeUserName } from '../core/runtime-secret.ts'
import { storeConnection } from './store-connection.ts'
import type { StoreAddress } from './store-connection.ts'
import type { StoreSecret } from './store-secret.ts'

export interface StoreUsersOptions extends StoreAddress {
  readonly secret: StoreSecret
  /** A connection is new: what was set before may be forgotten. */
  readonly onConnected: () => void
  readonly onTrouble: (error: Error) => void
}

/** Owns a connection to the store, which begins at once and comes back by itself until `close`. */
export class StoreUsers {
  readonly #options: StoreUsersOptions
  readonly #client: Redis
  /** Namespaces whose user was set by this connection. */
  readonly #set = new Set<string>()
  /** Something was changed since the store last kept its users. */
  #isUnsaved = false

  constructor(options: StoreUsersOptions) {
    this.#options = options
    this.#client = storeConnection(options, options.secret.adminPassword, true)
    this.#client.on('error', (error: unknown) => options.onTrouble(error instanceof Error ? error : new Error(String(error))))
    this.#client.on('ready', () => {
      this.#set.clear()
      options.onConnected()
    })
    // It comes back by itself, and says so each time.
    this.#client.connect().catch(() => undefined)
  }

  get isConnected(): boolean {
    return this.#client.status === 'ready'
  }

  /** `isGone`: of a namespace that does not exist any more. Rejects when the store does not answer, or refuses. */
  async reconcile(namespaces: ReadonlySet<string>, isGone: (namespace: string) => boolean): Promise<void> {
    const answer = await this.#client.call('ACL', 'USERS')
    const users = new Set(Array.isArray(answer) ? answer.map(String) : [])
    for (const namespace of namespaces) {
      const { name, rules } = storeUser(this.#options.secret.rootKey, namespace)
      if (this.#set.has(namespace) && users.has(name)) continue
      await this.#client.call('ACL', 'SETUSER', name, ...rules)
      this.#set.add(namespace)
      this.#isUnsaved = true
    }
    const gone = [...users].flatMap((user) => {
      const namespace = namespaceOfUser(user)
      return namespace !== null && !namespaces.has(namespace) && isGone(namespace) ? [namespace] : []
    })
    if (gone.length > 0) {
      await this.#client.call('ACL', 'DELUSER', ...gone.map(storeUserName))
      for (const namespace of gone) this.#set.delete(namespace)
      this.#isUnsaved = true
    }
    if (!this.#isUnsaved) return
    await this.#save()
    this.#isUnsaved = false
  }

  close(): void {
    this.#client.disconnect()
  }

  /** Where the store has a file for its users. Elsewhere they last as long as it runs. */
  async #save(): Promise<void> {
    try {
      await this.#client.call('ACL', 'SAVE')
    } catch (error) {
      if (!(error instanceof Error && error.message.includes('not configured to use an ACL file'))) throw error
    }
  }
}
