/** Opens the store that the settings name, with the key by which ids are hashed for it. */
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Operation } from '../core/budget.ts'
import { messageOf } from '../error-text.ts'
import type { Settings } from '../settings.ts'
import { openEmbeddedStore } from './embedded.ts'
import { ShelteredStore } from './outage/sheltered-store.ts'
import type { ServerRun, SharedStore } from './outage/sheltered-store.ts'
import type { FiredAlerts } from './outage/steps.ts'
import { Link } from './redis/link.ts'
import { openBooks } from './redis/redis.ts'
import { ServerClock } from './redis/server-clock.ts'
import { runMetMs, sharedBooks, sharedKey } from './redis/shared-key.ts'
import { readStoreCa, readStoreFile } from './store-files.ts'
import { StoreError } from './store.ts'
import type { BudgetStore } from './store.ts'
import type { StoreStanding } from './store-standing.ts'

const SECRET_BYTES = 32
const BOOKS_BYTES = 16

/** Where the store is, and by whom it is known. */
interface Place {
  readonly url: string
  /** Null: by the system's authorities. */
  readonly ca: string | null
}

interface Opened {
  readonly link: Link
  readonly told: { onLost: () => void }
  readonly store: BudgetStore
}

export interface OpenStore {
  readonly store: BudgetStore
  /** Other processes work on it too. */
  readonly isShared: boolean
  /** Of all hashed ids: replicas must hash alike. Null until a shared store was reached for the first time. */
  readonly identitySecret: () => Buffer | null
  /** Names the books: the same for all who share them. Null until shared ones were reached for the first time, and for embedded ones. */
  readonly books: () => string | null
  /** The time that all who share the store go by. */
  readonly nowMs: () => number
  readonly standing: () => StoreStanding
  close(): Promise<void>
}

export interface OpenStoreOptions {
  readonly allowancePercent: () => number
  readonly holdLifeMs: number
  readonly onChange: (standing: StoreStanding) => void
  /** Alerts that only what was done while a shared store was away has reached, together with what others did. */
  readonly onAlerts?: (fired: FiredAlerts) => void
  /** The store has another key than the one that was given, and goes by its own. */
  readonly onOtherKey?: () => void
  /** What no step is told of. */
  readonly onTrouble: (error: Error) => void
  /** Holds that an earlier run of this sidecar left in embedded books were charged. */
  readonly onExpired?: ((expired: readonly Operation[]) => void) | undefined
}

type StoreSettings = Pick<Settings, 'dataDir' | 'storeUrl' | 'storeFile' | 'storeCaFile' | 'identityKey' | 'namespace' | 'ledgerLifeMs'>

/** Rejects with `StoreError` when the embedded store cannot be opened. One that is shared is looked for until it is there. */
export function openStore(settings: StoreSettings, options: OpenStoreOptions): Promise<OpenStore> {
  const { storeUrl: url } = settings
  return url === null ? openOwn(settings, options) : openShared({ ...settings, url }, options)
}

async function openOwn({ dataDir, ledgerLifeMs }: StoreSettings, { onChange, onTrouble, onExpired }: OpenStoreOptions): Promise<OpenStore> {
  const nowMs = (): number => Date.now()
  let standing: StoreStanding = { state: 'Ready', reason: null, sinceMs: nowMs(), unsent: 0, outages: 0, replayed: 0 }
  const onStanding = (failure: StoreError | null): void => {
    const now = { ...standing, sinceMs: nowMs() }
    standing =
      failure === null
        ? { ...now, state: 'Ready', reason: null }
        : { ...now, state: 'Away', reason: failure.message, outages: standing.outages + 1 }
    onChange(standing)
  }
  const { store, secret } = keptIn(dataDir, () => {
    mkdirSync(dataDir, { recursive: true })
    const key = keyIn(join(dataDir, 'identity.key'))
    const file = join(dataDir, 'books.sqlite')
    return { secret: key, store: openEmbeddedStore({ file, nowMs, ledgerLifeMs, onTrouble, onStanding, onExpired }) }
  })
  const close = (): Promise<void> => store.close()
  return { store, isShared: false, identitySecret: () => secret, books: () => null, nowMs, standing: () => standing, close }
}

