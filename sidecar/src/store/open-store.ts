/** Opens the store that the settings name, with the key by which ids are hashed for it. */
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Settings } from '../settings.ts'
import { openEmbeddedStore } from './embedded.ts'
import { sharedKey } from './redis/shared-key.ts'
import { openRedisStore } from './redis/redis.ts'
import { ServerClock } from './redis/server-clock.ts'
import type { BudgetStore, StoreError } from './store.ts'

const SECRET_BYTES = 32

export interface OpenStore {
  readonly store: BudgetStore
  /** Other processes work on it too. */
  readonly isShared: boolean
  /** Of all hashed ids: replicas must hash alike. */
  readonly identitySecret: Buffer
  /** The time that all who share the store go by. */
  readonly nowMs: () => number
  close(): Promise<void>
}

/** Rejects with `StoreError` when the store cannot be reached or is not ours. `onTrouble`: what no step is told of. */
export async function openStore(
  settings: Pick<Settings, 'dataDir' | 'storeUrl' | 'namespace'>,
  onTrouble: (error: StoreError) => void,
): Promise<OpenStore> {
  const { dataDir, storeUrl: url, namespace } = settings
  if (url === null) {
    const nowMs = (): number => Date.now()
    const store = openEmbeddedStore({ file: join(dataDir, 'books.sqlite'), nowMs, onTrouble })
    return { store, isShared: false, identitySecret: keyBeside(dataDir), nowMs, close: () => store.close() }
  }
  const clock = await ServerClock.open({ url, onTrouble })
  const nowMs = (): number => clock.now()
  const store = await openRedisStore({ url, namespace, nowMs, onTrouble })
  return {
    store,
    isShared: true,
    identitySecret: await sharedKey({ url, namespace }, randomBytes(SECRET_BYTES)),
    nowMs,
    async close() {
      await store.close()
      await clock.close()
    },
  }
}

/** Made once, kept beside the books, readable by us alone. */
function keyBeside(dataDir: string): Buffer {
  const path = join(dataDir, 'identity.key')
  try {
    return readFileSync(path)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    const secret = randomBytes(SECRET_BYTES)
    writeFileSync(path, secret, { mode: 0o600, flag: 'wx' })
    return secret
  }
}
