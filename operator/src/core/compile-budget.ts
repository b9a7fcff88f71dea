/** ConversationBudget -> the config of its pods, or why it cannot be in force. Pure. */
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { parseDuration } from '@farebox/crds/duration.ts'
import { isTimeZone } from '@farebox/crds/period.ts'
import { SIDECAR_CONFIG_SCHEMA_VERSION, UpstreamSchema } from '@farebox/crds/sidecar-config.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { allowancePercent } from '@farebox/crds/store-failure.ts'
import { contentHash } from './canonical.ts'
import type { SharedTexts } from './canonical.ts'
import type { CompileContext, ConfigName } from './compile.ts'
import type { CompiledTier } from './compile-tier.ts'
import { acceptedFinding, together } from './conditions.ts'
import type { Fault, Finding } from './conditions.ts'
import { unknownUpstream, unpricedModel, unpricedUpstreams, unservedDowngrade } from './moves.ts'
import { pricedProviders } from './price-book-findings.ts'
import type { BookPrices } from './price-books.ts'
import { budgetKey, namespaceOf } from './same-pods.ts'
import { unlikelyBaseUrl, unlikelyProvider } from './unlikely-upstreams.ts'
import { heldOf, outputLimitFieldOf, upstreamsOf } from './upstreams.ts'
import type { DeclaredUpstream } from './upstreams.ts'

type Spec = ConversationBudget['spec']

/** What configs are made of, beside the budgets. */
export interface Parts {
  /** By name, all of them. */
  readonly tiers: ReadonlyMap<string, CompiledTier>
  readonly prices: BookPrices
  /** Of the prices and the contracts. */
  readonly shared: SharedTexts
}

/** The tiers that a budget may use, its default first. */
export function tiersOf({ spec }: Pick<ConversationBudget, 'spec'>): readonly string[] {
  return [...new Set([spec.tier.default, ...spec.tier.allowed])]
}

/** Null when the budget can be in force. */
export function refusalOfBudget(budget: ConversationBudget, parts: Parts, nowMs: number): Fault | null {
  const { refused } = parts.prices
  if (refused !== null) return { reason: 'PriceBookNotAccepted', field: 'spec', message: refused }
  return unusableTier(budget, parts, nowMs) ?? wrongBaseUrl(budget.spec) ?? wrongTimeZone(budget.spec)
}

export interface CompiledBudget {
  readonly config: SidecarConfig
  /** `Accepted`, with what its owner may not have meant. */
  readonly accepted: Finding
}

/** Of a budget that is not refused. `laterLimits`: of budgets that select all of its pods and came later. */
export function compileBudget(
  budget: ConversationBudget,
  laterLimits: SidecarConfig['limits'],
  parts: Parts,
  context: CompileContext,
): CompiledBudget {
  const content = contentOf(budget, laterLimits, parts)
  const hash = contentHash(content, parts.shared)
  const { length } = tiersOf(budget)
  const doubt = together([
    ungovernedKey(budget),
    unpricedProvider(budget, parts.prices, context.nowMs),
    unlikelyProvider(budget),
    unlikelyBaseUrl(budget),
    idleDowngrade(budget, content.contracts),
    idleQuietPeriod(budget, content.contracts),
  ])
  return {
    config: { ...content, version: versionOf(budget, hash, context), hash },
    accepted: acceptedFinding(`bound to ${length === 1 ? 'one tier' : `${length} tiers`}`, doubt),
  }
}

