/** A user is told of the next tier once in a period of their budget, in whichever of their conversations that comes first. */
import { LRUCache } from 'lru-cache'
import type { ConversationId } from '../core/conversation.ts'
import { isTakenApart } from '../core/notices.ts'
import type { Plan } from '../core/plan.ts'
import { userPeriodOf } from '../core/terms.ts'
import { noticesOf } from './exchange.ts'
import type { Turn } from './exchange.ts'

const OFFERS_KNOWN = 10_000

export class Offers {
  /** By what the store knows them by: the conversation that tells it; null where another sidecar's does. */
  readonly #known = new LRUCache<string, { readonly by: ConversationId | null }>({ max: OFFERS_KNOWN })

  /** The plan without the occasion, where the user was told elsewhere, or where the answer cannot tell it. */
  async once(turn: Turn, plan: Plan): Promise<Plan> {
    const { gateway, conversation, user, terms, policy, draws, request } = turn
    if (!plan.occasions.includes('Upgrade') || user === null || policy.config.mode === 'Observe') return plan
    // It waits for an answer already, was told here, or this tier tells nothing.
    if (noticesOf(turn, ['Upgrade']).length === 0) return plan
    // Another answer, maybe of another conversation, may tell it sooner.
    if (isTakenApart(request)) return untold(plan)
    const period = userPeriodOf(draws) ?? ''
    const { tier } = terms.contract
    const key = `offer/${user}/${tier}/${period}`
    let known = this.#known.get(key)
    if (known === undefined) {
      const note = { conversation: conversation.id, session: conversation.session, user }
      const added = await gateway.store.addOutcome({ key, tier, atMs: gateway.nowMs(), kind: 'offered', note })
      if (added === 'added') gateway.metrics.outcomes.add([tier, 'offered'])
      known = { by: added === 'added' ? conversation.id : null }
      this.#known.set(key, known)
    }
    return known.by === conversation.id ? plan : untold(plan)
  }
}

function untold(plan: Plan): Plan {
  return { ...plan, occasions: plan.occasions.filter((occasion) => occasion !== 'Upgrade') }
}
