/**
 * Compiles everything there is, and makes the config maps what came of it: one for each budget, owned by it, so that it goes with its
 * budget. A budget of which no config can be made keeps the one that it has. Whoever edits one of them sees it put right.
 */
import { ANNOTATIONS, CONFIG_KEYS, LABELS, MANAGED_BY } from '@farebox/crds/cluster.ts'
import type { ConversationBudget, ConversationBudgetStatus } from '@farebox/crds/conversation-budget.ts'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { Hindrance } from '../core/cluster-status.ts'
import { compile } from '../core/compile.ts'
import { budgetKey } from '../core/same-pods.ts'
import type { Compiled, ConfigName, Snapshot } from '../core/compile.ts'
import { configMapName } from '../core/config-map-name.ts'
import { configText } from '../core/config-text.ts'
import { messageOf } from '../core/error-text.ts'
import { WAITS } from '../core/waiting.ts'
import type { ReportBook } from '../delivery/report-book.ts'
import { applied, applyIfChanged, isWithin, ownerOf } from '../kube/apply.ts'
import { isRefusal } from '../kube/kube.ts'
import type { KubeClient, KubeObject } from '../kube/kube.ts'
import { CONFIG_MAPS } from '../kube/resources.ts'
import { Slices } from '../kube/slices.ts'
import type { Log } from '../telemetry/log.ts'
import type { Cluster } from './cluster.ts'
import { inBatches } from './in-batches.ts'
import { textIn } from './known.ts'
import type { KnownConfigMap } from './known.ts'

const FIELD_MANAGER = 'farebox-config'
/** Of the data of a config map, its keys with it. */
const CONFIG_MAP_BYTES_MAX = 1_048_576 - 64
const AT_ONCE = 8
/** Whoever writes what we write again and again is not answered at once: two of us would never end. */
const PUT_RIGHT_MAX = 5
const PUT_RIGHT_EVERY_MS = 10_000
/** Versions are times: one of a leader whose clock was ahead, or of before ours was set back, is at most so much later than now. */
const AHEAD_MS_MAX = 86_400_000
/** Sidecars of a budget are believed a later version at most this often: one that tells ever later ones would have it written without end. */
const AHEAD_EVERY_MS = 60_000
/** The leader writes the first certificate a moment after it began. */
const TRUST_AGAIN_MS = 100

export interface ConfigsOptions {
  readonly cluster: Cluster
  readonly client: KubeClient
  readonly reports: Pick<ReportBook, 'values'>
  /** What sidecars are to trust, as PEM; `null`: what any machine trusts; undefined: it is not known yet. */
  readonly trust: () => string | null | undefined
  /** Whether there is a store for budgets that name none. */
  readonly hasStore: boolean
  readonly nowMs: () => number
  /** Of a clock that nobody sets, in ms. */
  readonly steadyMs: () => number
  readonly log: Log
  readonly onOutcome: (outcome: 'written' | 'reverted' | 'failed', budget: ConversationBudget) => void
}

/** What one config map is to hold. */
interface Content {
  /** Null: another version made it, and it cannot be read here. */
  readonly config: SidecarConfig | null
  readonly name: ConfigName
  readonly text: string
}

/** What we wrote last as one config map. */
interface Written extends Pick<Content, 'config' | 'name'> {
  readonly ca: string | null
  /** Of the budget. */
  readonly owner: string | undefined
  readonly version: bigint
  /** Null: the cache is as new. */
  readonly object: KubeObject | null
}

/** What was compiled last, and what is in force of it. */
export interface InForce {
  readonly snapshot: Snapshot
  readonly compiled: Compiled
  readonly configs: ReadonlyMap<string, SidecarConfig>
  readonly hindered: ReadonlyMap<string, Hindrance>
}

/** What is in force before it is compiled anew, by budget. */
interface InForceBefore {
  readonly previous: ReadonlyMap<string, SidecarConfig>
  /** Those that another version wrote, and that cannot be read here. */
  readonly unread: ReadonlyMap<string, ConfigName>
}

/** What is to be in force of one budget. */
interface Wanted {
  readonly compiled: Compiled
  /** What is in force of it. */
  readonly previous: SidecarConfig | undefined
  readonly ca: string | null
}

