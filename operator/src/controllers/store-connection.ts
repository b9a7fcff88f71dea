/** A connection to the store that came with the chart, as the user who may do everything there. */
import { Redis } from 'ioredis'

const CONNECT_MS_MAX = 5_000
const ANSWER_MS_MAX = 5_000
const RETRY_MS_MAX = 2_000

export interface StoreAddress {
  /** `redis://HOST:PORT`, or `rediss://`. */
  readonly address: string
  /** Certificates in PEM to trust with TLS; null: the system's authorities. */
  readonly ca: string | null
}

/**
 * Not connected yet; once it is told to, it comes back by itself for ever. A command that is not answered in time rejects, and none is
 * kept for later. `isChecked`: it is ready once the store says that it has loaded its data, which it does not while a script runs.
 */
export function storeConnection({ address, ca }: StoreAddress, adminPassword: string, isChecked: boolean): Redis {
  return new Redis(address, {
    password: adminPassword,
    // As OpenSSL does for others: any certificate of `ca` will do, also one that another signed.
    ...(ca !== null && address.startsWith('rediss:') ? { tls: { ca, allowPartialTrustChain: true } } : {}),
    lazyConnect: true,
    enableReadyCheck: isChecked,
    connectTimeout: CONNECT_MS_MAX,
    commandTimeout: ANSWER_MS_MAX,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    retryStrategy: (times) => Math.min(100 * times, RETRY_MS_MAX),
  })
}
