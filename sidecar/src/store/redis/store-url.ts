/** How the URL of a store in Redis or Valkey is written. */

export interface StoreUrl {
  readonly isCluster: boolean
  readonly isTls: boolean
  readonly nodes: readonly { readonly host: string; readonly port: number }[]
  readonly username: string
  readonly password: string
  /** Null: the server's first. */
  readonly database: number | null
}

export const STORE_URL_FORM =
  'redis://HOST:PORT, rediss://, redis+cluster:// or rediss+cluster://; a user and a password go before the host,' +
  ' USER:PASSWORD@HOST, and what is @ : / ? # or % in them is percent-encoded (%40 for @)'

const URL_PATTERN = /^(rediss?)(\+cluster)?:\/\/(?:([^\s@/?#]*)@)?([^\s@/?#]+)(?:\/(\d*))?$/
const NODE = /^(?:\[([^[\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/
const PORT_DEFAULT = 6379
const PORT_MAX = 65_535

/** Throws a `RangeError` that says how it must be, and nothing of what it is: there is a password in it. */
export function parseStoreUrl(url: string): StoreUrl {
  const [, scheme, cluster, credentials = '', hosts = '', database = ''] = URL_PATTERN.exec(url) ?? []
  if (scheme === undefined) throw wrong()
  const nodes = hosts.split(',').map((node) => {
    const [, ipv6, host = ipv6, port = PORT_DEFAULT] = NODE.exec(node) ?? []
    if (host === undefined || Number(port) > PORT_MAX) throw wrong()
    return { host, port: Number(port) }
  })
  const isCluster = cluster !== undefined
  if (!isCluster && nodes.length > 1) throw new RangeError('several hosts need redis+cluster://')
  const [username = '', password = ''] = credentials.split(/:(.*)/, 2).map((part) => decoded(part))
  return { isCluster, isTls: scheme === 'rediss', nodes, username, password, database: database === '' ? null : Number(database) }
}

export function isStoreUrl(url: string): boolean {
  try {
    parseStoreUrl(url)
    return true
  } catch (error) {
    if (error instanceof RangeError) return false
    throw error
  }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    throw wrong()
  }
}

function wrong(): RangeError {
  return new RangeError(`the URL of a store must be ${STORE_URL_FORM}`)
}