/** How writing one config map ended: as it must be, or later since somebody else keeps writing it, or not at all. */
type Attempt =
  | { readonly status: 'done' }
  | { readonly status: 'contested'; readonly againAfterMs: number }
  | { readonly status: 'failed'; readonly error: unknown }

const DONE: Attempt = { status: 'done' }

/** What became of one budget. */
interface Outcome {
  readonly attempt: Attempt
  /** Why what was compiled is not in force; null: it is, or nothing was compiled. */
  readonly hindrance: Hindrance | null
  /** Whether a config was compiled that is not there, and the one before it stays. */
  readonly isKept: boolean
}

/** Remembers what it wrote, until it is told that that is gone, and writes only in `reconcile`. Nothing of it is to be closed. */
export class Configs {
  readonly #options: ConfigsOptions
  /** As the API server answered: what it tells of them by the watch may come later. By `namespace/name` of the config map. */
  readonly #written = new Map<string, Written>()
  /** By config map: how often somebody else's writing was put right in a row, and when last. */
  readonly #contests = new Map<string, { readonly count: number; readonly atMs: number }>()
  /** By budget: what its sidecars had in force when that was later than what we knew of. */
  readonly #ahead = new Map<string, { readonly config: ConfigName; readonly atMs: number }>()
  /** By uid of the budget: what was in force of it when all were looked at last. */
  #last: ReadonlyMap<string, SidecarConfig> = new Map()
  #inForce: InForce | null = null

  constructor(options: ConfigsOptions) {
    this.#options = options
  }

  /** Null before the first. */
  get inForce(): InForce | null {
    return this.#inForce
  }

  /** It was deleted: what we know of the object does not count any more. */
  forget(configMap: string): void {
    this.#written.delete(configMap)
    this.#contests.delete(configMap)
  }

  /**
   * Whether a sidecar has a later config in force than we know of, as after the cluster was restored from a backup: then there is
   * something to reconcile, or it would refuse what we say as older for ever.
   */
  isBehind(received: ReceivedReport): boolean {
    const known = this.#inForce?.configs.get(received.report.inForce?.budget ?? '')
    return known !== undefined && this.#isAhead(received, known.version)
  }

  /** Rejects when a config map could not be written; what could be is. */
  async reconcile(): Promise<{ readonly againAfterMs?: number } | void> {
    const { cluster, trust, nowMs } = this.#options
    await this.#readAhead()
    const ca = trust()
    if (ca === undefined) return { againAfterMs: TRUST_AGAIN_MS }
    const snapshot = cluster.snapshot()
    const { previous, unread } = this.#known(snapshot.budgets)
    const reported = this.#reported(snapshot.budgets, new Map<string, ConfigName>([...unread, ...previous]))
    const compiled = compile(snapshot, { nowMs: nowMs(), previous, unread, reported })
    const outcomes = new Map<string, Outcome>()
    const slices = new Slices()
    await inBatches(snapshot.budgets, AT_ONCE, async (budget) => {
      await slices.yieldSometimes()
      const key = budgetKey(budget)
      outcomes.set(key, await this.#bringAbout(budget, { compiled, previous: previous.get(key), ca }))
    })
    this.#remember({ snapshot, compiled, previous, unread }, outcomes)
    return verdictOf([...outcomes.values()].map(({ attempt }) => attempt))
  }

  /** What is in force, by budget: the configs, and the names of those that another version wrote and that cannot be read here. */
  #known(budgets: readonly ConversationBudget[]): InForceBefore {
    const previous = new Map<string, SidecarConfig>()
    const unread = new Map<string, ConfigName>()
    for (const budget of budgets) {
      const key = budgetKey(budget)
      const config = this.#previousOf(budget)
      const name = config === null ? (this.#ownOf(budget)?.name ?? null) : null
      if (config !== null) previous.set(key, config)
      if (name !== null) unread.set(key, name)
    }
    return { previous, unread }
  }

  /** Writes what was compiled of a budget or, where nothing was or it is too large, what stays in its place. A write that fails is told by the outcome. */
  async #bringAbout(budget: ConversationBudget, { compiled, previous, ca }: Wanted): Promise<Outcome> {
    const { cluster, hasStore, onOutcome } = this.#options
    if (cluster.isGoing(budget.metadata.namespace ?? '')) return { attempt: DONE, hindrance: null, isKept: false }
    const config = compiled.configs.get(budgetKey(budget))
    const made = config === undefined ? null : { config, name: config, text: configText(config, compiled.shared) }
    const bytes = made === null ? 0 : Buffer.byteLength(made.text) + Buffer.byteLength(ca ?? '')
    const isTooLarge = bytes > CONFIG_MAP_BYTES_MAX
    if (isTooLarge) onOutcome('failed', budget)
    // What stays in force stays whole: somebody may have deleted it, and sidecars may have to trust another operator by now.
    const content = isTooLarge ? null : made
    const attempt = await this.#attempt(budget, content ?? this.#keptOf(budget, previous), ca)
    if (made === null) return { attempt, hindrance: null, isKept: false }
    const unwritten = isTooLarge ? tooLarge(bytes) : whyUnwritten(attempt)
    const isStoreless = !hasStore && budget.spec.store.kind === 'Shared' && budget.spec.store.redis === undefined
    return { attempt, hindrance: unwritten ?? (isStoreless ? NO_STORE : null), isKept: unwritten !== null }
  }

