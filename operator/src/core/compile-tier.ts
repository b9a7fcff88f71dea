/** PricingTier -> the contract that conversations are held to, in US dollars; or why there is none. Pure. */
import type { PricingTier } from '@farebox/crds/pricing-tier.ts'
import { checkNoticeText } from '@farebox/crds/notice-text.ts'
import { parseDuration } from '@farebox/crds/duration.ts'
import { isTimeZone } from '@farebox/crds/period.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { deriveBudgets } from '@farebox/crds/unit-economics.ts'
import type { Derived, Line } from '@farebox/crds/unit-economics.ts'
import { formatUsd, parsePricePerMillion, parseUsd, USD_PATTERN } from '@farebox/crds/usd.ts'
import { contentHash } from './canonical.ts'
import { refusedFinding } from './conditions.ts'
import type { Fault, Finding } from './conditions.ts'
import type { ExchangeRates } from './price-books.ts'

/** Scale of an exchange rate: six decimals. */
const RATE_SCALE = 1_000_000n

type Spec = PricingTier['spec']

export type CompiledTier =
  | { readonly status: 'accepted'; readonly contract: Contract; readonly derived: DerivedNumbers; readonly lines: readonly Line[] }
  | RefusedTier

interface RefusedTier {
  readonly status: 'refused'
  readonly finding: Finding
  /** Of its numbers, as far as they were worked out. */
  readonly lines: readonly Line[]
}

/** What status shows: in the currency of the tier. */
export interface DerivedNumbers {
  readonly perConversation: string
  readonly perUser?: string
  readonly targetPerConversation: string
  readonly targetPerResolution?: string
  readonly contract: string
}

/** `known`: the names of all tiers, among which an upgrade must be. */
export function compileTier(tier: PricingTier, rates: ExchangeRates, known: ReadonlySet<string>): CompiledTier {
  const { spec } = tier
  const derivation = deriveBudgets(spec)
  const { derived } = derivation
  if (derivation.status === 'marginLeavesNothing' && !isSoldBelowMargin(spec, derived)) {
    const { field, message, lines } = derivation
    return refused({ reason: 'MarginLeavesNothing', field, message: `${message}${belowMarginHint(spec, derived)}` }, lines)
  }
  const rate = spec.currency === 'USD' ? '1.00' : rates.byCurrency.get(spec.currency)
  if (rate === undefined) return refused(missingRate(spec, rates), derived.lines)
  const wrong = wrongTimeZone(spec) ?? missingUpgrade(tier, known) ?? wrongNotice(spec)
  if (wrong !== null) return refused(wrong, derived.lines)
  const overridden = withOverrides(spec, derived)
  if (overridden.status === 'refused') return overridden
  const { amounts } = overridden
  const unusable = wrongInUsd(spec, amounts, rate)
  if (unusable !== null) return refused(unusable, amounts.lines)
  const terms = termsOf(tier, amounts, rate)
  const hash = contentHash(terms)
  return { status: 'accepted', contract: { ...terms, hash }, derived: numbersOf(amounts, { spec, hash }), lines: amounts.lines }
}

/** A trial, or what is sold at a loss: its owner knows, and gives each budget that the margin would give. */
function isSoldBelowMargin({ budget }: Spec, derived: Derived): boolean {
  return (
    budget.allowBelowMargin === 'Acknowledged' &&
    budget.perConversation !== undefined &&
    (derived.perUser === null || budget.perUser !== undefined)
  )
}

/** For whoever has begun to say so. */
function belowMarginHint({ budget }: Spec, { perUser }: Derived): string {
  if (budget.perConversation === undefined && budget.perUser === undefined) return ''
  const budgets = `spec.budget.perConversation${perUser === null ? '' : ' and spec.budget.perUser'}`
  return `; to sell it so, set ${budgets}, and spec.budget.allowBelowMargin: Acknowledged`
}

