/**
 * What the sidecars of a namespace need to start without us: where the store is, as whom they go there, and the key by which they hash
 * ids. All of it follows from one root key, so that whichever replica leads comes to the same. Pure.
 */
import { createHash, createHmac } from 'node:crypto'

export interface RuntimeSecret {
  /** URL of the store, user and password in it. */
  readonly store: string
  /** 32 bytes in base64. */
  readonly identityKey: string
  /** Certificates in PEM; null: the store's is of an authority that everybody trusts, or it has none. */
  readonly storeCa: string | null
}

/** A user of the store, for one namespace. */
export interface StoreUser {
  readonly name: string
  /** For `ACL SETUSER`, in full: what was allowed before is forgotten. */
  readonly rules: readonly string[]
  /** For `ACL SETUSER` of a user that is as it must be but for its commands: no command is taken away. */
  readonly commands: readonly string[]
  readonly access: StoreAccess
}

/** Who may come in as a user, and to what: of `ACL GETUSER`, all but the commands. */
export interface StoreAccess {
  readonly isOn: boolean
  /** No password is asked for. */
  readonly isOpen: boolean
  /** Their SHA-256, in hexadecimal. */
  readonly passwords: readonly string[]
  /** Rules, between blanks. */
  readonly keys: string
  readonly channels: string
  /** Further rights, each with keys of its own. */
  readonly selectors: number
}

const USER_PREFIX = 'fb-'

/**
 * What the sidecar's engine sends, and what its scripts call. A command that is missing here is found by the sidecar at its start
 * (`ACL needs ...`), and by the test that plays the contract of all stores as such a user.
 */
const COMMANDS =
  'auth hello ping quit info select time multi exec discard client|setname cluster|slots' +
  ' eval evalsha del exists get set pexpire hdel hget hgetall hincrby hmget hscan hset hsetnx lrange rpush' +
  ' pfadd pfcount pfmerge xadd xrange xrevrange xtrim unlink zadd zcard zrange zrangebyscore zrem zremrangebyscore zrevrange zscan'

/** What the sidecars of a namespace get of the root key. `address`: `redis://HOST:PORT`, or `rediss://`, for which alone an authority is of use. */
export function runtimeSecret(rootKey: Buffer, namespace: string, address: string, ca: string | null = null): RuntimeSecret {
  const url = new URL(address)
  url.username = storeUserName(namespace)
  url.password = passwordOf(rootKey, namespace)
  return {
    store: url.href,
    identityKey: createHmac('sha256', rootKey).update(`identity ${namespace}`).digest('base64'),
    storeCa: url.protocol === 'rediss:' ? ca : null,
  }
}

/** It may touch the keys of its namespace, by the commands that a sidecar needs, and nothing else. */
export function storeUser(rootKey: Buffer, namespace: string): StoreUser {
  const passwordHash = createHash('sha256').update(passwordOf(rootKey, namespace)).digest('hex')
  const commands = COMMANDS.split(' ').map((command) => `+${command}`)
  const keys = `~fb:${namespace}:*`
  return {
    name: storeUserName(namespace),
    rules: ['reset', 'on', `#${passwordHash}`, keys, 'resetchannels', '-@all', ...commands],
    commands,
    access: { isOn: true, isOpen: false, passwords: [passwordHash], keys, channels: '', selectors: 0 },
  }
}

/** `fb-support`; `namespaceOfUser` is the reverse. */
export function storeUserName(namespace: string): string {
  return `${USER_PREFIX}${namespace}`
}

/** Null: it is not one of ours. */
export function namespaceOfUser(user: string): string | null {
  return user.startsWith(USER_PREFIX) ? user.slice(USER_PREFIX.length) : null
}

function passwordOf(rootKey: Buffer, namespace: string): string {
  return createHmac('sha256', rootKey).update(namespace).digest('base64url')
}
