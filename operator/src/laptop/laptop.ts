/**
 * The operator for a laptop: what the operator in a cluster does for its pods, for one sidecar that is our child. Manifests come
 * from a folder, the config goes to a file, and a bad change keeps the last good config.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatAddress } from '@farebox/crds/address.ts'
import type { Address } from '@farebox/crds/address.ts'
import { SidecarConfigSchema } from '@farebox/crds/sidecar-config.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { ObjectStatus } from '../core/compile.ts'
import { withCoordination } from '../core/coordination.ts'
import { messageOf } from '../core/error-text.ts'
import { withTraffic } from '../core/traffic.ts'
import { whyTaken } from './addresses.ts'
import { lockData } from './data-lock.ts'
import type { DataLock } from './data-lock.ts'
import { formatComplaint, loadManifests, whyUngoverned } from './loaded-manifests.ts'
import type { LoadedManifests } from './loaded-manifests.ts'
import { readManifestFolder, watchManifestFolder } from './manifest-folder.ts'
import type { ManifestFile } from './manifest-folder.ts'
import { SidecarClient } from './sidecar-client.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { SidecarProcess } from './sidecar-process.ts'

/** A sidecar acts on a new file at once, or when it polls. */
const TAKEN_MS_MAX = 3_000
const TAKEN_POLL_MS = 25

export interface LaptopOptions {
  readonly folder: string
  readonly listen: Address
  readonly admin: Address
  /** Of the sidecar's books; made when absent, and this operator's alone while it runs. */
  readonly dataDir: string
  /** Base URLs by upstream name, in place of what the manifests say. */
  readonly upstreams: ReadonlyMap<string, string>
  /** URL of a store that several share; null: the one that the environment names, or else one of its own, in `dataDir`. */
  readonly storeUrl: string | null
  /** Of keys by which claims are signed, a file for each; null: there are none. */
  readonly claimKeysDir: string | null
  /** The budget that governs, `namespace/name`; null: the only one in the folder. */
  readonly budget: string | null
  /** Nobody waits for the start any more. */
  readonly givenUp?: AbortSignal
  readonly say: (line: string) => void
}

export interface Laptop {
  readonly client: SidecarClient
  readonly logFile: string
  /** The config last written. */
  config(): SidecarConfig
  /** Each object's status by `Kind/name`, as it would be in the cluster; `traffic`: what the sidecar tells, null when it does not answer. */
  statuses(traffic: SidecarStatus | null): ReadonlyMap<string, ObjectStatus>
  /** In which each tier's numbers are, by `PricingTier/name`. */
  currencies(): ReadonlyMap<string, string>
  /** Lets calls under way end, then stops the sidecar. */
  stop(): Promise<void>
  /** Stops the sidecar at once. */
  kill(): void
}

/** The manifests cannot be run. The message has a line for each problem. */
export class ManifestsRefused extends Error {}

/**
 * Returns once the sidecar is ready. Throws `ManifestsRefused`, or an `Error` of one line when an address is taken, the folder of claim keys
 * is none, the sidecar does not start, or the start is given up.
 */
