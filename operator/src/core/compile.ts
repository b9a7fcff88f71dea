/**
 * Manifests in, configs and statuses out: one pure function, so that status cannot disagree with config. A budget whose
 * tiers are not all there, or not all accepted, gets no config: nothing is half applied, and the last good one stays.
 */
import type { ConversationBudget, ConversationBudgetStatus } from '@farebox/crds/conversation-budget.ts'
import { parseDuration } from '@farebox/crds/duration.ts'
import { isTimeZone } from '@farebox/crds/period.ts'
import type { PriceBook, PriceBookStatus } from '@farebox/crds/price-book.ts'
import type { PriceEntry } from '@farebox/crds/price-entry.ts'
import type { PricingTier, PricingTierStatus } from '@farebox/crds/pricing-tier.ts'
import { SIDECAR_CONFIG_SCHEMA_VERSION } from '@farebox/crds/sidecar-config.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { contentHash } from './canonical.ts'
import { compileTier } from './compile-tier.ts'
import type { CompiledTier } from './compile-tier.ts'
import { conditionsOf, withReady } from './conditions.ts'
import type { Finding } from './conditions.ts'

/** What a budget without upstreams goes to. */
const DEFAULT_UPSTREAM: SidecarConfig['upstreams'][number] = {
  name: 'openai',
  provider: 'openai',
  baseUrl: 'https://api.openai.com/v1',
  credential: 'Passthrough',
  injectUsage: 'Auto',
  outputLimitField: 'max_completion_tokens',
}

/** Objects that have passed `checkObject`. */
export interface Snapshot {
  readonly tiers: readonly PricingTier[]
  readonly budgets: readonly ConversationBudget[]
  readonly priceBooks: readonly PriceBook[]
}

export interface CompileContext {
  readonly nowMs: number
  /** The configs in force, by budget. */
  readonly previous: ReadonlyMap<string, SidecarConfig>
}

export interface Compiled {
  /** By budget: `support/desk`. Only those that are whole. */
  readonly configs: ReadonlyMap<string, SidecarConfig>
  /** By object: `PricingTier/pro`, `ConversationBudget/support/desk`. */
  readonly statuses: ReadonlyMap<string, ObjectStatus>
  /** What status says of fields, for `lint`: only what is not well. */
  readonly findings: readonly { readonly object: string; readonly field: string; readonly reason: string; readonly message: string }[]
  /** The tiers as compiled, for `explain`. */
  readonly tiers: ReadonlyMap<string, CompiledTier>
}

export type ObjectStatus = PricingTierStatus | ConversationBudgetStatus | PriceBookStatus

export function compile(snapshot: Snapshot, context: CompileContext): Compiled {
  const rates = new Map(snapshot.priceBooks.toSorted(byName).flatMap((book) => Object.entries(book.spec.exchangeRates)))
  const tiers = new Map(snapshot.tiers.map((tier) => [tier.metadata.name, compileTier(tier, rates)]))
  const entries = snapshot.priceBooks.toSorted(byName).flatMap((book) => book.spec.entries)
  const configs = new Map<string, SidecarConfig>()
  const found = new Map<string, readonly Finding[]>()
  for (const budget of snapshot.budgets) {
    const key = budgetKey(budget)
    const compiled = compileBudget(budget, tiers, entries, context)
    if (compiled.status === 'accepted') configs.set(key, compiled.config)
    found.set(`ConversationBudget/${key}`, compiled.findings)
  }
  const statuses = new Map<string, ObjectStatus>()
  for (const tier of snapshot.tiers) {
    const object = `PricingTier/${tier.metadata.name}`
    const compiled = tiers.get(tier.metadata.name)
    const findings: readonly Finding[] =
      compiled?.status === 'refused' ? [compiled.finding] : [{ type: 'Accepted', status: 'True', reason: 'Accepted', message: 'the numbers add up' }]
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
    const config = configs.get(key) ?? context.previous.get(key)
    statuses.set(`ConversationBudget/${key}`, {
      ...statusBase(budget, found.get(`ConversationBudget/${key}`) ?? [], context.nowMs),
      ...(config === undefined ? {} : { config: { version: config.version, hash: config.hash } }),
    })
  }
  for (const book of snapshot.priceBooks) {
    const findings: readonly Finding[] = [{ type: 'Accepted', status: 'True', reason: 'Accepted', message: 'prices are in use' }]
    statuses.set(`PriceBook/${book.metadata.name}`, { ...statusBase(book, findings, context.nowMs), entries: book.spec.entries.length })
  }
  const findings = [...found].flatMap(([object, list]) =>
    list.flatMap((finding) => (finding.status === 'True' || finding.field === undefined ? [] : [{ object, field: finding.field, reason: finding.reason, message: finding.message }])),
  )
  return { configs, statuses, findings, tiers }
}

