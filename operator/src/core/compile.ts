/**
 * Manifests in, configs and statuses out: one pure function, so that status cannot disagree with config. A budget whose
 * tiers are not all there, or not all accepted, gets no config: nothing is half applied, and the last good one stays.
 */
import type { ConversationBudget, ConversationBudgetStatus } from '@farebox/crds/conversation-budget.ts'
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import { parseDuration } from '@farebox/crds/duration.ts'
import { isTimeZone } from '@farebox/crds/period.ts'
import type { PriceBook, PriceBookStatus } from '@farebox/crds/price-book.ts'
import type { PriceEntry } from '@farebox/crds/price-entry.ts'
import { createPriceList } from '@farebox/crds/price-list.ts'
import type { PriceList } from '@farebox/crds/prices.ts'
import type { PricingTier, PricingTierStatus } from '@farebox/crds/pricing-tier.ts'
import { SIDECAR_CONFIG_SCHEMA_VERSION, UpstreamSchema } from '@farebox/crds/sidecar-config.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { allowancePercent } from '@farebox/crds/store-failure.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { canonicalJson, contentHash } from './canonical.ts'
import type { SharedTexts } from './canonical.ts'
import { compileTier } from './compile-tier.ts'
import type { CompiledTier } from './compile-tier.ts'
import { conditionsOf, withSummary } from './conditions.ts'
import type { Fault, Finding } from './conditions.ts'
import { unknownUpstream, unpricedModel, unpricedUpstream, unservedDowngrade } from './moves.ts'
import { invalidFinding } from './not-understood.ts'
import type { NotUnderstood } from './not-understood.ts'
import { bookFinding, pricedProviders, refusalOfBook } from './price-book-findings.ts'
import { budgetKey, namespaceOf, sameSelector, sharingOf } from './same-pods.ts'
import { smallerUpgrade, upgradeCircle } from './upgrades.ts'
import { outputLimitFieldOf, upstreamsOf } from './upstreams.ts'
import type { DeclaredUpstream } from './upstreams.ts'
import { WAITS } from './waiting.ts'

const CATALOGUE = loadCatalogue()

/** What the PriceBooks say, in order: of two equal entries the first counts. */
interface BookPrices {
  /** One list for all configs. */
  readonly entries: PriceEntry[]
  readonly list: PriceList
  /** Why one of them is not accepted: then no budget is compiled with half of them. */
  readonly refused: string | null
}

/** Objects that have passed `checkObject`. */
export interface Snapshot {
  readonly tiers: readonly PricingTier[]
  readonly budgets: readonly ConversationBudget[]
  readonly priceBooks: readonly PriceBook[]
  /** Those that have not, and are there all the same: a budget that needs one of them waits. Absent: there are none. */
  readonly notUnderstood?: {
    readonly tiers: readonly NotUnderstood[]
    readonly priceBooks: readonly NotUnderstood[]
  }
}

export interface CompileContext {
  readonly nowMs: number
  /** The configs in force, by budget. */
  readonly previous: ReadonlyMap<string, SidecarConfig>
  /** Those in force that another version wrote, and that cannot be read here. Absent: there are none. */
  readonly unread?: ReadonlyMap<string, ConfigName>
  /**
   * By budget, what its sidecars have in force: it may be later than what we know of, as after the cluster was restored from a backup.
   * Absent: nobody says.
   */
  readonly reported?: ReadonlyMap<string, ConfigName>
}

export type ConfigName = Pick<SidecarConfig, 'version' | 'hash'>

export interface Compiled {
  /** By budget: `support/desk`. Only those that are whole. */
  readonly configs: ReadonlyMap<string, SidecarConfig>
  /** By object: `PricingTier/pro`, `ConversationBudget/support/desk`. */
  readonly statuses: ReadonlyMap<string, ObjectStatus>
  /** What status says of fields, for `lint`: only what is not well, or not as its author may think. */
  readonly findings: readonly { readonly object: string; readonly field: string; readonly reason: string; readonly message: string }[]
  /** The tiers as compiled, for `explain`. */
  readonly tiers: ReadonlyMap<string, CompiledTier>
  /** Of what these configs share, for `configText`. */
  readonly shared: SharedTexts
}

export type ObjectStatus = PricingTierStatus | ConversationBudgetStatus | PriceBookStatus

