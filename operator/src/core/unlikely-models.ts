/** What a tier says of models that its owner has hardly meant: names that nothing prices, downgrades that no call can take, or none at all. Pure. */
import { loadCatalogue, matchesClause } from '@farebox/crds/catalogue.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { DEFAULT_LADDER } from '@farebox/crds/ladder.ts'
import type { PriceEntry } from '@farebox/crds/price-entry.ts'
import { listersOf, recognises } from '@farebox/crds/price-list.ts'
import type { PricingTier } from '@farebox/crds/pricing-tier.ts'
import { suggestion } from '@farebox/crds/shape-problems.ts'
import { canonicalJson } from './canonical.ts'
import type { Fault } from './conditions.ts'
import { upstreamsOf } from './upstreams.ts'

const CATALOGUE = loadCatalogue()
/** Names that a message has room for. */
const MODELS_SHOWN_MAX = 8

/**
 * That nothing prices a model which the tier lets in, or moves away from: a slip, by which calls for the model that was meant are refused
 * or never moved. `budgets`: those that use the tier. Where all of them have models without a price for free, names of their own are meant.
 * Not where a price of any provider is found: the tier may be for other upstreams as well.
 */
export function unpricedName({ spec }: PricingTier, budgets: readonly ConversationBudget[], entries: readonly PriceEntry[]): Fault | null {
  if (budgets.length > 0 && budgets.every(({ spec: { onUnknownModel } }) => onUnknownModel === 'Free')) return null
  const { allow, downgrades } = spec.models
  const named = [
    ...allow.map((model, index) => ({ model, field: `spec.models.allow[${index}]` })),
    ...downgrades.map(({ from }, index) => ({ model: from, field: `spec.models.downgrades[${index}].from` })),
  ]
  const unpriced = named.filter(({ model }) => !model.endsWith('*') && !isPriced(model, entries))
  const [first] = unpriced
  if (first === undefined) return null
  const known = pricedModels(budgets, entries)
  const models = [...new Set(unpriced.map(({ model }) => model))]
  const shown = models.slice(0, MODELS_SHOWN_MAX).map((model) => `"${model}"${suggestion(model, known)}`)
  const message = `nothing prices ${shown.join(', ')}${models.length > shown.length ? ' and others' : ''}: names count as they are written, and calls for these are priced as onUnknownModel of the budget says`
  return { reason: 'ModelUnlikely', message, field: first.field }
}

/** That `allow` lets in no call that a downgrade is for. */
export function unadmittedDowngrade({ spec }: PricingTier): Fault | null {
  const { allow, downgrades } = spec.models
  const index = allow.length === 0 ? -1 : downgrades.findIndex(({ from }) => !allow.some((allowed) => overlap(allowed, from)))
  const downgrade = downgrades[index]
  if (downgrade === undefined) return null
  const message = `no call moves as spec.models.downgrades[${index}] says: spec.models.allow lets none for "${downgrade.from}" in`
  return { reason: 'DowngradeUnserved', message, field: `spec.models.downgrades[${index}].from` }
}

/**
 * That the ladder moves calls to a cheaper model and the tier names none: each call stays where it is, at its price. Not of the
 * default ladder: an API server writes it into each tier that has none, so that nobody may have asked for the step.
 */
export function missingDowngrade({ spec: { ladder, models } }: PricingTier): Fault | null {
  const index = ladder.findIndex(({ rung }) => rung === 'DowngradeModel')
  if (index < 0 || models.downgrades.length > 0 || canonicalJson(ladder) === canonicalJson(DEFAULT_LADDER)) return null
  const message = `spec.ladder[${index}] has nothing to do: DowngradeModel moves calls as spec.models.downgrades says, which is empty`
  return { reason: 'NoDowngrade', message, field: `spec.ladder[${index}].rung` }
}

/** By any provider, on whatever day. */
function isPriced(model: string, entries: readonly PriceEntry[]): boolean {
  return (
    entries.some((entry) => recognises(entry.model, model)) ||
    CATALOGUE.models.some(({ match }) => match.some((clause) => matchesClause(clause, model)))
  )
}

/** The models of the providers that the budgets' calls go to; without a budget, of all. */
function pricedModels(budgets: readonly ConversationBudget[], entries: readonly PriceEntry[]): readonly string[] {
  const providers = new Set(budgets.flatMap((budget) => upstreamsOf(budget).flatMap(({ provider }) => listersOf(provider))))
  return [...CATALOGUE.models, ...entries]
    .filter(({ provider, model }) => !model.endsWith('*') && (providers.size === 0 || providers.has(provider)))
    .map(({ model }) => model)
}

/** Whether some name is meant by both: a pattern's `*` stands for any rest. */
function overlap(one: string, other: string): boolean {
  if (!one.endsWith('*')) return recognises(other, one)
  if (!other.endsWith('*')) return recognises(one, other)
  const [a, b] = [one.slice(0, -1), other.slice(0, -1)]
  return a.startsWith(b) || b.startsWith(a)
}
