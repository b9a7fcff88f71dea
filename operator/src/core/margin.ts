/** What conversations earn by the price of their tier, and what is left of it. Pure; amounts in nano-dollars. */
import type { NanoUsd } from '@farebox/crds/usd.ts'

/** What a tier sells for. */
export interface TierPrice {
  readonly tier: string
  readonly pricing: 'FlatPerUser' | 'PerConversation' | 'PerResolution'
  /** Per user and period, per conversation, or per resolution. */
  readonly price: NanoUsd
  /** Other cost of revenue per priced unit. */
  readonly otherCost: NanoUsd
  /** FlatPerUser: conversations that share the price of one user. */
  readonly expectedConversationsPerUser: number | null
}

export interface Earned {
  readonly revenue: NanoUsd
  readonly otherCost: NanoUsd
}

/**
 * What was earned, and the other cost of it. A flat price is shared by the conversations that its tier expects of a
 * user, so that a few minutes of traffic can be compared with a month's price. Each session counts as a conversation. Throws `RangeError`
 * for a flat price without them.
 */
export function earnedBy(sold: { readonly conversations: number; readonly resolved: number }, by: TierPrice): Earned {
  switch (by.pricing) {
    case 'FlatPerUser': {
      const expected = by.expectedConversationsPerUser
      if (expected === null || expected < 1) throw new RangeError(`tier ${by.tier}: a flat price needs the expected conversations per user`)
      return {
        revenue: (by.price * BigInt(sold.conversations)) / BigInt(expected),
        otherCost: (by.otherCost * BigInt(sold.conversations)) / BigInt(expected),
      }
    }
    case 'PerConversation':
      return { revenue: by.price * BigInt(sold.conversations), otherCost: by.otherCost * BigInt(sold.conversations) }
    case 'PerResolution':
      return { revenue: by.price * BigInt(sold.resolved), otherCost: by.otherCost * BigInt(sold.resolved) }
  }
}

/** (revenue - other cost - inference) / revenue, in whole percent, rounded down; null without revenue. */
export function marginPercent({ revenue, otherCost }: Earned, inference: NanoUsd): number | null {
  return revenue <= 0n ? null : floorPercent(revenue - otherCost - inference, revenue)
}

function floorPercent(part: bigint, whole: bigint): number {
  const exact = part * 100n
  const quotient = exact / whole
  return Number(exact < 0n && exact % whole !== 0n ? quotient - 1n : quotient)
}
