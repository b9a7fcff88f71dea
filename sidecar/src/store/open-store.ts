/** Opens the store that the settings name, with the key by which ids are hashed for it. */
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Settings } from '../settings.ts'
import { openEmbeddedStore } from './embedded.ts'
import { ShelteredStore } from './outage/sheltered-store.ts'
import type { SharedStore } from './outage/sheltered-store.ts'
import { Link } from './redis/link.ts'
import { openBooks } from './redis/redis.ts'
import { ServerClock } from './redis/server-clock.ts'
import { sharedKey } from './redis/shared-key.ts'
import type { BudgetStore } from './store.ts'
import type { StoreStanding } from './store-standing.ts'

const SECRET_BYTES = 32

export interface OpenStore {
  readonly store: BudgetStore
  /** Other processes work on it too. */
  readonly isShared: boolean
  /** Of all hashed ids: replicas must hash alike. Null until a shared store was reached for the first time. */
  readonly identitySecret: () => Buffer | null
  /** The time that all who share the store go by. */
  readonly nowMs: () => number
  readonly standing: () => StoreStanding
  close(): Promise<void>
}

export interface OpenStoreOptions {
  readonly allowancePercent: () => number
  readonly holdLifeMs: number
  readonly onChange: (standing: StoreStanding) => void
  /** What no step is told of. */
  readonly onTrouble: (error: Error) => void
}

type StoreSettings = Pick<Settings, 'dataDir' | 'storeUrl' | 'namespace' | 'ledgerLifeMs'>

/** Rejects with `StoreError` when the embedded store cannot be opened. One that is shared is looked for until it is there. */
export function openStore(settings: StoreSettings, options: OpenStoreOptions): Promise<OpenStore> {
  const { storeUrl: url } = settings
  return url === null ? openOwn(settings, options) : openShared({ ...settings, url }, options)
}

async function openOwn({ dataDir, ledgerLifeMs }: StoreSettings, { onTrouble }: OpenStoreOptions): Promise<OpenStore> {
  const nowMs = (): number => Date.now()
  const store = openEmbeddedStore({ file: join(dataDir, 'books.sqlite'), nowMs, ledgerLifeMs, onTrouble })
  const secret = keyIn(join(dataDir, 'identity.key'))
  const standing: StoreStanding = { state: 'Ready', reason: null, sinceMs: nowMs(), unsent: 0, outages: 0, replayed: 0 }
  return { store, isShared: false, identitySecret: () => secret, nowMs, standing: () => standing, close: () => store.close() }
}

async function openShared(
  { url, namespace, dataDir, ledgerLifeMs }: StoreSettings & { readonly url: string },
  { onTrouble, ...options }: OpenStoreOptions,
): Promise<OpenStore> {
  const clock = new ServerClock()
  const nowMs = (): number => clock.now()
  // The store has the key; the copy is for when this sidecar starts while the store is away.
  const keyFile = join(dataDir, `identity-${createHash('sha256').update(namespace).digest('hex').slice(0, 16)}.key`)
  let secret = readKey(keyFile)

  async function learnKey(link: Link): Promise<void> {
    const key = await sharedKey(link, namespace, secret ?? randomBytes(SECRET_BYTES))
    if (secret !== null && key.equals(secret)) return
    writeKey(keyFile, key)
    secret = key
  }

  async function connect(onLost: () => void): Promise<SharedStore> {
    const link = await Link.open({ url, onTrouble, onLost })
    try {
      await clock.follow(link)
      await learnKey(link)
    } catch (error) {
      await link.close()
      throw error
    }
    const store = await openBooks(link, { namespace, nowMs, ledgerLifeMs })
    const run = async (): Promise<string> => {
      const name = await link.run()
      // A write: one that takes none (full, its disk too, a replica by now) is not there yet.
      await learnKey(link)
      return name
    }
    return { store, connections: () => link.connections, run }
  }

  const store = await ShelteredStore.open({ ...options, folder: join(dataDir, 'outage'), connect, nowMs, onTrouble })
  return {
    store,
    isShared: true,
    identitySecret: () => secret,
    nowMs,
    standing: () => store.standing,
    async close() {
      await store.close()
      clock.stop()
    },
  }
}

/** Made once, kept beside the books, readable by us alone. */
function keyIn(path: string): Buffer {
  const known = readKey(path)
  if (known !== null) return known
  const secret = randomBytes(SECRET_BYTES)
  writeKey(path, secret)
  return secret
}

function readKey(path: string): Buffer | null {
  try {
    return readFileSync(path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
}

function writeKey(path: string, key: Buffer): void {
  writeFileSync(`${path}.new`, key, { mode: 0o600 })
  renameSync(`${path}.new`, path)
}