  async #attempt(budget: ConversationBudget, content: Content | null, ca: string | null): Promise<Attempt> {
    if (content === null) return DONE
    try {
      const againAfterMs = await this.#write(budget, content, ca)
      return againAfterMs === null ? DONE : { status: 'contested', againAfterMs }
    } catch (error) {
      this.#options.onOutcome('failed', budget)
      return { status: 'failed', error }
    }
  }

  /** What is in force now: what was compiled, but of a budget of which that was not written what was there before. */
  #remember(
    { snapshot, compiled, previous, unread }: InForceBefore & Pick<InForce, 'snapshot' | 'compiled'>,
    outcomes: ReadonlyMap<string, Outcome>,
  ): void {
    const kept = new Map(
      [...outcomes].flatMap(([key, { isKept }]) => (isKept ? [[key, previous.get(key) ?? unread.get(key)] as const] : [])),
    )
    const hindered = new Map([...outcomes].flatMap(([key, { hindrance }]) => (hindrance === null ? [] : [[key, hindrance] as const])))
    const configs = new Map([...previous, ...[...compiled.configs].filter(([key]) => !kept.has(key))])
    this.#inForce = { snapshot, compiled: keeping(compiled, kept), configs, hindered }
    this.#last = new Map(
      [...configs].flatMap(([key, config]) => {
        const uid = this.#options.cluster.budgets.get(key)?.object.metadata.uid
        return uid === undefined ? [] : [[uid, config] as const]
      }),
    )
  }

  /** Null: it is as it must be. Else in how many ms it may be written: somebody else keeps writing it. */
  async #write(budget: ConversationBudget, { config, name: made, text }: Content, ca: string | null): Promise<number | null> {
    const { cluster, client, log, onOutcome, steadyMs } = this.#options
    const key = budgetKey(budget)
    const known = cluster.budgets.get(key)
    if (known === undefined) return null // it went meanwhile, and what it owns goes with it
    const name = configMapName(budget.metadata.name)
    const place = `${budget.metadata.namespace}/${name}`
    const wanted = applied(CONFIG_MAPS, name, {
      ...(budget.metadata.namespace === undefined ? {} : { namespace: budget.metadata.namespace }),
      labels: { [LABELS.managedBy]: MANAGED_BY },
      annotations: { [ANNOTATIONS.configOf]: key },
      ownerReferences: [ownerOf(known.object)],
      fields: { data: { [CONFIG_KEYS.config]: text, ...(ca === null ? {} : { [CONFIG_KEYS.trust]: ca }) } },
    })
    const before = this.#written.get(place)
    const current = this.#currentOf(place)
    const isForeign = before !== undefined && current !== undefined && versionOf(current) > before.version && !isWithin(wanted, current)
    const contest = this.#contests.get(place) ?? { count: 0, atMs: -Infinity }
    const sinceMs = steadyMs() - contest.atMs
    if (isForeign && contest.count >= PUT_RIGHT_MAX && sinceMs < PUT_RIGHT_EVERY_MS) return PUT_RIGHT_EVERY_MS - sinceMs
    // An authority that is none any more would not show as a difference.
    const isLeftOver = ca === null && current !== undefined && textIn(current, CONFIG_KEYS.trust) !== null
    const compared = isLeftOver ? undefined : current
    const after = await applyIfChanged(client, CONFIG_MAPS, wanted, { fieldManager: FIELD_MANAGER, force: true, current: compared })
    if (after === current) return null
    if (isForeign) this.#contests.set(place, { count: sinceMs < 2 * PUT_RIGHT_EVERY_MS ? contest.count + 1 : 1, atMs: steadyMs() })
    const owner = known.object.metadata.uid
    this.#written.set(place, { config, name: made, ca, owner, version: versionOf(after), object: after })
    const isSame = before?.name.version === made.version && before.name.hash === made.hash && before.ca === ca
    const isReverted = isSame && before.owner === owner && current !== before.object
    onOutcome(isReverted ? 'reverted' : 'written', budget)
    log.info({ budget: key, version: made.version, hash: made.hash, isReverted }, 'config written')
    return null
  }

  /**
   * Reads the configs that another leader wrote, so that nothing reads them all in one turn: each takes milliseconds, and it is this
   * process that admits pods.
   */
  async #readAhead(): Promise<void> {
    const slices = new Slices()
    for (const budget of this.#options.cluster.snapshot().budgets) {
      this.#previousOf(budget)
      await slices.yieldSometimes()
    }
  }

  /** The config in force. One that belongs to an earlier budget of the same name does not count: it goes with that. */
  #previousOf(budget: ConversationBudget): SidecarConfig | null {
    const place = `${budget.metadata.namespace}/${configMapName(budget.metadata.name)}`
    const written = this.#written.get(place)
    const uid = this.#options.cluster.budgets.get(budgetKey(budget))?.object.metadata.uid
    const own = this.#ownOf(budget)
    const made = written?.owner === uid ? (written?.config ?? null) : null
    const known = made !== null && isNothingNew(own?.name ?? null, made) ? made : newerOf(made, own?.config ?? null)
    if (known !== null || uid === undefined) return known
    // Somebody deleted it, or wrote into it what is none: of a budget that is refused no other can be made.
    return own === null || own.name === null ? (this.#last.get(uid) ?? null) : null
  }

  /** What stays of a budget of which nothing new is made. Null: nothing is known of it. */
  #keptOf(budget: ConversationBudget, previous: SidecarConfig | undefined): Content | null {
    const { object, name = null } = this.#ownOf(budget) ?? {}
    const text = object === undefined ? null : textIn(object, CONFIG_KEYS.config)
    const isPrevious = name?.version === previous?.version && name?.hash === previous?.hash
    // A later one is another operator's: it stays, whoever can read it.
    if (name !== null && text !== null && (isPrevious || name.version > (previous?.version ?? 0)))
      return { config: isPrevious ? (previous ?? null) : null, name, text }
    return previous === undefined ? null : { config: previous, name: previous, text: configText(previous) }
  }

  /** Its config map, as the cache has it. */
  #ownOf(budget: ConversationBudget): KnownConfigMap | null {
    const { cluster } = this.#options
    const cached = cluster.configMaps.get(`${budget.metadata.namespace}/${configMapName(budget.metadata.name)}`)
    const uid = cluster.budgets.get(budgetKey(budget))?.object.metadata.uid
    return cached?.object.metadata.ownerReferences?.some((owner) => owner.uid === uid) === true ? cached : null
  }

  /** What sidecars have in force that is later than what we know of, now or before. */
  #reported(budgets: readonly ConversationBudget[], previous: ReadonlyMap<string, ConfigName>): ReadonlyMap<string, ConfigName> {
    const versions = new Map(
      budgets.map((budget) => {
        const key = budgetKey(budget)
        return [key, (previous.get(key) ?? budget.status?.config)?.version ?? 0] as const
      }),
    )
    const latest = new Map<string, ConfigName>()
    for (const received of this.#options.reports.values()) {
      const { inForce } = received.report
      const version = inForce === null ? undefined : versions.get(inForce.budget)
      if (inForce === null || version === undefined) continue
      if (this.#isAhead(received, Math.max(version, latest.get(inForce.budget)?.version ?? 0))) latest.set(inForce.budget, inForce)
    }
    for (const [key, { version, hash }] of latest) {
      this.#ahead.set(key, { config: { version, hash }, atMs: this.#options.steadyMs() })
      const known = versions.get(key)
      this.#options.log.warn({ budget: key, version, known }, 'sidecars have a later config than the cluster, which goes beyond it')
    }
    for (const key of this.#ahead.keys()) if (!versions.has(key)) this.#ahead.delete(key)
    return new Map([...this.#ahead].map(([key, { config }]) => [key, config]))
  }

  /** Whether the sidecar has a config of its own budget that is later than this version, and is to be believed. */
  #isAhead({ pod, report }: ReceivedReport, version: number): boolean {
    const { cluster, nowMs, steadyMs } = this.#options
    const { inForce } = report
    if (inForce === null || inForce.version <= version || inForce.version > nowMs() + AHEAD_MS_MAX) return false
    const before = this.#ahead.get(inForce.budget)
    if (before !== undefined && (inForce.version <= before.config.version || steadyMs() - before.atMs < AHEAD_EVERY_MS)) return false
    const known = cluster.pods.get(`${pod.namespace}/${pod.name}`)
    if (known === undefined || known.metadata.uid !== pod.uid) return false
    const governing = cluster.governingOf(known)
    return governing !== null && budgetKey(governing) === inForce.budget
  }

  #currentOf(place: string): KubeObject | undefined {
    const written = this.#written.get(place)
    const cached = this.#options.cluster.configMaps.get(place)?.object
    if (written === undefined || written.object === null || cached === undefined) return cached ?? written?.object ?? undefined
    if (written.version > versionOf(cached)) return written.object
    this.#written.set(place, { ...written, object: null })
    return cached
  }
}

