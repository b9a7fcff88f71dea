/** The provider's count that a call of the chat goes on from, so that no more than what is new has to be bounded. */
import { responseDigest } from '../core/chain.ts'
import type { ExactCount } from '../core/conversation.ts'
import { messagesOf, replayCounted } from '../core/edit-log.ts'
import { isOfThis } from '../core/estimate.ts'
import { scopeOf } from '../core/identify.ts'
import type { Turn } from './exchange.ts'

type Counted = Pick<Turn, 'gateway' | 'policy' | 'request' | 'conversation'>

/**
 * The chat's own, or that of the last call beside it where only that is of this history: an app that sends no history, and one that begins a
 * thread anew under the same id, ask questions that look like calls beside the chat, and go on from those.
 */
export function lastCount(turn: Counted): ExactCount | null {
  const { exact, id } = turn.conversation
  const beside = turn.gateway.sideLoops.countOf(id)
  if (beside === null || (exact !== null && isGoneOnFrom(turn, exact))) return exact
  return isGoneOnFrom(turn, beside) ? beside : exact
}

function isGoneOnFrom(turn: Counted, exact: ExactCount): boolean {
  const { request, conversation } = turn
  if (request.earlier !== null) return request.earlier.kind === 'response' && exact.response === digestOfResponse(turn, request.earlier.id)
  const messages = messagesOf(request, replayCounted(request, conversation.edits, exact).entries)
  return isOfThis(exact, { messages, fixedDigest: request.fixedDigest, model: exact.model })
}

/** Names a response, or something sealed, that the provider keeps, inside the scope in which its conversation is known. */
export function digestOfResponse({ gateway, policy, conversation }: Pick<Turn, 'gateway' | 'policy' | 'conversation'>, id: string): string {
  return responseDigest(id, gateway.chainKey, `${scopeOf(policy.config)}/${conversation.tier}`)
}
