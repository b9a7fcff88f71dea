/**
 * What no sidecar ever says: numbers below zero, or so large that sums of them are no longer exact, and names without end. Any pod can send
 * us a report, and what it says is added up with what others say. Pure.
 */
import type { SidecarReport } from '@farebox/crds/delivery.ts'

/** So many thousand of them add up below 2^53. */
const COUNT_MAX = 1_000_000_000_000
const NAME_CHARS_MAX = 253

/** Which field is beyond all bounds, and how; null: none. */
export function excessIn({ status }: Pick<SidecarReport, 'status'>): string | null {
  const tiers = Object.entries(status?.tiers ?? {})
  for (const [tier, { conversations, sessions = 0, turns, byRung, alerts, resolutions, users, today }] of tiers) {
    if (tier.length > NAME_CHARS_MAX) return `status.tiers: a name must have at most ${NAME_CHARS_MAX} characters`
    const { started, assumed = 0, confirmed, reversed } = resolutions
    const ofUsers = [users?.active ?? 0, users?.heavy ?? 0, users?.upgradeCandidates ?? 0, ...Object.values(users?.byUse ?? {})]
    const counts = [conversations, sessions, turns, started, assumed, confirmed, reversed, today?.turns ?? 0, today?.users ?? 0, ...ofUsers]
    if (![...counts, ...Object.values(byRung), ...Object.values(alerts)].every(isCount))
      return `status.tiers.${tier}: each count must be from 0 to ${COUNT_MAX}`
  }
  return null
}

function isCount(count: number): boolean {
  return count >= 0 && count <= COUNT_MAX
}