export function compile(snapshot: Snapshot, context: CompileContext): Compiled {
  const { tiers: strangeTiers, priceBooks: strangeBooks } = snapshot.notUnderstood ?? { tiers: [], priceBooks: [] }
  const books = snapshot.priceBooks.toSorted(byName)
  const unread = strangeBooks.map(({ name, problems }) => bookRefused(name, invalidFinding(problems))).toSorted()[0] ?? null
  const rates = { byCurrency: new Map(books.flatMap((book) => Object.entries(book.spec.exchangeRates))), unread }
  const names = new Set([...snapshot.tiers.map((tier) => tier.metadata.name), ...strangeTiers.map(({ name }) => name)])
  const tiers = new Map<string, CompiledTier>([
    ...strangeTiers.map(({ name, problems }) => [name, { status: 'refused', finding: invalidFinding(problems), lines: [] }] as const),
    ...snapshot.tiers.map((tier) => [tier.metadata.name, outOfCircles(compileTier(tier, rates, names), tier, snapshot.tiers)] as const),
  ])
  const refusedBooks = new Map(
    books.flatMap((book) => {
      const refusal = refusalOfBook(book, context.nowMs)
      return refusal === null ? [] : [[book.metadata.name, refusal] as const]
    }),
  )
  const entries = books.toReversed().flatMap((book) => book.spec.entries) // of two equal entries the first counts
  const prices: BookPrices = {
    entries,
    list: createPriceList(entries, CATALOGUE),
    refused: unread ?? [...refusedBooks].map(([name, refusal]) => bookRefused(name, refusal))[0] ?? null,
  }
  const contracts = [...tiers.values()].flatMap((tier) => (tier.status === 'accepted' ? [tier.contract] : []))
  const shared: SharedTexts = new Map([entries, ...contracts].map((part) => [part, canonicalJson(part)]))
  const { older, adding } = sharingOf(snapshot.budgets)
  const refusals = new Map(snapshot.budgets.map((budget) => [budget, refusalOf(budget, tiers, prices, context.nowMs)]))
  const configs = new Map<string, SidecarConfig>()
  const found = new Map<string, readonly Finding[]>()
  /** Budgets of pods that an older one governs. */
  const governed = new Set<string>()
  for (const [governing, ...later] of sameSelector(snapshot.budgets)) {
    const key = budgetKey(governing)
    const refusal = refusals.get(governing) ?? null
    const limits = (adding.get(governing) ?? []).flatMap((budget) => (refusals.get(budget) === null ? budget.spec.limits : []))
    if (refusal === null) {
      const { config, findings } = compileBudget(governing, limits, tiers, prices, shared, context)
      configs.set(key, config)
      const oldest = older.get(governing)
      const isAdded = oldest !== undefined && adding.get(oldest)?.includes(governing) === true && configs.has(budgetKey(oldest))
      found.set(
        `ConversationBudget/${key}`,
        oldest === undefined ? findings : findings.map((finding) => sharingPods(finding, governing, oldest, isAdded)),
      )
    } else found.set(`ConversationBudget/${key}`, refusedBy(refusal, keptOf(key, context)))
    for (const budget of later) {
      const own = refusals.get(budget) ?? null
      governed.add(budgetKey(budget))
      found.set(
        `ConversationBudget/${budgetKey(budget)}`,
        own === null
          ? governedBy(governing, refusal === null)
          : refusedBy(
              own,
              refusal !== null && holds(context.previous.get(key)?.limits ?? [], budget.spec.limits)
                ? 'its limits stay as they were last'
                : 'its limits are not in force',
            ),
      )
    }
  }
  const statuses = new Map<string, ObjectStatus>()
  for (const tier of snapshot.tiers) {
    const object = `PricingTier/${tier.metadata.name}`
    const compiled = tiers.get(tier.metadata.name)
    const findings: readonly Finding[] = [compiled?.status === 'refused' ? compiled.finding : acceptedTier(tier, tiers)]
    found.set(object, findings)
    statuses.set(object, {
      ...statusBase(tier, findings, context.nowMs),
      ...(compiled?.status === 'accepted' ? { derived: compiled.derived } : {}),
      boundBudgets: snapshot.budgets.filter((budget) => tiersOf(budget).includes(tier.metadata.name)).length,
      margin: { targetPercent: tier.spec.unitEconomics.targetGrossMarginPercent },
    })
  }
  for (const budget of snapshot.budgets) {
    const key = budgetKey(budget)
    const config = governed.has(key) ? undefined : (configs.get(key) ?? context.previous.get(key) ?? context.unread?.get(key))
    statuses.set(`ConversationBudget/${key}`, {
      ...statusBase(budget, found.get(`ConversationBudget/${key}`) ?? [], context.nowMs),
      ...(config === undefined ? {} : { config: { version: config.version, hash: config.hash } }),
    })
  }
  for (const book of snapshot.priceBooks) {
    const object = `PriceBook/${book.metadata.name}`
    const own = refusedBooks.get(book.metadata.name)
    const judged: readonly Finding[] = [
      own === undefined ? bookFinding(book, snapshot.budgets, context.nowMs) : { type: 'Accepted', status: 'False', ...own },
    ]
    found.set(object, judged)
    statuses.set(object, {
      ...statusBase(book, judged, context.nowMs),
      ...(own === undefined ? { entries: book.spec.entries.length } : {}),
    })
  }
  const findings = [...found].flatMap(([object, list]) =>
    list.flatMap((finding) =>
      finding.field === undefined ? [] : [{ object, field: finding.field, reason: finding.reason, message: finding.message }],
    ),
  )
  return { configs, statuses, findings, tiers, shared }
}

