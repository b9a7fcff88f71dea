/**
 * A call that is no talk and that nothing names: an embedding of a question, say. It is held for, capped and booked as a conversation is, under
 * an id of its own that no other call comes back to; but it is none, so nothing is sold by it and nothing can be resolved in it. Its id says so,
 * wherever it is read: in the books of each store, in an entry of the ledger.
 */
import type { ConversationId } from './conversation.ts'
import { UNTALKED_WIRES } from './request.ts'
import type { ModelRequest } from './request.ts'

/** No hash of an id begins like this: those are hexadecimal. */
export const LONE_PREFIX = 'call-'

/** The id of a request that nothing names; `id` is made for it. Not so for a shortened history: answers go on from that. */
export function idOfUnnamed({ wire }: Pick<ModelRequest, 'wire'>, id: string): ConversationId {
  return UNTALKED_WIRES.has(wire) ? `${LONE_PREFIX}${id}` : id
}

export function isLoneCall(id: ConversationId): boolean {
  return id.startsWith(LONE_PREFIX)
}