export async function startLaptop(options: LaptopOptions): Promise<Laptop> {
  const { say, dataDir, listen, admin } = options
  const configDir = join(dataDir, 'config')
  const configFile = join(configDir, 'sidecar.json')
  const logFile = join(dataDir, 'sidecar.log')
  if (formatAddress(listen) === formatAddress(admin))
    throw new Error(`--listen and --admin must be two addresses, not ${formatAddress(listen)} twice`)
  if (options.claimKeysDir !== null && holdsNothing(options.claimKeysDir))
    say(`--claim-keys ${options.claimKeysDir}: holds no keys: until it does, no claim is accepted`)
  for (const [flag, address] of [
    ['--listen', listen],
    ['--admin', admin],
  ] as const) {
    const taken = await whyTaken(address)
    if (taken !== null) throw new Error(`${taken}: choose another with ${flag} HOST:PORT`)
  }
  // Watched from before it is read: a change in between is not missed. It is looked at once the sidecar is up.
  const up = Promise.withResolvers<void>()
  const watching = await watchManifestFolder(
    options.folder,
    () =>
      up.promise.then(reload).catch((error: unknown) => {
        say(messageOf(error))
        return 'taken' as const
      }),
    { leaveOut: dataDir },
  )
  const client = new SidecarClient(`http://${formatAddress(listen)}`)
  let key: string
  let loaded: LoadedManifests
  let config: SidecarConfig
  let lock: DataLock | null = null
  let sidecar: SidecarProcess
  try {
    const files = await readManifestFolder(options.folder, { leaveOut: dataDir })
    lock = writable(dataDir, () => {
      mkdirSync(configDir, { recursive: true })
      return lockData(dataDir)
    })
    if (lock === null) throw new Error(`--data ${dataDir}: is in use by another run: each needs a data folder of its own`)
    ;({ key, loaded, config } = loadFirst(options, files, readConfigFile(configFile)))
    for (const complaint of loaded.complaints) say(formatComplaint(complaint))
    writable(dataDir, () => writeConfigFile(configFile, config))
    const store = { url: options.storeUrl, namespace: config.namespace }
    const claimKeys = options.claimKeysDir === null ? {} : { claimKeysDir: options.claimKeysDir }
    sidecar = new SidecarProcess({ configFile, dataDir, logFile, listen, admin, say, store, ...claimKeys })
    await sidecar.start(options.givenUp)
  } catch (error) {
    watching.stop()
    lock?.release()
    throw error
  }
  const folderLock = lock

  const refuse = (lines: readonly string[]): void => {
    for (const line of lines) say(line)
    say(`change refused: config ${config.hash} stays in force`)
  }
  /** Why a config could not be written: told once, however often it is tried. */
  let unwritten: string | null = null
  async function reload(): Promise<'taken' | 'again'> {
    const startedAt = performance.now()
    const result = await loadAgain(options, key, loaded, config)
    const next = result.status === 'refused' ? undefined : result.loaded.compiled.configs.get(key)
    const why = next === undefined || next.hash === config.hash ? null : whyUnwritten(configFile, next)
    if (why !== null && why !== unwritten) refuse([why])
    unwritten = why
    if (why !== null) return 'again'
    await act(result, next, startedAt)
    return 'taken'
  }
  async function act(result: Reloaded, next: SidecarConfig | undefined, startedAt: number): Promise<void> {
    if (result.status === 'refused') return refuse(result.lines)
    loaded = result.loaded // statuses speak of the newest objects, as in a cluster
    if (next === undefined) return refuse(whyUngoverned(loaded, key, options.folder))
    for (const complaint of loaded.complaints) say(formatComplaint(complaint))
    if (next.hash === config.hash) return say(`change seen: config ${config.hash} stays as it is`)
    config = next
    const taken = await untilTaken(client, config.hash)
    say(`${taken}${taken.startsWith('config') ? `, ${Math.round(performance.now() - startedAt)} ms after the change was seen` : ''}`)
  }

  up.resolve()
  return {
    client,
    logFile,
    config: () => config,
    statuses: (traffic) =>
      traffic === null
        ? loaded.compiled.statuses
        : withCoordination(withTraffic(loaded.compiled, loaded.manifests.snapshot.tiers, traffic, Date.now()), traffic),
    currencies: () => new Map(loaded.manifests.snapshot.tiers.map(({ metadata, spec }) => [`PricingTier/${metadata.name}`, spec.currency])),
    async stop() {
      watching.stop()
      await sidecar.stop()
      folderLock.release()
    },
    kill() {
      watching.stop()
      sidecar.kill()
    },
  }
}

interface First {
  readonly key: string
  readonly loaded: LoadedManifests
  readonly config: SidecarConfig
}