/** The tiers that a budget may use, its default first. */
export function tiersOf(budget: ConversationBudget): readonly string[] {
  return [...new Set([budget.spec.tier.default, ...budget.spec.tier.allowed])]
}

/** Which tiers lead where is seen only beside each other. */
function outOfCircles(compiled: CompiledTier, tier: PricingTier, tiers: readonly PricingTier[]): CompiledTier {
  const refusal = compiled.status === 'accepted' ? upgradeCircle(tier, tiers) : null
  return refusal === null
    ? compiled
    : { status: 'refused', finding: { type: 'Accepted', status: 'False', ...refusal }, lines: compiled.lines }
}

function acceptedTier({ metadata }: PricingTier, tiers: ReadonlyMap<string, CompiledTier>): Finding {
  const accepted = { type: 'Accepted', status: 'True', reason: 'Accepted', message: 'the numbers add up' } as const
  const doubt = smallerUpgrade(metadata.name, tiers)
  return doubt === null ? accepted : { ...accepted, ...doubt, message: `${accepted.message}; but ${doubt.message}` }
}

interface CompiledBudget {
  readonly config: SidecarConfig
  readonly findings: readonly Finding[]
}

/** Of a budget that is not refused. `laterLimits`: of budgets that select all of its pods and came later. */
function compileBudget(
  budget: ConversationBudget,
  laterLimits: SidecarConfig['limits'],
  tiers: ReadonlyMap<string, CompiledTier>,
  prices: BookPrices,
  shared: SharedTexts,
  context: CompileContext,
): CompiledBudget {
  const { spec } = budget
  const contracts = Object.fromEntries(
    tiersOf(budget).flatMap((name) => {
      const tier = tiers.get(name)
      return tier?.status === 'accepted' ? [[name, tier.contract]] : []
    }),
  )
  const key = budgetKey(budget)
  const content: Omit<SidecarConfig, 'version' | 'hash'> = {
    schemaVersion: SIDECAR_CONFIG_SCHEMA_VERSION,
    namespace: namespaceOf(budget),
    budget: budget.metadata.name,
    mode: spec.mode,
    tiers: {
      default: spec.tier.default,
      allowed: [...tiersOf(budget)],
      ...(spec.tier.claim === undefined ? {} : { claim: claimOf(spec.tier.claim) }),
    },
    contracts,
    identity: { ...spec.identity, headers: spec.identity.headers.map((name) => name.toLowerCase()) },
    upstreams: upstreamsOf(budget).map(upstreamOf),
    limits: [...spec.limits, ...laterLimits],
    existingConversations: spec.existingConversations,
    contractMaxAgeMs: parseDuration(spec.contractMaxAge),
    onUnknownModel: spec.onUnknownModel,
    onDisconnect: spec.onDisconnect,
    ungoverned: spec.ungoverned,
    onStoreFailure: { action: spec.onStoreFailure.action, allowancePercent: allowancePercent(spec.onStoreFailure) },
    onStale: { afterMs: parseDuration(spec.onStale.after), action: spec.onStale.action },
    retrieval: spec.retrieval,
    taskBoundary: spec.taskBoundary,
    resolution: resolutionOf(spec.resolution),
    hostedTools: spec.hostedTools,
    prices: prices.entries,
  }
  const hash = contentHash(content, shared)
  // A config map that was deleted leaves what status says of it: sidecars may have that, whatever our clock says by now.
  const known: ConfigName | undefined = context.previous.get(key) ?? context.unread?.get(key) ?? budget.status?.config
  const reported = context.reported?.get(key)
  // What is older than theirs sidecars refuse, whatever it says.
  const previous = reported !== undefined && reported.version > (known?.version ?? 0) ? reported : known
  const version = previous?.hash === hash ? previous.version : Math.max((previous?.version ?? 0) + 1, context.nowMs)
  return {
    config: { ...content, version, hash },
    findings: [
      acceptedFinding(budget, contracts, prices, context.nowMs),
      { type: 'Programmed', status: 'True', reason: 'Programmed', message: `config ${hash} is written` },
    ],
  }
}

