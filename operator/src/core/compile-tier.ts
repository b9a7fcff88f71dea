/** PricingTier -> the contract that conversations are held to, in US dollars; or why there is none. */
import type { PricingTier } from '@farebox/crds/pricing-tier.ts'
import { checkNoticeText } from '@farebox/crds/notice-text.ts'
import { parseDuration } from '@farebox/crds/duration.ts'
import { isTimeZone } from '@farebox/crds/period.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { deriveBudgets } from '@farebox/crds/unit-economics.ts'
import type { Line } from '@farebox/crds/unit-economics.ts'
import { formatUsd, parsePricePerMillion, parseUsd, USD_PATTERN } from '@farebox/crds/usd.ts'
import { contentHash } from './canonical.ts'
import type { Finding } from './conditions.ts'

/** Scale of an exchange rate: six decimals. */
const RATE_SCALE = 1_000_000n

export interface ExchangeRates {
  /** US dollars for one unit of a currency, as decimals. */
  readonly byCurrency: ReadonlyMap<string, string>
  /** Why there may be more of them: a PriceBook that is not understood; null: there are not. */
  readonly unread: string | null
}

export type CompiledTier =
  | { readonly status: 'accepted'; readonly contract: Contract; readonly derived: DerivedNumbers; readonly lines: readonly Line[] }
  | { readonly status: 'refused'; readonly finding: Finding; readonly lines: readonly Line[] }

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
  if (derivation.status === 'marginLeavesNothing')
    return refused('MarginLeavesNothing', derivation.field, derivation.message, derivation.lines)
  const { derived } = derivation
  const lines = [...derived.lines]
  const rate = spec.currency === 'USD' ? '1.00' : rates.byCurrency.get(spec.currency)
  if (rate === undefined) {
    return refused(
      'MissingExchangeRate',
      'spec.currency',
      rates.unread === null
        ? `no PriceBook has an exchange rate for ${spec.currency}: add spec.exchangeRates.${spec.currency}`
        : `no PriceBook that is accepted has an exchange rate for ${spec.currency}; ${rates.unread}`,
      lines,
    )
  }
  const zone = spec.pricing.period?.timeZone
  if (zone !== undefined && !isTimeZone(zone))
    return refused('UnknownTimeZone', 'spec.pricing.period.timeZone', `"${zone}" must be an IANA time zone such as "Europe/Berlin"`, lines)
  if (spec.upgrade !== undefined && (!known.has(spec.upgrade.tier) || spec.upgrade.tier === tier.metadata.name))
    return refused('TierNotFound', 'spec.upgrade.tier', `there is no other PricingTier "${spec.upgrade.tier}" to move to`, lines)
  for (const [index, { occasion, text }] of spec.notices.texts.entries()) {
    for (const [locale, words] of Object.entries(text)) {
      const wrong = checkNoticeText(words)
      if (wrong !== null)
        return refused('NoticeInvalid', `spec.notices.texts[${index}].text.${locale}`, `notice on ${occasion}: ${wrong}`, lines)
    }
  }

  const overrides = [
    { field: 'perConversation', derived: derived.perConversation, override: spec.budget.perConversation },
    { field: 'perUser', derived: derived.perUser, override: spec.budget.perUser },
  ] as const
  for (const { field, derived: limit, override } of overrides) {
    if (override === undefined || limit === null) continue
    const wanted = parseUsd(override)
    lines.push({ text: `spec.budget.${field} says`, amount: formatUsd(wanted) })
    if (wanted === 0n) return refused('MarginLeavesNothing', `spec.budget.${field}`, `spec.budget.${field} must be above zero`, lines)
    if (wanted > limit && spec.budget.allowBelowMargin !== 'Acknowledged') {
      return refused(
        'OverrideAboveMargin',
        `spec.budget.${field}`,
        `${override} is more than the ${formatUsd(limit)} that the margin leaves; lower it, or say spec.budget.allowBelowMargin: Acknowledged`,
        lines,
      )
    }
  }
  const perConversation = spec.budget.perConversation === undefined ? derived.perConversation : parseUsd(spec.budget.perConversation)
  const perUser = derived.perUser === null ? null : spec.budget.perUser === undefined ? derived.perUser : parseUsd(spec.budget.perUser)

  const { pricing, unitEconomics, context, models, sessions, notices } = spec
  const most = [parseUsd(unitEconomics.otherCost), perConversation, perUser ?? 0n, derived.targetPerConversation].reduce(
    (one, other) => (one > other ? one : other),
    parseUsd(pricing.price),
  )
  if (!USD_PATTERN.test(inUsd(most, rate))) {
    return refused(
      'AmountTooLarge',
      'spec.currency',
      `${formatUsd(most)} ${spec.currency} come to ${inUsd(most, rate)} US dollars, which is too much: an exchange rate is US dollars for one ${spec.currency}, here ${rate}`,
      lines,
    )
  }
  const usd = (amount: bigint): string => inUsd(amount, rate)
  if (parseUsd(usd(perConversation)) === 0n)
    return refused('MarginLeavesNothing', 'spec.currency', 'the budget of one conversation comes to nothing in US dollars', lines)
  const terms: Omit<Contract, 'hash'> = {
    tier: tier.metadata.name,
    displayName: spec.displayName,
    currency: spec.currency,
    usdRate: rate,
    pricing: {
      model: pricing.model,
      price: usd(parseUsd(pricing.price)),
      otherCost: usd(parseUsd(unitEconomics.otherCost)),
      targetGrossMarginPercent: unitEconomics.targetGrossMarginPercent,
      targetCostPerConversation: usd(derived.targetPerConversation),
      ...(derived.targetPerResolution === null ? {} : { targetCostPerResolution: usd(derived.targetPerResolution) }),
    },
    caps: {
      perConversation: usd(perConversation),
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
    ladder: spec.ladder,
    sessions: sessionsOf(sessions),
    heavyUserTimesMedian: unitEconomics.heavyUserTimesMedian,
    notices: {
      mode: notices.mode,
      texts: Object.fromEntries(notices.texts.map(({ occasion, text }) => [occasion, text])),
      defaultLocale: notices.defaultLocale,
    },
    ...(spec.upgrade === undefined ? {} : { upgrade: spec.upgrade }),
  }
  const hash = contentHash(terms)
  return {
    status: 'accepted',
    contract: { ...terms, hash },
    derived: {
      perConversation: formatUsd(perConversation),
      ...(perUser === null ? {} : { perUser: formatUsd(perUser) }),
      targetPerConversation: formatUsd(least(derived.targetPerConversation, perConversation, perUser ?? perConversation)),
      ...(derived.targetPerResolution === null ? {} : { targetPerResolution: formatUsd(derived.targetPerResolution) }),
      contract: hash,
    },
    lines,
  }
}

/** A tier that is silent about memory keeps none. */
function sessionsOf({ idleAfter, memory, ...sessions }: PricingTier['spec']['sessions']): Contract['sessions'] {
  return {
    ...sessions,
    ...(idleAfter === undefined ? {} : { idleAfterMs: parseDuration(idleAfter) }),
    memory: memory === undefined ? { mode: 'None', retentionMs: 0 } : { mode: memory.mode, retentionMs: parseDuration(memory.retention) },
  }
}

/** No conversation is expected to cost more than its cap, or than that of its user, whatever the margin leaves for it. */
function least(first: bigint, ...others: readonly bigint[]): bigint {
  return others.reduce((found, amount) => (amount < found ? amount : found), first)
}

/** Rounded down: a cap in US dollars is never more than the cap. */
function inUsd(amount: bigint, rate: string): string {
  return formatUsd((amount * parsePricePerMillion(rate)) / RATE_SCALE)
}

function refused(reason: string, field: string, message: string, lines: readonly Line[]): CompiledTier {
  return { status: 'refused', finding: { type: 'Accepted', status: 'False', reason, message, field }, lines }
}