const CONTESTED: Hindrance = {
  reason: 'Contested',
  message: 'somebody else keeps writing the ConfigMap of this budget: is the operator installed twice?',
}

const NO_STORE: Hindrance = {
  reason: 'NoStore',
  message: `no store came with the chart: name one in spec.store.redis, or choose the kind Embedded; the budget is not in force, and ${WAITS}`,
}

/** Throws when one could not be written. */
function verdictOf(attempts: readonly Attempt[]): { readonly againAfterMs: number } | undefined {
  const failures = attempts.flatMap((attempt) => (attempt.status === 'failed' ? [attempt.error] : []))
  if (failures.length > 0)
    throw new Error(`${failures.length} configs could not be written: ${messageOf(failures[0])}`, { cause: failures[0] })
  const waits = attempts.flatMap((attempt) => (attempt.status === 'contested' ? [attempt.againAfterMs] : []))
  return waits.length === 0 ? undefined : { againAfterMs: Math.min(...waits) }
}

/** Null: it was. */
function whyUnwritten(attempt: Attempt): Hindrance | null {
  if (attempt.status === 'done') return null
  if (attempt.status === 'contested') return CONTESTED
  const message = `the config could not be written: ${messageOf(attempt.error)}`
  return { reason: isRefusal(attempt.error) ? 'WriteRefused' : 'NotWritten', message }
}