/** What an owner may well mean is in force all the same: it is only said what it gives away, or that it does nothing. */
function acceptedFinding(budget: ConversationBudget, contracts: SidecarConfig['contracts'], prices: BookPrices, nowMs: number): Finding {
  const { length } = tiersOf(budget)
  const accepted = {
    type: 'Accepted',
    status: 'True',
    reason: 'Accepted',
    message: `bound to ${length === 1 ? 'one tier' : `${length} tiers`}`,
  } as const
  const holding = budget.spec.upstreams.find(({ credential }) => credential !== undefined)
  if (holding !== undefined && budget.spec.ungoverned === 'Pass') {
    const message = `${accepted.message}; but with ungoverned: Pass the key held for "${holding.name}" goes with every request to it, unmetered ones too, by which an app may spend, or make itself a key`
    return { ...accepted, reason: 'HeldKeyUngoverned', message, field: 'spec.ungoverned' }
  }
  const unpriced = budget.spec.onUnknownModel === 'Free' ? null : unpricedUpstream(budget, prices.list, nowMs)
  if (unpriced !== null) {
    const message = `${accepted.message}; but nobody prices the provider "${unpriced.provider}" of upstream "${unpriced.name}": its calls are refused. There are prices for ${pricedProviders(prices.entries)}`
    return { ...accepted, reason: 'ProviderUnpriced', message, field: `spec.upstreams[${unpriced.index}].provider` }
  }
  const unserved = unservedDowngrade(budget, contracts)
  if (unserved === null) return accepted
  const message = `${accepted.message}; but no call moves as spec.models.downgrades[${unserved.index}] of PricingTier "${unserved.tier}" says: ${unserved.why}`
  return { ...accepted, reason: 'DowngradeUnserved', message, field: 'spec.upstreams' }
}

/** Which Secret holds a key is nothing to a sidecar: it finds a file. */
function upstreamOf(declared: DeclaredUpstream): SidecarConfig['upstreams'][number] {
  const { baseURL, credential, ...upstream } = declared
  return {
    ...upstream,
    baseUrl: baseURL.replace(/\/$/, ''),
    credential: credential === undefined ? 'Passthrough' : 'Held',
    outputLimitField: outputLimitFieldOf(declared),
  }
}

/** Nor by which Secret claims are signed. */
function claimOf({ header, token }: NonNullable<ConversationBudget['spec']['tier']['claim']>): SidecarConfig['tiers']['claim'] {
  return { header: header.toLowerCase(), ...(token === undefined ? {} : { token: { format: token.format } }) }
}

function resolutionOf({ toolNames, quietPeriod, reopenWindow }: ConversationBudget['spec']['resolution']): SidecarConfig['resolution'] {
  return {
    toolNames,
    ...(quietPeriod === undefined ? {} : { quietPeriodMs: parseDuration(quietPeriod) }),
    reopenWindowMs: parseDuration(reopenWindow),
  }
}

