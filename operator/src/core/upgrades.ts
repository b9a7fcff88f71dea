/** Where the upgrades of tiers lead. Pure. */
import type { PricingTier } from '@farebox/crds/pricing-tier.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import type { CompiledTier } from './compile-tier.ts'
import type { Fault } from './conditions.ts'

/** Tiers that a message names. */
const TIERS_SHOWN_MAX = 8

/** That the upgrade of a tier leads back to it by way of others: users would be sent round. One that leads into such a circle is no part of it. */
export function upgradeCircle(tier: PricingTier, tiers: readonly PricingTier[]): Fault | null {
  const next = new Map(tiers.map(({ metadata, spec }) => [metadata.name, spec.upgrade?.tier]))
  const { name } = tier.metadata
  const path = [name]
  for (let at = next.get(name); at !== undefined && (at === name || !path.includes(at)); at = next.get(at)) {
    path.push(at)
    if (at !== name) continue
    const way = path.length > TIERS_SHOWN_MAX ? [...path.slice(0, TIERS_SHOWN_MAX - 2), '...', ...path.slice(-1)] : path
    return {
      reason: 'UpgradeCircle',
      field: 'spec.upgrade.tier',
      message: `an upgrade must not lead back to its own tier: ${way.join(' to ')}`,
    }
  }
  return null
}

/** That a user of a tier who is told to upgrade would have less there. Periods that differ are not compared; a tier without a user budget has no less. */
export function smallerUpgrade(name: string, tiers: ReadonlyMap<string, CompiledTier>): Fault | null {
  const from = tiers.get(name)
  if (from?.status !== 'accepted' || from.contract.upgrade === undefined) return null
  const to = tiers.get(from.contract.upgrade.tier)
  if (to?.status !== 'accepted') return null
  const [less, more] = [to.contract.caps.perUser, from.contract.caps.perUser]
  if (less === undefined || more === undefined || less.period.unit !== more.period.unit) return null
  if (parseUsd(less.amount) >= parseUsd(more.amount)) return null
  const message = `the tier to move to has the smaller user budget: ${less.amount} US dollars each ${less.period.unit.toLowerCase()}, and this one ${more.amount}`
  return { reason: 'UpgradeSmaller', field: 'spec.upgrade.tier', message }
}
