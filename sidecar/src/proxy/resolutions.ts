/** Outcomes of a tier priced per resolution: told by the app, or by a tool that the answer calls. */
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { Conversation } from '../core/conversation.ts'
import { matchesPattern } from '../core/pattern.ts'
import type { Gateway } from './gateway.ts'
import type { Turn } from './exchange.ts'
import { dayOf } from './outcome-watch.ts'

export type ResolutionKind = 'confirmed' | 'reversed'

/** Counts a conversation that has begun. Repeats change nothing. */
export async function countStart(gateway: Gateway, contract: Contract, conversation: Conversation): Promise<void> {
  if (contract.pricing.model !== 'PerResolution') return
  await gateway.store.addOutcome({
    key: keyOf(conversation, 'started'),
    tier: contract.tier,
    day: dayOf(conversation.startedAtMs),
    kind: 'started',
  })
}

/** Confirms a resolution, or takes it back; after that it may be confirmed again. Repeats change nothing. */
export async function recordResolution(
  gateway: Gateway,
  { id }: Pick<Conversation, 'id'>,
  kind: ResolutionKind,
): Promise<'added' | 'exists' | 'notConfirmed'> {
  const nowMs = gateway.nowMs()
  // As it stands now: a turn that took long would otherwise confirm what was reversed meanwhile.
  const { conversation } = await gateway.store.read({ conversation: id, accounts: [], nowMs })
  if (conversation === null || (kind === 'reversed' && conversation.resolution === 'none')) return 'notConfirmed'
  const begins = kind === 'confirmed' && conversation.resolution !== 'confirmed'
  const round = conversation.resolutionRound + (begins ? 1 : 0)
  const key = keyOf(conversation, round > 1 ? `${kind}/${round}` : kind)
  const added = await gateway.store.addOutcome({ key, tier: conversation.tier, day: dayOf(nowMs), kind })
  await gateway.store.update({ conversation: id, change: { resolution: kind, resolutionRound: round }, nowMs })
  return added
}

/** An answer that calls one of the tools named by `resolution.toolNames` resolves its conversation. */
export async function reportResolution(turn: Turn, toolNames: readonly string[]): Promise<void> {
  const { gateway, policy } = turn
  // A call that came to nothing began the conversation, but left it without a turn.
  if (turn.conversation.turns === 0) await countStart(gateway, turn.terms.contract, turn.conversation)
  const { toolNames: patterns } = policy.config.resolution
  if (toolNames.some((name) => patterns.some((pattern) => matchesPattern(pattern, name))))
    await recordResolution(gateway, turn.conversation, 'confirmed')
}

function keyOf(conversation: Conversation, kind: string): string {
  return `${conversation.id}/${conversation.session}/${kind}`
}