function missingRate({ currency }: Spec, { unread }: ExchangeRates): Fault {
  const message =
    unread === null
      ? `no PriceBook has an exchange rate for ${currency}: add spec.exchangeRates.${currency}`
      : `no PriceBook that is accepted has an exchange rate for ${currency}; ${unread}`
  return { reason: 'MissingExchangeRate', field: 'spec.currency', message }
}

function wrongTimeZone({ pricing }: Spec): Fault | null {
  const zone = pricing.period?.timeZone
  if (zone === undefined || isTimeZone(zone)) return null
  const message = `"${zone}" must be an IANA time zone such as "Europe/Berlin"`
  return { reason: 'UnknownTimeZone', field: 'spec.pricing.period.timeZone', message }
}

function missingUpgrade({ metadata, spec: { upgrade } }: PricingTier, known: ReadonlySet<string>): Fault | null {
  if (upgrade === undefined || (known.has(upgrade.tier) && upgrade.tier !== metadata.name)) return null
  const message = `there is no other PricingTier "${upgrade.tier}" to move to`
  return { reason: 'TierNotFound', field: 'spec.upgrade.tier', message }
}

function wrongNotice({ notices }: Spec): Fault | null {
  for (const [index, { occasion, text }] of notices.texts.entries()) {
    for (const [locale, words] of Object.entries(text)) {
      const wrong = checkNoticeText(words)
      if (wrong === null) continue
      return { reason: 'NoticeInvalid', field: `spec.notices.texts[${index}].text.${locale}`, message: `notice on ${occasion}: ${wrong}` }
    }
  }
  return null
}

/** `amounts`: what is derived, with the budgets that the tier sets itself in place of what its margin leaves. */
function withOverrides({ budget }: Spec, derived: Derived): { readonly status: 'set'; readonly amounts: Derived } | RefusedTier {
  let amounts = derived
  for (const name of ['perConversation', 'perUser'] as const) {
    const [limit, override, field] = [derived[name], budget[name], `spec.budget.${name}`]
    if (override === undefined || limit === null) continue
    const wanted = parseUsd(override)
    const lines = [...amounts.lines, { text: `${field} says`, amount: formatUsd(wanted) }]
    if (wanted === 0n) return refused({ reason: 'MarginLeavesNothing', field, message: `${field} must be above zero` }, lines)
    if (wanted > limit && budget.allowBelowMargin !== 'Acknowledged') {
      const message = `${override} is more than the ${formatUsd(limit)} that the margin leaves; lower it, or say spec.budget.allowBelowMargin: Acknowledged`
      return refused({ reason: 'OverrideAboveMargin', field, message }, lines)
    }
    amounts = { ...amounts, [name]: wanted, lines }
  }
  return { status: 'set', amounts }
}

/** That an amount does not fit a contract at this rate, or that nothing is left of the budget. */
function wrongInUsd({ currency, pricing, unitEconomics }: Spec, amounts: Derived, rate: string): Fault | null {
  const { perConversation, perUser, targetPerConversation } = amounts
  const most = greatest(parseUsd(pricing.price), parseUsd(unitEconomics.otherCost), perConversation, perUser ?? 0n, targetPerConversation)
  if (!USD_PATTERN.test(inUsd(most, rate))) {
    const message = `${formatUsd(most)} ${currency} come to ${inUsd(most, rate)} US dollars, which is too much: an exchange rate is US dollars for one ${currency}, here ${rate}`
    return { reason: 'AmountTooLarge', field: 'spec.currency', message }
  }
  if (parseUsd(inUsd(perConversation, rate)) > 0n) return null
  const message = 'the budget of one conversation comes to nothing in US dollars'
  return { reason: 'MarginLeavesNothing', field: 'spec.currency', message }
}