function tooLarge(bytes: number): Hindrance {
  return {
    reason: 'TooLarge',
    message: `the config has ${bytes} bytes, and a ConfigMap holds ${CONFIG_MAP_BYTES_MAX}: take prices that nobody needs out of the PriceBooks`,
  }
}

/** Status names the config that is there, not one that could not be written. */
function keeping(compiled: Compiled, kept: ReadonlyMap<string, ConfigName | undefined>): Compiled {
  const statuses = new Map(compiled.statuses)
  for (const [key, name] of kept) {
    const object = `ConversationBudget/${key}`
    const { config: _, ...status }: ConversationBudgetStatus = statuses.get(object) ?? {}
    statuses.set(object, { ...status, ...(name === undefined ? {} : { config: { version: name.version, hash: name.hash } }) })
  }
  return { ...compiled, statuses }
}

/** By the name that the cache has: it is what we made ourselves, or was before it, and need not be read. */
function isNothingNew(name: ConfigName | null, made: ConfigName): boolean {
  if (name === null) return false
  return name.version < made.version || (name.version === made.version && name.hash === made.hash)
}

function newerOf(a: SidecarConfig | null, b: SidecarConfig | null): SidecarConfig | null {
  if (a === null || b === null) return a ?? b
  return a.version > b.version ? a : b
}

/** Versions of one resource grow as numbers do. */
function versionOf({ metadata }: KubeObject): bigint {
  const { resourceVersion = '' } = metadata
  return /^\d+$/.test(resourceVersion) ? BigInt(resourceVersion) : 0n
}