/** The first tier that is not there, or not accepted, or moves calls to where this budget does not let them go. */
function unusableTier(budget: ConversationBudget, { tiers, prices }: Parts, nowMs: number): Fault | null {
  const { tier: bound } = budget.spec
  const upstreams = upstreamsOf(budget)
  for (const name of tiersOf(budget)) {
    const field = name === bound.default ? 'spec.tier.default' : `spec.tier.allowed[${bound.allowed.indexOf(name)}]`
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
  return null
}

/** The first that a sidecar would not read. */
function wrongBaseUrl({ upstreams }: Spec): Fault | null {
  for (const [index, { baseURL }] of upstreams.entries()) {
    if (UpstreamSchema.shape.baseUrl.safeParse(baseURL).success) continue
    const message = `"${baseURL}" must be a URL with a host, and a port below 65536 where it has one`
    return { reason: 'BaseUrlInvalid', field: `spec.upstreams[${index}].baseURL`, message }
  }
  return null
}

function wrongTimeZone({ limits }: Spec): Fault | null {
  for (const [index, { period }] of limits.entries()) {
    if (isTimeZone(period.timeZone)) continue
    const message = `"${period.timeZone}" must be an IANA time zone such as "Europe/Berlin"`
    return { reason: 'UnknownTimeZone', field: `spec.limits[${index}].period.timeZone`, message }
  }
  return null
}

function contentOf(
  budget: ConversationBudget,
  laterLimits: SidecarConfig['limits'],
  { tiers, prices }: Parts,
): Omit<SidecarConfig, 'version' | 'hash'> {
  const { spec } = budget
  return {
    schemaVersion: SIDECAR_CONFIG_SCHEMA_VERSION,
    namespace: namespaceOf(budget),
    budget: budget.metadata.name,
    mode: spec.mode,
    tiers: {
      default: spec.tier.default,
      allowed: [...tiersOf(budget)],
      ...(spec.tier.claim === undefined ? {} : { claim: claimOf(spec.tier.claim) }),
    },
    contracts: Object.fromEntries(
      tiersOf(budget).flatMap((name) => {
        const tier = tiers.get(name)
        return tier?.status === 'accepted' ? [[name, tier.contract]] : []
      }),
    ),
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
}

/** Which Secret holds a key or a header is nothing to a sidecar: it finds a file. */
function upstreamOf(declared: DeclaredUpstream): SidecarConfig['upstreams'][number] {
  const { baseURL, credential, headers, ...upstream } = declared
  return {
    ...upstream,
    baseUrl: baseURL.replace(/\/$/, ''),
    credential: credential === undefined ? 'Passthrough' : 'Held',
    ...(headers === undefined ? {} : { headers: headers.map(({ name, value }) => (value === undefined ? { name } : { name, value })) }),
    outputLimitField: outputLimitFieldOf(declared),
  }
}

/** Nor by which Secret claims are signed. */
function claimOf({ header, token }: NonNullable<Spec['tier']['claim']>): SidecarConfig['tiers']['claim'] {
  return { header: header.toLowerCase(), ...(token === undefined ? {} : { token: { format: token.format } }) }
}

function resolutionOf({ toolNames, quietPeriod, reopenWindow }: Spec['resolution']): SidecarConfig['resolution'] {
  return {
    toolNames,
    ...(quietPeriod === undefined ? {} : { quietPeriodMs: parseDuration(quietPeriod) }),
    reopenWindowMs: parseDuration(reopenWindow),
  }
}

/** That of the config in force where the content is the same, or else a later one than any that is known. */
function versionOf(budget: ConversationBudget, hash: string, { previous, unread, reported, nowMs }: CompileContext): number {
  const key = budgetKey(budget)
  // A config map that was deleted leaves what status says of it: sidecars may have that, whatever our clock says by now.
  const known: ConfigName | undefined = previous.get(key) ?? unread?.get(key) ?? budget.status?.config
  const theirs = reported?.get(key)
  // What is older than theirs sidecars refuse, whatever it says.
  const last = theirs !== undefined && theirs.version > (known?.version ?? 0) ? theirs : known
  return last?.hash === hash ? last.version : Math.max((last?.version ?? 0) + 1, nowMs)
}

/** A budget that gives something away, or says what does nothing, is in force all the same: its owner may well mean it. */
function ungovernedKey({ spec }: ConversationBudget): Fault | null {
  const holding = spec.upstreams.find((upstream) => heldOf(upstream).length > 0)
  if (holding === undefined || spec.ungoverned !== 'Pass') return null
  const message = `with ungoverned: Pass the key held for "${holding.name}" goes with every request to it, unmetered ones too, by which an app may spend, or make itself a key`
  return { reason: 'HeldKeyUngoverned', message, field: 'spec.ungoverned' }
}

function unpricedProvider(budget: ConversationBudget, prices: BookPrices, nowMs: number): Fault | null {
  const unpriced = budget.spec.onUnknownModel === 'Free' ? [] : unpricedUpstreams(budget, prices.list, nowMs)
  const [first] = unpriced
  if (first === undefined) return null
  const named = unpriced.map(({ name, provider }) => `"${provider}" of upstream "${name}"`)
  const message = `nobody prices the provider ${named.join(', nor ')}: its calls are refused. There are prices for ${pricedProviders(prices.entries)}`
  return { reason: 'ProviderUnpriced', message, field: `spec.upstreams[${first.index}].provider` }
}

function idleDowngrade(budget: ConversationBudget, contracts: SidecarConfig['contracts']): Fault | null {
  const unserved = unservedDowngrade(budget, contracts)
  if (unserved === null) return null
  const message = `no call moves as spec.models.downgrades[${unserved.index}] of PricingTier "${unserved.tier}" says: ${unserved.why}`
  return { reason: 'DowngradeUnserved', message, field: 'spec.upstreams' }
}

/** Sidecars look for quiet conversations of tiers priced per resolution alone: of others nothing is sold by it. */
function idleQuietPeriod({ spec }: ConversationBudget, contracts: SidecarConfig['contracts']): Fault | null {
  const isAnyPerResolution = Object.values(contracts).some(({ pricing }) => pricing.model === 'PerResolution')
  if (spec.resolution.quietPeriod === undefined || isAnyPerResolution) return null
  const message =
    'no conversation is assumed to be resolved as spec.resolution.quietPeriod says: no tier of this budget is priced PerResolution'
  return { reason: 'NothingAssumed', message, field: 'spec.resolution.quietPeriod' }
}