async function openShared(
  { url: urlAtStart, storeFile, storeCaFile, identityKey, namespace, dataDir, ledgerLifeMs }: StoreSettings & { readonly url: string },
  { onTrouble, onOtherKey = () => undefined, ...options }: OpenStoreOptions,
): Promise<OpenStore> {
  const clock = new ServerClock()
  const nowMs = (): number => clock.now()
  // Runs for several namespaces may come one after the other on one folder: each keeps its own there.
  const name = createHash('sha256').update(namespace).digest('hex').slice(0, 16)
  // The store has the key; the copy is for when this sidecar starts while the store is away.
  const keyFile = join(dataDir, `identity-${name}.key`)
  let secret = readKey(keyFile) ?? identityKey
  /** What the next start will have of it, from here or from its settings. */
  let keptKey = secret
  let books: string | null = null
  /** This sidecar has just made them, so they lack nothing: until it has met the run that they are in. */
  let areNew = false
  /** Of the connection that is there, or is tried. Null: the last one could not be made. */
  let place: Place | null = null

  async function learnKey(link: Link): Promise<void> {
    const key = await sharedKey(link, namespace, secret ?? randomBytes(SECRET_BYTES))
    const named = await sharedBooks(link, namespace, randomBytes(BOOKS_BYTES).toString('hex'))
    // Books that are new to who had some are those of a store that has lost all of them.
    if (named.isNew && books === null) areNew = true
    books = named.name
    if (identityKey !== null && !key.equals(identityKey) && (secret === null || !key.equals(secret))) onOtherKey()
    secret = key
    if (keptKey !== null && key.equals(keptKey)) return
    try {
      writeKey(keyFile, key)
      keptKey = key
    } catch (error) {
      onTrouble(
        new Error(
          `FAREBOX_DATA (${dataDir}) takes no files, and a start while the store is away needs ${basename(keyFile)}: ${messageOf(error)}`,
        ),
      )
    }
  }

  /** What the files say: a password or an authority that was replaced is there by now. */
  function readPlace(): Place {
    return {
      url: storeFile === null ? urlAtStart : readStoreFile(storeFile),
      ca: storeCaFile === null ? null : readStoreCa(storeCaFile),
    }
  }

  /** Null: the files say what they said when the connection was made, or nothing that could be used. */
  function newPlace(): Place | null {
    try {
      const read = readPlace()
      return read.url === place?.url && read.ca === place.ca ? null : read
    } catch (error) {
      onTrouble(error instanceof Error ? error : new Error(String(error)))
      return null
    }
  }

  async function open({ url, ca }: Place, onLost: () => void): Promise<Opened> {
    const told = { onLost }
    const link = await Link.open({ url, ca, onTrouble, onLost: () => told.onLost() })
    try {
      await clock.follow(link)
      await learnKey(link)
    } catch (error) {
      await link.close()
      throw error
    }
    return { link, told, store: await openBooks(link, { namespace, nowMs, clock, ledgerLifeMs }) }
  }

  async function connect(onLost: () => void): Promise<SharedStore> {
    place = readPlace()
    let opened = await open(place, onLost)
    let connectionsBefore = 0
    const run = async (): Promise<ServerRun> => {
      // Asked when it is looked for, so after it turned us away as well.
      const other = newPlace()
      if (other !== null) {
        place = other
        const next = await open(other, onLost).catch((error: unknown) => {
          place = null // so that the next look tries again
          throw error
        })
        const former = opened
        connectionsBefore += former.link.connections
        opened = next
        former.told.onLost = () => undefined
        former.store.close().catch(onTrouble)
      }
      const serverRun = await opened.link.run()
      // A write: one that takes none (full, its disk too, a replica by now) is not there yet.
      await learnKey(opened.link)
      const metMs = await runMetMs(opened.link, namespace, serverRun, areNew ? 0 : nowMs())
      areNew = false
      return { name: serverRun, knownMs: nowMs() - metMs }
    }
    return {
      get store() {
        return opened.store
      },
      connections: () => connectionsBefore + opened.link.connections,
      run,
    }
  }

  const store = await ShelteredStore.open({ ...options, folder: outageFolder(dataDir, name, onTrouble), connect, nowMs, onTrouble })
  return {
    store,
    isShared: true,
    identitySecret: () => secret,
    books: () => books,
    nowMs,
    standing: () => store.standing,
    async close() {
      await store.close()
      clock.stop()
    },
  }
}

/** Names the folder and the setting, which the disk does not. */
function keptIn<T>(dataDir: string, run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (error instanceof RangeError) throw error
    const code = error instanceof StoreError ? error.code : 'away'
    throw new StoreError(code, `FAREBOX_DATA (${dataDir}): ${messageOf(error)}`, error)
  }
}

/**
 * Where the steps of an outage wait, for a run of the same namespace alone: another's books are not theirs. Versions before kept those of all
 * in `outage`: what is left there is told by whoever finds no other namespace's key here.
 */
function outageFolder(dataDir: string, name: string, onTrouble: (error: Error) => void): string {
  const folder = join(dataDir, `outage-${name}`)
  const former = join(dataDir, 'outage')
  try {
    const left = existsSync(former) ? readdirSync(former) : []
    if (left.length === 0) return folder
    const isOthers = (file: string): boolean => /^identity-.*[.]key$/.test(file) && file !== `identity-${name}.key`
    if (readdirSync(dataDir).some(isOthers))
      throw new Error('runs for several namespaces used this folder, and nothing tells whose they are')
    mkdirSync(folder, { recursive: true })
    for (const outage of left) renameSync(join(former, outage), join(folder, outage))
  } catch (error) {
    onTrouble(new Error(`the steps in ${former} are not told to the store: ${messageOf(error)}`, { cause: error }))
  }
  return folder
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
