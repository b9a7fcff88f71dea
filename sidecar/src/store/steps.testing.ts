/** Steps as a proxy takes them, for tests of stores. */
import type { Reservation } from '../core/budget.ts'
import { newConversation } from '../core/conversation-change.ts'
import type { Conversation } from '../core/conversation.ts'
import type { ReserveStep, SettleStep } from './store.ts'

export const START_MS = Date.UTC(2026, 10, 24, 12)

export function conversationFor(id: string, atMs: number, more: Partial<Conversation> = {}): Conversation {
  const begun = newConversation({ id, tier: 'pro', contractHash: 'k1', user: null, nowMs: atMs, ladderApplies: true })
  return { ...begun, ...more }
}

/** A reservation on one capped account, as a first turn makes it. */
export function reserveStep(
  operationId: string,
  nowMs: number,
  amounts: { readonly atLeast: bigint; readonly atMost: bigint; readonly input?: bigint; readonly cap?: bigint | null },
  more: Partial<Omit<ReserveStep, 'reservation'>> & { readonly reservation?: Partial<Reservation> } = {},
): ReserveStep {
  const { reservation, ...rest } = more
  const cap = amounts.cap === undefined ? 100n : amounts.cap
  return {
    conversation: 'A',
    initial: conversationFor('A', nowMs),
    seen: null,
    change: {},
    nowMs,
    ...rest,
    reservation: {
      operationId,
      draws: [{ account: 'c:A:1', cap }],
      input: amounts.input ?? 0n,
      atLeast: amounts.atLeast,
      atMost: amounts.atMost,
      expiresAtMs: nowMs + 90_000,
      note: { conversation: 'A', session: 1, tier: 'pro' },
      ...reservation,
    },
  }
}

export function settleStep(
  operationId: string,
  atMs: number,
  cost: bigint,
  more: Partial<Omit<SettleStep, 'settlement'>> = {},
): SettleStep {
  return {
    settlement: { operationId, cost, atMs, note: { conversation: 'A', tier: 'pro' } },
    conversation: 'A',
    change: { turnAtMs: atMs },
    chain: [],
    alerts: { draws: [], percents: [] },
    ...more,
  }
}
