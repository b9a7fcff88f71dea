/**
 * Manifests in, configs and statuses out: one pure function, so that status cannot disagree with config. A budget whose
 * tiers are not all there, or not all accepted, gets no config: nothing is half applied, and the last good one stays.
 */
import type { FareboxObject } from '@farebox/crds/check.ts'
import type { ConversationBudget, ConversationBudgetStatus } from '@farebox/crds/conversation-budget.ts'
import type { PriceBook, PriceBookStatus } from '@farebox/crds/price-book.ts'
import type { PricingTier, PricingTierStatus } from '@farebox/crds/pricing-tier.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { canonicalJson } from './canonical.ts'
import type { SharedTexts } from './canonical.ts'
import { tiersOf } from './compile-budget.ts'
import { compileTier } from './compile-tier.ts'
import type { CompiledTier } from './compile-tier.ts'
import { acceptedFinding, conditionsOf, refusedFinding, together, withSummary } from './conditions.ts'
import type { Finding } from './conditions.ts'
import { judgeBudgets } from './judged-budgets.ts'
import type { Judged } from './judged-budgets.ts'
import { invalidFinding } from './not-understood.ts'
import type { NotUnderstood } from './not-understood.ts'
import { bookFinding } from './price-book-findings.ts'
import { pricesOf } from './price-books.ts'
import type { BookPrices, ExchangeRates } from './price-books.ts'
import { budgetKey } from './same-pods.ts'
import { missingDowngrade, unadmittedDowngrade, unpricedName } from './unlikely-models.ts'
import { smallerUpgrade, upgradeCircle } from './upgrades.ts'