function termsOf({ metadata, spec }: PricingTier, amounts: Derived, rate: string): Omit<Contract, 'hash'> {
  const { pricing, unitEconomics, context, models, notices } = spec
  const { perUser, targetPerResolution } = amounts
  const usd = (amount: bigint): string => inUsd(amount, rate)
  return {
    tier: metadata.name,
    displayName: spec.displayName,
    currency: spec.currency,
    usdRate: rate,
    pricing: {
      model: pricing.model,
      price: usd(parseUsd(pricing.price)),
      otherCost: usd(parseUsd(unitEconomics.otherCost)),
      targetGrossMarginPercent: unitEconomics.targetGrossMarginPercent,
      targetCostPerConversation: usd(amounts.targetPerConversation),
      ...(targetPerResolution === null ? {} : { targetCostPerResolution: usd(targetPerResolution) }),
    },
    caps: {
      perConversation: usd(amounts.perConversation),
      ...(perUser === null || pricing.period === undefined ? {} : { perUser: { amount: usd(perUser), period: pricing.period } }),
    },
    context: {
      ...(context.windowTokens === undefined ? {} : { windowTokens: context.windowTokens }),
      overflow: context.overflow,
      keepRecentTurns: context.keepRecentTurns,
      summarizeAfterPercent: context.summarizeAfterPercent,
    },
    models: {
      allow: models.allow,
      downgrades: models.downgrades,
      ...(models.summarizer === undefined ? {} : { summarizer: models.summarizer }),
      ...(models.maxOutputTokens === undefined ? {} : { maxOutputTokens: models.maxOutputTokens }),
      ...(models.usefulOutputTokens === undefined ? {} : { usefulOutputTokens: models.usefulOutputTokens }),
    },
    alerts: [...new Set(spec.alerts)].toSorted((a, b) => a - b),
    ladder: ladderOf(spec),
    sessions: sessionsOf(spec.sessions),
    heavyUserTimesMedian: unitEconomics.heavyUserTimesMedian,
    notices: {
      mode: notices.mode,
      texts: Object.fromEntries(notices.texts.map(({ occasion, text }) => [occasion, text])),
      defaultLocale: notices.defaultLocale,
    },
    ...(spec.upgrade === undefined ? {} : { upgrade: spec.upgrade }),
  }
}

/** An end that says nothing of how is closed with words, as the default ladder's is: an app meets an error only where the owner writes so. */
function ladderOf({ ladder }: Spec): Contract['ladder'] {
  return ladder.map((step) => (step.rung === 'EndConversation' ? { ...step, end: step.end ?? 'Close' } : step))
}

/** A tier that is silent about memory keeps none. */
function sessionsOf({ idleAfter, memory, ...sessions }: Spec['sessions']): Contract['sessions'] {
  return {
    ...sessions,
    ...(idleAfter === undefined ? {} : { idleAfterMs: parseDuration(idleAfter) }),
    memory: memory === undefined ? { mode: 'None', retentionMs: 0 } : { mode: memory.mode, retentionMs: parseDuration(memory.retention) },
  }
}

/** No conversation is expected to cost more than its cap, or than its part of that of its user, whatever the margin leaves for it. */
function numbersOf(
  { perConversation, perUser, targetPerConversation, targetPerResolution }: Derived,
  { spec, hash }: { readonly spec: Spec; readonly hash: string },
): DerivedNumbers {
  const part = perUser === null ? perConversation : perUser / BigInt(spec.unitEconomics.expectedConversationsPerUser ?? 1)
  return {
    perConversation: formatUsd(perConversation),
    ...(perUser === null ? {} : { perUser: formatUsd(perUser) }),
    targetPerConversation: formatUsd(least(targetPerConversation, perConversation, part)),
    ...(targetPerResolution === null ? {} : { targetPerResolution: formatUsd(targetPerResolution) }),
    contract: hash,
  }
}

function least(first: bigint, ...others: readonly bigint[]): bigint {
  return others.reduce((found, amount) => (amount < found ? amount : found), first)
}

function greatest(first: bigint, ...others: readonly bigint[]): bigint {
  return others.reduce((found, amount) => (amount > found ? amount : found), first)
}

/** Rounded down: a cap in US dollars is never more than the cap. */
function inUsd(amount: bigint, rate: string): string {
  return formatUsd((amount * parsePricePerMillion(rate)) / RATE_SCALE)
}

function refused(fault: Fault, lines: readonly Line[]): RefusedTier {
  return { status: 'refused', finding: refusedFinding(fault), lines }
}
