/**
 * The users of the store that came with the chart: one for each namespace that has budgets there. The store may forget them with each
 * restart, so they are set anew with each connection, and when one is missing; those of namespaces that are gone are deleted. No command is
 * taken from one that is there while sidecars of another version may need it, unless its password, its keys or its channels are others.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Redis } from 'ioredis'
import * as z from 'zod'
import { namespaceOfUser, storeUser, storeUserName } from '../core/runtime-secret.ts'
import type { StoreAccess, StoreUser } from '../core/runtime-secret.ts'
import { storeConnection } from './store-connection.ts'
import type { StoreAddress } from './store-connection.ts'
import type { StoreSecret } from './store-secret.ts'

export interface StoreUsersOptions extends StoreAddress {
  readonly secret: StoreSecret
  /** A connection is new: what was set before may be forgotten. */
  readonly onConnected: () => void
  readonly onTrouble: (error: Error) => void
}

export interface NamespaceFacts {
  /** It does not exist any more. */
  readonly isGone: (namespace: string) => boolean
  /** Sidecars of another version than ours may run there. */
  readonly hasOtherVersions: (namespace: string) => boolean
}

/** Owns a connection to the store, which begins at once and comes back by itself until `close`. */
export class StoreUsers {
  readonly #options: StoreUsersOptions
  readonly #client: Redis
  /** Namespaces whose user was set by this connection; and whether it may do more than the sidecars of this version need. */
  readonly #set = new Map<string, 'exact' | 'wider'>()
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

  /** Rejects when the store does not answer, or refuses. */
  async reconcile(namespaces: ReadonlySet<string>, { isGone, hasOtherVersions }: NamespaceFacts): Promise<void> {
    const answer = await this.#client.call('ACL', 'USERS')
    const users = new Set(Array.isArray(answer) ? answer.map(String) : [])
    for (const namespace of namespaces) {
      const user = storeUser(this.#options.secret.rootKey, namespace)
      const isThere = users.has(user.name)
      const before = isThere ? this.#set.get(namespace) : undefined
      if (before === 'exact' || (before === 'wider' && hasOtherVersions(namespace))) continue
      const mayNeedMore = isThere && hasOtherVersions(namespace) && (await this.#isAsItMustBe(user))
      await this.#client.call('ACL', 'SETUSER', user.name, ...(mayNeedMore ? user.commands : user.rules))
      this.#set.set(namespace, mayNeedMore ? 'wider' : 'exact')
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

  /** After a rollback of the operator, sidecars of the later version run on: they need what that one allowed, which this one may not know. */
  async #isAsItMustBe({ name, access }: StoreUser): Promise<boolean> {
    return isDeepStrictEqual(accessIn(await this.#client.call('ACL', 'GETUSER', name)), access)
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

/**
 * Of the answer to `ACL GETUSER`: names and values by turns. Null: it is none that is known.
 * https://redis.io/docs/latest/commands/acl-getuser/
 */
function accessIn(answer: unknown): StoreAccess | null {
  if (!Array.isArray(answer)) return null
  const pairs = answer.flatMap((name, index) => (index % 2 === 0 ? [[String(name), answer[index + 1]]] : []))
  const read = UserSchema.safeParse(Object.fromEntries(pairs))
  if (!read.success) return null
  const { flags, passwords, keys, channels, selectors } = read.data
  return { isOn: flags.includes('on'), isOpen: flags.includes('nopass'), passwords, keys, channels, selectors: selectors.length }
}

const UserSchema = z.object({
  flags: z.array(z.string()),
  passwords: z.array(z.string()),
  keys: z.string(),
  channels: z.string(),
  selectors: z.array(z.unknown()),
})