/** Objects that have passed `checkObject`, and budgets that have not as far as they can be read. */
export interface Snapshot {
  readonly tiers: readonly PricingTier[]
  readonly budgets: readonly ConversationBudget[]
  readonly priceBooks: readonly PriceBook[]
  /** Those that have not, and are there all the same: a budget that needs one of them waits. Absent: there are none. */
  readonly notUnderstood?: {
    readonly tiers: readonly NotUnderstood[]
    /** By key. They are among `budgets`, so that their place stays taken, and are refused. */
    readonly budgets: readonly NotUnderstood[]
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
  /** The key of a budget that governs whatever pods it shares, as if it were the oldest. Absent: age decides, as in a cluster. */
  readonly chosen?: string
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

/**
 * What is wrong with an object is a finding: nothing is thrown. A config keeps its version while its content stays the same, and else
 * gets a later one than any that `context` or its budget's status knows of. The order of the snapshot changes no config and no status.
 */
export function compile(snapshot: Snapshot, context: CompileContext): Compiled {
  const { budgets, priceBooks } = snapshot
  const prices = pricesOf(snapshot, context.nowMs)
  const tiers = compileTiers(snapshot, prices.rates)
  const shared = sharedTexts(prices, tiers)
  const judged = judgeBudgets(budgets, { tiers, prices, shared, notUnderstood: snapshot.notUnderstood?.budgets ?? [] }, context)
  const found = new Map<FareboxObject, readonly Finding[]>([
    ...[...judged].map(([budget, { findings }]) => [budget, findings] as const),
    ...snapshot.tiers.map((tier) => [tier, [findingOfTier(tier, tiers, prices, budgets)]] as const),
    ...priceBooks.map((book) => [book, [findingOfBook(book, prices, snapshot, context.nowMs)]] as const),
  ])
  const base = (object: FareboxObject): BaseStatus => statusBase(object, found.get(object) ?? [], context.nowMs)
  return {
    configs: new Map(
      [...judged].flatMap(([budget, verdict]) => (verdict.status === 'compiled' ? [[budgetKey(budget), verdict.config]] : [])),
    ),
    statuses: new Map<string, ObjectStatus>([
      ...snapshot.tiers.map((tier) => [objectKey(tier), { ...base(tier), ...numbersOfTier(tier, tiers, budgets) }] as const),
      ...budgets.map((budget) => [objectKey(budget), { ...base(budget), ...configOf(budget, judged, context) }] as const),
      ...priceBooks.map((book) => [objectKey(book), { ...base(book), ...numbersOfBook(book, prices) }] as const),
    ]),
    findings: [...found].flatMap(([object, findings]) => fieldFindings(objectKey(object), findings)),
    tiers,
    shared,
  }
}

/** The key of an object's status: `PricingTier/pro`, `ConversationBudget/support/desk`. */
export function objectKey(object: FareboxObject): string {
  return object.kind === 'ConversationBudget' ? `${object.kind}/${budgetKey(object)}` : `${object.kind}/${object.metadata.name}`
}

/** By name, those that are not understood included. */
function compileTiers({ tiers, notUnderstood }: Snapshot, rates: ExchangeRates): ReadonlyMap<string, CompiledTier> {
  const strange = notUnderstood?.tiers ?? []
  const names = new Set([...tiers.map(({ metadata }) => metadata.name), ...strange.map(({ name }) => name)])
  return new Map<string, CompiledTier>([
    ...strange.map(({ name, problems }) => [name, { status: 'refused', finding: invalidFinding(problems), lines: [] }] as const),
    ...tiers.map((tier) => [tier.metadata.name, outOfCircles(compileTier(tier, rates, names), tier, tiers)] as const),
  ])
}

/** Which tiers lead where is seen only beside each other. */
function outOfCircles(compiled: CompiledTier, tier: PricingTier, tiers: readonly PricingTier[]): CompiledTier {
  const refusal = compiled.status === 'accepted' ? upgradeCircle(tier, tiers) : null
  return refusal === null ? compiled : { status: 'refused', finding: refusedFinding(refusal), lines: compiled.lines }
}

function sharedTexts({ entries }: BookPrices, tiers: ReadonlyMap<string, CompiledTier>): SharedTexts {
  const contracts = [...tiers.values()].flatMap((tier) => (tier.status === 'accepted' ? [tier.contract] : []))
  return new Map([entries, ...contracts].map((part) => [part, canonicalJson(part)]))
}

function findingOfTier(
  tier: PricingTier,
  tiers: ReadonlyMap<string, CompiledTier>,
  { entries }: BookPrices,
  budgets: Snapshot['budgets'],
): Finding {
  const { name } = tier.metadata
  const compiled = tiers.get(name)
  if (compiled?.status === 'refused') return compiled.finding
  const doubt = together([
    smallerUpgrade(name, tiers),
    unpricedName(tier, usersOf(name, budgets), entries),
    unadmittedDowngrade(tier),
    missingDowngrade(tier),
  ])
  return acceptedFinding('the numbers add up', doubt)
}

/** The budgets that use a tier. */
function usersOf(tier: string, budgets: Snapshot['budgets']): Snapshot['budgets'] {
  return budgets.filter((budget) => tiersOf(budget).includes(tier))
}

function findingOfBook(book: PriceBook, { refusals }: BookPrices, { budgets }: Snapshot, nowMs: number): Finding {
  const refusal = refusals.get(book.metadata.name)
  return refusal === undefined ? bookFinding(book, budgets, nowMs) : refusedFinding(refusal)
}

type BaseStatus = Pick<PricingTierStatus, 'observedGeneration' | 'conditions'>

/** What every object's status has. */
function statusBase(object: FareboxObject, findings: readonly Finding[], nowMs: number): BaseStatus {
  const { generation } = object.metadata
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    conditions: conditionsOf(withSummary(findings), object.status?.conditions ?? [], generation, nowMs),
  }
}

function numbersOfTier(
  { metadata: { name }, spec }: PricingTier,
  tiers: ReadonlyMap<string, CompiledTier>,
  budgets: Snapshot['budgets'],
): PricingTierStatus {
  const compiled = tiers.get(name)
  return {
    ...(compiled?.status === 'accepted' ? { derived: compiled.derived } : {}),
    boundBudgets: usersOf(name, budgets).length,
    margin: { targetPercent: spec.unitEconomics.targetGrossMarginPercent },
  }
}

/** The config of its pods: the one just compiled, or else the last good one. */
function configOf(
  budget: ConversationBudget,
  judged: ReadonlyMap<ConversationBudget, Judged>,
  { previous, unread }: CompileContext,
): Pick<ConversationBudgetStatus, 'config'> {
  const verdict = judged.get(budget)
  if (verdict?.status === 'governed') return {}
  const key = budgetKey(budget)
  const config: ConfigName | undefined = verdict?.status === 'compiled' ? verdict.config : (previous.get(key) ?? unread?.get(key))
  return config === undefined ? {} : { config: { version: config.version, hash: config.hash } }
}

function numbersOfBook({ metadata, spec }: PriceBook, { refusals }: BookPrices): PriceBookStatus {
  return refusals.has(metadata.name) ? {} : { entries: spec.entries.length }
}

/** What `lint` shows of an object's findings: those of a field. */
function fieldFindings(object: string, findings: readonly Finding[]): Compiled['findings'] {
  return findings.flatMap(({ field, reason, message, doubt }) =>
    field === undefined ? [] : [{ object, field, reason, message: doubt ?? message }],
  )
}