/** Null when the budget can be in force. */
function refusalOf(budget: ConversationBudget, tiers: ReadonlyMap<string, CompiledTier>, prices: BookPrices, nowMs: number): Fault | null {
  const { spec } = budget
  if (prices.refused !== null) return { reason: 'PriceBookNotAccepted', field: 'spec', message: prices.refused }
  const upstreams = upstreamsOf(budget)
  for (const name of tiersOf(budget)) {
    const field = name === spec.tier.default ? 'spec.tier.default' : `spec.tier.allowed[${spec.tier.allowed.indexOf(name)}]`
    const tier = tiers.get(name)
    if (tier === undefined) return { reason: 'TierNotFound', field, message: `there is no PricingTier "${name}"` }
    if (tier.status === 'refused')
      return { reason: 'TierNotAccepted', field, message: `PricingTier "${name}" is not accepted: ${tier.finding.message}` }
    const elsewhere = unknownUpstream(tier.contract, upstreams)
    if (elsewhere !== null) {
      const message = `PricingTier "${name}" has "${elsewhere.upstream}" as ${elsewhere.field}, which must be an upstream of this budget: ${upstreams.map((upstream) => upstream.name).join(', ')}`
      return { reason: 'UpstreamNotFound', field, message }
    }
    const unpriced = unpricedModel(tier.contract, upstreams, prices.list, nowMs)
    if (unpriced !== null) {
      const message = `PricingTier "${name}" has "${unpriced.model}" as ${unpriced.field}, which has no price for ${unpriced.providers.join(' or ')}: add it to a PriceBook`
      return { reason: 'ModelUnpriced', field, message }
    }
  }
  for (const [index, { baseURL }] of spec.upstreams.entries()) {
    if (UpstreamSchema.shape.baseUrl.safeParse(baseURL).success) continue
    const message = `"${baseURL}" must be a URL with a host, and a port below 65536 where it has one`
    return { reason: 'BaseUrlInvalid', field: `spec.upstreams[${index}].baseURL`, message }
  }
  for (const [index, { period }] of spec.limits.entries()) {
    if (isTimeZone(period.timeZone)) continue
    const message = `"${period.timeZone}" must be an IANA time zone such as "Europe/Berlin"`
    return { reason: 'UnknownTimeZone', field: `spec.limits[${index}].period.timeZone`, message }
  }
  return null
}

function bookRefused(name: string, { message }: Pick<Finding, 'message'>): string {
  return `PriceBook "${name}" is not accepted: ${message}`
}

/** What is programmed stays as it is: it is only said that an older budget selects some of the same pods, and what holds there. */
function sharingPods(finding: Finding, budget: ConversationBudget, older: ConversationBudget, isAdded: boolean): Finding {
  if (finding.type !== 'Programmed' || finding.status !== 'True') return finding
  const limits = isAdded ? ', with the limits of this one added' : ', without the limits of this one'
  const message = `${finding.message}; but ConversationBudget "${older.metadata.name}" is older and selects some of the same pods, which it governs${budget.spec.limits.length === 0 ? '' : limits}`
  return { ...finding, reason: 'SelectorsOverlap', message, field: 'spec.selector' }
}

function governedBy(governing: ConversationBudget, isAccepted: boolean): readonly Finding[] {
  const limits = isAccepted ? ': of this one only the limits are in force' : ', but is not accepted: the limits of this one wait for it'
  const message = `ConversationBudget "${governing.metadata.name}" is older and selects the same pods${limits}`
  return [
    { type: 'Accepted', status: 'True', reason: 'Accepted', message: 'its limits are added' },
    { type: 'Programmed', status: 'False', reason: 'PartiallyProgrammed', message, field: 'spec.selector' },
  ]
}

const KEEPS_LAST = 'the last good config stays in force'
const KEEPS_UNREAD = 'the last config stays in force, which another version wrote: new pods wait where their sidecar cannot read it'
const NOT_IN_FORCE = `it is not in force, and ${WAITS}`

/** What is in force of a budget that is refused. */
function keptOf(key: string, { previous, unread }: CompileContext): string {
  if (previous.has(key)) return KEEPS_LAST
  return unread?.has(key) === true ? KEEPS_UNREAD : NOT_IN_FORCE
}

/** Whether none of `limits` lets more through than one of the same period that is in force. */
export function holds(inForce: SidecarConfig['limits'], limits: SidecarConfig['limits']): boolean {
  return limits.every(({ amount, period }) =>
    inForce.some((limit) => canonicalJson(limit.period) === canonicalJson(period) && parseUsd(limit.amount) <= parseUsd(amount)),
  )
}

/** `message`: what is in force all the same. */
function refusedBy(refusal: Fault, message: string): readonly Finding[] {
  return [
    { type: 'Accepted', status: 'False', ...refusal },
    { type: 'Programmed', status: 'False', reason: 'NotAccepted', message },
  ]
}

function statusBase(
  object: PricingTier | ConversationBudget | PriceBook,
  findings: readonly Finding[],
  nowMs: number,
): Pick<PricingTierStatus, 'observedGeneration' | 'conditions'> {
  const { generation } = object.metadata
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    conditions: conditionsOf(withSummary(findings), object.status?.conditions ?? [], generation, nowMs),
  }
}

/** Of two books that say something of the same model or currency, the one whose name comes last counts. */
function byName(a: PriceBook, b: PriceBook): number {
  return a.metadata.name < b.metadata.name ? -1 : 1
}