export function budgetKey(budget: ConversationBudget): string {
  return `${budget.metadata.namespace ?? 'default'}/${budget.metadata.name}`
}

/** The tiers that a budget may use, its default first. */
export function tiersOf(budget: ConversationBudget): readonly string[] {
  return [...new Set([budget.spec.tier.default, ...budget.spec.tier.allowed])]
}

type CompiledBudget =
  | { readonly status: 'accepted'; readonly config: SidecarConfig; readonly findings: readonly Finding[] }
  | { readonly status: 'refused'; readonly findings: readonly Finding[] }

function compileBudget(budget: ConversationBudget, tiers: ReadonlyMap<string, CompiledTier>, entries: readonly PriceEntry[], context: CompileContext): CompiledBudget {
  const { spec } = budget
  const contracts: Record<string, SidecarConfig['contracts'][string]> = {}
  for (const name of tiersOf(budget)) {
    const field = name === spec.tier.default ? 'spec.tier.default' : `spec.tier.allowed[${spec.tier.allowed.indexOf(name)}]`
    const tier = tiers.get(name)
    if (tier === undefined) return refused('TierNotFound', field, `there is no PricingTier "${name}"`)
    if (tier.status === 'refused') return refused('TierNotAccepted', field, `PricingTier "${name}" is not accepted: ${tier.finding.message}`)
    contracts[name] = tier.contract
  }
  for (const [index, limit] of spec.limits.entries()) {
    if (!isTimeZone(limit.period.timeZone)) return refused('UnknownTimeZone', `spec.limits[${index}].period.timeZone`, `"${limit.period.timeZone}" must be an IANA time zone such as "Europe/Berlin"`)
  }
  const key = budgetKey(budget)
  const content: Omit<SidecarConfig, 'version' | 'hash'> = {
    schemaVersion: SIDECAR_CONFIG_SCHEMA_VERSION,
    namespace: budget.metadata.namespace ?? 'default',
    budget: budget.metadata.name,
    mode: spec.mode,
    tiers: {
      default: spec.tier.default,
      allowed: [...tiersOf(budget)],
      ...(spec.tier.claim === undefined ? {} : { claimHeader: spec.tier.claim.header.toLowerCase() }),
    },
    contracts,
    identity: { ...spec.identity, headers: spec.identity.headers.map((name) => name.toLowerCase()) },
    upstreams: spec.upstreams.length === 0 ? [DEFAULT_UPSTREAM] : spec.upstreams.map(({ baseURL, ...upstream }) => ({ ...upstream, baseUrl: baseURL.replace(/\/$/, '') })),
    limits: spec.limits,
    existingConversations: spec.existingConversations,
    contractMaxAgeMs: parseDuration(spec.contractMaxAge),
    onUnknownModel: spec.onUnknownModel,
    onDisconnect: spec.onDisconnect,
    ungoverned: spec.ungoverned,
    retrieval: spec.retrieval,
    resolution: {
      toolNames: spec.resolution.toolNames,
      quietPeriodMs: parseDuration(spec.resolution.quietPeriod),
      reopenWindowMs: parseDuration(spec.resolution.reopenWindow),
    },
    prices: [...entries],
  }
  const hash = contentHash(content)
  const previous = context.previous.get(key)
  const version = previous?.hash === hash ? previous.version : Math.max((previous?.version ?? 0) + 1, context.nowMs)
  return {
    status: 'accepted',
    config: { ...content, version, hash },
    findings: [
      { type: 'Accepted', status: 'True', reason: 'Accepted', message: `${tiersOf(budget).length} tiers are bound` },
      { type: 'Programmed', status: 'True', reason: 'Programmed', message: `config ${hash} is written` },
    ],
  }
}

function refused(reason: string, field: string, message: string): CompiledBudget {
  return {
    status: 'refused',
    findings: [
      { type: 'Accepted', status: 'False', reason, message, field },
      { type: 'Programmed', status: 'False', reason: 'NotAccepted', message: 'the last good config stays in force' },
    ],
  }
}

function statusBase(object: PricingTier | ConversationBudget | PriceBook, findings: readonly Finding[], nowMs: number): Pick<PricingTierStatus, 'observedGeneration' | 'conditions'> {
  const { generation } = object.metadata
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    conditions: conditionsOf(withReady(findings), object.status?.conditions ?? [], generation, nowMs),
  }
}

function byName(a: PriceBook, b: PriceBook): number {
  return a.metadata.name < b.metadata.name ? -1 : 1
}