/** `last`: the config of an earlier run on the same data, so that versions go on growing. */
function loadFirst(options: LaptopOptions, files: readonly ManifestFile[], last: SidecarConfig | null): First {
  const previous = new Map(last === null ? [] : [[`${last.namespace}/${last.budget}`, last] as const])
  const chosen = options.budget === null ? {} : { chosen: options.budget }
  const result = loadManifests(files, { nowMs: Date.now(), upstreams: options.upstreams, previous, ...chosen })
  if (result.status === 'invalid') throw new ManifestsRefused(result.complaints.map(formatComplaint).join('\n'))
  const { loaded } = result
  const key = chosenBudget(options, loaded)
  const config = loaded.compiled.configs.get(key)
  if (config === undefined) throw new ManifestsRefused(whyUngoverned(loaded, key, options.folder).join('\n'))
  return { key, loaded, config }
}

function chosenBudget({ folder, budget }: LaptopOptions, { compiled }: LoadedManifests): string {
  const prefix = 'ConversationBudget/'
  const keys = [...compiled.statuses.keys()].filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length))
  const [only, ...others] = keys
  if (only === undefined) throw new ManifestsRefused(`${folder}: must hold a ConversationBudget`)
  if (budget !== null && !keys.includes(budget)) throw new ManifestsRefused(`--budget ${budget}: must be one of ${keys.join(', ')}`)
  if (budget === null && others.length > 0)
    throw new ManifestsRefused(`${folder}: holds ${keys.length} ConversationBudgets: choose one with --budget: ${keys.join(', ')}`)
  return budget ?? only
}

type Reloaded =
  | { readonly status: 'loaded'; readonly loaded: LoadedManifests }
  | { readonly status: 'refused'; readonly lines: readonly string[] }

/** The budget that governs goes on to, whatever others come. */
async function loadAgain(options: LaptopOptions, key: string, before: LoadedManifests, config: SidecarConfig): Promise<Reloaded> {
  try {
    const files = await readManifestFolder(options.folder, { leaveOut: options.dataDir })
    const result = loadManifests(files, {
      nowMs: Date.now(),
      upstreams: options.upstreams,
      previous: new Map([[key, config]]),
      before,
      chosen: key,
    })
    return result.status === 'loaded' ? result : { status: 'refused', lines: result.complaints.map(formatComplaint) }
  } catch (error) {
    return { status: 'refused', lines: [messageOf(error)] }
  }
}

/** Whether the sidecar took the config, in words for people. */
async function untilTaken(client: SidecarClient, hash: string): Promise<string> {
  const end = performance.now() + TAKEN_MS_MAX
  let why = 'it has not said so yet'
  while (performance.now() < end) {
    try {
      const { config, rejected } = await client.status()
      if (config.hash === hash) return `config ${hash} in force`
      if (rejected !== null) why = rejected.reason
    } catch (error) {
      why = messageOf(error)
    }
    await sleep(TAKEN_POLL_MS)
  }
  return `the sidecar does not act on config ${hash}: ${why}`
}

/** Null when there is none, or one that this version cannot read. */
function readConfigFile(path: string): SidecarConfig | null {
  try {
    const parsed = SidecarConfigSchema.safeParse(JSON.parse(readFileSync(path, 'utf8')))
    return parsed.success ? parsed.data : null
  } catch {
    return null
  }
}

/** Null: it is written, whole. */
function whyUnwritten(path: string, config: SidecarConfig): string | null {
  try {
    writeConfigFile(path, config)
    return null
  } catch (error) {
    return `${path}: cannot be written: ${messageOf(error)}`
  }
}

/** Whether no key is there yet: the sidecar follows the folder. Throws an `Error` for people when it is none, which no key could come into. */
function holdsNothing(claimKeysDir: string): boolean {
  try {
    return readdirSync(claimKeysDir).every((name) => name.startsWith('.'))
  } catch (error) {
    throw new Error(`--claim-keys ${claimKeysDir}: must be a folder, with a file for each key (${messageOf(error)})`, { cause: error })
  }
}

/** Throws an `Error` for people when something could not be made or written there. */
function writable<T>(dataDir: string, act: () => T): T {
  try {
    return act()
  } catch (error) {
    throw new Error(`--data ${dataDir}: must be a folder that this user may write to (${messageOf(error)})`, { cause: error })
  }
}

function writeConfigFile(path: string, config: SidecarConfig): void {
  writeFileSync(`${path}.new`, `${JSON.stringify(config)}\n`)
  renameSync(`${path}.new`, path)
}
