/** Where a tier moves calls to by itself: whether that is there, has a price, and can take a call over. */
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { PriceList } from '@farebox/crds/prices.ts'
import { familyOf, serves } from '@farebox/crds/provider-family.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { upstreamsOf } from './upstreams.ts'
import type { DeclaredUpstream } from './upstreams.ts'

/** Where a tier moves to by itself must be there: else the rung could never take effect. */
export function unknownUpstream(
  { models }: SidecarConfig['contracts'][string],
  upstreams: readonly DeclaredUpstream[],
): { readonly field: string; readonly upstream: string } | null {
  const named = models.downgrades.flatMap(({ upstream }, index) =>
    upstream === undefined ? [] : [{ field: `spec.models.downgrades[${index}].upstream`, upstream }],
  )
  return named.find(({ upstream }) => !upstreams.some(({ name }) => name === upstream)) ?? null
}

/** And a model that it moves to must have a price. `providers`: those that could serve it. */
export function unpricedModel(
  { models }: SidecarConfig['contracts'][string],
  upstreams: readonly DeclaredUpstream[],
  prices: PriceList,
  nowMs: number,
): { readonly field: string; readonly model: string; readonly providers: readonly string[] } | null {
  const all = providersOf(upstreams)
  const named = [
    ...models.downgrades.map(({ to, upstream }, index) => ({
      field: `spec.models.downgrades[${index}].to`,
      model: to,
      providers: upstream === undefined ? all : providersOf(upstreams.filter(({ name }) => name === upstream)),
    })),
    ...(models.summarizer === undefined ? [] : [{ field: 'spec.models.summarizer', model: models.summarizer, providers: all }]),
  ]
  return named.find(({ model, providers }) => providers.every((provider) => prices.find(provider, model, nowMs) === null)) ?? null
}

/** The declared upstreams of providers without a single price: there is no ceiling either, so that none of their calls goes. */
export function unpricedUpstreams(
  { spec }: ConversationBudget,
  prices: PriceList,
  nowMs: number,
): readonly { readonly index: number; readonly name: string; readonly provider: string }[] {
  return spec.upstreams.flatMap(({ name, provider }, index) =>
    prices.ceiling(provider, '', nowMs) === null ? [{ index, name, provider }] : [],
  )
}

function providersOf(upstreams: readonly DeclaredUpstream[]): readonly string[] {
  return [...new Set(upstreams.map(({ provider }) => provider))]
}

/**
 * The first downgrade to an upstream that can take over from none of the others: calls are handed on in the format that they are
 * written in, and with a key that the sidecar holds, since the app's own is for the upstream that it asked.
 */
export function unservedDowngrade(
  budget: ConversationBudget,
  contracts: SidecarConfig['contracts'],
): { readonly tier: string; readonly index: number; readonly why: string } | null {
  const upstreams = upstreamsOf(budget)
  for (const [tier, { models }] of Object.entries(contracts)) {
    for (const [index, { to, upstream: name }] of models.downgrades.entries()) {
      const target = upstreams.find((upstream) => upstream.name === name)
      if (target === undefined) continue
      const why = whyUnserved(target, to, upstreams)
      if (why !== null) return { tier, index, why }
    }
  }
  return null
}

function whyUnserved(target: DeclaredUpstream, model: string, upstreams: readonly DeclaredUpstream[]): string | null {
  const family = familyOf(target.provider)
  const { name, credential } = target
  if (!upstreams.some((other) => other !== target && familyOf(other.provider) === family))
    return `no other upstream speaks the format of "${name}"`
  if (credential === undefined)
    return `"${name}" must have a credential, of any value where it asks for none: the app's own key is not sent to another upstream`
  return serves(target, model) ? null : `"${name}" must have a deployment of "${model}"`
}
